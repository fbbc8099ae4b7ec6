//! What clients send: requests for expedited barriers, and word that somebody waits; what one says, and
//! what a batch of them asks for.
//!
//! Owns the rules, without I/O: what is malformed, what a time in the future counts for, what is worth a
//! round.
//! The layout is the client's (`abi::REQUEST_BYTES`).
//!
//! Anyone in the socket's group may send anything, as much as they like. What that can cost is a
//! token a batch (see `bucket`), and a batch is at most [`BATCH`] datagrams, of which only the
//! newest time counts. So a round serves all who asked before it, and who asks for what has passed
//! by then costs none.

use barrierd_client::abi;

/// Datagrams taken at once, for one token.
pub const BATCH: usize = 64;

/// What a batch of requests came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Sound requests.
    pub sound: u64,
    /// Malformed ones.
    pub dropped: u64,
    /// Words that somebody waits, who asks for nothing else.
    pub announced: u64,
    /// The newest time that is asked for, in nanoseconds of `CLOCK_MONOTONIC`; 0 for none.
    pub newest_ns: u64,
}

impl Batch {
    /// Takes in one datagram of `len` bytes, which may be more than were read into `bytes`, at
    /// `now_ns`, read after it arrived.
    ///
    /// A stamp that is ahead of the clock counts for the present. It may be honest: the clock steps back
    /// while it is slewed, by no fixed bound. Its sender looks whether the barrier did, and asks again.
    /// To wait for it would hold everyone else up; and whoever sends such stamps on purpose gets what a
    /// stamp of the present gets, a round for a token.
    pub fn take(&mut self, bytes: &[u8], len: usize, now_ns: u64) {
        let whole = bytes.get(..abi::REQUEST_BYTES).filter(|_| len == abi::REQUEST_BYTES);
        let words = whole.map(|bytes| bytes.split_at(8));
        match words.map(|(magic, ns)| (word(magic), word(ns))) {
            Some((abi::REQUEST_MAGIC, ns)) => {
                self.sound += 1;
                self.newest_ns = self.newest_ns.max(ns.min(now_ns));
            }
            Some((abi::ANNOUNCEMENT_MAGIC, 0)) => self.announced += 1,
            _ => self.dropped += 1,
        }
    }

    /// Whether anyone waits: who asks does, too.
    #[must_use]
    pub fn somebody_waits(&self) -> bool {
        self.sound + self.announced > 0
    }

    /// The time to prove a barrier for, if that isn't proved yet: the watermark is at
    /// `last_interrupt_ns`.
    #[must_use]
    pub fn wanted(&self, last_interrupt_ns: u64) -> Option<u64> {
        (self.sound > 0 && self.newest_ns >= last_interrupt_ns).then_some(self.newest_ns)
    }
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("8 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::Bucket;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn batch(datagrams: &[Vec<u8>], now: u64) -> Batch {
        let mut batch = Batch::default();
        datagrams.iter().for_each(|bytes| batch.take(bytes, bytes.len(), now));
        batch
    }

    fn request(ns: u64) -> Vec<u8> {
        abi::request(ns).to_vec()
    }

    #[test]
    fn the_newest_time_counts_and_what_has_passed_is_free() {
        let asked = batch(&[request(5), request(9), request(7)], 10);
        assert_eq!(asked, Batch { sound: 3, newest_ns: 9, ..Batch::default() });
        assert_eq!((asked.wanted(9), asked.wanted(10)), (Some(9), None));
        assert_eq!(Batch::default().wanted(0), None);
    }

    #[test]
    fn b23_somebody_waits_if_it_is_said_or_a_request_is_there_and_by_no_nonsense() {
        let announced = batch(&[abi::announcement().to_vec()], 10);
        assert_eq!(announced, Batch { announced: 1, ..Batch::default() });
        assert_eq!((announced.somebody_waits(), announced.wanted(0)), (true, None));
        assert!(batch(&[request(5)], 10).somebody_waits());
        let mut other = abi::announcement().to_vec();
        other[15] = 1;
        let nonsense = batch(&[other, vec![]], 10);
        assert_eq!(nonsense, Batch { dropped: 2, ..Batch::default() });
        assert!(!nonsense.somebody_waits());
    }

    #[test]
    fn what_makes_no_sense_is_dropped() {
        let long = [request(5), vec![0]].concat();
        let cut = request(5)[..15].to_vec();
        let other = [vec![9], request(5)[1..].to_vec()].concat();
        let now = 100_000;
        let dropped = batch(&[long, cut, other, vec![]], now);
        assert_eq!(dropped, Batch { dropped: 4, ..Batch::default() });
        assert_eq!(dropped.wanted(0), None);
        // Longer than what was read of it.
        let mut batch = Batch::default();
        batch.take(&request(5), 17, now);
        assert_eq!(batch.dropped, 1);
    }

    /// An honest client stamps, and the clock steps back before the daemon reads it.
    #[test]
    fn b1_a_stamp_ahead_of_a_clock_that_stepped_back_is_served_for_the_present() {
        let now = 1_000_000;
        let ahead = batch(&[request(now + 396_000)], now);
        assert_eq!(ahead, Batch { sound: 1, newest_ns: now, ..Batch::default() });
        assert_eq!(ahead.wanted(now), Some(now));
        // Who lies gets no more, and takes nothing from the others.
        let lied = batch(&[request(now - 5), request(u64::MAX), request(now - 1)], now);
        assert_eq!((lied.newest_ns, lied.wanted(now + 1)), (now, None));
    }

    proptest! {
        /// A queue of honest requests, under a flood: rounds cost the rate, one round serves a whole
        /// batch, and every honest request is served within the time that its place in the queue
        /// takes at that rate.
        #[test]
        fn a_flood_costs_the_rate_and_starves_nobody(
            rate in 10u32..2_000,
            flood in 0usize..200,
            gaps in proptest::collection::vec(1u64..500_000, 50..300),
        ) {
            const BURST: u32 = 4;
            let cost = 1_000_000_000 / u64::from(rate);
            let mut bucket = Bucket::new(rate, BURST);
            // Honest: Some(when it was sent); flood: None.
            let mut queue: VecDeque<Option<u64>> = VecDeque::new();
            let (mut now, mut watermark, mut batches, mut rounds) = (1_000_000_000u64, 0u64, 0u64, 0u64);
            let mut asked = 0u64;
            for gap in gaps {
                now += gap;
                // A full queue turns the newest away, as the kernel's does.
                let room = 512usize.saturating_sub(queue.len());
                queue.extend(std::iter::repeat_n(None, flood.min(room)));
                if queue.len() < 512 {
                    queue.push_back(Some(now));
                    asked += 1;
                }
                if bucket.take(now) {
                    batches += 1;
                    let mut batch = Batch::default();
                    for sent in queue.drain(..queue.len().min(BATCH)) {
                        let bytes = sent.map_or_else(|| vec![7; 3], request);
                        batch.take(&bytes, bytes.len(), now);
                        if let Some(sent) = sent {
                            let places = (512 / BATCH as u64 + 2) * cost + 2 * 500_000 * 10;
                            prop_assert!(now - sent <= places, "served {} ns late", now - sent);
                        }
                    }
                    if let Some(wanted) = batch.wanted(watermark) {
                        rounds += 1;
                        prop_assert!(wanted <= now);
                        watermark = now + 1;
                    }
                }
            }
            prop_assert!(batches <= u64::from(BURST) + (now - 1_000_000_000) / cost);
            prop_assert!(rounds <= batches && rounds <= asked);
        }
    }
}
