//! A barrier source: the public file, opened, checked and mapped.
//!
//! This module owns what is read when, and the order of those reads. It knows nothing of the
//! daemon beyond the words it publishes; waiting is next door.

use std::io;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence, fence};

use rustix::fs::{AtFlags, CWD, statat};
use rustix::io::Errno;

use crate::boot::BootId;
use crate::counters::{Counters, CountersError};
use crate::decode::{self, Header};
use crate::error::OpenError;
use crate::fork::ForkMark;
use crate::liveness::{BEAT_LIMIT_NS, LEGACY_LIMIT_NS, Liveness, Watch};
use crate::path_check::{self, CheckedFile};
use crate::requests::Requests;
use crate::stamp::{Stamp, VirtualStamp};
use crate::time_ns::{self, TimeNs};
use crate::trust::{Distrust, Trust, judge};
use crate::words::Words;
use crate::{abi, clock};

/// The barriers that the daemon vouches for at one moment. Each number is true by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// The barrier has passed for every stamp below this, in nanoseconds of `CLOCK_MONOTONIC`. It is not
    /// after now. 0 if there is no usable one at the moment: read it again later.
    pub ns: u64,
    /// The barrier has passed for whatever was tagged with a virtual time below this, read from
    /// [`Barrier::vtime_word`] under this `generation`. 0 if there is none.
    pub vtime: u64,
    /// The number of the daemon that wrote it: raised each time one takes the file over. 0 for a legacy file.
    pub generation: u64,
}

/// A mapped public file, to be shared between threads by reference or `Arc`.
///
/// Only [`open`](Self::open) and [`reopen`](Self::reopen) allocate; no call locks. The mapping lives as long as the
/// `Barrier`. A *legacy file* is one that the C daemon of the same name wrote.
#[derive(Debug)]
pub struct Barrier {
    words: Words,
    trust: Trust,
    watch: Watch,
    fork: ForkMark,
    header: Header,
    requests: Requests,
    path: PathBuf,
    /// Device and inode.
    id: (u64, u64),
}

/// One reading of the watermark.
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    /// The word as it stands: what a futex compares with.
    pub(crate) word: u64,
    /// What of it is usable: all or 0.
    pub(crate) ns: u64,
}

impl Barrier {
    /// Opens and maps the file at `path`, for reading only, after every check that
    /// [`OpenError`] has a variant for.
    ///
    /// The path may contain no symbolic link, and each of its directories must belong to root or
    /// to this process's effective user.
    ///
    /// It costs about thirty system calls, two mappings and a few allocations.
    ///
    /// ```
    /// use barrierd_client::{Barrier, OpenError};
    ///
    /// let refused = Barrier::open("/no/such/barrier").unwrap_err();
    /// assert!(matches!(refused, OpenError::NotFound { .. }));
    /// assert!(refused.to_string().contains("start barrierd"));
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an [`OpenError`], which says which check failed, what was found and what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let CheckedFile { file, path, len, id } = path_check::open(path.as_ref())?;
        match time_ns::current() {
            TimeNs::Initial => {}
            TimeNs::Other(found) => {
                return Err(OpenError::TimeNamespace { found, initial: time_ns::INITIAL });
            }
            TimeNs::Unknown(errno) => {
                return Err(OpenError::UnknownTimeNamespace { source: errno.into() });
            }
        }
        let boot = BootId::current().map_err(|source| OpenError::UnknownBoot { source })?;
        let io = |what| {
            let path = path.clone();
            move |source| OpenError::Io { path, what, source }
        };
        let bytes = decode::len_to_map(&path, len)?;
        let words = Words::map(&file, bytes).map_err(io("map it"))?;
        let header = decode::decode(&path, len, boot, |offset| words.load(offset), clock::now_ns)?;
        let fork = ForkMark::new().map_err(io("set a mark for forks beside it (Linux 4.14)"))?;
        let (trust, watch) = (Trust::new(), Watch::new());
        let requests = Requests::new(&path);
        Ok(Self { words, trust, watch, fork, header, requests, path, id })
    }

    /// Opens the file at [`abi::DEFAULT_PATH`], at the same cost as [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_default() -> Result<Self, OpenError> {
        Self::open(abi::DEFAULT_PATH)
    }

    /// Returns the present moment, as [`Stamp::now`] does, at the same cost.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Stamp {
        Stamp::now()
    }

    /// Returns whether the barrier for `stamp` has passed: every CPU has been at a full memory barrier
    /// since. If so, what any code on any CPU did before that barrier is visible to this thread.
    ///
    /// It costs a few loads and one clock reading; in the child of a fork, once, also some system calls.
    ///
    /// # Errors
    ///
    /// Returns [`Distrust`] if the source was caught lying, now or earlier.
    #[inline]
    pub fn passed(&self, stamp: Stamp) -> Result<bool, Distrust> {
        Ok(self.read_watermark()?.ns > stamp.ns())
    }

    /// Returns the watermark, in time and in virtual time. Cost and visibility are those of
    /// [`passed`](Self::passed).
    ///
    /// # Errors
    ///
    /// Returns [`Distrust`] if the source was caught lying, now or earlier.
    pub fn watermark(&self) -> Result<Watermark, Distrust> {
        Ok(self.look_at_both()?.1)
    }

    /// Returns the watermark, and its word in time as it stands, for a futex.
    pub(crate) fn look_at_both(&self) -> Result<(u64, Watermark), Distrust> {
        if self.header.legacy {
            let Reading { word, ns } = self.read_watermark()?;
            return Ok((word, Watermark { ns, vtime: 0, generation: 0 }));
        }
        self.admit()?;
        let word = self.words.load(abi::LAST_INTERRUPT_NS);
        let vtime = self.words.load(abi::TRUSTED_LAST_VTIME);
        // Partners: the daemon's Release stores of the two words above. They bring along what every
        // CPU did before its barrier, and here also the words that the daemon stored before them:
        // a current vtime above the last one; this generation or a later one, under whose label
        // the last vtime of the one before says too little, never too much.
        fence(Ordering::Acquire);
        let current = self.words.load(abi::TRUSTED_VTIME);
        let generation = self.words.load(abi::GENERATION);
        let ns = self.believe(word)?;
        if vtime != 0 && vtime >= current {
            return Err(self.trust.lose(Distrust::FutureVtime { ahead: vtime - current }));
        }
        // A clock that lags the watermark is no time to rely on its sister either.
        let vtime = if ns == 0 { 0 } else { vtime };
        Ok((word, Watermark { ns, vtime, generation }))
    }

    /// Reads and judges the watermark in time alone.
    #[inline]
    pub(crate) fn read_watermark(&self) -> Result<Reading, Distrust> {
        self.admit()?;
        let word = self.words.load(abi::LAST_INTERRUPT_NS);
        // Partner: the daemon's Release store of the word, made after it saw every CPU's barrier.
        // What the CPUs did before is visible from here on.
        fence(Ordering::Acquire);
        Ok(Reading { word, ns: self.believe(word)? })
    }

    /// Holds a watermark that was read before to the clock, which is read here.
    #[inline]
    fn believe(&self, word: u64) -> Result<u64, Distrust> {
        let ns = judge(word, clock::now_ns()).map_err(|why| self.trust.lose(why))?;
        // A legacy file may be left over from another boot, with a watermark that this boot's clock
        // has overtaken. Only a live daemon moves it.
        let unmoved = self.header.legacy && ns <= self.header.last_interrupt_ns;
        Ok(if unmoved { 0 } else { ns })
    }

    /// Checks whether this process may ask the source at all.
    #[inline]
    fn admit(&self) -> Result<(), Distrust> {
        self.trust.check()?;
        if self.fork.is_set() { Ok(()) } else { self.admit_child() }
    }

    /// The first call in the child of a fork, which may have been born into another time namespace.
    #[cold]
    fn admit_child(&self) -> Result<(), Distrust> {
        match time_ns::current() {
            TimeNs::Initial => {
                self.fork.set();
                Ok(())
            }
            TimeNs::Other(_) => Err(self.trust.lose(Distrust::OtherTimeNamespace)),
            TimeNs::Unknown(_) => Err(self.trust.lose(Distrust::UnknownTimeNamespace)),
        }
    }

    /// Returns whether the daemon is at work. Each call reads the beat once, so it takes two calls, at least 50 ms
    /// apart, until it says [`Liveness::Stale`].
    ///
    /// It is lock-free, and costs a few loads and one clock reading.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        let (flags, beat, limit) = if self.header.legacy {
            (0, self.words.load(abi::LAST_INTERRUPT_NS), LEGACY_LIMIT_NS)
        } else {
            (self.words.load(abi::FLAGS), self.words.load(abi::HEARTBEAT_NS), BEAT_LIMIT_NS)
        };
        if flags & abi::FLAG_STOPPED != 0 {
            return Liveness::Stopped;
        }
        // The clock after the beat, or a fresh one looks like the future.
        fence(Ordering::Acquire);
        self.watch.judge(beat, clock::now_ns(), limit)
    }

    /// Returns whether the daemon has seen nobody wait of late. Then barriers are up to 90 ms apart, until some
    /// process sleeps in [`wait_passive`](Self::wait_passive) or asks by [`expedite`](Self::expedite). The daemon
    /// does not see a process that only calls [`passed`](Self::passed). False for a legacy file.
    ///
    /// It costs a load.
    #[must_use]
    pub fn is_easy(&self) -> bool {
        !self.header.legacy && self.words.load(abi::FLAGS) & abi::FLAG_EASY != 0
    }

    /// Returns the address of the current virtual time inside the mapping, for one plain load (Relaxed) for each
    /// retired item. An item tagged with `v` needs no more waiting once [`Watermark::vtime`] > `v` under the same
    /// [`generation`](Self::generation). Load the word after the item was unlinked; no fence is needed.
    ///
    /// The address is valid while this `Barrier` lives. The memory is read-only: storing through it is a fault.
    /// `None` for a legacy file, whose virtual time is unsound.
    #[inline]
    #[must_use]
    pub fn vtime_word(&self) -> Option<NonNull<AtomicU64>> {
        (!self.header.legacy).then(|| self.words.pointer(abi::TRUSTED_VTIME))
    }

    /// Returns the present moment in virtual time. It saves the fence and the clock reading of [`now`](Self::now),
    /// and waits for two of the daemon's rounds instead of one. Take it after the change; no fence is needed.
    /// `None` for a legacy file, whose virtual time is unsound.
    ///
    /// It costs two loads, in this order (on arm64 with a load fence between them).
    #[inline]
    #[must_use]
    pub fn virtual_stamp(&self) -> Option<VirtualStamp> {
        if self.header.legacy {
            return None;
        }
        // The change stands before the loads in the program; it may still wait in the store buffer
        // when they are done, which is what the second round is for.
        compiler_fence(Ordering::SeqCst);
        let generation = self.words.load(abi::GENERATION);
        // The label first. A daemon that takes the file over stores its generation before any
        // vtime of its own, so a vtime may get an older label, with which it never passes, and
        // not a newer one.
        fence(Ordering::Acquire);
        Some(VirtualStamp { vtime: self.words.load(abi::TRUSTED_VTIME), generation })
    }

    /// Returns the beginning of the mapping, for readers in another language. It is laid out as [`abi`] says, valid
    /// while this `Barrier` lives, and [`abi::size_for`] `(`[`ncpu`](Self::ncpu)`)` bytes long at least. The daemon
    /// stores to it at any time, so read it by 64-bit atomic loads only. The memory is read-only: storing through the
    /// pointer is a fault.
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.words.as_ptr()
    }

    /// Returns the current virtual time, a number of rounds; `None` for a legacy file. It costs a load.
    #[must_use]
    pub fn vtime(&self) -> Option<u64> {
        (!self.header.legacy).then(|| self.words.load(abi::TRUSTED_VTIME))
    }

    /// Returns the number of the daemon that writes the file, raised each time one takes it over; 0 for a legacy file.
    #[must_use]
    pub fn generation(&self) -> u64 {
        if self.header.legacy { 0 } else { self.words.load(abi::GENERATION) }
    }

    /// Returns the time of the daemon's last sign of life, in nanoseconds of `CLOCK_MONOTONIC`; `None` for a legacy
    /// file.
    #[must_use]
    pub fn heartbeat_ns(&self) -> Option<u64> {
        (!self.header.legacy).then(|| self.words.load(abi::HEARTBEAT_NS))
    }

    /// Returns the number of entries in the per-CPU table.
    #[must_use]
    pub fn ncpu(&self) -> usize {
        self.header.ncpu
    }

    /// Returns the daemon's counters since its start, for display: they prove nothing. It costs some thirty loads.
    ///
    /// # Errors
    ///
    /// Returns a [`CountersError`] if there are none, or none that this version knows.
    pub fn counters(&self) -> Result<Counters, CountersError> {
        if self.header.legacy {
            return Err(CountersError::Legacy);
        }
        Counters::read(self.header.ncpu, self.words.len(), |offset| self.words.load(offset))
    }

    /// Returns whether the C daemon wrote the file. Then only its watermark in time is usable, and only once it
    /// has moved since the file was opened.
    #[must_use]
    pub fn is_legacy(&self) -> bool {
        self.header.legacy
    }

    /// Returns the absolute path that was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether [`path`](Self::path) still names the mapped file. If not, a daemon has made a new
    /// one (or none has yet): [`reopen`](Self::reopen) it. It costs one system call.
    ///
    /// # Errors
    ///
    /// Returns the error of `stat` on the path. If there is nothing at the path, that is no error: `false`.
    pub fn same_file(&self) -> io::Result<bool> {
        match statat(CWD, &self.path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok((stat.st_dev, stat.st_ino) == self.id),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Opens [`path`](Self::path) again if by now it leads to another file, or to this one after a daemon has
    /// completed a legacy header. Returns `None` if nothing has changed. A daemon that was started again on the same
    /// file needs no reopening.
    ///
    /// This `Barrier`, and what was read through it, stays valid. Stamps in time hold for both;
    /// those in virtual time hold for the one that they came from.
    ///
    /// A source that is distrusted stays so while the path leads to it; [`open`](Self::open) judges
    /// anew.
    ///
    /// It costs one system call if it returns `None`, else as much as [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// Returns an [`OpenError`], as [`open`](Self::open) does: `NotFound` if there is nothing at the path.
    pub fn reopen(&self) -> Result<Option<Self>, OpenError> {
        let same = self.same_file().map_err(|source| OpenError::Io {
            path: self.path.clone(),
            what: "look whether it is still the file",
            source,
        })?;
        let completed = self.header.legacy && self.words.load(abi::MAGIC) == abi::MAGIC_VALUE;
        if same && !completed { Ok(None) } else { Self::open(&self.path).map(Some) }
    }

    /// Returns the way to ask for expedited barriers.
    pub(crate) fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Returns the words, for the wait.
    pub(crate) fn words(&self) -> &Words {
        &self.words
    }
}
