//! A row in which contestants can be compared, and who is first in it.
//!
//! A lead counts if it is larger than what two contestants of one kind differ by. Knows nothing of what was measured.

use crate::schemes::{AGAIN, HANDLE, NOTHING_FREED, OURS};
use crate::stats::number;
use serde::{Deserialize, Serialize};

/// A row in which contestants can be compared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Contest {
    pub(crate) what: String,
    better: Better,
    /// Whether it belongs to those that show where the project stands.
    pub(crate) principal: bool,
    entries: Vec<(String, f64)>,
    /// The figure of what frees nothing, if it took part.
    leaky: Option<f64>,
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
        let mut entries: Vec<(String, f64)> =
            entries.into_iter().filter(|(_, value)| value.is_finite()).collect();
        let value =
            |name: &str| entries.iter().find(|(own, _)| own == name).map(|(_, value)| *value);
        // Whose twin it is: where there are several ways, the first one that is named.
        let own = || entries.iter().find(|(name, _)| name.starts_with(OURS));
        let own = value(OURS).or_else(|| value(HANDLE)).or_else(|| Some(own()?.1));
        let noise = own.zip(value(AGAIN)).map(|(one, two)| {
            (one.max(two) + f64::MIN_POSITIVE) / (one.min(two) + f64::MIN_POSITIVE)
        });
        let leaky = value(NOTHING_FREED);
        entries.retain(|(name, _)| !name.starts_with('(') && takes_part(name));
        Contest { what: what.into(), better, principal, entries, leaky, noise }
    }

    /// Returns the same row with those alone.
    pub(crate) fn only(&self, takes_part: impl Fn(&str) -> bool) -> Contest {
        let mut some = self.clone();
        some.entries.retain(|(name, _)| takes_part(name));
        some
    }

    /// Returns how much better one is than the other; of what can't be divided, nothing.
    fn lead(&self, one: f64, two: f64) -> f64 {
        match self.better {
            Better::Lower => (two + f64::MIN_POSITIVE) / (one + f64::MIN_POSITIVE),
            Better::Higher => (one + f64::MIN_POSITIVE) / (two + f64::MIN_POSITIVE),
        }
    }

    /// Returns the best of this project's ways, or of the others.
    pub(crate) fn best(&self, ours: bool) -> Option<&(String, f64)> {
        let own = self.entries.iter().filter(|(name, _)| name.starts_with(OURS) == ours);
        own.fold(None, |best: Option<&(String, f64)>, one| match best {
            Some(best) if self.lead(best.1, one.1) >= 1.0 => Some(best),
            _ => Some(one),
        })
    }

    /// Returns who is first, and by which factor; nobody, if the lead is within noise or one side is missing.
    pub(crate) fn first(&self) -> Option<(&(String, f64), f64)> {
        let (ours, theirs) = (self.best(true)?, self.best(false)?);
        let noise = self.noise.unwrap_or(1.0).max(TIE);
        let by = self.lead(ours.1, theirs.1);
        if by >= noise { Some((ours, by)) } else { (1.0 / by >= noise).then(|| (theirs, 1.0 / by)) }
    }

    /// Returns by which factor the best of the others is ahead of ours, if that is more than a tie. It may be noise.
    pub(crate) fn behind(&self) -> Option<f64> {
        let (ours, theirs) = (self.best(true)?, self.best(false)?);
        Some(self.lead(theirs.1, ours.1)).filter(|by| *by >= TIE)
    }

    /// Returns the figure of what frees nothing, and how much better the best of ours is.
    pub(crate) fn beside_leaky(&self) -> Option<(f64, &(String, f64), f64)> {
        let (leaky, ours) = (self.leaky?, self.best(true)?);
        Some((leaky, ours, self.lead(ours.1, leaky)))
    }

    /// Returns how far two of one kind differed, as text.
    pub(crate) fn steadiness(&self) -> String {
        let mark = if self.is_unsteady() { " (unsteady)" } else { "" };
        self.noise.map_or(String::new(), |noise| format!("{}{mark}", ahead(noise)))
    }

    /// Returns whether two of one kind differed by so much that the row says little.
    pub(crate) fn is_unsteady(&self) -> bool {
        self.noise.is_some_and(|noise| noise > STEADY)
    }

    /// Returns the figure of the one that is called so.
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        self.entries.iter().find(|(own, _)| own == name).map(|(_, value)| *value)
    }

    /// Returns the figure of the one that is called so, as text.
    pub(crate) fn shown(&self, name: &str) -> String {
        self.value(name).map_or(String::new(), number)
    }
}

/// "name: figure"
pub(crate) fn named((name, value): &(String, f64)) -> String {
    format!("{name}: {}", number(*value))
}

/// How far one is ahead, as text.
pub(crate) fn ahead(by: f64) -> String {
    if by < 1e6 { format!("{by:.2}") } else { "from nothing".into() }
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Better {
    Lower,
    Higher,
}

/// A lead below this says nothing.
pub(crate) const TIE: f64 = 1.03;
/// Two of one kind that differ by more make a row unsteady.
const STEADY: f64 = 1.05;

#[cfg(test)]
mod tests {
    use super::*;

    fn row(entries: &[(&str, f64)]) -> Contest {
        let entries = entries.iter().map(|(who, value)| ((*who).to_owned(), *value));
        Contest::new("row", Better::Lower, true, entries, |_| true)
    }

    #[test]
    fn a_row_is_marked_where_two_of_one_kind_differ() {
        assert!(!row(&[("barrierd", 1.0), (AGAIN, 1.05), ("peer", 2.0)]).is_unsteady());
        assert!(row(&[("barrierd", 1.0), (AGAIN, 1.06), ("peer", 2.0)]).is_unsteady());
        assert!(row(&[("barrierd", 1.06), (AGAIN, 1.0), ("peer", 2.0)]).is_unsteady());
        // The twin of the first way that is named, where none is plain.
        let ways = [("barrierd, reader", 1.0), ("barrierd, read", 9.0), (AGAIN, 1.2)];
        assert_eq!(row(&ways).steadiness(), "1.20 (unsteady)");
    }

    #[test]
    fn a_lead_within_noise_is_none() {
        assert!(row(&[("barrierd", 1.0), (AGAIN, 1.2), ("peer", 1.15)]).first().is_none());
        assert!(row(&[("barrierd", 1.0), (AGAIN, 1.1), ("peer", 1.15)]).first().is_some());
    }
}
