//! What the races share: a random number, a stopwatch, a line of output.
//!
//! Time is the CPU time of the whole process, background threads included: other programs on the machine
//! count least that way.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

/// How long a row is measured, milliseconds, if `RACE_MS` does not say.
const ROW_MS: u64 = 300;

/// The CPU time of this process, seconds.
fn cpu_time() -> f64 {
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
    }
    const CLOCK_PROCESS_CPUTIME_ID: i32 = 2;
    let mut time = [0; 2];
    // SAFETY: a timespec of 64-bit Linux is these two words.
    assert_eq!(unsafe { clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &mut time) }, 0);
    time[0] as f64 + time[1] as f64 / 1e9
}

/// Steele and Vigna's splitmix64.
#[allow(dead_code, reason = "not every race is random")]
pub struct Random(pub u64);

impl Random {
    #[allow(dead_code, reason = "not every race is random")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Runs `work(random, thread)` on all threads for a while. `work` says how many operations it did.
///
/// Prints the millions of operations in a second of CPU time. Does nothing if `RACE_ONLY` is no part of
/// the name.
pub fn row(name: &str, threads: u64, work: impl Fn(&mut Random, u64) -> u64 + Sync) {
    let (stop, total) = (AtomicBool::new(false), AtomicU64::new(0));
    let start = Barrier::new(usize::try_from(threads).unwrap() + 1);
    if std::env::var("RACE_ONLY").is_ok_and(|part| !name.contains(&part)) {
        return;
    }
    let row = std::env::var("RACE_MS").map_or(ROW_MS, |ms| ms.parse().expect("milliseconds"));
    let spent = thread::scope(|scope| {
        for thread in 0..threads {
            let (work, stop, total, start) = (&work, &stop, &total, &start);
            scope.spawn(move || {
                let mut random = Random(thread.wrapping_mul(0x1234_5678_9abc));
                black_box(work(&mut random, thread)); // warm
                start.wait();
                let mut done = 0;
                while !stop.load(Relaxed) {
                    done += work(&mut random, thread);
                }
                total.fetch_add(done, Relaxed);
            });
        }
        let begin = cpu_time();
        start.wait();
        thread::sleep(Duration::from_millis(row));
        stop.store(true, Relaxed);
        begin
    });
    // All threads are done.
    let spent = cpu_time() - spent;
    let done = total.into_inner() as f64;
    println!("{name}, {threads}\t{:.3}", done / spent / 1e6);
}
