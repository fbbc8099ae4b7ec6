//! The report: Markdown, with the raw data as CSV and the pictures as SVG beside it.
//!
//! Owns where things are written and how tables look. Knows nothing of what they say.

use crate::stats::number;
use crate::turns::Samples;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) struct Report {
    dir: PathBuf,
    head: String,
    text: String,
    /// Rows of the overview: what, for whom, how much.
    headlines: Vec<(String, String, String)>,
    /// The overview's picture.
    cover: Option<(String, String)>,
    /// The overview's columns, in order; others follow as they come.
    columns: Vec<String>,
    /// Rows, for the list of those in which others are first.
    contests: Vec<Contest>,
    /// What could not be measured.
    missing: Vec<String>,
}

/// A row in which contestants can be compared.
struct Contest {
    what: String,
    better: Better,
    entries: Vec<(String, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Lower,
    Higher,
}

/// Whose names begin so are this project's.
const OURS: &str = "barrierd";

/// A lead below this says nothing.
const TIE: f64 = 1.03;

/// A table, all cells as text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Table {
        Table { head: head.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    pub(crate) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn markdown(&self) -> String {
        let mut text = String::new();
        let mut line = |cells: &[String]| {
            text.push('|');
            cells.iter().for_each(|cell| {
                let _ = write!(text, " {cell} |");
            });
            text.push('\n');
        };
        line(&self.head);
        let rule: Vec<String> =
            (0..self.head.len()).map(|n| if n == 0 { "---" } else { "---:" }.into()).collect();
        line(&rule);
        self.rows.iter().for_each(|row| line(row));
        text
    }
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

    /// What the preface's line `- WHAT: ...` says.
    pub(crate) fn told(&self, what: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix("- ")?.strip_prefix(what)?.strip_prefix(": "))
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

    /// A cell of the overview.
    pub(crate) fn headline(&mut self, what: &str, who: &str, value: impl Into<String>) {
        self.headlines.push((what.into(), who.into(), value.into()));
    }

    /// A row for the list of those in which others are first. Names in parentheses are bounds, and take no
    /// part.
    pub(crate) fn contest(
        &mut self,
        what: &str,
        better: Better,
        entries: impl IntoIterator<Item = (String, f64)>,
    ) {
        let entries = entries.into_iter().filter(|(name, _)| !name.starts_with('(')).collect();
        self.contests.push(Contest { what: what.into(), better, entries });
    }

    fn lost(&self) -> Table {
        let mut table =
            Table::new(["", "barrierd", "best of ours", "best of the others", "ahead of ours by"]);
        for contest in &self.contests {
            // How much better the first is than the second; of what can't be divided, nothing.
            let lead = |one: f64, two: f64| match contest.better {
                Better::Lower => (two + f64::MIN_POSITIVE) / (one + f64::MIN_POSITIVE),
                Better::Higher => (one + f64::MIN_POSITIVE) / (two + f64::MIN_POSITIVE),
            };
            let best = |ours: bool| {
                let own = contest.entries.iter().filter(|(name, _)| name.starts_with(OURS) == ours);
                own.fold(None, |best: Option<&(String, f64)>, one| match best {
                    Some(best) if lead(best.1, one.1) >= 1.0 => Some(best),
                    _ => Some(one),
                })
            };
            let (Some(ours), Some(theirs)) = (best(true), best(false)) else { continue };
            let plain = contest.entries.iter().find(|(name, _)| name == OURS);
            let by = lead(theirs.1, ours.1);
            if by < TIE {
                continue;
            }
            let shown = |(name, value): &(String, f64)| format!("{}: {}", name, number(*value));
            table.row([
                contest.what.clone(),
                plain.map_or(String::new(), |(_, value)| number(*value)),
                shown(ours),
                shown(theirs),
                if by < 1e6 { format!("{by:.2}") } else { "from nothing".into() },
            ]);
        }
        table
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

    fn matrix(&self) -> Table {
        let (mut rows, mut columns): (Vec<&str>, Vec<&str>) = Default::default();
        let shown = |name: &&String| self.headlines.iter().any(|(_, who, _)| who == *name);
        columns.extend(self.columns.iter().filter(shown).map(String::as_str));
        for (what, who, _) in &self.headlines {
            for (all, one) in [(&mut rows, what), (&mut columns, who)] {
                if !all.contains(&one.as_str()) {
                    all.push(one);
                }
            }
        }
        let mut table = Table::new(std::iter::once("").chain(columns.iter().copied()));
        for row in rows {
            let cell = |column: &&str| {
                let found =
                    self.headlines.iter().find(|(what, who, _)| what == row && who == column);
                found.map_or(String::new(), |(_, _, value)| value.clone())
            };
            table.row(std::iter::once(row.to_owned()).chain(columns.iter().map(cell)));
        }
        table
    }

    /// Table and picture that sum it up, paths as seen from `from` (a prefix, "" or "docs/").
    pub(crate) fn summary(&self, from: &str) -> String {
        let mut text = String::new();
        let table = self.matrix();
        if !table.is_empty() {
            text.push_str(&table.markdown());
        }
        if let Some((path, says)) = &self.cover {
            let _ = write!(text, "\n![{says}]({from}{path})\n");
        }
        text
    }

    /// Puts the summary on top.
    pub(crate) fn overview(&mut self) {
        let lost = self.lost();
        if !self.contests.is_empty() {
            self.section("Where others are first");
            self.say(&format!(
                "Of {} rows above, those in which the best of this project's ways is behind the best of the others by more \
                 than {:.0} per cent. What was tried about them, or why the protocol can't, is in docs/journal.md.",
                self.contests.len(),
                (TIE - 1.0) * 100.0
            ));
            self.table("", &lost);
        }
        let summary = self.summary("");
        let _ = write!(self.head, "\n## In short\n\n{summary}");
        let missing: Vec<String> =
            self.missing.iter().map(|what| format!("- {}", what.trim())).collect();
        if !missing.is_empty() {
            let _ = write!(self.head, "\nMissing in this run:\n{}\n", missing.join("\n"));
        }
    }

    pub(crate) fn finish(&self, seconds: f64) -> io::Result<()> {
        let text = format!("{}{}\n---\nThe run took {seconds:.0} s.\n", self.head, self.text);
        fs::write(self.path(), text)
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
        report.miss("daemon rows: no root");
        report.overview();
        report.finish(1.0).expect("written");
        let text = fs::read_to_string(report.path()).expect("there");
        assert!(
            text.contains("|  | barrierd | crossbeam-epoch |\n| --- | ---: | ---: |\n"),
            "{text}"
        );
        assert!(text.contains("| pin, ns | 0.80 | 3.50 |\n| stack | 70.0 |  |\n"), "{text}");
        assert!(text.contains("- daemon rows: no root"), "{text}");
    }

    #[test]
    fn only_rows_in_which_others_lead_are_listed() {
        let dir = tempfile::tempdir().expect("room");
        let mut report = Report::new(dir.path(), &[]).expect("room");
        let row = |own: f64, other: f64, peer: f64| {
            [("barrierd", own), ("barrierd, other", other), ("peer", peer), ("(bound)", 0.1)]
                .map(|(name, value)| (name.to_owned(), value))
        };
        report.contest("won", Better::Lower, row(1.0, 3.0, 2.0));
        report.contest("won by another of ours", Better::Higher, row(1.0, 3.0, 2.0));
        report.contest("lost", Better::Lower, row(4.0, 3.0, 2.0));
        report.contest("lost too", Better::Higher, row(1.0, 1.5, 3.0));
        report.contest("even", Better::Lower, row(2.0, 2.02, 2.0));
        report.contest("both nothing", Better::Lower, row(0.0, 0.0, 0.0));
        let text = report.lost().markdown();
        assert!(
            text.contains("| lost | 4.00 | barrierd, other: 3.00 | peer: 2.00 | 1.50 |"),
            "{text}"
        );
        assert!(
            text.contains("| lost too | 1.00 | barrierd, other: 1.50 | peer: 3.00 | 2.00 |"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 4, "{text}");
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
