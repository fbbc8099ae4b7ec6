//! Machines that aren't here: the scan at thousands of CPUs, the reclaimer at thousands of threads, and
//! what a large host would pay.

use super::Experiment;
use crate::Bench;
use crate::picture::Lines;
use crate::report::{Better, Table};
use crate::stats::number;
use crate::turns::{self, Contestant, Samples};
use barrierd_bpf::layout::{CONTROL_BYTES, SLOT_BYTES};
use barrierd_daemon::cpulist::CpuSet;
use barrierd_daemon::machine::{Inherited, Machine, Scan};
use barrierd_daemon::shared_words::SharedWords;
use barrierd_daemon::words::Words;
use barrierd_reclaim::{Handle, Reclaimer, Source};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::cell::RefCell;
use std::fmt::Write as _;
use std::hint::black_box;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicPtr, Ordering::AcqRel};
use std::time::{Duration, Instant};

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "scale",
    title: "Scale",
    about: "\
*The daemon's scan* by number of CPUs, on memory laid out as the BPF map: three CPUs of four busy, the rest idle. \
*Slots* copies them, *rules* is the pure machine that decides what may be published, *both, cold* has walked 64 MiB \
before, as a scan finds its slots after milliseconds of other work (on a real machine each was last written by \
another CPU: the same miss).

*The reclaimer's scan* by number of threads that are registered and at rest (handles, each of which counts as a thread): \
a retirement's price on membarrier and, with a daemon, passive; and a `flush` of one object, which is a stamp and a \
scan. One thread retires.

*Making and dropping a domain* in which nothing is retired, as a program does that has one a structure or one a request: on fences, on membarrier, and as `Reclaimer::new` has it, which looks for a daemon's file.

*What waits behind a stalled reader*, in bags: a thread's exit that leaves one more of one object; `synchronize` that \
frees them all once the reader is gone, a bag's share; a retirement where the background thread frees (`free_in_background`), \
while as many bags of 64 wait.",
    run,
    job: None,
};

/// Larger than the caches that a scan may find its slots in.
const CLUTTER_BYTES: usize = 64 << 20;

/// Bytes of a cache line.
const LINE: usize = 64;

const CPUS: [usize; 6] = [2, 16, 64, 256, 512, 4096];
/// Objects in a bag that waits.
const BAG: u64 = 64;
/// Bags that wait.
const BACKLOGS: [usize; 3] = [1_000, 10_000, 100_000];
/// Retirements that are timed.
const RETIRED: usize = 10_000;
/// So many threads at most are registered.
const MOST: usize = 10_000;
const THREADS: [usize; 6] = [1, 10, 100, 1_000, 3_000, MOST];

fn run(bench: &mut Bench) {
    let mut raw = Vec::new();
    let (table, series, samples) = scans(bench);
    bench.report.table("The daemon's scan, ns (a CPU's share)", &table);
    let picture = Lines {
        title: "A scan of the daemon, ns".into(),
        x_is: "CPUs".into(),
        y_is: "ns".into(),
        x_log: true,
        y_log: true,
        series,
        better: Some(Better::Lower),
    };
    bench.report.picture("scan", picture, "nanoseconds of the daemon's scan by number of CPUs");
    raw.push(("the daemon's scan, ns".into(), samples));

    let (table, series, samples) = threads(bench);
    bench.report.table("The reclaimer by number of threads, ns", &table);
    let picture = Lines {
        title: "The reclaimer by number of threads".into(),
        x_is: "threads registered".into(),
        y_is: "ns".into(),
        x_log: true,
        y_log: true,
        series,
        better: Some(Better::Lower),
    };
    bench.report.picture(
        "threads",
        picture,
        "nanoseconds of a retirement and a flush by number of threads",
    );
    raw.push(("the reclaimer by threads, ns".into(), samples));

    let (table, samples) = making(bench);
    bench.report.table("Making and dropping a domain, ns", &table);
    raw.push(("a domain's making, ns".into(), samples));
    let (table, samples) = backlog(bench);
    bench.report.table("The reclaimer by what waits behind a stalled reader, ns", &table);
    raw.push(("the reclaimer by what waits, ns".into(), samples));
    on_paper(bench);
    bench.report.raw("scale", "ns", &raw);
}

type Series = Vec<(String, Vec<(f64, f64)>)>;

fn scans(bench: &mut Bench) -> (Table, Series, Samples) {
    let kinds = ["slots", "rules", "both", "both, cold"];
    let mut table = Table::new(std::iter::once("CPUs").chain(kinds));
    let mut series: Series = kinds.map(|kind| (kind.to_owned(), Vec::new())).into();
    let mut all = Samples::default();
    let mut clutter = vec![1u8; CLUTTER_BYTES];
    for cpus in CPUS {
        eprintln!("         scale, {cpus} CPUs");
        let one = RefCell::new(Simulated::new(cpus));
        // Short ones are timed in batches.
        let batch = (100_000 / cpus.max(64)).max(1);
        let timed = |work: &dyn Fn(&mut Simulated)| {
            let mut one = one.borrow_mut();
            let begin = Instant::now();
            (0..batch).for_each(|_| work(&mut one));
            begin.elapsed().as_secs_f64() * 1e9 / batch as f64
        };
        let named = |kind: &str| format!("{kind}, {cpus} CPUs");
        let mut contestants = vec![
            Contestant::new(named(kinds[0]), || timed(&Simulated::read)),
            Contestant::new(named(kinds[1]), || timed(&Simulated::rules)),
            Contestant::new(named(kinds[2]), || timed(&Simulated::both)),
            Contestant::new(named(kinds[3]), || {
                clutter.iter_mut().step_by(LINE).for_each(|byte| *byte = byte.wrapping_add(1));
                black_box(&clutter);
                let begin = Instant::now();
                one.borrow_mut().both();
                begin.elapsed().as_secs_f64() * 1e9
            }),
        ];
        let samples = turns::take(bench.effort.pick(1, 31, 101), &mut contestants);
        drop(contestants);
        let cells = kinds.iter().enumerate().map(|(index, kind)| {
            let ns = samples.of(&named(kind)).map_or(f64::NAN, |spread| spread.median);
            series[index].1.push((cpus as f64, ns));
            if cpus == 512 && index == 3 {
                bench.facts.insert("scan of 512 ns", ns);
            }
            format!("{} ({:.2})", number(ns), ns / cpus as f64)
        });
        table.row(std::iter::once(cpus.to_string()).chain(cells.collect::<Vec<_>>()));
        for (name, rounds) in samples.names.iter().zip(&samples.rounds) {
            rounds.iter().for_each(|value| all.push(name, *value));
        }
    }
    (table, series, all)
}

/// One machine, three CPUs of four busy, the rest idle.
struct Simulated {
    shared: SharedWords,
    slots: Box<[u64]>,
    online: CpuSet,
    machine: Machine,
    s: u64,
}

impl Simulated {
    fn new(cpus: usize) -> Self {
        let memory = |len: usize| {
            let fd = memfd_create("scan", MemfdFlags::CLOEXEC).expect("memfd");
            ftruncate(&fd, len as u64).expect("room");
            fd
        };
        let (slots, control) = (memory(cpus * SLOT_BYTES), memory(CONTROL_BYTES));
        let words = Words::map(slots.as_fd(), cpus * SLOT_BYTES).expect("mapped");
        for cpu in 0..cpus {
            let value = if cpu % 4 == 3 { u64::MAX } else { 1_000 + cpu as u64 };
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
        black_box(self.machine.scan(&Scan { s, online, own: 0, slots }));
    }

    fn both(&mut self) {
        self.read();
        self.rules();
    }
}

fn threads(bench: &mut Bench) -> (Table, Series, Samples) {
    let mut kinds = vec![(["retirement, membarrier", "flush, membarrier"], None)];
    if let Some(live) = &bench.live {
        kinds.push((["retirement, passive", "flush, passive"], Some(live.file.clone())));
    }
    let names: Vec<&str> = kinds.iter().flat_map(|(names, _)| *names).collect();
    let mut table = Table::new(std::iter::once("threads").chain(names.iter().copied()));
    let mut series: Series = names.iter().map(|name| ((*name).to_owned(), Vec::new())).collect();
    let mut all = Samples::default();
    for threads in THREADS {
        eprintln!("         scale, {threads} threads");
        let mut contestants = Vec::new();
        let named = |kind: &str| format!("{kind}, {threads} threads");
        for ([retirement, flush], file) in &kinds {
            let resting = match Crowd::new(file.as_ref(), threads) {
                Ok(resting) => resting,
                Err(error) => {
                    bench.report.miss(format!("{retirement}: {error}"));
                    continue;
                }
            };
            let resting = Rc::new(RefCell::new(resting));
            let (same, swaps) = (resting.clone(), bench.effort.pick(200, 20_000, 40_000));
            contestants.push(Contestant::new(named(retirement), move || {
                let mut crowd = same.borrow_mut();
                let begin = Instant::now();
                (0..swaps).for_each(|n| crowd.replace(0, n));
                begin.elapsed().as_secs_f64() * 1e9 / swaps as f64
            }));
            contestants.push(Contestant::new(named(flush), move || {
                let mut crowd = resting.borrow_mut();
                crowd.replace(0, 0);
                let begin = Instant::now();
                crowd.handles[0].flush();
                begin.elapsed().as_secs_f64() * 1e9
            }));
        }
        let samples = turns::take(bench.effort.pick(1, 25, 61), &mut contestants);
        drop(contestants);
        let cells = names.iter().enumerate().map(|(index, kind)| {
            samples.of(&named(kind)).map_or(String::new(), |spread| {
                series[index].1.push((threads as f64, spread.median));
                spread.shown()
            })
        });
        table.row(std::iter::once(threads.to_string()).chain(cells.collect::<Vec<_>>()));
        let flush = samples.of(&named("flush, membarrier"));
        if let Some(own) = flush.filter(|_| threads == MOST) {
            bench.facts.insert("flush of the most ns", own.median);
        }
        for (name, rounds) in samples.names.iter().zip(&samples.rounds) {
            rounds.iter().for_each(|value| all.push(name, *value));
        }
    }
    (table, series, all)
}

fn making(bench: &Bench) -> (Table, Samples) {
    let batch = bench.effort.pick(10, 1_000, 10_000);
    let timed = |make: &dyn Fn()| {
        let begin = Instant::now();
        (0..batch).for_each(|_| make());
        begin.elapsed().as_secs_f64() * 1e9 / f64::from(batch)
    };
    let on = |source| move || drop(Reclaimer::builder().source(source).build());
    let file = bench.live.as_ref().map(|live| live.file.clone());
    let best = move || match &file {
        Some(file) => drop(Reclaimer::builder().daemon_file(file).build()),
        None => drop(Reclaimer::new()),
    };
    let mut contestants = vec![
        Contestant::new("crossbeam-epoch", || timed(&|| drop(crossbeam_epoch::Collector::new()))),
        Contestant::new("on fences", || timed(&on(Source::Fence))),
        Contestant::new("on membarrier", || timed(&on(Source::Membarrier))),
        Contestant::new("the best there is", || timed(&best)),
    ];
    let samples = turns::take(bench.effort.pick(1, 25, 61), &mut contestants);
    let mut table = Table::new(["what is made", "ns"]);
    for name in &samples.names {
        let shown = samples.of(name).map_or(String::new(), |spread| spread.shown());
        table.row([name.clone(), shown]);
    }
    (table, samples)
}

/// The price of one more, by how much waits already.
fn backlog(bench: &mut Bench) -> (Table, Samples) {
    let kinds = ["exit", "freed, a bag", "retirement, freed in the background"];
    let mut table = Table::new(std::iter::once("bags").chain(kinds));
    let mut all = Samples::default();
    let rounds = bench.effort.pick(1, 7, 15);
    for bags in bench.effort.pick(&BACKLOGS[..1], &BACKLOGS, &BACKLOGS) {
        eprintln!("         scale, {bags} bags");
        let named = |kind: &str| format!("{kind}, {bags} bags");
        for round in 0..=rounds {
            let ns = backlog_of(*bags);
            // The first one warms up.
            let ns = ns.iter().zip(kinds).filter(|_| round > 0);
            ns.for_each(|(ns, kind)| all.push(&named(kind), *ns));
        }
        let cells =
            kinds.map(|kind| all.of(&named(kind)).map_or(String::new(), |spread| spread.shown()));
        table.row(std::iter::once(bags.to_string()).chain(cells));
    }
    (table, all)
}

/// Nanoseconds of an exit, of freeing it all (a bag's share), of a retirement.
fn backlog_of(bags: usize) -> [f64; 3] {
    let share = |begin: Instant, of: usize| begin.elapsed().as_secs_f64() * 1e9 / of as f64;
    let retire = |handle: &Handle| {
        // SAFETY: `nothing` does not touch it.
        unsafe { handle.retire_with(std::ptr::without_provenance_mut(8), nothing) };
    };
    let builder = || Reclaimer::builder().source(Source::Membarrier);
    let reclaimer = builder().background(false).build().expect("this kernel has membarrier");
    let mut reader = reclaimer.handle();
    let guard = reader.pin();
    let leave = |count: usize| (0..count).for_each(|_| retire(&reclaimer.handle()));
    leave(bags - bags / 10);
    let begin = Instant::now();
    leave(bags / 10);
    let exit = share(begin, bags / 10);
    drop(guard);
    let begin = Instant::now();
    // It buys its barrier, which a flush of somebody who has retired nothing does not.
    let late = begin + Duration::from_secs(60);
    reclaimer.synchronize(late).expect("no reader is left");
    let freed = share(begin, bags);
    let reclaimer = builder().free_in_background().build().expect("this kernel has membarrier");
    let mut reader = reclaimer.handle();
    let guard = reader.pin();
    let handle = reclaimer.handle();
    (0..bags).for_each(|_| (0..BAG).for_each(|_| retire(&handle)));
    let begin = Instant::now();
    (0..RETIRED).for_each(|_| retire(&handle));
    let retirement = share(begin, RETIRED);
    drop(guard);
    [exit, freed, retirement]
}

/// Frees nothing.
///
/// # Safety
/// None is needed.
unsafe fn nothing(_: *mut u64) {}

/// A domain, so many handles, each of which counts as a thread, and a cell that they replace.
struct Crowd {
    handles: Vec<Handle>,
    cell: AtomicPtr<[u64; 2]>,
}

impl Crowd {
    fn new(file: Option<&PathBuf>, threads: usize) -> Result<Crowd, String> {
        let builder = match file {
            Some(file) => Reclaimer::builder().source(Source::Daemon).daemon_file(file),
            None => Reclaimer::builder().source(Source::Membarrier),
        };
        let reclaimer = builder.build().map_err(|error| error.to_string())?;
        Ok(Crowd {
            handles: (0..threads).map(|_| reclaimer.handle()).collect(),
            cell: AtomicPtr::new(Box::into_raw(Box::new([0; 2]))),
        })
    }

    fn replace(&mut self, who: usize, n: u64) {
        let guard = self.handles[who].pin();
        let old = self.cell.swap(Box::into_raw(Box::new([n; 2])), AcqRel);
        // SAFETY: from a Box, unlinked by the swap, retired once.
        unsafe { guard.retire(old) };
    }
}

/// A host of 512 CPUs, from the parts that were measured.
fn on_paper(bench: &mut Bench) {
    let mut text = String::from(
        "**A host of 512 CPUs, argued from these parts.** None of it was measured on such a host; each line says which \
         measured part it stands on.\n\n",
    );
    let mut line = |what: String| {
        let _ = writeln!(text, "- {what}");
    };
    let fact = |name: &str| bench.facts.get(name).copied();
    let scan = fact("scan of 512 ns");
    match (scan, fact("daemon per cent"), fact("daemon switches")) {
        (Some(scan), Some(percent), Some(switches)) => {
            // Every switch of the daemon's is at most one scan.
            let more = scan * switches / 1e9 * 100.0;
            line(format!(
                "The daemon, all CPUs busy and one thread waiting: {percent:.2} % of a core here, at {} wake-ups a second, which don't get more \
                 with CPUs (a wake-up is for all of them; the vm tests count one a round on 32 CPUs). A cold scan of 512 \
                 slots takes {} us; one a wake-up is {more:.2} % of a core more.",
                number(switches),
                number(scan / 1e3),
            ));
        }
        (Some(scan), ..) => line(format!(
            "A cold scan of 512 slots takes {} us, some 500 times a second: {:.2} % of one core of 512 (the daemon's own \
             wake-ups were not measured in this run).",
            number(scan / 1e3),
            scan * 500.0 / 1e9 * 100.0
        )),
        _ => line("The scan was not measured in this run.".into()),
    }
    if let (Some(all), Some(otherwise)) =
        (fact("event with the kernel's way ns"), fact("event otherwise ns"))
    {
        line(format!(
            "Each CPU: an event costs {} ns with the kernel's way to the program, whatever the number of CPUs, since each \
             writes its own line. With 1,000 ticks and softirqs and 10,000 switches a second that is {:.3} % of each CPU. \
             Once an arming it costs {} ns of its own and two misses: the line that holds `armed`, and its slot's, which the \
             daemon has read.",
            number(all),
            all * 11_000.0 / 1e9 * 100.0,
            number(otherwise),
        ));
    }
    line(
        "`armed` is read by all CPUs at their next event after an arming: 511 misses on one line, spread over a tick by the \
         ticks' own skew where there is one; at worst they queue for the line, 511 transfers one after another. By the \
         ping-pong in structures.csv, half of that time each."
            .into(),
    );
    line(
        "A passive barrier waits for the slowest CPU's next tick, as here: ticks don't get slower with CPUs, but the chance \
         that one is late (interrupts off, a vCPU taken away) grows with them. Kicks of laggards bound it (`--bound-us`)."
            .into(),
    );
    line(
        "An expedited barrier interrupts only busy CPUs that lag, one read(2) each, in a loop: with 512 busy ones that is \
         512 kicks, and 512 interruptions; membarrier sends the same number at once, holds a mutex meanwhile, and serves one \
         caller. The table \"many at once\" is where one round for all pays."
            .into(),
    );
    if let Some(flush) = fact("flush of the most ns") {
        line(format!(
            "The reclaimer does not know CPUs, but threads. With {} registered a flush takes {} us.",
            number(MOST as f64),
            number(flush / 1e3),
        ));
    }
    if let (Some(threads), Some(ns), Some(waiting)) =
        (fact("threads in turn"), fact("in turn ns"), fact("in turn in flight"))
    {
        line(format!(
            "Where {} threads all retire, a retirement takes {} ns and {} objects are in flight, {} each: one of them looks at \
             the others once in so many bags of them all that the look costs the same an object however many they are, and \
             all let go by it.",
            number(threads),
            number(ns),
            number(waiting),
            number(waiting / threads),
        ));
    }
    bench.report.say(&text);
}
