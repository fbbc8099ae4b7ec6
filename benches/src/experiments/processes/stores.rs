//! The maps, each as a program would share it between processes.

use super::KEYS;
use barrierd_reclaim::Reclaimer;
use barrierd_shared::{Options, Reader, Region, SharedMap, Writer};
use barrierd_structures::Map;
use barrierd_structures::map::MapHandle;
use heed::types::U64;
use heed::{Database, Env, EnvFlags, EnvOpenOptions};
use lmdb_master_sys as lmdb;
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering, fence};

pub(crate) trait Store: Sync {
    type Writer<'s>
    where
        Self: 's;
    type Reader<'s>
    where
        Self: 's;
    /// Its writer is a thread of this process.
    const BY_THREAD: bool = false;

    /// What there is before the processes part.
    fn new() -> Self;
    fn writer(&self) -> Self::Writer<'_>;
    fn reader(&self) -> Self::Reader<'_>;
    fn write(writer: &mut Self::Writer<'_>, key: u64, value: u64);
    fn read(reader: &mut Self::Reader<'_>, key: u64) -> u64;
}

/// Returns zeroed memory that children of a fork share, and that stays as long as the process.
pub(crate) fn shared_memory<T>() -> &'static T {
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: new memory, where the kernel likes.
    let memory = unsafe { libc::mmap(ptr::null_mut(), size_of::<T>(), protection, flags, -1, 0) };
    assert!(memory != libc::MAP_FAILED, "no memory");
    // SAFETY: as long and as aligned as need be, and never unmapped; all callers' types may be zero.
    unsafe { &*memory.cast::<T>() }
}

/// A process that does something until it is killed.
pub(crate) struct Child(libc::pid_t);

impl Child {
    pub(crate) fn start(work: impl FnOnce()) -> Child {
        // SAFETY: this process has no other thread that could hold a lock: its contestants' have ended.
        match unsafe { libc::fork() } {
            0 => {
                // SAFETY: a number. It must not outlive a parent that fails.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                work();
                // SAFETY: nothing is left to be done.
                unsafe { libc::_exit(0) }
            }
            pid => {
                assert!(pid > 0, "fork");
                Child(pid)
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: our own child, not waited for yet.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, ptr::null_mut(), 0);
        }
    }
}

pub(crate) struct Shared(Region);

const MAP: SharedMap<u64, u64> = SharedMap::at(0);

impl Store for Shared {
    type Writer<'s> = Writer;
    type Reader<'s> = Reader;

    fn new() -> Self {
        Shared(Region::create_in_memory(Options::new(32 << 20)).expect("memory"))
    }
    fn writer(&self) -> Writer {
        self.0.writer().expect("a slot")
    }
    fn reader(&self) -> Reader {
        self.0.reader().expect("a slot")
    }
    fn write(writer: &mut Writer, key: u64, value: u64) {
        MAP.insert(writer, &key, value).expect("room");
    }
    #[inline]
    fn read(reader: &mut Reader, key: u64) -> u64 {
        MAP.get(reader, &key).unwrap_or(0)
    }
}

pub(crate) struct InProcess(Map<u64, u64>);

impl Store for InProcess {
    type Writer<'s> = MapHandle<'s, u64, u64>;
    type Reader<'s> = MapHandle<'s, u64, u64>;
    const BY_THREAD: bool = true;

    fn new() -> Self {
        InProcess(Map::builder().reclaimer(&Reclaimer::new()).build())
    }
    fn writer(&self) -> Self::Writer<'_> {
        self.0.handle()
    }
    fn reader(&self) -> Self::Reader<'_> {
        self.0.handle()
    }
    fn write(writer: &mut Self::Writer<'_>, key: u64, value: u64) {
        writer.pin().insert(key, value);
    }
    #[inline]
    fn read(reader: &mut Self::Reader<'_>, key: u64) -> u64 {
        reader.pin().get(&key).copied().unwrap_or(0)
    }
}

/// Each process opens it for itself, as LMDB wants.
pub(crate) struct Lmdb(tempfile::TempDir);

type Native = U64<heed::byteorder::NativeEndian>;

impl Lmdb {
    fn open(&self) -> (Env, Database<Native, Native>) {
        let mut options = EnvOpenOptions::new();
        options.map_size(64 << 20);
        // SAFETY: nobody else has the directory, and a crash of the machine may cost its content.
        let env = unsafe {
            options.flags(EnvFlags::NO_SYNC | EnvFlags::NO_META_SYNC | EnvFlags::WRITE_MAP);
            options.open(self.0.path())
        };
        let env = env.expect("it opens");
        let mut write = env.write_txn().expect("a transaction");
        let database = env.create_database(&mut write, None).expect("a database");
        write.commit().expect("committed");
        (env, database)
    }
}

impl Store for Lmdb {
    type Writer<'s> = (Env, Database<Native, Native>);
    type Reader<'s> = (Env, Database<Native, Native>);

    fn new() -> Self {
        Lmdb(tempfile::tempdir_in("/dev/shm").expect("a directory"))
    }
    fn writer(&self) -> Self::Writer<'_> {
        self.open()
    }
    fn reader(&self) -> Self::Reader<'_> {
        self.open()
    }
    fn write((env, database): &mut Self::Writer<'_>, key: u64, value: u64) {
        let mut write = env.write_txn().expect("a transaction");
        database.put(&mut write, &key, &value).expect("room");
        write.commit().expect("committed");
    }
    #[inline]
    fn read((env, database): &mut Self::Reader<'_>, key: u64) -> u64 {
        let read = env.read_txn().expect("a transaction");
        database.get(&read, &key).expect("it reads").unwrap_or(0)
    }
}

/// The same, but a reader keeps its transaction, and renews it for each get. heed has no such calls.
pub(crate) struct Renewed(Lmdb);

pub(crate) struct Transaction(*mut lmdb::MDB_txn, lmdb::MDB_dbi);

impl Store for Renewed {
    type Writer<'s> = (Env, Database<Native, Native>);
    type Reader<'s> = Transaction;

    fn new() -> Self {
        Renewed(Lmdb::new())
    }
    fn writer(&self) -> Self::Writer<'_> {
        self.0.open()
    }
    fn reader(&self) -> Transaction {
        let path = std::ffi::CString::new(self.0.0.path().as_os_str().as_encoded_bytes());
        let path = path.expect("no zero");
        let (mut env, mut transaction, mut database) = (ptr::null_mut(), ptr::null_mut(), 0);
        let flags = lmdb::MDB_NOSYNC | lmdb::MDB_NOMETASYNC | lmdb::MDB_WRITEMAP;
        // SAFETY: as LMDB's manual has it: an environment, open once in this process, and its main database. Both are kept until
        // the process ends.
        unsafe {
            assert_eq!(lmdb::mdb_env_create(&raw mut env), 0);
            assert_eq!(lmdb::mdb_env_set_mapsize(env, 64 << 20), 0);
            assert_eq!(lmdb::mdb_env_open(env, path.as_ptr(), flags, 0o600), 0);
            let read = lmdb::MDB_RDONLY;
            assert_eq!(lmdb::mdb_txn_begin(env, ptr::null_mut(), read, &raw mut transaction), 0);
            assert_eq!(lmdb::mdb_dbi_open(transaction, ptr::null(), 0, &raw mut database), 0);
            lmdb::mdb_txn_reset(transaction);
        }
        Transaction(transaction, database)
    }
    fn write(writer: &mut Self::Writer<'_>, key: u64, value: u64) {
        Lmdb::write(writer, key, value);
    }
    #[inline]
    fn read(Transaction(transaction, database): &mut Transaction, mut key: u64) -> u64 {
        let mut key = lmdb::MDB_val { mv_size: size_of::<u64>(), mv_data: (&raw mut key).cast() };
        let mut value = lmdb::MDB_val { mv_size: 0, mv_data: ptr::null_mut() };
        // SAFETY: the transaction was reset, and is used by this thread alone; what is found is 8 bytes long, and read before
        // it is reset again.
        unsafe {
            assert_eq!(lmdb::mdb_txn_renew(*transaction), 0);
            let found = lmdb::mdb_get(*transaction, *database, &raw mut key, &raw mut value);
            let found = if found == 0 { value.mv_data.cast::<u64>().read_unaligned() } else { 0 };
            lmdb::mdb_txn_reset(*transaction);
            found
        }
    }
}

const SLOTS: usize = 1 << 17;
const _: () = assert!(SLOTS as u64 == 2 * KEYS);

/// An open table without removals. Keys are stored as their successors.
#[repr(C)]
pub(crate) struct Open {
    lock: UnsafeCell<libc::pthread_rwlock_t>,
    sequence: AtomicU64,
    slots: [[AtomicU64; 2]; SLOTS],
}

// SAFETY: the lock is for several threads, and the rest are atomics.
unsafe impl Sync for Open {}

impl Open {
    #[inline]
    fn slot(&self, key: u64) -> &[AtomicU64; 2] {
        let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let mut at = usize::try_from(hash).expect("24 bits") % SLOTS;
        loop {
            let found = self.slots[at][0].load(Ordering::Relaxed);
            if found == 0 || found == key + 1 {
                return &self.slots[at];
            }
            at = (at + 1) % SLOTS;
        }
    }

    fn put(&self, key: u64, value: u64) {
        let slot = self.slot(key);
        slot[1].store(value, Ordering::Relaxed);
        slot[0].store(key + 1, Ordering::Relaxed);
    }
}

pub(crate) struct RwLock(&'static Open);

impl Store for RwLock {
    type Writer<'s> = &'static Open;
    type Reader<'s> = &'static Open;

    fn new() -> Self {
        let open = shared_memory::<Open>();
        // SAFETY: new memory, which nobody else knows yet.
        unsafe {
            let mut attributes = std::mem::zeroed();
            libc::pthread_rwlockattr_init(&mut attributes);
            libc::pthread_rwlockattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_rwlock_init(open.lock.get(), &attributes);
        }
        RwLock(open)
    }
    fn writer(&self) -> &'static Open {
        self.0
    }
    fn reader(&self) -> &'static Open {
        self.0
    }
    fn write(open: &mut &'static Open, key: u64, value: u64) {
        // SAFETY: initialized in `new`.
        unsafe { libc::pthread_rwlock_wrlock(open.lock.get()) };
        open.put(key, value);
        // SAFETY: locked above.
        unsafe { libc::pthread_rwlock_unlock(open.lock.get()) };
    }
    #[inline]
    fn read(open: &mut &'static Open, key: u64) -> u64 {
        // SAFETY: initialized in `new`.
        unsafe { libc::pthread_rwlock_rdlock(open.lock.get()) };
        let value = open.slot(key)[1].load(Ordering::Relaxed);
        // SAFETY: locked above.
        unsafe { libc::pthread_rwlock_unlock(open.lock.get()) };
        value
    }
}

pub(crate) struct SeqLock(&'static Open);

impl Store for SeqLock {
    type Writer<'s> = &'static Open;
    type Reader<'s> = &'static Open;

    fn new() -> Self {
        SeqLock(shared_memory::<Open>())
    }
    fn writer(&self) -> &'static Open {
        self.0
    }
    fn reader(&self) -> &'static Open {
        self.0
    }
    fn write(open: &mut &'static Open, key: u64, value: u64) {
        let sequence = open.sequence.load(Ordering::Relaxed);
        open.sequence.store(sequence + 1, Ordering::Relaxed);
        // Release: the odd number comes before the content; pairs with the Acquire fence of `read`.
        fence(Ordering::Release);
        open.put(key, value);
        // Release: the content comes before the even number; pairs with the Acquire load of `read`.
        open.sequence.store(sequence + 2, Ordering::Release);
    }
    #[inline]
    fn read(open: &mut &'static Open, key: u64) -> u64 {
        loop {
            let before = open.sequence.load(Ordering::Acquire);
            let value = open.slot(key)[1].load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && open.sequence.load(Ordering::Relaxed) == before {
                return value;
            }
        }
    }
}
