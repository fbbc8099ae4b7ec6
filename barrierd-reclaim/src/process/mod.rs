//! Events of the process: forks.
//!
//! Owns the statics that these need. Knows nothing of the rest of the crate.

pub(crate) mod fork;
