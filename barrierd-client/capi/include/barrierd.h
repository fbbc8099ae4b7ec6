/*
 * barrierd: learn, by plain loads from a mapped file, that every CPU has passed a full memory barrier
 * since a given moment.
 *
 * This header owns the layout of the public file and what C and C++ programs call. It has three parts:
 *
 *   1. the layout. `struct barrierd_mapped_data` is that of the C daemon's header of the same name, so
 *      programs written for that one compile and run unchanged against this daemon;
 *   2. static inline readers: a stamp, and whether its barrier has passed. They need no library;
 *   3. libbarrierd, which checks the file before it is believed, waits, and asks for barriers.
 *
 * It is installed as <barrierd/barrierd.h>, beside the C daemon's <barrierd.h>; with `pkg-config --cflags barrierd`
 * it is <barrierd.h>.
 *
 * The interface of libbarrierd.so.0 only grows. A later version may add functions, codes, flags, and words of the
 * file that are 0 today; it takes nothing away, and no name, number, structure or parameter changes its meaning.
 * Whatever would break a program that was linked before gets a new number: libbarrierd.so.1, package libbarrierd1.
 * So a program runs with every later library of the same number, if it takes each code below 0 that it does not
 * know for a failure (barrierd_strerror has words for all).
 *
 * C99 or later, C++11 or later; gcc or clang (for the __atomic builtins); 64-bit little-endian Linux.
 * Times are nanoseconds of CLOCK_MONOTONIC in uint64_t. SPDX-License-Identifier: MIT OR Apache-2.0
 */
#ifndef BARRIERD_H
#define BARRIERD_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- 1. The layout ---------------------------------------------------------------------------- */

/* One CPU's times. Unless the daemon was started with --per-cpu they repeat the global ones. */
struct barrierd_per_cpu {
	uint64_t last_interrupt_ns;
	uint64_t last_interrupt_vtime;
};

/*
 * The public file. The daemon changes every field by single 64-bit stores, so load them atomically
 * (barrierd_load). The low half of each time is a futex word, which is woken when the time changes; a
 * futex is a hint, so give every wait a timeout (20 ms here): any reader of the file can move waiters to
 * where nobody wakes them.
 */
#if defined(__clang__) && defined(__cplusplus)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wc99-extensions"
#endif
struct barrierd_mapped_data {
	/* Entries in per_cpu. */
	uint64_t ncpu;
	/* Current virtual time: counts the daemon's rounds. */
	uint64_t vtime;
	/* The barrier has passed for every stamp strictly below this. */
	uint64_t last_interrupt_ns;
	/* The same in virtual time. Sound with this daemon, and unsound with the C daemon. */
	uint64_t last_interrupt_vtime;
	/* Zero in the C daemon's files; in ours what barrierd_word finds at BARRIERD_MAGIC and after. */
	uint64_t padding[12];
	__extension__ struct barrierd_per_cpu per_cpu[/* ncpu */];
};
#if defined(__clang__) && defined(__cplusplus)
#pragma clang diagnostic pop
#endif

/* Offsets in bytes of the words that the C daemon leaves zero. */
enum barrierd_offset {
	/* BARRIERD_MAGIC_VALUE; stored last when a file is made. */
	BARRIERD_MAGIC = 32,
	/* BARRIERD_VERSION_VALUE. */
	BARRIERD_VERSION = 40,
	/* Bits: BARRIERD_FLAG_... */
	BARRIERD_FLAGS = 48,
	/* 16 bytes: the kernel's boot id, in the order of its text form. */
	BARRIERD_BOOT_ID = 56,
	/* Raised by each daemon that takes the file over; never 0. */
	BARRIERD_GENERATION = 72,
	/* CLOCK_MONOTONIC of the daemon's last sign of life. */
	BARRIERD_HEARTBEAT_NS = 80,
	/* A copy of vtime that only a daemon with a sound virtual time writes. */
	BARRIERD_TRUSTED_VTIME = 88,
	/* The same for last_interrupt_vtime. */
	BARRIERD_TRUSTED_LAST_VTIME = 96,
	/* per_cpu begins here. */
	BARRIERD_PER_CPU = 128
};

/* The bytes "barrierd", little-endian. */
#define BARRIERD_MAGIC_VALUE UINT64_C(0x6472656972726162)
#define BARRIERD_VERSION_VALUE UINT64_C(1)
/* The daemon has stopped in good order. */
#define BARRIERD_FLAG_STOPPED UINT64_C(1)
/* The per-CPU entries are each CPU's own times. */
#define BARRIERD_FLAG_PER_CPU_EXACT UINT64_C(2)
/* The daemon has seen nobody wait of late, so barriers are up to 90 ms apart. It notices who sleeps on a futex
 * word at its next publication, and who calls barrierd_wait_passive or barrierd_expedite at once, if he may;
 * who only looks it does not see. */
#define BARRIERD_FLAG_EASY UINT64_C(4)
/* Longest time between two beats of a running daemon, in nanoseconds. */
#define BARRIERD_HEARTBEAT_PERIOD_NS UINT64_C(100000000)
/* Where the daemon keeps its file when no path is given. */
#define BARRIERD_DEFAULT_PATH "/run/barrierd/barrier"

/* ---- 2. Readers without a library ------------------------------------------------------------- */

/*
 * They believe the file. Map it by barrierd_open and barrierd_data, which have looked at whose it is, of
 * which boot, by which clock; or be sure of these yourself: a forged time here is a use after free.
 */

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && UINTPTR_MAX > 0xffffffffu

/*
 * The word at `word`, with Acquire: what every CPU did before the barrier that the word tells of is
 * visible to what follows. x86-64: a plain load. aarch64: ldar. 1 ns.
 */
static inline uint64_t barrierd_load(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/* The word at one of enum barrierd_offset, with Acquire. */
static inline uint64_t barrierd_word(const struct barrierd_mapped_data *data, enum barrierd_offset offset)
{
	return barrierd_load((const uint64_t *)data + (size_t)offset / sizeof(uint64_t));
}

/*
 * Whether the barrier for `stamp` has passed: every CPU has been at a full memory barrier since. One load.
 * Not for the C daemon's files (BARRIERD_MAGIC is 0) before last_interrupt_ns has moved: it may be left
 * over from another boot. barrierd_passed knows that.
 */
static inline int barrierd_data_passed(const struct barrierd_mapped_data *data, uint64_t stamp)
{
	return barrierd_load(&data->last_interrupt_ns) > stamp;
}

/*
 * A stamp in virtual time: one plain load after the change, no fence, no clock. Compare it by
 * barrierd_data_vpassed, with the same mapping, while BARRIERD_GENERATION is the same. In the C daemon's
 * files it is 0 and never passes.
 */
static inline uint64_t barrierd_data_vstamp(const struct barrierd_mapped_data *data)
{
	/* The change stands before the load in the program; it may still be in the store buffer after it. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return __atomic_load_n((const uint64_t *)data + BARRIERD_TRUSTED_VTIME / sizeof(uint64_t),
			       __ATOMIC_RELAXED);
}

/* Whether the barrier for a stamp in virtual time has passed. One load. */
static inline int barrierd_data_vpassed(const struct barrierd_mapped_data *data, uint64_t vstamp)
{
	return barrierd_word(data, BARRIERD_TRUSTED_LAST_VTIME) > vstamp;
}

/*
 * Strict -std=c99 hides the clock unless _POSIX_C_SOURCE is 199309L or more before the first #include.
 * barrierd_stamp of the library is there in any case.
 */
#ifdef CLOCK_MONOTONIC
/*
 * The present moment: makes this thread's stores visible, then reads the clock. Take it after the change
 * that others must see. The fence is what makes it evidence (x86-64: mfence or a locked instruction;
 * aarch64: dmb ish); no coarse clock and no raw counter will do in place of this one. Some 30 ns.
 * While the kernel slews the clock a stamp may be less than an earlier one; each is right.
 */
static inline uint64_t barrierd_stamp_inline(void)
{
	struct timespec now = {0, 0};

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (clock_gettime(CLOCK_MONOTONIC, &now) != 0)
		return UINT64_MAX; /* Never passes. The kernel has no such case. */
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}
#endif

#endif /* 64-bit little-endian */

/* ---- 3. libbarrierd --------------------------------------------------------------------------- */

/*
 * Every function may be called by any thread at any time, on one barrier by many at once, except that
 * barrierd_close must be the last. None starts a thread, prints, aborts or lets a panic out; none but
 * barrierd_open and barrierd_reopen allocates. None is a cancellation point: pthread_cancel ends a thread
 * after the call. A null pointer is BARRIERD_INVALID unless it is said to be allowed; any other pointer
 * must be what the parameter says.
 *
 * Functions that return int: 0 or more is success, below 0 one of enum barrierd_error.
 */

/* A public file, opened, checked and mapped. */
struct barrierd_barrier;

enum barrierd_error {
	BARRIERD_OK = 0,
	/* A null pointer, or a number that means nothing. */
	BARRIERD_INVALID = -1,
	/* A mistake in the library; nothing was done. */
	BARRIERD_INTERNAL = -2,

	/* Of opening. Nothing at this path: start barrierd. */
	BARRIERD_NOT_FOUND = -10,
	/* A symbolic link on the way. */
	BARRIERD_SYMLINK = -11,
	/* Not a regular file. */
	BARRIERD_NOT_REGULAR = -12,
	/* Owned by someone who could forge it, or who has no number here (a rootless container). */
	BARRIERD_BAD_OWNER = -13,
	/* Writable by others. */
	BARRIERD_BAD_MODE = -14,
	/* A directory on the way lets others replace it. */
	BARRIERD_UNSAFE_PARENT = -15,
	/* On a FUSE file system, whose server decides what is read. */
	BARRIERD_FUSE = -16,
	/* Shorter than what it says it holds. */
	BARRIERD_TOO_SHORT = -17,
	/* Not set up yet: try again. */
	BARRIERD_NOT_READY = -18,
	/* Some other program's file. */
	BARRIERD_BAD_MAGIC = -19,
	/* Written by another version of the daemon. */
	BARRIERD_UNKNOWN_VERSION = -20,
	/* No sensible number of CPUs. */
	BARRIERD_BAD_NCPU = -21,
	/* Written during another boot. */
	BARRIERD_FOREIGN_BOOT = -22,
	/* A time in it lies in the future. */
	BARRIERD_FUTURE_TIME = -23,
	/* A field holds what no daemon writes. */
	BARRIERD_DAMAGED = -24,
	/* This process is in a time namespace of its own: its clock may be shifted. */
	BARRIERD_TIME_NAMESPACE = -25,
	/* /proc does not tell the time namespace or the boot. */
	BARRIERD_NO_PROC = -26,
	/* The system refused; barrierd_last_message has its words. */
	BARRIERD_IO = -27,

	/* Of use. The source was caught lying: it is not believed again. Keep what waits, open anew. */
	BARRIERD_DISTRUST = -40,
	/* The time was up first. Keep what waits; barrierd_liveness tells whether to wait again. */
	BARRIERD_TIMED_OUT = -41,

	/* Of requests; the barrier passes all the same, later. No daemon takes any at this file. */
	BARRIERD_EXPEDITE_ABSENT = -50,
	/* This user may not ask. */
	BARRIERD_EXPEDITE_DENIED = -51,
	/* Too many are waiting. */
	BARRIERD_EXPEDITE_BUSY = -52,
	/* The file's path is too long for a socket beside it. */
	BARRIERD_EXPEDITE_LONG_PATH = -53
};

/* What barrierd_liveness answers. */
enum barrierd_liveness_state {
	/* It beat within 250 ms. */
	BARRIERD_ALIVE = 0,
	/* Stopped in good order. */
	BARRIERD_STOPPED = 1,
	/* The beat is old, seen for the first time: look again 50 ms later. */
	BARRIERD_SUSPECT = 2,
	/* The same old beat at two looks: dead or hanging. */
	BARRIERD_STALE = 3
};

/*
 * Opens and maps the file at `path` (null: BARRIERD_DEFAULT_PATH), after every check, and stores it in
 * *barrier; a null pointer there if it fails. Errors: BARRIERD_NOT_FOUND to BARRIERD_IO.
 */
int barrierd_open(const char *path, struct barrierd_barrier **barrier);

/*
 * Opens the path of `barrier` again if it leads elsewhere by now: 1, and *reopened is a second barrier;
 * 0, and a null pointer, if all is as it was. `barrier` stays open. Errors: as barrierd_open.
 */
int barrierd_reopen(const struct barrierd_barrier *barrier, struct barrierd_barrier **reopened);

/* Unmaps and frees. Null is allowed. Nobody may use the barrier, or its barrierd_data, any more. */
void barrierd_close(struct barrierd_barrier *barrier);

/* The mapping, read-only, for the readers above; valid until barrierd_close. Null for null. */
const struct barrierd_mapped_data *barrierd_data(const struct barrierd_barrier *barrier);

/* The present moment, as barrierd_stamp_inline, but by the vDSO whatever LD_PRELOAD replaces. */
uint64_t barrierd_stamp(void);

/*
 * 1 if the barrier for `stamp` has passed, 0 if not. Holds the file to the clock: a few loads and a clock
 * reading. Errors: BARRIERD_DISTRUST.
 */
int barrierd_passed(const struct barrierd_barrier *barrier, uint64_t stamp);

/*
 * Sleeps until the barrier for `stamp` has passed, `timeout_ns` at most, and asks the daemon not to wait
 * for the CPUs' next interrupts: tens of microseconds where it listens. Errors: BARRIERD_TIMED_OUT,
 * BARRIERD_DISTRUST.
 */
int barrierd_wait(const struct barrierd_barrier *barrier, uint64_t stamp, uint64_t timeout_ns);

/* As barrierd_wait, but interrupts nobody: some milliseconds. */
int barrierd_wait_passive(const struct barrierd_barrier *barrier, uint64_t stamp, uint64_t timeout_ns);

/*
 * Asks for the barrier for `stamp` and does not wait: one system call. barrierd_wait does it by itself.
 * Errors: BARRIERD_EXPEDITE_..., BARRIERD_IO.
 */
int barrierd_expedite(const struct barrierd_barrier *barrier, uint64_t stamp);

/* Whether the daemon is at work: one of enum barrierd_liveness_state. Each call is a look. */
int barrierd_liveness(const struct barrierd_barrier *barrier);

/* What an error means: a constant string, never null, for any number. */
const char *barrierd_strerror(int error);

/*
 * What this thread's last failing call found, with path, figures and what to do, cut after 2,047 bytes.
 * Never null; empty if none has failed. Valid until the next failing call of this thread, or its end.
 */
const char *barrierd_last_message(void);

/* The library's version, "0.1.0". */
const char *barrierd_version(void);

#ifdef __cplusplus
}
#endif
#endif /* !BARRIERD_H */
