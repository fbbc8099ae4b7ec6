/*
 * Says each change of a port's address that the Rust example shared_map writes, from another terminal:
 *
 *   target/debug/examples/shared_map /dev/shm/routes write           then type: 7 10.0.0.1
 *   cc -std=c99 read_map.c $(pkg-config --cflags --libs barrierd-shared) && ./a.out /dev/shm/routes 7
 */
#define _POSIX_C_SOURCE 200809L
#include <barrierd_shared.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(int argc, char **argv)
{
	struct barrierd_shared_region *region;
	struct barrierd_shared_reader *reader;
	struct barrierd_shared_map routes; /* Rust: SharedMap::<u64, [u8; 4]>::at(0) */
	unsigned char address[4], last[4] = {0, 0, 0, 0};
	const struct timespec pause = {0, 10000000};
	const uint64_t port = argc > 2 ? strtoull(argv[2], NULL, 10) : 7;
	int r = barrierd_shared_map_at(&routes, 0, sizeof(port), sizeof(address), NULL);

	if (r == 0)
		r = barrierd_shared_open(argc > 1 ? argv[1] : "/dev/shm/routes", &region);
	if (r == 0)
		r = barrierd_shared_join(region, &reader);
	while (r >= 0) {
		r = barrierd_shared_map_get(reader, &routes, &port, address); /* 1: there is an entry */
		if (r == 1 && memcmp(address, last, sizeof(last)) != 0) {
			printf("%u.%u.%u.%u\n", address[0], address[1], address[2], address[3]);
			fflush(stdout);
			memcpy(last, address, sizeof(last));
		}
		nanosleep(&pause, NULL);
	}
	fprintf(stderr, "%s: %s\n", barrierd_shared_strerror(r), barrierd_shared_last_message());
	return 1;
}
