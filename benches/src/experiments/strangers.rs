//! What users without any privilege can cost the daemon, and everyone who waits for it, by sleeping on
//! its file.

use super::Experiment;
use crate::Bench;
use crate::cpus::Load;
use crate::report::Table;
use crate::turns::Samples;
use barrierd_client::abi;
use barrierd_daemon::clock::now_ns;
use barrierd_daemon::words::Words;
use rustix::process::geteuid;
use rustix::thread::{Gid, Uid, futex, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "strangers",
    title: "What sleepers on the file cost",
    about: "\
Threads of another user sleep on a futex word of the public file, and again as soon as they are woken, while all CPUs \
are busy: on the watermark in time, which everyone waits on, or in virtual time. Without a bound on wake-ups 5,000 of \
them made the watermark 26 ms old (docs/journal.md).",
    run,
    job: None,
};

const STRANGER: u32 = 65_533;

fn run(bench: &mut Bench) {
    if !geteuid().is_root() {
        return bench.report.miss("what strangers cost: it takes root");
    }
    let Some(live) = &bench.live else {
        return bench.report.miss("what strangers cost: no daemon in this run");
    };
    let watch = Duration::from_millis(bench.effort.pick(100, 3_000, 10_000));
    // A thread has four mappings, and a process 65,530 at most.
    let many = bench.effort.pick(100, 10_000, 10_000);
    let mut table = Table::new([
        "sleepers",
        "watermark's age, p50, ms",
        "p99, ms",
        "the daemon, per cent of a core",
    ]);
    let mut all = Samples::default();
    for (threads, word, name) in [
        (0, abi::LAST_INTERRUPT_NS, "none"),
        (many / 20, abi::LAST_INTERRUPT_NS, "a twentieth, in time"),
        (many, abi::LAST_INTERRUPT_NS, "all, in time"),
        (0, abi::LAST_INTERRUPT_NS, "none again"),
        (many, abi::LAST_INTERRUPT_VTIME, "all, in virtual time"),
    ] {
        eprintln!("         strangers, {threads} sleepers");
        let measured = Load::Full.during(|| {
            let file = File::options().read(true).write(true).open(&live.file).ok()?;
            let words = Words::map(file.as_fd(), abi::size_for(1)).ok()?;
            beside(threads, words.futex(abi::futex_word(word)), || {
                let (before, begin) = (live.cost()?, Instant::now());
                let mut ages = Vec::new();
                while begin.elapsed() < watch {
                    thread::sleep(Duration::from_micros(700));
                    ages.push(now_ns().saturating_sub(words.load(abi::LAST_INTERRUPT_NS)));
                }
                let (after, seconds) = (live.cost()?, begin.elapsed().as_secs_f64());
                ages.sort_unstable();
                Some((ages, (after.0 - before.0) / seconds * 100.0))
            })
        });
        let Some((ages, percent)) = measured else {
            bench.report.miss(format!("{threads} sleepers: no threads, or no file"));
            continue;
        };
        #[expect(clippy::cast_precision_loss, reason = "milliseconds")]
        let at = |share: usize| ages[(ages.len() - 1) * share / 100] as f64 / 1e6;
        table.row([
            format!("{threads}, {name}"),
            format!("{:.2}", at(50)),
            format!("{:.2}", at(99)),
            format!("{percent:.2}"),
        ]);
        all.push(&format!("{name}: age p50, ms"), at(50));
        all.push(&format!("{name}: the daemon, per cent"), percent);
    }
    bench.report.table("Sleepers on the file", &table);
    bench.report.raw("strangers", "ms, per cent", &[("strangers".into(), all)]);
}

/// Runs `work` while so many threads of a stranger's sleep on `word`.
fn beside<T>(threads: usize, word: &AtomicU32, work: impl FnOnce() -> Option<T>) -> Option<T> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut sleepers = Vec::new();
        for _ in 0..threads {
            let stop = &stop;
            let sleeper =
                thread::Builder::new().stack_size(16_384).spawn_scoped(scope, move || {
                    let (uid, gid) = (Uid::from_raw(STRANGER), Gid::from_raw(STRANGER));
                    let _ = set_thread_groups(&[])
                        .and_then(|()| set_thread_res_gid(gid, gid, gid))
                        .and_then(|()| set_thread_res_uid(uid, uid, uid));
                    while !stop.load(Ordering::Relaxed) {
                        let value = word.load(Ordering::Relaxed);
                        let _ = futex::wait(word, futex::Flags::empty(), value, None);
                    }
                });
            match sleeper {
                Ok(sleeper) => sleepers.push(sleeper),
                Err(_) => break,
            }
        }
        let whole = sleepers.len() == threads;
        thread::sleep(Duration::from_millis(500));
        let result = whole.then(work).flatten();
        stop.store(true, Ordering::Relaxed);
        while !sleepers.iter().all(|sleeper| sleeper.is_finished()) {
            let _ = futex::wake(word, futex::Flags::empty(), i32::MAX.unsigned_abs());
            thread::sleep(Duration::from_millis(1));
        }
        result
    })
}
