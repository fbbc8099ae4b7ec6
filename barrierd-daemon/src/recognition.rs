//! Whether a file is a barrier file at all: the rules, on its bytes alone.
//!
//! Owns what may be replaced: nothing else ever is, so that a typing error costs nobody a file.
//! Whether a barrier file can be gone on with is `inheritance`'s question, which comes later.

use barrierd_client::abi;
use barrierd_client::counters;

/// No barrier file is longer, on any machine: the most CPUs, and the largest pages.
#[expect(clippy::cast_possible_truncation, reason = "a constant of 65536")]
pub const LONGEST: usize = counters::file_size_for(abi::MAX_CPUS as usize) + 65_536;

/// The C daemon rounds its file's length up to this.
const LEGACY_PAGE: usize = 4096;

/// Whether a file of these `bytes`, all of them, is a barrier file or holds nothing. `page` is this
/// machine's page size.
///
/// One of these: no byte at all (a daemon died before it wrote any); our magic number behind a
/// number of CPUs, of whatever boot, version or state; our version where the magic number is still missing, among zeros (a daemon
/// died before it stored that last); the C daemon's exact length for the number of CPUs that it
/// names, and zeros where that daemon has them. Zeros alone are none: ours have their version before they have room
/// (`public_file.rs`), and a file that somebody has allocated and not written to yet looks the same.
#[must_use]
pub fn is_barrier_file(bytes: &[u8], page: usize) -> bool {
    if bytes.len() > LONGEST {
        return false;
    }
    if bytes.is_empty() {
        return true;
    }
    let ncpu = word(bytes, abi::NCPU).filter(|&ncpu| ncpu <= abi::MAX_CPUS);
    if word(bytes, abi::MAGIC) == Some(abi::MAGIC_VALUE) {
        // The number of CPUs was stored before it. A text has no such number, for it has no zeros.
        return ncpu.is_some();
    }
    let zero =
        |from: usize, to: usize| (from..to).step_by(8).all(|offset| word(bytes, offset) == Some(0));
    if !zero(abi::MAGIC, abi::VERSION) || !zero(abi::TRUSTED_LAST_VTIME + 8, abi::PER_CPU) {
        return false;
    }
    let Some(ncpu) = ncpu.and_then(|ncpu| usize::try_from(ncpu).ok()) else { return false };
    match word(bytes, abi::VERSION) {
        Some(abi::VERSION_VALUE) => bytes.len() >= abi::size_for(ncpu),
        Some(0) => {
            // As that daemon made it, or as a daemon of ours let it grow, of whatever version.
            let legacy = abi::size_for(ncpu).next_multiple_of(LEGACY_PAGE);
            let grown = legacy..=counters::file_size_for(ncpu).next_multiple_of(page);
            let fits = grown.contains(&bytes.len()) && bytes.len() % LEGACY_PAGE == 0;
            ncpu > 0 && fits && zero(abi::VERSION, abi::PER_CPU)
        }
        _ => false,
    }
}

fn word(bytes: &[u8], offset: usize) -> Option<u64> {
    let word = bytes.get(offset..offset + 8)?;
    Some(u64::from_le_bytes(word.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: usize = 4096;

    fn file(len: usize, words: &[(usize, u64)]) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for &(offset, value) in words {
            bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn b5_barrier_files_are_recognised_in_every_state() {
        for (what, bytes) in [
            ("empty", vec![]),
            ("its version stored, no more", file(abi::PER_CPU, &[(abi::VERSION, 1)])),
            ("its version stored, and allocated", file(PAGE, &[(abi::VERSION, 1)])),
            ("all but the magic number", file(PAGE, &[(abi::VERSION, 1), (abi::NCPU, 3), (56, 7)])),
            ("ours, of another version", file(PAGE, &[(abi::MAGIC, abi::MAGIC_VALUE), (40, 9)])),
            ("ours, cut short", file(40, &[(abi::MAGIC, abi::MAGIC_VALUE)])),
            ("the C daemon's", file(PAGE, &[(abi::NCPU, 3), (abi::LAST_INTERRUPT_NS, 5)])),
            ("the C daemon's, of 300 CPUs", file(2 * PAGE, &[(abi::NCPU, 300)])),
            ("the C daemon's, grown", file(2 * PAGE, &[(abi::NCPU, 240), (PAGE, 8)])),
        ] {
            assert!(is_barrier_file(&bytes, PAGE), "{what}");
        }
    }

    #[test]
    fn b5_nothing_else_is() {
        for (what, bytes) in [
            ("text", b"/dev/vda / ext4 0 0 0 0".to_vec()),
            ("a byte", vec![1]),
            ("much text", vec![b'x'; PAGE]),
            ("a disk image's beginning", [vec![0; 1024], vec![1; PAGE - 1024]].concat()),
            ("a zero", vec![0]),
            ("a page of zeros", vec![0; PAGE]),
            ("zeros longer than any of ours", vec![0; LONGEST + 1]),
            ("the C daemon's but for its length", file(2 * PAGE, &[(abi::NCPU, 3)])),
            ("the C daemon's but for a zero", file(PAGE, &[(abi::NCPU, 3), (120, 1)])),
            ("for no CPU", file(PAGE, &[(abi::VTIME, 3)])),
            ("for too many", file(PAGE, &[(abi::NCPU, abi::MAX_CPUS + 1)])),
            ("a log of ours", [&[b'x'; 32][..], b"barrierd[1]: ", &[b'y'; 99]].concat()),
            ("another magic number", file(PAGE, &[(abi::NCPU, 3), (abi::MAGIC, 5), (40, 1)])),
        ] {
            assert!(!is_barrier_file(&bytes, PAGE), "{what}");
        }
    }

    proptest! {
        /// A text of any kind has no zeros, and a barrier file without its magic number has many.
        #[test]
        fn b5_text_is_never_taken_for_one(text in "[ -~\n]{1,5000}") {
            prop_assert!(!is_barrier_file(text.as_bytes(), PAGE));
        }
    }
}
