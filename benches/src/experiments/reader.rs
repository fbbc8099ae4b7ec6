//! What a reader pays for a section, for a pointer, for a walk.

use super::Experiment;
use crate::Bench;
use crate::cpus;
use crate::instructions::{self, barrierd_bench_counted};
use crate::job::{self, Allocator};
use crate::options::Options;
use crate::picture::Bars;
use crate::report::{Better, Table};
use crate::schemes::{AGAIN, HANDLE, OURS, PEER, Setting};
use crate::stats::{Spread, number};
use crate::turns::{self, Contestant, Samples};
use barrierd_reclaim::Reclaimer;
use std::hint::black_box;
use std::sync::atomic::{AtomicPtr, Ordering::Acquire, Ordering::SeqCst, compiler_fence, fence};
use std::time::{Duration, Instant};

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "reader",
    title: "What a reader pays",
    about: "\
Three things that a reader does, on one thread, nothing else going on: open and close a section; in it, load a \
pointer and look at what it leads to; in it, follow a list of 16 nodes, all in the first cache. Hazard pointers \
(ours, and haphazard's) have no section: they protect the pointer, or hand over hand each of the 16. They are \
kept for many walks, not taken anew each time.

Bounds: an empty loop, and the same loads with no reclamation at all. liburcu's loops are in C, inlined; a section \
of its qsbr ends with a quiescent state, which a program may do more seldom. `global` means without a handle, \
found by the thread.",
    run,
    job: Some(job),
};

const SECTION: &str = "open and close a section";
const READ: &str = "the same, with a pointer loaded and followed";
const WALK: &str = "the same, with a list of 16 nodes walked";
const DISCIPLINES: [&str; 3] = [SECTION, READ, WALK];

/// Operations in a turn.
fn batch(discipline: &str) -> u64 {
    if discipline == WALK { 2_000 } else { 20_000 }
}

/// Between discipline and contestant, in jobs' output.
const BAR: &str = "|";

const GLOBAL: &str = "barrierd, global";
const DROP_IN: &str = "barrierd, epoch drop-in";
const WAYS: [&str; 3] = [GLOBAL, HANDLE, DROP_IN];
/// Nodes of the list that is walked.
const NODES: u32 = 16;

fn run(bench: &mut Bench) {
    let times = match job::done(bench, Allocator::System, "reader times", Duration::from_secs(120))
    {
        Ok(times) => times,
        Err(error) => return bench.report.miss(error),
    };
    let counts = match instructions::count(bench, "reader count") {
        Ok(counts) => counts,
        Err(error) => {
            bench.report.miss(format!("instructions: {error}"));
            Vec::new()
        }
    };
    let mut bars = Bars {
        title: "A reader's section, ns (median, quartiles)".into(),
        better: Some(Better::Lower),
        ..Bars::default()
    };
    for discipline in DISCIPLINES {
        let mut table = Table::new(["", "ns", "x of crossbeam-epoch", "instructions"]);
        let mut group = Vec::new();
        for (index, name) in times.names.iter().enumerate() {
            let Some((own, who)) = name.split_once(BAR) else { continue };
            let (true, Some(spread)) = (own == discipline, times.of(name)) else { continue };
            let peer = times.ratio(name, &format!("{discipline}{BAR}{PEER}"));
            let ratio = peer.map_or(String::new(), |ratio| number(ratio.median));
            let per = f64::from(u32::try_from(batch(discipline)).expect("small"));
            let count = counts.get(index).map_or(String::new(), |count| number(count / per));
            table.row([who.to_owned(), spread.shown(), ratio, count]);
            group.push((who.to_owned(), spread));
        }
        let entries: Vec<(String, f64)> = group
            .iter()
            .map(|(who, spread): &(String, Spread)| (who.clone(), spread.median))
            .collect();
        bench.report.contest(&format!("{discipline}, ns"), Better::Lower, entries.clone());
        bench.report.principal_robust(&format!("{discipline}, ns"), Better::Lower, entries.clone());
        // Each of the three ways to a section against all others.
        for way in WAYS.into_iter().filter(|_| discipline == SECTION) {
            let what = format!("{discipline}, ns");
            bench.report.principal_of(&what, Better::Lower, entries.clone(), way);
        }
        bench.report.table(discipline, &table);
        bars.groups.push((discipline.into(), group));
        let named = |who| format!("{discipline}{BAR}{who}");
        if let Some(ratio) =
            times.ratio(&named(PEER), &named(HANDLE)).filter(|_| discipline == WALK)
        {
            bench.facts.insert("x epoch: walk", ratio.median);
        }
        for (column, who) in [
            (OURS, HANDLE),
            (PEER, PEER),
            ("seize", "seize"),
            ("haphazard", "haphazard"),
            ("sdd", "sdd"),
            ("kovan", "kovan"),
            ("liburcu memb", "liburcu memb"),
        ] {
            if let Some(spread) = times.of(&format!("{discipline}{BAR}{who}")) {
                bench.report.headline(&format!("{discipline}, ns"), column, number(spread.median));
            }
        }
    }
    bench.report.picture("reader", bars, "nanoseconds of a reader's section, by scheme");
    bench.report.raw("reader", "ns", &[("one thread".into(), times)]);
}

fn job(what: &str, options: &Options) -> Result<Samples, String> {
    let setting = Setting::on(options.file.clone());
    let mut all = contestants(&setting, NODES);
    if what == "count" {
        for (discipline, _, work) in &mut all {
            let n = batch(discipline);
            work(n);
            barrierd_bench_counted(&mut || work(n));
        }
        return Ok(Samples::default());
    }
    let named = |discipline, name| format!("{discipline}{BAR}{name}");
    let turns = all.into_iter().map(|(discipline, name, work)| {
        timed(named(discipline, name), batch(discipline), batch(discipline), work)
    });
    Ok(in_turn(options, turns.collect()))
}

/// Nanoseconds a node of a list of so many that is walked in a section, for each contestant.
pub(crate) fn walks(options: &Options, nodes: u32) -> Samples {
    let setting = Setting::on(options.file.clone());
    let sections = (batch(WALK) * u64::from(NODES)).div_ceil(u64::from(nodes));
    let turns = contestants(&setting, nodes)
        .into_iter()
        .filter(|(discipline, ..)| *discipline == WALK)
        .map(|(_, name, work)| timed(name, sections, sections * u64::from(nodes), work));
    in_turn(options, turns.collect())
}

/// A contestant that works so many times in a turn, and whose figure is nanoseconds one of so many pieces.
fn timed(name: String, times: u64, pieces: u64, mut work: Work) -> Contestant<'static> {
    Contestant::new(name, move || {
        let begin = Instant::now();
        work(times);
        begin.elapsed().as_secs_f64() * 1e9 / pieces as f64
    })
}

fn in_turn(options: &Options, mut turns: Vec<Contestant<'_>>) -> Samples {
    // One CPU for all; the libraries' own threads are there already, or have nothing to do.
    cpus::stay_on(cpus::allowed()[0]);
    turns::take(options.effort.fine_rounds(), &mut turns)
}

/// A node of the list that is walked, as `urcu/shim.c` has it.
#[repr(C)]
struct Link {
    next: AtomicPtr<Link>,
    key: u64,
}

/// A list of so many nodes for good, which nobody changes.
fn list(nodes: u32) -> &'static AtomicPtr<Link> {
    let nodes: Vec<Link> =
        (0..nodes).map(|n| Link { next: AtomicPtr::default(), key: u64::from(n) }).collect();
    let nodes: &'static [Link] = nodes.leak();
    for pair in nodes.windows(2) {
        pair[0].next.store(std::ptr::from_ref(&pair[1]).cast_mut(), SeqCst);
    }
    Box::leak(Box::new(AtomicPtr::new(std::ptr::from_ref(&nodes[0]).cast_mut())))
}

fn cell() -> &'static AtomicPtr<u64> {
    Box::leak(Box::new(AtomicPtr::new(Box::into_raw(Box::new(7)))))
}

type Work = Box<dyn FnMut(u64)>;

/// Discipline, name, and what does it so many times.
fn contestants(setting: &Setting, nodes: u32) -> Vec<(&'static str, String, Work)> {
    let mut all = Vec::new();
    // A domain for each contestant, since a thread that takes part and rests costs the others.
    let make = || -> &'static Reclaimer {
        Box::leak(Box::new(crate::schemes::barrierd::reclaimer(setting)))
    };
    let mut handles = [(); 9].map(|()| make().handle()).into_iter();
    let mut handle = || handles.next().expect("three each");

    /// The three disciplines of a scheme with sections: `$pin` opens one, `$protect` loads in it.
    macro_rules! sections {
        ($name:expr, $make:expr, $pin:expr, $protect:expr) => {{
            let mut local = $make;
            all.push((
                SECTION,
                $name.to_string(),
                Box::new(move |n: u64| {
                    (0..n).for_each(|_| {
                        let open = $pin(&mut local);
                        compiler_fence(SeqCst);
                        drop(open);
                    });
                }) as Work,
            ));
            let (mut local, cell) = ($make, cell());
            all.push((
                READ,
                $name.to_string(),
                Box::new(move |n: u64| {
                    let mut sum = 0u64;
                    for _ in 0..n {
                        let guard = $pin(&mut local);
                        // SAFETY: never null, never retired.
                        sum = sum.wrapping_add(unsafe { *$protect(&guard, cell) });
                    }
                    black_box(sum);
                }) as Work,
            ));
            let (mut local, head) = ($make, list(nodes));
            all.push((
                WALK,
                $name.to_string(),
                Box::new(move |n: u64| {
                    let mut sum = 0u64;
                    for _ in 0..n {
                        let guard = $pin(&mut local);
                        let mut at: *mut Link = $protect(&guard, head);
                        // SAFETY: null or a node that is there for good.
                        while let Some(here) = unsafe { at.as_ref() } {
                            sum = sum.wrapping_add(here.key);
                            at = $protect(&guard, &here.next);
                        }
                    }
                    black_box(sum);
                }) as Work,
            ));
        }};
    }

    all.push((
        SECTION,
        "(empty loop)".into(),
        Box::new(|n: u64| {
            (0..n).for_each(|i| {
                black_box(i);
            });
        }) as Work,
    ));
    sections!(HANDLE, handle(), ours_by_handle, |guard: &barrierd_reclaim::Guard<'_>, p| guard
        .protect(p));
    sections!(AGAIN, handle(), ours_by_handle, |guard: &barrierd_reclaim::Guard<'_>, p| guard
        .protect(p));
    sections!(GLOBAL, make(), ours_global, |guard: &barrierd_reclaim::Guard<'_>, p| {
        guard.protect(p)
    });
    sections!(
        "barrierd, robust guard, by a handle",
        handle(),
        ours_robust_by_handle,
        |guard: &barrierd_reclaim::RobustGuard<'_>, p| guard.protect(p)
    );
    sections!(
        "barrierd, robust guard",
        make(),
        ours_robust,
        |guard: &barrierd_reclaim::RobustGuard<'_>, p| guard.protect(p)
    );
    hazards(&mut all, make, nodes);

    /// crossbeam-epoch's interface, whosever it is.
    macro_rules! epochs {
        ($name:expr, $($library:ident)::+) => {
            sections!(format!("{}, by a handle", $name), $($library)::+::Collector::new().register(),
                |local: &mut $($library)::+::LocalHandle| local.pin(),
                |_: &$($library)::+::Guard, p| load(p));
            sections!($name, (), |(): &mut ()| $($library)::+::pin(), |_: &$($library)::+::Guard, p| load(p));
        };
    }
    epochs!(DROP_IN, barrierd_reclaim::epoch);
    epochs!(PEER, crossbeam_epoch);
    sections!(
        "seize",
        &*Box::leak(Box::new(seize::Collector::new())),
        seize_enter,
        |guard: &seize::LocalGuard<'_>, p| seize_protect(guard, p)
    );
    sections!("sdd", (), |(): &mut ()| sdd::Guard::new(), |_: &sdd::Guard, p| load(p));
    sections!("kovan", (), |(): &mut ()| kovan::pin(), |guard: &kovan::Guard, p| {
        crate::schemes::kovan::atomic(p).load(Acquire, guard).as_raw()
    });
    haphazard(&mut all, nodes);
    #[cfg(feature = "liburcu")]
    urcu::add(&mut all, nodes);
    sections!("(no reclamation)", (), |(): &mut ()| NoGuard, |_: &NoGuard, p| load(p));
    // Its section is the empty loop.
    all.retain(|(discipline, name, _)| name != "(no reclamation)" || *discipline != SECTION);
    all
}

/// A section of nothing. It has an end, of nothing too.
struct NoGuard;

impl Drop for NoGuard {
    fn drop(&mut self) {}
}

fn load<T>(pointer: &AtomicPtr<T>) -> *mut T {
    pointer.load(Acquire)
}

fn ours_by_handle(handle: &mut barrierd_reclaim::Handle) -> barrierd_reclaim::Guard<'_> {
    handle.pin()
}

fn ours_global(reclaimer: &mut &'static Reclaimer) -> barrierd_reclaim::Guard<'static> {
    reclaimer.pin()
}

fn ours_robust_by_handle(
    handle: &mut barrierd_reclaim::Handle,
) -> barrierd_reclaim::RobustGuard<'_> {
    handle.pin_robust()
}

fn ours_robust(reclaimer: &mut &'static Reclaimer) -> barrierd_reclaim::RobustGuard<'static> {
    reclaimer.pin_robust()
}

fn seize_enter(collector: &mut &'static seize::Collector) -> seize::LocalGuard<'static> {
    collector.enter()
}

fn seize_protect<T>(guard: &seize::LocalGuard<'_>, pointer: &AtomicPtr<T>) -> *mut T {
    use seize::Guard;
    guard.protect(pointer, Acquire)
}

/// Ours, hand over hand.
fn hazards(
    all: &mut Vec<(&'static str, String, Work)>,
    make: impl Fn() -> &'static Reclaimer,
    nodes: u32,
) {
    let name = "barrierd, hazard pointer";
    let (mut hazard, cell) = (make().hazard(), cell());
    all.push((
        READ,
        name.into(),
        Box::new(move |n| {
            let mut sum = 0u64;
            for _ in 0..n {
                // SAFETY: what the cell leads to is live.
                sum = sum.wrapping_add(
                    unsafe { hazard.protect(cell).as_ref() }.map_or(0, |value| *value),
                );
            }
            black_box(sum);
        }),
    ));
    let (reclaimer, head) = (make(), list(nodes));
    all.push((
        WALK,
        name.into(),
        Box::new(move |n| {
            let mut sum = 0u64;
            let mut pair = reclaimer.hazard_pair();
            for _ in 0..n {
                let mut at: *mut Link = pair.protect(head).as_ptr();
                // SAFETY: null or a node that is there for good.
                while let Some(here) = unsafe { at.as_ref() } {
                    sum = sum.wrapping_add(here.key);
                    at = pair.protect(&here.next).as_ptr();
                }
            }
            black_box(sum);
        }),
    ));
}

/// haphazard's, hand over hand.
fn haphazard(all: &mut Vec<(&'static str, String, Work)>, nodes: u32) {
    let name = "haphazard";
    let (mut hazard, cell) = (haphazard::HazardPointer::new(), cell());
    all.push((
        READ,
        name.into(),
        Box::new(move |n| {
            let mut sum = 0u64;
            for _ in 0..n {
                let (seen, _) = hazard.protect_ptr(cell).expect("not null");
                // SAFETY: what the cell leads to is live.
                sum = sum.wrapping_add(unsafe { *seen.as_ptr() });
            }
            black_box(sum);
        }),
    ));
    let (mut one, mut two) = (haphazard::HazardPointer::new(), haphazard::HazardPointer::new());
    let head = list(nodes);
    all.push((
        WALK,
        name.into(),
        Box::new(move |n| {
            let mut sum = 0u64;
            let (mut one, mut two) = (&mut one, &mut two);
            for _ in 0..n {
                let mut at = one.protect_ptr(head).map(|(seen, _)| seen);
                while let Some(here) = at {
                    // SAFETY: a node that is there for good.
                    let here = unsafe { here.as_ref() };
                    sum = sum.wrapping_add(here.key);
                    at = two.protect_ptr(&here.next).map(|(seen, _)| seen);
                    std::mem::swap(&mut one, &mut two);
                }
            }
            black_box(sum);
        }),
    ));
    // So that every turn begins with an empty store buffer.
    fence(SeqCst);
}

#[cfg(feature = "liburcu")]
mod urcu {
    //! The loops of `urcu/shim.c`.

    use super::{AtomicPtr, Link, READ, SECTION, WALK, Work, black_box, cell, list};

    unsafe extern "C" {
        safe fn shim_memb_register();
        safe fn shim_qsbr_register();
        safe fn shim_bp_register();
        safe fn shim_memb_sections(n: u64);
        safe fn shim_qsbr_sections(n: u64);
        safe fn shim_bp_sections(n: u64);
        fn shim_memb_reads(n: u64, cell: *const AtomicPtr<u64>) -> u64;
        fn shim_qsbr_reads(n: u64, cell: *const AtomicPtr<u64>) -> u64;
        fn shim_bp_reads(n: u64, cell: *const AtomicPtr<u64>) -> u64;
        fn shim_memb_walks(n: u64, head: *const AtomicPtr<Link>) -> u64;
        fn shim_qsbr_walks(n: u64, head: *const AtomicPtr<Link>) -> u64;
        fn shim_bp_walks(n: u64, head: *const AtomicPtr<Link>) -> u64;
    }

    type Reads<T> = unsafe extern "C" fn(u64, *const AtomicPtr<T>) -> u64;
    type Flavour = (&'static str, extern "C" fn(), extern "C" fn(u64), Reads<u64>, Reads<Link>);

    pub(super) fn add(all: &mut Vec<(&'static str, String, Work)>, nodes: u32) {
        let flavours: [Flavour; 3] = [
            (
                "liburcu memb",
                shim_memb_register,
                shim_memb_sections,
                shim_memb_reads,
                shim_memb_walks,
            ),
            (
                "liburcu qsbr",
                shim_qsbr_register,
                shim_qsbr_sections,
                shim_qsbr_reads,
                shim_qsbr_walks,
            ),
            ("liburcu bp", shim_bp_register, shim_bp_sections, shim_bp_reads, shim_bp_walks),
        ];
        for (name, register, sections, reads, walks) in flavours {
            // For good: the job's only thread ends with the process.
            register();
            all.push((SECTION, name.into(), Box::new(move |n| sections(n))));
            let cell = cell();
            all.push((
                READ,
                name.into(),
                Box::new(move |n| {
                    // SAFETY: a registered thread; the cell leads to a number for good.
                    black_box(unsafe { reads(n, cell) });
                }),
            ));
            let head = list(nodes);
            all.push((
                WALK,
                name.into(),
                Box::new(move |n| {
                    // SAFETY: a registered thread; the list is there for good, laid out as in C.
                    black_box(unsafe { walks(n, head) });
                }),
            ));
        }
    }
}
