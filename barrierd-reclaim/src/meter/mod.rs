//! Counts for reports: they order nothing and prove nothing.

pub(crate) mod ledger;
pub(crate) mod stats;
pub(crate) mod tally;
