//! Whole domains against plain models, on every source that needs no daemon: what is taken over from
//! threads that rest, and what limits let wait. (Bags, scans and what is put aside have theirs beside
//! their code.)

#[path = "common/sources.rs"]
mod sources;

use barrierd_reclaim::{OnLimit, Pressure, Reclaimer, Source};
use proptest::prelude::*;
use sources::SOURCES;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const BAG: u64 = 64;
const THREADS: usize = 3;
/// So short that whoever rests is taken over at once.
const AT_ONCE: Duration = Duration::from_micros(1);

/// Which object was freed how often, by its number.
#[derive(Default)]
struct Freed(Mutex<Vec<u8>>);

impl Freed {
    fn count(&self, name: usize) {
        let mut freed = self.0.lock().unwrap();
        if freed.len() <= name {
            freed.resize(name + 1, 0);
        }
        freed[name] += 1;
    }

    fn of(&self, name: usize) -> u8 {
        self.0.lock().unwrap().get(name).copied().unwrap_or(0)
    }
}

struct Object {
    name: usize,
    freed: Arc<Freed>,
}

impl Drop for Object {
    fn drop(&mut self) {
        self.freed.count(self.name);
    }
}

fn retire(reclaimer: &Reclaimer, name: usize, freed: &Arc<Freed>) {
    let object = Box::into_raw(Box::new(Object { name, freed: freed.clone() }));
    // SAFETY: fresh from a Box, shared with nobody, retired once.
    unsafe { reclaimer.retire(object) };
}

/// What a thread is asked to do; it answers when it has.
enum Ask {
    Retire(std::ops::Range<usize>),
    Pin,
    Unpin,
    Flush,
}

/// A thread that rests between the calls that it is asked for.
struct Worker {
    ask: mpsc::Sender<Ask>,
    answer: mpsc::Receiver<()>,
}

impl Worker {
    fn spawn<'s>(
        scope: &'s thread::Scope<'s, '_>,
        reclaimer: &'s Reclaimer,
        freed: &'s Arc<Freed>,
    ) -> Worker {
        let ((ask, asked), (done, answer)) = (mpsc::channel(), mpsc::channel());
        scope.spawn(move || {
            let mut guard = None;
            for ask in asked {
                match ask {
                    Ask::Retire(names) => names.for_each(|name| retire(reclaimer, name, freed)),
                    Ask::Pin => guard = Some(reclaimer.pin()),
                    Ask::Unpin => guard = None,
                    Ask::Flush => reclaimer.flush(),
                }
                let _ = done.send(());
            }
            drop(guard);
        });
        Worker { ask, answer }
    }

    fn does(&self, ask: Ask) {
        self.ask.send(ask).unwrap();
        self.answer.recv().unwrap();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Retire(usize, usize),
    Pin(usize),
    Unpin(usize),
    Flush(usize),
    /// The thread exits, its guard with it; another takes its place.
    Exit(usize),
    /// Nobody does anything, for so many microseconds.
    Rest(u64),
    /// All sections end, and all that was retired goes, by nobody's call.
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    let thread = || 0..THREADS;
    prop_oneof![
        12 => (thread(), prop_oneof![1..5usize, 60..200usize]).prop_map(|(t, n)| Step::Retire(t, n)),
        3 => thread().prop_map(Step::Pin),
        3 => thread().prop_map(Step::Unpin),
        1 => thread().prop_map(Step::Flush),
        2 => thread().prop_map(Step::Exit),
        5 => (0..3_000u64).prop_map(Step::Rest),
        1 => Just(Step::Settle),
    ]
}

/// Against a list of who retired what when, and whose section has been open since when: no object goes
/// under a section that was open when it was retired, each goes once, and where all rest and no section
/// is open, all go.
fn takeover_like_a_plain_list(source: Source, steps: &[Step]) -> Result<(), TestCaseError> {
    let builder = Reclaimer::builder().source(source).background(true).idle_after(AT_ONCE);
    let reclaimer = builder.build().unwrap();
    let freed = Arc::<Freed>::default();
    // By name: whether it is known to be gone.
    let mut gone: Vec<bool> = Vec::new();
    // Of each thread: how many objects had been retired when its section began.
    let mut pinned: [Option<usize>; THREADS] = [None; THREADS];
    thread::scope(|scope| {
        let spawn = || Worker::spawn(scope, &reclaimer, &freed);
        let mut workers: [Worker; THREADS] = std::array::from_fn(|_| spawn());
        for step in steps.iter().chain([&Step::Settle]) {
            let before = pinned;
            match *step {
                Step::Retire(thread, count) => {
                    let names = gone.len()..gone.len() + count;
                    gone.resize(names.end, false);
                    workers[thread].does(Ask::Retire(names));
                }
                Step::Pin(thread) if pinned[thread].is_none() => {
                    workers[thread].does(Ask::Pin);
                    pinned[thread] = Some(gone.len());
                }
                Step::Pin(_) => {}
                Step::Unpin(thread) => {
                    workers[thread].does(Ask::Unpin);
                    pinned[thread] = None;
                }
                Step::Flush(thread) => workers[thread].does(Ask::Flush),
                Step::Exit(thread) => {
                    workers[thread] = spawn();
                    pinned[thread] = None;
                }
                Step::Rest(us) => thread::sleep(Duration::from_micros(us)),
                Step::Settle => {
                    for (worker, pinned) in workers.iter().zip(&mut pinned) {
                        worker.does(Ask::Unpin);
                        *pinned = None;
                    }
                    let stop = Instant::now() + Duration::from_secs(10);
                    while (0..gone.len()).any(|name| freed.of(name) == 0) {
                        prop_assert!(Instant::now() < stop, "{:?}", reclaimer.stats());
                        thread::sleep(Duration::from_micros(200));
                    }
                }
            }
            // Sections that were open all through this step.
            let open = (0..THREADS).filter(|&t| before[t] == pinned[t]).filter_map(|t| pinned[t]);
            let held = open.min().unwrap_or(usize::MAX);
            for (name, gone) in gone.iter_mut().enumerate() {
                let count = freed.of(name);
                prop_assert!(count <= 1, "{name} was freed {count} times");
                if count == 1 && !*gone {
                    prop_assert!(name < held, "{name} went, a section holds all from {held} on");
                    *gone = true;
                }
            }
        }
        Ok(())
    })?;
    // The scope's threads may be on their way out still, and their counts on the way to the domain's.
    let (all, stop) = (gone.len() as u64, Instant::now() + Duration::from_secs(10));
    loop {
        let stats = reclaimer.stats();
        if (stats.retired, stats.freed) == (all, all) {
            return Ok(());
        }
        prop_assert!(Instant::now() < stop, "{all}: {stats:?}");
        thread::sleep(Duration::from_micros(200));
    }
}

#[derive(Clone, Debug)]
enum Load {
    /// So many objects of so many bytes.
    Retire(usize, usize),
    /// Another thread's section.
    Pin,
    Unpin,
    Flush,
}

fn load() -> impl Strategy<Value = Load> {
    prop_oneof![
        12 => (1..150usize, 0..3usize).prop_map(|(n, size)| Load::Retire(n, [8, 100, 4096][size])),
        2 => Just(Load::Pin),
        2 => Just(Load::Unpin),
        1 => Just(Load::Flush),
    ]
}

struct Weight {
    bytes: u64,
    waiting: Arc<[AtomicU64; 2]>,
}

impl Weight {
    fn retire<const N: usize>(reclaimer: &Reclaimer, waiting: &Arc<[AtomicU64; 2]>) {
        #[repr(C)]
        struct Heavy<const N: usize>(Weight, [u8; N]);
        let bytes = size_of::<Heavy<N>>() as u64;
        let weight = Weight { bytes, waiting: waiting.clone() };
        waiting[0].fetch_add(1, Relaxed);
        waiting[1].fetch_add(bytes, Relaxed);
        // SAFETY: fresh from a Box, retired once.
        unsafe { reclaimer.retire(Box::into_raw(Box::new(Heavy(weight, [0; N])))) };
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.waiting[0].fetch_sub(1, Relaxed);
        self.waiting[1].fetch_sub(self.bytes, Relaxed);
    }
}

/// Against plain sums of what waits. Where `retire` may block and nobody reads, it stays within the
/// limits, but for one bag. Where it may not, a section holds all that was retired since it began, and
/// the hook is told of it above the limits, never below.
fn limits_like_plain_sums(
    source: Source,
    [items, bytes]: [u64; 2],
    block: bool,
    loads: &[Load],
) -> Result<(), TestCaseError> {
    let told = Arc::<Mutex<Vec<Pressure>>>::default();
    let hook = told.clone();
    let longest = Duration::from_secs(20);
    let then = if block { OnLimit::Block(longest) } else { OnLimit::Expedite };
    let builder = Reclaimer::builder().source(source).background(false).on_limit(then);
    let builder = builder.limit_items(items).limit_bytes(bytes);
    let reclaimer =
        builder.limit_hook(move |now| hook.lock().unwrap().push(now.clone())).build().unwrap();
    let freed = Arc::<Freed>::default();
    let waiting = Arc::<[AtomicU64; 2]>::default();
    let now = || [waiting[0].load(Relaxed), waiting[1].load(Relaxed)];
    let mut pinned = false;
    thread::scope(|scope| {
        // Takes part all along, and so never lets anything be collected.
        let reader = Worker::spawn(scope, &reclaimer, &freed);
        reader.does(Ask::Pin);
        reader.does(Ask::Unpin);
        for load in loads {
            let [before, _] = now();
            told.lock().unwrap().clear();
            match *load {
                Load::Retire(count, size) => {
                    for n in 1..=count as u64 {
                        match size {
                            8 => Weight::retire::<8>(&reclaimer, &waiting),
                            100 => Weight::retire::<100>(&reclaimer, &waiting),
                            _ => Weight::retire::<4096>(&reclaimer, &waiting),
                        }
                        let [items_now, bytes_now] = now();
                        prop_assert_eq!(reclaimer.stats().waiting(), items_now);
                        // Bags that are being freed are not counted any more.
                        prop_assert!(reclaimer.stats().waiting_bytes <= bytes_now);
                        if pinned {
                            prop_assert!(items_now >= n, "freed under a section");
                        } else if block {
                            prop_assert!(items_now <= items + BAG, "{items_now} of {items} items");
                            let most = bytes.saturating_add(BAG * 4200);
                            prop_assert!(bytes_now <= most, "{bytes_now} of {bytes} bytes");
                        }
                    }
                    let over = now()[0] > items + 2 * BAG && now()[0] >= before + BAG;
                    if pinned && over {
                        prop_assert!(!told.lock().unwrap().is_empty(), "untold");
                    }
                }
                Load::Pin if !pinned && !block => {
                    // What waits from before may go under the section.
                    reclaimer.synchronize(Instant::now() + longest).unwrap();
                    reader.does(Ask::Pin);
                    pinned = true;
                }
                Load::Pin => {}
                Load::Unpin => {
                    reader.does(Ask::Unpin);
                    pinned = false;
                    reclaimer.synchronize(Instant::now() + longest).unwrap();
                    prop_assert_eq!(now(), [0, 0], "{:?}", reclaimer.stats());
                }
                Load::Flush => reclaimer.flush(),
            }
            for told in &*told.lock().unwrap() {
                prop_assert!(told.items > items || told.bytes > bytes, "told below: {:?}", told);
                prop_assert_eq!((told.readers, told.own_guard), (usize::from(pinned), false));
            }
        }
        Ok(())
    })?;
    drop(reclaimer);
    prop_assert_eq!(now(), [0, 0]);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn takeover(steps in proptest::collection::vec(step(), 0..60)) {
        for &source in SOURCES {
            takeover_like_a_plain_list(source, &steps)?;
        }
    }
}

proptest! {
    // Short cases, and a bound that is to the object: a fault of one may need a thousand.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn limits(
        items in 1..400u64,
        bytes in prop_oneof![Just(u64::MAX), 1_000..200_000u64],
        block: bool,
        loads in proptest::collection::vec(load(), 0..25),
    ) {
        for &source in SOURCES {
            limits_like_plain_sums(source, [items, bytes], block, &loads)?;
        }
    }
}
