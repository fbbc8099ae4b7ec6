//! What the background thread promises, on every source: nobody's garbage waits for its thread, each
//! item is freed once, and the last drop finds everything.

use super::destructors::Bomb;
use super::poison::Crowd;
use super::quietly::quietly;
use super::{Log, soon};
use barrierd_reclaim::{Blocker, Builder, Reclaimer, SynchronizeError};
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// It takes two barrier rounds and 50 ms, which `make bench` measures; here, that it does not wait for ever.
const IN_TIME: Duration = Duration::from_secs(20);
/// So short that owners and taker meet all the time.
const AT_ONCE: Duration = Duration::from_micros(1);

/// All cases, one after the other. `builder`: a source.
pub(crate) fn all(builder: impl Fn() -> Builder) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock();
    let make = || builder().background(true).build().unwrap();
    let hasty = || builder().background(true).idle_after(AT_ONCE).build().unwrap();
    a_sleeper_is_freed_in_time(make());
    an_exited_thread_is_freed_in_time(make());
    a_blocked_thread_is_freed_in_time(make());
    a_handle_that_lies_about_is_freed_in_time(make());
    nothing_is_left_a_second_after_the_last_call(make());
    a_reader_still_holds_what_it_must(make());
    nobody_is_woken_while_nothing_waits(make());
    whoever_retires_is_left_alone(make());
    a_panic_behind_loses_one_object(make());
    destructors_behind_may_retire(make());
    synchronize_finds_what_was_taken(hasty);
    the_last_drop_waits_for_the_destructor_behind(make);
    the_last_clone_may_go_behind(make);
    what_a_hook_owns_may_panic(&builder);
    without_it_nothing_moves(builder().background(false).build().unwrap());
    owners_and_taker_meet(hasty());
    drops_and_takeovers_meet(hasty);
    no_reader_sees_what_was_taken(hasty());
}

fn until(what: &str, limit: Duration, done: impl Fn() -> bool) -> Duration {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < limit, "{what} took longer than {limit:?}");
        thread::sleep(Duration::from_millis(1));
    }
    begin.elapsed()
}

fn a_sleeper_is_freed_in_time(reclaimer: Reclaimer) {
    let log = Log::default();
    // More than a bag, a bag, less than one.
    for (round, count) in [130, 64, 1].into_iter().enumerate() {
        (0..count).for_each(|name| log.retire(&reclaimer, name));
        let took = until("the sleeper's garbage", IN_TIME, || reclaimer.stats().waiting() == 0);
        println!("  sleeper, round {round}: {took:?}");
    }
    assert_eq!(log.names().len(), 195);
    assert!(reclaimer.stats().takeovers >= 1, "{:?}", reclaimer.stats());
}

fn an_exited_thread_is_freed_in_time(reclaimer: Reclaimer) {
    let log = Log::default();
    thread::scope(|scope| {
        scope.spawn(|| (0..70).for_each(|name| log.retire(&reclaimer, name))).join().unwrap();
    });
    let took = until("the exited thread's garbage", IN_TIME, || log.names().len() == 70);
    println!("  exited: {took:?}");
}

fn a_blocked_thread_is_freed_in_time(reclaimer: Reclaimer) {
    let log = Log::default();
    let (retired, wait_retired) = mpsc::channel();
    let (go, wait_go) = mpsc::channel::<()>();
    let (shared, other) = (&log, &reclaimer);
    thread::scope(move |scope| {
        scope.spawn(move || {
            (0..70).for_each(|name| shared.retire(other, name));
            retired.send(()).unwrap();
            let _ = wait_go.recv();
        });
        wait_retired.recv().unwrap();
        let took = until("the blocked thread's garbage", IN_TIME, || shared.names().len() == 70);
        println!("  blocked: {took:?}");
        drop(go);
    });
}

fn a_handle_that_lies_about_is_freed_in_time(reclaimer: Reclaimer) {
    let freed = Arc::new(AtomicUsize::new(0));
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    let handle = reclaimer.handle();
    for _ in 0..3 {
        freed.store(0, Relaxed);
        for _ in 0..100 {
            // SAFETY: fresh from a Box, retired once.
            unsafe { handle.retire(Box::into_raw(Box::new(Counted(freed.clone())))) };
        }
        until("the handle's garbage", IN_TIME, || freed.load(Relaxed) == 100);
    }
}

fn nothing_is_left_a_second_after_the_last_call(reclaimer: Reclaimer) {
    let (done, wait_done) = mpsc::channel::<()>();
    let wait_done = Mutex::new(wait_done);
    let over = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for i in 0..50_000u64 {
                    let _guard = reclaimer.pin();
                    // SAFETY: fresh from a Box, retired once.
                    unsafe { reclaimer.retire(Box::into_raw(Box::new(i))) };
                }
                over.fetch_add(1, SeqCst);
                // They stay, and do nothing.
                let _ = wait_done.lock().unwrap().recv();
            });
        }
        while over.load(SeqCst) < 4 {
            thread::sleep(Duration::from_millis(1));
        }
        let took = until("all of it", IN_TIME, || reclaimer.stats().waiting() == 0);
        println!("  200,000 objects of four threads, after the last call: {took:?}");
        drop(done);
    });
}

fn a_reader_still_holds_what_it_must(reclaimer: Reclaimer) {
    let log = Log::default();
    let guard = reclaimer.pin();
    (0..70).for_each(|name| log.retire(&reclaimer, name));
    thread::sleep(Duration::from_millis(150));
    assert!(log.names().is_empty(), "freed under a guard: {:?}", log.names());
    drop(guard);
    let took = until("after the guard", IN_TIME, || log.names().len() == 70);
    println!("  after a guard: {took:?}");
}

fn nobody_is_woken_while_nothing_waits(reclaimer: Reclaimer) {
    let log = Log::default();
    for round in 0..5 {
        log.retire(&reclaimer, round);
        until("one object", IN_TIME, || reclaimer.stats().waiting() == 0);
        thread::sleep(Duration::from_millis(60));
    }
    let stats = reclaimer.stats();
    assert!((1..=5).contains(&stats.wakes), "one wake-up each at most: {stats:?}");
    // Asleep: it looks at nothing.
    thread::sleep(Duration::from_millis(60));
    let before = reclaimer.stats();
    thread::sleep(Duration::from_millis(300));
    assert_eq!(reclaimer.stats(), before);
}

fn whoever_retires_is_left_alone(reclaimer: Reclaimer) {
    let stop = Instant::now() + Duration::from_millis(300);
    let mut longest = Duration::ZERO;
    let mut last = Instant::now();
    while Instant::now() < stop {
        // SAFETY: fresh from a Box, retired once.
        unsafe { reclaimer.retire(Box::into_raw(Box::new(0u64))) };
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    let stats = reclaimer.stats();
    // Unless this thread did not run for so long that it looked idle.
    assert!(stats.takeovers == 0 || longest > Duration::from_millis(5), "{longest:?} {stats:?}");
}

fn a_panic_behind_loses_one_object(reclaimer: Reclaimer) {
    let (log, bombs) = (Log::default(), Arc::new(AtomicUsize::new(0)));
    quietly(|| {
        // It keeps a `retire` here from freeing the bomb before it, whose panic would come out.
        let guard = reclaimer.pin();
        for name in 0..3 {
            // SAFETY: fresh from a Box, retired once.
            unsafe { reclaimer.retire(Box::into_raw(Box::new(Bomb(bombs.clone())))) };
            log.retire(&reclaimer, name);
        }
        drop(guard);
        until("three bombs", IN_TIME, || reclaimer.stats().waiting() == 0);
    });
    assert_eq!((log.names(), bombs.load(Relaxed)), (vec![0, 1, 2], 3));
    // It lives.
    log.retire(&reclaimer, 3);
    until("one more", IN_TIME, || log.names().len() == 4);
}

fn destructors_behind_may_retire(reclaimer: Reclaimer) {
    type Answers = Arc<Mutex<Vec<Result<(), SynchronizeError>>>>;
    struct Chain(usize, Reclaimer, Answers);
    impl Drop for Chain {
        fn drop(&mut self) {
            let _guard = self.1.pin();
            self.1.flush();
            self.2.lock().unwrap().push(self.1.synchronize(soon()));
            if self.0 > 0 {
                let next = Chain(self.0 - 1, self.1.clone(), self.2.clone());
                // SAFETY: fresh from a Box, retired once.
                unsafe { self.1.retire(Box::into_raw(Box::new(next))) };
            }
        }
    }
    let answers = Answers::default();
    let first = Chain(3, reclaimer.clone(), answers.clone());
    // SAFETY: fresh from a Box, retired once.
    unsafe { reclaimer.retire(Box::into_raw(Box::new(first))) };
    until("four links", 4 * IN_TIME, || answers.lock().unwrap().len() == 4);
    let refused = |answer: &Result<_, _>| *answer == Err(SynchronizeError::InDestructor);
    assert!(answers.lock().unwrap().iter().all(refused), "{answers:?}");
    until("its own clones", IN_TIME, || reclaimer.stats().waiting() == 0);
}

fn synchronize_finds_what_was_taken(make: impl Fn() -> Reclaimer) {
    let reclaimer = make();
    for round in 0..200 {
        let log = Log::default();
        (0..100).for_each(|name| log.retire(&reclaimer, name));
        // Between being marked, taken and freed.
        thread::sleep(Duration::from_micros(round * 10));
        reclaimer.synchronize(soon()).unwrap();
        let names = log.names();
        assert_eq!(names.len(), 100, "round {round}: {:?}", reclaimer.stats());
    }
}

/// Gives its sender away when it is freed, and takes its time.
struct Slow(mpsc::Sender<()>, Duration, Arc<AtomicUsize>);

impl Drop for Slow {
    fn drop(&mut self) {
        let _ = self.0.send(());
        thread::sleep(self.1);
        self.2.fetch_add(1, SeqCst);
    }
}

fn the_last_drop_waits_for_the_destructor_behind(make: impl Fn() -> Reclaimer) {
    for round in 0..10 {
        let reclaimer = make();
        let freed = Arc::new(AtomicUsize::new(0));
        let (begun, wait_begun) = mpsc::channel();
        for _ in 0..5 {
            let slow = Slow(begun.clone(), Duration::from_millis(20), freed.clone());
            // SAFETY: fresh from a Box, retired once.
            unsafe { reclaimer.retire(Box::into_raw(Box::new(slow))) };
        }
        wait_begun.recv_timeout(Duration::from_secs(20)).expect("the background thread frees");
        thread::sleep(Duration::from_millis(round));
        drop(reclaimer);
        assert_eq!(freed.load(SeqCst), 5, "all of it before the drop returns");
    }
}

/// A retired object owns the last clone: the background thread closes the domain from within.
fn the_last_clone_may_go_behind(make: impl Fn() -> Reclaimer) {
    struct Owner(Reclaimer, Arc<AtomicUsize>, usize);
    impl Drop for Owner {
        fn drop(&mut self) {
            self.1.fetch_add(1, SeqCst);
        }
    }
    for count in [1, 3, 100] {
        let reclaimer = make();
        let freed = Arc::new(AtomicUsize::new(0));
        for name in 0..count {
            let owner = Owner(reclaimer.clone(), freed.clone(), name);
            let _ = (&owner.0, owner.2);
            // SAFETY: fresh from a Box, retired once.
            unsafe { reclaimer.retire(Box::into_raw(Box::new(owner))) };
        }
        drop(reclaimer);
        until("the owners", IN_TIME, || freed.load(SeqCst) == count);
    }
}

/// The last clone goes in a hook on the background thread, which so lets go of the domain and of the hook.
fn what_a_hook_owns_may_panic(builder: impl Fn() -> Builder) {
    let bombs = Arc::new(AtomicUsize::new(0));
    let (bomb, (give, last)) = (Bomb(bombs.clone()), mpsc::channel::<Reclaimer>());
    let hook = move |_: &Blocker| {
        let _ = &bomb;
        drop(last.recv());
    };
    let served = || builder().background(true);
    let reclaimer = served().stall_hook(Duration::from_millis(20), hook).build().unwrap();
    let log = Log::default();
    std::mem::forget(reclaimer.pin());
    log.retire(&reclaimer, 0);
    quietly(|| {
        give.send(reclaimer).unwrap();
        until("the hook's end", Duration::from_secs(20), || bombs.load(Relaxed) == 1);
        let other = served().build().unwrap();
        log.retire(&other, 1);
        until("the next domain", Duration::from_secs(20), || other.stats().waiting() == 0);
    });
    assert_eq!(log.names(), [0, 1]);
}

fn without_it_nothing_moves(reclaimer: Reclaimer) {
    let log = Log::default();
    (0..10).for_each(|name| log.retire(&reclaimer, name));
    // Its own calls may have freed some, but not the last one.
    let freed = log.names();
    assert!(freed.len() < 10, "nothing is left to be freed");
    thread::sleep(Duration::from_millis(150));
    assert_eq!(log.names(), freed, "nobody was asked to");
    assert_eq!(reclaimer.stats().wakes, 0);
}

/// Owners retire at random moments and pause while the taker takes: every item is freed, once.
fn owners_and_taker_meet(reclaimer: Reclaimer) {
    const OWNERS: usize = 3;
    const ITEMS: usize = 200_000;
    static FREED: [AtomicU8; OWNERS * ITEMS] = [const { AtomicU8::new(0) }; OWNERS * ITEMS];
    unsafe fn count(item: *mut u8) {
        let before = FREED[item.addr() - 1].fetch_add(1, Relaxed);
        assert_eq!(before % 2, 0, "freed twice");
    }
    // Once for each source: the counts go on from an even number.
    let stop = Instant::now() + Duration::from_secs(4);
    let retired = AtomicU64::new(0);
    let mut used = [0; OWNERS];
    thread::scope(|scope| {
        for (owner, used) in used.iter_mut().enumerate() {
            let (reclaimer, retired) = (&reclaimer, &retired);
            scope.spawn(move || {
                let mut random = 88172645463325252u64 + owner as u64;
                let handle = reclaimer.handle();
                for i in 0..ITEMS {
                    let item = std::ptr::without_provenance_mut(owner * ITEMS + i + 1);
                    // SAFETY: `count` touches nothing; each retired once.
                    unsafe {
                        if owner == 0 {
                            handle.retire_with(item, count);
                        } else {
                            reclaimer.retire_with(item, count);
                        }
                    }
                    *used = i + 1;
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    if random % 64 == 0 {
                        thread::sleep(Duration::from_micros(random >> 32 & 127));
                        if Instant::now() > stop {
                            break;
                        }
                    }
                }
                retired.fetch_add(*used as u64, Relaxed);
            });
        }
    });
    until("the rest", Duration::from_secs(5), || reclaimer.stats().waiting() == 0);
    let stats = reclaimer.stats();
    assert_eq!((stats.retired, stats.freed), (retired.load(Relaxed), retired.load(Relaxed)));
    for (owner, used) in used.into_iter().enumerate() {
        let freed = &FREED[owner * ITEMS..];
        for (i, count) in freed[..ITEMS].iter().enumerate() {
            let expected = u8::from(i < used);
            assert_eq!(count.swap(0, Relaxed), expected, "item {i} of owner {owner}");
        }
    }
    println!("  owners and taker: {} items, {} takeovers", stats.retired, stats.takeovers);
    // Thousands where barriers are bought; one in a passive round otherwise. Wine on a busy host: 76.
    assert!(stats.takeovers > 10, "the two met: {stats:?}");
}

/// The last clone goes while the taker is anywhere: all is freed, once, before the drop returns.
fn drops_and_takeovers_meet(make: impl Fn() -> Reclaimer) {
    let freed = Arc::new(AtomicUsize::new(0));
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    let stop = Instant::now() + Duration::from_secs(2);
    for round in 0..2000 {
        if Instant::now() > stop {
            break;
        }
        let reclaimer = make();
        freed.store(0, Relaxed);
        let retire = |count| {
            for _ in 0..count {
                // SAFETY: fresh from a Box, retired once.
                unsafe { reclaimer.retire(Box::into_raw(Box::new(Counted(freed.clone())))) };
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| retire(70));
            retire(100);
            thread::sleep(Duration::from_micros(round % 400));
            retire(30);
        });
        drop(reclaimer);
        assert_eq!(freed.load(Relaxed), 200, "round {round}");
    }
}

/// The crowd, under a writer that pauses so that most is freed by takeover.
fn no_reader_sees_what_was_taken(reclaimer: Reclaimer) {
    let crowd = Crowd::new(&reclaimer);
    let stop = Instant::now() + Duration::from_secs(3);
    crowd.among_readers(
        64,
        |_| (),
        || {
            for n in (0..).take_while(|_| Instant::now() < stop && !crowd.is_done()) {
                crowd.replace(n);
                if n % 20 == 19 {
                    thread::sleep(Duration::from_micros(100));
                }
            }
        },
    );
    let stats = reclaimer.stats();
    assert!(stats.takeovers > 20, "{stats:?}");
}
