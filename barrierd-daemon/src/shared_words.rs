//! The words that the daemon shares with its BPF programs.
//!
//! Owns every access to the two mapped maps, with its ordering and its partner in `bpf/`. Knows
//! nothing of how they were made or what follows from them.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{Ordering, fence};

use barrierd_bpf::layout::{
    ANSWERED, ARMED, ASKED, ASKED_CPUS, ASKED_FIRST, ASLEEP, CONTROL_BYTES, DAEMON_TGID, IDLE,
    IDLE_CPUS, MISSED, OVERFLOW, PREEMPTED, ROUND, ROUND_SHIFT, SLOT_BYTES, SWITCHED, WANTED,
};

use crate::words::Words;

/// The largest count that a round can hold.
const MOST_COUNTED: usize = (1 << ROUND_SHIFT) - 1;

/// Both maps, mapped.
#[derive(Debug)]
pub struct SharedWords {
    slots: Words,
    control: Words,
    cpus: usize,
    /// The id of the current round, listened for or not.
    round: u64,
    /// The number of the last question for idle CPUs.
    asked: u64,
}

impl SharedWords {
    /// Maps the slots of `cpus` CPUs and the control words.
    ///
    /// # Errors
    ///
    /// What `mmap` says.
    pub fn map(slots: BorrowedFd<'_>, control: BorrowedFd<'_>, cpus: usize) -> io::Result<Self> {
        Ok(Self {
            slots: Words::map(slots, cpus * SLOT_BYTES)?,
            control: Words::map(control, CONTROL_BYTES)?,
            cpus,
            round: 0,
            asked: 0,
        })
    }

    /// Asks every CPU to take its barrier point after `evidence_ns`, the last time that the clock
    /// gave.
    pub fn arm(&self, evidence_ns: u64) {
        // Release, after the clock was read. Partner: the load of `armed` in each program, followed
        // by its fully ordered exchange of the slot.
        self.control.store(ARMED, evidence_ns);
    }

    /// Starts a round: the last of `count` CPUs whose slot goes from below `wanted` to at least
    /// `wanted` wakes the daemon. To be followed by arming `wanted`.
    pub fn listen(&mut self, wanted: u64, count: usize) {
        self.stop_listening();
        // Each store is Release, so whoever sees one sees those before it. Partner: count_down in
        // shared.bpf.h. With the count at 0 nobody counts, so nobody counts for the old `wanted`
        // in the new round.
        self.control.store(WANTED, wanted);
        self.round += 1;
        self.store_round(count);
    }

    /// Ends the round, if there is one: nobody wakes the daemon but by `asleep`.
    pub fn stop_listening(&self) {
        self.store_round(0);
    }

    fn store_round(&self, count: usize) {
        let count = u64::try_from(count.min(MOST_COUNTED)).expect("16 bits");
        // A compare-exchange under way in count_down fails afterwards, or came before.
        self.control.store(ROUND, self.round << ROUND_SHIFT | count);
    }

    /// Sets the flag `asleep`, so that the next user task wakes the daemon, then a full fence.
    pub fn set_asleep(&self) {
        self.control.store(ASLEEP, 1);
        // The store before, the slots' loads after. Partner: the exchange out of IDLE in
        // sched_switch.bpf.c, which is between the slot and its load of `asleep`. So either that
        // load sees the flag or these loads see the slot out of IDLE.
        fence(Ordering::SeqCst);
    }

    /// Takes the flag `asleep` away.
    pub fn clear_asleep(&self) {
        self.control.store(ASLEEP, 0);
    }

    /// Whether the flag `asleep` stands: set, and not yet taken away by a user task.
    #[must_use]
    pub fn asleep(&self) -> bool {
        self.control.load(ASLEEP) == 1
    }

    /// Copies every CPU's slot into `slots`. Acquire. Partner: the exchanges in each program.
    ///
    /// # Panics
    ///
    /// `slots` has another length than the number of CPUs.
    pub fn read_slots(&self, slots: &mut [u64]) {
        assert_eq!(slots.len(), self.cpus);
        for (cpu, slot) in slots.iter_mut().enumerate() {
            *slot = self.slot(cpu);
        }
    }

    /// CPU `cpu`'s slot. Acquire, as [`read_slots`](Self::read_slots).
    ///
    /// # Panics
    ///
    /// There is no such CPU.
    #[must_use]
    pub fn slot(&self, cpu: usize) -> u64 {
        self.slots.load(cpu * SLOT_BYTES)
    }

    /// Takes IDLE away from CPU `cpu`'s slot, if it is there, for 0, which claims nothing.
    ///
    /// # Panics
    ///
    /// There is no such CPU.
    pub fn take_idle(&self, cpu: usize) {
        // Relaxed: nothing is said by it. What its own CPU stores at the same moment stays.
        let slot = self.slots.word(cpu * SLOT_BYTES);
        let _ = slot.compare_exchange(IDLE, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Writes down a question: which of the CPUs from `first` on, one bit each, are in their idle task?
    /// Whoever rings then has the [`answer`](Self::answer).
    pub fn ask(&mut self, first: usize, cpus: u64) {
        self.asked += 1;
        // Read, as the answer is written, in this thread's own context: program order is enough.
        self.control.store(ASKED_FIRST, first as u64);
        self.control.store(ASKED_CPUS, cpus);
        self.control.store(ASKED, self.asked);
    }

    /// Those that are; `None`: the last question was not answered, and what stands there is an old answer.
    #[must_use]
    pub fn answer(&self) -> Option<u64> {
        (self.control.load(ANSWERED) == self.asked).then(|| self.control.load(IDLE_CPUS))
    }

    /// Counts a switch out of idle that was not traced.
    pub fn note_miss(&self) {
        // Relaxed: a sum, of which BPF adds the greater part.
        self.control.word(MISSED).fetch_add(1, Ordering::Relaxed);
    }

    /// How often a switch out of idle was found not to have been traced.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.control.load(MISSED)
    }

    /// Whether an event ran on a CPU that has no slot.
    #[must_use]
    pub fn overflow(&self) -> bool {
        self.control.load(OVERFLOW) != 0
    }

    /// Whether the daemon runs in place of a user task that wanted to go on: its own CPU is busy,
    /// too. A hint; always false where idle isn't inferred.
    #[must_use]
    pub fn preempted(&self) -> bool {
        self.control.load(PREEMPTED) != 0
    }

    /// What was armed when the daemon was last switched to, as the sched_switch program saw it.
    #[must_use]
    pub fn switched(&self) -> u64 {
        self.control.load(SWITCHED)
    }

    /// The daemon's process id as BPF sees it; 0 before `who_am_i` has run.
    #[must_use]
    pub fn daemon_tgid(&self) -> u64 {
        self.control.load(DAEMON_TGID)
    }
}
