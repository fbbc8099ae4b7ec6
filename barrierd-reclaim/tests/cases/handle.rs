//! Handles: all that a reclaimer does for a thread, through a place of their own.

use super::robust::let_time_pass;
use super::{Log, Named, soon};
use barrierd_reclaim::{Born, Handle, Reclaimer, SynchronizeError};
use std::mem::forget;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering::*};
use std::time::Instant;

pub(super) fn all(make: impl Fn() -> Reclaimer) {
    a_stalled_handle_keeps_what_is_older(make());
    what_a_handle_holds_stays(make());
    guards_of_a_handle_nest(make());
    what_was_forgotten_is_over_with_the_handle(make());
    what_was_forgotten_counts_in_no_later_section(make());
    each_kind_of_item_keeps_its_order(make());
    destructors_may_use_the_handle(make());
}

fn born(log: &Log, handle: &Handle, name: usize) -> *mut Born<Named> {
    Box::into_raw(handle.alloc(Named { name, log: log.0.clone() }))
}

/// Sections and eras apart from this thread's own.
fn a_stalled_handle_keeps_what_is_older(reclaimer: Reclaimer) {
    let (log, handle, other) = (Log::default(), reclaimer.handle(), reclaimer.handle());
    let cell = AtomicPtr::new(born(&log, &handle, 0));
    let guard = handle.pin_robust();
    let seen = guard.protect(&cell);
    assert_eq!(handle.synchronize(soon()), Err(SynchronizeError::Pinned));
    // What is born from here on is younger than the guard's last load.
    let_time_pass(&reclaimer);
    // SAFETY: fresh or unlinked by the swap; retired once each.
    unsafe {
        other.retire_born(cell.swap(ptr::null_mut(), AcqRel));
        (1..200).for_each(|name| other.retire_born(born(&log, &other, name)));
    }
    let stop = soon();
    while log.names().len() < 199 {
        assert!(Instant::now() < stop, "{:?}", reclaimer.stats());
        let_time_pass(&reclaimer);
        other.flush();
    }
    assert!(!log.names().contains(&0), "freed while held");
    // SAFETY: the guard holds it.
    assert_eq!(unsafe { &*seen }.name, 0);
    drop(guard);
    other.synchronize(soon()).unwrap();
    let mut names = log.names();
    names.sort_unstable();
    assert_eq!(names, (0..200).collect::<Vec<_>>());
}

fn what_a_handle_holds_stays(reclaimer: Reclaimer) {
    let (log, handle) = (Log::default(), reclaimer.handle());
    let named = |name| Box::into_raw(Box::new(Named { name, log: log.0.clone() }));
    let cells = [AtomicPtr::new(named(0)), AtomicPtr::new(named(1))];
    let [mut first, mut second] = handle.hazards();
    first.protect(&cells[0]);
    let guard = handle.pin_nested();
    second.keep(&guard, guard.protect(&cells[1]));
    drop(guard);
    // SAFETY: unlinked by the swaps, retired once each.
    unsafe {
        cells.iter().for_each(|cell| handle.retire(cell.swap(ptr::null_mut(), AcqRel)));
        handle.retire(named(2));
    }
    handle.synchronize(soon()).unwrap();
    assert_eq!(log.names(), [2]);
    first.clear();
    handle.synchronize(soon()).unwrap();
    assert_eq!(log.names(), [2, 0]);
    drop(second);
    handle.synchronize(soon()).unwrap();
    assert_eq!(log.names(), [2, 0, 1]);
}

fn guards_of_a_handle_nest(reclaimer: Reclaimer) {
    let (log, mut handle) = (Log::default(), reclaimer.handle());
    let outer = handle.pin_nested();
    let mut inner = handle.pin_nested();
    assert!(!inner.repin());
    drop(outer);
    log.retire(&reclaimer, 1);
    reclaimer.flush();
    assert!(log.names().is_empty(), "the inner guard goes on with the section");
    drop(inner);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(log.names(), [1]);
    drop(handle.pin());
}

fn what_was_forgotten_is_over_with_the_handle(reclaimer: Reclaimer) {
    let log = Log::default();
    let mut handle = reclaimer.handle();
    forget(handle.pin_robust());
    forget(handle.pin());
    // More than a slot can count.
    (0..300).for_each(|_| forget(handle.pin_nested()));
    log.retire(&reclaimer, 1);
    drop(handle);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(log.names(), [1]);
    // Its place is as good as new.
    let handle = reclaimer.handle();
    drop((handle.pin_nested(), handle.pin_nested()));
    assert_eq!(handle.synchronize(soon()), Ok(()));
}

/// Bags of both kinds fill side by side.
/// More guards than the slot can count.
fn what_was_forgotten_counts_in_no_later_section(reclaimer: Reclaimer) {
    let mut handle = reclaimer.handle();
    (0..300).for_each(|_| forget(handle.pin_nested()));
    // Begins another, whatever there was.
    drop(handle.pin());
    assert!(reclaimer.blockers().is_empty());
    drop((handle.pin_nested(), handle.pin_nested()));
    assert!(reclaimer.blockers().is_empty());
    // Those that are dropped count, of course.
    drop((0..300).map(|_| handle.pin_nested()).collect::<Vec<_>>());
    assert!(reclaimer.blockers().is_empty());
}

fn each_kind_of_item_keeps_its_order(reclaimer: Reclaimer) {
    let (log, handle) = (Log::default(), reclaimer.handle());
    for name in 0..1000 {
        // SAFETY: fresh from their boxes, retired once each.
        unsafe {
            handle.retire_born(born(&log, &handle, name));
            if name % 3 == 0 {
                handle.retire(Box::into_raw(Box::new(Named {
                    name: 10_000 + name,
                    log: log.0.clone(),
                })));
            }
        }
    }
    let bytes = reclaimer.stats().waiting_bytes;
    assert!(bytes > 0);
    handle.synchronize(soon()).unwrap();
    let (plain, born): (Vec<_>, Vec<_>) = log.names().into_iter().partition(|&name| name >= 10_000);
    assert_eq!(born, (0..1000).collect::<Vec<_>>());
    assert_eq!(plain, (0..1000).step_by(3).map(|name| 10_000 + name).collect::<Vec<_>>());
    assert_eq!(reclaimer.stats().waiting_bytes, 0);
}

/// A destructor that finds the handle again only queues.
fn destructors_may_use_the_handle(reclaimer: Reclaimer) {
    thread_local! {
        static HANDLE: std::cell::RefCell<Option<Handle>> = const { std::cell::RefCell::new(None) };
    }
    struct Twice(Log, usize);
    impl Drop for Twice {
        fn drop(&mut self) {
            let (log, name) = (self.0.clone(), self.1);
            HANDLE.with_borrow(|handle| {
                let handle = handle.as_ref().unwrap();
                // SAFETY: fresh from its box, retired once.
                unsafe { handle.retire_born(born(&log, handle, name)) };
            });
        }
    }
    let log = Log::default();
    HANDLE.set(Some(reclaimer.handle()));
    HANDLE.with_borrow(|handle| {
        let handle = handle.as_ref().unwrap();
        (0..500).for_each(|name| handle.retire_value(Twice(log.clone(), name)));
        handle.synchronize(soon()).unwrap();
        handle.synchronize(soon()).unwrap();
    });
    let mut names = log.names();
    names.sort_unstable();
    assert_eq!(names, (0..500).collect::<Vec<_>>());
    HANDLE.set(None);
}
