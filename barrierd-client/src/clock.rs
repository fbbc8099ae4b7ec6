//! The one clock: `CLOCK_MONOTONIC` in nanoseconds, through the kernel's vDSO.
//!
//! This module owns the conversion to one number; it knows nothing of stamps or of fences.
//! Never `CLOCK_MONOTONIC_COARSE` (late by a tick) and never a raw counter (not this time scale,
//! and not ordered after a fence on every machine). rustix calls the vDSO itself, so a clock that
//! is replaced by `LD_PRELOAD` (libfaketime) isn't consulted.

use rustix::time::{ClockId, clock_gettime};

const NS_PER_S: u64 = 1_000_000_000;

/// Returns the time in nanoseconds of `CLOCK_MONOTONIC`, the daemon's clock.
///
/// While the kernel slews the clock, a reading may be less than an earlier one, by no fixed bound. Nothing
/// here rests on the readings' order: what the daemon publishes is below every later reading.
///
/// It orders nothing: see [`Stamp::now`](crate::Stamp::now) for the fence. It costs one vDSO call, about
/// 25 ns, or a system call where the kernel's clock source can't be read from user space.
///
/// ```
/// let earlier = barrierd_client::clock::now_ns();
/// std::thread::sleep(std::time::Duration::from_millis(2));
/// assert!(barrierd_client::clock::now_ns() > earlier + 1_000_000);
/// ```
#[inline]
#[must_use]
#[expect(clippy::cast_sign_loss, reason = "the kernel counts from boot: neither part is negative")]
pub fn now_ns() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    t.tv_sec as u64 * NS_PER_S + t.tv_nsec as u64
}
