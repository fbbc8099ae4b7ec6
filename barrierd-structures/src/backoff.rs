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
        if !cfg!(barrierd_loom) {
            (0..FIRST << self.0.min(DOUBLINGS)).for_each(|_| spin_loop());
        }
    }
}
