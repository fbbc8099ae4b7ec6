//! This project by robust guards: nodes know their birth, and a stalled guard keeps only older ones.

use super::{Headed, Scheme, Setting};
use barrierd_reclaim::{Born, Reclaimer, RobustGuard};
use std::sync::atomic::AtomicPtr;

pub(crate) struct Robust(Reclaimer);

pub(crate) struct Guard<'l> {
    section: RobustGuard<'l>,
    reclaimer: &'l Reclaimer,
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
    type Local<'s> = &'s Reclaimer;
    type Guard<'l> = Guard<'l>;
    type Header = ();

    const NAME: &'static str = "barrierd, robust guards";
    const LINKED_ONLY: bool = true;

    fn new(setting: &Setting) -> Self {
        Robust(super::barrierd::reclaimer(setting))
    }
    fn local(&self) -> &Reclaimer {
        &self.0
    }
    #[inline]
    fn pin<'l>(local: &'l mut &Reclaimer) -> Guard<'l> {
        Guard { section: local.pin_robust(), reclaimer: local }
    }
    #[inline]
    fn protect<T>(guard: &mut Guard<'_>, _: usize, pointer: &AtomicPtr<T>) -> *mut T {
        guard.section.protect(pointer)
    }
    #[inline]
    fn alloc<T>(guard: &Guard<'_>, value: T) -> *mut T {
        let born = guard.reclaimer.alloc(value);
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
    #[inline]
    unsafe fn retire<T: Send + Headed<()> + 'static>(guard: &Guard<'_>, pointer: *mut T) {
        // SAFETY: as the caller says; from `alloc`.
        unsafe { guard.reclaimer.retire_born(whole(pointer)) }
    }
}
