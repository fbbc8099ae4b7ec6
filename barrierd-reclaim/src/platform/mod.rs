//! What this library asks of the system, in one place: a clock, a barrier for the whole process, a place to sleep, the
//! number of a thread, the mark of a fork, and calls at the end of the process.
//!
//! Owns everything that differs between targets; nothing else in the crate asks which target this is. It knows nothing
//! of the crate. Each system has a file of the same names, of which this one chooses: a new system is a new file. What a
//! system lacks is missing quietly, and [`docs::platforms`](crate::docs::platforms) says so.
//!
//! | name | Linux, Android | other Unix | Windows | everywhere else |
//! |---|---|---|---|---|
//! | `now_ns` | `CLOCK_MONOTONIC` | `Instant` | `Instant` | `Instant`; a counter where it panics |
//! | [`membarrier`] | `membarrier(2)` | none; `membarrier(2)` on FreeBSD, x86-64 | `FlushProcessWriteBuffers` | none |
//! | [`WaitQueue`] | a futex | a condition variable | a condition variable | a condition variable |
//! | `own_tid` | the kernel's | the kernel's, or a count | the kernel's | a count |
//! | `mark` | a page that a fork wipes | a word that a handler wipes | a word | a word |
//! | `stay_loaded` | `dlopen` | `dlopen` | `GetModuleHandleEx` | nothing |
//! | `become_ordinary` | policy, niceness, CPUs | nothing | nothing | nothing |
//! | `at_exit` | `atexit` | `atexit` | `atexit`, in a program | nothing |
//! | `in_children` | `pthread_atfork` | `pthread_atfork` | nothing | nothing |
//!
//! "Everywhere else" is wasm32, Miri, and any target that has no file. `--cfg barrierd_plain` chooses it on any target:
//! so its code is tested where there are threads to test it with.

#[cfg(all(any(target_os = "linux", target_os = "android"), not(any(miri, barrierd_plain))))]
#[path = "linux/mod.rs"]
mod system;

#[cfg(all(
    any(
        target_vendor = "apple",
        target_os = "freebsd",
        target_os = "dragonfly",
        target_os = "netbsd",
        target_os = "openbsd",
        target_os = "illumos",
        target_os = "solaris",
    ),
    not(any(miri, barrierd_plain))
))]
#[path = "unix.rs"]
mod system;

#[cfg(all(windows, not(any(miri, barrierd_plain))))]
#[path = "windows.rs"]
mod system;

#[cfg(any(
    miri,
    barrierd_plain,
    not(any(
        windows,
        target_vendor = "apple",
        target_os = "linux",
        target_os = "android",
        target_os = "freebsd",
        target_os = "dragonfly",
        target_os = "netbsd",
        target_os = "openbsd",
        target_os = "illumos",
        target_os = "solaris",
    ))
))]
#[path = "plain.rs"]
mod system;

// Where threads sleep on a condition variable and the clock is `Instant`.
#[cfg(any(miri, barrierd_plain, not(any(target_os = "linux", target_os = "android"))))]
mod by_std;

// What POSIX has.
#[cfg(all(unix, not(any(miri, barrierd_plain))))]
#[cfg_attr(
    barrierd_loom,
    allow(dead_code, reason = "`epoch` uses it, which is not there under loom")
)]
mod posix;

// `unix.rs` has it in the place of none.
#[cfg(all(target_os = "freebsd", target_arch = "x86_64", not(any(miri, barrierd_plain))))]
pub(crate) mod freebsd;

// Code that a fork or `dlclose` can't reach is on the other systems.
#[cfg(all(unix, not(any(miri, barrierd_plain))))]
mod loaded;

/// The daemon's client, which runs on 64-bit little-endian Linux; elsewhere the same names, without values.
#[cfg(all(
    target_os = "linux",
    target_pointer_width = "64",
    target_endian = "little",
    not(any(miri, barrierd_plain))
))]
pub(crate) use barrierd_client as client;
#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    target_endian = "little",
    not(any(miri, barrierd_plain))
)))]
#[path = "no_client.rs"]
pub(crate) mod client;

#[cfg(not(barrierd_loom))]
pub(crate) use system::WaitQueue;
#[cfg_attr(
    barrierd_loom,
    allow(unused_imports, reason = "`epoch` uses them, which is not there under loom")
)]
pub(crate) use system::{
    at_exit, become_ordinary, in_children, mark, membarrier, now_ns, own_tid, process_id,
    stay_loaded,
};

/// Whether the daemon's client runs here.
pub(crate) const HAS_CLIENT: bool = cfg!(all(
    target_os = "linux",
    target_pointer_width = "64",
    target_endian = "little",
    not(any(miri, barrierd_plain))
));

/// Whether threads can be started. On wasm32 not, or not for certain.
pub(crate) const HAS_THREADS: bool = !cfg!(target_family = "wasm");

/// Whether a background thread is started that nobody asked for.
pub(crate) const THREADS_UNASKED: bool = HAS_THREADS && !cfg!(any(miri, barrierd_plain));

/// Whether a thread can wait for time to go by: there is a clock, and `std::thread::sleep`.
pub(crate) const CAN_SLEEP: bool =
    !cfg!(all(target_family = "wasm", target_os = "unknown")) || cfg!(any(miri, barrierd_plain));

/// What a barrier for the whole process may answer.
#[cfg_attr(
    any(miri, barrierd_plain, not(any(target_os = "linux", target_os = "android"))),
    allow(dead_code, reason = "some systems never refuse, or have none")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The system has no such barrier.
    Unsupported,
    /// It may not be used by this process. The error is the system's.
    Forbidden(i32),
    /// It failed, with this error of the system's.
    Failed(i32),
}
