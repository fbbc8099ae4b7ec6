//! The structures' steps and their proofs, for any scheme that protects one pointer at a time (`protect.rs`): the code that
//! loom runs.

pub(crate) mod queue;
pub(crate) mod stack;
