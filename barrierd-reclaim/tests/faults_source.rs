//! Faults of where barriers come from, each with the input that showed it and the right value. The names
//! begin with the row of the table in which they were collected.

#![cfg(all(
    target_os = "linux",
    target_pointer_width = "64",
    target_endian = "little",
    not(barrierd_plain)
))]

mod common;

use barrierd_client::{abi, clock::now_ns};
use barrierd_reclaim::{BuildError, Builder, Reclaimer, Source, Status, Why};
use common::alone::{CHILD, is_alone};
use common::child::status_in_child;
use common::forged::Forged;
use common::seccomp;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// A daemon's file of this moment.
fn live() -> Forged {
    let now = now_ns();
    Forged::new(now, now - 1_000_000)
}

fn beat(forged: &Forged) {
    forged.store(abi::HEARTBEAT_NS, now_ns());
    forged.store(abi::LAST_INTERRUPT_NS, now_ns() - 1_000_000);
}

/// The file of a daemon that died `ago`.
fn dead(ago: Duration) -> Forged {
    let then = now_ns().saturating_sub(u64::try_from(ago.as_nanos()).unwrap()).max(1);
    Forged::new(then, then)
}

fn auto(file: &Path) -> Builder {
    Reclaimer::builder().daemon_file(file)
}

fn strict(file: &Path) -> Builder {
    auto(file).source(Source::Daemon)
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn mappings(of: &Path) -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.ends_with(of.to_str().unwrap())).count()
}

#[test]
fn a19_domains_share_what_they_have_of_a_file() {
    if !is_alone("a19_domains_share_what_they_have_of_a_file") {
        return;
    }
    let forged = live();
    let make = |builder: fn(&Path) -> Builder| {
        beat(&forged);
        builder(&forged.path).build().unwrap()
    };
    let before = descriptors();
    let mut all = vec![make(auto), make(strict)];
    let descriptors_of_one = descriptors() - before;
    // No room for another's, nor for what it takes to open the file.
    let limit = getrlimit(Resource::Nofile);
    let most = u64::try_from(descriptors() - 1).unwrap();
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..limit }).unwrap();
    all.extend((0..200).map(|n| make(if n % 2 == 0 { auto } else { strict })));
    setrlimit(Resource::Nofile, limit).unwrap();
    assert_eq!((mappings(&forged.path), descriptors() - before), (1, descriptors_of_one));
    for reclaimer in &all {
        beat(&forged);
        let status = reclaimer.status();
        assert!(matches!(status, Status::Daemon | Status::Membarrier(Why::DaemonLags)), "{status}");
        reclaimer.retire_value(0u64);
    }
    let maps = fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    assert!(maps < 150, "{maps} mappings");
    // One is kept for the domains to come, and goes when they have another file.
    drop(all);
    beat(&forged);
    drop(make(auto).pin());
    let other = live();
    let before = descriptors();
    drop(auto(&other.path).build().unwrap());
    let late = soon();
    while mappings(&forged.path) > 0 {
        assert!(Instant::now() < late, "the background thread had it, at most");
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!((mappings(&other.path), descriptors()), (1, before));
}

/// A file that was caught lying stays so for those who have it; a new domain asks whether it lies now. Another
/// file at the same path is another.
#[test]
fn a19_a_new_domain_judges_anew() {
    if !is_alone("a19_a_new_domain_judges_anew") {
        return;
    }
    let forged = live();
    let first = strict(&forged.path).build().unwrap();
    forged.store(abi::LAST_INTERRUPT_NS, now_ns() + 3_600_000_000_000);
    assert_eq!(first.status(), Status::Nothing(Why::DaemonDistrusted));
    assert!(matches!(strict(&forged.path).build(), Err(BuildError::Daemon(_))));
    beat(&forged);
    let second = strict(&forged.path).build().unwrap();
    assert_eq!(first.status(), Status::Nothing(Why::DaemonDistrusted));
    assert_ne!(second.status(), Status::Nothing(Why::DaemonDistrusted));
    assert_eq!(mappings(&forged.path), 2);
    let third = strict(&forged.path).build().unwrap();
    assert_eq!(mappings(&forged.path), 2, "the third has the second's");
    // Another file in its place.
    let other = live();
    fs::rename(&other.path, &forged.path).unwrap();
    let fourth = strict(&forged.path).build().unwrap();
    let fifth = strict(&forged.path).build().unwrap();
    let all = fs::read_to_string("/proc/self/maps").unwrap();
    let here = forged.path.to_str().unwrap();
    assert_eq!(all.lines().filter(|line| line.contains(here)).count(), 3, "{all}");
    drop((first, second, third, fourth, fifth));
}

/// The child of a fork opens the file anew: a thread of the parent may have been at the list.
#[test]
fn a19_a_child_takes_no_lock_of_its_parents() {
    if !is_alone("a19_a_child_takes_no_lock_of_its_parents") {
        return;
    }
    let forged = live();
    let over = AtomicBool::new(false);
    let _kept = strict(&forged.path).build().unwrap();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    beat(&forged);
                    drop(auto(&forged.path).build());
                }
            });
        }
        for _ in 0..200 {
            beat(&forged);
            // SAFETY: the child makes a domain, which is what this test is about, and exits at once.
            let status = unsafe {
                status_in_child(|| {
                    beat(&forged);
                    i32::from(strict(&forged.path).build().is_err())
                })
            };
            if status != 0 {
                over.store(true, Relaxed);
                panic!("the child hangs, or failed: {status}");
            }
        }
        over.store(true, Relaxed);
    });
}

/// Sleeping is forbidden in it: it would panic.
#[test]
fn a20_no_constructor_sleeps() {
    if !is_alone("a20_no_constructor_sleeps") {
        return;
    }
    let (old, stopped) = (dead(Duration::from_secs(10)), live());
    stopped.store(abi::FLAGS, abi::FLAG_STOPPED);
    seccomp::forbid(&[libc::SYS_nanosleep, libc::SYS_clock_nanosleep]);
    for _ in 0..10 {
        for (forged, why) in [(&old, Why::DaemonStale), (&stopped, Why::DaemonStopped)] {
            let made = auto(&forged.path).build().unwrap();
            assert_eq!(made.status(), Status::Membarrier(why));
            let refused = strict(&forged.path).build().map(drop);
            assert!(matches!(refused, Err(BuildError::DaemonGone { .. })), "{refused:?}");
        }
        drop(Reclaimer::new());
    }
    // One that has not beaten for a moment may live: it is taken, and found out.
    let late = soon();
    let (forged, made) = loop {
        let forged = dead(Duration::from_millis(300));
        match strict(&forged.path).build() {
            Ok(made) => break (forged, made),
            // This thread was kept for so long.
            Err(refused) => assert!(Instant::now() < late, "{refused}"),
        }
    };
    while made.status() != Status::Nothing(Why::DaemonStale) {
        assert!(Instant::now() < late, "{}", made.status());
        thread::yield_now();
    }
    // What one domain has seen is known to the next.
    assert!(matches!(strict(&forged.path).build(), Err(BuildError::DaemonGone { .. })));
}

/// The daemon of a file that was dead when the domain was made comes back on it: no thread need look.
#[test]
fn a20_a_daemon_that_comes_back_on_its_file_is_taken() {
    let forged = dead(Duration::from_secs(10));
    let reclaimer = auto(&forged.path).background(false).build().unwrap();
    assert_eq!(reclaimer.status(), Status::Membarrier(Why::DaemonStale));
    let late = soon();
    loop {
        beat(&forged);
        if reclaimer.status() == Status::Daemon {
            break;
        }
        assert!(Instant::now() < late, "{}", reclaimer.status());
    }
}

#[test]
fn a20_fences_where_neither_is_there() {
    if !is_alone("a20_fences_where_neither_is_there") {
        return;
    }
    seccomp::forbid(&[libc::SYS_membarrier]);
    let nowhere = tempfile::tempdir().unwrap();
    let fences = Status::Fence(Why::NoMembarrier);
    assert_eq!(auto(&nowhere.path().join("barrier")).build().unwrap().status(), fences);
    for ago in [300, 10_000] {
        let forged = dead(Duration::from_millis(ago));
        assert_eq!(auto(&forged.path).build().unwrap().status(), fences);
    }
    let late = soon();
    let forged = live();
    loop {
        beat(&forged);
        if auto(&forged.path).build().unwrap().status() == Status::Daemon {
            break;
        }
        assert!(Instant::now() < late);
    }
}

/// `MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED`, without flags.
const REGISTER: [u32; 2] = [16, 0];

/// Whoever registers is killed here.
#[test]
fn a21_nobody_registers_who_needs_no_barrier() {
    if !is_alone("a21_nobody_registers_who_needs_no_barrier") {
        return;
    }
    seccomp::answer_to(libc::SYS_membarrier, &REGISTER, libc::SECCOMP_RET_KILL_PROCESS);
    let nowhere = tempfile::tempdir().unwrap();
    let file = nowhere.path().join("barrier");
    drop(auto(&file).build().unwrap().pin());
    drop(Reclaimer::builder().source(Source::Membarrier).build().unwrap().pin());
    drop(Reclaimer::new().pin());
    drop(barrierd_reclaim::epoch::pin());
    // The first one has asked, for all.
    seccomp::answer_to(libc::SYS_membarrier, &[], libc::SECCOMP_RET_KILL_PROCESS);
    let kept: Vec<_> = (0..100).map(|_| auto(&file).build().unwrap()).collect();
    assert!(kept.iter().all(|made| made.status() == Status::Membarrier(Why::NoDaemon)));
}

/// The same while a daemon serves. Its file must not get old meanwhile, so it is tried a few times.
#[test]
fn a21_nobody_registers_while_a_daemon_serves() {
    const NAME: &str = "a21_nobody_registers_while_a_daemon_serves";
    if std::env::var_os(CHILD).is_none() {
        assert!((0..5).any(|_| std::panic::catch_unwind(|| is_alone(NAME)).is_ok()));
        return;
    }
    seccomp::answer_to(libc::SYS_membarrier, &REGISTER, libc::SECCOMP_RET_KILL_PROCESS);
    let forged = live();
    for background in [false, true] {
        beat(&forged);
        let reclaimer = auto(&forged.path).background(background).build().unwrap();
        let _resting = reclaimer.handle();
        for n in 0..300u64 {
            beat(&forged);
            drop(reclaimer.pin());
            reclaimer.retire_value(n);
            reclaimer.flush();
            thread::sleep(Duration::from_micros(100));
        }
        assert!(reclaimer.stats().freed > 0, "{:?}", reclaimer.stats());
    }
}

/// The filter lets all questions pass, and refuses the registration.
#[test]
fn a21_a_registration_that_is_refused_is_tried_again_seldom() {
    if !is_alone("a21_a_registration_that_is_refused_is_tried_again_seldom") {
        return;
    }
    seccomp::answer_to(libc::SYS_membarrier, &REGISTER, seccomp::EPERM);
    let begin = Instant::now();
    let reclaimer =
        Reclaimer::builder().source(Source::Membarrier).background(false).build().unwrap();
    let other = reclaimer.handle();
    reclaimer.retire_value(0u64);
    for _ in 0..10_000 {
        reclaimer.flush();
    }
    assert_eq!(reclaimer.status(), Status::Nothing(Why::MembarrierRefused));
    let refused = || reclaimer.stats().refused;
    let most = 2 + begin.elapsed().as_millis() / 100;
    assert!((1..=most).contains(&refused().into()), "{} times", refused());
    let (before, late) = (refused(), soon());
    while refused() == before {
        assert!(Instant::now() < late, "it is tried again");
        reclaimer.flush();
        thread::sleep(Duration::from_millis(1));
    }
    // What is known by then: a new domain had better fence.
    let new = Reclaimer::builder().source(Source::Membarrier).build();
    assert!(matches!(new, Err(BuildError::Membarrier(_))));
    drop(other);
}

/// A filter that refuses the questions, or the odd ones among them, is told from one that forbids membarrier.
#[test]
fn a21_a_filter_against_questions_is_no_refusal() {
    if !is_alone("a21_a_filter_against_questions_is_no_refusal") {
        return;
    }
    seccomp::answer_to(libc::SYS_membarrier, &[0], seccomp::EPERM);
    let reclaimer = Reclaimer::builder().source(Source::Membarrier).build().unwrap();
    let _other = reclaimer.handle();
    reclaimer.retire_value(0u64);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(reclaimer.stats().waiting(), 0);
}

/// Where a thread is there to wait for the registration it does, and a barrier that `retire` needs is bought
/// soon after.
#[test]
fn a21_the_background_thread_registers() {
    if !is_alone("a21_the_background_thread_registers") {
        return;
    }
    let reclaimer = Reclaimer::builder().source(Source::Membarrier).build().unwrap();
    // A record that rests: barriers can't be collected from it, and one that has had a robust guard is never put to sleep.
    let resting = reclaimer.handle();
    drop(resting.pin_robust());
    let late = soon();
    while reclaimer.stats().retire_syscalls == 0 {
        assert!(Instant::now() < late, "{} {:?}", reclaimer.status(), reclaimer.stats());
        (0..100u64).for_each(|n| reclaimer.retire_value(n));
    }
    assert_eq!(reclaimer.status(), Status::Membarrier(Why::AskedFor));
}
