//! The id of the kernel's boot.
//!
//! This module owns the boot id: its text, its bytes, its two words in the file. It knows nothing
//! of the file itself.

use std::fmt;
use std::io;

use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC, fstatfs, open};

/// The file in which the kernel tells it.
const PATH: &str = "/proc/sys/kernel/random/boot_id";

/// The kernel's random boot id: 16 bytes in the order of its text form.
///
/// ```
/// use barrierd_client::boot::BootId;
///
/// let id = BootId::current()?;
/// assert_eq!(BootId::parse(&id.to_string()), Some(id));
/// assert_eq!(BootId::from_words(id.words()), id);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BootId(pub [u8; 16]);

impl BootId {
    /// Returns the id of the running kernel. It costs a few system calls.
    ///
    /// # Errors
    ///
    /// Returns an error if `/proc/sys/kernel/random/boot_id` can't be read, isn't the kernel's own (containers mount
    /// another file over it) or holds no id.
    pub fn current() -> io::Result<Self> {
        let fd = open(PATH, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        if fstatfs(&fd)?.f_type != PROC_SUPER_MAGIC {
            return Err(io::Error::other(format!(
                "{PATH} is not the kernel's: another file is mounted over it"
            )));
        }
        let mut text = [0; 64];
        let n = rustix::io::read(&fd, &mut text)?;
        std::str::from_utf8(&text[..n]).ok().and_then(Self::parse).ok_or_else(|| {
            io::Error::other(format!("{PATH} holds {:?}, not a boot id", text[..n].escape_ascii()))
        })
    }

    /// Reads the id from its text: 32 hexadecimal digits. Hyphens and surrounding white space are ignored. Returns
    /// `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut nibbles = text.trim().chars().filter(|&c| c != '-').map(|c| c.to_digit(16));
        let mut id = [0; 16];
        for byte in &mut id {
            let (high, low) = (nibbles.next()??, nibbles.next()??);
            *byte = u8::try_from(high << 4 | low).ok()?;
        }
        nibbles.next().is_none().then_some(Self(id))
    }

    /// Makes the id from the two words at [`abi::BOOT_ID`](crate::abi::BOOT_ID).
    #[must_use]
    pub fn from_words([first, second]: [u64; 2]) -> Self {
        Self((u128::from(second) << 64 | u128::from(first)).to_le_bytes())
    }

    /// Returns the two words at [`abi::BOOT_ID`](crate::abi::BOOT_ID).
    #[must_use]
    pub fn words(self) -> [u64; 2] {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.0;
        [u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes(rest)]
    }
}

/// The kernel's text form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_and_bytes_are_in_one_order() {
        let text = "00112233-4455-6677-8899-aabbccddeeff";
        let id = BootId::parse(&format!("{text}\n")).expect("a boot id");
        assert_eq!(id.0[..4], [0x00, 0x11, 0x22, 0x33]);
        assert_eq!(id.0[15], 0xff);
        assert_eq!(id.words()[0].to_le_bytes()[1], 0x11);
        assert_eq!(id.to_string(), text);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in
            ["", "0011", "00112233-4455-6677-8899-aabbccddeef", "+0112233445566778899aabbccddeeff"]
        {
            assert_eq!(BootId::parse(text), None, "{text:?}");
        }
        assert_eq!(BootId::parse("00112233-4455-6677-8899-aabbccddeeff0"), None);
        assert_eq!(BootId::parse("00112233-4455-6677-8899-aabbccddeefg"), None);
    }

    #[test]
    fn the_kernel_has_one() {
        let text = std::fs::read_to_string(PATH).expect("/proc is mounted");
        assert_eq!(BootId::current().expect("a boot id").to_string(), text.trim());
    }

    proptest! {
        #[test]
        fn words_and_text_round_trip(bytes: [u8; 16]) {
            let id = BootId(bytes);
            prop_assert_eq!(BootId::from_words(id.words()), id);
            prop_assert_eq!(BootId::parse(&id.to_string()), Some(id));
        }

        #[test]
        fn parsing_never_panics(text: String) {
            let _ = BootId::parse(&text);
        }
    }
}
