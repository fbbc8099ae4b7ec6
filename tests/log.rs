//! Nobody reads the daemon's log: barriers go on, it stops when it is told to, and what was lost is
//! told once somebody reads again.

#![allow(clippy::incompatible_msrv, reason = "no part of a package: run with the current Rust")]

mod common;
#[allow(dead_code, reason = "only its screen is used here")]
#[path = "common/terminal.rs"]
mod terminal;

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use barrierd_client::counters::Word;
use barrierd_client::{Barrier, Liveness, Stamp};
use common::{Daemon, PATIENCE, directory, have_root};
use rustix::net::{SendFlags, send};
use rustix::process::Signal;
use rustix::termios::{Action, tcflow};
use terminal::Terminal;

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// The other end of a daemon's standard error.
trait Reader {
    /// Takes no more, until the next look.
    fn shut(&mut self);
    /// Takes what comes until it holds `words`.
    fn read_until(&mut self, words: &str) -> String;
}

/// Barriers pass and the daemon beats, while it says more than its standard error takes; then the
/// number of lines that were lost stands in the log, and a signal ends it however full that is.
fn goes_on(stderr: impl Into<Stdio>, mut reader: impl Reader) {
    let dir = directory();
    let mut daemon = Daemon::spawn_to(stderr, dir.path(), &["-v"]);
    reader.read_until("Setup complete.");
    let barrier = Barrier::open(&daemon.file).expect("a sound file");
    // From the first scan on there are counters.
    barrier.wait(Stamp::now(), soon()).expect("passes");
    let lost = || barrier.counters().expect("counters").get(Word::LostLogLines).expect("known");
    let lines_are_lost = || {
        let (before, give_up) = (lost(), soon());
        while lost() < before + 2 {
            barrier.wait(Stamp::now(), soon()).expect("passes");
            assert_eq!(barrier.liveness(), Liveness::Alive);
            assert!(Instant::now() < give_up, "-v says something each second");
            thread::sleep(Duration::from_millis(20));
        }
    };
    reader.shut();
    lines_are_lost();
    let text = reader.read_until(" lost here: ");
    // Whole lines only, but for what the test itself may have put before them.
    let line = text.lines().find(|line| line.contains(" lost here: ")).expect("just found");
    let line = line.trim_start_matches('x');
    assert!(line.starts_with("barrierd: ") && line.contains(" line"), "{line}");

    reader.shut();
    lines_are_lost();
    daemon.signal(Signal::TERM);
    assert!(daemon.ends().success());
    assert_eq!(barrier.liveness(), Liveness::Stopped);
}

/// Writes to `end` until it takes not a byte more.
fn fill(mut write: impl FnMut(&[u8]) -> std::io::Result<usize>) {
    for size in [4096, 1] {
        loop {
            match write(&vec![b'x'; size]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("filling it: {error}"),
            }
        }
    }
}

fn read_until(end: &mut impl Read, words: &str) -> String {
    let (mut text, mut bytes) = (String::new(), [0; 4096]);
    while !text.contains(words) {
        let n = end.read(&mut bytes).expect("the daemon says something each second");
        assert!(n > 0, "the daemon has ended: {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..n]));
    }
    text
}

struct Pipe {
    reader: std::io::PipeReader,
    /// Keeps it from being at its end.
    writer: std::io::PipeWriter,
}

impl Reader for Pipe {
    fn shut(&mut self) {
        // A description of its own: O_NONBLOCK on the daemon's would change the daemon's.
        let path = format!("/proc/self/fd/{}", self.writer.as_raw_fd());
        let mut own = OpenOptions::new();
        let mut own = own.write(true).custom_flags(libc::O_NONBLOCK).open(path).expect("opened");
        fill(|bytes| own.write(bytes));
    }

    fn read_until(&mut self, words: &str) -> String {
        read_until(&mut self.reader, words)
    }
}

#[test]
fn b6_a_pipe_that_nobody_reads() {
    if !have_root() {
        return;
    }
    let (reader, writer) = std::io::pipe().expect("a pipe");
    goes_on(writer.try_clone().expect("a descriptor"), Pipe { reader, writer });
}

impl Reader for Terminal {
    /// Ctrl-S.
    fn shut(&mut self) {
        tcflow(&self.screen, Action::OOff).expect("a terminal");
    }

    /// Ctrl-Q.
    fn read_until(&mut self, words: &str) -> String {
        tcflow(&self.screen, Action::OOn).expect("a terminal");
        Terminal::read_until(self, |text| text.contains(words))
    }
}

#[test]
fn b6_a_terminal_that_was_stopped() {
    if !have_root() {
        return;
    }
    let terminal = Terminal::new(80, 24);
    goes_on(terminal.screen.try_clone().expect("a descriptor"), terminal);
}

/// As journald's.
struct Socket {
    reader: UnixStream,
    writer: UnixStream,
}

impl Reader for Socket {
    fn shut(&mut self) {
        fill(|bytes| Ok(send(&self.writer, bytes, SendFlags::DONTWAIT)?));
    }

    fn read_until(&mut self, words: &str) -> String {
        read_until(&mut self.reader, words)
    }
}

#[test]
fn b6_a_socket_that_is_full() {
    if !have_root() {
        return;
    }
    let (reader, writer) = UnixStream::pair().expect("a pair");
    let stderr = OwnedFd::from(writer.try_clone().expect("a descriptor"));
    goes_on(stderr, Socket { reader, writer });
}

#[test]
fn b6_a_pipe_whose_reader_has_gone() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let mut daemon = Daemon::spawn_to(writer, dir.path(), &["-v"]);
    read_until(&mut reader, "Setup complete.");
    drop(reader);
    let barrier = Barrier::open(&daemon.file).expect("a sound file");
    barrier.wait(Stamp::now(), soon()).expect("passes");
    let give_up = soon();
    while barrier.counters().expect("counters").get(Word::LostLogLines) == Some(0) {
        barrier.wait(Stamp::now(), soon()).expect("passes");
        assert!(Instant::now() < give_up, "-v says something each second");
    }
    daemon.signal(Signal::TERM);
    assert!(daemon.ends().success());
}
