//! Wakes who sleeps on a word of the public file, and never at anyone else's expense.
//!
//! Owns the futex call, how many it may wake, and how much time calls may take. Knows nothing of what
//! the words mean.
//!
//! Whoever can read the file can sleep on it, thousands of times over, on the same word or on one that
//! the kernel keeps in the same list: a call walks that list under its lock (measured: 0.4 us a sleeper,
//! and 6 to 8 us for each that it wakes). So a call wakes [`MOST_WOKEN`] at most, and time that a call
//! took is paid back before the next: all calls together take one part in [`SHARE`] of the time, and
//! [`ROUND_NS`] for each round that was asked for. Who isn't woken wakes by himself: a wait on the file
//! ends after 20 ms (the client's `MAX_SLEEP`), and a wake-up is a hint.

use std::sync::atomic::AtomicU32;

use rustix::thread::futex;

use crate::clock::{now_ns, running_ns};

/// Sleepers that one call wakes, at most.
pub const MOST_WOKEN: u32 = 32;

/// All calls together take one part in so many of the time of one CPU.
pub const SHARE: u64 = 100;

/// Time that counts though no call was needed in it, in nanoseconds: after a quiet while calls may take
/// a [`SHARE`] of this at once, 200 us.
pub const SAVED_NS: u64 = 20_000_000;

/// What a round that was asked for adds to the time that calls may take, in nanoseconds: the calls for
/// those who asked. Their rate has a limit of its own.
pub const ROUND_NS: u64 = 50_000;

/// No call is followed by a longer silence, in nanoseconds: a [`SHARE`] of it, 40 ms, is what a list of
/// 100,000 sleepers takes.
pub const LONGEST_SILENCE_NS: u64 = 4_000_000_000;

/// How much time calls may take: the rule alone, without a clock.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    /// When all time that was taken is paid back.
    clear_at_ns: u64,
}

impl Budget {
    /// Whether a call may be made at `now_ns`.
    #[must_use]
    pub fn allows(&self, now_ns: u64) -> bool {
        self.clear_at_ns <= now_ns.saturating_add(SAVED_NS)
    }

    /// A round was made for those who asked for it.
    pub fn asked(&mut self) {
        self.clear_at_ns = self.clear_at_ns.saturating_sub(ROUND_NS * SHARE);
    }

    /// A call was made from `start_ns` until `end_ns`.
    pub fn took(&mut self, start_ns: u64, end_ns: u64) {
        let price_ns = end_ns.saturating_sub(start_ns).saturating_mul(SHARE);
        let longest_ns = end_ns.saturating_add(SAVED_NS).saturating_add(LONGEST_SILENCE_NS);
        // Saved time is not owed.
        let paid_from_ns = self.clear_at_ns.max(start_ns);
        self.clear_at_ns = paid_from_ns.saturating_add(price_ns).min(longest_ns);
    }
}

/// What came of an attempt to wake who sleeps on a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Woken {
    /// How many there were, as far as they were woken.
    pub count: u32,
    /// Whether these were all. Not so if there were too many for one call, or no time for a call.
    pub all: bool,
}

impl Woken {
    /// Whether somebody slept there, or may have.
    #[must_use]
    pub fn any(self) -> bool {
        self.count > 0 || !self.all
    }
}

/// Makes the calls that its budget allows.
#[derive(Clone, Debug, Default)]
pub struct Waker {
    budget: Budget,
    #[cfg(test)]
    tireless: bool,
}

impl Waker {
    /// One that never runs out of time, for tests of what is woken: there a call takes as long as the
    /// machine's other work lets it.
    #[cfg(test)]
    pub(crate) fn tireless() -> Self {
        Self { tireless: true, ..Self::default() }
    }

    /// A round was made for those who asked for it: calls may take [`ROUND_NS`] more.
    pub fn asked(&mut self) {
        self.budget.asked();
    }

    /// Wakes those who sleep on `word`, of whatever process, [`MOST_WOKEN`] at most; nobody if the
    /// budget is spent. One system call at most.
    pub fn wake(&mut self, word: &AtomicU32) -> Woken {
        let start_ns = now_ns();
        let allowed = self.budget.allows(start_ns);
        #[cfg(test)]
        let allowed = allowed || self.tireless;
        if !allowed {
            return Woken { count: 0, all: false };
        }
        let before_ns = running_ns();
        // Not a private futex: they are other processes. It fails for a bad address only, which a
        // mapping isn't.
        let woken = futex::wake(word, futex::Flags::empty(), MOST_WOKEN).unwrap_or(0);
        // Not by the clock: whoever is woken may take this CPU before the call returns, for as long as
        // the scheduler lets it.
        let took_ns = running_ns().saturating_sub(before_ns);
        self.budget.took(start_ns, start_ns.saturating_add(took_ns));
        let count = u32::try_from(woken).unwrap_or(MOST_WOKEN);
        Woken { count, all: count < MOST_WOKEN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::thread::gettid;
    use std::fs;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    /// Whether thread `tid` of this process sleeps in a futex call.
    fn sleeps(tid: i32) -> bool {
        let call = fs::read_to_string(format!("/proc/self/task/{tid}/syscall")).expect("alive");
        call.starts_with(&format!("{} ", libc::SYS_futex))
    }

    #[test]
    fn b4_a_call_wakes_so_many_and_later_calls_the_rest() {
        const SLEEPERS: u32 = 3 * MOST_WOKEN;
        let word = AtomicU32::new(0);
        thread::scope(|scope| {
            let (tids, asleep) = mpsc::channel();
            for _ in 0..SLEEPERS {
                let (word, tids) = (&word, tids.clone());
                scope.spawn(move || {
                    tids.send(gettid().as_raw_nonzero().get()).expect("the test waits");
                    futex::wait(word, futex::Flags::empty(), 0, None).expect("woken");
                });
            }
            for _ in 0..SLEEPERS {
                let tid = asleep.recv().expect("a thread");
                while !sleeps(tid) {
                    thread::yield_now();
                }
            }
            let (mut waker, mut woken) = (Waker::default(), 0);
            while woken < SLEEPERS {
                let Woken { count, all } = waker.wake(&word);
                assert!(count <= MOST_WOKEN, "{count}");
                assert!(!all, "{woken} woken, and {count} now");
                woken += count;
                if count == 0 {
                    // The budget is spent.
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        assert_eq!(Waker::default().wake(&word), Woken { count: 0, all: true });
    }

    #[test]
    fn b4_time_that_a_call_took_is_paid_back_before_the_next() {
        let mut budget = Budget::default();
        let now = 5_000_000_000;
        // What was saved, and a little.
        for call_ns in [100_000, 100_010] {
            assert!(budget.allows(now));
            budget.took(now, now + call_ns);
        }
        assert!(!budget.allows(now + 999) && budget.allows(now + 1_000));
        budget.took(now + 1_000, now + 301_000);
        assert!(!budget.allows(now + 30_000_999) && budget.allows(now + 30_001_000));
        // A longer silence saves no more.
        let now = 2 * now;
        budget.took(now, now + 500_000);
        assert!(!budget.allows(now + 29_999_999) && budget.allows(now + 30_000_000));
    }

    #[test]
    fn b4_a_round_that_was_asked_for_pays_for_its_own_calls() {
        let mut budget = Budget::default();
        let mut now = 5_000_000_000;
        budget.took(now, now + SAVED_NS / SHARE + 1);
        for _ in 0..1_000 {
            assert!(!budget.allows(now));
            budget.asked();
            assert!(budget.allows(now));
            budget.took(now, now + ROUND_NS + 10);
            now += 1_000;
        }
    }

    #[test]
    fn b4_no_call_is_followed_by_a_silence_without_end() {
        let mut budget = Budget::default();
        let end = u64::MAX / 2;
        budget.took(1_000, end);
        assert!(!budget.allows(end + LONGEST_SILENCE_NS - 1));
        assert!(budget.allows(end + LONGEST_SILENCE_NS));
        budget.took(u64::MAX - 1, u64::MAX);
        assert!(budget.allows(u64::MAX));
    }

    proptest! {
        /// Whatever the calls take, as long as none takes longer than the longest silence pays for: they
        /// take their share, what was saved, what rounds added, and the last call. And nobody waits for
        /// longer than until that is paid back.
        #[test]
        fn b4_calls_take_their_share_at_most(
            steps in proptest::collection::vec(
                (0u64..2_000_000, 100u64..3_000_000, proptest::bool::weighted(0.1)),
                1..400,
            ),
        ) {
            let start = 1_000_000_000u64;
            let (mut budget, mut now, mut took, mut longest) = (Budget::default(), start, 0u64, 0u64);
            let mut added = 0;
            for (pause, call, asked) in steps {
                now += pause;
                if asked {
                    budget.asked();
                    added += ROUND_NS;
                }
                if budget.allows(now) {
                    budget.took(now, now + call);
                    now += call;
                    took += call;
                    longest = longest.max(call);
                }
                prop_assert!(took <= (now - start + SAVED_NS) / SHARE + added + longest);
                prop_assert!(budget.allows(now + took * SHARE));
            }
        }
    }
}
