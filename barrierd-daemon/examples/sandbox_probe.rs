//! Enters the daemon's own sandbox, once a child, and tries what is allowed and what is not.
//!
//! For `tests/sandbox.rs`, which runs it as root: a program of its own, because a test harness has
//! threads. Every case comes from the table in `seccomp_policy`, or is every system call that has no row.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use barrierd_daemon::account::{Account, DEFAULT_ID};
use barrierd_daemon::clock;
use barrierd_daemon::sandbox::{Seccomp, enter, leave};
use barrierd_daemon::seccomp_policy::{Descriptors, Role, Row, TABLE, When};
use libseccomp::ScmpSyscall;

/// Beyond the last system call of any kernel so far.
const NUMBERS: i64 = 600;

/// What an intruder would want. Each has to be denied by having no row at all.
const WANTED_BY_INTRUDERS: &[&str] = &[
    "bpf",
    "open",
    "openat",
    "openat2",
    "socket",
    "connect",
    "accept4",
    "bind",
    "sendmsg",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "execve",
    "execveat",
    "clone",
    "clone3",
    "fork",
    "vfork",
    "mmap",
    "mprotect",
    "mremap",
    "setuid",
    "setresuid",
    "setgid",
    "capset",
    "seccomp",
    "kill",
    "tgkill",
    "tkill",
    "pidfd_send_signal",
    "perf_event_open",
    "dup",
    "dup2",
    "dup3",
    "fcntl",
    "close",
    "pwrite64",
    "writev",
    "pipe2",
    "memfd_create",
    "unshare",
    "setns",
    "mount",
    "chroot",
    "io_uring_setup",
    "userfaultfd",
    "setrlimit",
    "prlimit64",
    "sched_setaffinity",
    "ftruncate",
    "unlink",
    "chmod",
    "fchmod",
    "keyctl",
    "init_module",
];

/// uretprobe and uprobe of x86-64: kernel/seccomp.c lets them through whatever the filter says.
/// Outside of the kernel's own trampolines they do nothing (SIGILL, and ENXIO).
const NEVER_FILTERED: &[i64] = if cfg!(target_arch = "x86_64") { &[335, 336] } else { &[] };

type Arguments = [u64; 6];
type Attempt = fn() -> std::io::Result<()>;

/// What a child came to.
fn child(run: impl FnOnce()) -> ExitStatus {
    // SAFETY: this process has one thread, so the child is as whole as its parent.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        run();
        leave(0);
    }
    let mut status = 0;
    // SAFETY: `status` is an int for it to write.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    ExitStatus::from_raw(status)
}

fn call(number: i64, a: Arguments) -> i64 {
    // SAFETY: the callers pass null pointers and lengths of zero beside what a row asks for, so
    // where the kernel does not deny the call, it has no memory to touch.
    unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) }
}

fn number(name: &str) -> i64 {
    ScmpSyscall::from_name(name).expect(name).as_raw_syscall().into()
}

struct Probe {
    account: Account,
    descriptors: Descriptors,
    foreign: u64,
    done: usize,
    failed: usize,
}

impl Probe {
    fn inside(&self, seccomp: Seccomp, run: impl FnOnce()) -> ExitStatus {
        child(|| {
            if let Err(error) = enter(self.account, seccomp, &self.descriptors) {
                eprintln!("{error:#}");
                leave(99);
            }
            run();
        })
    }

    fn expect(&mut self, what: &str, right: bool, status: ExitStatus) {
        self.done += 1;
        if !right {
            self.failed += 1;
            println!("FAILED: {what}: {status}");
        }
    }

    fn survives(&mut self, what: &str, run: impl FnOnce()) {
        let status = self.inside(Seccomp::Enforce, run);
        self.expect(&format!("{what} should be allowed"), status.code() == Some(0), status);
    }

    fn dies(&mut self, what: &str, number: i64, arguments: Arguments) {
        let status = self.inside(Seccomp::Enforce, || {
            call(number, arguments);
        });
        let killed = status.signal() == Some(libc::SIGSYS);
        self.expect(&format!("{what} should be killed"), killed, status);
    }

    /// Arguments that the row allows, or with condition `broken` not met.
    fn arguments(&self, row: &Row, broken: Option<usize>) -> Arguments {
        // One entry at a null address: poll fails at once instead of waiting for ever.
        let mut arguments = if row.call == "ppoll" { [0, 1, 0, 0, 0, 0] } else { [0; 6] };
        for (i, when) in row.when.iter().enumerate() {
            let broken = broken == Some(i);
            match *when {
                When::On(role) => {
                    arguments[0] = if broken { self.foreign } else { self.descriptors.of(role)[0] };
                }
                When::Is(argument, value) => {
                    arguments[usize::try_from(argument).expect("small")] =
                        if broken { value ^ 0x80 } else { value };
                }
            }
        }
        arguments
    }

    fn the_table(&mut self) {
        for row in TABLE {
            let what = format!("{} {:?}", row.call, row.when);
            if row.call == "rt_sigreturn" {
                self.comes_back_from_a_handler(&what);
            } else {
                let arguments = self.arguments(row, None);
                self.survives(&what, || {
                    call(number(row.call), arguments);
                });
            }
            for broken in 0..row.when.len() {
                let arguments = self.arguments(row, Some(broken));
                let what = format!("{} {arguments:?}, not {:?}", row.call, row.when[broken]);
                self.dies(&what, number(row.call), arguments);
            }
        }
    }

    /// By itself rt_sigreturn goes nowhere: a signal has to come first.
    fn comes_back_from_a_handler(&mut self, what: &str) {
        let status = child(|| {
            let came = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(libc::SIGALRM, came.clone()).expect("a handler");
            // SAFETY: touches no memory.
            unsafe { libc::alarm(1) };
            enter(self.account, Seccomp::Enforce, &self.descriptors).expect("entered");
            // No entries and no time: until a signal comes.
            call(number("ppoll"), [0; 6]);
            leave(if came.load(Ordering::Relaxed) { 0 } else { 98 });
        });
        self.expect(&format!("{what} should be allowed"), status.code() == Some(0), status);
    }

    /// Every number that no row names, and every name that intruders want.
    fn everything_else(&mut self) {
        for name in WANTED_BY_INTRUDERS {
            assert!(TABLE.iter().all(|row| row.call != *name), "{name} has a row");
        }
        let allowed: Vec<i64> = TABLE.iter().map(|row| number(row.call)).collect();
        let known = [&allowed, NEVER_FILTERED].concat();
        for number in (0..NUMBERS).filter(|number| !known.contains(number)) {
            self.dies(&format!("system call {number}"), number, [0; 6]);
        }
        // ioctl has rows for two requests on a kick's event: none other, and on nothing else.
        let kick = self.descriptors.of(Role::Kick)[0];
        for request in (0x2400..0x2410).filter(|request| ![0x2400, 0x2401].contains(request)) {
            self.dies(
                &format!("ioctl {request:#x} on an event"),
                libc::SYS_ioctl,
                [kick, request, 0, 0, 0, 0],
            );
        }
        // prctl sets this thread's name, and nothing else.
        for option in (1..80).filter(|option| *option != 15) {
            self.dies(&format!("prctl {option}"), libc::SYS_prctl, [option, 0, 0, 0, 0, 0]);
        }
        self.dies("TIOCSTI on the log", libc::SYS_ioctl, [2, libc::TIOCSTI, 0, 0, 0, 0]);
        // The same calls by their x32 numbers.
        #[cfg(target_arch = "x86_64")]
        for number in allowed {
            self.dies(&format!("x32 system call {number}"), number | 1 << 30, [0; 6]);
        }
    }

    /// What holds without the filter.
    fn the_rest(&mut self) {
        let failures: [(&str, i32, Attempt); 5] = [
            ("opening a file", libc::EMFILE, || File::open("/dev/null").map(drop)),
            ("a socket", libc::EMFILE, || UnixDatagram::unbound().map(drop)),
            // SAFETY: a child, if there were one, ends right here.
            ("a fork", libc::EAGAIN, || match unsafe { libc::fork() } {
                -1 => Err(std::io::Error::last_os_error()),
                0 => leave(0),
                _ => Ok(()),
            }),
            ("being root again", libc::EPERM, || {
                // SAFETY: changes numbers in the kernel, no memory.
                match unsafe { libc::setresuid(0, 0, 0) } {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            }),
            ("a new limit", libc::EPERM, || {
                let most = libc::rlimit { rlim_cur: 99, rlim_max: 99 };
                // SAFETY: reads one `rlimit`, which `most` is.
                match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const most) } {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            }),
        ];
        for (what, errno, attempt) in failures {
            let status = self.inside(Seccomp::Off, || {
                let found = attempt().err().and_then(|error| error.raw_os_error());
                leave(if found == Some(errno) { 0 } else { 97 });
            });
            self.expect(&format!("{what} should fail"), status.code() == Some(0), status);
        }
        let status = self.inside(Seccomp::Log, || {
            call(number("getppid"), [0; 6]);
        });
        self.expect("what is only logged should go on", status.code() == Some(0), status);
        self.survives("a sleep", || clock::sleep(50_000));
        let status = self.inside(Seccomp::Enforce, || panic!("this panic is part of the test"));
        self.expect("a panic should end it with 101", status.code() == Some(101), status);
    }
}

fn main() -> ExitCode {
    let open = |path| File::open(path).expect(path);
    let foreign = open("/etc/passwd");
    let (stop, _other) = UnixStream::pair().expect("a pair");
    let (requests, supervisor) = UnixDatagram::pair().expect("a pair");
    let (log, _reader) = UnixStream::pair().expect("a pair");
    supervisor.set_nonblocking(true).expect("set");
    requests.set_nonblocking(true).expect("set");
    let online = open("/sys/devices/system/cpu/online");
    // It is not on every kernel.
    let isolated = open("/sys/devices/system/cpu/isolated");
    let kicks = [(); 5].map(|()| open("/dev/null"));
    let mut descriptors = Descriptors::default()
        .with(Role::Log, &std::io::stderr())
        .with(Role::LogSocket, &log)
        .with(Role::Stop, &stop)
        .with(Role::Online, &online)
        .with(Role::Isolated, &isolated)
        .with(Role::Requests, &requests)
        .with(Role::Supervisor, &supervisor);
    for kick in &kicks {
        descriptors = descriptors.with(Role::Kick, kick);
    }
    let mut probe = Probe {
        account: Account { uid: DEFAULT_ID, gid: DEFAULT_ID },
        descriptors,
        foreign: u64::try_from(foreign.as_raw_fd()).expect("open"),
        done: 0,
        failed: 0,
    };
    probe.the_table();
    probe.everything_else();
    probe.the_rest();
    println!("{} tried, {} failed", probe.done, probe.failed);
    if probe.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
