//! kovan (Crystalline, by births: a stalled reader keeps only what is older), with the head that it asks
//! for in front of each node, 40 bytes. Its collector is one for the process, so turns share it.

use super::{BY_BIRTHS, Headed, Scheme, Setting};
use kovan::{Atomic, Guard, RetiredNode};
use std::ptr::from_ref;
use std::sync::atomic::{AtomicPtr, Ordering::Acquire};

pub(crate) struct Kovan;

/// A thread's part. Before a thread rests it is to call `flush`, kovan's documentation says: else what
/// its slot holds back stays.
pub(crate) struct Local(());

impl Drop for Local {
    fn drop(&mut self) {
        kovan::flush();
    }
}

/// The same place as kovan's own atomic pointer, whose load is what protects.
#[inline]
pub(crate) fn atomic<T>(pointer: &AtomicPtr<T>) -> &Atomic<T> {
    const { assert!(size_of::<Atomic<u64>>() == size_of::<AtomicPtr<u64>>()) };
    const { assert!(align_of::<Atomic<u64>>() == align_of::<AtomicPtr<u64>>()) };
    // SAFETY: one word that is an address, read and written by atomic operations alone: `Kovan::new` has
    // looked. The borrow is the same.
    unsafe { &*from_ref(pointer).cast() }
}

impl Scheme for Kovan {
    type Local<'s> = Local;
    type Guard<'l> = Guard;
    // Its birth is what the thread had seen of kovan's epoch when it was made.
    type Header = RetiredNode;

    const NAME: &'static str = BY_BIRTHS;
    const LINKED_ONLY: bool = true;
    const OF_PROCESS: bool = true;

    fn new(_: &Setting) -> Self {
        let mut value = 7u64;
        let pointer = AtomicPtr::new(&raw mut value);
        let loaded = atomic(&pointer).load(Acquire, &kovan::pin()).as_raw();
        assert_eq!(loaded.addr(), (&raw const value).addr(), "the layout of kovan's Atomic");
        kovan::flush();
        Kovan
    }
    fn local(&self) -> Local {
        Local(())
    }
    #[inline]
    fn pin(_: &mut Local) -> Guard {
        kovan::pin()
    }
    #[inline]
    fn protect<T>(guard: &mut Guard, _: usize, pointer: &AtomicPtr<T>) -> *mut T {
        atomic(pointer).load(Acquire, guard).as_raw()
    }
    fn rest(_: &mut Local) {
        kovan::flush();
    }
    fn flush(_: &mut Local) -> bool {
        kovan::flush();
        true
    }
    #[inline]
    unsafe fn retire<T: Send + Headed<RetiredNode> + 'static>(_: &Guard, pointer: *mut T) {
        // SAFETY: as the caller says, from a box; `repr(C)` with the head as its first field, by `Headed`.
        unsafe { kovan::retire(pointer) }
    }
}
