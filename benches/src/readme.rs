//! The README's part of it: what stands between two marks there is this program's.

use crate::choices;
use crate::report::{Item, Report};
use std::fs;
use std::io;
use std::path::Path;

const BEGIN: &str = "<!-- bench: from here on written by `make bench` -->";
const END: &str = "<!-- bench: to here -->";

/// Returns false, and leaves it as it is, if the figures of that run may not stand for the project.
pub(crate) fn rewrite(readme: &Path, report: &Report) -> io::Result<bool> {
    let Some((said, true)) = report.run() else { return Ok(false) };
    let machine = report.items.iter().find_map(|item| {
        if let Item::Machine(machine) = item { Some(machine.as_str()) } else { None }
    });
    let summary = choices::summary(report, "docs/");
    let own = format!(
        "Measured on {}. {said}\n\n{summary}",
        machine.unwrap_or("a machine without a name")
    );
    let text = fs::read_to_string(readme)?;
    let new = replace(&text, &own)
        .ok_or_else(|| io::Error::other(format!("{} has no bench marks", readme.display())))?;
    fs::write(readme, new)?;
    Ok(true)
}

fn replace(text: &str, summary: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{summary}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Better;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let new = replace(&text, "new\n").expect("marked");
        assert_eq!(new, format!("a\n{BEGIN}\n\nnew\n\n{END}\nb\n"));
        assert_eq!(replace(&new, "new\n"), Some(new));
        assert_eq!(replace("no marks", "new"), None);
    }

    #[test]
    fn an_unfit_run_leaves_the_readme_as_it_is() {
        let dir = tempfile::tempdir().expect("room");
        let readme = dir.path().join("README.md");
        let old = format!("{BEGIN}\nof before\n{END}\n");
        fs::write(&readme, &old).expect("room");
        let mut report = Report::new(dir.path()).expect("room");
        report.machine("Linux 6.18, on 2 CPUs; load before the run: 0.1".into());
        let entries = [("barrierd", 1.0), ("peer", 2.0)].map(|(who, ns)| (who.to_owned(), ns));
        report.principal("open and close a section, ns", Better::Lower, entries);
        // One that never came to its end is not fit either.
        assert!(!rewrite(&readme, &report).expect("read"));
        let mut unfit = report.clone();
        unfit.ran("The run took 1 s.".into(), false);
        assert!(!rewrite(&readme, &unfit).expect("read"));
        assert_eq!(fs::read_to_string(&readme).expect("there"), old);
        report.ran("The run took 1 s.".into(), true);
        assert!(rewrite(&readme, &report).expect("written"));
        let new = fs::read_to_string(&readme).expect("there");
        assert!(
            new.contains(
                "Measured on Linux 6.18, on 2 CPUs; load before the run: 0.1. The run took 1 s."
            ) && new.contains("| **1.00 ns** | 2.00 ns (peer) |")
                && new.contains("(docs/performance.md#where-others-are-first)")
                && !new.contains("of before"),
            "{new}"
        );
    }
}
