//! The adversarial checker: "store mine, read yours" without a fence on the fast side.
//!
//! Owns the game and its judge. Knows nothing of daemons: a barrier is a closure, so that the same
//! game runs here and in the virtual machines of `tests/vm`.
//!
//! A fast thread's section `r` stores `r` in its word, then reads which round is asked for. The slow
//! side asks for round `k`, stamps, learns that the barrier for the stamp has passed, and looks at
//! the words: a section that it can't see must have seen `k`. So each fast thread's first section to
//! see `k` is at most the one after the last that was visible. One round where it isn't is a store
//! that was missed: a freed object under a reader's hands.
//!
//! Stamps are times, or virtual times: these are loaded plainly after a plain store, without a fence,
//! so the slow side's own store may still wait in its store buffer.
//!
//! What makes it sharp: before each section the fast thread stores to lines that no cache holds, so
//! that its own word waits behind them in the store buffer, for most of the time. Without a barrier
//! 95 of 100 rounds are then broken on two AMD EPYC CPUs, with the word alone 1 of 80; a barrier
//! that comes 200 ns too early is found in 1 round of 6, one of 1 us in 1 of 40,000.

use barrierd_client::Stamp;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::collections::VecDeque;
use std::sync::LazyLock;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, compiler_fence};
use std::thread;
use std::time::{Duration, Instant};

/// How fast threads rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Never: each owns its CPU.
    Never,
    /// A nap now and then, so that the CPU idles at times.
    Naps,
    /// Naps, and back to the own CPU after each: it may go offline meanwhile, and the kernel moves
    /// the thread elsewhere.
    #[allow(dead_code, reason = "only the virtual machines unplug CPUs")]
    Roams,
}

/// What became of a game.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Barriers that were judged.
    pub(crate) judged: usize,
    /// Those after which a store was missed.
    pub(crate) broken: usize,
}

/// One game: fast threads, a number of rounds.
pub(crate) struct Game {
    asked: Word,
    players: Vec<Player>,
    stop: AtomicBool,
}

#[repr(align(128))]
struct Word(AtomicU64);

impl Word {
    fn zero() -> Word {
        Word(AtomicU64::new(0))
    }
}

/// Far more than a cache: 128 MiB. A power of two.
const CLUTTER_BITS: u32 = 20;

/// Stores to it before each section.
const CLUTTER_STORES: u64 = 10;

static CLUTTER: LazyLock<Vec<Word>> =
    LazyLock::new(|| (0..1 << CLUTTER_BITS).map(|_| Word::zero()).collect());

/// Fills this CPU's store buffer with stores that take their time.
fn clutter(lines: &[Word], section: u64) {
    for n in section * CLUTTER_STORES..(section + 1) * CLUTTER_STORES {
        // Fibonacci hashing: any order but the one that a prefetcher knows.
        let at = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - CLUTTER_BITS);
        lines[usize::try_from(at).unwrap()].0.store(section, Relaxed);
    }
}

struct Player {
    cpu: usize,
    section: Word,
    /// For each round, the first section that saw it.
    first: Vec<AtomicU64>,
}

/// A round whose barrier has passed, and each player's word as it stood then.
type Look = (usize, Vec<u64>);

impl Game {
    /// A game of so many rounds, with a fast thread on each of `cpus`.
    pub(crate) fn new(cpus: &[usize], rounds: usize) -> Game {
        let player = |&cpu| Player {
            cpu,
            section: Word::zero(),
            first: (0..=rounds).map(|_| AtomicU64::new(0)).collect(),
        };
        let players = cpus.iter().map(player).collect();
        Game { asked: Word::zero(), players, stop: AtomicBool::new(false) }
    }

    /// Asks round after round and waits for each: `barrier` returns once it has passed.
    #[allow(dead_code, reason = "not every program that plays waits")]
    pub(crate) fn wait_each(&self, rest: Rest, mut barrier: impl FnMut(Stamp)) -> Outcome {
        self.play(rest, |rounds| {
            let round = |round| {
                barrier(self.ask(round));
                (round, self.look())
            };
            (1..=rounds).map(round).collect()
        })
    }

    /// Asks round after round without waiting, and judges the newest round that each new watermark
    /// covers: the sharpest look that a watermark allows. `watermark` is in nanoseconds.
    pub(crate) fn every_edge(&self, rest: Rest, watermark: impl FnMut() -> u64) -> Outcome {
        self.edges(rest, |round| self.ask(round).ns(), watermark)
    }

    /// The same in virtual time: `now` is a plain load of the current one, `watermark` the last
    /// that has passed.
    #[allow(dead_code, reason = "not every program that plays has a daemon")]
    pub(crate) fn every_virtual_edge(
        &self,
        rest: Rest,
        now: impl Fn() -> u64,
        watermark: impl FnMut() -> u64,
    ) -> Outcome {
        let ask = |round: usize| {
            let round = u64::try_from(round).unwrap();
            clutter(CLUTTER.as_slice(), round);
            self.asked.0.store(round, Relaxed);
            compiler_fence(SeqCst);
            now()
        };
        self.edges(rest, ask, watermark)
    }

    /// `ask` stores a round and gives its stamp, which has passed once it is below `watermark`.
    fn edges(
        &self,
        rest: Rest,
        ask: impl Fn(usize) -> u64,
        mut watermark: impl FnMut() -> u64,
    ) -> Outcome {
        self.play(rest, |rounds| {
            let (mut looks, mut open) = (Vec::new(), VecDeque::new());
            for round in 1.. {
                if round <= rounds {
                    open.push_back((round, ask(round)));
                } else if open.is_empty() {
                    break;
                }
                let passed = watermark();
                let covered = open.partition_point(|&(_, stamp)| stamp < passed);
                if let Some((newest, _)) = open.drain(..covered).next_back() {
                    looks.push((newest, self.look()));
                }
            }
            looks
        })
    }

    /// Stores the round, and stamps.
    fn ask(&self, round: usize) -> Stamp {
        self.asked.0.store(u64::try_from(round).unwrap(), Relaxed);
        Stamp::now()
    }

    fn look(&self) -> Vec<u64> {
        self.players.iter().map(|player| player.section.0.load(Relaxed)).collect()
    }

    /// Runs the fast side beside `slow`, then judges what that has seen.
    fn play(&self, rest: Rest, slow: impl FnOnce(usize) -> Vec<Look>) -> Outcome {
        let rounds = self.players[0].first.len() - 1;
        let looks = thread::scope(|scope| {
            // Also if the slow side panics: else the scope never ends.
            let _stop = StopOnDrop(&self.stop);
            for player in &self.players {
                scope.spawn(move || self.fast(player, rest));
            }
            let all = |seen: &dyn Fn(&Player) -> bool| {
                let patience = Instant::now() + super::PATIENCE;
                while !self.players.iter().all(seen) {
                    assert!(Instant::now() < patience, "a fast thread doesn't run");
                    thread::sleep(Duration::from_millis(1));
                }
            };
            all(&|player| player.section.0.load(Relaxed) > 0);
            let looks = slow(rounds);
            all(&|player| player.first[rounds].load(Relaxed) > 0);
            looks
        });
        let missed = |(round, visible): &&Look| {
            self.players
                .iter()
                .zip(visible)
                .any(|(player, &visible)| player.first[*round].load(Relaxed) > visible + 1)
        };
        Outcome { judged: looks.len(), broken: looks.iter().filter(missed).count() }
    }

    fn fast(&self, player: &Player, rest: Rest) {
        let pinned = pin_to(player.cpu);
        assert!(pinned.is_ok() || rest == Rest::Roams, "CPU {}: {pinned:?}", player.cpu);
        let lines = CLUTTER.as_slice();
        let (mut section, mut known) = (0, 0);
        while !self.stop.load(Relaxed) {
            section += 1;
            clutter(lines, section);
            player.section.0.store(section, Relaxed);
            compiler_fence(SeqCst);
            let asked = usize::try_from(self.asked.0.load(Relaxed)).unwrap();
            for round in &player.first[known + 1..=asked] {
                round.store(section, Relaxed);
            }
            known = asked;
            if rest != Rest::Never && section % 1024 == 0 {
                thread::sleep(Duration::from_micros(50));
                if rest == Rest::Roams {
                    // Refused while the CPU is offline.
                    let _ = pin_to(player.cpu);
                }
            }
        }
    }
}

/// Moves this thread to one CPU.
pub(crate) fn pin_to(cpu: usize) -> rustix::io::Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only)
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
