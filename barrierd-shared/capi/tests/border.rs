//! The border to C: null pointers, every refusal by its code, cells, links to anywhere, forks; in C99 and C++17.

#[path = "../../../tests/common/c/mod.rs"]
mod c;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use barrierd_shared::{Options, Region, SharedCell};
use c::{BARRIERD_SHARED, Language, Link, program, run};
use tempfile::TempDir;

fn made() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("region");
    let region = Region::create(&path, Options::new(1 << 14).readers(4)).expect("made");
    let mut writer = region.writer().expect("a slot");
    SharedCell::at(0).set(&mut writer, [10u64, 20, 30, 40]).expect("room");
    let bytes: [u8; 13] = std::array::from_fn(|at| u8::try_from(at + 1).expect("small"));
    SharedCell::at(1).set(&mut writer, bytes).expect("room");
    (dir, path)
}

fn compiled(language: Language, dir: &Path) -> Option<PathBuf> {
    BARRIERD_SHARED.compile("tests/border.c", language, Link::Shared, &[], dir)
}

#[test]
fn what_rust_has_written_c_reads_and_nothing_leads_it_out() {
    let (dir, path) = made();
    for language in Language::BOTH {
        let Some(border) = compiled(language, dir.path()) else { return };
        // A child knows itself by a page that the kernel wipes, which qemu's user emulator leaves as it is.
        let fork = if c::emulator().is_none() { &["fork"][..] } else { &[] };
        for &what in ["nulls", "cell", "links"].iter().chain(fork) {
            run(&border, &[what, path.to_str().expect("UTF-8")]);
        }
    }
    // All have left.
    assert_eq!(Region::open_read_only(&path).expect("opens").stats().readers, []);
}

#[test]
fn each_refusal_has_its_code_and_says_what_was_found() {
    let (dir, path) = made();
    let Some(border) = compiled(Language::C99, dir.path()) else { return };
    let open = |path: &Path, code: i32, words: &str| {
        let printed = run(&border, &["open", path.to_str().expect("UTF-8")]);
        let lines: Vec<_> = printed.lines().collect();
        assert_eq!(lines[0], code.to_string(), "{printed}");
        assert!(!lines[1].is_empty());
        assert!(lines.get(2).unwrap_or(&"").contains(words), "{printed:?} says not {words:?}");
    };
    open(&path, 0, "");
    open(&dir.path().join("nothing"), -10, "does not exist");
    let file = || OpenOptions::new().read(true).write(true).open(&path).expect("opens");
    let patched = |at: u64, word: u64, code, words| {
        let mut before = [0; 8];
        file().read_exact_at(&mut before, at).expect("read");
        file().write_all_at(&word.to_le_bytes(), at).expect("written");
        open(&path, code, words);
        file().write_all_at(&before, at).expect("written");
    };
    patched(0, 7, -11, "begins with 0x7");
    patched(8, 9, -12, "layout 9");
    patched(16, 0, -14, "readers = 0");
    patched(16, 5, -16, "another region's");
    patched(48, 1, -15, "boot");
    open(&path, 0, "");
    file().set_len(9000).expect("cut");
    open(&path, -13, "9000 bytes");
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).expect("linked");
    open(&link, -17, "open");
    let fifo = dir.path().join("file");
    File::create(&fifo).expect("made");
    open(&fifo, -13, "0 bytes");
}

/// Stops it when the test ends, however it does.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

#[test]
fn the_example_says_each_change() {
    use std::io::{BufRead, BufReader};

    let (dir, path) = made();
    let source = "examples/watch_cell.c";
    for language in Language::BOTH {
        let compiled = BARRIERD_SHARED.compile(source, language, Link::Shared, &[], dir.path());
        let Some(watch) = compiled else { return };
        let mut command = program(&watch);
        command.arg(&path).arg("3").stdout(std::process::Stdio::piped());
        let mut watching = Running(command.spawn().expect("it runs"));
        let mut lines = BufReader::new(watching.0.stdout.take().expect("piped")).lines();
        let mut writer = Region::open(&path).expect("opens").writer().expect("a slot");
        for value in [10u64, 11, 10] {
            let set = [value, value + 10, value + 20, value + 30];
            SharedCell::at(0).set(&mut writer, set).expect("room");
            let line = lines.next().expect("a line").expect("UTF-8");
            assert_eq!(line, set.map(|word| word.to_string()).join(" "));
        }
        assert!(watching.0.wait().expect("it ends").success());
    }
}
