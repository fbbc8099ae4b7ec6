//! The hot calls, each alone in a function of its own, for `tests/disassembly.rs` to look at.

#![allow(unreachable_pub, missing_docs, reason = "named for a disassembler")]

use barrierd_reclaim::{Born, Guard, Handle, Reclaimer, epoch};
use std::hint::black_box;

#[unsafe(no_mangle)]
#[inline(never)]
pub fn taken_path_pin(reclaimer: &Reclaimer) {
    drop(black_box(reclaimer.pin()));
}

#[unsafe(no_mangle)]
#[inline(never)]
pub fn taken_path_handle(handle: &mut Handle) {
    drop(black_box(handle.pin()));
}

#[unsafe(no_mangle)]
#[inline(never)]
pub fn taken_path_epoch() {
    drop(black_box(epoch::pin()));
}

#[unsafe(no_mangle)]
#[inline(never)]
pub fn taken_path_is_pinned() -> bool {
    epoch::is_pinned()
}

/// # Safety
/// As for `epoch::Guard::defer_destroy`.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe fn taken_path_destroy(guard: &epoch::Guard, object: epoch::Shared<'_, u64>) {
    // SAFETY: the caller's promise.
    unsafe { guard.defer_destroy(object) }
}

/// # Safety
/// As for `Guard::retire`.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe fn taken_path_retire(guard: &Guard<'_>, ptr: *mut u64) {
    // SAFETY: the caller's promise.
    unsafe { guard.retire(ptr) }
}

/// # Safety
/// As for `Guard::retire_born`.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe fn taken_path_retire_born(guard: &Guard<'_>, ptr: *mut Born<u64>) {
    // SAFETY: the caller's promise.
    unsafe { guard.retire_born(ptr) }
}

fn main() {
    let reclaimer = Reclaimer::new();
    let mut handle = reclaimer.handle();
    for n in 0..1000 {
        taken_path_pin(&reclaimer);
        taken_path_handle(&mut handle);
        taken_path_epoch();
        black_box(taken_path_is_pinned());
        // SAFETY: a box of its own, that nobody else knows.
        unsafe { taken_path_retire(&reclaimer.pin(), Box::into_raw(Box::new(n))) };
        // SAFETY: the same.
        unsafe { taken_path_retire_born(&reclaimer.pin(), Box::into_raw(reclaimer.alloc(n))) };
        let guard = epoch::pin();
        // SAFETY: as above.
        unsafe { taken_path_destroy(&guard, epoch::Owned::new(n).into_shared(&guard)) };
    }
    println!("{:?}", reclaimer.stats());
}
