//! What a thread's last failing call found, as a C string.
//!
//! This module owns the buffer, one a thread, so that a failing wait allocates nothing. It knows nothing
//! of errors but that they can be displayed.

use std::cell::RefCell;
use std::ffi::c_char;
use std::fmt::{self, Display, Write};

/// Bytes of a message with its final zero. The header names it.
const BYTES: usize = 2048;

thread_local! {
    static LAST: RefCell<[u8; BYTES]> = const { RefCell::new([0; BYTES]) };
}

/// Writes what fits, whole characters, and always leaves room for the final zero.
struct Cut<'a> {
    bytes: &'a mut [u8; BYTES],
    len: usize,
}

impl Write for Cut<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = BYTES - 1 - self.len;
        let fits = fitting(text, room);
        self.bytes[self.len..self.len + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.len += fits;
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// The longest start of `text` that is whole characters and at most `room` bytes long.
/// (`str::floor_char_boundary` is younger than the oldest supported compiler.)
fn fitting(text: &str, room: usize) -> usize {
    if room >= text.len() {
        return text.len();
    }
    (0..=room).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// Keeps `what` as this thread's last message.
pub(crate) fn set(what: &dyn Display) {
    // Neither fails in any state that this crate can reach; a lost message is no reason to panic.
    let _ = LAST.try_with(|last| {
        if let Ok(mut bytes) = last.try_borrow_mut() {
            let mut cut = Cut { bytes: &mut bytes, len: 0 };
            // An error says that it was cut.
            let _ = write!(cut, "{what}");
            let len = cut.len;
            bytes[len] = 0;
        }
    });
}

/// This thread's last message; valid until its next [`set`], or its end.
pub(crate) fn get() -> *const c_char {
    LAST.try_with(|last| last.as_ptr().cast::<c_char>().cast_const()).unwrap_or(c"".as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    fn last() -> String {
        // SAFETY: a string that ends with a zero, and nothing sets another before it is copied.
        unsafe { CStr::from_ptr(get()) }.to_str().expect("whole characters").to_owned()
    }

    #[test]
    fn each_thread_has_its_last_and_none_at_first() {
        std::thread::spawn(|| {
            assert_eq!(last(), "");
            set(&"first, and longer");
            set(&"second");
            assert_eq!(last(), "second");
            std::thread::spawn(|| assert_eq!(last(), "")).join().expect("as asserted");
        })
        .join()
        .expect("as asserted");
    }

    #[test]
    fn a_long_one_is_cut_between_characters() {
        for before in 0..3 {
            set(&format!("{}{}", "x".repeat(before), "€".repeat(2000)));
            let found = last();
            assert!(found.len() < BYTES && found.len() > BYTES - 4, "{}", found.len());
            assert!(found.chars().skip(before).all(|c| c == '€'));
        }
    }
}
