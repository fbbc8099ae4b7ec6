//! Which of the CPUs that show IDLE are idle: the kernel is asked, each time.
//!
//! Owns the doorbell, and what the slots of a scan say of idle CPUs. Knows nothing of what that is worth:
//! that is `machine`'s business. Why a CPU that is found idle has passed every barrier for times before
//! the question stands with the program that answers, `who_is_idle` in `bpf/sched_switch.bpf.c`.
//!
//! The doorbell is `prctl(PR_SET_NAME)`: the program is attached to the tracepoint that the kernel runs
//! through there, answers for the daemon alone, and has answered when the call returns. No event that
//! came earlier counts, so no event that was missed can do harm. Where it isn't there (no BTF, or taken
//! away), there is no answer, and no CPU counts as idle. A ring takes 0.6 us, and 25 ns for each CPU asked
//! about; what listens to the kernel's process events (proc connector, perf record) hears each of them.

use barrierd_bpf::layout::{self, GROUP};

use crate::machine::IDLE;
use crate::shared_words::SharedWords;

// A slot that the switch program marked, and whose CPU the kernel found idle, goes into the scan as it is.
const _: () = assert!(IDLE == layout::IDLE, "bpf/layout.rs and machine.rs differ");

/// What a slot is worth that showed IDLE and whose CPU was not found idle.
const NOTHING: u64 = 0;

/// This process's name: it is set to what it is.
const NAME: &std::ffi::CStr = c"barrierd";

/// Copies every CPU's slot into `slots`, where IDLE then stands for a CPU that was in its idle task at a
/// moment after the call, and for no other. Returns whether all questions were answered.
///
/// The caller has read the clock and run a full fence. A system call for each [`GROUP`] of CPUs of which
/// one shows IDLE, none where none does; no allocation.
///
/// # Panics
///
/// `slots` has another length than the number of CPUs.
pub fn read_slots(words: &mut SharedWords, slots: &mut [u64]) -> bool {
    // The name can't be too long, nor out of this process's memory.
    confirmed(words, slots, |_| {
        let _ = rustix::thread::set_name(NAME);
    })
}

/// The same, by any doorbell.
fn confirmed(
    words: &mut SharedWords,
    slots: &mut [u64],
    mut ring: impl FnMut(&SharedWords),
) -> bool {
    words.read_slots(slots);
    if believes_all() {
        return true;
    }
    let mut all_answered = true;
    for (number, group) in slots.chunks_mut(GROUP).enumerate() {
        let first = number * GROUP;
        let bits = (0..).zip(group.iter());
        let shows = bits.fold(0, |cpus, (bit, &slot)| cpus | u64::from(slot == IDLE) << bit);
        if shows == 0 {
            continue;
        }
        words.ask(first, shows);
        ring(words);
        let answer = words.answer();
        all_answered &= answer.is_some();
        for (bit, slot) in group.iter_mut().enumerate().filter(|(_, slot)| **slot == IDLE) {
            if answer.is_none() {
                // Else no event would ever stamp it: they leave IDLE alone.
                words.take_idle(first + bit);
            }
            if answer.is_none_or(|idle| idle >> bit & 1 == 0) {
                *slot = NOTHING;
            }
        }
    }
    all_answered
}

/// Never; but a build whose switch program is deaf is made to, so that `make vm` finds it out. Unsound,
/// on purpose.
fn believes_all() -> bool {
    cfg!(barrierd_deaf) && std::env::var_os("BARRIERD_BELIEVE_IDLE").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::Words;
    use barrierd_bpf::layout::{
        ANSWERED, ASKED, ASKED_CPUS, ASKED_FIRST, CONTROL_BYTES, IDLE_CPUS, SLOT_BYTES,
    };
    use std::os::fd::AsFd;

    /// Words in plain memory, and a kernel side that is played.
    struct Played {
        words: SharedWords,
        slots: Words,
        control: Words,
        cpus: usize,
    }

    impl Played {
        fn new(shown: &[u64]) -> Self {
            let file = |bytes: usize| {
                let file = tempfile::tempfile().expect("a temporary file");
                file.set_len(bytes.try_into().expect("few")).expect("sized");
                file
            };
            let (bytes, cpus) = (shown.len() * SLOT_BYTES, shown.len());
            let (slots, control) = (file(bytes), file(CONTROL_BYTES));
            let words = SharedWords::map(slots.as_fd(), control.as_fd(), cpus).expect("mapped");
            let slots = Words::map(slots.as_fd(), bytes).expect("mapped");
            let control = Words::map(control.as_fd(), CONTROL_BYTES).expect("mapped");
            for (cpu, &slot) in shown.iter().enumerate() {
                slots.store(cpu * SLOT_BYTES, slot);
            }
            Self { words, slots, control, cpus }
        }

        /// A scan; `idle` answers for a CPU, or nobody does. What it took the slots for, whether it was
        /// answered, and the CPUs that it asked about.
        fn scan(&mut self, idle: Option<&dyn Fn(usize) -> bool>) -> (Vec<u64>, bool, Vec<usize>) {
            let (mut slots, mut asked) = (vec![7; self.cpus], Vec::new());
            let control = &self.control;
            let answered = confirmed(&mut self.words, &mut slots, |_| {
                let first = usize::try_from(control.load(ASKED_FIRST)).expect("a CPU");
                let cpus = control.load(ASKED_CPUS);
                let bits = (0..GROUP).filter(|bit| cpus >> bit & 1 == 1);
                let Some(idle) = idle else { return asked.extend(bits.map(|bit| first + bit)) };
                let mut answer = 0;
                for bit in bits {
                    asked.push(first + bit);
                    answer |= u64::from(idle(first + bit)) << bit;
                }
                control.store(IDLE_CPUS, answer);
                control.store(ANSWERED, control.load(ASKED));
            });
            (slots, answered, asked)
        }
    }

    #[test]
    fn b2_idle_counts_only_where_the_kernel_says_so_when_asked() {
        let mut played = Played::new(&[IDLE, 5, IDLE]);
        let (slots, answered, asked) = played.scan(Some(&|cpu| cpu == 2));
        assert_eq!((slots, answered, asked), (vec![NOTHING, 5, IDLE], true, vec![0, 2]));
    }

    #[test]
    fn b2_an_old_answer_is_none_and_no_answer_is_no_idle() {
        let mut played = Played::new(&[IDLE, IDLE]);
        assert_eq!(played.scan(Some(&|_| true)), (vec![IDLE, IDLE], true, vec![0, 1]));
        // The program is gone; what it said last is still there.
        assert_eq!(played.scan(None), (vec![NOTHING, NOTHING], false, vec![0, 1]));
        // Events stamp these CPUs again, as they do where idle isn't inferred.
        assert_eq!(played.slots.load(0), NOTHING);
        assert_eq!(played.scan(None), (vec![NOTHING, NOTHING], true, vec![]));
    }

    #[test]
    fn only_groups_that_show_idle_are_asked() {
        let mut shown = vec![9; 3 * GROUP + 2];
        for cpu in [0, 63, 3 * GROUP + 1] {
            shown[cpu] = IDLE;
        }
        let mut played = Played::new(&shown);
        let (slots, answered, asked) = played.scan(Some(&|_| true));
        assert!(answered && slots == shown);
        assert_eq!(asked, [0, 63, 3 * GROUP + 1]);
        assert_eq!(played.control.load(ASKED), 2, "two questions");
        // Nobody shows it: nobody is asked.
        assert_eq!(Played::new(&[1, 2]).scan(None), (vec![1, 2], true, vec![]));
    }
}
