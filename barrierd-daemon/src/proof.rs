//! Whether tracing works: the daemon's own CPU must show what the daemon just did.
//!
//! Owns that look, and the tour of all CPUs at the start. Knows nothing of what follows.
//!
//! The daemon arms, then waits. To go on it was switched in, an event on its CPU after the arming,
//! so that CPU's slot holds that arming or a later one, and not IDLE. Where it doesn't, events are
//! being missed there.
//!
//! That slot can't tell which program moved it, and IDLE rests on sched_switch alone: where that is
//! gone while the timer's goes on, a CPU that leaves its idle task stays IDLE for up to a tick. So
//! the switch program says apart what was armed when it saw the daemon switched to
//! (`SharedWords::switched`), and a scan believes IDLE only if it saw the last wait's end. That it
//! didn't is no proof that it is gone: machines exist where switches away from some tasks are never
//! traced. Only a second of it is.
//!
//! What remains is that it vanishes in the microseconds between a wake-up and the scan that
//! follows; the next wake-up finds it.

use anyhow::{Result, bail};
use barrierd_bpf::layout::IDLE;
use rustix::thread::{CpuSet as Affinity, sched_getaffinity, sched_getcpu, sched_setaffinity};

use crate::clock::{self, EvidenceClock};
use crate::cpulist::CpuSet;
use crate::report::say;
use crate::shared_words::SharedWords;

/// Long enough that the kernel switches to another task and back, in nanoseconds.
const A_SWITCH_NS: u64 = 50_000;

/// How often to look. The first time the wait may not have been one; the others allow for being
/// moved to another CPU and back between two instructions.
const LOOKS: usize = 4;

/// What the own CPU's slot shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The switch to the daemon was seen.
    Holds,
    /// The daemon moved to another CPU meanwhile: nothing learned.
    Moved,
    /// It was not seen.
    Fails,
}

/// Looks at the slot of CPU `own`, where the daemon was before a wait that began after `armed` was
/// armed. Sleeps a little if the slot doesn't show it at first.
#[must_use]
pub fn look(words: &SharedWords, own: usize, armed: u64) -> Proof {
    for sleep_first in (0..LOOKS).map(|look| look > 0) {
        if sleep_first {
            clock::nap(A_SWITCH_NS);
        }
        if sched_getcpu() != own {
            return Proof::Moved;
        }
        let slot = words.slot(own);
        if slot != IDLE && slot >= armed {
            return Proof::Holds;
        }
    }
    Proof::Fails
}

/// Sleeps a little, so that the kernel switches away from the daemon and back.
pub fn nap() {
    clock::nap(A_SWITCH_NS);
}

/// Goes to each online CPU in turn, with a fresh arming: initialises its slot and proves that it
/// traces. Goes back to the CPUs that it was allowed before.
///
/// Whether IDLE may be believed: on each CPU it naps, so that a CPU with nothing else to do goes idle
/// and comes back, which must show.
///
/// A CPU that this process may not run on is left out, with a line that says so: its slot is 0,
/// "never seen", and it is waited for.
///
/// # Errors
///
/// A CPU does not trace, or the affinity can't be restored.
pub fn tour(words: &SharedWords, clock: &mut EvidenceClock, online: &CpuSet) -> Result<bool> {
    let before = match sched_getaffinity(None) {
        Ok(before) => before,
        Err(error) => {
            say(format_args!(
                "can't read this process's CPU affinity ({error}), so no CPU is proved to trace \
                 before it is first seen: barriers begin once each has taken an interrupt; nothing \
                 else is lost"
            ));
            return Ok(true);
        }
    };
    let toured = online.iter().try_fold(true, |all, cpu| Ok(visit(words, clock, cpu)? && all));
    if let Err(error) = sched_setaffinity(None, &before) {
        bail!("going back to this process's own CPUs after visiting each: {error}");
    }
    toured
}

fn visit(words: &SharedWords, clock: &mut EvidenceClock, cpu: usize) -> Result<bool> {
    let armed = clock.read();
    words.arm(armed);
    if cpu >= Affinity::MAX_CPU {
        say(format_args!(
            "CPU {cpu}: not visited, affinity masks end at {}, so barriers begin once it has taken an \
             interrupt",
            Affinity::MAX_CPU
        ));
        return Ok(true);
    }
    let mut only = Affinity::new();
    only.set(cpu);
    if let Err(error) = sched_setaffinity(None, &only) {
        say(format_args!(
            "CPU {cpu}: not visited ({error}), so barriers begin once it has taken an interrupt; if \
             a cpuset forbids it, start barrierd outside of it (AllowedCPUs= in the unit)"
        ));
        return Ok(true);
    }
    match look(words, cpu, armed) {
        Proof::Holds => {
            let shows = naps_show(words, cpu);
            if !shows {
                say(format_args!(
                    "CPU {cpu} does not trace switches out of its idle task: a kernel bug"
                ));
            }
            Ok(shows)
        }
        Proof::Moved => {
            say(format_args!(
                "CPU {cpu}: went offline while it was being visited, and is waited for when it is \
                 back"
            ));
            Ok(true)
        }
        Proof::Fails => bail!(
            "CPU {cpu} does not trace: barrierd ran on it, but the sched_switch program did not \
             (slot {:#x}, armed {armed:#x}); is another tool detaching BPF programs (`bpftool link`)? \
             stop it and start barrierd again",
            words.slot(cpu)
        ),
    }
}

/// Whether this CPU, `cpu`, never shows IDLE under this process after a few naps.
fn naps_show(words: &SharedWords, cpu: usize) -> bool {
    (0..LOOKS).all(|_| {
        clock::nap(A_SWITCH_NS);
        sched_getcpu() != cpu || words.slot(cpu) != IDLE
    })
}
