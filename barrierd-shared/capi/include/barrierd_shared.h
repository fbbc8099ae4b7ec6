/*
 * barrierd-shared: read memory that several processes share, without a lock, a fence or a system call. Writers are Rust
 * programs (the crate barrierd-shared); readers may be C and C++ programs too, by this header.
 *
 * This header owns what C and C++ programs call. It has two parts:
 *
 *   1. libbarrierd-shared, which opens a region, checks it before it is believed, and has the readers' slots;
 *   2. static inline functions: a section's begin and end, and what is done in one.
 *
 *     struct barrierd_shared_region *region;
 *     struct barrierd_shared_reader *reader;
 *     uint64_t limits[4];
 *     int r = barrierd_shared_open("/dev/shm/limits", &region);
 *     if (r == 0) r = barrierd_shared_join(region, &reader);
 *     if (r == 0) r = barrierd_shared_cell_get(reader, 0, limits, sizeof(limits));      (1: there is a value)
 *
 * What is reached in a section is not freed before the section ends. It is not changed either, except links. A participant
 * that breaks the rules can make any value be read; nobody can make these functions read outside the region.
 *
 * It is installed as <barrierd/barrierd_shared.h>; with `pkg-config --cflags barrierd-shared` it is <barrierd_shared.h>.
 *
 * The interface of libbarrierd-shared.so.0 only grows. A later version may add functions and codes; it takes nothing
 * away, and no name, number, structure or parameter changes its meaning. Whatever would break a program that was linked
 * before, another layout of the region among it, gets a new number: libbarrierd-shared.so.1, package libbarrierd-shared1.
 *
 * C99 or later, C++11 or later; gcc or clang (for the __atomic builtins); 64-bit little-endian Linux 4.14 or later.
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#ifndef BARRIERD_SHARED_H
#define BARRIERD_SHARED_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The layout of the region that the functions below read. The library refuses every other one. */
#define BARRIERD_SHARED_LAYOUT UINT64_C(1)
/* Where the roots are, and how many. */
#define BARRIERD_SHARED_ROOTS_AT UINT64_C(4096)
#define BARRIERD_SHARED_ROOTS UINT64_C(256)
/* Where the blocks begin: no link leads to anything before. */
#define BARRIERD_SHARED_BLOCKS UINT64_C(8192)
/* The bit of a slot that says that no section is open. */
#define BARRIERD_SHARED_IDLE UINT64_C(1)
/* The bits of a link that are the structure's own. */
#define BARRIERD_SHARED_TAG UINT64_C(7)

/* ---- 1. libbarrierd-shared -------------------------------------------------------------------- */

/*
 * No function starts a thread, prints, aborts or lets a panic out, and none is a cancellation point: pthread_cancel ends a
 * thread after the call. A null pointer is BARRIERD_SHARED_INVALID unless it is
 * said to be allowed; any other pointer must be what the parameter says.
 *
 * Functions that return int: 0 or more is success, below 0 one of enum barrierd_shared_error.
 */

/* A region, mapped read-only. Any number of threads may use it at once. */
struct barrierd_shared_region;

/*
 * A reader: for one thread at a time, in the process that made it. These members belong to the functions below, and do not
 * change while the reader is there. What follows them is the library's.
 */
struct barrierd_shared_reader {
	const uint64_t *latest;
	uint64_t *slot;
	const uint64_t *process;
	uint64_t number;
	const unsigned char *data;
	uint64_t bytes;
};

enum barrierd_shared_error {
	BARRIERD_SHARED_OK = 0,
	/* A null pointer, or a number that means nothing. */
	BARRIERD_SHARED_INVALID = -1,
	/* A mistake in the library. */
	BARRIERD_SHARED_INTERNAL = -2,
	/* There is no such file. */
	BARRIERD_SHARED_NOT_FOUND = -10,
	/* Another program's file. */
	BARRIERD_SHARED_FOREIGN = -11,
	/* Of another version. */
	BARRIERD_SHARED_VERSION = -12,
	/* A file that was cut. */
	BARRIERD_SHARED_SHORT = -13,
	/* A header that makes no sense. */
	BARRIERD_SHARED_DAMAGED = -14,
	/* Of another boot. */
	BARRIERD_SHARED_OTHER_BOOT = -15,
	/* The slots beside the data are another region's. */
	BARRIERD_SHARED_OTHER_SLOTS = -16,
	/* The system refused. */
	BARRIERD_SHARED_IO = -17,
	/* All slots have living readers. */
	BARRIERD_SHARED_FULL = -30,
	/* This program has closed the region's descriptors. */
	BARRIERD_SHARED_CLOSED = -31,
	/* The reader is that of the process that forked this one. */
	BARRIERD_SHARED_FORKED = -40,
	/* The cell holds a value of another size. */
	BARRIERD_SHARED_OTHER_SIZE = -41
};

/*
 * Opens and maps the region at `path`, its data read-only, and stores it in *region; a null pointer there if it fails.
 * The slots file beside it (PATH.0123456789abcdef) is mapped for writing: only that permission is needed.
 * Errors: BARRIERD_SHARED_NOT_FOUND to BARRIERD_SHARED_IO.
 */
int barrierd_shared_open(const char *path, struct barrierd_shared_region **region);

/* Frees it. Null is allowed. Its readers keep the mapping. */
void barrierd_shared_close(struct barrierd_shared_region *region);

/*
 * Takes a reader's slot, by some ten system calls, and stores the reader in *reader; a null pointer there if it fails.
 * A process that dies, at any instruction, leaves its slots to others. Errors: BARRIERD_SHARED_FULL, _CLOSED, _IO.
 */
int barrierd_shared_join(const struct barrierd_shared_region *region, struct barrierd_shared_reader **reader);

/* Ends its section, if one is open, leaves the slot and frees the reader. Null is allowed. */
void barrierd_shared_leave(struct barrierd_shared_reader *reader);

/* What an error means: a constant string, never null, for any number. */
const char *barrierd_shared_strerror(int error);

/*
 * What this thread's last failing call of the library found, with path and figures, cut after 2,047 bytes. Never null;
 * empty if none has failed. Valid until the next failing call of this thread, or its end.
 */
const char *barrierd_shared_last_message(void);

/* The library's version, "0.1.0". */
const char *barrierd_shared_version(void);

/* ---- 2. Sections, without a library ----------------------------------------------------------- */

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && UINTPTR_MAX > 0xffffffffu

/*
 * Opens a section: what is reached from here on is not freed until barrierd_shared_unpin. A reader has one section at a
 * time; to pin again ends the one before. Three loads and a store; x86-64: no fence and no locked instruction.
 * Below 0: BARRIERD_SHARED_FORKED, and no section is open: this is a child of the process that made the reader, and
 * takes one of its own.
 */
static inline int barrierd_shared_pin(struct barrierd_shared_reader *reader)
{
	uint64_t stamp;

	/* Relaxed: the kernel orders a fork before everything that the child does. */
	if (__atomic_load_n(reader->process, __ATOMIC_RELAXED) != reader->number)
		return BARRIERD_SHARED_FORKED;
	/* Acquire: pairs with the Release store of a writer's stamp (slots.rs, `stamp`); what was unlinked before it is
	 * not found from here on. */
	stamp = __atomic_load_n(reader->latest, __ATOMIC_ACQUIRE);
	/* Release: pairs with the Acquire load of a writer's scan, for which all earlier sections have ended. */
	__atomic_store_n(reader->slot, stamp & ~BARRIERD_SHARED_IDLE, __ATOMIC_RELEASE);
	/* The section's loads stay behind the store in the program. The CPU may still swap them: the daemon's barriers
	 * are for that. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return BARRIERD_SHARED_OK;
}

/* Ends the section. In a child of the process that made the reader it does nothing. */
static inline void barrierd_shared_unpin(struct barrierd_shared_reader *reader)
{
	/* Relaxed, both: a fork, as above; this thread's own slot. */
	if (__atomic_load_n(reader->process, __ATOMIC_RELAXED) != reader->number)
		return;
	/* Release: pairs with the Acquire load of a writer's scan, which finds this section's loads over. */
	__atomic_store_n(reader->slot, __atomic_load_n(reader->slot, __ATOMIC_RELAXED) | BARRIERD_SHARED_IDLE,
			 __ATOMIC_RELEASE);
}

/* The link at `link`, a SharedAtomic of the Rust side: an offset and a tag in the lowest three bits. */
static inline uint64_t barrierd_shared_link(const uint64_t *link)
{
	/* Acquire: pairs with the Release store of the writer that published what it leads to. */
	return __atomic_load_n(link, __ATOMIC_ACQUIRE);
}

/* Root `index`, a link; null if there is no such root. */
static inline const uint64_t *barrierd_shared_root(const struct barrierd_shared_reader *reader, uint64_t index)
{
	if (index >= BARRIERD_SHARED_ROOTS)
		return NULL;
	return (const uint64_t *)(const void *)(reader->data + BARRIERD_SHARED_ROOTS_AT) + index;
}

/*
 * The `bytes` bytes that a link leads to which was read in this section: aligned to 8. Null if it leads to nothing, or
 * not wholly into the region, as only a broken participant makes it. One comparison.
 *
 * Read there by barrierd_shared_word, _link and _copy. To read it as a structure of C is right too as long as all who
 * write to the region keep the rules.
 */
static inline const void *barrierd_shared_follow(const struct barrierd_shared_reader *reader, uint64_t link,
						 size_t bytes)
{
	/* The region has blocks, and whole words: the library has seen to that. */
	const uint64_t blocks = reader->bytes - BARRIERD_SHARED_BLOCKS;
	const uint64_t offset = (link & ~BARRIERD_SHARED_TAG) - BARRIERD_SHARED_BLOCKS;

	/* What leads before the blocks has become a large number. */
	if (bytes > blocks || offset > blocks - bytes)
		return NULL;
	return reader->data + BARRIERD_SHARED_BLOCKS + offset;
}

/* A word of what barrierd_shared_follow has returned, at `index` words from there. */
static inline uint64_t barrierd_shared_word(const void *at, size_t index)
{
	/* Relaxed: the link that led here was Acquire, and the section's end is Release. */
	return __atomic_load_n((const uint64_t *)at + index, __ATOMIC_RELAXED);
}

/* Copies `bytes` bytes of what barrierd_shared_follow has returned, `words` words from there. */
static inline void barrierd_shared_copy(void *to, const void *at, size_t words, size_t bytes)
{
	size_t done;

	for (done = 0; done < bytes; done += sizeof(uint64_t)) {
		const uint64_t word = barrierd_shared_word(at, words + done / sizeof(uint64_t));
		const size_t left = bytes - done;

		memcpy((unsigned char *)to + done, &word, left < sizeof(word) ? left : sizeof(word));
	}
}

/*
 * Copies the value of the SharedCell at root `root`, in a section that is open: 1; 0 if there is none. Errors:
 * BARRIERD_SHARED_OTHER_SIZE if it isn't `bytes` bytes long, BARRIERD_SHARED_INVALID if there is no such root.
 */
static inline int barrierd_shared_cell(const struct barrierd_shared_reader *reader, uint64_t root, void *value,
				       size_t bytes)
{
	const uint64_t *at = barrierd_shared_root(reader, root);
	const void *stored;
	uint64_t link;

	if (at == NULL)
		return BARRIERD_SHARED_INVALID;
	link = barrierd_shared_link(at);
	/* Its size stands before it. */
	stored = barrierd_shared_follow(reader, link, sizeof(uint64_t));
	if (stored == NULL)
		return 0;
	if (barrierd_shared_word(stored, 0) != bytes)
		return BARRIERD_SHARED_OTHER_SIZE;
	if (barrierd_shared_follow(reader, link, sizeof(uint64_t) + bytes) == NULL)
		return 0;
	barrierd_shared_copy(value, stored, 1, bytes);
	return 1;
}

/* The same in a section of its own; no other may be open. Errors: BARRIERD_SHARED_FORKED as well. */
static inline int barrierd_shared_cell_get(struct barrierd_shared_reader *reader, uint64_t root, void *value,
					   size_t bytes)
{
	int found = barrierd_shared_pin(reader);

	if (found < 0)
		return found;
	found = barrierd_shared_cell(reader, root, value, bytes);
	barrierd_shared_unpin(reader);
	return found;
}

#endif /* 64-bit little-endian */

#ifdef __cplusplus
}
#endif
#endif /* !BARRIERD_SHARED_H */
