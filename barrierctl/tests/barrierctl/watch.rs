//! `watch`: frames without a terminal.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use barrierd_client::{abi, clock};

use crate::asked::printed;
use crate::common::{Image, S, Writer, dir};
use crate::{barrierctl, beside_a_daemon};

#[test]
fn frames_for_any_number_of_cpus_without_a_terminal() {
    let dir = dir();
    for (cpus, words) in [(1, "   0  "), (2, "   1  "), (64, "  63"), (200, "  192 ")] {
        let path = Image::counting(cpus).write(&dir);
        beside_a_daemon(&path, || {
            let mut command = barrierctl(&path, &["watch", "--once", "--interval-ms", "50"]);
            command.env_remove("COLUMNS").env_remove("LINES").env("LC_ALL", "C.UTF-8");
            let text = printed(&mut command, 0);
            assert!(text.contains("alive") && text.contains(words), "{text}");
            assert!(text.contains(&format!("CPUs      {cpus}: ")), "{text}");
            assert!(!text.contains('\x1b') && text.lines().count() < 24, "{text}");
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
            assert!(text.contains('▁') || text.contains('█'), "{text}");
            let text = printed(command.env("LC_ALL", "C"), 0);
            assert!(text.is_ascii(), "{text}");
        });
    }
}

#[test]
fn frames_are_counted_and_as_wide_as_asked() {
    let dir = dir();
    let path = Image::counting(2).write(&dir);
    beside_a_daemon(&path, || {
        let mut command =
            barrierctl(&path, &["watch", "--count", "3", "--interval-ms=50", "--ascii"]);
        let text = printed(command.env("COLUMNS", "120"), 0);
        assert_eq!(text.matches(": alive").count(), 3, "{text}");
        assert_eq!(text.matches("\n\nbarrierd ").count(), 2, "{text}");
        assert_eq!(text.lines().map(|line| line.chars().count()).max(), Some(120), "{text}");
    });
    // A daemon that is gone: the frame says so, and so does the exit status.
    let path = Image::counting(2).with(abi::FLAGS, abi::FLAG_STOPPED).write(&dir);
    let text = printed(&mut barrierctl(&path, &["watch", "--once", "--interval-ms", "50"]), 1);
    assert!(text.contains("stopped") && text.contains("start barrierd again"), "{text}");
}

#[test]
fn a_watch_ends_where_the_file_lies() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let writer = Writer::new(&path);
    let mut command = barrierctl(&path, &["watch", "--interval-ms", "50"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("started");
    // Once there is a frame it has accepted the file.
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut frame = String::new();
    out.read_line(&mut frame).expect("a line");
    writer.store(abi::LAST_INTERRUPT_NS, clock::now_ns() + 3_600 * S);
    out.read_to_string(&mut frame).expect("UTF-8");
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("UTF-8");
    assert_eq!(child.wait().expect("waits").code(), Some(4), "{frame}\n{said}");
    assert!(said.contains("after CLOCK_MONOTONIC"), "{said}");
}
