//! The report as data: what was measured and said, item after item, in the order of the run.
//!
//! Owns what is kept, and the file that keeps it, a line of JSON for each item: so the pages can be written again, with
//! better words, without a new run (`page`, `readme`). Knows nothing of what the items say.

use crate::contest::Contest;
use crate::picture::Picture;
use crate::schemes::{BY_BIRTHS, OURS, ROBUST};
use crate::turns::Samples;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use crate::contest::Better;
pub(crate) use crate::table::Table;

/// One thing that a run has to say.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Item {
    /// What comes before everything else, in Markdown.
    Preface(String),
    /// What it ran on, in a sentence.
    Machine(String),
    /// An experiment begins, by its name; its title and its text stand in its file.
    Section(String),
    Say(String),
    Table {
        title: String,
        table: Table,
    },
    /// A picture, by the name of its file, and what it says to those who don't see it.
    Picture {
        name: String,
        says: String,
        picture: Picture,
    },
    /// The overview's picture, of those that were drawn.
    Cover(String),
    /// Raw samples, by the name of their file.
    Raw(String),
    Missing(String),
    Headline(Headline),
    Contest(Contest),
    /// The run's length, what others used meanwhile, and whether its figures may stand for the project.
    Run {
        said: String,
        fit: bool,
    },
}

/// A cell of the tables in which a few contestants stand side by side.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Headline {
    /// The title of its table; empty: that of the schemes.
    pub(crate) table: String,
    pub(crate) what: String,
    pub(crate) who: String,
    pub(crate) value: String,
}

#[derive(Clone)]
pub(crate) struct Report {
    dir: PathBuf,
    pub(crate) items: Vec<Item>,
}

/// Pictures and data lie there, beside the page.
pub(crate) const BESIDE: &str = "performance";
const FILE: &str = "performance/report.jsonl";

impl Report {
    pub(crate) fn new(dir: &Path) -> io::Result<Report> {
        fs::create_dir_all(dir.join(BESIDE))?;
        Ok(Report { dir: dir.into(), items: Vec::new() })
    }

    /// Returns the report of a run that is over.
    pub(crate) fn load(dir: &Path) -> io::Result<Report> {
        let text = fs::read_to_string(dir.join(FILE))?;
        let items = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        Ok(Report { dir: dir.into(), items })
    }

    /// Keeps it, so that its pages can be written again.
    pub(crate) fn save(&self) -> io::Result<()> {
        let mut text = String::new();
        for item in &self.items {
            text += &serde_json::to_string(item)?;
            text.push('\n');
        }
        fs::write(self.dir.join(FILE), text)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn preface(&mut self, text: &str) {
        self.items.push(Item::Preface(text.into()));
    }

    pub(crate) fn machine(&mut self, sentence: String) {
        self.items.push(Item::Machine(sentence));
    }

    pub(crate) fn section(&mut self, name: &str) {
        self.items.push(Item::Section(name.into()));
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.items.push(Item::Say(text.trim().into()));
    }

    pub(crate) fn table(&mut self, title: &str, table: &Table) {
        self.items.push(Item::Table { title: title.into(), table: table.clone() });
    }

    pub(crate) fn picture(&mut self, name: &str, picture: impl Into<Picture>, says: &str) {
        let picture = picture.into().without_holes();
        self.items.push(Item::Picture { name: name.into(), says: says.into(), picture });
    }

    pub(crate) fn cover(&mut self, name: &str) {
        self.items.push(Item::Cover(name.into()));
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
            Ok(()) => self.items.push(Item::Raw(name.into())),
            Err(error) => self.miss(format!("the data {name}: {error}")),
        }
    }

    /// A cell of the table whose columns are reclamation schemes.
    pub(crate) fn headline(&mut self, what: &str, who: &str, value: impl Into<String>) {
        self.headline_of("", what, who, value);
    }

    /// A cell of the table of that title, whose columns are those that are named here.
    pub(crate) fn headline_of(
        &mut self,
        table: &str,
        what: &str,
        who: &str,
        value: impl Into<String>,
    ) {
        let (table, what, who, value) = (table.into(), what.into(), who.into(), value.into());
        self.items.push(Item::Headline(Headline { table, what, who, value }));
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
        let contest = Contest::new(what, better, principal, entries, takes_part);
        self.items.push(Item::Contest(contest));
    }

    /// Names something that could not be measured: here, at the end, and to whoever runs it.
    pub(crate) fn miss(&mut self, what: impl Into<String>) {
        let what = what.into();
        eprintln!("         missing: {what}");
        self.items.push(Item::Missing(what));
    }

    pub(crate) fn ran(&mut self, said: String, fit: bool) {
        self.items.push(Item::Run { said, fit });
    }

    pub(crate) fn contests(&self) -> Vec<&Contest> {
        let mut all = Vec::new();
        for item in &self.items {
            if let Item::Contest(contest) = item {
                all.push(contest);
            }
        }
        all
    }

    /// What was said of the run at large, and whether its figures may stand for the project.
    pub(crate) fn run(&self) -> Option<(&str, bool)> {
        self.items.iter().find_map(|item| match item {
            Item::Run { said, fit } => Some((said.as_str(), *fit)),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Bars;
    use crate::stats::Spread;

    #[test]
    fn a_report_that_was_kept_is_the_same() {
        let dir = tempfile::tempdir().expect("room");
        let mut report = Report::new(dir.path()).expect("room");
        report.machine("A machine".into());
        report.section("reader");
        report.say("text with \"quotes\"\nand lines");
        let mut table = Table::new(["", "ns"]);
        table.row(["barrierd", "1.00"]);
        report.table("title", &table);
        let hole = Spread { low: f64::NAN, median: f64::NAN, high: f64::NAN };
        let bar = Spread { low: 1.0, median: 0.1 + 0.2, high: 3.0 };
        let bars = vec![("x".to_owned(), bar), ("no figure".to_owned(), hole)];
        let bars = Bars { groups: vec![("group".into(), bars)], ..Bars::default() };
        report.picture("reader", bars, "says");
        let entries = [("barrierd".to_owned(), 1.0), ("peer".to_owned(), f64::NAN)];
        report.principal("row, ns", Better::Lower, entries);
        report.miss("something");
        report.ran("The run took 1 s.".into(), false);
        report.save().expect("written");
        let again = Report::load(dir.path()).expect("read");
        assert_eq!(format!("{:?}", again.items), format!("{:?}", report.items));
        assert_eq!(again.run(), Some(("The run took 1 s.", false)));
        assert_eq!(again.contests().len(), 1);
    }

    #[test]
    fn raw_data_has_a_line_a_contestant() {
        let dir = tempfile::tempdir().expect("room");
        let mut report = Report::new(dir.path()).expect("room");
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
