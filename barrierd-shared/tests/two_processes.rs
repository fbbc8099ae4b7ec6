//! Two processes on one map, step by step: one comes between two stores, or two loads, of the other, at each place there is, and what
//! both see is checked each time.
#![cfg(feature = "testing")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use barrierd_shared::testing::{at_pause, at_step, kill_at, never_came};
use barrierd_shared::{Options, Reader, Region, SharedMap, WriteError, Writer, WriterOptions};

const MAP: SharedMap<u64, u64> = SharedMap::at(0);
const PEER: &str = "BARRIERD_SHARED_TEST_PEER";
/// What the other process's lines begin with, among those of the test program.
const MARK: &str = "> ";

type Content = BTreeMap<u64, u64>;
type Call = fn(&mut Writer) -> Result<(), WriteError>;

fn writer(region: &Region) -> Writer {
    // Who finds the turn taken does not wait.
    let options = WriterOptions::default().barrier("/nowhere/barrier").patience(Duration::ZERO);
    region.writer_with(&options).expect("a slot is free")
}

fn shown(content: impl IntoIterator<Item = (u64, u64)>) -> String {
    content.into_iter().map(|(key, value)| format!("{key}={value} ")).collect()
}

/// The other process. It does one thing after the other, as it is told.
struct Peer {
    child: Child,
    says: Lines<BufReader<ChildStdout>>,
    hears: ChildStdin,
}

impl Peer {
    fn start() -> Peer {
        let mut command = Command::new(std::env::current_exe().expect("a program"));
        command.args(["--exact", "peer", "--nocapture", "--ignored"]).env(PEER, "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let says = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let hears = child.stdin.take().expect("a pipe");
        Peer { child, says, hears }
    }

    fn tell(&mut self, what: &str) {
        writeln!(self.hears, "{what}").expect("it lives");
    }

    fn answer(&mut self) -> String {
        let line = self.says.by_ref().map(|line| line.expect("text")).find_map(|line| {
            // The test program's own text may stand before it, on the same line.
            line.split_once(MARK).map(|(_, answer)| answer.to_owned())
        });
        line.expect("it lives")
    }

    fn ask(&mut self, what: &str) -> String {
        self.tell(what);
        self.answer()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the other process does.
#[test]
#[ignore = "the other tests run it, in a process of its own"]
fn peer() {
    if std::env::var_os(PEER).is_none() {
        return;
    }
    let say = |what: &str| println!("\n{MARK}{what}");
    let mut at: Option<(Region, Reader, Writer)> = None;
    let hear = || {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).expect("told");
        line.trim_end().to_owned()
    };
    loop {
        let line = hear();
        let (what, about) = line.split_once(' ').unwrap_or((&line, ""));
        let number = || about.parse::<u64>().expect("a number");
        if what == "open" {
            let region = Region::open(Path::new(about)).expect("it is there");
            let (reader, writer) = (region.reader().expect("free"), writer(&region));
            at = Some((region, reader, writer));
            say("opened");
            continue;
        }
        let Some((region, reader, writer)) = &mut at else { return };
        match what {
            // Each way to see it.
            "content" => {
                let guard = reader.pin();
                let content: Content = MAP.iter(&guard).collect();
                for key in 0..100 {
                    assert_eq!(MAP.of(&guard, &key), content.get(&key).copied(), "key {key}");
                }
                say(&shown(content));
            }
            "get" => say(&format!("{:?}", MAP.get(reader, &number()))),
            // Waits between its loads to be told to go on.
            "get-paused" => {
                at_pause(move || {
                    say("paused");
                    hear();
                });
                say(&format!("{:?}", MAP.get(reader, &number())));
            }
            "iterate-paused" => {
                let guard = reader.pin();
                let mut entries = MAP.iter(&guard);
                let first = entries.next();
                say("paused");
                hear();
                let mut all: Vec<_> = first.into_iter().chain(entries).collect();
                all.sort_unstable();
                say(&shown(all));
            }
            "insert" => say(match MAP.insert(writer, &number(), 1) {
                Ok(_) => "done",
                Err(WriteError::Busy { .. }) => "busy",
                Err(error) => panic!("{error}"),
            }),
            "recoveries" => say(&region.stats().recoveries.to_string()),
            other => panic!("{other}?"),
        }
    }
}

const CALLS: [(&str, u64, Call); 6] = [
    ("insert", 5, |writer| MAP.insert(writer, &70, 1).map(drop)),
    ("insert and grow", 65, |writer| MAP.insert(writer, &70, 1).map(drop)),
    ("insert and split", 80, |writer| MAP.insert(writer, &90, 1).map(drop)),
    ("replace", 5, |writer| MAP.insert(writer, &3, 1).map(drop)),
    ("remove", 5, |writer| MAP.remove(writer, &3).map(drop)),
    ("clear", 6, |writer| MAP.clear(writer)),
];

struct World {
    _dir: tempfile::TempDir,
    path: PathBuf,
    region: Region,
    writer: Writer,
    before: Content,
}

impl World {
    fn new(keys: u64) -> World {
        let dir = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let path = dir.path().join("region");
        let options = Options::new(1 << 16).readers(2).writers(2);
        let region = Region::create(&path, options).expect("made");
        let mut writer = writer(&region);
        let before: Content = (0..keys).map(|key| (key, key * 10)).collect();
        for (key, value) in &before {
            MAP.insert(&mut writer, key, *value).expect("room");
        }
        World { _dir: dir, path, region, writer, before }
    }

    fn open(&self, peer: &mut Peer) {
        assert_eq!(peer.ask(&format!("open {}", self.path.display())), "opened");
    }

    fn after(&mut self) -> Content {
        MAP.iter(&self.writer.turn().expect("a turn")).collect()
    }
}

/// Makes a call in this process, and before its `step`-th store has the other one do something. Returns the answer; `None` if the
/// call has fewer steps.
fn between(
    world: &mut World,
    peer: &Rc<RefCell<Peer>>,
    call: Call,
    step: u64,
    what: &str,
) -> Option<String> {
    let answer = Rc::new(RefCell::new(None));
    let (into, peer, what) = (Rc::clone(&answer), Rc::clone(peer), what.to_owned());
    at_step(step, move || *into.borrow_mut() = Some(peer.borrow_mut().ask(&what)));
    call(&mut world.writer).expect("room");
    let _ = never_came();
    answer.take()
}

/// Asks for the content before each store from now on.
fn ask_always(peer: Rc<RefCell<Peer>>, seen: Rc<RefCell<Vec<String>>>) {
    at_step(0, move || {
        let now = peer.borrow_mut().ask("content");
        seen.borrow_mut().push(now);
        ask_always(peer, seen);
    });
}

#[test]
fn a_reader_of_another_process_sees_each_call_wholly_or_not_at_all() {
    let peer = Rc::new(RefCell::new(Peer::start()));
    for (name, keys, call) in CALLS {
        // The seeds of their hashes differ, and with them the lists and the stores.
        for _ in 0..5 {
            let mut world = World::new(keys);
            world.open(&mut peer.borrow_mut());
            let seen = Rc::default();
            ask_always(Rc::clone(&peer), Rc::clone(&seen));
            call(&mut world.writer).expect("room");
            assert!(never_came());
            let (before, after) = (shown(world.before.clone()), shown(world.after()));
            let seen = seen.take();
            // First the one, then the other, and no way back.
            let old = seen.iter().take_while(|&one| *one == before).count();
            let new = seen.iter().rev().take_while(|&one| *one == after).count();
            assert!(old > 0 && new > 0 && old + new == seen.len(), "{name}: {seen:?}");
        }
    }
}

#[test]
fn a_writer_of_another_process_does_nothing_in_anothers_turn() {
    let peer = Rc::new(RefCell::new(Peer::start()));
    for (name, keys, call) in CALLS {
        for step in 0.. {
            let mut world = World::new(keys);
            world.open(&mut peer.borrow_mut());
            let answer = between(&mut world, &peer, call, step, "insert 99");
            let Some(answer) = answer else { break };
            // `clear` is several turns, and the step that ends one is in it.
            assert_eq!(answer, "busy", "{name} at {step}");
            assert_eq!(world.after().get(&99), None);
            assert_eq!(peer.borrow_mut().ask("insert 99"), "done");
            assert_eq!(world.after().get(&99), Some(&1));
        }
    }
}

#[test]
fn a_writer_of_another_process_completes_or_undoes_what_was_killed_at_each_store() {
    let mut peer = Peer::start();
    for (name, keys, call) in CALLS {
        let after = {
            let mut world = World::new(keys);
            call(&mut world.writer).expect("room");
            world.after()
        };
        for step in 0.. {
            let World { _dir, path, region, mut writer, before } = World::new(keys);
            if kill_at(step, move || call(&mut writer)).is_some() {
                break;
            }
            assert_eq!(peer.ask(&format!("open {}", path.display())), "opened");
            let seen = peer.ask("content");
            assert!(seen == shown(before) || seen == shown(after.clone()), "{name} at {step}");
            assert_eq!(peer.ask("insert 99"), "done", "{name} at {step}");
            assert_eq!(peer.ask("recoveries"), "1");
            // This process sees what that one has made of it.
            let mut own = region.reader().expect("a slot");
            let mut found: Content = MAP.iter(&own.pin()).collect();
            assert_eq!(found.remove(&99), Some(1));
            assert_eq!(shown(found), seen, "{name} at {step}");
        }
    }
}

#[test]
fn a_lookup_between_whose_loads_another_process_splits_its_bucket_finds_its_key() {
    let mut peer = Peer::start();
    for key in (0..60).step_by(7) {
        let mut world = World::new(60);
        world.open(&mut peer);
        assert_eq!(peer.ask(&format!("get-paused {key}")), "paused");
        for more in 100..400 {
            MAP.insert(&mut world.writer, &more, 1).expect("room");
        }
        assert_eq!(peer.ask("go"), format!("{:?}", Some(key * 10)));
    }
}

#[test]
fn an_iteration_over_which_another_process_writes_has_all_that_stays() {
    let mut peer = Peer::start();
    let mut world = World::new(60);
    world.open(&mut peer);
    assert_eq!(peer.ask("iterate-paused"), "paused");
    for more in 100..400 {
        MAP.insert(&mut world.writer, &more, 1).expect("room");
        MAP.remove(&mut world.writer, &(more % 30)).expect("a turn");
    }
    // Its section holds back what was removed since.
    world.writer.flush().expect("a turn");
    assert!(world.region.stats().waiting >= 30);
    let seen = peer.ask("go");
    for key in 30..60 {
        let entry = format!("{key}={} ", key * 10);
        let found = seen.split_inclusive(' ').filter(|&one| one == entry).count();
        assert_eq!(found, 1, "{entry}in {seen}");
    }
    assert_eq!(peer.ask("get 3"), "None");
    world.writer.flush().expect("a turn");
    assert_eq!(world.region.stats().waiting, 0);
}
