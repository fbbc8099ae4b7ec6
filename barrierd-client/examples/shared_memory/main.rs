//! Two unrelated processes and one piece of shared memory: one reads without a fence, the other waits for
//! the barrier before it reuses memory, and either may be killed at any moment. No scheme that lives
//! inside one process can do this: its epochs and locks are held for ever by whoever dies in them, and
//! `membarrier(2)` in its private form reaches the caller's own threads alone. (Its global forms reach
//! others as well, at the price of a system call that interrupts, or waits for, every CPU each time.)
//!
//! ```text
//! shared_memory writer /dev/shm/demo [/run/barrierd/barrier]     as often as you like, one at a time
//! shared_memory reader /dev/shm/demo                             up to 16 at once
//! ```
//!
//! Kill any of them with `kill -9`, start them again, watch the others go on. This file owns the command
//! line; `region.rs` the memory and who is alive, `reader.rs` and `writer.rs` the two roles.
//!
//! # What is in the memory
//!
//! Eight *nodes*, each 64 words that belong together; the index of the *current* one; sixteen *slots*, one
//! a reader, each the node that its reader may be looking at.
//!
//! - **Reader**: slot = node, *no fence*, is the node still current? Then read it, then clear the slot.
//! - **Writer**: fill a node that nobody has, make it current; stamp; *wait for the barrier*; the former
//!   node is free once no living reader's slot names it.
//!
//! # Why a node that is in use is never overwritten
//!
//! Let the writer replace node N, stamp t, and the barrier for t pass: every CPU was at a full memory
//! barrier after t. Take a reader that got N, and its second look at `current`, which still said N.
//!
//! 1. Its CPU's barrier came before that look. Then the look sees what was stored before t: N is not
//!    current. It did not get N.
//! 2. Its CPU's barrier came after that look, hence after its slot's store, which stands before the look
//!    in the program. So the store is visible to the writer, whose look at the slots follows the barrier:
//!    it sees N there, or a later store of that slot, by which the reader was done with N (a Release, and
//!    the writer's load an Acquire: its reads happen before the reuse).
//!
//! That is all that the daemon is for, and it works between processes since it watches CPUs, not threads.
//!
//! # Why a death is safe, and noticed
//!
//! Each process holds a lock on a byte of the file that stands for its role, by a file description of its
//! own (`F_OFD_SETLK`). The kernel drops such a lock with the last reference to the description, and one
//! reference is the mapping's: the lock outlasts every access that the mapping allows, however the process
//! ends, and goes when it has ended. So "nobody holds the lock" says: whoever had this role will never
//! touch the memory again; and since that was learned under the kernel's own spinlocks, all that it did
//! there happened before what the finder does next. No process id is looked at: those are reused, and mean
//! nothing in another pid namespace. (A child that such a process forks has the mapping too, so the role
//! counts as alive until that has ended or called `exec`.)
//!
//! - **A reader dies in its section.** Its slot names N for ever. The writer finds the slot's lock free and
//!   passes the slot over. Might a new reader have taken the slot just then, and N? It holds the lock
//!   first and looks at `current` then; the writer found the lock free after the barrier, so that look
//!   comes after it and does not say N.
//! - **A reader hangs** (SIGSTOP): it is alive, N stays its own, and the writer makes do with seven others.
//! - **The writer dies**, at any step. Readers need nothing of it: the current node stays. The next writer
//!   holds the lock, so the old one's stores are visible to it; it knows of no node but the current one
//!   whether readers have it, so it stamps *now*, waits for that barrier, and then looks at the slots. A
//!   node that was half filled is not current, so nobody has it.
//! - **The daemon dies**: no barrier passes, nothing is reused, readers go on. The writer says so, opens
//!   the barrier file again if the path leads to another, and goes on when a daemon does.
//!
//! The two trust each other with the memory: whoever may write to it may break it. It must not shrink
//! (SIGBUS): the file is made 0600, by `fallocate`.
//!
//! # See it fail
//!
//! `writer ... --without barrier` and `--without slots` leave out one half, `reader ... --clutter` keeps its
//! CPU's store buffer full, so that its slot's store is late: readers then find a node changed under their
//! hands, say so and exit with status 1.

mod reader;
mod region;
mod writer;

use std::process::ExitCode;

use barrierd_client::abi;

const USAGE: &str = "usage: shared_memory writer MEMORY [BARRIER_FILE] [--without barrier|slots]
       shared_memory reader MEMORY [--hold] [--clutter]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["writer", memory] => writer::run(memory, abi::DEFAULT_PATH, writer::Leave::Nothing),
        ["writer", memory, barrier] => writer::run(memory, barrier, writer::Leave::Nothing),
        ["writer", memory, barrier, "--without", "barrier"] => {
            writer::run(memory, barrier, writer::Leave::Barrier)
        }
        ["writer", memory, barrier, "--without", "slots"] => {
            writer::run(memory, barrier, writer::Leave::Slots)
        }
        ["reader", memory] => reader::run(memory, reader::Manner::Plain),
        ["reader", memory, "--hold"] => reader::run(memory, reader::Manner::Hold),
        ["reader", memory, "--clutter"] => reader::run(memory, reader::Manner::Clutter),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shared_memory: {error}");
            ExitCode::FAILURE
        }
    }
}
