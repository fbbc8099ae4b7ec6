/*
 * A program as they were written for the C daemon: its layout, plain loads, a raw futex, no library and no
 * check. It must run unchanged against this daemon.
 *
 * With OLD_HEADER it takes the layout from <barrierd.h>, as such programs do; without it from here, where
 * nothing of this project comes in.
 */
#define _GNU_SOURCE
#ifdef OLD_HEADER
#include <barrierd.h>
#else
#include <stdint.h>
struct barrierd_per_cpu {
	uint64_t last_interrupt_ns;
	uint64_t last_interrupt_vtime;
};
struct barrierd_mapped_data {
	uint64_t ncpu;
	uint64_t vtime;
	uint64_t last_interrupt_ns;
	uint64_t last_interrupt_vtime;
	uint64_t padding[12];
	struct barrierd_per_cpu per_cpu[];
};
#endif

#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t load(const uint64_t *word)
{
	return *(const volatile uint64_t *)word;
}

/* Sleeps on the low half of *word, 10 ms at most. Returns whether it was woken. */
static int sleep_on(const uint64_t *word, uint64_t value)
{
	struct timespec timeout = {.tv_nsec = 10 * 1000 * 1000};

	return syscall(SYS_futex, (const void *)word, FUTEX_WAIT, (uint32_t)value, &timeout, NULL, 0) == 0;
}

static void give_up(const char *what)
{
	fprintf(stderr, "not so: %s\n", what);
	exit(1);
}

/* Until *word > stamp; counts the times that the daemon woke it. */
static unsigned wait_on(const uint64_t *word, uint64_t stamp)
{
	uint64_t begin = now_ns(), seen;
	unsigned woken = 0;

	while ((seen = load(word)) <= stamp) {
		if (now_ns() - begin > UINT64_C(20000000000))
			give_up("a barrier passes within 20 s");
		woken += (unsigned)sleep_on(word, seen);
	}
	return woken;
}

int main(int argc, char **argv)
{
	const struct barrierd_mapped_data *data;
	unsigned woken_ns = 0, woken_vtime = 0, i;
	struct stat stat;
	int fd;

	if (argc != 2)
		return 2;
	fd = open(argv[1], O_RDONLY);
	if (fd < 0 || fstat(fd, &stat) != 0)
		give_up("the file opens");
	data = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (data == MAP_FAILED)
		give_up("the file can be mapped");
	if (sizeof(*data) + data->ncpu * sizeof(data->per_cpu[0]) > (size_t)stat.st_size)
		give_up("all CPUs are in the file");

	for (i = 0; i < 50; i++) {
		uint64_t begin = now_ns(), vtime = load(&data->vtime), cpu;

		woken_ns += wait_on(&data->last_interrupt_ns, begin);
		if (load(&data->last_interrupt_ns) > now_ns())
			give_up("no time is in the future");

		begin = now_ns();
		vtime = load(&data->vtime);
		woken_vtime += wait_on(&data->last_interrupt_vtime, vtime);
		if (load(&data->last_interrupt_vtime) >= load(&data->vtime))
			give_up("vtime is ahead of last_interrupt_vtime");
		/* last_interrupt_ns changes right after last_interrupt_vtime: within the wait's own time. */
		wait_on(&data->last_interrupt_ns, begin);

		for (cpu = 0; cpu < data->ncpu; cpu++)
			if (load(&data->per_cpu[cpu].last_interrupt_ns) == 0)
				give_up("every CPU has a time");
	}
	printf("50 waits each; woken %u times by ns, %u by vtime\n", woken_ns, woken_vtime);
	if (woken_ns == 0 || woken_vtime == 0)
		give_up("the daemon wakes both futex words");
	return 0;
}
