//! The crash storm: processes that read and write one region, and are killed at any instruction.
//!
//! Readers read each node twice and compare; writers push, replace and take out. Every few milliseconds one of them is killed, or
//! stopped for a while. Two readers are in C (`storm.c`), where there is a compiler. In the end every block is accounted for: reached, free, or waiting, and the last ones go.
//!
//! As root it runs on a daemon of its own, else on global membarriers. `BARRIERD_STORM_SECONDS` makes it longer. With the
//! feature `testing` it also runs builds that leave out a rule, which it must find.

#[path = "../../tests/common/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests")]
mod common;

#[path = "../../tests/common/c/mod.rs"]
mod c;

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};
use std::time::{Duration, Instant};

use barrierd_shared::{
    Field, Options, Reader, Region, SharedAtomic, SharedMap, SharedRef, View, WriteError, Writer,
    WriterOptions, shareable,
};

const ROOTS: usize = 8;
const WORDS: usize = 12;
const DEPTH: usize = 4;

shareable! {
    /// A number, and words that follow from it.
    struct Node {
        key: Field<u64>,
        next: SharedAtomic<Node>,
        words: Field<[u64; WORDS]>,
    }
}

/// Entries whose values follow from their keys and from a number; it grows, and is cleared now and then.
const MAP: SharedMap<u64, [u64; 3]> = SharedMap::at(ROOTS);
const KEYS: usize = 400;

fn is_of(key: u64, value: [u64; 3]) -> bool {
    value[1] == key && value[2] == words(key ^ value[0])[0]
}

fn words(key: u64) -> [u64; WORDS] {
    std::array::from_fn(|at| (key ^ at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

struct Random(u64);

impl Random {
    fn new() -> Random {
        Random(RandomState::new().hash_one(std::process::id()) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % most as u64).expect("less than a usize")
    }
}

/// What a role found broken.
type Broken = String;

fn one_of(node: SharedRef<'_, Node>) -> Result<u64, Broken> {
    let (key, content) = (node.key.get(), node.words.get());
    if key == 0 || content != words(key) {
        return Err(format!("the node at {:?} is not whole: {key:#x}, {content:x?}", node.link()));
    }
    Ok(key)
}

/// Reads until it is killed; `lazy` sleeps between its sections, so that it shows nothing by itself.
fn read(region: &Region, lazy: bool) -> Result<(), Broken> {
    let mut reader: Reader = join(|| region.reader());
    let mut random = Random::new();
    let begun = Instant::now();
    let orphan = || begun.elapsed() > Duration::from_secs(600);
    for round in 0u64.. {
        {
            let guard = reader.pin();
            for _ in 0..4 {
                let key = random.below(KEYS) as u64;
                if MAP.of(&guard, &key).is_some_and(|value| !is_of(key, value)) {
                    return Err(format!("the entry of {key} is not whole"));
                }
            }
            let root = guard.root::<Node>(random.below(ROOTS));
            let mut nodes = Vec::new();
            let mut at = guard.load(root);
            while let Some(node) = at.filter(|_| nodes.len() < DEPTH) {
                nodes.push((node, one_of(node)?));
                at = guard.load(&node.next);
            }
            for _ in 0..random.below(3000) {
                std::hint::spin_loop();
            }
            if random.below(2000) == 0 {
                std::thread::sleep(Duration::from_millis(3));
            }
            for (node, key) in nodes {
                if one_of(node)? != key {
                    return Err(format!("the node at {:?} has become another", node.link()));
                }
            }
        }
        if lazy {
            std::thread::sleep(Duration::from_millis(5));
        }
        if round % 1024 == 0 && orphan() {
            return Ok(());
        }
    }
    Ok(())
}

fn write(region: &Region, barrier: &Path) -> Result<(), Broken> {
    let options = WriterOptions::default().barrier(barrier).patience(Duration::from_secs(20));
    let mut writer: Writer = join(|| region.writer_with(&options));
    let mut random = Random::new();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(600) {
        for _ in 0..100 {
            let done = if random.below(2) == 0 {
                change(&mut writer, &mut random)
            } else {
                change_map(&mut writer, &mut random)
            };
            match done {
                Ok(()) => {}
                Err(WriteError::OutOfMemory { .. }) => {
                    let soon = Instant::now() + Duration::from_millis(20);
                    match writer.synchronize(soon) {
                        // A writer that is stopped in its turn keeps it.
                        Ok(()) | Err(WriteError::Deadline { .. } | WriteError::Busy { .. }) => {}
                        Err(error) => return Err(error.to_string()),
                    }
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        if random.below(8) == 0 {
            writer.flush().map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

fn change_map(writer: &mut Writer, random: &mut Random) -> Result<(), WriteError> {
    let (key, number) = (random.below(KEYS) as u64, random.next());
    match random.below(2000) {
        0 => MAP.clear(writer),
        1..900 => MAP.remove(writer, &key).map(drop),
        _ => {
            let value = [number, key, words(key ^ number)[0]];
            MAP.insert(writer, &key, value).map(drop)
        }
    }
}

fn change(writer: &mut Writer, random: &mut Random) -> Result<(), WriteError> {
    let turn = writer.turn()?;
    let root = turn.root::<Node>(random.below(ROOTS));
    let first = turn.load(root);
    let mut fresh = || {
        let key = random.next();
        let fresh = turn.alloc::<Node>()?;
        fresh.write(|node| &node.key, key);
        fresh.write(|node| &node.words, words(key));
        Ok::<_, WriteError>(fresh)
    };
    let length = std::iter::successors(first, |node| turn.load(&node.next)).take(DEPTH).count();
    match (first, length) {
        (None, _) | (_, 1) => {
            let fresh = fresh()?;
            fresh.lead(|node| &node.next, root.link());
            turn.put(root, fresh)?;
        }
        (Some(first), DEPTH) => {
            let second = turn.load(&first.next).expect("the length says so");
            turn.remove(&first.next, second.next.link())?;
        }
        (Some(first), _) => {
            let key = first.key.get();
            if key % 3 == 0 {
                turn.remove(root, first.next.link())?;
            } else {
                let fresh = fresh()?;
                fresh.lead(
                    |node| &node.next,
                    if key % 3 == 1 { first.next.link() } else { root.link() },
                );
                if key % 3 == 1 {
                    turn.replace(root, fresh)?
                } else {
                    turn.put(root, fresh)?
                };
            }
        }
    }
    Ok(())
}

/// The slots of the dead take the kernel a moment.
fn join<T, E: std::fmt::Display>(take: impl Fn() -> Result<T, E>) -> T {
    let stop = Instant::now() + common::PATIENCE;
    loop {
        match take() {
            Ok(taken) => return taken,
            Err(error) => assert!(Instant::now() < stop, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A process of the storm, by its role.
struct Process {
    role: &'static str,
    child: Child,
}

struct Storm {
    region: PathBuf,
    barrier: PathBuf,
    mutant: &'static str,
    /// The reader in C.
    in_c: Option<PathBuf>,
}

impl Storm {
    fn start(&self, role: &'static str) -> Process {
        let mut command = match (&self.in_c, role.strip_prefix("C ")) {
            (Some(program), Some(how)) => {
                let mut command = c::program(program);
                command.arg(&self.region).arg(how);
                command
            }
            (_, how) => {
                let mut command = c::program(&std::env::current_exe().expect("this program"));
                command.args([how.unwrap_or(role), self.mutant]);
                command.arg(&self.region).arg(&self.barrier);
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Process { role, child: command.spawn().expect("it starts") }
    }

    /// Kills for so long. `Err` if a process ended by itself: it found something broken.
    fn rage(&self, seconds: f64, roles: &[&'static str]) -> Result<u64, Broken> {
        let mut random = Random::new();
        let mut all: Vec<_> = roles.iter().map(|role| self.start(role)).collect();
        let stop = Instant::now() + Duration::from_secs_f64(seconds);
        let (mut deaths, mut broken) = (0, None);
        while Instant::now() < stop && broken.is_none() {
            std::thread::sleep(Duration::from_millis(2 + random.next() % 8));
            for process in &mut all {
                if let Some(status) = process.child.try_wait().expect("ours") {
                    broken = Some(format!("the {} ended with {status}", process.role));
                }
            }
            let at = random.below(all.len());
            let process = &mut all[at];
            // A mutant's writer remembers what it should not: it is left alive for longer.
            if process.role == "writer" && !self.mutant.is_empty() && random.below(8) > 0 {
                continue;
            }
            let signal = |signal| {
                let pid = i32::try_from(process.child.id()).expect("a pid");
                // SAFETY: our own child, not waited for yet.
                unsafe { libc::kill(pid, signal) };
            };
            if random.below(8) == 0 {
                signal(libc::SIGSTOP);
                std::thread::sleep(Duration::from_millis(random.next() % 20));
                signal(libc::SIGCONT);
                if random.below(2) == 0 {
                    continue;
                }
            }
            signal(libc::SIGKILL);
            let status = process.child.wait().expect("ours");
            if status.code().is_some() {
                broken = Some(format!("the {} ended with {status}", process.role));
            }
            deaths += 1;
            *process = self.start(process.role);
        }
        for mut process in all {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
        broken.map_or(Ok(deaths), Err)
    }

    /// Accounts for every block.
    fn account(&self) -> Result<String, Broken> {
        let region = Region::open(&self.region).map_err(|error| error.to_string())?;
        let options = WriterOptions::default().barrier(&self.barrier);
        let mut writer = join(|| region.writer_with(&options));
        let said = |error: WriteError| error.to_string();
        let count = |writer: &mut Writer| -> Result<_, Broken> {
            let turn = writer.turn().map_err(said)?;
            let mut reached = 0;
            for root in 0..ROOTS {
                let mut at = turn.load(turn.root::<Node>(root));
                while let Some(node) = at {
                    one_of(node)?;
                    reached += 1;
                    at = turn.load(&node.next);
                }
            }
            // The map's: entries, a table, its segment, and the table that comes after it.
            reached += MAP.len(&turn) as u64 + 3;
            let census = turn.census().map_err(said)?;
            if census.live != reached || census.held != 0 {
                return Err(format!("{reached} blocks are reached: {census:?}"));
            }
            Ok(census)
        };
        let entries = {
            let turn = writer.turn().map_err(said)?;
            let entries: Vec<_> = MAP.iter(&turn).collect();
            if entries.len() != MAP.len(&turn)
                || entries.iter().any(|&(key, value)| !is_of(key, value))
                || entries.iter().any(|(key, value)| MAP.of(&turn, key) != Some(*value))
            {
                return Err(format!("{} entries, len {}", entries.len(), MAP.len(&turn)));
            }
            entries.len()
        };
        // What a cleared table still has goes with it: then a table with one segment, and a spare one, is all there is of the map.
        MAP.insert(&mut writer, &0, [0, 0, words(0)[0]]).map_err(said)?;
        MAP.clear(&mut writer).map_err(said)?;
        for key in 0..20 {
            MAP.insert(&mut writer, &key, [0, key, words(key)[0]]).map_err(said)?;
        }
        let before = count(&mut writer)?;
        writer.synchronize(Instant::now() + common::PATIENCE).map_err(said)?;
        let after = count(&mut writer)?;
        let all = |census: &barrierd_shared::Census| census.live + census.free + census.waiting;
        if after.waiting != 0 || all(&before) != all(&after) {
            return Err(format!("{before:?}, then {after:?}"));
        }
        let stats = region.stats();
        Ok(format!(
            "{entries} entries, {after:?}, {} recoveries, {} deaths seen",
            stats.recoveries, stats.deaths
        ))
    }
}

fn storm(
    barrier: &Path,
    dir: &Path,
    in_c: Option<PathBuf>,
    mutant: &'static str,
    roles: &[&'static str],
    seconds: f64,
) -> Result<String, Broken> {
    let region = dir.join(format!("storm-{mutant}-{}", roles[0]));
    Region::create(&region, Options::new(1 << 18).readers(8).writers(4)).expect("made");
    let storm = Storm { region, barrier: barrier.into(), mutant, in_c };
    let deaths = storm.rage(seconds, roles)?;
    Ok(format!("{deaths} killed; {}", storm.account()?))
}

#[cfg(feature = "testing")]
fn leave_out(mutant: &str) {
    use barrierd_shared::testing::{Mutant, leave_out};
    let all = [Mutant::EarlyDeath, Mutant::NoSlots];
    leave_out(all.into_iter().find(|known| format!("{known:?}") == mutant));
}

#[cfg(not(feature = "testing"))]
fn leave_out(_: &str) {}

fn role(role: &str, mutant: &str, region: &Path, barrier: &Path) -> Result<(), Broken> {
    leave_out(mutant);
    let region = Region::open(region).map_err(|error| error.to_string())?;
    match role {
        "writer" => write(&region, barrier),
        role => read(&region, role == "lazy"),
    }
}

/// Without the test harness: the roles are this very program, which must not be slow to start.
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [name @ ("reader" | "busy" | "lazy" | "writer"), mutant, region, barrier] =
        &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..]
    {
        return match role(name, mutant, Path::new(region), Path::new(barrier)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(what) => {
                eprintln!("{name}: {what}");
                ExitCode::FAILURE
            }
        };
    }
    let seconds = std::env::var("BARRIERD_STORM_SECONDS").ok().and_then(|text| text.parse().ok());
    // An emulator's program has no daemon of its own target.
    let root = c::emulator().is_none() && common::have_root();
    let dir = if root { common::directory() } else { tempfile::tempdir().expect("a directory") };
    let daemon = root.then(|| common::Daemon::start(dir.path()));
    let barrier = daemon.as_ref().map_or("/nowhere/barrier".into(), |daemon| daemon.file.clone());
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (source, c99) = (here.join("tests/storm.c"), c::Language::C99);
    let in_c = c::BARRIERD_SHARED.compile(source, c99, c::Link::Shared, &[], dir.path());
    let roles = ["reader", "reader", "C busy", "lazy", "C lazy", "writer", "writer", "writer"];
    match storm(&barrier, dir.path(), in_c.clone(), "", &roles, seconds.unwrap_or(4.0)) {
        Ok(what) => println!("storm: {what}"),
        Err(what) => panic!("storm: {what}"),
    }
    if cfg!(feature = "testing") {
        // The readers in C find what they read again by themselves; without a compiler they are Rust's.
        let in_c_alone = ["C busy", "C busy", "C lazy", "writer"];
        for (mutant, roles) in
            [("EarlyDeath", &roles[..6]), ("NoSlots", &roles[..6]), ("NoSlots", &in_c_alone)]
        {
            match storm(&barrier, dir.path(), in_c.clone(), mutant, roles, 60.0) {
                Ok(what) => panic!("storm: {mutant} was not found: {what}"),
                Err(what) => println!("storm: {mutant} was found: {what}"),
            }
        }
    }
    ExitCode::SUCCESS
}
