//! The example `shared_memory`: processes that share memory and nothing else, killed at the worst moments.

mod common;

use common::{Daemon, PATIENCE, built, directory, have_root};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// One process of the example. Dropped, it is killed.
struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Process {
    fn start(arguments: &[&str]) -> Process {
        let mut child = Command::new(built::example("shared_memory"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let said = |from: Box<dyn std::io::Read + Send>| {
            let sink = lines.clone();
            thread::spawn(move || {
                for line in BufReader::new(from).lines().map_while(Result::ok) {
                    sink.lock().expect("no panics here").push(line);
                }
            });
        };
        said(Box::new(child.stdout.take().expect("piped")));
        said(Box::new(child.stderr.take().expect("piped")));
        Process { child, lines }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no panics here").clone()
    }

    /// The first line from the `from`-th on that begins with `words`, and how many lines there were then.
    #[track_caller]
    fn says_from(&self, from: usize, words: &str) -> (String, usize) {
        let stop = Instant::now() + PATIENCE;
        loop {
            let lines = self.lines();
            if let Some(line) = lines.iter().skip(from).find(|line| line.starts_with(words)) {
                return (line.clone(), lines.len());
            }
            assert!(Instant::now() < stop, "it doesn't say {words:?}: {lines:#?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[track_caller]
    fn says(&self, words: &str) -> String {
        self.says_from(0, words).0
    }

    /// A figure of a line that is said from now on, and not the next one: that may be under way.
    #[track_caller]
    fn figure(&self, line: &str, name: &str) -> u64 {
        let (_, seen) = self.says_from(self.lines().len(), line);
        figure(&self.says_from(seen, line).0, name)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// SIGKILL, and waits for the end.
    fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("waits");
    }

    /// Waits until it ends by itself, with failure; what it said last.
    #[track_caller]
    fn fails(&mut self) -> String {
        let stop = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().expect("waits") {
                Some(status) => break status,
                None => assert!(Instant::now() < stop, "it goes on: {:#?}", self.lines()),
            }
            thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(1));
        self.says("shared_memory: ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended; the wait tells either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn figure(line: &str, name: &str) -> u64 {
    let found = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    found.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no {name} in {line:?}"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn either_may_die_at_any_moment_and_the_other_goes_on() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    let memory = dir.path().join("memory");
    let (memory, file) = (text(&memory), daemon.file.clone());
    let write = || Process::start(&["writer", memory, text(&file)]);
    let writer = write();
    writer.says("writes ");
    let reader = Process::start(&["reader", memory, "--clutter"]);
    let begun = reader.figure("reads ", "sections");

    // A reader in its section keeps its node, also while it hangs; when it is dead, it does not.
    let holder = Process::start(&["reader", memory, "--hold"]);
    let held = holder.says("holds ");
    let slot = figure(&holder.says("reader "), "slot");
    let node = figure(&held, "node");
    writer.says(&format!("keeps node={node} slot={slot}"));
    holder.signal(Signal::STOP);
    let before = writer.figure("writes ", "reused");
    assert!(writer.figure("writes ", "reused") > before, "the other nodes are reused meanwhile");
    let freed = format!("frees node={node} slot={slot} reader=died");
    assert!(!writer.lines().contains(&freed), "{:#?}", writer.lines());
    holder.kill();
    writer.says(&freed);
    // Its slot is another's.
    let next = Process::start(&["reader", memory, "--hold"]);
    assert_eq!(figure(&next.says("reader "), "slot"), slot);
    next.says("holds ");

    // The writer dies in its wait: without the daemon no barrier passes.
    daemon.signal(Signal::STOP);
    writer.says("waits ");
    let last = reader.figure("reads ", "version");
    writer.kill();
    let after = reader.figure("reads ", "sections");
    assert!(after > begun, "the reader reads on");
    let second = write();
    let waiting = second.says("writer ");
    assert_eq!((figure(&waiting, "version"), figure(&waiting, "waiting")), (last, 7));
    let other = Process::start(&["writer", text(&file), text(&file)]).fails();
    assert!(
        other.contains("another program's file") || other.contains("there is a writer"),
        "{other}"
    );
    let mut third = write();
    assert!(third.fails().contains("there is a writer, and it lives"));
    second.says("waits ");
    assert_eq!(reader.figure("reads ", "version"), last, "nothing is reused without a barrier");
    daemon.signal(Signal::CONT);
    second.says("writes ");
    assert!(reader.figure("reads ", "version") > last);

    // The daemon dies and comes again.
    let seen = second.lines().len();
    daemon.kill();
    second.says_from(seen, "waits ");
    let daemon = Daemon::start(dir.path());
    let version = second.figure("writes ", "version");
    assert!(reader.figure("reads ", "version") >= version);
    for process in [&reader, &next, &second] {
        let lines = process.lines();
        assert!(!lines.iter().any(|line| line.starts_with("shared_memory: ")), "{lines:#?}");
    }
    drop(daemon);
}

/// The mutants: whoever leaves out one half is found out.
#[test]
fn without_the_slots_or_without_the_barrier_readers_lose_their_node() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    for (without, manner) in [("slots", "--hold"), ("barrier", "--clutter")] {
        let memory = dir.path().join(format!("without-{without}"));
        let writer =
            Process::start(&["writer", text(&memory), text(&daemon.file), "--without", without]);
        writer.says("writes ");
        let mut reader = Process::start(&["reader", text(&memory), manner]);
        let said = reader.fails();
        assert!(said.contains("BROKEN"), "{said}");
    }
}
