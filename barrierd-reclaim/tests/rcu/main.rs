//! The cell: against a plain model, under load, with panics, and what each call promises. Here is what these share, and
//! what is of no one of them.

#[path = "../common/sources.rs"]
mod sources;

mod changes;
mod model;
mod readers;
mod replaced;

use barrierd_reclaim::{Builder, OwnedReadGuard, Rcu, Reader, Reclaimer, Retired, Source};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};
use std::time::{Duration, Instant};

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Without the background thread, so that each call says what it does.
pub(crate) fn sources() -> impl Iterator<Item = Reclaimer> {
    let make = |source| Builder::default().source(source).background(false).build().unwrap();
    let bought = sources::BOUGHT.then_some(Source::Membarrier);
    [Source::Auto, Source::Fence].into_iter().chain(bought).map(make)
}

/// Counts what is dropped, and shows whether it was.
pub(crate) struct Value {
    n: u64,
    alive: AtomicU64,
    dropped: Arc<AtomicUsize>,
}

const ALIVE: u64 = 0xa11e;

impl Value {
    pub(crate) fn new(n: u64, dropped: &Arc<AtomicUsize>) -> Value {
        Value { n, alive: AtomicU64::new(ALIVE), dropped: dropped.clone() }
    }

    pub(crate) fn check(&self) -> u64 {
        assert_eq!(self.alive.load(Relaxed), ALIVE, "read after its drop");
        self.n
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        assert_eq!(self.alive.swap(0, SeqCst), ALIVE, "dropped twice");
        self.dropped.fetch_add(1, SeqCst);
    }
}

#[test]
fn small_things() {
    let mut cell = Rcu::from(1);
    *cell.get_mut() += 1;
    assert_eq!((*cell.read(), *Rcu::<u8>::default().read()), (2, 0));
    let shared = Rcu::new(Arc::new(7));
    let own = shared.load_full();
    shared.store(Arc::new(8));
    assert_eq!((*own, **shared.read()), (7, 8));
    // Values without size, and values that borrow.
    let nothing = Rcu::new(());
    nothing.store(());
    assert_eq!((*nothing.read(), *nothing.reader().get()), ((), ()));
    let text = String::from("short-lived");
    assert_eq!(Rcu::new(text.as_str()).into_inner(), "short-lived");
    assert_eq!(Rcu::new(Some(1)).take().map(|n| n + 1), Some(2));
}

const fn sent<T: Send>() {}
const fn shared<T: Sync>() {}

/// What may cross threads: the compile-fail twins stand in the documentation.
const _: () = {
    sent::<Rcu<Cell<u8>>>();
    sent::<Rcu<u8>>();
    shared::<Rcu<u8>>();
    sent::<Retired<'_, u8>>();
    sent::<OwnedReadGuard<'_, u8>>();
    shared::<OwnedReadGuard<'_, u8>>();
    let _: Option<fn(Reader<'_, u8>)> = None;
};

#[cfg(feature = "serde")]
#[test]
fn it_is_written_and_read_as_its_value() {
    let cell: Rcu<Vec<u8>> = serde_json::from_str("[1,2]").unwrap();
    cell.update(|old| old.iter().copied().chain([3]).collect());
    assert_eq!(serde_json::to_string(&cell).unwrap(), "[1,2,3]");
}
