//! Why another is first: by hand, by row and by who is first in it.
//!
//! Owns the causes. A row of the report in which another is first, and which none of them fits, is called not explained
//! there (`standing`).

/// A mechanism by which another is first in some rows.
#[derive(Debug)]
pub(crate) struct Cause {
    /// A clause for "because ...", which stands beside the row; "it" is who is first.
    pub(crate) called: &'static str,
    /// The rows; a star stands for anything.
    rows: &'static [&'static str],
    /// Who is first there, by how the name begins; empty: whoever it is.
    first: &'static [&'static str],
    /// What takes place, in Markdown, as seen from `docs/`.
    pub(crate) why: &'static str,
}

/// Returns why `first` is first in that row, if anybody has found out.
pub(crate) fn of(row: &str, first: &str) -> Option<&'static Cause> {
    CAUSES.iter().find(|cause| {
        (cause.first.is_empty() || cause.first.iter().any(|name| first.starts_with(name)))
            && cause.rows.iter().any(|pattern| fits(pattern, row))
    })
}

/// Returns whether the text is the pattern, with anything for each of its stars.
pub(crate) fn fits(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    text.strip_prefix(before).is_some_and(|rest| {
        (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| fits(after, &rest[at..]))
    })
}

/// Returns what the pattern's one star stands for in a text that it fits, without commas around it; `None` of nothing.
pub(crate) fn starred<'t>(pattern: &str, text: &'t str) -> Option<&'t str> {
    let (before, after) = pattern.split_once('*')?;
    let star = text.strip_prefix(before)?.strip_suffix(after)?.trim_matches([',', ' ']);
    (!star.is_empty()).then_some(star)
}

const CAUSES: &[Cause] = &[
    // Sections.
    Cause {
        called: "its guards don't count how often they are open",
        rows: &[
            "robust guards beside kovan: open and close a section, ns",
            "robust guards beside kovan: the same, with a pointer loaded and followed, ns",
        ],
        first: &["kovan"],
        why: "A robust guard may be opened inside another one of its thread, in a signal handler for instance, so each \
              of them counts how many are open: 24 instructions, where kovan's takes 23, and 33 and 32 with a pointer \
              loaded. Which of the two takes less time depends on the processor; on a list of 16 nodes this one does. When the count had a word of its own, a guard took 1.12 times as long as \
              kovan's ([journal](journal.md#reclaim-hazards-and-robust-guards)).",
    },
    Cause {
        called: "its sections are no code at all",
        rows: &["open and close a section, ns: *"],
        first: &["liburcu qsbr"],
        why: "With liburcu's qsbr a section does nothing; the row shows what the program has to do instead now and \
              then, and before it sleeps: announce that it is in no section, in 7 instructions of C. The global guard \
              here takes 18 instructions and the drop-in's 14, since they first ask whether the thread's record is \
              this domain's and whether a section is open. A handle need not ask: in 8 instructions it is first.",
    },
    // Writers.
    Cause {
        called: "it links retired nodes through themselves",
        rows: &[
            "robust guards beside kovan: replace and retire, mimalloc, ns",
            "replace and retire, mimalloc, ns",
            "stack, on mimalloc, *",
            "queue, on mimalloc, *",
            "stack, 2 threads, * apart, M/s",
            "queue, 2 threads, * apart, M/s",
            "robust guards beside kovan: queue, 2 threads, * apart, M/s",
        ],
        first: &["sdd", "kovan"],
        why: "sdd and kovan have room in each node, 16 and 40 bytes, for a link to the next retired one. Here nodes \
              stay as they are, and a retirement writes 16 bytes into a bag, the address and what frees it, which are \
              read again later: 170 instructions an object with mimalloc's 79, sdd 146 \
              ([journal](journal.md#benchmarks-and-counts-of-instructions)). With the system's allocator, which takes \
              159, that does not show, and where nodes are mostly read, smaller ones are quicker: the map is ahead of \
              sdd's. On two threads the order also changes with how far apart the CPUs are: at 62 ns, in three later \
              runs, the stack had 28 to 38 here and 25 to 28 with sdd.",
    },
    Cause {
        called: "it looks at the readers more seldom, and frees later",
        rows: &[
            "replace and retire every 10 us, *",
            "replace and retire every ms, *",
            "large objects * a retirement, p99, us",
        ],
        first: &[],
        why: "A thread that seldom retires looks at the readers in every other call here, so that memory is free \
              within 50 us. That fetches the readers' cache lines, which takes 0.3 us, and longer after a ms of other \
              work, which has emptied the cache: half of a call's time then is cold memory, in the row in which \
              nothing is freed, too. crossbeam-epoch, sdd, haphazard and kovan look once in 64 to 1,000 retirements, \
              and keep things for milliseconds (the rows *retired to freed*). To look in each call took twice as much \
              ([journal](journal.md#reclaim-purchases-and-how-soon-things-are-freed)).",
    },
    // How soon.
    Cause {
        called: "it takes some 10 ms here until a sleeper is known as one",
        rows: &[
            "retired to freed, *100 idle threads beside, p99, us",
            "retired to freed, *100 idle threads beside, p90, us",
        ],
        first: &[],
        why: "A thread that is known to sleep holds nothing back. Until then it has to be idle for a while, be marked, \
              and a barrier has to pass, some 10 ms in which 100 new sleepers hold everything back: of a run of 200 ms \
              that is the worst twentieth, and in its second half (*p99 later*) this project is first. To leave out \
              that barrier would be a use after free (docs/proofs/).",
    },
    Cause {
        called: "a section here holds back all that is retired meanwhile",
        rows: &[
            "in flight, two writers*",
            "robust guards beside kovan: in flight, two writers*",
            "waiting behind a stalled reader*",
            "* threads at full speed: *",
            "large objects beside a stalled reader: most waiting, MiB",
        ],
        first: &[],
        why: "A plain section holds back whatever is retired while it is open. With more threads than CPUs somebody is \
              always preempted inside one, for milliseconds: in 71 of 100 looks a writer's own section held the oldest \
              object back ([journal](journal.md#reclaim-purchases-and-how-soon-things-are-freed)). haphazard holds \
              back one object for each pointer, and pays a fence for each (2.7 ns instead of 0.8, and 0.4 of the \
              retirements in the same time); seize and kovan retire a tenth to a quarter as many objects in that time, \
              so fewer wait. Robust guards and hazard pointers here hold back single objects, but a barrier is bought \
              only once its price is worth it, at 4 ns for each object of one thread: for 3,000 objects at 12 us, so \
              that two threads have 6,000 in flight, and each thread that is preempted keeps what was in its queue \
              ([journal](journal.md#reclaim-hazards-and-robust-guards)).",
    },
    Cause {
        called: "what a section's end leaves in a thread's open bag waits for the next one's",
        rows: &["large objects beside sections of a ms: most waiting, MiB"],
        first: &[],
        why: "50 objects are retired in a section, which holds them back. Once sixteen small bags wait, the open one is \
              filled up, and what is in it as the section ends has no stamp yet: it waits for the end of the next \
              section. So 69 wait in each section, by count, and 53 without that rule \
              ([journal](journal.md#benchmarks-and-counts-of-instructions)). seize's batches are of 32. The limit does \
              not count open bags.",
    },
    Cause {
        called: "fewer objects wait in its batches",
        rows: &[
            "in flight, one writer*",
            "robust guards beside kovan: in flight, one writer*",
            "1000 handles in turn, *objects in flight",
            "left alone, never freed",
        ],
        first: &[],
        why: "At full speed a thread here has an open bag and one that waits, of 64 objects each. seize's batches are \
              of 32, and it retires half as many objects in the same time. Where threads retire in turn, their bags \
              wait until another thread looks next: 131 objects a thread here, 100 with crossbeam-epoch, whose threads \
              share one queue of bags. Smaller bags would cost more exchanges on a word that all threads share.",
    },
    Cause {
        called: "memory comes back scattered, and malloc takes most of the time",
        rows: &["1000 handles in turn, *ns an object"],
        first: &[],
        why: "With retirements of nothing, this project takes half of crossbeam-epoch's time in the same experiment. \
              With glibc's boxes the two are within a seventh: what 1,000 threads free in turn no longer lies \
              together, so malloc gives out memory that the second cache does not have \
              ([journal](journal.md#reclaim-purchases-and-how-soon-things-are-freed)).",
    },
    Cause {
        called: "it depends on who is preempted where",
        rows: &[
            "stack, 8 threads, M/s",
            "queue, 8 threads, M/s",
            "map *, 8 threads, M/s",
            "cell, *, 8 threads, M/s",
        ],
        first: &[],
        why: "There are four times as many threads as CPUs, and rounds of one contestant differ by a factor of 2 to \
              10, by where its threads are stopped. In three later runs the queue had 23, 15 and 16 with kovan and 19, \
              16 and 15 with the best of this project's ways; the stack 36, 42 and 40 with sdd and 36, 39 and 43 with \
              hazard pointers here. With nothing freed the stack has 50 to 60: to free nodes that another thread \
              allocated takes the rest, in each scheme.",
    },
    // Cells.
    Cause {
        called: "both do the same, a load and a comparison",
        rows: &["cell: read, *"],
        first: &["arc-swap, Cache"],
        why: "Both keep the value that they returned last, and compare the cell's pointer with it. Which of them is \
              ahead differs from run to run, by 0.1 to 0.2 ns.",
    },
    Cause {
        called: "a lock writes in place",
        rows: &["cell: replace, ns"],
        first: &["RwLock"],
        why: "A lock keeps readers out while the value is overwritten, so nothing is allocated, retired or freed, \
              which is more than half of what a replacement takes here. The lock's readers pay for it, with 5 to 10 ns \
              instead of 1. Of those that readers don't wait for, this project is first.",
    },
    Cause {
        called: "it knows at once when the last reader is done",
        rows: &["cell: values alive at most"],
        first: &["arc-swap", "RwLock", "left-right", "seize"],
        why: "A count in each value, or a lock, says when the last reader is done, and costs each reader an atomic \
              operation (with arc-swap's Cache: when the value has changed). Here values wait until there is evidence \
              that no reader has them.",
    },
    // Stacks and queues.
    Cause {
        called: "a lock's stack allocates nothing",
        rows: &["stack, pairs, *", "stack, memory, *"],
        first: &["Mutex"],
        why: "A `Vec` under a lock takes 8 bytes a value, and two exchanges for a push and a pop, some 4 of a handle's 12 ns \
              on one thread of an AMD CPU. A node of a lock-free stack is allocated, retired and freed in a section, which is \
              the rest, and takes 32 bytes of malloc; a stack that frees nothing is slower, since fresh memory costs more. On \
              an Intel CPU, where an exchange takes 6 ns, the handle is ahead of parking_lot's lock on one thread. On two \
              threads parking_lot lets one thread go on while the other sleeps, which is throughput without fairness; std's \
              lock has a third of a handle's throughput ([journal](journal.md#structures)).",
    },
    Cause {
        called: "its lock stays with one thread for long",
        rows: &["queue, pairs, 2 threads, *M/s", "queue, one pushes, one pops, *M/s"],
        first: &["Mutex"],
        why: "parking_lot's lock spins and then sleeps, and the thread that has it goes on in its own cache while the \
              other waits; that is ahead where the CPUs are far apart (in one run it had 60, 41 to 83, where this \
              queue had 89, 47 to 93). Nobody waits here for a thread that is stopped.",
    },
    Cause {
        called: "it waits otherwise after an exchange that it has lost",
        rows: &["queue, pairs, 2 threads, *M/s", "queue, one pushes, one pops, *M/s"],
        first: &[],
        why: "In each of these queues all threads exchange a word whose cache line goes from CPU to CPU. They differ \
              by how long a thread that has lost an exchange waits before it tries again, and who is ahead changes with how \
              far apart the CPUs are ([journal](journal.md#structures)).",
    },
    // Maps.
    Cause {
        called: "its entries lie in the table itself",
        rows: &["map: *"],
        first: &["RwLock<HashMap>", "dashmap", "scc"],
        why: "The entries of hashbrown (RwLock, dashmap) and scc lie in the table and move as it grows, under a lock: \
              a lookup is one cache miss instead of two (bucket, then node), an insertion allocates nothing, 16 \
              control bytes are compared at once for keys that are absent, and an entry takes 34 to 40 bytes instead \
              of 65. A lock-free map whose readers hold references can't move entries, so each has a node of its own. \
              What the locks cost shows where a second thread reads: in the rows *found, 1 Ki, 2 threads* this project \
              is first ([journal](journal.md#structures-the-hash-map)).",
    },
    Cause {
        called: "a byte in its table says that a key is absent",
        rows: &["map: absent, *"],
        first: &["papaya"],
        why: "papaya's table has a byte of each entry's hash beside the pointers, so for an absent key it seldom looks \
              at a node; here each node of the bucket is a cache miss. Such bytes can't be cleared here without a race \
              with insertions that come along the list ([journal](journal.md#structures-the-hash-map)).",
    },
    Cause {
        called: "it has no table that grows",
        rows: &["map: the longest 64 insertions, *", "map: grow *"],
        first: &["crossbeam-skiplist"],
        why: "No insertion into a skip list ever has to allocate and clear a new table; each lookup pays for that, with 7 to 11 \
              times the time. Here an insertion that doubles the table allocates it whole, and the system zeroes it page by \
              page as it is touched. Each insertion that follows opens 16 of its buckets until all are open: a twelfth of all \
              insertions, which take four times as long as the others.",
    },
    // Between processes.
    Cause {
        called: "it is a flat table that can't grow",
        rows: &["processes: get, *"],
        first: &["seqlock", "rwlock"],
        why: "Both are open tables of fixed length with 8-byte entries, one cache miss a get; a writer that dies \
              leaves them locked, or torn, for ever. A get of the shared map opens a section and goes through a bucket \
              and one or two nodes of a list, each of which is a miss, so that the map can grow, hold values of any \
              size, and survive a death.",
    },
    Cause {
        called: "its changes need not survive a killed process",
        rows: &["processes: write, p50, ns"],
        first: &["seqlock", "rwlock", "in one process"],
        why: "A write here takes the turn, notes each store in a journal before it makes it, allocates the new node \
              and retires the old one, so that a process that is killed between any two instructions leaves nothing to \
              repair by hand. A seqlock stores one word between two increments.",
    },
    Cause {
        called: "one in four writes here also frees",
        rows: &["processes: write, p99, ns"],
        first: &["seqlock", "rwlock", "in one process"],
        why: "A turn that frees looks at all readers first (a system call for each that is idle and stale, where no \
              daemon serves). Then it frees up to four blocks for each one that is retired in a turn, each by a step of \
              the journal, as a write is. Of the turns 26 in 100 free something, by count, and p99 is one of them.",
    },
    // First uses.
    Cause {
        called: "it asks the kernel for less at its start",
        rows: &["first section of a process, us"],
        first: &[],
        why: "The first domain of a process asks for membarrier, and whether it refuses what does not exist (emulators \
              accept that), registers, maps a page that a fork wipes, and looks for the daemon's file, maps and checks \
              it: seven system calls, some twenty with the daemon (strace). The others register, or do nothing. It \
              happens once a process.",
    },
    Cause {
        called: "a thread that joins here makes a system call and a fence",
        rows: &["first section of a thread, ns"],
        first: &[],
        why: "A thread that joins asks the system for its number, by which reports of stalled readers name it, takes a \
              record, and makes a fence and a stamp of its own: 350 instructions (callgrind) and the system call. \
              haphazard takes three hazard pointers off a list.",
    },
    Cause {
        called: "the making of the thread is nearly all of it",
        rows: &["a thread that lives for one replacement, us"],
        first: &[],
        why: "The row in which nothing is freed takes as long: a thread is made and joined, which varies by more than \
              the schemes differ by.",
    },
    Cause {
        called: "it has one collector for the whole process",
        rows: &[
            "one more domain, us",
            "memory of one more domain, KiB",
            "dropping one of 200 domains, us",
            "a section in one of 200 domains in turn, ns",
        ],
        first: &["sdd", "kovan", "liburcu"],
        why: "There is no domain to make or to drop where the process has a single collector. Of those that have \
              domains, this project's and crossbeam-epoch's join a thread with lines of its own; haphazard's is a list \
              of hazard pointers, and allocates nothing until it is used.",
    },
    Cause {
        called: "its domains need neither pages nor system calls",
        rows: &[
            "one more domain, us",
            "memory of one more domain, KiB",
            "dropping one of 200 domains, us",
            "a section in one of 200 domains in turn, ns",
        ],
        first: &["haphazard"],
        why: "A domain here allocates a block of records, each on lines of its own, when its first thread joins: 5 \
              KiB, so that a page or two are touched for the first time, which takes 2,700 of its 5,000 instructions \
              (callgrind). It asks the system for the thread's number, and with a daemon whether its file is still the \
              same, by a system call each (strace). What is made has to be given back. haphazard's is a list that \
              begins empty.",
    },
    // Forks, programs.
    Cause {
        called: "its process has less memory that a fork copies",
        rows: &["fork beside 100 threads, us", "first section in the child of a fork, ns"],
        first: &[],
        why: "A fork takes longer the more pages the process has, and here it has a record a thread, each on a line of \
              its own, and the background thread's. The child's first section stores to its record, so that the system \
              copies that page, and looks at the page that a fork wipes, which has to be made anew: two page faults.",
    },
    Cause {
        called: "its flush does not wait until things are freed",
        rows: &["a cache of moka, *: drop, us", "a cache of moka, *: two flushes, us"],
        first: &["crossbeam-epoch"],
        why: "moka flushes 128 times when it is dropped. The drop-in's flush makes a barrier pass where an idle or a \
              stale reader is in the way, and frees then. The original's moves the epoch on if it can, and leaves the \
              rest to whoever pins next.",
    },
    Cause {
        called: "a busy thread was more often preempted in a section here, by chance",
        rows: &["a cache of moka, *"],
        first: &["crossbeam-epoch"],
        why: "No flush frees past an open section. Where the busy thread is preempted in one, all values of each cache \
              that is dropped in that time slice stay, a dozen caches in a row, on either collector: how many such \
              slices a run of 100 caches has is chance. It is likelier here in the first milliseconds, in which the \
              busy thread buys barriers under moka's guard, until the idle one is known to sleep \
              ([journal](journal.md#crossbeam-epochs-interface)).",
    },
    // Barriers.
    Cause {
        called: "the kernel interrupts the CPUs by itself",
        rows: &["a barrier, *"],
        first: &["membarrier", "sys_membarrier", "liburcu"],
        why: "`membarrier` is one system call that interrupts the CPUs. An expedited barrier of the daemon's is a \
              datagram, a wake-up, its look at each CPU, an interruption of those that lag, and another wake-up; it \
              serves all processes at once and needs no registration, and the passive one costs nobody anything \
              ([journal](journal.md#benchmarks-and-counts-of-instructions)).",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        assert!(fits("stack, * threads, M/s", "stack, 8 threads, M/s"));
        assert!(fits("*", "") && fits("a*b*c", "a-b-b-c") && fits("same", "same"));
        assert!(
            !fits("stack, *", "queue, 8 threads") && !fits("a*b", "abc") && !fits("same", "other")
        );
    }

    #[test]
    fn a_cause_is_of_a_row_and_of_who_is_first() {
        let called = |row, first| of(row, first).map(|cause| cause.called);
        assert_eq!(
            called("map: absent, 1 Mi, 2 threads, ns", "papaya"),
            Some("a byte in its table says that a key is absent")
        );
        assert_eq!(
            called("map: absent, 1 Mi, 2 threads, ns", "dashmap"),
            Some("its entries lie in the table itself")
        );
        assert_eq!(called("map: absent, 1 Mi, 2 threads, ns", "somebody new"), None);
        assert_eq!(called("no such row", "sdd"), None);
    }

    #[test]
    fn no_two_causes_have_one_name() {
        for (index, cause) in CAUSES.iter().enumerate() {
            assert!(
                CAUSES[..index].iter().all(|other| other.called != cause.called),
                "{}",
                cause.called
            );
        }
    }
}
