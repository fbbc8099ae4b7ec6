//! Every state of a world, or one way through it, and how a violation was reached.

use super::*;
use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

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
