//! The maps, each by what its documentation says.

use super::Turns;
use ahash::RandomState;
use barrierd_reclaim::Reclaimer;
use barrierd_structures::Map;
use barrierd_structures::map::MapHandle;
use std::collections::HashMap;

/// A map of some library, from 64 bits to 64 bits.
pub(super) trait Contender: Sync + Sized {
    /// What a thread calls it by.
    type Local<'m>
    where
        Self: 'm;

    /// Returns an empty one without a capacity.
    fn new() -> Self;
    fn local(&self) -> Self::Local<'_>;
    fn get(local: &mut Self::Local<'_>, key: u64) -> Option<u64>;
    fn insert(local: &mut Self::Local<'_>, key: u64, value: u64);
    fn remove(local: &mut Self::Local<'_>, key: u64);
}

/// All of them, in the order of the tables.
pub(super) fn each() -> Vec<(&'static str, Turns)> {
    vec![
        ("barrierd, handle", Turns::of::<ByHandle>()),
        ("barrierd, pin", Turns::of::<Map<u64, u64, RandomState>>()),
        ("papaya", Turns::of::<papaya::HashMap<u64, u64, RandomState>>()),
        ("scc", Turns::of::<scc::HashMap<u64, u64, RandomState>>()),
        ("dashmap", Turns::of::<dashmap::DashMap<u64, u64, RandomState>>()),
        ("flurry", Turns::of::<flurry::HashMap<u64, u64, RandomState>>()),
        ("crossbeam-skiplist", Turns::of::<crossbeam_skiplist::SkipMap<u64, u64>>()),
        ("RwLock<HashMap>, parking_lot", Turns::of::<Locked>()),
    ]
}

/// The same hash of a key in each map and each run.
fn hasher() -> RandomState {
    RandomState::with_seeds(1, 2, 3, 4)
}

impl Contender for Map<u64, u64, RandomState> {
    type Local<'m> = &'m Self;

    fn new() -> Self {
        Map::builder().hasher(hasher()).reclaimer(&Reclaimer::new()).build()
    }
    fn local(&self) -> &Self {
        self
    }
    #[inline]
    fn get(local: &mut &Self, key: u64) -> Option<u64> {
        local.pin().get(&key).copied()
    }
    #[inline]
    fn insert(local: &mut &Self, key: u64, value: u64) {
        local.pin().insert(key, value);
    }
    #[inline]
    fn remove(local: &mut &Self, key: u64) {
        local.pin().remove(&key);
    }
}

struct ByHandle(Map<u64, u64, RandomState>);

impl Contender for ByHandle {
    type Local<'m> = MapHandle<'m, u64, u64, RandomState>;

    fn new() -> Self {
        ByHandle(Contender::new())
    }
    fn local(&self) -> Self::Local<'_> {
        self.0.handle()
    }
    #[inline]
    fn get(local: &mut Self::Local<'_>, key: u64) -> Option<u64> {
        local.pin().get(&key).copied()
    }
    #[inline]
    fn insert(local: &mut Self::Local<'_>, key: u64, value: u64) {
        local.pin().insert(key, value);
    }
    #[inline]
    fn remove(local: &mut Self::Local<'_>, key: u64) {
        local.pin().remove(&key);
    }
}

impl Contender for papaya::HashMap<u64, u64, RandomState> {
    type Local<'m> = &'m Self;

    fn new() -> Self {
        papaya::HashMap::with_hasher(hasher())
    }
    fn local(&self) -> &Self {
        self
    }
    #[inline]
    fn get(local: &mut &Self, key: u64) -> Option<u64> {
        local.pin().get(&key).copied()
    }
    #[inline]
    fn insert(local: &mut &Self, key: u64, value: u64) {
        local.pin().insert(key, value);
    }
    #[inline]
    fn remove(local: &mut &Self, key: u64) {
        local.pin().remove(&key);
    }
}

impl Contender for scc::HashMap<u64, u64, RandomState> {
    type Local<'m> = &'m Self;

    fn new() -> Self {
        scc::HashMap::with_hasher(hasher())
    }
    fn local(&self) -> &Self {
        self
    }
    #[inline]
    fn get(local: &mut &Self, key: u64) -> Option<u64> {
        local.read_sync(&key, |_, value| *value)
    }
    #[inline]
    fn insert(local: &mut &Self, key: u64, value: u64) {
        local.upsert_sync(key, value);
    }
    #[inline]
    fn remove(local: &mut &Self, key: u64) {
        local.remove_sync(&key);
    }
}

impl Contender for dashmap::DashMap<u64, u64, RandomState> {
    type Local<'m> = &'m Self;

    fn new() -> Self {
        dashmap::DashMap::with_hasher(hasher())
    }
    fn local(&self) -> &Self {
        self
    }
    #[inline]
    fn get(local: &mut &Self, key: u64) -> Option<u64> {
        dashmap::DashMap::get(local, &key).map(|value| *value)
    }
    #[inline]
    fn insert(local: &mut &Self, key: u64, value: u64) {
        dashmap::DashMap::insert(local, key, value);
    }
    #[inline]
    fn remove(local: &mut &Self, key: u64) {
        dashmap::DashMap::remove(local, &key);
    }
}

impl Contender for flurry::HashMap<u64, u64, RandomState> {
    type Local<'m> = &'m Self;

    fn new() -> Self {
        flurry::HashMap::with_hasher(hasher())
    }
    fn local(&self) -> &Self {
        self
    }
    #[inline]
    fn get(local: &mut &Self, key: u64) -> Option<u64> {
        local.pin().get(&key).copied()
    }
    #[inline]
    fn insert(local: &mut &Self, key: u64, value: u64) {
        local.pin().insert(key, value);
    }
    #[inline]
    fn remove(local: &mut &Self, key: u64) {
        local.pin().remove(&key);
    }
}

impl Contender for crossbeam_skiplist::SkipMap<u64, u64> {
    type Local<'m> = &'m Self;

    fn new() -> Self {
        crossbeam_skiplist::SkipMap::new()
    }
    fn local(&self) -> &Self {
        self
    }
    #[inline]
    fn get(local: &mut &Self, key: u64) -> Option<u64> {
        crossbeam_skiplist::SkipMap::get(local, &key).map(|entry| *entry.value())
    }
    #[inline]
    fn insert(local: &mut &Self, key: u64, value: u64) {
        crossbeam_skiplist::SkipMap::insert(local, key, value);
    }
    #[inline]
    fn remove(local: &mut &Self, key: u64) {
        crossbeam_skiplist::SkipMap::remove(local, &key);
    }
}

struct Locked(parking_lot::RwLock<HashMap<u64, u64, RandomState>>);

impl Contender for Locked {
    type Local<'m> = &'m Self;

    fn new() -> Self {
        Locked(parking_lot::RwLock::new(HashMap::with_hasher(hasher())))
    }
    fn local(&self) -> &Self {
        self
    }
    #[inline]
    fn get(local: &mut &Self, key: u64) -> Option<u64> {
        local.0.read().get(&key).copied()
    }
    #[inline]
    fn insert(local: &mut &Self, key: u64, value: u64) {
        local.0.write().insert(key, value);
    }
    #[inline]
    fn remove(local: &mut &Self, key: u64) {
        local.0.write().remove(&key);
    }
}
