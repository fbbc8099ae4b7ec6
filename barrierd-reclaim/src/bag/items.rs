//! Items, and bags of them: one seal stamps one bag.
//!
//! Owns the slots that a bag writes to and reads from, and keeps those of empty bags. It knows nothing of queues.

use super::{BAG_ITEMS, SPARE_BAGS};
use crate::protocol::Safe;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};

/// A retired object and how to free it; or a small closure and how to call it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    /// The object's pointer, or the closure's bytes, some of which may be padding.
    word: MaybeUninit<*mut ()>,
    free: unsafe fn(MaybeUninit<*mut ()>),
}

impl Item {
    /// Returns an item for an object behind a pointer.
    #[inline]
    pub(crate) fn new(ptr: *mut (), free: unsafe fn(*mut ())) -> Item {
        // SAFETY: `MaybeUninit<P>` has the size, the alignment and the ABI of `P`, so the two function
        // types are called alike; `free` is only ever called with the initialized `ptr`.
        let free = unsafe {
            core::mem::transmute::<unsafe fn(*mut ()), unsafe fn(MaybeUninit<*mut ()>)>(free)
        };
        Item { word: MaybeUninit::new(ptr), free }
    }

    /// Returns the same, with the pointer's type.
    #[inline]
    pub(crate) fn of<T>(ptr: *mut T, free: unsafe fn(*mut T)) -> Item {
        // SAFETY: `*mut T` and `*mut ()` are both thin pointers, so the two function types have the same
        // ABI; the pointer is cast alike.
        let free = unsafe { core::mem::transmute::<unsafe fn(*mut T), unsafe fn(*mut ())>(free) };
        Item::new(ptr.cast(), free)
    }

    /// Returns an item for a closure small enough to lie in the word. Only for domains that never have a hazard, which
    /// would be compared with it ([`ptr`](Item::ptr)).
    #[cfg(not(barrierd_loom))]
    #[inline]
    pub(crate) fn closure(
        word: MaybeUninit<*mut ()>,
        call: unsafe fn(MaybeUninit<*mut ()>),
    ) -> Item {
        Item { word, free: call }
    }

    /// Runs the destructor.
    ///
    /// # Safety
    /// The item has passed its barrier and no reader can hold it (or the domain has no readers any
    /// more), what `Reclaimer::retire_with` asks of its caller holds, and this is the only call.
    #[inline]
    pub(crate) unsafe fn free(self) {
        // SAFETY: `word` and `free` were given together, for one call, by `retire_with`'s caller.
        unsafe { (self.free)(self.word) }
    }

    /// Returns the object's pointer.
    pub(crate) fn ptr(&self) -> *mut () {
        // SAFETY: called for objects alone, whose word is their pointer: closures are in domains
        // without hazards and births.
        unsafe { self.word.assume_init() }
    }

    /// Returns the address that a hazard on it holds.
    pub(super) fn address(&self) -> u64 {
        self.ptr().addr() as u64
    }

    /// Returns its birth.
    ///
    /// # Safety
    /// The object begins with its birth (`Born` in `api/robust.rs`), and is not freed.
    pub(crate) unsafe fn birth(&self) -> u64 {
        // SAFETY: the caller promises that the object begins with its birth and is not freed; a birth never changes.
        unsafe { self.ptr().cast::<u64>().read() }
    }
}

/// Drops what came from a `Box`.
///
/// # Safety
/// `ptr` came from `Box::into_raw` and is not used again.
pub(crate) unsafe fn free_box<T>(ptr: *mut T) {
    // SAFETY: the caller promises that `ptr` came from `Box::into_raw` and is not used again.
    drop(unsafe { Box::from_raw(ptr) });
}

/// The earliest birth: births are eras.
pub(super) const FIRST_BIRTH: u64 = 1;

type Array = [MaybeUninit<Item>; BAG_ITEMS];

/// Room for [`BAG_ITEMS`], or none yet. Not a `Box`, because others point into it while it moves.
pub(super) struct Slots(Option<NonNull<Array>>);

// SAFETY: they own their room, and the items' pointers belong to no thread: `retire` demands that any thread may run
// the destructor.
unsafe impl Send for Slots {}

impl Slots {
    fn new() -> Slots {
        let room = Box::new([const { MaybeUninit::uninit() }; BAG_ITEMS]);
        Slots(Some(NonNull::from(Box::leak(room))))
    }

    /// Makes the room, if there is none yet.
    pub(super) fn make(&mut self) {
        if self.0.is_none() {
            *self = Slots::new();
        }
    }

    pub(super) fn start(&self) -> *mut Item {
        self.0.map_or(ptr::null_mut(), |room| room.as_ptr().cast())
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: leaked in `new`, dropped once. Items need no drop.
        drop(self.0.map(|room| unsafe { Box::from_raw(room.as_ptr()) }));
    }
}

/// Items that share both stamps.
pub(crate) struct Bag {
    /// Nanoseconds; `u64::MAX` while the bag is open.
    pub(super) ns: u64,
    pub(super) vtime: u64,
    /// No later than any of the items' births; 0 if they have none.
    pub(super) birth: u64,
    /// No earlier than any of them.
    pub(super) last_birth: u64,
    /// When its first item came, nanoseconds; `u64::MAX` if that is not known. For reports.
    pub(super) opened_ns: u64,
    /// The size of the items, bytes.
    pub(super) bytes: usize,
    /// The number of items that were sealed in this queue, up to the last one here.
    pub(super) sealed: u64,
    /// Items `taken..len` are there.
    pub(super) taken: usize,
    pub(super) len: usize,
    pub(super) slots: Slots,
}

impl core::fmt::Debug for Bag {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Bag { ns, vtime, .. } = self;
        write!(f, "Bag {{ {} items, ns: {ns}, vtime: {vtime} }}", self.waiting())
    }
}

impl Bag {
    /// Returns a bag without room for any item: a queue's first, since a thread that never retires needs none.
    pub(crate) fn without_slots() -> Bag {
        Bag {
            ns: u64::MAX,
            vtime: u64::MAX,
            birth: 0,
            last_birth: u64::MAX,
            opened_ns: u64::MAX,
            bytes: 0,
            sealed: 0,
            taken: 0,
            len: 0,
            slots: Slots(None),
        }
    }

    /// Returns when its first item came, nanoseconds. For reports.
    pub(crate) fn opened_ns(&self) -> u64 {
        self.opened_ns
    }

    /// Returns the number of items still there.
    pub(crate) fn waiting(&self) -> usize {
        self.len - self.taken
    }

    /// Takes the size of the items, bytes, so that it is counted once.
    pub(crate) fn take_bytes(&mut self) -> usize {
        core::mem::take(&mut self.bytes)
    }

    pub(crate) fn is_safe(&self, safe: Safe) -> bool {
        self.ns < safe.ns || self.vtime < safe.vtime
    }
}

impl Iterator for Bag {
    type Item = Item;

    /// Returns the next item, whatever the stamps are.
    fn next(&mut self) -> Option<Item> {
        if self.taken == self.len {
            return None;
        }
        // SAFETY: those from `taken` to `len` were written.
        let item = unsafe { self.slots.start().add(self.taken).read() };
        self.taken += 1;
        Some(item)
    }
}

impl Bag {
    pub(super) fn add(&mut self, item: Item) {
        assert!(self.len < BAG_ITEMS);
        // SAFETY: `len` is below BAG_ITEMS.
        unsafe { self.slots.start().add(self.len).write(item) };
        self.len += 1;
    }

    /// Takes out the items for which `free` returns false; the rest keeps its order. Each item comes with an even
    /// share of the bytes, which leaves with it: no bytes are lost, and an empty bag has none.
    pub(super) fn retain(&mut self, mut free: impl FnMut(&Item, usize) -> bool) {
        let (first, mut to) = (self.taken, self.taken);
        let (mut left, mut stay) = (self.bytes, 0);
        for from in first..self.len {
            // The last one's is what is left over.
            let bytes = left / (self.len - from);
            left -= bytes;
            // SAFETY: those from `taken` to `len` were written; `to` is never above `from`.
            unsafe {
                let item = self.slots.start().add(from).read();
                if free(&item, bytes) {
                    self.slots.start().add(to).write(item);
                    to += 1;
                    stay += bytes;
                }
            }
        }
        self.len = to;
        self.bytes = stay;
    }
}

/// Room of bags whose items are gone, for the next bags.
#[derive(Default)]
pub(super) struct Spares(Vec<Slots>);

impl Spares {
    /// Returns a bag without items.
    pub(super) fn bag(&mut self) -> Bag {
        let slots = self.0.pop().unwrap_or_else(Slots::new);
        Bag { slots, ..Bag::without_slots() }
    }

    /// Keeps the room of a bag whose items are gone, unless there is enough.
    pub(super) fn keep(&mut self, gone: Bag) {
        if self.0.len() < SPARE_BAGS {
            self.0.push(gone.slots);
        }
    }

    /// Returns a bag that has items; keeps the room of one that has none.
    pub(super) fn keep_if_empty(&mut self, bag: Bag) -> Option<Bag> {
        if bag.waiting() > 0 {
            return Some(bag);
        }
        self.keep(bag);
        None
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;

    unsafe fn nothing(_: *mut ()) {}

    #[test]
    fn the_room_of_so_many_empty_bags_is_kept_and_nothing_else_of_them() {
        let mut spares = Spares::default();
        let full = || {
            let mut bag = Spares::default().bag();
            (bag.ns, bag.birth, bag.last_birth, bag.opened_ns, bag.bytes) = (1, 2, 3, 4, 5);
            bag.add(Item::new(ptr::null_mut(), nothing));
            bag
        };
        assert_eq!(spares.keep_if_empty(full()).map(|bag| bag.waiting()), Some(1));
        for _ in 0..2 * SPARE_BAGS {
            let mut bag = full();
            assert!(bag.next().is_some());
            assert!(spares.keep_if_empty(bag).is_none());
        }
        assert_eq!(spares.0.len(), SPARE_BAGS);
        let room = spares.0.last().map(Slots::start);
        let bag = spares.bag();
        assert_eq!(Some(bag.slots.start()), room);
        assert_eq!((bag.waiting(), bag.birth, bag.bytes), (0, 0, 0));
        assert_eq!((bag.ns, bag.last_birth, bag.opened_ns), (u64::MAX, u64::MAX, u64::MAX));
    }
}
