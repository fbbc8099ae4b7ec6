//! A cache flushes when it is dropped, 128 times, each under a guard of its own: on crossbeam-epoch no value is there any
//! more then, whoever idles beside it.

#[path = "../../patched.rs"]
mod patched;

use moka::sync::Cache;
use patched::{Counted, settle};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

const ROUNDS: usize = 50;

type Values = Cache<u64, Arc<Counted>>;

/// Inserts, replaces, evicts and invalidates.
fn work(cache: &Values, live: &Arc<AtomicUsize>) {
    for n in 0..300 {
        cache.insert(n % 150, Arc::new(Counted::new(n, live)));
        cache.get(&(n / 2)).iter().for_each(|value| _ = value.number());
    }
    cache.invalidate(&7);
    cache.get_with(8, || Arc::new(Counted::new(8, live)));
    cache.run_pending_tasks();
}

/// A thread that works when it is told to, and is idle between.
struct Worker {
    go: Sender<()>,
    done: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Worker {
    fn new(cache: Values, live: &Arc<AtomicUsize>) -> Worker {
        let (go, goes) = channel::<()>();
        let (is_done, done) = channel();
        let live = live.clone();
        let thread = thread::spawn(move || {
            while goes.recv().is_ok() {
                work(&cache, &live);
                is_done.send(()).unwrap();
            }
        });
        Worker { go, done, thread }
    }

    fn work_beside(&self, others: impl FnOnce()) {
        self.go.send(()).unwrap();
        others();
        self.done.recv().unwrap();
    }

    /// Its cache is gone, and it is in no section any more.
    fn end(self) {
        drop(self.go);
        self.thread.join().unwrap();
    }
}

/// So many values were still there when a cache had been dropped, in so many rounds. The first one comes at once:
/// nothing has pinned in the process before.
fn left(busy: bool, idle: bool) -> Vec<usize> {
    let others = Arc::default();
    let worker = |wanted: bool| wanted.then(|| Worker::new(Values::new(100), &others));
    let (busy, idle) = (worker(busy), worker(idle));
    idle.iter().for_each(|idle| idle.work_beside(|| ()));
    let rounds = (0..ROUNDS).map(|_| {
        let live = Arc::default();
        let cache = Values::new(100);
        if let Some(busy) = &busy {
            // One that works on another cache, and stays; one that works on this one, and goes.
            let shared = Worker::new(cache.clone(), &live);
            busy.work_beside(|| shared.work_beside(|| work(&cache, &live)));
            shared.end();
        }
        work(&cache, &live);
        drop(cache);
        live.load(SeqCst)
    });
    let rounds = rounds.collect();
    busy.into_iter().chain(idle).for_each(Worker::end);
    settle();
    rounds
}

#[test]
fn no_value_is_there_when_its_cache_is_gone() {
    for (busy, idle) in [(false, false), (false, true), (true, false), (true, true)] {
        let left = left(busy, idle);
        assert!(left.iter().all(|&left| left == 0), "busy {busy}, idle {idle}: {left:?}");
    }
}
