//! The steps of a scenario, one after the other. A step that doesn't hold panics.
//!
//! Owns what each step means. Knows nothing of the machine's start and end.

use crate::PATIENCE;
use crate::cgroup;
use crate::confined::{self, USER};
use crate::cpus;
use crate::daemon::Daemon;
use crate::game::{Game, Outcome, Rest, pin_to};
use crate::jit;
use crate::load::Load;
use crate::scenarios::{Count, Step};
use crate::slew::Slew;
use crate::truth::{self, Asks};
use barrierd_client::{Barrier, Stamp};
use rustix::mount::{MountFlags, mount};
use rustix::thread::CapabilitySet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// In a directory of the user's own.
const CONFINED_FILE: &str = "/run/confined/barrier";
const TRACEFS: &str = "/sys/kernel/tracing";

const TRUTH_ROUNDS: usize = 30;

/// Rounds of one flag game: what its notes take is 8 bytes a round and fast thread.
const GAME_ROUNDS: usize = 1_000_000;

/// What steps start, and what that serves.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) daemon: String,
    pub(crate) broken_daemon: String,
    pub(crate) deaf_daemon: String,
    pub(crate) file: String,
}

struct Scene {
    place: Place,
    daemon: Option<Daemon>,
    load: Option<Load>,
}

/// Takes them all, then stops the daemon.
pub(crate) fn take(steps: &[Step], place: Place) {
    // The first CPU is the checker's own, and never goes offline.
    pin_to(0).expect("CPU 0");
    let mut scene = Scene { place, daemon: None, load: None };
    for step in steps {
        println!("step: {step:?}");
        let start = Instant::now();
        scene.take(*step);
        println!("  {:.1} s", start.elapsed().as_secs_f32());
    }
    drop(scene.load.take());
    if let Some(daemon) = scene.daemon.take() {
        daemon.stop();
    }
}

impl Scene {
    fn take(&mut self, step: Step) {
        match step {
            Step::Start(arguments) => self.start(self.command(arguments)),
            Step::StartIds(events) => {
                let ids: Vec<String> = events.iter().map(|event| id(event)).collect();
                let ids: Vec<&str> = ids.iter().map(|id| id.trim()).collect();
                self.start(self.command(&ids));
            }
            Step::StartConfined(capabilities) => self.start(self.confined(capabilities)),
            Step::StartBroken => {
                self.place.daemon.clone_from(&self.place.broken_daemon);
                self.start(self.command(&[]));
            }
            Step::StartDeaf { believes } => {
                self.place.daemon.clone_from(&self.place.deaf_daemon);
                let (mut command, file) = self.command(&[]);
                if believes {
                    command.env("BARRIERD_BELIEVE_IDLE", "1");
                }
                self.start((command, file));
            }
            Step::Refused(arguments, words) => refused(self.command(arguments), words),
            Step::RefusedConfined(capabilities, words) => {
                refused(self.confined(capabilities), words);
            }
            Step::Said(words) => assert!(self.daemon().said(words), "it didn't say: {words}"),
            Step::SaidNot(words) => assert!(!self.daemon().said(words), "it said: {words}"),
            Step::Waits(n) => waits(self.file(), n),
            Step::IdleWaits(n) => {
                for _ in 0..n {
                    thread::sleep(Duration::from_millis(300));
                    waits(self.file(), 1);
                }
            }
            Step::ConfinedWaits(n) => {
                let mut client = confined::command(CapabilitySet::empty(), "/init");
                client.arg("client").arg(self.file()).arg(n.to_string());
                let status = client.status().expect("it starts");
                assert!(status.success(), "the confined client: {status}");
            }
            Step::Truth(cpus, rounds) => truth::check(&self.barrier(), cpus, rounds, Asks::InTurn),
            Step::Expedited(cpus, rounds) => {
                truth::check(&self.barrier(), cpus, rounds, Asks::Expedited);
            }
            Step::TruthOnEach => {
                let (barrier, cpus) = (self.barrier(), players());
                for cpu in &cpus {
                    truth::check(&barrier, std::slice::from_ref(cpu), TRUTH_ROUNDS, Asks::InTurn);
                }
                truth::check(&barrier, &cpus, TRUTH_ROUNDS, Asks::InTurn);
            }
            Step::Game(rounds) => self.game(rounds),
            Step::LostGame => lost_game(),
            Step::Slewed(seconds) => {
                let (barrier, cpus) = (self.barrier(), cpus::list("online"));
                let [_, slewed, watched, .., last] = cpus[..] else { panic!("4 CPUs") };
                let slew = Slew::start(slewed, watched, self.file());
                // Armings without end, and what comes of them published at once.
                let _kicks = Load::kicks(self.file());
                let stop = Instant::now() + Duration::from_secs(seconds);
                let (mut rounds, mut judged) = (0, 0);
                while Instant::now() < stop {
                    judged += truth::rounds_judged(&barrier, &[last], 2, Asks::InTurn);
                    rounds += 2;
                }
                assert!(judged > 0, "CPU {last}'s spinner was not seen to turn in {rounds} rounds");
                let seen = slew.stop();
                println!("  {rounds} rounds; {seen}");
                assert!(seen.ahead_ns == 0, "a watermark lay ahead of the clock: {seen}");
            }
            Step::Storm(cycles) => cpus::storm(&self.barrier(), cycles),
            Step::Offline(cpus) => {
                for &cpu in cpus {
                    assert!(cpus::set_online(cpu, false), "CPU {cpu} doesn't go offline");
                }
            }
            Step::Replug(cpus) => {
                for &cpu in cpus {
                    assert!(cpus::set_online(cpu, false), "CPU {cpu} doesn't go offline");
                    assert!(cpus::set_online(cpu, true), "CPU {cpu} doesn't come back");
                }
            }
            Step::OnlineAll => cpus::online_all(),
            Step::Smt(on) => cpus::smt(on),
            Step::MorePossible(n) => {
                assert_eq!(cpus::list("possible").len(), n);
                assert!(cpus::list("online").len() < n);
            }
            Step::Tickless(cpus) => truth::tickless(cpus),
            Step::Cgroups { list } => cgroup::mounts(list),
            Step::Isolate(cpu) => cgroup::isolate(cpu),
            Step::Kicked(cpu, rounds, often) => {
                cgroup::kicked(&self.barrier(), cpu, rounds, often);
            }
            Step::Load => self.load = Some(Load::start(4)),
            Step::Tracefs => {
                mount("tracefs", TRACEFS, "tracefs", MountFlags::empty(), None).expect(TRACEFS);
            }
            Step::HideBtf => {
                let at = "/sys/kernel/btf";
                mount("tmpfs", at, "tmpfs", MountFlags::empty(), None).expect(at);
            }
            Step::Sysctl(name, value) => {
                let path = format!("/proc/sys/{name}");
                fs::write(&path, value).expect(&path);
            }
            Step::Ctl(verb) => {
                let mut ctl = Command::new("/bin/barrierctl");
                let output = ctl.args([verb, "--file"]).arg(self.file()).output().expect("it runs");
                let said = String::from_utf8_lossy(&output.stdout);
                said.lines().for_each(|line| println!("  {line}"));
                assert!(output.status.success(), "barrierctl {verb}: {}", output.status);
            }
            Step::Jitted { lse } => jit::check(lse),
            Step::Stop => drop(self.stop()),
            Step::Counted(count) => counted(&self.stop(), count),
        }
        if let Some(daemon) = &mut self.daemon {
            daemon.check();
        }
    }

    /// What starts the daemon, and the file that it serves.
    fn command(&self, arguments: &[&str]) -> (Command, String) {
        let Place { daemon, file, .. } = &self.place;
        let mut command = Command::new(daemon);
        command.arg(file).args(arguments);
        (command, file.clone())
    }

    fn confined(&self, capabilities: CapabilitySet) -> (Command, String) {
        let directory = Path::new(CONFINED_FILE).parent().expect("a directory");
        fs::create_dir_all(directory).expect("a directory");
        std::os::unix::fs::chown(directory, Some(USER), Some(USER)).expect("chown");
        let mut command = confined::command(capabilities, &self.place.daemon);
        command.arg(CONFINED_FILE);
        (command, CONFINED_FILE.into())
    }

    fn start(&mut self, (command, file): (Command, String)) {
        let started = Daemon::start(command, file.as_ref());
        self.daemon = Some(started.unwrap_or_else(|log| panic!("the daemon has ended: {log}")));
    }

    /// What it has said.
    fn stop(&mut self) -> String {
        self.daemon.take().expect("a step has started it").stop()
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("a step has started it")
    }

    fn file(&self) -> &Path {
        self.daemon().file()
    }

    fn barrier(&self) -> Barrier {
        open(self.file())
    }

    fn game(&self, rounds: usize) {
        let barrier = self.barrier();
        let watermark = || barrier.watermark().expect("a source to be trusted");
        let play = |rest: Rest, by: &str, play: &dyn Fn(Game) -> Outcome| {
            let (mut left, mut judged) = (rounds, 0);
            while left > 0 {
                let some = left.min(GAME_ROUNDS);
                let outcome = play(Game::new(&players(), some));
                assert!(outcome.broken == 0, "stores were missed: {rest:?}, {by}, {outcome:?}");
                left -= some;
                judged += outcome.judged;
            }
            println!("  {rounds} rounds, {rest:?}, {by}: {judged} barriers judged, none broken");
            assert!(judged > 0, "the watermark never moved");
        };
        let by_time = |rest| move |game: Game| game.every_edge(rest, || watermark().ns);
        let waits = Load::waits(self.file());
        play(Rest::Never, "by time", &by_time(Rest::Never));
        play(Rest::Naps, "by time", &by_time(Rest::Naps));
        drop(waits);
        let _kicks = Load::kicks(self.file());
        play(Rest::Never, "by time, with kicks", &by_time(Rest::Never));
        let now = || barrier.vtime().expect("no C daemon");
        let by_vtime = |game: Game| game.every_virtual_edge(Rest::Never, now, || watermark().vtime);
        play(Rest::Never, "by virtual time, with kicks", &by_vtime);
    }
}

fn refused((command, file): (Command, String), words: &str) {
    let Err(log) = Daemon::start(command, file.as_ref()) else { panic!("it was not refused") };
    assert!(log.contains(words), "it didn't say `{words}`, but: {log}");
}

/// The number of a tracepoint.
fn id(event: &str) -> String {
    let path = format!("{TRACEFS}/events/{event}/id");
    fs::read_to_string(&path).expect(&path)
}

fn open(file: &Path) -> Barrier {
    Barrier::open(file).unwrap_or_else(|error| panic!("{error}"))
}

/// So many barriers, one after the other.
pub(crate) fn waits(file: &Path, n: usize) {
    let barrier = open(file);
    for _ in 0..n {
        let stamp = Stamp::now();
        barrier.wait(stamp, Instant::now() + PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// The CPUs of spinners and fast threads: all but the checker's.
fn players() -> Vec<usize> {
    cpus::list("online")[1..].to_vec()
}

/// The mutant of [`Scene::game`]: each stamp is taken for passed at once.
fn lost_game() {
    // On arm64's emulated CPUs it takes a quarter of a million rounds.
    let stop = Instant::now() + 3 * PATIENCE;
    loop {
        let outcome = Game::new(&players(), 20_000).every_edge(Rest::Never, || Stamp::now().ns());
        println!("  without a barrier: {outcome:?}");
        if outcome.broken > 0 {
            return;
        }
        assert!(Instant::now() < stop, "not one round was broken");
    }
}

/// Holds the daemon's last line of sums to `count`.
fn counted(log: &str, count: Count) {
    let line = log.lines().find(|line| line.contains("stopped: ")).expect("the last sums");
    let number = |of: &str| -> u64 {
        let before = line.split(of).next().filter(|before| before.len() < line.len());
        let word = before.and_then(|before| before.split_whitespace().last());
        word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no{of} in: {line}"))
    };
    let (notified, sleeps, rounds) =
        (number(" by notification"), number(" sleeps"), number(" rounds"));
    match count {
        // A sleep ends by a notification, too.
        Count::OneWakeUpARound => assert!(notified <= rounds + sleeps && rounds > 0, "{line}"),
        Count::Slept => assert!(sleeps > 0, "{line}"),
    }
}
