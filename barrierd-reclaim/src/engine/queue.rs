//! An owner at work on its queue: it seals, scans at its pace, and hands full bags off.

use super::Engine;
use super::record::Record;
use crate::bag::{Bags, Refused, Work, pace};
use crate::evidence::purchase::Asked;
use crate::meter::ledger::Mark;
use crate::meter::sums::Sum;
use crate::platform::now_ns;
use crate::protocol;
use core::sync::atomic::Ordering;

impl Engine {
    /// Works on the owner's queue; on a new one, if it was taken over. `work` runs no foreign code.
    ///
    /// # Safety
    /// The caller owns `record`.
    pub(crate) unsafe fn own<R>(
        &self,
        record: &Record,
        mut work: impl FnMut(&mut Work<'_>) -> R,
    ) -> R {
        loop {
            let bags = record.bags();
            // SAFETY: the owner's queue, or one that was just taken from it; `work` runs no foreign
            // code, and fences where readers do.
            match unsafe { (*bags).own(self.readers_fence, &mut work) } {
                Ok(result) => return result,
                Err(Refused::Taken | Refused::Closed) => {
                    let mut new = Bags::new(self.barriers.vtime_word());
                    new.serve(record.meter(), self.readers_fence);
                    record.replace_bags(Box::into_raw(Box::new(new)));
                    // SAFETY: it is marked as taken, and this owner has another now.
                    unsafe { Bags::leave(bags) };
                }
            }
        }
    }

    /// Scans, if it is time for it; after a seal it sets how large bags are at the thread's pace.
    ///
    /// Where items come slowly no call both seals and scans. By the next call the readers have seen the stamp and
    /// shown it, so that the bag is reclaimed then; and the worst call costs the dearer of the two. A bag that is
    /// sealed before it is full has the scan in its price, however many records there are.
    pub(crate) fn scan_at_pace(&self, record: &Record, work: &mut Work<'_>, sealed: bool) {
        let left = work.is_scan_left();
        if sealed {
            work.set_step(pace::items_a_bag(work.gap_ns(), self.scan_cost()));
            if work.is_paced() && !self.readers_fence && !left {
                return work.leave_scan(false);
            }
        }
        if left || sealed && work.is_paced() {
            if !sealed && work.is_crowded() {
                // Bags are filled up, so the last seal is long ago: what is old is judged by this stamp.
                self.fence_and_stamp(record);
            }
            self.scan_or_glance(record, work);
        } else if sealed {
            self.scan_in_turn(record, work, 1);
        }
        work.goes_on();
    }

    /// Called for a bag that was sealed before it was full. Where records are many, and such a scan was made a short
    /// while ago, the owner glances at what the readers show.
    fn scan_or_glance(&self, record: &Record, work: &mut Work<'_>) {
        let apart_ns = pace::scans_apart_ns(self.scan_cost());
        let own = record.reader().last_stamp();
        if apart_ns == 0 || self.readers_fence || self.words.is_turn(own, apart_ns) {
            return self.scan_and_release(record, work, Asked::OnRetire);
        }
        work.scanned();
        if self.poisoned.load(Ordering::Relaxed) || self.is_forked() {
            return;
        }
        self.words.next_era(own);
        protocol::glance(
            &self.words,
            own,
            || self.records.groups(),
            |group| group.awake().map(Record::reader),
        );
        self.release_found(work);
    }

    /// For reports: called after a push; `sealed`: after a stamp that was just taken.
    pub(crate) fn note<const BORN: bool>(
        &self,
        record: &Record,
        work: &mut Work<'_>,
        sealed: bool,
    ) {
        let stamp = record.reader().last_stamp();
        if work.is_first::<BORN>() {
            work.opened::<BORN>(if sealed { stamp } else { now_ns() });
        }
        if sealed {
            self.note_sealed(record, work, stamp);
        }
    }

    /// For reports: the queue was sealed with the stamp `ns`, and all that was counted as retired is
    /// in it.
    pub(crate) fn note_sealed(&self, record: &Record, work: &Work<'_>, ns: u64) {
        let meter = record.meter();
        if !meter.ledger().wants() {
            return;
        }
        let Sum { items, bytes } = meter.retired().minus(work.unsealed());
        meter.ledger().note(Mark { ns, items, bytes }, self.words.safe_ns_relaxed());
    }

    /// Hands full bags over to the domain, without a lock.
    pub(crate) fn hand_off(&self, work: &mut Work<'_>) {
        if work.sealed() > 0 {
            work.take_sealed().for_each(|bag| self.inbox.push(bag));
            work.show_oldest();
        }
    }

    /// Returns what is in the owner's open bags.
    ///
    /// # Safety
    /// The caller owns `record`.
    pub(crate) unsafe fn unsealed(&self, record: &Record) -> Sum {
        // SAFETY: the caller owns the record; `unsealed` runs no foreign code.
        unsafe { self.own(record, |work| work.unsealed()) }
    }
}
