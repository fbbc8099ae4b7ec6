//! The report: Markdown, with the raw data as CSV and the pictures as SVG beside it.
//!
//! Owns where things are written, and in which order. Knows nothing of what they say, except which contestants are this
//! project's: those whose names begin with its own.

use crate::contest::Contest;
use crate::schemes::{BY_BIRTHS, OURS, ROBUST};
use crate::standing;
use crate::turns::Samples;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use crate::contest::Better;
pub(crate) use crate::table::Table;

#[derive(Clone)]
pub(crate) struct Report {
    dir: PathBuf,
    head: String,
    text: String,
    /// The figures of the overview.
    headlines: Vec<Headline>,
    /// The overview's picture.
    cover: Option<(String, String)>,
    /// The columns of the overview's first table, in order; others follow as they come.
    columns: Vec<String>,
    /// Rows, for the list of those in which others are first.
    contests: Vec<Contest>,
    /// What could not be measured.
    missing: Vec<String>,
}

/// A figure of the overview.
#[derive(Clone)]
struct Headline {
    /// The title of its table; empty: the first one.
    table: String,
    what: String,
    who: String,
    value: String,
}

const FILE: &str = "performance.md";
const BESIDE: &str = "performance";

impl Report {
    pub(crate) fn new(dir: &Path, columns: &[&str]) -> io::Result<Report> {
        fs::create_dir_all(dir.join(BESIDE))?;
        Ok(Report {
            dir: dir.into(),
            head: String::new(),
            text: String::new(),
            headlines: Vec::new(),
            cover: None,
            contests: Vec::new(),
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            missing: Vec::new(),
        })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// What comes before everything else.
    pub(crate) fn preface(&mut self, text: &str) {
        self.head.push_str(text);
    }

    pub(crate) fn section(&mut self, title: &str) {
        let _ = write!(self.text, "\n## {title}\n");
    }

    pub(crate) fn say(&mut self, text: &str) {
        let _ = write!(self.text, "\n{}\n", text.trim());
    }

    pub(crate) fn table(&mut self, title: &str, table: &Table) {
        if !title.is_empty() {
            let _ = write!(self.text, "\n**{title}**\n");
        }
        let _ = write!(self.text, "\n{}", table.markdown());
    }

    /// A picture, beside the report.
    pub(crate) fn picture(&mut self, name: &str, svg: &str, says: &str) {
        match fs::write(self.dir.join(BESIDE).join(format!("{name}.svg")), svg) {
            Ok(()) => {
                let _ = write!(self.text, "\n![{says}]({BESIDE}/{name}.svg)\n");
            }
            Err(error) => self.miss(format!("the picture {name}: {error}")),
        }
    }

    /// Raw samples, beside the report: a line for each contestant, with a value for each round.
    pub(crate) fn raw(&mut self, name: &str, unit: &str, all: &[(String, Samples)]) {
        let mut text = format!("configuration,contestant,{unit} of each round\n");
        for (configuration, samples) in all {
            for (contestant, rounds) in samples.names.iter().zip(&samples.rounds) {
                let _ = write!(text, "\"{configuration}\",\"{contestant}\"");
                rounds.iter().for_each(|value| {
                    let places = if value.abs() < 100.0 { 3 } else { 0 };
                    let _ = write!(text, ",{value:.places$}");
                });
                text.push('\n');
            }
        }
        match fs::write(self.dir.join(BESIDE).join(format!("{name}.csv")), text) {
            Ok(()) => {
                let _ = write!(self.text, "\nRaw data: [{name}.csv]({BESIDE}/{name}.csv).\n");
            }
            Err(error) => self.miss(format!("the data {name}: {error}")),
        }
    }

    /// A cell of the overview's first table, whose columns are reclamation schemes.
    pub(crate) fn headline(&mut self, what: &str, who: &str, value: impl Into<String>) {
        self.headline_of("", what, who, value);
    }

    /// A cell of the overview's table of that title, whose columns are those that are named here.
    pub(crate) fn headline_of(
        &mut self,
        table: &str,
        what: &str,
        who: &str,
        value: impl Into<String>,
    ) {
        let (table, what, who, value) = (table.into(), what.into(), who.into(), value.into());
        self.headlines.push(Headline { table, what, who, value });
    }

    /// A row for the list of those in which others are first. Names in parentheses are bounds, and take no
    /// part.
    pub(crate) fn contest(
        &mut self,
        what: &str,
        better: Better,
        entries: impl IntoIterator<Item = (String, f64)>,
    ) {
        self.compare(what, better, false, entries, |_| true);
    }

    /// The same of a row that shows where the project stands, too.
    pub(crate) fn principal(
        &mut self,
        what: &str,
        better: Better,
        entries: impl IntoIterator<Item = (String, f64)>,
    ) {
        self.compare(what, better, true, entries, |_| true);
    }

    /// A principal row of one of this project's ways beside all others.
    pub(crate) fn principal_of(
        &mut self,
        what: &str,
        better: Better,
        entries: impl IntoIterator<Item = (String, f64)>,
        way: &str,
    ) {
        let takes_part = |name: &str| name == way || !name.starts_with(OURS);
        self.compare(&format!("{what}: {way}"), better, true, entries, takes_part);
    }

    /// A principal row of robust guards beside the peer that bounds what waits as they do.
    pub(crate) fn principal_robust(
        &mut self,
        what: &str,
        better: Better,
        entries: impl IntoIterator<Item = (String, f64)>,
    ) {
        let takes_part = |name: &str| name.starts_with(ROBUST) || name == BY_BIRTHS;
        let what = format!("robust guards beside {BY_BIRTHS}: {what}");
        self.compare(&what, better, true, entries, takes_part);
    }

    fn compare(
        &mut self,
        what: &str,
        better: Better,
        principal: bool,
        entries: impl IntoIterator<Item = (String, f64)>,
        takes_part: impl Fn(&str) -> bool,
    ) {
        self.contests.push(Contest::new(what, better, principal, entries, takes_part));
    }

    /// The overview's picture, of those that were written.
    pub(crate) fn cover(&mut self, name: &str, says: &str) {
        self.cover = Some((format!("{BESIDE}/{name}.svg"), says.into()));
    }

    /// Names something that could not be measured: here, at the end, and to whoever runs it.
    pub(crate) fn miss(&mut self, what: impl Into<String>) {
        let what = what.into();
        eprintln!("         missing: {what}");
        let _ = write!(self.text, "\n*Missing: {}*\n", what.trim());
        self.missing.push(what);
    }

    fn matrix(&self, table: &str) -> Table {
        let (mut rows, mut columns): (Vec<&str>, Vec<&str>) = Default::default();
        let headlines: Vec<&Headline> =
            self.headlines.iter().filter(|line| line.table == table).collect();
        let shown = |name: &&String| headlines.iter().any(|line| line.who == **name);
        columns.extend(self.columns.iter().filter(shown).map(String::as_str));
        for line in &headlines {
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

    /// Who is first in how many rows, tables and picture that sum it up; paths as seen from `from` (a prefix, "" or
    /// "docs/"), and the report as seen from there.
    pub(crate) fn summary(&self, from: &str, report: &str) -> String {
        let mut text = String::new();
        if !self.contests.is_empty() {
            let counted = standing::counted(&self.contests);
            let rows = format!("[where]({report}#where-others-are-first)");
            let why = format!("[why]({report}#why-another-is-first)");
            let _ = writeln!(text, "{counted} ({rows}, {why})");
        }
        let mut titles = vec![""];
        for line in &self.headlines {
            if !titles.contains(&line.table.as_str()) {
                titles.push(&line.table);
            }
        }
        for title in titles {
            let table = self.matrix(title);
            if !table.is_empty() {
                let gap = if text.is_empty() { "" } else { "\n" };
                let title = if title.is_empty() { "".into() } else { format!("{title}:\n\n") };
                let _ = write!(text, "{gap}{title}{}", table.markdown());
            }
        }
        if let Some((path, says)) = &self.cover {
            let _ = write!(text, "\n![{says}]({from}{path})\n");
        }
        text
    }

    /// Puts the summary on top, and what is to be said of the run at large.
    pub(crate) fn overview(&mut self, of_the_run: &str) {
        let contests = &self.contests;
        let (about, lost) = (standing::about_lost(contests), standing::lost(contests));
        let (causes, leaky) = (standing::causes(contests), standing::beside_leaky(contests));
        let principal = standing::standing(contests);
        if !leaky.is_empty() {
            self.section("Beside freeing nothing");
            self.say(standing::ABOUT_LEAKY);
            self.table("", &leaky);
        }
        if !lost.is_empty() {
            self.section("Where others are first");
            self.say(&about);
            self.table("", &lost);
        }
        if !causes.is_empty() {
            self.section("Why another is first");
            self.table("", &causes);
        }
        let summary = self.summary("", "");
        let _ = write!(self.head, "\n{of_the_run}\n\n## In short\n\n{summary}");
        if !principal.is_empty() {
            let (about, table) = (standing::ABOUT_STANDING, principal.markdown());
            let _ = write!(self.head, "\n## Where it stands\n\n{about}\n\n{table}");
        }
        let missing: Vec<String> =
            self.missing.iter().map(|what| format!("- {}", what.trim())).collect();
        if !missing.is_empty() {
            let _ = write!(self.head, "\nMissing in this run:\n{}\n", missing.join("\n"));
        }
    }

    pub(crate) fn finish(&self) -> io::Result<()> {
        fs::write(self.path(), format!("{}{}", self.head, self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overview_is_a_matrix_and_names_what_is_missing() {
        let dir = tempfile::tempdir().expect("room");
        let mut report = Report::new(dir.path(), &["barrierd", "nobody"]).expect("room");
        report.headline("pin, ns", "crossbeam-epoch", "3.50");
        report.headline("pin, ns", "barrierd", "0.80");
        report.headline("stack", "barrierd", "70.0");
        report.headline_of("A cell", "read, ns", "barrierd, reader", "0.60");
        report.miss("daemon rows: no root");
        report.overview("The run took 1 s.");
        report.finish().expect("written");
        let text = fs::read_to_string(report.path()).expect("there");
        assert!(
            text.contains("|  | barrierd | crossbeam-epoch |\n| --- | ---: | ---: |\n"),
            "{text}"
        );
        assert!(text.contains("| pin, ns | 0.80 | 3.50 |\n| stack | 70.0 |  |\n"), "{text}");
        let cell = "\nA cell:\n\n|  | barrierd, reader |\n| --- | ---: |\n| read, ns | 0.60 |\n";
        assert!(text.contains(cell), "{text}");
        assert!(text.contains("- daemon rows: no root"), "{text}");
    }

    #[test]
    fn raw_data_has_a_line_a_contestant() {
        let dir = tempfile::tempdir().expect("room");
        let mut report = Report::new(dir.path(), &[]).expect("room");
        let mut samples = Samples::default();
        samples.push("a", 1.0);
        samples.push("a", 234.56);
        report.raw("x", "ns", &[("two threads".into(), samples)]);
        let text = fs::read_to_string(dir.path().join("performance/x.csv")).expect("there");
        assert_eq!(
            text,
            "configuration,contestant,ns of each round\n\"two threads\",\"a\",1.000,235\n"
        );
    }
}
