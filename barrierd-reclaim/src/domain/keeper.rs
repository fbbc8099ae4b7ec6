//! The background thread's work for one domain: it finds threads that hold garbage and do not retire, has their
//! queues taken over, and frees what is safe.
//!
//! This file owns when the next visit is due. `engine/takeover.rs` has the steps of a takeover, and
//! `background/mod.rs` the thread's sleep.
//!
//! # The daemon, while it sees nobody wait
//! Reading the daemon's file leaves no trace, so the daemon keeps its slow pace while all threads only read. While
//! something here waits for its barriers, the background thread does not park but sleeps on the daemon's word
//! ([`News`]). So the daemon sees it, and the thread learns of the next barrier at once.

use crate::background::{Keep, Kept, Watch};
use crate::bag::Bags;
use crate::domain::Domain;
use crate::domain::local::{self, DomainId};
use crate::engine::record::Record;
use crate::evidence::mapped::Mapped;
use crate::evidence::purchase::Asked;
use crate::later;
use crate::panics::caught;
use crate::platform::client::{Stamp, WaitError};
use crate::report::blockers::Blocker;
use crate::report::trace;
use crate::sync::real::AtomicU64;
use crate::sync::stage;
use core::ptr;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How often a domain in which something waits is visited, and for how long a thread must have retired nothing before
/// its queue is taken over, unless the builder sets another time.
pub(crate) const IDLE_AFTER: Duration = Duration::from_millis(10);
/// How often a domain whose threads free nothing themselves is visited.
const LAZY_NAP: Duration = Duration::from_millis(2);
/// While a barrier is awaited, the next visit is no sooner than this.
const LEAST_WAIT: Duration = Duration::from_millis(1);
/// While readers hold garbage up, visits become this rare ...
const MOST_NAP_PINNED: Duration = Duration::from_millis(40);
/// ... and this rare where no barrier comes.
const MOST_NAP: Duration = Duration::from_millis(250);
/// For this long a visit goes on freeing what its own destructors retire. Then it pauses as long, for other domains
/// and other threads.
const TURN: Duration = Duration::from_millis(1);
/// Visits become rarer by this part of the time in which nothing has moved.
const PATIENCE: u32 = 8;
/// The longest sleep on a daemon's word.
const MOST_SLEEP: Duration = Duration::from_millis(20);
/// What is as old as this does not wait for a barrier: even a daemon at its slow pace has made one by then.
const TOO_OLD: Duration = Duration::from_millis(500);
/// The number of visits to an empty domain before it is left alone. So a domain that is never empty for long costs
/// its retirers no wake-ups.
const LINGER: u32 = 3;

/// The keeper's knowledge of a record.
#[derive(Debug)]
struct Seen {
    retired: u64,
    since: Instant,
    /// The queue that was marked last; only compared, since it may be gone.
    ///
    /// If the record has another queue, that is the marked one's successor. It may hold something, whatever the count
    /// says: an owner counts an item before it pushes it, so it may have pushed into the successor what was counted
    /// before the mark. A successor is made while its predecessor exists, and is marked before it has a successor
    /// itself, so it never has the address that stands here.
    marked: *mut Bags,
}

/// What the thread waits for from a daemon: a later watermark.
#[derive(Clone, Debug)]
pub(crate) struct News {
    daemon: Arc<Mapped>,
    /// The watermark before the last visit, in nanoseconds.
    seen_ns: u64,
}

impl News {
    /// Returns whether there is a later watermark.
    fn have_come(&self) -> bool {
        self.daemon.watermark().is_ok_and(|mark| mark.ns > self.seen_ns)
    }

    /// Sleeps until there is a later watermark, for `longest` at most. Returns false at once if it can't be waited
    /// for.
    ///
    /// A caller that calls the thread meanwhile finds it awake, as if it were working, and so does not wake it. The
    /// call is seen at the thread's next check. Hence the bound.
    pub(crate) fn sleep(&self, longest: Duration) -> bool {
        let deadline = Instant::now() + longest.min(MOST_SLEEP);
        let waited = self.daemon.wait_passive(Stamp::from_ns(self.seen_ns), deadline);
        !matches!(waited, Err(WaitError::Distrust(_)))
    }
}

/// The reason why a visit leaves something with the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Nothing,
    /// The rest is reclaimable as well, but the visit's time is spent.
    More {
        spent: Duration,
    },
    /// A section is in the way.
    Pinned,
    /// The barrier has not passed.
    Unpassed,
    /// Nothing is freed any more.
    Poisoned,
}

/// The background thread's view of a domain.
#[derive(Debug)]
pub(crate) struct Keeper {
    domain: Weak<Domain>,
    /// The same domain, as the background thread sees it.
    kept: Weak<dyn Kept>,
    id: DomainId,
    seen: HashMap<*const Record, Seen>,
    due: Instant,
    /// The news that it sleeps for until then, if it waits for more than time.
    news: Option<News>,
    /// When something last moved.
    moved: Instant,
    waiting: u64,
    /// Destructors of the last visit have retired what was not freed yet.
    renews: bool,
    empty: u32,
    /// The number of destructors that its visits have begun.
    beats: Arc<AtomicU64>,
    /// When the next check for stalled sections is due.
    stalls_due: Instant,
}

// SAFETY: the addresses in it are only compared.
unsafe impl Send for Keeper {}

impl Keeper {
    pub(crate) fn new(domain: Weak<Domain>, id: DomainId) -> Keeper {
        let now = Instant::now();
        Keeper {
            kept: domain.clone(),
            domain,
            id,
            seen: HashMap::new(),
            due: now,
            news: None,
            moved: now,
            waiting: 0,
            renews: false,
            empty: 0,
            beats: Arc::default(),
            stalls_due: now,
        }
    }

    /// Does the work of [`Keep::visit`].
    fn try_visit(&mut self, domain: &Arc<Domain>) -> Option<Duration> {
        let watch = domain.watch()?;
        if watch.attention().is_asleep() {
            return None;
        }
        let stalls = self.look_for_stalls(domain);
        let sooner = |wait: Duration| wait.min(stalls.unwrap_or(wait));
        let now = Instant::now();
        if now < self.due && !self.news.as_ref().is_some_and(News::have_come) {
            return Some(sooner(self.due - now));
        }
        let wait = self.pass(domain, now);
        domain.told().tell_changes(domain);
        if wait.is_none() && watch.attention().fall_asleep(|| domain.waiting() != 0) {
            self.due = now;
            return None;
        }
        let wait = wait.unwrap_or_else(|| domain.idle_after());
        self.due = later::after(Instant::now(), wait);
        Some(sooner(wait))
    }

    /// Checks for sections that are open for too long, if there is a hook to call and it is time. Returns when to do
    /// so again.
    fn look_for_stalls(&mut self, domain: &Arc<Domain>) -> Option<Duration> {
        let stalls = domain.stalls()?;
        let now = Instant::now();
        if now < self.stalls_due {
            return Some(self.stalls_due - now);
        }
        if stalls.check(domain) {
            // The hook may have used the domain: see `free`.
            local::leave(self.id);
        }
        self.stalls_due = later::after(Instant::now(), stalls.every());
        Some(stalls.every())
    }

    /// Makes one visit. Returns `None` if nothing waits.
    fn pass(&mut self, domain: &Arc<Domain>, now: Instant) -> Option<Duration> {
        self.news = None;
        let period = domain.idle_after().min(if domain.is_lazy() { LAZY_NAP } else { MOST_NAP });
        let waiting = domain.waiting();
        if waiting == 0 {
            self.empty += 1;
            (self.moved, self.waiting) = (now, 0);
            return (self.empty < LINGER).then_some(period);
        }
        self.empty = 0;
        // This comes before the visit's work, so that no news that comes during it is slept through.
        let news = domain.easy_daemon().and_then(|daemon| {
            let seen_ns = daemon.watermark().ok()?.ns;
            Some(News { daemon, seen_ns })
        });
        let mut moved = waiting < self.waiting;
        self.waiting = waiting;

        domain.look_for_daemon();
        domain.prepare_to_buy();
        moved |= self.mark_idle(domain, now);
        let mut awaits_barrier = domain.pass_marks();
        moved |= domain.take_marked() > 0;
        let (freed, left) = self.free_in_turns(domain);
        moved |= freed;
        let pinned = left == Outcome::Pinned;
        awaits_barrier |= left == Outcome::Unpassed;
        // The domain is poisoned: no barrier will come.
        if left == Outcome::Poisoned {
            return Some(MOST_NAP);
        }
        if moved {
            self.moved = now;
        }
        if let Outcome::More { spent } = left {
            return Some(spent);
        }
        let stuck = now.saturating_duration_since(self.moved);
        if self.renews && left == Outcome::Unpassed && stuck < 10 * LEAST_WAIT {
            // The barrier could not be bought yet.
            if let Some(wait) = domain.purchase_in() {
                return Some(wait.clamp(LEAST_WAIT / 20, LEAST_WAIT));
            }
        }
        // Threads that retire share each other's barriers. Where those suffice, nothing gets old.
        let old =
            || domain.oldest().is_some_and(|age| (domain.idle_after()..TOO_OLD).contains(&age));
        self.news = news.filter(|_| awaits_barrier || old());
        let stuck = stuck / PATIENCE;
        Some(if awaits_barrier {
            let least = if self.news.is_some() { period } else { LEAST_WAIT.min(period) };
            stuck.clamp(least, MOST_NAP)
        } else if pinned {
            stuck.clamp(period, MOST_NAP_PINNED.max(period))
        } else {
            period
        })
    }

    /// Frees what is safe. Then, turn by turn, it frees what the destructors of the last turn have retired, with the
    /// evidence that exists by then. Returns whether anything was freed, and what is left.
    ///
    /// Otherwise a chain whose links each retire the next would be freed at one link for each visit.
    fn free_in_turns(&mut self, domain: &Arc<Domain>) -> (bool, Outcome) {
        let begun = Instant::now();
        let (mut any, mut again) = (false, false);
        let mut asked = if self.renews { Asked::Again } else { Asked::InBackground };
        loop {
            if !domain.has_orphans() {
                self.renews = false;
                return (any, Outcome::Nothing);
            }
            let scan = domain.scan_in_background(asked);
            let (freed, retired) =
                if domain.has_safe_orphan() { self.free(domain) } else { (0, 0) };
            any |= freed > 0;
            let Some(oldest) = domain.oldest_orphan() else {
                self.renews = false;
                return (any, Outcome::Nothing);
            };
            let Some(scan) = scan else { return (any, Outcome::Poisoned) };
            if freed > 0 {
                self.renews = retired > 0;
            }
            let left = if scan.watermark > oldest { Outcome::Pinned } else { Outcome::Unpassed };
            // The stamp of what was just retired may be too close to the scan's. Then a second scan is made.
            let near = freed == 0 && again && left == Outcome::Unpassed;
            if !self.renews || freed == 0 && !near {
                return (any, left);
            }
            let spent = begun.elapsed();
            if spent >= TURN {
                return (any, Outcome::More { spent });
            }
            (asked, again) = (Asked::Again, freed > 0);
        }
    }

    /// Marks the queues of threads that may hold something and have not retired for a while. A thread that retires is
    /// left alone.
    fn mark_idle(&mut self, domain: &Domain, now: Instant) -> bool {
        let mut marked = false;
        for record in domain.records() {
            let retired = record.meter().retired().items;
            let unseen = Seen { retired: 0, since: now, marked: ptr::null_mut() };
            let seen = self.seen.entry(record).or_insert(unseen);
            if retired != seen.retired || record.is_attended() {
                (seen.retired, seen.since) = (retired, now);
                continue;
            }
            let idle = now.saturating_duration_since(seen.since) >= domain.idle_after();
            // Without the lock: most idle threads have retired nothing since.
            if !idle || retired == 0 || record.foreign_bags() == seen.marked {
                continue;
            }
            stage();
            if let Some(queue) = domain.mark(record) {
                stage();
                seen.marked = queue;
                marked = true;
            }
        }
        marked
    }

    /// Frees what is safe, as a thread of the domain like any other. It then gives its record up, since an idle
    /// record would hold back collected barriers. Returns the number of items freed, and the number that their
    /// destructors retired.
    fn free(&self, domain: &Arc<Domain>) -> (usize, u64) {
        let Some(record) = local::find(self.id, domain) else { return (0, 0) };
        // SAFETY: this thread's record in this domain, which is alive.
        let record = unsafe { &*record };
        let before = record.meter().retired().items;
        let freed =
            domain.while_freeing(record, || domain.free_in_background_thread(record, &self.beats));
        let retired = record.meter().retired().items.wrapping_sub(before);
        local::leave(self.id);
        (freed, retired)
    }
}

impl Keep for Keeper {
    fn domain(&self) -> &Weak<dyn Kept> {
        &self.kept
    }

    fn beats(&self) -> &Arc<AtomicU64> {
        &self.beats
    }

    fn visit(&mut self) -> Option<Duration> {
        let domain = self.domain.upgrade()?;
        self.try_visit(&domain)
    }

    fn news(&self) -> Option<Box<dyn FnOnce(Duration) -> bool + Send>> {
        let news = self.news.clone()?;
        Some(Box::new(move |longest| news.sleep(longest)))
    }
}

impl Kept for Domain {
    fn watch(&self) -> Option<&Watch> {
        Domain::watch(self)
    }

    fn listens(&self) -> bool {
        trace::IS_ON || self.stalls().is_some()
    }

    fn tell(&self) {
        let Some(blocked) = self.blocked_destructor() else { return };
        let blocker = Blocker::of_destructor(blocked);
        // A panic of the one does not prevent the other from being called.
        caught(|| trace::blocked(&blocker));
        if let Some(stalls) = self.stalls() {
            stalls.tell(&blocker);
        }
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod preempted;
