//! The settings that a domain is made with.

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
    /// Sets where barriers come from. The default is [`Source::Auto`].
    pub fn source(mut self, source: Source) -> Builder {
        self.source = source;
        self
    }

    /// Sets the path of the barrier daemon's file. The default is `/run/barrierd/barrier`.
    ///
    /// Anyone who can write this file decides when memory is freed. The file is refused unless it and its directories
    /// belong to root or to this process's own user. A process that names a file which its own user may write vouches
    /// for all programs of that user.
    ///
    /// The file is mapped once in a process, with one descriptor for all domains that use it. The file opened last
    /// stays mapped for later domains.
    pub fn daemon_file(mut self, path: impl AsRef<Path>) -> Builder {
        self.path = Some(path.as_ref().to_path_buf());
        self
    }

    /// Sets how many items of one thread may wait for a barrier before one is bought, whatever it costs (where the
    /// source can be asked for one). What an open section holds back does not count, since no barrier sets that free. The
    /// default is 4,096.
    ///
    /// Where barriers are cheap, one is bought for fewer items. A small budget keeps memory warm and interrupts other
    /// CPUs more often.
    pub fn budget(mut self, items: usize) -> Builder {
        self.settings.budget = items;
        self
    }

    /// Sets whether the background thread serves the domain. The default is yes, except on wasm32, where there is none, and
    /// under Miri ([platforms](crate::docs::platforms)).
    ///
    /// One thread of the process, `barrierd-reclaim`, serves all domains that want it; it is started when the first
    /// item is retired, and sleeps while nothing waits. It frees what is left by threads that have exited, sleep or
    /// block. Without it, what exited threads left waits until another thread of the domain calls, and what a thread
    /// holds itself waits until that thread calls.
    ///
    /// The thread has the default scheduling policy, and the niceness and CPUs of the process's first thread. Its
    /// code stays mapped: `dlclose` no longer unloads a shared object that contains this library.
    ///
    /// Destructors then also run on that thread, one at a time. If one panics, the panic hook reports it and it goes
    /// no further. If one blocks for longer than 100 ms, the garbage of its own domain that only this thread would
    /// free keeps waiting, and no other domain's does: a second thread of the same name, which watches the first once
    /// there is a second domain or a stall hook, takes its place. [`blockers`](Reclaimer::blockers) lists such a
    /// destructor, the [stall hook](Builder::stall_hook) is called for it, and a `tracing` event reports it. There
    /// are four such threads at most. With four destructors that block, all domains wait, and only `blockers` shows
    /// the fourth.
    pub fn background(mut self, wanted: bool) -> Builder {
        self.settings.background = wanted;
        self
    }

    /// Sets for how long a thread must have retired nothing before the background thread takes over what it holds. It
    /// is also how often the background thread checks a domain in which something waits. The default is 10 ms.
    ///
    /// A value below the time that a barrier takes is of no use. A thread that retires more often than this is left
    /// alone. Each takeover costs a thread one allocation when it retires again.
    pub fn idle_after(mut self, time: Duration) -> Builder {
        self.settings.idle_after = time;
        self
    }

    /// Makes `retire` never run a destructor and never buy a barrier. This is for threads that must not be delayed,
    /// as in audio. Implies [`background`](Builder::background)`(true)`: the background thread frees everything.
    ///
    /// Once in 64 objects, `retire` runs a fence, reads the clock, allocates a bag and hands the full one over by an
    /// exchange of one word, however much waits already. It takes no lock. The first object after a pause may wake
    /// the background thread, which is a futex call. As much waits as is retired in a barrier round and 2 ms, plus at
    /// most two bags for each thread. More waits if a destructor delays the background thread, or if that thread
    /// could not be started. [`flush`](Reclaimer::flush) and [`synchronize`](Reclaimer::synchronize) still free on
    /// the thread that calls them.
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

    /// Sets how many retired objects may wait in the whole domain before `retire` acts. It then makes a barrier pass
    /// at once (it buys one, or asks the daemon), frees all that is safe after that, and continues as
    /// [`on_limit`](Builder::on_limit) says. The default is no limit.
    ///
    /// The limit is checked once in 64 objects of a thread, at the price of a walk over the threads. So the number of
    /// waiting objects is bounded by the limit plus 64 for each thread, or 128 for a thread that retires objects with
    /// a birth and without (and a batch, while [`retire_batch`](Reclaimer::retire_batch) queues it). That holds as
    /// long as no reader is in the way, barriers come, and other threads free theirs. Otherwise
    /// [`on_limit`](Builder::on_limit) says what happens. What waits above the limit takes no more memory than
    /// without a limit. With [`free_in_background`](Builder::free_in_background) `retire` asks for no barrier and
    /// frees nothing.
    pub fn limit_items(mut self, items: u64) -> Builder {
        self.settings.limits.items = items;
        self
    }

    /// Sets the same limit in bytes, counting the sizes of the retired types, not what the objects own. What waits is
    /// bounded by the limit plus the sizes of 64 objects, or 128, for each thread.
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

    /// Sets what `retire` does above a limit when a barrier has not helped, because a reader is in the way or no
    /// barrier comes. By default it does nothing. It never fails and never aborts.
    pub fn on_limit(mut self, then: OnLimit) -> Builder {
        self.settings.limits.then = then;
        self
    }

    /// Sets a hook that `retire` calls when it leaves the domain above a limit, at most once in 64 objects, and from
    /// one thread at a time. The hook may call the reclaimer. If it panics, the panic comes out of that `retire`.
    ///
    /// The domain keeps the hook. So the hook must own no clone of the reclaimer, which would keep the domain for
    /// ever.
    pub fn limit_hook(mut self, hook: impl FnMut(&Pressure) + Send + 'static) -> Builder {
        self.settings.limits.hook = Some(Arc::new(Mutex::new(hook)));
        self
    }

    /// Sets a hook that is called once for each section that stays open for longer than `after` while something
    /// waits. It names the thread that forgot a guard or blocks inside one.
    ///
    /// The [background thread](Builder::background) calls it. That thread checks only while something waits, eight
    /// times in `after`, but at most once in a millisecond and at least once in 250 ms. It measures a section's time
    /// from the first check that sees the section. So the call may come late, by at most the time between two checks
    /// or the time that a destructor on that thread takes; it never comes early. Until a barrier has passed since a
    /// section began, it can't be told from the next section and is not reported; then it is not what holds things
    /// up. Without a background thread, threads check when they retire (once for each bag), flush or wait in
    /// `synchronize`.
    ///
    /// The hook is called by one thread at a time, and under no lock of this library that a call would wait for, so
    /// it may call the reclaimer. If it panics, the panic hook reports it and it goes no further. The domain keeps
    /// the hook. So the hook must own no clone of the reclaimer, which would keep the domain for ever. A hook that
    /// blocks for long delays the background thread, as a destructor does.
    ///
    /// The hook is also called, once, for a destructor of the domain that blocks the background thread for longer
    /// than 100 ms, whatever `after` is ([`Blocker::destructor`]). [`Guard::repin`](crate::Guard::repin) begins a new
    /// section.
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

    /// Makes the domain. It costs what [`Reclaimer::new`] does, and never waits.
    ///
    /// # Errors
    /// Returns an error when a source was asked for by name and can't be had. [`Source::Auto`] never fails.
    pub fn build(self) -> Result<Reclaimer, BuildError> {
        let barriers = Barriers::choose(self.source, self.path.as_deref())?;
        Ok(Reclaimer::on(barriers, &self.settings))
    }
}
