//! The maps, each by what its documentation says.

use super::Turns;
use crate::schemes::AGAIN;
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
        (AGAIN, Turns::of::<ByHandle>()),
        ("barrierd, pin", Turns::of::<Ours>()),
        ("papaya", Turns::of::<Papaya>()),
        ("scc", Turns::of::<Scc>()),
        ("dashmap", Turns::of::<DashMap>()),
        ("flurry", Turns::of::<Flurry>()),
        ("crossbeam-skiplist", Turns::of::<SkipMap>()),
        ("RwLock<HashMap>, parking_lot", Turns::of::<Locked>()),
    ]
}

/// The same hash of a key in each map and each run.
fn hasher() -> RandomState {
    RandomState::with_seeds(1, 2, 3, 4)
}

/// Maps whose calls go through what `pin` returns.
macro_rules! pinned {
    ($($map:ty: $new:expr, for<$m:lifetime> |$of:ident| -> $local:ty { $by:expr };)*) => { $(
        impl Contender for $map {
            type Local<$m> = $local;

            fn new() -> Self {
                $new
            }
            fn local(&self) -> Self::Local<'_> {
                let $of = self;
                $by
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
    )* };
}

/// Maps that are called through a shared reference: by what each of the three calls is.
macro_rules! shared {
    ($($map:ty: $new:expr, $get:expr, $insert:expr, $remove:expr;)*) => { $(
        impl Contender for $map {
            type Local<'m> = &'m Self;

            fn new() -> Self {
                $new
            }
            fn local(&self) -> &Self {
                self
            }
            #[inline]
            fn get(local: &mut &Self, key: u64) -> Option<u64> {
                let get: fn(&$map, u64) -> Option<u64> = $get;
                get(local, key)
            }
            #[inline]
            fn insert(local: &mut &Self, key: u64, value: u64) {
                let insert: fn(&$map, u64, u64) = $insert;
                insert(local, key, value);
            }
            #[inline]
            fn remove(local: &mut &Self, key: u64) {
                let remove: fn(&$map, u64) = $remove;
                remove(local, key);
            }
        }
    )* };
}

type Ours = Map<u64, u64, RandomState>;
type Papaya = papaya::HashMap<u64, u64, RandomState>;
type Flurry = flurry::HashMap<u64, u64, RandomState>;
type Scc = scc::HashMap<u64, u64, RandomState>;
type DashMap = dashmap::DashMap<u64, u64, RandomState>;
type SkipMap = crossbeam_skiplist::SkipMap<u64, u64>;

struct ByHandle(Ours);
struct Locked(parking_lot::RwLock<HashMap<u64, u64, RandomState>>);

pinned! {
    ByHandle: ByHandle(Contender::new()),
        for<'m> |of| -> MapHandle<'m, u64, u64, RandomState> { of.0.handle() };
    Ours: Map::builder().hasher(hasher()).reclaimer(&Reclaimer::new()).build(),
        for<'m> |of| -> &'m Self { of };
    Papaya: papaya::HashMap::with_hasher(hasher()), for<'m> |of| -> &'m Self { of };
    Flurry: flurry::HashMap::with_hasher(hasher()), for<'m> |of| -> &'m Self { of };
}

shared! {
    Scc: scc::HashMap::with_hasher(hasher()),
        |map, key| map.read_sync(&key, |_, value| *value),
        |map, key, value| _ = map.upsert_sync(key, value),
        |map, key| _ = map.remove_sync(&key);
    DashMap: dashmap::DashMap::with_hasher(hasher()),
        |map, key| map.get(&key).map(|value| *value),
        |map, key, value| _ = map.insert(key, value),
        |map, key| _ = map.remove(&key);
    SkipMap: crossbeam_skiplist::SkipMap::new(),
        |map, key| map.get(&key).map(|entry| *entry.value()),
        |map, key, value| _ = map.insert(key, value),
        |map, key| _ = map.remove(&key);
    Locked: Locked(parking_lot::RwLock::new(HashMap::with_hasher(hasher()))),
        |map, key| map.0.read().get(&key).copied(),
        |map, key, value| _ = map.0.write().insert(key, value),
        |map, key| _ = map.0.write().remove(&key);
}
