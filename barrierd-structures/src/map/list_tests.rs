//! The list on one thread, step by step.

use super::super::filter::{Filter, Token};
use super::*;
use std::cell::RefCell;

/// A section that keeps what is retired until its end.
#[derive(Default)]
struct Kept(RefCell<Vec<*mut ()>>);

impl Retire for Kept {
    unsafe fn retire<K, V>(&self, node: *mut Node<K, V>) {
        self.0.borrow_mut().push(node.cast());
    }

    unsafe fn retire_token(&self, _: *mut Token) {}

    unsafe fn retire_filter(&self, _: *mut Filter) {
        unreachable!("no filter of so small a table");
    }
}

type Numbers = List<u32, u32>;

impl Kept {
    fn free(self) -> usize {
        let all = self.0.into_inner();
        // SAFETY: retired by a list of this type; nobody holds them.
        all.iter().for_each(|node| unsafe { node::free(node.cast::<Node<u32, u32>>()) });
        all.len()
    }
}

const HALF: usize = 1 << (usize::BITS - 1);

fn find<'l>(list: &'l Numbers, kept: &Kept, hash: usize) -> Place<'l, u32, u32> {
    // SAFETY: nothing is freed while the list is used.
    unsafe { list.find(kept, hash, |_| true) }
}

fn put<'l>(
    list: &'l Numbers,
    kept: &Kept,
    place: &Place<'l, u32, u32>,
    hash: usize,
) -> Result<&'l Node<u32, u32>, Draft<u32, u32>> {
    // SAFETY: nothing is freed while the list is used.
    unsafe { list.insert(kept, place, Draft::new(hash, 0, 0)) }
}

fn insert(list: &Numbers, kept: &Kept, hash: usize) {
    assert!(put(list, kept, &find(list, kept, hash), hash).is_ok());
}

fn has(list: &Numbers, hash: usize) -> bool {
    // SAFETY: nothing is freed while the list is used.
    unsafe { list.lookup(hash, |_| true) }.is_some()
}

/// The new half of the table comes into the list behind a node that is removed and not unlinked: that one stays removed.
#[test]
fn a_bucket_is_not_linked_behind_a_removed_node() {
    let (list, kept) = (Numbers::new(2), Kept::default());
    insert(&list, &kept, HALF - 1);
    let place = find(&list, &kept, HALF - 1);
    assert!(List::mark(place.found.unwrap()).is_some());
    assert!(!has(&list, HALF) && !has(&list, HALF - 1));
    let slot = || {
        // SAFETY: of a table of two buckets or more; nothing is freed.
        unsafe { list.table.slot(HALF) }.load(Acquire)
    };
    assert!(!link::is_ready(slot()));
    // It is there all the same, by the bucket before. A writer's search unlinks the node, and the next one opens the bucket.
    insert(&list, &kept, HALF);
    assert!(has(&list, HALF) && !has(&list, HALF - 1));
    assert!(link::is_ready(slot()));
    assert_eq!(kept.free(), 1);
}

/// Whatever happens to an entry between a search and the change that it is for, the change fails.
#[test]
fn a_place_that_has_changed_is_refused() {
    let (list, kept) = (Numbers::new(2), Kept::default());
    let empty = find(&list, &kept, 10);
    insert(&list, &kept, 20);
    assert!(put(&list, &kept, &empty, 10).is_err(), "something came");
    insert(&list, &kept, 10);
    let (before, behind) = (find(&list, &kept, 10), find(&list, &kept, 15));
    let found = before.found.unwrap();
    insert(&list, &kept, 12);
    let to = List::mark(found).expect("what came behind it is no reason to fail");
    assert!(List::mark(found).is_none(), "removed twice");
    assert!(put(&list, &kept, &behind, 15).is_err(), "behind a removed node");
    // SAFETY: of the same hash, with an entry; nothing is freed.
    let replaced = unsafe { list.replace(&kept, &before, found, Draft::new(10, 0, 0)) };
    assert!(replaced.is_err(), "in the place of a removed one");
    // SAFETY: marked above; nothing is freed.
    unsafe { list.unlink(&kept, Some(&before), found, to) };
    // Again, as a thread that comes too late: nothing is retired twice.
    find(&list, &kept, 10);
    assert!(!has(&list, 10) && has(&list, 12) && has(&list, 20));
    assert_eq!(kept.free(), 1);
}

/// A reader at a node that was replaced goes on to the one in its place.
#[test]
fn what_takes_a_place_lies_right_behind() {
    let (list, kept) = (Numbers::new(2), Kept::default());
    insert(&list, &kept, 10);
    insert(&list, &kept, 20);
    let place = find(&list, &kept, 10);
    let found = place.found.unwrap();
    insert(&list, &kept, 15);
    // SAFETY: of the same hash, with an entry; nothing is freed.
    let new = unsafe { list.replace(&kept, &place, found, Draft::new(10, 0, 7)) };
    let new: *const Node<u32, u32> = new.ok().unwrap();
    let behind = found.header.next.load(Acquire);
    assert!(link::is_marked(behind));
    assert_eq!(link::unmarked(behind).cast_const().cast(), new);
    // SAFETY: nothing is freed.
    assert_eq!(unsafe { list.lookup(10, |_| true) }.map(|node| node.value), Some(7));
    assert!(has(&list, 15), "what came meanwhile stays");
    assert_eq!(kept.free(), 1);
}
