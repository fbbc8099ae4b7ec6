//! The report's page, Markdown, with the pictures beside it: what `report` holds, put in the order of a reader.
//!
//! Owns where things stand. What is said of who is first comes from `standing` and `choices`.

use crate::choices;
use crate::contest::Contest;
use crate::experiments::ALL;
use crate::report::{BESIDE, Headline, Item, Report, Table};
use crate::schemes::OVERVIEW;
use crate::standing;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::PathBuf;

const FILE: &str = "performance.md";

/// Writes the page and its pictures; returns where.
pub(crate) fn write(report: &Report) -> io::Result<PathBuf> {
    for item in &report.items {
        if let Item::Picture { name, picture, .. } = item {
            fs::write(report.dir().join(BESIDE).join(format!("{name}.svg")), picture.svg())?;
        }
    }
    let path = report.dir().join(FILE);
    fs::write(&path, text(report))?;
    Ok(path)
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for item in &report.items {
        if let Item::Preface(preface) = item {
            text += preface;
        }
    }
    let contests = report.contests();
    let said = report.run().map_or("", |(said, _)| said);
    let _ = write!(text, "\n{said}\n\n## In short\n\n{}", choices::summary(report, ""));
    part(&mut text, "Side by side", choices::ABOUT_SIDES, &side_by_side(report));
    let shown = |table: Table| if table.is_empty() { String::new() } else { table.markdown() };
    let principal = shown(standing::standing(&contests));
    part(&mut text, "Where it stands", standing::ABOUT_STANDING, &principal);
    let missing: Vec<String> = report
        .items
        .iter()
        .filter_map(|item| if let Item::Missing(what) = item { Some(what) } else { None })
        .map(|what| format!("- {}\n", what.trim()))
        .collect();
    if !missing.is_empty() {
        let _ = write!(text, "\nMissing in this run:\n{}", missing.concat());
    }
    sections(&mut text, report);
    at_the_end(&mut text, &contests);
    text
}

/// A part of the page, if there is anything in it.
fn part(text: &mut String, title: &str, about: &str, inside: &str) {
    if !inside.is_empty() {
        let _ = write!(text, "\n## {title}\n\n{about}\n\n{inside}");
    }
}

/// The experiments, each with its text.
fn sections(text: &mut String, report: &Report) {
    for item in &report.items {
        let _ = match item {
            Item::Section(name) => match ALL.iter().find(|one| one.name == name) {
                Some(one) => write!(text, "\n## {}\n\n{}\n", one.title, one.about.trim()),
                None => write!(text, "\n## {name}\n"),
            },
            Item::Say(said) => write!(text, "\n{said}\n"),
            Item::Table { title, table } => {
                let title = if title.is_empty() { "".into() } else { format!("\n**{title}**\n") };
                write!(text, "{title}\n{}", table.markdown())
            }
            Item::Picture { name, says, .. } if !is_cover(report, name) => {
                write!(text, "\n![{says}]({BESIDE}/{name}.svg)\n")
            }
            Item::Raw(name) => write!(text, "\nRaw data: [{name}.csv]({BESIDE}/{name}.csv).\n"),
            Item::Missing(what) => write!(text, "\n*Missing: {}*\n", what.trim()),
            // On top, or at the end.
            Item::Preface(_)
            | Item::Machine(_)
            | Item::Picture { .. }
            | Item::Cover(_)
            | Item::Headline(_)
            | Item::Contest(_)
            | Item::Run { .. } => Ok(()),
        };
    }
}

/// Whether that picture stands on top.
fn is_cover(report: &Report, name: &str) -> bool {
    report.items.iter().any(|item| matches!(item, Item::Cover(cover) if cover == name))
}

fn at_the_end(text: &mut String, contests: &[&Contest]) {
    let leaky = standing::beside_leaky(contests);
    if !leaky.is_empty() {
        part(text, "Beside freeing nothing", standing::ABOUT_LEAKY, &leaky.markdown());
    }
    let lost = standing::lost(contests);
    if !lost.is_empty() {
        let about = standing::about_lost(contests);
        part(text, "Where others are first", &about, &lost.markdown());
    }
    let causes = standing::causes(contests);
    if !causes.is_empty() {
        let _ = write!(text, "\n## Why another is first\n\n{}", causes.markdown());
    }
}

/// The tables in which a few contestants stand beside each other.
fn side_by_side(report: &Report) -> String {
    let mut headlines: Vec<&Headline> = Vec::new();
    for item in &report.items {
        if let Item::Headline(line) = item {
            headlines.push(line);
        }
    }
    let mut titles: Vec<&str> = Vec::new();
    for line in &headlines {
        if !titles.contains(&line.table.as_str()) {
            titles.push(&line.table);
        }
    }
    let mut text = String::new();
    for title in titles {
        let own: Vec<&Headline> =
            headlines.iter().copied().filter(|line| line.table == title).collect();
        let gap = if text.is_empty() { "" } else { "\n" };
        let title = if title.is_empty() { "".into() } else { format!("{title}:\n\n") };
        let _ = write!(text, "{gap}{title}{}", matrix(&own).markdown());
    }
    text
}

fn matrix(headlines: &[&Headline]) -> Table {
    let (mut rows, mut columns): (Vec<&str>, Vec<&str>) = Default::default();
    let shown = |name: &&str| headlines.iter().any(|line| line.who == **name);
    columns.extend(OVERVIEW.iter().filter(|name| shown(name)));
    for line in headlines {
        for (all, one) in [(&mut rows, &line.what), (&mut columns, &line.who)] {
            if !all.contains(&one.as_str()) {
                all.push(one);
            }
        }
    }
    let mut matrix = Table::new(std::iter::once("").chain(columns.iter().copied()));
    for row in rows {
        let cell = |column: &&str| {
            let found = headlines.iter().find(|line| line.what == row && line.who == *column);
            found.map_or(String::new(), |line| line.value.clone())
        };
        matrix.row(std::iter::once(row.to_owned()).chain(columns.iter().map(cell)));
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_page_has_matrices_and_names_what_is_missing() {
        let dir = tempfile::tempdir().expect("room");
        let mut report = Report::new(dir.path()).expect("room");
        report.section("reader");
        report.headline("pin, ns", "crossbeam-epoch", "3.50");
        report.headline("pin, ns", "barrierd", "0.80");
        report.headline("stack", "barrierd", "70.0");
        report.headline_of("A cell", "read, ns", "barrierd, reader", "0.60");
        report.miss("daemon rows: no root");
        report.ran("The run took 1 s.".into(), true);
        let path = write(&report).expect("written");
        let text = fs::read_to_string(path).expect("there");
        assert!(
            text.contains("|  | barrierd | crossbeam-epoch |\n| --- | ---: | ---: |\n"),
            "{text}"
        );
        assert!(text.contains("| pin, ns | 0.80 | 3.50 |\n| stack | 70.0 |  |\n"), "{text}");
        let cell = "\nA cell:\n\n|  | barrierd, reader |\n| --- | ---: |\n| read, ns | 0.60 |\n";
        assert!(text.contains(cell), "{text}");
        assert!(text.contains("- daemon rows: no root"), "{text}");
        let reader = ALL.iter().find(|one| one.name == "reader").expect("there is one");
        assert!(text.contains(&format!("\n## {}\n\n{}\n", reader.title, reader.about)), "{text}");
        assert!(text.contains("\nThe run took 1 s.\n"), "{text}");
    }

    /// What somebody changes in the words, the reasons or the tables has to be rendered.
    #[test]
    fn the_pages_of_the_last_run_are_what_its_data_and_the_code_say() {
        const RENDER: &str = "`make bench-render` writes it anew";
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let report = Report::load(&root.join("docs")).expect("the last run's data");
        let old = fs::read_to_string(root.join("docs/performance.md")).expect("the page");
        assert!(old == text(&report), "docs/performance.md: {RENDER}");
        for item in &report.items {
            if let Item::Picture { name, picture, .. } = item {
                let file = root.join(format!("docs/{BESIDE}/{name}.svg"));
                let old = fs::read_to_string(file).expect("the picture");
                assert!(old == picture.svg(), "docs/{BESIDE}/{name}.svg: {RENDER}");
            }
        }
        // The README's part is the last fit run's, which may be another one.
        if report.run().is_some_and(|(_, fit)| fit) {
            let dir = tempfile::tempdir().expect("room");
            let (own, copy) = (root.join("README.md"), dir.path().join("README.md"));
            fs::copy(&own, &copy).expect("room");
            crate::readme::rewrite(&copy, &report).expect("marked");
            let [old, new] = [own, copy].map(|file| fs::read_to_string(file).expect("there"));
            assert!(old == new, "README.md: {RENDER}");
        }
    }
}
