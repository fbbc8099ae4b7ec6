/*
 * liburcu for the benchmarks, compiled once for each flavour (-DFLAVOUR=memb, qsbr, bp).
 *
 * The loops are here, so that the library's inline functions are inlined into them as in a C program.
 * The rest are calls, for the structures, which are written in Rust.
 */
#define _LGPL_SOURCE
#include <stddef.h>
#include <stdint.h>

#if defined(FLAVOUR_memb)
#include <urcu/urcu-memb.h>
#elif defined(FLAVOUR_qsbr)
#include <urcu/urcu-qsbr.h>
#elif defined(FLAVOUR_bp)
#include <urcu/urcu-bp.h>
#endif

#define JOIN_(a, b, c) a##b##_##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define SHIM(name) JOIN(shim_, FLAVOUR, name)
#define URCU(name) JOIN(urcu_, FLAVOUR, name)

void SHIM(register)(void) { URCU(register_thread)(); }

void SHIM(unregister)(void) { URCU(unregister_thread)(); }

void SHIM(lock)(void) { URCU(read_lock)(); }

/* For qsbr a section ends with a quiescent state; for the others that is nothing. */
void SHIM(unlock)(void)
{
	URCU(read_unlock)();
	URCU(quiescent_state)();
}

/* Before a thread of qsbr rests, which else holds all others up; it may only unregister then. */
void SHIM(rest)(void) { URCU(thread_offline)(); }

void SHIM(call)(struct rcu_head *head, void (*callback)(struct rcu_head *))
{
	URCU(call_rcu)(head, callback);
}

/* Waits until every callback so far has run. */
void SHIM(barrier)(void) { URCU(barrier)(); }

void SHIM(sections)(uint64_t n)
{
	for (; n; n--) {
		URCU(read_lock)();
		__asm__ __volatile__("" ::: "memory");
		URCU(read_unlock)();
		URCU(quiescent_state)();
	}
}

/* n sections of one load and a look at what it leads to. */
uint64_t SHIM(reads)(uint64_t n, uint64_t **cell)
{
	uint64_t sum = 0;

	for (; n; n--) {
		URCU(read_lock)();
		sum += *rcu_dereference(*cell);
		URCU(read_unlock)();
		URCU(quiescent_state)();
	}
	return sum;
}

struct link {
	struct link *next;
	uint64_t key;
};

/* n sections that follow a list to its end. */
uint64_t SHIM(walks)(uint64_t n, struct link **head)
{
	uint64_t sum = 0;

	for (; n; n--) {
		URCU(read_lock)();
		for (struct link *at = rcu_dereference(*head); at; at = rcu_dereference(at->next))
			sum += at->key;
		URCU(read_unlock)();
		URCU(quiescent_state)();
	}
	return sum;
}
