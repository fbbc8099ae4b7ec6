//! The interface of crossbeam-epoch 0.9, on [`barrierd_reclaim`]: for `[patch.crates-io]`.
//!
//! All of it is [`barrierd_reclaim::epoch`], whose documentation says what is different. What the
//! original has not ([`configure`], [`drain`]) is there as well, and the whole library as
//! [`barrierd_reclaim`].
//!
//! With the feature `loom` and `--cfg crossbeam_loom` it runs under loom, as the original does: see `under_loom`.

#[cfg(not(crossbeam_loom))]
#[allow(deprecated, reason = "the original has these names still")]
pub use barrierd_reclaim::epoch::*;

#[cfg(not(crossbeam_loom))]
pub use barrierd_reclaim;

#[cfg(all(crossbeam_loom, not(feature = "loom")))]
compile_error!(
    "--cfg crossbeam_loom needs crossbeam-epoch's feature `loom`, here as in the original"
);

#[cfg(all(crossbeam_loom, feature = "loom"))]
mod under_loom;
#[cfg(all(crossbeam_loom, feature = "loom"))]
#[allow(deprecated, reason = "the original has these names still")]
pub use under_loom::*;
