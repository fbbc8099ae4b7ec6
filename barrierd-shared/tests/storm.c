/*
 * A reader of the storm, in C: reads each node, and each of the map's values that it has found, twice, as the Rust readers read
 * nodes, until it is killed. It ends with 1 if one is not whole or has become another.
 *
 *   storm REGION lazy | busy
 */
#define _POSIX_C_SOURCE 200809L
#include <barrierd_shared.h>

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROOTS 8
#define WORDS 12
#define DEPTH 4

/* As the Rust side has it; read by words alone. */
enum { KEY, NEXT, CONTENT, NODE = CONTENT + WORDS };

/* The map behind the roots: a value is a number, the key, and a word that follows from both. */
#define KEYS 400
enum { NUMBER, OF_KEY, CHECK, VALUE };

static struct barrierd_shared_map map;
static uint64_t state;

static uint64_t below(uint64_t most)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % most;
}

static void rest(long ns)
{
	struct timespec pause;

	pause.tv_sec = 0;
	pause.tv_nsec = ns;
	nanosleep(&pause, NULL);
}

static uint64_t now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec;
}

/* The key of a whole node; 0 if it isn't. */
static uint64_t one_of(const void *node)
{
	uint64_t content[WORDS], key = barrierd_shared_word(node, KEY), at;

	barrierd_shared_copy(content, node, CONTENT, sizeof(content));
	for (at = 0; at < WORDS; at++)
		if (content[at] != (key ^ at) * UINT64_C(0x9e3779b97f4a7c15))
			return 0;
	return key;
}

static int broken(const char *what, const struct barrierd_shared_reader *reader, const void *node)
{
	fprintf(stderr, "C reader: the node at %#lx %s\n",
		(unsigned long)((const unsigned char *)node - reader->data), what);
	return 1;
}

static int is_value(const void *at, uint64_t key)
{
	const uint64_t number = barrierd_shared_word(at, NUMBER);

	return barrierd_shared_word(at, OF_KEY) == key &&
	       barrierd_shared_word(at, CHECK) == (key ^ number) * UINT64_C(0x9e3779b97f4a7c15);
}

/* All entries, now and then. */
static int walk(struct barrierd_shared_reader *reader)
{
	struct barrierd_shared_walk *entries;
	const void *key, *value;
	int r = barrierd_shared_map_begin(reader, &map, &entries);

	while (r >= 0 && (r = barrierd_shared_map_next(entries, &key, &value)) == 1)
		if (barrierd_shared_word(key, 0) >= KEYS || !is_value(value, barrierd_shared_word(key, 0)))
			return broken("is no entry of its key", reader, value);
	barrierd_shared_map_end(entries);
	return r < 0 ? broken(barrierd_shared_last_message(), reader, reader->data) : 0;
}

static int section(struct barrierd_shared_reader *reader)
{
	const void *nodes[DEPTH], *values[DEPTH];
	uint64_t keys[DEPTH], sought[DEPTH], numbers[DEPTH], i, spins, link;
	size_t count, at;
	int found;

	if (barrierd_shared_pin(reader) < 0)
		return broken("is another process's", reader, reader->data);
	for (at = 0; at < DEPTH; at++) {
		sought[at] = below(KEYS);
		found = barrierd_shared_map_find(reader, &map, &sought[at], &values[at]);
		if (found < 0)
			return broken(barrierd_shared_last_message(), reader, reader->data);
		if (found == 1 && !is_value(values[at], sought[at]))
			return broken("is not its key's value", reader, values[at]);
		numbers[at] = found == 1 ? barrierd_shared_word(values[at], NUMBER) : 0;
	}
	if (below(100) == 0 && walk(reader) != 0)
		return 1;
	link = barrierd_shared_link(barrierd_shared_root(reader, below(ROOTS)));
	for (count = 0; count < DEPTH; count++) {
		nodes[count] = barrierd_shared_follow(reader, link, NODE * sizeof(uint64_t));
		if (nodes[count] == NULL)
			break;
		keys[count] = one_of(nodes[count]);
		if (keys[count] == 0)
			return broken("is not whole", reader, nodes[count]);
		link = barrierd_shared_link((const uint64_t *)nodes[count] + NEXT);
	}
	spins = below(3000);
	for (i = 0; i < spins; i++)
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (below(2000) == 0)
		rest(3000000);
	for (at = 0; at < count; at++)
		if (one_of(nodes[at]) != keys[at])
			return broken("has become another", reader, nodes[at]);
	/* Freed blocks go to new nodes and entries. */
	for (at = 0; at < DEPTH; at++)
		if (values[at] != NULL && (!is_value(values[at], sought[at]) ||
					   barrierd_shared_word(values[at], NUMBER) != numbers[at]))
			return broken("is a value that has become another", reader, values[at]);
	barrierd_shared_unpin(reader);
	return 0;
}

int main(int argc, char **argv)
{
	struct barrierd_shared_region *region;
	struct barrierd_shared_reader *reader;
	const int lazy = argc > 2 && strcmp(argv[2], "lazy") == 0;
	const uint64_t begun = now_s();
	uint64_t round;
	int r;

	if (argc < 2 || barrierd_shared_open(argv[1], &region) < 0) {
		fprintf(stderr, "C reader: %s\n", barrierd_shared_last_message());
		return 1;
	}
	/* The slots of the dead take the kernel a moment. */
	while ((r = barrierd_shared_join(region, &reader)) < 0) {
		if (r != BARRIERD_SHARED_FULL || now_s() > begun + 60) {
			fprintf(stderr, "C reader: %s\n", barrierd_shared_last_message());
			return 1;
		}
		rest(1000000);
	}
	if (barrierd_shared_map_at(&map, ROOTS, sizeof(uint64_t), VALUE * sizeof(uint64_t), NULL) != BARRIERD_SHARED_OK)
		return 1;
	state = ((uint64_t)getpid() * UINT64_C(0x9e3779b97f4a7c15)) | 1;
	/* No longer than the storm, if nobody kills it. */
	for (round = 0; round % 1024 != 0 || now_s() < begun + 600; round++) {
		if (section(reader) != 0)
			return 1;
		if (lazy)
			rest(5000000);
	}
	return 0;
}
