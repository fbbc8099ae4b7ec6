//! Nodes that are retired together, as one object, where sections hold whatever was retired after they began.

use barrierd_reclaim::{Guard, Handle, Reclaimer, recycle};
use core::marker::PhantomData;
use core::mem::{self, MaybeUninit};
use core::ptr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

/// How many nodes. More would gain nothing (docs/journal.md, "Structures"), and wait longer.
const NODES: usize = 8;

/// Room for their addresses.
struct Room([MaybeUninit<*mut ()>; NODES]);

/// What a full room weighs, for the reclaimer's limits.
#[allow(dead_code, reason = "for its size")]
struct Weight<N>(Room, [MaybeUninit<N>; NODES]);

/// Nodes that are made by [`recycle::alloc`] and are memory only.
pub struct Batch<N> {
    waiting: Waiting,
    _nodes: PhantomData<*mut N>,
}

/// Those that are not retired yet. It does not say of what type they are: so a batch may be dropped after what the type
/// borrows, as long as it is not used meanwhile (Rust's drop check).
struct Waiting {
    reclaimer: Reclaimer,
    /// Null as long as there is no node.
    room: *mut Room,
    count: usize,
    /// Retires one of them.
    retire: unsafe fn(&Handle, *mut ()),
}

// SAFETY: the nodes are memory only, and nobody else's.
unsafe impl<N> Send for Batch<N> {}

impl<N> Batch<N> {
    pub(crate) fn new(reclaimer: &Reclaimer) -> Batch<N> {
        let waiting = Waiting {
            reclaimer: reclaimer.clone(),
            room: ptr::null_mut(),
            count: 0,
            // SAFETY: what `add` was promised, of a node that `add` has not retired.
            retire: |handle, node| unsafe { handle.retire_with(node.cast::<N>(), recycle::free) },
        };
        Batch { waiting, _nodes: PhantomData }
    }

    /// Puts a node to the others, and retires all of them when they are enough.
    ///
    /// # Safety
    /// As for [`Guard::retire_with`] with [`recycle::free`]; the guard is of the batch's reclaimer.
    #[inline]
    pub(crate) unsafe fn add(&mut self, guard: &Guard<'_>, node: *mut N) {
        let Waiting { room, count, .. } = &mut self.waiting;
        if room.is_null() {
            *room = recycle::alloc(Room([const { MaybeUninit::uninit() }; NODES]));
        }
        // SAFETY: from `alloc`, and only this batch has it.
        unsafe { &mut **room }.0[*count] = MaybeUninit::new(node.cast());
        *count += 1;
        if *count == NODES {
            // Forgotten first: what `retire` frees on its way may panic.
            let room = mem::replace(room, ptr::null_mut());
            *count = 0;
            // SAFETY: a guard holds all that is retired after it was made, whatever it has loaded, so the room may stand for
            // its nodes. The rest is the caller's promise, for each of them.
            unsafe { guard.retire_with(room.cast::<Weight<N>>(), free) };
        }
    }
}

/// Frees a full room and its nodes.
///
/// # Safety
/// A [`Room`] of `recycle::alloc`, whose nodes are no section's any more.
unsafe fn free<N>(room: *mut Weight<N>) {
    let room: *mut Room = room.cast();
    // SAFETY: the caller's promise; all are written.
    unsafe {
        (*room).0.iter().for_each(|node| recycle::free(node.assume_init().cast::<N>()));
        recycle::free(room);
    }
}

impl Drop for Waiting {
    /// Retires them. If a destructor of somebody else's object panics meanwhile, the rest is retired all the same.
    fn drop(&mut self) {
        if self.room.is_null() {
            return;
        }
        // A place that is given back at the end, with what was retired there: nothing stays with the thread.
        let handle = self.reclaimer.handle();
        let mut panic = None;
        for place in 0..self.count {
            // SAFETY: the first `count` places have been written; a node that waits here was not retired.
            let retire = || unsafe { (self.retire)(&handle, (&*self.room).0[place].assume_init()) };
            panic = panic.or(catch_unwind(AssertUnwindSafe(retire)).err());
        }
        // SAFETY: from `alloc`, and only this batch has it.
        unsafe { recycle::free(self.room) };
        drop(handle);
        match panic {
            Some(panic) if !thread::panicking() => resume_unwind(panic),
            _ => {}
        }
    }
}
