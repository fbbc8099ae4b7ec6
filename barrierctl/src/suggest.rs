//! What somebody may have meant who typed a word that there is not.
//!
//! Owns how like two words are. Knows no verb and no option: `args` hands in the names.

use std::ffi::OsString;

/// What to say of `arg`, with the name most like it, if one is; else, for a verb, with all of them.
pub(crate) fn unknown(arg: &OsString, names: impl Iterator<Item = String>) -> String {
    let said = format!("don't know what to do with {arg:?}");
    let Some(text) = arg.to_str().map(|text| text.split('=').next().unwrap_or_default()) else {
        return said;
    };
    let like = |name: &String| {
        let begun = text.len() > 3 && (name.starts_with(text) || text.starts_with(name.as_str()));
        begun || edits(text, name) <= 2
    };
    let names: Vec<_> = names.collect();
    match names.iter().filter(|name| like(name)).min_by_key(|name| edits(text, name)) {
        Some(name) => format!("{said}: did you mean {name}?"),
        None if text.starts_with('-') => said,
        None => format!("{said}: the verbs are {}", names.join(", ")),
    }
}

/// Letters to put in, take out or change to make the one the other.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.chars().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::edits;

    #[test]
    fn edits_are_counted() {
        for (a, b, n) in [("", "", 0), ("a", "", 1), ("stats", "status", 1), ("wacht", "watch", 2)]
        {
            assert_eq!((edits(a, b), edits(b, a)), (n, n), "{a} {b}");
        }
    }
}
