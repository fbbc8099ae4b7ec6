//! A terminal for a program under test, with the test at the keyboard.
//!
//! Owns the pseudo-terminal. Programs are started by `setsid --ctty`, of util-linux, so that Ctrl-C
//! reaches them as it does in a terminal.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::common::PATIENCE;

pub(crate) struct Terminal {
    keyboard: File,
    pub(crate) screen: OwnedFd,
}

impl Terminal {
    pub(crate) fn new(columns: u16, rows: u16) -> Self {
        let (mut keyboard, mut screen) = (-1, -1);
        let none = std::ptr::null_mut();
        // SAFETY: both are writable; null asks for the defaults.
        let made = unsafe {
            libc::openpty(&raw mut keyboard, &raw mut screen, none, none.cast(), none.cast())
        };
        assert_eq!(made, 0, "openpty: {}", std::io::Error::last_os_error());
        // SAFETY: openpty made both, and nobody else has them.
        let (keyboard, screen) =
            unsafe { (OwnedFd::from_raw_fd(keyboard), OwnedFd::from_raw_fd(screen)) };
        rustix::io::ioctl_fionbio(&keyboard, true).expect("set");
        let terminal = Self { keyboard: File::from(keyboard), screen };
        terminal.resize(columns, rows);
        terminal
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.screen, size).expect("set");
    }

    /// Its modes, as text to be compared.
    pub(crate) fn modes(&self) -> String {
        let Termios { input_modes, output_modes, control_modes, local_modes, .. } =
            tcgetattr(&self.screen).expect("a terminal");
        format!("{input_modes:?} {output_modes:?} {control_modes:?} {local_modes:?}")
    }

    /// Starts `command`, which must have nothing but arguments and variables, in this terminal.
    pub(crate) fn run(&self, command: &Command) -> Child {
        let mut within = Command::new("setsid");
        within.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => within.env(name, value),
                None => within.env_remove(name),
            };
        }
        let screen = || Stdio::from(self.screen.try_clone().expect("a descriptor"));
        within.stdin(screen()).stdout(screen()).stderr(screen());
        within.spawn().expect("setsid, of util-linux")
    }

    pub(crate) fn write(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).expect("typed");
    }

    /// What is shown, once that is enough.
    pub(crate) fn read_until(&mut self, enough: impl Fn(&str) -> bool) -> String {
        let (mut text, give_up) = (Vec::new(), Instant::now() + PATIENCE);
        loop {
            self.take(&mut text);
            let shown = String::from_utf8_lossy(&text).into_owned();
            if enough(&shown) {
                return shown;
            }
            assert!(Instant::now() < give_up, "not enough:\n{shown:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What else is shown.
    pub(crate) fn rest(&mut self) -> String {
        let mut text = Vec::new();
        self.take(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    fn take(&mut self, text: &mut Vec<u8>) {
        let mut bytes = [0; 4096];
        loop {
            match self.keyboard.read(&mut bytes) {
                Ok(n) if n > 0 => text.extend_from_slice(&bytes[..n]),
                Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("reading: {error}"),
                _ => return,
            }
        }
    }
}

/// The exit status of `child`, within some seconds; else the program is killed and the test failed.
#[track_caller]
pub(crate) fn ended(child: &mut Child) -> Option<i32> {
    let give_up = Instant::now() + Duration::from_secs(10);
    while Instant::now() < give_up {
        if let Some(status) = child.try_wait().expect("our child") {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    send(child, Signal::KILL);
    let _ = child.wait();
    panic!("it did not end");
}

/// Sends SIGTERM to the program that `setsid`, our child, has started.
pub(crate) fn terminate(setsid: &Child) {
    send(setsid, Signal::TERM);
}

fn send(setsid: &Child, signal: Signal) {
    let id = setsid.id();
    let path = format!("/proc/{id}/task/{id}/children");
    // Where our child leads a group, setsid forks; else it became the program.
    let children = std::fs::read_to_string(path).expect("Linux 4.2");
    let pid = match children.split_whitespace().next() {
        Some(pid) => Pid::from_raw(pid.parse().expect("a number")).expect("not 0"),
        None => Pid::from_child(setsid),
    };
    kill_process(pid, signal).expect("it runs");
}
