//! Rows of two threads, apart by how far their CPUs were from each other: a hypervisor moves them, and figures at two
//! distances are two figures.
//!
//! Knows nothing of what was measured, except which of the samples are the distances.

use crate::stats::{Spread, number};
use crate::turns::Samples;

/// Between the turns' samples: nanoseconds of a cache line's way there and back.
pub(crate) const PING_PONG: &str = "(ping-pong ns)";

/// CPUs whose ping-pong takes no longer than this are near: they share a core, or at least a cache.
const NEAR_NS: f64 = 80.0;
/// Fewer rounds of a distance are left out, if there is another.
const ENOUGH_ROUNDS: usize = 3;

/// The samples of one distance.
pub(crate) struct Distance {
    /// "66.5 ns apart"; empty if it was not measured.
    pub(crate) called: String,
    pub(crate) rounds: usize,
    /// Without the distances.
    pub(crate) samples: Samples,
}

/// Returns the rounds of each distance apart, the near one first; never those of two distances together.
pub(crate) fn apart(samples: &Samples) -> Vec<Distance> {
    let Some(both) = samples.split(PING_PONG, NEAR_NS) else {
        let rounds = samples.rounds.iter().map(Vec::len).max().unwrap_or(0);
        return vec![Distance { called: String::new(), rounds, samples: samples.clone() }];
    };
    let mut all: Vec<Distance> = both
        .into_iter()
        .filter_map(|mut samples| {
            let at = samples.index(PING_PONG)?;
            let called = format!("{} ns apart", number(samples.of(PING_PONG)?.median));
            samples.names.remove(at);
            let rounds = samples.rounds.remove(at).len();
            Some(Distance { called, rounds, samples })
        })
        .collect();
    let most = all.iter().map(|one| one.rounds).max().unwrap_or(0);
    all.retain(|one| one.rounds >= ENOUGH_ROUNDS.min(most));
    all
}

/// Returns the same of contestants each of whose rounds had a process of its own. Who was seldom at a distance is not in it;
/// rounds of one contestant are not those of another, so that they can be compared by their medians alone.
pub(crate) fn of_all(all: &[(&str, Samples)]) -> Vec<Distance> {
    let most = |samples: &Samples| samples.rounds.iter().map(Vec::len).max().unwrap_or(0);
    let enough = all.iter().map(|(_, own)| most(own)).max().map_or(0, |it| it.min(ENOUGH_ROUNDS));
    let mut both: [Vec<Samples>; 2] = Default::default();
    for (_, own) in all {
        let Some(parts) = own.split(PING_PONG, NEAR_NS) else { continue };
        both.iter_mut().zip(parts).for_each(|(side, part)| side.push(part));
    }
    both.iter()
        .filter_map(|side| {
            let (mut distances, mut samples) = (Vec::new(), Samples::default());
            for own in side.iter().filter(|own| most(own) >= enough) {
                distances.extend_from_slice(&own.rounds[own.index(PING_PONG)?]);
                samples.append(own);
            }
            let at = samples.index(PING_PONG)?;
            samples.names.remove(at);
            samples.rounds.remove(at);
            let called = format!("{} ns apart", number(Spread::of(distances)?.median));
            Some(Distance { called, rounds: most(&samples), samples })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(distances: &[f64]) -> Samples {
        let mut samples = Samples::default();
        for (round, distance) in distances.iter().enumerate() {
            samples.push("own", round as f64);
            samples.push(PING_PONG, *distance);
        }
        samples
    }

    fn shown(distances: &[f64]) -> Vec<(String, Vec<f64>)> {
        apart(&samples(distances))
            .into_iter()
            .map(|one| {
                assert_eq!(one.samples.names, ["own"]);
                (one.called, one.samples.rounds[0].clone())
            })
            .collect()
    }

    #[test]
    fn two_distances_are_never_in_one_row() {
        let both = shown(&[30.0, 300.0, 31.0, 310.0, 32.0, 320.0]);
        assert_eq!(both[0], ("31.0 ns apart".into(), vec![0.0, 2.0, 4.0]));
        assert_eq!(both[1], ("310 ns apart".into(), vec![1.0, 3.0, 5.0]));
        // Too few for a row are left out, not put to the others.
        assert_eq!(
            shown(&[300.0, 30.0, 31.0, 32.0]),
            [("31.0 ns apart".into(), vec![1.0, 2.0, 3.0])]
        );
        assert_eq!(shown(&[300.0, 310.0, 31.0, 320.0]).len(), 1);
    }

    #[test]
    fn of_few_rounds_those_of_the_distance_that_most_were_at() {
        assert_eq!(shown(&[30.0]).len(), 1);
        assert_eq!(shown(&[30.0, 300.0, 310.0]), [("300 ns apart".to_owned(), vec![1.0, 2.0])]);
    }

    #[test]
    fn what_has_no_distance_is_one_row() {
        let mut samples = Samples::default();
        samples.push("own", 1.0);
        let all = apart(&samples);
        assert!(all.len() == 1 && all[0].called.is_empty() && all[0].rounds == 1);
    }

    #[test]
    fn contestants_of_processes_of_their_own_are_compared_at_one_distance() {
        let mut seldom_near = samples(&[300.0, 30.0, 310.0, 320.0]);
        seldom_near.names[0] = "seldom near".into();
        let all = [("a", samples(&[30.0, 31.0, 32.0, 300.0])), ("b", seldom_near)];
        let groups = of_all(&all);
        let names: Vec<_> = groups.iter().map(|one| (&*one.called, &one.samples.names)).collect();
        assert_eq!(
            names,
            [
                ("31.0 ns apart", &vec!["own".to_owned()]),
                ("310 ns apart", &vec!["seldom near".to_owned()])
            ]
        );
        assert_eq!(groups[1].samples.rounds, [[0.0, 2.0, 3.0]]);
    }
}
