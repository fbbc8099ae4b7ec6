//! What the daemon goes on believing: that its own waits are traced, and that IDLE means idle.
//!
//! Owns when either belief ends and what is said then. How a look at the own CPU is made is `proof`'s
//! business.

use barrierd_client::abi;

use super::Daemon;
use crate::clock::now_ns;
use crate::log;
use crate::proof::{self, Proof};
use crate::report::say;

/// How often the kernel is asked for missed events, and the log for lost lines, in nanoseconds.
const CHECK_NS: u64 = abi::HEARTBEAT_PERIOD_NS;

/// The sched_switch program not having seen the daemon for this long is gone, in nanoseconds.
const UNSEEN_NS: u64 = 1_000_000_000;
/// And for so many waits.
const UNSEEN: u32 = 10;

/// Between two lines of sums, in nanoseconds.
const SUMMARY_NS: u64 = 1_000_000_000;

impl Daemon<'_> {
    /// Makes sure that the wait was traced on CPU `own`.
    ///
    /// If it wasn't, a CPU may have left its idle task unseen, so IDLE is worth nothing any more,
    /// here and everywhere and for good: its program may come back to life, but what it missed it
    /// never learns. A slot with a time in it still says what it always said, that the CPU took a
    /// barrier point after that time, for it was stored by that very barrier. So publishing may
    /// start again, from the slots alone, when the proof holds again. Until then it does not beat
    /// either, so that clients take it for dead and help themselves.
    pub(super) fn prove(&mut self, own: usize, armed: u64) {
        self.prove_switch(armed);
        let proved = match proof::look(&self.shared, own, armed) {
            Proof::Moved => return,
            Proof::Holds => true,
            Proof::Fails => false,
        };
        if proved == self.proved {
            return;
        }
        self.proved = proved;
        if proved {
            say(format_args!(
                "tracing works again on CPU {own}: publishing, without idle inference; restart \
                 barrierd to have that back"
            ));
            return;
        }
        say(format_args!(
            "tracing is broken on CPU {own}: barrierd ran there, but its programs did not (slot \
             {:#x}, armed {armed:#x}); publishing nothing until they do, so clients take this \
             daemon for dead; is another tool detaching BPF programs (`bpftool link`)? stop it, \
             then restart barrierd",
            self.shared.slot(own)
        ));
        self.distrust_idle("tracing is broken");
    }

    /// Makes sure that the sched_switch program saw the daemon come back from the wait, which began
    /// after `armed` was armed. While it didn't, IDLE is worth nothing; if that lasts, for good.
    pub(super) fn prove_switch(&mut self, armed: u64) {
        self.switch_seen = self.shared.switched() >= armed;
        if self.idle_trusted && !self.switch_seen {
            // What ended the wait may have been there before it, or its time was up, so that there was
            // no switch: make one.
            proof::nap();
            self.switch_seen = self.shared.switched() >= armed;
        }
        let now = now_ns();
        if self.switch_seen {
            (self.seen_ns, self.unseen) = (now, 0);
            return;
        }
        self.unseen += 1;
        // Not by time alone: the daemon may not have run for that long.
        let gone = self.unseen >= UNSEEN && now.saturating_sub(self.seen_ns) >= UNSEEN_NS;
        if self.idle_trusted && gone {
            self.distrust_idle(
                "the sched_switch program has not seen this daemon run for a second; is another tool \
                 detaching BPF programs?",
            );
        }
    }

    /// Now and then: has the kernel skipped the program that writes IDLE? Is the log behind?
    pub(super) fn check(&mut self, now: u64) {
        let due = now.saturating_sub(self.checked_ns) >= CHECK_NS;
        if due {
            self.checked_ns = now;
            log::catch_up();
        }
        if due && self.idle_trusted {
            let why = match self.kernel.missed_switches() {
                Ok(0) => None,
                Ok(n) => {
                    self.counters.missed_events = n;
                    Some(format!("the kernel skipped the sched_switch program {n} times"))
                }
                Err(error) => Some(format!("reading the program's fdinfo: {error}")),
            };
            if let Some(why) = why {
                self.distrust_idle(&why);
            }
        }
        if self.verbose && now.saturating_sub(self.summed_ns) >= SUMMARY_NS {
            let age_us = now.saturating_sub(self.machine.last_interrupt_ns()) / 1_000;
            say(format_args!(
                "{}; {} busy, watermark {age_us} us old",
                self.counters.since(&self.summed),
                self.busy
            ));
            self.summed = self.counters;
            self.summed_ns = now;
        }
    }

    /// Ends idle inference for good.
    pub(super) fn distrust_idle(&mut self, why: &str) {
        if std::mem::replace(&mut self.idle_trusted, false) {
            self.shared.set_broken();
            say(format_args!(
                "idle inference has ended until barrierd is restarted: {why}; barriers stay sound, \
                 but wait for idle CPUs' next interrupt; please report this with the kernel's version \
                 (uname -a)"
            ));
        }
    }
}
