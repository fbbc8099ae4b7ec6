/*
 * The border, seen from C and C++: prints what each call answers, for border.rs.
 *
 *   border nulls | open PATH | open_of PATH UID | cell PATH | links PATH | fork PATH | section PATH
 */
#include "program.h"

static void nulls(void)
{
	struct barrierd_shared_region *region;
	struct barrierd_shared_reader *reader;

	CHECK(barrierd_shared_open(NULL, &region) == BARRIERD_SHARED_INVALID && region == NULL);
	CHECK(barrierd_shared_open("/nowhere", NULL) == BARRIERD_SHARED_INVALID);
	CHECK(barrierd_shared_join(NULL, &reader) == BARRIERD_SHARED_INVALID && reader == NULL);
	CHECK(strstr(barrierd_shared_last_message(), "a region") != NULL);
	barrierd_shared_close(NULL);
	barrierd_shared_leave(NULL);
	CHECK(strcmp(barrierd_shared_version(), "0.1.0") == 0);
}

static void open_it(const char *path, const char *owner)
{
	struct barrierd_shared_region *region, *writable;
	int r, w;

	if (owner != NULL) {
		const uint32_t uid = (uint32_t)strtoul(owner, NULL, 10);

		r = barrierd_shared_open_of(path, uid, &region);
		w = barrierd_shared_open_writable_of(path, uid, &writable);
		CHECK(w == r && (w == BARRIERD_SHARED_OK) == (writable != NULL));
		barrierd_shared_close(writable);
	} else {
		r = barrierd_shared_open(path, &region);
	}
	CHECK((r == BARRIERD_SHARED_OK) == (region != NULL));
	printf("%d\n%s\n%s\n", r, barrierd_shared_strerror(r), barrierd_shared_last_message());
	barrierd_shared_close(region);
}

/* Root 0: [10, 20, 30, 40]; root 1: the bytes 1 to 13; root 2: nothing; all else: nothing either. */
static void cell(const char *path)
{
	struct barrierd_shared_reader *reader = join(path);
	uint64_t limits[4] = {0, 0, 0, 0};
	unsigned char bytes[14], i;

	CHECK(barrierd_shared_cell_get(reader, 0, limits, sizeof(limits)) == 1);
	CHECK(limits[0] == 10 && limits[1] == 20 && limits[2] == 30 && limits[3] == 40);
	CHECK(barrierd_shared_cell_get(reader, 0, limits, sizeof(limits) - 8) == BARRIERD_SHARED_OTHER_SIZE);
	bytes[13] = 77;
	CHECK(barrierd_shared_pin(reader) == BARRIERD_SHARED_OK);
	CHECK(barrierd_shared_cell(reader, 1, bytes, 13) == 1);
	barrierd_shared_unpin(reader);
	for (i = 0; i < 13; i++)
		CHECK(bytes[i] == i + 1);
	CHECK(bytes[13] == 77);
	CHECK(barrierd_shared_cell_get(reader, 2, limits, sizeof(limits)) == 0);
	CHECK(barrierd_shared_cell_get(reader, 255, limits, sizeof(limits)) == 0);
	CHECK(barrierd_shared_cell_get(reader, 256, limits, sizeof(limits)) == BARRIERD_SHARED_INVALID);
	barrierd_shared_leave(reader);
}

static void links(const char *path)
{
	struct barrierd_shared_reader *reader = join(path);
	const uint64_t bytes = reader->bytes, begin = BARRIERD_SHARED_BLOCKS;
	const uint64_t *root = barrierd_shared_root(reader, 0);
	uint64_t tag;

	CHECK(barrierd_shared_pin(reader) == BARRIERD_SHARED_OK);
	for (tag = 0; tag < 8; tag++) {
		CHECK(barrierd_shared_follow(reader, tag, 8) == NULL);
		CHECK(barrierd_shared_follow(reader, (begin - 8) | tag, 8) == NULL);
		CHECK(barrierd_shared_follow(reader, begin | tag, 8) == reader->data + begin);
		CHECK(barrierd_shared_follow(reader, (bytes - 8) | tag, 8) == reader->data + bytes - 8);
		CHECK(barrierd_shared_follow(reader, (bytes - 8) | tag, 9) == NULL);
		CHECK(barrierd_shared_follow(reader, bytes | tag, 8) == NULL);
		CHECK(barrierd_shared_follow(reader, (UINT64_MAX - 7) | tag, 8) == NULL);
	}
	CHECK(barrierd_shared_follow(reader, begin, bytes - begin) != NULL);
	CHECK(barrierd_shared_follow(reader, begin, bytes - begin + 1) == NULL);
	CHECK(barrierd_shared_follow(reader, begin, SIZE_MAX) == NULL);
	CHECK(barrierd_shared_root(reader, BARRIERD_SHARED_ROOTS - 1) != NULL);
	CHECK(barrierd_shared_root(reader, BARRIERD_SHARED_ROOTS) == NULL);
	/* A cell: its size stands first. */
	CHECK(barrierd_shared_word(barrierd_shared_follow(reader, barrierd_shared_link(root), 8), 0) == 32);
	barrierd_shared_unpin(reader);
	CHECK(*reader->slot % 2 == 1);
	barrierd_shared_leave(reader);
}

/* A child may not touch its parent's slot, and takes one of its own. */
static void fork_it(const char *path)
{
	struct barrierd_shared_reader *reader = join(path);
	uint64_t limits[4];
	int status;
	pid_t child;

	CHECK(barrierd_shared_pin(reader) == BARRIERD_SHARED_OK);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		uint64_t before = *reader->slot;

		CHECK(barrierd_shared_pin(reader) == BARRIERD_SHARED_FORKED);
		CHECK(barrierd_shared_cell_get(reader, 0, limits, sizeof(limits)) == BARRIERD_SHARED_FORKED);
		barrierd_shared_unpin(reader);
		CHECK(*reader->slot == before && before % 2 == 0);
		barrierd_shared_leave(reader);
		reader = join(path);
		CHECK(barrierd_shared_cell_get(reader, 0, limits, sizeof(limits)) == 1);
		barrierd_shared_leave(reader);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CHECK(*reader->slot % 2 == 0);
	CHECK(barrierd_shared_cell(reader, 0, limits, sizeof(limits)) == 1);
	barrierd_shared_unpin(reader);
	CHECK(*reader->slot % 2 == 1);
	barrierd_shared_leave(reader);
}

/* What a section's own way out is worth: a scope that is left by an exception, and by a return. */
#ifdef __cplusplus
static int left_early(struct barrierd_shared_reader *reader)
{
	const barrierd_shared_section section(reader);

	CHECK(*reader->slot % 2 == 0);
	return section.error();
}

static void section(const char *path)
{
	struct barrierd_shared_reader *reader = join(path);

	CHECK(left_early(reader) == BARRIERD_SHARED_OK);
	CHECK(*reader->slot % 2 == 1);
	try {
		const barrierd_shared_section section(reader);

		CHECK(section.error() == 0 && *reader->slot % 2 == 0);
		throw 7;
	} catch (int) {
		CHECK(*reader->slot % 2 == 1);
	}
	barrierd_shared_leave(reader);
}
#else
static void section(const char *path)
{
	(void)path;
}
#endif

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "", *path = argc > 2 ? argv[2] : "";

	if (strcmp(what, "nulls") == 0)
		nulls();
	else if (strcmp(what, "open") == 0)
		open_it(path, NULL);
	else if (strcmp(what, "open_of") == 0 && argc > 3)
		open_it(path, argv[3]);
	else if (strcmp(what, "section") == 0)
		section(path);
	else if (strcmp(what, "cell") == 0)
		cell(path);
	else if (strcmp(what, "links") == 0)
		links(path);
	else if (strcmp(what, "fork") == 0)
		fork_it(path);
	else
		return 2;
	return 0;
}
