//! How long a barrier takes, alone and many at once, and what it takes from a bystander.

use super::Experiment;
use crate::Bench;
use crate::cpus::{self, Load, StopOnDrop};
use crate::picture::Bars;
use crate::report::{Better, Table};
use crate::stats::{Spread, number, per_mille, sorted};
use crate::turns::{self, Contestant, Samples};
use barrierd_client::{Barrier, Stamp};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use rustix::thread::{MembarrierCommand, membarrier};
use std::ffi::c_void;
use std::hint::spin_loop;
use std::sync::Barrier as Meeting;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "barriers",
    title: "Barriers",
    about: "\
From \"my stores are visible\" to \"every CPU has passed a full barrier\". *barrierd, passive* waits for the daemon's \
watermark, which rides on interrupts that come anyway; *virtual time* for the same in the reclaimer's unit, two \
rounds; *expedited* asks the daemon, which interrupts the CPUs that lag. `membarrier(2)` in its three kinds: PRIVATE \
interrupts the CPUs that run this process, GLOBAL_EXPEDITED those of registered processes, GLOBAL waits for an RCU \
grace period. *mprotect* takes a page's rights away, which interrupts the CPUs that this process uses to flush it \
there (newer CPUs can flush without an interrupt: then it is no barrier at all). Spinning threads belong to this \
process. Off the beat of ticks: each round begins at another moment.

*Many at once*: so many threads begin together; until the last has its barrier. *A bystander*: a thread that \
computes on one CPU while another asks for up to 1,000 barriers a second; what it loses, in turn with rounds in which \
nobody asks. For passive ones a stamp is taken so often and looked at later: nobody waits.",
    run,
    job: None,
};

/// A way to a barrier.
struct Way<'a> {
    name: &'static str,
    wait: Box<dyn Fn() + Sync + 'a>,
}

/// A page of its own for each call, so that several threads may use it at once.
struct Page(*mut c_void);

const PAGE: usize = 4096;

impl Page {
    fn new() -> Option<Page> {
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: anonymous memory at no address in particular.
        unsafe { mmap_anonymous(std::ptr::null_mut(), PAGE, rights, MapFlags::PRIVATE) }
            .ok()
            .map(Page)
    }

    fn barrier(&self) {
        // SAFETY: this object's own page, which nothing refers to.
        unsafe {
            let _ = mprotect(self.0, PAGE, MprotectFlags::READ | MprotectFlags::WRITE);
            self.0.cast::<u8>().write_volatile(1);
            let _ = mprotect(self.0, PAGE, MprotectFlags::READ);
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: this object's own page.
        let _ = unsafe { munmap(self.0, PAGE) };
    }
}

/// Waits that failed. Nobody panics for it: the others would wait for that one without end.
static FAILED: AtomicU64 = AtomicU64::new(0);

fn noted<T, E>(result: Result<T, E>) {
    if result.is_err() {
        FAILED.fetch_add(1, Relaxed);
    }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

const PASSIVE: &str = "barrierd, passive";
const EXPEDITED: &str = "barrierd, expedited";
const PRIVATE: &str = "membarrier PRIVATE_EXPEDITED";

fn ways<'a>(daemon: Option<&'a Barrier>) -> Vec<Way<'a>> {
    let mut ways: Vec<Way<'a>> = Vec::new();
    let mut add = |name, wait: Box<dyn Fn() + Sync + 'a>| ways.push(Way { name, wait });
    if let Some(barrier) = daemon {
        add(
            PASSIVE,
            Box::new(move || {
                noted(barrier.wait_passive(Stamp::now(), far()));
            }),
        );
        add(
            "barrierd, virtual time",
            Box::new(move || {
                let (stamp, until) = (barrier.vtime().unwrap_or(u64::MAX), far());
                while barrier.watermark().is_ok_and(|now| now.vtime <= stamp) {
                    if Instant::now() > until {
                        return noted::<(), _>(Err("no virtual time"));
                    }
                    // The nanoseconds move with it: sleep on them.
                    noted(barrier.wait_passive(Stamp::now(), until));
                }
            }),
        );
        add(
            EXPEDITED,
            Box::new(move || {
                noted(barrier.wait(Stamp::now(), far()));
            }),
        );
    }
    let registered = membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
        && membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok();
    if registered {
        for (name, command) in [
            (PRIVATE, MembarrierCommand::PrivateExpedited),
            ("membarrier GLOBAL_EXPEDITED", MembarrierCommand::GlobalExpedited),
            ("membarrier GLOBAL", MembarrierCommand::Global),
        ] {
            // Where GLOBAL is refused (nohz_full) there is no row.
            if membarrier(command).is_ok() {
                add(
                    name,
                    Box::new(move || {
                        let _ = membarrier(command);
                    }),
                );
            }
        }
    }
    add(
        "mprotect",
        Box::new(|| {
            thread_local!(static OWN: Option<Page> = Page::new());
            OWN.with(|page| page.iter().for_each(Page::barrier));
        }),
    );
    ways
}

fn run(bench: &mut Bench) {
    let daemon = match bench.live.as_ref().map(|live| Barrier::open(&live.file)).transpose() {
        Ok(daemon) => daemon,
        Err(error) => return bench.report.miss(format!("the daemon's file: {error}")),
    };
    if daemon.is_none() {
        bench.report.miss("the daemon's barriers: no daemon in this run");
    }
    let mut raw = alone(bench, daemon.as_ref());
    raw.extend(together(bench, daemon.as_ref()));
    raw.extend(bystander(bench, daemon.as_ref()));
    let failed = FAILED.swap(0, Relaxed);
    if failed > 0 {
        bench.report.miss(format!(
            "{failed} waits for the daemon, which failed: the rows above hold their time"
        ));
    }
    bench.report.raw("barriers", "us, or as it says", &raw);
}

/// Microseconds.
fn timed(work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_secs_f64() * 1e6
}

fn alone(bench: &mut Bench, daemon: Option<&Barrier>) -> Vec<(String, Samples)> {
    let ways = ways(daemon);
    let mut bars = Bars {
        title: "A barrier, us (median, quartiles)".into(),
        log: true,
        better: Some(Better::Lower),
        ..Bars::default()
    };
    let mut table = Table::new(
        std::iter::once(String::new())
            .chain(Load::ALL.map(|load| format!("{}: p50, p99, worst", load.name()))),
    );
    let mut all = Vec::new();
    for load in Load::ALL {
        eprintln!("         barriers, {}", load.name());
        let mut step = 0u64;
        let samples = load.during(|| {
            let step = std::cell::RefCell::new(&mut step);
            let mut contestants: Vec<Contestant<'_>> = ways
                .iter()
                .map(|way| {
                    let step = &step;
                    Contestant::new(way.name, move || {
                        let mut step = step.borrow_mut();
                        **step += 1;
                        thread::sleep(Duration::from_micros(**step * 7919 % 4000));
                        timed(|| (way.wait)())
                    })
                })
                .collect();
            turns::take(bench.effort.pick(3, 200, 800), &mut contestants)
        });
        all.push((load.name().to_owned(), samples));
    }
    for way in &ways {
        let cells = all.iter().map(|(_, samples)| {
            let index = samples.index(way.name).expect("a row each");
            let own = sorted(samples.rounds[index].iter().copied());
            [500, 990, 1000].map(|part| number(per_mille(&own, part))).join(", ")
        });
        table.row(std::iter::once(way.name.to_owned()).chain(cells));
    }
    for (load, samples) in &all {
        let entries =
            ways.iter().filter_map(|way| Some((way.name.to_owned(), samples.of(way.name)?.median)));
        let what = format!("a barrier, {load}, us");
        bench.report.contest(&what, Better::Lower, entries.collect::<Vec<_>>());
        let group =
            ways.iter().filter_map(|way| Some((way.name.to_owned(), samples.of(way.name)?)));
        bars.groups.push((load.clone(), group.collect()));
    }
    bench.report.table("One at a time, us", &table);
    bench.report.picture("barriers", bars, "microseconds of a barrier, by way and load");
    all
}

fn together(bench: &mut Bench, daemon: Option<&Barrier>) -> Vec<(String, Samples)> {
    let ways = ways(daemon);
    let counts = [1, 8, 64];
    let mut table = Table::new(
        std::iter::once(String::new()).chain(counts.map(|count| format!("{count} together"))),
    );
    let mut all = Vec::new();
    for count in counts {
        eprintln!("         barriers, {count} together");
        let (meeting, done, stop) =
            (Meeting::new(count + 1), Meeting::new(count + 1), AtomicBool::new(false));
        let which = AtomicU64::new(0);
        let samples = Load::Half.during(|| {
            thread::scope(|scope| {
                for _ in 0..count {
                    scope.spawn(|| {
                        loop {
                            meeting.wait();
                            if stop.load(Relaxed) {
                                break;
                            }
                            let way = usize::try_from(which.load(Relaxed)).expect("small");
                            (ways[way].wait)();
                            done.wait();
                        }
                    });
                }
                let mut contestants: Vec<Contestant<'_>> = (0u64..)
                    .zip(&ways)
                    .map(|(index, way)| {
                        let (which, meeting, done) = (&which, &meeting, &done);
                        Contestant::new(way.name, move || {
                            which.store(index, Relaxed);
                            timed(|| {
                                meeting.wait();
                                done.wait();
                            })
                        })
                    })
                    .collect();
                let samples = turns::take(bench.effort.pick(1, 25, 100), &mut contestants);
                stop.store(true, Relaxed);
                meeting.wait();
                samples
            })
        });
        all.push((format!("{count} together"), samples));
    }
    for way in &ways {
        let cells = all
            .iter()
            .map(|(_, samples)| samples.of(way.name).map_or(String::new(), |own| own.shown()));
        table.row(std::iter::once(way.name.to_owned()).chain(cells));
    }
    for (count, samples) in &all {
        let entries =
            ways.iter().filter_map(|way| Some((way.name.to_owned(), samples.of(way.name)?.median)));
        let what = format!("a barrier, {count}, us");
        bench.report.contest(&what, Better::Lower, entries.collect::<Vec<_>>());
    }
    bench.report.table("Many at once, half of the CPUs busy: us until all have theirs", &table);
    all
}

fn bystander(bench: &mut Bench, daemon: Option<&Barrier>) -> Vec<(String, Samples)> {
    const NOBODY: &str = "(nobody asks)";
    let cpus = cpus::allowed();
    let &[asks_on, .., computes_on] = cpus.as_slice() else {
        bench.report.miss("a bystander's loss: it takes two CPUs");
        return Vec::new();
    };
    eprintln!("         barriers, a bystander");
    let time = Duration::from_millis(bench.effort.pick(4, 80, 250));
    let mut ways = ways(daemon);
    // A stamp a millisecond, which nobody waits for.
    if let Some(barrier) = daemon {
        ways.retain(|way| way.name != PASSIVE && way.name != "barrierd, virtual time");
        ways.insert(
            0,
            Way {
                name: PASSIVE,
                wait: Box::new(move || {
                    let _ = barrier.passed(std::hint::black_box(Stamp::now()));
                }),
            },
        );
    }
    ways.insert(0, Way { name: NOBODY, wait: Box::new(|| ()) });
    let rates = std::cell::RefCell::new(Samples::default());
    let mut contestants: Vec<Contestant<'_>> = ways
        .iter()
        .map(|way| {
            let rates = &rates;
            Contestant::new(way.name, move || {
                let (loops, asked) = computed(asks_on, computes_on, time, &*way.wait);
                rates.borrow_mut().push(way.name, asked);
                loops
            })
        })
        .collect();
    let samples = turns::take(bench.effort.pick(1, 31, 80), &mut contestants);
    drop(contestants);
    let mut table = Table::new(["", "barriers a second", "per cent lost"]);
    for way in ways.iter().filter(|way| way.name != NOBODY) {
        let Some(ratio) = samples.ratio(way.name, NOBODY) else { continue };
        let lost = Spread { low: ratio.high, median: ratio.median, high: ratio.low };
        let lost = Spread {
            low: (1.0 - lost.low) * 100.0,
            median: (1.0 - lost.median) * 100.0,
            high: (1.0 - lost.high) * 100.0,
        };
        let rate = rates.borrow().of(way.name).map_or(String::new(), |rate| number(rate.median));
        table.row([way.name.to_owned(), rate, lost.shown()]);
    }
    bench.report.table("A bystander's throughput", &table);
    vec![
        ("loops of a bystander a second".into(), samples),
        ("barriers a second".into(), rates.into_inner()),
    ]
}

/// Loops a second of one who computes, and barriers a second that another thread had.
fn computed(
    asks_on: usize,
    computes_on: usize,
    time: Duration,
    wait: &(dyn Fn() + Sync),
) -> (f64, f64) {
    let (stop, meeting) = (AtomicBool::new(false), Meeting::new(2));
    thread::scope(|scope| {
        let _end = StopOnDrop(&stop);
        let computing = scope.spawn(|| {
            cpus::stay_on(computes_on);
            meeting.wait();
            let (begin, mut loops, mut x) = (Instant::now(), 0u64, 1u64);
            while !stop.load(Relaxed) {
                for _ in 0..1000 {
                    x = std::hint::black_box(
                        x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1),
                    );
                }
                loops += 1;
            }
            loops as f64 / begin.elapsed().as_secs_f64()
        });
        let asking = scope.spawn(|| {
            cpus::stay_on(asks_on);
            meeting.wait();
            let (begin, mut asked) = (Instant::now(), 0u32);
            while begin.elapsed() < time {
                wait();
                asked += 1;
                let next = Duration::from_millis(1) * asked;
                while begin.elapsed() < next.min(time) {
                    spin_loop();
                }
            }
            let rate = f64::from(asked) / begin.elapsed().as_secs_f64();
            stop.store(true, Relaxed);
            rate
        });
        let asked = asking.join().expect("no panics");
        (computing.join().expect("no panics"), asked)
    })
}
