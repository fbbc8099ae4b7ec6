//! The cells, each by what its documentation says.

use super::Value;
use barrierd_reclaim::{Rcu, ReadGuard, Reader, Reclaimer};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, RwLock};

/// A cell of some library.
pub(super) trait Cell: Sync + Sized {
    /// What a thread reads with.
    type Local<'c>
    where
        Self: 'c;

    fn new() -> Self;
    fn local(&self) -> Self::Local<'_>;
    fn read(local: &mut Self::Local<'_>) -> u64;
    /// Called before the reads of a turn.
    fn refresh(_: &mut Self::Local<'_>) {}
    fn store(&self, value: Value);
}

pub(super) struct ByRead(Rcu<Value>);

impl Cell for ByRead {
    type Local<'c> = &'c Rcu<Value>;

    fn new() -> Self {
        ByRead(Rcu::with_reclaimer(Value::new(0), &Reclaimer::new()))
    }
    fn local(&self) -> &Rcu<Value> {
        &self.0
    }
    #[inline]
    fn read(local: &mut &Rcu<Value>) -> u64 {
        local.read().0[3]
    }
    fn store(&self, value: Value) {
        self.0.store(value);
    }
}

pub(super) struct ByReader(Rcu<Value>);

impl Cell for ByReader {
    type Local<'c> = Reader<'c, Value>;

    fn new() -> Self {
        ByReader(Rcu::with_reclaimer(Value::new(0), &Reclaimer::new()))
    }
    fn local(&self) -> Reader<'_, Value> {
        self.0.reader()
    }
    #[inline]
    fn read(local: &mut Reader<'_, Value>) -> u64 {
        local.get().0[3]
    }
    fn store(&self, value: Value) {
        self.0.store(value);
    }
}

/// One section, which the turns refresh.
pub(super) struct ByLatest(Rcu<Value>);

impl Cell for ByLatest {
    type Local<'c> = ReadGuard<'c, Value>;

    fn new() -> Self {
        ByLatest(Rcu::with_reclaimer(Value::new(0), &Reclaimer::new()))
    }
    fn local(&self) -> ReadGuard<'_, Value> {
        self.0.read()
    }
    #[inline]
    fn read(local: &mut ReadGuard<'_, Value>) -> u64 {
        local.latest().0[3]
    }
    fn refresh(local: &mut ReadGuard<'_, Value>) {
        local.refresh();
    }
    fn store(&self, value: Value) {
        self.0.store(value);
    }
}

impl Cell for arc_swap::ArcSwap<Value> {
    type Local<'c> = &'c Self;

    fn new() -> Self {
        arc_swap::ArcSwap::from_pointee(Value::new(0))
    }
    fn local(&self) -> &Self {
        self
    }
    #[inline]
    fn read(local: &mut &Self) -> u64 {
        local.load().0[3]
    }
    fn store(&self, value: Value) {
        arc_swap::ArcSwapAny::store(self, Arc::new(value));
    }
}

pub(super) struct ByCache(arc_swap::ArcSwap<Value>);

impl Cell for ByCache {
    type Local<'c> = arc_swap::Cache<&'c arc_swap::ArcSwap<Value>, Arc<Value>>;

    fn new() -> Self {
        ByCache(Cell::new())
    }
    fn local(&self) -> Self::Local<'_> {
        arc_swap::Cache::new(&self.0)
    }
    #[inline]
    fn read(local: &mut Self::Local<'_>) -> u64 {
        local.load().0[3]
    }
    fn store(&self, value: Value) {
        self.0.store(Arc::new(value));
    }
}

impl Cell for RwLock<Value> {
    type Local<'c> = &'c Self;

    fn new() -> Self {
        RwLock::new(Value::new(0))
    }
    fn local(&self) -> &Self {
        self
    }
    #[inline]
    fn read(local: &mut &Self) -> u64 {
        RwLock::read(local).map_or(0, |value| value.0[3])
    }
    fn store(&self, value: Value) {
        *self.write().expect("nobody panics") = value;
    }
}

impl Cell for parking_lot::RwLock<Value> {
    type Local<'c> = &'c Self;

    fn new() -> Self {
        parking_lot::RwLock::new(Value::new(0))
    }
    fn local(&self) -> &Self {
        self
    }
    #[inline]
    fn read(local: &mut &Self) -> u64 {
        parking_lot::RwLock::read(local).0[3]
    }
    fn store(&self, value: Value) {
        *self.write() = value;
    }
}

pub(super) struct Set(Value);

impl left_right::Absorb<Set> for Value {
    fn absorb_first(&mut self, set: &mut Set, _: &Self) {
        *self = set.0.clone();
    }
    fn absorb_second(&mut self, set: Set, _: &Self) {
        *self = set.0;
    }
    fn sync_with(&mut self, first: &Self) {
        *self = first.clone();
    }
}

pub(super) struct LeftRight(
    Mutex<left_right::WriteHandle<Value, Set>>,
    left_right::ReadHandleFactory<Value>,
);

impl Cell for LeftRight {
    type Local<'c> = left_right::ReadHandle<Value>;

    fn new() -> Self {
        let (write, read) = left_right::new_from_empty(Value::new(0));
        LeftRight(Mutex::new(write), read.factory())
    }
    fn local(&self) -> Self::Local<'_> {
        self.1.handle()
    }
    #[inline]
    fn read(local: &mut Self::Local<'_>) -> u64 {
        local.enter().map_or(0, |value| value.0[3])
    }
    fn store(&self, value: Value) {
        self.0.lock().expect("nobody panics").append(Set(value)).publish();
    }
}

/// A cell by hand, as a program without one would build it.
pub(super) struct Seize(seize::Collector, AtomicPtr<Value>);

impl Cell for Seize {
    type Local<'c> = &'c Self;

    fn new() -> Self {
        let first = Box::into_raw(Box::new(Value::new(0)));
        Seize(seize::Collector::new(), AtomicPtr::new(first))
    }
    fn local(&self) -> &Self {
        self
    }
    #[inline]
    fn read(local: &mut &Self) -> u64 {
        use seize::Guard as _;
        let guard = local.0.enter();
        // SAFETY: never null, from a box, retired after it was unlinked.
        unsafe { &*guard.protect(&local.1, Ordering::Acquire) }.0[3]
    }
    fn store(&self, value: Value) {
        use seize::Guard as _;
        let guard = self.0.enter();
        let old = self.1.swap(Box::into_raw(Box::new(value)), Ordering::AcqRel);
        // SAFETY: from a box, unlinked by this thread alone, retired once.
        unsafe { guard.defer_retire(old, seize::reclaim::boxed) };
    }
}

impl Drop for Seize {
    fn drop(&mut self) {
        // SAFETY: from a box, and the cell's alone.
        drop(unsafe { Box::from_raw(*self.1.get_mut()) });
    }
}

/// What a read and a replacement are without any reclamation: what is replaced stays for ever.
pub(super) struct Leaky(AtomicPtr<Value>);

impl Cell for Leaky {
    type Local<'c> = &'c Self;

    fn new() -> Self {
        Leaky(AtomicPtr::new(Box::into_raw(Box::new(Value::new(0)))))
    }
    fn local(&self) -> &Self {
        self
    }
    #[inline]
    fn read(local: &mut &Self) -> u64 {
        // SAFETY: never null, never freed.
        unsafe { &*local.0.load(Ordering::Acquire) }.0[3]
    }
    fn store(&self, value: Value) {
        self.0.swap(Box::into_raw(Box::new(value)), Ordering::AcqRel);
    }
}
