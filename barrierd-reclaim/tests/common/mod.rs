//! What several test programs need.
#![allow(dead_code, reason = "not every test program needs all of it")]

pub(crate) mod alone;
pub(crate) mod forged;
pub(crate) mod seccomp;
