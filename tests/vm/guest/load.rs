//! Load: what keeps a kernel busy.
//!
//! Owns threads that fault, unmap, sleep and switch. Knows nothing of barriers.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};
use std::time::Duration;

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
