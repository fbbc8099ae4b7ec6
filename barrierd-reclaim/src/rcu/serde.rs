//! The current value, for the `serde` crate.

use super::Rcu;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

impl<T: Serialize> Serialize for Rcu<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.read().serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Rcu<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rcu<T>, D::Error> {
        T::deserialize(deserializer).map(Rcu::new)
    }
}
