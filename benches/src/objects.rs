//! Objects of 64 bytes whose destructor counts them, and a slot that one thread replaces and others read.
//!
//! What the experiments on memory, latency and flushes share: the counts are the process's, so each scheme has a
//! process of its own (`job.rs`), in turn with the others ([`of_each_scheme`]).

use crate::Bench;
use crate::effort::Effort;
use crate::job::{self, Allocator};
use crate::options::Options;
use crate::schemes::{self, Headed, NOTHING_FREED, Scheme, Setting, Visitor};
use crate::structures::Line;
use crate::turns::Samples;
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::hint::black_box;
use std::marker::PhantomData;
use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Relaxed,
};

/// Counts of frees, so many that busy threads don't share one.
const STRIPES: usize = 16;
static FREED: [Line<AtomicU64>; STRIPES] = [const { Line(AtomicU64::new(0)) }; STRIPES];
static NEXT_STRIPE: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    static STRIPE: usize = NEXT_STRIPE.fetch_add(1, Relaxed) % STRIPES;
}

/// How long objects took, ns, in the order of their frees; as many as there is room for.
static LATENCIES: [AtomicU64; 1 << 17] = [const { AtomicU64::new(0) }; 1 << 17];
static NOTED: AtomicUsize = AtomicUsize::new(0);
/// When the last noted object's destructor ran.
static LAST_NS: AtomicU64 = AtomicU64::new(0);

/// Returns how many objects have been freed in this process.
pub(crate) fn freed() -> u64 {
    FREED.iter().map(|one| one.0.load(Relaxed)).sum()
}

/// Returns how many objects are noted.
pub(crate) fn noted() -> usize {
    NOTED.load(Relaxed).min(LATENCIES.len())
}

/// Returns how long the noted objects after the first `skipped` took from retirement to destructor, in microseconds.
pub(crate) fn latencies_us(skipped: usize) -> impl Iterator<Item = f64> {
    LATENCIES[skipped..noted()].iter().map(|place| place.load(Relaxed) as f64 / 1e3)
}

/// Returns when the last noted object was freed, as [`now_ns`] counts.
pub(crate) fn last_freed_ns() -> u64 {
    LAST_NS.load(Relaxed)
}

pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000_000 + now.tv_nsec).unwrap_or(0)
}

/// Returns a line of the process's status in MiB: its peak so far (`VmHWM:`), or its size now (`VmRSS:`).
pub(crate) fn mib(key: &str) -> f64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// 64 bytes and a header; when it was retired, 0 if that isn't asked.
#[repr(C)]
pub(crate) struct Item<S: Scheme> {
    header: S::Header,
    retired_ns: AtomicU64,
    pub(crate) body: [u64; 7],
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
        FREED[STRIPE.with(|stripe| *stripe)].0.fetch_add(1, Relaxed);
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

/// A cell on a line of its own.
pub(crate) struct Slot<S: Scheme>(Line<AtomicPtr<Item<S>>>);

impl<S: Scheme> Slot<S> {
    pub(crate) fn new(scheme: &S) -> Slot<S> {
        let mut local = scheme.local();
        Slot(Line(AtomicPtr::new(Item::made(&S::pin(&mut local), 0))))
    }

    pub(crate) fn pointer(&self) -> &AtomicPtr<Item<S>> {
        &self.0.0
    }

    /// Replaces the object; `noted`: how long the old one takes from here to its destructor.
    pub(crate) fn replace(&self, local: &mut S::Local<'_>, n: u64, noted: bool) {
        let guard = S::pin(local);
        let old = self.pointer().swap(Item::made(&guard, n), AcqRel);
        if noted {
            // SAFETY: not retired yet; readers don't look at this word.
            unsafe { (*old).retired_ns.store(now_ns(), Relaxed) };
        }
        // SAFETY: from `alloc`, unlinked by the swap, which gives it to this thread alone.
        unsafe { S::retire(&guard, old) };
    }

    pub(crate) fn read(&self, local: &mut S::Local<'_>) {
        let mut guard = S::pin(local);
        // SAFETY: never null, protected.
        black_box(unsafe { (*S::protect(&mut guard, 0, self.pointer())).body[0] });
    }

    /// Reads without a rest until it is told to stop.
    pub(crate) fn read_until(&self, scheme: &S, stop: &AtomicBool) {
        let mut local = scheme.local();
        while !stop.load(Relaxed) {
            self.read(&mut local);
        }
    }
}

/// An experiment's scenarios, each in a process of its own.
pub(crate) trait Scenarios {
    /// Runs one of them; returns false if there is none of that name, or none for this scheme.
    fn run<S: Scheme>(scenario: &str, scheme: &S, effort: Effort, samples: &mut Samples) -> bool;
}

/// Returns the samples of each scheme that frees, scenario after scenario in each round, the schemes in turn.
pub(crate) fn of_each_scheme(
    bench: &mut Bench,
    experiment: &str,
    scenarios: &[&str],
    rounds: usize,
) -> Vec<(&'static str, Samples)> {
    let mut names = schemes::names(&setting(bench));
    names.retain(|name| *name != NOTHING_FREED);
    job::in_turn(bench, Allocator::System, experiment, scenarios, &names, rounds)
}

/// Returns each scheme's median of `what`, where it has one.
pub(crate) fn medians(all: &[(&str, Samples)], what: &str) -> Vec<(String, f64)> {
    all.iter().filter_map(|(name, own)| Some(((*name).to_owned(), own.of(what)?.median))).collect()
}

/// What the contestants are made with, in the program that starts the jobs.
pub(crate) fn setting(bench: &Bench) -> Setting {
    Setting::on(bench.live.as_ref().map(|live| live.file.clone()))
}

/// The other side of [`of_each_scheme`]: `SCENARIO SCHEME`.
pub(crate) fn job<W: Scenarios>(what: &str, options: &Options) -> Result<Samples, String> {
    let (scenario, name) = what.split_once(' ').ok_or("SCENARIO SCHEME")?;
    let setting = Setting::on(options.file.clone());
    let effort = options.effort;
    let mut one = One::<W> {
        name,
        scenario,
        setting: setting.clone(),
        effort,
        result: None,
        of: PhantomData,
    };
    schemes::each(&setting, &mut one);
    one.result.ok_or_else(|| "no such scheme or scenario".into())
}

struct One<'a, W> {
    name: &'a str,
    scenario: &'a str,
    setting: Setting,
    effort: Effort,
    result: Option<Samples>,
    of: PhantomData<W>,
}

impl<W: Scenarios> Visitor for One<'_, W> {
    fn visit<S: Scheme>(&mut self) {
        if S::NAME != self.name {
            return;
        }
        let scheme = S::new(&self.setting);
        let mut samples = Samples::default();
        if W::run(self.scenario, &scheme, self.effort, &mut samples) {
            self.result = Some(samples);
        }
        // What still waits ends with the process.
        std::mem::forget(scheme);
    }
}
