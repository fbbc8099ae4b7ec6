//! Names of groups.
//!
//! Owns the reading of /etc/group, and no other source: this program is linked to no name service.

use std::fs;

const GROUPS: &str = "/etc/group";

/// The number of the group `name`: a number already, or a name in /etc/group.
///
/// # Errors
///
/// There is none of that name, or the file can't be read.
pub fn resolve(name: &str) -> Result<u32, String> {
    if let Ok(gid) = name.parse() {
        return Ok(gid);
    }
    let text = fs::read_to_string(GROUPS).map_err(|error| format!("reading {GROUPS}: {error}"))?;
    find(&text, name).ok_or_else(|| {
        format!(
            "{GROUPS} has no group {name}: make it (`groupadd --system {name}`) or give its number"
        )
    })
}

/// Finds it in the text of /etc/group: `name:password:gid:members`.
fn find(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_name_and_by_number() {
        let text = "root:x:0:\nbad:x:\nbarrier:x:117:alice,bob\n";
        assert_eq!(find(text, "barrier"), Some(117));
        assert_eq!(
            (find(text, "bad"), find(text, "alice"), find(text, "barr")),
            (None, None, None)
        );
        assert_eq!(resolve("root"), Ok(0));
        assert_eq!(resolve("4711"), Ok(4711));
        assert!(resolve("no such group").expect_err("none").contains("groupadd"));
    }
}
