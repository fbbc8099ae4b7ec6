//! The call-back for sections that are open for too long.
//!
//! This file owns the limit, what was seen of each section, and what was reported. The background thread makes the
//! checks while something waits. Where there is none, threads make them when they retire (once for each bag at most),
//! flush or synchronize. No thread waits for its lock: a thread that finds it taken leaves the check to the holder.
//!
//! A section is identified by its record and by the latest stamp that it had seen when it began. Two sections of the
//! same record that have seen the same stamp can't be told apart. So a section's time is counted from the first check
//! at which there was a later stamp: only that section, and no later one of the same record, can show the earlier
//! stamp.

use crate::engine::Engine;
use crate::engine::record::Record;
use crate::locks::try_lock;
use crate::panics::caught;
use crate::platform::now_ns;
use crate::report::blockers::{self, About, Blocker, Open};
use crate::report::trace;
use crate::sync::real::AtomicU64;
use core::fmt;
use core::sync::atomic::Ordering;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Hook = Arc<Mutex<dyn FnMut(&Blocker) + Send>>;

/// The builder's settings.
#[derive(Clone)]
pub(crate) struct StallHook {
    pub(crate) after: Duration,
    pub(crate) hook: Hook,
}

impl fmt::Debug for StallHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StallHook {{ after: {:?} }}", self.after)
    }
}

/// A record, and whether its robust guards are meant.
type Key = (*const Record, bool);

/// A domain's checks of its sections.
#[derive(Debug)]
pub(crate) struct Stalls {
    hook: StallHook,
    seen: Mutex<HashMap<Key, Seen>>,
    /// When the last check was, in nanoseconds.
    looked_ns: AtomicU64,
}

// SAFETY: the records' addresses are only compared.
unsafe impl Send for Stalls {}
// SAFETY: the records' addresses are only compared, from any thread.
unsafe impl Sync for Stalls {}

#[derive(Clone, Copy, Debug)]
struct Seen {
    era: u64,
    since_ns: u64,
    told: bool,
}

/// The longest time between two checks that this file asks for.
const MOST_BETWEEN: Duration = Duration::from_millis(250);
/// The number of checks in the time that a section may be open.
const LOOKS: u32 = 8;

impl Stalls {
    pub(crate) fn new(hook: StallHook) -> Stalls {
        Stalls { hook, seen: Mutex::default(), looked_ns: AtomicU64::new(0) }
    }

    /// Calls back for a destructor that blocks, unless it is the hook itself that does.
    pub(crate) fn tell(&self, blocker: &Blocker) {
        if let Some(mut hook) = try_lock(&self.hook.hook) {
            hook(blocker);
        }
    }

    /// Returns the time between two checks.
    pub(crate) fn every(&self) -> Duration {
        (self.hook.after / LOOKS).clamp(Duration::from_millis(1), MOST_BETWEEN)
    }

    /// Returns whether a check is due that calls may make. If so, the caller must make it.
    fn is_due(&self, now_ns: u64) -> bool {
        let looked_ns = self.looked_ns.load(Ordering::Relaxed);
        let every = u64::try_from(self.every().as_nanos()).unwrap_or(u64::MAX);
        now_ns.saturating_sub(looked_ns) >= every
            && self
                .looked_ns
                .compare_exchange(looked_ns, now_ns, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Runs at the end of a call, outside of queues. Makes a check, if it is time and no other thread does.
    pub(crate) fn check_if_due(&self, engine: &Engine) {
        if self.is_due(now_ns()) {
            self.check(engine);
        }
    }

    /// Makes a check, and calls back. Returns whether it did.
    ///
    /// Foreign code runs here, so the caller holds no lock, and is not working on a queue.
    pub(crate) fn check(&self, engine: &Engine) -> bool {
        if engine.is_forked() {
            return false;
        }
        // The lock is held during the call, so the hook is called by one thread at a time, and not from within
        // itself.
        let Some(mut hook) = try_lock(&self.hook.hook) else { return false };
        let Some(mut seen) = try_lock(&self.seen) else { return false };
        // The sections are read before the word, so a section that shows an earlier stamp began before.
        let open: Vec<Open> = blockers::sections(engine).collect();
        let now = engine.words().latest();
        let due = due(&mut seen, open.into_iter(), now, now_ns(), self.hook.after);
        drop(seen);
        if due.is_empty() {
            return false;
        }
        let mut about = About::new(engine);
        for &section in &due {
            let blocker = about.blocker(section);
            caught(|| trace::stalled(&blocker));
            caught(|| hook(&blocker));
        }
        true
    }
}

/// Notes a check at `now_ns`; the domain's latest stamp was loaded after `open`. Returns the sections that have been
/// open for `after`, each once.
fn due(
    seen: &mut HashMap<Key, Seen>,
    open: impl Iterator<Item = Open>,
    latest: u64,
    now_ns: u64,
    after: Duration,
) -> Vec<Open> {
    let mut due = Vec::new();
    let mut still = HashMap::new();
    // Among sections that have seen the latest stamp, each check may find another one.
    for section in open.filter(|section| section.era < latest) {
        let key = (section.record, section.robust);
        let known = seen.get(&key).filter(|known| known.era == section.era).copied();
        let mut known = known.unwrap_or(Seen { era: section.era, since_ns: now_ns, told: false });
        let open_for = Duration::from_nanos(now_ns.saturating_sub(known.since_ns));
        if !known.told && open_for >= after {
            known.told = true;
            due.push(section);
        }
        still.insert(key, known);
    }
    *seen = still;
    due
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_nanos(50);

    fn open(place: usize, era: u64) -> Open {
        Open::new(std::ptr::without_provenance(place), era)
    }

    /// Checks with the eras at which sections of record 8 are open, the domain's era, and the time. Returns how many
    /// are reported.
    fn told(seen: &mut HashMap<Key, Seen>, eras: &[u64], era: u64, now_ns: u64) -> usize {
        due(seen, eras.iter().map(|&era| open(8, era)), era, now_ns, AFTER).len()
    }

    #[test]
    fn each_section_once() {
        let seen = &mut HashMap::new();
        assert_eq!(told(seen, &[10], 20, 100), 0);
        assert_eq!(told(seen, &[10], 20, 149), 0);
        assert_eq!(told(seen, &[10], 20, 150), 1);
        assert_eq!(told(seen, &[10], 30, 500), 0, "it was told of");
        assert_eq!(told(seen, &[30], 40, 510), 0, "the next section");
        assert_eq!(told(seen, &[], 40, 520), 0);
        assert_eq!(told(seen, &[30], 40, 540), 0, "it began once more, as far as is known");
        assert_eq!(told(seen, &[30], 40, 560), 0);
        assert_eq!(told(seen, &[30], 40, 590), 1);
    }

    #[test]
    fn sections_of_the_present_era_cannot_be_told_apart() {
        let seen = &mut HashMap::new();
        assert_eq!(told(seen, &[20], 20, 100), 0);
        assert_eq!(told(seen, &[20], 20, 1000), 0);
        assert_eq!(told(seen, &[20], 21, 1100), 0, "from here on it is one");
        assert_eq!(told(seen, &[20], 21, 1150), 1);
    }
}
