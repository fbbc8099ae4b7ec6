//! sdd (the epochs of scc), with nodes as it makes them itself: what it collects by stands behind the
//! value. Its collector is one for the process, so turns share it.

use super::{Headed, Scheme, Setting};
use sdd::{Guard, Owned};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering::Acquire};

pub(crate) struct Sdd;

/// The owner again of what `alloc` made: its own raw pointers can't be had from an address.
///
/// # Safety
/// From [`Sdd::alloc`], and nothing else owns it.
unsafe fn owner<T>(pointer: *mut T) -> Owned<T> {
    // SAFETY: an `Owned` is a pointer to a node whose value comes first: `Sdd::new` has looked.
    unsafe { std::mem::transmute_copy(&pointer) }
}

impl Scheme for Sdd {
    type Local<'s> = ();
    type Guard<'l> = Guard;
    type Header = ();

    const NAME: &'static str = "sdd";
    const OF_PROCESS: bool = true;

    fn new(_: &Setting) -> Self {
        let owned = ManuallyDrop::new(Owned::new(7u64));
        assert_eq!(size_of::<Owned<u64>>(), size_of::<NonNull<u64>>(), "the layout of sdd's Owned");
        // SAFETY: as large as an address, which is all that is read.
        let address: usize = unsafe { std::mem::transmute_copy(&owned) };
        assert_eq!(address, owned.as_ptr().addr(), "the layout of sdd's Owned");
        drop(ManuallyDrop::into_inner(owned));
        Sdd
    }
    fn local(&self) {}
    #[inline]
    fn pin((): &mut ()) -> Guard {
        Guard::new()
    }
    #[inline]
    fn protect<T>(_: &mut Guard, _: usize, pointer: &AtomicPtr<T>) -> *mut T {
        pointer.load(Acquire)
    }
    #[inline]
    fn alloc<T>(_: &Guard, value: T) -> *mut T {
        // SAFETY: the nodes here outlive no borrow: all are `'static`, and retired under a guard.
        ManuallyDrop::new(unsafe { Owned::new_unchecked(value) }).as_ptr().cast_mut()
    }
    #[inline]
    unsafe fn free<T>(pointer: *mut T) {
        // SAFETY: as the caller says, from `alloc`, and nobody else has it.
        unsafe { owner(pointer).drop_in_place() };
    }
    fn flush((): &mut ()) -> bool {
        Guard::new().accelerate();
        true
    }
    #[inline]
    unsafe fn retire<T: Send + Headed<()> + 'static>(_: &Guard, pointer: *mut T) {
        // SAFETY: as the caller says, from `alloc`. Dropped, an `Owned` goes to the collector.
        drop(unsafe { owner(pointer) });
    }
}
