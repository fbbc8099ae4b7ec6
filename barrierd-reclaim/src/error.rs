//! What can go wrong, and what to do about it.

use crate::platform::client::OpenError;
use std::io;
use thiserror::Error;

/// The reason why the system's barrier for the whole process, `membarrier(2)` or `FlushProcessWriteBuffers`, can't serve
/// this process.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MembarrierError {
    /// The system has no such barrier.
    #[error(
        "this system has no membarrier: Linux has it from 4.14 (CONFIG_MEMBARRIER), Android from 10, FreeBSD \
         from 14.1 (x86-64), and Windows, except Wine; use Source::Auto or Source::Fence"
    )]
    Unsupported,
    /// The kernel may have it, but this process may not call it.
    #[error(
        "membarrier(2) is forbidden to this process ({0}), by a seccomp filter or the policy of its \
         container or unit: allow the membarrier system call there (in a unit by SystemCallFilter=), or \
         use Source::Fence"
    )]
    Forbidden(#[source] io::Error),
    /// The process could not register.
    #[error("membarrier(REGISTER_PRIVATE_EXPEDITED) failed: {0}; Source::Fence works without it")]
    Register(#[source] io::Error),
    /// The barrier itself was refused.
    #[error("membarrier(PRIVATE_EXPEDITED) failed: {0}; Source::Fence works without it")]
    Call(#[source] io::Error),
}

/// The reason why [`Builder::build`](crate::Builder::build) could not use the source that was asked for by name.
/// [`Source::Auto`](crate::Source::Auto) never fails.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The daemon's file can't be used.
    #[error("the barrier daemon's file can't be used: {0}")]
    Daemon(#[from] OpenError),
    /// The daemon's file is there, but nobody keeps it up to date, as far as one check can tell:
    /// [`Source::Daemon`](crate::Source::Daemon) says how that is decided.
    #[error(
        "nobody keeps {path} up to date: start barrierd, or use Source::Auto, which takes \
         membarrier until it runs"
    )]
    DaemonGone {
        /// The file's path.
        path: std::path::PathBuf,
    },
    /// This target has no client of the daemon.
    #[error(
        "the barrier daemon needs 64-bit little-endian Linux, which this target is not: use Source::Auto"
    )]
    DaemonElsewhere,
    /// Membarrier can't serve this process.
    #[error(transparent)]
    Membarrier(#[from] MembarrierError),
}

/// The reason why [`Reclaimer::synchronize`](crate::Reclaimer::synchronize) could not finish. Nothing is lost:
/// what was retired is still queued, or being freed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SynchronizeError {
    /// The calling thread holds a guard of this reclaimer, so the wait could never end.
    #[error("this thread holds a guard of the same reclaimer: drop it before synchronize()")]
    Pinned,
    /// Called from the destructor of a retired object. Not every such call is recognised: see
    /// [`Handle`](crate::Handle), "In destructors".
    #[error("called from a retired object's destructor: synchronize() can't run inside one")]
    InDestructor,
    /// The deadline came first, and this many threads still held a guard from before the call.
    #[error(
        "the deadline passed while {readers} thread(s) still held a guard from before the call"
    )]
    Readers {
        /// Threads that held a guard from before the call.
        readers: usize,
    },
    /// The deadline came before the barrier did.
    #[error("the deadline passed before the barrier did: {why}")]
    NoBarrier {
        /// What the source of barriers said.
        why: String,
    },
    /// The deadline came first, and this many other threads still ran destructors of what had been retired
    /// before the call. All else of it is freed.
    #[error(
        "the deadline passed while {threads} other thread(s) still ran destructors of objects that were \
         retired before the call"
    )]
    Destructors {
        /// Threads that still ran such destructors.
        threads: usize,
    },
    /// This process moved into another time namespace, so its clock is not the daemon's. Nothing is freed any more.
    #[error(
        "this domain is poisoned: the clock ran backwards past a barrier, and this process is no longer \
         in the initial time namespace (or /proc/self/ns/time can't tell), so nothing is freed until the \
         Reclaimer is dropped"
    )]
    Poisoned,
    /// This process was forked after the domain was made.
    #[error(
        "this process was forked after the domain was made, so nothing of its parent's is freed \
         here: make a new Reclaimer in the child"
    )]
    Forked,
}
