//! A row in which contestants can be compared, and who is first in it.
//!
//! A lead counts if it is larger than what two contestants of one kind differ by. Knows nothing of what was measured.

use crate::schemes::{AGAIN, HANDLE, NOTHING_FREED, OURS};
use crate::stats::number;

/// A row in which contestants can be compared.
#[derive(Clone)]
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
        let mut entries: Vec<(String, f64)> = entries.into_iter().collect();
        let value =
            |name: &str| entries.iter().find(|(own, _)| own == name).map(|(_, value)| *value);
        let noise = value(OURS).or_else(|| value(HANDLE)).zip(value(AGAIN)).map(|(one, two)| {
            (one.max(two) + f64::MIN_POSITIVE) / (one.min(two) + f64::MIN_POSITIVE)
        });
        let leaky = value(NOTHING_FREED);
        entries.retain(|(name, _)| !name.starts_with('(') && takes_part(name));
        Contest { what: what.into(), better, principal, entries, leaky, noise }
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
        let said = |noise| {
            let mark = if noise > STEADY { " (unsteady)" } else { "" };
            format!("{}{mark}", ahead(noise))
        };
        self.noise.map_or(String::new(), said)
    }

    /// Returns the figure of the one that is called so, as text.
    pub(crate) fn shown(&self, name: &str) -> String {
        let found = self.entries.iter().find(|(own, _)| own == name);
        found.map_or(String::new(), |(_, value)| number(*value))
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Lower,
    Higher,
}

/// A lead below this says nothing.
pub(crate) const TIE: f64 = 1.03;
/// Two of one kind that differ by more make a row unsteady.
const STEADY: f64 = 1.05;
