//! The program: its exit statuses and output, and what only another process can show: other
//! namespaces, a missing `/proc`.

mod common;

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use barrierd_client::boot::BootId;
use barrierd_client::{Stamp, abi, clock};
use common::{Image, S, Writer, dir, root};

const BARRIERCTL: &str = env!("CARGO_BIN_EXE_barrierctl");

/// Runs `command` and checks its exit status and that its output holds each of `words`.
#[track_caller]
fn expect(command: &mut Command, status: i32, words: &[&str]) {
    let Output { status: found, stdout, stderr } = command.output().expect("started");
    let text = format!(
        "{found}\n{}\n{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    assert_eq!(found.code(), Some(status), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is missing from: {text}");
    }
}

fn barrierctl(path: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(BARRIERCTL);
    command.arg("--file").arg(path).args(args);
    command
}

/// The same, after `setup` ran in a shell inside the namespaces that `unshare` makes for `flags`.
fn inside(flags: &[&str], setup: &str, path: &Path) -> Command {
    let mut command = Command::new("unshare");
    let script = format!("{setup} exec \"$0\" --file \"$1\" status");
    command.args(flags).args(["--fork", "--", "sh", "-ec", &script, BARRIERCTL]).arg(path);
    command
}

#[test]
fn status_of_a_daemon_at_work() {
    let dir = dir();
    let path = Image::ours(2).write(&dir);
    // However long the program takes to start, its daemon beats on.
    let writer = Writer::new(&path);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let words = ["alive", "generation 1", "vtime      7, complete below 5", "cpus       2"];
            expect(&mut barrierctl(&path, &["status"]), 0, &words);
        });
        while !asked.is_finished() {
            writer.store(abi::HEARTBEAT_NS, clock::now_ns());
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn status_of_a_daemon_gone() {
    let dir = dir();
    let path = Image::ours(1).with(abi::FLAGS, abi::FLAG_STOPPED).write(&dir);
    expect(&mut barrierctl(&path, &["status"]), 1, &["daemon     stopped"]);
    let path = Image::ours(1).with(abi::HEARTBEAT_NS, clock::now_ns() - 9 * S).write(&dir);
    expect(&mut barrierctl(&path, &["status"]), 1, &["daemon     stale"]);
    let path = Image::legacy(1).write(&dir);
    expect(&mut barrierctl(&path, &["status"]), 1, &["the C daemon's", "none to be had now"]);
}

#[test]
fn a_wait_that_passes() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let writer = Writer::new(&path);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let mut command = barrierctl(&path, &["wait", "--timeout-ms", "60000"]);
            expect(&mut command, 0, &["passed after"]);
        });
        while !asked.is_finished() {
            writer.store(abi::LAST_INTERRUPT_NS, Stamp::now().ns() - 10_000);
            writer.wake(abi::LAST_INTERRUPT_NS);
            std::thread::sleep(Duration::from_millis(2));
        }
    });
}

#[test]
fn a_wait_that_does_not() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let begin = Instant::now();
    let mut command = barrierctl(&path, &["wait", "--timeout-ms", "100"]);
    expect(&mut command, 1, &["had not passed by the deadline"]);
    assert!(begin.elapsed() >= Duration::from_millis(100));
}

#[test]
fn a_file_that_lies_has_its_own_status() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let writer = Writer::new(&path);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let mut command = barrierctl(&path, &["wait", "--timeout-ms", "60000"]);
            expect(&mut command, 4, &["after CLOCK_MONOTONIC", "open the file again"]);
        });
        // Once it sleeps on the word it has accepted the file.
        while writer.wake(abi::LAST_INTERRUPT_NS) == 0 && !asked.is_finished() {}
        writer.store(abi::LAST_INTERRUPT_NS, clock::now_ns() + 3_600 * S);
    });
}

#[test]
fn refusals_and_nonsense_have_their_own_statuses() {
    let dir = dir();
    let missing = dir.path().join("barrier");
    expect(&mut barrierctl(&missing, &["status"]), 3, &["barrierctl: ", "no such file"]);
    for args in [&[][..], &["jump"], &["status", "wait"], &["status", "--timeout-ms", "5"]] {
        expect(&mut barrierctl(&missing, args), 2, &["barrierctl --help"]);
    }
    expect(&mut barrierctl(&missing, &["wait", "--timeout-ms", "-1"]), 2, &["whole number"]);
    expect(Command::new(BARRIERCTL).arg("--file"), 2, &["--file needs a path"]);
    expect(
        Command::new(BARRIERCTL).arg("--help"),
        0,
        &["usage: barrierctl", "exit status", abi::DEFAULT_PATH],
    );
    expect(Command::new(BARRIERCTL).arg("--version"), 0, &["barrierctl 0."]);
    let full = std::fs::File::options().write(true).open("/dev/full").expect("opened");
    expect(Command::new(BARRIERCTL).arg("--help").stdout(full), 5, &["can't write"]);
}

#[test]
fn another_time_namespace_is_refused() {
    if !root("making a time namespace") {
        return;
    }
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let words = ["in time namespace", "4026531834"];
    // Ahead of the file's times, where nothing but the namespace gives the shift away.
    expect(&mut inside(&["--time", "--monotonic", "1000"], "", &path), 3, &words);
    expect(&mut inside(&["--time"], "", &path), 3, &words);
}

#[test]
fn without_a_real_proc_nothing_is_believed() {
    if !root("mounting over /proc") {
        return;
    }
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let words = ["can't read /proc/self/ns/time", "mount a proc file system"];
    let hide = "mount -t tmpfs none /proc;";
    expect(&mut inside(&["--mount"], hide, &path), 3, &words);
    // A directory that looks the part, without the file, isn't a kernel without time namespaces.
    let forge = "mount -t tmpfs none /proc; mkdir -p /proc/self/ns;";
    expect(&mut inside(&["--mount"], forge, &path), 3, &words);
}

#[test]
fn a_faked_boot_id_is_refused() {
    if !root("mounting over the boot id") {
        return;
    }
    let dir = dir();
    let other = BootId([0x11; 16]);
    let [first, second] = other.words();
    let image = Image::ours(1).with(abi::BOOT_ID, first).with(abi::BOOT_ID + 8, second);
    let path = image.write(&dir);
    let fake = dir.path().join("boot_id");
    std::fs::write(&fake, other.to_string()).expect("written");
    let setup = format!("mount --bind '{}' /proc/sys/kernel/random/boot_id;", fake.display());
    expect(&mut inside(&["--mount"], &setup, &path), 3, &["another file is mounted over it"]);
}
