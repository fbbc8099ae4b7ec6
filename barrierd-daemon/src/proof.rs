//! Whether tracing works: the daemon's own CPU must show what the daemon just did.
//!
//! Owns that check, and the tour of all CPUs at the start. Knows nothing of what follows.
//!
//! The daemon arms, then waits. To go on it was switched in, an event on its CPU after the arming,
//! so that CPU's slot holds that arming or a later one. IDLE there says that this switch was not traced,
//! but not that nothing is: so it is taken away, the daemon sleeps, and whatever value comes in its place
//! was stored by a program that runs. Where nothing comes, nothing is traced.
//!
//! It is a report: no evidence rests on it. Where nothing is traced no slot moves, and nothing passes.

use anyhow::{Result, bail};
use barrierd_bpf::layout::IDLE;
use rustix::thread::{CpuSet as Affinity, sched_getaffinity, sched_getcpu, sched_setaffinity};

use crate::clock::{self, EvidenceClock};
use crate::cpulist::CpuSet;
use crate::report::say;
use crate::shared_words::SharedWords;

/// How long to sleep before each further check, in nanoseconds: at first what ended the wait may have been
/// there before it. A short sleep may be over before the kernel has switched tasks, on some architectures
/// every time (its timer expires within `schedule`); none is as long as the last one without a switch.
const SLEEPS_NS: [u64; 4] = [50_000, 1_000_000, 10_000_000, 100_000_000];

/// What the own CPU's slot shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A program ran there since.
    Holds,
    /// The daemon moved to another CPU meanwhile: nothing learned.
    Moved,
    /// None did.
    Fails,
}

/// Checks the slot of CPU `own`, where the daemon was before a wait that began after `armed` was
/// armed. Sleeps a little if the slot doesn't show it at first.
#[must_use]
pub fn check(words: &SharedWords, own: usize, armed: u64) -> Proof {
    let mut taken = false;
    for sleep_ns in std::iter::once(None).chain(SLEEPS_NS.map(Some)) {
        if let Some(ns) = sleep_ns {
            clock::sleep(ns);
        }
        if sched_getcpu() != own {
            return Proof::Moved;
        }
        let slot = words.slot(own);
        if slot >= armed && (slot != IDLE || taken) {
            return Proof::Holds;
        }
        if slot == IDLE {
            words.take_idle(own);
            words.note_miss();
            taken = true;
        }
    }
    Proof::Fails
}

/// Goes to each online CPU in turn, with a fresh arming: initialises its slot and proves that it
/// traces. Goes back to the CPUs that it was allowed before.
///
/// A CPU that this process may not run on is left out, with a line that says so: its slot is 0,
/// "never seen", and it is waited for.
///
/// # Errors
///
/// A CPU does not trace, or the affinity can't be restored.
pub fn tour(words: &SharedWords, clock: &mut EvidenceClock, online: &CpuSet) -> Result<()> {
    let before = match sched_getaffinity(None) {
        Ok(before) => before,
        Err(error) => {
            say(format_args!(
                "can't read this process's CPU affinity ({error}), so no CPU is proved to trace \
                 before it is first seen: barriers begin once each has taken an interrupt; nothing \
                 else is lost"
            ));
            return Ok(());
        }
    };
    let toured = online.iter().try_for_each(|cpu| visit(words, clock, cpu));
    if let Err(error) = sched_setaffinity(None, &before) {
        bail!("going back to this process's own CPUs after visiting each: {error}");
    }
    toured
}

fn visit(words: &SharedWords, clock: &mut EvidenceClock, cpu: usize) -> Result<()> {
    let armed = clock.read();
    words.arm(armed);
    if cpu >= Affinity::MAX_CPU {
        say(format_args!(
            "CPU {cpu}: not visited, affinity masks end at {}, so barriers begin once it has taken an \
             interrupt",
            Affinity::MAX_CPU
        ));
        return Ok(());
    }
    let mut only = Affinity::new();
    only.set(cpu);
    if let Err(error) = sched_setaffinity(None, &only) {
        say(format_args!(
            "CPU {cpu}: not visited ({error}), so barriers begin once it has taken an interrupt; if \
             a cpuset forbids it, start barrierd outside of it (AllowedCPUs= in the unit)"
        ));
        return Ok(());
    }
    match check(words, cpu, armed) {
        Proof::Holds => Ok(()),
        Proof::Moved => {
            say(format_args!(
                "CPU {cpu}: went offline while it was being visited, and is waited for when it is \
                 back"
            ));
            Ok(())
        }
        Proof::Fails => bail!(
            "CPU {cpu} does not trace: barrierd ran on it, but its programs did not \
             (slot {:#x}, armed {armed:#x}); is another tool detaching BPF programs (`bpftool link`)? \
             stop it and start barrierd again",
            words.slot(cpu)
        ),
    }
}
