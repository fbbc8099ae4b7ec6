//! Load: what keeps a kernel busy.
//!
//! Owns threads that fault, unmap, sleep and switch, and those that ask for barriers. Knows nothing of
//! what a barrier is worth.

use crate::PATIENCE;
use barrierd_client::{Barrier, Stamp};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Runs until dropped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Half the threads map memory, touch it and unmap it, which shoots down the TLBs of the CPUs
    /// that the others run on; half sleep and wake.
    pub(crate) fn start(threads: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = |n| {
            let stop = stop.clone();
            thread::spawn(move || {
                while !stop.load(Relaxed) {
                    if n % 2 == 0 {
                        // Above malloc's threshold: a mapping of its own.
                        black_box(vec![1u8; 1 << 20]);
                    } else {
                        thread::sleep(Duration::from_micros(200));
                    }
                }
            })
        };
        Load { threads: (0..threads).map(thread).collect(), stop }
    }

    /// Asks for one expedited barrier after the other, which kicks every CPU that is not idle.
    pub(crate) fn kicks(file: &Path) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let barrier = Barrier::open(file).unwrap_or_else(|error| panic!("{error}"));
        let own = stop.clone();
        let asks = move || {
            while !own.load(Relaxed) {
                // What is wrong with it shows in what the load is for.
                let _ = barrier.wait(Stamp::now(), Instant::now() + PATIENCE);
            }
        };
        Load { threads: vec![thread::spawn(asks)], stop }
    }

    /// Waits now and then, so that the daemon stays keen: who only looks leaves no trace.
    pub(crate) fn waits(file: &Path) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let barrier = Barrier::open(file).unwrap_or_else(|error| panic!("{error}"));
        let own = stop.clone();
        let waits = move || {
            while !own.load(Relaxed) {
                // As above.
                let _ = barrier.wait_passive(Stamp::now(), Instant::now() + PATIENCE);
                thread::sleep(Duration::from_millis(300));
            }
        };
        Load { threads: vec![thread::spawn(waits)], stop }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // They have nothing to panic about.
            let _ = thread.join();
        }
    }
}
