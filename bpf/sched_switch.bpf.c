/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What is known of idle CPUs: the switch from one task to the next, which writes IDLE into the slot of
 * a CPU that goes idle; and the question whether it still is.
 *
 * An object of its own, because it alone needs the kernel's BTF. Where that is missing, or the
 * tracepoint has other arguments, the daemon attaches on_event to sched_switch instead and does
 * without IDLE.
 *
 * IDLE is a hint, no evidence: a kernel may fail to trace the switch out of idle (one was seen to, for
 * seconds), and then a task runs while the slot shows IDLE. So the daemon asks the kernel itself about every
 * CPU that shows IDLE, in its own context (who_is_idle), and nothing that is published rests on any event's
 * having been seen. A switch that was missed makes its CPU late, by a tick or so, and nothing early.
 *
 * Why no other event may write IDLE all the same: a CPU that shows it without being idle lags.
 * Between this tracepoint on the way out of idle and the first user instruction `current` still looks
 * idle for a while, and other tracepoints fire there.
 *
 * Interrupts are off in on_sched_switch (__schedule holds the run queue's lock), so only a non-maskable
 * interrupt's event can come in between: it leaves IDLE alone, or moves the slot to a newer time.
 */
#include "shared.bpf.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Each CPU's idle task, once it was switched to: its address, which the daemon need not know, so that this
 * map can't be mapped. Idle tasks are never freed (kernel/smpboot.c). The daemon sets the number of
 * entries, as for the slots. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} idle_tasks SEC(".maps");

/* Written once: this CPU's word shares its line with others'. */
static __always_inline void remember(const struct task_struct *idle)
{
	__u32 cpu = bpf_get_smp_processor_id();
	__u64 *task = bpf_map_lookup_elem(&idle_tasks, &cpu);

	if (task && *task != (__u64)idle)
		WRITE_ONCE(*task, (__u64)idle);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	struct control *ctl = the_control();
	struct slot *slot = ctl ? own_slot(ctl) : NULL;
	__u64 seen, armed;

	if (!slot)
		return 0;
#ifdef DEAF_CPU
	/* For tests: this CPU's switches out of idle are missed, as kernels have been seen to. */
	if (bpf_get_smp_processor_id() == DEAF_CPU && prev->pid == 0)
		return 0;
#endif
	seen = READ_ONCE(slot->armed);
	armed = READ_ONCE(ctl->armed);
	/* A task has run while the slot showed IDLE: the switch out of idle was not traced. */
	if (seen == IDLE && prev->pid != 0)
		note_miss(ctl);
	/* The idle tasks, one a CPU, all have pid 0. */
	if (next->pid == 0) {
		remember(next);
		count_down(ctl, __sync_lock_test_and_set(&slot->armed, IDLE), IDLE);
		return 0;
	}
	/* Out of idle always: a full barrier, which the load of `asleep` below rests on. */
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
	 * the daemon's load sees the slot out of IDLE, or this load sees `asleep`. Where the switch is not
	 * traced, on_task_event wakes the daemon, or its own time is up (LONGEST_SLEEP_NS in pace.rs): late,
	 * not wrong.
	 */
	if ((__u64)next->tgid == READ_ONCE(ctl->daemon_tgid)) {
		/* Does anyone want this CPU back? The daemon can't tell by a slot: its own CPU's shows
		 * the switch to the daemon itself. A hint, for the pace alone. */
		WRITE_ONCE(ctl->preempted, prev->pid != 0 && !(prev->flags & PF_KTHREAD) &&
						   bpf_core_field_exists(prev->__state) &&
						   prev->__state == 0);
		/* Only this program writes it: so that the daemon can tell when it is gone, though other
		 * programs go on to stamp the daemon's own CPU. For reports. Partner: self_check.rs. */
		WRITE_ONCE(ctl->switched, armed);
		return 0;
	}
	if (next->pid != 0 && !(next->flags & PF_KTHREAD))
		wake_sleeper(ctl);
	return 0;
}

/*
 * Which of the CPUs that the daemon asks about are in their idle task, now. The daemon's doorbell: it sets
 * its own name (prctl), the one system call of its sandbox that runs a program at once, in its own
 * context. For others' names a comparison and out.
 *
 * Why a CPU that is found idle has passed every barrier for times before s. The daemon reads the clock
 * (s), then a full fence, then rings, so the loads below come after s. They find `on_cpu` of the idle task
 * set. (1) It was set by prepare_task, in __schedule, which has run a full barrier before
 * (smp_mb__after_spinlock): the stores of user code that ran on that CPU before are visible to us, and to
 * whoever sees what the daemon then publishes (Release). (2) finish_task clears it once the next task is
 * switched to, a store that these loads have not seen. A full barrier follows before that CPU returns to
 * user space: finish_task_switch drops the mm that the idle task had borrowed (mmdrop), or, if the next
 * task is a kernel thread, __schedule has its own before the next switch. So user code that runs there
 * later sees all that was visible when the clock read s. A moment after s at which that CPU ran no user
 * code parts the one from the other, with a barrier on either side.
 *
 * These are the barriers by which the kernel's own membarrier(2) skips a CPU that runs a kernel thread:
 * see "Matches memory barriers before/after rq->curr modification in scheduler" in
 * kernel/sched/membarrier.c, and in kernel/sched/core.c the comments in __schedule and, on the way from
 * user to kernel thread to user, in finish_task_switch.
 *
 * On the way into idle the slot shows IDLE a little before `on_cpu` is set, and this says busy: no credit
 * this time, which is right. Who idles by another task than the idle one (idle injection) is busy, too. The
 * idle task of a CPU that is offline stays set, and no user code runs there.
 */
SEC("raw_tp")
int who_is_idle(void *ctx)
{
	struct control *ctl = the_control();
	__u64 cpus, first, idle = 0;
	int i;

	if (!ctl || bpf_get_current_pid_tgid() >> 32 != READ_ONCE(ctl->daemon_tgid))
		return 0;
	cpus = READ_ONCE(ctl->asked_cpus);
	first = READ_ONCE(ctl->asked_first);
	for (i = 0; i < GROUP; i++) {
		__u32 cpu = first + i;
		__u64 *task;
		int on_cpu = 0;

		if (!(cpus >> i & 1))
			continue;
		task = bpf_map_lookup_elem(&idle_tasks, &cpu);
		if (!task || !*task)
			continue;
		bpf_probe_read_kernel(&on_cpu, sizeof(on_cpu),
				      &((const struct task_struct *)*task)->on_cpu);
		if (on_cpu)
			idle |= 1ULL << i;
	}
	WRITE_ONCE(ctl->idle_cpus, idle);
	/* Last, so that an answer is whole. The daemon believes none but its own question's. */
	WRITE_ONCE(ctl->answered, READ_ONCE(ctl->asked));
	return 0;
}
