//! Nodes that are retired together, as one object, where sections hold whatever was retired after they began.

use barrierd_reclaim::{Guard, recycle};
use core::mem::{self, MaybeUninit};
use core::ptr;

/// How many nodes. More would gain nothing (docs/journal.md, "Structures"), and wait longer.
const NODES: usize = 8;

/// Room for their addresses.
struct Room<N>([MaybeUninit<*mut N>; NODES]);

/// What a full room weighs, for the reclaimer's limits.
#[allow(dead_code, reason = "for its size")]
struct Weight<N>(Room<N>, [MaybeUninit<N>; NODES]);

/// Nodes that are made by [`recycle::alloc`] and are memory only.
pub struct Batch<N> {
    /// Null as long as there is no node.
    room: *mut Room<N>,
    count: usize,
}

// SAFETY: the nodes are memory only, and nobody else's.
unsafe impl<N> Send for Batch<N> {}

impl<N> Batch<N> {
    pub(crate) fn new() -> Batch<N> {
        Batch { room: ptr::null_mut(), count: 0 }
    }

    /// Puts a node to the others, and retires all of them when they are enough.
    ///
    /// # Safety
    /// As for [`Guard::retire_with`] with [`recycle::free`], and all are of one domain, the guard's.
    #[inline]
    pub(crate) unsafe fn add(&mut self, guard: &Guard<'_>, node: *mut N) {
        if self.room.is_null() {
            self.room = recycle::alloc(Room([const { MaybeUninit::uninit() }; NODES]));
        }
        // SAFETY: from `alloc`, and only this batch has it.
        let room = unsafe { &mut *self.room };
        room.0[self.count] = MaybeUninit::new(node);
        self.count += 1;
        if self.count == NODES {
            // Forgotten first: what `retire` frees on its way may panic.
            let room = mem::replace(&mut self.room, ptr::null_mut());
            self.count = 0;
            // SAFETY: a guard holds all that is retired after it was made, whatever it has loaded, so the room may stand for
            // its nodes. The rest is the caller's promise, for each of them.
            unsafe { guard.retire_with(room.cast::<Weight<N>>(), free) };
        }
    }

    /// Takes one of them out.
    pub(crate) fn take(&mut self) -> Option<*mut N> {
        self.count = self.count.checked_sub(1)?;
        // SAFETY: there is a room, since there is a node, and the first `count` places have been written.
        Some(unsafe { (&*self.room).0[self.count].assume_init() })
    }
}

/// Frees a full room and its nodes.
///
/// # Safety
/// A [`Room`] of `recycle::alloc`, whose nodes are no section's any more.
unsafe fn free<N>(room: *mut Weight<N>) {
    let room: *mut Room<N> = room.cast();
    // SAFETY: the caller's promise; all are written.
    unsafe {
        (*room).0.iter().for_each(|node| recycle::free(node.assume_init()));
        recycle::free(room);
    }
}

impl<N> Drop for Batch<N> {
    fn drop(&mut self) {
        if !self.room.is_null() {
            // SAFETY: from `alloc`, and only this batch has it. What it holds still is leaked.
            unsafe { recycle::free(self.room) };
        }
    }
}
