//! Empty sections of the drop-in for crossbeam-epoch and of the original, `sections NAME N`, for
//! `tests/instructions.rs` to count.
//!
//! Two loops of each, as a program has more than one place that pins: the compiler then calls the
//! original's `pin`, and inlines ours. Where a program has one place alone it inlines both, and takes the
//! original's search for the thread's participant out of the loop: 34 instructions instead of 44.

use barrierd_reclaim::epoch;
use std::hint::black_box;
use std::sync::atomic::{Ordering::SeqCst, compiler_fence};

#[inline(never)]
fn here_shown(sections: u64) {
    for _ in 0..sections {
        drop(black_box(epoch::pin()));
    }
}

#[inline(never)]
fn here(sections: u64) {
    for _ in 0..sections {
        let guard = epoch::pin();
        compiler_fence(SeqCst);
        drop(guard);
    }
}

#[inline(never)]
fn original_shown(sections: u64) {
    for _ in 0..sections {
        drop(black_box(crossbeam_epoch::pin()));
    }
}

#[inline(never)]
fn original(sections: u64) {
    for _ in 0..sections {
        let guard = crossbeam_epoch::pin();
        compiler_fence(SeqCst);
        drop(guard);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, name, sections] = &arguments[..] else { panic!("sections NAME N") };
    let work = match name.as_str() {
        "here" => here,
        "here_shown" => here_shown,
        "original" => original,
        "original_shown" => original_shown,
        _ => panic!("{name}: not known"),
    };
    work(sections.parse().expect("a number"));
}
