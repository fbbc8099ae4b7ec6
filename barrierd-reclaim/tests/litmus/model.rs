//! The memory model of AArch64, and the search for an execution that it allows.
//!
//! Owns threads' traces, the candidate executions that they make, and the model's axioms: those of section B2.3 of the
//! Arm Architecture Reference Manual, as `aarch64hwreqs.cat` of herd7 writes them down, for memory of one kind, plain
//! accesses of one size, and no faults. Names of relations are its own. Knows nothing of barrierd.
//!
//! **The counter.** herd7 has none. Here a reading of it is an event that no DMB orders, since it is no access to memory:
//! it comes after a load that an ISB between the two depends on (by a branch), and before whatever depends on its value.
//! It sees the counter as other threads may have seen it before: "it must be impossible [...] to show system time
//! going backwards", for devices that communicate (the chapter on the Generic Timer).

use crate::parse::{Acquire, Fence, Instruction, Litmus, Register, Term, Value, ZERO};
use std::collections::BTreeMap;

/// Sets of events, by their numbers.
type Set = u64;

/// What an atomic instruction that acquires and releases orders (SWPAL, CASAL where it stores).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Atomics {
    /// Its store comes before all that follows.
    Today,
    /// As the manual had it when such instructions came: what precedes it comes before what follows it, and its own
    /// store may be late.
    AtFirst,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    /// A reading of the counter.
    Counter,
    Fence(Fence),
}

#[derive(Clone, Debug)]
struct Event {
    /// None: an initial value.
    thread: Option<usize>,
    kind: Kind,
    location: String,
    value: u64,
    acquire: Acquire,
    release: bool,
    /// The reads that its address, its value, and its being executed depend on.
    address: Set,
    data: Set,
    control: Set,
    /// Of a write of an atomic update: its read, and whether both are of one instruction.
    update: Option<(usize, bool)>,
}

impl Event {
    fn is_access(&self) -> bool {
        matches!(self.kind, Kind::Read | Kind::Write)
    }

    fn is_write(&self) -> bool {
        self.kind == Kind::Write
    }

    fn is_read(&self) -> bool {
        self.kind == Kind::Read
    }

    fn sees(&self) -> bool {
        matches!(self.kind, Kind::Read | Kind::Counter)
    }
}

/// One way through a thread's code.
#[derive(Clone, Debug)]
struct Trace {
    events: Vec<Event>,
    registers: Vec<Value>,
}

#[derive(Clone)]
struct State {
    at: usize,
    registers: Vec<(Value, Set)>,
    control: Set,
    exclusive: Option<usize>,
    events: Vec<Event>,
}

/// All ways through a thread's code, whatever its loads find.
struct Walk<'a> {
    code: &'a [Instruction],
    thread: usize,
    /// The numbers that a load may find.
    numbers: &'a [u64],
    traces: Vec<Trace>,
}

impl Walk<'_> {
    fn go(&mut self, mut state: State) {
        while let Some(instruction) = self.code.get(state.at) {
            state.at += 1;
            match instruction {
                Instruction::Move(to, number) => {
                    state.registers[*to] = (Value::Int(*number), 0);
                }
                Instruction::Xor(to, a, b) => {
                    let number = int(&state, *a) ^ int(&state, *b);
                    let depends = state.registers[*a].1 | state.registers[*b].1;
                    state.registers[*to] = (Value::Int(number), depends);
                }
                Instruction::Add(to, a, b) => {
                    let depends = state.registers[*a].1 | state.registers[*b].1;
                    let sum = match (&state.registers[*a].0, &state.registers[*b].0) {
                        (Value::Int(a), Value::Int(b)) => Value::Int(a + b),
                        (address @ Value::Address(_), Value::Int(0))
                        | (Value::Int(0), address @ Value::Address(_)) => address.clone(),
                        other => panic!("{other:?}"),
                    };
                    state.registers[*to] = (sum, depends);
                }
                Instruction::Load { to, at, acquire, exclusive } => {
                    let mut event = self.access(&state, Kind::Read, *at);
                    event.acquire = *acquire;
                    for found in self.each(&state, &event) {
                        let mut next = found.clone();
                        let (number, value) = seen(&next);
                        next.registers[*to] = (value, 1 << number);
                        if *exclusive {
                            next.exclusive = Some(number);
                        }
                        self.go(next);
                    }
                    return;
                }
                Instruction::Counter(to) => {
                    let mut event = self.access(&state, Kind::Counter, ZERO);
                    event.location = "cnt".into();
                    for mut next in self.each(&state, &event) {
                        let (number, value) = seen(&next);
                        next.registers[*to] = (value, 1 << number);
                        self.go(next);
                    }
                    return;
                }
                Instruction::Store { from, at, release, status } => {
                    let mut event = self.store(&state, *from, *at, *release);
                    if let Some(status) = status {
                        // One that fails tries again: only the last try counts.
                        let read = state.exclusive.take().expect("a load-exclusive before");
                        event.update = Some((read, false));
                        state.registers[*status] = (Value::Int(0), 0);
                    }
                    state.events.push(event);
                }
                Instruction::Swap { from, to, at, acquire, release } => {
                    let mut event = self.access(&state, Kind::Read, *at);
                    event.acquire = full_if(*acquire);
                    for mut next in self.each(&state, &event) {
                        let (number, value) = seen(&next);
                        let mut store = self.store(&next, *from, *at, *release);
                        store.update = Some((number, true));
                        next.events.push(store);
                        next.registers[*to] = (value, 1 << number);
                        self.go(next);
                    }
                    return;
                }
                Instruction::Compare { expected, from, at, acquire, release } => {
                    let mut event = self.access(&state, Kind::Read, *at);
                    event.acquire = full_if(*acquire);
                    for mut next in self.each(&state, &event) {
                        let (number, value) = seen(&next);
                        if next.registers[*expected].0 == value {
                            let mut store = self.store(&next, *from, *at, *release);
                            store.update = Some((number, true));
                            next.events.push(store);
                        }
                        next.registers[*expected] = (value, 1 << number);
                        self.go(next);
                    }
                    return;
                }
                Instruction::Fence(fence) => {
                    let event = self.access(&state, Kind::Fence(*fence), ZERO);
                    state.events.push(event);
                }
                Instruction::Branch { zero, register, label } => {
                    state.control |= state.registers[*register].1;
                    if (int(&state, *register) == 0) == *zero {
                        let is_it =
                            |i: &Instruction| matches!(i, Instruction::Label(l) if l == label);
                        let ahead = self.code[state.at..].iter().position(is_it);
                        state.at += ahead.expect("labels are ahead");
                    }
                }
                Instruction::Label(_) => {}
            }
            state.registers[ZERO] = (Value::Int(0), 0);
        }
        let registers = state.registers.into_iter().map(|(value, _)| value).collect();
        self.traces.push(Trace { events: state.events, registers });
    }

    fn access(&self, state: &State, kind: Kind, at: Register) -> Event {
        let (address, depends) = &state.registers[at];
        let location = match address {
            Value::Address(location) => location.clone(),
            Value::Int(_) => String::new(),
        };
        let is_access = matches!(kind, Kind::Read | Kind::Write);
        assert_eq!(is_access, !location.is_empty(), "an address in register {at}");
        Event {
            thread: Some(self.thread),
            kind,
            location,
            value: 0,
            acquire: Acquire::Plain,
            release: false,
            address: *depends,
            data: 0,
            control: state.control,
            update: None,
        }
    }

    fn store(&self, state: &State, from: Register, at: Register, release: bool) -> Event {
        let mut event = self.access(state, Kind::Write, at);
        event.value = int(state, from);
        event.data = state.registers[from].1;
        event.release = release;
        event
    }

    /// After this read, once for each number that it may find.
    fn each(&self, state: &State, event: &Event) -> Vec<State> {
        let found = |&number: &u64| {
            let mut next = state.clone();
            next.events.push(Event { value: number, ..event.clone() });
            next
        };
        self.numbers.iter().map(found).collect()
    }
}

/// The number of the event that was pushed last, and what it found.
fn seen(state: &State) -> (usize, Value) {
    let number = state.events.len() - 1;
    (number, Value::Int(state.events[number].value))
}

fn int(state: &State, register: Register) -> u64 {
    match state.registers[register].0 {
        Value::Int(number) => number,
        Value::Address(_) => panic!("a number in register {register}"),
    }
}

fn full_if(acquire: bool) -> Acquire {
    if acquire { Acquire::Full } else { Acquire::Plain }
}

/// Whether some execution that the model allows ends as `exists` says.
pub(crate) fn is_possible(litmus: &Litmus, atomics: Atomics) -> bool {
    let mut numbers = vec![0];
    numbers.extend(litmus.locations.values());
    numbers.extend(litmus.registers.values().filter_map(|value| match value {
        Value::Int(number) => Some(*number),
        Value::Address(_) => None,
    }));
    numbers.extend(litmus.threads.iter().flatten().filter_map(|i| match i {
        Instruction::Move(_, number) => Some(*number),
        _ => None,
    }));
    numbers.sort_unstable();
    numbers.dedup();

    let traces: Vec<Vec<Trace>> = (0..litmus.threads.len())
        .map(|thread| {
            let mut registers = vec![(Value::Int(0), 0); ZERO + 1];
            for ((of, register), value) in &litmus.registers {
                if *of == thread {
                    registers[*register].0 = value.clone();
                }
            }
            let code = &litmus.threads[thread];
            let mut walk = Walk { code, thread, numbers: &numbers, traces: Vec::new() };
            let start = State { at: 0, registers, control: 0, exclusive: None, events: Vec::new() };
            walk.go(start);
            // Only those that may end so.
            walk.traces.retain(|trace| {
                litmus.exists.iter().all(|term| match term {
                    Term::Register(of, register, number) => {
                        *of != thread || trace.registers[*register] == Value::Int(*number)
                    }
                    Term::Location(..) => true,
                })
            });
            walk.traces
        })
        .collect();
    each_choice(&traces, &mut Vec::new(), &mut |chosen| {
        Execution::new(litmus, atomics, chosen).is_allowed()
    })
}

/// Whether `holds` of one of the ways to choose one of each.
fn each_choice<'a, T>(
    of: &'a [Vec<T>],
    chosen: &mut Vec<&'a T>,
    holds: &mut impl FnMut(&[&'a T]) -> bool,
) -> bool {
    let Some((first, rest)) = of.split_first() else { return holds(chosen) };
    first.iter().any(|one| {
        chosen.push(one);
        let found = each_choice(rest, chosen, holds);
        chosen.pop();
        found
    })
}

/// The events of one trace of each thread.
struct Execution<'a> {
    litmus: &'a Litmus,
    events: Vec<Event>,
    /// lob: from each event, those that it comes before for all that happens on its own CPU.
    local: Vec<Set>,
}

impl<'a> Execution<'a> {
    fn new(litmus: &'a Litmus, atomics: Atomics, traces: &[&Trace]) -> Self {
        let mut events: Vec<Event> = Vec::new();
        let mut local = Vec::new();
        for trace in traces {
            let from = events.len();
            local
                .extend(locally_ordered(&trace.events, atomics).into_iter().map(|set| set << from));
            events.extend(trace.events.iter().cloned().map(|mut event| {
                event.update = event.update.map(|(read, one)| (read + from, one));
                event
            }));
        }
        let mut locations: Vec<String> =
            events.iter().map(|event| event.location.clone()).filter(|l| !l.is_empty()).collect();
        locations.sort();
        locations.dedup();
        for location in locations {
            let value = litmus.locations.get(&location).copied().unwrap_or(0);
            local.push(0);
            events.push(Event {
                thread: None,
                kind: Kind::Write,
                location,
                value,
                acquire: Acquire::Plain,
                release: false,
                address: 0,
                data: 0,
                control: 0,
                update: None,
            });
        }
        assert!(events.len() <= 64, "{}: more events than bits", litmus.name);
        Self { litmus, events, local }
    }

    /// Whether there are sources for all reads, and orders of all writes, that the axioms allow.
    fn is_allowed(&self) -> bool {
        let numbers = 0..self.events.len();
        let reads: Vec<usize> = numbers.clone().filter(|&n| self.events[n].sees()).collect();
        let sources: Vec<Vec<usize>> = reads
            .iter()
            .map(|&read| {
                let (read, of) = (&self.events[read], &self.events);
                let is_source = |&write: &usize| {
                    of[write].is_write()
                        && of[write].location == read.location
                        && of[write].value == read.value
                };
                numbers.clone().filter(is_source).collect()
            })
            .collect();
        if sources.iter().any(Vec::is_empty) {
            return false;
        }
        let mut writes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for number in numbers.filter(|&n| self.events[n].is_write()) {
            writes.entry(&self.events[number].location).or_default().push(number);
        }
        let orders: Vec<Vec<Vec<usize>>> = writes.values().map(|all| self.orders(all)).collect();
        each_choice(&orders, &mut Vec::new(), &mut |orders| {
            each_choice(&sources, &mut Vec::new(), &mut |sources| {
                let sources: Vec<(usize, usize)> =
                    reads.iter().copied().zip(sources.iter().map(|&&source| source)).collect();
                self.holds(orders, &sources)
            })
        })
    }

    /// The orders in which a location may take its writes, the first value first, and the last as `exists` says.
    fn orders(&self, writes: &[usize]) -> Vec<Vec<usize>> {
        let (last, others) = writes.split_last().expect("the first value");
        assert!(self.events[*last].thread.is_none(), "first values come last in the list");
        let mut orders = vec![vec![*last]];
        for _ in others {
            orders = orders
                .into_iter()
                .flat_map(|order| {
                    let left = others.iter().filter(|w| !order.contains(w)).copied();
                    left.map(|next| [order.as_slice(), &[next]].concat()).collect::<Vec<_>>()
                })
                .collect();
        }
        orders.retain(|order| {
            let last = &self.events[*order.last().expect("one")];
            self.litmus.exists.iter().all(|term| match term {
                Term::Location(location, value) => {
                    *location != last.location || *value == last.value
                }
                Term::Register(..) => true,
            })
        });
        orders
    }

    fn holds(&self, orders: &[&Vec<usize>], sources: &[(usize, usize)]) -> bool {
        let count = self.events.len();
        let (mut co, mut rf, mut fr) = (vec![0; count], vec![0; count], vec![0; count]);
        for order in orders {
            for (n, &write) in order.iter().enumerate() {
                for &later in &order[n + 1..] {
                    co[write] |= 1 << later;
                }
            }
        }
        for &(read, source) in sources {
            rf[source] |= 1 << read;
            fr[read] = co[source];
        }
        let of = &self.events;
        let external = |relation: &[Set], a: usize, b: usize| {
            relation[a] >> b & 1 == 1 && of[a].thread != of[b].thread
        };
        // atomic: nobody's write between an update's read and its write.
        for (write, event) in of.iter().enumerate() {
            let Some((read, _)) = event.update else { continue };
            let between = |&w: &usize| external(&fr, read, w) && external(&co, w, write);
            if (0..count).any(|w| between(&w)) {
                return false;
            }
        }
        // internal: one location at a time, each thread sees its own order.
        let internal = |a: usize, b: usize| {
            let own = a < b
                && of[a].thread.is_some()
                && of[a].thread == of[b].thread
                && of[a].is_access()
                && of[b].is_access()
                && of[a].location == of[b].location;
            let counters = of[a].kind == Kind::Counter || of[b].kind == Kind::Counter;
            own || !counters && (co[a] | rf[a] | fr[a]) >> b & 1 == 1
        };
        // external: what others see, and what each thread's own order is for all.
        let ordered = |a: usize, b: usize| {
            self.local[a] >> b & 1 == 1
                || external(&rf, a, b)
                || external(&fr, a, b)
                || external(&co, a, b)
        };
        is_acyclic(count, internal) && is_acyclic(count, ordered)
    }
}

/// lob of a thread, without the steps that follow from two others.
fn locally_ordered(events: &[Event], atomics: Atomics) -> Vec<Set> {
    let count = events.len();
    let fence = |from: usize, to: usize, is: &dyn Fn(&Event, Fence) -> bool| {
        events[from + 1..to].iter().any(|event| match event.kind {
            Kind::Fence(fence) => is(event, fence),
            _ => false,
        })
    };
    // lrs: the reads after a write of the same location, up to the next one.
    let successor = |write: usize, read: usize| {
        let same = |n: usize| events[n].is_access() && events[n].location == events[write].location;
        write < read
            && events[write].is_write()
            && events[read].is_read()
            && same(read)
            && !(write + 1..read).any(|n| same(n) && events[n].is_write())
    };
    let ordered = |i: usize, j: usize| {
        let (a, b) = (&events[i], &events[j]);
        let accesses = a.is_access() && b.is_access();
        let on = |set: Set| set >> i & 1 == 1;
        // lws
        let same = accesses && a.location == b.location && b.is_write();
        // dob, and CSE-ob
        let depends = on(b.address) || on(b.data) || on(b.control) && b.is_write();
        let address_before = (i + 1..j).any(|k| events[k].is_access() && on(events[k].address));
        let branched = fence(i, j, &|isb, fence| fence == Fence::Isb && on(isb.control));
        let addressed = (i + 1..j).any(|k| {
            let isb = |_: &Event, fence: Fence| fence == Fence::Isb;
            events[k].is_access() && on(events[k].address) && fence(k, j, &isb)
        });
        let through =
            (i + 1..j).any(|k| (on(events[k].address) || on(events[k].data)) && successor(k, j));
        let dob = depends || address_before && b.is_write() || branched || addressed || through;
        // aob
        let update = |write: usize| events[write].update.is_some_and(|(read, _)| read == i);
        let acquires = b.is_read() && b.acquire != Acquire::Plain;
        let aob = update(j) || acquires && (i + 1..j).any(|k| update(k) && successor(k, j));
        // bob; what a DSB has completed, an ISB after it makes known to all.
        let both_ways = |write: usize| {
            events[write].is_write()
                && events[write].release
                && events[write]
                    .update
                    .is_some_and(|(read, one)| one && events[read].acquire == Acquire::Full)
        };
        let atomic = match atomics {
            Atomics::Today => both_ways(i),
            Atomics::AtFirst => (i + 2..j).any(both_ways),
        };
        let completed = (i + 1..j).any(|k| {
            let isb = |_: &Event, fence: Fence| fence == Fence::Isb;
            events[k].kind == Kind::Fence(Fence::Complete) && fence(k, j, &isb)
        });
        let bob = accesses
            && (fence(i, j, &|_, f| matches!(f, Fence::Full | Fence::Complete))
                || a.is_read() && fence(i, j, &|_, f| f == Fence::Loads)
                || a.is_write() && b.is_write() && fence(i, j, &|_, f| f == Fence::Stores)
                || atomic
                || a.release && a.is_write() && b.is_read() && b.acquire == Acquire::Full
                || a.is_read() && a.acquire != Acquire::Plain
                || b.is_write() && b.release);
        same || dob || aob || bob || a.is_access() && completed
    };
    let after = |i: usize| {
        let later = (i + 1..count).filter(|&j| ordered(i, j));
        later.filter(|&j| !matches!(events[j].kind, Kind::Fence(_))).fold(0, |set, j| set | 1 << j)
    };
    (0..count).map(after).collect()
}

fn is_acyclic(count: usize, edge: impl Fn(usize, usize) -> bool) -> bool {
    let next: Vec<Set> =
        (0..count).map(|a| (0..count).filter(|&b| edge(a, b)).fold(0, |s, b| s | 1 << b)).collect();
    // Takes away who has none before it, until nobody is left, or nobody can be taken.
    let mut left: Set = if count == 64 { Set::MAX } else { (1 << count) - 1 };
    loop {
        let is_left = |&n: &usize| left >> n & 1 == 1;
        let after = (0..count).filter(is_left).fold(0, |set, n| set | next[n]);
        if after & left == left {
            return left == 0;
        }
        left &= after;
    }
}
