//! Writes the log, after the set-up without ever waiting for whoever reads it.
//!
//! Owns how that is done for each kind of standard error, what of a line is still to be written, and the
//! count of lines that were lost. Knows nothing of what the lines say.
//!
//! A pipe that nobody reads, a terminal after Ctrl-S, journald when it is overrun: each makes a plain
//! write wait, if need be for ever, and barriers, heartbeats and SIGTERM with it. O_NONBLOCK would
//! help, but belongs to the open file description, which standard error shares with whoever started
//! the daemon: a shell would find its own terminal changed. RWF_NOWAIT is refused by terminals and
//! files (ENOTSUP, Linux 6.18). So:
//!
//! | standard error | how a line is written |
//! |---|---|
//! | a pipe or a terminal | by a description of its own, opened by /proc/self/fd, with O_NONBLOCK |
//! | one that may not be opened again, being another user's | poll(2) is asked first |
//! | a socket | send(2) with MSG_DONTWAIT |
//! | anything else | as ever: a file waits for its file system alone, a null device for nothing |
//!
//! Two waits remain. Between poll and the write another program may fill the pipe up, and a terminal
//! may have less room than the line: the daemon says so when it starts. And the server of a network
//! file system may be gone: the manual says so.
//!
//! Here and in no other place is standard error written to, by one write a line: no lock of the
//! standard library's, no allocation.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::{Errno, fcntl_dupfd_cloexec, write};
use rustix::net::{SendFlags, send};
use rustix::time::Timespec;

use crate::seccomp_policy::Role;

/// Bytes of the longest line, with its end: PIPE_BUF, which a pipe takes at once or not at all.
const LONGEST: usize = 4096;

/// What a line ends with that is too long.
const CUT: &[u8] = b"...";

/// The log from [`never_wait`] on.
static LOG: OnceLock<Mutex<Log>> = OnceLock::new();

/// Writes one line, with the program's name before it.
pub fn say(text: fmt::Arguments<'_>) {
    line(format_args!("barrierd: {text}"));
}

/// Writes one line as it is. Before [`never_wait`] it waits, and is written whole; afterwards it is
/// written at once or counted as lost. A reader that has gone is no reason to stop, either.
pub fn line(text: fmt::Arguments<'_>) {
    if LOG.get().is_none() {
        let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
        return;
    }
    // Before the lock is taken: should what is written panic, that can still be said.
    let line = Line::of(text);
    if let Some(mut log) = log() {
        log.line(line);
    }
}

/// Lines lost so far.
#[must_use]
pub fn lost() -> u64 {
    log().map_or(0, |log| log.lost)
}

/// Writes the backlog, if that is possible now: the rest of a line, and how many were
/// lost. No system call if there is nothing.
pub fn catch_up() {
    if let Some(mut log) = log() {
        log.catch_up();
    }
}

/// From here on no line is waited for. The descriptor that they are written to, for the sandbox, with
/// its role.
///
/// # Errors
///
/// Standard error can't be looked at, or there are no more descriptors.
pub fn never_wait() -> Result<(Role, RawFd)> {
    let log = Log::on(io::stderr().as_fd()).context("looking at standard error")?;
    if let How::Asked(why) = log.how {
        say(format_args!(
            "standard error can't be opened again ({why}): if its reader stops reading, a log line may \
             hold barriers up in rare cases; start barrierd as the user whose pipe or terminal it \
             is, or give it a file"
        ));
    }
    let role = if matches!(log.how, How::Socket) { Role::LogSocket } else { Role::Log };
    let fd = log.fd.as_raw_fd();
    // It is opened once, by `main`.
    let _ = LOG.set(Mutex::new(log));
    Ok((role, fd))
}

/// `None` before [`never_wait`]. There is one thread, which never asks while it has it: this does not
/// wait.
fn log() -> Option<MutexGuard<'static, Log>> {
    LOG.get().map(|log| log.lock().unwrap_or_else(PoisonError::into_inner))
}

/// How a write is kept from waiting.
#[derive(Debug)]
enum How {
    /// There is nothing to wait for; or the description is our own and has O_NONBLOCK.
    Plain,
    /// By a flag of the call.
    Socket,
    /// By asking first: it could not be opened again, for this reason.
    Asked(Errno),
}

/// A descriptor, and what is owed to its reader.
#[derive(Debug)]
struct Log {
    fd: OwnedFd,
    how: How,
    /// Of a line of which a part was taken.
    rest: Line,
    lost: u64,
    /// How many of these the reader knows of.
    told: u64,
}

impl Log {
    /// Leaves the open file description of `stderr` as it is.
    fn on(stderr: BorrowedFd<'_>) -> io::Result<Self> {
        let kind = FileType::from_raw_mode(fstat(stderr)?.st_mode);
        let mut how = if kind == FileType::Socket { How::Socket } else { How::Plain };
        let mut fd = None;
        // Not a file: of one that is opened again the writes begin at its beginning.
        if kind == FileType::Fifo || stderr.is_terminal() {
            let path = format!("/proc/self/fd/{}", stderr.as_raw_fd());
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            match open(path, flags, Mode::empty()) {
                Ok(own) => fd = Some(own),
                // Among others, a named pipe whose reader has gone: another one may come.
                Err(why) => how = How::Asked(why),
            }
        }
        let fd = fd.map_or_else(|| fcntl_dupfd_cloexec(stderr, 0), Ok)?;
        Ok(Self { fd, how, rest: Line::default(), lost: 0, told: 0 })
    }

    fn line(&mut self, line: Line) {
        if !(self.catch_up() && self.begin(line)) {
            self.lost += 1;
        }
    }

    /// True if nothing is owed any more.
    fn catch_up(&mut self) -> bool {
        if !self.rest.is_empty() {
            let n = self.write(self.rest.bytes());
            self.rest.take(n);
        }
        let lost = self.lost - self.told;
        if self.rest.is_empty() && lost > 0 {
            let lines = if lost == 1 { "line was" } else { "lines were" };
            let line = Line::of(format_args!(
                "barrierd: {lost} {lines} lost here: this log was not read in time"
            ));
            if self.begin(line) {
                self.told = self.lost;
            }
        }
        self.rest.is_empty() && self.told == self.lost
    }

    /// Begins with `line` while no other is under way. False if nothing of it was taken.
    fn begin(&mut self, line: Line) -> bool {
        let n = self.write(line.bytes());
        if n > 0 {
            self.rest = line;
            self.rest.take(n);
        }
        n > 0
    }

    /// How many of `bytes` were taken at once. An error takes none.
    fn write(&self, bytes: &[u8]) -> usize {
        let taken = match self.how {
            How::Plain => write(&self.fd, bytes),
            How::Socket => send(&self.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            How::Asked(_) => {
                let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
                match poll(&mut fds, Some(&Timespec::default())) {
                    Ok(1) => write(&self.fd, bytes),
                    _ => Ok(0),
                }
            }
        };
        taken.unwrap_or(0)
    }
}

/// A line, or what is left of one.
#[derive(Debug)]
struct Line {
    bytes: [u8; LONGEST],
    from: usize,
    to: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: [0; LONGEST], from: 0, to: 0 }
    }
}

impl Line {
    fn of(text: fmt::Arguments<'_>) -> Self {
        let mut line = Self::default();
        if line.write_fmt(text).is_err() {
            line.bytes[line.to.saturating_sub(CUT.len())..line.to].copy_from_slice(CUT);
        }
        line.bytes[line.to] = b'\n';
        line.to += 1;
        line
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[self.from..self.to]
    }

    fn is_empty(&self) -> bool {
        self.from == self.to
    }

    fn take(&mut self, n: usize) {
        self.from += n;
    }
}

/// As much as there is room for, less the line's end.
impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.to..LONGEST - 1];
        let n = text.len().min(room.len());
        room[..n].copy_from_slice(&text.as_bytes()[..n]);
        self.to += n;
        if n < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
