//! Faults of the background thread that were found by running the library, each with the input that
//! showed it and the right value. The names begin with the row of the table in which they were collected.

use barrierd_reclaim::{Builder, Reclaimer, Source};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

fn builder() -> Builder {
    Reclaimer::builder().source(Source::Membarrier)
}

/// Long enough for any machine.
const LATE: Duration = Duration::from_secs(20);

fn until(what: &str, done: impl Fn() -> bool) {
    let late = Instant::now() + LATE;
    while !done() {
        assert!(Instant::now() < late, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A node whose destructor retires the next: only the background thread is there to free them.
struct Link {
    reclaimer: Reclaimer,
    left: u64,
    freed: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
}

impl Link {
    fn new(reclaimer: &Reclaimer, links: u64, freed: &Arc<AtomicU64>) -> Link {
        let (reclaimer, freed) = (reclaimer.clone(), freed.clone());
        Link { reclaimer, left: links - 1, freed, end: Arc::default() }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.freed.fetch_add(1, Relaxed);
        if self.left > 0 && !self.end.load(Relaxed) {
            let next = Link {
                reclaimer: self.reclaimer.clone(),
                left: self.left - 1,
                freed: self.freed.clone(),
                end: self.end.clone(),
            };
            self.reclaimer.retire_value(next);
        }
    }
}

/// With one look of 10 ms for each link this would take a minute and a half.
#[test]
fn a25_what_a_destructor_retires_goes_with_the_next_evidence() {
    let reclaimer = builder().build().unwrap();
    let freed = Arc::new(AtomicU64::new(0));
    const LINKS: u64 = 10_000;
    let link = Link::new(&reclaimer, LINKS, &freed);
    // From a thread that is gone: its place would hold back collected barriers.
    thread::scope(|scope| scope.spawn(|| reclaimer.retire_value(link)).join().unwrap());
    until("the chain", || freed.load(Relaxed) == LINKS);
}

/// The same, where this thread's place never comes to a full stop: each link needs a bought barrier.
#[test]
fn a25_also_with_bought_barriers() {
    let reclaimer = builder().build().unwrap();
    drop(reclaimer.pin());
    let freed = Arc::new(AtomicU64::new(0));
    const LINKS: u64 = 10_000;
    let begun = Instant::now();
    reclaimer.retire_value(Link::new(&reclaimer, LINKS, &freed));
    until("the chain", || freed.load(Relaxed) == LINKS);
    let stats = reclaimer.stats();
    eprintln!("{:?}, {stats:?}", begun.elapsed());
    // One for each link and one more, each at most twice.
    assert!(stats.other_syscalls <= 2 * LINKS + 1000, "{stats:?}");
}

/// A chain without an end leaves others their turn.
#[test]
fn a25_a_chain_without_an_end_keeps_nobody_waiting() {
    let (endless, other) = (builder().build().unwrap(), builder().build().unwrap());
    let freed = Arc::new(AtomicU64::new(0));
    let link = Link::new(&endless, u64::MAX, &freed);
    let end = link.end.clone();
    endless.retire_value(link);
    until("the chain", || freed.load(Relaxed) > 1000);
    for _ in 0..10 {
        other.retire_value(0u64);
        let before = freed.load(Relaxed);
        until("the other domain", || other.stats().waiting() == 0);
        assert!(freed.load(Relaxed) > before, "neither waits for the other");
    }
    end.store(true, Relaxed);
    until("its end", || endless.stats().waiting() == 0);
}

/// `synchronize` takes the rest of the bag away from the background thread, and waits for the destructor
/// that it is in: meanwhile the rest is there for others.
#[test]
fn a6_nobody_sleeps_on_the_rest_of_a_bag() {
    let reclaimer = Arc::new(builder().build().unwrap());
    let (begun, wait_begun) = mpsc::channel();
    let (end, wait_end) = mpsc::channel::<()>();
    let freed = Arc::new(AtomicU64::new(0));
    thread::scope(|scope| {
        scope
            .spawn(|| {
                reclaimer.defer(move || {
                    begun.send(()).unwrap();
                    let _ = wait_end.recv_timeout(2 * LATE);
                });
                for _ in 0..10 {
                    let freed = freed.clone();
                    reclaimer.defer(move || {
                        freed.fetch_add(1, Relaxed);
                    });
                }
            })
            .join()
            .unwrap();
        wait_begun.recv_timeout(LATE).unwrap();
        let waiter = scope.spawn(|| reclaimer.synchronize(Instant::now() + 2 * LATE));
        until("the rest", || {
            reclaimer.flush();
            freed.load(Relaxed) == 10
        });
        end.send(()).unwrap();
        waiter.join().unwrap().unwrap();
    });
}
