//! The publisher against a real file, read through another mapping.

use super::*;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::thread::futex;

use crate::cpulist::CpuSet;
use crate::machine::{IDLE, Inherited, Scan};
use crate::words::Words;

const CPUS: usize = 2;
const BOOT: BootId = BootId([3; 16]);

struct Served {
    dir: tempfile::TempDir,
    publisher: Publisher,
    machine: Machine,
    clock: u64,
}

impl Served {
    /// A new file, or what `before` leaves at the path.
    fn start(exact: bool, before: impl FnOnce(&std::path::Path)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        before(&dir.path().join("barrier"));
        Self::restart(dir, exact)
    }

    fn restart(dir: tempfile::TempDir, exact: bool) -> Self {
        let file = PublicFile::open(&dir.path().join("barrier"), CPUS, BOOT).expect("opened");
        let machine = Machine::new(CPUS, file.inherited);
        let clock = 10_000 + file.inherited.last_interrupt_ns;
        let mut publisher = Publisher::new(file, BOOT, CPUS, exact, clock);
        publisher.waker = Waker::tireless();
        Self { dir, publisher, machine, clock }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("barrier")
    }

    fn word(&self, offset: usize) -> u64 {
        let mut bytes = [0; 8];
        File::open(self.path())
            .and_then(|file| file.read_exact_at(&mut bytes, u64::try_from(offset).expect("small")))
            .expect("read");
        u64::from_le_bytes(bytes)
    }

    /// Opens a round and has the other CPU pass it; returns `T_v` and the scan's time.
    fn round(&mut self, other: impl Fn(u64) -> u64) -> (u64, u64) {
        let vtime = self.machine.next_round().expect("none open");
        self.publisher.open_round(vtime);
        let opened = self.clock + 10;
        self.machine.opened(vtime, opened);
        self.clock += 100;
        self.machine.scan(&Scan {
            s: self.clock,
            online: &CpuSet::all(CPUS),
            own: 0,
            slots: &[0, other(opened)],
        });
        self.publisher.publish(&self.machine, self.clock + 1);
        (opened, self.clock)
    }
}

#[test]
fn rounds_reach_the_file_one_late_with_their_trusted_copies() {
    let mut served = Served::start(false, |_| ());
    assert_eq!(served.word(abi::FLAGS), 0);
    let (opened, _) = served.round(|opened| opened);
    assert_eq!(served.word(abi::LAST_INTERRUPT_NS), opened);
    assert_eq!((served.word(abi::VTIME), served.word(abi::LAST_INTERRUPT_VTIME)), (1, 0));
    let (opened, s) = served.round(|opened| opened);
    assert_eq!(served.word(abi::LAST_INTERRUPT_NS), opened);
    for (vtime, last) in
        [(abi::VTIME, abi::LAST_INTERRUPT_VTIME), (abi::TRUSTED_VTIME, abi::TRUSTED_LAST_VTIME)]
    {
        assert_eq!((served.word(vtime), served.word(last)), (2, 1));
    }
    assert_eq!(served.word(abi::HEARTBEAT_NS), s + 1);
}

#[test]
fn per_cpu_words_are_the_global_ones_unless_asked_for() {
    let mut served = Served::start(false, |_| ());
    served.round(|opened| opened);
    let (opened, _) = served.round(|opened| opened);
    for cpu in 0..CPUS {
        assert_eq!(served.word(abi::per_cpu_ns(cpu)), opened);
        assert_eq!(served.word(abi::per_cpu_vtime(cpu)), 1);
    }

    let mut served = Served::start(true, |_| ());
    assert_eq!(served.word(abi::FLAGS), abi::FLAG_PER_CPU_EXACT);
    served.round(|opened| opened);
    let (opened, s) = served.round(|opened| opened - 1);
    // CPU 0 is the daemon's; CPU 1 has not passed the second round.
    assert_eq!((served.word(abi::per_cpu_ns(0)), served.word(abi::per_cpu_vtime(0))), (s, 1));
    assert_eq!(
        (served.word(abi::per_cpu_ns(1)), served.word(abi::per_cpu_vtime(1))),
        (opened - 1, 0)
    );
    assert_eq!(served.word(abi::LAST_INTERRUPT_NS), opened - 1);
}

#[test]
fn a_restart_keeps_times_and_silences_virtual_time_for_two_rounds() {
    let mut served = Served::start(false, |_| ());
    for _ in 0..3 {
        served.round(|opened| opened);
    }
    served.publisher.stop();
    assert_eq!(served.word(abi::FLAGS), abi::FLAG_STOPPED);
    let Served { dir, publisher, .. } = served;
    drop(publisher);

    let mut served = Served::restart(dir, false);
    assert_eq!((served.word(abi::FLAGS), served.word(abi::GENERATION)), (0, 2));
    assert_eq!((served.word(abi::VTIME), served.word(abi::LAST_INTERRUPT_VTIME)), (3, 2));
    let before = served.word(abi::LAST_INTERRUPT_NS);
    served.round(|opened| opened);
    assert_eq!((served.word(abi::VTIME), served.word(abi::LAST_INTERRUPT_VTIME)), (4, 2));
    assert_eq!(served.word(abi::TRUSTED_LAST_VTIME), 2);
    assert!(served.word(abi::LAST_INTERRUPT_NS) > before);
    served.round(|opened| opened);
    assert_eq!((served.word(abi::VTIME), served.word(abi::LAST_INTERRUPT_VTIME)), (5, 4));
    assert_eq!(served.word(abi::TRUSTED_LAST_VTIME), 4);
}

/// A file of the C daemon's whose per-CPU words are ahead of the global ones, as they may be.
fn legacy(path: &std::path::Path) {
    let file = File::create(path).expect("made");
    file.set_len(4096).expect("sized");
    for (offset, value) in [
        (abi::NCPU, 2u64),
        (abi::VTIME, 50),
        (abi::LAST_INTERRUPT_NS, 20_000),
        (abi::LAST_INTERRUPT_VTIME, 49),
        (abi::per_cpu_ns(1), 30_500),
        (abi::per_cpu_vtime(1), 50),
    ] {
        file.write_all_at(&value.to_le_bytes(), u64::try_from(offset).expect("small"))
            .expect("written");
    }
}

#[test]
fn the_c_daemons_file_becomes_ours_once_our_own_evidence_has_passed_it() {
    let mut served = Served::start(false, legacy);
    let header =
        |served: &Served| (abi::MAGIC..abi::PER_CPU).step_by(8).map(|o| served.word(o)).max();
    served.round(|_| 19_999);
    assert_eq!(served.word(abi::LAST_INTERRUPT_NS), 20_000);
    assert_eq!(header(&served), Some(0), "nothing of ours before our evidence");
    served.round_over(30_050);
    assert_eq!(served.word(abi::LAST_INTERRUPT_NS), 30_050);
    assert_eq!(served.word(abi::MAGIC), abi::MAGIC_VALUE);
    assert_eq!((served.word(abi::VERSION), served.word(abi::GENERATION)), (abi::VERSION_VALUE, 1));
    assert_eq!(served.word(abi::TRUSTED_VTIME), 51);
    assert_eq!(served.word(abi::TRUSTED_LAST_VTIME), 0);
    assert_eq!(served.word(abi::LAST_INTERRUPT_VTIME), 49);
    // Its per-CPU words are never lowered.
    assert_eq!(
        (served.word(abi::per_cpu_ns(0)), served.word(abi::per_cpu_ns(1))),
        (30_050, 30_500)
    );
    served.round_over(IDLE);
    served.round(|_| IDLE);
    assert_eq!(served.word(abi::LAST_INTERRUPT_VTIME), 51);
    assert_eq!(served.word(abi::TRUSTED_LAST_VTIME), 51);
}

impl Served {
    /// A scan without a new round.
    fn round_over(&mut self, other: u64) {
        self.clock += 100;
        self.machine.scan(&Scan {
            s: self.clock,
            online: &CpuSet::all(CPUS),
            own: 0,
            slots: &[0, other],
        });
        self.publisher.publish(&self.machine, self.clock + 1);
    }
}

/// Whether a waiter on the futex word at `offset` of a mapping of its own is woken by `action`.
fn wakes(served: &mut Served, offset: usize, action: impl FnOnce(&mut Served)) -> bool {
    let file = File::open(served.path()).expect("there");
    let writable = File::options().read(true).write(true).open(served.path()).expect("there");
    drop(file);
    let words = Words::map(writable.as_fd(), abi::size_for(CPUS)).expect("mapped");
    let before = u32::try_from(words.load(offset)).expect("small");
    let (ready, go) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(move || {
            let timeout = crate::clock::timespec(5_000_000_000);
            let word = words.futex(offset);
            let address = core::ptr::from_ref(word).addr();
            ready.send((rustix::thread::gettid(), address)).expect("the test waits");
            // At the end of the time it fails.
            futex::wait(word, futex::Flags::empty(), before, Some(&timeout)).is_ok()
        });
        let (tid, address) = go.recv().expect("the waiter lives");
        let call = format!("/proc/self/task/{}/syscall", tid.as_raw_nonzero());
        // Until it sleeps there: a wake-up before that would find nobody.
        let sleeps = format!(" {address:#x} ");
        while !std::fs::read_to_string(&call).expect("the waiter lives").contains(&sleeps) {
            std::thread::sleep(Duration::from_millis(1));
        }
        action(served);
        waiter.join().expect("the waiter does not panic")
    })
}

#[test]
fn every_word_that_changes_is_woken() {
    let mut served = Served::start(false, |_| ());
    served.round(|opened| opened);
    for offset in [
        abi::VTIME,
        abi::LAST_INTERRUPT_NS,
        abi::LAST_INTERRUPT_VTIME,
        abi::per_cpu_ns(1),
        abi::per_cpu_vtime(0),
    ] {
        let woken = wakes(&mut served, offset, |served| {
            served.round(|opened| opened);
            // The slow words, once they are due.
            let due = served.publisher.slow_ns + SLOW_NS;
            served.publisher.publish(&served.machine, due);
        });
        assert!(woken, "offset {offset}");
    }
}

#[test]
fn b23_the_file_says_whether_the_daemon_is_easy_until_it_stops() {
    let mut served = Served::start(true, |_| ());
    served.publisher.set_easy(true);
    assert_eq!(served.word(abi::FLAGS), abi::FLAG_PER_CPU_EXACT | abi::FLAG_EASY);
    served.publisher.set_easy(false);
    assert_eq!(served.word(abi::FLAGS), abi::FLAG_PER_CPU_EXACT);
    served.publisher.set_easy(true);
    served.publisher.stop();
    assert_eq!(served.word(abi::FLAGS), abi::FLAG_PER_CPU_EXACT | abi::FLAG_STOPPED);
}

#[test]
fn stopping_wakes_whoever_waits_though_nothing_changes() {
    for offset in
        [abi::VTIME, abi::LAST_INTERRUPT_NS, abi::LAST_INTERRUPT_VTIME, abi::per_cpu_ns(1)]
    {
        let mut served = Served::start(false, |_| ());
        assert!(wakes(&mut served, offset, |served| served.publisher.stop()), "offset {offset}");
    }
}

#[test]
fn per_cpu_words_are_woken_in_turn() {
    let dir = tempfile::tempdir().expect("a directory");
    let cpus = 10;
    let file = PublicFile::open(&dir.path().join("barrier"), cpus, BOOT).expect("made");
    let mut publisher = Publisher::new(file, BOOT, cpus, false, 1);
    publisher.waker = Waker::tireless();
    let mut machine = Machine::new(cpus, Inherited::default());
    let mut scan = |s| {
        let slots = vec![s; cpus];
        machine.scan(&Scan { s, online: &CpuSet::all(cpus), own: 0, slots: &slots });
        publisher.publish(&machine, s);
        let too_soon = publisher.woken.to_vec();
        publisher.publish(&machine, publisher.slow_ns + SLOW_NS);
        assert!(!too_soon.contains(&s), "not before their time");
        publisher.woken.to_vec()
    };
    // 10 words of ns change at each scan, 8 are woken; those of vtime don't.
    let woken = |values: &[u64], s| values.iter().filter(|&&v| v == s).count();
    assert_eq!(woken(&scan(100), 100), 8);
    let second = scan(200);
    assert_eq!(woken(&second, 200), 8);
    // The two that were left out came first.
    assert!(second[16] == 200 && second[18] == 200, "{second:?}");
}
