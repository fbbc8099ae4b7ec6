/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The switch from one task to the next: the one place that knows when a CPU is idle, and the only
 * one that writes IDLE.
 *
 * An object of its own, because it alone needs the kernel's BTF. Where that is missing, or the
 * tracepoint has other arguments, the daemon attaches on_event to sched_switch instead and does
 * without IDLE.
 *
 * Why IDLE may stand for "has passed every barrier". The daemon reads the clock (s), then a full
 * fence, then loads the slot and finds IDLE. If the exchange to IDLE came after s, it is itself
 * the barrier point. If it came before, the CPU ran no user code since: the exchange on its way
 * out of idle is not yet visible to the daemon's load, so it comes later than the load and than s,
 * and it is a full barrier before any user code that follows. Either way a barrier point of this
 * CPU parts the user code before s from the user code after it.
 *
 * Why no other event may write it: between this tracepoint on the way out of idle and the first
 * user instruction `current` still looks idle for a while, and other tracepoints fire there. They
 * come later on the same CPU than the exchange below, which has put a time into the slot.
 *
 * Interrupts are off here (__schedule holds the run queue's lock), so only a non-maskable
 * interrupt's event can come in between: it leaves IDLE alone, or moves the slot to a newer time.
 */
#include "shared.bpf.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

SEC("tp_btf/sched_switch")
int BPF_PROG(on_sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	struct control *ctl = the_control();
	struct slot *slot = ctl ? own_slot(ctl) : NULL;
	__u64 seen, armed;

	if (!slot)
		return 0;
	seen = READ_ONCE(slot->armed);
	armed = READ_ONCE(ctl->armed);
	/* A task has run behind IDLE: the switch out of idle was not traced. Before the exchange, as in
	 * on_task_event. */
	if (seen == IDLE && prev->pid != 0)
		WRITE_ONCE(ctl->broken, 1);
	/* The idle tasks, one a CPU, all have pid 0. */
	if (next->pid == 0 && !READ_ONCE(ctl->broken)) {
		count_down(ctl, __sync_lock_test_and_set(&slot->armed, IDLE), IDLE);
		return 0;
	}
	/* Out of idle always, so that the CPU stops passing barriers before it runs anything. */
	if (seen == IDLE)
		__sync_lock_test_and_set(&slot->armed, armed);
	else if (seen != armed)
		stamp(ctl, slot, seen, armed);

	/*
	 * Is the daemon asleep, and a task of user code about to run? Wake it, once.
	 *
	 * The daemon stores `asleep`, then a full fence, then loads the slots, and sleeps only if all
	 * others are IDLE. This CPU exchanges its slot on the way out of idle, a full barrier, and
	 * loads `asleep` only after that, here or at a later switch to the first user task. So either
	 * the daemon's load sees the slot out of IDLE, or this load sees `asleep`.
	 */
	if ((__u64)next->tgid == READ_ONCE(ctl->daemon_tgid)) {
		/* Does anyone want this CPU back? The daemon can't tell by a slot: its own CPU's shows
		 * the switch to the daemon itself. A hint, for the pace alone. */
		WRITE_ONCE(ctl->preempted, prev->pid != 0 && !(prev->flags & PF_KTHREAD) &&
						   bpf_core_field_exists(prev->__state) &&
						   prev->__state == 0);
		/* Only this program writes it: so that the daemon finds out when it is gone, though
		 * other programs go on to stamp the daemon's own CPU. Partner: proof.rs. */
		WRITE_ONCE(ctl->switched, armed);
		return 0;
	}
	if (READ_ONCE(ctl->asleep) && next->pid != 0 && !(next->flags & PF_KTHREAD) &&
	    __sync_val_compare_and_swap(&ctl->asleep, 1, 0) == 1)
		notify();
	return 0;
}
