//! Owned guards: sections that move between threads.

use super::poison::POISON;
use super::{Log, soon};
use barrierd_reclaim::{OwnedGuard, Reclaimer, SynchronizeError};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

pub(super) fn all(make: impl Fn() -> Reclaimer) {
    it_holds_wherever_it_goes(make());
    it_keeps_its_domain_open(make());
    it_may_cross_an_await(make());
    no_owned_guard_sees_a_freed_node(make());
}

fn it_holds_wherever_it_goes(reclaimer: Reclaimer) {
    let log = Log::default();
    let guard = reclaimer.pin_owned();
    log.retire(&reclaimer, 0);
    let mut guard = thread::scope(|scope| {
        let moved = scope.spawn(|| {
            let late = Instant::now() + Duration::from_millis(50);
            let answer = reclaimer.synchronize(late);
            assert_eq!(answer, Err(SynchronizeError::Readers { readers: 1 }));
            guard
        });
        moved.join().unwrap()
    });
    reclaimer.flush();
    assert!(log.names().is_empty());
    let stop = soon();
    while log.names().is_empty() {
        assert!(Instant::now() < stop, "{:?}", reclaimer.stats());
        guard.repin();
        reclaimer.flush();
        thread::sleep(Duration::from_micros(200));
    }
    log.retire(&reclaimer, 1);
    thread::scope(|scope| scope.spawn(|| drop(guard)).join().unwrap());
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(log.names(), [0, 1]);
}

fn it_keeps_its_domain_open(reclaimer: Reclaimer) {
    let log = Log::default();
    let guard = reclaimer.pin_owned();
    log.retire(&reclaimer, 0);
    drop(reclaimer);
    assert!(log.names().is_empty());
    drop(guard);
    assert_eq!(log.names(), [0]);
}

/// Each poll on a thread of its own, with the section open in between.
fn it_may_cross_an_await(reclaimer: Reclaimer) {
    struct Nobody;
    impl Wake for Nobody {
        fn wake(self: Arc<Nobody>) {}
    }
    /// Pending once.
    struct Later(bool);
    impl Future for Later {
        type Output = ();
        fn poll(mut self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            if std::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
        }
    }
    let cell = AtomicPtr::new(Box::into_raw(Box::new(AtomicU64::new(1))));
    unsafe fn poison(node: *mut AtomicU64) {
        // SAFETY: leaked by this test.
        unsafe { &*node }.store(POISON, Relaxed);
    }
    let task = async {
        let guard = reclaimer.pin_owned();
        // SAFETY: held while the guard lives; and leaked.
        let node = unsafe { &*guard.protect(&cell) };
        Later(false).await;
        assert_eq!(node.load(Relaxed), 1);
        Later(false).await;
        assert_eq!(node.load(Relaxed), 1);
    };
    fn sent<T: Send>(task: T) -> T {
        task
    }
    let mut task = pin!(sent(task));
    let waker = Waker::from(Arc::new(Nobody));
    let mut polls = 0;
    loop {
        let task = task.as_mut();
        let poll = || task.poll(&mut Context::from_waker(&waker));
        let done = thread::scope(|scope| scope.spawn(poll).join().unwrap()).is_ready();
        polls += 1;
        if done {
            break;
        }
        if polls == 1 {
            let old = cell.swap(std::ptr::null_mut(), AcqRel);
            // SAFETY: unlinked by the swap, retired once; `poison` frees nothing.
            unsafe { reclaimer.retire_with(old, poison) };
        }
        let _ = reclaimer.synchronize(Instant::now() + Duration::from_millis(20));
    }
    assert_eq!(polls, 3);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(reclaimer.stats().waiting(), 0);
}

/// One thread makes sections and loads, another reads what they hold, and drops them.
fn no_owned_guard_sees_a_freed_node(reclaimer: Reclaimer) {
    static FREED: AtomicUsize = AtomicUsize::new(0);
    FREED.store(0, Relaxed);
    unsafe fn poison(node: *mut AtomicU64) {
        // SAFETY: nodes are leaked by this test.
        unsafe { &*node }.store(POISON, Relaxed);
        FREED.fetch_add(1, Relaxed);
    }
    let fresh = |name| Box::into_raw(Box::new(AtomicU64::new(name)));
    let cell = AtomicPtr::new(fresh(0));
    let done = AtomicBool::new(false);
    let (send, receive) = mpsc::sync_channel::<(OwnedGuard, &'static AtomicU64, u64)>(8);
    let receive = Mutex::new(receive);
    let (reclaimer, cell, done, receive) = (&reclaimer, &cell, &done, &receive);
    let writes = 50_000;
    thread::scope(|scope| {
        scope.spawn(move || {
            while !done.load(Relaxed) {
                let guard = reclaimer.pin_owned();
                // SAFETY: held while the guard lives; and leaked.
                let node: &'static AtomicU64 = unsafe { &*guard.protect(cell) };
                let name = node.load(Relaxed);
                assert_ne!(name, POISON, "reached after it was freed");
                send.send((guard, node, name)).unwrap();
            }
        });
        for _ in 0..2 {
            scope.spawn(move || {
                loop {
                    let next = receive.lock().unwrap().recv();
                    let Ok((guard, node, name)) = next else { break };
                    for _ in 0..64 {
                        assert_eq!(node.load(Relaxed), name, "freed while held");
                    }
                    // And what is loaded under it here.
                    // SAFETY: held while the guard lives; and leaked.
                    let node = unsafe { &*guard.protect(cell) };
                    assert_ne!(node.load(Relaxed), POISON, "reached after it was freed");
                }
            });
        }
        for i in 0..writes {
            let old = cell.swap(fresh(i), AcqRel);
            // SAFETY: unlinked by the swap, retired once; `poison` frees nothing.
            unsafe { reclaimer.retire_with(old, poison) };
        }
        done.store(true, Relaxed);
    });
    let stop = soon();
    while FREED.load(Relaxed) < usize::try_from(writes).unwrap() {
        assert!(Instant::now() < stop, "{:?}", reclaimer.stats());
        reclaimer.synchronize(soon()).unwrap();
    }
}
