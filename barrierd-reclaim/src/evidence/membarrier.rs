//! The barrier that a process buys for itself: `membarrier(2)`, `PRIVATE_EXPEDITED`, or `FlushProcessWriteBuffers`.
//!
//! Owns the question whether it can be had, the registration, the watermark that all domains of the process
//! share, the price and the spacing of purchases. A barrier bought here covers the threads of this address
//! space alone.
//!
//! # Semantics
//! `membarrier(PRIVATE_EXPEDITED)` returns after every running thread of the process has executed
//! a full barrier between the call and the return; threads that do not run passed one when they
//! were switched out (`kernel/sched/membarrier.c`). So a stamp that was taken before the call is a
//! watermark after it, for the buyer's own domain, whose stamps are in order. For other domains it is one
//! because no stamp of theirs that comes after is lower: before it calls, the buyer shows its stamp in a word
//! that every stamping thread loads ([`FLOOR`]). No clock is compared with another.
//!
//! `FlushProcessWriteBuffers` interrupts every CPU that runs a thread of the process, and returns when all have taken the
//! interrupt; a thread that does not run was switched out. So it proves the same. It has no registration. FreeBSD's
//! `membarrier(2)` is argued for in `platform/freebsd.rs`.
//!
//! # Registration
//! Linux sells only to a process that has registered, which in one of several threads takes a grace period of
//! RCU, 5 to 100 ms (`synchronize_rcu` in `membarrier_register_private_expedited`). It must come before the purchase
//! and not before the sections, since a barrier that is bought is one for whatever ran before it. So registration is
//! put off until some thread needs a barrier, once a process; and in a domain that the background thread looks after,
//! that thread does the waiting. Whether registration will be granted is found out without registering ([`ask`]),
//! before the first section: only then can readers be told to fence.

use crate::error::MembarrierError;
use crate::platform::{Refusal, membarrier as system, now_ns};
use crate::process::fork::{PerProcess, Process};
use crate::protocol::raise;
use crate::sync::real::AtomicU64;
use crate::sync::{FLOOR, Mutant, broken};
use core::sync::atomic::{AtomicBool, Ordering::*};
use std::io;

/// Purchases that are made only because time goes by are at least this far apart, in nanoseconds ...
const LEAST_SPACING_NS: u64 = 2_000_000;
/// ... and cost at most one part in this many of the time between them ...
const SHARE: u64 = 50;
/// ... but are no further apart than this: a price may include the buyer's own preemption.
const MOST_SPACING_NS: u64 = 4_000_000;
/// Calls that are asked to free buy no sooner than this many times the price after the last purchase ...
const FLUSHES_APART: u64 = 10;
/// ... but no later than this, nanoseconds, for the same reason.
const MOST_FLUSHES_APART_NS: u64 = 1_000_000;
/// A registration that was refused is tried again after this, nanoseconds.
const RETRY_NS: u64 = 100_000_000;
/// The background thread is given this long to register the process, nanoseconds: some destructor may block it.
const OVERDUE_NS: u64 = 1_000_000_000;

/// The process whose purchases are remembered, by its number; with [`BEGINS`] while it forgets what its
/// parent bought.
static OWNER: AtomicU64 = AtomicU64::new(0);
/// See [`OWNER`].
const BEGINS: u64 = 1 << 63;

/// In a child of a fork: forgets what its parent bought. Those barriers covered the parent's threads; and the child
/// may have been born into another time namespace, where the parent's stamps lie in a future for which
/// everything would have to wait. Only domains that the child makes free anything in it, and each of them calls this,
/// whatever its source, before it uses a barrier or takes a stamp.
pub(crate) fn begin_anew_in_a_child() {
    let this = Process::current().number();
    loop {
        // Acquire: pairs with the Release below, so that no thread raises what is about to be reset.
        let owner = OWNER.load(Acquire);
        if owner == this {
            return;
        }
        if owner == this | BEGINS {
            // Another thread of this process is between two of its steps below.
            core::hint::spin_loop();
            continue;
        }
        if OWNER.compare_exchange(owner, this | BEGINS, Acquire, Relaxed).is_ok() {
            BOUGHT.watermark_ns.store(0, Relaxed);
            BOUGHT.last_ns.store(0, Relaxed);
            BOUGHT.started_ns.store(0, Relaxed);
            BOUGHT.refused.store(false, Relaxed);
            BOUGHT.registered.store(false, Relaxed);
            BOUGHT.registers.store(false, Relaxed);
            BOUGHT.failed_ns.store(0, Relaxed);
            BOUGHT.wanted_ns.store(0, Relaxed);
            BOUGHT.deserted.store(false, Relaxed);
            FLOOR.store(0, Relaxed);
            OWNER.store(this, Release);
            return;
        }
    }
}

/// Returns whether the process has the background thread, or may still get it: that thread registers the process.
pub(crate) fn is_attended() -> bool {
    // Relaxed, here and below: a hint.
    !BOUGHT.deserted.load(Relaxed)
}

/// Notes that the background thread runs, or that it could not be started.
pub(crate) fn set_attended(attended: bool) {
    BOUGHT.deserted.store(!attended, Relaxed);
}

/// What was bought, for every domain of the process.
static BOUGHT: Bought = Bought {
    watermark_ns: AtomicU64::new(0),
    last_ns: AtomicU64::new(0),
    price_ns: AtomicU64::new(0),
    started_ns: AtomicU64::new(0),
    refused: AtomicBool::new(false),
    registered: AtomicBool::new(false),
    registers: AtomicBool::new(false),
    failed_ns: AtomicU64::new(0),
    wanted_ns: AtomicU64::new(0),
    deserted: AtomicBool::new(false),
};

struct Bought {
    watermark_ns: AtomicU64,
    /// When the last purchase, or refusal, ended.
    last_ns: AtomicU64,
    /// What the purchase took, as far as that is trusted.
    price_ns: AtomicU64,
    /// Since when some thread is buying, or 0: the barrier that it gets serves others, too.
    started_ns: AtomicU64,
    /// The kernel refused the last one, or the registration for it.
    refused: AtomicBool,
    /// The process is registered.
    registered: AtomicBool,
    /// Some thread registers it at this moment.
    registers: AtomicBool,
    /// When that was last refused, or 0.
    failed_ns: AtomicU64,
    /// Since when the background thread is wanted to do it, or 0.
    wanted_ns: AtomicU64,
    /// There is no background thread: it could not be started.
    deserted: AtomicBool,
}

/// Whether this process may buy: the answer to [`ask`], which only a filter that comes later can make untrue.
static ANSWER: PerProcess<Result<(), Refused>> = PerProcess::new();

/// What the system, or a filter before it, answered, and to what.
#[derive(Clone, Copy, Debug)]
struct Refused {
    why: Refusal,
    to: fn(io::Error) -> MembarrierError,
}

impl From<Refused> for MembarrierError {
    fn from(Refused { why, to }: Refused) -> MembarrierError {
        let error = io::Error::from_raw_os_error;
        match why {
            Refusal::Unsupported => MembarrierError::Unsupported,
            Refusal::Forbidden(errno) => MembarrierError::Forbidden(error(errno)),
            Refusal::Failed(errno) => to(error(errno)),
        }
    }
}

/// Asks whether the system would register this process and sell to it, without doing either.
fn ask() -> Result<(), Refused> {
    if system::is_offered() {
        return Ok(());
    }
    // There is no membarrier; or a filter of some kind is in the way. Trying shows that at once, except where the
    // filter refuses the questions alone.
    try_it()
}

/// Finds out the same by doing both.
fn try_it() -> Result<(), Refused> {
    register()?;
    call()
}

/// Registers the process, if it isn't. May take long: see the file's documentation.
fn register() -> Result<(), Refused> {
    // Acquire: pairs with the Release below, so that the purchase comes after the registration.
    if BOUGHT.registered.load(Acquire) {
        return Ok(());
    }
    // Relaxed, this and the times: hints for other threads whether to register, too. Twice does no harm.
    BOUGHT.registers.store(true, Relaxed);
    let done = system::register();
    BOUGHT.registers.store(false, Relaxed);
    match done {
        Ok(()) => BOUGHT.registered.store(true, Release),
        Err(_) => BOUGHT.failed_ns.store(now_ns(), Relaxed),
    }
    done.map_err(|why| Refused { why, to: MembarrierError::Register })
}

fn call() -> Result<(), Refused> {
    system::barrier().map_err(|why| Refused { why, to: MembarrierError::Call })
}

/// This process may buy, as far as is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Membarrier(());

impl Membarrier {
    /// Finds out whether barriers can be bought. Asks the kernel the first time in a process; and tries it, after it
    /// has refused something that it said it would do.
    pub(crate) fn find() -> Result<Membarrier, MembarrierError> {
        begin_anew_in_a_child();
        let answer = if BOUGHT.refused.load(Relaxed) { try_it() } else { *ANSWER.get(ask) };
        Ok(answer.map(|()| Membarrier(()))?)
    }

    /// Returns whether the caller should buy now, registering the process if need be; not soon after that was
    /// refused. `leaves_it` returns whether the caller leaves the registration to the background thread, which is
    /// then told that it is wanted, and has some time for it.
    pub(crate) fn is_ready(self, now_ns: u64, leaves_it: impl FnOnce() -> bool) -> bool {
        // Relaxed, all: `buy` checks again.
        if BOUGHT.registered.load(Relaxed) {
            return true;
        }
        if has_just_failed(now_ns) {
            return false;
        }
        if !leaves_it() {
            return true;
        }
        let since = BOUGHT.wanted_ns.load(Relaxed);
        if since == 0 {
            BOUGHT.wanted_ns.store(now_ns, Relaxed);
        }
        since != 0 && now_ns.saturating_sub(since) >= OVERDUE_NS
    }

    /// Returns whether the process is registered, or no thread wanted to buy so far.
    pub(crate) fn is_prepared(self, wanted: impl FnOnce() -> bool) -> bool {
        BOUGHT.registered.load(Relaxed) || BOUGHT.wanted_ns.load(Relaxed) == 0 && !wanted()
    }

    /// Registers the process, for other threads that will buy. Returns whether that was refused. May take long.
    pub(crate) fn prepare(self) -> bool {
        if has_just_failed(now_ns()) {
            return false;
        }
        let refused = register().is_err();
        BOUGHT.refused.store(refused, Relaxed);
        refused
    }

    /// Returns the bought watermark, nanoseconds: every thread of the process has passed its barrier for what was
    /// stamped before this, in any domain.
    pub(crate) fn watermark_ns(self) -> u64 {
        // Acquire: pairs with `buy`.
        BOUGHT.watermark_ns.load(Acquire)
    }

    /// Returns what a barrier cost when one was last bought, nanoseconds.
    pub(crate) fn price_ns(self) -> u64 {
        BOUGHT.price_ns.load(Relaxed)
    }

    /// Returns whether time alone is reason enough for a purchase.
    pub(crate) fn is_due(self, now_ns: u64) -> bool {
        now_ns.saturating_sub(BOUGHT.last_ns.load(Relaxed)) >= spacing_ns(self.price_ns())
    }

    /// Returns whether what was stamped with `stamp_ns` has waited for as long as purchases are apart.
    pub(crate) fn is_old(self, stamp_ns: u64, now_ns: u64) -> bool {
        now_ns.saturating_sub(stamp_ns) >= spacing_ns(self.price_ns())
    }

    /// Returns whether purchases at this moment would leave the machine time for other things.
    pub(crate) fn is_affordable(self, now_ns: u64) -> bool {
        self.affordable_in_ns(now_ns) == 0
    }

    /// Returns the time until purchases are affordable, nanoseconds.
    pub(crate) fn affordable_in_ns(self, now_ns: u64) -> u64 {
        let apart = 4 * self.price_ns().min(MOST_SPACING_NS);
        apart.saturating_sub(now_ns.saturating_sub(BOUGHT.last_ns.load(Relaxed)))
    }

    /// Returns whether a call that is asked to free may buy at this moment. If it is made over and over, barriers
    /// take a tenth of its time. What it may not buy now, the purchase before covers or the next one will.
    pub(crate) fn is_worth_a_flush(self, now_ns: u64) -> bool {
        let apart = self.price_ns().saturating_mul(FLUSHES_APART).min(MOST_FLUSHES_APART_NS);
        now_ns.saturating_sub(BOUGHT.last_ns.load(Relaxed)) >= apart && !is_buying(now_ns)
    }

    /// Returns whether a purchase would take the price of a barrier alone.
    pub(crate) fn is_registered(self) -> bool {
        BOUGHT.registered.load(Relaxed)
    }

    /// Returns whether some thread is buying at this moment (not one that is kept from running meanwhile), or is
    /// registering the process.
    pub(crate) fn is_under_way(self, now_ns: u64) -> bool {
        BOUGHT.registers.load(Relaxed) || is_buying(now_ns)
    }

    /// Returns whether the kernel refused the last purchase.
    pub(crate) fn is_refused(self) -> bool {
        BOUGHT.refused.load(Relaxed)
    }

    /// Buys a barrier for what was stamped before `own`, the caller's last stamp, and returns its watermark. It takes
    /// about 0.4 us when no other thread of the process runs, tens of microseconds when some do, and the time of the
    /// registration more the first time in a process.
    pub(crate) fn buy(self, own: u64) -> Result<u64, MembarrierError> {
        debug_assert!(own < u64::MAX, "the stamp of a poisoned domain is no stamp");
        if let Err(why) = register() {
            BOUGHT.refused.store(true, Relaxed);
            return Err(why.into());
        }
        let before = now_ns();
        BOUGHT.started_ns.store(before, Relaxed);
        let watermark = raise(&FLOOR, own);
        let bought = if broken(Mutant::NoBarrier) { Ok(()) } else { call() };
        let after = now_ns();
        BOUGHT.started_ns.store(0, Relaxed);
        // A refusal is spaced like a purchase; and where the clock lies behind the stamps, by these.
        BOUGHT.last_ns.store(after.max(own), Relaxed);
        BOUGHT.price_ns.store(believed(self.price_ns(), after.saturating_sub(before)), Relaxed);
        BOUGHT.refused.store(bought.is_err(), Relaxed);
        bought?;
        // Release: a thread that loads it (Acquire, in `watermark_ns`) runs after the barrier. Not `fetch_max`: see
        // `sync::raise_to`, which under loom is of other atomics.
        let higher = |now| (now < watermark).then_some(watermark);
        BOUGHT.watermark_ns.fetch_update(Release, Relaxed, higher).ok();
        Ok(self.watermark_ns())
    }
}

/// See [`Membarrier::is_under_way`].
fn is_buying(now_ns: u64) -> bool {
    let started_ns = BOUGHT.started_ns.load(Relaxed);
    started_ns != 0
        && now_ns.saturating_sub(started_ns) < most_buying_ns(BOUGHT.price_ns.load(Relaxed))
}

/// Returns how long a purchase may take before others buy as well. A buyer may be preempted within the call, and
/// somebody must buy for those that run meanwhile: in a time slice they retire a hundred thousand objects.
fn most_buying_ns(price_ns: u64) -> u64 {
    match price_ns {
        // The first one.
        0 => MOST_SPACING_NS,
        price_ns => price_ns.saturating_mul(4).min(MOST_SPACING_NS),
    }
}

fn has_just_failed(now_ns: u64) -> bool {
    let failed_ns = BOUGHT.failed_ns.load(Relaxed);
    failed_ns != 0 && now_ns.saturating_sub(failed_ns) < RETRY_NS
}

/// Returns as much of a new price as is trusted: it may include the buyer's own preemption, so the price doubles at
/// most.
fn believed(last_ns: u64, new_ns: u64) -> u64 {
    if last_ns == 0 { new_ns } else { new_ns.min(last_ns.saturating_mul(2)) }
}

fn spacing_ns(price_ns: u64) -> u64 {
    price_ns.saturating_mul(SHARE).clamp(LEAST_SPACING_NS, MOST_SPACING_NS)
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;
    use crate::protocol::Words;
    #[cfg(target_os = "linux")]
    use std::process::Command;

    #[cfg_attr(any(barrierd_plain, windows), ignore = "no membarrier, or Wine's")]
    #[test]
    fn a_purchase_covers_all_before_it() {
        let words = Words::new();
        let source = Membarrier::find().expect("this kernel has membarrier");
        let own = words.fence_and_stamp(&FLOOR, now_ns).ns;
        let bought = source.buy(own).expect("registered");
        assert!(bought > own && source.watermark_ns() >= bought);
        // What comes after needs another, in any domain, wherever its clock is.
        assert!(Words::new().fence_and_stamp(&FLOOR, || 0).ns >= bought);
    }

    /// In a process of its own: the state is the process's.
    #[cfg(target_os = "linux")]
    #[cfg_attr(any(barrierd_plain, windows), ignore = "no membarrier, or Wine's")]
    #[test]
    fn a21_who_leaves_the_registration_to_another_gives_it_a_second() {
        const NAME: &str = "a21_who_leaves_the_registration_to_another_gives_it_a_second";
        const CHILD: &str = "BARRIERD_TEST_CHILD";
        if std::env::var_os(CHILD).is_none() {
            let mut test = Command::new(std::env::current_exe().expect("this test"));
            test.args(["--exact", &format!("membarrier::tests::{NAME}")]).env(CHILD, "1");
            assert!(test.status().expect("it runs").success());
            return;
        }
        let source = Membarrier::find().expect("this kernel has membarrier");
        let now = now_ns();
        assert!(source.is_prepared(|| false) && !source.is_prepared(|| true));
        assert!(source.is_ready(now, || false), "who does it himself");
        assert!(!source.is_ready(now, || true) && !source.is_prepared(|| false), "it is wanted");
        assert!(!source.is_ready(now + OVERDUE_NS - 1, || true));
        assert!(source.is_ready(now + OVERDUE_NS, || true));
        assert!(!source.prepare(), "not refused");
        assert!(source.is_ready(now, || true) && source.is_prepared(|| true));
        // The child of a fork has to do it anew.
        // SAFETY: the child only looks at some words, and exits at once.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "fork");
        if child == 0 {
            begin_anew_in_a_child();
            let anew = !source.is_prepared(|| true) && matches!(source.buy(16), Ok(32));
            // SAFETY: ends the child, nothing else.
            unsafe { libc::_exit(i32::from(!anew)) };
        }
        let mut status = 0;
        // SAFETY: a child of this process, waited for once.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0);
    }

    #[test]
    fn one_preemption_is_no_price() {
        assert_eq!((believed(0, 900), believed(900, 400)), (900, 400));
        assert_eq!(believed(400, 8_000_000), 800);
    }

    #[test]
    fn who_is_preempted_in_a_purchase_keeps_nobody_from_buying() {
        assert_eq!(
            (most_buying_ns(0), most_buying_ns(u64::MAX)),
            (MOST_SPACING_NS, MOST_SPACING_NS)
        );
        // Far less than a time slice.
        assert_eq!(most_buying_ns(12_000), 48_000);
    }

    #[test]
    fn purchases_are_spaced_by_their_price() {
        assert_eq!(spacing_ns(500), LEAST_SPACING_NS);
        assert_eq!(spacing_ns(40_000), 40_000 * SHARE);
        assert_eq!(spacing_ns(10_000_000), MOST_SPACING_NS);
    }
}
