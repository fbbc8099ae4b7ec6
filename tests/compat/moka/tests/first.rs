//! The first that a process does, as moka's own test has it.

use moka::sync::Cache;
use std::sync::Arc;

#[test]
fn the_first_cache_of_a_process_keeps_nothing() {
    let idle = Cache::builder().build();
    std::thread::scope(|scope| {
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        scope.spawn(move || {
            idle.insert(1, 1);
            ready.send(()).unwrap();
            let _ = ends.recv();
        });
        is_ready.recv().unwrap();
        let cache = Cache::builder().build();
        let value = Arc::new(0);
        let kept = value.clone();
        cache.get_with(1, move || kept);
        drop(cache);
        assert_eq!(Arc::strong_count(&value), 1);
        drop(end);
    });
}
