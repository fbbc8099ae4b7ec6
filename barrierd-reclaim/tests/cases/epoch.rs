//! The drop-in for crossbeam-epoch on any source: readers against writers, with objects that tell when
//! they are read too late.

use barrierd_reclaim::Builder;
use barrierd_reclaim::epoch::{Atomic, Collector, Guard, Owned};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::thread;
use std::time::{Duration, Instant};

/// Guards that nest, repin, outlive their handles; objects and closures; then everything goes.
pub(crate) fn all(make: impl Fn() -> Builder) {
    storm(&Collector::build(make()).expect("the source can be had"));
}

const LIVE: u64 = 0x11fe;

/// Its mark goes before its memory does.
struct Marked(AtomicU64);

impl Drop for Marked {
    fn drop(&mut self) {
        self.0.store(0, SeqCst);
    }
}

fn look(guard: &Guard, cells: &[Atomic<Marked>], at: usize) {
    let seen = cells[at % cells.len()].load(Acquire, guard);
    // SAFETY: never null, and the guard keeps it.
    let object = unsafe { seen.deref() };
    for _ in 0..20 {
        assert_eq!(object.0.load(Relaxed), LIVE, "freed under a guard");
    }
}

fn storm(collector: &Collector) {
    let cells: Vec<Atomic<Marked>> =
        (0..4).map(|_| Atomic::new(Marked(AtomicU64::new(LIVE)))).collect();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..4usize {
            let (cells, stop) = (&cells, &stop);
            scope.spawn(move || {
                let mut handle = collector.register();
                let mut n = thread;
                while !stop.load(Relaxed) {
                    n += 1;
                    let mut guard = handle.pin();
                    let nested = (n % 3 == 0).then(|| handle.pin());
                    look(&guard, cells, n);
                    if n % 2 == 0 {
                        let new = Owned::new(Marked(AtomicU64::new(LIVE)));
                        let old = cells[n % cells.len()].swap(new, AcqRel, &guard);
                        // SAFETY: unlinked by this thread; never null.
                        unsafe {
                            match n % 6 {
                                0 => guard.defer_unchecked(move || old.into_owned()),
                                _ => guard.defer_destroy(old),
                            }
                        }
                        look(&guard, cells, n + 1);
                    }
                    if n % 7 == 0 {
                        guard.repin();
                        look(&guard, cells, n);
                    }
                    if n % 1000 == 0 {
                        guard.repin_after(thread::yield_now);
                        look(&guard, cells, n);
                    }
                    if n % 500 == 1 {
                        // A guard that outlives its handle.
                        handle = collector.register();
                        look(&guard, cells, n);
                    }
                    drop((nested, guard));
                }
            });
        }
        thread::sleep(Duration::from_millis(700));
        stop.store(true, Relaxed);
    });
    for cell in cells {
        // SAFETY: the last pointer.
        drop(unsafe { cell.into_owned() });
    }
    collector.drain(Instant::now() + Duration::from_secs(20)).expect("nothing stands in the way");
    let stats = collector.stats();
    assert!(stats.retired > 1000 && stats.waiting() == 0, "{stats:?}");
}
