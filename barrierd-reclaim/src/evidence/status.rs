//! The source that serves a domain at the moment, and why: for people and for monitoring.

use core::fmt;

/// The source of a domain's barriers at the moment ([`Reclaimer::status`](crate::Reclaimer::status)).
///
/// Evidence that is collected from the threads that pin or retire is used in any case, except when the domain is
/// [`Poisoned`](Status::Poisoned).
///
/// ```
/// use barrierd_reclaim::{Reclaimer, Source, Status, Why};
///
/// let reclaimer = Reclaimer::builder().source(Source::Fence).build()?;
/// assert_eq!(reclaimer.status(), Status::Fence(Why::AskedFor));
/// assert_eq!(reclaimer.status().to_string(), "fences in the readers: that was asked for");
/// # Ok::<(), barrierd_reclaim::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// The daemon, which keeps up.
    Daemon,
    /// A barrier for the whole process: `membarrier(2)`, or `FlushProcessWriteBuffers` on Windows.
    Membarrier(Why),
    /// Fences in the readers.
    Fence(Why),
    /// No source: what threads do not free for each other is kept until one comes (back).
    Nothing(Why),
    /// The clock ran backwards past a barrier: nothing is freed until the domain is dropped.
    Poisoned,
}

/// The reason why no other source serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Why {
    /// This source was asked for by name.
    AskedFor,
    /// There is no daemon's file, or none that could be used when the domain tried to open it.
    NoDaemon,
    /// The daemon stopped in good order.
    DaemonStopped,
    /// The daemon died or hangs.
    DaemonStale,
    /// The daemon lives, as far as is known, but its watermark is old: a CPU holds it up, or it gets none.
    DaemonLags,
    /// The daemon's file was caught lying.
    DaemonDistrusted,
    /// This target has no better source: no daemon, or neither a daemon nor membarrier.
    NotHere,
    /// There is no daemon, and the kernel or a filter refuses membarrier to this process.
    NoMembarrier,
    /// The kernel refused membarrier the last time, and there is no daemon: a seccomp filter that came later,
    /// or one that refuses to register the process and nothing else.
    MembarrierRefused,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::AskedFor => "that was asked for",
            Why::NoDaemon => "no daemon keeps a file up to date",
            Why::DaemonStopped => "the daemon has stopped",
            Why::DaemonStale => "the daemon died or hangs",
            Why::DaemonLags => "the daemon's watermark is old",
            Why::DaemonDistrusted => "the daemon's file was caught lying",
            Why::NotHere => "this target has nothing better",
            Why::NoMembarrier => {
                "there is no daemon, and the kernel or a filter allows no membarrier"
            }
            Why::MembarrierRefused => "the kernel refuses membarrier, and no daemon serves",
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Daemon => f.write_str("the daemon"),
            Status::Membarrier(why) => write!(f, "membarrier: {why}"),
            Status::Fence(why) => write!(f, "fences in the readers: {why}"),
            Status::Nothing(why) => write!(f, "nothing: {why}"),
            Status::Poisoned => f.write_str("nothing: the clock ran backwards past a barrier"),
        }
    }
}
