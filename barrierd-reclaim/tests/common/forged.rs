//! A file as a daemon would have left or kept it.

use barrierd_client::abi;
use barrierd_client::boot::BootId;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

pub(crate) struct Forged {
    file: File,
    pub(crate) path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Forged {
    pub(crate) fn new(beat_ns: u64, watermark_ns: u64) -> Forged {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("barrier");
        let file = OpenOptions::new().create_new(true).write(true).mode(0o644).open(&path).unwrap();
        file.set_len(4096).unwrap();
        let forged = Forged { file, path, _dir: dir };
        let [boot_low, boot_high] = BootId::current().unwrap().words();
        for (offset, value) in [
            (abi::NCPU, 2),
            (abi::VERSION, abi::VERSION_VALUE),
            (abi::BOOT_ID, boot_low),
            (abi::BOOT_ID + 8, boot_high),
            (abi::GENERATION, 1),
            (abi::HEARTBEAT_NS, beat_ns),
            (abi::LAST_INTERRUPT_NS, watermark_ns),
            (abi::TRUSTED_VTIME, 7),
            (abi::TRUSTED_LAST_VTIME, 5),
            (abi::MAGIC, abi::MAGIC_VALUE),
        ] {
            forged.store(offset, value);
        }
        forged
    }

    pub(crate) fn store(&self, offset: usize, value: u64) {
        let offset = u64::try_from(offset).unwrap();
        self.file.write_all_at(&value.to_le_bytes(), offset).unwrap();
    }
}
