//! What the output can show, and the end that a signal asks for.
//!
//! Owns the size of the terminal, the choice of glyphs and colours, and the handler of SIGINT,
//! SIGTERM and SIGHUP. Changes no mode of the terminal, so there is none to restore, whatever ends
//! the program; a frame that is being written when a signal comes is written to its end.

use std::env::var_os;
use std::ffi::OsStr;
use std::io::{IsTerminal as _, stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::termios::tcgetwinsize;
use rustix::thread::{NanosleepRelativeResult, Timespec, nanosleep};

use crate::draw::{ASCII, BLOCKS, Glyphs};

/// Columns and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

/// Whether standard output is one.
pub(crate) fn is_terminal() -> bool {
    stdout().is_terminal()
}

/// The terminal's, else that of COLUMNS and LINES, else 80 by 24.
pub(crate) fn size() -> Size {
    let given = |name| var_os(name).and_then(|text| text.to_str()?.parse().ok());
    let or = |asked: u16, name, default| match usize::from(asked) {
        0 => given(name).filter(|&n| n > 0).unwrap_or(default),
        n => n,
    };
    let asked = tcgetwinsize(stdout()).ok();
    let (columns, rows) = asked.map_or((0, 0), |size| (size.ws_col, size.ws_row));
    Size { columns: or(columns, "COLUMNS", 80), rows: or(rows, "LINES", 24) }
}

/// Whether to use colours, where the command line allows them: see <https://no-color.org>.
pub(crate) fn has_color() -> bool {
    colors(is_terminal(), var_os("NO_COLOR").as_deref(), var_os("TERM").as_deref())
}

fn colors(terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    let forbidden = no_color.is_some_and(|value| !value.is_empty());
    terminal && !forbidden && term.is_some_and(|term| term != "dumb" && !term.is_empty())
}

/// Blocks where the locale says that text is UTF-8.
pub(crate) fn glyphs(ascii: bool) -> &'static Glyphs {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(var_os);
    if !ascii && utf8(locale.map(|value| value.to_string_lossy().into_owned())) {
        &BLOCKS
    } else {
        &ASCII
    }
}

/// The first of them that says anything decides.
fn utf8(mut locale: impl Iterator<Item = String>) -> bool {
    let first = locale.find(|value| !value.is_empty()).unwrap_or_default().to_lowercase();
    first.ends_with("utf-8") || first.ends_with("utf8")
}

static ENDED: AtomicBool = AtomicBool::new(false);

extern "C" fn end(_: libc::c_int) {
    // Relaxed: nothing is published with it.
    ENDED.store(true, Ordering::Relaxed);
}

/// From here on Ctrl-C and the like only ask for the end: see [`ended`].
pub(crate) fn catch_signals() {
    // SAFETY: all zero is a `sigaction`: no flags, so that sleeps are cut short, and no signals
    // blocked. The handler does one atomic store, which signal handlers may.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let handler: extern "C" fn(libc::c_int) = end;
        action.sa_sigaction = handler as libc::sighandler_t;
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            // It can't fail: these exist and may be caught.
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// Whether a signal has asked for the end.
pub(crate) fn ended() -> bool {
    ENDED.load(Ordering::Relaxed)
}

/// Sleeps until `then`, or until the end is asked for; late by 0.1 s at most if the signal came just
/// before the sleep.
pub(crate) fn sleep_until(then: Instant) {
    while !ended() {
        let left = then.saturating_duration_since(Instant::now()).min(Duration::from_millis(100));
        if left.is_zero() {
            return;
        }
        let time = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
        if let NanosleepRelativeResult::Err(_) = nanosleep(&time) {
            thread::sleep(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_need_a_terminal_that_has_them_and_nobody_against_it() {
        let (xterm, dumb) = (Some(OsStr::new("xterm")), Some(OsStr::new("dumb")));
        assert!(colors(true, None, xterm) && colors(true, Some(OsStr::new("")), xterm));
        assert!(!colors(true, Some(OsStr::new("1")), xterm));
        assert!(!colors(false, None, xterm));
        assert!(!colors(true, None, dumb) && !colors(true, None, None));
    }

    #[test]
    fn the_locale_chooses_the_glyphs() {
        let utf8 = |values: &[&str]| utf8(values.iter().map(|&value| value.into()));
        assert!(utf8(&["", "C.UTF-8", "C"]) && utf8(&["de_DE.utf8"]));
        assert!(!utf8(&["C", "C.UTF-8"]) && !utf8(&[]) && !utf8(&["de_DE.ISO-8859-1"]));
    }
}
