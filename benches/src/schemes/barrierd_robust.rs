//! This project by robust guards of a handle: nodes know their birth, and a stalled guard keeps only older
//! ones.

use super::{Headed, Scheme, Setting};
use barrierd_reclaim::{Born, Handle, Reclaimer, RobustGuard};
use std::sync::atomic::AtomicPtr;

pub(crate) struct Robust(Reclaimer);

pub(crate) struct Guard<'l> {
    section: RobustGuard<'l>,
    handle: &'l Handle,
}

/// How far behind the box's beginning the value lies: `Born` is a birth of 8 bytes and then the value, as
/// its documentation has it.
const fn offset<T>() -> usize {
    size_of::<u64>().next_multiple_of(align_of::<T>())
}

/// The box around a value.
///
/// # Safety
/// From [`Robust::alloc`].
unsafe fn whole<T>(pointer: *mut T) -> *mut Born<T> {
    // SAFETY: `alloc` went as far the other way, within the same box.
    unsafe { pointer.byte_sub(offset::<T>()).cast() }
}

impl Scheme for Robust {
    type Local<'s> = Handle;
    type Guard<'l> = Guard<'l>;
    type Header = ();

    const NAME: &'static str = "barrierd, robust guards";
    const LINKED_ONLY: bool = true;

    fn new(setting: &Setting) -> Self {
        Robust(super::barrierd::reclaimer(setting))
    }
    fn local(&self) -> Handle {
        self.0.handle()
    }
    #[inline]
    fn pin<'l>(local: &'l mut Handle) -> Guard<'l> {
        let handle = &*local;
        Guard { section: handle.pin_robust(), handle }
    }
    #[inline]
    fn protect<T>(guard: &mut Guard<'_>, _: usize, pointer: &AtomicPtr<T>) -> *mut T {
        guard.section.protect(pointer)
    }
    #[inline]
    fn alloc<T>(guard: &Guard<'_>, value: T) -> *mut T {
        let born = guard.handle.alloc(value);
        let value: &T = &born;
        let value = std::ptr::from_ref(value).addr();
        let whole = Box::into_raw(born);
        assert_eq!(value - whole.addr(), offset::<T>(), "the layout of Born");
        // SAFETY: within the box. From the whole box's pointer, so it leads back to the birth.
        unsafe { whole.byte_add(offset::<T>()).cast() }
    }
    #[inline]
    unsafe fn free<T>(pointer: *mut T) {
        // SAFETY: as the caller says, from `alloc`.
        drop(unsafe { Box::from_raw(whole(pointer)) });
    }
    fn flush(local: &mut Handle) -> bool {
        local.flush();
        true
    }
    #[inline]
    unsafe fn retire<T: Send + Headed<()> + 'static>(guard: &Guard<'_>, pointer: *mut T) {
        // SAFETY: as the caller says; from `alloc`.
        unsafe { guard.handle.retire_born(whole(pointer)) }
    }
    unsafe fn retire_alone<T: Send + Headed<()> + 'static>(local: &mut Handle, pointer: *mut T) {
        // SAFETY: as the caller says; from `alloc`.
        unsafe { local.retire_born(whole(pointer)) }
    }
}
