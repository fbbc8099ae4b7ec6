//! The program: its exit statuses and output, and what only another process can show: other
//! namespaces, a missing `/proc`. A file for each command; here is what they share.

#[path = "../common/asked.rs"]
mod asked;
#[path = "../../../barrierd-client/tests/common/mod.rs"]
mod common;
#[path = "../common/exposition.rs"]
mod exposition;

mod compare;
mod doctor;
mod metrics;
mod refused;
mod status;
mod wait;
mod watch;

use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use barrierd_client::{Stamp, abi, clock};
use common::Writer;

pub(crate) const BARRIERCTL: &str = env!("CARGO_BIN_EXE_barrierctl");

/// Runs `command` and checks its exit status and that its output holds each of `words`.
#[track_caller]
pub(crate) fn expect(command: &mut Command, status: i32, words: &[&str]) {
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

pub(crate) fn barrierctl(path: &Path, args: &[&str]) -> Command {
    asked::barrierctl(BARRIERCTL.as_ref(), path, args)
}

/// Runs `asked` while the file at `path` changes as `tick` has it, some hundred times a second, however long that takes.
pub(crate) fn beside<R: Send>(
    path: &Path,
    mut tick: impl FnMut(&Writer),
    asked: impl FnOnce() -> R + Send,
) -> R {
    let writer = Writer::new(path);
    thread::scope(|scope| {
        let asked = scope.spawn(asked);
        while !asked.is_finished() {
            tick(&writer);
            thread::sleep(Duration::from_millis(2));
        }
        asked.join().expect("no panic")
    })
}

/// The daemon beats.
pub(crate) fn beats(writer: &Writer) {
    writer.store(abi::HEARTBEAT_NS, clock::now_ns());
}

/// Its barrier moves.
pub(crate) fn moves(writer: &Writer) {
    writer.store(abi::LAST_INTERRUPT_NS, Stamp::now().ns() - 10_000);
    writer.wake(abi::LAST_INTERRUPT_NS);
}

/// Runs `asked` while the daemon of the file at `path` beats and its barrier moves.
pub(crate) fn beside_a_daemon(path: &Path, asked: impl FnOnce() + Send) {
    let tick = |writer: &Writer| {
        beats(writer);
        moves(writer);
    };
    beside(path, tick, asked);
}
