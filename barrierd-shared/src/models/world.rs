//! What the models have in common: a region with a pair of numbers, those who read and write it, and how all of it is explored.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::blocks::HEADER;
use crate::layout::BLOCKS;
use crate::link::{SharedAtomic, View};
use crate::share::Field;
use crate::steps::Mutant;
use crate::steps::testing::{bury, kill_at, leave_out};
use crate::{Options, Reader, Region, WriteError, Writer, WriterOptions, shareable};

shareable! {
    /// Both numbers are the same.
    pub(super) struct Pair {
        one: Field<u64>,
        other: Field<u64>,
    }
}

/// Bytes of a pair's block.
pub(super) const BLOCK: usize = 48;

/// Returns a region with room for so many pairs.
pub(super) fn region(pairs: usize, readers: usize) -> Region {
    crate::reclaim::early::forget();
    let bytes = usize::try_from(BLOCKS).expect("few") + pairs * BLOCK;
    Region::create_in_memory(Options::new(bytes).readers(readers).writers(3)).expect("made")
}

/// Joins, without barriers and without patience.
pub(super) fn writer(region: &Region) -> Writer {
    let options = WriterOptions::default().barrier("/nowhere/barrier").membarrier(false);
    region.writer_with(&options.patience(Duration::ZERO)).expect("a slot is free")
}

/// Replaces the pair.
pub(super) fn set(writer: &mut Writer, number: u64) -> Result<(), WriteError> {
    let turn = writer.turn()?;
    let fresh = turn.alloc::<Pair>()?;
    fresh.write(|pair| &pair.one, number);
    fresh.write(|pair| &pair.other, number);
    let root: &SharedAtomic<Pair> = turn.root(0);
    turn.replace(root, fresh)?;
    Ok(())
}

/// Returns the number in the pair, which is used until then.
pub(super) fn number(view: &impl View) -> u64 {
    number_after(view, || ())
}

/// The same, with something between finding and using it.
pub(super) fn number_after(view: &impl View, found: impl FnOnce()) -> u64 {
    let pair = view.load(view.root::<Pair>(0)).expect("there is always one");
    found();
    let found = (pair.one.get(), pair.other.get());
    view.map().used(pair.link().offset() - HEADER);
    assert_eq!(found.0, found.1, "read after it was freed");
    found.0
}

/// Reads the pair in a section.
pub(super) fn get(reader: &mut Reader) -> u64 {
    number(&reader.pin())
}

/// Explores every execution with so many preemptions.
pub(super) fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(model);
}

/// Explores a model in which somebody is killed before its first store, its second one, and so on, as long as it comes to that.
pub(super) fn at_each_store(model: impl Fn(u64, &AtomicBool) + Copy + Sync + Send + 'static) {
    let steps = (0..).take_while(|&step| {
        let came = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&came);
        explore(2, move || model(step, &noted));
        came.load(Ordering::Relaxed)
    });
    let steps = steps.count();
    assert!(steps > 20, "{steps} stores");
}

/// Does `work` with what somebody has, who is killed before a store, and whose locks then go. Notes whether it came to that.
pub(super) fn killed<T>(mut has: T, step: u64, came: &AtomicBool, work: impl FnOnce(&mut T)) {
    let is_killed = kill_at(step, || work(&mut has)).is_none();
    came.fetch_or(is_killed, Ordering::Relaxed);
    bury(has);
}

/// Asserts that loom finds a violation where a rule is left out.
pub(super) fn rejects(mutant: Mutant, exploration: impl FnOnce()) {
    leave_out(Some(mutant));
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let rejected = catch_unwind(AssertUnwindSafe(exploration)).is_err();
    std::panic::set_hook(hook);
    leave_out(None);
    assert!(rejected, "loom found no violation with {mutant:?}");
}
