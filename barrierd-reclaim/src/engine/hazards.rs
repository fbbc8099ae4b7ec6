//! All hazards of a domain, in lines that belong to one record each.
//!
//! # Who may touch what
//! 1. A slot is stored by its [`Hazard`](crate::Hazard) and loaded by scans.
//! 2. A line belongs to one record from [`Pool::take`] until it is given back, which its last hazard
//!    does; its `used` and `record` are touched by that record's owner alone.
//! 3. Lines live as long as the domain, and `place` never changes.
//! 4. A hazard's record stays in use while the hazard lives (`Record::holds`): the record's evidence
//!    (the stamps that it took or showed), or barriers that pass every thread, prove that the hazard is seen.

use super::pool::Pool;
use super::record::Record;
use crate::protocol::holders::HazardSlot;
use core::cell::Cell;
use core::fmt;
use core::ptr;

/// Hazards in a line.
const SLOTS: usize = 8;

/// Hazards of one thread, beside each other and away from other threads': two cache lines, since
/// processors fetch them in pairs.
#[repr(C, align(128))]
pub(crate) struct Line {
    slots: [HazardSlot; SLOTS],
    /// A bit for each slot that has a [`Hazard`](crate::Hazard).
    used: Cell<u8>,
    /// The record that it belongs to.
    pub(crate) record: Cell<*const Record>,
    /// Its number among the domain's lines.
    place: usize,
}

// A slot's line begins where its address has zeros. (Loom's atomics are larger; no model has lines.)
#[cfg(not(barrierd_loom))]
const _: () = assert!(size_of::<Line>() == align_of::<Line>());

// SAFETY: the slots are atomic, `used` and `record` follow rule 2, `place` rule 3.
unsafe impl Sync for Line {}
// SAFETY: nothing in it is tied to a thread; ownership moves through `Pool::take`.
unsafe impl Send for Line {}

impl Line {
    fn new(place: usize) -> Line {
        let slots = core::array::from_fn(|_| HazardSlot::new());
        Line { slots, used: Cell::new(0), record: Cell::new(ptr::null()), place }
    }

    /// Returns the number of a free slot; or of the first of two, `N`, that are free, one beside the other.
    fn find<const N: usize>(&self) -> Option<usize> {
        const { assert!(N == 1 || N == 2) };
        let free = !self.used.get();
        // A bit for the first slot of each pair, if the second one is free as well.
        let free = if N == 1 { free } else { free & free >> 1 & 0b0101_0101 };
        let first = free.trailing_zeros() as usize;
        (first < SLOTS).then_some(first)
    }
}

/// All hazards of a domain: as many lines as were ever in use at once, and used again.
pub(crate) struct Hazards(Pool<Line>);

impl Hazards {
    pub(crate) fn new() -> Hazards {
        Hazards(Pool::new())
    }

    /// Returns whether there never was one, so that a domain without hazards pays one load a scan. A line is in
    /// use before a hazard of it holds anything, so a scan that must see the one sees the other.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_new()
    }

    /// Returns every hazard of the lines that are in use. Nothing is loaded before it is called for.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &HazardSlot> {
        self.0.in_use().flat_map(|line| line.slots.iter())
    }

    /// Returns the price of a scan of them, in hazards that it loads.
    pub(crate) fn cost(&self) -> usize {
        self.0.cost() * SLOTS
    }

    /// Takes a free slot for `record`, whose owner calls, or two beside each other, and returns the first; the pointer
    /// is good for the whole line.
    pub(crate) fn take<const N: usize>(&self, record: &Record) -> *const HazardSlot {
        // SAFETY: null, or a line that the owner has, which lives as long as the domain.
        let own = unsafe { record.line().get().as_ref() };
        let (line, slot) = own
            .and_then(|line| Some((line, line.find::<N>()?)))
            .unwrap_or_else(|| (self.take_line(record), 0));
        line.used.set(line.used.get() | ((1 << N) - 1) << slot);
        line.record.set(record);
        ptr::from_ref(line).cast::<HazardSlot>().wrapping_add(slot)
    }

    /// Takes another line for `record`, with nothing in it.
    fn take_line(&self, record: &Record) -> &Line {
        let line = self.0.take(|place| Box::into_raw(Box::new(Line::new(place))));
        record.line().set(line);
        line
    }

    /// Gives a slot of `line` back, cleared; the line's owner calls.
    ///
    /// The line is given back with its last hazard, so there are no more lines than hazards. Until then the next
    /// hazard is taken from it.
    pub(crate) fn give_back(&self, record: &Record, line: &Line, slot: usize) {
        line.used.set(line.used.get() & !(1 << slot));
        if line.used.get() != 0 {
            record.line().set(line);
            return;
        }
        if ptr::eq(record.line().get(), line) {
            record.line().set(ptr::null());
        }
        self.0.give_back(line.place);
    }
}

impl fmt::Debug for Hazards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hazards").field("lines", &self.0.len()).finish_non_exhaustive()
    }
}

/// Returns the line that the slot is in, and its number there.
///
/// # Safety
/// `at` is the slot of a hazard that lives for `'r`, be it with low bits of the hazard's own.
pub(crate) unsafe fn line_of<'r>(at: *const HazardSlot) -> (&'r Line, usize) {
    let line = at.map_addr(|address| address & !(align_of::<Line>() - 1)).cast::<Line>();
    // SAFETY: as above; `Hazards::take` made it from the line's own pointer, and the line begins there.
    (unsafe { &*line }, (at.addr() - line.addr()) / size_of::<HazardSlot>())
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;

    #[test]
    fn slots_are_found_one_by_one_and_in_pairs() {
        let line = Line::new(0);
        for used in 0..=u8::MAX {
            line.used.set(used);
            let walk = |step: usize, bits: u8| {
                (0..SLOTS).step_by(step).find(|slot| used >> slot & bits == 0)
            };
            assert_eq!(line.find::<1>(), walk(1, 0b1), "{used:b}");
            assert_eq!(line.find::<2>(), walk(2, 0b11), "{used:b}");
        }
    }
}
