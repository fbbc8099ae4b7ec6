//! How loom searches, and what it is asked where the code is broken: for the models of this crate and of `barrierd-structures`.

use core::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::LocalKey;

/// Explores every execution with so many preemptions.
pub fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// Returns whether `exploration` finds a violation while `broken` says `mutant`.
pub fn is_rejected<M>(
    broken: &'static LocalKey<Cell<Option<M>>>,
    mutant: Option<M>,
    exploration: impl FnOnce(),
) -> bool {
    broken.set(mutant);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let rejected = catch_unwind(AssertUnwindSafe(exploration)).is_err();
    std::panic::set_hook(hook);
    broken.set(None);
    rejected
}
