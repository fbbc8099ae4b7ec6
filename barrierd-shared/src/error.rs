//! What calls fail with.

use std::io;
use std::path::PathBuf;

use barrierd_client::boot::BootId;

use crate::blocks::Corrupt;
use crate::lock::LockError;

/// The reason why a region was not made or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegionError {
    /// The system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Its answer.
        source: io::Error,
    },
    /// There is nothing at the path.
    #[error("{path:?} does not exist: no region was created there")]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// There is something at the path already.
    #[error("{path:?} exists already: open it, or remove it")]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// A file belongs to someone who could cut it, or store anything in it, and who was not named: in a directory that everybody
    /// may write to, as `/dev/shm`, anybody can make it first.
    ///
    /// Where that user's region is meant, say so: [`Region::open_of`](crate::Region::open_of),
    /// [`Region::open_read_only_of`](crate::Region::open_read_only_of), [`Stats::at_of`](crate::Stats::at_of). In a user namespace
    /// 65534 is everybody who has no number there, root of the host among them: to name it is to believe them all.
    #[error(
        "{}: owned by uid {owner}, and only root{} or this process's effective uid {euid} is believed (never 65534 unless named): if that user's region is meant, name the owner (open_of, open_read_only_of; barrierctl shared --owner {owner}); if not, somebody has made the file first: take a path in a directory that only you may write to", path.display(), or_named(*named)
    )]
    BadOwner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The user as whom this process opens files.
        euid: u32,
        /// The owner that the caller has named.
        named: Option<u32>,
    },
    /// The file is no region.
    #[error("the {file} file is no region's: it begins with {found:#x}")]
    Foreign {
        /// Which of the files: `data`, `slots` or `writers`.
        file: &'static str,
        /// Its first word.
        found: u64,
    },
    /// The file was made by another version.
    #[error(
        "the region has layout {found}, and this version knows {known}: use one version of barrierd-shared in all participants"
    )]
    Version {
        /// Its layout.
        found: u64,
        /// What is known here.
        known: u64,
    },
    /// The file is shorter than it says, or than any region is.
    #[error("the {file} file is {found} bytes long and must be {wanted}: it was cut")]
    Short {
        /// Which of the files.
        file: &'static str,
        /// Its length.
        found: u64,
        /// What it must be.
        wanted: u64,
    },
    /// The header makes no sense.
    #[error("the {file} file's header says {what} = {found}, which cannot be")]
    Nonsense {
        /// Which of the files.
        file: &'static str,
        /// Which number.
        what: &'static str,
        /// The number.
        found: u64,
    },
    /// The region was made while the kernel told another boot id: before this machine was booted, and then nobody who could use it
    /// lives; or in a container that is shown another id than this process (systemd-nspawn gives each its own), and then its
    /// participants may live.
    #[error(
        "the region is of boot {found}, and this is boot {now}: if it is from before the machine was booted, remove it, and create it anew; if it was made in or outside of a container with a boot id of its own (systemd-nspawn), its participants may live: leave it, and use a region that was made on this side"
    )]
    OtherBoot {
        /// The boot that it was made in.
        found: BootId,
        /// This boot.
        now: BootId,
    },
    /// The data file and the slots file belong to two regions, or one of them is a copy: it has other locks.
    #[error("the slots file is another region's, or a copy of this one's")]
    OtherSlots,
    /// The data file and the writers' file belong to two regions, or one of them is a copy: it has other locks.
    #[error("the writers' file is another region's, or a copy of this one's")]
    OtherWriters,
    /// An option is out of range.
    #[error("{what} = {found} is out of range: {most} at most, 1 at least")]
    Options {
        /// Which option.
        what: &'static str,
        /// Its value.
        found: u64,
        /// The greatest value.
        most: u64,
    },
}

fn busy(slot: usize, pid: u64, turns: u64) -> String {
    match turns {
        0 => format!(
            "writer {slot} (process {pid}) has had the turn for as long as this writer waits, and it lives"
        ),
        _ => format!(
            "others took the turn {turns} times while this writer waited, the last one writer {slot} (process {pid}): try again, or wait longer"
        ),
    }
}

fn or_named(named: Option<u32>) -> String {
    named.map_or_else(String::new, |named| format!(", uid {named}"))
}

impl RegionError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> RegionError {
        move |source| RegionError::Io { what: what.into(), source }
    }
}

/// The reason why a participant was not let in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// All slots have living participants.
    #[error("all {slots} slots for {role}s are taken, and who has them lives")]
    Full {
        /// `reader` or `writer`.
        role: &'static str,
        /// How many slots there are.
        slots: usize,
    },
    /// The region was opened read-only.
    #[error("the region was opened read-only, which is enough for readers alone")]
    ReadOnly,
    /// This process is in another time namespace than the daemon, so its stamps mean nothing.
    #[error("writers must be in the initial time namespace, as the daemon is")]
    TimeNamespace,
    /// The file behind the region's descriptor is not the region's any more: the program has closed it.
    #[error("the region's descriptor has been closed by this program: open the region again")]
    Closed,
    /// `/proc` is not there, or does not lead to this thread's descriptors.
    #[error(
        "/proc/thread-self/fd does not lead to this thread's descriptors: mount proc there, of this pid namespace"
    )]
    NoProc,
    /// This process has the file open and may not open it again: it has changed its user since, or was given the descriptor.
    #[error(
        "this process may not open the file of the {role}s' slots for writing: take the slot before privileges are dropped, or give that file to the user or group that is to have slots ({source})"
    )]
    Denied {
        /// `reader` or `writer`.
        role: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The file system forgets a lock though a mapping keeps the file open, so nobody could tell there who lives.
    #[error(
        "the file system ({name}) drops a lock that a mapping should keep, so the living would look dead: put the region on another one, as /dev/shm, or in memory (Region::create_in_memory)"
    )]
    FileSystem {
        /// Its name, or the number of its kind (`statfs`).
        name: String,
    },
    /// The system refused.
    #[error("take a {role}'s slot: {source}")]
    Io {
        /// `reader` or `writer`.
        role: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// The turn of the dead writer whose slot this was could not be taken over.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl JoinError {
    pub(crate) fn lock(role: &'static str) -> impl Fn(LockError) -> JoinError {
        move |error| match error {
            LockError::Closed => JoinError::Closed,
            LockError::NoProc => JoinError::NoProc,
            LockError::Denied(source) => JoinError::Denied { role, source },
            LockError::Dropped(name) => JoinError::FileSystem { name },
            LockError::Io(source) => JoinError::Io { role, source },
        }
    }
}

/// The reason why a writer's call did nothing, or not all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Others had the turn for as long as this writer waits, and who had it last lives. A process that is killed lives until the
    /// kernel has taken its address space down, behind a core dump if it writes one.
    ///
    /// There is no queue: where `turns` is not 0, nobody is stuck, and this writer was too late each time.
    #[error("{}", busy(*slot, *pid, *turns))]
    Busy {
        /// The slot of the writer that has the turn, or had it last.
        slot: usize,
        /// Its process, as it called itself in its own pid namespace.
        pid: u64,
        /// How many turns were begun while this writer waited. 0: that writer has had one all the time.
        turns: u64,
    },
    /// No block is free.
    #[error("no block of {bytes} bytes is free, and {waiting_bytes} bytes wait: {why}")]
    OutOfMemory {
        /// What was asked for.
        bytes: u64,
        /// Bytes of retired blocks that wait.
        waiting_bytes: u64,
        /// What they wait for.
        why: Held,
    },
    /// No block can be so large.
    #[error("no block can hold {bytes} bytes")]
    TooLarge {
        /// What was asked for.
        bytes: u64,
    },
    /// Not all could be freed by the deadline.
    #[error("{waiting_bytes} bytes still wait at the deadline: {why}")]
    Deadline {
        /// Bytes of retired blocks that wait.
        waiting_bytes: u64,
        /// What they wait for.
        why: Held,
    },
    /// The link is not in the region, or the block is not what the call needs.
    #[error("the change is none: {0}")]
    Misused(&'static str),
    /// This is a child of the process that made the writer: it must make its own.
    #[error("this writer belongs to the parent of this process: a child makes its own")]
    Forked,
    /// A participant has broken the region.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
}

/// What retired blocks wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Held {
    /// For nothing: nothing waits.
    Nothing,
    /// For nothing, and there is memory enough, but in pieces that are too small: what lies between them is in use.
    OtherSizes {
        /// Bytes of the free blocks, with their headers.
        free_bytes: u64,
    },
    /// For a reader that is in an old section, and lives.
    Reader {
        /// Its slot.
        slot: usize,
        /// Its process, as it called itself in its own pid namespace.
        pid: u64,
    },
    /// For a barrier. The daemon makes one by itself; where a global membarrier stands in for it, one comes once a writer
    /// [synchronizes](crate::Writer::synchronize).
    Barrier,
    /// For a barrier, and there is no source of any: no daemon, and no global membarrier.
    NoSource,
    /// For further turns of who frees it, since a turn frees 4096 blocks at most.
    Turns,
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Held::Nothing => write!(f, "nothing waits, the region is full"),
            Held::OtherSizes { free_bytes } => write!(
                f,
                "nothing waits, and {free_bytes} bytes are free, in pieces that are too small"
            ),
            Held::Reader { slot, pid } => {
                write!(f, "reader {slot} (process {pid}) is in an old section, and lives")
            }
            Held::Barrier => write!(f, "the barrier has not passed yet; to synchronize brings it"),
            Held::NoSource => write!(f, "there is no source of barriers: start barrierd"),
            Held::Turns => write!(f, "there was no time for more turns, each of which frees some"),
        }
    }
}
