//! Contestants take turns, A B C A B C, so that a noisy neighbour hits them all; then medians, and each
//! round's ratio to one of them.
//!
//! Knows nothing of what a turn does but that it comes back with a number.

use crate::stats::Spread;

pub(crate) struct Contestant<'a> {
    pub(crate) name: String,
    pub(crate) turn: Box<dyn FnMut() -> f64 + 'a>,
}

impl<'a> Contestant<'a> {
    pub(crate) fn new(name: impl Into<String>, turn: impl FnMut() -> f64 + 'a) -> Contestant<'a> {
        Contestant { name: name.into(), turn: Box::new(turn) }
    }
}

/// What the turns gave: a row of rounds for each contestant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    pub(crate) names: Vec<String>,
    pub(crate) rounds: Vec<Vec<f64>>,
}

/// So many rounds, after one that warms up and doesn't count.
pub(crate) fn take(rounds: usize, contestants: &mut [Contestant<'_>]) -> Samples {
    let mut samples = Samples {
        names: contestants.iter().map(|one| one.name.clone()).collect(),
        rounds: vec![Vec::with_capacity(rounds); contestants.len()],
    };
    for round in 0..=rounds {
        for (contestant, own) in contestants.iter_mut().zip(&mut samples.rounds) {
            let value = (contestant.turn)();
            if round > 0 {
                own.push(value);
            }
        }
    }
    samples
}

impl Samples {
    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|own| own == name)
    }

    pub(crate) fn of(&self, name: &str) -> Option<Spread> {
        Spread::of(self.rounds[self.index(name)?].iter().copied())
    }

    /// Own divided by peer, round by round.
    pub(crate) fn ratio(&self, name: &str, peer: &str) -> Option<Spread> {
        let (own, peer) = (self.index(name)?, self.index(peer)?);
        Spread::of(self.rounds[own].iter().zip(&self.rounds[peer]).map(|(own, peer)| own / peer))
    }

    /// Own less peer, round by round.
    pub(crate) fn difference(&self, name: &str, peer: &str) -> Option<Spread> {
        let (own, peer) = (self.index(name)?, self.index(peer)?);
        Spread::of(self.rounds[own].iter().zip(&self.rounds[peer]).map(|(own, peer)| own - peer))
    }

    /// Returns the rounds in which `name`'s value is at most `limit`, and the others; `None` if it took no part.
    pub(crate) fn split(&self, name: &str, limit: f64) -> Option<[Samples; 2]> {
        let by = &self.rounds[self.index(name)?];
        Some([true, false].map(|low| {
            let kept = |own: &Vec<f64>| {
                let both = own.iter().zip(by).filter(|(_, by)| (**by <= limit) == low);
                both.map(|(own, _)| *own).collect()
            };
            Samples { names: self.names.clone(), rounds: self.rounds.iter().map(kept).collect() }
        }))
    }

    pub(crate) fn push(&mut self, name: &str, value: f64) {
        let index = self.index(name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.rounds.push(Vec::new());
            self.names.len() - 1
        });
        self.rounds[index].push(value);
    }

    /// Takes another's rounds behind its own.
    pub(crate) fn append(&mut self, other: &Samples) {
        for (name, rounds) in other.names.iter().zip(&other.rounds) {
            rounds.iter().for_each(|value| self.push(name, *value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn turns_interleave_and_the_first_round_does_not_count() {
        let order = RefCell::new(String::new());
        let turn = |name: char| {
            let (order, mut count) = (&order, 0.0);
            move || {
                order.borrow_mut().push(name);
                count += 1.0;
                count
            }
        };
        let mut all = [Contestant::new("a", turn('a')), Contestant::new("b", turn('b'))];
        let samples = take(2, &mut all);
        assert_eq!(*order.borrow(), "ababab");
        assert_eq!(samples.rounds, [[2.0, 3.0], [2.0, 3.0]]);
    }

    #[test]
    fn a_ratio_is_of_the_same_round() {
        let mut samples = Samples::default();
        for (own, peer) in [(1.0, 2.0), (10.0, 20.0), (300.0, 600.0)] {
            samples.push("own", own);
            samples.push("peer", peer);
        }
        let half = samples.ratio("own", "peer").expect("both are there");
        assert_eq!((half.low, half.median, half.high), (0.5, 0.5, 0.5));
        assert!(samples.ratio("own", "nobody").is_none());
    }

    #[test]
    fn rounds_are_split_by_a_contestant() {
        let mut samples = Samples::default();
        for (own, distance) in [(1.0, 30.0), (2.0, 160.0), (3.0, 31.0)] {
            samples.push("own", own);
            samples.push("distance", distance);
        }
        let [near, far] = samples.split("distance", 80.0).expect("it took part");
        assert_eq!((&near.rounds[0][..], &far.rounds[0][..]), (&[1.0, 3.0][..], &[2.0][..]));
        assert!(samples.split("nobody", 80.0).is_none());
    }
}
