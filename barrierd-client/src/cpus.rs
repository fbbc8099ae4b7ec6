//! The barrier of each single CPU, for display.
//!
//! This module owns what the file's per-CPU table says. It knows nothing of whether it may be
//! believed: the watermark over all CPUs, which is held to the clock, decides what has passed.

use crate::abi;
use crate::barrier::Barrier;

/// One CPU's entry, as the file has it: for display. It is not held to the clock, and where
/// [`Barrier::per_cpu_is_exact`] says no it repeats the minimum over all CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerCpu {
    /// The CPU's last barrier point, nanoseconds of `CLOCK_MONOTONIC`.
    pub ns: u64,
    /// The same in virtual time.
    pub vtime: u64,
}

impl Barrier {
    /// CPU `cpu`'s entry; `None` from [`ncpu`](Self::ncpu) on.
    ///
    /// Cost: two loads.
    #[must_use]
    pub fn per_cpu(&self, cpu: usize) -> Option<PerCpu> {
        let words = self.words();
        (cpu < self.ncpu()).then(|| PerCpu {
            ns: words.load(abi::per_cpu_ns(cpu)),
            vtime: words.load(abi::per_cpu_vtime(cpu)),
        })
    }

    /// Every CPU's entry, in order. Those that the machine could have but hasn't are among them.
    ///
    /// Cost: two loads a CPU, as the iterator goes; no allocation.
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

    /// Whether each entry is that CPU's own: the daemon was started with `--per-cpu`, or it is the C
    /// daemon, which does so always. May change when another daemon takes the file over.
    #[must_use]
    pub fn per_cpu_is_exact(&self) -> bool {
        self.is_legacy() || self.words().load(abi::FLAGS) & abi::FLAG_PER_CPU_EXACT != 0
    }
}
