//! CPUs that come and go.
//!
//! Owns the kernel's switches for them, and the storm. Knows nothing of slots.

use crate::PATIENCE;
use crate::game::{Game, Rest};
use crate::load::Load;
use barrierd_client::{Barrier, Stamp};
use std::fs;
use std::panic::resume_unwind;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;
use std::time::Instant;

const SYSFS: &str = "/sys/devices/system/cpu";

/// `online`, `present` or `possible`.
pub(crate) fn list(which: &str) -> Vec<usize> {
    let text = fs::read_to_string(format!("{SYSFS}/{which}")).expect(which);
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let ranges =
        text.trim().split(',').map(|range| range.split_once('-').unwrap_or((range, range)));
    ranges.flat_map(|(from, to)| number(from)..=number(to)).collect()
}

/// Whether the kernel has done it: it may be busy.
pub(crate) fn set_online(cpu: usize, online: bool) -> bool {
    fs::write(format!("{SYSFS}/cpu{cpu}/online"), if online { "1" } else { "0" }).is_ok()
}

/// Every CPU that is there.
pub(crate) fn online_all() {
    let online = list("online");
    for cpu in list("present") {
        assert!(online.contains(&cpu) || set_online(cpu, true), "CPU {cpu} doesn't come online");
    }
    assert_eq!(list("online"), list("present"));
}

/// One thread a core from here on, or all.
pub(crate) fn smt(on: bool) {
    fs::write(format!("{SYSFS}/smt/control"), if on { "on" } else { "off" }).expect("smt/control");
    let (online, present) = (list("online").len(), list("present").len());
    assert_eq!(online * if on { 1 } else { 2 }, present, "half of the CPUs are siblings");
}

/// Every CPU but the first goes offline and comes back, `cycles` times, while the others are under
/// load, two threads wait for barriers, and the flag is played. All CPUs are online at the end.
pub(crate) fn storm(barrier: &Barrier, cycles: usize) {
    let cpus = list("online");
    let (done, unplugged, waits) =
        (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let _load = Load::start(3);
    let mut games = 0;
    thread::scope(|scope| {
        let stop = StopOnDrop(&done);
        let mut threads = Vec::new();
        threads.push(scope.spawn(|| {
            let _stop = StopOnDrop(&done);
            for cycle in 0..cycles {
                println!(
                    "  cycle {cycle}: {} unplugged, {} waits",
                    unplugged.load(Relaxed),
                    waits.load(Relaxed)
                );
                // One by one, and all together.
                let at_once = if cycle % 2 == 0 { 1 } else { cpus.len() };
                for some in cpus[1..].chunks(at_once) {
                    let gone = some.iter().filter(|&&cpu| set_online(cpu, false)).count();
                    unplugged.fetch_add(gone, Relaxed);
                    for &cpu in some {
                        set_online(cpu, true);
                    }
                }
            }
        }));
        for _ in 0..2 {
            threads.push(scope.spawn(|| {
                while !done.load(Relaxed) {
                    let stamp = Stamp::now();
                    let passed = barrier.wait(stamp, Instant::now() + PATIENCE);
                    passed.unwrap_or_else(|error| panic!("in the storm: {error}"));
                    waits.fetch_add(1, Relaxed);
                }
            }));
        }
        while !done.load(Relaxed) {
            let watermark = || barrier.watermark().expect("a source to be trusted").ns;
            let outcome = Game::new(&cpus[1..], 20_000).every_edge(Rest::Roams, watermark);
            assert_eq!(outcome.broken, 0, "in the storm: stores were missed: {outcome:?}");
            games += outcome.judged;
        }
        drop(stop);
        for thread in threads {
            // Its words, not the scope's.
            thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
    online_all();
    let (unplugged, waits) = (unplugged.into_inner(), waits.into_inner());
    println!("  {unplugged} times unplugged, {waits} waits, {games} barriers judged by the game");
    assert!(unplugged >= cycles && waits > 0 && games > 0, "a storm in a teacup");
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
