//! The border to C, without a daemon: null pointers, every refusal of a file by its code, the C daemon's
//! files, threads.

#[path = "../../../tests/common/c/mod.rs"]
mod c;
#[path = "../../tests/common/mod.rs"]
mod common;

use std::os::unix::fs::symlink;

use barrierd_client::{abi, clock};
use c::{BARRIERD, Language, Link, run};
use common::{Image, S, chmod, dir};

/// `tests/border.c` in each language, linked each way.
fn each(mut test: impl FnMut(&std::path::Path)) {
    let dir = dir();
    for language in Language::BOTH {
        for link in [Link::Shared, Link::Static] {
            if let Some(binary) =
                BARRIERD.compile("tests/border.c", language, link, &[], dir.path())
            {
                test(&binary);
            }
        }
    }
}

#[test]
fn null_pointers_are_refused_everywhere() {
    each(|border| {
        run(border, &["nulls"]);
    });
}

#[test]
fn the_c_daemons_files_follow_the_legacy_rules() {
    let dir = dir();
    let path = Image::legacy(2).write(&dir);
    each(|border| {
        run(border, &["legacy", path.to_str().expect("UTF-8")]);
    });
}

#[test]
fn a_replaced_file_is_opened_again() {
    each(|border| {
        let (here, other) = (dir(), dir());
        let path = Image::ours(2).write(&here);
        let other = Image::ours(2).with(abi::GENERATION, 77).write(&other);
        run(border, &["reopen", path.to_str().expect("UTF-8"), other.to_str().expect("UTF-8")]);
    });
}

#[test]
fn a_thread_that_is_cancelled_ends_after_the_call() {
    let dir = dir();
    let path = Image::ours(2).write(&dir);
    each(|border| {
        run(border, &["cancel", path.to_str().expect("UTF-8")]);
    });
}

#[test]
fn threads_share_a_barrier_and_have_messages_of_their_own() {
    let dir = dir();
    let path = Image::ours(2).write(&dir);
    each(|border| {
        run(border, &["threads", path.to_str().expect("UTF-8")]);
    });
}

#[test]
fn each_refusal_has_its_code_and_says_what_to_do() {
    let all = dir();
    let Some(border) =
        BARRIERD.compile("tests/border.c", Language::C99, Link::Shared, &[], all.path())
    else {
        return;
    };
    let open = |path: &std::path::Path, code: i32, words: &str| {
        let printed = run(&border, &["open", path.to_str().expect("UTF-8")]);
        let mut lines = printed.lines();
        assert_eq!(lines.next(), Some(code.to_string().as_str()), "{printed}");
        assert!(lines.next().is_some_and(|text| !text.is_empty()));
        let message = lines.next().unwrap_or_default();
        assert!(message.contains(words), "{message:?} says nothing of {words:?}");
    };
    let refused = |image: Image, code: i32, words: &str| {
        let dir = dir();
        open(&image.write(&dir), code, words);
    };
    refused(Image::ours(2), 0, "");
    refused(Image::legacy(2), 0, "");
    refused(Image::ours(2).with(abi::MAGIC, 7), -19, "magic number");
    refused(Image::ours(2).with(abi::MAGIC, 0), -18, "not set up yet");
    refused(Image::ours(2).with(abi::VERSION, 9), -20, "layout version 9");
    refused(Image::ours(2).with(abi::NCPU, 0), -21, "names 0 CPUs");
    refused(Image::ours(2).with(abi::NCPU, 5000), -17, "needs");
    refused(Image::ours(2).with(abi::BOOT_ID, 1), -22, "boot");
    let late = clock::now_ns() + 3_600 * S;
    refused(Image::ours(2).with(abi::LAST_INTERRUPT_NS, late), -23, "last_interrupt_ns");
    refused(Image::legacy(2).with(abi::LAST_INTERRUPT_NS, late), -23, "last_interrupt_ns");
    refused(Image::ours(2).with(abi::GENERATION, 0), -24, "generation");

    let dir = dir();
    let path = Image::ours(1).write(&dir);
    open(&dir.path().join("none"), -10, "start barrierd");
    open(dir.path(), -12, "directory");
    let link = dir.path().join("link");
    symlink(&path, &link).expect("linked");
    open(&link, -11, "symbolic link");
    chmod(&path, 0o666);
    open(&path, -14, "0666");
    chmod(&path, 0o644);
    chmod(dir.path(), 0o777);
    open(&path, -15, "a directory on the way");
    chmod(dir.path(), 0o755);
}
