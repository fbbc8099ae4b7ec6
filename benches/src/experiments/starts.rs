//! What a scheme costs where it is not used in a steady loop: first uses, threads that come and go, domains, sleepers.

use super::Experiment;
use crate::Bench;
use crate::job::{self, Allocator};
use crate::objects::{self, Slot, mib};
use crate::options::Options;
use crate::report::{Better, Table};
use crate::schemes::{self, Scheme, Setting, Visitor};
use crate::turns::Samples;
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "starts",
    title: "First uses, short threads, sleepers",
    about: "\
Each figure is of a process of its own, the schemes in turn.

- *First section of a process*: a domain is made, a thread joins it and opens and closes its first section.
- *First section of a thread*: the same of a thread in a domain that has been used, without the making of the thread.
- *A thread that lives for one replacement*: it is started, joins, replaces and retires an object of 64 bytes, leaves, and is \
joined. The row in which nothing is freed is the thread itself.
- *One more domain*: so many are made, used once, and kept; the time for each, and the memory; then a section in each of them in turn, \
and the time until one is dropped. (liburcu, sdd and kovan have one domain for a process, so their first two figures are a section's.)
- *Replace and retire beside sleepers*: one thread replaces again and again, beside so many that have joined the domain, read \
once, done what the scheme's documentation asks of a thread that rests, and sleep.",
    run,
    job: Some(job),
};

/// The scenario, and what the report calls its figure.
const ROWS: [(&str, &str); 10] = [
    ("process", "first section of a process, us"),
    ("thread", "first section of a thread, ns"),
    ("churn", "a thread that lives for one replacement, us"),
    ("domain", "one more domain, us"),
    ("domain KiB", "memory of one more domain, KiB"),
    ("domain section", "a section in one of 200 domains in turn, ns"),
    ("domain drop", "dropping one of 200 domains, us"),
    ("sleepers 0", "replace and retire beside no sleeper, ns"),
    ("sleepers 100", "replace and retire beside 100 sleepers, ns"),
    ("sleepers 1000", "replace and retire beside 1,000 sleepers, ns"),
];
const SCENARIOS: [&str; 6] =
    ["process", "thread", "churn", "domain", "sleepers+100", "sleepers+1000"];

fn run(bench: &mut Bench) {
    let names = schemes::names(&objects::setting(bench));
    let rounds = bench.effort.pick(1, 5, 15);
    let all = job::in_turn(bench, Allocator::System, "starts", &SCENARIOS, &names, rounds);
    let mut table = Table::new(std::iter::once("").chain(ROWS.map(|(_, called)| called)));
    for (name, own) in &all {
        let shown = ROWS.map(|(row, _)| own.of(row).map_or(String::new(), |it| it.shown()));
        table.row(std::iter::once((*name).to_owned()).chain(shown));
    }
    bench.report.table("", &table);
    for (row, called) in ROWS {
        let entries = all
            .iter()
            .filter_map(|(name, own)| Some(((*name).to_owned(), own.of(row)?.median)))
            .collect::<Vec<_>>();
        bench.report.contest(called, Better::Lower, entries);
    }
    let raw: Vec<(String, Samples)> =
        all.into_iter().map(|(name, own)| (name.into(), own)).collect();
    bench.report.raw("starts", "us, ns, or KiB", &raw);
}

fn job(what: &str, options: &Options) -> Result<Samples, String> {
    let (scenario, name) = what.split_once(' ').ok_or("SCENARIO SCHEME")?;
    let setting = Setting::on(options.file.clone());
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
        let mut samples = Samples::default();
        let pick = |smoke: u32, short, full| self.options.effort.pick(smoke, short, full);
        match self.scenario.split_once('+').unwrap_or((self.scenario, "")) {
            ("process", _) => samples.push("process", first_section::<S>(&self.setting) / 1e3),
            ("thread", _) => threads::<S>(&self.setting, pick(4, 100, 400), &mut samples),
            ("churn", _) => churn::<S>(&self.setting, pick(4, 200, 1000), &mut samples),
            ("domain", _) => domains::<S>(&self.setting, pick(4, 200, 1000), &mut samples),
            ("sleepers", count) => {
                let Ok(count) = count.parse() else { return };
                sleepers::<S>(&self.setting, count, pick(100, 50_000, 200_000), &mut samples);
            }
            _ => return,
        }
        self.result = Some(samples);
    }
}

/// How often each of many domains has its turn.
const TURNS: u32 = 20;

fn ns(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e9
}

/// Returns how long a domain and its first section take. The domain stays.
fn first_section<S: Scheme>(setting: &Setting) -> f64 {
    let begin = Instant::now();
    let scheme = black_box(S::new(setting));
    let mut local = scheme.local();
    drop(black_box(S::pin(&mut local)));
    let took = ns(begin);
    // Without destructors: what comes next is the process's end.
    std::mem::forget(local);
    std::mem::forget(scheme);
    took
}

fn threads<S: Scheme>(setting: &Setting, count: u32, samples: &mut Samples) {
    let scheme = S::new(setting);
    let slot = Slot::new(&scheme);
    slot.read(&mut scheme.local());
    let mut all: Vec<f64> = Vec::new();
    for _ in 0..count {
        thread::scope(|scope| {
            let (scheme, slot) = (&scheme, &slot);
            let one = scope.spawn(move || {
                let begin = Instant::now();
                let mut local = scheme.local();
                slot.read(&mut local);
                ns(begin)
            });
            all.extend(one.join());
        });
    }
    all.sort_by(f64::total_cmp);
    samples.push("thread", all[all.len() / 2]);
    std::mem::forget(scheme);
}

fn churn<S: Scheme>(setting: &Setting, count: u32, samples: &mut Samples) {
    let scheme = S::new(setting);
    let slot = Slot::new(&scheme);
    let begin = Instant::now();
    for n in 0..count {
        thread::scope(|scope| {
            scope.spawn(|| slot.replace(&mut scheme.local(), n.into(), false));
        });
    }
    samples.push("churn", ns(begin) / f64::from(count) / 1e3);
    std::mem::forget(scheme);
}

fn domains<S: Scheme>(setting: &Setting, count: u32, samples: &mut Samples) {
    let first = S::new(setting);
    drop(S::pin(&mut first.local()));
    let (before, begin) = (mib("VmRSS:"), Instant::now());
    let all: Vec<S> = (0..count)
        .map(|_| {
            let scheme = S::new(setting);
            drop(S::pin(&mut scheme.local()));
            scheme
        })
        .collect();
    samples.push("domain", ns(begin) / f64::from(count) / 1e3);
    samples.push("domain KiB", (mib("VmRSS:") - before) * 1024.0 / f64::from(count));
    if S::OF_PROCESS {
        return std::mem::forget((first, all));
    }
    let mut locals: Vec<S::Local<'_>> = all.iter().map(S::local).collect();
    let mut turn = || locals.iter_mut().for_each(|local| drop(black_box(S::pin(local))));
    turn();
    let begin = Instant::now();
    (0..TURNS).for_each(|_| turn());
    samples.push("domain section", ns(begin) / f64::from(count * TURNS));
    drop(locals);
    let begin = Instant::now();
    drop(all);
    samples.push("domain drop", ns(begin) / f64::from(count) / 1e3);
    std::mem::forget(first);
}

fn sleepers<S: Scheme>(setting: &Setting, count: usize, times: u32, samples: &mut Samples) {
    let scheme = S::new(setting);
    let slot = Slot::new(&scheme);
    let (asleep, end) = (Barrier::new(count + 1), Barrier::new(count + 1));
    let mut local = scheme.local();
    let mut replace = |name: &str| {
        for n in 0..times / 4 {
            slot.replace(&mut local, n.into(), false);
        }
        let begin = Instant::now();
        for n in 0..times {
            slot.replace(&mut local, n.into(), false);
        }
        samples.push(name, ns(begin) / f64::from(times));
    };
    if count == 100 {
        replace("sleepers 0");
    }
    thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| {
                let mut local = scheme.local();
                slot.read(&mut local);
                S::rest(&mut local);
                asleep.wait();
                end.wait();
            });
        }
        asleep.wait();
        replace(&format!("sleepers {count}"));
        end.wait();
    });
    drop(local);
    std::mem::forget(scheme);
}
