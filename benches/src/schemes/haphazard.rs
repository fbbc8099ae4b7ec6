//! haphazard's hazard pointers. As with ours, a thread keeps its three for good.
//!
//! Each protection runs a full fence; each retirement allocates.

use super::{HELD, Headed, Scheme, Setting};
use haphazard::{Domain, HazardPointer};
use std::sync::atomic::{AtomicPtr, Ordering::Acquire, Ordering::SeqCst, fence};

/// The family of the domains here. Only raw retirement is used, which asks for no singleton.
pub(crate) struct Family;

pub(crate) struct Haphazard(Domain<Family>);

pub(crate) struct Local<'s> {
    hazards: [HazardPointer<'s, Family>; HELD],
    domain: &'s Domain<Family>,
}

/// The three, by number, and where to retire to.
pub(crate) struct Guard<'l> {
    hazards: &'l mut [HazardPointer<'l, Family>; HELD],
    domain: &'l Domain<Family>,
}

impl Scheme for Haphazard {
    type Local<'s> = Local<'s>;
    type Guard<'l> = Guard<'l>;
    type Header = ();

    const NAME: &'static str = "haphazard";
    const PER_POINTER: bool = true;

    fn new(_: &Setting) -> Self {
        Haphazard(Domain::new(&Family))
    }
    fn local(&self) -> Local<'_> {
        let hazards = std::array::from_fn(|_| HazardPointer::new_in_domain(&self.0));
        Local { hazards, domain: &self.0 }
    }
    #[inline]
    fn pin<'l>(local: &'l mut Local<'_>) -> Guard<'l> {
        let hazards = &raw mut local.hazards;
        // SAFETY: the same hazards for as long as the local is borrowed. Only the lifetime of what they
        // borrow gets shorter; nothing is put into them through this reference.
        let hazards = unsafe { &mut *hazards.cast::<[HazardPointer<'l, Family>; HELD]>() };
        Guard { hazards, domain: local.domain }
    }
    #[inline]
    fn protect<T>(guard: &mut Guard<'_>, number: usize, pointer: &AtomicPtr<T>) -> *mut T {
        let hazard = &mut guard.hazards[number];
        let mut seen = pointer.load(Acquire);
        // As its own `protect_ptr`, which would hold the address with its mark.
        loop {
            hazard.protect_raw(seen.map_addr(|address| address & !1));
            fence(SeqCst);
            let now = pointer.load(Acquire);
            if now == seen {
                return seen;
            }
            seen = now;
        }
    }
    fn flush(local: &mut Local<'_>) -> bool {
        local.domain.eager_reclaim();
        true
    }
    #[inline]
    unsafe fn retire<T: Send + Headed<()> + 'static>(guard: &Guard<'_>, pointer: *mut T) {
        // SAFETY: as the caller says, from a box.
        unsafe { guard.domain.retire_ptr::<T, Box<T>>(pointer) };
    }
}
