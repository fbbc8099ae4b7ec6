/*
 * barrierd-shared: memory that several processes share, read without a lock, a fence or a system call, and changed without
 * ever waiting for the dead. The other processes are C and C++ programs, by this header, or Rust programs (the crate
 * barrierd-shared).
 *
 * This header owns what C and C++ programs call. It has two parts:
 *
 *   1. libbarrierd-shared, which opens a region, checks it before it is believed, has the readers' slots, looks keys up, and
 *      writes;
 *   2. static inline functions: a section's begin and end, and what is done in one.
 *
 *     struct barrierd_shared_region *region;
 *     struct barrierd_shared_reader *reader;
 *     struct barrierd_shared_map routes;                     (Rust: SharedMap::<u64, [u8; 4]>::at(0))
 *     uint64_t port = 7;
 *     unsigned char address[4];
 *     int r = barrierd_shared_open("/dev/shm/routes", &region);
 *     if (r == 0) r = barrierd_shared_join(region, &reader);
 *     if (r == 0) r = barrierd_shared_map_at(&routes, 0, sizeof(port), sizeof(address), NULL);
 *     if (r == 0) r = barrierd_shared_map_get(reader, &routes, &port, address);         (1: there is an entry)
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
/* Where each of a region's descriptors stands in what barrierd_shared_descriptors stores. */
#define BARRIERD_SHARED_DATA 0
#define BARRIERD_SHARED_SLOTS 1
#define BARRIERD_SHARED_WRITERS 2

/* ---- 1. libbarrierd-shared -------------------------------------------------------------------- */

/*
 * No function starts a thread, prints, aborts or lets a panic out, and none is a cancellation point: pthread_cancel ends a
 * thread after the call. A null pointer is BARRIERD_SHARED_INVALID unless it is
 * said to be allowed; any other pointer must be what the parameter says.
 *
 * Functions that return int: 0 or more is success, below 0 one of enum barrierd_shared_error.
 */

/* A region, mapped. Any number of threads may use it at once. */
struct barrierd_shared_region;

/* A writer: for one thread at a time, in the process that made it. */
struct barrierd_shared_writer;

/* A walk over a map's entries. */
struct barrierd_shared_walk;

/* What a program takes a map for: see barrierd_shared_map_at, which fills it in. It may be copied. */
struct barrierd_shared_map {
	uint64_t root;
	uint64_t key_bytes;
	uint64_t value_bytes;
	uint64_t schema;
};

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
	/* Of another boot, or made on the other side of a container's border, where the boot id is another. */
	BARRIERD_SHARED_OTHER_BOOT = -15,
	/* The slots beside the data are another region's. */
	BARRIERD_SHARED_OTHER_SLOTS = -16,
	/* The system refused. */
	BARRIERD_SHARED_IO = -17,
	/* There is something at the path. */
	BARRIERD_SHARED_EXISTS = -18,
	/* The region is a user's who was not named. */
	BARRIERD_SHARED_BAD_OWNER = -19,
	/* All slots have living readers. */
	BARRIERD_SHARED_FULL = -30,
	/* This program has closed the region's descriptors. */
	BARRIERD_SHARED_CLOSED = -31,
	/* The reader is that of the process that forked this one. */
	BARRIERD_SHARED_FORKED = -40,
	/* The cell holds a value of another size. */
	BARRIERD_SHARED_OTHER_SIZE = -41,
	/* No map, or one of other sizes or of another schema. */
	BARRIERD_SHARED_OTHER_TYPE = -42,
	/* A participant has broken the content. */
	BARRIERD_SHARED_CORRUPT = -43,
	/* Opened for readers alone. */
	BARRIERD_SHARED_READ_ONLY = -50,
	/* Other writers keep the turn, and who has it lives. */
	BARRIERD_SHARED_BUSY = -51,
	/* No block is free. */
	BARRIERD_SHARED_NO_MEMORY = -52,
	/* No block can be so large. */
	BARRIERD_SHARED_TOO_LARGE = -53,
	/* The time is up. */
	BARRIERD_SHARED_TIMED_OUT = -54
};

/*
 * Opens and maps the region at `path`, its data read-only, and stores it in *region; a null pointer there if it fails.
 * The slots file beside it (PATH.0123456789abcdef) is mapped for writing: only that permission is needed.
 * Both must belong to root or to the effective user, and not to 65534, who stands for anybody: in /dev/shm anybody can make a file
 * first. Errors: BARRIERD_SHARED_NOT_FOUND to BARRIERD_SHARED_IO; _BAD_OWNER.
 */
int barrierd_shared_open(const char *path, struct barrierd_shared_region **region);

/*
 * As barrierd_shared_open, where the files may belong to user `owner` (a uid_t), too, whom the program trusts with its life:
 * whoever owns a file may cut it, which ends all who have it mapped by SIGBUS. So a member of a region's group opens it.
 */
int barrierd_shared_open_of(const char *path, uint32_t owner, struct barrierd_shared_region **region);

/*
 * Opens the region of these descriptors, as barrierd_shared_descriptors has them in another process: inherited, or sent over a
 * socket. With `writers` -1 it is for readers, and `data` need not be writable. They stay the caller's, who may close
 * them. Any owner is believed: take descriptors from whom you trust. Errors: BARRIERD_SHARED_FOREIGN to BARRIERD_SHARED_IO.
 */
int barrierd_shared_open_descriptors(int data, int slots, int writers, struct barrierd_shared_region **region);

/* Frees it. Null is allowed. Its readers and writers keep the mapping. */
void barrierd_shared_close(struct barrierd_shared_region *region);

/*
 * Takes a reader's slot, by some ten system calls, and stores the reader in *reader; a null pointer there if it fails.
 * A process that dies, at any instruction, leaves its slots to others. Errors: BARRIERD_SHARED_FULL, _CLOSED, _IO.
 */
int barrierd_shared_join(const struct barrierd_shared_region *region, struct barrierd_shared_reader **reader);

/* Ends its section, if one is open, leaves the slot and frees the reader. Null is allowed. */
void barrierd_shared_leave(struct barrierd_shared_reader *reader);

/*
 * Says what a program takes the map at root `root` for: a hash map (SharedMap<K, V> of the Rust side) whose keys and values
 * have these sizes, each below 1 MiB. It looks at no region; the calls below do, and answer BARRIERD_SHARED_OTHER_TYPE if the
 * map there was made with other sizes or another schema, with both in the message.
 *
 * Keys and values are bytes, whatever their types: integers, arrays, structures of them. Two keys are the same if all their bytes
 * are, so a structure as a key must have no padding (or it is cleared first). Their alignment plays no part. Rust's
 * u64 is uint64_t, [u8; 4] is unsigned char[4], f64 is double.
 *
 * What a call is given may lie in the region that its reader or writer is of: a key that a walk has come to, say. What lies in
 * another region, or in this one as another barrierd_shared_open has mapped it, is copied first (barrierd_shared_copy).
 *
 * Sizes don't tell a uint64_t from a double. Where that matters all programs state a schema, any string: a NULL or an empty one is
 * none (Rust: SharedMap::at(0).schema("port -> address, v2")). Errors: BARRIERD_SHARED_INVALID.
 */
int barrierd_shared_map_at(struct barrierd_shared_map *map, uint64_t root, size_t key_bytes, size_t value_bytes,
			   const char *schema);

/*
 * Finds a key, in a section that is open (barrierd_shared_pin): 1, and where its value is in *value, aligned to 8, which is
 * good until the section ends; 0 and NULL if there is none. It is read by barrierd_shared_copy or barrierd_shared_word; to
 * read it as a structure of C is right too as long as all who write to the region keep the rules.
 * Errors: BARRIERD_SHARED_OTHER_TYPE, _FORKED; _INVALID, also if no section is open.
 */
int barrierd_shared_map_find(const struct barrierd_shared_reader *reader, const struct barrierd_shared_map *map,
			     const void *key, const void **value);

/* Stores the number of entries, in a section that is open. Errors: as for barrierd_shared_map_find. */
int barrierd_shared_map_len(const struct barrierd_shared_reader *reader, const struct barrierd_shared_map *map,
			    uint64_t *len);

/*
 * Begins a walk over the entries, in no order, in a section that is open; a null pointer in *walk if it fails. An entry that is there
 * all the time comes once; one that is inserted, replaced or removed meanwhile comes as it was or as it is, or not.
 * It ends before its section does, and is the reader's thread's. Errors: as for barrierd_shared_map_find.
 */
int barrierd_shared_map_begin(const struct barrierd_shared_reader *reader, const struct barrierd_shared_map *map,
			      struct barrierd_shared_walk **walk);

/*
 * 1, and where the next entry's key and value are, as barrierd_shared_map_find has it (either may be NULL, for who doesn't
 * want it); 0 after the last one. Errors: BARRIERD_SHARED_CORRUPT; _INVALID, also if the section is seen to have ended; _FORKED.
 */
int barrierd_shared_map_next(struct barrierd_shared_walk *walk, const void **key, const void **value);

/* Frees it. Null is allowed. */
void barrierd_shared_map_end(struct barrierd_shared_walk *walk);

/*
 * Writing. A region is made and opened by other functions for that, and a writer's calls change it one at a time, each wholly or
 * not at all, wherever the process is killed. They look nothing up in a section: a thread may have a reader as well.
 */

/*
 * Makes a region of `bytes` bytes at `path`, where there must be nothing, for so many readers and writers at once (0: 64 and 8),
 * and opens it for writing. A null `path` makes one in memory, which lasts as long as somebody has it: others get it by
 * barrierd_shared_descriptors. Errors: BARRIERD_SHARED_EXISTS, _IO, _INVALID (a number that can't be).
 */
int barrierd_shared_create(const char *path, uint64_t bytes, uint64_t readers, uint64_t writers,
			   struct barrierd_shared_region **region);

/* As barrierd_shared_open, for readers and writers. */
int barrierd_shared_open_writable(const char *path, struct barrierd_shared_region **region);

/* As barrierd_shared_open_of, for readers and writers. */
int barrierd_shared_open_writable_of(const char *path, uint32_t owner, struct barrierd_shared_region **region);

/*
 * Stores the region's three descriptors, which it keeps and closes itself: the data's, the slots', the writers' file's (-1 if
 * the region was opened for readers). A child inherits them across exec once their FD_CLOEXEC is cleared. Who has
 * that of the data may write to it, if the region was opened for writing: hand barrierd_shared_data_for_reading to those
 * who are to read, and the slots'.
 */
int barrierd_shared_descriptors(const struct barrierd_shared_region *region, int descriptors[3]);

/* Returns another descriptor of the data, by which nobody can write, for the caller to close. Errors: BARRIERD_SHARED_IO. */
int barrierd_shared_data_for_reading(const struct barrierd_shared_region *region);

/*
 * Takes a writer's slot, and stores the writer in *writer; a null pointer there if it fails. Barriers come from the daemon at
 * its usual place, or else from membarrier's global command. Errors: BARRIERD_SHARED_READ_ONLY, _FULL, _CLOSED, _IO, and what the
 * calls below have.
 */
int barrierd_shared_join_writer(const struct barrierd_shared_region *region, struct barrierd_shared_writer **writer);

/* Leaves the slot and frees the writer. Null is allowed. */
void barrierd_shared_leave_writer(struct barrierd_shared_writer *writer);

/*
 * Inserts an entry, or replaces its value: 1 if there was one, 0 if not. The first insertion makes the map. Errors:
 * BARRIERD_SHARED_NO_MEMORY, with what others wait for in the message (barrierd_shared_synchronize, then try again),
 * _OTHER_TYPE, _BUSY, _CORRUPT, _TOO_LARGE, _FORKED.
 */
int barrierd_shared_map_insert(struct barrierd_shared_writer *writer, const struct barrierd_shared_map *map,
			       const void *key, const void *value);

/* Removes an entry: 1 if there was one, 0 if not. Errors: as for barrierd_shared_map_insert. */
int barrierd_shared_map_remove(struct barrierd_shared_writer *writer, const struct barrierd_shared_map *map,
			       const void *key);

/* Removes all entries, at once for all readers. Errors: as for barrierd_shared_map_insert. */
int barrierd_shared_map_clear(struct barrierd_shared_writer *writer, const struct barrierd_shared_map *map);

/*
 * Replaces the value of the cell at root `root` (SharedCell<T> of the Rust side). The participants agree on what each root
 * is: this takes the place of whatever was there. Errors: as for barrierd_shared_map_insert.
 */
int barrierd_shared_cell_set(struct barrierd_shared_writer *writer, uint64_t root, const void *value, size_t bytes);

/*
 * Frees what nobody reads any more, without a wait, in turns of 4096 blocks each, between which other writers have theirs. Returns the
 * number of blocks. Errors: _BUSY, _CORRUPT, _FORKED.
 */
int barrierd_shared_flush(struct barrierd_shared_writer *writer);

/*
 * Frees all that any writer had replaced or removed before this call, and waits for readers and barriers, for `timeout_ns`
 * nanoseconds at most. Errors: BARRIERD_SHARED_TIMED_OUT, with what is in the way; _BUSY, _CORRUPT, _FORKED.
 */
int barrierd_shared_synchronize(struct barrierd_shared_writer *writer, uint64_t timeout_ns);

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
 *
 * Each way out unpins: a `return`, `goto` or longjmp between the two leaves the section open, with nothing said, and what any
 * writer removes from then on stays until this reader pins again or leaves. C++, where an exception is such a way: see
 * barrierd_shared_section below.
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

/*
 * Copies a key's value, in a section of its own; no other may be open: 1; 0 if there is none. Errors: as for
 * barrierd_shared_map_find.
 */
static inline int barrierd_shared_map_get(struct barrierd_shared_reader *reader, const struct barrierd_shared_map *map,
					  const void *key, void *value)
{
	const void *at;
	int found = barrierd_shared_pin(reader);

	if (found < 0)
		return found;
	found = barrierd_shared_map_find(reader, map, key, &at);
	if (found == 1)
		barrierd_shared_copy(value, at, 0, (size_t)map->value_bytes);
	barrierd_shared_unpin(reader);
	return found;
}

#ifdef __cplusplus

/*
 * A section that ends with its scope, also by an exception or a `return`. While it is there its reader is not pinned by another
 * way, and does not leave.
 *
 *     barrierd_shared_section section(reader);
 *     if (section.error() == 0 && barrierd_shared_map_find(reader, &routes, &port, &value) == 1)
 */
class barrierd_shared_section {
public:
	explicit barrierd_shared_section(struct barrierd_shared_reader *reader) noexcept
		: reader_(reader), error_(barrierd_shared_pin(reader))
	{
	}

	~barrierd_shared_section()
	{
		if (error_ == 0)
			barrierd_shared_unpin(reader_);
	}

	barrierd_shared_section(const barrierd_shared_section &) = delete;
	barrierd_shared_section &operator=(const barrierd_shared_section &) = delete;

	/* 0, or BARRIERD_SHARED_FORKED: then no section is open. */
	int error() const noexcept
	{
		return error_;
	}

private:
	struct barrierd_shared_reader *reader_;
	int error_;
};

#endif
#endif /* 64-bit little-endian */

#ifdef __cplusplus
}
#endif
#endif /* !BARRIERD_SHARED_H */
