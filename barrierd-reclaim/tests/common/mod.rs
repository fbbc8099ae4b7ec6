//! What several test programs need.
#![allow(dead_code, reason = "not every test program needs all of it")]

pub(crate) mod alone;
#[cfg(target_os = "linux")]
pub(crate) mod child;
#[cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little"))]
pub(crate) mod forged;
#[cfg(target_os = "linux")]
pub(crate) mod seccomp;
pub(crate) mod sources;
