//! What waits behind a limit in bytes, and what a retirement then waits for.

use super::Experiment;
use crate::Bench;
use crate::cpus::{self, StopOnDrop};
use crate::job::{self, Allocator};
use crate::options::Options;
use crate::report::{Better, Table};
use crate::schemes::{self, Headed, OURS, PEER, Scheme, Setting, Visitor};
use crate::stats::{per_mille, sorted};
use crate::turns::Samples;
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering::AcqRel, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "limits",
    title: "Memory behind a limit",
    about: "\
One thread replaces an object of 16 KiB every 20 us, and retires the old one outside of its sections; beside it a reader that \
stalls in its section, or one whose sections last a millisecond each, one after another. This project's reclaimer may have a \
limit in bytes (`limit_bytes`, here 1 MiB): above it, `retire` makes a barrier pass at once, and with `OnLimit::Block` waits for \
readers, here for 10 ms at most. Of the peers none has a limit. *Most* is what waited after a retirement, by the objects that \
were not freed; what a retirement took is without the allocation. The limit is looked at once in a bag, so 64 objects of a thread may \
wait above it. A plain section holds back all that is retired during it, whatever the limit; a robust guard what it may hold. \
Whoever waits retires less in the same time.",
    run,
    job: Some(job),
};

const READERS: [(&str, &str); 2] =
    [("stalled", "beside a stalled reader"), ("slow", "beside sections of a ms")];
/// What the report says, the scheme, and how long a retirement may wait; nothing: there is no limit.
const CONTESTANTS: [(&str, &str, Option<Duration>); 9] = [
    ("barrierd, limit", OURS, Some(Duration::ZERO)),
    ("barrierd, limit, waits", OURS, Some(WAIT)),
    ("barrierd, robust guards, limit, waits", "barrierd, robust guards", Some(WAIT)),
    ("barrierd, no limit", OURS, None),
    (PEER, PEER, None),
    ("seize", "seize", None),
    ("haphazard", "haphazard", None),
    ("sdd", "sdd", None),
    ("kovan", "kovan", None),
];
const LIMIT: u64 = 1 << 20;
const WAIT: Duration = Duration::from_millis(10);
const BYTES: usize = 16 << 10;
const EVERY: Duration = Duration::from_micros(20);
const SECTION: Duration = Duration::from_millis(1);
/// What is measured, and what the report calls it.
const FIGURES: [(&str, &str); 5] = [
    ("most", "most waiting, MiB"),
    ("p50", "a retirement, p50, us"),
    ("p99", "p99"),
    ("worst", "worst"),
    ("retired", "retired"),
];

fn run(bench: &mut Bench) {
    let names = CONTESTANTS.map(|(called, ..)| called);
    let rounds = bench.effort.pick(1, 3, 9);
    let scenarios = READERS.map(|(reader, _)| reader);
    let all = job::in_turn(bench, Allocator::System, "limits", &scenarios, &names, rounds);
    for (reader, called) in READERS {
        let mut table = Table::new(std::iter::once("").chain(FIGURES.map(|(_, called)| called)));
        for (name, own) in &all {
            let shown = FIGURES.map(|(figure, _)| {
                own.of(&format!("{reader} {figure}")).map_or(String::new(), |it| it.shown())
            });
            table.row(std::iter::once((*name).to_owned()).chain(shown));
        }
        for (figure, unit) in [("most", "most waiting, MiB"), ("p99", "a retirement, p99, us")] {
            let row = format!("large objects {called}: {unit}");
            let entries = crate::objects::medians(&all, &format!("{reader} {figure}"));
            bench.report.contest(&row, Better::Lower, entries);
        }
        bench.report.table(&format!("Large objects {called}"), &table);
    }
    let raw: Vec<(String, Samples)> =
        all.into_iter().map(|(name, own)| (name.into(), own)).collect();
    bench.report.raw("limits", "MiB, us, or objects", &raw);
}

fn job(what: &str, options: &Options) -> Result<Samples, String> {
    let (reader, called) = what.split_once(' ').ok_or("READER CONTESTANT")?;
    let found = CONTESTANTS.iter().find(|(own, ..)| *own == called);
    let &(_, scheme, wait) = found.ok_or("no such contestant")?;
    let mut setting = Setting::on(options.file.clone());
    setting.limit = wait.map(|most| (LIMIT, most));
    let time = Duration::from_millis(options.effort.pick(10, 100, 300));
    let mut one = One { scheme, reader, setting, time, samples: Samples::default() };
    schemes::each(&Setting::on(options.file.clone()), &mut one);
    Ok(one.samples)
}

struct One<'a> {
    scheme: &'a str,
    reader: &'a str,
    setting: Setting,
    time: Duration,
    samples: Samples,
}

impl Visitor for One<'_> {
    fn visit<S: Scheme>(&mut self) {
        if S::NAME == self.scheme {
            let scheme = S::new(&self.setting);
            beside(&scheme, self.reader, self.time, &mut self.samples);
            // What still waits ends with the process.
            std::mem::forget(scheme);
        }
    }
}

static FREED: AtomicU64 = AtomicU64::new(0);

#[repr(C)]
struct Large<S: Scheme> {
    header: S::Header,
    body: [u8; BYTES],
}

// SAFETY: `repr(C)`, the header first.
unsafe impl<S: Scheme> Headed<S::Header> for Large<S> {}

impl<S: Scheme> Drop for Large<S> {
    fn drop(&mut self) {
        FREED.fetch_add(1, Relaxed);
    }
}

fn made<S: Scheme>(local: &mut S::Local<'_>) -> *mut Large<S> {
    S::alloc(&S::pin(local), Large { header: S::Header::default(), body: [7; BYTES] })
}

fn beside<S: Scheme>(scheme: &S, reader: &str, time: Duration, samples: &mut Samples) {
    let (stop, inside) = (AtomicBool::new(false), Barrier::new(2));
    let mut local = scheme.local();
    let slot = AtomicPtr::new(made::<S>(&mut local));
    let read_for = |local: &mut S::Local<'_>, until: &dyn Fn() -> bool| {
        let mut guard = S::pin(local);
        // SAFETY: never null, protected.
        black_box(unsafe { &(*S::protect(&mut guard, 0, &slot)).body });
        while !until() {
            std::hint::spin_loop();
        }
    };
    thread::scope(|scope| {
        let _end = StopOnDrop(&stop);
        scope.spawn(|| {
            let mut local = scheme.local();
            let stopped = || stop.load(Relaxed);
            if reader == "stalled" {
                let mut guard = S::pin(&mut local);
                let held = S::protect(&mut guard, 0, &slot);
                inside.wait();
                while !stopped() {
                    thread::sleep(SECTION);
                }
                // SAFETY: protected all the while.
                assert_eq!(unsafe { (*held).body[BYTES - 1] }, 7, "freed under a reader");
                return;
            }
            inside.wait();
            while !stopped() {
                let until = Instant::now() + SECTION;
                read_for(&mut local, &|| Instant::now() >= until || stopped());
            }
        });
        inside.wait();
        let (begin, mut retired, mut most) = (Instant::now(), 0u64, 0u64);
        let (mut next, mut times) = (begin, Vec::new());
        while begin.elapsed() < time {
            cpus::spin_until(next);
            next = Instant::now() + EVERY;
            let old = slot.swap(made::<S>(&mut local), AcqRel);
            let from = Instant::now();
            // SAFETY: from `alloc`, unlinked by the swap, which gives it to this thread alone.
            unsafe { S::retire_alone(&mut local, old) };
            times.push(from.elapsed().as_secs_f64() * 1e6);
            retired += 1;
            most = most.max(retired.saturating_sub(FREED.load(Relaxed)));
        }
        let times = sorted(times);
        let mut push = |figure: &str, value| samples.push(&format!("{reader} {figure}"), value);
        push("most", (most * BYTES as u64) as f64 / f64::from(1 << 20));
        push("p50", per_mille(&times, 500));
        push("p99", per_mille(&times, 990));
        push("worst", per_mille(&times, 1000));
        push("retired", retired as f64);
    });
}
