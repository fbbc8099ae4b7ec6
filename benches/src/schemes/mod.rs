//! What the structures ask of a reclamation scheme; each scheme's answer is a file.
//!
//! Owns the trait. Its schemes protect either whole sections or single pointers; the structures are
//! written for both, and what only the second kind needs stands behind [`Scheme::PER_POINTER`], which is a
//! constant, so the others don't pay for it. Knows nothing of the structures.

pub(crate) mod barrierd;
pub(crate) mod barrierd_hazards;
pub(crate) mod barrierd_robust;
pub(crate) mod epoch;
pub(crate) mod haphazard;
pub(crate) mod kovan;
pub(crate) mod leak;
pub(crate) mod sdd;
pub(crate) mod seize;
#[cfg(feature = "liburcu")]
pub(crate) mod urcu;

use std::path::PathBuf;
use std::sync::atomic::AtomicPtr;
use std::time::Duration;

/// Pointers that a section may hold at once, by number.
pub(crate) const HELD: usize = 3;

/// What a scheme may need to be made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setting {
    /// A live daemon's file.
    pub(crate) file: Option<PathBuf>,
    /// So many bytes may wait, and how long a retirement may wait for that; this project's schemes alone have limits.
    pub(crate) limit: Option<(u64, Duration)>,
}

impl Setting {
    /// On that daemon, if there is one, and without a limit.
    pub(crate) fn on(file: Option<PathBuf>) -> Setting {
        Setting { file, limit: None }
    }
}

/// A node that schemes may put something at the front of.
///
/// # Safety
/// The type is `repr(C)` and its first field is a `Header`.
pub(crate) unsafe trait Headed<Header> {}

/// A reclamation scheme.
///
/// A pointer that [`protect`](Scheme::protect) returned under a number stays valid until that number is
/// used again, or, where not [`PER_POINTER`](Scheme::PER_POINTER), until the section ends.
pub(crate) trait Scheme: Sync + Sized + 'static {
    /// One thread's place.
    type Local<'s>
    where
        Self: 's;
    /// An open section.
    type Guard<'l>;
    /// What the scheme needs in each node.
    type Header: Default + Send + 'static;

    const NAME: &'static str;
    /// Whether it is pointers that are protected, not sections: then whoever follows a pointer out of a
    /// node looks again whether that node is still linked.
    const PER_POINTER: bool = false;
    /// Whether what a link leads to is protected only if it was linked still when the link was loaded: so
    /// it is with pointers that are protected one by one, and where a section holds what was born before
    /// its last load. A link out of a node that was removed meanwhile may lead to what was born later, and
    /// freed.
    const LINKED_ONLY: bool = Self::PER_POINTER;
    /// Whether all of the process share one collector, whatever is made.
    const OF_PROCESS: bool = false;

    fn new(setting: &Setting) -> Self;
    fn local(&self) -> Self::Local<'_>;
    fn pin<'l>(local: &'l mut Self::Local<'_>) -> Self::Guard<'l>;

    /// Loads a pointer, whose lowest bit may be a mark. `number` is below [`HELD`].
    fn protect<T>(guard: &mut Self::Guard<'_>, number: usize, pointer: &AtomicPtr<T>) -> *mut T;

    fn alloc<T>(_: &Self::Guard<'_>, value: T) -> *mut T {
        Box::into_raw(Box::new(value))
    }

    /// Frees what was never linked.
    ///
    /// # Safety
    /// From `alloc`, and nobody else has it.
    unsafe fn free<T>(pointer: *mut T) {
        // SAFETY: as the caller says, from a box.
        drop(unsafe { Box::from_raw(pointer) });
    }

    /// What the scheme's documentation asks of a thread before it rests for long.
    fn rest(_: &mut Self::Local<'_>) {}

    /// Asks for what this thread has retired to be freed now; false if the scheme has no such call.
    fn flush(_: &mut Self::Local<'_>) -> bool {
        false
    }

    /// Drops and frees it once nobody can hold it.
    ///
    /// # Safety
    /// From `alloc`, unlinked, retired once.
    unsafe fn retire<T: Send + Headed<Self::Header> + 'static>(
        guard: &Self::Guard<'_>,
        pointer: *mut T,
    );

    /// The same in no section, which a scheme that may wait for readers asks for.
    ///
    /// # Safety
    /// As [`retire`](Scheme::retire).
    unsafe fn retire_alone<T: Send + Headed<Self::Header> + 'static>(
        local: &mut Self::Local<'_>,
        pointer: *mut T,
    ) {
        // SAFETY: as the caller says.
        unsafe { Self::retire(&Self::pin(local), pointer) }
    }
}

/// Does something once for a scheme, whichever it is.
pub(crate) trait Visitor {
    fn visit<S: Scheme>(&mut self);
}

/// Shows the visitor each contestant: ours, the peers, the bound.
pub(crate) fn each(setting: &Setting, visitor: &mut impl Visitor) {
    if setting.file.is_some() {
        visitor.visit::<barrierd::OnDaemon>();
        visitor.visit::<barrierd::OnMembarrier>();
    } else {
        visitor.visit::<barrierd::OnMembarrierOnly>();
    }
    visitor.visit::<barrierd::Again>();
    visitor.visit::<barrierd::Recycled>();
    visitor.visit::<barrierd_robust::Robust>();
    visitor.visit::<barrierd_hazards::Hazards>();
    visitor.visit::<epoch::DropIn>();
    visitor.visit::<epoch::Crossbeam>();
    visitor.visit::<seize::Seize>();
    visitor.visit::<haphazard::Haphazard>();
    visitor.visit::<sdd::Sdd>();
    visitor.visit::<kovan::Kovan>();
    #[cfg(feature = "liburcu")]
    visitor.visit::<urcu::Memb>();
    #[cfg(feature = "liburcu")]
    visitor.visit::<urcu::Qsbr>();
    visitor.visit::<leak::Leak>();
}

/// Returns the contestants' names, in the order of the tables.
pub(crate) fn names(setting: &Setting) -> Vec<&'static str> {
    struct Names(Vec<&'static str>);
    impl Visitor for Names {
        fn visit<S: Scheme>(&mut self) {
            self.0.push(S::NAME);
        }
    }
    let mut names = Names(Vec::new());
    each(setting, &mut names);
    names.0
}

/// This project, as the report calls it.
pub(crate) const OURS: &str = "barrierd";
/// This project by a handle, where that is one of several ways to a section.
pub(crate) const HANDLE: &str = "barrierd, by a handle";
/// The same once more: how far two of one kind differ is noise. In parentheses, so it is first in nothing.
pub(crate) const AGAIN: &str = "(barrierd again)";
/// This project without its daemon, where there is one.
pub(crate) const MEMBARRIER: &str = "barrierd, membarrier";
/// How this project's ways by robust guards begin.
pub(crate) const ROBUST: &str = "barrierd, robust guard";
/// The peer that bounds what a stalled reader keeps by births, as robust guards do.
pub(crate) const BY_BIRTHS: &str = "kovan";
/// Whom all are compared with.
pub(crate) const PEER: &str = "crossbeam-epoch";
/// The bound's name.
pub(crate) const NOTHING_FREED: &str = "(nothing freed)";

/// The contestants of the overview, besides ours.
pub(crate) const OVERVIEW: [&str; 7] =
    [OURS, PEER, "seize", "haphazard", "sdd", "kovan", "liburcu memb"];
