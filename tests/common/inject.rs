//! Makes another process close descriptors that it would never close itself, by ptrace: there is no
//! other way to detach its BPF programs under it, since links to tracepoints know no detaching.
//!
//! Owns the ptrace calls. x86-64 only. The process must not be under a filter that denies close(2).

use rustix::process::Pid;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;

/// Its BPF links: descriptor, and the tracepoint's name.
pub(crate) fn bpf_links(pid: Pid) -> Vec<(i32, String)> {
    let pid = pid.as_raw_nonzero();
    let mut links = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let fd = entry.unwrap().file_name().into_string().unwrap();
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
        let field = |name: &str| {
            info.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_string()))
        };
        if field("link_type:").is_some() {
            // A tp_btf program's link is a tracing link, which has no name here: sched_switch's.
            let name = field("tp_name:").unwrap_or_else(|| "sched_switch".into());
            links.push((fd.parse().unwrap(), name));
        }
    }
    links
}

/// Has the process, which sleeps in system calls most of the time, close `fds`; then it goes on.
pub(crate) fn close_all(pid: Pid, fds: &[i32]) {
    let pid = pid.as_raw_nonzero().get();
    let none = std::ptr::null_mut::<libc::c_void>();
    request(libc::PTRACE_SEIZE, pid, none);
    // In its wait, not between two instructions: only there two bytes back is `syscall`. On a busy machine it may
    // be anywhere else.
    let mut before = loop {
        request(libc::PTRACE_INTERRUPT, pid, none);
        stopped(pid);
        let found = registers(pid);
        // Not -1: stopped on the way out of a system call, and rip is behind it.
        if found.orig_rax >> 63 == 0 && is_syscall(pid, found.rip - 2) {
            break found;
        }
        request(libc::PTRACE_CONT, pid, none);
        std::thread::sleep(std::time::Duration::from_millis(1));
    };
    let saved = before;
    for &fd in fds {
        let mut call = saved;
        call.rip -= 2;
        call.rax = libc::SYS_close.unsigned_abs();
        call.orig_rax = u64::MAX;
        call.rdi = u64::try_from(fd).unwrap();
        request(libc::PTRACE_SETREGS, pid, (&raw mut call).cast());
        request(libc::PTRACE_SINGLESTEP, pid, none);
        stopped(pid);
        let after = registers(pid);
        assert_eq!(after.rax, 0, "close({fd}) in the daemon: {after:?}");
    }
    request(libc::PTRACE_SETREGS, pid, (&raw mut before).cast());
    request(libc::PTRACE_DETACH, pid, none);
}

fn is_syscall(pid: i32, address: u64) -> bool {
    let mut bytes = [0; 2];
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    memory.read_exact_at(&mut bytes, address).is_ok() && bytes == [0x0f, 0x05]
}

fn registers(pid: i32) -> libc::user_regs_struct {
    // SAFETY: plain integers, for which all zero is a value.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    request(libc::PTRACE_GETREGS, pid, (&raw mut registers).cast());
    registers
}

fn request(what: libc::c_uint, pid: i32, data: *mut libc::c_void) {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: `data` is null or points to a whole `user_regs_struct`, as `what` asks for.
    let done = unsafe { libc::ptrace(what, pid, none, data) };
    assert_eq!(done, 0, "ptrace {what}: {}", io::Error::last_os_error());
}

fn stopped(pid: i32) {
    let mut status = 0;
    // SAFETY: `status` is writable. __WALL and no threads: the process itself.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
    assert!(waited == pid && libc::WIFSTOPPED(status), "{waited} {status:#x}");
}
