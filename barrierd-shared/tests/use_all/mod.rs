//! All that one can do with a region, whatever stands in it: for the tests of hostile participants, and for the fuzzer.

use std::time::Duration;

use barrierd_shared::{
    Field, Reader, Region, SharedAtomic, SharedCell, SharedMap, View, WriteError, Writer,
    WriterOptions, shareable,
};

shareable! {
    struct Node { key: Field<u64>, next: SharedAtomic<Node> }
}

const MAP: SharedMap<u64, u64> = SharedMap::at(2);

/// Without barriers, and in a hurry.
pub(crate) fn alone() -> WriterOptions {
    let options = WriterOptions::default().barrier("/nowhere/barrier").membarrier(false);
    options.patience(Duration::from_millis(1))
}

pub(crate) fn fill(writer: &mut Writer) {
    for key in 0..20 {
        push(writer, key).expect("room");
    }
    for _ in 0..5 {
        pop(writer).expect("there");
    }
    SharedCell::at(1).set(writer, [7u64; 5]).expect("room");
    for key in 0..70 {
        MAP.insert(writer, &key, key).expect("room");
    }
}

fn push(writer: &mut Writer, key: u64) -> Result<(), WriteError> {
    let turn = writer.turn()?;
    let root = turn.root::<Node>(0);
    let fresh = turn.alloc::<Node>()?;
    fresh.write(|node| &node.key, key);
    fresh.lead(|node| &node.next, root.link());
    turn.put(root, fresh).map(drop)
}

fn pop(writer: &mut Writer) -> Result<(), WriteError> {
    let turn = writer.turn()?;
    let root = turn.root::<Node>(0);
    match turn.load(root) {
        Some(first) => turn.remove(root, first.next.link()),
        None => Ok(()),
    }
}

pub(crate) fn read_all(reader: &mut Reader) {
    let guard = reader.pin();
    let mut at = guard.load(guard.root::<Node>(0));
    for _ in 0..50 {
        at = at.and_then(|node| guard.load(&node.next));
    }
    drop(guard);
    let _ = SharedCell::<[u64; 5]>::at(1).get(reader);
    let _ = MAP.get(reader, &3);
    let _ = MAP.iter(&reader.pin()).count();
}

pub(crate) fn use_all(region: &Region, reader: &mut Reader, writer: &mut Writer) {
    let _ = region.stats();
    read_all(reader);
    for key in 60..75 {
        let _ =
            (MAP.get(reader, &key), MAP.remove(writer, &key), MAP.insert(writer, &(key + 100), 1));
    }
    for key in 0..30 {
        let _ = (push(writer, key), pop(writer), pop(writer));
    }
    let _ = SharedCell::at(1).set(writer, [8u64; 5]);
    let _ = MAP.clear(writer);
    let _ = writer.flush();
    let _ = writer.turn().and_then(|turn| turn.census());
    let _ = region.reader();
    let _ = region.writer();
}
