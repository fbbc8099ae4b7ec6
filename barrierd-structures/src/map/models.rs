//! The list and the table under loom: two threads, every order of their steps.
//!
//! A value is a cell that loom watches, so that a reader that came to it without its writer's Release is found.

use super::filter::{Filter, Token};
use super::link;
use super::list::List;
use super::node::{Draft, Node};
use super::retire::Retire;
use crate::models::{explore, rejects};
use crate::sync;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use loom::cell::UnsafeCell;
use loom::thread;
use std::sync::{Arc, Mutex};

struct Value(UnsafeCell<u32>);

impl Value {
    fn new(value: u32) -> Value {
        let cell = UnsafeCell::new(0);
        // What a cell is made with does not count as written.
        // SAFETY: nobody else knows it.
        cell.with_mut(|it| unsafe { *it = value });
        Value(cell)
    }

    fn get(&self) -> u32 {
        // SAFETY: written before it was published, which loom checks.
        self.0.with(|it| unsafe { *it })
    }
}

type Cells = List<u32, Value>;

/// What was retired of the filters.
enum Later {
    Filter(*mut Filter),
    Token(*mut Token),
}

impl Later {
    /// # Safety
    /// It was retired, and nobody holds it.
    unsafe fn free(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Later::Filter(filter) => Filter::free(filter),
                Later::Token(token) => Token::ready(token),
            }
        }
    }
}

/// A section that keeps what is retired until the end.
#[derive(Default)]
struct Kept(Mutex<Vec<usize>>, Mutex<Vec<Later>>);

impl Retire for Kept {
    unsafe fn retire<K, V>(&self, node: *mut Node<K, V>) {
        let mut all = self.0.lock().unwrap();
        assert!(!all.contains(&node.addr()), "retired twice");
        all.push(node.expose_provenance());
    }

    unsafe fn retire_filter(&self, filter: *mut Filter) {
        self.1.lock().unwrap().push(Later::Filter(filter));
    }

    unsafe fn retire_token(&self, token: *mut Token) {
        self.1.lock().unwrap().push(Later::Token(token));
    }
}

/// One list, for all threads of a model. The keys are the hashes.
struct Shared {
    list: Cells,
    kept: Kept,
}

// SAFETY: as `Map`.
unsafe impl Send for Shared {}
// SAFETY: as `Map`.
unsafe impl Sync for Shared {}

const HALF: usize = 1 << (usize::BITS - 1);
const QUARTER: usize = HALF / 2;

impl Shared {
    fn new(entries: &[usize]) -> Arc<Shared> {
        let shared = Shared { list: List::new(2), kept: Kept::default() };
        entries.iter().for_each(|&hash| assert_eq!(shared.insert(hash, 1), None));
        Arc::new(shared)
    }

    /// As `Map::insert`.
    fn insert(&self, hash: usize, value: u32) -> Option<u32> {
        let mut new = Draft::new(hash, 0, Value::new(value));
        loop {
            // SAFETY: nothing is freed while a model runs.
            let place = unsafe { self.list.find(&self.kept, hash, |_| true) };
            let put = match &place.found {
                // SAFETY: likewise.
                None => unsafe { self.list.insert(&self.kept, &place, new) }.map(|_| None),
                // SAFETY: likewise.
                Some(found) => unsafe { self.list.replace(&self.kept, &place, found, new) }
                    .map(|_| Some(found.value.get())),
            };
            match put {
                Ok(old) => return old,
                Err(again) => new = again,
            }
        }
    }

    /// As `Map::remove`.
    fn remove(&self, hash: usize) -> Option<u32> {
        loop {
            // SAFETY: nothing is freed while a model runs.
            let place = unsafe { self.list.find(&self.kept, hash, |_| true) };
            let found = place.found?;
            if let Some(to) = List::mark(found) {
                // SAFETY: likewise; marked.
                unsafe { self.list.unlink(&self.kept, Some(&place), found, to) };
                return Some(found.value.get());
            }
        }
    }

    /// As `Map::get`.
    fn get(&self, hash: usize) -> Option<u32> {
        // SAFETY: nothing is freed while a model runs.
        unsafe { self.list.lookup(hash, |_| true) }.map(|node| node.value.get())
    }

    /// The hashes along the list, from its beginning, and whether all are in order.
    fn walk(&self) -> Vec<usize> {
        let (mut all, mut bound) = (Vec::new(), 0);
        let mut at = link::unmarked(self.list.table.first().load(Acquire));
        while !link::is_end(at) {
            if link::is_dummy(at) {
                assert!(link::key(at) >= bound);
                bound = link::key(at);
                at = link::unmarked(self.list.table.behind(at).load(Acquire));
                continue;
            }
            // SAFETY: nothing is freed while a model runs.
            let node = unsafe { &*at.cast::<Node<u32, Value>>() };
            assert!(node.header.hash >= bound);
            bound = node.header.hash;
            let next = node.header.next.load(Acquire);
            assert!(!link::is_marked(next), "left behind");
            all.push(bound);
            at = next;
        }
        all
    }

    fn retired(&self) -> usize {
        self.kept.0.lock().unwrap().len()
    }
}

/// Runs both, each on a thread of its own, and returns what they returned.
fn beside<A: 'static, B>(
    shared: &Arc<Shared>,
    one: impl FnOnce(&Shared) -> A + 'static,
    other: impl FnOnce(&Shared) -> B,
) -> (A, B) {
    let own = shared.clone();
    let thread = thread::spawn(move || one(&own));
    let other = other(shared);
    (thread.join().unwrap(), other)
}

#[test]
fn one_key_is_inserted_once() {
    loom::model(|| {
        let shared = Shared::new(&[]);
        let (one, other) = beside(&shared, |it| it.insert(10, 1), |it| it.insert(10, 2));
        assert!(matches!((one, other), (None, Some(1)) | (Some(2), None)));
        assert_eq!((shared.walk(), shared.retired()), (vec![10], 1));
    });
}

/// Two threads insert one key each and look for the other's. With a fence between, one of them finds it; without, both may miss.
#[test]
fn one_of_two_insertions_is_seen() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = Shared::new(&[HALF + 7]);
        let call = |own: usize, other: usize| {
            move |it: &Shared| {
                it.insert(own, 2);
                loom::sync::atomic::fence(SeqCst);
                it.get(other)
            }
        };
        let seen = beside(&shared, call(HALF + 1, 1), call(1, HALF + 1));
        assert_ne!(seen, (None, None));
    });
}

/// What comes behind an entry is no reason to refuse a change of it, nor lost by it.
#[test]
fn a_neighbour_is_no_change() {
    for removes in [true, false] {
        loom::model(move || {
            let shared = Shared::new(&[10]);
            let change = move |it: &Shared| {
                // SAFETY: nothing is freed while a model runs.
                let place = unsafe { it.list.find(&it.kept, 10, |_| true) };
                let found = place.found.unwrap();
                if removes {
                    let to = List::mark(found).expect("nobody else removes it");
                    // SAFETY: likewise; marked.
                    unsafe { it.list.unlink(&it.kept, Some(&place), found, to) };
                    return;
                }
                let new = Draft::new(10, 0, Value::new(2));
                // SAFETY: likewise.
                let new = unsafe { it.list.replace(&it.kept, &place, found, new) };
                assert!(new.is_ok(), "nobody else removes it");
            };
            let (_, old) = beside(&shared, change, |it| it.insert(15, 3));
            assert_eq!(old, None);
            let left = shared.get(10);
            assert_eq!((left, shared.get(15)), ((!removes).then_some(2), Some(3)));
            assert_eq!(shared.retired(), 1);
        });
    }
}

#[test]
fn what_is_inserted_behind_what_goes_stays() {
    loom::model(|| {
        let shared = Shared::new(&[10]);
        let (one, other) = beside(&shared, |it| it.remove(10), |it| it.insert(15, 2));
        assert_eq!((one, other), (Some(1), None));
        assert_eq!((shared.walk(), shared.retired()), (vec![15], 1));
    });
}

#[test]
fn neighbours_go_at_once() {
    loom::model(|| {
        let shared = Shared::new(&[10, 15]);
        let both = beside(&shared, |it| it.remove(10), |it| it.remove(15));
        assert_eq!(both, (Some(1), Some(1)));
        // One of them may be left for the next search.
        assert_eq!(shared.insert(20, 1), None);
        assert_eq!((shared.walk(), shared.retired()), (vec![20], 2));
    });
}

#[test]
fn one_replaces_what_the_other_removes() {
    loom::model(|| {
        let shared = Shared::new(&[10]);
        match beside(&shared, |it| it.insert(10, 2), |it| it.remove(10)) {
            (Some(1), Some(2)) => assert_eq!((shared.walk(), shared.retired()), (vec![], 2)),
            (None, Some(1)) => assert_eq!((shared.walk(), shared.retired()), (vec![10], 1)),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_key_that_is_replaced_is_never_absent() {
    loom::model(|| {
        let shared = Shared::new(&[10]);
        let (_, seen) = beside(&shared, |it| it.insert(10, 2), |it| it.get(10));
        assert!(matches!(seen, Some(1 | 2)));
    });
}

#[test]
fn a_reader_of_a_neighbour_is_not_misled() {
    loom::model(|| {
        let shared = Shared::new(&[10, 15]);
        let (_, seen) = beside(&shared, |it| it.remove(10), |it| it.get(15));
        assert_eq!(seen, Some(1));
    });
}

/// A bucket comes into the list while its first entry does.
#[test]
fn a_bucket_opens_beside_an_insertion() {
    for hash in [HALF - 1, HALF, HALF + 1] {
        loom::model(move || {
            let shared = Shared::new(&[]);
            let (_, seen) = beside(&shared, move |it| it.insert(hash, 2), move |it| it.get(HALF));
            assert!(seen.is_none() || hash == HALF);
            assert_eq!(shared.get(hash), Some(2));
            assert_eq!(shared.walk(), [hash]);
        });
    }
}

/// Likewise while an entry beside it goes. What stays is found throughout.
#[test]
fn a_bucket_opens_beside_a_removal() {
    for hash in [HALF - 1, HALF] {
        loom::model(move || {
            // It is made without the bucket: by the first half alone.
            let shared = Shared::new(&[HALF - 1]);
            let grown = [HALF, HALF + 1].map(|hash| shared.insert(hash, 1));
            assert_eq!(grown, [None, None]);
            let (one, seen) = beside(&shared, move |it| it.remove(hash), |it| it.get(HALF + 1));
            assert_eq!((one, seen), (Some(1), Some(1)));
            assert_eq!(shared.get(HALF + 1), Some(1));
        });
    }
}

/// The table doubles beside a reader and a writer of a bucket that is new.
#[test]
fn it_doubles_beside_an_insertion() {
    loom::model(|| {
        let shared = Shared::new(&[QUARTER + 1]);
        let grow = |it: &Shared| {
            it.list.table.reserve(4);
            it.get(QUARTER + 1)
        };
        let (seen, old) = beside(&shared, grow, |it| it.insert(QUARTER, 2));
        assert_eq!((seen, old), (Some(1), None));
        assert_eq!((shared.get(QUARTER), shared.get(QUARTER + 1)), (Some(2), Some(1)));
        assert_eq!(shared.walk(), [QUARTER, QUARTER + 1]);
    });
}

/// Opens two pieces of the next size, or what is left of them.
fn help(it: &Shared) {
    // SAFETY: nothing is freed while a model runs.
    (0..2).for_each(|_| _ = unsafe { it.list.table.help() });
}

/// The table grows from two buckets to four, piece by piece, beside a writer of a bucket that is new. What is there is found throughout.
fn growth_beside_an_insertion() {
    for hash in [QUARTER - 1, QUARTER] {
        explore(3, move || {
            let shared = Shared::new(&[QUARTER + 1]);
            let grow = |it: &Shared| {
                it.list.table.grow(2);
                help(it);
                it.get(QUARTER + 1)
            };
            let insert = move |it: &Shared| {
                let old = it.insert(hash, 2);
                assert_eq!(it.get(hash), Some(2), "its own");
                old
            };
            let (seen, old) = beside(&shared, grow, insert);
            assert_eq!((seen, old), (Some(1), None));
            assert_eq!((shared.get(hash), shared.get(QUARTER + 1)), (Some(2), Some(1)));
            assert_eq!(shared.walk(), [hash, QUARTER + 1]);
        });
    }
}

/// Likewise while an entry just before a new bucket goes, or its first one.
fn growth_beside_a_removal() {
    for hash in [QUARTER - 1, QUARTER] {
        explore(3, move || {
            let shared = Shared::new(&[QUARTER - 1, QUARTER, QUARTER + 1]);
            shared.list.table.grow(2);
            let remove = move |it: &Shared| (it.remove(hash), it.get(QUARTER + 1));
            let (_, both) = beside(&shared, help, remove);
            assert_eq!(both, (Some(1), Some(1)));
            help(&shared);
            assert_eq!(shared.list.table.buckets(), 4);
            assert_eq!((shared.get(hash), shared.get(QUARTER + 1)), (None, Some(1)));
            // What is left for the next search is unlinked by it.
            assert_eq!(shared.insert(hash, 3), None);
            assert_eq!(shared.walk(), [QUARTER - 1, QUARTER, QUARTER + 1]);
        });
    }
}

/// Two threads open the pieces, and each finds what is there.
#[test]
fn two_threads_open_pieces() {
    explore(3, || {
        let shared = Shared::new(&[QUARTER + 1, HALF + 1]);
        shared.list.table.grow(2);
        let call = |own: usize| {
            move |it: &Shared| {
                help(it);
                it.get(own)
            }
        };
        let both = beside(&shared, call(QUARTER + 1), call(HALF + 1));
        assert_eq!((both, shared.list.table.buckets()), ((Some(1), Some(1)), 4));
        assert_eq!(shared.walk(), [QUARTER + 1, HALF + 1]);
    });
}

/// One thread looks for a bucket that is not in the list yet, while another opens a piece behind it, or leaves it.
fn a_piece_behind_a_new_bucket() {
    explore(3, || {
        let shared = Shared::new(&[]);
        shared.list.table.grow(2);
        let open = |it: &Shared| {
            help(it);
            assert_eq!(it.insert(HALF + QUARTER, 2), None);
        };
        beside(&shared, |it| it.get(HALF), open);
        assert_eq!(shared.walk(), [HALF + QUARTER], "lost");
        assert_eq!(shared.get(HALF + QUARTER), Some(2));
    });
}

#[test]
fn it_grows_beside_an_insertion() {
    growth_beside_an_insertion();
}

#[test]
fn it_grows_beside_a_removal() {
    growth_beside_a_removal();
}

#[test]
fn mutant_open_by_store() {
    rejects(sync::Mutant::OpenByStore, growth_beside_an_insertion);
}

#[test]
fn mutant_open_by_store_beside_a_removal() {
    rejects(sync::Mutant::OpenByStore, growth_beside_a_removal);
}

#[test]
fn pieces_are_opened_behind_what_is_in_the_list() {
    a_piece_behind_a_new_bucket();
}

#[test]
fn mutant_open_behind_unlinked() {
    rejects(sync::Mutant::OpenBehindUnlinked, a_piece_behind_a_new_bucket);
}

/// Two threads look for a new bucket at once.
#[test]
fn one_opens_a_bucket_for_both() {
    loom::model(|| {
        let shared = Shared::new(&[QUARTER + 1]);
        shared.list.table.reserve(4);
        let both = beside(&shared, |it| it.get(QUARTER + 1), |it| it.insert(QUARTER, 2));
        assert_eq!(both, (Some(1), None));
        assert_eq!(shared.walk(), [QUARTER, QUARTER + 1]);
    });
}

#[path = "filter_models.rs"]
mod filters;
