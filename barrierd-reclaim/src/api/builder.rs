//! What a domain is made with.

use crate::api::reclaimer::Reclaimer;
use crate::domain::Settings;
use crate::domain::limit::OnLimit;
use crate::error::BuildError;
use crate::evidence::barriers::Barriers;
use crate::evidence::source::Source;
use crate::report::blockers::Blocker;
use crate::report::pressure::Pressure;
use crate::report::stalled::StallHook;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Settings of a new [`Reclaimer`].
///
/// ```
/// use barrierd_reclaim::{Reclaimer, Source};
///
/// let reclaimer = Reclaimer::builder().source(Source::Fence).build()?;
/// # Ok::<(), barrierd_reclaim::BuildError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Builder {
    source: Source,
    path: Option<PathBuf>,
    settings: Settings,
}

impl Builder {
    /// Where barriers come from. The default is [`Source::Auto`].
    pub fn source(mut self, source: Source) -> Builder {
        self.source = source;
        self
    }

    /// The barrier daemon's file. The default is `/run/barrierd/barrier`.
    ///
    /// Whoever can write this file decides when memory is freed. It is refused unless it and its
    /// directories belong to root or to this process's own user; a process that names a file which
    /// its own user may write vouches for all programs of that user.
    ///
    /// It is mapped once a process, with one descriptor for all domains that go by it; the last one that was
    /// opened stays mapped for the domains to come.
    pub fn daemon_file(mut self, path: impl AsRef<Path>) -> Builder {
        self.path = Some(path.as_ref().to_path_buf());
        self
    }

    /// Items of one thread that may wait for a barrier before one is bought, whatever it costs (where
    /// the source can be asked for one); what an open section holds back does not count,
    /// since no barrier sets that free. The default is 4,096.
    ///
    /// Fewer are bought for where barriers are cheap. A small budget keeps memory warm and interrupts
    /// other CPUs more often.
    pub fn budget(mut self, items: usize) -> Builder {
        self.settings.budget = items;
        self
    }

    /// Whether the background thread looks after the domain. The default is yes.
    ///
    /// One thread of the process, `barrierd-reclaim`, serves all domains that want it; it is started
    /// when the first item is retired, and sleeps while nothing waits. It frees what threads that
    /// have exited, sleep or block have left. Without it, that waits until another thread of the
    /// domain calls, and what a thread holds itself until that thread does.
    ///
    /// It has the default scheduling policy, and niceness and CPUs of the process's first thread. Its code
    /// stays mapped: a shared object that this library is part of is not unloaded any more by `dlclose`.
    ///
    /// Destructors then also run on that thread, one at a time. One that panics is reported by the
    /// panic hook and goes no further. One that blocks for longer than 100 ms keeps its own domain's garbage
    /// waiting that only this thread would free, no other's: a second thread of the same name, which watches
    /// the first once there is a second domain or a stall hook, takes its place. [`blockers`](Reclaimer::blockers) lists such a
    /// destructor, the [stall hook](Builder::stall_hook) is called for it, and a `tracing` event tells of it.
    /// There are four such threads at most; with four destructors that block, all domains wait, and of the
    /// fourth `blockers` alone tells.
    pub fn background(mut self, wanted: bool) -> Builder {
        self.settings.background = wanted;
        self
    }

    /// How long a thread may not retire before the background thread takes over what it holds; also
    /// how often that thread looks at a domain in which something waits. The default is 10 ms.
    ///
    /// Less than a barrier takes is of no use. A thread that retires more often than this is left
    /// alone; each takeover costs it an allocation when it retires again.
    pub fn idle_after(mut self, time: Duration) -> Builder {
        self.settings.idle_after = time;
        self
    }

    /// `retire` never runs a destructor and never buys a barrier: for threads that must not be held
    /// up, as in audio. Implies [`background`](Builder::background)`(true)`: the background thread
    /// frees everything.
    ///
    /// Once in 64 objects `retire` runs a fence, reads the clock, allocates a bag and hands the full
    /// one over by an exchange of one word, however much waits already: it takes no lock. The first object after a
    /// pause may wake the background thread, a futex call. What waits is what is retired in a barrier round and 2 ms, plus at most
    /// two bags for each thread; if the background thread is kept up by a destructor, or could not be
    /// started, it grows. [`flush`](Reclaimer::flush) and
    /// [`synchronize`](Reclaimer::synchronize) free on the thread that calls them, as always.
    ///
    /// ```
    /// use barrierd_reclaim::Reclaimer;
    /// use std::thread;
    ///
    /// let reclaimer = Reclaimer::builder().free_in_background().build()?;
    /// let here = thread::current().id();
    /// reclaimer.defer(move || assert_ne!(thread::current().id(), here));
    /// while reclaimer.stats().waiting() > 0 {
    ///     thread::yield_now();
    /// }
    /// # Ok::<(), barrierd_reclaim::BuildError>(())
    /// ```
    pub fn free_in_background(mut self) -> Builder {
        self.settings.lazy = true;
        self.settings.background = true;
        self
    }

    /// How many retired objects may wait before `retire` does something about it, in the whole
    /// domain: it has a barrier pass at once (it buys one, or asks the daemon), frees all that is
    /// safe then, and goes on as [`on_limit`](Builder::on_limit) says. The default is no limit.
    ///
    /// It is looked at once in 64 objects of a thread, at the price of a walk over the threads. So it bounds what
    /// waits to that many and 64 for each thread, or 128 for one that retires objects with a birth and without
    /// (and a batch, while [`retire_batch`](Reclaimer::retire_batch) queues it), as long as no reader stands in the
    /// way, barriers come, and other threads free theirs; else [`on_limit`](Builder::on_limit) says what
    /// happens. What waits above it takes no more memory than without a limit. With
    /// [`free_in_background`](Builder::free_in_background) `retire` asks for no barrier and frees nothing.
    pub fn limit_items(mut self, items: u64) -> Builder {
        self.settings.limits.items = items;
        self
    }

    /// The same in bytes: the sizes of the types that were retired, not what the objects own. It bounds what waits
    /// to that many and the sizes of 64 objects, or 128, for each thread.
    ///
    /// ```
    /// use barrierd_reclaim::{OnLimit, Reclaimer};
    /// use std::time::Duration;
    ///
    /// let reclaimer = Reclaimer::builder()
    ///     .limit_bytes(64 << 20)
    ///     .on_limit(OnLimit::Block(Duration::from_millis(10)))
    ///     .limit_hook(|pressure| eprintln!("a reader stalls: {pressure:?}"))
    ///     .build()?;
    /// # Ok::<(), barrierd_reclaim::BuildError>(())
    /// ```
    pub fn limit_bytes(mut self, bytes: u64) -> Builder {
        self.settings.limits.bytes = bytes;
        self
    }

    /// What `retire` does above a limit when a barrier has not helped, since a reader is in the way or
    /// no barrier comes. Nothing, by default; it never fails and never aborts.
    pub fn on_limit(mut self, then: OnLimit) -> Builder {
        self.settings.limits.then = then;
        self
    }

    /// Called by `retire` when it leaves the domain above a limit, at most once in 64 objects, by one
    /// thread at a time. It may call the reclaimer. If it panics, the panic comes out of that `retire`.
    ///
    /// The domain keeps it: it must own no clone of the reclaimer, which would keep the domain for ever.
    pub fn limit_hook(mut self, hook: impl FnMut(&Pressure) + Send + 'static) -> Builder {
        self.settings.limits.hook = Some(Arc::new(Mutex::new(hook)));
        self
    }

    /// Called once for each section that stays open for longer than `after` while something waits:
    /// whoever forgets a guard, or blocks inside one, is named.
    ///
    /// The [background thread](Builder::background) calls it. It looks only while something waits, eight
    /// times in `after` but no more often than each millisecond and no more rarely than each 250 ms, and
    /// takes a section's time from its first look at it: the call comes late, never early, by at most a
    /// look or what a destructor on that thread takes. Until a barrier has passed since a section began it
    /// can't be told from the next one, and is not reported: then it is not what holds things up. Without a
    /// background thread, threads look when they retire (once a bag), flush or wait in `synchronize`.
    ///
    /// It is called by one thread at a time, under no lock of this library's that a call would wait for:
    /// it may call the reclaimer. A panic of it is reported by the panic hook and goes no further. The
    /// domain keeps it: it must own no clone of the reclaimer, which would keep the domain for ever. One
    /// that blocks for long holds up the background thread, as a destructor does.
    ///
    /// It is called as well, once, for a destructor of the domain that blocks the background thread
    /// for longer than 100 ms, whatever `after` is ([`Blocker::destructor`]).
    /// [`Guard::repin`](crate::Guard::repin) begins a new section.
    ///
    /// ```
    /// use barrierd_reclaim::Reclaimer;
    /// use std::time::Duration;
    ///
    /// let reclaimer = Reclaimer::builder()
    ///     .stall_hook(Duration::from_secs(1), |blocker| {
    ///         eprintln!("{:?} holds {} objects", blocker.thread, blocker.holds_items);
    ///     })
    ///     .build()?;
    /// # Ok::<(), barrierd_reclaim::BuildError>(())
    /// ```
    pub fn stall_hook(
        mut self,
        after: Duration,
        hook: impl FnMut(&Blocker) + Send + 'static,
    ) -> Builder {
        self.settings.stall_hook = Some(StallHook { after, hook: Arc::new(Mutex::new(hook)) });
        self
    }

    /// Makes the domain. Costs what [`Reclaimer::new`] does; never waits.
    ///
    /// # Errors
    /// When a source was asked for by name and can't be had; [`Source::Auto`] never fails.
    pub fn build(self) -> Result<Reclaimer, BuildError> {
        let barriers = Barriers::choose(self.source, self.path.as_deref())?;
        Ok(Reclaimer::on(barriers, &self.settings))
    }
}
