//! What it all ran on: named, so that a figure is never without it.

use crate::{Bench, cpus};
use rustix::system::uname;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Instant;

/// The lock file, for the versions of the peers.
const LOCK: &str = include_str!("../../Cargo.lock");

const PEERS: [&str; 18] = [
    "crossbeam-epoch",
    "seize",
    "haphazard",
    "sdd",
    "kovan",
    "mimalloc",
    "arc-swap",
    "left-right",
    "parking_lot",
    "crossbeam-queue",
    "concurrent-queue",
    "papaya",
    "scc",
    "dashmap",
    "flurry",
    "crossbeam-skiplist",
    "heed",
    "lmdb-master-sys",
];

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
        "# Performance\n\nWritten by `make bench`, and anew by `make bench-render` from [what the run \
         said](performance/report.jsonl); don't edit. Each experiment's text stands beside its \
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
    bench.report.machine(format!(
        "{} {}, on {cpus} CPUs ({}{}); load averages before the run: {load}",
        shown(name.sysname()),
        shown(name.release()),
        cpuinfo("model name").unwrap_or_else(|| std::env::consts::ARCH.into()),
        if is_virtual() { ", in a virtual machine" } else { "" },
    ));
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
    // The latest one, which is the last: a peer may itself depend on an older one.
    let (_, rest) = lock.rsplit_once(&format!("name = \"{package}\"\nversion = \""))?;
    rest.split_once('"').map(|(version, _)| version)
}

pub(crate) fn file(path: &str) -> String {
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

fn is_virtual() -> bool {
    cpuinfo("flags").is_some_and(|flags| flags.split(' ').any(|one| one == "hypervisor"))
}

fn hypervisor() -> String {
    if is_virtual() {
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
    fn every_peer_has_a_version() {
        for peer in super::PEERS {
            let version = super::locked(super::LOCK, peer);
            assert!(version.is_some_and(|version| version.contains('.')), "{peer}: {version:?}");
        }
    }
}
