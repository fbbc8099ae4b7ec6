//! Litmus tests as herd7 reads them: <https://github.com/herd/herdtools7>.
//!
//! Owns the format, and the instructions that our tests use. Knows nothing of what they do. One thing that herd7
//! does not have: `MRS Xn,CNTVCT_EL0`, a reading of the counter, whose value some thread stores in `cnt`.

use std::collections::BTreeMap;

/// What must come of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// No execution ends as `exists` says.
    Never,
    /// One does.
    Sometimes,
}

/// A number, or the address of a location.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Value {
    Int(u64),
    Address(String),
}

/// By its number; the last is the one that is always 0.
pub(crate) type Register = usize;
pub(crate) const ZERO: Register = 31;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acquire {
    Plain,
    /// As after a store-release, too: LDAR, and A in SWPA.
    Full,
    /// LDAPR.
    Pc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fence {
    Full,
    Loads,
    Stores,
    /// DSB: also waits until what came before is complete.
    Complete,
    Isb,
}

#[derive(Clone, Debug)]
pub(crate) enum Instruction {
    Move(Register, u64),
    Xor(Register, Register, Register),
    Add(Register, Register, Register),
    Load {
        to: Register,
        at: Register,
        acquire: Acquire,
        exclusive: bool,
    },
    Store {
        from: Register,
        at: Register,
        release: bool,
        status: Option<Register>,
    },
    Swap {
        from: Register,
        to: Register,
        at: Register,
        acquire: bool,
        release: bool,
    },
    /// CAS: `expected` takes what was found.
    Compare {
        expected: Register,
        from: Register,
        at: Register,
        acquire: bool,
        release: bool,
    },
    Counter(Register),
    Fence(Fence),
    /// To the label, if the register is zero, or if it isn't.
    Branch {
        zero: bool,
        register: Register,
        label: String,
    },
    Label(String),
}

/// What must hold at the end: a register of a thread, or a location.
#[derive(Clone, Debug)]
pub(crate) enum Term {
    Register(usize, Register, u64),
    Location(String, u64),
}

#[derive(Clone, Debug)]
pub(crate) struct Litmus {
    pub(crate) name: String,
    pub(crate) expect: Expect,
    /// The sound test that this one breaks.
    pub(crate) mutant_of: Option<String>,
    /// What threads begin with in their registers.
    pub(crate) registers: BTreeMap<(usize, Register), Value>,
    /// What locations hold at first, if not 0.
    pub(crate) locations: BTreeMap<String, u64>,
    pub(crate) threads: Vec<Vec<Instruction>>,
    pub(crate) exists: Vec<Term>,
}

/// Reads a test; panics at what it doesn't know.
pub(crate) fn parse(text: &str) -> Litmus {
    let text = without_comments(text);
    let (header, rest) = text.split_once('{').expect("a block of first values");
    let (first, rest) = rest.split_once('}').expect("its end");
    let (code, exists) = rest.split_once("exists").expect("an `exists`");

    let mut lines = header.lines();
    let title = lines.next().expect("a title");
    let name = title.strip_prefix("AArch64 ").expect("for AArch64").trim().to_owned();
    let fields: BTreeMap<&str, &str> =
        lines.filter_map(|line| line.trim().split_once('=')).collect();
    let expect = match fields["Expect"] {
        "Never" => Expect::Never,
        "Sometimes" => Expect::Sometimes,
        other => panic!("{name}: {other}"),
    };

    let (mut registers, mut locations) = (BTreeMap::new(), BTreeMap::new());
    for part in first.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (what, value) = part.split_once('=').expect("an assignment");
        let (what, value) = (what.trim(), value.trim());
        if let Some((thread, register)) = what.split_once(':') {
            let value = value.parse().map_or(Value::Address(value.into()), Value::Int);
            registers.insert((thread.parse().expect("a thread"), register_of(register)), value);
        } else {
            locations.insert(what.into(), value.parse().expect("a number"));
        }
    }

    let mut rows = code.lines().map(str::trim).filter(|line| !line.is_empty());
    let threads = rows.next().expect("a row of threads").split('|').count();
    let mut threads = vec![Vec::new(); threads];
    for row in rows {
        let cells = row.trim_end_matches(';').split('|');
        for (thread, cell) in threads.iter_mut().zip(cells) {
            let mut cell = cell.trim();
            if let Some((label, rest)) = cell.split_once(':') {
                thread.push(Instruction::Label(label.into()));
                cell = rest.trim();
            }
            if !cell.is_empty() {
                thread.push(instruction(cell));
            }
        }
    }

    let exists = exists.trim().trim_start_matches('(').trim_end_matches(')');
    let term = |term: &str| {
        let (what, value) = term.trim().split_once('=').expect("an equation");
        let value = value.trim().parse().expect("a number");
        match what.trim().split_once(':') {
            Some((thread, register)) => {
                Term::Register(thread.parse().expect("a thread"), register_of(register), value)
            }
            None => Term::Location(what.trim().trim_matches(['[', ']']).into(), value),
        }
    };
    Litmus {
        expect,
        mutant_of: fields.get("Mutant-of").map(ToString::to_string),
        registers,
        locations,
        threads,
        exists: exists.split("/\\").map(term).collect(),
        name,
    }
}

fn without_comments(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("(*") {
        kept.push_str(before);
        rest = after.split_once("*)").expect("a comment's end").1;
    }
    kept + rest
}

fn register_of(text: &str) -> Register {
    match text.trim() {
        "XZR" | "WZR" => ZERO,
        text => {
            let number = text.strip_prefix(['X', 'W']).and_then(|number| number.parse().ok());
            number.filter(|&number| number < ZERO).unwrap_or_else(|| panic!("register {text}"))
        }
    }
}

fn instruction(text: &str) -> Instruction {
    let (name, operands) = text.split_once(' ').unwrap_or((text, ""));
    let operands: Vec<&str> = operands.split(',').map(str::trim).collect();
    let register = |n: usize| register_of(operands[n]);
    let at = |n: usize| register_of(operands[n].trim_matches(['[', ']']));
    let load =
        |acquire, exclusive| Instruction::Load { to: register(0), at: at(1), acquire, exclusive };
    let store =
        |release| Instruction::Store { from: register(0), at: at(1), release, status: None };
    let exclusive = |release| Instruction::Store {
        from: register(1),
        at: at(2),
        release,
        status: Some(register(0)),
    };
    let swap = |acquire, release| Instruction::Swap {
        from: register(0),
        to: register(1),
        at: at(2),
        acquire,
        release,
    };
    let compare = |acquire, release| Instruction::Compare {
        expected: register(0),
        from: register(1),
        at: at(2),
        acquire,
        release,
    };
    let branch =
        |zero| Instruction::Branch { zero, register: register(0), label: operands[1].into() };
    match name {
        "MOV" => Instruction::Move(
            register(0),
            operands[1].trim_start_matches('#').parse().expect("a number"),
        ),
        "EOR" => Instruction::Xor(register(0), register(1), register(2)),
        "ADD" => Instruction::Add(register(0), register(1), register(2)),
        "LDR" => load(Acquire::Plain, false),
        "LDAR" => load(Acquire::Full, false),
        "LDAPR" => load(Acquire::Pc, false),
        "LDXR" => load(Acquire::Plain, true),
        "LDAXR" => load(Acquire::Full, true),
        "STR" => store(false),
        "STLR" => store(true),
        "STXR" => exclusive(false),
        "STLXR" => exclusive(true),
        "SWP" => swap(false, false),
        "SWPA" => swap(true, false),
        "SWPL" => swap(false, true),
        "SWPAL" => swap(true, true),
        "CAS" => compare(false, false),
        "CASAL" => compare(true, true),
        "MRS" if operands[1] == "CNTVCT_EL0" => Instruction::Counter(register(0)),
        "ISB" => Instruction::Fence(Fence::Isb),
        "DMB" | "DSB" => Instruction::Fence(match (name, operands[0]) {
            ("DMB", "ISH") => Fence::Full,
            ("DMB", "ISHLD") => Fence::Loads,
            ("DMB", "ISHST") => Fence::Stores,
            ("DSB", "ISH") => Fence::Complete,
            _ => panic!("{text}"),
        }),
        "CBZ" => branch(true),
        "CBNZ" => branch(false),
        _ => panic!("an instruction that isn't known here: {text}"),
    }
}
