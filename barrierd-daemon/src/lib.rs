//! The daemon's parts: `barrierd` is [`cli`] and [`daemon`] put together.
//!
//! This file owns the list of parts; the road through them is the crate's:
//!
//! | part | owns |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`daemon`] | the set-up, and the round of scan, publish, arm, wait |
//! | [`machine`] | pure: what a scan lets it publish |
//! | [`pace`] | pure: when to scan next |
//! | [`kernel`] | libbpf: load, attach, map |
//! | [`shared_words`] | the words shared with BPF, and their orderings |
//! | [`proof`] | whether tracing works |
//! | [`online`], [`cpulist`] | which CPUs there are; the syntax of their lists |
//! | [`tracepoint`] | the tracepoints that the command line names |
//! | [`lock`] | one daemon a file |
//! | [`public_file`], [`inheritance`] | the file found or made; pure: what to do with an old one |
//! | [`publisher`] | the words of the file, in order, and futex wake-ups |
//! | [`words`] | mapped memory as atomic words |
//! | [`clock`] | the clock, and times that serve as evidence |
//! | [`signals`], [`report`] | how it stops; what it says |
//!
//! It is a library so that tests and benchmarks reach the parts. The pure ones need no root.

pub mod cli;
pub mod clock;
pub mod cpulist;
pub mod daemon;
pub mod inheritance;
pub mod kernel;
pub mod lock;
pub mod machine;
pub mod online;
pub mod pace;
pub mod proof;
pub mod public_file;
pub mod publisher;
pub mod report;
pub mod shared_words;
pub mod signals;
pub mod tracepoint;
pub mod words;
