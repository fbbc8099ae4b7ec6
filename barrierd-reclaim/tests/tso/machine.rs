//! An x86-TSO machine, small enough to be searched completely.
//!
//! Each CPU has a store buffer, first in first out, which drains at any moment. Loads find the stores of their
//! CPU's own buffer first; fences, locked operations, interrupts and task switches wait until it is
//! empty. Threads are straight-line programs ([`Op`]) over a shared memory of bytes. A CPU takes the
//! daemon's events, goes idle and comes back, and a thread may come back on another CPU. The kernel may
//! update the clock's rate, in two halves, so that it steps back.
//!
//! This file owns the machine and the search; it knows no protocol. What loom can't show is shown
//! here: a load that overtakes the store before it, and any number of interrupts on any CPU.

#![allow(
    clippy::cast_possible_truncation,
    reason = "everything is small here, and bytes keep it so"
)]

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

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

    /// Nothing happens any more, and the threads of which one must end wait for ever.
    fn is_stuck(&self, state: &State, actions: &[Action]) -> bool {
        let waits =
            |&thread: &usize| usize::from(state.pcs[thread]) < self.threads[thread].program.len();
        actions.is_empty() && !self.must_end.is_empty() && self.must_end.iter().all(waits)
    }

    fn place(state: &State, thread: usize) -> Option<usize> {
        (0..CPUS).find(|&cpu| usize::from(state.cpus[cpu].current) == thread)
    }

    /// Whether the thread's next operation can be done now, on this CPU.
    fn ready(&self, state: &State, thread: usize, cpu: usize) -> bool {
        let Some(&Step(_, op)) = self.threads[thread].program.get(usize::from(state.pcs[thread]))
        else {
            return false;
        };
        let core = &state.cpus[cpu];
        let regs = &state.regs[thread];
        let seen = |addr: Addr| core.forwarded(addr).unwrap_or(state.memory[usize::from(addr)]);
        match op {
            Op::Await(_, addr, than) => seen(addr) > regs[usize::from(than)],
            Op::AwaitIs(addr, value) => seen(addr) == value,
            Op::Store(..) => usize::from(core.stores) < BUFFER,
            Op::Fence | Op::Max(..) | Op::Beyond(..) | Op::Swap(..) | Op::Cas(..) => {
                core.stores == 0
            }
            Op::Lock => state.update == 0,
            Op::Interrupt(other) => state.cpus[usize::from(other)].stores == 0,
            _ => true,
        }
    }

    /// Everything that may happen.
    pub(crate) fn actions(&self, state: &State, out: &mut Vec<Action>) {
        out.clear();
        for (number, cpu) in (0..).zip(&state.cpus) {
            if cpu.stores > 0 {
                out.push(Action::Drain(number));
            }
            if self.watched >> number & 1 == 1 {
                let slot = state.memory[usize::from(KERNEL + number)];
                if cpu.event != 0 {
                    if cpu.stores == 0 {
                        out.push(Action::EventExchanges(number));
                    }
                    continue;
                }
                let armed = state.memory[usize::from(ARMED)];
                // IDLE under a task: on_task_event in bpf/barrierd.bpf.c mends it.
                if cpu.current != NOBODY && slot != armed {
                    out.push(Action::EventLoads(number));
                }
                if cpu.current == NOBODY {
                    for (thread, Thread { affinity, .. }) in (0u8..).zip(&self.threads) {
                        let aside = World::place(state, usize::from(thread)).is_none();
                        let ready = || self.ready(state, usize::from(thread), usize::from(number));
                        if aside && affinity >> number & 1 == 1 && ready() {
                            out.push(Action::Back(number, thread));
                            if self.misses {
                                out.push(Action::BackUnseen(number, thread));
                            }
                        }
                    }
                } else if state.switches > 0 && cpu.stores == 0 {
                    out.push(Action::Aside(number));
                    if self.misses {
                        out.push(Action::AsideUnseen(number));
                    }
                }
            }
        }
        if state.update != 0 {
            out.push(Action::UpdateShows);
        } else if state.updates > 0 {
            out.push(Action::UpdateReads);
        }
        for thread in 0..self.threads.len() {
            let Some(cpu) = World::place(state, thread) else { continue };
            if state.cpus[cpu].event == 0 && self.ready(state, thread, cpu) {
                out.push(Action::Step(thread as u8));
            }
        }
    }

    pub(crate) fn act(&self, state: &mut State, action: Action) -> Result<(), Wrong> {
        match action {
            Action::Step(thread) => return self.step(state, usize::from(thread)),
            Action::Drain(cpu) => {
                let cpu = &mut state.cpus[usize::from(cpu)];
                let (addr, value) = cpu.buffer[0];
                cpu.buffer.rotate_left(1);
                cpu.buffer[BUFFER - 1] = (0, 0);
                cpu.stores -= 1;
                state.memory[usize::from(addr)] = value;
            }
            // bpf/shared.bpf.h: the event loads `armed`, and the exchange is the barrier.
            Action::EventLoads(cpu) => {
                state.cpus[usize::from(cpu)].event = state.memory[usize::from(ARMED)];
            }
            Action::EventExchanges(number) => {
                let cpu = &mut state.cpus[usize::from(number)];
                state.memory[usize::from(KERNEL + number)] = cpu.event;
                cpu.event = 0;
            }
            // bpf/sched_switch.bpf.c: into the idle task, and out of it; a full barrier on either side,
            // the kernel's own where the program doesn't run.
            Action::Aside(number) => {
                state.memory[usize::from(KERNEL + number)] = IDLE;
                World::goes_idle(state, number);
            }
            Action::AsideUnseen(number) => World::goes_idle(state, number),
            Action::Back(number, thread) => {
                state.memory[usize::from(KERNEL + number)] = state.memory[usize::from(ARMED)];
                World::comes_back(state, number, thread);
                if let Some(asleep) = self.asleep {
                    state.memory[usize::from(asleep)] = 0;
                }
            }
            Action::BackUnseen(number, thread) => World::comes_back(state, number, thread),
            // kernel/time/timekeeping.c: the clock goes on from what it showed at the update's reading,
            // at another rate, which readers see only now. Here that rate has been 0 since: no rate
            // is lower, and no step back longer.
            Action::UpdateReads => {
                state.updates -= 1;
                state.update = state.clock;
            }
            Action::UpdateShows => {
                state.clock = state.update;
                state.update = 0;
            }
        }
        Ok(())
    }

    fn goes_idle(state: &mut State, number: u8) {
        state.switches -= 1;
        state.cpus[usize::from(number)].current = NOBODY;
        state.memory[usize::from(IDLE_TASK + number)] = IDLE;
    }

    fn comes_back(state: &mut State, number: u8, thread: u8) {
        state.cpus[usize::from(number)].current = thread;
        state.memory[usize::from(IDLE_TASK + number)] = 0;
    }

    fn step(&self, state: &mut State, thread: usize) -> Result<(), Wrong> {
        let cpu = World::place(state, thread).expect("only threads that run step");
        let Step(_, op) = self.threads[thread].program[usize::from(state.pcs[thread])];
        let core = &mut state.cpus[cpu];
        let regs = &mut state.regs[thread];
        let seen = |addr: Addr| core.forwarded(addr).unwrap_or(state.memory[usize::from(addr)]);
        match op {
            Op::Load(reg, addr) | Op::Await(reg, addr, _) => regs[usize::from(reg)] = seen(addr),
            Op::Store(addr, value) => {
                let value = match value {
                    Val::Const(value) => value,
                    Val::Reg(reg) => regs[usize::from(reg)],
                };
                core.buffer[usize::from(core.stores)] = (addr, value);
                core.stores += 1;
            }
            Op::Max(addr, reg) => {
                let (word, reg) =
                    (&mut state.memory[usize::from(addr)], &mut regs[usize::from(reg)]);
                *word = (*word).max(*reg);
                *reg = *word;
            }
            Op::Beyond(addr, reg) => {
                let (word, reg) =
                    (&mut state.memory[usize::from(addr)], &mut regs[usize::from(reg)]);
                *word = (*word + 1).max(*reg);
                *reg = *word;
            }
            Op::Swap(reg, addr, value) => {
                regs[usize::from(reg)] =
                    core::mem::replace(&mut state.memory[usize::from(addr)], value);
            }
            Op::Cas(reg, addr, old, new) => {
                let word = &mut state.memory[usize::from(addr)];
                regs[usize::from(reg)] = *word;
                if *word == old {
                    *word = new;
                }
            }
            Op::Raw(reg) => regs[usize::from(reg)] = state.raw,
            Op::Clock(reg) => {
                state.raw += 1;
                state.clock += 1;
                regs[usize::from(reg)] = state.clock;
            }
            Op::Coarse(reg) => {
                state.clock += 1;
                regs[usize::from(reg)] = state.clock / 2 + FIRST_COARSE;
            }
            Op::Use(reg) if state.freed >> regs[usize::from(reg)] & 1 == 1 => return Err(Wrong),
            Op::Free(node) => state.freed |= 1 << node,
            Op::Own(reg) => regs[usize::from(reg)] = cpu as u8,
            _ => {}
        }
        state.pcs[thread] += 1;
        self.settle(state, thread);
        Ok(())
    }

    /// Goes on to the next operation that others can notice.
    fn settle(&self, state: &mut State, thread: usize) {
        let program = &self.threads[thread].program;
        let regs = &mut state.regs[thread];
        let pc = &mut state.pcs[thread];
        while let Some(&Step(when, op)) = program.get(usize::from(*pc)) {
            let get = |reg: Reg| regs[usize::from(reg)];
            let due = match when {
                When::Always => true,
                When::Is(reg, value) => get(reg) == value,
                When::Not(reg, value) => get(reg) != value,
                When::Same(one, two) => get(one) == get(two),
                When::Other(one, two) => get(one) != get(two),
                When::Below(one, two) => get(one) < get(two),
                When::NotBelow(one, two) => get(one) >= get(two),
            };
            if due {
                let (reg, value) = match op {
                    Op::Set(reg, Val::Const(value)) => (reg, value),
                    Op::Set(reg, Val::Reg(from)) => (reg, get(from)),
                    Op::Min(reg, other) => (reg, get(reg).min(get(other))),
                    Op::Sub(reg, other) => (reg, get(reg).saturating_sub(get(other))),
                    Op::Later(reg, last) => (reg, get(reg).max(get(last) + 1)),
                    Op::Credit(reg, clock) if get(reg) == IDLE => (reg, get(clock)),
                    Op::Credit(reg, _) => (reg, get(reg)),
                    Op::End => {
                        *pc = program.len() as u8;
                        break;
                    }
                    _ => return,
                };
                regs[usize::from(reg)] = value;
            }
            *pc += 1;
        }
        *regs = [0; REGS];
    }
}

/// The result of a search.
pub(crate) struct Found {
    pub(crate) states: usize,
    /// In some state something was freed.
    pub(crate) freed: bool,
    /// The shortest way to a violation.
    pub(crate) trace: Option<Vec<String>>,
}

/// Breadth first through every state that can be reached.
pub(crate) fn search(world: &World) -> Found {
    let mut seen: HashSet<u128, BuildHasherDefault<Passed>> = HashSet::default();
    // How each state was reached, for the trace.
    let mut ways: Vec<(u32, Action)> = vec![(0, Action::Drain(0))];
    let mut next = VecDeque::from([(world.start(), 0u32)]);
    seen.insert(fingerprint(&world.start()));
    let (mut actions, mut freed) = (Vec::new(), false);
    while let Some((state, way)) = next.pop_front() {
        world.actions(&state, &mut actions);
        freed |= state.freed & 0b110 != 0;
        if world.is_stuck(&state, &actions) {
            return Found { states: seen.len(), freed, trace: Some(tell(world, &ways, way)) };
        }
        for &action in &actions {
            let mut after = state;
            if world.act(&mut after, action).is_err() {
                ways.push((way, action));
                let last = u32::try_from(ways.len() - 1).unwrap();
                return Found { states: seen.len(), freed, trace: Some(tell(world, &ways, last)) };
            }
            if seen.insert(fingerprint(&after)) {
                ways.push((way, action));
                next.push_back((after, u32::try_from(ways.len() - 1).unwrap()));
                assert!(seen.len() < 30_000_000, "too large a world to be searched whole");
            }
        }
    }
    Found { states: seen.len(), freed, trace: None }
}

/// One way through, by `choices`: some CPUs and threads are faster than others, by their `paces`. The
/// way, if it ends in a violation.
pub(crate) fn walk(
    world: &World,
    paces: &[u8; THREADS + CPUS],
    choices: impl Iterator<Item = u16>,
) -> Result<(), Vec<Action>> {
    let mut state = world.start();
    let (mut actions, mut taken) = (Vec::new(), Vec::new());
    let weight = |action: &Action| {
        let actor = match *action {
            Action::Step(thread) => usize::from(thread),
            Action::Drain(cpu)
            | Action::EventLoads(cpu)
            | Action::EventExchanges(cpu)
            | Action::Aside(cpu)
            | Action::AsideUnseen(cpu)
            | Action::Back(cpu, _)
            | Action::BackUnseen(cpu, _) => THREADS + usize::from(cpu),
            // As fast as the first CPU.
            Action::UpdateReads | Action::UpdateShows => THREADS,
        };
        1u32 << (paces[actor] % 10)
    };
    for choice in choices {
        world.actions(&state, &mut actions);
        let Some(last) = actions.last() else { break };
        let total: u32 = actions.iter().map(weight).sum();
        let mut left = (u32::from(choice) * total) >> 16;
        let chosen = actions.iter().find(|action| {
            let weight = weight(action);
            let here = left < weight;
            left = left.saturating_sub(weight);
            here
        });
        let action = *chosen.unwrap_or(last);
        taken.push(action);
        if world.act(&mut state, action).is_err() {
            return Err(taken);
        }
    }
    Ok(())
}

fn tell(world: &World, ways: &[(u32, Action)], last: u32) -> Vec<String> {
    let mut path = Vec::new();
    let mut at = last as usize;
    while at != 0 {
        path.push(ways[at].1);
        at = ways[at].0 as usize;
    }
    let mut state = world.start();
    let mut lines = Vec::new();
    for action in path.into_iter().rev() {
        lines.push(match action {
            Action::Step(number) => {
                let thread = &world.threads[usize::from(number)];
                let step = thread.program[usize::from(state.pcs[usize::from(number)])];
                let regs = state.regs[usize::from(number)];
                format!("{}: {step:?} {regs:?}", thread.name)
            }
            other => format!("{other:?}"),
        });
        let _ = world.act(&mut state, action);
    }
    lines
}

/// Two states with the same 128 bits: one pair in 2^64 or so, of some millions of states.
fn fingerprint(state: &State) -> u128 {
    let (mut one, mut two) = (0x9E37_79B9_7F4A_7C15u64, 0xC2B2_AE3D_27D4_EB4Fu64);
    let mut add = |bytes: &[u8]| {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let word = u64::from_le_bytes(word);
            let wide = u128::from(one ^ word) * 0xA076_1D64_78BD_642F;
            one = (wide as u64) ^ ((wide >> 64) as u64) ^ 0x8BB8_4B93_962E_ACC9;
            two = (two.rotate_left(23) ^ word).wrapping_mul(0x8EBC_6AF0_9C88_C6E3);
            two ^= two >> 29;
        }
    };
    add(&state.memory);
    for cpu in &state.cpus {
        let [(a, b), (c, d), (e, f), (g, h)] = cpu.buffer;
        add(&[a, b, c, d, e, f, g, h]);
        add(&[cpu.stores, cpu.current, cpu.event]);
    }
    add(&state.pcs);
    state.regs.iter().for_each(|regs| add(regs));
    add(&[state.clock, state.freed, state.switches, state.raw, state.update, state.updates]);
    u128::from(one) << 64 | u128::from(two)
}

/// A fingerprint is a hash already.
#[derive(Default)]
struct Passed(u64);

impl Hasher for Passed {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are kept");
    }
    fn write_u128(&mut self, print: u128) {
        self.0 = print as u64;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}
