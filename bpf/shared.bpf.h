/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The maps, and how a CPU's slot moves.
 *
 * This file owns the shared words (layout.rs has their numbers, as macros here) and the two steps
 * that every event takes: stamp the slot, count the CPU down. Who writes IDLE, and what that is worth,
 * is none of its business: see sched_switch.bpf.c.
 *
 * The claim. `armed` holds a time that the daemon read from the clock before it stored it. "The
 * slot of CPU c holds a" says: CPU c took a full memory barrier, in the kernel, after the clock
 * read a. The event loads `armed`, then exchanges the slot: BPF_XCHG, and BPF_CMPXCHG when it
 * succeeds, are fully ordered (Documentation/bpf/standardization, Documentation/atomic_t.txt; x86
 * since 5.12, arm64 since 5.18: docs/proofs/daemon.md, "On arm64", has the instructions), and that exchange
 * is the barrier; to enter the kernel is none. User code that ran on c before
 * it has its stores visible to whoever reads a from the slot; user code that runs on c after it
 * sees every store that was visible when the clock read a.
 */
#ifndef BARRIERD_SHARED_BPF_H
#define BARRIERD_SHARED_BPF_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>

/* Only this CPU's events write it; but the daemon may take IDLE away, for 0, which claims nothing. */
struct slot {
	__u64 armed;
	__u64 unused[SLOT_BYTES / sizeof(__u64) - 1];
};

/* A line of its own for each way of use: read by all at every event; counted down by all; read at
 * every switch; written when something is wrong; read rarely; written when the daemon is switched to;
 * the daemon's questions for idle CPUs, written on its own CPU only. */
struct control {
	__u64 armed;
	__u64 unused0[15];
	__u64 round;
	__u64 wanted;
	__u64 unused1[14];
	__u64 asleep;
	__u64 unused2[15];
	__u64 missed;
	__u64 overflow;
	__u64 unused3[14];
	__u64 daemon_tgid;
	__u64 unused4[15];
	__u64 preempted;
	__u64 switched;
	__u64 unused5[14];
	__u64 asked;
	__u64 asked_first;
	__u64 asked_cpus;
	__u64 idle_cpus;
	__u64 answered;
	__u64 unused6[11];
};

#define AT(field, where) _Static_assert(__builtin_offsetof(struct control, field) == where, #field)
AT(armed, ARMED);
AT(round, ROUND);
AT(wanted, WANTED);
AT(asleep, ASLEEP);
AT(missed, MISSED);
AT(overflow, OVERFLOW);
AT(daemon_tgid, DAEMON_TGID);
AT(preempted, PREEMPTED);
AT(switched, SWITCHED);
AT(asked, ASKED);
AT(asked_first, ASKED_FIRST);
AT(asked_cpus, ASKED_CPUS);
AT(idle_cpus, IDLE_CPUS);
AT(answered, ANSWERED);
#undef AT
_Static_assert(sizeof(struct slot) == SLOT_BYTES, "slot");
_Static_assert(sizeof(struct control) == CONTROL_BYTES, "control");
_Static_assert(IDLE == ~0ULL, "idle is newer than every time");

/* The daemon sets the number of entries before it loads: one a CPU that it scans, and no more, so
 * that own_slot finds none for any other. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct control);
} control SEC(".maps");

/* One record wakes the daemon; its content says nothing. The daemon sets the size: a page. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} wake SEC(".maps");

/* One load, neither split nor repeated nor left out. */
#define READ_ONCE(word) (*(const volatile __u64 *)&(word))
#define WRITE_ONCE(word, value) (*(volatile __u64 *)&(word) = (value))

/* More CPUs than this at the same word at the same moment: the last one's hint is lost, and the
 * daemon wakes by its timeout. */
#define COUNT_DOWN_TRIES 32

static __always_inline struct control *the_control(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&control, &zero);
}

/* This CPU's slot. A CPU without one stops the daemon: it must never be passed over in silence. */
static __always_inline struct slot *own_slot(struct control *ctl)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct slot *slot = bpf_map_lookup_elem(&slots, &cpu);

	if (!slot)
		WRITE_ONCE(ctl->overflow, 1);
	return slot;
}

/* Wakes the daemon. From any context: the ring buffer defers the wake-up itself. */
static __always_inline void notify(void)
{
	__u64 record = 0;

	bpf_ringbuf_output(&wake, &record, sizeof(record), BPF_RB_FORCE_WAKEUP);
}

/* A task ran while the slot showed IDLE: the switch to it was not traced. For reports. */
static __always_inline void note_miss(struct control *ctl)
{
	__sync_fetch_and_add(&ctl->missed, 1);
}

/* A user task runs, or is about to: a daemon that sleeps is woken, once. */
static __always_inline void wake_sleeper(struct control *ctl)
{
	if (READ_ONCE(ctl->asleep) && __sync_val_compare_and_swap(&ctl->asleep, 1, 0) == 1)
		notify();
}

/*
 * The slot went from `before` to `after`: if that is what the round waits for, one CPU less; the
 * last one wakes the daemon.
 *
 * A slot of a busy CPU only grows (see stamp), so a CPU meets `before < wanted <= after` once a
 * round, and IDLE as `before` never does. The daemon ends a round (count 0), sets `wanted`, sets
 * the next round, then `armed`, each a Release store (shared_words.rs: listen). Whoever counts here
 * has exchanged its slot, a full barrier, so it sees at least the round that goes with its `after`.
 * If the round has changed since it was loaded, the compare-exchange fails and the id tells.
 * On arm64 `wanted` may be loaded before `round`: then a CPU counts for its neighbour round, and
 * the daemon is woken early or by its timeout. The count is a hint, the slots are the evidence.
 */
static __always_inline void count_down(struct control *ctl, __u64 before, __u64 after)
{
	__u64 round = READ_ONCE(ctl->round);
	__u64 wanted = READ_ONCE(ctl->wanted);
	__u64 found;
	int i;

	if (before >= wanted || wanted > after)
		return;
	/* The daemon needs nobody to wake it. Its own CPU is not counted, and stamps by its own switch
	 * when it goes to sleep. */
	if (bpf_get_current_pid_tgid() >> 32 == READ_ONCE(ctl->daemon_tgid))
		return;
	for (i = 0; i < COUNT_DOWN_TRIES; i++) {
		if (!(round & ((1ULL << ROUND_SHIFT) - 1)))
			return;
		found = __sync_val_compare_and_swap(&ctl->round, round, round - 1);
		if (found == round) {
			if ((round & ((1ULL << ROUND_SHIFT) - 1)) == 1)
				notify();
			return;
		}
		if (found >> ROUND_SHIFT != round >> ROUND_SHIFT)
			return;
		round = found;
	}
}

/*
 * The slot, seen holding `seen`, takes `armed`: the barrier point.
 *
 * A compare-exchange rather than an exchange, because an event may be interrupted here by another
 * on the same CPU, which loads a newer `armed`. An exchange would put the older time back, and the
 * CPU would meet the next newer one twice and count twice. Where it fails, the nested event has
 * moved the slot by an exchange of its own, later than our load, and the slot says what that one
 * proved: nothing is claimed for this event, so that a failed exchange orders nothing (arm64) does
 * not matter.
 */
static __always_inline void stamp(struct control *ctl, struct slot *slot, __u64 seen, __u64 armed)
{
	if (__sync_val_compare_and_swap(&slot->armed, seen, armed) == seen)
		count_down(ctl, seen, armed);
}

#endif
