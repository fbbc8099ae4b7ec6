//! Faults of the background thread that were found by running the library, each with the input that
//! showed it and the right value. The names begin with the row of the table in which they were collected.

#![cfg(all(target_os = "linux", not(barrierd_plain)))]

use barrierd_reclaim::{Blocker, Builder, Reclaimer, Source};
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

fn builder() -> Builder {
    Reclaimer::builder().source(Source::Membarrier)
}

/// Long enough for any machine.
const LATE: Duration = Duration::from_secs(20);

fn until(what: &str, done: impl Fn() -> bool) {
    let late = Instant::now() + LATE;
    while !done() {
        assert!(Instant::now() < late, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A node whose destructor retires the next: only the background thread is there to free them.
struct Link {
    reclaimer: Reclaimer,
    left: u64,
    freed: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
}

impl Link {
    fn new(reclaimer: &Reclaimer, links: u64, freed: &Arc<AtomicU64>) -> Link {
        let (reclaimer, freed) = (reclaimer.clone(), freed.clone());
        Link { reclaimer, left: links - 1, freed, end: Arc::default() }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.freed.fetch_add(1, Relaxed);
        if self.left > 0 && !self.end.load(Relaxed) {
            let next = Link {
                reclaimer: self.reclaimer.clone(),
                left: self.left - 1,
                freed: self.freed.clone(),
                end: self.end.clone(),
            };
            self.reclaimer.retire_value(next);
        }
    }
}

/// With one look of 10 ms for each link this would take a minute.
#[test]
fn a25_what_a_destructor_retires_goes_with_the_next_evidence() {
    let reclaimer = builder().build().unwrap();
    let freed = Arc::new(AtomicU64::new(0));
    const LINKS: u64 = 5_000;
    let link = Link::new(&reclaimer, LINKS, &freed);
    // From a thread that is gone: its place would hold back collected barriers.
    thread::scope(|scope| scope.spawn(|| reclaimer.retire_value(link)).join().unwrap());
    until("the chain", || freed.load(Relaxed) == LINKS);
}

/// The same, where this thread's record never takes a stamp: each link needs a bought barrier.
#[test]
fn a25_also_with_bought_barriers() {
    let reclaimer = builder().build().unwrap();
    drop(reclaimer.pin());
    let freed = Arc::new(AtomicU64::new(0));
    const LINKS: u64 = 2_000;
    reclaimer.retire_value(Link::new(&reclaimer, LINKS, &freed));
    until("the chain", || freed.load(Relaxed) == LINKS);
    let stats = reclaimer.stats();
    // One for each link and one more, each at most twice.
    assert!(stats.other_syscalls <= 2 * LINKS + 1000, "{stats:?}");
}

/// A chain without an end leaves others their turn.
#[test]
fn a25_a_chain_without_an_end_keeps_nobody_waiting() {
    let (endless, other) = (builder().build().unwrap(), builder().build().unwrap());
    let freed = Arc::new(AtomicU64::new(0));
    let link = Link::new(&endless, u64::MAX, &freed);
    let end = link.end.clone();
    endless.retire_value(link);
    until("the chain", || freed.load(Relaxed) > 1000);
    for _ in 0..10 {
        other.retire_value(0u64);
        let before = freed.load(Relaxed);
        until("the other domain", || other.stats().waiting() == 0);
        assert!(freed.load(Relaxed) > before, "neither waits for the other");
    }
    end.store(true, Relaxed);
    until("its end", || endless.stats().waiting() == 0);
}

/// `synchronize` takes the rest of the bag away from the background thread, and waits for the destructor
/// that it is in: meanwhile the rest is there for others.
#[test]
fn a6_nobody_sleeps_on_the_rest_of_a_bag() {
    let reclaimer = Arc::new(builder().build().unwrap());
    let (begun, wait_begun) = mpsc::channel();
    let (end, wait_end) = mpsc::channel::<()>();
    let freed = Arc::new(AtomicU64::new(0));
    thread::scope(|scope| {
        scope
            .spawn(|| {
                // So that its own calls free nothing: the background thread is to meet the destructor that blocks.
                let _section = reclaimer.pin();
                reclaimer.defer(move || {
                    begun.send(()).unwrap();
                    let _ = wait_end.recv_timeout(2 * LATE);
                });
                for _ in 0..10 {
                    let freed = freed.clone();
                    reclaimer.defer(move || {
                        freed.fetch_add(1, Relaxed);
                    });
                }
            })
            .join()
            .unwrap();
        wait_begun.recv_timeout(LATE).unwrap();
        let waiter = scope.spawn(|| reclaimer.synchronize(Instant::now() + 2 * LATE));
        until("the rest", || {
            reclaimer.flush();
            freed.load(Relaxed) == 10
        });
        end.send(()).unwrap();
        waiter.join().unwrap().unwrap();
    });
}

/// Runs the test `name` alone, in a process of its own: it finds [`CHILD`] there.
fn in_a_process_of_its_own(name: &str, told: &str) -> bool {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).args(["--exact", name]).env(CHILD, told).output().unwrap();
    if !output.status.success() {
        eprintln!("{}: {output:?}", output.status);
    }
    output.status.success()
}

const CHILD: &str = "BARRIERD_TEST_CHILD";

/// How the calling thread is scheduled: policy, niceness, CPUs.
fn scheduling() -> (i32, i32, String) {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let cpus = status.lines().find(|line| line.starts_with("Cpus_allowed:")).unwrap().to_owned();
    // SAFETY: asks about the calling thread.
    unsafe { (libc::sched_getscheduler(0), libc::getpriority(libc::PRIO_PROCESS, 0), cpus) }
}

#[test]
fn a17_the_background_thread_is_an_ordinary_one() {
    const NAME: &str = "a17_the_background_thread_is_an_ordinary_one";
    let Ok(policy) = std::env::var(CHILD) else {
        for policy in [libc::SCHED_FIFO, libc::SCHED_BATCH, libc::SCHED_IDLE] {
            assert!(in_a_process_of_its_own(NAME, &policy.to_string()), "policy {policy}");
        }
        return;
    };
    let policy: i32 = policy.parse().unwrap();
    let before = scheduling();
    let (send, seen) = mpsc::channel();
    let reclaimer = builder().build().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let priority = i32::from(policy == libc::SCHED_FIFO);
            // SAFETY: all of it is about the calling thread.
            let done = unsafe {
                let mut parameters: libc::sched_param = std::mem::zeroed();
                parameters.sched_priority = priority;
                let mut cpus: libc::cpu_set_t = std::mem::zeroed();
                libc::CPU_SET(usize::try_from(libc::sched_getcpu()).unwrap(), &mut cpus);
                libc::sched_setscheduler(0, policy, &parameters) == 0
                    && libc::sched_setaffinity(0, size_of_val(&cpus), &cpus) == 0
            };
            if !done {
                eprintln!("\n*** NOT RUN: this test needs the right to SCHED_FIFO ***\n");
                send.send(before.clone()).unwrap();
                return;
            }
            assert_ne!(scheduling(), before);
            let send = send.clone();
            reclaimer.defer(move || send.send(scheduling()).unwrap());
        });
    });
    assert_eq!(seen.recv_timeout(LATE).unwrap(), before);
}

/// Builds `examples/plugin.rs`.
fn plugin() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "-p", "barrierd-reclaim", "--example", "plugin"]);
    assert!(cargo.status().unwrap().success(), "{cargo:?} failed");
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).expect("target/profile/deps").join("examples/libplugin.so")
}

fn symbol(name: &str) -> CString {
    CString::new(name).unwrap()
}

/// What a program in C does: opens it, has a thread call it, closes it once that is gone.
fn open_use_close(plugin: &Path) {
    let path = symbol(plugin.to_str().unwrap());
    // SAFETY: a plugin of this repository's, whose one function is called before it is closed.
    unsafe {
        let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        assert!(!handle.is_null());
        let defer = libc::dlsym(handle, symbol("plugin_defer").as_ptr());
        assert!(!defer.is_null());
        let defer: extern "C" fn(u32) = std::mem::transmute(defer);
        thread::spawn(move || defer(1000)).join().unwrap();
        assert_eq!(libc::dlclose(handle), 0);
    }
    // The background thread is at it.
    thread::sleep(Duration::from_millis(60));
}

#[test]
fn a11_a_plugin_may_be_closed() {
    const NAME: &str = "a11_a_plugin_may_be_closed";
    if let Ok(plugin) = std::env::var(CHILD) {
        return open_use_close(Path::new(&plugin));
    }
    let plugin = plugin();
    let died = (0..60).filter(|_| !in_a_process_of_its_own(NAME, plugin.to_str().unwrap())).count();
    assert_eq!(died, 0, "of 60 processes");
}

/// A child by fork, the first process of a new pid namespace. `None`: not allowed. In the child this
/// returns what `work` says, as the exit status.
fn in_a_new_pid_namespace(work: impl FnOnce() -> i32) -> Option<i32> {
    let flags = libc::CLONE_NEWPID | libc::SIGCHLD;
    // SAFETY: a fork. The child calls what takes no lock that another thread may have held: nothing runs
    // in the parent then but this thread and some that sleep.
    let child = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if child == 0 {
        let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(101);
        // SAFETY: ends the child, nothing else.
        unsafe { libc::_exit(status) };
    }
    let child = libc::pid_t::try_from(child).ok().filter(|child| *child > 0)?;
    let mut status = 0;
    // SAFETY: a child of this process, waited for once.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    Some(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 103 })
}

/// The background thread is the parent's, though parent and child are both process 1.
#[test]
fn a14_a_child_of_the_same_number_has_a_thread_of_its_own() {
    const NAME: &str = "a14_a_child_of_the_same_number_has_a_thread_of_its_own";
    if std::env::var_os(CHILD).is_none() {
        assert!(in_a_process_of_its_own(NAME, "1"));
        return;
    }
    let retires = || {
        assert_eq!(std::process::id(), 1);
        let reclaimer = builder().build().unwrap();
        reclaimer.retire_value(String::from("here"));
        until("the background thread", || reclaimer.stats().waiting() == 0);
        // It is fast asleep.
        thread::sleep(Duration::from_millis(100));
    };
    let status = in_a_new_pid_namespace(|| {
        retires();
        in_a_new_pid_namespace(|| {
            retires();
            0
        })
        .unwrap_or(102)
    });
    match status {
        Some(status) => assert_eq!(status, 0),
        None => eprintln!("\n*** NOT RUN: this test makes pid namespaces, which needs root ***\n"),
    }
}

/// Threads of this process that serve, by the 15 bytes that the kernel keeps of their name.
fn background_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.trim_end() == "barrierd-reclai").count()
}

/// An object whose destructor says that it has begun, and waits for its end.
fn retire_blocker(reclaimer: &Reclaimer) -> mpsc::Sender<()> {
    let (begun, wait_begun) = mpsc::channel();
    let (end, wait_end) = mpsc::channel::<()>();
    reclaimer.defer(move || {
        begun.send(()).unwrap();
        let _ = wait_end.recv_timeout(4 * LATE);
    });
    wait_begun.recv_timeout(LATE).expect("it begins");
    end
}

fn until_all_is_freed(reclaimer: &Reclaimer) {
    until("all of it", || reclaimer.stats().waiting() == 0);
}

#[test]
fn a24_a_destructor_that_blocks_is_reported_and_others_are_served() {
    const NAME: &str = "a24_a_destructor_that_blocks_is_reported_and_others_are_served";
    if std::env::var_os(CHILD).is_none() {
        assert!(in_a_process_of_its_own(NAME, "1"));
        return;
    }
    let told = Arc::new(Mutex::new(Vec::new()));
    let hook = {
        let told = told.clone();
        move |blocker: &Blocker| told.lock().unwrap().push(blocker.clone())
    };
    let blocked = builder().stall_hook(Duration::from_secs(60), hook).build().unwrap();
    let (known, late) = (builder().build().unwrap(), builder().build().unwrap());
    known.retire_value(0u64);
    until_all_is_freed(&known);
    let end = retire_blocker(&blocked);
    // One that was there before, and one that comes now.
    for other in [&known, &late] {
        (0..100).for_each(|n: u64| other.retire_value(n));
        until_all_is_freed(other);
    }
    until("the report", || !told.lock().unwrap().is_empty());
    let blockers = blocked.blockers();
    assert_eq!(blockers.len(), 1, "{blockers:?}");
    assert!(blockers[0].destructor && blockers[0].open_for >= Duration::from_millis(100));
    assert_eq!(blockers[0].thread.as_deref(), Some("barrierd-reclai"));
    assert!(known.blockers().is_empty());
    end.send(()).unwrap();
    until_all_is_freed(&blocked);
    // It is served again.
    (0..100).for_each(|n: u64| blocked.retire_value(n));
    until_all_is_freed(&blocked);
    assert!(blocked.blockers().is_empty());
    let told = told.lock().unwrap();
    assert!(told.len() == 1 && told[0].destructor, "{told:?}");
    assert_eq!(told[0].tid, blockers[0].tid);
}

/// A deadlock that is the program's own: it is seen, and others go on.
#[test]
fn a24_a_destructor_that_waits_for_the_last_drop_keeps_nobody_else() {
    const NAME: &str = "a24_a_destructor_that_waits_for_the_last_drop_keeps_nobody_else";
    if std::env::var_os(CHILD).is_none() {
        assert!(in_a_process_of_its_own(NAME, "1"));
        return;
    }
    let (tell, told) = mpsc::channel();
    let hook = move |blocker: &Blocker| tell.send(blocker.destructor).unwrap();
    let doomed = builder().stall_hook(Duration::from_secs(60), hook).build().unwrap();
    let other = builder().build().unwrap();
    let (give, last) = mpsc::channel::<Reclaimer>();
    let dropper = thread::spawn(move || drop(last.recv()));
    let (begun, wait_begun) = mpsc::channel();
    doomed.defer(move || {
        begun.send(()).unwrap();
        let _ = dropper.join();
    });
    wait_begun.recv_timeout(LATE).unwrap();
    give.send(doomed).unwrap();
    assert!(told.recv_timeout(LATE).unwrap());
    (0..100).for_each(|n: u64| other.retire_value(n));
    until_all_is_freed(&other);
}

/// Four threads at most; with as many blocked the rest waits, and goes on with the first that comes back.
#[test]
fn a24_threads_are_few() {
    const NAME: &str = "a24_threads_are_few";
    if std::env::var_os(CHILD).is_none() {
        assert!(in_a_process_of_its_own(NAME, "1"));
        return;
    }
    let reclaimers: Vec<Reclaimer> = (0..5).map(|_| builder().build().unwrap()).collect();
    let mut ends: Vec<_> = reclaimers[..4].iter().map(retire_blocker).collect();
    until("the fourth report", || {
        reclaimers[..4].iter().all(|reclaimer| reclaimer.blockers().iter().any(|b| b.destructor))
    });
    reclaimers[4].retire_value(0u64);
    thread::sleep(Duration::from_millis(300));
    assert_eq!((background_threads(), reclaimers[4].stats().waiting()), (4, 1));
    ends.remove(0).send(()).unwrap();
    until_all_is_freed(&reclaimers[4]);
    // They come and go.
    for _ in 0..6 {
        for (end, reclaimer) in ends.drain(..).zip(&reclaimers[1..]) {
            end.send(()).unwrap();
            until_all_is_freed(reclaimer);
        }
        ends = reclaimers[1..4].iter().map(retire_blocker).collect();
        assert!(background_threads() <= 4);
    }
    drop(ends);
    reclaimers.iter().for_each(until_all_is_freed);
    until("they end", || background_threads() <= 2);
}

/// Each one's garbage owns the other's last clone, and two threads are in their destructors at once.
#[test]
fn a24_two_domains_that_own_each_other_end() {
    static DONE: AtomicUsize = AtomicUsize::new(0);

    struct Slow(Option<Reclaimer>);

    impl Drop for Slow {
        fn drop(&mut self) {
            // Longer than it takes until another thread leads.
            thread::sleep(Duration::from_millis(500));
            drop(self.0.take());
            DONE.fetch_add(1, Relaxed);
        }
    }

    let make = || Reclaimer::builder().source(Source::Fence).build().unwrap();
    let (a, b) = (make(), make());
    let (x, y) = (Slow(Some(b.clone())), Slow(Some(a.clone())));
    thread::spawn(move || {
        a.retire_value(x);
        b.retire_value(y);
    })
    .join()
    .unwrap();
    let late = Instant::now() + Duration::from_secs(20);
    while DONE.load(Relaxed) < 2 {
        assert!(Instant::now() < late, "each waits for the other");
        thread::sleep(Duration::from_millis(10));
    }
}

/// One domain has one thread; a second domain has the first one watched, also if it is blocked by then.
#[test]
fn a24_a_watcher_comes_with_the_second_domain() {
    if std::env::var_os(CHILD).is_none() {
        assert!(in_a_process_of_its_own("a24_a_watcher_comes_with_the_second_domain", "1"));
        return;
    }
    static BLOCKED: AtomicBool = AtomicBool::new(false);

    struct Blocks;

    impl Drop for Blocks {
        fn drop(&mut self) {
            BLOCKED.store(true, Relaxed);
            thread::sleep(Duration::from_secs(3600));
        }
    }

    let make = || Reclaimer::builder().source(Source::Fence).build().unwrap();
    let late = Instant::now() + Duration::from_secs(20);
    let wait_for = |what: &dyn Fn() -> bool| {
        while !what() {
            if Instant::now() > late {
                // No panic: the drops of its unwinding would wait for an hour.
                eprintln!("nobody serves the second domain");
                std::process::exit(1);
            }
            thread::sleep(Duration::from_millis(5));
        }
    };
    let first = make();
    for n in 0..10u64 {
        first.retire_value(n);
        wait_for(&|| first.stats().waiting() == 0);
    }
    assert_eq!(background_threads(), 1);
    first.retire_value(Blocks);
    wait_for(&|| BLOCKED.load(Relaxed));
    assert_eq!(background_threads(), 1);
    let second = make();
    second.retire_value(1u64);
    wait_for(&|| second.stats().waiting() == 0);
    assert!(background_threads() > 1);
    // The last drop would wait for an hour.
    std::process::exit(0);
}
