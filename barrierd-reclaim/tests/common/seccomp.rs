//! Filters for system calls, for good: for processes of their own.

/// EPERM for these, in all threads.
pub(crate) fn forbid(calls: &[libc::c_long]) {
    let load = |offset| libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: offset };
    let equals = |k, jt, jf| libc::sock_filter { code: 0x15, jt, jf, k };
    let answer = |k| libc::sock_filter { code: 0x06, jt: 0, jf: 0, k };
    let errno = u32::try_from(libc::EPERM).unwrap();
    let mut filter = vec![load(0)]; // seccomp_data.nr
    for &call in calls {
        filter.push(equals(u32::try_from(call).unwrap(), 0, 1));
        filter.push(answer(libc::SECCOMP_RET_ERRNO | errno));
    }
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
