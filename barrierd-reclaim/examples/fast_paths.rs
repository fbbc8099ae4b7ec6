//! The hot calls in loops as thin as those of the benches, `fast_paths NAME N`, for `tests/instructions.rs` to count.
//!
//! On membarrier, so that the figures are the same whether a daemon runs or not. As there, each loop is a
//! closure that owns what it works with and is called through a pointer: a compiler that sees where a handle
//! comes from would take more out of the loop than a program's own would.

use barrierd_reclaim::{Born, Handle, Reclaimer, Source, epoch, recycle};
use std::hint::black_box;
use std::sync::atomic::Ordering::{AcqRel, SeqCst};
use std::sync::atomic::{AtomicPtr, compiler_fence};

/// What is replaced: two words, as a node of a stack has.
type Node = [u64; 2];

type Work = Box<dyn FnMut(u64)>;

fn domain() -> &'static Reclaimer {
    let reclaimer = Reclaimer::builder().source(Source::Membarrier).build();
    Box::leak(Box::new(reclaimer.expect("the kernel has membarrier")))
}

/// A section that the compiler must leave as it is.
fn section(open: impl Sized) {
    compiler_fence(SeqCst);
    drop(open);
}

fn handle() -> Work {
    let mut handle = domain().handle();
    Box::new(move |times| (0..times).for_each(|_| section(handle.pin())))
}

fn global() -> Work {
    let reclaimer = domain();
    Box::new(move |times| (0..times).for_each(|_| section(reclaimer.pin())))
}

fn drop_in() -> Work {
    Box::new(|times| (0..times).for_each(|_| section(epoch::pin())))
}

fn drop_in_handle() -> Work {
    let handle = epoch::Collector::new().register();
    Box::new(move |times| (0..times).for_each(|_| section(handle.pin())))
}

fn robust_guard() -> Work {
    let reclaimer = domain();
    Box::new(move |times| (0..times).for_each(|_| section(reclaimer.pin_robust())))
}

/// The allocator alone.
fn boxes() -> Work {
    Box::new(|times| (0..times).for_each(|n| drop(black_box(Box::new([n; 2])))))
}

fn cell<T>(first: *mut T) -> &'static AtomicPtr<T> {
    Box::leak(Box::new(AtomicPtr::new(first)))
}

fn replace() -> Work {
    let (mut handle, cell) = (domain().handle(), cell(Box::into_raw(Box::<Node>::default())));
    let replace = |handle: &mut Handle, n| {
        let guard = handle.pin();
        let old = cell.swap(Box::into_raw(Box::new([0, n])), AcqRel);
        // SAFETY: from a box, unlinked, retired once.
        unsafe { guard.retire(old) };
    };
    Box::new(move |times| (0..times).for_each(|n| replace(&mut handle, n)))
}

fn replace_recycled() -> Work {
    let (mut handle, cell) = (domain().handle(), cell(recycle::alloc::<Node>([0; 2])));
    let replace = |handle: &mut Handle, n| {
        let guard = handle.pin();
        let old = cell.swap(recycle::alloc([0, n]), AcqRel);
        // SAFETY: from `recycle::alloc`, unlinked, retired once.
        unsafe { guard.retire_with(old, recycle::free) };
    };
    Box::new(move |times| (0..times).for_each(|n| replace(&mut handle, n)))
}

fn replace_robust() -> Work {
    let reclaimer = domain();
    let cell: &AtomicPtr<Born<Node>> = cell(Box::into_raw(reclaimer.alloc([0; 2])));
    let replace = |n| {
        let guard = reclaimer.pin_robust();
        black_box(guard.protect(cell));
        let old = cell.swap(Box::into_raw(reclaimer.alloc([0, n])), AcqRel);
        // SAFETY: from `alloc`, unlinked, retired once.
        unsafe { reclaimer.retire_born(old) };
    };
    Box::new(move |times| (0..times).for_each(replace))
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, name, times] = &arguments[..] else { panic!("fast_paths NAME N") };
    let mut work = match name.as_str() {
        "handle" => handle(),
        "global" => global(),
        "drop_in" => drop_in(),
        "drop_in_handle" => drop_in_handle(),
        "robust_guard" => robust_guard(),
        "boxes" => boxes(),
        "replace" => replace(),
        "replace_recycled" => replace_recycled(),
        "replace_robust" => replace_robust(),
        _ => panic!("{name}: not known"),
    };
    black_box(&mut work)(times.parse().expect("a number"));
}
