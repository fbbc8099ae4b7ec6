//! Why another is first: by hand, by row and by who is first in it.
//!
//! Owns the causes. A row of the report in which another is first, and which none of them fits, is called not explained
//! there (`standing`).

/// A mechanism by which another is first in some rows.
#[derive(Debug)]
pub(crate) struct Cause {
    /// A few words, which stand beside the row.
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
fn fits(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    text.strip_prefix(before).is_some_and(|rest| {
        (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| fits(after, &rest[at..]))
    })
}

const CAUSES: &[Cause] = &[
    // Sections.
    Cause {
        called: "a guard that counts itself",
        rows: &["robust guards beside kovan: open and close a section, ns"],
        first: &["kovan"],
        why: "24 instructions, kovan's 23. A robust guard may be opened again inside of itself, by a signal handler, \
              too, so its interval carries a count, and opening and closing write two words; with a pointer loaded the \
              order is the other way round. Counted beside the interval, it was 1.12 times kovan's \
              ([journal](journal.md#reclaim-hazards-and-robust-guards)).",
    },
    Cause {
        called: "quiescent states, in C",
        rows: &["open and close a section, ns: *"],
        first: &["liburcu qsbr"],
        why: "A section of qsbr is nothing, and what is measured is one quiescent state, inlined in C: 7 instructions. \
              It asks the program to announce one now and then, and to go offline before it sleeps. The global guard \
              and the drop-in's take 18 and 14, of which a handle spares 6: they ask the thread's place whether it is \
              this domain's, and whether a section is open. By a handle, in 8 instructions, this project is first.",
    },
    // Writers.
    Cause {
        called: "retired nodes linked through themselves",
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
        why: "sdd and kovan write the link to the next retired node into the node, 16 and 40 bytes of each; here a bag \
              takes the address and what frees it, 16 bytes more to write and to read, and nodes stay as they are. 170 \
              instructions an object, sdd 146, the allocator alone 79 on mimalloc \
              ([journal](journal.md#benchmarks-and-counts-of-instructions)); on the system's allocator, which takes \
              159, it does not show. Smaller nodes win where reads count: the map is 1.2 times sdd's. On two threads \
              the order follows how far apart the CPUs are: at 62 ns, in three later runs, the stack had 28 to 38 here \
              and 25 to 28 with sdd.",
    },
    Cause {
        called: "frees soon cost the slow writer",
        rows: &[
            "replace and retire every 10 us, *",
            "replace and retire every ms, *",
            "large objects * a retirement, p99, us",
        ],
        first: &[],
        why: "A thread that retires seldom seals what it has and looks at the readers in every other call, so that \
              things are freed within 50 us; that fetches the reader's cache lines, 0.3 us, and as much after a ms of \
              other work, which leaves nothing of it in the cache. crossbeam-epoch, sdd, haphazard and kovan touch the \
              readers once in 64 to 1,000 retirements, and keep things for milliseconds: the rows *retired to freed*, \
              in which this project is first. Half of a call's time in a ms is what the row in which nothing is freed \
              takes as well: cold memory. A seal and a scan in each call took twice as much \
              ([journal](journal.md#reclaim-purchases-and-how-soon-things-are-freed)).",
    },
    // How soon.
    Cause {
        called: "sleepers are not yet known",
        rows: &[
            "retired to freed, *100 idle threads beside, p99, us",
            "retired to freed, *100 idle threads beside, p90, us",
        ],
        first: &[],
        why: "A thread that is put to sleep needs no evidence until it wakes, but first it has to be idle for a while, \
              be marked, and a barrier has to pass: some 10 ms in which 100 idle threads hold everything back; of a run \
              of 200 ms that is the worst twentieth. In the run's second half, *p99 later*, this project is first. A \
              mark without that barrier is a use after free (docs/proofs/).",
    },
    Cause {
        called: "whole sections hold back, not pointers",
        rows: &[
            "in flight, two writers*",
            "robust guards beside kovan: in flight, two writers*",
            "waiting behind a stalled reader*",
            "* threads at full speed: *",
            "large objects beside a stalled reader: most waiting, MiB",
        ],
        first: &[],
        why: "With more threads than CPUs one is always preempted, and 71 of 100 looks found a writer's own section as \
              what held the oldest thing back ([journal](journal.md#reclaim-purchases-and-how-soon-things-are-freed)). \
              A plain section holds back all that is retired while its thread is away, for milliseconds at full speed. \
              haphazard holds one object a pointer, for a fence at each (2.7 ns instead of 0.8, and 0.4 of the \
              retirements in the same time); seize and kovan retire a tenth to a quarter as many in the same time, so \
              less waits. Robust guards and hazards hold single objects, but a barrier is bought for what it costs, at 4 ns an \
              object of one thread: 3,000 objects at 12 us, so two threads that run have 6,000 in flight, and each thread \
              that is preempted keeps what was in its queue ([journal](journal.md#reclaim-hazards-and-robust-guards)).",
    },
    Cause {
        called: "bags that are filled up",
        rows: &["large objects beside sections of a ms: most waiting, MiB"],
        first: &[],
        why: "50 objects are retired in a section, which holds them back. Once sixteen small bags wait the open one is \
              filled up, and what is in it as the section ends has no stamp yet: it waits for the next one's end. So 69 \
              wait in each section, by count, 53 without that rule, and 100 once, behind the first bag, which takes 64 \
              ([journal](journal.md#benchmarks-and-counts-of-instructions)). seize's batches are of 32. The limit does not \
              count open bags.",
    },
    Cause {
        called: "bags of 64",
        rows: &[
            "in flight, one writer*",
            "robust guards beside kovan: in flight, one writer*",
            "1000 handles in turn, *objects in flight",
            "left alone, never freed",
        ],
        first: &[],
        why: "At full speed a thread seals 64 objects at once, and has an open bag and one that waits: 128. seize's \
              batches are of 32, and it retires half as many in the same time. In turn, the wait is for the other \
              threads' next look: 131 a thread here, crossbeam-epoch 100, whose threads push their bags to one queue \
              that all free from. Smaller bags cost a stop each, an exchange on a word that all threads share.",
    },
    Cause {
        called: "boxes come back scattered",
        rows: &["1000 handles in turn, *ns an object"],
        first: &[],
        why: "Without an allocator this project takes half of crossbeam-epoch's time in the same experiment. With boxes \
              of glibc the two are within a seventh: what is freed by 1,000 threads in turn no longer lies together, \
              and malloc hands it out from beyond the second cache \
              ([journal](journal.md#reclaim-purchases-and-how-soon-things-are-freed)).",
    },
    Cause {
        called: "preemption in the midst",
        rows: &[
            "stack, 8 threads, M/s",
            "queue, 8 threads, M/s",
            "map *, 8 threads, M/s",
            "cell, *, 8 threads, M/s",
        ],
        first: &[],
        why: "Four times as many threads as CPUs, and who is preempted where decides: rounds of one contestant differ \
              by a factor of 2 to 10, more than its twin shows. Three later runs of the queue had kovan at 23, 15, 16 \
              and the best of this project's ways at 19, 16, 15; of the stack sdd at 36, 42, 40 and hazard pointers \
              here at 36, 39, 43. Where nothing is freed it is 50 to 60: a stack's frees are of nodes that another \
              thread allocated, and take half of the time in each scheme.",
    },
    // Cells.
    Cause {
        called: "a load and a comparison in both",
        rows: &["cell: read, *"],
        first: &["arc-swap, Cache"],
        why: "Both keep the value that they returned last, and compare the cell's pointer with it: one load, one \
              comparison, and a value that is at hand. Which is ahead differs from run to run, by 0.1 to 0.2 ns: how \
              the two loops lie.",
    },
    Cause {
        called: "a lock writes in place",
        rows: &["cell: replace, ns"],
        first: &["RwLock"],
        why: "A lock keeps readers out while the value is overwritten, so nothing is allocated, retired or freed. \
              Allocation and free are 16 ns of 27; readers of the lock pay for it, 5 to 10 ns instead of 1. Of those \
              that readers don't wait for, this project is first.",
    },
    Cause {
        called: "counted, or locked, values go at once",
        rows: &["cell: values alive at most"],
        first: &["arc-swap", "RwLock", "left-right", "seize"],
        why: "A count in each value, or a lock, says when the last reader is done, and costs each reader an atomic \
              operation (arc-swap's Cache: when the value has changed). Here values wait until evidence comes, some 160 \
              of 64 bytes with a writer in 10 us.",
    },
    // Stacks and queues.
    Cause {
        called: "a lock's stack allocates nothing",
        rows: &["stack, pairs, *", "stack, memory, *"],
        first: &["Mutex"],
        why: "A `Vec` under a lock takes a value's 8 bytes, two exchanges for the lock of a push and a pop, and no \
              allocation; a lock-free stack's node is allocated, retired and freed, and lives in 32 bytes of malloc. \
              Two exchanges are some 4 of its 19 ns on one thread; allocation, retirement and free are the rest, and a \
              stack that frees nothing is no faster, since fresh memory costs as much. On two threads parking_lot lets \
              one thread go on while the other sleeps: throughput without fairness; std's lock has half of this stack's \
              throughput ([journal](journal.md#structures)).",
    },
    Cause {
        called: "the lock stays with one thread",
        rows: &["queue, pairs, 2 threads, M/s", "queue, one pushes, one pops, M/s"],
        first: &["Mutex"],
        why: "parking_lot's lock spins, then sleeps, and the one who has it goes on in its own cache: it had 60 (41 to \
              83) where this queue had 89 (47 to 93), and is ahead where the CPUs are far apart. Nobody waits for a \
              thread that is stopped here.",
    },
    Cause {
        called: "who loses an exchange waits",
        rows: &["queue, pairs, 2 threads, M/s", "queue, one pushes, one pops, M/s"],
        first: &[],
        why: "All of them are one line that goes from CPU to CPU, and differ by how long who has lost waits before it \
              tries again; the quartiles overlap in each run ([journal](journal.md#structures)).",
    },
    // Maps.
    Cause {
        called: "entries in the table itself",
        rows: &["map: *"],
        first: &["RwLock<HashMap>", "dashmap", "scc"],
        why: "hashbrown's table (RwLock, dashmap) and scc's buckets hold the entries, and move them as they grow, under \
              a lock: no allocation an entry, one cache miss a lookup instead of two (bucket, then node), 16 control \
              bytes compared at once for absent keys, 34 to 40 bytes an entry instead of 65. An insertion here \
              allocates, a removal retires. A lock-free map whose readers hold references to entries can't move them, \
              so each has a node. The locks' price shows with a second thread: found, 1 Ki, 28 (scc), 22 (dashmap) and \
              more (RwLock) against 11 ns ([journal](journal.md#structures-the-hash-map)).",
    },
    Cause {
        called: "a byte says that a key is absent",
        rows: &["map: absent, *"],
        first: &["papaya"],
        why: "papaya's table has a byte of each entry's hash beside the pointers, so an absent key seldom costs a look \
              at a node; here each node of a bucket that is not empty is a cache miss. Filters beside the pointers \
              can't be cleared without a race with insertions that come along the list \
              ([journal](journal.md#structures-the-hash-map)).",
    },
    Cause {
        called: "no table to grow",
        rows: &["map: the longest 64 insertions, *", "map: grow *"],
        first: &["crossbeam-skiplist", "papaya", "flurry"],
        why: "A skip list has no table: no insertion ever clears a new one, and it pays for that with each lookup (7 to \
              11 times as long). Here an insertion that doubles the table allocates it whole, zeroed by the system, \
              page by page as it is touched.",
    },
    // Between processes.
    Cause {
        called: "flat tables under a lock or a number",
        rows: &["processes: get, *"],
        first: &["seqlock", "rwlock"],
        why: "Both are open tables of fixed length around 8-byte words, one cache miss a get, without growth, values of \
              any size, or anything that survives a death: a writer that dies leaves them locked, or torn, for ever. \
              The shared map's get is a section, a bucket, and one or two nodes of a list, each a miss: 0.87 times the \
              map in one process, a third of LMDB's.",
    },
    Cause {
        called: "a change that survives a death",
        rows: &["processes: write, p50, ns"],
        first: &["seqlock", "rwlock", "in one process", "LMDB"],
        why: "A write takes the turn, notes each store in a journal before it makes it, allocates the new node and \
              retires the old one, so that a process killed between any two instructions leaves nothing to repair by \
              hand. A seqlock stores one word between two increments.",
    },
    Cause {
        called: "each 16th turn scans",
        rows: &["processes: write, p99, ns"],
        first: &["seqlock", "rwlock", "in one process", "LMDB"],
        why: "Every 16th turn looks at all readers (a system call for each that is idle and stale, where no daemon \
              serves) and frees what the turns since have retired, 16 blocks, each by a step of the journal, as a write \
              is, whose whole takes 0.75 us. 6 calls in 100 do so, so p99 is the length of such a turn: 16 steps and a \
              scan. That they add up to its 13 us is arithmetic; they were not timed one by one.",
    },
    // First uses.
    Cause {
        called: "the kernel is asked before it is trusted",
        rows: &["first section of a process, us"],
        first: &[],
        why: "The first domain asks for membarrier and whether it says no to what does not exist (emulators say yes), \
              registers, maps a page that a fork wipes, and looks for the daemon's file, maps and checks it: seven \
              system calls, or some twenty with the daemon (strace). The others register alone, or nothing. Once a \
              process.",
    },
    Cause {
        called: "joining asks for a number, and stamps",
        rows: &["first section of a thread, ns"],
        first: &[],
        why: "A thread that joins asks the system for its number, by which reports of stalled readers name it, takes a \
              record, and makes a stop of its own: 350 instructions (callgrind), a system call and a fence. haphazard \
              takes three hazard pointers off a list.",
    },
    Cause {
        called: "the thread itself",
        rows: &["a thread that lives for one replacement, us"],
        first: &[],
        why: "The row in which nothing is freed takes 73 us: it is the making and the joining of the thread, in which \
              the schemes differ by less than a run does.",
    },
    Cause {
        called: "one collector for the process",
        rows: &[
            "one more domain, us",
            "memory of one more domain, KiB",
            "dropping one of 200 domains, us",
            "a section in one of 200 domains in turn, ns",
        ],
        first: &["sdd", "kovan", "liburcu"],
        why: "They have one collector for the process, so there is no domain to make. Of those that have domains, \
              haphazard's is a list of hazard pointers, and allocates nothing until it is used; this project's and \
              crossbeam-epoch's join a thread, with lines of its own.",
    },
    Cause {
        called: "a domain that reads no kernel",
        rows: &[
            "one more domain, us",
            "memory of one more domain, KiB",
            "dropping one of 200 domains, us",
            "a section in one of 200 domains in turn, ns",
        ],
        first: &["haphazard", "crossbeam-epoch", "seize"],
        why: "A domain here allocates a block of records on lines of their own as its first thread joins (5 KiB, so a \
              page or two are touched for the first time: 2,700 of its 5,000 instructions, by callgrind), asks the \
              system for the thread's number, and with a daemon whether its file is still the same (strace: one system \
              call each). haphazard's is a list that begins empty. What is made has to be given back.",
    },
    // Forks, programs.
    Cause {
        called: "memory that a fork copies",
        rows: &["fork beside 100 threads, us", "first section in the child of a fork, ns"],
        first: &[],
        why: "The fork is the system's, and grows with the pages that the process has: a record a thread on a line of \
              its own, and a background thread where there is one. The child's first section stores to its record, so \
              the system copies that page, and looks at the page that a fork wipes, which has to be made anew: two page \
              faults.",
    },
    Cause {
        called: "a flush that frees buys a barrier",
        rows: &["a cache of moka, *: drop, us", "a cache of moka, *: two flushes, us"],
        first: &["crossbeam-epoch"],
        why: "moka flushes 128 times when it is dropped. The drop-in's flush makes a barrier pass where an idle or a \
              stale reader is in the way, and frees then; the original's moves the epoch on if it can, and leaves what \
              is deferred to whoever pins next.",
    },
    Cause {
        called: "a busy thread preempted in a section",
        rows: &["a cache of moka, *"],
        first: &["crossbeam-epoch"],
        why: "No flush frees past an open section. Where the busy thread is preempted in one, all values of each cache \
              that is dropped in that time slice stay, a dozen caches in a row, on either collector: how many slices \
              that are in a run of 100 caches is chance. It is likelier here in the first milliseconds, in which the \
              busy thread buys barriers under moka's guard, until the idle one is known to sleep \
              ([journal](journal.md#crossbeam-epochs-interface)).",
    },
    // Barriers.
    Cause {
        called: "a daemon between two processes",
        rows: &["a barrier, *"],
        first: &["membarrier", "sys_membarrier", "liburcu"],
        why: "An expedited barrier of the daemon is a datagram, a wake-up, its look at each CPU, an interruption of \
              those that lag, and another wake-up; `membarrier` is one system call that interrupts by itself. The \
              daemon's serves all processes at once and needs no registration, and the passive one costs nobody \
              anything ([journal](journal.md#benchmarks-and-counts-of-instructions)).",
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
            Some("a byte says that a key is absent")
        );
        assert_eq!(
            called("map: absent, 1 Mi, 2 threads, ns", "dashmap"),
            Some("entries in the table itself")
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
