//! Work-stealing deque: millions of operations a second.

#[path = "../../race.rs"]
mod race;

use crossbeam_deque::{Injector, Steal, Worker};
use race::row;
use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const BATCH: u64 = 1000;

fn main() {
    thread_local! {
        static OWN: RefCell<Option<Worker<u64>>> = const { RefCell::new(None) };
    }
    row("deque: push + pop", 1, |_, _| {
        OWN.with_borrow_mut(|own| {
            let worker = own.get_or_insert_with(Worker::new_lifo);
            for n in 0..BATCH {
                worker.push(n);
                black_box(worker.pop());
            }
        });
        BATCH
    });
    row("deque: a buffer that grows and shrinks", 1, |_, _| {
        let worker = Worker::new_fifo();
        (0..BATCH).for_each(|n| worker.push(n));
        while black_box(worker.pop()).is_some() {}
        BATCH
    });
    row("deque: push + steal", 1, |_, _| {
        let worker = Worker::new_fifo();
        let stealer = worker.stealer();
        for n in 0..BATCH {
            worker.push(n);
            let _ = black_box(stealer.steal());
        }
        BATCH
    });
    {
        // One thread pushes and pops, the other steals one at a time.
        let stealers = Mutex::new(None);
        let stolen = AtomicU64::new(0);
        row("deque: an owner and a thief", 2, |_, thread| {
            if thread == 0 {
                OWN.with_borrow_mut(|own| {
                    let worker = own.get_or_insert_with(|| {
                        let worker = Worker::new_lifo();
                        *stealers.lock().unwrap() = Some(worker.stealer());
                        worker
                    });
                    (0..BATCH).for_each(|n| worker.push(n));
                    let mut done = 0;
                    while worker.pop().is_some() {
                        done += 1;
                    }
                    done
                })
            } else {
                let Some(stealer) = stealers.lock().unwrap().clone() else { return 0 };
                let success = (0..BATCH).filter(|_| stealer.steal().is_success()).count() as u64;
                stolen.fetch_add(success, Relaxed);
                success
            }
        });
    }
    for threads in [1, 2] {
        let injector = Injector::new();
        row("injector: push + steal", threads, |_, _| {
            for n in 0..BATCH {
                injector.push(n);
                while let Steal::Retry = black_box(injector.steal()) {}
            }
            BATCH
        });
    }
    for threads in [1, 2] {
        let injector = Injector::new();
        row("injector: steal_batch_and_pop", threads, |_, _| {
            let worker = Worker::new_fifo();
            (0..BATCH).for_each(|n| injector.push(n));
            let mut done = 0;
            while done < BATCH {
                match injector.steal_batch_and_pop(&worker) {
                    Steal::Success(_) => done += 1,
                    Steal::Empty => break,
                    Steal::Retry => {}
                }
                while worker.pop().is_some() {
                    done += 1;
                }
            }
            done
        });
    }
}
