//! Each hazard of a real file on a real file system, refused with its message.

mod common;

use std::fs::{File, create_dir, write};
use std::os::unix::fs::{chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use barrierd_client::boot::BootId;
use barrierd_client::{Barrier, OpenError, abi, clock};
use common::{Image, S, chmod, dir, root};

/// Opens `path`, which must be refused with a message that names it and holds each of `words`.
#[track_caller]
fn refused(path: &Path, words: &[&str]) -> OpenError {
    let error = Barrier::open(path).expect_err("must be refused");
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "{word:?} is missing from: {message}");
    }
    error
}

#[test]
fn a_good_file_is_opened_and_read() {
    let dir = dir();
    let path = Image::ours(3).write(&dir);
    let barrier = Barrier::open(&path).expect("opened");
    assert_eq!(barrier.path(), path);
    assert_eq!((barrier.ncpu(), barrier.is_legacy(), barrier.generation()), (3, false, 1));
    assert_eq!(barrier.vtime(), Some(7));
    assert!(barrier.heartbeat_ns().is_some_and(|beat| beat <= clock::now_ns()));
    assert_eq!(barrier.per_cpu(2).map(|cpu| cpu.vtime), Some(999));
    assert_eq!(barrier.per_cpu(3), None);
    assert_eq!(barrier.per_cpu(usize::MAX), None);
    assert_eq!(barrier.cpus().len(), 3);
    assert!(barrier.cpus().enumerate().all(|(cpu, own)| barrier.per_cpu(cpu) == Some(own)));
}

#[test]
fn whether_each_cpu_has_a_time_of_its_own() {
    let dir = dir();
    let exact = |image: Image| Barrier::open(image.write(&dir)).expect("opened").per_cpu_is_exact();
    assert!(!exact(Image::ours(2)));
    assert!(exact(Image::ours(2).with(abi::FLAGS, abi::FLAG_PER_CPU_EXACT)));
    assert!(exact(Image::legacy(2)));
}

#[test]
fn a_barrier_may_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>(_: &T) {}
    let dir = dir();
    let barrier = Arc::new(Barrier::open(Image::ours(1).write(&dir)).expect("opened"));
    shared(&barrier);
    let other = Arc::clone(&barrier);
    let seen = std::thread::spawn(move || other.watermark().map(|mark| mark.ns)).join();
    assert_eq!(seen.expect("no panic"), barrier.watermark().map(|mark| mark.ns));
}

#[test]
fn a_path_may_go_back_up() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    create_dir(dir.path().join("sub")).expect("made");
    let barrier = Barrier::open(dir.path().join("sub/.././barrier")).expect("opened");
    assert!(barrier.same_file().expect("stat works"));
    assert!(Barrier::open(path).is_ok());
}

#[test]
fn nothing_there() {
    let dir = dir();
    let missing = dir.path().join("barrier");
    let error = refused(&missing, &["no such file", "start barrierd"]);
    assert!(matches!(error, OpenError::NotFound { path } if path == missing));
    let error = refused(&dir.path().join("sub/barrier"), &["sub: no such file"]);
    assert!(matches!(error, OpenError::NotFound { .. }));
    assert!(matches!(Barrier::open(""), Err(OpenError::Io { .. })));
}

#[test]
fn a_symbolic_link_at_the_end() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let link = dir.path().join("link");
    symlink(path, &link).expect("linked");
    let error = refused(&link, &["link: a symbolic link", "realpath"]);
    assert!(matches!(error, OpenError::Symlink { .. }));
}

#[test]
fn a_symbolic_link_on_the_way() {
    let (dir, other) = (dir(), dir());
    Image::ours(1).write(&dir);
    symlink(dir.path(), other.path().join("link")).expect("linked");
    let error = refused(&other.path().join("link/barrier"), &["link: a symbolic link"]);
    assert!(matches!(error, OpenError::Symlink { .. }));
}

#[test]
fn things_that_are_no_files() {
    let dir = dir();
    let error = refused(dir.path(), &["a directory where a regular file is needed"]);
    assert!(matches!(error, OpenError::NotRegular { .. }));
    refused(Path::new("/"), &["/: a directory"]);
    refused(Path::new("/dev/null"), &["a device"]);
    let socket = dir.path().join("socket");
    let _listener = UnixListener::bind(&socket).expect("bound");
    refused(&socket, &["a socket or device"]);
    // With no writer a FIFO blocks whoever opens it plainly.
    let fifo = dir.path().join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).expect("made");
    refused(&fifo, &["a FIFO"]);
    let file = Image::ours(1).write(&dir);
    refused(&file.join("barrier"), &["a regular file where a directory is needed"]);
}

#[test]
fn a_file_of_someone_else() {
    if !root("giving a file to another user") {
        return;
    }
    for owner in [12_345, 65_534] {
        let dir = dir();
        let path = Image::ours(1).write(&dir);
        chown(&path, Some(owner), None).expect("given away");
        let error = refused(&path, &[&format!("owned by uid {owner}"), "uid 0 is believed"]);
        assert!(matches!(error, OpenError::BadOwner { euid: 0, .. }));
    }
}

#[test]
fn a_file_that_others_may_write() {
    for mode in [0o664, 0o646, 0o666] {
        let dir = dir();
        let path = Image::ours(1).write(&dir);
        chmod(&path, mode);
        let error = refused(&path, &[&format!("mode {mode:04o}"), "0644"]);
        assert!(matches!(error, OpenError::BadMode { mode: found, .. } if found == mode));
    }
}

#[test]
fn a_directory_that_others_may_write() {
    for mode in [0o775, 0o757, 0o777] {
        let dir = dir();
        let path = Image::ours(1).write(&dir);
        chmod(dir.path(), mode);
        let error = refused(&path, &["directory on the way", &format!("mode {mode:04o}")]);
        assert!(matches!(error, OpenError::UnsafeParent { dir: at, .. } if at == dir.path()));
        // Sticky, and others can't replace what belongs to us.
        chmod(dir.path(), mode | 0o1000);
        assert!(Barrier::open(&path).is_ok());
    }
}

#[test]
fn a_directory_of_someone_else_further_up() {
    if !root("giving a directory to another user") {
        return;
    }
    let dir = dir();
    let sub = dir.path().join("sub");
    create_dir(&sub).expect("made");
    let path = sub.join("barrier");
    write(&path, Image::ours(1).bytes()).expect("written");
    assert!(Barrier::open(&path).is_ok());
    chown(dir.path(), Some(12_345), None).expect("given away");
    chmod(dir.path(), 0o755);
    let error = refused(&path, &["owned by uid 12345"]);
    assert!(matches!(error, OpenError::UnsafeParent { dir: at, .. } if at == dir.path()));
}

#[test]
fn a_short_file() {
    let dir = dir();
    let path = Image::ours(2).write(&dir);
    for len in [0, 8, 143] {
        File::options().write(true).open(&path).and_then(|f| f.set_len(len)).expect("cut");
        let error = refused(&path, &[&format!("{len} bytes long"), "needs 144"]);
        assert!(matches!(error, OpenError::TooShort { .. }));
    }
}

#[test]
fn more_cpus_than_the_file_holds() {
    let dir = dir();
    let path = Image::ours(1).with(abi::NCPU, 60_000).write(&dir);
    let error = refused(&path, &["4096 bytes long, needs 960128"]);
    assert!(matches!(error, OpenError::TooShort { len: 4096, .. }));
    for ncpu in [0, 65_537, u64::MAX] {
        let path = Image::ours(1).with(abi::NCPU, ncpu).write(&dir);
        let error = refused(&path, &[&format!("names {ncpu} CPUs"), "1 to 65536"]);
        assert!(matches!(error, OpenError::BadNcpu { .. }));
    }
}

#[test]
fn a_file_that_is_barely_long_enough() {
    let dir = dir();
    let path = Image::ours(2).write(&dir);
    let len = u64::try_from(abi::size_for(2)).expect("small");
    File::options().write(true).open(&path).and_then(|f| f.set_len(len)).expect("cut");
    let barrier = Barrier::open(&path).expect("opened");
    assert_eq!(barrier.per_cpu(1).map(|cpu| cpu.vtime), Some(999));
}

#[test]
fn an_unknown_version_or_program() {
    let dir = dir();
    let path = Image::ours(1).with(abi::VERSION, 2).write(&dir);
    refused(&path, &["layout version 2", "reads version 1"]);
    let path = Image::ours(1).with(abi::MAGIC, 0x1234).write(&dir);
    refused(&path, &["0x0000000000001234", "not barrierd's file"]);
    let path = Image::ours(1).with(abi::MAGIC, 0).write(&dir);
    let error = refused(&path, &["not set up yet"]);
    assert!(matches!(error, OpenError::NotReady { .. }));
    let path = Image::ours(1).with(abi::GENERATION, 0).write(&dir);
    refused(&path, &["the generation is 0", "damaged"]);
}

#[test]
fn a_file_of_another_boot() {
    let dir = dir();
    let own = BootId::current().expect("this boot's id");
    let other = BootId([0xab; 16]);
    let [first, second] = other.words();
    let image = Image::ours(1).with(abi::BOOT_ID, first).with(abi::BOOT_ID + 8, second);
    let error = refused(&image.write(&dir), &[&other.to_string(), &own.to_string()]);
    assert!(matches!(error, OpenError::ForeignBoot { found, .. } if found == other));
}

#[test]
fn a_time_from_the_future() {
    let dir = dir();
    for offset in [abi::LAST_INTERRUPT_NS, abi::HEARTBEAT_NS, abi::per_cpu_ns(1)] {
        let late = clock::now_ns() + 3_600 * S;
        let error =
            refused(&Image::ours(2).with(offset, late).write(&dir), &["after CLOCK_MONOTONIC"]);
        assert!(matches!(error, OpenError::FutureTime { ahead_ns, .. } if ahead_ns > 3_000 * S));
    }
    let late = clock::now_ns() + 3_600 * S;
    let path = Image::legacy(2).with(abi::LAST_INTERRUPT_NS, late).write(&dir);
    assert!(matches!(refused(&path, &["last_interrupt_ns"]), OpenError::FutureTime { .. }));
}
