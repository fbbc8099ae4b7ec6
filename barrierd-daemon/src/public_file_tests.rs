//! The public file against real files.

use super::*;

use std::process::Command;

use crate::inheritance::Why;

const CPUS: usize = 3;

fn boot() -> BootId {
    BootId::current().expect("a boot id")
}

fn open(path: &Path) -> Result<PublicFile> {
    PublicFile::open(path, CPUS, boot())
}

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("barrier")
    }

    /// A file of these words, of one page.
    fn with(words: &[(usize, u64)]) -> Self {
        let dir = Self::new();
        let file = File::create(dir.file()).expect("made");
        file.set_len(4096).expect("sized");
        for &(offset, value) in words {
            file.write_all_at(&value.to_le_bytes(), u64::try_from(offset).expect("small"))
                .expect("written");
        }
        dir
    }

    fn word(&self, offset: usize) -> u64 {
        let mut bytes = [0; 8];
        File::open(self.file())
            .and_then(|file| file.read_exact_at(&mut bytes, u64::try_from(offset).expect("small")))
            .expect("read");
        u64::from_le_bytes(bytes)
    }

    fn inode(&self) -> u64 {
        fs::metadata(self.file()).expect("there").ino()
    }
}

/// What a daemon of ours leaves behind in this boot.
fn ours() -> Vec<(usize, u64)> {
    let [low, high] = boot().words();
    vec![
        (abi::NCPU, 3),
        (abi::VTIME, 12),
        (abi::LAST_INTERRUPT_NS, 5_000),
        (abi::LAST_INTERRUPT_VTIME, 10),
        (abi::MAGIC, abi::MAGIC_VALUE),
        (abi::VERSION, abi::VERSION_VALUE),
        (abi::FLAGS, abi::FLAG_STOPPED),
        (abi::BOOT_ID, low),
        (abi::BOOT_ID + 8, high),
        (abi::GENERATION, 4),
        (abi::HEARTBEAT_NS, 6_000),
        (abi::TRUSTED_VTIME, 12),
        (abi::TRUSTED_LAST_VTIME, 10),
    ]
}

#[test]
fn a_new_file_is_whole_readable_and_nothing_is_left_beside_it() {
    let dir = Dir::new();
    // Left by a daemon that died before it wrote anything.
    File::create(dir.0.path().join("barrier.new")).expect("made");
    let file = open(&dir.file()).expect("made");
    assert_eq!((file.origin, file.inherited), (Origin::New, Inherited::default()));
    assert!(file.replaced.is_none());

    let metadata = fs::metadata(dir.file()).expect("there");
    assert_eq!(metadata.mode() & 0o7777, 0o644);
    assert_eq!(metadata.len() % u64::try_from(rustix::param::page_size()).expect("small"), 0);
    // Allocated, not a hole.
    assert!(metadata.blocks() * 512 >= metadata.len());
    assert_eq!(dir.word(abi::MAGIC), u64::from_le_bytes(*b"barrierd"));
    assert_eq!((dir.word(abi::NCPU), dir.word(abi::GENERATION)), (3, 1));
    assert!((1..=now_ns()).contains(&dir.word(abi::HEARTBEAT_NS)));
    assert_eq!(BootId::from_words([dir.word(abi::BOOT_ID), dir.word(abi::BOOT_ID + 8)]), boot());
    let names: Vec<_> =
        fs::read_dir(dir.0.path()).expect("read").map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["barrier"]);
}

#[test]
fn a_file_for_many_cpus_takes_more_pages() {
    let dir = Dir::new();
    PublicFile::open(&dir.file(), 1_000, boot()).expect("made");
    assert!(fs::metadata(dir.file()).expect("there").len() >= 16_128);
}

/// As many as fill the first page, so that there is no room for counters in it.
const MANY: usize = (4096 - abi::PER_CPU) / abi::PER_CPU_STRIDE;

#[test]
fn a_file_without_counters_grows_in_place() {
    let mut words = ours();
    words[0] = (abi::NCPU, u64::try_from(MANY).expect("small"));
    let legacy = vec![words[0], (abi::VTIME, 7), (abi::LAST_INTERRUPT_NS, 5_000)];
    for words in [words, legacy] {
        let dir = Dir::with(&words);
        let inode = dir.inode();
        let file = PublicFile::open(&dir.file(), MANY, boot()).expect("adopted");
        assert_eq!((file.inherited.last_interrupt_ns, dir.inode()), (5_000, inode));
        let metadata = fs::metadata(dir.file()).expect("there");
        assert!(metadata.len() >= u64::try_from(counters::file_size_for(MANY)).expect("small"));
        assert!(metadata.blocks() * 512 >= metadata.len(), "allocated, not a hole");
        // As far as the last word.
        file.words.store(counters::base(MANY) + counters::Word::LongestRoundCpu.offset(), 1);
    }
}

#[test]
fn one_that_is_not_ours_does_not_grow() {
    let mut words = ours();
    words[0] = (abi::NCPU, u64::try_from(MANY).expect("small"));
    words.retain(|&(offset, _)| offset != abi::BOOT_ID);
    let dir = Dir::with(&words);
    let old = File::open(dir.file()).expect("mapped by someone");
    let file = PublicFile::open(&dir.file(), MANY, boot()).expect("replaced");
    assert!(file.replaced.is_some());
    assert_eq!(old.metadata().expect("there").len(), 4096);
}

#[test]
fn ours_is_gone_on_with_in_place() {
    let dir = Dir::with(&ours());
    let inode = dir.inode();
    let file = open(&dir.file()).expect("adopted");
    assert_eq!(file.origin, Origin::Ours { generation: 4 });
    assert_eq!(file.inherited, Inherited { last_interrupt_ns: 5_000, vtime: 12 });
    assert_eq!(dir.inode(), inode);
    // Holes are filled.
    assert!(fs::metadata(dir.file()).expect("there").blocks() * 512 >= 4096);
}

#[test]
fn the_c_daemons_is_gone_on_with_in_place_and_not_called_ours_yet() {
    let dir = Dir::with(&[(abi::NCPU, 3), (abi::VTIME, 7), (abi::LAST_INTERRUPT_NS, 5_000)]);
    let inode = dir.inode();
    let file = open(&dir.file()).expect("adopted");
    assert_eq!(file.origin, Origin::Legacy);
    assert_eq!(file.inherited, Inherited { last_interrupt_ns: 5_000, vtime: 7 });
    assert_eq!((dir.inode(), dir.word(abi::MAGIC)), (inode, 0));
}

/// The file there is replaced, and not one byte of it changes.
fn replaced(dir: &Dir) -> String {
    let (old, before) =
        (File::open(dir.file()).expect("there"), fs::read(dir.file()).expect("read"));
    let file = open(&dir.file()).expect("replaced");
    assert_eq!((file.origin, file.inherited), (Origin::New, Inherited::default()));
    assert_ne!(old.metadata().expect("open").ino(), dir.inode());
    let mut after = vec![0; before.len()];
    old.read_exact_at(&mut after, 0).expect("still open");
    assert_eq!(after, before);
    file.replaced.expect("a reason")
}

#[test]
fn what_can_not_be_gone_on_with_is_replaced_untouched() {
    let with = |offset, value| {
        let mut words = ours();
        words.push((offset, value));
        Dir::with(&words)
    };
    let future = now_ns() + 3_600_000_000_000;
    for (dir, why) in [
        (with(abi::BOOT_ID, 1), "of boot"),
        (with(abi::LAST_INTERRUPT_NS, future), "in the future"),
        (with(abi::HEARTBEAT_NS, future), "in the future"),
        (with(abi::per_cpu_ns(2), future), "in the future"),
        (with(abi::NCPU, 2), "for 2 CPUs"),
        (with(abi::VERSION, 9), "this version knows"),
        (with(abi::GENERATION, 0), "damaged"),
        (Dir::with(&[(abi::NCPU, 3), (abi::LAST_INTERRUPT_NS, future)]), "in the future"),
        (Dir::with(&[(abi::VERSION, abi::VERSION_VALUE)]), "this version knows"),
    ] {
        let said = replaced(&dir);
        assert!(said.contains(why), "{said}");
    }
    let dir = with(abi::GENERATION, 0);
    File::options().write(true).open(dir.file()).and_then(|file| file.set_len(104)).expect("cut");
    assert_eq!(replaced(&dir), Why::TooShort { cpus: CPUS }.to_string());
    let dir = with(abi::FLAGS, 0);
    fs::set_permissions(dir.file(), fs::Permissions::from_mode(0o664)).expect("chmod");
    assert!(replaced(&dir).contains("others may write it (mode 664)"));
}

#[test]
fn another_users_file_is_replaced_untouched() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test needs root to make another user's file"
    );
    let dir = Dir::with(&ours());
    std::os::unix::fs::chown(dir.file(), Some(12_345), None).expect("chown");
    assert!(replaced(&dir).contains("belongs to user 12345, not 0"));
}

#[test]
fn an_empty_file_is_replaced() {
    let dir = Dir::new();
    File::create(dir.file()).expect("made");
    let file = open(&dir.file()).expect("made");
    assert_eq!((file.origin, file.replaced), (Origin::New, None));
}

/// Both ways to the file at `path` of `dir` refuse it, and neither touches what lies at `kept`.
fn refused(dir: &Dir, kept: &Path) {
    let before = (fs::symlink_metadata(kept).expect("there"), fs::read(kept).ok());
    let names = || fs::read_dir(dir.0.path()).expect("read").count();
    let beside = names();
    for error in [
        open(&dir.file()).map(drop).expect_err("refused"),
        refuse_others(&dir.file()).expect_err("refused before anything is made"),
    ] {
        let said = error.to_string();
        assert!(said.contains("is not a barrier file"), "{said}");
        assert!(said.contains(&kept.file_name().unwrap().to_string_lossy()[..7]), "{said}");
    }
    let after = (fs::symlink_metadata(kept).expect("there"), fs::read(kept).ok());
    assert_eq!((after.0.ino(), after.0.mode()), (before.0.ino(), before.0.mode()));
    assert_eq!((after.0.mtime_nsec(), after.1), (before.0.mtime_nsec(), before.1));
    assert_eq!(names(), beside);
}

const FSTAB: &str = "/dev/vda / ext4 rw 0 1\n";

#[test]
fn b5_a_file_of_another_kind_is_refused_untouched() {
    let mut other = ours();
    other[4] = (abi::MAGIC, 5);
    let dir = Dir::with(&other);
    refused(&dir, &dir.file());
    // By others' owner and mode it isn't replaced either.
    std::os::unix::fs::chown(dir.file(), Some(12_345), None).expect("chown, as root");
    fs::set_permissions(dir.file(), fs::Permissions::from_mode(0o666)).expect("chmod");
    refused(&dir, &dir.file());
    // What is allocated for others, and not written yet, is zeros: a swap file, a disk's image.
    for bytes in [FSTAB.as_bytes(), &[b'x'; 100_000], &[1], &[0], &[0; 4096], &[0; 100_000]] {
        let dir = Dir::new();
        fs::write(dir.file(), bytes).expect("written");
        refused(&dir, &dir.file());
    }
}

#[test]
fn b5_so_is_one_where_the_new_file_would_be_made() {
    for bytes in [FSTAB.as_bytes(), &[0; 4096]] {
        let dir = Dir::new();
        let new = dir.0.path().join("barrier.new");
        fs::write(&new, bytes).expect("written");
        refused(&dir, &new);
    }
}

#[test]
fn b5_a_link_is_refused_and_not_followed() {
    for name in ["barrier", "barrier.new"] {
        // Though it leads to a barrier file.
        let dir = Dir::with(&ours());
        let victim = dir.0.path().join("victim");
        fs::rename(dir.file(), &victim).expect("renamed");
        let link = dir.0.path().join(name);
        std::os::unix::fs::symlink(&victim, &link).expect("linked");
        let before = fs::read(&victim).expect("read");
        refused(&dir, &link);
        assert_eq!(fs::read(&victim).expect("read"), before);
        fs::remove_file(&victim).expect("removed");
        refused(&dir, &link);
    }
}

#[test]
fn b5_what_is_no_regular_file_is_refused() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let dir = Dir::new();
    fs::create_dir(dir.file()).expect("made");
    refused(&dir, &dir.file());
    // Nobody waits for its other end.
    let dir = Dir::new();
    mknodat(CWD, dir.file(), FileType::Fifo, Mode::from_raw_mode(0o644), 0).expect("made");
    let error = open(&dir.file()).expect_err("a FIFO").to_string();
    assert!(error.contains("is not a barrier file"), "{error}");
}

/// Of every moment at which a daemon may die while it makes its file.
#[test]
fn b5_what_a_daemon_left_half_made_is_removed() {
    let [low, high] = boot().words();
    let steps = [
        (abi::VERSION, abi::VERSION_VALUE),
        (abi::BOOT_ID, low),
        (abi::BOOT_ID + 8, high),
        (abi::NCPU, 3),
        (abi::GENERATION, 1),
        (abi::HEARTBEAT_NS, 6_000),
        (abi::FLAGS, abi::FLAG_STOPPED),
        (abi::MAGIC, abi::MAGIC_VALUE),
    ];
    for done in 0..=steps.len() {
        let dir = Dir::with(&steps[..done]);
        if done == 0 {
            // Nothing at all, since the first thing that it gets is its version, before it gets any room.
            File::create(dir.file()).expect("cut");
        }
        fs::rename(dir.file(), dir.0.path().join("barrier.new")).expect("renamed");
        open(&dir.file()).expect("made");
        assert!(!dir.0.path().join("barrier.new").exists());
    }
}

/// Where there is room for a beginning alone, as on a full disk: it is by its version that the rest is recognised.
#[test]
fn b5_a_file_is_ours_by_its_first_bytes() {
    let dir = Dir::new();
    let file = begin(&dir.file()).expect("made");
    assert_eq!(file.metadata().expect("there").len(), u64::try_from(abi::PER_CPU).expect("small"));
    let bytes = fs::read(dir.file()).expect("read");
    assert!(is_barrier_file(&bytes, rustix::param::page_size()) && bytes.iter().any(|&b| b != 0));
}

/// The reader locks before the daemon starts, while it runs, and when it has gone.
#[test]
fn b3_a_reader_that_locks_the_file_keeps_no_daemon_out() {
    let lock = |file: &File| {
        let script = "import fcntl, sys\n\
                      fcntl.lockf(0, fcntl.LOCK_SH | fcntl.LOCK_NB)\n\
                      print('locked', flush=True)\n\
                      sys.stdin = None\n\
                      import time; time.sleep(600)\n";
        let stdin = file.try_clone().expect("open");
        let mut reader = Command::new("python3")
            .args(["-c", script])
            .stdin(stdin)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("python3");
        let mut line = [0; 7];
        let out = reader.stdout.as_mut().expect("piped");
        out.read_exact(&mut line).expect("it locks");
        reader
    };
    let dir = Dir::with(&ours());
    let inode = dir.inode();
    let mut reader = lock(&File::open(dir.file()).expect("there"));
    for _ in 0..2 {
        let file = open(&dir.file()).expect("adopted");
        assert_eq!((file.origin, dir.inode()), (Origin::Ours { generation: 4 }, inode));
    }
    reader.kill().and_then(|()| reader.wait()).expect("ended");
}

/// It began behind a reader's lock, which is gone by now: its lock can be had, but it beats.
#[test]
fn b3_a_daemon_without_a_lock_is_seen_by_its_beat() {
    let dir = Dir::with(&ours());
    let words = || {
        let file = File::options().read(true).write(true).open(dir.file()).expect("there");
        Words::map(file.as_fd(), abi::PER_CPU).expect("mapped")
    };
    let (first, stop) = (words(), std::sync::atomic::AtomicBool::new(false));
    first.store(abi::FLAGS, 0);
    first.store(abi::HEARTBEAT_NS, now_ns());
    let refused = std::thread::scope(|scope| {
        scope.spawn(|| {
            let serves = words();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                serves.store(abi::HEARTBEAT_NS, now_ns());
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        let refused = open(&dir.file());
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        refused
    });
    let error = refused.expect_err("it is served").to_string();
    assert!(error.contains("another barrierd serves it under another name"), "{error}");
    // Marked stopped: nobody is waited for.
    first.store(abi::FLAGS, abi::FLAG_STOPPED);
    first.store(abi::HEARTBEAT_NS, now_ns() - 1);
    open(&dir.file()).expect("stopped");
}

#[test]
fn a_file_that_another_process_writes_is_refused() {
    let dir = Dir::with(&ours());
    let alias = dir.0.path().join("alias");
    fs::hard_link(dir.file(), &alias).expect("linked");
    let _first = open(&alias).expect("adopted");
    // Locks are the open file's, so a second opening in this process stands for another one.
    let error = open(&dir.file()).expect_err("locked").to_string();
    assert!(error.contains("another barrierd serves it under another name"), "{error}");
}

#[test]
fn a_file_system_that_can_not_allocate_is_said() {
    let error = open(Path::new("/proc/barrier")).expect_err("procfs").to_string();
    assert!(error.contains("is the directory there"), "{error}");
}

#[test]
fn only_the_default_directory_is_made() {
    let dir = Dir::new();
    let path = dir.0.path().join("sub/barrier");
    prepare_directory(&path).expect("nothing to do");
    assert!(!path.parent().expect("one").exists());
}

#[test]
fn python_reads_the_same_words() {
    let dir = Dir::new();
    let file = open(&dir.file()).expect("made");
    file.words.store(abi::per_cpu_vtime(2), 77);
    let script = "import sys, mmap, struct\n\
                  f = open(sys.argv[1], 'rb')\n\
                  m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)\n\
                  print(struct.unpack_from('<Q', m, 0)[0], m[32:40].decode(), \
                  struct.unpack_from('<Q', m, 128 + 16 * 2 + 8)[0], m[56:72].hex())\n";
    let output =
        Command::new("python3").args(["-c", script]).arg(dir.file()).output().expect("python3");
    let id = boot().to_string().replace('-', "");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), format!("3 barrierd 77 {id}"));
}
