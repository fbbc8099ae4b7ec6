//! How much is measured: a look whether it all works, minutes, or longer.
//!
//! The one place that turns that into rounds and times.

use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Seconds: whether everything still runs. Its figures say nothing.
    Smoke,
    /// Minutes.
    Short,
    /// As long as it takes.
    Full,
}

impl Effort {
    pub(crate) fn named(name: &str) -> Option<Effort> {
        match name {
            "smoke" => Some(Effort::Smoke),
            "short" => Some(Effort::Short),
            "full" => Some(Effort::Full),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Effort::Smoke => "smoke",
            Effort::Short => "short",
            Effort::Full => "full",
        }
    }

    /// One of three.
    pub(crate) fn pick<T>(self, smoke: T, short: T, full: T) -> T {
        match self {
            Effort::Smoke => smoke,
            Effort::Short => short,
            Effort::Full => full,
        }
    }

    /// Rounds of turns that last well under a millisecond.
    pub(crate) fn fine_rounds(self) -> usize {
        self.pick(3, 201, 801)
    }

    /// Rounds of turns that last [`turn`](Effort::turn).
    pub(crate) fn rounds(self) -> usize {
        self.pick(1, 9, 31)
    }

    /// How long threads work in one turn.
    pub(crate) fn turn(self) -> Duration {
        Duration::from_millis(self.pick(2, 20, 60))
    }
}
