//! Where the project stands: who is first in how many rows, and why where it is another.
//!
//! Knows nothing of what was measured; reasons come from `reasons`.

use crate::contest::{Contest, TIE, ahead, named};
use crate::reasons;
use crate::schemes::{MEMBARRIER, OURS};
use crate::stats::number;
use crate::table::Table;

/// What stands beside a row in which another is first and nobody has written down why.
const NOT_EXPLAINED: &str = "**not explained**";

/// What to say before [`standing`].
pub(crate) const ABOUT_STANDING: &str = "\
The rows that matter most to whoever has to choose: this project on its daemon (`barrierd`) and without, the best of its \
ways, the best of the others, and who is first by which factor; bold where it is somebody else. *Twice the same* is how far \
two contestants of one kind, `barrierd` and `(barrierd again)`, lie apart in that row: who leads by less leads by noise, and \
then, or within 3 per cent, neither is first. Above 5 per cent the row is called unsteady.";

/// Returns in how many rows who is first, how many of the others' are explained, and which are not.
pub(crate) fn counted(contests: &[&Contest]) -> String {
    let contested = |one: &&&Contest| one.best(true).is_some() && one.best(false).is_some();
    let all = contests.iter().filter(contested).count();
    let (mut ours, mut others, mut open) = (0, 0, Vec::new());
    for contest in contests {
        match contest.first() {
            Some((who, _)) if who.0.starts_with(OURS) => ours += 1,
            Some((who, _)) => {
                others += 1;
                if reasons::of(&contest.what, &who.0).is_none() {
                    open.push(contest.what.as_str());
                }
            }
            None => {}
        }
    }
    let neither = all - ours - others;
    let explained = if open.is_empty() {
        "(each has its reason)".to_owned()
    } else {
        format!("({} of them without a known reason: {})", open.len(), open.join("; "))
    };
    format!(
        "Of {all} rows in which this project and others took part, it is first in {ours}, another in {others} \
         {explained}, and in {neither} neither is ahead by more than noise."
    )
}

/// What to say before [`lost`].
pub(crate) fn about_lost(contests: &[&Contest]) -> String {
    format!(
        "Of {} rows above, those in which the best of this project's ways is behind the best of the others by more \
         than {:.0} per cent, each with its cause, in which *it* is the one that is ahead: \
         [the table below](#why-another-is-first) has the mechanism. *Noise*: two of one kind differ by as much, so nobody is \
         first.",
        contests.len(),
        (TIE - 1.0) * 100.0
    )
}

/// Returns the rows in which the best of the others is ahead.
pub(crate) fn lost(contests: &[&Contest]) -> Table {
    let mut table = Table::new([
        "",
        "barrierd",
        "best of ours",
        "best of the others",
        "ahead of ours by",
        "twice the same",
        "cause",
    ]);
    for contest in contests {
        let (Some(ours), Some(theirs)) = (contest.best(true), contest.best(false)) else {
            continue;
        };
        let Some(by) = contest.behind() else { continue };
        let cause = match (contest.first(), reasons::of(&contest.what, &theirs.0)) {
            (None, _) => "noise",
            (Some(_), Some(cause)) => cause.called,
            (Some(_), None) => NOT_EXPLAINED,
        };
        table.row([
            contest.what.clone(),
            contest.shown(OURS),
            named(ours),
            named(theirs),
            ahead(by),
            contest.steadiness(),
            cause.into(),
        ]);
    }
    table
}

/// Returns the causes that rows have, with their mechanisms, the most frequent first.
pub(crate) fn causes(contests: &[&Contest]) -> Table {
    let others = contests.iter().filter_map(|contest| {
        let (who, _) = contest.first()?;
        if who.0.starts_with(OURS) { None } else { reasons::of(&contest.what, &who.0) }
    });
    let mut counts: Vec<(&reasons::Cause, usize)> = Vec::new();
    for cause in others {
        match counts.iter_mut().find(|(own, _)| own.called == cause.called) {
            Some((_, count)) => *count += 1,
            None => counts.push((cause, 1)),
        }
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut table = Table::new(["cause", "rows", "mechanism"]);
    for (cause, count) in counts {
        table.row([cause.called.to_owned(), count.to_string(), cause.why.to_owned()]);
    }
    table
}

/// What to say before [`beside_leaky`].
pub(crate) const ABOUT_LEAKY: &str = "\
What reclamation costs, by the rows in which `(nothing freed)` takes part: the same code, where a retirement is nothing. Ours is \
the best of this project's ways; above 1, it is better than leaking. That happens where freed memory is warm, and what is never \
freed has to be fetched fresh.";

/// Returns the rows in which what frees nothing takes part, each once.
pub(crate) fn beside_leaky(contests: &[&Contest]) -> Table {
    let mut table = Table::new(["", "(nothing freed)", "best of ours", "x of nothing freed"]);
    // Rows of some of ours beside some of the others are the same measurement again.
    let whole = |contest: &&&Contest| !contest.what.starts_with("robust guards beside");
    for contest in contests.iter().filter(whole) {
        if let Some((leaky, ours, by)) = contest.beside_leaky() {
            table.row([contest.what.clone(), number(leaky), named(ours), format!("{by:.2}")]);
        }
    }
    table
}

/// Returns the principal rows: who is first, and whether that is more than noise.
pub(crate) fn standing(contests: &[&Contest]) -> Table {
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

    fn lost(all: &[Contest]) -> Table {
        super::lost(&all.iter().collect::<Vec<_>>())
    }

    fn standing(all: &[Contest]) -> Table {
        super::standing(&all.iter().collect::<Vec<_>>())
    }

    fn counted(all: &[Contest]) -> String {
        super::counted(&all.iter().collect::<Vec<_>>())
    }

    fn causes(all: &[Contest]) -> Table {
        super::causes(&all.iter().collect::<Vec<_>>())
    }

    fn beside_leaky(all: &[Contest]) -> Table {
        super::beside_leaky(&all.iter().collect::<Vec<_>>())
    }

    use crate::contest::Better;
    use crate::schemes::AGAIN;

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
        let about = counted(&all);
        assert!(
            about.starts_with("Of 4 rows in which")
                && about.contains("first in 2, another in 1 (1 of them without a known reason: row), and in 1 neither"),
            "{about}"
        );
    }

    #[test]
    fn a_lost_row_has_its_cause_or_is_called_not_explained() {
        let row = |peer: &str| vec![("barrierd".to_owned(), 2.0), (peer.to_owned(), 1.0)];
        let all = [
            contest("cell: replace, ns", Better::Lower, false, row("RwLock, std")),
            contest("a new row", Better::Lower, false, row("peer")),
        ];
        let text = lost(&all).markdown();
        assert!(
            text.contains("| a lock writes in place |") && text.contains(NOT_EXPLAINED),
            "{text}"
        );
        assert!(
            counted(&all).contains("another in 2 (1 of them without a known reason: a new row)")
        );
        let causes = causes(&all).markdown();
        assert!(causes.contains("| a lock writes in place | 1 | A lock"), "{causes}");
    }

    #[test]
    fn what_frees_nothing_is_compared_and_not_first() {
        let row = [("barrierd", 2.0), ("(nothing freed)", 1.0), ("peer", 3.0)]
            .map(|(who, ns)| (who.to_owned(), ns));
        let all = [contest("row, ns", Better::Lower, false, row.to_vec())];
        let text = beside_leaky(&all).markdown();
        assert!(text.contains("| row, ns | 1.00 | barrierd: 2.00 | 0.50 |"), "{text}");
        assert!(counted(&all).contains("first in 1, another in 0"));
    }
}
