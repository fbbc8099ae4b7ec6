//! The names of the sources of barriers.

/// Which source of barriers a [`Reclaimer`](crate::Reclaimer) should use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The daemon where one runs, else membarrier, else fences. While the daemon is away or its
    /// watermark is old, barriers are bought from membarrier; a daemon that is started later, or
    /// again on a new file, is taken up by the [background thread](crate::Builder::background).
    ///
    /// Fences are chosen before the first section, for good: where membarrier can't be had and the daemon,
    /// by one look at its file, has not beaten within 250 ms (of the C daemon's: within 1 s). One that is
    /// started later, or got no CPU for as long, is not taken up then.
    #[default]
    Auto,
    /// The barrier daemon's file, and nothing else: free of system calls, milliseconds late. While
    /// the daemon is away, nothing is freed.
    ///
    /// A daemon that is started again on the same file is taken back; one that had to make a new
    /// file, by the [background thread](crate::Builder::background). So a daemon that dies is no error of
    /// this domain's, and whether one is dead when the domain is made can't be known by one look: it is
    /// held to be if it has stopped in good order, has not beaten for 1 s, or was seen by this process at the
    /// same old beat 50 ms before. [`Reclaimer::status`](crate::Reclaimer::status) knows 50 ms later.
    Daemon,
    /// `membarrier(PRIVATE_EXPEDITED)`: no daemon, no root, Linux 4.14. A purchase interrupts the
    /// CPUs that run other threads of this process.
    ///
    /// A process registers for it once, when it first needs it (with [`Auto`](Source::Auto), not while a
    /// daemon serves). In a process of several threads that takes the kernel 5 to 100 ms; the [background
    /// thread](crate::Builder::background) waits for it, and no barrier is bought in `retire`
    /// before. `flush` and [`synchronize`](crate::Reclaimer::synchronize) wait for it, if nothing but a barrier
    /// helps. Without that thread, or if it does not come to it, whoever needs the first barrier waits.
    Membarrier,
    /// Readers run a full fence in every `pin`. Works everywhere.
    Fence,
}

/// Where the last barrier came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ActiveSource {
    /// The barrier daemon.
    Daemon,
    /// `membarrier(2)`.
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
