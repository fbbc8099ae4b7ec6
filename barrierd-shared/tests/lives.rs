//! Who lives: slots go with the address space, whatever its children do.

mod setup;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use barrierd_shared::{Held, JoinError, Options, Region, SharedCell, View, WriteError, Writer};
use setup::{alone, no_barriers, no_daemon, writer_with};

const PATIENCE: Duration = Duration::from_secs(30);
const CELL: SharedCell<u64> = SharedCell::at(0);

fn writer(region: &Region) -> Writer {
    writer_with(region, &no_barriers())
}

/// A child that runs `work` and is killed when this is dropped.
struct Child {
    pid: libc::pid_t,
    talk: UnixStream,
}

impl Child {
    fn fork(work: impl FnOnce(&mut UnixStream)) -> Child {
        let (talk, mut other) = UnixStream::pair().expect("a pair");
        talk.set_read_timeout(Some(PATIENCE)).expect("set");
        // SAFETY: the child only runs `work`, which takes no lock that another thread of the tests may hold: it neither allocates
        // much nor prints. glibc makes malloc usable there.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork");
        if pid == 0 {
            work(&mut other);
            // SAFETY: ends the child without anything of the parent's.
            unsafe { libc::_exit(0) };
        }
        Child { pid, talk }
    }

    /// Waits for its next byte.
    #[track_caller]
    fn says(&mut self, byte: u8) {
        let mut said = [0];
        self.talk.read_exact(&mut said).expect("it says something");
        assert_eq!(said[0] as char, byte as char);
    }

    fn tell(&mut self) {
        self.talk.write_all(b"g").expect("told");
    }

    fn kill(&mut self) {
        if self.pid > 0 {
            // SAFETY: our own child, not waited for yet.
            unsafe {
                libc::kill(self.pid, libc::SIGKILL);
                libc::waitpid(self.pid, std::ptr::null_mut(), 0);
            }
            self.pid = 0;
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

fn say(talk: &mut UnixStream, byte: u8) {
    let _ = talk.write_all(&[byte]);
}

fn listen(talk: &mut UnixStream) {
    let _ = talk.read_exact(&mut [0]);
}

#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let stop = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < stop, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_dead_readers_section_holds_nothing_back_and_a_living_ones_does() {
    let _alone = alone();
    let region = Region::create_in_memory(Options::new(1 << 16).readers(2)).expect("made");
    let mut writer = writer(&region);
    CELL.set(&mut writer, 1).expect("room");
    let mut child = Child::fork(|talk| {
        let mut reader = region.reader().expect("a slot");
        let guard = reader.pin();
        let value = CELL.of(&guard);
        say(talk, if value == Some(1) { b'p' } else { b'?' });
        listen(talk);
    });
    child.says(b'p');
    CELL.set(&mut writer, 2).expect("room");
    assert_eq!(writer.flush().expect("a turn"), 0);
    let late = writer.synchronize(Instant::now() + Duration::from_millis(20));
    let Err(WriteError::Deadline { why: Held::Reader { slot: 0, .. }, .. }) = late else {
        panic!("{late:?}")
    };
    let stats = region.stats();
    assert_eq!((stats.waiting, stats.readers.len(), stats.readers[0].lives), (1, 1, true));
    assert!(stats.readers[0].section.is_some() && stats.readers[0].holds_back);

    child.kill();
    until("the dead holds nothing", || writer.flush().expect("a turn") == 1);
    let stats = region.stats();
    assert_eq!((stats.waiting, stats.deaths, stats.readers.len()), (0, 1, 0));
}

#[test]
fn a_dead_parents_slot_is_free_while_its_child_lives() {
    let _alone = alone();
    let region = Region::create_in_memory(Options::new(1 << 16).readers(1)).expect("made");
    let mut parent = Child::fork(|talk| {
        let mut reader = region.reader().expect("a slot");
        let guard = reader.pin();
        let _ = guard.load(guard.root::<barrierd_shared::Field<u64>>(0));
        // SAFETY: as in `Child::fork`.
        let grandchild = unsafe { libc::fork() };
        if grandchild == 0 {
            // It outlives its parent, with everything that it has inherited, but not this test by much.
            say(talk, b'c');
            let _ = talk.set_read_timeout(Some(PATIENCE));
            listen(talk);
            say(talk, b'l');
            // SAFETY: as in `Child::fork`.
            unsafe { libc::_exit(0) };
        }
        std::thread::sleep(PATIENCE);
    });
    parent.says(b'c');
    assert!(matches!(region.reader(), Err(JoinError::Full { .. })));
    parent.kill();
    until("the slot is free", || region.reader().is_ok());
    parent.tell();
    parent.says(b'l');
}

#[test]
fn a_child_refuses_its_parents_participants_and_makes_its_own() {
    let _alone = alone();
    let region =
        Region::create_in_memory(Options::new(1 << 16).readers(3).writers(2)).expect("made");
    let (mut open, mut first) = (region.reader().expect("a slot"), Some(writer(&region)));
    let mut idle = Some(region.reader().expect("a slot"));
    CELL.set(first.as_mut().expect("made"), 1).expect("room");
    let mut guard = Some(open.pin());
    // All are lent to the child's part, so that the parent's own stay as they are.
    let mut child = Child::fork(|talk| {
        // A section that was open in the fork is the parent's: its end here changes nothing.
        drop(guard.take());
        std::panic::set_hook(Box::new(|_| {}));
        let pin = || drop(idle.as_mut().expect("there").pin());
        let pinned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(pin));
        say(talk, if pinned.is_err() { b'r' } else { b'?' });
        let wrote = CELL.set(first.as_mut().expect("there"), 2);
        say(talk, if matches!(wrote, Err(WriteError::Forked)) { b'w' } else { b'?' });
        drop((idle.take(), first.take()));
        let (mut own, mut writes) = (region.reader().expect("a slot"), writer(&region));
        let done = CELL.set(&mut writes, 3).is_ok() && CELL.get(&mut own) == Some(3);
        say(talk, if done { b'o' } else { b'?' });
        listen(talk);
    });
    for byte in *b"rwo" {
        child.says(byte);
    }
    let stats = region.stats();
    assert_eq!((stats.readers.len(), stats.writers.len(), stats.waiting), (3, 2, 1), "{stats:?}");
    assert!(stats.readers[0].section.is_some(), "{stats:?}");
}

#[test]
fn a_stopped_readers_section_holds_back_what_came_after_it_and_nothing_else() {
    let _alone = alone();
    let region = Region::create_in_memory(Options::new(1 << 16)).expect("made");
    let mut writer = writer(&region);
    let mut busy = region.reader().expect("a slot");
    for value in 0..10 {
        CELL.set(&mut writer, value).expect("room");
    }
    drop(busy.pin());
    let mut child = Child::fork(|talk| {
        let mut reader = region.reader().expect("a slot");
        let _guard = reader.pin();
        say(talk, b'p');
        // SAFETY: stops this child alone.
        unsafe { libc::raise(libc::SIGSTOP) };
    });
    child.says(b'p');
    assert_eq!(
        writer.flush().expect("a turn"),
        9,
        "what was retired before its section is not held"
    );
    for value in 10..15 {
        CELL.set(&mut writer, value).expect("room");
    }
    drop(busy.pin());
    assert_eq!(writer.flush().expect("a turn"), 0);
}

#[test]
fn a_writer_that_dies_in_its_turn_is_followed_by_the_next_one_even_in_its_own_slot() {
    let _alone = alone();
    for writers in [1, 2] {
        let region =
            Region::create_in_memory(Options::new(1 << 16).writers(writers)).expect("made");
        let mut child = Child::fork(|talk| {
            let mut first = writer(&region);
            let turn = first.turn().expect("free");
            let fresh = turn.alloc::<barrierd_shared::Field<u64>>().expect("room");
            fresh.write(|value| value, 7);
            say(talk, b't');
            listen(talk);
        });
        child.says(b't');
        if writers == 2 {
            let options = no_daemon().patience(Duration::from_millis(5));
            let busy = region.writer_with(&options).expect("a slot").flush();
            assert!(matches!(busy, Err(WriteError::Busy { slot: 0, .. })), "{busy:?}");
        }
        child.kill();
        let mut next = None;
        until("a slot is free", || {
            next = region.writer().ok();
            next.is_some()
        });
        let census =
            next.expect("a writer").turn().expect("taken over").census().expect("in order");
        assert_eq!((census.live, census.free, census.held), (0, 1, 0));
        assert_eq!(region.stats().recoveries, 1);
    }
}

#[test]
fn a_program_that_has_closed_its_descriptors_is_told_and_nobody_is_taken_for_dead() {
    let _alone = alone();
    let region = Region::create_in_memory(Options::new(1 << 16).readers(2)).expect("made");
    let mut reader = region.reader().expect("a slot");
    let mut writer = writer(&region);
    CELL.set(&mut writer, 1).expect("room");
    let _guard = reader.pin();
    let mut child = Child::fork(|talk| {
        let mut own = self::writer(&region);
        CELL.set(&mut own, 2).expect("room");
        // As a daemon does; then the numbers are other files'.
        let keep = std::os::fd::AsRawFd::as_raw_fd(talk);
        for fd in 3..200 {
            if fd != keep {
                // SAFETY: this child is about to end, and uses none of them but what is under test.
                unsafe { libc::close(fd) };
            }
        }
        let others: Vec<_> = (0..50).map(|_| tempfile::tempfile().expect("a file")).collect();
        let none_freed = matches!(own.flush(), Ok(0));
        say(talk, if none_freed { b'n' } else { b'?' });
        let refused = matches!(region.reader(), Err(JoinError::Closed | JoinError::Io { .. }));
        say(talk, if refused { b'c' } else { b'?' });
        drop(others);
        listen(talk);
    });
    child.says(b'n');
    child.says(b'c');
}
