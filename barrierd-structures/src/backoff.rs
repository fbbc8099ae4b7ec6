//! How long a thread waits that has met another one.
//!
//! A thread whose exchange failed has lost the cache line to another thread. If it tries again at once, the line goes back and
//! forth, some 100 ns each way, and both do an operation or two each time. If it waits for some microseconds, the other
//! thread does hundreds of operations meanwhile in its own cache, and both together do four times as many (docs/journal.md,
//! "Structures"). The wait is what an operation takes at most in addition, each time that it loses.

use core::hint::spin_loop;

/// Pauses of the first wait, one or two microseconds.
const FIRST: u32 = 120;
/// How often a wait is doubled.
const DOUBLINGS: u32 = 2;
/// How often a thread lets others run before it gives up.
const YIELDS: u32 = 4;

/// The waits of one operation.
pub(crate) struct Backoff(u32);

impl Backoff {
    #[inline]
    pub(crate) fn new() -> Backoff {
        Backoff(0)
    }

    /// Waits, since another thread was faster.
    #[cold]
    pub(crate) fn lost(&mut self) {
        self.pause();
        self.0 = (self.0 + 1).min(DOUBLINGS);
    }

    /// Waits for what another thread is about to do. Returns false where that has taken long enough: it may have been
    /// stopped.
    #[cold]
    pub(crate) fn wait(&mut self) -> bool {
        // A model need not wait for a thread that does not run.
        if cfg!(barrierd_loom) || self.0 > DOUBLINGS + YIELDS {
            return false;
        }
        if self.0 > DOUBLINGS {
            std::thread::yield_now();
        } else {
            self.pause();
        }
        self.0 += 1;
        true
    }

    fn pause(&self) {
        pause(FIRST << self.0.min(DOUBLINGS));
    }
}

fn pause(times: u32) {
    if !cfg!(barrierd_loom) {
        (0..times).for_each(|_| spin_loop());
    }
}

/// After fewer operations in a row nobody waits.
const LEAST_RUN: u32 = 8;
/// Pauses of the longest wait for another thread's run, 5 or 6 us.
const MOST: u32 = 480;

/// How the operations of one handle follow each other, on a word that others change, too.
///
/// A handle whose operations came one after another, and that then finds that another thread was there, has just drawn the
/// line away from that thread, without a failed exchange. It waits once, a pause for each operation of its own run, so that
/// both have runs instead of taking the line from each other all the time. Where operations of several threads alternate,
/// there are no runs, and nobody waits. So what a thread waits is about what it has worked on the structure before.
///
/// It is a hint: where a word has come back to what it was, nobody waits.
pub(crate) struct Pace {
    /// What its last operation left there.
    seen: usize,
    /// Its operations since it last found something else.
    run: u32,
}

impl Pace {
    pub(crate) const fn new() -> Self {
        Pace { seen: 0, run: 0 }
    }

    /// Tells what an operation finds. Returns true if it has waited, so that the word is to be loaded again.
    #[inline]
    pub(crate) fn meets(&mut self, now: usize) -> bool {
        if now == self.seen {
            self.run = self.run.wrapping_add(1);
            return false;
        }
        self.interrupted()
    }

    #[cold]
    fn interrupted(&mut self) -> bool {
        let run = core::mem::take(&mut self.run);
        if run < LEAST_RUN {
            return false;
        }
        pause(run.min(MOST));
        true
    }

    /// Tells what an operation leaves.
    #[inline]
    pub(crate) fn left(&mut self, now: usize) {
        self.seen = now;
    }

    /// Tells that there was nothing to do: a thread that asks again and again has no run to share.
    #[inline]
    pub(crate) fn idle(&mut self) {
        self.run = 0;
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;

    fn run(pace: &mut Pace, operations: u32) {
        for n in 0..operations {
            assert!(!pace.meets(pace.seen));
            pace.left(n as usize + 1);
        }
    }

    #[test]
    fn only_a_run_that_was_interrupted_waits_and_once() {
        let mut pace = Pace::new();
        // Others come in between each time.
        for _ in 0..100 {
            assert!(!pace.meets(7_777));
        }
        run(&mut pace, LEAST_RUN);
        assert!(pace.meets(7_777));
        assert!(!pace.meets(7_778), "once");
        run(&mut pace, LEAST_RUN - 1);
        assert!(!pace.meets(7_777), "no run");
        run(&mut pace, LEAST_RUN);
        pace.idle();
        assert!(!pace.meets(7_777), "it found nothing to do");
    }
}
