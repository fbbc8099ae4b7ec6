//! The few rows that whoever has to choose asks for first, each with a sentence in plain words.
//!
//! Owns which rows, and their words. A sentence has to be true whoever is first: who is, and by how much, is put into
//! it, and if it is another, the cause (`reasons`).

use crate::contest::Contest;
use crate::reasons;
use crate::report::{BESIDE, Item, Report, Table};
use crate::schemes::OURS;
use crate::standing;
use crate::stats::number;
use std::fmt::Write as _;

/// What to say before the tables in which a few contestants stand side by side.
pub(crate) const ABOUT_SIDES: &str = "\
The best known of the others, each with its figure; the sections below have all contestants, and the spreads.";

/// A row of the README's table.
struct Choice {
    /// What is done. What a star in `row` stands for is said behind it.
    does: &'static str,
    /// The row of the report; the first one that fits.
    row: &'static str,
    unit: Unit,
    /// The way of this project's that is meant; empty: the best of them.
    ours: &'static str,
    /// Another of its ways, whose figure stands beside.
    also: &'static str,
    /// The others that are meant, by how their names begin; empty: all.
    others: &'static [&'static str],
    /// What it means; `{}` is who is first, and by how much.
    means: &'static str,
}

/// A figure's unit, and how a lead in it is put into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Ns,
    Us,
    Millions,
    Objects,
}

const ANY: Choice =
    Choice { does: "", row: "", unit: Unit::Ns, ours: "", also: "", others: &[], means: "" };

const CHOICES: [Choice; 16] = [
    Choice {
        does: "begin and end a read, with nothing in between",
        row: "open and close a section, ns",
        means: "Every read pays this, however short it is: {}.",
        ..ANY
    },
    Choice {
        does: "read one object through a pointer",
        row: "the same, with a pointer loaded and followed, ns",
        means: "This is the smallest lookup that there is: {}.",
        ..ANY
    },
    Choice {
        does: "read a setting that is replaced each ms, in safe code",
        row: "cell: read, a writer each ms, ns",
        ours: "barrierd, reader",
        means: "Configurations and routing tables are read so: {}.",
        ..ANY
    },
    Choice {
        does: "replace that setting",
        row: "cell: replace, ns",
        ours: "barrierd, reader",
        means: "A new value comes, and the old one is freed when nobody reads it: {}.",
        ..ANY
    },
    Choice {
        does: "replace an object, and free the old one, at full speed",
        row: "replace and retire, the system's allocator, ns",
        ours: OURS,
        means: "This is all that an update costs, memory included: {}.",
        ..ANY
    },
    Choice {
        does: "the same, once a ms",
        row: "replace and retire every ms, p50, ns",
        ours: OURS,
        means: "A writer that comes seldom finds its caches cold: {}.",
        ..ANY
    },
    Choice {
        does: "from an object's removal until its memory is free, one each 10 us, median",
        row: "retired to freed, every 10 us, p50, us",
        unit: Unit::Us,
        means: "What is free soon can be used again while it is still in the cache: {}.",
        ..ANY
    },
    Choice {
        does: "objects that wait to be freed, two writers and a reader at full speed, median",
        row: "in flight, two writers and a reader, p50",
        unit: Unit::Objects,
        ours: OURS,
        also: "barrierd, robust guards",
        means: "With more threads than CPUs somebody is always stopped in the midst of a read: {}.",
        ..ANY
    },
    Choice {
        does: "objects that wait to be freed while one reader is stuck",
        row: "waiting behind a stalled reader",
        unit: Unit::Objects,
        ours: OURS,
        also: "barrierd, robust guards",
        means: "A stuck reader can make a program run out of memory: {}.",
        ..ANY
    },
    Choice {
        does: "objects that are never freed if nobody calls again",
        row: "left alone, never freed",
        unit: Unit::Objects,
        means: "A program that goes idle should hold nothing that is dead: {}.",
        ..ANY
    },
    Choice {
        does: "a stack in safe code, 2 threads",
        row: "stack, pairs, 2 threads, *M/s",
        unit: Unit::Millions,
        ours: "barrierd, handle",
        means: "All threads want the one word at its top: {}.",
        ..ANY
    },
    Choice {
        does: "a queue in safe code, 2 threads",
        row: "queue, pairs, 2 threads, *M/s",
        unit: Unit::Millions,
        ours: "barrierd, handle",
        means: "All threads want its two ends: {}.",
        ..ANY
    },
    Choice {
        does: "look a key up in a small hash map, 2 threads",
        row: "map: found, 1 Ki, 2 threads, *ns",
        means: "It fits into the cache, so that what threads do to each other shows: {}.",
        ..ANY
    },
    Choice {
        does: "look a key up in a hash map of a million entries",
        row: "map: found, 1 Mi, 1 thread, ns",
        means: "It does not fit into the cache, so that each step through memory counts: {}.",
        ..ANY
    },
    Choice {
        does: "look a key up in a map that another process writes, beside a database",
        row: "processes: get, 1 k writes a second, ns",
        others: &["LMDB"],
        means: "Both stay whole if a process is killed at any moment: {}.",
        ..ANY
    },
    Choice {
        does: "the same, beside tables under a lock",
        row: "processes: get, 1 k writes a second, ns",
        others: &["rwlock", "seqlock"],
        means: "A process that is killed leaves those locked or torn, and they can't grow: {}.",
        ..ANY
    },
];

/// Returns how the run went, in how many rows who is first, the table, and the picture. `from`: what leads to where the
/// report lies, "" or "docs/".
pub(crate) fn summary(report: &Report, from: &str) -> String {
    let mut text = String::new();
    let page = if from.is_empty() { String::new() } else { format!("{from}performance.md") };
    let contests = report.contests();
    if !contests.is_empty() {
        let _ = writeln!(
            text,
            "{} [Where others are first]({page}#where-others-are-first), and [why]({page}#why-another-is-first).",
            standing::counted(&contests),
        );
    }
    let rows = table(&contests);
    if !rows.is_empty() {
        let _ = write!(text, "\n{ABOUT}\n\n{}", rows.markdown());
    }
    let cover = report
        .items
        .iter()
        .find_map(|item| if let Item::Cover(it) = item { Some(it) } else { None });
    for item in &report.items {
        if let Item::Picture { name, says, .. } = item
            && Some(name) == cover
        {
            let _ = write!(text, "\n{ABOUT_COVER}\n\n![{says}]({from}{BESIDE}/{name}.svg)\n");
        }
    }
    text
}

const ABOUT: &str = "\
Whoever is first by more than noise stands in bold: noise is what two contestants of one kind differ by. A row in which they \
differ by more than 5 per cent is called unsteady. In parentheses: whose figure it is, or which of this project's ways is \
measured. *Apart*: how long a cache line takes from one CPU to the other and back.";

const ABOUT_COVER: &str = "\
The same structures, written once and run with each scheme in turn, beside crossbeam-epoch:";

fn table(contests: &[&Contest]) -> Table {
    let mut table = Table::new(["what is done", "barrierd", "best of the others", "what it means"]);
    for choice in &CHOICES {
        let Some(row) = contests.iter().find(|one| reasons::fits(choice.row, &one.what)) else {
            continue;
        };
        if let Some(cells) = choice.cells(row) {
            table.row(cells);
        }
    }
    table
}

impl Choice {
    fn takes_part(&self, name: &str) -> bool {
        if name.starts_with(OURS) {
            self.ours.is_empty() || self.ours == name
        } else {
            self.others.is_empty() || self.others.iter().any(|one| name.starts_with(one))
        }
    }

    fn cells(&self, row: &Contest) -> Option<[String; 4]> {
        let meant = row.only(|name| self.takes_part(name));
        let (ours, theirs) = (meant.best(true)?, meant.best(false)?);
        let first = meant.first();
        let figure = |who: &str, own: bool, value: f64| {
            let value = self.unit.shown(value);
            let leads = first.is_some_and(|((who, _), _)| who.starts_with(OURS) == own);
            let value = if leads { format!("**{value}**") } else { value };
            if who.is_empty() { value } else { format!("{value} ({who})") }
        };
        // Which of this project's ways it is, unless it is the plain one.
        let way = |name: &str| name.split_once(", ").map_or("", |(_, way)| way).to_owned();
        let also = row.value(self.also).map_or(String::new(), |value| {
            format!("; {} ({})", self.unit.shown(value), way(self.also))
        });
        let verdict = match first {
            None => "neither is ahead by more than noise".to_owned(),
            Some(((who, value), by)) if who.starts_with(OURS) => {
                self.unit.lead(OURS, &theirs.0, *value, by)
            }
            Some(((who, value), by)) => {
                let cause = reasons::of(&row.what, who)
                    .map_or("; why is not known".into(), |it| format!(", because {}", it.called));
                // "Mutex, std" would be two things in a sentence.
                let who = who.replace(", ", " of ");
                format!("{}{cause}", self.unit.lead(&who, OURS, *value, by))
            }
        };
        let unsteady = if meant.is_unsteady() { " Unsteady." } else { "" };
        let star = reasons::starred(self.row, &row.what);
        Some([
            format!("{}{}", self.does, star.map_or(String::new(), |it| format!(", {it}"))),
            format!("{}{also}", figure(&way(&ours.0), true, ours.1)),
            figure(&theirs.0, false, theirs.1),
            format!("{}{unsteady}", self.means.replace("{}", &verdict)),
        ])
    }
}

impl Unit {
    fn shown(self, value: f64) -> String {
        match self {
            Unit::Ns => format!("{} ns", number(value)),
            Unit::Us => format!("{} us", number(value)),
            Unit::Millions => format!("{} M/s", number(value)),
            Unit::Objects => {
                if value < 1e7 {
                    number(value.round()).replace(".00", "")
                } else {
                    number(value)
                }
            }
        }
    }

    /// Returns a lead in words.
    fn lead(self, first: &str, second: &str, figure: f64, by: f64) -> String {
        let more = if by < 2.0 {
            None
        } else if by < 10.0 {
            Some(format!("{by:.1}"))
        } else {
            Some(number(by.round()).trim_end_matches(".0").to_owned())
        };
        match (self, more) {
            (Unit::Objects, _) if figure == 0.0 => format!("{first} has none"),
            (Unit::Objects, None) => {
                format!("{second} has {:.0} per cent more", (by - 1.0) * 100.0)
            }
            (Unit::Objects, Some(times)) => format!("{second} has {times} times as many"),
            (_, None) => format!("{first} is {:.0} per cent faster", (by - 1.0) * 100.0),
            (_, Some(times)) => format!("{first} is {times} times as fast"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contest::Better;
    use crate::schemes::AGAIN;

    fn row(what: &str, better: Better, entries: &[(&str, f64)]) -> Contest {
        let entries = entries.iter().map(|(who, value)| ((*who).to_owned(), *value));
        Contest::new(what, better, true, entries, |_| true)
    }

    #[track_caller]
    fn line(contest: Contest, begins: &str) -> String {
        let text = table(&[&contest]).markdown();
        let found = text.lines().find(|line| line.starts_with(begins));
        found.unwrap_or_else(|| panic!("{text}")).to_owned()
    }

    #[test]
    fn who_is_first_is_bold_and_said() {
        let what = "open and close a section, ns";
        let entries = [("barrierd, by a handle", 0.5), (AGAIN, 0.51), ("peer", 1.25)];
        assert_eq!(
            line(row(what, Better::Lower, &entries), "| begin"),
            "| begin and end a read, with nothing in between | **0.50 ns** (by a handle) | 1.25 ns (peer) | Every read pays \
             this, however short it is: barrierd is 2.5 times as fast. |"
        );
        let entries = [("barrierd, by a handle", 1.5), (AGAIN, 1.8), ("peer", 1.0)];
        let lost = line(row(what, Better::Lower, &entries), "| begin");
        assert!(
            lost.contains("| 1.50 ns (by a handle) | **1.00 ns** (peer) |")
                && lost.ends_with("peer is 50 per cent faster; why is not known. Unsteady. |"),
            "{lost}"
        );
        let entries = [("barrierd, by a handle", 1.0), (AGAIN, 1.1), ("peer", 1.05)];
        let tie = line(row(what, Better::Lower, &entries), "| begin");
        assert!(tie.contains("neither is ahead") && !tie.contains("**"), "{tie}");
    }

    #[test]
    fn some_of_the_ways_beside_some_of_the_others() {
        let what = "waiting behind a stalled reader";
        let entries = [("barrierd", 2e6), ("barrierd, robust guards", 500.0), ("haphazard", 250.0)];
        let stuck = line(row(what, Better::Lower, &entries), "| objects that wait");
        assert!(
            stuck.contains("| 2,000,000; 500 (robust guards) | **250** (haphazard) |")
                && stuck.contains("barrierd has 8,000 times as many, because a section"),
            "{stuck}"
        );
        let what = "processes: get, 1 k writes a second, ns";
        let entries = [("barrierd-shared", 100.0), ("LMDB", 300.0), ("seqlock", 5.0)];
        let both = table(&[&row(what, Better::Lower, &entries)]).markdown();
        assert!(
            both.contains("barrierd is 3.0 times as fast")
                && both.contains("seqlock is 20 times as fast, because it is a flat table"),
            "{both}"
        );
        let what = "left alone, never freed";
        let entries = [("barrierd", 0.0), ("peer", 9.0)];
        let none = line(row(what, Better::Lower, &entries), "| objects that are never");
        assert!(
            none.contains("| **0** | 9 (peer) |") && none.contains("barrierd has none"),
            "{none}"
        );
    }

    #[test]
    fn what_a_star_stands_for_is_said() {
        let what = "queue, pairs, 2 threads, 65 ns apart, M/s";
        let entries = [("barrierd, handle", 30.0), ("peer", 10.0)];
        let text = line(row(what, Better::Higher, &entries), "| a queue");
        assert!(text.starts_with("| a queue in safe code, 2 threads, 65 ns apart |"), "{text}");
    }

    #[test]
    fn sentences_have_a_place_for_who_is_first() {
        for choice in &CHOICES {
            assert_eq!(choice.means.matches("{}").count(), 1, "{}", choice.does);
            assert!(choice.means.ends_with("{}."), "{}", choice.does);
        }
    }
}
