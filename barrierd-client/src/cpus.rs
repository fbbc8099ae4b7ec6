//! The barrier of each single CPU, for display.
//!
//! This module owns the reading of the file's per-CPU table. It does not know whether the table may be
//! believed: the watermark over all CPUs, which is held to the clock, decides what has passed.

use crate::abi;
use crate::barrier::Barrier;

/// One CPU's entry, as the file has it, for display. It is not held to the clock. Where
/// [`Barrier::per_cpu_is_exact`] returns false, it repeats the minimum over all CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerCpu {
    /// The CPU's last barrier point, in nanoseconds of `CLOCK_MONOTONIC`.
    pub ns: u64,
    /// The same in virtual time, a number of rounds.
    pub vtime: u64,
}

impl Barrier {
    /// Returns the entry of CPU `cpu`; `None` from [`ncpu`](Self::ncpu) on. It costs two loads.
    #[must_use]
    pub fn per_cpu(&self, cpu: usize) -> Option<PerCpu> {
        let words = self.words();
        (cpu < self.ncpu()).then(|| PerCpu {
            ns: words.load(abi::per_cpu_ns(cpu)),
            vtime: words.load(abi::per_cpu_vtime(cpu)),
        })
    }

    /// Returns every CPU's entry, in order. Those of CPUs that the machine could have but hasn't are among them.
    ///
    /// It costs two loads for each CPU, when the iterator comes to it, and no allocation.
    ///
    /// ```no_run
    /// # let barrier = barrierd_client::Barrier::open_default()?;
    /// let oldest_ns = barrier.cpus().map(|cpu| cpu.ns).min();
    /// # Ok::<(), barrierd_client::OpenError>(())
    /// ```
    pub fn cpus(&self) -> impl ExactSizeIterator<Item = PerCpu> + '_ {
        let words = self.words();
        (0..self.ncpu()).map(move |cpu| PerCpu {
            ns: words.load(abi::per_cpu_ns(cpu)),
            vtime: words.load(abi::per_cpu_vtime(cpu)),
        })
    }

    /// Returns whether each entry is that CPU's own: the daemon was started with `--per-cpu`, or it is the C
    /// daemon, whose entries always are. This may change when another daemon takes the file over.
    #[must_use]
    pub fn per_cpu_is_exact(&self) -> bool {
        self.is_legacy() || self.words().load(abi::FLAGS) & abi::FLAG_PER_CPU_EXACT != 0
    }
}
