//! Compiles `bpf/*.bpf.c` into skeletons.
//!
//! Owns the search for clang and the macros that carry `bpf/layout.rs` to the C side. Knows nothing
//! of what the programs do.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

use libbpf_cargo::SkeletonBuilder;

#[allow(unreachable_pub, reason = "public in the library, which has the same file")]
#[path = "bpf/layout.rs"]
mod layout;

/// Each becomes `$OUT_DIR/NAME.skel.rs`.
const OBJECTS: [&str; 2] = ["barrierd", "sched_switch"];

fn main() {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    let clang = find_clang();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for name in OBJECTS {
        let source = Path::new("bpf").join(format!("{name}.bpf.c"));
        let built = SkeletonBuilder::new()
            .source(&source)
            .clang(&clang)
            .clang_args(clang_args())
            // None: what is generated is not read by people, and rustup's minimal profile has no rustfmt.
            .rustfmt("")
            .build_and_generate(out.join(format!("{name}.skel.rs")));
        if let Err(error) = built {
            fail(&format!("{} with {}: {error:#}", source.display(), clang.display()));
        }
    }
}

/// `-mcpu=v3` has the atomic exchanges; newer versions of clang default to more, older ones to less.
fn clang_args() -> Vec<OsString> {
    use layout::{
        ANSWERED, ARMED, ASKED, ASKED_CPUS, ASKED_FIRST, ASLEEP, CONTROL_BYTES, DAEMON_TGID, GROUP,
        IDLE, IDLE_CPUS, MISSED, OVERFLOW, PREEMPTED, ROUND, ROUND_SHIFT, SLOT_BYTES, SWITCHED,
        WANTED,
    };
    let words = [
        ("SLOT_BYTES", SLOT_BYTES),
        ("CONTROL_BYTES", CONTROL_BYTES),
        ("ARMED", ARMED),
        ("ROUND", ROUND),
        ("WANTED", WANTED),
        ("ASLEEP", ASLEEP),
        ("MISSED", MISSED),
        ("OVERFLOW", OVERFLOW),
        ("DAEMON_TGID", DAEMON_TGID),
        ("PREEMPTED", PREEMPTED),
        ("SWITCHED", SWITCHED),
        ("ASKED", ASKED),
        ("ASKED_FIRST", ASKED_FIRST),
        ("ASKED_CPUS", ASKED_CPUS),
        ("IDLE_CPUS", IDLE_CPUS),
        ("ANSWERED", ANSWERED),
        ("GROUP", GROUP),
    ];
    // `--cfg barrierd_deaf`: the switch program misses each switch out of idle on CPU 1, as kernels have
    // been seen to. For `make vm`, whose compiler has the flag for this script and cargo has not.
    let deaf = cfg!(barrierd_deaf) || env::var_os("CARGO_CFG_BARRIERD_DEAF").is_some();
    std::iter::once(OsString::from("-mcpu=v3"))
        .chain(words.into_iter().map(|(name, value)| format!("-D{name}={value}").into()))
        .chain([format!("-DIDLE={IDLE}ULL").into(), format!("-DROUND_SHIFT={ROUND_SHIFT}").into()])
        .chain(deaf.then(|| "-DDEAF_CPU=1".into()))
        .collect()
}

/// `$CLANG` if set, else the first of the usual names that runs.
fn find_clang() -> PathBuf {
    let runs = |clang: &Path| Command::new(clang).arg("--version").output().is_ok();
    if let Some(clang) = env::var_os("CLANG").filter(|clang| !clang.is_empty()) {
        let clang = PathBuf::from(clang);
        if !runs(&clang) {
            fail(&format!("CLANG is set to {}, which doesn't run", clang.display()));
        }
        return clang;
    }
    let names =
        std::iter::once("clang".to_owned()).chain((14..=19).rev().map(|n| format!("clang-{n}")));
    names.map(PathBuf::from).find(|clang| runs(clang)).unwrap_or_else(|| {
        fail(
            "no clang found (tried clang and clang-19 to clang-14), which compiles the BPF \
             programs: install it (Debian, Ubuntu: apt-get install clang libelf-dev zlib1g-dev \
             pkg-config make; Fedora: dnf install clang elfutils-libelf-devel zlib-devel) or set \
             CLANG to its path",
        )
    })
}

fn fail(message: &str) -> ! {
    println!("cargo::error={}", message.replace('\n', " | "));
    exit(1)
}
