//! Bags of the domain that some thread has taken out to free them: a thread that must not miss what is in them waits
//! here until they have landed.
//!
//! Owns the list of flights, and the bag that the background thread is freeing. A flight begins under the lock of the
//! domain's orphans, in the same hold in which its bag leaves them, and ends once the last destructor has returned
//! and what is left, after a panic, is back there. So a thread that holds that lock finds each bag in the one or in
//! the other. This file knows nothing of queues.

use super::{Engine, running};
use crate::bag::{Bag, Item};
use crate::locks::lock;
use crate::platform::now_ns;
use crate::process::fork::PerProcess;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// See the file's documentation.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    list: Mutex<List>,
    landed: Condvar,
}

#[derive(Debug, Default)]
struct List {
    /// Those that have begun. 64 bits, so that no number comes again.
    begun: u64,
    /// Of these, those that have not landed: number, thread.
    open: Vec<(u64, usize)>,
    /// How often something was put back.
    returned: u64,
    /// Threads that wait: without any, a landing costs no system call.
    waiting: usize,
}

/// The result of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Landing {
    /// All have landed that had begun.
    Done,
    /// The rest is the calling thread's own: it is in one of their destructors.
    Own,
    /// The deadline came first. This many threads are still freeing.
    Late { threads: usize },
}

impl Flights {
    fn lock(&self) -> MutexGuard<'_, List> {
        lock(&self.list)
    }

    /// Notes that the calling thread takes a bag. The domain's orphans are locked.
    pub(crate) fn begin(&self) -> Flight<'_> {
        let mut list = self.lock();
        list.begun += 1;
        let number = list.begun;
        list.open.push((number, running::this_thread()));
        Flight { flights: self, number, returns: false }
    }

    /// Notes that the rest of a bag in flight was put back for others to take. The domain's orphans are locked.
    pub(crate) fn put_back(&self) {
        self.lock().returned += 1;
    }

    /// Returns how often something was put back so far.
    pub(crate) fn returned(&self) -> u64 {
        self.lock().returned
    }

    /// Waits until all have landed that have begun, at most until `deadline`.
    ///
    /// A thread that waits without a deadline is in [`Engine::close`], maybe in a destructor of another domain, for
    /// which the thread that closes that one waits. A thread that waits for this one, directly or through others, is
    /// not waited for: its destructor is in the same position as the one that this thread is in.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Landing {
        let own = running::this_thread();
        let _unset = deadline.is_none().then(|| Unset(own));
        let mut list = self.lock();
        let last = list.begun;
        loop {
            let mut others: Vec<usize> =
                list.open.iter().filter(|(n, _)| *n <= last).map(|&(_, thread)| thread).collect();
            let all = others.len();
            others.retain(|&thread| thread != own);
            if deadline.is_none() {
                wait_unless_waited_for(own, &mut others);
            }
            if others.is_empty() {
                return if all > 0 { Landing::Own } else { Landing::Done };
            }
            let left = deadline.map(|late| late.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                others.sort_unstable();
                others.dedup();
                return Landing::Late { threads: others.len() };
            }
            list.waiting += 1;
            list = match left {
                None => self.landed.wait(list).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    self.landed.wait_timeout(list, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            list.waiting -= 1;
        }
    }
}

/// Returns which threads wait for which, without a deadline, in all domains of the process: pairs of threads. Locked
/// last of all.
fn waits() -> MutexGuard<'static, Vec<(usize, usize)>> {
    static WAITS: PerProcess<Mutex<Vec<(usize, usize)>>> = PerProcess::new();
    lock(WAITS.get(Mutex::default))
}

/// Takes the threads that wait for `own` out of `others`, and notes that `own` waits for the rest: under one lock, so
/// that of threads that wait in a circle the last one finds it.
fn wait_unless_waited_for(own: usize, others: &mut Vec<usize>) {
    let mut waits = waits();
    waits.retain(|wait| wait.0 != own);
    others.retain(|&other| {
        let (mut met, mut next) = (vec![other], 0);
        while let Some(&from) = met.get(next) {
            let further = waits.iter().filter(|wait| wait.0 == from).map(|wait| wait.1);
            let new: Vec<usize> = further.filter(|thread| !met.contains(thread)).collect();
            met.extend(new);
            next += 1;
        }
        !met.contains(&own)
    });
    waits.extend(others.iter().map(|&other| (own, other)));
}

/// Notes, when it is dropped, that the thread does not wait any more.
struct Unset(usize);

impl Drop for Unset {
    fn drop(&mut self) {
        waits().retain(|wait| wait.0 != self.0);
    }
}

/// The flight of a bag that the holder of this is freeing.
pub(crate) struct Flight<'f> {
    flights: &'f Flights,
    number: u64,
    returns: bool,
}

impl Flight<'_> {
    /// Notes that the rest of its bag is back with the domain.
    pub(crate) fn returns(&mut self) {
        self.returns = true;
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut list = self.flights.lock();
        list.open.retain(|&(number, _)| number != self.number);
        list.returned += u64::from(self.returns);
        if list.waiting > 0 {
            self.flights.landed.notify_all();
        }
    }
}

/// A destructor may run this long on a background thread before another thread serves other domains, and before it is
/// reported.
pub(crate) const STUCK: Duration = Duration::from_millis(100);

/// A destructor that a background thread has been in for longer than [`STUCK`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocked {
    /// The thread, as the kernel numbers it.
    pub(crate) tid: u32,
    /// For how long.
    pub(crate) runs: Duration,
    /// Its own object, and the rest of its bag.
    pub(crate) holds_items: u64,
}

/// The bag that the background thread is freeing, where others may take the rest of it away. Put and taken away
/// with the domain's orphans locked, or by the thread that has shut the door.
#[derive(Debug, Default)]
pub(crate) struct InFlight(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    bag: Option<Bag>,
    /// The destructor that runs.
    busy: Option<Busy>,
}

#[derive(Clone, Copy, Debug)]
struct Busy {
    /// The thread, as the kernel numbers it.
    tid: u32,
    /// Since when, nanoseconds.
    since_ns: u64,
}

impl InFlight {
    fn lock(&self) -> MutexGuard<'_, Held> {
        lock(&self.0)
    }

    pub(crate) fn put(&self, bag: Bag) {
        *self.lock() = Held { bag: Some(bag), busy: None };
    }

    /// Returns the next item, whose destructor the thread `tid` runs now: the one before is done. `None`: that was the
    /// last, or another thread took the rest.
    pub(crate) fn next(&self, tid: u32) -> Option<Item> {
        let mut held = self.lock();
        let next = held.bag.as_mut().and_then(Iterator::next);
        held.busy = next.is_some().then(|| Busy { tid, since_ns: now_ns() });
        next
    }

    pub(crate) fn take(&self) -> Option<Bag> {
        self.lock().bag.take()
    }

    /// Returns the destructor that the thread has been in for longer than [`STUCK`].
    fn blocked(&self) -> Option<Blocked> {
        let held = self.lock();
        let Busy { tid, since_ns } = held.busy?;
        let waiting = held.bag.as_ref().map_or(0, Bag::waiting);
        drop(held);
        let runs = Duration::from_nanos(now_ns().saturating_sub(since_ns));
        (runs >= STUCK).then(|| Blocked { tid, runs, holds_items: 1 + waiting as u64 })
    }
}

impl Engine {
    /// Returns the destructor that a background thread has been in for longer than [`STUCK`], if there is one.
    pub(crate) fn blocked_destructor(&self) -> Option<Blocked> {
        // In a child of a fork the lock may never be given back.
        if self.is_forked() { None } else { self.in_flight.blocked() }
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn only_those_that_had_begun_are_waited_for() {
        let flights = Flights::default();
        let soon = || Some(Instant::now() + Duration::from_millis(10));
        assert_eq!(flights.wait(soon()), Landing::Done);
        let own = flights.begin();
        assert_eq!(flights.wait(None), Landing::Own, "it would wait for itself");
        thread::scope(|scope| {
            let wait = || scope.spawn(|| flights.wait(soon())).join().expect("no panics");
            assert_eq!(wait(), Landing::Late { threads: 1 });
            let mut second = flights.begin();
            assert_eq!(wait(), Landing::Late { threads: 1 }, "two flights of one thread");
            second.returns();
            let waiting = scope.spawn(|| flights.wait(None));
            drop((own, second));
            assert_eq!(waiting.join().expect("no panics"), Landing::Done);
        });
        assert_eq!(flights.returned(), 1);
    }
}
