//! The daemon's answer to who can't wait: kicks, and the serving of requests.
//!
//! Owns the order of these steps. Whom to kick, what a request is worth and how often either happens
//! are `laggards`', `requests`' and `bucket`'s business.

use std::hint;

use anyhow::Result;
use rustix::thread::sched_getcpu;

use super::Daemon;
use crate::clock::now_ns;
use crate::idle;
use crate::laggards::{For, Means, Outcome};
use crate::machine::IDLE;
use crate::pace::How;
use crate::report::say;

/// How long after a kick the slot is watched, in nanoseconds. Less than a kick costs.
const SHOWS_NS: u64 = 5_000;

/// Evidence times that are read before a request is served all the same. A reading takes 1 us or more,
/// and some 15 us are to be waited for.
const READINGS: usize = 32;

impl Daemon<'_> {
    /// Serves a batch of requests, all at once: arm, kick those that lag, check, publish.
    ///
    /// Costs one token, worth a round or not: a flood of nonsense costs no more than the rate.
    pub(super) fn serve(&mut self) -> Result<()> {
        let Some(socket) = self.socket.as_ref().filter(|_| self.expedites.take(now_ns())) else {
            return Ok(());
        };
        let batch = socket.drain();
        self.counters.requests += batch.sound;
        self.counters.dropped += batch.dropped;
        if batch.somebody_waits() {
            self.pace.demand(now_ns());
        }
        let Some(wanted) = batch.wanted(self.machine.last_interrupt_ns()) else { return Ok(()) };
        self.counters.expedites += 1;
        self.publisher.asked();
        // Evidence trails the clock by its margin and what reading it takes, and must be later than the
        // stamp, which is not later than the clock was. Bounded by count, whatever the clock does.
        (0..READINGS).find(|_| self.clock.read() > wanted);
        self.arm(How::Pause);
        self.kick(For::Waiter);
        // After a sleep all lag far, offline or not; to ask which takes longer than the scan.
        self.sweep(false)?;
        if self.machine.last_interrupt_ns() <= wanted {
            self.publish()?;
        }
        Ok(())
    }

    /// Kicks who has not passed what is armed, as far as the rules allow; whether anyone was kicked.
    ///
    /// Credits nobody: the scan after it does, by the slots.
    pub(super) fn kick(&mut self, whom: For) -> bool {
        if let Some(isolated) = self.isolated.refresh(now_ns()) {
            self.laggards.isolate(isolated);
        }
        let own = sched_getcpu();
        let mut any = false;
        // Who shows IDLE without being idle has to be kicked, too.
        let answered = idle::read_slots(&mut self.shared, &mut self.slots);
        self.answered(answered);
        for cpu in 0..self.machine.cpus() {
            // Moved here since `own` was asked: then the switch away from there has stamped it.
            if cpu == own || !self.online.cpus().contains(cpu) {
                continue;
            }
            let (before, now) = (self.shared.slot(cpu), now_ns());
            if self.slots[cpu] == IDLE || (before != IDLE && before >= self.armed) {
                continue;
            }
            let lag_ns = now.saturating_sub(self.machine.cpu_ns(cpu));
            if !self.laggards.kick(cpu, lag_ns, whom, now) {
                continue;
            }
            any = true;
            // Taken along with an interrupt that had begun before the arming? The next is one of its
            // own. Offline once? Only the other means interrupts it.
            let mut moved = None;
            for (attempt, &means) in self.laggards.means(cpu, now).iter().enumerate() {
                if attempt > 0 && !self.laggards.kick(cpu, lag_ns, whom, now) {
                    break;
                }
                if self.kick_once(cpu, before, means) {
                    moved = Some(means);
                    break;
                }
            }
            match self.laggards.kicked(cpu, moved, now) {
                Outcome::Moved => {}
                Outcome::Missed => self.counters.missed_kicks += 1,
                Outcome::Died => {
                    self.counters.missed_kicks += 1;
                    self.counters.dead_kicks += 1;
                    say(format_args!(
                        "CPU {cpu} is not interrupted by kicks: barriers wait for its own next \
                         interrupt, and kicks are tried once a second; restart barrierd if it stays \
                         so"
                    ));
                }
            }
        }
        any
    }

    /// Kicks `cpu`, whose slot showed `before`, and looks whether it shows what is armed; for a moment, since a CPU that polls
    /// in its idle task shows it only when it has gone on to what woke it.
    fn kick_once(&mut self, cpu: usize, before: u64, means: Means) -> bool {
        self.kicks.kick(cpu, means);
        self.counters.kicks += 1;
        let until = now_ns() + SHOWS_NS;
        loop {
            // Another value is not enough: an event that began before the arming moves it, too. Nor is
            // IDLE, if it was there before.
            let slot = self.shared.slot(cpu);
            if slot >= self.armed && slot != before {
                return true;
            }
            if now_ns() >= until {
                return false;
            }
            hint::spin_loop();
        }
    }
}
