//! Panics that end where foreign code was called: destructors, hooks, a subscriber of `tracing`.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Returns what `work` returns; `None` if it panicked. What `work` uses must be whole after each of its steps.
pub(crate) fn caught<R>(work: impl FnOnce() -> R) -> Option<R> {
    // The panic hook has reported it. The payload is leaked, since its own destructor might panic.
    catch_unwind(AssertUnwindSafe(work)).map_err(core::mem::forget).ok()
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;

    #[test]
    fn neither_the_panic_nor_one_of_its_payload_comes_out() {
        struct Payload;
        impl Drop for Payload {
            fn drop(&mut self) {
                panic!("never dropped");
            }
        }
        assert_eq!(caught(|| 1), Some(1));
        assert_eq!(caught::<()>(|| std::panic::panic_any(Payload)), None);
    }
}
