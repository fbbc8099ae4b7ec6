//! A reader's parts, for the C interface beside this crate (`capi/`), whose sections are inline C.
//!
//! This file owns what leaves the crate for that. No part of the interface of this crate.

use crate::link::View;
use crate::link::sealed::Sealed;
use crate::map::Map;
use crate::{Reader, layout, slots};

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

impl Sealed for RawSection<'_> {
    fn map(&self) -> &Map {
        self.reader.data()
    }
}

impl View for RawSection<'_> {}
