//! An owner at work on its queue: it seals, scans at its pace, and hands full bags off.

use super::Engine;
use super::record::Record;
use crate::bag::{Bags, Refused, Work, pace};
use crate::evidence::purchase::Asked;
use crate::meter::ledger::Mark;
use crate::platform::now_ns;

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
                    let new = Bags::new(self.barriers.vtime_word());
                    new.count_on(record.freed_bytes());
                    new.show_on(record.oldest_ns());
                    if self.readers_fence {
                        new.fence();
                    }
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
            self.scan_and_release(record, work, Asked::OnRetire);
        } else if sealed {
            self.scan_in_turn(record, work, 1);
        }
        work.goes_on();
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
        if !record.ledger().wants() {
            return;
        }
        let (items, bytes) = work.unsealed();
        let items = record.retired().get().saturating_sub(items as u64);
        let bytes = record.retired_bytes().get().saturating_sub(bytes as u64);
        record.ledger().note(Mark { ns, items, bytes }, self.words.safe_ns_relaxed());
    }

    /// Hands full bags over to the domain, without a lock.
    pub(crate) fn hand_off(&self, work: &mut Work<'_>) {
        if work.sealed() > 0 {
            work.take_sealed().for_each(|bag| self.inbox.push(bag));
            work.show_oldest();
        }
    }

    /// Returns what is in the owner's open bags: items, bytes.
    ///
    /// # Safety
    /// The caller owns `record`.
    pub(crate) unsafe fn unsealed(&self, record: &Record) -> (u64, u64) {
        // SAFETY: the caller owns the record; `unsealed` runs no foreign code.
        let (items, bytes) = unsafe { self.own(record, |work| work.unsealed()) };
        (items as u64, bytes as u64)
    }
}
