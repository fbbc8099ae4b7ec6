//! The report: Markdown, with the raw data as CSV and the pictures as SVG beside it.
//!
//! Owns where things are written and how tables look. Knows nothing of what they say, except which contestants are this
//! project's: those whose names begin with its own.

use crate::schemes::{AGAIN, BY_BIRTHS, HANDLE, MEMBARRIER, OURS, ROBUST};
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
struct Headline {
    /// The title of its table; empty: the first one.
    table: String,
    what: String,
    who: String,
    value: String,
}

/// A row in which contestants can be compared.
struct Contest {
    what: String,
    better: Better,
    /// Whether it belongs to those that show where the project stands.
    principal: bool,
    entries: Vec<(String, f64)>,
    /// By how much two of one kind differed, if both took part: 1 or more.
    noise: Option<f64>,
}

impl Contest {
    /// Returns how much better one is than the other; of what can't be divided, nothing.
    fn lead(&self, one: f64, two: f64) -> f64 {
        match self.better {
            Better::Lower => (two + f64::MIN_POSITIVE) / (one + f64::MIN_POSITIVE),
            Better::Higher => (one + f64::MIN_POSITIVE) / (two + f64::MIN_POSITIVE),
        }
    }

    /// Returns the best of this project's ways, or of the others.
    fn best(&self, ours: bool) -> Option<&(String, f64)> {
        let own = self.entries.iter().filter(|(name, _)| name.starts_with(OURS) == ours);
        own.fold(None, |best: Option<&(String, f64)>, one| match best {
            Some(best) if self.lead(best.1, one.1) >= 1.0 => Some(best),
            _ => Some(one),
        })
    }

    /// Returns the figure of the one that is called so, as text.
    fn shown(&self, name: &str) -> String {
        let found = self.entries.iter().find(|(own, _)| own == name);
        found.map_or(String::new(), |(_, value)| number(*value))
    }
}

/// "name: figure"
fn named((name, value): &(String, f64)) -> String {
    format!("{name}: {}", number(*value))
}

/// How far one is ahead, as text.
fn ahead(by: f64) -> String {
    if by < 1e6 { format!("{by:.2}") } else { "from nothing".into() }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Lower,
    Higher,
}

/// A lead below this says nothing.
const TIE: f64 = 1.03;

const STANDING: &str = "\
The rows that matter most to whoever has to choose: this project on its daemon (`barrierd`) and without, the best of its \
ways, the best of the others, and who is first by which factor; bold where it is somebody else. *Twice the same* is how far \
two contestants of one kind, `barrierd` and `(barrierd again)`, lie apart in that row: who leads by less leads by noise, and \
then, or within 3 per cent, neither is first.";

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
        let mut entries: Vec<(String, f64)> = entries.into_iter().collect();
        let value =
            |name: &str| entries.iter().find(|(own, _)| own == name).map(|(_, value)| *value);
        let noise = value(OURS).or_else(|| value(HANDLE)).zip(value(AGAIN)).map(|(one, two)| {
            (one.max(two) + f64::MIN_POSITIVE) / (one.min(two) + f64::MIN_POSITIVE)
        });
        entries.retain(|(name, _)| !name.starts_with('(') && takes_part(name));
        self.contests.push(Contest { what: what.into(), better, principal, entries, noise });
    }

    fn lost(&self) -> Table {
        let mut table =
            Table::new(["", "barrierd", "best of ours", "best of the others", "ahead of ours by"]);
        for contest in &self.contests {
            let (Some(ours), Some(theirs)) = (contest.best(true), contest.best(false)) else {
                continue;
            };
            let by = contest.lead(theirs.1, ours.1);
            if by >= TIE {
                let cells = [contest.shown(OURS), named(ours), named(theirs), ahead(by)];
                table.row(std::iter::once(contest.what.clone()).chain(cells));
            }
        }
        table
    }

    /// The principal rows: who is first, and whether that is more than noise.
    fn standing(&self) -> Table {
        let mut table = Table::new([
            "",
            OURS,
            MEMBARRIER,
            "best of ours",
            "best of the others",
            "first, by",
            "twice the same",
        ]);
        for contest in self.contests.iter().filter(|contest| contest.principal) {
            let Some(ours) = contest.best(true) else { continue };
            let theirs = contest.best(false);
            let noise = contest.noise.unwrap_or(1.0).max(TIE);
            let first = theirs.map_or(String::new(), |theirs| {
                let by = contest.lead(ours.1, theirs.1);
                match by {
                    _ if by >= noise => format!("{}, {}", ours.0, ahead(by)),
                    _ if 1.0 / by >= noise => format!("**{}**, {}", theirs.0, ahead(1.0 / by)),
                    _ => "neither".into(),
                }
            });
            table.row([
                contest.what.clone(),
                contest.shown(OURS),
                contest.shown(MEMBARRIER),
                named(ours),
                theirs.map_or(String::new(), named),
                first,
                contest.noise.map_or(String::new(), ahead),
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

    /// Tables and picture that sum it up, paths as seen from `from` (a prefix, "" or "docs/").
    pub(crate) fn summary(&self, from: &str) -> String {
        let mut text = String::new();
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
        let _ = write!(self.head, "\n{of_the_run}\n\n## In short\n\n{summary}");
        let standing = self.standing();
        if !standing.is_empty() {
            let _ =
                write!(self.head, "\n## Where it stands\n\n{STANDING}\n\n{}", standing.markdown());
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
    fn where_it_stands_names_the_first_unless_noise_is_larger() {
        let dir = tempfile::tempdir().expect("room");
        let mut report = Report::new(dir.path(), &[]).expect("room");
        let row = |own: f64, again: f64, peer: f64| {
            [("barrierd", own), (AGAIN, again), ("barrierd, membarrier", 9.0), ("peer", peer)]
                .map(|(name, value)| (name.to_owned(), value))
        };
        report.principal("won", Better::Lower, row(1.0, 1.1, 2.0));
        report.principal("lost", Better::Lower, row(4.0, 5.0, 2.0));
        report.principal("noise", Better::Lower, row(1.0, 3.0, 2.0));
        report.contest("not principal", Better::Lower, row(1.0, 1.0, 2.0));
        let text = report.standing().markdown();
        let line = |what: &str| text.lines().find(|line| line.contains(what));
        assert_eq!(
            line("won"),
            Some("| won | 1.00 | 9.00 | barrierd: 1.00 | peer: 2.00 | barrierd, 2.00 | 1.10 |")
        );
        assert_eq!(
            line("lost"),
            Some("| lost | 4.00 | 9.00 | barrierd: 4.00 | peer: 2.00 | **peer**, 2.00 | 1.25 |")
        );
        assert_eq!(
            line("noise"),
            Some("| noise | 1.00 | 9.00 | barrierd: 1.00 | peer: 2.00 | neither | 3.00 |")
        );
        assert_eq!(line("principal"), None);
        assert!(report.lost().markdown().contains("| lost |"));
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
