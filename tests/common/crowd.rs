//! The clients of a daemon that is in trouble: all kinds at once, on all CPUs, in one process.
//!
//! Owns what each may rely on, whatever happens to the daemon, and says so by panicking:
//! - players of the flag game, and the judge: no barrier passes early;
//! - waiters: the deadline ends each wait;
//! - a watcher: no time decreases, none lies after now;
//! - readers and writers of reclaimers: what is read while pinned isn't freed, and what was retired
//!   is freed once a barrier passes again.
//!
//! Knows nothing of what the trouble is.

use super::game::{Game, Rest};
use barrierd_client::{Barrier, Stamp, WaitError, clock};
use barrierd_reclaim::{Reclaimer, Source};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize};
use std::thread;
use std::time::{Duration, Instant};

/// How late a wait may end on CPUs that are many times overcommitted.
const LATE: Duration = Duration::from_secs(2);

/// Rounds of one game: some hundred milliseconds with a daemon that runs.
const ROUNDS: usize = 400_000;

const POISON: u64 = u64::MAX;

/// What a crowd did.
#[derive(Clone, Copy, Debug, Default)]
#[allow(dead_code, reason = "printed whole")]
pub(crate) struct Sums {
    /// Barriers that the game judged.
    pub(crate) edges: usize,
    /// Waits that ended well.
    pub(crate) passed: usize,
    /// Waits that their deadline ended.
    pub(crate) timed_out: usize,
    /// Looks at nodes while pinned.
    pub(crate) reads: usize,
    /// Nodes retired, and freed by the end.
    pub(crate) retired: u64,
}

/// Clients of one file.
pub(crate) struct Crowd {
    barrier: Barrier,
    file: PathBuf,
    cpus: Vec<usize>,
    rest: Rest,
    over: AtomicBool,
    given_up: AtomicBool,
}

/// Also when something panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Then no watermark may come any more that a game could wait for.
struct GivenUp<'a>(&'a AtomicBool);

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.0.store(thread::panicking(), Relaxed);
    }
}

/// A node whose memory stays readable after it is freed, so that who still holds it sees the poison.
struct Node(AtomicU64);

static FREED: AtomicU64 = AtomicU64::new(0);

unsafe fn poison(node: *mut Node) {
    // SAFETY: nodes are leaked by this test, never deallocated.
    unsafe { &*node }.0.store(POISON, Relaxed);
    FREED.fetch_add(1, Relaxed);
}

fn fresh(name: u64) -> *mut Node {
    Box::into_raw(Box::new(Node(AtomicU64::new(name))))
}

impl Crowd {
    /// On the file of a daemon that runs now.
    pub(crate) fn new(file: &Path, cpus: &[usize]) -> Crowd {
        Crowd::resting(file, cpus, Rest::Naps)
    }

    /// With players that rest in this way.
    pub(crate) fn resting(file: &Path, cpus: &[usize], rest: Rest) -> Crowd {
        let barrier = Barrier::open(file).unwrap();
        let (over, given_up) = (AtomicBool::new(false), AtomicBool::new(false));
        Crowd { barrier, file: file.into(), cpus: cpus.into(), rest, over, given_up }
    }

    /// The file as they have it mapped.
    pub(crate) fn barrier(&self) -> &Barrier {
        &self.barrier
    }

    /// Runs `trouble` in their midst and ends once it has, with what it returned. There has to be a daemon by then.
    pub(crate) fn live_through<T>(&self, trouble: impl FnOnce() -> T) -> (T, Sums) {
        let reclaimers = [Source::Auto, Source::Daemon].map(|source| {
            let builder = Reclaimer::builder().source(source).daemon_file(&self.file);
            builder.build().expect("the daemon runs")
        });
        FREED.store(0, Relaxed);
        let (outcome, sums) = thread::scope(|scope| {
            let (_over, _given_up) = (Over(&self.over), GivenUp(&self.given_up));
            let judge = scope.spawn(|| self.judge());
            let watcher = scope.spawn(|| self.watch());
            let waiters: Vec<_> = (0..4).map(|seed| scope.spawn(move || self.wait(seed))).collect();
            let users: Vec<_> =
                reclaimers.iter().map(|on| scope.spawn(|| self.reclaim(on))).collect();
            let outcome = trouble();
            self.over.store(true, Relaxed);
            let mut sums = Sums { edges: judge.join().unwrap(), ..Sums::default() };
            watcher.join().unwrap();
            for waiter in waiters {
                let (passed, timed_out) = waiter.join().unwrap();
                sums.passed += passed;
                sums.timed_out += timed_out;
            }
            for user in users {
                let (reads, retired) = user.join().unwrap();
                sums.reads += reads;
                sums.retired += retired;
            }
            (outcome, sums)
        });
        // Each freed its own when it was done; the rest with the domain.
        drop(reclaimers);
        assert_eq!(FREED.load(Relaxed), sums.retired, "freed once each");
        (outcome, sums)
    }

    /// Game after game; returns how many barriers were judged.
    fn judge(&self) -> usize {
        let (mut edges, mut seed) = (0, 0);
        while !self.over.load(Relaxed) {
            seed += 1;
            let game = Game::new(&self.cpus, ROUNDS);
            let outcome = game.every_edge(self.rest, || {
                assert!(!self.given_up.load(Relaxed), "the trouble was too much");
                self.barrier.watermark().unwrap().ns
            });
            assert_eq!(outcome.broken, 0, "game {seed}: a barrier passed early: {outcome:?}");
            edges += outcome.judged;
        }
        edges
    }

    /// Waits with deadlines from none to half a second.
    fn wait(&self, seed: u64) -> (usize, usize) {
        let (mut passed, mut timed_out) = (0, 0);
        let mut n = seed;
        while !self.over.load(Relaxed) {
            n += 1;
            let deadline = Instant::now() + Duration::from_millis(n * 7919 % 500);
            let stamp = Stamp::now();
            let waited = if n % 2 == 0 {
                self.barrier.wait(stamp, deadline)
            } else {
                self.barrier.wait_passive(stamp, deadline)
            };
            let late = Instant::now().saturating_duration_since(deadline);
            assert!(late < LATE, "a wait ended {late:?} after its deadline");
            match waited {
                Ok(()) => {
                    assert!(self.barrier.passed(stamp).unwrap());
                    passed += 1;
                }
                Err(WaitError::TimedOut { watermark_ns, .. }) => {
                    assert!(watermark_ns <= stamp.ns() && Instant::now() >= deadline);
                    timed_out += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        (passed, timed_out)
    }

    /// Holds every time in the file to the clock and to what it was before.
    fn watch(&self) {
        let mut before = self.barrier.watermark().unwrap();
        let mut vtime = 0;
        while !self.over.load(Relaxed) {
            let now = self.barrier.watermark().unwrap();
            assert!(
                now.ns >= before.ns
                    && now.vtime >= before.vtime
                    && now.generation >= before.generation,
                "{before:?}, then {now:?}"
            );
            assert!(now.ns <= clock::now_ns(), "{now:?} is in the future");
            let current = self.barrier.vtime().unwrap();
            assert!(current >= vtime && current >= now.vtime, "{vtime}, then {current}; {now:?}");
            (before, vtime) = (now, current);
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// A reader and a writer; each node's name is read again and again while pinned.
    fn reclaim(&self, on: &Reclaimer) -> (usize, u64) {
        let cells: [AtomicPtr<Node>; 4] = std::array::from_fn(|i| AtomicPtr::new(fresh(i as u64)));
        let (names, reads, done) =
            (AtomicU64::new(100), AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            let _done = Over(&done);
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    let n = reads.fetch_add(1, Relaxed);
                    let guard = on.pin();
                    // SAFETY: protected while the guard lives.
                    let node = unsafe { &*guard.protect(&cells[n % 4]) };
                    let name = node.0.load(Relaxed);
                    assert_ne!(name, POISON, "reached after it was freed");
                    for _ in 0..(n % 8) * 16 {
                        assert_eq!(node.0.load(Relaxed), name, "freed while pinned");
                    }
                    if n % 1024 == 0 {
                        // Asleep while pinned, so that daemons come and go under a guard.
                        thread::sleep(Duration::from_micros(100));
                    }
                }
            });
            let mut retired = 0;
            while !self.over.load(Relaxed) {
                for _ in 0..8 {
                    let new = fresh(names.fetch_add(1, Relaxed));
                    let cell = &cells[usize::try_from(retired).unwrap() % 4];
                    let old = cell.swap(new, AcqRel);
                    // SAFETY: unlinked by the swap, retired once; `poison` frees nothing.
                    unsafe { on.retire_with(old, poison) };
                    retired += 1;
                }
                thread::sleep(Duration::from_micros(100));
            }
            on.synchronize(Instant::now() + super::PATIENCE).unwrap();
            (reads.load(Relaxed), retired)
        })
    }
}
