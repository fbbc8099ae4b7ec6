//! The takeover of a queue whose owner does not retire.
//!
//! Owns the order of its steps. The queue's half is `bag/mod.rs`; the background thread decides when a queue is taken
//! over (`domain/keeper.rs`).
//!
//! # The takeover
//! 1. A thread's count of retired items has not moved for a while: its queue is marked as taken.
//! 2. A barrier of its CPU passes: bought after the mark, or a watermark of the daemon's above a stamp
//!    that was taken after the mark; where readers fence, owners do too, and a fence here is enough.
//! 3. The queue is quiet: it is the taker's. If it is not, its owner is inside (preempted, say): the taker checks
//!    again later. Once the barrier has passed, an owner that comes in finds the mark.
//! 4. A fence and stamp, *after* that: the stamp of what was in the open bag. Any earlier stamp could lie
//!    before the unlink of an item that the owner pushed between the stamp and the check.
//! 5. The bags are moved to the domain, where exited threads' bags are: the first thread that comes frees them.
//!
//! Marked queues are listed in the domain ([`Marked`]), so that `Engine::close` and `synchronize`
//! find what is in them.

use super::Engine;
use super::record::Record;
use crate::bag::{Bag, Bags, Left};
use crate::meter::ledger::Mark;
use crate::meter::sums::Sum;
use crate::panics::caught;
use crate::platform::own_tid;
use crate::sync::real::AtomicU64;
use crate::sync::{Mutant, broken, stage};
use core::sync::atomic::Ordering::Relaxed;

/// A queue that is being taken over.
#[derive(Debug)]
pub(crate) struct Marked {
    bags: *mut Bags,
    record: *const Record,
    /// What its owner had retired before the mark. For reports.
    retired: Sum,
    /// A stamp that was taken after the mark, nanoseconds.
    at: u64,
    /// The barrier has passed.
    passed: bool,
}

// SAFETY: a marked queue is alive until both have left it, and its taker, the holder of this, has
// not; the record lives as long as the domain that lists this.
unsafe impl Send for Marked {}

impl Marked {
    /// Returns whether the queue is the taker's.
    fn is_ours(&self) -> bool {
        // SAFETY: alive, see above.
        let bags = unsafe { &*self.bags };
        // An owner that has left won't come back: no barrier is needed.
        bags.is_left() || (self.passed && bags.is_quiet())
    }

    /// Returns everything that is in it; the taker leaves.
    ///
    /// # Safety
    /// The domain's orphans are locked. [`is_ours`](Marked::is_ours), or there is no owner any more;
    /// `ns` is a stamp that was taken after that.
    unsafe fn take(self, ns: u64) -> Left {
        // SAFETY: records live as long as the domain that lists this.
        let record = unsafe { &*self.record };
        record.set_taken(self.bags);
        let Sum { items, bytes } = self.retired;
        record.meter().ledger().note(Mark { ns, items, bytes }, 0);
        // SAFETY: the caller promises that the queue is the taker's or has no owner, and `ns` was taken after that.
        let all = unsafe { (*self.bags).take_over(ns) };
        // SAFETY: marked, and not touched again: `self` is gone.
        unsafe { Bags::leave(self.bags) };
        all
    }
}

impl Engine {
    /// Marks the queue of a record whose owner doesn't retire, unless nothing ever came into it. Returns the
    /// queue, if it is marked now.
    pub(crate) fn mark(&self, record: &Record) -> Option<*mut Bags> {
        let orphans = self.lock_orphans();
        // The door is closed: what is there belongs to `close`.
        orphans.as_ref()?;
        let bags = record.foreign_bags();
        // Its taker has left it, and its owner may do so at any moment. (The address of a queue that
        // is gone can't be another's here: its successor was made before it went.)
        if bags == record.taken() {
            return None;
        }
        // SAFETY: an owner leaves a queue only once it is marked. If this one is, its taker has not
        // left it: a taker that leaves notes that in the record, under the lock that is held here.
        let queue = unsafe { &*bags };
        if queue.is_taken() || !queue.is_used() {
            return None;
        }
        let retired = record.meter().retired();
        queue.mark_taken();
        self.lock_marked().push(Marked { bags, record, retired, at: u64::MAX, passed: false });
        Some(bags)
    }

    /// Takes over the marked queues that are the domain's by now. Returns their number.
    pub(crate) fn take_over_marked(&self) -> usize {
        let early = broken(Mutant::StampBeforeCheck).then(|| self.fence_and_stamp_unlisted());
        let mut orphans = self.lock_orphans();
        let Some(orphans) = orphans.as_mut() else { return 0 };
        let mut marked = self.lock_marked();
        if !marked.iter().any(Marked::is_ours) {
            return 0;
        }
        let (ours, others): (Vec<Marked>, Vec<Marked>) =
            core::mem::take(&mut *marked).into_iter().partition(Marked::is_ours);
        *marked = others;
        drop(marked);
        // After the check: see the file's documentation.
        let ns = early.unwrap_or_else(|| self.fence_and_stamp_unlisted());
        let count = ours.len();
        for marked in ours {
            // SAFETY: it is ours, and the stamp was taken after that was seen.
            orphans.add(unsafe { marked.take(ns) });
        }
        self.note_orphans(orphans);
        self.counters().took_over(count);
        count
    }

    /// Returns everything in marked queues, for `close`: no owner is left.
    ///
    /// # Safety
    /// The door is closed, so no other thread marks or takes over, and no call is under way.
    pub(crate) unsafe fn take_all_marked(&self) -> Vec<Bag> {
        let all = core::mem::take(&mut *self.lock_marked());
        // SAFETY: the door is closed and no call is under way; there are no readers, so any stamp will do.
        all.into_iter().flat_map(|marked| unsafe { marked.take(u64::MAX) }.into_bags()).collect()
    }

    /// Gives marks their barrier, where it can be had. Returns whether there are any without.
    pub(crate) fn pass_marks(&self) -> bool {
        {
            let mut marked = self.lock_marked();
            if marked.iter().all(|marked| marked.passed) {
                return false;
            }
            // After the marks.
            let now = self.fence_and_stamp_unlisted();
            marked.iter_mut().filter(|marked| marked.at == u64::MAX).for_each(|m| m.at = now);
        }
        stage();
        // Not under the lock: it may take its time.
        let passed = if broken(Mutant::TakeoverWithoutBarrier) {
            u64::MAX
        } else {
            self.barrier_for_marks()
        };
        stage();
        let mut marked = self.lock_marked();
        // Only this thread marks, so none is younger than the stamp above.
        marked.iter_mut().for_each(|marked| marked.passed |= marked.at < passed);
        marked.iter().any(|marked| !marked.passed)
    }

    /// Frees the safe bags that lie with the domain, and catches panics of destructors. Returns the number of items
    /// freed. `beats` is raised by one for each.
    pub(crate) fn free_in_background_thread(&self, record: &Record, beats: &AtomicU64) -> usize {
        let mut freed = 0;
        let tid = own_tid();
        while let Some(_flight) = self.take_in_flight(record) {
            // None: the bag is empty, or another thread took the rest.
            while let Some(item) = self.in_flight().next(tid) {
                // Relaxed: a hint for the watcher.
                beats.fetch_add(1, Relaxed);
                stage();
                record.meter().frees();
                freed += 1;
                // SAFETY: its bag was stamped before `safe`, so no reader can hold it; it has just
                // left the bag, so this is the only call.
                caught(|| unsafe { item.free() });
            }
        }
        freed
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;
    use crate::bag::{Item, Refused};
    use crate::evidence::membarrier::Membarrier;
    use crate::platform::now_ns;
    use crate::protocol::VtimeWord;
    use crate::sync::BROKEN;
    use core::ptr;
    use core::time::Duration;
    use std::process::{Command, ExitStatus};
    use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering::*};
    use std::thread;
    use std::time::Instant;

    unsafe fn nothing(_: *mut ()) {}

    fn numbered(n: usize) -> Item {
        Item::new(ptr::without_provenance_mut(n), nothing)
    }

    fn fresh() -> *mut Bags {
        Box::into_raw(Box::new(Bags::new(VtimeWord::none())))
    }

    /// An owner that never pauses against a taker that marks, has a barrier pass, and takes, again and
    /// again: everything that was pushed is taken, in order, once.
    fn owner_against_taker(time: Duration) {
        let membarrier = Membarrier::find().expect("this kernel has membarrier");
        let (current, done) = (AtomicPtr::new(fresh()), AtomicBool::new(false));
        let mut taken = Vec::new();
        let mut takeovers = 0;
        let pushed = thread::scope(|scope| {
            let owner = scope.spawn(|| {
                let (mut bags, mut n, mut here) = (current.load(Relaxed), 0, 0);
                while !done.load(Relaxed) {
                    if here > 2000 {
                        // Enough for the taker: just in and out.
                        // SAFETY: as below.
                        if unsafe { (*bags).own(false, |_| ()) }.is_ok() {
                            continue;
                        }
                    }
                    // SAFETY: this thread's queue, or one that was just taken from it.
                    let refused = unsafe { (*bags).push(numbered(n), 8, false) }.err();
                    let refused = match refused {
                        // SAFETY: as above; `work` runs no foreign code.
                        Some(Refused::Closed) => unsafe {
                            let work = (*bags).own(false, |work| {
                                if work.wants_seal() {
                                    work.seal(1);
                                }
                                work.push(numbered(n), 8);
                            });
                            work.err()
                        },
                        refused => refused,
                    };
                    if refused.is_none() {
                        (n, here) = (n + 1, here + 1);
                    } else {
                        here = 0;
                        let new = fresh();
                        current.store(new, Release);
                        // SAFETY: taken, and not used again.
                        unsafe { Bags::leave(bags) };
                        bags = new;
                    }
                }
                n
            });
            let stop = Instant::now() + time;
            let mut last = ptr::null_mut();
            while Instant::now() < stop {
                let bags = current.load(Acquire);
                if bags == last {
                    continue;
                }
                // SAFETY: alive until both have left; whoever takes it is this thread.
                unsafe {
                    (*bags).mark_taken();
                    membarrier.buy(now_ns()).expect("registered");
                    while !(*bags).is_quiet() {
                        std::hint::spin_loop();
                    }
                    if broken(Mutant::LimitBeforeBusy) {
                        // As if it were preempted here: whoever can come in by now does.
                        thread::sleep(Duration::from_micros(100));
                    }
                    for bag in (*bags).take_over(1).into_bags() {
                        taken.extend(bag.map(|item| item.ptr().addr()));
                    }
                    Bags::leave(bags);
                }
                (last, takeovers) = (bags, takeovers + 1);
            }
            done.store(true, Relaxed);
            owner.join().expect("no panics")
        });
        let bags = current.into_inner();
        // SAFETY: the owner is gone.
        unsafe {
            for bag in (*bags).take_over(1).into_bags() {
                taken.extend(bag.map(|item| item.ptr().addr()));
            }
        }
        eprintln!("{pushed} items, {takeovers} takeovers");
        assert_eq!(taken.len(), pushed);
        assert!(taken.iter().enumerate().all(|(i, &n)| i == n));
    }

    const MUTANT_ENV: &str = "BARRIERD_TEST_TAKEOVER_MUTANT";

    fn of_the_mutant() -> ExitStatus {
        let mut test = Command::new(std::env::current_exe().expect("this test"));
        test.args(["--exact", "engine::takeover::tests::nothing_is_lost_between_owner_and_taker"]);
        // It may corrupt its memory, and then hang or crash.
        let output = test.env(MUTANT_ENV, "limit").output().expect("it runs");
        output.status
    }

    #[cfg_attr(any(barrierd_plain, windows), ignore = "no membarrier, or Wine's")]
    #[test]
    fn nothing_is_lost_between_owner_and_taker() {
        if std::env::var_os(MUTANT_ENV).is_some() {
            BROKEN.store(Mutant::LimitBeforeBusy as u8 + 1, Relaxed);
            thread::spawn(|| {
                thread::sleep(Duration::from_secs(20));
                std::process::abort();
            });
            return owner_against_taker(Duration::from_secs(3));
        }
        owner_against_taker(Duration::from_secs(1));
    }

    /// The test above finds an owner that looks at its limit first: it is preempted there on purpose. That a takeover
    /// without a barrier goes wrong is for its models to show, `models/takeover.rs` and `tests/tso/takeover.rs`: here
    /// the owner's store would have to lie in its CPU's buffer at that very moment.
    #[cfg_attr(any(barrierd_plain, windows), ignore = "no membarrier, or Wine's")]
    #[test]
    fn broken_takeovers_are_found() {
        // In each run that was seen, be the machine busy or not.
        assert!((0..40).any(|_| !of_the_mutant().success()), "it was not found");
    }
}
