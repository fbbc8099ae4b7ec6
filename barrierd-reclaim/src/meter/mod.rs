//! What is counted, for reports: it orders nothing and proves nothing.

pub(crate) mod ledger;
pub(crate) mod stats;
pub(crate) mod tally;
