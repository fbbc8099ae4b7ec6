/*
 * Maps, seen from C and C++: what map.rs has written, what it refuses, and what it then reads.
 *
 *   map read PATH | refuse PATH | write PATH | hostile PATH | memory
 */
#include "program.h"

#include <fcntl.h>

#define ENTRIES 2000

static struct barrierd_shared_map map_at(uint64_t root, size_t key, size_t value, const char *schema)
{
	struct barrierd_shared_map map;

	CHECK(barrierd_shared_map_at(&map, root, key, value, schema) == BARRIERD_SHARED_OK);
	return map;
}

/* A child knows itself by a page that the kernel wipes (MADV_WIPEONFORK), which qemu's user emulator leaves as it is. */
static int children_know(void)
{
	return getenv("BARRIERD_TEST_EMULATOR") == NULL;
}

/* Root 0: u64 -> [u8; 4], key * 3 for 0 to 1999. Root 1: [u8; 13] -> [u16; 5], one. Root 2: the same as 0, by a schema. Root 3: the
 * set of the bytes 1 2 3. Root 4: a cell. Root 5: nothing. */
static void read_it(const char *path)
{
	struct barrierd_shared_reader *reader = join(path);
	struct barrierd_shared_map map = map_at(0, 8, 4, NULL), odd = map_at(1, 13, 10, ""), set = map_at(3, 3, 0, NULL);
	struct barrierd_shared_map named = map_at(2, 8, 4, "port -> address"), none = map_at(5, 8, 4, NULL);
	struct barrierd_shared_walk *walk;
	static unsigned char seen[ENTRIES];
	unsigned char bytes[13], at;
	uint64_t key, len;
	uint32_t value;
	uint16_t values[5];
	const void *found, *there;
	int r;

	for (key = 0; key < 2 * ENTRIES; key++) {
		value = 77;
		r = barrierd_shared_map_get(reader, &map, &key, &value);
		CHECK(r == (key < ENTRIES) && value == (r ? key * 3 : 77));
	}
	for (at = 0; at < 13; at++)
		bytes[at] = (unsigned char)(at + 1);
	CHECK(barrierd_shared_map_get(reader, &odd, bytes, values) == 1);
	for (at = 0; at < 5; at++)
		CHECK(values[at] == at * 1000);
	bytes[12] = 0;
	CHECK(barrierd_shared_map_get(reader, &odd, bytes, values) == 0);
	CHECK(barrierd_shared_map_get(reader, &set, bytes, NULL) == 1);
	key = 7;
	CHECK(barrierd_shared_map_get(reader, &named, &key, &value) == 1 && value == 21);
	CHECK(barrierd_shared_map_get(reader, &none, &key, &value) == 0);

	CHECK(barrierd_shared_pin(reader) == BARRIERD_SHARED_OK);
	CHECK(barrierd_shared_map_len(reader, &map, &len) == BARRIERD_SHARED_OK && len == ENTRIES);
	CHECK(barrierd_shared_map_begin(reader, &map, &walk) == BARRIERD_SHARED_OK);
	for (len = 0; (r = barrierd_shared_map_next(walk, &found, &there)) == 1; len++) {
		CHECK((uintptr_t)found % 8 == 0 && (uintptr_t)there % 8 == 0);
		key = barrierd_shared_word(found, 0);
		barrierd_shared_copy(&value, there, 0, sizeof(value));
		CHECK(key < ENTRIES && seen[key]++ == 0 && value == key * 3);
		CHECK(barrierd_shared_map_find(reader, &map, found, &found) == 1 && found == there);
	}
	CHECK(r == 0 && found == NULL && there == NULL && len == ENTRIES);
	barrierd_shared_map_end(walk);
	/* Keys that lie in the region: 13 bytes, and parts of them. */
	CHECK(barrierd_shared_map_begin(reader, &odd, &walk) == BARRIERD_SHARED_OK);
	CHECK(barrierd_shared_map_next(walk, &found, NULL) == 1);
	CHECK(barrierd_shared_map_find(reader, &odd, found, &there) == 1);
	CHECK(barrierd_shared_map_find(reader, &set, found, &there) == 1);
	CHECK(barrierd_shared_map_find(reader, &set, (const unsigned char *)found + 1, &there) == 0);
	barrierd_shared_map_end(walk);
	CHECK(barrierd_shared_map_begin(reader, &none, &walk) == BARRIERD_SHARED_OK);
	CHECK(barrierd_shared_map_next(walk, NULL, NULL) == 0);
	barrierd_shared_map_end(walk);
	barrierd_shared_unpin(reader);
	barrierd_shared_leave(reader);
}

static void refused(int r, int code)
{
	CHECK(r == code);
	printf("%s\n", barrierd_shared_last_message());
}

static void refuse(const char *path)
{
	struct barrierd_shared_reader *reader = join(path);
	struct barrierd_shared_map map = map_at(0, 8, 4, NULL), wrong;
	struct barrierd_shared_walk *walk;
	const uint64_t key = 7;
	uint64_t value[2], len;
	const void *at = reader;
	int status;
	pid_t child = -1;

	CHECK(barrierd_shared_map_at(NULL, 0, 8, 8, NULL) == BARRIERD_SHARED_INVALID);
	CHECK(barrierd_shared_map_at(&wrong, BARRIERD_SHARED_ROOTS, 8, 8, NULL) == BARRIERD_SHARED_INVALID);
	CHECK(barrierd_shared_map_get(reader, &wrong, &key, value) == BARRIERD_SHARED_INVALID);
	CHECK(barrierd_shared_map_at(&wrong, 0, SIZE_MAX, 8, NULL) == BARRIERD_SHARED_INVALID);
	CHECK(barrierd_shared_map_at(&wrong, 0, 8, 1 << 20, NULL) == BARRIERD_SHARED_INVALID);
	CHECK(barrierd_shared_map_get(reader, &wrong, &key, value) == BARRIERD_SHARED_INVALID);
	memset(&wrong, 0xff, sizeof(wrong));
	CHECK(barrierd_shared_map_get(reader, &wrong, &key, value) == BARRIERD_SHARED_INVALID);
	CHECK(barrierd_shared_map_get(reader, NULL, &key, value) == BARRIERD_SHARED_INVALID);
	CHECK(barrierd_shared_map_get(reader, &map, NULL, value) == BARRIERD_SHARED_INVALID);
	CHECK(barrierd_shared_map_find(NULL, &map, &key, &at) == BARRIERD_SHARED_INVALID && at == NULL);

	refused(barrierd_shared_map_find(reader, &map, &key, &at), BARRIERD_SHARED_INVALID);
	wrong = map_at(0, 8, 8, NULL);
	refused(barrierd_shared_map_get(reader, &wrong, &key, value), BARRIERD_SHARED_OTHER_TYPE);
	wrong = map_at(0, 8, 4, "port -> address");
	refused(barrierd_shared_map_get(reader, &wrong, &key, value), BARRIERD_SHARED_OTHER_TYPE);
	wrong = map_at(2, 8, 4, NULL);
	refused(barrierd_shared_map_get(reader, &wrong, &key, value), BARRIERD_SHARED_OTHER_TYPE);
	wrong = map_at(2, 8, 4, "port -> name");
	refused(barrierd_shared_map_get(reader, &wrong, &key, value), BARRIERD_SHARED_OTHER_TYPE);
	wrong = map_at(4, 8, 4, NULL);
	refused(barrierd_shared_map_get(reader, &wrong, &key, value), BARRIERD_SHARED_OTHER_TYPE);

	CHECK(barrierd_shared_pin(reader) == BARRIERD_SHARED_OK);
	CHECK(barrierd_shared_map_find(reader, &map, &key, NULL) == BARRIERD_SHARED_INVALID);
	CHECK(barrierd_shared_map_len(reader, &map, NULL) == BARRIERD_SHARED_INVALID);
	CHECK(barrierd_shared_map_len(reader, &wrong, &len) == BARRIERD_SHARED_OTHER_TYPE && len == 0);
	CHECK(barrierd_shared_map_begin(reader, &wrong, &walk) == BARRIERD_SHARED_OTHER_TYPE && walk == NULL);
	CHECK(barrierd_shared_map_begin(reader, &map, NULL) == BARRIERD_SHARED_INVALID);
	CHECK(barrierd_shared_map_next(NULL, NULL, NULL) == BARRIERD_SHARED_INVALID);
	barrierd_shared_map_end(NULL);
	CHECK(barrierd_shared_map_begin(reader, &map, &walk) == BARRIERD_SHARED_OK);
	if (children_know() && (child = fork()) == 0) {
		CHECK(barrierd_shared_map_find(reader, &map, &key, &at) == BARRIERD_SHARED_FORKED);
		CHECK(barrierd_shared_map_next(walk, &at, &at) == BARRIERD_SHARED_FORKED && at == NULL);
		_exit(0);
	}
	CHECK(child < 0 ||
	      (waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0));
	CHECK(barrierd_shared_map_next(walk, &at, NULL) == 1 && at != NULL);
	barrierd_shared_unpin(reader);
	refused(barrierd_shared_map_next(walk, &at, NULL), BARRIERD_SHARED_INVALID);
	barrierd_shared_map_end(walk);
	barrierd_shared_leave(reader);
}

/* On an empty region: root 0: u64 -> [u8; 4]; root 1: a cell; root 2: refused; root 3: a map without entries. */
static void write_it(const char *path)
{
	struct barrierd_shared_region *region;
	struct barrierd_shared_reader *reader;
	struct barrierd_shared_writer *writer;
	struct barrierd_shared_map map = map_at(0, 8, 4, "of C"), other = map_at(0, 8, 4, NULL);
	struct barrierd_shared_map cleared = map_at(3, 8, 8, NULL);
	struct barrierd_shared_walk *walk;
	unsigned char bytes[13];
	uint64_t key;
	uint32_t value;
	int status;
	pid_t child = -1;

	CHECK(barrierd_shared_open(path, &region) == BARRIERD_SHARED_OK);
	CHECK(barrierd_shared_join_writer(region, &writer) == BARRIERD_SHARED_READ_ONLY && writer == NULL);
	barrierd_shared_close(region);
	CHECK(barrierd_shared_create(path, 1 << 16, 0, 0, &region) == BARRIERD_SHARED_EXISTS && region == NULL);
	CHECK(barrierd_shared_create("/nowhere/at/all", 7, 0, 0, &region) == BARRIERD_SHARED_INVALID);
	CHECK(barrierd_shared_open_writable(path, &region) == BARRIERD_SHARED_OK);
	CHECK(barrierd_shared_join_writer(NULL, &writer) == BARRIERD_SHARED_INVALID);
	CHECK(barrierd_shared_join_writer(region, &writer) == BARRIERD_SHARED_OK);
	CHECK(barrierd_shared_join(region, &reader) == BARRIERD_SHARED_OK);
	barrierd_shared_close(region);

	key = 1;
	CHECK(barrierd_shared_map_remove(writer, &map, &key) == 0);
	for (key = 0; key < ENTRIES; key++) {
		value = (uint32_t)key;
		CHECK(barrierd_shared_map_insert(writer, &map, &key, &value) == 0);
		value = (uint32_t)key * 3;
		CHECK(barrierd_shared_map_insert(writer, &map, &key, &value) == 1);
		CHECK(barrierd_shared_map_get(reader, &map, &key, &value) == 1 && value == key * 3);
	}
	for (key = 1; key < ENTRIES; key += 2) {
		CHECK(barrierd_shared_map_remove(writer, &map, &key) == 1);
		CHECK(barrierd_shared_map_remove(writer, &map, &key) == 0);
	}
	CHECK(barrierd_shared_map_insert(writer, &other, &key, &value) == BARRIERD_SHARED_OTHER_TYPE);
	CHECK(barrierd_shared_map_insert(NULL, &map, &key, &value) == BARRIERD_SHARED_INVALID);
	CHECK(barrierd_shared_map_insert(writer, NULL, &key, &value) == BARRIERD_SHARED_INVALID);
	CHECK(barrierd_shared_map_insert(writer, &map, &key, NULL) == BARRIERD_SHARED_INVALID);
	memset(bytes, 5, sizeof(bytes));
	CHECK(barrierd_shared_cell_set(writer, 1, bytes, sizeof(bytes)) == BARRIERD_SHARED_OK);
	CHECK(barrierd_shared_cell_set(writer, 256, bytes, sizeof(bytes)) == BARRIERD_SHARED_INVALID);
	CHECK(barrierd_shared_cell_set(writer, 2, NULL, 1) == BARRIERD_SHARED_INVALID);
	/* A map that is cleared under a walk is no broken one. */
	CHECK(barrierd_shared_map_insert(writer, &cleared, &key, &key) == 0);
	CHECK(barrierd_shared_pin(reader) == BARRIERD_SHARED_OK);
	CHECK(barrierd_shared_map_begin(reader, &cleared, &walk) == BARRIERD_SHARED_OK);
	CHECK(barrierd_shared_map_clear(writer, &cleared) == BARRIERD_SHARED_OK);
	CHECK(barrierd_shared_map_next(walk, NULL, NULL) == 0);
	barrierd_shared_map_end(walk);
	barrierd_shared_unpin(reader);
	if (children_know() && (child = fork()) == 0) {
		CHECK(barrierd_shared_map_remove(writer, &map, &key) == BARRIERD_SHARED_FORKED);
		CHECK(barrierd_shared_flush(writer) == BARRIERD_SHARED_FORKED);
		_exit(0);
	}
	CHECK(child < 0 ||
	      (waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0));
	/* A section of this thread's is in the way. */
	CHECK(barrierd_shared_pin(reader) == BARRIERD_SHARED_OK);
	key = 0;
	CHECK(barrierd_shared_map_remove(writer, &map, &key) == 1);
	CHECK(barrierd_shared_synchronize(writer, 1000000) == BARRIERD_SHARED_TIMED_OUT);
	CHECK(strstr(barrierd_shared_last_message(), "reader 0") != NULL);
	CHECK(barrierd_shared_map_begin(reader, &map, &walk) == BARRIERD_SHARED_OK);
	CHECK(barrierd_shared_map_next(walk, NULL, NULL) == 1);
	barrierd_shared_unpin(reader);
	/* What the walk would come to is freed. */
	CHECK(barrierd_shared_synchronize(writer, UINT64_MAX) == BARRIERD_SHARED_OK);
	CHECK(barrierd_shared_pin(reader) == BARRIERD_SHARED_OK);
	CHECK(barrierd_shared_map_next(walk, NULL, NULL) == BARRIERD_SHARED_INVALID);
	CHECK(strstr(barrierd_shared_last_message(), "section that the walk began in has ended") != NULL);
	barrierd_shared_map_end(walk);
	barrierd_shared_unpin(reader);
	CHECK(barrierd_shared_flush(writer) == 0);
	barrierd_shared_leave(reader);
	barrierd_shared_leave_writer(writer);
}

/* Anything may lie there: calls come back, and what they answer is read. */
static void hostile(const char *path)
{
	struct barrierd_shared_region *region;
	struct barrierd_shared_reader *reader = join(path);
	struct barrierd_shared_writer *writer;
	struct barrierd_shared_map map = map_at(0, 8, 4, NULL);
	struct barrierd_shared_walk *walk;
	const void *key, *value;
	uint64_t number, sum = 0;
	int r;

	CHECK(barrierd_shared_pin(reader) == BARRIERD_SHARED_OK);
	for (number = 0; number < 300; number++) {
		r = barrierd_shared_map_find(reader, &map, &number, &value);
		CHECK(r == 0 || r == 1 || r == BARRIERD_SHARED_OTHER_TYPE);
		if (r == 1)
			sum += barrierd_shared_word(value, 0);
	}
	r = barrierd_shared_map_begin(reader, &map, &walk);
	CHECK(r == 0 || r == BARRIERD_SHARED_OTHER_TYPE);
	while (r >= 0 && (r = barrierd_shared_map_next(walk, &key, &value)) == 1)
		sum += barrierd_shared_word(key, 0) + barrierd_shared_word(value, 0);
	CHECK(r == 0 || r == BARRIERD_SHARED_OTHER_TYPE || r == BARRIERD_SHARED_CORRUPT);
	printf("%d %llu\n", r, (unsigned long long)sum);
	barrierd_shared_map_end(walk);
	barrierd_shared_leave(reader);
	CHECK(barrierd_shared_open_writable(path, &region) == BARRIERD_SHARED_OK);
	CHECK(barrierd_shared_join_writer(region, &writer) == BARRIERD_SHARED_OK);
	for (number = 0; number < 300; number++) {
		r = barrierd_shared_map_insert(writer, &map, &number, "four");
		CHECK(r <= 1 && r != BARRIERD_SHARED_INTERNAL);
		r = barrierd_shared_map_remove(writer, &map, &number);
		CHECK(r <= 1 && r != BARRIERD_SHARED_INTERNAL);
	}
	barrierd_shared_leave_writer(writer);
	barrierd_shared_close(region);
}

/* A region without a name: a child has its descriptors, one of them for reading alone. */
static void memory(void)
{
	struct barrierd_shared_region *region;
	struct barrierd_shared_reader *reader;
	struct barrierd_shared_writer *writer;
	struct barrierd_shared_map map = map_at(0, 8, 8, NULL);
	uint64_t key = 7, value = 70;
	int descriptors[3], data, status;
	pid_t child;

	CHECK(barrierd_shared_create(NULL, 1 << 16, 4, 2, &region) == BARRIERD_SHARED_OK);
	CHECK(barrierd_shared_descriptors(region, descriptors) == BARRIERD_SHARED_OK);
	CHECK(barrierd_shared_descriptors(NULL, descriptors) == BARRIERD_SHARED_INVALID);
	data = barrierd_shared_data_for_reading(region);
	CHECK(data >= 0 && (fcntl(data, F_GETFL) & O_ACCMODE) == O_RDONLY);
	CHECK(barrierd_shared_join_writer(region, &writer) == BARRIERD_SHARED_OK);
	CHECK(barrierd_shared_map_insert(writer, &map, &key, &value) == 0);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		CHECK(barrierd_shared_open_descriptors(data, descriptors[BARRIERD_SHARED_SLOTS], -1, &region) == 0);
		CHECK(barrierd_shared_join(region, &reader) == BARRIERD_SHARED_OK);
		CHECK(barrierd_shared_map_get(reader, &map, &key, &value) == 1 && value == 70);
		CHECK(barrierd_shared_join_writer(region, &writer) == BARRIERD_SHARED_READ_ONLY);
		barrierd_shared_leave(reader);
		barrierd_shared_close(region);
		CHECK(barrierd_shared_open_descriptors(descriptors[BARRIERD_SHARED_DATA],
						       descriptors[BARRIERD_SHARED_SLOTS],
						       descriptors[BARRIERD_SHARED_WRITERS], &region) == 0);
		CHECK(barrierd_shared_join_writer(region, &writer) == BARRIERD_SHARED_OK);
		value = 71;
		CHECK(barrierd_shared_map_insert(writer, &map, &key, &value) == 1);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CHECK(barrierd_shared_join(region, &reader) == BARRIERD_SHARED_OK);
	CHECK(barrierd_shared_map_get(reader, &map, &key, &value) == 1 && value == 71);
	barrierd_shared_leave(reader);
	barrierd_shared_leave_writer(writer);
	barrierd_shared_close(region);
	/* The slots where the data should be; no descriptor; none at all. */
	CHECK(barrierd_shared_open_descriptors(0, -2, -1, &region) == BARRIERD_SHARED_INVALID && region == NULL);
	CHECK(barrierd_shared_open_descriptors(data, data, -1, &region) == BARRIERD_SHARED_FOREIGN);
	CHECK(barrierd_shared_open_descriptors(12345, data, -1, &region) == BARRIERD_SHARED_IO);
	close(data);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "", *path = argc > 2 ? argv[2] : "";

	if (strcmp(what, "read") == 0)
		read_it(path);
	else if (strcmp(what, "refuse") == 0)
		refuse(path);
	else if (strcmp(what, "write") == 0)
		write_it(path);
	else if (strcmp(what, "hostile") == 0)
		hostile(path);
	else if (strcmp(what, "memory") == 0)
		memory();
	else
		return 2;
	return 0;
}
