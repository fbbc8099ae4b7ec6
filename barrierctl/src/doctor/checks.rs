//! What the facts mean, a row a check; pure.
//!
//! Owns what is well, what is not, and what to do about it. Knows nothing of how the facts were found.

use barrierd_client::Liveness;
use rustix::thread::{CapabilitySet, MembarrierQuery};

use super::facts::{Facts, Refused};
use crate::draw::short;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ok,
    Note,
    Fail,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Fail => "FAIL",
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) state: State,
    pub(super) found: String,
    /// What to do.
    pub(super) advice: Option<String>,
}

fn ok(found: impl Into<String>) -> Finding {
    Finding { state: State::Ok, found: found.into(), advice: None }
}

fn note(found: impl Into<String>, advice: &str) -> Finding {
    Finding { state: State::Note, found: found.into(), advice: Some(advice.into()) }
}

fn fail(found: impl Into<String>, advice: &str) -> Finding {
    Finding { state: State::Fail, ..note(found, advice) }
}

/// One check.
pub(super) struct Check {
    pub(super) name: &'static str,
    /// Whether it matters only to who starts barrierd: where one is at work, nothing of it fails.
    start: bool,
    find: fn(&Facts) -> Finding,
}

impl Check {
    pub(super) fn find(&self, facts: &Facts) -> Finding {
        let mut finding = (self.find)(facts);
        if self.start && facts.liveness == Some(Liveness::Alive) && finding.state == State::Fail {
            finding.state = State::Note;
        }
        finding
    }
}

const fn start(name: &'static str, find: fn(&Facts) -> Finding) -> Check {
    Check { name, start: true, find }
}

const fn always(name: &'static str, find: fn(&Facts) -> Finding) -> Check {
    Check { name, start: false, find }
}

/// All of them: what barrierd needs to start, what a client needs, then the daemon itself.
pub(super) const CHECKS: &[Check] = &[
    start("kernel", kernel),
    start("privileges", privileges),
    start("lockdown", lockdown),
    start("btf", btf),
    start("tracepoints", tracepoints),
    start("tracefs", tracefs),
    start("perf events", perf_events),
    always("isolated CPUs", isolated),
    always("membarrier", membarrier),
    always("time", time_namespace),
    always("boot", boot),
    always("file", file),
    always("daemon", daemon),
    always("tracing", tracing),
    always("idle CPUs", idle),
    always("kicks", kicks),
    always("socket", socket),
    always("barrier", barrier),
];

fn kernel(facts: &Facts) -> Finding {
    let Facts { release, machine, .. } = facts;
    let least = match machine.as_str() {
        "x86_64" => (5, 12),
        "aarch64" => (5, 18),
        _ => return fail(format!("{release} on {machine}"), "barrierd runs on x86_64 and aarch64"),
    };
    let found = format!("Linux {release}, {machine}");
    match version(release) {
        Some(version) if version >= least => ok(found),
        _ => fail(found, &format!("barrierd needs Linux {}.{} or later here", least.0, least.1)),
    }
}

/// The first two numbers of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn privileges(facts: &Facts) -> Finding {
    let has = |capability| facts.capabilities.contains(capability);
    let all = has(CapabilitySet::SYS_ADMIN);
    let needed = [
        ("CAP_BPF", all || has(CapabilitySet::BPF)),
        ("CAP_PERFMON", all || has(CapabilitySet::PERFMON)),
        ("CAP_SETPCAP", has(CapabilitySet::SETPCAP)),
    ];
    let missing: Vec<_> = needed.iter().filter(|(_, has)| !has).map(|(name, _)| *name).collect();
    let who = if facts.root { "root" } else { "not root" };
    if facts.user_namespace {
        return fail(
            format!("{who}, in a user namespace, whose capabilities count for nothing here"),
            "reading and waiting takes no privilege; start barrierd outside of this container",
        );
    }
    if missing.is_empty() {
        return ok(format!("{who}, with CAP_BPF, CAP_PERFMON and CAP_SETPCAP"));
    }
    let advice = if facts.root {
        "start barrierd outside of this container, or give it these capabilities"
    } else {
        "reading and waiting takes no privilege; to start barrierd, be root"
    };
    fail(format!("{who}, without {}", missing.join(", ")), advice)
}

fn lockdown(facts: &Facts) -> Finding {
    match &facts.lockdown {
        Some(modes) if modes.contains("[confidentiality]") => fail(
            "the kernel is locked down for confidentiality: no BPF program may read it",
            "boot with lockdown=integrity or without lockdown",
        ),
        Some(modes) => ok(modes.as_str()),
        None => ok("none"),
    }
}

fn btf(facts: &Facts) -> Finding {
    if facts.btf {
        return ok("/sys/kernel/btf/vmlinux is there");
    }
    note(
        "/sys/kernel/btf/vmlinux can't be read: idle CPUs will hold barriers up until their next \
         interrupt",
        "use a kernel with CONFIG_DEBUG_INFO_BTF=y, and mount sysfs on /sys",
    )
}

fn tracepoints(facts: &Facts) -> Finding {
    let names = |optional: bool, there: Option<bool>| -> Vec<String> {
        let found = facts.tracepoints.iter();
        let found = found.filter(|(tp, is)| *is == there && tp.optional == optional);
        found.map(|(tp, _)| format!("{}:{}", tp.group, tp.name)).collect()
    };
    let missing = names(false, Some(false));
    if !missing.is_empty() {
        return fail(
            format!("this kernel has no {}", missing.join(", ")),
            "name others that every CPU passes often: barrierd FILE CATEGORY:NAME...",
        );
    }
    if !names(false, None).is_empty() {
        return note(
            "can't be told by this user without BTF",
            "run this as root, with tracefs mounted",
        );
    }
    let lacking = names(true, Some(false));
    let there = names(false, Some(true)).len() + names(true, Some(true)).len();
    if lacking.is_empty() {
        return ok(format!("all {there} are there"));
    }
    note(
        format!("{there} are there, but not {}", lacking.join(", ")),
        "fine where there is one CPU, or before Linux 6.5 (csd): kicks show later there",
    )
}

fn tracefs(facts: &Facts) -> Finding {
    match facts.tracefs {
        Some(path) => ok(format!("mounted on {path}")),
        None => note(
            "not mounted: tracepoints can't be given by number, as the C daemon's command line has \
             them",
            "by name they can; else mount -t tracefs tracefs /sys/kernel/tracing",
        ),
    }
}

fn perf_events(facts: &Facts) -> Finding {
    match facts.perf_event_paranoid {
        Some(level @ ..=2) => ok(format!("kernel.perf_event_paranoid is {level}")),
        Some(level) => note(
            format!(
                "kernel.perf_event_paranoid is {level}: a barrierd without CAP_SYS_ADMIN can't \
                 interrupt CPUs, so that expedited waits take as long as others"
            ),
            "start it as root, or set kernel.perf_event_paranoid to 2",
        ),
        None => note(
            "no /proc/sys/kernel/perf_event_paranoid: a kernel without perf events, or /proc is not \
             mounted; barrierd can't interrupt CPUs without them",
            "use a kernel with CONFIG_PERF_EVENTS=y",
        ),
    }
}

fn isolated(facts: &Facts) -> Finding {
    if facts.isolated.is_empty() {
        return ok("none");
    }
    note(
        format!(
            "{}: one that spins in user code without ticks holds barriers up for a second",
            facts.isolated
        ),
        "if it may be interrupted, start barrierd with --kick-isolated; else leave it so",
    )
}

fn membarrier(facts: &Facts) -> Finding {
    let all = MembarrierQuery::PRIVATE_EXPEDITED | MembarrierQuery::REGISTER_PRIVATE_EXPEDITED;
    if !facts.membarrier.contains(all) {
        return note(
            "no membarrier(PRIVATE_EXPEDITED): without a daemon, barrierd-reclaim falls back on \
             fences",
            "use Linux 4.14 or later, and let seccomp pass membarrier",
        );
    }
    if facts.membarrier.contains(MembarrierQuery::GLOBAL) {
        return ok("PRIVATE_EXPEDITED and GLOBAL");
    }
    ok("PRIVATE_EXPEDITED, not GLOBAL (nohz_full)")
}

fn time_namespace(facts: &Facts) -> Finding {
    match &facts.time_namespace {
        Ok(true) => ok("the initial time namespace: this clock is the daemon's"),
        Ok(false) => fail(
            "a time namespace of its own, where CLOCK_MONOTONIC is shifted",
            "run outside (for a container: without a time namespace of its own)",
        ),
        Err(why) => fail(
            format!("/proc/self/ns/time can't be read: {why}"),
            "mount a proc file system on /proc",
        ),
    }
}

fn boot(facts: &Facts) -> Finding {
    match &facts.boot {
        Ok(id) => ok(id.as_str()),
        Err(why) => fail(why.as_str(), "mount a proc file system on /proc"),
    }
}

fn file(facts: &Facts) -> Finding {
    match &facts.file {
        Ok(file) => {
            let of = if file.legacy {
                "the C daemon's".into()
            } else {
                format!("of this boot, generation {}", file.generation)
            };
            ok(format!("{}, uid {}, mode {:04o}, {of}", file.path, file.owner, file.mode))
        }
        Err(why) => told(why, "look who may read it (ls -l), or ask as root"),
    }
}

/// A failure in the library's words, which have a colon before what to do; where they say nothing of
/// that, `otherwise`.
fn told(why: &str, otherwise: &str) -> Finding {
    // Not one in parentheses, and not before what was tried in vain.
    let colon = why.rmatch_indices(": ").map(|(at, _)| at).find(|&at| {
        let opened = why[..at].matches('(').count();
        opened == why[..at].matches(')').count()
    });
    match colon.map(|at| (&why[..at], &why[at + 2..])) {
        Some((what, advice)) if !advice.starts_with("can't ") => fail(what, advice),
        _ => fail(why, otherwise),
    }
}

/// For checks that take a file.
fn unknown() -> Finding {
    Finding { state: State::Note, found: "not looked at: no file".into(), advice: None }
}

fn daemon(facts: &Facts) -> Finding {
    if let Some(why) = &facts.distrust {
        return fail(why.as_str(), "remove the file and restart barrierd");
    }
    let Some(liveness) = facts.liveness else { return unknown() };
    let age = match facts.age_ns {
        Some(ns) => format!("a barrier passed that was begun {} ago", short(ns)),
        None => "no barrier to be had now".into(),
    };
    match facts.advice {
        None => ok(format!("{liveness}; {age}")),
        Some(advice) => fail(format!("{liveness}; {age}"), advice),
    }
}

fn tracing(facts: &Facts) -> Finding {
    match facts.counters {
        None if facts.file.is_err() => unknown(),
        None => Finding { state: State::Note, found: "no counters to tell".into(), advice: None },
        Some(figures) if figures.tracing_proved => ok("seen to work"),
        Some(_) => fail(
            "not seen to work: nothing is published",
            "another tool may detach BPF programs: stop it, then restart barrierd; its log says more",
        ),
    }
}

fn idle(facts: &Facts) -> Finding {
    match facts.counters {
        None if facts.file.is_err() => unknown(),
        None => Finding { state: State::Note, found: "no counters to tell".into(), advice: None },
        Some(figures) if !figures.idle_inference => note(
            "hold barriers up until their next interrupt",
            "barrierd's log says why: no BTF, or another tool detaches BPF programs; then restart it",
        ),
        Some(figures) if figures.missed_events > 0 => note(
            format!(
                "pass at once, but {} switches out of idle were not traced: each can delay a barrier",
                figures.missed_events
            ),
            "a kernel bug, or another tool detaches BPF programs: barrierd's log says more",
        ),
        Some(_) => ok("pass at once"),
    }
}

fn kicks(facts: &Facts) -> Finding {
    match facts.counters {
        None if facts.file.is_err() => unknown(),
        None => Finding { state: State::Note, found: "no counters to tell".into(), advice: None },
        Some(figures) if figures.dead_kicks == 0 => ok("no CPU was given up"),
        Some(figures) => note(
            format!("{} times a CPU was given up, for kicks did not reach it", figures.dead_kicks),
            "barrierd's log names it; restart barrierd if the number rises",
        ),
    }
}

fn socket(facts: &Facts) -> Finding {
    let Some(tried) = &facts.tried else { return unknown() };
    match &tried.asked {
        Ok(()) => ok("this user may ask for expedited barriers"),
        Err(Refused::Denied(why)) => note(
            why.as_str(),
            "waits take milliseconds; for less, join that group (barrierd --group NAME)",
        ),
        Err(Refused::Absent(why)) => {
            note(why.as_str(), "start barrierd, without --expedites-per-second 0")
        }
        Err(Refused::Other(why)) => note(why.as_str(), "waits take milliseconds without it"),
    }
}

fn barrier(facts: &Facts) -> Finding {
    let Some(tried) = &facts.tried else { return unknown() };
    match &tried.passed {
        Ok(ns) => ok(format!("passed after {}", short(*ns))),
        Err(why) => told(why, "see barrierd's log"),
    }
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
