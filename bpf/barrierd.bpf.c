/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Programs for any tracepoint: the CPU is in the kernel, so it takes its barrier point.
 *
 * They use nothing of the kernel's types, so they load on kernels without BTF. None of them writes
 * IDLE, and all but one leave it alone: see sched_switch.bpf.c.
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
	/* Leave IDLE alone: this CPU passes every barrier anyway, and to take IDLE away here would be
	 * right but would cost an exchange at every interrupt of an idle CPU. Once IDLE isn't believed
	 * any more, every event takes it away, so that the CPU is seen again. */
	if (seen == IDLE && !READ_ONCE(ctl->broken))
		return 0;
	stamp(ctl, slot, seen, armed);
	return 0;
}

/*
 * The timer's interrupt and soft interrupts: as on_event, and they check IDLE.
 *
 * They run where interrupts may be taken. Between the tracepoint sched_switch, where the slot
 * changes, and the change of `current` just after it, interrupts are off (__schedule in
 * kernel/sched/core.c); a soft interrupt runs on an interrupt's way out, where a task turns soft
 * interrupts back on, or in ksoftirqd, which was itself switched to. So these see the slot as
 * sched_switch left it, on the way into idle and on the way out of it, and IDLE together with a
 * `current` other than the idle task means that a switch was missed. A non-maskable interrupt can
 * fall between the two, and a tracepoint that a user names may too (tlb_flush does): no such check
 * in on_event.
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
	if (seen == IDLE && !READ_ONCE(ctl->broken)) {
		/* The idle tasks, one a CPU, all have pid 0. */
		if ((__u32)bpf_get_current_pid_tgid() == 0)
			return 0;
		/* Before the exchange: a scan that no longer sees IDLE sees this. */
		WRITE_ONCE(ctl->broken, 1);
	}
	stamp(ctl, slot, seen, armed);
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
