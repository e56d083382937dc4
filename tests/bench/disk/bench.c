/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Measurements of disks: bench MODE SECONDS FILE [FILE...]
 *     MODE  seqread, seqwrite (256 KiB), randread, randwrite (4 KiB), 32 in flight
 *           alloc   4 KiB writes, each to a block of its own, with a flush after every 64
 *           open    opens and closes, microseconds each
 * Prints one number: MiB/s for seq, operations a second for rand and alloc, microseconds for open.
 * Flushes at the end are part of the time. Of several files (not alloc, open) it does a little on
 * each in turn, so that all meet the same weather, and prints a line for each: its number, the
 * median of its speed in terms of the first's, turn by turn, the same of the processor's time
 * alone, which a busy machine disturbs less, and microseconds of the processor per operation.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/bytes.h"
#include "core/storage/disk-tool.h"

enum { DEPTH = 32, MAX_TURNS = 4096, MAX_TARGETS = 4 };

/* What a turn is: writes so many that their flush is about what a guest's would be. */
static const uint64_t read_turn_ns = 20000000, write_turn_bytes = 64 << 20, rand_turn = 4096;

struct slot {
    struct disk_req req;
    struct iovec iov;
    void *buf;
    bool busy;
};

struct target {
    struct disk *disk;
    uint64_t size, next_off, rng;
    uint64_t done, ns; /* all turns */
    double cpu;
};

static struct loop *loop;
static struct slot slots[DEPTH];
static uint64_t finished, submitted;
static uint32_t len, block;
static bool writing, random_order, alloc;

static uint64_t rnd(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    return *s ^= *s << 17;
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

static void submit(struct target *t, struct slot *s)
{
    uint64_t off = random_order ? rnd(&t->rng) % (t->size / len) * len : t->next_off;
    t->next_off += alloc ? block : len;
    if (t->next_off + len > t->size)
        t->next_off = 0;
    s->iov = (struct iovec){s->buf, len};
    s->req = (struct disk_req){.op = writing ? DISK_WRITE : DISK_READ,
                               .offset = off,
                               .length = len,
                               .iov = &s->iov,
                               .iovcnt = 1,
                               .done = done};
    s->busy = true;
    submitted++;
    disk_submit(t->disk, &s->req);
}

static void fill(struct target *t, uint64_t limit)
{
    disk_plug(t->disk);
    for (int i = 0; i < DEPTH && submitted < limit; i++)
        if (!slots[i].busy)
            submit(t, &slots[i]);
    disk_unplug(t->disk);
}

static void drain(struct target *t)
{
    while (disk_in_flight(t->disk))
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

/* Until `ns` are over, or `limit` requests were made. Returns nanoseconds. */
static uint64_t run(struct target *t, uint64_t ns, uint64_t limit)
{
    uint64_t start = clock_ns(), flushed = 0;
    finished = submitted = 0;
    while (clock_ns() - start < ns && submitted < limit) {
        fill(t, limit);
        loop_turn(loop, -1);
        if (alloc && finished - flushed >= 64) {
            drain(t);
            disk_flush_sync(t->disk);
            flushed = finished;
        }
    }
    drain(t);
    if (writing)
        disk_flush_sync(t->disk);
    ns = clock_ns() - start;
    t->done += finished;
    t->ns += ns;
    return ns;
}

static double speed(uint64_t n, uint64_t ns)
{
    double s = (double)ns / 1e9;
    return random_order || alloc ? (double)n / s : (double)n * len / (1 << 20) / s;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof v[0], by_value);
    return v[n / 2];
}

/* All of it into the host's cache, from which some hosts drop what was not used for a minute. */
static void warm(struct target *t)
{
    static uint8_t buf[1 << 20];
    for (uint64_t off = 0; off + sizeof buf <= t->size; off += sizeof buf)
        disk_read_sync(t->disk, off, buf, sizeof buf);
}

static void one_turn(struct target *t, int ntargets, int n, double *got, double *cpu)
{
    uint64_t turn_ns = writing ? UINT64_MAX : read_turn_ns;
    uint64_t limit = !writing ? UINT64_MAX : random_order ? rand_turn : write_turn_bytes / len;
    for (int i = 0; i < ntargets; i++) {
        int k = (i + n) % ntargets; /* none is always the first */
        double before = cpu_seconds();
        uint64_t took = run(&t[k], turn_ns, limit);
        double used = cpu_seconds() - before;
        t[k].cpu += used;
        cpu[k] = used / (double)finished;
        got[k] = speed(finished, took);
    }
}

static void run_in_turns(struct target *t, int ntargets, uint64_t ns)
{
    static double ratios[MAX_TARGETS][MAX_TURNS], cpu_ratios[MAX_TARGETS][MAX_TURNS];
    int n = 0;
    for (int i = 0; i < ntargets; i++)
        warm(&t[i]);
    uint64_t start = clock_ns();
    for (; n < MAX_TURNS && (n < 3 || clock_ns() - start < ns); n++) {
        double got[MAX_TARGETS], cpu[MAX_TARGETS];
        one_turn(t, ntargets, n, got, cpu);
        for (int k = 0; k < ntargets; k++) {
            ratios[k][n] = got[k] / got[0];
            cpu_ratios[k][n] = cpu[0] / cpu[k];
        }
    }
    for (int k = 0; k < ntargets; k++)
        printf("%.1f %.4f %.4f %.2f\n", speed(t[k].done, t[k].ns), median(ratios[k], n),
               median(cpu_ratios[k], n), t[k].cpu * 1e6 / (double)t[k].done);
}

static void open_target(struct target *t, const char *path)
{
    struct disk_info info;
    *t = (struct target){.disk = open_it(path), .rng = 88172645463325252u};
    disk_get_info(t->disk, &info);
    t->size = info.size;
    block = info.block_size ? info.block_size : 1 << 20;
}

int main(int argc, char **argv)
{
    struct target t[MAX_TARGETS];
    if (argc < 4)
        return 2;
    const char *mode = argv[1];
    uint64_t ns = (uint64_t)(atof(argv[2]) * 1e9);
    loop = loop_new(NULL);
    if (!strcmp(mode, "open")) {
        printf("%.1f\n", measure_open(argv[3], ns));
        return 0;
    }
    alloc = !strcmp(mode, "alloc");
    writing = alloc || strstr(mode, "write");
    random_order = !strncmp(mode, "rand", 4);
    len = random_order || alloc ? 4096 : 256 << 10;
    for (int i = 0; i < DEPTH; i++) {
        if (posix_memalign(&slots[i].buf, 4096, len))
            return 1;
        memset(slots[i].buf, 0xa5, len);
    }
    int ntargets = MIN(argc - 3, (int)MAX_TARGETS);
    for (int i = 0; i < ntargets; i++)
        open_target(&t[i], argv[i + 3]);
    if (ntargets > 1) {
        run_in_turns(t, ntargets, ns);
    } else {
        uint64_t took = run(&t[0], ns, alloc ? t[0].size / block : UINT64_MAX);
        printf("%.1f\n", speed(finished, took));
    }
    for (int i = 0; i < ntargets; i++)
        disk_close(t[i].disk);
    loop_free(loop);
    return 0;
}
