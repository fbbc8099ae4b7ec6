//! What people hear of: who blocks, who stalls, and the events of the feature `tracing`.

pub(crate) mod blockers;
pub(crate) mod stalled;
pub(crate) mod trace;
