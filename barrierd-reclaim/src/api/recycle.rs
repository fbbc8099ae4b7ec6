//! Reuses the memory of a freed node for the next node of its size on the same thread, while it is still in the
//! cache.
//!
//! This is opt-in: a data structure allocates its nodes by [`alloc`] and retires them with [`free`]. Each thread
//! keeps up to [`KEPT`] pieces of each size. The rest goes back to the global allocator, where all of it came from.
//!
//! ```
//! use barrierd_reclaim::{Reclaimer, recycle};
//! use std::sync::atomic::{AtomicPtr, Ordering};
//!
//! let reclaimer = Reclaimer::new();
//! let cell = AtomicPtr::new(recycle::alloc(1));
//! let old = cell.swap(recycle::alloc(2), Ordering::AcqRel);
//! // SAFETY: made by `recycle::alloc`, can't be reached any more, retired once.
//! unsafe { reclaimer.retire_with(old, recycle::free) };
//! # // SAFETY: the last pointer, and nobody else has it.
//! # unsafe { recycle::free(cell.into_inner()) };
//! ```

use core::cell::{Cell, UnsafeCell};
use core::ptr;
use std::alloc::{Layout, alloc as allocate, dealloc, handle_alloc_error};

/// The number of pieces of one size that a thread keeps.
pub const KEPT: usize = 256;

/// Sizes and addresses are multiples of this, in bytes.
const GRAIN: usize = 16;
/// Larger nodes are left to the global allocator.
const LARGEST: usize = 256;
const SIZES: usize = LARGEST / GRAIN;

/// A free piece, as long as no node uses it.
struct Free {
    /// The piece below. Null marks the bottom, which is not a piece.
    next: *const Free,
    /// How many more pieces may be put on top of it.
    room: usize,
}

/// What lies under a stack's pieces, so that the top alone says whether there is a piece, and room for another.
struct Bottom(Free);

// SAFETY: it never changes, and its pointer is null.
unsafe impl Sync for Bottom {}

/// The bottom of a stack that takes pieces.
static OPEN: Bottom = Bottom(Free { next: ptr::null(), room: KEPT });
/// The bottom of a stack that takes none yet, or none any more.
static CLOSED: Bottom = Bottom(Free { next: ptr::null(), room: 0 });

/// One thread's free pieces of one size.
struct Stack {
    top: Cell<*const Free>,
}

impl Stack {
    /// # Safety
    /// `piece` is of this stack's size and at least 16 bytes, the caller owns it, and there is room.
    #[inline]
    unsafe fn put(&self, piece: *mut Free, room: usize) {
        // SAFETY: the caller owns the piece, which is large enough and aligned.
        unsafe { piece.write(Free { next: self.top.replace(piece), room: room - 1 }) };
    }

    #[inline]
    fn room(&self) -> usize {
        // SAFETY: a free piece of this thread, or a static.
        unsafe { (*self.top.get()).room }
    }
}

struct Cache {
    stacks: [Stack; SIZES],
    open: Cell<bool>,
}

thread_local! {
    /// It has no destructor, so that it is reached by a plain address. [`EXIT`] empties it.
    static CACHE: Cache = const {
        Cache {
            stacks: [const { Stack { top: Cell::new(&raw const CLOSED.0) } }; SIZES],
            open: Cell::new(false),
        }
    };
    static EXIT: UnsafeCell<Exit> = const { UnsafeCell::new(Exit) };
}

/// Gives everything back when the thread exits.
struct Exit;

impl Drop for Exit {
    fn drop(&mut self) {
        CACHE.with(|cache| {
            for (index, stack) in cache.stacks.iter().enumerate() {
                // Memory freed from here on goes to the global allocator at once.
                let mut piece = stack.top.replace(&raw const CLOSED.0);
                // SAFETY: each a free piece, on the stack once, allocated with this layout; or the bottom.
                unsafe {
                    while !(*piece).next.is_null() {
                        let next = (*piece).next;
                        dealloc(piece.cast_mut().cast(), layout_of(index));
                        piece = next;
                    }
                }
            }
        });
    }
}

fn layout_of(index: usize) -> Layout {
    let size = (index + 1) * GRAIN;
    Layout::from_size_align(size, GRAIN).expect("a multiple of a power of two")
}

/// Returns the index of the stack for a node type, if the type is small enough.
const fn index_of<T>() -> Option<usize> {
    let size = size_of::<T>();
    if size == 0 || size > LARGEST || align_of::<T>() > GRAIN {
        None
    } else {
        Some(size.div_ceil(GRAIN) - 1)
    }
}

/// Returns a node with this value, in the memory of a freed node where there is one.
///
/// This is like `Box::into_raw(Box::new(value))`, except that the node must be given to [`free`], never to a `Box`.
/// Types larger than 256 bytes, or aligned to more than 16, are boxed.
#[inline]
#[must_use = "it is leaked otherwise"]
pub fn alloc<T>(value: T) -> *mut T {
    let Some(index) = (const { index_of::<T>() }) else { return Box::into_raw(Box::new(value)) };
    let node = CACHE.with(|cache| {
        let stack = &cache.stacks[index];
        let top = stack.top.get();
        // SAFETY: a free piece of this thread, or the bottom.
        let next = unsafe { (*top).next };
        if next.is_null() {
            return fresh(index);
        }
        stack.top.set(next);
        top.cast_mut().cast::<T>()
    });
    // SAFETY: as large as T and aligned for it, and nobody else's.
    unsafe { node.write(value) };
    node
}

/// Drops the value and keeps the memory for the next [`alloc`] of its size on this thread.
///
/// # Safety
/// `node` came from [`alloc`] of the same type `T`, whose value it still holds, and is not used again.
#[inline]
pub unsafe fn free<T>(node: *mut T) {
    let Some(index) = (const { index_of::<T>() }) else {
        // SAFETY: `alloc` of the same type has boxed it; the rest is the caller's promise.
        return drop(unsafe { Box::from_raw(node) });
    };
    /// Keeps the piece also if the value's destructor panics.
    struct Keep(*mut Free, usize);
    impl Drop for Keep {
        #[inline]
        fn drop(&mut self) {
            let Keep(piece, index) = *self;
            CACHE.with(|cache| {
                let stack = &cache.stacks[index];
                match stack.room() {
                    0 => full(piece, cache, index),
                    // SAFETY: at least 16 bytes, nobody else's, and there is room.
                    room => unsafe { stack.put(piece, room) },
                }
            });
        }
    }
    let _keep = Keep(node.cast(), index);
    // SAFETY: the caller's promise.
    unsafe { node.drop_in_place() };
}

#[cold]
fn fresh<T>(index: usize) -> *mut T {
    let layout = layout_of(index);
    // SAFETY: the layout's size is not 0.
    let piece = unsafe { allocate(layout) };
    if piece.is_null() {
        handle_alloc_error(layout);
    }
    piece.cast()
}

/// Frees a piece for which there is no room. The first time, that is because the cache is not open yet.
#[cold]
fn full(piece: *mut Free, cache: &Cache, index: usize) {
    // Late in a thread's exit nothing is kept any more.
    if !cache.open.get() && EXIT.try_with(|_| ()).is_ok() {
        cache.open.set(true);
        // Nothing has been put there.
        cache.stacks.iter().for_each(|stack| stack.top.set(&raw const OPEN.0));
    }
    let stack = &cache.stacks[index];
    match stack.room() {
        // SAFETY: allocated with this layout by `fresh`, and nobody else's.
        0 => unsafe { dealloc(piece.cast(), layout_of(index)) },
        // SAFETY: at least 16 bytes, nobody else's, and there is room.
        room => unsafe { stack.put(piece, room) },
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_next_of_its_size_gets_the_memory() {
        let one = alloc([1u64; 3]);
        // SAFETY: just made.
        unsafe { free(one) };
        let two = alloc([2u32; 5]);
        assert_eq!(two.addr(), one.addr(), "24 and 20 bytes are one size");
        let other = alloc([3u64; 5]);
        assert_ne!(other.addr(), one.addr());
        // SAFETY: just made; freed once each.
        unsafe {
            assert_eq!(*two, [2; 5]);
            free(two);
            free(other);
        }
    }

    #[test]
    fn so_many_are_kept_and_no_more() {
        std::thread::spawn(|| {
            let nodes: Vec<_> = (0..KEPT as u64 + 10).map(alloc).collect();
            // SAFETY: each made above, freed once.
            nodes.iter().for_each(|&node| unsafe { free(node) });
            let kept = |cache: &Cache| KEPT - cache.stacks[0].room();
            assert_eq!(CACHE.with(kept), KEPT);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn large_ones_and_none_at_all() {
        let large = alloc([7u8; 1000]);
        let aligned = alloc(crossbeam_utils::CachePadded::new(1));
        let nothing = alloc(());
        // SAFETY: each made above, freed once.
        unsafe {
            assert_eq!((*large)[999], 7);
            free(large);
            free(aligned);
            free(nothing);
        }
    }

    #[test]
    fn a_panic_in_a_destructor_loses_no_memory() {
        struct Bomb(#[allow(dead_code, reason = "weight")] u64);
        impl Drop for Bomb {
            fn drop(&mut self) {
                std::panic::resume_unwind(Box::new(()));
            }
        }
        let one = alloc(Bomb(1));
        // SAFETY: just made.
        let free = std::panic::AssertUnwindSafe(|| unsafe { free(one) });
        assert!(std::panic::catch_unwind(free).is_err());
        assert_eq!(alloc(2u64).addr(), one.addr());
    }
}
