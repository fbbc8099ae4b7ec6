//! The entries, for the `serde` crate.

use super::Map;
use super::traits::MOST_TRUSTED;
use core::fmt;
use core::hash::{BuildHasher, Hash};
use core::marker::PhantomData;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// A map of the entries that [`iter`](Map::iter) sees. A format that has to know their number first refuses it.
impl<K: Serialize, V: Serialize, S> Serialize for Map<K, V, S> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        serializer.collect_map(self.pin().iter())
    }
}

impl<'de, K, V, S> Deserialize<'de> for Map<K, V, S>
where
    K: Deserialize<'de> + Hash + Eq + Send + 'static,
    V: Deserialize<'de> + Send + 'static,
    S: BuildHasher + Default,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Map<K, V, S>, D::Error> {
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// What makes a map of them.
struct Entries<M>(PhantomData<M>);

impl<'de, K, V, S> Visitor<'de> for Entries<Map<K, V, S>>
where
    K: Deserialize<'de> + Hash + Eq + Send + 'static,
    V: Deserialize<'de> + Send + 'static,
    S: BuildHasher + Default,
{
    type Value = Map<K, V, S>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Map<K, V, S>, A::Error> {
        let map = Map::default();
        map.reserve(entries.size_hint().unwrap_or(0).min(MOST_TRUSTED));
        while let Some((key, value)) = entries.next_entry()? {
            map.pin().insert(key, value);
        }
        Ok(map)
    }
}
