/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * 4 KiB reads at random places of a disk, past the cache, by so many processes at once, one each
 * at a time: prints how many there were. fio --rw=randread --bs=4k --direct=1 --ioengine=psync, but
 * small enough for an initramfs.
 *     randread DISK JOBS SECONDS
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, MAX_JOBS = 64 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int job(const char *path, unsigned n, double seconds, uint64_t *count)
{
    int fd = open(path, O_RDONLY | O_DIRECT);
    off_t size = lseek(fd, 0, SEEK_END);
    void *buf = aligned_alloc(BLOCK, BLOCK);
    uint64_t x = 88172645463325252ull + n * 7919u;
    if (fd < 0 || size < BLOCK || !buf)
        return 1;
    for (double end = now() + seconds; now() < end; (*count)++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        if (pread(fd, buf, BLOCK, (off_t)(x % (uint64_t)(size / BLOCK)) * BLOCK) != BLOCK)
            return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    unsigned jobs = argc > 3 ? (unsigned)atoi(argv[2]) : 0, bad = 0;
    uint64_t *counts, all = 0;
    int status;
    if (!jobs || jobs > MAX_JOBS)
        return 2;
    counts = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < jobs; i++)
        if (fork() == 0)
            _exit(job(argv[1], i, atof(argv[3]), &counts[i]));
    for (unsigned i = 0; i < jobs; i++) {
        bad += wait(&status) < 0 || status;
        all += counts[i];
    }
    printf("%llu\n", (unsigned long long)all);
    return bad != 0;
}
