/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Programs for any tracepoint: the CPU is in the kernel, so it takes its barrier point.
 *
 * They use nothing of the kernel's types, so they load on kernels without BTF. None of them writes
 * IDLE: see sched_switch.bpf.c.
 */
#include "shared.bpf.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Any tracepoint that the user names. */
SEC("raw_tp")
int on_event(void *ctx)
{
	struct control *ctl = the_control();
	struct slot *slot = ctl ? own_slot(ctl) : NULL;
	__u64 seen, armed;

	if (!slot)
		return 0;
	seen = READ_ONCE(slot->armed);
	armed = READ_ONCE(ctl->armed);
	if (seen == armed)
		return 0;
	/* Leave IDLE alone: to take it away here would be right, but would cost an exchange at every
	 * interrupt of an idle CPU, and the daemon a CPU that passes every barrier. */
	if (seen == IDLE)
		return 0;
	stamp(ctl, slot, seen, armed);
	return 0;
}

/*
 * Interrupt handlers' tracepoints and soft interrupts: as on_event, and they mend IDLE.
 *
 * They run where interrupts may be taken. Between the tracepoint sched_switch, where the slot
 * changes, and the change of `current` just after it, interrupts are off (__schedule in
 * kernel/sched/core.c); a soft interrupt runs on an interrupt's way out, where a task turns soft
 * interrupts back on, or in ksoftirqd, which was itself switched to. So these see the slot as
 * sched_switch left it, on the way into idle and on the way out of it, and IDLE together with a
 * `current` other than the idle task means that the switch to it was not traced. (On arm64 with pseudo-NMIs
 * an interrupt may come in between: then a CPU that goes idle is stamped, counted as a miss, and busy until
 * its next interrupt. Late, not wrong.) Nothing was published
 * for that (who_is_idle in sched_switch.bpf.c), but without this look the CPU would not be seen to pass:
 * it is stamped, the miss is counted, and a daemon that sleeps is woken, as the switch should have done.
 * A non-maskable interrupt can fall between the two, and a tracepoint that a user names may too
 * (tlb_flush does): no such look in on_event.
 */
SEC("raw_tp")
int on_task_event(void *ctx)
{
	struct control *ctl = the_control();
	struct slot *slot = ctl ? own_slot(ctl) : NULL;
	__u64 seen, armed;

	if (!slot)
		return 0;
	seen = READ_ONCE(slot->armed);
	armed = READ_ONCE(ctl->armed);
	if (seen == armed)
		return 0;
	/* The idle tasks, one a CPU, all have pid 0. */
	if (seen == IDLE && (__u32)bpf_get_current_pid_tgid() == 0)
		return 0;
	stamp(ctl, slot, seen, armed);
	if (seen == IDLE) {
		note_miss(ctl);
		wake_sleeper(ctl);
	}
	return 0;
}

/* Run once in the daemon's own context: its process id as the initial pid namespace has it. */
SEC("raw_tp")
int who_am_i(void *ctx)
{
	struct control *ctl = the_control();

	if (ctl)
		WRITE_ONCE(ctl->daemon_tgid, bpf_get_current_pid_tgid() >> 32);
	return 0;
}
