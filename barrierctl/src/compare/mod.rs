//! `barrierctl compare`: six ways to a barrier in turn, and what comes of them.
//!
//! Owns the order of the waits, the rests between them, the load, and the output. How one waits is
//! `ways`' business, how times are drawn `picture`'s.

mod picture;
mod ways;

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use barrierd_client::{Barrier, Distrust, OpenError, clock};

use crate::args;
use crate::draw::short;
use crate::json::{Json, object};
use crate::terminal;
use picture::{Row, Times};
use ways::{WAYS, Way, Ways};

/// A way whose waits were late so often in a row is given up.
const PATIENCE: u64 = 3;

/// What ends it early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Distrust(#[from] Distrust),
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// Times all ways, and shows them. True if each could be had and none was late.
pub(crate) fn compare(file: &Path, how: args::Compare) -> Result<bool, Failure> {
    terminal::catch_signals();
    let barrier = Barrier::open(file);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _end = StopOnDrop(&stop);
        for n in 0..how.load {
            let spin = || {
                // Relaxed: nothing is published with it.
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            };
            if let Err(error) = thread::Builder::new().spawn_scoped(scope, spin) {
                eprintln!("barrierctl: {n} threads spin, for no more could be started ({error})");
                break;
            }
        }
        run(barrier, how)
    })
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn run(barrier: Result<Barrier, OpenError>, how: args::Compare) -> Result<bool, Failure> {
    let begin = Instant::now();
    let mut ways = Ways::new(barrier);
    let mut rows: Vec<Row> = WAYS.iter().map(|&way| row(way, &mut ways)).collect();
    let mut rest = Rest::new(how.pause);
    let mut rounds = 0;
    while rounds < how.rounds && !terminal::ended() {
        rounds += 1;
        for (way, row) in WAYS.iter().zip(&mut rows).filter(|(_, row)| row.missing.is_none()) {
            rest.sleep();
            if terminal::ended() {
                break;
            }
            time(*way, row, &mut ways, rounds, &how)?;
        }
    }
    let mut out = io::stdout().lock();
    if how.json {
        for row in &rows {
            writeln!(out, "{}", summary(row))?;
        }
    } else {
        let glyphs = terminal::glyphs(how.ascii);
        if !how.quiet {
            writeln!(out)?;
        }
        write!(out, "{}", picture::text(&rows, glyphs))?;
        let spin = if how.load == 1 {
            "1 thread spins".into()
        } else {
            format!("{} threads spin", how.load)
        };
        writeln!(
            out,
            "\n{}; {rounds} rounds in {:.1} s, {spin}",
            host(),
            begin.elapsed().as_secs_f64()
        )?;
    }
    out.flush()?;
    Ok(rows.iter().all(|row| row.missing.is_none() && row.times.late == 0))
}

/// The row of a way, with the reason if it can't be had.
fn row(way: Way, ways: &mut Ways) -> Row {
    let missing = ways.prepare(way).err();
    Row { name: way.name(), key: way.key(), times: Times::default(), missing }
}

/// Times one wait.
fn time(
    way: Way,
    row: &mut Row,
    ways: &mut Ways,
    round: u64,
    how: &args::Compare,
) -> Result<(), Failure> {
    let timed = match ways.time(way, how.timeout) {
        Ok(timed) => timed,
        Err(ways::Failure::Distrust(why)) => return Err(why.into()),
        Err(ways::Failure::Missing(why)) => {
            row.missing = Some(why);
            return Ok(());
        }
    };
    match timed {
        Some(ns) => row.times.add(ns),
        None => {
            row.times.add_late();
            if row.times.late_in_a_row == PATIENCE {
                row.missing = Some(format!(
                    "given up: late {PATIENCE} times in a row; `barrierctl status` tells how the daemon is"
                ));
            }
        }
    }
    if how.quiet {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    if how.json {
        let line = object([
            ("wait", row.key.into()),
            ("round", round.into()),
            ("passed", timed.is_some().into()),
            ("ns", timed.into()),
        ]);
        writeln!(out, "{line}")?;
    } else {
        let what = timed.map_or_else(|| "late".into(), short);
        writeln!(out, "{round:>6}  {:<21} {what:>8}", row.name)?;
    }
    // A line at a time: whoever reads along sees each as it comes.
    Ok(out.flush()?)
}

/// One way in the end.
fn summary(row: &Row) -> Json {
    let times = row.times.sorted();
    let at = |per_mille| times.at(per_mille);
    let buckets = times
        .buckets()
        .filter(|&(_, count)| count > 0)
        .map(|(least_ns, count)| object([("least_ns", least_ns.into()), ("count", count.into())]));
    object([
        ("summary", row.key.into()),
        ("waits", times.count().into()),
        ("late", row.times.late.into()),
        ("p50_ns", at(500).into()),
        ("p90_ns", at(900).into()),
        ("p99_ns", at(990).into()),
        ("max_ns", at(1_000).into()),
        ("histogram", Json::List(buckets.collect())),
        ("missing", row.missing.as_deref().into()),
    ])
}

/// The machine in a few words.
fn host() -> String {
    let uname = rustix::system::uname();
    let cpus = thread::available_parallelism().map_or(0, usize::from);
    let (release, machine) = (uname.release().to_string_lossy(), uname.machine().to_string_lossy());
    format!("{cpus} CPUs, {machine}, Linux {release}")
}

/// Rests of random length, so that no wait keeps step with a tick.
struct Rest {
    longest_ns: u64,
    random: u64,
}

impl Rest {
    fn new(longest: Duration) -> Self {
        let longest_ns = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        Self { longest_ns, random: clock::now_ns() | 1 }
    }

    fn sleep(&mut self) {
        // Marsaglia's xorshift: good enough not to be in step.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let ns = self.random % self.longest_ns.max(1);
        terminal::sleep_until(Instant::now() + Duration::from_nanos(ns));
    }
}
