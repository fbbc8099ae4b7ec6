//! What it all ran on: named, so that a figure is never without it.

use crate::daemon::Live;
use crate::{Bench, cpus};
use rustix::system::uname;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Instant;

/// The lock file, for the versions of the peers.
const LOCK: &str = include_str!("../../Cargo.lock");

const PEERS: [&str; 6] = ["crossbeam-epoch", "seize", "haphazard", "sdd", "kovan", "mimalloc"];

/// What the line about it is called.
pub(crate) const LOAD: &str = "Load before the run";

pub(crate) fn describe(bench: &mut Bench) {
    let name = uname();
    let shown = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let cpus = cpus::allowed().len();
    let peers: Vec<String> = PEERS
        .iter()
        .filter_map(|name| Some(format!("{name} {}", locked(LOCK, name)?)))
        .chain(cfg!(feature = "liburcu").then(|| format!("liburcu {}", liburcu())))
        .collect();
    let mut text = String::from(
        "# Performance\n\nWritten by `make bench`; don't edit. Each experiment's text stands beside its \
         code, in `benches/src/experiments/`.\n\n",
    );
    let mut line = |what: &str, is: &str| {
        let _ = writeln!(text, "- {what}: {is}");
    };
    line("Machine", &format!("{}, {cpus} CPUs for this run, {}", cpu_model(), memory()));
    line("Virtualised", &hypervisor());
    line(
        "Kernel",
        &format!("{} {}, {} ticks a second", shown(name.sysname()), shown(name.release()), hz()),
    );
    line("Kernel's preemption, mitigations", &kernel_ways());
    let load = load();
    eprintln!("         {LOAD}: {load}");
    line(LOAD, &load);
    line("Date", &date());
    line("Compiler", &compiler());
    line("Beside it in this run", &peers.join(", "));
    line("Daemon", if bench.live.is_some() { "barrierd of this tree, live" } else { "none" });
    line("Effort", bench.effort.name());
    text.push_str(
        "\nContestants take turns in one process, A B C A B C; a figure is the median of the rounds with its \
         quartiles, a ratio the median of each round's own ratio. Instructions are callgrind's, exact, of \
         the calling thread alone. `(barrierd again)` is `barrierd` once more: how far the two differ is noise.\n",
    );
    bench.report.preface(&text);
    if bench.live.is_none() {
        bench.report.miss(
            "all rows of the daemon: it takes root, and `--barrierd` and `--run-dir` (`make bench` gives them)",
        );
    }
    if !cfg!(feature = "liburcu") {
        bench.report.miss("liburcu: built without it (install liburcu-dev)");
    }
}

fn locked<'l>(lock: &'l str, package: &str) -> Option<&'l str> {
    let (_, rest) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    rest.split_once('"').map(|(version, _)| version)
}

fn file(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let ran = Command::new(program).args(arguments).output();
    ran.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default()
}

fn cpuinfo(key: &str) -> Option<String> {
    let text = file("/proc/cpuinfo");
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn cpu_model() -> String {
    let number = |key| cpuinfo(key).unwrap_or_else(|| "?".into());
    match cpuinfo("model name") {
        Some(name) => {
            format!("{name} (family {}, model {})", number("cpu family"), number("model\t"))
        }
        None => std::env::consts::ARCH.into(),
    }
}

fn memory() -> String {
    let text = file("/proc/meminfo");
    let kib =
        text.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.map_or_else(
        || "? memory".into(),
        |kib| format!("{} GiB of memory", (kib + (1 << 19)) >> 20),
    )
}

fn hypervisor() -> String {
    let virtualised =
        cpuinfo("flags").is_some_and(|flags| flags.split(' ').any(|one| one == "hypervisor"));
    if virtualised {
        "yes, so CPUs may be taken away at any time".into()
    } else {
        "no sign of it".into()
    }
}

/// The kernel's own tick, from its configuration where it shows it; else from the timer's count.
fn hz() -> String {
    let release = uname().release().to_string_lossy().into_owned();
    let configured =
        [output("zcat", &["/proc/config.gz"]), file(&format!("/boot/config-{release}"))];
    for text in &configured {
        if let Some(hz) = text.lines().find_map(|line| line.strip_prefix("CONFIG_HZ=")) {
            return hz.into();
        }
    }
    // A busy CPU takes a local timer interrupt a tick.
    let ticks = || -> Option<u64> {
        let text = file("/proc/interrupts");
        let line = text.lines().find(|line| line.trim_start().starts_with("LOC:"))?;
        line.split_whitespace().skip(1).map_while(|word| word.parse::<u64>().ok()).max()
    };
    let Some(before) = ticks() else { return "an unknown number of".into() };
    let begin = Instant::now();
    while begin.elapsed().as_millis() < 200 {
        std::hint::spin_loop();
    }
    ticks().map_or_else(|| "?".into(), |after| format!("about {}", 5 * (after - before)))
}

fn kernel_ways() -> String {
    let preemption = file("/sys/kernel/debug/sched/preempt");
    let preemption = if preemption.is_empty() {
        uname().version().to_string_lossy().into_owned()
    } else {
        preemption
    };
    let mitigated = fs::read_dir("/sys/devices/system/cpu/vulnerabilities").map_or(0, |all| {
        all.flatten()
            .filter(|one| file(&one.path().to_string_lossy()).starts_with("Mitigation"))
            .count()
    });
    format!("{preemption}; {mitigated} mitigations on")
}

fn load() -> String {
    let text = file("/proc/loadavg");
    text.split(' ').take(3).collect::<Vec<_>>().join(", ")
}

/// What the machine had done at some moment, in ticks of its accounts, all CPUs together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    at: Instant,
    /// All programs' work.
    programs: f64,
    stolen: f64,
    /// This program's, that of its children that have ended, and its daemon's.
    own: f64,
}

impl Work {
    /// Returns `None` where the accounts can't be read.
    pub(crate) fn so_far(live: Option<&Live>) -> Option<Work> {
        let ticks = |text: &str, places: &[usize]| -> Option<f64> {
            let fields: Vec<&str> = text.split_whitespace().collect();
            places.iter().map(|&place| fields.get(place)?.parse::<f64>().ok()).sum()
        };
        let all = file("/proc/stat");
        let all = all.lines().next()?;
        let process = |of: &str, places: &[usize]| {
            let text = file(&format!("/proc/{of}/stat"));
            // The name, in parentheses, may hold spaces.
            ticks(text.rsplit_once(')')?.1, places)
        };
        let daemon = live.map_or(Some(0.0), |live| {
            process(&live.pid().as_raw_nonzero().to_string(), &[11, 12])
        })?;
        Some(Work {
            at: Instant::now(),
            programs: ticks(all, &[1, 2, 3])?,
            stolen: ticks(all, &[8])?,
            own: process("self", &[11, 12, 13, 14])? + daemon,
        })
    }

    /// Returns how much of all CPUs others used since then, and how much was stolen, in per cent.
    pub(crate) fn others_since(&self, live: Option<&Live>) -> Option<(f64, f64)> {
        /// Linux's for programs, whatever the kernel's own tick.
        const TICKS_A_SECOND: f64 = 100.0;
        let now = Work::so_far(live)?;
        let all = self.at.elapsed().as_secs_f64() * TICKS_A_SECOND * online();
        let others = (now.programs - self.programs) - (now.own - self.own);
        Some((others.max(0.0) / all * 100.0, (now.stolen - self.stolen) / all * 100.0))
    }
}

/// Above so many per cent of all CPUs, it is said.
const BUSY: f64 = 3.0;

/// What to say of others' work meanwhile, if it is worth a word.
pub(crate) fn busy(others: Option<(f64, f64)>) -> Option<String> {
    let (others, stolen) = others?;
    (others + stolen > BUSY).then(|| {
        format!(
            "*The machine was busy meanwhile: others used {others:.0} per cent of its CPUs, and {stolen:.0} per cent were \
             taken away.*"
        )
    })
}

fn online() -> f64 {
    file("/proc/stat").lines().filter(|line| line.starts_with("cpu")).count().max(2) as f64 - 1.0
}

fn date() -> String {
    output("date", &["--utc", "+%Y-%m-%d"])
}

fn compiler() -> String {
    format!("{}, release profile", output("rustc", &["--version"]))
}

fn liburcu() -> String {
    let version = output("pkg-config", &["--modversion", "liburcu"]);
    if version.is_empty() { "(version unknown)".into() } else { version }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_busy_machine_is_told_and_a_quiet_one_is_not() {
        assert_eq!(super::busy(None), None);
        assert_eq!(super::busy(Some((2.0, 0.5))), None);
        let told = super::busy(Some((40.0, 0.0))).expect("busy");
        assert!(told.contains("others used 40 per cent"), "{told}");
        assert!(super::busy(Some((0.0, 5.0))).is_some());
    }

    #[test]
    fn own_work_is_in_the_accounts_of_all() {
        let now = || super::Work::so_far(None).expect("this system has /proc");
        let before = now();
        while now().own - before.own < 20.0 {
            std::hint::black_box(0);
        }
        let after = now();
        let all = (after.programs + after.stolen) - (before.programs + before.stolen);
        // The one is sampled, the other is not.
        assert!(all >= 5.0, "{before:?}, {after:?}");
    }

    #[test]
    fn every_peer_has_a_version() {
        for peer in super::PEERS {
            let version = super::locked(super::LOCK, peer);
            assert!(version.is_some_and(|version| version.contains('.')), "{peer}: {version:?}");
        }
    }
}
