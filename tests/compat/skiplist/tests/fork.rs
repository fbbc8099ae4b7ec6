//! A map that was made before a fork goes on in the child: it has kept the collector of its parent, and
//! refuses guards of any other.

#[path = "../../patched.rs"]
mod patched;

use crossbeam_skiplist::SkipMap;
use patched::{Counted, settle};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

unsafe extern "C" {
    safe fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    safe fn _exit(status: i32) -> !;
}

#[test]
fn a_map_from_before_the_fork() {
    let live = Arc::new(AtomicUsize::new(0));
    let map = SkipMap::new();
    let replace_all = |times: u64| {
        for n in 0..100 * times {
            map.insert(n % 100, Counted::new(n, &live));
        }
    };
    replace_all(2);
    settle();
    assert_eq!(live.load(SeqCst), 100);
    let child = fork();
    assert!(child >= 0, "fork");
    if child == 0 {
        std::panic::set_hook(Box::new(|_| {}));
        let in_child = catch_unwind(AssertUnwindSafe(|| {
            replace_all(500);
            let before = live.load(SeqCst);
            settle();
            assert!(before < 25_000, "all was kept");
            assert_eq!(live.load(SeqCst), 100);
            assert!(map.iter().all(|entry| entry.value().number() % 100 == *entry.key()));
        }));
        _exit(i32::from(in_child.is_err()));
    }
    let mut status = 0;
    // SAFETY: a child of this process, waited for once.
    assert_eq!(unsafe { waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
    replace_all(2);
    settle();
    assert_eq!(live.load(SeqCst), 100);
}
