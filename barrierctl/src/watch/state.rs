//! What the snapshots so far add up to: rates, the greatest ages, histories.
//!
//! Owns the reckoning from snapshot to snapshot and from frame to frame; pure. Knows nothing of how it is
//! shown.

use std::collections::VecDeque;

use barrierd_client::Liveness;
use barrierd_client::counters::{Word, version_text};

use super::machine::{Machine, Times};
use crate::snapshot::Snapshot;

/// Frames that are remembered: as many as a wide terminal can show.
const FRAMES: usize = 256;
/// A CPU that was idle for all but this part of the time is called idle, in per cent.
const IDLE_PERCENT: u64 = 2;

/// All that a frame shows.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) file: String,
    pub(super) liveness: Liveness,
    pub(super) advice: Option<&'static str>,
    pub(super) legacy: bool,
    /// Who the daemon is, where it tells.
    pub(super) daemon: Option<Who>,
    /// Whether each CPU has an age of its own.
    pub(super) exact: bool,
    /// How old the barrier is that has passed on every CPU: the greatest since the last frame. `None`:
    /// there is none.
    pub(super) age_ns: Option<u64>,
    /// The same, frame by frame, oldest first.
    pub(super) ages: VecDeque<Option<u64>>,
    pub(super) rates: Option<Rates>,
    /// Kicks a second, frame by frame.
    pub(super) kicks: VecDeque<Option<u64>>,
    /// Whether barriers are rare because nobody waits.
    pub(super) easy: bool,
    /// The longest round, and the CPU that was last in it.
    pub(super) longest: Option<(u64, u64)>,
    pub(super) cpus: Vec<Cpu>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) version: String,
    pub(super) pid: u64,
    pub(super) up_ns: u64,
}

/// Tenths of things a second, since the last frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rates {
    pub(super) rounds: u64,
    pub(super) wake_ups: u64,
    pub(super) requests: u64,
    pub(super) kicks: u64,
}

/// One CPU.
#[derive(Clone, Debug, Default)]
pub(super) struct Cpu {
    pub(super) doing: Doing,
    /// The greatest age of its barrier since the last frame; `None`: it had none.
    pub(super) age_ns: Option<u64>,
    pub(super) ages: VecDeque<Option<u64>>,
}

/// What a CPU did since the last frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Doing {
    #[default]
    Unknown,
    Offline,
    Idle,
    /// So many per cent of the time.
    Busy(u64),
}

pub(super) struct State {
    file: String,
    legacy: bool,
    ages: VecDeque<Option<u64>>,
    kicks: VecDeque<Option<u64>>,
    /// The greatest since the last frame.
    age_ns: Option<u64>,
    cpus: Vec<Cpu>,
    machine: Machine,
    /// When, and what was counted then.
    counted: Option<(u64, [u64; COUNTED.len()])>,
}

const COUNTED: [Word; 4] = [Word::Rounds, Word::WakeUps, Word::Requests, Word::Kicks];

impl State {
    /// Of the file of that name, after a first snapshot.
    pub(super) fn new(file: String, legacy: bool, snapshot: &Snapshot, machine: Machine) -> Self {
        Self {
            file,
            legacy,
            ages: VecDeque::new(),
            kicks: VecDeque::new(),
            age_ns: None,
            cpus: Vec::new(),
            machine,
            counted: counted(snapshot),
        }
    }

    /// Takes a snapshot in that gets no frame of its own.
    pub(super) fn add(&mut self, snapshot: &Snapshot) {
        let age = |ns: u64| (ns != 0).then(|| snapshot.now_ns.saturating_sub(ns));
        self.age_ns = self.age_ns.max(age(snapshot.mark.ns));
        self.cpus.resize_with(snapshot.cpus.len(), Cpu::default);
        for (cpu, &ns) in self.cpus.iter_mut().zip(&snapshot.cpus) {
            cpu.age_ns = cpu.age_ns.max(age(ns));
        }
    }

    /// Ends a frame with the last snapshot: what is to be shown.
    pub(super) fn turn(&mut self, snapshot: &Snapshot, machine: &Machine) -> View {
        let rates = self.rates(snapshot);
        push(&mut self.ages, self.age_ns);
        push(&mut self.kicks, rates.map(|rates| rates.kicks));
        for (i, cpu) in self.cpus.iter_mut().enumerate() {
            cpu.doing = doing(i, &self.machine, machine);
            push(&mut cpu.ages, cpu.age_ns);
        }
        self.machine.clone_from(machine);
        let counters = snapshot.counters.as_ref().ok();
        let daemon = counters.map(|counters| Who {
            version: version_text(counters.get(Word::Program).unwrap_or(0)),
            pid: counters.get(Word::Pid).unwrap_or(0),
            up_ns: snapshot.now_ns.saturating_sub(counters.start_ns),
        });
        let longest = counters.and_then(|counters| {
            Some((counters.get(Word::LongestRound)?, counters.get(Word::LongestRoundCpu)?))
        });
        let view = View {
            file: self.file.clone(),
            liveness: snapshot.liveness,
            advice: snapshot.advice(),
            legacy: self.legacy,
            daemon,
            exact: snapshot.exact,
            age_ns: self.age_ns,
            ages: self.ages.clone(),
            rates,
            kicks: self.kicks.clone(),
            easy: counters.is_some_and(|counters| counters.get(Word::Keen) == Some(0)),
            longest,
            cpus: self.cpus.clone(),
        };
        self.age_ns = None;
        self.cpus.iter_mut().for_each(|cpu| cpu.age_ns = None);
        view
    }

    fn rates(&mut self, snapshot: &Snapshot) -> Option<Rates> {
        let now = counted(snapshot);
        let (then, now) = (std::mem::replace(&mut self.counted, now)?, now?);
        let span = now.0.checked_sub(then.0).filter(|&span| span > 0)?;
        let mut tenths = [0; COUNTED.len()];
        for (tenths, (new, old)) in tenths.iter_mut().zip(now.1.iter().zip(then.1)) {
            // Another daemon counts from 0.
            let more = u128::from(new.checked_sub(old)?);
            *tenths = u64::try_from(more * 10_000_000_000 / u128::from(span)).unwrap_or(u64::MAX);
        }
        let [rounds, wake_ups, requests, kicks] = tenths;
        Some(Rates { rounds, wake_ups, requests, kicks })
    }
}

fn counted(snapshot: &Snapshot) -> Option<(u64, [u64; COUNTED.len()])> {
    let counters = snapshot.counters.as_ref().ok()?;
    Some((snapshot.now_ns, COUNTED.map(|word| counters.get(word).unwrap_or(0))))
}

fn push(history: &mut VecDeque<Option<u64>>, value: Option<u64>) {
    if history.len() == FRAMES {
        history.pop_front();
    }
    history.push_back(value);
}

/// What CPU `cpu` did from `then` to `now`.
fn doing(cpu: usize, then: &Machine, now: &Machine) -> Doing {
    if !now.online.is_empty() && !now.online.get(cpu).copied().unwrap_or(false) {
        return Doing::Offline;
    }
    let at = |machine: &Machine| machine.times.get(cpu).copied().flatten();
    let (Some(Times { busy: busy0, idle: idle0 }), Some(Times { busy, idle })) =
        (at(then), at(now))
    else {
        return Doing::Unknown;
    };
    // The kernel's idle times may step back.
    let (busy, idle) = (busy.saturating_sub(busy0), idle.saturating_sub(idle0));
    let percent = (busy * 100).checked_div(busy + idle);
    match percent {
        None => Doing::Unknown,
        Some(percent) if percent < IDLE_PERCENT => Doing::Idle,
        Some(percent) => Doing::Busy(percent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use barrierd_client::counters::Counters;

    fn machine(online: &[bool], times: &[(u64, u64)]) -> Machine {
        let times = times.iter().map(|&(busy, idle)| Some(Times { busy, idle })).collect();
        Machine { times, online: online.into() }
    }

    #[test]
    fn what_a_cpu_did() {
        let then = machine(&[true; 4], &[(10, 10), (10, 10), (10, 10), (10, 10)]);
        let now = machine(&[true, true, false, true], &[(60, 60), (10, 109), (10, 10), (10, 10)]);
        assert_eq!(doing(0, &then, &now), Doing::Busy(50));
        assert_eq!(doing(1, &then, &now), Doing::Idle);
        assert_eq!(doing(2, &then, &now), Doing::Offline);
        assert_eq!(doing(3, &then, &now), Doing::Unknown);
        assert_eq!(doing(4, &then, &now), Doing::Offline);
        let untold = machine(&[], &[(20, 5)]);
        assert_eq!(doing(0, &then, &untold), Doing::Busy(100));
        assert_eq!(doing(1, &then, &untold), Doing::Unknown);
    }

    fn snapshot(now_ns: u64, mark_ns: u64, cpus: &[u64], rounds: u64) -> Snapshot {
        use barrierd_client::{Watermark, counters};
        let base = counters::base(1);
        let counters = Counters::read(1, base + counters::BYTES, |offset| match offset - base {
            counters::MAGIC => counters::MAGIC_VALUE,
            counters::VERSION => counters::VERSION_VALUE,
            counters::COUNT => u64::try_from(counters::WORDS).expect("few"),
            counters::START_NS => 7,
            at if at == Word::Rounds.offset() => rounds,
            _ => 0,
        });
        Snapshot {
            liveness: Liveness::Alive,
            mark: Watermark { ns: mark_ns, vtime: 0, generation: 1 },
            counters,
            cpus: cpus.into(),
            exact: true,
            now_ns,
        }
    }

    #[test]
    fn a_frame_has_the_greatest_ages_since_the_last_and_rates_between_them() {
        let s = 1_000_000_000;
        let mut state =
            State::new("/x".into(), false, &snapshot(s, s, &[s, s], 10), Machine::default());
        state.add(&snapshot(s + 100, s + 40, &[s + 40, s + 90], 0));
        state.add(&snapshot(s + 200, s + 190, &[s + 195, s + 191], 0));
        let view = state.turn(&snapshot(2 * s, s, &[s, s], 35), &Machine::default());
        assert_eq!(view.age_ns, Some(60));
        let ages: Vec<_> = view.cpus.iter().map(|cpu| cpu.age_ns).collect();
        assert_eq!(ages, [Some(60), Some(10)]);
        assert_eq!(view.rates.map(|rates| rates.rounds), Some(250));
        assert_eq!(view.daemon.map(|who| who.up_ns), Some(2 * s - 7));

        // No watermark to be had, one CPU that never passed, and a daemon that counts from 0 again.
        state.add(&snapshot(3 * s, 0, &[0, 3 * s - 5], 0));
        let view = state.turn(&snapshot(3 * s, 0, &[0, 3 * s - 5], 3), &Machine::default());
        assert_eq!((view.age_ns, view.rates), (None, None));
        assert_eq!(view.ages, [Some(60), None]);
        let ages: Vec<_> = view.cpus.iter().map(|cpu| cpu.ages.clone()).collect();
        assert_eq!(ages, [[Some(60), None], [Some(10), Some(5)]]);
    }

    #[test]
    fn histories_forget_the_oldest() {
        let mut history = VecDeque::new();
        (0..300).for_each(|i| push(&mut history, Some(i)));
        assert_eq!(
            (history.len(), history.front(), history.back()),
            (256, Some(&Some(44)), Some(&Some(299)))
        );
    }
}
