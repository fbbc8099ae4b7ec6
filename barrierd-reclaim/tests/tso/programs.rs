//! The protocols as step programs, each beside the code that it mirrors.
//!
//! Words have names, registers too; `r` is a register's value and `c` a constant.

use crate::machine::*;

pub(crate) fn c(value: u8) -> Val {
    Val::Const(value)
}
pub(crate) fn r(reg: Reg) -> Val {
    Val::Reg(reg)
}
pub(crate) fn when(when: When, op: Op) -> Step {
    Step(when, op)
}

/// A program, written as a list of operations and guarded steps.
macro_rules! program {
    ($($op:expr),* $(,)?) => { vec![$($crate::machine::Step::from($op)),*] };
}
pub(crate) use program;

impl From<Op> for Step {
    fn from(op: Op) -> Step {
        Step(When::Always, op)
    }
}

// The domain's words (`protocol::Words`), and what lies around them.
pub(crate) const ERA: Addr = FREE;
pub(crate) const SAFE: Addr = FREE + 1;
pub(crate) const LATEST: Addr = FREE + 2;
/// The link to a node; 0 is none.
pub(crate) const LINK: Addr = FREE + 3;
/// The readers' slots.
pub(crate) const SLOT: [Addr; 2] = [FREE + 4, FREE + 5];
/// The daemon's public watermark.
pub(crate) const PUBLIC: Addr = FREE + 6;
/// Words that only some worlds have.
pub(crate) const SPARE: Addr = FREE + 7;

/// The one node that most worlds retire.
pub(crate) const NODE: u8 = 1;
/// No interval's "closed", and no slot's "idle": in this machine idle slots keep nothing (see `collected.rs`).
pub(crate) const FIRST_ERA: u8 = 1;
/// How it begins.
pub(crate) const BEGIN: [(Addr, u8); 3] = [(ERA, FIRST_ERA), (LATEST, FIRST_ERA), (LINK, NODE)];

/// Registers of readers.
const E: Reg = 0;
const P: Reg = 1;

/// `Reader::pin`, a section that loads the link and uses what it finds, `Reader::unpin`.
pub(crate) fn section(slot: Addr) -> Program {
    program![
        Op::Load(E, LATEST),
        Op::Store(slot, r(E)),
        Op::Load(P, LINK),
        when(When::Not(P, 0), Op::Use(P)),
        Op::Store(slot, c(0)),
    ]
}

/// The same, broken: the slot is stored after the load.
pub(crate) fn section_slot_late(slot: Addr) -> Program {
    let mut program = section(slot);
    program.swap(1, 2);
    program
}

/// The same, broken: the slot is cleared before the last access.
pub(crate) fn section_idle_early(slot: Addr) -> Program {
    let mut program = section(slot);
    program.swap(3, 4);
    program
}

/// `Words::fence_and_stamp` after the unlink: the stamp in `T`.
pub(crate) fn unlink_and_stamp() -> Program {
    [program![Op::Store(LINK, c(0))], fence_and_stamp(T)].concat()
}

/// `Words::fence_and_stamp`: fence, clock, exchange of the latest; the stamp in `to`.
pub(crate) fn fence_and_stamp(to: Reg) -> Program {
    program![Op::Fence, Op::Clock(to), Op::Beyond(LATEST, to)]
}

/// The same on a clock that ties.
pub(crate) fn coarse_stop(to: Reg) -> Program {
    program![Op::Fence, Op::Coarse(to), Op::Beyond(LATEST, to)]
}

/// `protocol::above`: a stamp that is less than the result is no later than the one in `stamp`.
pub(crate) fn behind(to: Reg, stamp: Reg) -> Program {
    program![Op::Set(to, c(0)), Op::Later(to, stamp)]
}

/// Registers of scanners: stamp, watermark, what is safe, scratch.
pub(crate) const T: Reg = 0;
pub(crate) const W: Reg = 1;
pub(crate) const M: Reg = 2;
pub(crate) const X: Reg = 3;

/// `protocol::scan`, the watermark in `W`: loads every slot, then publishes.
pub(crate) fn look(slots: &[Addr]) -> Program {
    let mut program = program![Op::Set(M, r(W))];
    for &slot in slots {
        program.extend(program![Op::Load(X, slot)]);
        program.extend(least_pin(X));
    }
    program
}

/// What the pin in `slot` covers, if it is one, is safe at most.
pub(crate) fn least_pin(slot: Reg) -> Program {
    program![
        when(When::Not(slot, 0), Op::Later(slot, slot)),
        when(When::Not(slot, 0), Op::Min(M, slot)),
    ]
}

/// The end of `protocol::scan`.
pub(crate) fn publish() -> Program {
    program![Op::Max(SAFE, M)]
}

/// What was stamped below `SAFE` is freed.
pub(crate) fn free(node: u8) -> Program {
    program![Op::Load(M, SAFE), when(When::Below(T, M), Op::Free(node))]
}

/// The daemon arms: the clock, then `armed` (`daemon.rs`).
pub(crate) fn arm() -> Program {
    const A: Reg = 7;
    program![Op::Clock(A), Op::Store(ARMED, r(A)), Op::Fence]
}

/// The same on a clock that ties.
pub(crate) fn coarse_arm() -> Program {
    const A: Reg = 7;
    program![Op::Coarse(A), Op::Store(ARMED, r(A)), Op::Fence]
}

/// The ways in which a scan comes to trust IDLE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    /// It asks the kernel (`who_is_idle`), after `s`.
    AfterS,
    /// Before it. Without the fence after `s` a CPU may do that, too.
    BeforeS,
    /// It asks, is not answered, and trusts no answer.
    InVain,
    /// It isn't answered, and trusts the answer that the scan before had.
    Old,
    /// It trusts the slot.
    Nobody,
}

/// The daemon's scan (`machine.rs`): the clock, a full fence, the slots one by one, and for those that show
/// IDLE the kernel's word; then the minimum.
pub(crate) fn sweep(cpus: &[u8]) -> Program {
    sweep_that(Asks::AfterS, cpus)
}

pub(crate) fn sweep_that(asks: Asks, cpus: &[u8]) -> Program {
    const S: Reg = 0;
    const MIN: Reg = 1;
    const SEEN: Reg = 2;
    /// What each CPU's answer was: 0 is busy.
    const ANSWER: Reg = 8;
    let clock = program![Op::Clock(S), Op::Fence, Op::Set(MIN, r(S))];
    let early = cpus.iter().map(|&cpu| Step::from(Op::Load(ANSWER + cpu, IDLE_TASK + cpu)));
    let mut program: Program = match asks {
        Asks::BeforeS => early.chain(clock).collect(),
        _ => clock,
    };
    for &cpu in cpus {
        program.extend(program![Op::Load(SEEN, KERNEL + cpu)]);
        let shows_idle = |op| when(When::Is(SEEN, IDLE), op);
        program.extend(match asks {
            Asks::AfterS => vec![
                shows_idle(Op::Load(ANSWER + cpu, IDLE_TASK + cpu)),
                shows_idle(Op::Set(SEEN, r(ANSWER + cpu))),
            ],
            Asks::BeforeS | Asks::Old => vec![shows_idle(Op::Set(SEEN, r(ANSWER + cpu)))],
            Asks::InVain => vec![shows_idle(Op::Set(SEEN, c(0)))],
            Asks::Nobody => vec![],
        });
        program.extend(program![Op::Credit(SEEN, S), Op::Min(MIN, SEEN)]);
    }
    program.extend(program![Op::Max(PUBLIC, MIN)]);
    program
}

pub(crate) fn thread(
    name: &'static str,
    cpu: u8,
    parts: impl IntoIterator<Item = Program>,
) -> Thread {
    let program: Program = parts.into_iter().flatten().collect();
    assert!(program.len() < 200, "{name} is too long");
    Thread { name, cpu, affinity: 1 << cpu, program }
}

/// Asserts that a complete search finds no violation.
pub(crate) fn holds(name: &str, world: &World) {
    let begin = std::time::Instant::now();
    let found = search(world);
    println!("{name}: {} states, {:?}", found.states, begin.elapsed());
    assert!(found.trace.is_none(), "{name}:\n{}", found.trace.unwrap().join("\n"));
    assert!(found.freed || !world.must_end.is_empty(), "{name}: nothing was ever freed");
}

/// Asserts that a violation is found.
pub(crate) fn is_rejected(name: &str, world: &World) {
    let begin = std::time::Instant::now();
    let found = search(world);
    let steps = found.trace.as_ref().map(Vec::len);
    println!("mutant {name}: {} states, {steps:?} steps, {:?}", found.states, begin.elapsed());
    assert!(found.trace.is_some(), "no violation found with {name}, in {} states", found.states);
}
