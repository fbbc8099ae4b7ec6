//! Signals: those that end the daemon, as something to poll for, and those that must not end it.
//!
//! Owns what becomes of each, the handlers, and their pipe. Knows nothing of what stopping means.
//!
//! A daemon that a signal's default action ends leaves a file that isn't marked stopped, and its
//! clients find out by its heartbeat alone. So no signal that may come from outside is left to that:
//!
//! | signal | what it does | why |
//! |---|---|---|
//! | TERM | ends the daemon in good order | a supervisor's way |
//! | INT, QUIT, HUP | the same, unless ignored when it started | a terminal's ways; `nohup` and a script's `&` have them ignored |
//! | XCPU | the same, unless ignored when it started | the limit on CPU time goes on with KILL |
//! | PIPE, XFSZ, TTOU | nothing | a log that can't be written to is no reason to end, or to stop |
//! | USR1, USR2, ALRM, VTALRM, PROF, IO, PWR, STKFLT | nothing | they mean nothing here |
//! | TSTP, TTIN, STOP | stop it until CONT | whoever sends them wants that |
//! | SEGV, BUS, ABRT and their like | end it at once | a mistake in the program |
//!
//! Real-time signals are left alone: nobody sends one by mistake.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr;

use anyhow::{Context, Result};
use libc::c_int;
use signal_hook::SigId;
use signal_hook::low_level::{pipe, unregister};

/// End it, in good order; the first even if it was ignored.
const ENDING: [c_int; 5] =
    [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGXCPU];

/// Do nothing. SIGPIPE's default the standard library has changed already.
const IGNORED: [c_int; 11] = [
    libc::SIGPIPE,
    libc::SIGXFSZ,
    libc::SIGTTOU,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGSTKFLT,
];

/// Readable once a signal to stop has come.
#[derive(Debug)]
pub struct Signals {
    readable: UnixStream,
    handlers: Vec<SigId>,
    /// What the handlers write to; they own it.
    written: Vec<RawFd>,
}

impl Signals {
    /// Takes over the signals that end the daemon, until dropped; from now on ignores those that
    /// must not end it.
    ///
    /// # Errors
    ///
    /// The kernel has no more descriptors to give.
    pub fn take() -> Result<Self> {
        let take = || -> io::Result<Self> {
            let (readable, written) = UnixStream::pair()?;
            let mut signals = Self { readable, handlers: Vec::new(), written: Vec::new() };
            for signal in IGNORED {
                ignore(signal)?;
            }
            for signal in ENDING {
                if signal != libc::SIGTERM && is_ignored(signal)? {
                    continue;
                }
                let written = written.try_clone()?;
                signals.written.push(written.as_raw_fd());
                // Its write never waits: send(2) with MSG_DONTWAIT, since this is a socket.
                signals.handlers.push(pipe::register(signal, written)?);
            }
            unblock(&ENDING)?;
            Ok(signals)
        };
        take().context("setting up the handlers of signals")
    }

    /// The handlers' ends of the pipe, for the sandbox.
    #[must_use]
    pub fn written(&self) -> &[RawFd] {
        &self.written
    }

    /// The descriptor to poll.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for handler in self.handlers.drain(..) {
            unregister(handler);
        }
    }
}

fn checked(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn ignore(signal: c_int) -> io::Result<()> {
    // SAFETY: no handler of ours is replaced, and to be ignored runs no code.
    let before = unsafe { libc::signal(signal, libc::SIG_IGN) };
    checked(if before == libc::SIG_ERR { -1 } else { 0 })
}

fn is_ignored(signal: c_int) -> io::Result<bool> {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: null changes nothing; `action` is there to be written.
    checked(unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) })?;
    // SAFETY: the call has succeeded, so it has written all of it.
    Ok(unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN)
}

/// Whoever started the daemon may have had them blocked, which it inherits.
fn unblock(signals: &[c_int]) -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` is there to be written, and sigemptyset writes all of it before anything is added.
    // The mask is this thread's own.
    unsafe {
        checked(libc::sigemptyset(set.as_mut_ptr()))?;
        for &signal in signals {
            checked(libc::sigaddset(set.as_mut_ptr(), signal))?;
        }
        match libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut()) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}
