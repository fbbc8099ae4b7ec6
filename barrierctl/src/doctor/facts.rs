//! What there is to know of this machine, this process and the daemon, read at once.
//!
//! Owns the reading. What it means is `checks`' business, so that every meaning can be tested without
//! a machine for it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use barrierd_client::boot::BootId;
use barrierd_client::counters::{Counters, Word};
use barrierd_client::tracepoints::{DEFAULTS, Tracepoint};
use barrierd_client::{Barrier, ExpediteError, Liveness, OpenError, Stamp, time_ns};
use rustix::thread::{CapabilitySet, MembarrierQuery, capabilities, membarrier_query};

use crate::snapshot::Snapshot;

/// Where tracefs is mounted, by custom.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
/// The kernel's types, among them one for each tracepoint: `btf_trace_NAME`.
const BTF: &str = "/sys/kernel/btf/vmlinux";
/// Longest wait for a barrier.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The file, once it was opened.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) owner: u32,
    pub(super) mode: u32,
    pub(super) legacy: bool,
    pub(super) generation: u64,
}

/// What became of a barrier that was waited for.
#[derive(Clone, Debug)]
pub(super) struct Tried {
    /// What asking for haste came to.
    pub(super) asked: Result<(), Refused>,
    /// Nanoseconds until it had passed, or what the library says.
    pub(super) passed: Result<u64, String>,
}

/// Why a request for haste was not sent.
#[derive(Clone, Debug)]
pub(super) enum Refused {
    Absent(String),
    Denied(String),
    Other(String),
}

#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// As `uname -r` and `uname -m` say.
    pub(super) release: String,
    pub(super) machine: String,
    pub(super) root: bool,
    /// Whether capabilities count for something: not in a user namespace of one's own.
    pub(super) user_namespace: bool,
    pub(super) capabilities: CapabilitySet,
    /// What LSM lockdown there is, as the kernel writes it.
    pub(super) lockdown: Option<String>,
    pub(super) btf: bool,
    pub(super) tracefs: Option<&'static str>,
    /// Whether each is there; `None`: can't be told.
    pub(super) tracepoints: Vec<(Tracepoint, Option<bool>)>,
    pub(super) perf_event_paranoid: Option<i64>,
    /// CPUs that the kernel was told to leave alone.
    pub(super) isolated: String,
    pub(super) membarrier: MembarrierQuery,
    /// Whether this is the initial time namespace, or why that can't be told.
    pub(super) time_namespace: Result<bool, String>,
    pub(super) boot: Result<String, String>,
    pub(super) file: Result<File, String>,
    /// The rest is there if the file is, and doesn't lie.
    pub(super) liveness: Option<Liveness>,
    pub(super) distrust: Option<String>,
    /// How old the watermark is; `None`: there is none.
    pub(super) age_ns: Option<u64>,
    pub(super) advice: Option<&'static str>,
    pub(super) counters: Option<Figures>,
    pub(super) tried: Option<Tried>,
}

/// What of the counters tells something about the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    pub(super) tracing_proved: bool,
    pub(super) idle_inference: bool,
    pub(super) dead_kicks: u64,
    pub(super) missed_events: u64,
}

impl Facts {
    /// Reads all. Takes up to two seconds where the daemon is in a bad way.
    pub(super) fn gather(path: &Path) -> Self {
        let uname = rustix::system::uname();
        let text = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let btf = fs::read(BTF);
        let cpus =
            |name| text(&format!("/sys/devices/system/cpu/{name}")).filter(|t| t != "(null)");
        // Of isolated partitions, since Linux 6.8.
        let partitions = text("/sys/fs/cgroup/cpuset.cpus.isolated");
        let lists = [cpus("isolated"), cpus("nohz_full"), partitions];
        let mut isolated: Vec<_> = lists.into_iter().flatten().filter(|t| !t.is_empty()).collect();
        isolated.dedup();
        let mut facts = Self {
            release: uname.release().to_string_lossy().into_owned(),
            machine: uname.machine().to_string_lossy().into_owned(),
            root: rustix::process::geteuid().is_root(),
            user_namespace: text("/proc/self/uid_map").is_some_and(|map| !is_initial(&map)),
            capabilities: capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective),
            lockdown: text("/sys/kernel/security/lockdown"),
            btf: btf.is_ok(),
            tracefs: tracefs(),
            tracepoints: DEFAULTS.iter().map(|&tp| (tp, is_there(tp, &btf))).collect(),
            perf_event_paranoid: text("/proc/sys/kernel/perf_event_paranoid")
                .and_then(|text| text.parse().ok()),
            isolated: isolated.join(","),
            membarrier: membarrier_query(),
            time_namespace: time_ns::is_initial().map_err(|error| error.to_string()),
            boot: BootId::current().map(|id| id.to_string()).map_err(|error| error.to_string()),
            file: Err(String::new()),
            liveness: None,
            distrust: None,
            age_ns: None,
            advice: None,
            counters: None,
            tried: None,
        };
        match Barrier::open(path) {
            Ok(barrier) => facts.ask(&barrier),
            Err(why) => facts.file = Err(crate::refused(&why)),
        }
        facts
    }

    /// The part that takes a file.
    fn ask(&mut self, barrier: &Barrier) {
        let metadata = fs::metadata(barrier.path());
        self.file = match metadata {
            Ok(metadata) => Ok(File {
                path: barrier.path().display().to_string(),
                owner: metadata.uid(),
                mode: metadata.mode() & 0o7777,
                legacy: barrier.is_legacy(),
                generation: barrier.generation(),
            }),
            Err(source) => {
                let (path, what) = (barrier.path().into(), "look at it again");
                Err(OpenError::Io { path, what, source }.to_string())
            }
        };
        let snapshot = match Snapshot::at(barrier) {
            Ok(snapshot) => snapshot,
            Err(why) => {
                self.distrust = Some(why.to_string());
                return;
            }
        };
        self.liveness = Some(snapshot.liveness);
        self.advice = snapshot.advice();
        self.age_ns =
            (snapshot.mark.ns != 0).then(|| snapshot.now_ns.saturating_sub(snapshot.mark.ns));
        self.counters = snapshot.counters.as_ref().ok().map(figures);
        self.tried = Some(attempt(barrier));
    }
}

fn figures(counters: &Counters) -> Figures {
    let get = |word| counters.get(word);
    Figures {
        tracing_proved: get(Word::TracingProved) != Some(0),
        idle_inference: get(Word::IdleInference) != Some(0),
        dead_kicks: get(Word::DeadKicks).unwrap_or(0),
        missed_events: get(Word::MissedEvents).unwrap_or(0),
    }
}

/// Asks for haste and waits for one barrier.
fn attempt(barrier: &Barrier) -> Tried {
    let (begin, stamp) = (Instant::now(), Stamp::now());
    let asked = barrier.expedite(stamp).map_err(|why| {
        let text = why.to_string();
        match why {
            ExpediteError::Absent => Refused::Absent(text),
            ExpediteError::Denied => Refused::Denied(text),
            _ => Refused::Other(text),
        }
    });
    let passed = match barrier.wait(stamp, begin + TIMEOUT) {
        Ok(()) => Ok(u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX)),
        Err(why) => Err(why.to_string()),
    };
    Tried { asked, passed }
}

/// Whether the users of this namespace are the machine's: user_namespaces(7).
fn is_initial(uid_map: &str) -> bool {
    uid_map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// Where it is mounted: an empty directory isn't it.
fn tracefs() -> Option<&'static str> {
    // TRACEFS_MAGIC in include/uapi/linux/magic.h. Telling takes no right to look inside.
    let mounted =
        |path: &&&str| rustix::fs::statfs(**path).is_ok_and(|fs| fs.f_type == 0x7472_6163);
    TRACEFS.iter().find(mounted).copied()
}

/// Whether the kernel has it, by tracefs or by its types.
fn is_there(tracepoint: Tracepoint, btf: &io::Result<Vec<u8>>) -> Option<bool> {
    let Tracepoint { group, name, .. } = tracepoint;
    for root in TRACEFS {
        match fs::metadata(format!("{root}/events/{group}/{name}")) {
            Ok(_) => return Some(true),
            // Not there, though its neighbours are.
            Err(_) if fs::read_dir(format!("{root}/events")).is_ok() => return Some(false),
            Err(_) => {}
        }
    }
    let typedef = format!("\0btf_trace_{name}\0");
    btf.as_ref().ok().map(|btf| contains(btf, typedef.as_bytes()))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
