//! Whether this process lives in the initial user namespace, where every user has a number.
//!
//! This module owns that one question. It knows nothing of what an owner is worth.

use std::fs::read_to_string;

/// Returns whether every user of the host has a number here. True if `/proc` doesn't tell.
pub(crate) fn maps_everyone() -> bool {
    read_to_string("/proc/self/uid_map").map_or(true, |map| is_whole(&map))
}

fn is_whole(uid_map: &str) -> bool {
    uid_map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_is_the_initial_map_alone() {
        assert!(is_whole("         0          0 4294967295\n"));
        for map in ["", "0 1000 1\n", "0 1000 1\n1 100000 65536\n", "0 0 4294967294\n"] {
            assert!(!is_whole(map), "{map}");
        }
    }
}
