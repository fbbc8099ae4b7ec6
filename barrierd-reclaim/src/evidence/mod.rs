//! Where barriers come from: the daemon's files, membarrier, fences, and which of them serves.
//!
//! Owns watermarks and purchases. Knows the protocol's words, and nothing of queues, records or domains.

pub(crate) mod barriers;
pub(crate) mod daemons;
pub(crate) mod mapped;
pub(crate) mod membarrier;
pub(crate) mod purchase;
pub(crate) mod source;
pub(crate) mod status;
