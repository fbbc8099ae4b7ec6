//! Loom models of the stack and the queue, and the mutants that loom must reject.
//!
//! Run: `make loom`. Loom runs `raw/`'s own code; a model adds the callers, and a scheme (`late.rs`). This file has what models
//! have in common, those of the map as well.
//!
//! What is argued by the order of all SeqCst operations (an empty structure beside another one) is not shown here: `sync::ordered`.

mod late;
mod queue;
mod stack;

use crate::sync::Mutant;
use barrierd_reclaim::search;
use core::cell::Cell;
use loom::sync::atomic::AtomicU32;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;
use std::sync::Arc;

pub(crate) use barrierd_reclaim::search::explore;

std::thread_local! {
    // Loom runs a model's threads on one OS thread, so this reaches them all.
    static BROKEN: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Returns whether the code under test is to be broken in this way.
pub(crate) fn broken(mutant: Mutant) -> bool {
    BROKEN.get() == Some(mutant)
}

/// Asserts that loom finds a violation with the code broken in this way.
pub(crate) fn rejects(mutant: Mutant, exploration: impl FnOnce()) {
    let rejected = search::is_rejected(&BROKEN, Some(mutant), exploration);
    assert!(rejected, "loom found no violation with {mutant:?}");
}

/// A test for each mutant: the model that must reject it.
macro_rules! mutants {
    ($($name:ident: $mutant:ident, $model:ident;)*) => { $(
        #[test]
        fn $name() {
            crate::models::rejects(crate::sync::Mutant::$mutant, $model);
        }
    )* };
}
use mutants;

/// A step that depends on that of every other thread, so that loom tries who comes first. By itself it looks at a word's last
/// access alone: where a thread loads a word and then exchanges it, as most do here, it forgets the load of another one that
/// came before, and tries one order. Relaxed, so it orders nothing.
struct Turns(AtomicU32);

impl Turns {
    fn new() -> Turns {
        Turns(AtomicU32::new(0))
    }
    fn take<R>(&self, work: impl FnOnce() -> R) -> R {
        self.0.fetch_add(1, Relaxed);
        let result = work();
        self.0.fetch_add(1, Relaxed);
        result
    }
}

/// Does something on a thread of its own.
fn spawn<S: Send + Sync + 'static, R: 'static>(
    shared: &Arc<S>,
    work: impl FnOnce(&S) -> R + 'static,
) -> thread::JoinHandle<R> {
    let shared = shared.clone();
    thread::spawn(move || work(&shared))
}

/// Asserts that all values came out, each once, in whatever order.
fn are_all(came: impl IntoIterator<Item = u32>, pushed: &[u32]) {
    let mut came: Vec<u32> = came.into_iter().collect();
    came.sort_unstable();
    assert_eq!(came, pushed, "lost, or twice");
}
