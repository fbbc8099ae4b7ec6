//! What waits behind a stalled reader, and what is never freed if nobody calls again.

use super::Experiment;
use crate::Bench;
use crate::cpus::{self, StopOnDrop};
use crate::effort::Effort;
use crate::objects::{self, Scenarios, Slot, freed, last_freed_ns, mib, now_ns};
use crate::picture::Lines;
use crate::report::{Better, Table};
use crate::schemes::{AGAIN, OURS, OVERVIEW, Scheme};
use crate::stats::{Spread, number};
use crate::turns::Samples;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "memory",
    title: "Memory",
    about: "\
Objects of 64 bytes whose destructor counts them, each scheme in a process of its own, the schemes in turn.

- *Stalled*: one reader stalls in its section (with hazard pointers: with one object in its hand), one thread \
replaces at full speed for a while. What waits at the end, and the curve.
- *Left alone*: a thread that replaced every 20 us beside a reader stops and stays idle, and the reader leaves; nobody \
calls the library any more. How many objects are still not freed after a second, and when the last of the others went. \
(A whole program that lets go at once: `make compat` drops moka's caches beside busy and idle threads, \
tests/compat/moka/tests/drops.rs, and counts the values that are still there then: 0 on the drop-in.)

Throughput differs, so a fast scheme retires more in the same time: the objects retired stand beside.",
    run,
    job: Some(objects::job::<Memory>),
};

/// How often it is looked whether all are freed.
const LOOK: Duration = Duration::from_millis(1);
/// Points of the stalled curve.
const POINTS: u32 = 24;
/// The paced writer's beat.
const EVERY: Duration = Duration::from_micros(20);

fn run(bench: &mut Bench) {
    let rounds = bench.effort.pick(1, 3, 15);
    let all = objects::of_each_scheme(bench, "memory", &["stalled", "left"], rounds);
    tables(bench, &all);
    curve(bench, &all);
    let raw: Vec<(String, Samples)> =
        all.into_iter().map(|(name, own)| (name.into(), own)).collect();
    bench.report.raw("memory", "value", &raw);
}

fn tables(bench: &mut Bench, all: &[(&str, Samples)]) {
    let mut stalled = Table::new(["", "waiting at the end", "of retired", "grew by, MiB"]);
    let mut left = Table::new(["", "left after 1 s", "last one, ms"]);
    for (name, own) in all {
        let median =
            |what| own.of(what).map_or(String::new(), |spread: Spread| number(spread.median));
        stalled.row([
            (*name).to_owned(),
            own.of("stalled waiting").map_or(String::new(), |spread| spread.shown()),
            median("stalled retired"),
            median("stalled grew"),
        ]);
        left.row([(*name).to_owned(), median("left"), median("last ms")]);
        if OVERVIEW.contains(name) {
            let waiting = median("stalled waiting");
            let waiting =
                if *name == OURS { format!("{waiting}; {}", bounded(all)) } else { waiting };
            bench.report.headline("waiting behind a stalled reader, objects", name, waiting);
            bench.report.headline(
                "never freed if nobody calls again, objects",
                name,
                median("left"),
            );
        }
    }
    for (what, called) in [
        ("stalled waiting", "waiting behind a stalled reader"),
        ("left", "left alone, never freed"),
    ] {
        bench.report.contest(called, Better::Lower, objects::medians(all, what));
    }
    bench.report.table("Stalled", &stalled);
    bench.report.table("Left alone", &left);
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
        .filter(|(name, _)| *name != AGAIN)
        .map(|(name, own)| {
            let points = (1..=POINTS)
                .filter_map(|point| {
                    let at = own.of(&format!("stalled at {point}"))?;
                    Some((
                        f64::from(point) * stall(bench.effort).as_secs_f64() * 1e3
                            / f64::from(POINTS),
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
        better: Some(Better::Lower),
    };
    bench.report.picture("stalled", lines, "objects that wait over the time of a stall, by scheme");
}

fn stall(effort: Effort) -> Duration {
    Duration::from_millis(effort.pick(24, 240, 960))
}

struct Memory;

impl Scenarios for Memory {
    fn run<S: Scheme>(scenario: &str, scheme: &S, effort: Effort, samples: &mut Samples) -> bool {
        match scenario {
            "stalled" => stalled(scheme, stall(effort), samples),
            "left" => {
                let paced = Duration::from_millis(effort.pick(20, 100, 300));
                let after = Duration::from_millis(effort.pick(50, 1000, 1000));
                left_alone(scheme, paced, after, samples);
            }
            _ => return false,
        }
        true
    }
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
            let held = S::protect(&mut guard, 0, slot.pointer());
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
            samples.push(&format!("stalled at {point}"), retired.saturating_sub(freed()) as f64);
        }
        samples.push("stalled waiting", retired.saturating_sub(freed()) as f64);
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
        scope.spawn(|| slot.read_until(scheme, &stop));
        let begin = Instant::now();
        let mut next = begin;
        while begin.elapsed() < time {
            cpus::spin_until(next);
            next = Instant::now() + EVERY;
            retired += 1;
            slot.replace(local, retired, true);
        }
    });
    let stopped = now_ns();
    let until = Instant::now() + after;
    while freed() < retired && Instant::now() < until {
        thread::sleep(LOOK);
    }
    samples.push("left", retired.saturating_sub(freed()) as f64);
    samples.push("last ms", last_freed_ns().saturating_sub(stopped) as f64 / 1e6);
}
