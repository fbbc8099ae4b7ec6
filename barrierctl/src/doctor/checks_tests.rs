//! Each check on facts that no machine at hand has.

use barrierd_client::tracepoints::Tracepoint;

use super::super::facts::{Figures, File, Tried};
use super::*;

/// A machine on which all is well, and a daemon at work.
fn sound() -> Facts {
    let tracepoint = |name, optional| Tracepoint { group: "g", name, optional };
    Facts {
        release: "6.1.0-56-cloud-amd64".into(),
        machine: "x86_64".into(),
        root: true,
        user_namespace: false,
        capabilities: CapabilitySet::all(),
        lockdown: Some("[none] integrity confidentiality".into()),
        btf: true,
        tracefs: Some("/sys/kernel/tracing"),
        tracepoints: vec![
            (tracepoint("needed", false), Some(true)),
            (tracepoint("optional", true), Some(true)),
        ],
        perf_event_paranoid: Some(2),
        isolated: String::new(),
        membarrier: MembarrierQuery::all(),
        time_namespace: Ok(true),
        boot: Ok("id".into()),
        file: Ok(File {
            path: "/run/barrierd/barrier".into(),
            owner: 0,
            mode: 0o644,
            legacy: false,
            generation: 3,
        }),
        liveness: Some(Liveness::Alive),
        distrust: None,
        age_ns: Some(2_113_000),
        advice: None,
        counters: Some(Figures {
            tracing_proved: true,
            idle_inference: true,
            dead_kicks: 0,
            missed_events: 0,
        }),
        tried: Some(Tried { asked: Ok(()), passed: Ok(48_000) }),
    }
}

/// The same without a daemon.
fn alone() -> Facts {
    Facts {
        file: Err("/x: no such file: start barrierd, or name the file".into()),
        liveness: None,
        age_ns: None,
        counters: None,
        tried: None,
        ..sound()
    }
}

fn find(name: &str, facts: &Facts) -> Finding {
    let check = CHECKS.iter().find(|check| check.name == name);
    check.unwrap_or_else(|| panic!("no check {name}")).find(facts)
}

#[track_caller]
fn expect(name: &str, facts: &Facts, state: State, words: &str) {
    let finding = find(name, facts);
    let text = format!("{} -> {}", finding.found, finding.advice.as_deref().unwrap_or_default());
    assert!(finding.state == state && text.contains(words), "{finding:?}");
    assert!(state != State::Fail || finding.advice.is_some(), "{finding:?}");
}

#[test]
fn nothing_to_do_on_a_sound_machine() {
    for check in CHECKS {
        let finding = check.find(&sound());
        assert_eq!(
            (finding.state, &finding.advice),
            (State::Ok, &None),
            "{}: {finding:?}",
            check.name
        );
    }
    expect("file", &sound(), State::Ok, "uid 0, mode 0644, of this boot, generation 3");
    expect("barrier", &sound(), State::Ok, "passed after 48.0 us");
}

#[test]
fn every_check_can_find_something_wrong() {
    let with = |change: fn(&mut Facts)| {
        let mut facts = sound();
        change(&mut facts);
        facts
    };
    let alone_with = |change: fn(&mut Facts)| {
        let mut facts = alone();
        change(&mut facts);
        facts
    };
    use State::{Fail, Note};
    type Case = (&'static str, Facts, State, &'static str);
    let cases: Vec<Case> = vec![
        ("kernel", alone_with(|f| f.release = "5.11.99".into()), Fail, "needs Linux 5.12"),
        ("kernel", alone_with(|f| f.release = "junk".into()), Fail, "needs Linux 5.12"),
        ("kernel", alone_with(|f| f.machine = "riscv64".into()), Fail, "x86_64 and aarch64"),
        (
            "kernel",
            alone_with(|f| (f.machine, f.release) = ("aarch64".into(), "5.17".into())),
            Fail,
            "5.18",
        ),
        (
            "privileges",
            alone_with(|f| f.capabilities = CapabilitySet::SETPCAP),
            Fail,
            "without CAP_BPF, CAP_PERFMON -> start barrierd outside of this container",
        ),
        (
            "privileges",
            alone_with(|f| (f.root, f.capabilities) = (false, CapabilitySet::empty())),
            Fail,
            "be root",
        ),
        ("privileges", alone_with(|f| f.user_namespace = true), Fail, "user namespace"),
        // A daemon that is at work has what it needs.
        (
            "privileges",
            with(|f| (f.root, f.capabilities) = (false, CapabilitySet::empty())),
            Note,
            "takes no privilege",
        ),
        (
            "lockdown",
            alone_with(|f| f.lockdown = Some("none integrity [confidentiality]".into())),
            Fail,
            "lockdown=integrity",
        ),
        ("btf", with(|f| f.btf = false), Note, "CONFIG_DEBUG_INFO_BTF"),
        ("tracepoints", alone_with(|f| f.tracepoints[0].1 = Some(false)), Fail, "no g:needed"),
        ("tracepoints", with(|f| f.tracepoints[0].1 = None), Note, "as root"),
        ("tracepoints", with(|f| f.tracepoints[1].1 = Some(false)), Note, "not g:optional"),
        ("tracefs", with(|f| f.tracefs = None), Note, "mount -t tracefs"),
        ("perf events", with(|f| f.perf_event_paranoid = Some(3)), Note, "paranoid is 3"),
        ("perf events", with(|f| f.perf_event_paranoid = None), Note, "CONFIG_PERF_EVENTS"),
        ("isolated CPUs", with(|f| f.isolated = "2-3".into()), Note, "2-3: one that spins"),
        ("membarrier", with(|f| f.membarrier = MembarrierQuery::empty()), Note, "seccomp"),
        ("time", with(|f| f.time_namespace = Ok(false)), Fail, "run outside"),
        ("time", with(|f| f.time_namespace = Err("no".into())), Fail, "mount a proc"),
        ("boot", with(|f| f.boot = Err("no".into())), Fail, "mount a proc"),
        ("file", alone(), Fail, "/x: no such file -> start barrierd, or name the file"),
        ("daemon", with(|f| f.distrust = Some("it lies".into())), Fail, "it lies -> remove"),
        (
            "daemon",
            with(|f| (f.liveness, f.advice) = (Some(Liveness::Stale), Some("restart it"))),
            Fail,
            "stale; a barrier passed that was begun 2.11 ms ago -> restart it",
        ),
        (
            "tracing",
            with(|f| f.counters.as_mut().expect("some").tracing_proved = false),
            Fail,
            "nothing is published",
        ),
        (
            "idle CPUs",
            with(|f| f.counters.as_mut().expect("some").idle_inference = false),
            Note,
            "log says why",
        ),
        (
            "idle CPUs",
            with(|f| f.counters.as_mut().expect("some").missed_events = 7),
            Note,
            "7 switches out of idle were not traced",
        ),
        ("kicks", with(|f| f.counters.as_mut().expect("some").dead_kicks = 2), Note, "2 times"),
        (
            "socket",
            with(|f| f.tried.as_mut().expect("some").asked = Err(Refused::Denied("no".into()))),
            Note,
            "join that group",
        ),
        (
            "socket",
            with(|f| f.tried.as_mut().expect("some").asked = Err(Refused::Absent("no".into()))),
            Note,
            "start barrierd",
        ),
        (
            "socket",
            with(|f| f.tried.as_mut().expect("some").asked = Err(Refused::Other("no".into()))),
            Note,
            "milliseconds",
        ),
        (
            "barrier",
            with(|f| f.tried.as_mut().expect("some").passed = Err("late: wait longer".into())),
            Fail,
            "late -> wait longer",
        ),
    ];
    for (name, facts, state, words) in &cases {
        expect(name, facts, *state, words);
    }
    for check in CHECKS {
        assert!(cases.iter().any(|case| case.0 == check.name), "{} is not tested", check.name);
    }
}

#[test]
fn what_takes_a_file_is_not_looked_at_without_one() {
    for name in ["daemon", "tracing", "idle CPUs", "kicks", "socket", "barrier"] {
        expect(name, &alone(), State::Note, "not looked at");
    }
    let legacy = Facts { counters: None, ..sound() };
    for name in ["tracing", "idle CPUs", "kicks"] {
        expect(name, &legacy, State::Note, "no counters");
    }
}

#[test]
fn what_to_do_is_found_in_the_librarys_words() {
    use barrierd_client::OpenError;
    let denied = std::io::Error::from_raw_os_error(13);
    let cases = [
        (
            OpenError::NotFound { path: "/x".into() },
            "/x: no such file",
            "start barrierd, or name the file that it was started with",
        ),
        (
            OpenError::TimeNamespace { found: 1, initial: 2 },
            "this process is in time namespace 1, and barrierd's times are those of the initial one (2)",
            "run it outside (for a container: without a time namespace of its own)",
        ),
        (
            OpenError::Io { path: "/x".into(), what: "open it", source: denied },
            "/x: can't open it (Permission denied (os error 13))",
            "look who may read it (ls -l), or ask as root",
        ),
    ];
    for (refused, found, advice) in cases {
        let facts = Facts { file: Err(refused.to_string()), ..alone() };
        assert_eq!(find("file", &facts), fail(found, advice));
    }
}
