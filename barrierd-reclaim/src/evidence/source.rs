//! The names of the sources of barriers.

/// Which source of barriers a [`Reclaimer`](crate::Reclaimer) should use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The best that there is: the daemon where one runs, else membarrier, else fences. While the daemon is away or its
    /// watermark is old, barriers are bought from membarrier; a daemon that is started later, or
    /// again on a new file, is taken up by the [background thread](crate::Builder::background).
    ///
    /// Fences are chosen for good, when the domain is made: if membarrier can't be had and one check of the
    /// daemon's file finds no beat of the last 250 ms (with the C daemon: of the last 1 s). A daemon that is
    /// started later is not used then, nor one that just got no CPU for as long.
    #[default]
    Auto,
    /// The barrier daemon's file, and nothing else. Barriers cost no system call, and come milliseconds later. While
    /// the daemon is away, only what the threads' own activity proves safe is freed.
    /// 64-bit little-endian Linux alone has it ([`DaemonElsewhere`](crate::BuildError::DaemonElsewhere)).
    ///
    /// A daemon that is started again on the same file is used again; if it had to create a new
    /// file, the [background thread](crate::Builder::background) finds it. So the death of a daemon is no error of
    /// this domain. One check can't tell whether a daemon is dead when the domain is made. It is
    /// taken for dead if it has stopped in good order, has not beaten for 1 s, or was seen by this process at the
    /// same old beat 50 ms before. [`Reclaimer::status`](crate::Reclaimer::status) knows 50 ms later.
    Daemon,
    /// A barrier that the system makes in all running threads of this process when it is asked, without a daemon and without
    /// root: `membarrier(PRIVATE_EXPEDITED)` on Linux 4.14, Android 10 and FreeBSD 14.1 (x86-64) or later, and
    /// `FlushProcessWriteBuffers` on Windows. Each call (a *purchase*) interrupts the CPUs that run other threads of this process.
    ///
    /// On Linux, a process registers for it once, when it first needs it (with [`Auto`](Source::Auto), not while a
    /// daemon serves). In a process of several threads that takes the kernel 5 to 100 ms. The [background
    /// thread](crate::Builder::background) waits for that, and `retire` buys no barrier before it is done.
    /// `flush` and [`synchronize`](crate::Reclaimer::synchronize) wait for it, if nothing but a barrier
    /// helps. Without that thread, or if that thread is blocked, the thread that needs the first barrier waits.
    Membarrier,
    /// Readers run a full fence in every `pin`. Works everywhere.
    Fence,
}

/// The source that the last barrier came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ActiveSource {
    /// The barrier daemon.
    Daemon,
    /// `membarrier(2)`, or `FlushProcessWriteBuffers`.
    Membarrier,
    /// Fences in the readers.
    Fence,
}

impl core::fmt::Display for ActiveSource {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            ActiveSource::Daemon => "daemon",
            ActiveSource::Membarrier => "membarrier",
            ActiveSource::Fence => "fence",
        })
    }
}
