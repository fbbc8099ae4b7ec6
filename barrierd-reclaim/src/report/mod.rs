//! What people hear of: who blocks, who stalls, what presses, and the events of the feature `tracing`.
//!
//! Owns reports and their wording. Looks at an engine; nothing of what it finds is a proof.

pub(crate) mod blockers;
pub(crate) mod pressure;
pub(crate) mod stalled;
pub(crate) mod told;
pub(crate) mod trace;
