//! Filters for system calls, for good: for processes of their own.

fn load(offset: u32) -> libc::sock_filter {
    libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: offset }
}

/// Else skips `jf`.
fn equals(k: u32, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: 0x15, jt: 0, jf, k }
}

fn answer(k: u32) -> libc::sock_filter {
    libc::sock_filter { code: 0x06, jt: 0, jf: 0, k }
}

/// The answer that says EPERM.
pub(crate) const EPERM: u32 = libc::SECCOMP_RET_ERRNO | 1;

/// EPERM for these, in all threads.
pub(crate) fn forbid(calls: &[libc::c_long]) {
    let mut filter = vec![load(0)]; // seccomp_data.nr
    for &call in calls {
        filter.push(equals(u32::try_from(call).unwrap(), 1));
        filter.push(answer(EPERM));
    }
    install(filter);
}

/// The answer `then` for a call with these first arguments, each of 32 bits, in all threads.
pub(crate) fn answer_to(call: libc::c_long, arguments: &[u32], then: u32) {
    let mut filter = vec![load(0), equals(u32::try_from(call).unwrap(), 0)];
    for (n, &argument) in arguments.iter().enumerate() {
        // seccomp_data.args, little-endian.
        filter.push(load(16 + 8 * u32::try_from(n).unwrap()));
        filter.push(equals(argument, 0));
    }
    filter.push(answer(then));
    // Whatever differs: past the answer.
    let end = filter.len();
    for (at, step) in filter.iter_mut().enumerate().filter(|(_, step)| step.code == 0x15) {
        step.jf = u8::try_from(end - at - 1).unwrap();
    }
    install(filter);
}

fn install(mut filter: Vec<libc::sock_filter>) {
    filter.push(answer(libc::SECCOMP_RET_ALLOW));
    let len = u16::try_from(filter.len()).unwrap();
    let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    // SAFETY: sets a flag of this process.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program lives during the call, which copies it.
    let set = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &program,
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}
