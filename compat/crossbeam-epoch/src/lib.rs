//! The interface of crossbeam-epoch 0.9, on [`barrierd_reclaim`]: for `[patch.crates-io]`.
//!
//! All of it is [`barrierd_reclaim::epoch`], whose documentation says what is different. What the
//! original has not ([`configure`], [`drain`]) is there as well, and the whole library as
//! [`barrierd_reclaim`].

#[allow(deprecated, reason = "the original has these names still")]
pub use barrierd_reclaim::epoch::*;

pub use barrierd_reclaim;
