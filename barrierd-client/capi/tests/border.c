/*
 * What the border to C must refuse, for tests/border.rs:
 *
 *   border nulls         every function with null pointers
 *   border open FILE     the code of opening it, and this thread's message
 *   border legacy FILE   a C daemon's file: nothing passes until it moves, no virtual time
 *   border reopen FILE OTHER   puts OTHER in the place of FILE, which is open
 *   border cancel FILE   a thread that is cancelled in a call ends after it
 *   border threads FILE  eight threads on one barrier, each with a message of its own
 */
#define _POSIX_C_SOURCE 200809L
#include <barrierd.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(what)                                                                                \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "line %d: not so: %s (%s)\n", __LINE__, #what,             \
				barrierd_last_message());                                          \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

static void nulls(void)
{
	struct barrierd_barrier *out = NULL;

	CHECK(strcmp(barrierd_last_message(), "") == 0);
	CHECK(barrierd_open("/no/such/file", NULL) == BARRIERD_INVALID);
	CHECK(strstr(barrierd_last_message(), "null pointer") != NULL);
	CHECK(barrierd_open(NULL, NULL) == BARRIERD_INVALID);
	CHECK(barrierd_reopen(NULL, &out) == BARRIERD_INVALID);
	CHECK(barrierd_reopen(NULL, NULL) == BARRIERD_INVALID);
	barrierd_close(NULL);
	CHECK(barrierd_data(NULL) == NULL);
	CHECK(barrierd_passed(NULL, 1) == BARRIERD_INVALID);
	CHECK(barrierd_wait(NULL, 1, 1) == BARRIERD_INVALID);
	CHECK(barrierd_wait_passive(NULL, 1, 1) == BARRIERD_INVALID);
	CHECK(barrierd_expedite(NULL, 1) == BARRIERD_INVALID);
	CHECK(barrierd_liveness(NULL) == BARRIERD_INVALID);
	CHECK(strlen(barrierd_strerror(12345)) > 0);
	CHECK(strlen(barrierd_version()) >= 5);
	CHECK(barrierd_stamp() <= barrierd_stamp());
}

static void legacy(const char *path)
{
	struct barrierd_barrier *barrier, *again;
	const struct barrierd_mapped_data *data;
	uint64_t stamp = barrierd_stamp();

	CHECK(barrierd_open(path, &barrier) == BARRIERD_OK);
	data = barrierd_data(barrier);
	CHECK(barrierd_word(data, BARRIERD_MAGIC) == 0);
	/* It may be left over from another boot: what stands there proves nothing. */
	CHECK(data->last_interrupt_ns > 1);
	CHECK(barrierd_passed(barrier, 1) == 0);
	CHECK(!barrierd_data_passed(data, stamp));
	/* Its vtime is hostile, and not looked at. */
	CHECK(barrierd_load(&data->last_interrupt_vtime) > 0);
	CHECK(barrierd_data_vstamp(data) == 0 && !barrierd_data_vpassed(data, 0));
	CHECK(barrierd_wait(barrier, stamp, 30000000) == BARRIERD_TIMED_OUT);
	CHECK(barrierd_expedite(barrier, stamp) == BARRIERD_EXPEDITE_ABSENT);
	CHECK(barrierd_reopen(barrier, &again) == 0 && again == NULL);
	barrierd_close(barrier);
}

static void reopen(const char *path, const char *other)
{
	struct barrierd_barrier *barrier, *second = NULL, *third = NULL;

	CHECK(barrierd_open(path, &barrier) == BARRIERD_OK);
	CHECK(barrierd_reopen(barrier, &second) == 0 && second == NULL);
	CHECK(rename(other, path) == 0);
	CHECK(barrierd_reopen(barrier, &second) == 1 && second != NULL);
	CHECK(barrierd_word(barrierd_data(barrier), BARRIERD_GENERATION) == 1);
	CHECK(barrierd_word(barrierd_data(second), BARRIERD_GENERATION) == 77);
	CHECK(barrierd_reopen(second, NULL) == BARRIERD_INVALID);
	CHECK(remove(path) == 0);
	third = barrier;
	CHECK(barrierd_reopen(second, &third) == BARRIERD_NOT_FOUND && third == NULL);
	/* Both mappings are as good as ever. */
	CHECK(barrierd_passed(barrier, 1) == 1 && barrierd_passed(second, 1) == 1);
	barrierd_close(second);
	barrierd_close(barrier);
}

static struct barrierd_barrier *shared;

static void *one_thread(void *argument)
{
	int i;

	(void)argument;
	for (i = 0; i < 200; i++) {
		CHECK(barrierd_passed(shared, 1) == 1);
		CHECK(barrierd_wait(shared, 1, 0) == BARRIERD_OK);
	}
	CHECK(strcmp(barrierd_last_message(), "") == 0);
	CHECK(barrierd_wait(shared, UINT64_MAX, 1000000) == BARRIERD_TIMED_OUT);
	CHECK(strstr(barrierd_last_message(), "18446744073709551615 ns had not passed") != NULL);
	return NULL;
}

static void threads(const char *path)
{
	pthread_t all[8];
	size_t i;

	CHECK(barrierd_open(path, &shared) == BARRIERD_OK);
	for (i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		CHECK(pthread_create(&all[i], NULL, one_thread, NULL) == 0);
	for (i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		CHECK(pthread_join(all[i], NULL) == 0);
	CHECK(strcmp(barrierd_last_message(), "") == 0);
	barrierd_close(shared);
}

static int waited;

static void *cancelled(void *path)
{
	struct barrierd_barrier *barrier;

	/* Pending from here on: it would end the thread where a file is opened, or in a wait. */
	CHECK(pthread_cancel(pthread_self()) == 0);
	CHECK(barrierd_open((const char *)path, &barrier) == BARRIERD_OK);
	CHECK(barrierd_wait(barrier, UINT64_MAX, 1000000) == BARRIERD_TIMED_OUT);
	barrierd_close(barrier);
	waited = 1;
	pthread_testcancel();
	CHECK(!"cancelled by now");
	return NULL;
}

static void cancel(char *path)
{
	pthread_t thread;
	void *result;

	CHECK(pthread_create(&thread, NULL, cancelled, path) == 0);
	CHECK(pthread_join(thread, &result) == 0);
	CHECK(result == PTHREAD_CANCELED && waited);
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "nulls") == 0) {
		nulls();
	} else if (argc == 3 && strcmp(argv[1], "legacy") == 0) {
		legacy(argv[2]);
	} else if (argc == 4 && strcmp(argv[1], "reopen") == 0) {
		reopen(argv[2], argv[3]);
	} else if (argc == 3 && strcmp(argv[1], "cancel") == 0) {
		cancel(argv[2]);
	} else if (argc == 3 && strcmp(argv[1], "threads") == 0) {
		threads(argv[2]);
	} else if (argc == 3 && strcmp(argv[1], "open") == 0) {
		struct barrierd_barrier *barrier = (struct barrierd_barrier *)argv;
		int r = barrierd_open(argv[2], &barrier);

		CHECK((r == BARRIERD_OK) == (barrier != NULL));
		printf("%d\n%s\n%s\n", r, barrierd_strerror(r), barrierd_last_message());
		barrierd_close(barrier);
	} else {
		return 2;
	}
	return 0;
}
