//! A seccomp filter that comes after the start forbids membarrier: nothing is freed too early, nothing
//! is lost, and the status says why. In a process of its own, since a filter is for good.

#[allow(dead_code, reason = "only the load is used here")]
mod cases;

use barrierd_reclaim::{Reclaimer, Status, Why};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// EPERM for membarrier, in all threads.
fn forbid_membarrier() {
    let load = |offset| libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: offset };
    let equals = |k, jt, jf| libc::sock_filter { code: 0x15, jt, jf, k };
    let answer = |k| libc::sock_filter { code: 0x06, jt: 0, jf: 0, k };
    let number = u32::try_from(libc::SYS_membarrier).unwrap();
    let errno = u32::try_from(libc::EPERM).unwrap();
    let mut filter = [
        load(0), // seccomp_data.nr
        equals(number, 0, 1),
        answer(libc::SECCOMP_RET_ERRNO | errno),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: sets a flag of this process.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program lives during the call, which copies it.
    let set = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &program,
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn membarrier_is_forbidden_later() {
    let nowhere = tempfile::tempdir().unwrap();
    let file = nowhere.path().join("barrier");
    let make = || Reclaimer::builder().daemon_file(&file).build().unwrap();
    let (reclaimer, other) = (make(), make());
    assert_eq!(reclaimer.status(), Status::Membarrier(Why::NoDaemon));
    cases::under_load(&other, || {
        thread::sleep(Duration::from_millis(100));
        forbid_membarrier();
        thread::sleep(Duration::from_millis(500));
        assert_eq!(other.status(), Status::Nothing(Why::MembarrierRefused));
        // Afterwards all threads are gone, and what they left is freed without any source.
    });
    // A thread that reads now and then and never retires can't be waited for ...
    let (here, wait_here) = mpsc::channel();
    let (go, wait_go) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let reader = &reclaimer;
        scope.spawn(move || {
            drop(reader.pin());
            here.send(()).unwrap();
            let _ = wait_go.recv();
        });
        wait_here.recv().unwrap();
        (0..1000u64).for_each(|i| reclaimer.retire_value(i));
        thread::sleep(Duration::from_millis(200));
        let stats = reclaimer.stats();
        assert_eq!((stats.freed, stats.retired), (0, 1000), "nothing proves a barrier: {stats:?}");
        assert!(stats.refused > 0, "{stats:?}");
        drop(go);
    });
    // ... until it is gone. Nor can a queue be taken over without a barrier of its owner's CPU: its
    // owner has to call.
    let stop = Instant::now() + Duration::from_secs(5);
    while reclaimer.stats().waiting() > 0 {
        assert!(Instant::now() < stop, "{} {:?}", reclaimer.status(), reclaimer.stats());
        reclaimer.flush();
        thread::sleep(Duration::from_millis(1));
    }
    // A new domain: fences, if it may not have anything else.
    assert_eq!(make().status(), Status::Fence(Why::NoMembarrier));
}
