//! Writes the public file: what the machine knows, heartbeats, wake-ups.
//!
//! Owns the order of stores and which futex words are woken; `waker` wakes them. Knows nothing of how
//! the file was found or how the machine came to know.
//!
//! Whoever is woken has waited: that is how the daemon knows of most of those who do.
//!
//! Every store is a single 64-bit Release; its partners are the clients' loads, each followed by an
//! Acquire fence. No word ever decreases.

use barrierd_client::abi;
use barrierd_client::boot::BootId;
use barrierd_client::counters::Word;

use crate::counter_section::CounterSection;
use crate::machine::Machine;
use crate::public_file::{Origin, PublicFile, store_identity};
use crate::waker::{Waker, Woken};

/// Words woken at [`SLOW_NS`]'s pace, a publication at most: each is a system call.
const MOST_SLOW: usize = 8;

/// Between two wake-ups of the words that say nothing of their own, in nanoseconds: the per-CPU
/// copies, and the current vtime, which nobody has to wait for. Whoever waits on them all the same
/// is this much later. Exact per-CPU words are woken whenever they change.
const SLOW_NS: u64 = 20_000_000;
/// The same while nobody waits, as far as the daemon knows.
const EASY_SLOW_NS: u64 = 10 * SLOW_NS;

/// The writer of one public file.
#[derive(Debug)]
pub struct Publisher {
    file: PublicFile,
    counters: CounterSection,
    waker: Waker,
    boot: BootId,
    exact: bool,
    /// Whether the daemon is easy: it was told that nobody waits.
    easy: bool,
    cpus: usize,
    /// Whether the header is there, so that clients believe more than `last_interrupt_ns`.
    ours: bool,
    /// Whether some were left asleep when the watermark last changed: in time, in virtual time.
    ns_left: bool,
    vtime_left: bool,
    /// The value of each per-CPU word, and last of the current vtime, when all who slept on it were
    /// last woken.
    woken: Box<[u64]>,
    /// The one of them to check next.
    next: usize,
    /// When they were last checked.
    slow_ns: u64,
}

impl Publisher {
    /// Takes `file` over: a new generation, no longer stopped. With `exact` the per-CPU entries are
    /// each CPU's own times, else copies of the global ones: exact times tell every local user when
    /// keys are pressed.
    #[must_use]
    pub fn new(file: PublicFile, boot: BootId, cpus: usize, exact: bool, now_ns: u64) -> Self {
        let ours = match file.origin {
            Origin::New => true,
            Origin::Ours { generation } => {
                file.words.store(abi::GENERATION, generation + 1);
                true
            }
            Origin::Legacy => false,
        };
        let woken = (0..=2 * cpus).map(|word| file.words.load(slow_word(word, cpus))).collect();
        let counters = CounterSection::start(&file.words, cpus, now_ns);
        let publisher = Self {
            file,
            counters,
            waker: Waker::default(),
            boot,
            exact,
            easy: false,
            cpus,
            ours,
            ns_left: false,
            vtime_left: false,
            woken,
            next: 0,
            slow_ns: now_ns,
        };
        if ours {
            publisher.beat(now_ns);
            // Last, so that who sees the daemon back sees it alive.
            publisher.file.words.store(abi::FLAGS, publisher.flags());
        }
        publisher
    }

    /// The file, for its origin.
    #[must_use]
    pub fn file(&self) -> &PublicFile {
        &self.file
    }

    fn flags(&self) -> u64 {
        let exact = if self.exact { abi::FLAG_PER_CPU_EXACT } else { 0 };
        let easy = if self.easy { abi::FLAG_EASY } else { 0 };
        exact | easy
    }

    /// Says in the file whether the daemon is easy, so that who comes to wait announces himself. No
    /// system call.
    pub fn set_easy(&mut self, easy: bool) {
        if std::mem::replace(&mut self.easy, easy) != easy && self.ours {
            self.file.words.store(abi::FLAGS, self.flags());
        }
    }

    /// Publishes `vtime`, the first step of opening its round. The caller goes on with a full fence
    /// and the clock. No system call.
    pub fn open_round(&self, vtime: u64) {
        if self.ours {
            self.file.words.store(abi::TRUSTED_VTIME, vtime);
        }
        self.raise(abi::VTIME, vtime);
    }

    /// Publishes what `machine` knows and beats. Whether anyone slept on a word. O(CPUs) stores, no
    /// allocation. Two system calls at most, and 8 more every 20 ms, or each time if per-CPU times are
    /// exact; fewer where many sleep.
    pub fn publish(&mut self, machine: &Machine, now_ns: u64) -> bool {
        let (ns, vtime) = (machine.last_interrupt_ns(), machine.last_interrupt_vtime());
        for cpu in 0..self.cpus {
            let own = self.exact.then(|| (machine.cpu_ns(cpu), machine.cpu_vtime(cpu)));
            let (cpu_ns, cpu_vtime) = own.unwrap_or((ns, vtime));
            self.raise(abi::per_cpu_ns(cpu), cpu_ns);
            self.raise(abi::per_cpu_vtime(cpu), cpu_vtime.unwrap_or(0));
        }
        if let Some(vtime) = vtime.filter(|_| self.ours) {
            self.file.words.store(abi::TRUSTED_LAST_VTIME, vtime);
        }
        let new_vtime = self.raise(abi::LAST_INTERRUPT_VTIME, vtime.unwrap_or(0));
        let new_ns = self.raise(abi::LAST_INTERRUPT_NS, ns);
        if !self.ours && ns > self.file.inherited.last_interrupt_ns {
            self.make_ours(machine, now_ns);
        }
        if self.ours {
            self.beat(now_ns);
        }
        let mut slept = false;
        // In this order: clients sleep on the watermark in time, whatever they wait for.
        if new_ns || self.ns_left {
            let woken = self.wake(abi::LAST_INTERRUPT_NS);
            (self.ns_left, slept) = (!woken.all, woken.any());
        }
        if new_vtime || self.vtime_left {
            let woken = self.wake(abi::LAST_INTERRUPT_VTIME);
            self.vtime_left = !woken.all;
            slept |= woken.any();
        }
        let slow_ns = if self.easy { EASY_SLOW_NS } else { SLOW_NS };
        if self.exact || now_ns.saturating_sub(self.slow_ns) >= slow_ns {
            self.slow_ns = now_ns;
            slept |= self.wake_slow();
        }
        slept
    }

    /// The next publication is that of a round that was asked for: those who asked are woken.
    pub fn asked(&mut self) {
        self.waker.asked();
    }

    /// Shows the counters: some twenty stores, no system call, no allocation.
    pub fn count(&self, value: impl Fn(Word) -> u64) {
        self.counters.store(&self.file.words, value);
    }

    /// Completes the C daemon's header with ours, now that this daemon's own evidence has passed
    /// what it said: the rest might be of an earlier boot.
    fn make_ours(&mut self, machine: &Machine, now_ns: u64) {
        let words = &self.file.words;
        store_identity(words, self.boot);
        words.store(abi::GENERATION, 1);
        words.store(abi::FLAGS, self.flags());
        words.store(abi::TRUSTED_VTIME, machine.vtime());
        words.store(abi::TRUSTED_LAST_VTIME, machine.last_interrupt_vtime().unwrap_or(0));
        self.beat(now_ns);
        // Release, last. Partner: the client's Acquire of it, before it believes the rest.
        self.file.words.store(abi::MAGIC, abi::MAGIC_VALUE);
        self.ours = true;
    }

    fn beat(&self, now_ns: u64) {
        self.file.words.store(abi::HEARTBEAT_NS, now_ns);
    }

    /// Marks the file stopped and wakes who waits on it, as many as a call wakes for each word.
    pub fn stop(&mut self) {
        if self.ours {
            let flags = self.flags() & !abi::FLAG_EASY | abi::FLAG_STOPPED;
            self.file.words.store(abi::FLAGS, flags);
        }
        let slow = (0..self.woken.len()).map(|word| slow_word(word, self.cpus));
        for offset in [abi::LAST_INTERRUPT_NS, abi::LAST_INTERRUPT_VTIME].into_iter().chain(slow) {
            // The last calls, one a word: no publication waits for them.
            Waker::default().wake(self.file.words.futex(abi::futex_word(offset)));
        }
    }

    /// Raises the word at `offset` to `value`; whether it changed.
    fn raise(&self, offset: usize, value: u64) -> bool {
        // Only this process writes the file, so nothing comes between load and store.
        let higher = value > self.file.words.load(offset);
        if higher {
            self.file.words.store(offset, value);
        }
        higher
    }

    /// Wakes the slow words that changed since they were last woken, a few at a time, in turn. Whether
    /// anyone slept on them.
    fn wake_slow(&mut self) -> bool {
        let (mut left, mut slept) = (MOST_SLOW, false);
        for _ in 0..self.woken.len() {
            let word = self.next;
            let offset = slow_word(word, self.cpus);
            let value = self.file.words.load(offset);
            if value != self.woken[word] {
                if left == 0 {
                    return slept;
                }
                left -= 1;
                let woken = self.wake(offset);
                slept |= woken.any();
                if woken.all {
                    self.woken[word] = value;
                }
            }
            self.next = (word + 1) % self.woken.len();
        }
        slept
    }

    /// Wakes who sleeps on the word at `offset`, as far as there is time for that.
    fn wake(&mut self, offset: usize) -> Woken {
        self.waker.wake(self.file.words.futex(abi::futex_word(offset)))
    }
}

/// The offset of the `word`-th slow word: those of the per-CPU table, then the current vtime.
fn slow_word(word: usize, cpus: usize) -> usize {
    if word == 2 * cpus { abi::VTIME } else { abi::PER_CPU + word * 8 }
}

#[cfg(test)]
#[path = "publisher_tests.rs"]
mod tests;
