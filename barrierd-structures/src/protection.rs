//! How the stack and the queue are protected, by a type parameter: plain guards, robust guards, hazard pointers.

use crate::batch::Batch;
use crate::nodes::{Bare, Nodes, Recycled, WithBirth};
use crate::protect::Protect;
use barrierd_reclaim::{Born, Guard, Handle, Hazard, Reclaimer, RobustGuard, recycle};
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

    pub trait Protection: Protect<Nodes: Nodes<Domain = Reclaimer>> {
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

impl Protect for Plain {
    type Nodes = Recycled;
    type Section<'s> = Guard<'s>;

    #[inline]
    fn protect<S>(section: &mut Guard<'_>, source: &AtomicPtr<Bare<S>>) -> *mut Bare<S> {
        section.protect(source)
    }

    #[inline]
    unsafe fn retire<S: Send>(section: &mut Guard<'_>, node: *mut Bare<S>) {
        // SAFETY: the caller's promise, as for `Recycled`.
        unsafe { section.retire_with(node, recycle::free) };
    }

    type Batch<S> = Batch<Bare<S>>;

    fn batch<S>(reclaimer: &Reclaimer) -> Batch<Bare<S>> {
        Batch::new(reclaimer)
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

/// What protects one node, a robust guard or a hazard, and where to retire to. It holds back single nodes, so none is retired
/// together with others.
pub struct Single<'s, H> {
    holder: H,
    reclaimer: &'s Reclaimer,
}

impl Protect for Robust {
    type Nodes = WithBirth;
    type Section<'s> = Single<'s, RobustGuard<'s>>;

    #[inline]
    fn protect<S>(section: &mut Self::Section<'_>, source: &AtomicPtr<Born<S>>) -> *mut Born<S> {
        section.holder.protect(source)
    }

    #[inline]
    unsafe fn retire<S: Send>(section: &mut Self::Section<'_>, node: *mut Born<S>) {
        // SAFETY: the caller's promise.
        unsafe { WithBirth::retire(section.reclaimer, node) };
    }

    type Batch<S> = ();

    fn batch<S>(_: &Reclaimer) {}
}

impl sealed::Protection for Robust {
    type Local<'r> = Handle;

    #[inline]
    fn with<R>(reclaimer: &Reclaimer, work: impl FnOnce(&mut Self::Section<'_>) -> R) -> R {
        work(&mut Single { holder: reclaimer.pin_robust(), reclaimer })
    }

    fn local(reclaimer: &Reclaimer) -> Handle {
        reclaimer.handle()
    }

    #[inline]
    fn with_local<R>(local: &mut Handle, work: impl FnOnce(&mut Self::Section<'_>) -> R) -> R {
        work(&mut Single { holder: local.pin_robust(), reclaimer: local.reclaimer() })
    }
}

impl Protect for Hazards {
    type Nodes = Recycled;
    type Section<'s> = Single<'s, Hazard<'s>>;

    #[inline]
    fn protect<S>(section: &mut Self::Section<'_>, source: &AtomicPtr<Bare<S>>) -> *mut Bare<S> {
        section.holder.protect(source).as_ptr()
    }

    #[inline]
    unsafe fn retire<S: Send>(section: &mut Self::Section<'_>, node: *mut Bare<S>) {
        // SAFETY: the caller's promise.
        unsafe { Recycled::retire(section.reclaimer, node) };
    }

    type Batch<S> = ();

    fn batch<S>(_: &Reclaimer) {}
}

impl sealed::Protection for Hazards {
    type Local<'r> = Self::Section<'r>;

    #[inline]
    fn with<R>(reclaimer: &Reclaimer, work: impl FnOnce(&mut Self::Section<'_>) -> R) -> R {
        work(&mut Self::local(reclaimer))
    }

    fn local(reclaimer: &Reclaimer) -> Self::Section<'_> {
        Single { holder: reclaimer.hazard(), reclaimer }
    }

    #[inline]
    fn with_local<R>(
        local: &mut Self::Section<'_>,
        work: impl FnOnce(&mut Self::Section<'_>) -> R,
    ) -> R {
        work(local)
    }
}
