//! What the structures of this benchmark ask of a reclamation scheme, and each scheme's answer.
//!
//! Owns the contestants. Knows nothing of the structures.

use std::sync::atomic::{AtomicPtr, Ordering::Acquire};

/// A scheme that protects whole sections.
pub(crate) trait Scheme: Sync {
    /// One thread's place.
    type Local<'s>
    where
        Self: 's;
    /// An open section.
    type Guard<'l>;

    const NAME: &'static str;

    fn new() -> Self;
    fn local(&self) -> Self::Local<'_>;
    fn pin<'l>(local: &'l mut Self::Local<'_>) -> Self::Guard<'l>;
    fn protect<T>(guard: &Self::Guard<'_>, pointer: &AtomicPtr<T>) -> *mut T;
    /// Drops the box once nobody can hold it.
    ///
    /// # Safety
    /// From a box, unlinked, retired once.
    unsafe fn retire<T: Send>(guard: &Self::Guard<'_>, pointer: *mut T);
}

/// This project, through a handle.
pub(crate) struct Barrierd(barrierd_reclaim::Reclaimer);

impl Scheme for Barrierd {
    type Local<'s> = barrierd_reclaim::Handle;
    type Guard<'l> = barrierd_reclaim::Guard<'l>;

    const NAME: &'static str = "barrierd";

    fn new() -> Self {
        let mut builder = barrierd_reclaim::Reclaimer::builder();
        if let Some(file) = std::env::var_os(super::FILE) {
            builder = builder.source(barrierd_reclaim::Source::Daemon).daemon_file(file);
        }
        Barrierd(builder.build().unwrap_or_else(|error| panic!("{error}")))
    }
    fn local(&self) -> Self::Local<'_> {
        self.0.handle()
    }
    fn pin<'l>(local: &'l mut Self::Local<'_>) -> Self::Guard<'l> {
        local.pin()
    }
    fn protect<T>(guard: &Self::Guard<'_>, pointer: &AtomicPtr<T>) -> *mut T {
        guard.protect(pointer)
    }
    unsafe fn retire<T: Send>(guard: &Self::Guard<'_>, pointer: *mut T) {
        // SAFETY: as the caller says.
        unsafe { guard.retire(pointer) }
    }
}

/// crossbeam-epoch, through a handle.
pub(crate) struct Crossbeam(crossbeam_epoch::Collector);

impl Scheme for Crossbeam {
    type Local<'s> = crossbeam_epoch::LocalHandle;
    type Guard<'l> = crossbeam_epoch::Guard;

    const NAME: &'static str = "crossbeam-epoch";

    fn new() -> Self {
        Crossbeam(crossbeam_epoch::Collector::new())
    }
    fn local(&self) -> Self::Local<'_> {
        self.0.register()
    }
    fn pin<'l>(local: &'l mut Self::Local<'_>) -> Self::Guard<'l> {
        local.pin()
    }
    fn protect<T>(_: &Self::Guard<'_>, pointer: &AtomicPtr<T>) -> *mut T {
        pointer.load(Acquire)
    }
    unsafe fn retire<T: Send>(guard: &Self::Guard<'_>, pointer: *mut T) {
        // SAFETY: as the caller says.
        unsafe { guard.defer_unchecked(move || drop(Box::from_raw(pointer))) }
    }
}

/// seize, with its default batches.
pub(crate) struct Seize(seize::Collector);

impl Scheme for Seize {
    type Local<'s> = &'s seize::Collector;
    type Guard<'l> = seize::LocalGuard<'l>;

    const NAME: &'static str = "seize";

    fn new() -> Self {
        Seize(seize::Collector::new())
    }
    fn local(&self) -> Self::Local<'_> {
        &self.0
    }
    fn pin<'l>(local: &'l mut Self::Local<'_>) -> Self::Guard<'l> {
        local.enter()
    }
    fn protect<T>(guard: &Self::Guard<'_>, pointer: &AtomicPtr<T>) -> *mut T {
        use seize::Guard;
        guard.protect(pointer, Acquire)
    }
    unsafe fn retire<T: Send>(guard: &Self::Guard<'_>, pointer: *mut T) {
        use seize::Guard;
        // SAFETY: as the caller says.
        unsafe { guard.defer_retire(pointer, seize::reclaim::boxed) }
    }
}

/// The bound: nothing is ever freed.
pub(crate) struct Leak;

impl Scheme for Leak {
    type Local<'s> = ();
    type Guard<'l> = ();

    const NAME: &'static str = "(nothing freed)";

    fn new() -> Self {
        Leak
    }
    fn local(&self) {}
    fn pin((): &mut ()) {}
    fn protect<T>((): &(), pointer: &AtomicPtr<T>) -> *mut T {
        pointer.load(Acquire)
    }
    unsafe fn retire<T: Send>((): &(), _: *mut T) {}
}
