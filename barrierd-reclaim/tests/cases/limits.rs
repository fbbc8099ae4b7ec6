//! What a domain does above its limits, on every source, and what a domain does whose `retire` frees
//! nothing.

use super::quietly::quietly;
use super::{Log, soon};
use barrierd_reclaim::{Builder, OnLimit, Pressure};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// All cases, one after the other. `builder`: a source.
pub(crate) fn all(builder: impl Fn() -> Builder) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock();
    items_stay_below_their_limit(builder());
    bytes_stay_below_their_limit(builder());
    a_stalled_reader_blocks_until_the_deadline(builder());
    who_reads_itself_is_called_back_at_once(builder());
    a_blocked_writer_goes_on_when_the_reader_ends(builder());
    a_hook_may_retire(builder());
    a_hook_that_panics_is_called_again(builder());
    bytes_are_counted(builder());
    no_byte_stays_behind(builder());
    retire_never_frees_where_it_must_not(builder());
}

const BAG: u64 = 64;

/// A thread that takes part and never takes a stamp: nothing can be collected.
fn beside_a_sleeper(reclaimer: &barrierd_reclaim::Reclaimer, work: impl FnOnce()) {
    let (here, wait_here) = mpsc::channel();
    let (go, wait_go) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let reclaimer = reclaimer.clone();
        scope.spawn(move || {
            drop(reclaimer.pin());
            here.send(()).unwrap();
            let _ = wait_go.recv();
        });
        wait_here.recv().unwrap();
        work();
        drop(go);
    });
}

fn items_stay_below_their_limit(builder: Builder) {
    let block = OnLimit::Block(Duration::from_secs(20));
    let reclaimer = builder.background(false).limit_items(1000).on_limit(block).build().unwrap();
    let log = Log::default();
    beside_a_sleeper(&reclaimer, || {
        for name in 0..5_000 {
            log.retire(&reclaimer, name);
            let waiting = reclaimer.stats().waiting();
            assert!(waiting <= 1000 + BAG, "{waiting} wait; {:?}", reclaimer.stats());
        }
    });
}

fn bytes_stay_below_their_limit(builder: Builder) {
    let block = OnLimit::Block(Duration::from_secs(20));
    let reclaimer = builder.limit_bytes(1 << 20).on_limit(block).build().unwrap();
    beside_a_sleeper(&reclaimer, || {
        for _ in 0..4000 {
            let page = Box::into_raw(Box::new([0u8; 4096]));
            // SAFETY: fresh from a Box, retired once.
            unsafe { reclaimer.retire(page) };
            let waiting = reclaimer.stats().waiting_bytes;
            assert!(waiting <= (1 << 20) + BAG * 4096, "{:?}", reclaimer.stats());
        }
    });
}

type Told = Arc<Mutex<Vec<Pressure>>>;

fn telling(builder: Builder) -> (Builder, Told) {
    let told = Told::default();
    let hook = told.clone();
    (builder.limit_hook(move |pressure| hook.lock().unwrap().push(pressure.clone())), told)
}

fn a_stalled_reader_blocks_until_the_deadline(builder: Builder) {
    let (builder, told) = telling(builder);
    let block = OnLimit::Block(Duration::from_millis(30));
    let reclaimer = builder.limit_items(100).on_limit(block).build().unwrap();
    let mut reader = reclaimer.handle();
    let guard = reader.pin();
    // Old enough to be told from the barriers.
    thread::sleep(Duration::from_millis(5));
    let log = Log::default();
    let begin = Instant::now();
    (0..64 * 5).for_each(|name| log.retire(&reclaimer, name));
    let took = begin.elapsed();
    assert!(log.names().is_empty());
    assert!(took >= Duration::from_millis(60), "it waited: {took:?}");
    let last = told.lock().unwrap().last().cloned().expect("told");
    assert!(last.items > 100 && last.bytes > 0 && last.readers == 1, "{last:?}");
    assert!(last.oldest_guard.is_some_and(|age| age >= Duration::from_millis(5)), "{last:?}");
    drop(guard);
    reclaimer.synchronize(soon()).unwrap();
}

fn who_reads_itself_is_called_back_at_once(builder: Builder) {
    let (builder, told) = telling(builder);
    let block = OnLimit::Block(Duration::from_secs(3600));
    let reclaimer = builder.limit_items(100).on_limit(block).build().unwrap();
    let log = Log::default();
    let guard = reclaimer.pin();
    // Would wait for its own guard for an hour.
    (0..64 * 5).for_each(|name| log.retire(&reclaimer, name));
    assert!(told.lock().unwrap().iter().any(|pressure| pressure.own_guard));
    drop(guard);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(log.names().len(), 64 * 5);
}

fn a_blocked_writer_goes_on_when_the_reader_ends(builder: Builder) {
    // Long enough for a test that hangs to be noticed: it goes on before.
    let block = OnLimit::Block(Duration::from_secs(3600));
    let reclaimer = builder.limit_items(100).on_limit(block).build().unwrap();
    let (pinned, wait_pinned) = mpsc::channel();
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let guard = reclaimer.pin();
            pinned.send(()).unwrap();
            thread::sleep(Duration::from_millis(100));
            ends.store(true, SeqCst);
            drop(guard);
        });
        wait_pinned.recv().unwrap();
        let log = Log::default();
        (0..64 * 3).for_each(|name| log.retire(&reclaimer, name));
        assert!(ends.load(SeqCst), "it did not wait for the reader");
        assert!(reclaimer.stats().waiting() <= 100 + BAG);
    });
}

fn a_hook_may_retire(builder: Builder) {
    let calls = Arc::new(AtomicUsize::new(0));
    let slot: Arc<Mutex<Option<barrierd_reclaim::Reclaimer>>> = Arc::default();
    let (count, own) = (calls.clone(), slot.clone());
    let hook = move |_: &Pressure| {
        count.fetch_add(1, Relaxed);
        if let Some(reclaimer) = &*own.lock().unwrap() {
            (0..200).for_each(|i| reclaimer.retire_value(i));
        }
    };
    let reclaimer = builder.limit_items(64).limit_hook(hook).build().unwrap();
    *slot.lock().unwrap() = Some(reclaimer.clone());
    let guard = reclaimer.pin();
    (0..1000).for_each(|i| reclaimer.retire_value(i));
    drop(guard);
    assert!(calls.load(Relaxed) > 0);
    // The hook's clone.
    *slot.lock().unwrap() = None;
    reclaimer.synchronize(soon()).unwrap();
}

fn a_hook_that_panics_is_called_again(builder: Builder) {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let hook = move |_: &Pressure| {
        assert_ne!(count.fetch_add(1, Relaxed), 0, "a hook's panic, on purpose");
    };
    let reclaimer = builder.background(false).limit_items(64).limit_hook(hook).build().unwrap();
    let guard = reclaimer.pin();
    let panicked = quietly(|| {
        catch_unwind(AssertUnwindSafe(|| (0..1000).for_each(|i| reclaimer.retire_value(i))))
    });
    assert!(panicked.is_err(), "the panic comes out");
    assert_eq!(calls.load(Relaxed), 1);
    (0..1000).for_each(|i| reclaimer.retire_value(i));
    assert!(calls.load(Relaxed) > 1);
    drop(guard);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(reclaimer.stats().waiting(), 0);
}

fn bytes_are_counted(builder: Builder) {
    let reclaimer = builder.background(false).build().unwrap();
    let guard = reclaimer.pin();
    for _ in 0..100 {
        // SAFETY: fresh from a Box, retired once.
        unsafe { reclaimer.retire(Box::into_raw(Box::new([0u64; 16]))) };
    }
    let stats = reclaimer.stats();
    assert_eq!((stats.waiting(), stats.waiting_bytes), (100, 12_800));
    let slice: Box<[u64]> = vec![0; 1000].into();
    // SAFETY: fresh from a Box, retired once.
    unsafe { reclaimer.retire_slice(Box::into_raw(slice)) };
    assert_eq!(reclaimer.stats().waiting_bytes, 20_800);
    drop(guard);
    thread::scope(|scope| {
        // Left to the domain, and freed from there.
        scope.spawn(|| (0..100u64).for_each(|i| reclaimer.retire_value(i))).join().unwrap();
    });
    reclaimer.synchronize(soon()).unwrap();
    let stats = reclaimer.stats();
    assert_eq!((stats.waiting(), stats.waiting_bytes), (0, 0));
}

/// Hazards and intervals take bags apart, in the thread's own queue and in what threads have left; sizes
/// are mixed.
fn no_byte_stays_behind(builder: Builder) {
    let reclaimer = builder.background(false).limit_bytes(1 << 19).build().unwrap();
    let big = || AtomicPtr::new(Box::into_raw(Box::new([0u8; 1 << 20])));
    let (mine, left) = (big(), big());
    let [mut one, mut two] = reclaimer.hazards();
    one.protect(&mine);
    two.protect(&left);
    let retire = |cell: &AtomicPtr<[u8; 1 << 20]>| {
        // SAFETY: from a Box, unlinked here, retired once.
        unsafe { reclaimer.retire(cell.swap(ptr::null_mut(), AcqRel)) };
    };
    retire(&mine);
    thread::scope(|scope| {
        scope.spawn(|| retire(&left)).join().unwrap();
    });
    reclaimer.synchronize(soon()).unwrap();
    let stats = reclaimer.stats();
    assert_eq!((stats.waiting(), stats.waiting_bytes), (2, 2 << 20));
    // Some are born before the guard's last look, and some after it.
    let guard = reclaimer.pin_robust();
    for size in [1, 3, 61, 200, 64] {
        let old: Vec<_> = (0..size).map(|_| Box::into_raw(reclaimer.alloc([0u8; 24]))).collect();
        super::robust::let_time_pass(&reclaimer);
        for old in old {
            // SAFETY: from this reclaimer's `alloc`, known to nobody else, each retired once.
            unsafe {
                reclaimer.retire_born(old);
                reclaimer.retire_born(Box::into_raw(reclaimer.alloc([0u64; 17])));
            }
        }
        reclaimer.flush();
        guard.protect(&mine);
    }
    drop(guard);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(reclaimer.stats().waiting_bytes, 2 << 20);
    drop((one, two));
    reclaimer.synchronize(soon()).unwrap();
    let stats = reclaimer.stats();
    assert_eq!((stats.waiting(), stats.waiting_bytes), (0, 0));
}

/// No destructor runs on a thread that only retires, however busy it is, and all of it is freed.
fn retire_never_frees_where_it_must_not(builder: Builder) {
    type Where = Arc<Mutex<Vec<ThreadId>>>;
    struct Tell(Where, Arc<AtomicUsize>);
    impl Drop for Tell {
        fn drop(&mut self) {
            self.1.fetch_add(1, Relaxed);
            let mut threads = self.0.lock().unwrap();
            let here = thread::current().id();
            if !threads.contains(&here) {
                threads.push(here);
            }
        }
    }
    let reclaimer = builder.free_in_background().build().unwrap();
    let (threads, freed) = (Where::default(), Arc::new(AtomicUsize::new(0)));
    let mut most = 0;
    thread::scope(|scope| {
        let others: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for i in 0..100_000 {
                        let _guard = reclaimer.pin();
                        let tell = Box::into_raw(Box::new(Tell(threads.clone(), freed.clone())));
                        // SAFETY: fresh from a Box, retired once.
                        unsafe { reclaimer.retire(tell) };
                        if i % 1000 == 0 {
                            thread::sleep(Duration::from_micros(500));
                        }
                    }
                    thread::current().id()
                })
            })
            .collect();
        while others.iter().any(|other| !other.is_finished()) {
            most = most.max(reclaimer.stats().waiting());
            thread::sleep(Duration::from_millis(1));
        }
        let retirers: Vec<ThreadId> = others.into_iter().map(|o| o.join().unwrap()).collect();
        let stop = soon();
        while freed.load(Relaxed) < 200_000 {
            assert!(Instant::now() < stop, "{:?}", reclaimer.stats());
            thread::sleep(Duration::from_millis(1));
        }
        let freers = threads.lock().unwrap();
        assert_eq!(freers.len(), 1, "one thread frees");
        assert!(!retirers.contains(&freers[0]));
    });
    println!("  freed behind: at most {most} of 200,000 waited");
    assert!(most < 200_000, "nothing was freed meanwhile");
    // Asked to, other calls free.
    let log = Log::default();
    log.retire(&reclaimer, 1);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(log.names(), [1]);
    assert_eq!(reclaimer.stats().retire_syscalls, 0);
}
