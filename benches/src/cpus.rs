//! Which CPUs there are, staying on one, and keeping some of them busy.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// The CPUs that this process may use.
pub(crate) fn allowed() -> Vec<usize> {
    sched_getaffinity(None).map_or_else(
        |_| vec![0],
        |set| (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect(),
    )
}

/// Keeps this thread on one CPU from here on; where that isn't allowed, it stays where it may.
pub(crate) fn stay_on(cpu: usize) {
    let mut only = CpuSet::new();
    only.set(cpu);
    let _ = sched_setaffinity(None, &only);
}

/// Numbers of threads worth a row: powers of two up to all CPUs, 16 at most, and four times as many as
/// CPUs.
pub(crate) fn thread_counts() -> Vec<usize> {
    let cpus = allowed().len().min(16);
    let mut counts: Vec<usize> =
        (0..5).map(|power| 1usize << power).filter(|&count| count < cpus).collect();
    counts.push(cpus);
    counts.push(4 * cpus);
    counts
}

/// How busy the machine is meanwhile: from the last CPU downwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    Idle,
    Half,
    Full,
}

impl Load {
    pub(crate) const ALL: [Load; 3] = [Load::Idle, Load::Half, Load::Full];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Load::Idle => "idle",
            Load::Half => "half busy",
            Load::Full => "fully busy",
        }
    }

    /// Runs `work` while so many CPUs spin.
    pub(crate) fn during<T>(self, work: impl FnOnce() -> T) -> T {
        let cpus = allowed();
        let busy = match self {
            Load::Idle => 0,
            Load::Half => cpus.len().div_ceil(2),
            Load::Full => cpus.len(),
        };
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            // Also where `work` panics: else the scope waits for spinners without end.
            let _end = StopOnDrop(&stop);
            for &cpu in &cpus[cpus.len() - busy..] {
                let stop = &stop;
                scope.spawn(move || {
                    stay_on(cpu);
                    while !stop.load(Relaxed) {
                        spin_loop();
                    }
                });
            }
            if busy > 0 {
                thread::sleep(Duration::from_millis(20));
            }
            work()
        })
    }
}

/// Spins until then.
pub(crate) fn spin_until(then: Instant) {
    while Instant::now() < then {
        spin_loop();
    }
}

/// Says stop when it goes.
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Returns the nanoseconds that a cache line takes from one CPU to another and back, at its quickest: how far apart the first
/// and the last are at the moment. A hypervisor may move them.
pub(crate) fn ping_pong() -> f64 {
    const BURSTS: u64 = 20;
    const TRIPS: u64 = 200;
    let ball = AtomicU64::new(0);
    let cpus = allowed();
    // Returns the quickest burst's time for each trip.
    let play = |own: u64, cpu: usize| {
        stay_on(cpu);
        let burst = |burst: u64| {
            let begin = Instant::now();
            for n in burst * TRIPS..(burst + 1) * TRIPS {
                while ball.load(Relaxed) != 2 * n + own {
                    spin_loop();
                }
                ball.store(2 * n + own + 1, Relaxed);
            }
            begin.elapsed().as_secs_f64() * 1e9 / TRIPS as f64
        };
        (0..BURSTS).map(burst).fold(f64::MAX, f64::min)
    };
    // Threads of their own both: where this one may run must stay.
    thread::scope(|scope| {
        scope.spawn(|| play(1, cpus[cpus.len() - 1]));
        scope.spawn(|| play(0, cpus[0])).join().unwrap_or(f64::NAN)
    })
}
