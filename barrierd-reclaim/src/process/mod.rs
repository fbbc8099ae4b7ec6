//! What befalls the process: forks, code that is unloaded, and the attributes of a thread that it starts.
//!
//! Owns what each of these asks of a static or a thread. Knows nothing of the rest of the crate.

pub(crate) mod fork;
pub(crate) mod loaded;
pub(crate) mod ordinary;

use rustix::thread::gettid;

/// The calling thread, as the kernel numbers it.
pub(crate) fn own_tid() -> u32 {
    gettid().as_raw_nonzero().get().unsigned_abs()
}
