//! A map's writer is killed before each of its stores, in each of its calls, and so is whoever recovers from that: each call was
//! made wholly or not at all, also for `len`, and every block is accounted for.
#![cfg(feature = "testing")]

mod setup;

use std::collections::BTreeMap;

use barrierd_shared::testing::{Mutant, kill_at, leave_out};
use barrierd_shared::{Options, Region, SharedMap, View, WriteError, Writer};
use setup::{alone, no_daemon, writer_with};

const MAP: SharedMap<u64, u64> = SharedMap::at(0);

type Content = BTreeMap<u64, u64>;
type Call = fn(&mut Writer) -> Result<(), WriteError>;

fn writer(region: &Region) -> Writer {
    writer_with(region, &no_daemon())
}

fn insert(writer: &mut Writer, key: u64) -> Result<(), WriteError> {
    MAP.insert(writer, &key, key * 10).map(drop)
}

/// Returns what is in the map, if each way to see it agrees.
fn content(view: &impl View) -> Result<Content, String> {
    let all: Vec<_> = MAP.iter(view).collect();
    let content: Content = all.iter().copied().collect();
    if content.len() != all.len() || MAP.len(view) != all.len() {
        return Err(format!(
            "{} entries, {} keys, len {}",
            all.len(),
            content.len(),
            MAP.len(view)
        ));
    }
    match content.iter().find(|&(key, value)| MAP.of(view, key) != Some(*value)) {
        Some((key, _)) => Err(format!("{key} is walked to, and not found")),
        None => Ok(content),
    }
}

/// Kills the call at each of its steps, and a call that comes after, which recovers, at some of its. Returns the number of steps.
fn try_all(keys: u64, call: Call, after: &Content) -> Result<u64, String> {
    let before: Content = (0..keys).map(|key| (key, key * 10)).collect();
    for step in 0.. {
        // Not at all of its steps: the recovery's own are `killed.rs`'s matter.
        for second in (0..).step_by(if step % 16 == 0 { 3 } else { 41 }) {
            let region = Region::create_in_memory(Options::new(1 << 16).readers(2).writers(2))
                .expect("made");
            let mut reader = region.reader().expect("free");
            let mut first = writer(&region);
            for key in 0..keys {
                insert(&mut first, key).map_err(|error| error.to_string())?;
            }
            if let Some(done) = kill_at(step, move || call(&mut first)) {
                return done.map(|()| step).map_err(|error| error.to_string());
            }
            let error =
                |what: String| format!("killed at step {step}, recovery at {second}: {what}");
            // Readers need no recovery, except for `len`, which may be one call late.
            let seen: Content = MAP.iter(&reader.pin()).collect();
            if seen != before && seen != *after {
                return Err(error(format!("a reader sees {seen:?}")));
            }
            let recovered = kill_at(second, || {
                // The key is there before and after, or never.
                let mut writer = writer(&region);
                MAP.remove(&mut writer, &u64::MAX).is_ok()
            });
            let mut last = writer(&region);
            MAP.remove(&mut last, &u64::MAX).map_err(|what| error(what.to_string()))?;
            let turn = last.turn().map_err(|what| error(what.to_string()))?;
            let found = content(&turn).map_err(error)?;
            if found != seen || turn.census().map_err(|what| error(what.to_string()))?.held != 0 {
                return Err(error(format!("{found:?} instead of {seen:?}")));
            }
            drop(turn);
            // And nothing is lost: cleared, a table without entries is all that is left, or not even that.
            let all = MAP.clear(&mut last).and_then(|()| {
                drop(reader);
                last.flush()?;
                last.turn()?.census()
            });
            let all = all.map_err(|what| error(what.to_string()))?;
            if ![(2, 0), (0, 0)].contains(&(all.live, all.waiting)) {
                return Err(error(format!("cleared: {all:?}")));
            }
            if recovered.is_some() {
                break;
            }
        }
    }
    unreachable!()
}

fn with(keys: u64, change: impl Fn(&mut Content)) -> Content {
    let mut content = (0..keys).map(|key| (key, key * 10)).collect();
    change(&mut content);
    content
}

fn all() -> Vec<(&'static str, u64, Call, Content)> {
    vec![
        ("the first insert", 0, |writer| insert(writer, 7), with(0, |map| _ = map.insert(7, 70))),
        ("insert", 5, |writer| insert(writer, 7), with(5, |map| _ = map.insert(7, 70))),
        // The 66th entry comes upon 65 entries in 64 buckets: a segment, and a split.
        (
            "insert and grow",
            65,
            |writer| insert(writer, 70),
            with(65, |map| _ = map.insert(70, 700)),
        ),
        (
            "insert and split",
            80,
            |writer| insert(writer, 99),
            with(80, |map| _ = map.insert(99, 990)),
        ),
        (
            "replace",
            5,
            |writer| MAP.insert(writer, &3, 9).map(drop),
            with(5, |map| _ = map.insert(3, 9)),
        ),
        ("remove", 5, |writer| MAP.remove(writer, &3).map(drop), with(5, |map| _ = map.remove(&3))),
        ("clear", 6, |writer| MAP.clear(writer), with(0, |_| ())),
        ("clear what grew", 67, |writer| MAP.clear(writer), with(0, |_| ())),
    ]
}

#[test]
fn every_call_is_made_wholly_or_not_at_all_wherever_its_writer_is_killed() {
    let _alone = alone();
    for (name, keys, call, after) in all() {
        match try_all(keys, call, &after) {
            Ok(steps) => eprintln!("{name}: {steps} steps"),
            Err(what) => panic!("{name}: {what}"),
        }
    }
}

#[test]
fn the_mutants_are_found() {
    let _alone = alone();
    for mutant in [Mutant::EarlyCut, Mutant::LateIntention, Mutant::Unasked] {
        leave_out(Some(mutant));
        let found =
            all().into_iter().find_map(|(_, keys, call, after)| try_all(keys, call, &after).err());
        leave_out(None);
        eprintln!("{mutant:?}: {}", found.unwrap_or_else(|| panic!("{mutant:?} is not found")));
    }
}
