//! The sources of barriers that this target has, the daemon left out.
#![allow(dead_code, reason = "not every test program needs all of it")]

use barrierd_reclaim::Source;

/// Whether barriers can be bought. Not on Wine, so Windows is left out.
pub(crate) const BOUGHT: bool = cfg!(all(target_os = "linux", not(barrierd_plain)));

/// Whether the daemon's client runs here.
pub(crate) const HAS_CLIENT: bool = cfg!(all(
    target_os = "linux",
    target_pointer_width = "64",
    target_endian = "little",
    not(barrierd_plain)
));

pub(crate) const SOURCES: &[Source] =
    if BOUGHT { &[Source::Membarrier, Source::Fence] } else { &[Source::Fence] };
