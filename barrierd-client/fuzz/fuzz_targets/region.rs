//! Shared regions whose files hold anything: no panic, no access outside, no endless loop; an error, or a region that works.
//!
//! The input is a list of changes to the files of a region that has content: which file, which word, what it becomes; or the
//! file's new length.
#![no_main]

#[path = "../../../barrierd-shared/tests/use_all/mod.rs"]
#[allow(unreachable_pub, reason = "shared with a test")]
mod use_all;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use barrierd_shared::{Options, Region};
use libfuzzer_sys::fuzz_target;
use rustix::fs::{MemfdFlags, memfd_create};
use use_all::{alone, fill, use_all};

const BYTES: usize = 1 << 14;

/// The data and the slots of a region that is in order.
fn in_order() -> &'static [Vec<u8>; 3] {
    static FILES: OnceLock<[Vec<u8>; 3]> = OnceLock::new();
    FILES.get_or_init(|| {
        let region = Region::create_in_memory(Options::new(BYTES).readers(2)).expect("made");
        fill(&mut region.writer_with(&alone()).expect("a slot"));
        let all = |of: BorrowedFd<'_>| {
            let mut bytes = Vec::new();
            let mut file = File::from(of.try_clone_to_owned().expect("a clone"));
            file.read_to_end(&mut bytes).expect("read");
            bytes
        };
        let (data, slots) = region.descriptors();
        [all(data), all(slots), all(region.writers_descriptor().expect("made here"))]
    })
}

fuzz_target!(|input: &[u8]| {
    let files = in_order().each_ref().map(|bytes| {
        let mut file = File::from(memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("a file"));
        file.write_all(bytes).expect("written");
        file
    });
    // Each change: a byte that says what, two that say where, eight for the word.
    for change in input.chunks_exact(11) {
        let file = &files[usize::from(change[0] & 0x0f) % files.len()];
        let at = u64::from(u16::from_le_bytes([change[1], change[2]])) % (BYTES as u64 / 8) * 8;
        if change[0] & 0xf0 == 0xf0 {
            file.set_len(at + u64::from(change[3])).expect("cut, or longer");
        } else if at + 8 <= file.metadata().expect("open").len() {
            file.write_all_at(&change[3..], at).expect("written");
        }
    }
    let [data, slots, writers] = files.map(Into::into);
    let Ok(region) = Region::from_descriptors(data, slots, Some(writers)) else { return };
    if let (Ok(mut reader), Ok(mut writer)) = (region.reader(), region.writer_with(&alone())) {
        use_all(&region, &mut reader, &mut writer);
    }
});
