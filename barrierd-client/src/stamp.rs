//! A moment, which is compared with a watermark.
//!
//! This module owns the order "store, fence, clock" that makes a stamp evidence, and what a stamp in
//! virtual time carries beside its number. It knows nothing of files or of who publishes watermarks.

use std::sync::atomic::{Ordering, fence};

use crate::clock;

/// A moment after which the taker's earlier stores were visible to every CPU.
///
/// It is a number of nanoseconds of `CLOCK_MONOTONIC`, so a stamp means the same against every mapping, in every
/// process of the initial time namespace, until the next boot. Of two stamps the later one may be less,
/// since a clock that is slewed steps back. Each is right against the watermark, since no later reading of
/// the clock is below the watermark.
///
/// ```
/// use barrierd_client::Stamp;
///
/// let stamp = Stamp::now();
/// assert_eq!(Stamp::from_ns(stamp.ns()), stamp);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(u64);

impl Stamp {
    /// Makes this thread's stores visible, then reads the clock.
    ///
    /// The fence is what makes the time mean something. Without it a store may still sit in this
    /// CPU's store buffer when the clock is read; another CPU could then take its barrier point
    /// *after* that time, load the old value, and the watermark would vouch for it all the same.
    /// With it: the stores are visible, then the clock reads `t`, so a load after any barrier point
    /// later than `t` sees them. The vDSO orders its own read of the counter after earlier loads
    /// (x86: `lfence`, arm64: a load, a branch on it and `isb`), and the fence orders those loads.
    ///
    /// It costs a full fence (about 20 cycles or more, longer with many stores buffered) and one vDSO
    /// clock reading. Take one stamp for many changes, after the last of them.
    #[inline]
    #[must_use]
    pub fn now() -> Self {
        // Partner: the barrier point of every other CPU, in the kernel.
        fence(Ordering::SeqCst);
        Self(clock::now_ns())
    }

    /// Makes a stamp from its number, for example one that another thread or process took with [`Stamp::now`].
    ///
    /// A number that was read without a fence before it is worth nothing as evidence. A number that is later than
    /// it need be is always safe.
    #[inline]
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// Returns the stamp in nanoseconds of `CLOCK_MONOTONIC`.
    #[inline]
    #[must_use]
    pub const fn ns(self) -> u64 {
        self.0
    }
}

/// A moment in the daemon's virtual time, from
/// [`Barrier::virtual_stamp`](crate::Barrier::virtual_stamp), which takes two loads, no fence and no clock.
///
/// It means something only against the mapping that it came from, and only while the same daemon serves
/// that. After a restart it never passes, and [`Barrier::wait_any`](crate::Barrier::wait_any) says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VirtualStamp {
    pub(crate) vtime: u64,
    pub(crate) generation: u64,
}

impl VirtualStamp {
    /// Returns the daemon's number of rounds, which is no unit of time.
    #[must_use]
    pub const fn vtime(self) -> u64 {
        self.vtime
    }

    /// Returns the number of the daemon, as [`Barrier::generation`](crate::Barrier::generation) does.
    #[must_use]
    pub const fn generation(self) -> u64 {
        self.generation
    }
}

/// A stamp in time or in virtual time, for [`Barrier::wait_any`](crate::Barrier::wait_any).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Moment {
    /// A stamp in nanoseconds of `CLOCK_MONOTONIC`.
    Time(Stamp),
    /// A stamp in the virtual time of one daemon.
    Virtual(VirtualStamp),
}

impl From<Stamp> for Moment {
    fn from(stamp: Stamp) -> Self {
        Self::Time(stamp)
    }
}

impl From<VirtualStamp> for Moment {
    fn from(stamp: VirtualStamp) -> Self {
        Self::Virtual(stamp)
    }
}
