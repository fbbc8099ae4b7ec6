//! A clock that is slewed to and fro, so that it steps back.
//!
//! Owns who slews it, who reads it, and what of it they see. Knows nothing of barriers but one thing: a
//! watermark ahead of the clock calls a barrier passed for stamps that nobody has taken yet.

use crate::game::pin_to;
use barrierd_client::clock::now_ns;
use barrierd_client::{Barrier, abi};
use std::fmt;
use std::io::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU64, fence};
use std::thread::{self, JoinHandle};

/// The tick that the kernel counts on, and the least and the most that it takes, in microseconds.
const TICK_US: i64 = 10_000;
const SLEWED_US: [i64; 2] = [11_000, 9_000];

/// What was seen of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// How often the rate was changed.
    slews: u64,
    /// How often the clock was read, and how often it was behind what it had shown before by more than
    /// the margin.
    readings: u64,
    steps: u64,
    /// The longest step back, in nanoseconds.
    step_back_ns: u64,
    /// How far a watermark lay ahead of the clock at most, in nanoseconds.
    pub(crate) ahead_ns: u64,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen { slews, readings, steps, step_back_ns, ahead_ns } = self;
        write!(
            f,
            "{slews} slews, {readings} readings; the clock stepped back by more than {} us {steps} times, \
             by {} us at most; the watermark lay {} us ahead of it at most",
            abi::CLOCK_MARGIN_NS / 1_000,
            step_back_ns / 1_000,
            ahead_ns / 1_000
        )
    }
}

/// Slews the clock from one CPU, and reads it on another, until it is stopped.
pub(crate) struct Slew {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Seen>>,
}

#[derive(Default)]
struct Shared {
    /// The latest reading of anyone's.
    latest: AtomicU64,
    stop: AtomicBool,
}

impl Slew {
    pub(crate) fn start(slewed: usize, watched: usize, file: &Path) -> Slew {
        let shared = Arc::new(Shared::default());
        let (slews, watches) = (shared.clone(), shared.clone());
        let barrier = Barrier::open(file).unwrap_or_else(|error| panic!("{error}"));
        let threads = vec![
            thread::spawn(move || slews.slew(slewed)),
            thread::spawn(move || watches.watch(watched, &barrier)),
        ];
        Slew { shared, threads }
    }

    /// What was seen; the clock runs as it did before.
    pub(crate) fn stop(mut self) -> Seen {
        self.end()
    }

    fn end(&mut self) -> Seen {
        self.shared.stop.store(true, Relaxed);
        let mut sum = Seen::default();
        for thread in self.threads.drain(..) {
            let seen = thread.join().expect("neither panics");
            sum.slews += seen.slews;
            sum.readings += seen.readings;
            sum.steps += seen.steps;
            sum.step_back_ns = sum.step_back_ns.max(seen.step_back_ns);
            sum.ahead_ns = sum.ahead_ns.max(seen.ahead_ns);
        }
        sum
    }
}

impl Drop for Slew {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn slew(&self, cpu: usize) -> Seen {
        pin_to(cpu).unwrap_or_else(|errno| panic!("CPU {cpu}: {errno}"));
        let mut seen = Seen::default();
        while !self.stop.load(Relaxed) {
            for tick_us in SLEWED_US {
                set_tick(tick_us);
                seen.slews += 1;
                self.read(&mut seen);
            }
        }
        set_tick(TICK_US);
        seen
    }

    fn watch(&self, cpu: usize, barrier: &Barrier) -> Seen {
        pin_to(cpu).unwrap_or_else(|errno| panic!("CPU {cpu}: {errno}"));
        let mut seen = Seen::default();
        while !self.stop.load(Relaxed) {
            let word = watermark(barrier);
            // The clock after the watermark.
            fence(Acquire);
            let now = self.read(&mut seen);
            seen.ahead_ns = seen.ahead_ns.max(word.saturating_sub(now));
        }
        seen
    }

    fn read(&self, seen: &mut Seen) -> u64 {
        let latest = self.latest.load(Acquire);
        let now = now_ns();
        let back = latest.saturating_sub(now);
        seen.readings += 1;
        seen.steps += u64::from(back > abi::CLOCK_MARGIN_NS);
        seen.step_back_ns = seen.step_back_ns.max(back);
        self.latest.fetch_max(now, Relaxed);
        now
    }
}

/// The watermark as it stands, whatever a client would make of it.
fn watermark(barrier: &Barrier) -> u64 {
    // SAFETY: within the mapping, aligned, and kept as long as `barrier`; the daemon stores to it by
    // 64-bit atomic stores.
    unsafe { barrier.as_ptr().add(abi::LAST_INTERRUPT_NS).cast::<AtomicU64>().as_ref() }
        .expect("mapped")
        .load(Relaxed)
}

fn set_tick(tick_us: i64) {
    // SAFETY: plain numbers, for which zeros are values.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    (state.modes, state.tick) = (libc::ADJ_TICK, tick_us);
    // SAFETY: `state` is a `timex` for it to read and to write.
    let answer = unsafe { libc::adjtimex(&raw mut state) };
    assert!(answer >= 0, "adjtimex: {}", Error::last_os_error());
}
