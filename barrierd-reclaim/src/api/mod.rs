//! What users call: reclaimers and handles, guards, hazards, and the ways to retire.
//!
//! This folder owns the public types and their contracts, and nothing that happens after a call has begun. It may
//! know every other folder except `epoch`, which stands beside it. No other folder may know it.

pub(crate) mod builder;
mod global;
pub(crate) mod guard;
pub(crate) mod handle;
pub(crate) mod hazard;
pub(crate) mod held;
pub(crate) mod owned;
pub(crate) mod reclaimer;
pub mod recycle;
pub(crate) mod robust;
mod variants;
