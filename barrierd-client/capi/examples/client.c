/*
 * A client in C; compiles as C++ as well. Makes a change, stamps, learns that every CPU has passed a
 * memory barrier since, and says how long that took: asked for, in its own time, and in virtual time by
 * plain loads alone.
 *
 *   cc -std=c99 client.c -lbarrierd && ./a.out [FILE [COUNT]]
 */
#define _POSIX_C_SOURCE 200809L
#include <barrierd.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SECOND UINT64_C(1000000000)
#define MOST 1000

/* Something that other threads and processes read without a fence. */
static uint64_t published;

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void show(const char *what, uint64_t *ns, size_t count)
{
	qsort(ns, count, sizeof(*ns), compare);
	printf("%-10s %zu waits, us: least %.1f, median %.1f, most %.1f\n", what, count,
	       (double)ns[0] / 1e3, (double)ns[count / 2] / 1e3, (double)ns[count - 1] / 1e3);
}

static int failed(const char *what, int error)
{
	fprintf(stderr, "%s: %s\n  %s\n", what, barrierd_strerror(error), barrierd_last_message());
	return 1;
}

/* Waits for a stamp in virtual time, by the inline readers. No futex: this looks now and then. */
static int wait_virtual(const struct barrierd_mapped_data *data, uint64_t vstamp, uint64_t until)
{
	struct timespec pause;

	pause.tv_sec = 0;
	pause.tv_nsec = 100000;
	while (!barrierd_data_vpassed(data, vstamp)) {
		if (barrierd_stamp_inline() > until)
			return BARRIERD_TIMED_OUT;
		nanosleep(&pause, NULL);
	}
	return BARRIERD_OK;
}

int main(int argc, char **argv)
{
	static uint64_t taken[MOST];
	const char *path = argc > 1 ? argv[1] : NULL;
	size_t i, count = argc > 2 ? (size_t)strtoul(argv[2], NULL, 10) : 20;
	struct barrierd_barrier *barrier;
	const struct barrierd_mapped_data *data;
	uint64_t stamp;
	int r;

	if (count == 0 || count > MOST) {
		fprintf(stderr, "COUNT is 1 to %d\n", MOST);
		return 2;
	}
	r = barrierd_open(path, &barrier);
	if (r < 0)
		return failed("open", r);
	data = barrierd_data(barrier);
	printf("libbarrierd %s, %llu CPUs\n", barrierd_version(),
	       (unsigned long long)barrierd_load(&data->ncpu));

	/* A request is a hint, and who may not ask only waits longer. */
	r = barrierd_expedite(barrier, barrierd_stamp());
	printf("requests   %s\n", r < 0 ? barrierd_strerror(r) : "are taken");

	for (i = 0; i < count; i++) {
		__atomic_store_n(&published, i, __ATOMIC_RELEASE);
		stamp = barrierd_stamp_inline();
		r = barrierd_wait(barrier, stamp, 20 * SECOND);
		if (r < 0)
			return failed("wait", r);
		taken[i] = barrierd_stamp() - stamp;
		/* Both ways to ask agree. */
		if (barrierd_passed(barrier, stamp) != 1 || !barrierd_data_passed(data, stamp))
			return failed("the barrier was waited for and has not passed", BARRIERD_INTERNAL);
	}
	show("expedited", taken, count);

	for (i = 0; i < count; i++) {
		__atomic_store_n(&published, i, __ATOMIC_RELEASE);
		stamp = barrierd_stamp();
		r = barrierd_wait_passive(barrier, stamp, 20 * SECOND);
		if (r < 0)
			return failed("wait_passive", r);
		taken[i] = barrierd_stamp() - stamp;
	}
	show("passive", taken, count);

	if (barrierd_word(data, BARRIERD_MAGIC) == BARRIERD_MAGIC_VALUE) {
		for (i = 0; i < count; i++) {
			uint64_t vstamp;

			__atomic_store_n(&published, i, __ATOMIC_RELAXED);
			vstamp = barrierd_data_vstamp(data);
			stamp = barrierd_stamp();
			r = wait_virtual(data, vstamp, stamp + 20 * SECOND);
			if (r < 0)
				return failed("virtual time", r);
			taken[i] = barrierd_stamp() - stamp;
		}
		show("virtual", taken, count);
	}
	if (barrierd_liveness(barrier) != BARRIERD_ALIVE)
		return failed("the daemon is not alive", BARRIERD_INTERNAL);
	barrierd_close(barrier);
	return 0;
}
