//! A plugin in Rust that a program in C opens and closes: `tests/faults_background.rs`.

use barrierd_reclaim::epoch;

/// Defers so many closures, on the calling thread.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_defer(closures: u32) {
    for n in 0..closures {
        epoch::pin().defer(move || {
            std::hint::black_box(vec![n]);
        });
    }
}
