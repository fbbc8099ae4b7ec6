//! Nonsense, and files that can't be believed where the program runs: other namespaces, no `/proc`.

use std::path::Path;
use std::process::Command;

use barrierd_client::abi;
use barrierd_client::boot::BootId;

use crate::common::{Image, dir, root};
use crate::{BARRIERCTL, barrierctl, expect};

#[test]
fn refusals_and_nonsense_have_their_own_statuses() {
    let dir = dir();
    let missing = dir.path().join("barrier");
    expect(
        &mut barrierctl(&missing, &["status"]),
        3,
        &["barrierctl: ", "no such file", "(--file PATH)"],
    );
    for args in [
        &[][..],
        &["jump"],
        &["status", "wait"],
        &["status", "--timeout-ms", "5"],
        &["metrics", "--timeout-ms", "5"],
    ] {
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
    for verb in ["status", "watch", "wait", "compare", "doctor", "metrics"] {
        expect(
            Command::new(BARRIERCTL).args([verb, "-h"]),
            0,
            &["usage: barrierctl", "exit status"],
        );
    }
    for (args, words) in [
        (&["watch", "--interval-ms", "1"][..], "from 50 to 60000"),
        (&["compare", "--count", "0"], "from 1 to"),
        (&["wait", "--by", "luck"], "one of ns, vtime, expedited"),
        (&["wacht"], "did you mean watch?"),
        (&["doctor", "--load", "2"], "doctor takes no --load, only compare"),
    ] {
        expect(&mut barrierctl(&missing, args), 2, &[words, "see barrierctl --help"]);
    }
    let full = std::fs::File::options().write(true).open("/dev/full").expect("opened");
    expect(Command::new(BARRIERCTL).arg("--help").stdout(full), 5, &["can't write"]);
}

/// `barrierctl status`, after `setup` ran in a shell inside the namespaces that `unshare` makes for `flags`.
fn inside(flags: &[&str], setup: &str, path: &Path) -> Command {
    let mut command = Command::new("unshare");
    let script = format!("{setup} exec \"$0\" --file \"$1\" status");
    command.args(flags).args(["--fork", "--", "sh", "-ec", &script, BARRIERCTL]).arg(path);
    command
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

/// Nobody is mapped in a user namespace without a map: `/` itself has no owner there. With a map for root the
/// same file is opened.
#[test]
fn b14_an_owner_without_a_number_in_this_user_namespace() {
    if !root("a user namespace") {
        return;
    }
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let status = |options: &[&str]| {
        let output = Command::new("unshare")
            .arg("--user")
            .args(options)
            .args([BARRIERCTL, "status", "--file"])
            .arg(&path)
            .output()
            .expect("util-linux is there");
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("UTF-8"))
    };
    let [shown, said] = status(&[]);
    assert!(shown.is_empty(), "{shown}");
    for words in ["/: its owner has no number", "--userns=host", "membarrier(2)"] {
        assert!(said.contains(words), "{words:?} is missing from: {said}");
    }
    let [shown, said] = status(&["--map-root-user"]);
    assert!(shown.contains(path.to_str().expect("UTF-8")), "{shown}{said}");
}
