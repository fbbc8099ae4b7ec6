//! Panics on purpose, without their messages.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work` with the panic hook silent.
pub(crate) fn quietly<R>(work: impl FnOnce() -> R) -> R {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    // A test's own failure in there is told.
    let result = catch_unwind(AssertUnwindSafe(work));
    std::panic::set_hook(hook);
    result.unwrap_or_else(|failure| {
        let told = failure.downcast_ref::<String>().map(String::as_str);
        eprintln!("{:?}", told.or_else(|| failure.downcast_ref::<&str>().copied()));
        std::panic::resume_unwind(failure)
    })
}
