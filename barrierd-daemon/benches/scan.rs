//! What a scan costs as a function of CPUs: the pure machine, and the slots that it reads.
//!
//! `cargo bench -p barrierd-daemon --bench scan`; needs no root. The slots lie 128 bytes apart in shared
//! memory, as in the BPF map. Before each scan another thread's stores would have taken their lines
//! away; here one thread stores them itself and, for the cold rows, drops them from the caches by
//! walking other memory, so "cold" is what a scan after milliseconds of other work costs.

use std::hint::black_box;
use std::os::fd::AsFd;
use std::time::Instant;

use barrierd_bpf::layout::{CONTROL_BYTES, SLOT_BYTES};
use barrierd_daemon::cpulist::CpuSet;
use barrierd_daemon::machine::{Inherited, Machine, Scan};
use barrierd_daemon::shared_words::SharedWords;
use barrierd_daemon::words::Words;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

/// Larger than the caches that a scan may find its slots in.
const CLUTTER_BYTES: usize = 64 << 20;

/// Bytes of a cache line.
const LINE: usize = 64;

fn main() {
    println!("scan of the slots, median in ns (a CPU's share)");
    println!("  {:>5}{:>22}{:>22}{:>22}{:>22}", "CPUs", "slots", "rules", "both", "both, cold");
    let mut clutter = vec![1u8; CLUTTER_BYTES];
    for cpus in [2, 64, 512, 4096] {
        let mut bench = Bench::new(cpus);
        let warm = 2_000_000 / cpus.max(64);
        let slots = median(warm, || {}, || bench.read());
        let rules = median(warm, || {}, || bench.rules());
        let both = median(warm, || {}, || bench.both());
        let walk = || {
            clutter.iter_mut().step_by(LINE).for_each(|byte| *byte = byte.wrapping_add(1));
            black_box(&clutter);
        };
        let cold = median(31, walk, || bench.both());
        let shown =
            |ns: f64| format!("{ns:.0} ({:.2})", ns / f64::from(u32::try_from(cpus).expect("few")));
        println!(
            "  {cpus:>5}{:>22}{:>22}{:>22}{:>22}",
            shown(slots),
            shown(rules),
            shown(both),
            shown(cold)
        );
    }
}

/// One machine, three CPUs of four busy, the rest idle.
struct Bench {
    shared: SharedWords,
    slots: Box<[u64]>,
    online: CpuSet,
    machine: Machine,
    s: u64,
}

impl Bench {
    fn new(cpus: usize) -> Self {
        let memory = |len: usize| {
            let fd = memfd_create("scan", MemfdFlags::CLOEXEC).expect("memfd");
            ftruncate(&fd, u64::try_from(len).expect("small")).expect("room");
            fd
        };
        let (slots, control) = (memory(cpus * SLOT_BYTES), memory(CONTROL_BYTES));
        let words = Words::map(slots.as_fd(), cpus * SLOT_BYTES).expect("mapped");
        for cpu in 0..cpus {
            let value =
                if cpu % 4 == 3 { u64::MAX } else { 1_000 + u64::try_from(cpu).expect("few") };
            words.store(cpu * SLOT_BYTES, value);
        }
        Self {
            shared: SharedWords::map(slots.as_fd(), control.as_fd(), cpus).expect("mapped"),
            slots: vec![0; cpus].into(),
            online: CpuSet::all(cpus),
            machine: Machine::new(cpus, Inherited::default()),
            s: 1_000_000,
        }
    }

    fn read(&mut self) {
        self.shared.read_slots(black_box(&mut self.slots));
    }

    fn rules(&mut self) {
        self.s += 1;
        let (s, online, slots) = (self.s, &self.online, &self.slots);
        black_box(self.machine.scan(&Scan { s, online, own: 0, slots, idle_trusted: true }));
    }

    fn both(&mut self) {
        self.read();
        self.rules();
    }
}

/// The median of so many runs of `work`, each after `before`, in nanoseconds; short work is timed in
/// batches.
fn median(runs: usize, mut before: impl FnMut(), mut work: impl FnMut()) -> f64 {
    let batch = if runs > 100 { 16 } else { 1 };
    let mut took: Vec<f64> = (0..runs.div_ceil(batch))
        .map(|_| {
            before();
            let begin = Instant::now();
            (0..batch).for_each(|_| work());
            begin.elapsed().as_secs_f64() * 1e9 / f64::from(u32::try_from(batch).expect("few"))
        })
        .collect();
    took.sort_unstable_by(f64::total_cmp);
    took[took.len() / 2]
}
