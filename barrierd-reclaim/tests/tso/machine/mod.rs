//! An x86-TSO machine, small enough to be searched completely.
//!
//! Each CPU has a store buffer, first in first out, which drains at any moment. Loads find the stores of their
//! CPU's own buffer first; fences, locked operations, interrupts and task switches wait until it is
//! empty. Threads are straight-line programs ([`Op`]) over a shared memory of bytes. A CPU takes the
//! daemon's events, goes idle and comes back, and a thread may come back on another CPU. The kernel may
//! update the clock's rate, in two halves, so that it steps back.
//!
//! This folder owns the machine and the search, and knows no protocol. What loom can't show is shown here: a load that
//! overtakes the store before it, and any number of interrupts on any CPU. This file says what a world and its state
//! are, `moves.rs` what may happen in it, and `search.rs` looks at every state.

#![allow(
    clippy::cast_possible_truncation,
    reason = "everything is small here, and bytes keep it so"
)]

mod moves;
mod search;

use std::fmt;

pub(crate) use search::{search, walk};

pub(crate) const WORDS: usize = 24;
pub(crate) const CPUS: usize = 4;
pub(crate) const THREADS: usize = 5;
const REGS: usize = 10;
const BUFFER: usize = 4;
/// What the clock that ties shows at first: more than the first era.
const FIRST_COARSE: u8 = 2;

/// A word of memory.
pub(crate) type Addr = u8;
/// A thread's register.
pub(crate) type Reg = u8;
/// A CPU's slot in the daemon's map while it idles.
pub(crate) const IDLE: u8 = u8::MAX;
/// Nothing runs on a CPU.
const NOBODY: u8 = u8::MAX;

/// What the kernel side reads and writes: `armed`, and a slot for each CPU.
pub(crate) const ARMED: Addr = 0;
pub(crate) const KERNEL: Addr = 1;
/// What the kernel itself says of each CPU when it is asked: IDLE while it is in its idle task, else 0.
pub(crate) const IDLE_TASK: Addr = (WORDS - CPUS) as u8;
/// The first word that programs may give a meaning to.
pub(crate) const FREE: Addr = KERNEL + CPUS as u8;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Val {
    Const(u8),
    Reg(Reg),
}

/// The condition under which an operation is done; otherwise it is skipped.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    Always,
    Is(Reg, u8),
    Not(Reg, u8),
    Same(Reg, Reg),
    Other(Reg, Reg),
    Below(Reg, Reg),
    NotBelow(Reg, Reg),
}

/// One step of a thread. Those of the second group touch only registers, and come with the step before
/// them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Load(Reg, Addr),
    /// A load that comes out only once the word is greater than the second register.
    Await(Reg, Addr, Reg),
    /// The same, once it equals the value.
    AwaitIs(Addr, u8),
    Store(Addr, Val),
    Fence,
    /// A locked exchange of the word for the greater of the two; the register gets that.
    Max(Addr, Reg),
    /// A locked exchange of the word for the greater of the register and what comes after the word; the
    /// register gets that.
    Beyond(Addr, Reg),
    /// A locked exchange; the register gets what was there.
    Swap(Reg, Addr, u8),
    /// A locked compare-exchange of the first value for the second; the register gets what was there.
    Cas(Reg, Addr, u8, u8),
    /// A barrier on another CPU, as `membarrier` does it.
    Interrupt(u8),
    Clock(Reg),
    /// A clock that two readings in a row may find the same.
    Coarse(Reg),
    /// The counter that the clock is made of: `CLOCK_MONOTONIC_RAW`.
    Raw(Reg),
    /// Waits until no update of the clock is under way: `adjtimex`.
    Lock,
    /// Reads the node that the register names.
    Use(Reg),
    /// Frees a node.
    Free(u8),
    /// The CPU that the thread runs on.
    Own(Reg),

    Set(Reg, Val),
    Min(Reg, Reg),
    /// The difference, 0 at least.
    Sub(Reg, Reg),
    /// The greater of the first, and the second and 1.
    Later(Reg, Reg),
    /// IDLE and offline stand for the scan's clock: the first register holds a slot, the second the
    /// clock.
    Credit(Reg, Reg),
    End,
}

#[derive(Clone, Copy)]
pub(crate) struct Step(pub(crate) When, pub(crate) Op);

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            When::Always => write!(f, "{:?}", self.1),
            when => write!(f, "{:?} when {when:?}", self.1),
        }
    }
}

pub(crate) type Program = Vec<Step>;

/// What runs where, and what the hardware may do.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) threads: Vec<Thread>,
    /// Words that are not 0 at the start.
    pub(crate) memory: Vec<(Addr, u8)>,
    /// CPUs with a slot, which take the daemon's events: one bit each.
    pub(crate) watched: u8,
    /// How often a watched CPU may switch its thread out, in all.
    pub(crate) switches: u8,
    /// How often the kernel may update the clock's rate, in all.
    pub(crate) updates: u8,
    /// Switches into the idle task and out of it may be missed: then the slot stays as it is.
    pub(crate) misses: bool,
    /// The switch from the idle task to a thread clears this word, and so wakes the daemon.
    pub(crate) asleep: Option<Addr>,
    /// Threads of which one must come to its end: a state where nothing happens any more before that
    /// is a violation.
    pub(crate) must_end: Vec<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct Thread {
    pub(crate) name: &'static str,
    pub(crate) cpu: u8,
    /// The CPUs where it may come back after it was switched out: one bit each.
    pub(crate) affinity: u8,
    pub(crate) program: Program,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Cpu {
    buffer: [(Addr, u8); BUFFER],
    stores: u8,
    current: u8,
    /// An event has loaded `armed` and not yet exchanged the slot.
    event: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    memory: [u8; WORDS],
    cpus: [Cpu; CPUS],
    pcs: [u8; THREADS],
    regs: [[u8; REGS]; THREADS],
    clock: u8,
    /// How often the clock was read: the counter, which moves with each reading.
    raw: u8,
    /// While the kernel updates the clock: what that showed when the update read the counter. Else 0.
    update: u8,
    freed: u8,
    switches: u8,
    updates: u8,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Step(u8),
    Drain(u8),
    EventLoads(u8),
    EventExchanges(u8),
    Aside(u8),
    Back(u8, u8),
    /// The same two, and the daemon's program doesn't run.
    AsideUnseen(u8),
    BackUnseen(u8, u8),
    UpdateReads,
    UpdateShows,
}

/// A use after free.
pub(crate) struct Wrong;

impl Cpu {
    /// What this CPU sees at `addr` beside the memory.
    fn forwarded(&self, addr: Addr) -> Option<u8> {
        let stores = self.buffer[..usize::from(self.stores)].iter().rev();
        stores.filter(|&&(at, _)| at == addr).map(|&(_, value)| value).next()
    }
}

impl World {
    /// Threads on CPUs that never change, without events.
    pub(crate) fn of(threads: Vec<Thread>, memory: &[(Addr, u8)]) -> World {
        World {
            threads,
            memory: memory.to_vec(),
            watched: 0,
            switches: 0,
            updates: 0,
            misses: false,
            asleep: None,
            must_end: Vec::new(),
        }
    }

    pub(crate) fn start(&self) -> State {
        let mut cpu = Cpu { buffer: [(0, 0); BUFFER], stores: 0, current: NOBODY, event: 0 };
        let mut cpus = [cpu; CPUS];
        for (number, thread) in (0..).zip(&self.threads) {
            cpu.current = number;
            cpus[usize::from(thread.cpu)] = cpu;
        }
        let mut memory = [0; WORDS];
        for (number, cpu) in cpus.iter().enumerate() {
            let idle = self.watched >> number & 1 == 1 && cpu.current == NOBODY;
            memory[usize::from(KERNEL) + number] = if idle { IDLE } else { 0 };
            memory[usize::from(IDLE_TASK) + number] = memory[usize::from(KERNEL) + number];
        }
        for &(addr, value) in &self.memory {
            memory[usize::from(addr)] = value;
        }
        let mut state = State {
            memory,
            cpus,
            pcs: [0; THREADS],
            regs: [[0; REGS]; THREADS],
            clock: 1,
            raw: 0,
            update: 0,
            freed: 0,
            switches: self.switches,
            updates: self.updates,
        };
        for thread in 0..self.threads.len() {
            self.settle(&mut state, thread);
        }
        state
    }
}
