//! What the C library of every Unix calls back.

use core::ffi::c_int;

unsafe extern "C" {
    /// ISO C: registers a function to call at a normal end of the process. A result other than 0 means that there is
    /// no room for it.
    safe fn atexit(call: extern "C" fn()) -> c_int;

    /// POSIX: registers functions that each `fork` calls on the thread that forks. A result other than 0 means that
    /// there is no room for them.
    safe fn pthread_atfork(
        before: Option<extern "C" fn()>,
        in_the_parent: Option<extern "C" fn()>,
        in_the_child: Option<extern "C" fn()>,
    ) -> c_int;
}

/// Has `call` called when `main` returns or a thread calls `exit`. If there is no room for it, nothing is called.
pub(crate) fn at_exit(call: extern "C" fn()) {
    let _ = atexit(call);
}

/// Has `call` called at the beginning of each child by `fork`, and of their children. Returns whether there was room for
/// it.
pub(crate) fn in_children(call: extern "C" fn()) -> bool {
    pthread_atfork(None, None, Some(call)) == 0
}
