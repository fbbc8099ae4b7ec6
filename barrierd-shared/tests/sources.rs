//! Where barriers come from: a daemon that comes, dies and comes again; a global membarrier; nothing.

#[path = "../../tests/common/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests")]
mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use barrierd_shared::{
    Held, Options, Reader, Region, SharedCell, Source, WriteError, Writer, WriterOptions,
};
use common::{Daemon, PATIENCE, directory, have_root};

const CELL: SharedCell<u64> = SharedCell::at(0);

/// A region of a few blocks; a reader that has been in a section and shows nothing any more.
fn made(barrier: &Path, membarrier: bool) -> (Region, Reader, Writer) {
    let region = Region::create_in_memory(Options::new(8192 + 256)).expect("made");
    let options = WriterOptions::default().barrier(barrier).membarrier(membarrier);
    let (mut reader, mut writer) =
        (region.reader().expect("a slot"), region.writer_with(&options).expect("a slot"));
    CELL.set(&mut writer, 1).expect("room");
    assert_eq!(CELL.get(&mut reader), Some(1));
    (region, reader, writer)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(30)
}

/// Sets the cell until there is no room, and returns the reason.
fn fill(writer: &mut Writer) -> Held {
    for value in 0..100 {
        match CELL.set(writer, value) {
            Ok(()) => {}
            Err(WriteError::OutOfMemory { why, waiting_bytes, .. }) => {
                assert!(waiting_bytes > 0);
                return why;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("there is always room");
}

#[test]
fn without_a_source_garbage_waits_for_readers_to_show_something() {
    let (_region, mut reader, mut writer) = made(Path::new("/nowhere/barrier"), false);
    assert_eq!(writer.source(), Source::None);
    assert_eq!(fill(&mut writer), Held::NoSource);
    let late = writer.synchronize(soon());
    assert!(matches!(late, Err(WriteError::Deadline { why: Held::NoSource, .. })), "{late:?}");
    // The reader is no obstacle to itself: its next section shows what it has seen.
    let before = CELL.get(&mut reader);
    writer.synchronize(soon()).expect("all has been seen");
    CELL.set(&mut writer, 200).expect("room");
    assert_eq!(CELL.get(&mut reader), Some(200));
    assert_ne!(before, Some(200));
}

#[test]
fn a_reader_in_its_section_is_named() {
    let (_region, mut reader, mut writer) = made(Path::new("/nowhere/barrier"), false);
    let _section = reader.pin();
    let pid = u64::from(std::process::id());
    assert_eq!(fill(&mut writer), Held::Reader { slot: 0, pid });
}

#[test]
fn a_global_membarrier_stands_in_for_calls_that_wait() {
    let (_region, _reader, mut writer) = made(Path::new("/nowhere/barrier"), true);
    if writer.source() == Source::None {
        eprintln!("\n*** NOT RUN: this kernel refuses MEMBARRIER_CMD_GLOBAL ***\n");
        return;
    }
    assert_eq!(writer.source(), Source::GlobalMembarrier);
    assert_eq!(fill(&mut writer), Held::Barrier);
    writer.synchronize(Instant::now() + PATIENCE).expect("it passes");
    CELL.set(&mut writer, 200).expect("room");
}

#[test]
fn a_daemon_may_come_die_and_come_again() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let (_region, mut reader, mut writer) = made(&dir.path().join("barrier"), false);
    assert_eq!(fill(&mut writer), Held::NoSource);
    let stale = |reader: &mut Reader, writer: &mut Writer| {
        // A section, then garbage that the reader has not seen.
        writer.synchronize(Instant::now() + PATIENCE).expect("the daemon is there");
        let seen = CELL.get(reader);
        CELL.set(writer, 1).expect("room");
        seen
    };
    let daemon = Daemon::start(dir.path());
    stale(&mut reader, &mut writer);
    assert_eq!(writer.source(), Source::Daemon);
    writer.synchronize(Instant::now() + PATIENCE).expect("the daemon is there");

    stale(&mut reader, &mut writer);
    daemon.kill();
    let stop = Instant::now() + PATIENCE;
    // What had passed has passed; what is newer waits, and the reason is said once the beat is missed.
    while writer.source() == Source::Daemon {
        assert!(Instant::now() < stop, "a dead daemon is a source");
        std::thread::sleep(Duration::from_millis(10));
    }
    CELL.set(&mut writer, 2).expect("room");
    let late = writer.synchronize(soon());
    assert!(matches!(late, Err(WriteError::Deadline { why: Held::NoSource, .. })), "{late:?}");
    assert_eq!(reader.slot(), 0);

    let daemon = Daemon::start(dir.path());
    writer.synchronize(Instant::now() + PATIENCE).expect("the daemon is there again");
    assert_eq!(writer.source(), Source::Daemon);
    drop(daemon);
}
