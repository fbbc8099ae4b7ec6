//! A cell: a value that is replaced whole.
//!
//! This file owns the cell, in safe code on everything else.

use std::marker::PhantomData;

use crate::error::WriteError;
use crate::link::{SharedAtomic, View};
use crate::reader::Reader;
use crate::share::{Field, Plain, Shareable};
use crate::writer::Writer;

/// What a cell's root leads to. The size stands first, so that participants who differ about the type notice.
#[repr(C)]
struct Stored<T> {
    bytes: Field<u64>,
    value: Field<T>,
}

// SAFETY: two fields, each of which is whole words.
unsafe impl<T: Plain> Shareable for Stored<T> {}

/// A value at one of a region's roots, which readers read whole and writers replace whole: a configuration, say.
///
/// ```
/// use barrierd_shared::{Options, Region, SharedCell};
///
/// let region = Region::create_in_memory(Options::new(1 << 16))?;
/// let limits = SharedCell::<[u32; 4]>::at(0);
/// let (mut reader, mut writer) = (region.reader()?, region.writer()?);
/// assert_eq!(limits.get(&mut reader), None);
/// limits.set(&mut writer, [1, 2, 3, 4])?;
/// assert_eq!(limits.get(&mut reader), Some([1, 2, 3, 4]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SharedCell<T> {
    root: usize,
    holds: PhantomData<fn() -> T>,
}

impl<T> Clone for SharedCell<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for SharedCell<T> {}

impl<T: Plain> SharedCell<T> {
    /// Returns the cell at a root. All participants must agree on what each root is.
    #[must_use]
    pub const fn at(root: usize) -> SharedCell<T> {
        SharedCell { root, holds: PhantomData }
    }

    /// Returns the value; `None` if there is none, or one of another size. Readers never wait.
    ///
    /// # Panics
    ///
    /// If there is no such root; and in a child of the process that made the reader.
    #[inline]
    #[must_use]
    pub fn get(&self, reader: &mut Reader) -> Option<T> {
        self.of(&reader.pin())
    }

    /// Returns the value, read under a view.
    #[inline]
    #[must_use]
    pub fn of(&self, view: &impl View) -> Option<T> {
        let stored = view.load(view.root::<Stored<T>>(self.root))?;
        (stored.bytes.get() == size_of::<T>() as u64).then(|| stored.value.get())
    }

    /// Replaces the value.
    ///
    /// If there is no room it frees what it can, 4096 blocks a turn, and tries again once. It does not wait for readers.
    ///
    /// # Errors
    ///
    /// [`WriteError::OutOfMemory`], with what the old values wait for; and as for [`Writer::turn`].
    pub fn set(&self, writer: &mut Writer, value: T) -> Result<(), WriteError> {
        writer.make_room(size_of::<Stored<T>>() as u64)?;
        let mut turn = writer.turn()?;
        // Another writer may have been faster.
        if !turn.has_room::<Stored<T>>() {
            turn.reclaim()?;
        }
        let fresh = turn.alloc::<Stored<T>>()?;
        fresh.write(|stored| &stored.bytes, size_of::<T>() as u64);
        fresh.write(|stored| &stored.value, value);
        let root: &SharedAtomic<Stored<T>> = turn.root(self.root);
        turn.replace(root, fresh)?;
        Ok(())
    }

    /// Takes the value away.
    ///
    /// # Errors
    ///
    /// As for [`Writer::turn`].
    pub fn clear(&self, writer: &mut Writer) -> Result<(), WriteError> {
        let turn = writer.turn()?;
        let root: &SharedAtomic<Stored<T>> = turn.root(self.root);
        if root.link().is_null() { Ok(()) } else { turn.remove(root, crate::Link::NULL) }
    }
}
