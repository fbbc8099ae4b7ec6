//! What the library does not do: allocate once the file is open, or start a thread.
//!
//! One test, so that every thread of this process is accounted for.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::read_dir;
use std::hint::black_box;
use std::thread::sleep;
use std::time::{Duration, Instant};

use barrierd_client::{Barrier, Moment, Stamp, abi, clock};
use common::{Image, Writer, dir};

/// Counts each thread's own allocations: the harness has threads too.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: hands everything on to the system's allocator, which keeps the contract; the counter is
// const-initialised and has no destructor, so that reaching it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.set(ALLOCATED.get() + 1);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How often this thread allocated during `work`.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATED.get();
    work();
    ALLOCATED.get() - before
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn nothing_but_opening_allocates_and_nothing_starts_a_thread() {
    let threads = || read_dir("/proc/self/task").expect("/proc").count();
    let before = threads();
    assert_ne!(allocations(|| drop(black_box(Box::new(1)))), 0, "the counter counts");
    for image in [Image::counting(2), Image::legacy(2)] {
        let dir = dir();
        let path = image.write(&dir);
        let barrier = Barrier::open(&path).expect("opened");
        let writer = Writer::new(&path);
        let soon = || Instant::now() + 30 * MS;
        let found = allocations(|| {
            let stamp = Stamp::now();
            let moment = barrier.virtual_stamp().map_or(Moment::Time(stamp), Moment::from);
            assert_eq!(barrier.passed(stamp), Ok(false));
            assert!(barrier.wait(stamp, soon()).is_err());
            assert!(barrier.wait_passive(stamp, soon()).is_err());
            assert!(barrier.wait_any(&[moment, stamp.into()], soon()).is_err());
            assert!(barrier.expedite(stamp).is_err(), "nobody listens");
            assert!(barrier.watermark().is_ok());
            let _ = black_box((barrier.liveness(), barrier.vtime(), barrier.counters().is_ok()));
            writer.store(abi::LAST_INTERRUPT_NS, clock::now_ns());
            sleep(MS);
            assert_eq!(barrier.wait(stamp, soon()), Ok(()));
            assert_eq!(barrier.wait_any(&[stamp.into()], soon()), Ok(0));
        });
        assert_eq!(found, 0);
        assert_eq!(threads(), before);
    }
}
