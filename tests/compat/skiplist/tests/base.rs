//! crossbeam-skiplist's list that is given its collector and its guards.

#[path = "../../patched.rs"]
mod patched;

use crossbeam_epoch::{self as epoch, Collector};
use crossbeam_skiplist::SkipList;
use patched::{Counted, settle};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

#[test]
fn a_list_of_a_collector() {
    let live = Arc::new(AtomicUsize::new(0));
    let collector = Collector::new();
    let handle = collector.register();
    let list = SkipList::<u64, Counted>::new(collector.clone());
    let mut guard = handle.pin();
    {
        let guard = &guard;
        assert!(list.is_empty() && list.front(guard).is_none() && list.back(guard).is_none());
        for key in 0..100 {
            list.insert(key, Counted::new(key, &live), guard).release(guard);
        }
        list.get_or_insert(7, Counted::new(0, &live), guard).release(guard);
        list.get_or_insert_with(100, || Counted::new(100, &live), guard)
            .release_with_pin(|| handle.pin());
        list.compare_insert(7, Counted::new(70, &live), |old| old.number() == 7, guard)
            .release(guard);
        assert_eq!(list.len(), 101);
        assert!(list.contains_key(&7, guard));
        assert_eq!(list.get(&7, guard).map(|entry| entry.value().number()), Some(70));
        assert_eq!(list.front(guard).map(|entry| *entry.key()), Some(0));
        assert_eq!(list.back(guard).map(|entry| *entry.key()), Some(100));
        let lower = list.lower_bound(Bound::Excluded(&7), guard).unwrap();
        assert_eq!(*lower.key(), 8);
        assert_eq!(list.upper_bound(Bound::Excluded(&7), guard).map(|entry| *entry.key()), Some(6));
        assert!(std::ptr::eq(lower.skiplist(), &list) && !lower.is_removed());
        // Entries that walk.
        let mut entry = list.get(&50, guard).unwrap();
        assert!(entry.move_next() && *entry.key() == 51 && entry.move_prev() && *entry.key() == 50);
        assert_eq!(entry.next().map(|entry| *entry.key()), Some(51));
        assert_eq!(entry.prev().map(|entry| *entry.key()), Some(49));
        let mut counted = entry.pin().unwrap();
        let copy = counted.clone();
        assert!(std::ptr::eq(counted.skiplist(), &list));
        assert!(counted.move_next(guard) && *counted.key() == 51 && counted.move_prev(guard));
        let next = counted.next(guard).unwrap();
        let previous = counted.prev(guard).unwrap();
        assert_eq!((*next.key(), *previous.key()), (51, 49));
        assert!(
            counted.remove(guard) && !copy.remove(guard) && copy.is_removed() && entry.is_removed()
        );
        assert_eq!(copy.value().number(), 50);
        for entry in [next, previous, counted, copy] {
            entry.release(guard);
        }
        assert!(list.get(&60, guard).unwrap().remove());
        // Iterators.
        assert_eq!(list.iter(guard).count(), 99);
        assert!(
            list.iter(guard)
                .rev()
                .map(|entry| *entry.key())
                .eq((0..=100).rev().filter(|k| *k != 50 && *k != 60))
        );
        assert!(list.range(10..=12, guard).map(|entry| entry.value().number()).eq(10..=12));
        assert!(list.range(10..12, guard).rev().map(|entry| *entry.key()).eq([11, 10]));
        let mut counting = list.ref_iter();
        let ends = [counting.next(guard), counting.next_back(guard)].map(Option::unwrap);
        assert_eq!((*ends[0].key(), *ends[1].key()), (0, 100));
        ends.into_iter().for_each(|entry| entry.release(guard));
        counting.drop_impl(guard);
        let mut counting = list.ref_range(20..30);
        let ends = [counting.next(guard), counting.next_back(guard)].map(Option::unwrap);
        assert_eq!((*ends[0].key(), *ends[1].key()), (20, 29));
        ends.into_iter().for_each(|entry| entry.release(guard));
        counting.drop_impl(guard);
        // Removal.
        for (entry, key) in
            [(list.remove(&1, guard), 1), (list.pop_front(guard), 0), (list.pop_back(guard), 100)]
        {
            let entry = entry.unwrap();
            assert_eq!((*entry.key(), entry.is_removed()), (key, true));
            entry.release(guard);
        }
        assert!(list.remove(&1, guard).is_none());
        assert!(format!("{list:?}").contains("SkipList"));
    }
    list.clear(&mut guard);
    assert!(list.is_empty());
    list.insert(1, Counted::new(1, &live), &guard).release(&guard);
    drop((guard, handle));
    collector.drain(Instant::now() + Duration::from_secs(20)).unwrap();
    assert_eq!(live.load(SeqCst), 1);
    let mut rest = list.into_iter();
    assert_eq!(rest.next().map(|(key, value)| (key, value.number())), Some((1, 1)));
    drop(rest);
    assert_eq!(live.load(SeqCst), 0);
    settle();
}

/// The list notices a guard of another collector.
#[test]
#[should_panic(expected = "assertion failed")]
fn guards_of_others_are_refused() {
    let list = SkipList::<u64, u64>::new(Collector::new());
    let _ = list.front(&epoch::pin());
}

#[test]
fn guards_that_protect_nothing_are_not() {
    let list = SkipList::<u64, u64>::new(epoch::default_collector().clone());
    // SAFETY: no other thread knows the list.
    let guard = unsafe { epoch::unprotected() };
    list.insert(1, 2, guard).release(guard);
    list.remove(&1, guard).unwrap().release(guard);
    assert!(list.front(&epoch::pin()).is_none());
}
