/*
 * Says each change of the cell that the Rust example shared_cell sets, from another terminal:
 *
 *   target/debug/examples/shared_cell /dev/shm/limits set 10 20 30 40
 *   cc -std=c99 watch_cell.c $(pkg-config --cflags --libs barrierd-shared) && ./a.out /dev/shm/limits
 *   target/debug/examples/shared_cell /dev/shm/limits set 11 21 31 41
 *
 * Compiles as C++ as well. With a COUNT it ends after so many changes.
 */
#define _POSIX_C_SOURCE 200809L
#include <barrierd_shared.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int failed(const char *what, int error)
{
	fprintf(stderr, "%s: %s\n  %s\n", what, barrierd_shared_strerror(error), barrierd_shared_last_message());
	return 1;
}

int main(int argc, char **argv)
{
	unsigned long left = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
	struct barrierd_shared_region *region;
	struct barrierd_shared_reader *reader;
	uint64_t now[4], last[4] = {0, 0, 0, 0};
	struct timespec pause;
	int r, had = 0;

	if (argc < 2) {
		fprintf(stderr, "usage: watch_cell FILE [COUNT]\n");
		return 2;
	}
	pause.tv_sec = 0;
	pause.tv_nsec = 10000000;
	r = barrierd_shared_open(argv[1], &region);
	if (r < 0)
		return failed("open", r);
	r = barrierd_shared_join(region, &reader);
	if (r < 0)
		return failed("join", r);
	for (;;) {
		/* A section, in which the value is copied. It costs some nanoseconds, and writers never wait for it. */
		r = barrierd_shared_cell_get(reader, 0, now, sizeof(now));
		if (r < 0)
			return failed("get", r);
		if (r == 1 && (!had || memcmp(now, last, sizeof(now)) != 0)) {
			printf("%llu %llu %llu %llu\n", (unsigned long long)now[0], (unsigned long long)now[1],
			       (unsigned long long)now[2], (unsigned long long)now[3]);
			fflush(stdout);
			memcpy(last, now, sizeof(now));
			had = 1;
			if (left > 0 && --left == 0)
				break;
		}
		nanosleep(&pause, NULL);
	}
	barrierd_shared_leave(reader);
	barrierd_shared_close(region);
	return 0;
}
