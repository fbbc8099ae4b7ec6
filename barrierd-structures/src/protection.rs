//! How the stack and the queue are protected, by a type parameter: plain guards, robust guards, hazard pointers.

use crate::batch::Batch;
use crate::protect::Protect;
use barrierd_reclaim::{Born, Guard, Handle, Hazard, Reclaimer, RobustGuard, recycle};
use core::ops::{Deref, DerefMut};
use core::sync::atomic::AtomicPtr;

/// How a structure keeps a node from being freed while an operation looks at it: [`Plain`], [`Robust`] or [`Hazards`].
///
/// All operations are short, so this matters only where a thread may be stopped in the midst of one: preempted, swapped
/// out, held by a debugger.
///
/// | | a stopped thread keeps | costs beside `Plain` |
/// |---|---|---|
/// | [`Plain`] | all that is retired meanwhile, of the whole reclaimer | |
/// | [`Robust`] | of nodes with a birth, those that are older than its last load; of all else what `Plain` keeps | a load and a comparison; nodes are 8 bytes larger and not recycled |
/// | [`Hazards`] | one node | a store and a load; much more without a handle |
///
/// The trait is sealed.
pub trait Protection: sealed::Protection {}

/// Sections of plain guards: the fastest. See [`Protection`].
#[derive(Debug)]
pub enum Plain {}

/// Sections of robust guards. See [`Protection`].
#[derive(Debug)]
pub enum Robust {}

/// A hazard pointer in place of a section. See [`Protection`].
#[derive(Debug)]
pub enum Hazards {}

impl Protection for Plain {}
impl Protection for Robust {}
impl Protection for Hazards {}

pub(crate) mod sealed {
    use super::*;

    pub trait Protection: Protect<Domain = Reclaimer> {
        /// What a thread keeps for its hot path.
        type Local<'r>;

        /// Runs an operation in a section of the calling thread.
        fn with<R>(reclaimer: &Reclaimer, work: impl FnOnce(&mut Self::Section<'_>) -> R) -> R;

        fn local(reclaimer: &Reclaimer) -> Self::Local<'_>;

        /// Runs an operation in a section by what the thread keeps.
        fn with_local<R>(
            local: &mut Self::Local<'_>,
            work: impl FnOnce(&mut Self::Section<'_>) -> R,
        ) -> R;
    }
}

/// A node with nothing beside it.
#[repr(transparent)]
pub struct Bare<S>(S);

impl<S> Deref for Bare<S> {
    type Target = S;

    #[inline]
    fn deref(&self) -> &S {
        &self.0
    }
}

impl<S> DerefMut for Bare<S> {
    #[inline]
    fn deref_mut(&mut self) -> &mut S {
        &mut self.0
    }
}

impl Protect for Plain {
    type Domain = Reclaimer;
    type Node<S> = Bare<S>;
    type Section<'s> = Guard<'s>;

    #[inline]
    fn alloc<S>(_: &Reclaimer, value: S) -> *mut Bare<S> {
        recycle::alloc(Bare(value))
    }

    #[inline]
    unsafe fn free<S>(node: *mut Bare<S>) {
        // SAFETY: the caller's promise: from `alloc`.
        unsafe { recycle::free(node) };
    }

    #[inline]
    fn protect<S>(section: &mut Guard<'_>, source: &AtomicPtr<Bare<S>>) -> *mut Bare<S> {
        section.protect(source)
    }

    #[inline]
    unsafe fn retire<S: Send>(section: &mut Guard<'_>, node: *mut Bare<S>) {
        // SAFETY: the caller's promise: from `alloc`; memory only, so it may be freed on any thread at any time.
        unsafe { section.retire_with(node, recycle::free) };
    }

    type Batch<S> = Batch<Bare<S>>;

    fn batch<S>() -> Batch<Bare<S>> {
        Batch::new()
    }

    #[inline]
    unsafe fn retire_later<S: Send>(
        section: &mut Guard<'_>,
        batch: &mut Batch<Bare<S>>,
        node: *mut Bare<S>,
    ) {
        // SAFETY: the caller's promise: from `alloc`; memory only.
        unsafe { batch.add(section, node) };
    }

    fn take<S>(batch: &mut Batch<Bare<S>>) -> Option<*mut Bare<S>> {
        batch.take()
    }
}

impl sealed::Protection for Plain {
    type Local<'r> = Handle;

    #[inline]
    fn with<R>(reclaimer: &Reclaimer, work: impl FnOnce(&mut Guard<'_>) -> R) -> R {
        work(&mut reclaimer.pin())
    }

    fn local(reclaimer: &Reclaimer) -> Handle {
        reclaimer.handle()
    }

    #[inline]
    fn with_local<R>(local: &mut Handle, work: impl FnOnce(&mut Guard<'_>) -> R) -> R {
        work(&mut local.pin())
    }
}

/// A robust guard, and where to retire to.
pub struct RobustSection<'s> {
    guard: RobustGuard<'s>,
    reclaimer: &'s Reclaimer,
}

impl Protect for Robust {
    type Domain = Reclaimer;
    type Node<S> = Born<S>;
    type Section<'s> = RobustSection<'s>;

    #[inline]
    fn alloc<S>(reclaimer: &Reclaimer, value: S) -> *mut Born<S> {
        Box::into_raw(reclaimer.alloc(value))
    }

    #[inline]
    unsafe fn free<S>(node: *mut Born<S>) {
        // SAFETY: the caller's promise: from `alloc`, hence from a box.
        drop(unsafe { Box::from_raw(node) });
    }

    #[inline]
    fn protect<S>(section: &mut RobustSection<'_>, source: &AtomicPtr<Born<S>>) -> *mut Born<S> {
        section.guard.protect(source)
    }

    #[inline]
    unsafe fn retire<S: Send>(section: &mut RobustSection<'_>, node: *mut Born<S>) {
        // SAFETY: the caller's promise: from `alloc` of this reclaimer, whose birth is never moved; published after that.
        unsafe { section.reclaimer.retire_born(node) };
    }

    type Batch<S> = ();

    fn batch<S>() {}

    #[inline]
    unsafe fn retire_later<S: Send>(
        section: &mut RobustSection<'_>,
        (): &mut (),
        node: *mut Born<S>,
    ) {
        // SAFETY: the caller's promise.
        unsafe { Self::retire(section, node) };
    }

    fn take<S>((): &mut ()) -> Option<*mut Born<S>> {
        None
    }
}

impl sealed::Protection for Robust {
    type Local<'r> = Handle;

    #[inline]
    fn with<R>(reclaimer: &Reclaimer, work: impl FnOnce(&mut RobustSection<'_>) -> R) -> R {
        work(&mut RobustSection { guard: reclaimer.pin_robust(), reclaimer })
    }

    fn local(reclaimer: &Reclaimer) -> Handle {
        reclaimer.handle()
    }

    #[inline]
    fn with_local<R>(local: &mut Handle, work: impl FnOnce(&mut RobustSection<'_>) -> R) -> R {
        work(&mut RobustSection { guard: local.pin_robust(), reclaimer: local.reclaimer() })
    }
}

/// A hazard, and where to retire to.
pub struct HazardSection<'s> {
    hazard: Hazard<'s>,
    reclaimer: &'s Reclaimer,
}

impl Protect for Hazards {
    type Domain = Reclaimer;
    type Node<S> = Bare<S>;
    type Section<'s> = HazardSection<'s>;

    #[inline]
    fn alloc<S>(_: &Reclaimer, value: S) -> *mut Bare<S> {
        recycle::alloc(Bare(value))
    }

    #[inline]
    unsafe fn free<S>(node: *mut Bare<S>) {
        // SAFETY: the caller's promise: from `alloc`.
        unsafe { recycle::free(node) };
    }

    #[inline]
    fn protect<S>(section: &mut HazardSection<'_>, source: &AtomicPtr<Bare<S>>) -> *mut Bare<S> {
        section.hazard.protect(source).as_ptr()
    }

    #[inline]
    unsafe fn retire<S: Send>(section: &mut HazardSection<'_>, node: *mut Bare<S>) {
        // SAFETY: the caller's promise: from `alloc`; memory only, so it may be freed on any thread at any time.
        unsafe { section.reclaimer.retire_with(node, recycle::free) };
    }

    type Batch<S> = ();

    fn batch<S>() {}

    #[inline]
    unsafe fn retire_later<S: Send>(
        section: &mut HazardSection<'_>,
        (): &mut (),
        node: *mut Bare<S>,
    ) {
        // SAFETY: the caller's promise.
        unsafe { Self::retire(section, node) };
    }

    fn take<S>((): &mut ()) -> Option<*mut Bare<S>> {
        None
    }
}

impl sealed::Protection for Hazards {
    type Local<'r> = HazardSection<'r>;

    #[inline]
    fn with<R>(reclaimer: &Reclaimer, work: impl FnOnce(&mut HazardSection<'_>) -> R) -> R {
        work(&mut Self::local(reclaimer))
    }

    fn local(reclaimer: &Reclaimer) -> HazardSection<'_> {
        HazardSection { hazard: reclaimer.hazard(), reclaimer }
    }

    #[inline]
    fn with_local<R>(
        local: &mut HazardSection<'_>,
        work: impl FnOnce(&mut HazardSection<'_>) -> R,
    ) -> R {
        work(local)
    }
}
