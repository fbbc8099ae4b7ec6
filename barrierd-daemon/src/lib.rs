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
//! | [`laggards`], [`requests`], [`bucket`] | pure: whom to kick, what a request is worth, how often |
//! | [`kick`], [`socket`] | perf events that interrupt a CPU; the socket for requests |
//! | [`kernel`] | libbpf: load, attach, map |
//! | [`shared_words`] | the words shared with BPF, and their orderings |
//! | [`idle`] | which CPUs are idle, by the kernel's own word |
//! | [`proof`] | whether tracing works |
//! | [`online`], [`cpulist`] | which CPUs there are; the syntax of their lists |
//! | [`isolated`] | which CPUs are isolated, at boot and since |
//! | [`tracepoint`] | the tracepoints that the command line names |
//! | [`lock`] | one daemon a file |
//! | [`public_file`], [`write_lock`] | the file found or made, locked |
//! | [`recognition`], [`inheritance`] | pure: what may be replaced, what can be gone on with |
//! | [`publisher`] | the words of the file, in order |
//! | [`waker`] | futex wake-ups, so many and no more |
//! | [`counter_section`], [`straggler`] | the counters after them; pure: who holds a round up |
//! | [`words`] | mapped memory as atomic words |
//! | [`clock`] | the clock, and times that serve as evidence |
//! | [`sandbox`], [`seccomp_policy`], [`account`] | what it gives up after set-up; the system calls left; whom it goes on as |
//! | [`notify`] | what it tells the supervisor |
//! | [`signals`], [`report`], [`log`] | how it stops; what it says; how that is written |
//!
//! It is a library so that tests and benchmarks reach the parts. The pure ones need no root.

pub mod account;
pub mod bucket;
pub mod cli;
pub mod clock;
pub mod counter_section;
pub mod cpulist;
pub mod daemon;
pub mod group;
pub mod idle;
pub mod inheritance;
pub mod isolated;
pub mod kernel;
pub mod kick;
pub mod laggards;
pub mod lock;
pub mod log;
pub mod machine;
pub mod notify;
pub mod online;
pub mod pace;

pub mod proof;
pub mod public_file;
pub mod publisher;
pub mod recognition;
pub mod report;
pub mod requests;
pub mod sandbox;
pub mod seccomp_policy;
pub mod shared_words;
pub mod signals;
pub mod socket;
pub mod straggler;
pub mod tracepoint;
pub mod waker;
pub mod words;
pub mod write_lock;
