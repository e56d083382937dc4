/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One measurement of a disk: bench FILE MODE [SECONDS]
 *     MODE  seqread, seqwrite (256 KiB), randread, randwrite (4 KiB), 32 in flight
 *           alloc   4 KiB writes, each to a block of its own, with a flush after every 64
 *           open    opens and closes, microseconds each
 * Prints one number: MiB/s for seq, operations a second for rand and alloc, microseconds for open.
 * Flushes at the end are part of the time.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/storage/disk-tool.h"

enum { DEPTH = 32 };

struct slot {
    struct disk_req req;
    struct iovec iov;
    void *buf;
    bool busy;
};

static struct loop *loop;
static struct disk *disk;
static struct slot slots[DEPTH];
static uint64_t rng = 88172645463325252u, size, next_off, finished;
static uint32_t len, block;
static bool writing, random_order, alloc;

static uint64_t rnd(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    return rng ^= rng << 17;
}

static void done(struct disk_req *r, int status)
{
    struct slot *s = CONTAINER_OF(r, struct slot, req);
    if (status) {
        fprintf(stderr, "%s\n", strerror(status));
        exit(1);
    }
    s->busy = false;
    finished++;
}

static void submit(struct slot *s)
{
    uint64_t off = random_order ? rnd() % (size / len) * len : next_off;
    next_off += alloc ? block : len;
    if (next_off + len > size)
        next_off = 0;
    s->iov = (struct iovec){s->buf, len};
    s->req = (struct disk_req){.op = writing ? DISK_WRITE : DISK_READ,
                               .offset = off,
                               .length = len,
                               .iov = &s->iov,
                               .iovcnt = 1,
                               .done = done};
    s->busy = true;
    disk_submit(disk, &s->req);
}

static void fill(void)
{
    disk_plug(disk);
    for (int i = 0; i < DEPTH; i++)
        if (!slots[i].busy)
            submit(&slots[i]);
    disk_unplug(disk);
}

static void drain(void)
{
    while (disk_in_flight(disk))
        loop_turn(loop, -1);
}

static struct disk *open_it(const char *path)
{
    err e = ERR_INIT;
    struct disk *d = disk_open(
        &(struct disk_open_params){.path = path, .opener = &disk_opener_paths, .loop = loop}, &e);
    if (!d) {
        fprintf(stderr, "%s\n", e.text);
        exit(1);
    }
    return d;
}

static double measure_open(const char *path, uint64_t ns)
{
    uint64_t start = clock_ns(), n = 0;
    while (clock_ns() - start < ns) {
        disk_close(open_it(path));
        n++;
    }
    return (double)(clock_ns() - start) / 1000 / (double)n;
}

static double measure(uint64_t ns)
{
    uint64_t start = clock_ns(), flushed = 0;
    uint64_t limit = alloc ? size / block : UINT64_MAX;
    while (clock_ns() - start < ns && finished + DEPTH <= limit) {
        fill();
        loop_turn(loop, -1);
        if (alloc && finished - flushed >= 64) {
            drain();
            disk_flush_sync(disk);
            flushed = finished;
        }
    }
    drain();
    if (writing)
        disk_flush_sync(disk);
    double s = (double)(clock_ns() - start) / 1e9;
    return random_order || alloc ? (double)finished / s : (double)finished * len / (1 << 20) / s;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    uint64_t ns = (uint64_t)((argc > 3 ? atof(argv[3]) : 3) * 1e9);
    const char *mode = argv[2];
    loop = loop_new(NULL);
    if (!strcmp(mode, "open")) {
        printf("%.1f\n", measure_open(argv[1], ns));
        return 0;
    }
    disk = open_it(argv[1]);
    struct disk_info info;
    disk_get_info(disk, &info);
    size = info.size;
    block = info.block_size ? info.block_size : 1 << 20;
    alloc = !strcmp(mode, "alloc");
    writing = alloc || strstr(mode, "write");
    random_order = !strncmp(mode, "rand", 4);
    len = random_order || alloc ? 4096 : 256 << 10;
    for (int i = 0; i < DEPTH; i++) {
        if (posix_memalign(&slots[i].buf, 4096, len))
            return 1;
        memset(slots[i].buf, 0xa5, len);
    }
    printf("%.1f\n", measure(ns));
    disk_close(disk);
    loop_free(loop);
    return 0;
}
