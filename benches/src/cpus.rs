//! Which CPUs there are, staying on one, and keeping some of them busy.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::hint::spin_loop;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// The CPUs that this process may use. Asked once: the system says what the calling thread may use, which is one CPU after
/// [`stay_on`].
pub(crate) fn allowed() -> Vec<usize> {
    static ALLOWED: OnceLock<Vec<usize>> = OnceLock::new();
    let of_this_thread = || {
        sched_getaffinity(None).map_or_else(
            |_| vec![0],
            |set| (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect(),
        )
    };
    ALLOWED.get_or_init(of_this_thread).clone()
}

/// Keeps this thread on one CPU from here on; where that isn't allowed, it stays where it may.
pub(crate) fn stay_on(cpu: usize) {
    allowed();
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
    const TRIPS: u64 = 100;
    /// On a busy machine each trip may take a time slice.
    const PATIENCE: Duration = Duration::from_millis(20);
    /// The ball is out.
    const OUT: u64 = u64::MAX;
    let ball = AtomicU64::new(0);
    let cpus = allowed();
    // Waits for the ball and hits it, so many times. Returns whether it is still in.
    let hits = |first: u64, own: u64| {
        (first..first + TRIPS).all(|n| {
            let mut seen = ball.load(Relaxed);
            while seen != 2 * n + own && seen != OUT {
                spin_loop();
                seen = ball.load(Relaxed);
            }
            if seen != OUT {
                ball.store(2 * n + own + 1, Relaxed);
            }
            seen != OUT
        })
    };
    let serve = || {
        stay_on(cpus[0]);
        let (begin, mut quickest) = (Instant::now(), f64::MAX);
        for burst in 0..40 {
            let from = Instant::now();
            hits(burst * TRIPS, 0);
            quickest = quickest.min(from.elapsed().as_secs_f64() * 1e9 / TRIPS as f64);
            // The answer to the last one, so that nobody hits the ball after it is out.
            while ball.load(Relaxed) != 2 * (burst + 1) * TRIPS {
                spin_loop();
            }
            if begin.elapsed() > PATIENCE {
                break;
            }
        }
        ball.store(OUT, Relaxed);
        quickest
    };
    let answer = || {
        stay_on(cpus[cpus.len() - 1]);
        let _ = (0..40).all(|burst| hits(burst * TRIPS, 1));
    };
    // Threads of their own both: where this one may run must stay.
    thread::scope(|scope| {
        scope.spawn(answer);
        scope.spawn(serve).join().unwrap_or(f64::NAN)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_stays_on_a_cpu_still_knows_the_others() {
        let all = allowed();
        let seen = thread::spawn(|| {
            stay_on(allowed()[0]);
            allowed()
        });
        assert_eq!(seen.join().expect("no panic"), all);
    }
}
