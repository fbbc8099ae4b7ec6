//! Rows in which contestants can be compared, and who is first in them.
//!
//! A lead counts if it is larger than what two contestants of one kind differ by. Knows nothing of what was measured.

use crate::schemes::{AGAIN, HANDLE, MEMBARRIER, OURS};
use crate::stats::number;
use crate::table::Table;

/// A row in which contestants can be compared.
#[derive(Clone)]
pub(crate) struct Contest {
    what: String,
    better: Better,
    /// Whether it belongs to those that show where the project stands.
    principal: bool,
    entries: Vec<(String, f64)>,
    /// By how much two of one kind differed, if both took part: 1 or more.
    noise: Option<f64>,
}

impl Contest {
    /// Names in parentheses are bounds, and take no part.
    pub(crate) fn new(
        what: &str,
        better: Better,
        principal: bool,
        entries: impl IntoIterator<Item = (String, f64)>,
        takes_part: impl Fn(&str) -> bool,
    ) -> Contest {
        let mut entries: Vec<(String, f64)> = entries.into_iter().collect();
        let value =
            |name: &str| entries.iter().find(|(own, _)| own == name).map(|(_, value)| *value);
        let noise = value(OURS).or_else(|| value(HANDLE)).zip(value(AGAIN)).map(|(one, two)| {
            (one.max(two) + f64::MIN_POSITIVE) / (one.min(two) + f64::MIN_POSITIVE)
        });
        entries.retain(|(name, _)| !name.starts_with('(') && takes_part(name));
        Contest { what: what.into(), better, principal, entries, noise }
    }

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

    /// Returns who is first, and by which factor; nobody, if the lead is within noise or one side is missing.
    fn first(&self) -> Option<(&(String, f64), f64)> {
        let (ours, theirs) = (self.best(true)?, self.best(false)?);
        let noise = self.noise.unwrap_or(1.0).max(TIE);
        let by = self.lead(ours.1, theirs.1);
        if by >= noise { Some((ours, by)) } else { (1.0 / by >= noise).then(|| (theirs, 1.0 / by)) }
    }

    /// Returns how far two of one kind differed, as text.
    fn steadiness(&self) -> String {
        let said = |noise| {
            let mark = if noise > STEADY { " (unsteady)" } else { "" };
            format!("{}{mark}", ahead(noise))
        };
        self.noise.map_or(String::new(), said)
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

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Lower,
    Higher,
}

/// A lead below this says nothing.
const TIE: f64 = 1.03;
/// Two of one kind that differ by more make a row unsteady.
const STEADY: f64 = 1.05;

const STANDING: &str = "\
The rows that matter most to whoever has to choose: this project on its daemon (`barrierd`) and without, the best of its \
ways, the best of the others, and who is first by which factor; bold where it is somebody else. *Twice the same* is how far \
two contestants of one kind, `barrierd` and `(barrierd again)`, lie apart in that row: who leads by less leads by noise, and \
then, or within 3 per cent, neither is first. Above 5 per cent the row is called unsteady.";

/// What to say before [`standing`].
pub(crate) fn about_standing(contests: &[Contest]) -> String {
    let firsts: Vec<_> = contests.iter().filter_map(Contest::first).collect();
    let ours = firsts.iter().filter(|(who, _)| who.0.starts_with(OURS)).count();
    let contested = |one: &&Contest| one.best(true).is_some() && one.best(false).is_some();
    let all = contests.iter().filter(contested).count();
    format!(
        "Of {all} rows in which both take part, this project is first in {ours}, another in {}, and neither, by more than \
         noise, in {}.\n\n{STANDING}",
        firsts.len() - ours,
        all - firsts.len(),
    )
}

/// What to say before [`lost`].
pub(crate) fn about_lost(contests: &[Contest]) -> String {
    format!(
        "Of {} rows above, those in which the best of this project's ways is behind the best of the others by more \
         than {:.0} per cent. What was tried about them, or why the protocol can't, is in docs/journal.md.",
        contests.len(),
        (TIE - 1.0) * 100.0
    )
}

/// Returns the rows in which the best of the others is ahead.
pub(crate) fn lost(contests: &[Contest]) -> Table {
    let mut table = Table::new([
        "",
        "barrierd",
        "best of ours",
        "best of the others",
        "ahead of ours by",
        "twice the same",
    ]);
    for contest in contests {
        let (Some(ours), Some(theirs)) = (contest.best(true), contest.best(false)) else {
            continue;
        };
        let by = contest.lead(theirs.1, ours.1);
        if by >= TIE {
            let (own, steady) = (contest.shown(OURS), contest.steadiness());
            let cells = [own, named(ours), named(theirs), ahead(by), steady];
            table.row(std::iter::once(contest.what.clone()).chain(cells));
        }
    }
    table
}

/// Returns the principal rows: who is first, and whether that is more than noise.
pub(crate) fn standing(contests: &[Contest]) -> Table {
    let mut table = Table::new([
        "",
        OURS,
        MEMBARRIER,
        "best of ours",
        "best of the others",
        "first, by",
        "twice the same",
    ]);
    for contest in contests.iter().filter(|contest| contest.principal) {
        let Some(ours) = contest.best(true) else { continue };
        let theirs = contest.best(false);
        let first = match (contest.first(), theirs) {
            (_, None) => String::new(),
            (None, _) => "neither".into(),
            (Some((who, by)), _) if who.0.starts_with(OURS) => {
                format!("{}, {}", who.0, ahead(by))
            }
            (Some((who, by)), _) => format!("**{}**, {}", who.0, ahead(by)),
        };
        table.row([
            contest.what.clone(),
            contest.shown(OURS),
            contest.shown(MEMBARRIER),
            named(ours),
            theirs.map_or(String::new(), named),
            first,
            contest.steadiness(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = Vec<(String, f64)>;

    fn contest(what: &str, better: Better, principal: bool, row: Row) -> Contest {
        Contest::new(what, better, principal, row, |_| true)
    }

    #[test]
    fn only_rows_in_which_others_lead_are_listed() {
        let mut all = Vec::new();
        let row = |own: f64, other: f64, peer: f64| {
            [("barrierd", own), ("barrierd, other", other), ("peer", peer), ("(bound)", 0.1)]
                .map(|(name, value)| (name.to_owned(), value))
                .to_vec()
        };
        all.push(contest("won", Better::Lower, false, row(1.0, 3.0, 2.0)));
        all.push(contest("won by another of ours", Better::Higher, false, row(1.0, 3.0, 2.0)));
        all.push(contest("lost", Better::Lower, false, row(4.0, 3.0, 2.0)));
        all.push(contest("lost too", Better::Higher, false, row(1.0, 1.5, 3.0)));
        all.push(contest("even", Better::Lower, false, row(2.0, 2.02, 2.0)));
        all.push(contest("both nothing", Better::Lower, false, row(0.0, 0.0, 0.0)));
        let text = lost(&all).markdown();
        assert!(
            text.contains("| lost | 4.00 | barrierd, other: 3.00 | peer: 2.00 | 1.50 |  |"),
            "{text}"
        );
        assert!(
            text.contains("| lost too | 1.00 | barrierd, other: 1.50 | peer: 3.00 | 2.00 |  |"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 4, "{text}");
    }

    #[test]
    fn where_it_stands_names_the_first_unless_noise_is_larger() {
        let mut all = Vec::new();
        let row = |own: f64, again: f64, peer: f64| {
            [("barrierd", own), (AGAIN, again), ("barrierd, membarrier", 9.0), ("peer", peer)]
                .map(|(name, value)| (name.to_owned(), value))
                .to_vec()
        };
        all.push(contest("won", Better::Lower, true, row(1.0, 1.1, 2.0)));
        all.push(contest("lost", Better::Lower, true, row(4.0, 5.0, 2.0)));
        all.push(contest("noise", Better::Lower, true, row(1.0, 3.0, 2.0)));
        all.push(contest("not principal", Better::Lower, false, row(1.0, 1.0, 2.0)));
        let text = standing(&all).markdown();
        let line = |what: &str| text.lines().find(|line| line.contains(what));
        assert_eq!(
            line("won"),
            Some(
                "| won | 1.00 | 9.00 | barrierd: 1.00 | peer: 2.00 | barrierd, 2.00 | 1.10 (unsteady) |"
            )
        );
        assert_eq!(
            line("lost"),
            Some(
                "| lost | 4.00 | 9.00 | barrierd: 4.00 | peer: 2.00 | **peer**, 2.00 | 1.25 (unsteady) |"
            )
        );
        assert_eq!(
            line("noise"),
            Some(
                "| noise | 1.00 | 9.00 | barrierd: 1.00 | peer: 2.00 | neither | 3.00 (unsteady) |"
            )
        );
        assert_eq!(line("principal"), None);
        assert!(lost(&all).markdown().contains("| lost |"));
    }

    #[test]
    fn rows_are_counted_by_who_is_first() {
        let row =
            |own: f64, peer: f64| vec![("barrierd".to_owned(), own), ("peer".to_owned(), peer)];
        let mut all: Vec<Contest> = [(1.0, 2.0), (1.0, 3.0), (2.0, 1.0), (1.0, 1.01)]
            .map(|(own, peer)| contest("row", Better::Lower, true, row(own, peer)))
            .into();
        all.push(contest("alone", Better::Lower, true, vec![("barrierd".to_owned(), 1.0)]));
        let about = about_standing(&all);
        assert!(
            about.starts_with("Of 4 rows in which both take part, this project is first in 2, another in 1, and neither"),
            "{about}"
        );
        assert!(about.contains("noise, in 1."), "{about}");
    }
}
