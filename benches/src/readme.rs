//! The README's table and picture, and what others used of the machine meanwhile: what stands between two marks there is
//! this program's.

use crate::report::Report;
use std::fs;
use std::io;
use std::path::Path;

const BEGIN: &str = "<!-- bench: from here on written by `make bench` -->";
const END: &str = "<!-- bench: to here -->";

/// `run`: how long it took, and what others used meanwhile.
pub(crate) fn rewrite(readme: &Path, report: &Report, run: &str) -> io::Result<()> {
    let text = fs::read_to_string(readme)?;
    let new =
        replace(&text, &format!("{run}\n\n{}", report.summary("docs/", "docs/performance.md")))
            .ok_or_else(|| io::Error::other(format!("{} has no bench marks", readme.display())))?;
    fs::write(readme, new)
}

fn replace(text: &str, summary: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{summary}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let new = replace(&text, "new\n").expect("marked");
        assert_eq!(new, format!("a\n{BEGIN}\n\nnew\n\n{END}\nb\n"));
        assert_eq!(replace(&new, "new\n"), Some(new));
        assert_eq!(replace("no marks", "new"), None);
    }
}
