//! What the tests share: proof that the patch is in force, and garbage that is counted.

use crossbeam_epoch::{barrierd_reclaim, default_collector, drain};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Counts those that live, and knows its number. Its destructor spoils it.
#[derive(Debug)]
pub struct Counted {
    number: u64,
    mark: u64,
    live: Arc<AtomicUsize>,
}

const MARK: u64 = 0x5eed_cafe_5eed_cafe;

impl Counted {
    pub fn new(number: u64, live: &Arc<AtomicUsize>) -> Counted {
        live.fetch_add(1, SeqCst);
        Counted { number, mark: number ^ MARK, live: live.clone() }
    }

    /// Its number, if it is alive.
    pub fn number(&self) -> u64 {
        // Volatile: the point is to see what should not be there.
        let (number, mark) = unsafe {
            ((&raw const self.number).read_volatile(), (&raw const self.mark).read_volatile())
        };
        assert_eq!(number ^ mark, MARK, "read after its drop");
        number
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.number();
        self.mark = 0;
        self.live.fetch_sub(1, SeqCst);
    }
}

/// Everything that was deferred so far in the process is done; it came through this library.
pub fn settle() {
    let source: barrierd_reclaim::ActiveSource = default_collector().stats().source;
    drain(Instant::now() + Duration::from_secs(30))
        .unwrap_or_else(|error| panic!("{source:?}: {error}"));
}
