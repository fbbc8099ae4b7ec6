//! A signal handler may open and end a section, wherever in `pin`, `unpin` or `retire` it interrupts its
//! thread, if that thread has used this reclaimer before and no other since.

#![cfg(all(target_os = "linux", not(barrierd_plain)))]

use barrierd_reclaim::{Reclaimer, Source};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::*};
use std::thread;
use std::time::{Duration, Instant};

const POISON: u64 = u64::MAX;

static RECLAIMER: OnceLock<Reclaimer> = OnceLock::new();
static CELL: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());
static SIGNALS: AtomicUsize = AtomicUsize::new(0);
static BAD: AtomicUsize = AtomicUsize::new(0);

extern "C" fn handler(_: libc::c_int) {
    let Some(reclaimer) = RECLAIMER.get() else { return };
    let (outer, inner) = (reclaimer.pin(), reclaimer.pin());
    let robust = reclaimer.pin_robust();
    drop(outer);
    // SAFETY: held by `inner`; and leaked.
    let node = unsafe { &*inner.protect(&CELL) };
    for _ in 0..32 {
        BAD.fetch_add(usize::from(node.load(Relaxed) == POISON), Relaxed);
    }
    drop((inner, robust));
    SIGNALS.fetch_add(1, Relaxed);
}

unsafe fn poison(node: *mut AtomicU64) {
    // SAFETY: nodes are leaked by this test.
    unsafe { &*node }.store(POISON, Relaxed);
}

#[test]
fn a_handler_may_pin() {
    let fresh = |name| Box::into_raw(Box::new(AtomicU64::new(name)));
    CELL.store(fresh(0), Release);
    let made = Reclaimer::builder().source(Source::Membarrier).build().unwrap();
    let reclaimer = RECLAIMER.get_or_init(|| made);
    // Used before the first signal, each kind of guard.
    drop((reclaimer.pin(), reclaimer.pin_robust()));
    // SAFETY: the handler calls only what this test is about.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
    // SAFETY: this thread, which outlives the scope below.
    let reader = unsafe { libc::pthread_self() };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (done, fresh) = (&done, &fresh);
        scope.spawn(move || {
            while !done.load(Relaxed) {
                // SAFETY: the thread is there until `done`, and has a handler.
                unsafe { libc::pthread_kill(reader, libc::SIGUSR1) };
                thread::sleep(Duration::from_micros(20));
            }
        });
        scope.spawn(move || {
            while !done.load(Relaxed) {
                // SAFETY: unlinked by the swap, retired once; `poison` frees nothing.
                unsafe { reclaimer.retire_with(CELL.swap(fresh(1), AcqRel), poison) };
            }
        });
        let end = Instant::now() + Duration::from_secs(1);
        while Instant::now() < end {
            for _ in 0..100 {
                let guard = reclaimer.pin();
                // SAFETY: held by `guard`; and leaked.
                let node = unsafe { &*guard.protect(&CELL) };
                assert_ne!(node.load(Relaxed), POISON);
                let nested = (reclaimer.pin(), reclaimer.pin_robust());
                // SAFETY: unlinked by the swap, retired once; `poison` frees nothing.
                unsafe { reclaimer.retire_with(CELL.swap(fresh(2), AcqRel), poison) };
                drop(nested);
                assert_ne!(node.load(Relaxed), POISON);
            }
        }
        done.store(true, Relaxed);
    });
    let (signals, bad) = (SIGNALS.load(Relaxed), BAD.load(Relaxed));
    assert!(signals > 100 && bad == 0, "{signals} signals, {bad} freed nodes seen");
    // No section is left behind. (A scope does not wait for its threads' thread-local destructors.)
    let limit = Instant::now() + Duration::from_secs(20);
    while reclaimer.stats().waiting() > 0 {
        assert!(Instant::now() < limit, "{:?}", reclaimer.stats());
        reclaimer.synchronize(limit).unwrap();
    }
}
