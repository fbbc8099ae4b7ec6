//! A reader's parts, for the C interface beside this crate (`capi/`), whose sections are inline C.
//!
//! This file owns what leaves the crate for that, and the copy of what C hands back. No part of the interface of this crate.

use crate::link::View;
use crate::link::sealed::Sealed;
use crate::map::Map;
use crate::sync::Ordering;
use crate::{Reader, Region, layout, slots};

/// The layout that all of this is of.
pub const VERSION: u64 = layout::VERSION;
/// Where the roots are.
pub const ROOTS_AT: u64 = layout::ROOTS_AT;
/// Where the blocks begin.
pub const BLOCKS: u64 = layout::BLOCKS;
/// The bit of a slot that says that no section is open.
pub const IDLE: u64 = slots::IDLE;
/// The bits of a link that are the user's.
pub const TAG: u64 = crate::link::TAG;

/// What a section needs. The words are accessed by atomics alone, while the [`Reader`](crate::Reader) lives.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RawReader {
    /// The latest stamp, which may be read-only.
    pub latest: *const u64,
    /// The reader's slot.
    pub slot: *mut u64,
    /// A word that holds `number` in the process that made the reader, and in no child of it.
    pub process: *const u64,
    /// See `process`.
    pub number: u64,
    /// The data file's mapping, which may be read-only.
    pub data: *const u8,
    /// Its length.
    pub bytes: u64,
}

/// A section that was opened by such parts.
#[derive(Clone, Copy, Debug)]
pub struct RawSection<'r> {
    reader: &'r Reader,
    word: u64,
}

/// The reason why there is no section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSection {
    /// None is open.
    NotOpen,
    /// The reader is the parent's: this is a child of its process.
    Forked,
}

impl<'r> RawSection<'r> {
    /// Returns the reader's section.
    ///
    /// # Errors
    ///
    /// [`NoSection`].
    ///
    /// # Safety
    ///
    /// Nobody ends the section while this value lives.
    pub unsafe fn of(reader: &'r Reader) -> Result<RawSection<'r>, NoSection> {
        if !reader.is_of_this_process() {
            return Err(NoSection::Forked);
        }
        let word = reader.word();
        if word & IDLE == 0 { Ok(RawSection { reader, word }) } else { Err(NoSection::NotOpen) }
    }

    /// Returns the stamp that the section began with. Another one is another section; the same is mostly the same.
    #[must_use]
    pub fn stamp(&self) -> u64 {
        self.word
    }
}

/// Copies the bytes at `at`, if they lie in the region's data, as it is mapped for this `Region`. Returns whether they do.
///
/// They are taken out of the whole words that they are of, since everybody stores such words.
pub fn copy(region: &Region, at: *const u8, to: &mut [u8]) -> bool {
    let data = &region.inner().data;
    let Some(mut at) = (at.addr() as u64).checked_sub(data.begin().addr() as u64) else {
        return false;
    };
    let bytes = to.len() as u64;
    if bytes > data.len() || at > data.len() - bytes {
        return false;
    }
    let mut to = to;
    while !to.is_empty() {
        // Relaxed: as in `Field::get`. It is inside, since the data are whole words.
        let word = data.word(at & !7).load(Ordering::Relaxed).to_ne_bytes();
        let from = &word[(at & 7) as usize..];
        let (now, later) = to.split_at_mut(from.len().min(to.len()));
        now.copy_from_slice(&from[..now.len()]);
        at += now.len() as u64;
        to = later;
    }
    true
}

impl Sealed for RawSection<'_> {
    fn map(&self) -> &Map {
        self.reader.data()
    }
}

impl View for RawSection<'_> {}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;
    use crate::{Options, SharedCell};

    #[test]
    fn bytes_of_the_region_are_copied_from_any_place_and_no_others() {
        let region = Region::create_in_memory(Options::new(1 << 16)).expect("made");
        let value: [u8; 40] = std::array::from_fn(|at| u8::try_from(at).expect("few") ^ 0xa5);
        let mut writer = region.writer().expect("a slot");
        SharedCell::at(0).set(&mut writer, value).expect("room");
        let data = &region.inner().data;
        // The size comes first.
        let link = data.word(layout::root_at(0)).load(Ordering::Relaxed) & !TAG;
        let begin = data.begin().wrapping_add(usize::try_from(link + 8).expect("64 bits"));
        for (from, to) in (0..=40).flat_map(|to| (0..=to).map(move |from| (from, to))) {
            let mut seen = vec![0; to - from];
            assert!(copy(&region, begin.wrapping_add(from), &mut seen));
            assert_eq!(seen, value[from..to]);
        }
        let end = data.begin().wrapping_add(usize::try_from(data.len()).expect("64 bits"));
        let mut seen = [7; 3];
        assert!(copy(&region, end.wrapping_sub(3), &mut seen) && seen == [0; 3]);
        seen = [7; 3];
        for outside in [end.wrapping_sub(2), end, data.begin().wrapping_sub(1), value.as_ptr()] {
            assert!(!copy(&region, outside, &mut seen) && seen == [7; 3]);
        }
    }
}
