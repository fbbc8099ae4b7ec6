//! Whether the daemon's own tracing works, and what it says of that.
//!
//! Owns when tracing counts as broken, when switches count as missed, and the words. Evidence rests on
//! none of it: a slot's time was stored by the very barrier that it speaks of, and idle CPUs are asked
//! for (`idle`). But who isn't seen is late, and the operator should know why. How the own
//! CPU is checked is `proof`'s business.

use barrierd_client::abi;

use super::Daemon;
use crate::log;
use crate::proof::{self, Proof};
use crate::report::say;

/// How often to look for switches that were missed, and at the log for lost lines, in nanoseconds.
const CHECK_NS: u64 = abi::HEARTBEAT_PERIOD_NS;

/// The sched_switch program not having seen the daemon for this long is gone, in nanoseconds.
const UNSEEN_NS: u64 = 1_000_000_000;
/// And for so many waits: the daemon may not have run for that long.
const UNSEEN: u64 = 10;

/// Between two lines of sums, in nanoseconds.
const SUMMARY_NS: u64 = 1_000_000_000;

/// What is known of the programs on whom idle CPUs depend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Switches {
    /// Who is idle was answered when it was last asked.
    answered: bool,
    /// The sched_switch program has seen the daemon.
    seen: bool,
    /// By this arming, at this time and after so many waits.
    switched: u64,
    seen_ns: u64,
    waits: u64,
    checked_ns: u64,
}

impl Switches {
    /// All well, so far.
    pub(super) fn new(now: u64) -> Self {
        Self { answered: true, seen: true, switched: 0, seen_ns: now, waits: 0, checked_ns: now }
    }
}

impl Daemon<'_> {
    /// Whether an idle CPU passes barriers without an event.
    pub(super) fn infers_idle(&self) -> bool {
        self.kernel.infers_idle() && self.switches.answered && self.switches.seen
    }

    /// Checks whether the wait was traced on CPU `own`.
    ///
    /// If it wasn't, nothing is published until it is again. That would be sound, for what slots say
    /// stays true; but nothing new comes, and as long as this daemon does not beat either, clients take it
    /// for dead and help themselves.
    pub(super) fn prove(&mut self, own: usize, armed: u64) {
        let proved = match proof::check(&self.shared, own, armed) {
            Proof::Moved => return,
            Proof::Holds => true,
            Proof::Fails => false,
        };
        if proved == self.proved {
            return;
        }
        self.proved = proved;
        if proved {
            say(format_args!("tracing works again on CPU {own}: publishing"));
            return;
        }
        say(format_args!(
            "tracing is broken on CPU {own}: barrierd ran there, but its programs did not (slot \
             {:#x}, armed {armed:#x}); publishing nothing until they do, so clients take this \
             daemon for dead; is another tool detaching BPF programs (`bpftool link`)? stop it, \
             then restart barrierd",
            self.shared.slot(own)
        ));
    }

    /// It was asked who is idle, and `answered` or not.
    pub(super) fn answered(&mut self, answered: bool) {
        if std::mem::replace(&mut self.switches.answered, answered) == answered {
            return;
        }
        if answered {
            say(format_args!("the program that tells which CPUs are idle answers again"));
        } else {
            say(format_args!(
                "the program that tells which CPUs are idle does not answer: barriers stay sound, but \
                 wait for idle CPUs' next interrupt; is another tool detaching BPF programs (`bpftool \
                 link`)? stop it, then restart barrierd"
            ));
        }
    }

    /// Now and then: were switches missed, and is the program there that sees them? Has the log a backlog?
    pub(super) fn self_check(&mut self, now: u64) {
        if now.saturating_sub(self.switches.checked_ns) >= CHECK_NS {
            self.switches.checked_ns = now;
            log::catch_up();
            if self.kernel.infers_idle() {
                self.check_misses();
                self.check_switches(now);
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

    fn check_misses(&mut self) {
        let missed = self.shared.missed();
        if self.counters.missed_events == 0 && missed > 0 {
            say(format_args!(
                "a CPU left its idle task and the switch was not traced: no barrier passes early for \
                 it, but each such switch can delay one, by a tick or so while this daemon is awake, by 90 \
                 ms at most if it slept; `barrierctl status` counts them; please report this with the \
                 kernel's version (uname -a), unless another tool detaches BPF programs"
            ));
        }
        self.counters.missed_events = missed;
    }

    fn check_switches(&mut self, now: u64) {
        let (switched, waits) = (self.shared.switched(), self.counters.wake_ups);
        let switches = &mut self.switches;
        if switched != switches.switched {
            (switches.switched, switches.seen_ns, switches.waits) = (switched, now, waits);
            if !std::mem::replace(&mut switches.seen, true) {
                say(format_args!("the sched_switch program sees this daemon run again"));
            }
            return;
        }
        let gone =
            waits - switches.waits >= UNSEEN && now.saturating_sub(switches.seen_ns) >= UNSEEN_NS;
        if gone && std::mem::replace(&mut switches.seen, false) {
            say(format_args!(
                "the sched_switch program has not seen this daemon run for a second: barriers stay \
                 sound, but CPUs that go idle hold them up until their next interrupt; is another tool \
                 detaching BPF programs (`bpftool link`)? stop it, then restart barrierd"
            ));
        }
    }
}
