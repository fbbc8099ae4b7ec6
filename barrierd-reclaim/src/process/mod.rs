//! Events of the process: forks, code that is unloaded, and the attributes of a thread that it starts.
//!
//! Owns the statics and the thread attributes that these need. Knows nothing of the rest of the crate.

pub(crate) mod fork;
pub(crate) mod loaded;
pub(crate) mod ordinary;

use rustix::thread::gettid;

/// Returns the kernel's number of the calling thread.
pub(crate) fn own_tid() -> u32 {
    gettid().as_raw_nonzero().get().unsigned_abs()
}
