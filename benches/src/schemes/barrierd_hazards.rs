//! This project by hazard pointers, which need no fence here.
//!
//! A thread keeps its three for good and does not clear them between sections.

use super::{HELD, Headed, Scheme, Setting};
use barrierd_reclaim::{Hazard, Reclaimer};
use std::sync::atomic::AtomicPtr;

pub(crate) struct Hazards(Reclaimer);

pub(crate) struct Local<'s> {
    hazards: [Hazard<'s>; HELD],
    reclaimer: &'s Reclaimer,
}

/// The three, by number, and where to retire to.
pub(crate) struct Guard<'l> {
    hazards: &'l mut [Hazard<'l>; HELD],
    reclaimer: &'l Reclaimer,
}

impl Scheme for Hazards {
    type Local<'s> = Local<'s>;
    type Guard<'l> = Guard<'l>;
    type Header = ();

    const NAME: &'static str = "barrierd, hazard pointers";
    const PER_POINTER: bool = true;

    fn new(setting: &Setting) -> Self {
        Hazards(super::barrierd::reclaimer(setting))
    }
    fn local(&self) -> Local<'_> {
        Local { hazards: self.0.hazards(), reclaimer: &self.0 }
    }
    #[inline]
    fn pin<'l>(local: &'l mut Local<'_>) -> Guard<'l> {
        let hazards: *mut [Hazard<'_>; HELD] = &raw mut local.hazards;
        // SAFETY: the same hazards for as long as the local is borrowed. Only the lifetime of what they
        // borrow gets shorter; nothing is put into them through this reference.
        let hazards = unsafe { &mut *hazards.cast::<[Hazard<'l>; HELD]>() };
        Guard { hazards, reclaimer: local.reclaimer }
    }
    #[inline]
    fn protect<T>(guard: &mut Guard<'_>, number: usize, pointer: &AtomicPtr<T>) -> *mut T {
        guard.hazards[number].protect(pointer).as_ptr()
    }
    fn flush(local: &mut Local<'_>) -> bool {
        local.reclaimer.flush();
        true
    }
    #[inline]
    unsafe fn retire<T: Send + Headed<()> + 'static>(guard: &Guard<'_>, pointer: *mut T) {
        // SAFETY: as the caller says.
        unsafe { guard.reclaimer.retire(pointer) }
    }
}
