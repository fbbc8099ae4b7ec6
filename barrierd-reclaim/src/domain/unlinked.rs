//! For callers that take an object back once no reader can hold it, instead of having it freed.

use super::Domain;
use crate::engine::record::Record;
use crate::error::SynchronizeError;
use crate::evidence::purchase::{Asked, Uncovered};
use crate::later::Backoff;
use std::time::Instant;

impl Domain {
    /// Waits until no reader can hold the object at `address`. It was unlinked before this domain gave the caller the stamp
    /// `stamp`.
    ///
    /// Sections and intervals are over once `stamp` is safe, and a barrier has passed by then. So a hazard that was trusted
    /// before the unlink is visible from there on, and none is trusted after it.
    pub(crate) fn wait_until_unused(
        &self,
        record: &Record,
        stamp: u64,
        address: u64,
        deadline: Instant,
    ) -> Result<(), SynchronizeError> {
        self.may_wait(record)?;
        // Not `Attended`: this frees nothing of the caller's queue, which is taken over meanwhile as an idle thread's is.
        self.wait_until_safe(record, stamp, deadline)?;
        let mut backoff = Backoff::new();
        while self.has_hazard(address) {
            if Instant::now() >= deadline {
                return Err(SynchronizeError::Readers { readers: 1 });
            }
            backoff.sleep(deadline);
        }
        Ok(())
    }

    /// Returns whether no reader can hold that object any more, by one scan. It buys a barrier as a `flush` does.
    pub(crate) fn is_unused(&self, record: &Record, stamp: u64, address: u64) -> bool {
        if self.is_forked() || self.in_destructor(record) {
            return false;
        }
        let own = self.fence_and_stamp(record);
        self.scan(own, Asked::OnFlush, &|watermark| Uncovered::some(watermark <= stamp));
        self.is_safe(stamp) && !self.has_hazard(address)
    }

    /// Returns whether no section and no interval can hold what was unlinked before `stamp`.
    pub(super) fn is_safe(&self, stamp: u64) -> bool {
        self.words().safe().ns > stamp && !self.holds_back(stamp)
    }

    /// Returns whether a hazard holds the object at `address`: a scan of all of them, after `safe` was loaded.
    fn has_hazard(&self, address: u64) -> bool {
        self.reclaimable().1.has_hazard(address)
    }
}
