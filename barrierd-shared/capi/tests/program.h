/*
 * What border.c and map.c begin with: a check that ends the program and says why, and a reader of a region. It comes before all other
 * headers, since it says which parts of the C library there are.
 */
#ifndef PROGRAM_H
#define PROGRAM_H

#define _DEFAULT_SOURCE
#include <barrierd_shared.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(what)                                                                 \
	do {                                                                        \
		if (!(what)) {                                                      \
			fprintf(stderr, "line %d: %s (%s)\n", __LINE__, #what,      \
				barrierd_shared_last_message());                    \
			exit(1);                                                    \
		}                                                                   \
	} while (0)

static struct barrierd_shared_reader *join(const char *path)
{
	struct barrierd_shared_region *region;
	struct barrierd_shared_reader *reader;

	CHECK(barrierd_shared_open(path, &region) == BARRIERD_SHARED_OK);
	CHECK(barrierd_shared_join(region, &reader) == BARRIERD_SHARED_OK);
	/* The reader keeps what it needs. */
	barrierd_shared_close(region);
	return reader;
}

#endif
