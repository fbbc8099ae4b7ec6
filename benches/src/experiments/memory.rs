//! What waits to be freed, how long, and for whom.

use super::Experiment;
use crate::Bench;
use crate::cpus::StopOnDrop;
use crate::job::{self, Allocator};
use crate::options::Options;
use crate::picture::Lines;
use crate::report::{Better, Table};
use crate::schemes::{self, Headed, NOTHING_FREED, OURS, OVERVIEW, Scheme, Setting, Visitor};
use crate::stats::{Spread, number, per_mille, sorted};
use crate::turns::Samples;
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Relaxed,
};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "memory",
    title: "Memory",
    about: "\
Objects of 64 bytes whose destructor counts them, each scheme in a process of its own, the schemes in turn.

- *Busy*: two threads replace at full speed, each in a cell of its own, beside a reader. The most objects that were \
retired and not yet freed, as another thread saw it each ms, and by how much the process grew at its peak.
- *Stalled*: one reader stalls in its section (with hazard pointers: with one object in its hand), one thread \
replaces at full speed for a while. What waits at the end, and the curve.
- *Latency*: one thread replaces every 20 us beside a reader that never rests: from retirement to destructor.
- *Left alone*: then that thread stops and stays idle, and the reader leaves; nobody calls the library any more. \
How many objects are still not freed after a second, and when the last of the others went.

Throughput differs, so a fast scheme retires more in the same time: the objects retired stand beside.",
    run,
    job: Some(job),
};

/// Peaks are looked for so often.
const LOOK: Duration = Duration::from_millis(1);
/// Points of the stalled curve.
const POINTS: u32 = 24;
/// The paced writer's beat.
const EVERY: Duration = Duration::from_micros(20);

fn run(bench: &mut Bench) {
    let mut names = Names(Vec::new());
    schemes::each(&setting(bench), &mut names);
    let names: Vec<&str> = names.0.into_iter().filter(|name| *name != NOTHING_FREED).collect();
    let mut all: Vec<(&str, Samples)> =
        names.iter().map(|name| (*name, Samples::default())).collect();
    for _ in 0..bench.effort.pick(1, 5, 15) {
        for (name, own) in &mut all {
            for scenario in ["busy", "stalled", "paced"] {
                let task = format!("memory {scenario} {name}");
                match job::done(bench, Allocator::System, &task, Duration::from_secs(60)) {
                    Ok(samples) => {
                        for (what, rounds) in samples.names.iter().zip(&samples.rounds) {
                            rounds.iter().for_each(|value| own.push(what, *value));
                        }
                    }
                    Err(error) => bench.report.miss(error),
                }
            }
        }
    }
    tables(bench, &all);
    curve(bench, &all);
    let raw: Vec<(String, Samples)> = all
        .into_iter()
        .map(|(name, mut own)| {
            // Each object's latency would be megabytes: the table's percentiles are of all of them.
            if let Some(index) = own.index("latency us") {
                own.names.remove(index);
                own.rounds.remove(index);
            }
            (name.into(), own)
        })
        .collect();
    bench.report.raw("memory", "value", &raw);
}

fn setting(bench: &Bench) -> Setting {
    Setting { file: bench.live.as_ref().map(|live| live.file.clone()) }
}

fn tables(bench: &mut Bench, all: &[(&str, Samples)]) {
    let mut busy = Table::new(["", "most waiting", "of retired", "grew by, MiB"]);
    let mut stalled = Table::new(["", "waiting at the end", "of retired", "grew by, MiB"]);
    let mut latency =
        Table::new(["", "p50, us", "p99, us", "worst, us", "left after 1 s", "last one, ms"]);
    for (name, own) in all {
        let median =
            |what| own.of(what).map_or(String::new(), |spread: Spread| number(spread.median));
        busy.row([
            (*name).to_owned(),
            own.of("busy most").map_or(String::new(), |spread| spread.shown()),
            median("busy retired"),
            median("busy grew"),
        ]);
        stalled.row([
            (*name).to_owned(),
            own.of("stalled waiting").map_or(String::new(), |spread| spread.shown()),
            median("stalled retired"),
            median("stalled grew"),
        ]);
        let times = own.index("latency us").map(|index| sorted(own.rounds[index].iter().copied()));
        let times = times.unwrap_or_default();
        let at = |part| {
            if times.is_empty() { "none freed".into() } else { number(per_mille(&times, part)) }
        };
        latency.row([
            (*name).to_owned(),
            at(500),
            at(990),
            at(1000),
            median("left"),
            median("last ms"),
        ]);
        if OVERVIEW.contains(name) {
            let waiting = median("stalled waiting");
            let waiting =
                if *name == OURS { format!("{waiting}; {}", bounded(all)) } else { waiting };
            bench.report.headline("waiting behind a stalled reader, objects", name, waiting);
            bench.report.headline("retired to freed, p99, us", name, at(990));
            bench.report.headline(
                "never freed if nobody calls again, objects",
                name,
                median("left"),
            );
        }
    }
    for (what, called) in [
        ("busy most", "busy, most waiting"),
        ("stalled waiting", "waiting behind a stalled reader"),
        ("left", "left alone, never freed"),
    ] {
        let entries =
            all.iter().filter_map(|(name, own)| Some(((*name).to_owned(), own.of(what)?.median)));
        bench.report.contest(called, Better::Lower, entries.collect::<Vec<_>>());
    }
    for (part, called) in [(500, "p50"), (990, "p99")] {
        let entries = all.iter().filter_map(|(name, own)| {
            let times = sorted(own.rounds[own.index("latency us")?].iter().copied());
            Some(((*name).to_owned(), per_mille(&times, part)))
        });
        let what = format!("retired to freed, {called}, us");
        bench.report.contest(&what, Better::Lower, entries.collect::<Vec<_>>());
    }
    bench.report.table("Busy", &busy);
    bench.report.table("Stalled", &stalled);
    bench.report.table("Latency, and left alone", &latency);
}

/// Ours have ways to stall that keep little.
fn bounded(all: &[(&str, Samples)]) -> String {
    let ways = all.iter().filter_map(|(name, own)| {
        let way = [("robust guards", "robust guard"), ("hazard pointers", "hazard pointer")]
            .into_iter()
            .find_map(|(plural, one)| name.ends_with(plural).then_some(one))?;
        Some(format!("{way} {}", number(own.of("stalled waiting")?.median)))
    });
    ways.collect::<Vec<_>>().join(", ")
}

fn curve(bench: &mut Bench, all: &[(&str, Samples)]) {
    let series = all
        .iter()
        .map(|(name, own)| {
            let points = (1..=POINTS)
                .filter_map(|point| {
                    let at = own.of(&format!("stalled at {point}"))?;
                    Some((
                        f64::from(point) * stall(bench).as_secs_f64() * 1e3 / f64::from(POINTS),
                        at.median.max(1.0),
                    ))
                })
                .collect();
            ((*name).to_owned(), points)
        })
        .collect();
    let lines = Lines {
        title: "Objects that wait while one reader stalls".into(),
        x_is: "ms of stall".into(),
        y_is: "objects".into(),
        x_log: false,
        y_log: true,
        series,
    };
    bench.report.picture(
        "stalled",
        &lines.svg(),
        "objects that wait over the time of a stall, by scheme",
    );
}

fn stall(bench: &Bench) -> Duration {
    Duration::from_millis(bench.effort.pick(24, 240, 960))
}

struct Names(Vec<&'static str>);

impl Visitor for Names {
    fn visit<S: Scheme>(&mut self) {
        self.0.push(S::NAME);
    }
}

static FREED: AtomicU64 = AtomicU64::new(0);
/// How long objects took, ns, in the order of their frees; as many as there is room for.
static LATENCIES: [AtomicU64; 1 << 17] = [const { AtomicU64::new(0) }; 1 << 17];
static NOTED: AtomicUsize = AtomicUsize::new(0);
/// When the last destructor ran.
static LAST_NS: AtomicU64 = AtomicU64::new(0);

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000_000 + now.tv_nsec).unwrap_or(0)
}

/// 64 bytes and a header; when it was retired, 0 if that isn't asked.
#[repr(C)]
struct Item<S: Scheme> {
    header: S::Header,
    retired_ns: AtomicU64,
    body: [u64; 7],
}

// SAFETY: `repr(C)`, the header first.
unsafe impl<S: Scheme> Headed<S::Header> for Item<S> {}

impl<S: Scheme> Item<S> {
    fn made(guard: &S::Guard<'_>, n: u64) -> *mut Item<S> {
        S::alloc(
            guard,
            Item { header: S::Header::default(), retired_ns: AtomicU64::new(0), body: [n; 7] },
        )
    }
}

impl<S: Scheme> Drop for Item<S> {
    fn drop(&mut self) {
        FREED.fetch_add(1, Relaxed);
        let retired = *self.retired_ns.get_mut();
        if retired != 0 {
            let now = now_ns();
            LAST_NS.fetch_max(now, Relaxed);
            if let Some(place) = LATENCIES.get(NOTED.fetch_add(1, Relaxed)) {
                place.store(now.saturating_sub(retired).max(1), Relaxed);
            }
        }
    }
}

struct Slot<S: Scheme>(AtomicPtr<Item<S>>);

impl<S: Scheme> Slot<S> {
    fn new(scheme: &S) -> Slot<S> {
        let mut local = scheme.local();
        Slot(AtomicPtr::new(Item::made(&S::pin(&mut local), 0)))
    }

    fn replace(&self, local: &mut S::Local<'_>, n: u64, noted: bool) {
        let guard = S::pin(local);
        let old = self.0.swap(Item::made(&guard, n), AcqRel);
        if noted {
            // SAFETY: not retired yet; readers don't look at this word.
            unsafe { (*old).retired_ns.store(now_ns(), Relaxed) };
        }
        // SAFETY: from `alloc`, unlinked by the swap, which gives it to this thread alone.
        unsafe { S::retire(&guard, old) };
    }

    fn read(&self, local: &mut S::Local<'_>) {
        let mut guard = S::pin(local);
        // SAFETY: never null, protected.
        black_box(unsafe { (*S::protect(&mut guard, 0, &self.0)).body[0] });
    }
}

/// The process's peak so far, or its size now, in MiB.
fn mib(key: &str) -> f64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

fn job(what: &str, options: &Options) -> Result<Samples, String> {
    let (scenario, name) = what.split_once(' ').ok_or("memory SCENARIO SCHEME")?;
    let setting = Setting { file: options.file.clone() };
    let mut one = One { name, scenario, setting: setting.clone(), options, result: None };
    schemes::each(&setting, &mut one);
    one.result.ok_or_else(|| "no such scheme or scenario".into())
}

struct One<'a> {
    name: &'a str,
    scenario: &'a str,
    setting: Setting,
    options: &'a Options,
    result: Option<Samples>,
}

impl Visitor for One<'_> {
    fn visit<S: Scheme>(&mut self) {
        if S::NAME != self.name {
            return;
        }
        let effort = self.options.effort;
        let scheme = S::new(&self.setting);
        let mut samples = Samples::default();
        match self.scenario {
            "busy" => busy(&scheme, Duration::from_millis(effort.pick(20, 150, 500)), &mut samples),
            "stalled" => {
                stalled(&scheme, Duration::from_millis(effort.pick(24, 240, 960)), &mut samples);
            }
            "paced" => {
                let paced = Duration::from_millis(effort.pick(20, 300, 1000));
                left_alone(
                    &scheme,
                    paced,
                    Duration::from_millis(effort.pick(50, 1000, 1000)),
                    &mut samples,
                );
            }
            _ => return,
        }
        // What still waits ends with the process.
        std::mem::forget(scheme);
        self.result = Some(samples);
    }
}

fn busy<S: Scheme>(scheme: &S, time: Duration, samples: &mut Samples) {
    let (before, stop, retired) =
        (mib("VmRSS:"), AtomicBool::new(false), [const { AtomicU64::new(0) }; 2]);
    let slots = [Slot::new(scheme), Slot::new(scheme)];
    let mut most = 0;
    thread::scope(|scope| {
        let _end = StopOnDrop(&stop);
        for (slot, retired) in slots.iter().zip(&retired) {
            let stop = &stop;
            scope.spawn(move || {
                let mut local = scheme.local();
                for n in 1.. {
                    slot.replace(&mut local, n, false);
                    retired.store(n, Relaxed);
                    if n % 64 == 0 && stop.load(Relaxed) {
                        break;
                    }
                }
            });
        }
        scope.spawn(|| {
            let mut local = scheme.local();
            while !stop.load(Relaxed) {
                slots[0].read(&mut local);
            }
        });
        let begin = Instant::now();
        while begin.elapsed() < time {
            thread::sleep(LOOK);
            // Frees first: so what is retired meanwhile can only add.
            let freed = FREED.load(Relaxed);
            let all: u64 = retired.iter().map(|one| one.load(Relaxed)).sum();
            most = most.max(all.saturating_sub(freed));
        }
    });
    samples.push("busy most", most as f64);
    samples.push("busy retired", retired.iter().map(|one| one.load(Relaxed)).sum::<u64>() as f64);
    samples.push("busy grew", (mib("VmHWM:") - before).max(0.0));
}

fn stalled<S: Scheme>(scheme: &S, time: Duration, samples: &mut Samples) {
    let before = mib("VmRSS:");
    let slot = Slot::new(scheme);
    let ((inside, is_inside), (go, wait)) = (channel(), channel::<()>());
    let mut retired = 0;
    thread::scope(|scope| {
        let slot = &slot;
        scope.spawn(move || {
            let mut local = scheme.local();
            let mut guard = S::pin(&mut local);
            let held = S::protect(&mut guard, 0, &slot.0);
            let _ = inside.send(());
            let _ = wait.recv();
            // SAFETY: protected all the while.
            assert_eq!(unsafe { (*held).body[6] }, 0, "freed under a reader");
        });
        let _ = is_inside.recv();
        let mut local = scheme.local();
        let begin = Instant::now();
        for point in 1..=POINTS {
            while begin.elapsed() < time * point / POINTS {
                for _ in 0..64 {
                    retired += 1;
                    slot.replace(&mut local, retired, false);
                }
            }
            samples.push(
                &format!("stalled at {point}"),
                retired.saturating_sub(FREED.load(Relaxed)) as f64,
            );
        }
        samples.push("stalled waiting", retired.saturating_sub(FREED.load(Relaxed)) as f64);
        samples.push("stalled grew", (mib("VmHWM:") - before).max(0.0));
        drop(go);
    });
    samples.push("stalled retired", retired as f64);
}

fn left_alone<S: Scheme>(scheme: &S, time: Duration, after: Duration, samples: &mut Samples) {
    let (slot, stop) = (Slot::new(scheme), AtomicBool::new(false));
    // Not on the stack: it stays registered to the process's end.
    let local: &mut S::Local<'_> = Box::leak(Box::new(scheme.local()));
    let mut retired = 0;
    thread::scope(|scope| {
        let _end = StopOnDrop(&stop);
        scope.spawn(|| {
            let mut local = scheme.local();
            while !stop.load(Relaxed) {
                slot.read(&mut local);
            }
        });
        let begin = Instant::now();
        let mut next = begin;
        while begin.elapsed() < time {
            while Instant::now() < next {
                spin_loop();
            }
            next = Instant::now() + EVERY;
            retired += 1;
            slot.replace(local, retired, true);
        }
    });
    let stopped = now_ns();
    let freed = || FREED.load(Relaxed);
    let until = Instant::now() + after;
    while freed() < retired && Instant::now() < until {
        thread::sleep(LOOK);
    }
    samples.push("left", retired.saturating_sub(freed()) as f64);
    samples.push("last ms", LAST_NS.load(Relaxed).saturating_sub(stopped) as f64 / 1e6);
    let noted = NOTED.load(Relaxed).min(LATENCIES.len());
    for place in &LATENCIES[..noted] {
        samples.push("latency us", place.load(Relaxed) as f64 / 1e3);
    }
}
