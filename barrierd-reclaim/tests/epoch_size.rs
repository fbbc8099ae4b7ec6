//! What a thread's place takes, in heap memory: of the drop-in, and of crossbeam-epoch.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes that this thread has allocated.
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: the system's own allocator; a count beside it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATED.try_with(|bytes| bytes.set(bytes.get() + layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn bytes<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATED.get();
    let result = work();
    (result, ALLOCATED.get() - before)
}

/// 2 KiB and more for each thread that reads, there.
#[test]
fn a_place_is_smaller_than_the_original_s() {
    let (ours, theirs) =
        (barrierd_reclaim::epoch::Collector::new(), crossbeam_epoch::Collector::new());
    let (our_handle, here) = bytes(|| ours.register());
    let (their_handle, there) = bytes(|| theirs.register());
    let ((), reading) = bytes(|| drop(our_handle.pin()));
    assert_eq!(reading, 0, "a section allocates nothing");
    let ((), first) = bytes(|| our_handle.pin().defer(|| ()));
    println!("bytes: {here} to register here, {first} more to defer; {there} there");
    assert!(here < there / 2, "{here} bytes here, {there} there");
    drop((our_handle, their_handle));
    // A place is used again.
    let (handle, again) = bytes(|| ours.register());
    println!("bytes: {again} to register again");
    assert!(again < 64, "{again} bytes");
    drop(handle);
}
