//! A writer is killed before each of its stores, in each of its calls, and so is whoever recovers from that: every block is
//! accounted for, and each call was made wholly or not at all.
#![cfg(feature = "testing")]

mod setup;

use std::time::{Duration, Instant};

use barrierd_shared::testing::{Mutant, kill_at, leave_out};
use barrierd_shared::{
    Census, Field, Link, Options, Region, SharedAtomic, View, WriteError, Writer, shareable,
};
use setup::{alone, no_daemon, writer_with};

shareable! {
    struct Node { key: Field<u64>, next: SharedAtomic<Node>, back: SharedAtomic<Node> }
}

fn region() -> Region {
    Region::create_in_memory(Options::new(1 << 16).readers(2).writers(2)).expect("made")
}

fn writer(region: &Region) -> Writer {
    writer_with(region, &no_daemon().patience(Duration::from_secs(20)))
}

/// Puts a node with `key` before the others.
fn push(writer: &mut Writer, key: u64) -> Result<(), WriteError> {
    let turn = writer.turn()?;
    let root = turn.root::<Node>(0);
    let fresh = turn.alloc::<Node>()?;
    fresh.write(|node| &node.key, key);
    fresh.lead(|node| &node.next, root.link());
    turn.put(root, fresh)?;
    Ok(())
}

/// Takes the second node out, or the first one where there is no other.
fn take_out(writer: &mut Writer) -> Result<(), WriteError> {
    let turn = writer.turn()?;
    let root = turn.root::<Node>(0);
    let Some(first) = turn.load(root) else { return Ok(()) };
    match turn.load(&first.next) {
        Some(second) => turn.remove(&first.next, second.next.link()),
        None => turn.remove(root, first.next.link()),
    }
}

/// Replaces the first node by one of the same successor.
fn replace(writer: &mut Writer, key: u64) -> Result<(), WriteError> {
    let turn = writer.turn()?;
    let root = turn.root::<Node>(0);
    let fresh = turn.alloc::<Node>()?;
    let next = turn.load(root).map_or(Link::NULL, |first| first.next.link());
    fresh.write(|node| &node.key, key);
    fresh.lead(|node| &node.next, next);
    turn.replace(root, fresh)?;
    Ok(())
}

/// Puts two nodes that lead to each other before the others, or in the place of the first one.
fn push_two(writer: &mut Writer, replaces: bool) -> Result<(), WriteError> {
    let turn = writer.turn()?;
    let root = turn.root::<Node>(0);
    let (second, first) = (turn.alloc::<Node>()?, turn.alloc::<Node>()?);
    let next = match turn.load(root) {
        Some(old) if replaces => old.next.link(),
        _ => root.link(),
    };
    first.write(|node| &node.key, 9);
    first.lead(|node| &node.next, second.link());
    second.write(|node| &node.key, 8);
    second.lead(|node| &node.next, next);
    second.lead(|node| &node.back, first.link());
    if replaces { turn.replace(root, first) } else { turn.put(root, first) }.map(drop)
}

/// Two nodes, of which one stays behind.
fn push_one_of_two(writer: &mut Writer) -> Result<(), WriteError> {
    let turn = writer.turn()?;
    let root = turn.root::<Node>(0);
    let (never, first) = (turn.alloc::<Node>()?, turn.alloc::<Node>()?);
    never.lead(|node| &node.next, first.link());
    first.write(|node| &node.key, 9);
    first.lead(|node| &node.next, never.link());
    first.lead(|node| &node.next, root.link());
    turn.put(root, first).map(drop)
}

fn abandon(writer: &mut Writer) -> Result<(), WriteError> {
    let turn = writer.turn()?;
    let _never = (turn.alloc::<Node>()?, turn.alloc::<[Field<u64>; 9]>()?);
    Ok(())
}

fn keys(writer: &mut Writer) -> Result<(Vec<u64>, Census), WriteError> {
    let turn = writer.turn()?;
    let mut keys = Vec::new();
    let mut at = turn.load(turn.root::<Node>(0));
    while let Some(node) = at {
        keys.push(node.key.get());
        assert!(keys.len() < 100, "a list without an end");
        at = turn.load(&node.next);
    }
    Ok((keys, turn.census()?))
}

/// What was wrong, if anything: a node that is reached is published, and the others are free or wait.
fn wrong(writer: &mut Writer) -> Result<(Vec<u64>, Census), String> {
    let (keys, census) = keys(writer).map_err(|error| error.to_string())?;
    if census.live != keys.len() as u64 || census.held != 0 {
        return Err(format!("{} nodes are reached: {census:?}", keys.len()));
    }
    Ok((keys, census))
}

type Call = fn(&mut Writer) -> Result<(), WriteError>;

const CALLS: [(&str, Call, &[u64], &[u64]); 9] = [
    ("push", |writer| push(writer, 9), &[3, 2, 1], &[9, 3, 2, 1]),
    ("take_out", take_out, &[3, 2, 1], &[3, 1]),
    ("replace", |writer| replace(writer, 9), &[3, 2, 1], &[9, 2, 1]),
    ("push_two", |writer| push_two(writer, false), &[3, 2, 1], &[9, 8, 3, 2, 1]),
    ("replace_by_two", |writer| push_two(writer, true), &[3, 2, 1], &[9, 8, 2, 1]),
    ("push_one_of_two", push_one_of_two, &[3, 2, 1], &[9, 3, 2, 1]),
    ("abandon", abandon, &[3, 2, 1], &[3, 2, 1]),
    ("flush", |writer| writer.flush().map(drop), &[3, 2, 1], &[3, 2, 1]),
    (
        "synchronize",
        |writer| writer.synchronize(Instant::now() + Duration::from_secs(20)),
        &[3, 2, 1],
        &[3, 2, 1],
    ),
];

/// Three nodes, and something that waits.
fn set_up(region: &Region, busy: bool) -> Option<barrierd_shared::Reader> {
    let reader = busy.then(|| region.reader().expect("a slot is free"));
    let mut writer = writer(region);
    for key in 1..=5 {
        push(&mut writer, key).expect("room");
    }
    for _ in 0..3 {
        take_out(&mut writer).expect("it is there");
    }
    replace(&mut writer, 2).expect("room");
    push(&mut writer, 3).expect("room");
    let (found, census) = wrong(&mut writer).expect("in order");
    assert_eq!((found, census.waiting), (vec![3, 2, 1], 4));
    reader
}

/// Kills the call at each of its steps, and who recovers from that at each of its; the last one finds all in order, or this
/// returns what was wrong. Returns the number of the call's steps.
fn try_all(
    name: &str,
    call: Call,
    before: &[u64],
    after: &[u64],
    busy: bool,
) -> Result<u64, String> {
    for step in 0.. {
        for second in 0.. {
            let region = region();
            let reader = set_up(&region, busy);
            let mut first = writer(&region);
            if let Some(done) = kill_at(step, move || call(&mut first)) {
                return done.map(|()| step).map_err(|error| format!("{name}: {error}"));
            }
            let recovers =
                || writer_of(&region).is_some_and(|mut writer| keys(&mut writer).is_ok());
            let recovered = kill_at(second, recovers);
            let mut last = writer(&region);
            let error =
                |what| format!("{name} killed at step {step}, recovery at {second}: {what}");
            let (found, census) = wrong(&mut last).map_err(error)?;
            if found != before && found != after {
                return Err(error(format!("{found:?}")));
            }
            drop(reader);
            last.flush().map_err(|what| error(what.to_string()))?;
            let (_, flushed) = wrong(&mut last).map_err(error)?;
            let blocks = |census: &Census| census.live + census.free + census.waiting;
            if flushed.waiting != 0 || blocks(&flushed) != blocks(&census) {
                return Err(error(format!("{census:?}, then {flushed:?}")));
            }
            if recovered.is_some() {
                break;
            }
        }
    }
    unreachable!()
}

/// A writer whose joining may be killed too.
fn writer_of(region: &Region) -> Option<Writer> {
    region.writer_with(&no_daemon()).ok()
}

#[test]
fn every_call_is_made_wholly_or_not_at_all_wherever_its_writer_is_killed() {
    let _alone = alone();
    for (name, call, before, after) in CALLS {
        for busy in [false, true] {
            // The calls that differ by what they publish alone need not be tried twice.
            if busy && name == "synchronize" || !busy && name.ends_with("two") {
                continue;
            }
            let steps = try_all(name, call, before, after, busy).expect("in order");
            assert!(steps > 0, "{name} has no step");

            eprintln!("{name} busy={busy}: {steps} steps");
        }
    }
}

#[test]
fn the_mutants_are_found() {
    let _alone = alone();
    for mutant in [Mutant::LateIntention, Mutant::Unasked, Mutant::LateChain] {
        leave_out(Some(mutant));
        let found = CALLS
            .iter()
            .filter(|call| mutant != Mutant::LateChain || call.0.ends_with("two"))
            .map(|&(name, call, before, after)| try_all(name, call, before, after, true))
            .take(3)
            .find_map(Result::err);
        leave_out(None);
        eprintln!("{mutant:?}: {}", found.expect("it is found"));
    }
}
