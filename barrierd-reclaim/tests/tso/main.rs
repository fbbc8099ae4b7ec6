//! The protocols on an x86-TSO machine: every state of small worlds, random walks through larger ones,
//! and the mutants that must be found. See docs/testing.md, "Models".

mod bought;
mod collected;
mod dormant;
mod held;
mod kernel;
mod machine;
mod passive;
mod programs;
mod slewed;
mod takeover;
mod vtime;
mod walks;
