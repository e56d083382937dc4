/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Raw disks and the engine below all formats: both I/O engines, alignment, locks, pausing. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "core/base/bytes.h"
#include "core/storage/disk-internal.h"
#include "core/storage/disk.h"

static char path[64];
static struct loop *loop;

static void make_file(uint64_t size)
{
    strcpy(path, "storage-raw-XXXXXX");
    int fd = mkstemp(path);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    close(fd);
    loop = loop_new(NULL);
}

static void drop_file(void)
{
    unlink(path);
    loop_free(loop);
}

static struct disk *open_it(unsigned flags, err *e)
{
    return disk_open(&(struct disk_open_params){.path = path,
                                                .format = DISK_FORMAT_RAW,
                                                .flags = flags,
                                                .opener = &disk_opener_paths,
                                                .loop = loop},
                     e);
}

static void fill(uint8_t *p, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)((i * 2654435761u + seed * 40503u) >> 7);
}

/* Random reads, writes, discards and zeroes against an array. */
static void follow_a_model(unsigned flags)
{
    enum { SIZE = 4 << 20 };
    err e = ERR_INIT;
    make_file(SIZE);
    uint8_t *model = calloc(1, SIZE), *buf = malloc(SIZE + 1);
    struct disk *d = open_it(flags, &e);
    CHECK(d != NULL);
    srandom(7);
    for (unsigned i = 0; d && i < 400; i++) {
        uint64_t off = (uint64_t)random() % (SIZE / 512) * 512;
        uint64_t wish = (uint64_t)random() % 200 * 512, len = MIN(wish, SIZE - off);
        uint8_t *p = buf + i % 2; /* every other buffer unaligned */
        switch (random() % 6) {
        case 0:
        case 1:
            fill(p, len, i);
            memcpy(model + off, p, len);
            CHECK_EQ(disk_write_sync(d, off, p, len), 0);
            break;
        case 2:
            memset(model + off, 0, len);
            CHECK_EQ(disk_discard_sync(d, off, len), 0);
            break;
        case 3:
            memset(model + off, 0, len);
            CHECK_EQ(disk_zero_sync(d, off, len, random() % 2), 0);
            break;
        case 4: CHECK_EQ(disk_flush_sync(d), 0); break;
        default:
            CHECK_EQ(disk_read_sync(d, off, p, len), 0);
            CHECK(memcmp(p, model + off, len) == 0);
        }
    }
    disk_close(d);
    int fd = open(path, O_RDONLY);
    CHECK(pread(fd, buf, SIZE, 0) == SIZE && memcmp(buf, model, SIZE) == 0);
    close(fd);
    free(model);
    free(buf);
    drop_file();
}

static void a_model_on_io_uring(void)
{
    follow_a_model(0);
}
static void a_model_on_threads(void)
{
    follow_a_model(DISK_OPEN_THREADS);
}
static void a_model_with_o_direct(void)
{
    follow_a_model(DISK_OPEN_DIRECT);
}

struct many {
    struct disk_req req;
    struct iovec iov[8];
    uint8_t data[8][512];
    int status;
    unsigned calls;
};
static void many_done(struct disk_req *r, int status)
{
    struct many *m = CONTAINER_OF(r, struct many, req);
    m->status = status;
    m->calls++;
}

static void many_requests_at_once(void)
{
    enum { N = 1500 };
    make_file(N * 4096);
    struct many *m = calloc(N, sizeof *m);
    struct disk *d = open_it(0, NULL);
    disk_plug(d);
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < 8; k++) {
            memset(m[i].data[k], i + k, 512);
            m[i].iov[k] = (struct iovec){m[i].data[k], 512};
        }
        m[i].req = (struct disk_req){.op = DISK_WRITE,
                                     .flags = i % 3 ? 0 : DISK_REQ_FUA,
                                     .offset = (uint64_t)i * 4096,
                                     .length = 4096,
                                     .iov = m[i].iov,
                                     .iovcnt = 8,
                                     .done = many_done};
        disk_submit(d, &m[i].req);
        CHECK_EQ(m[i].calls, 0);
    }
    disk_unplug(d);
    CHECK_EQ(disk_in_flight(d), N);
    while (disk_in_flight(d))
        loop_turn(loop, 100);
    uint8_t got[4096];
    for (int i = 0; i < N; i++) {
        CHECK_EQ(m[i].calls, 1);
        CHECK_EQ(m[i].status, 0);
        CHECK_EQ(disk_read_sync(d, (uint64_t)i * 4096, got, 4096), 0);
        for (int k = 0; k < 8; k++)
            CHECK_EQ(got[k * 512 + 7], (uint8_t)(i + k));
    }
    disk_close(d);
    free(m);
    drop_file();
}

static void wrong_requests_are_refused(void)
{
    uint8_t b[1024];
    make_file(8192);
    struct disk *d = open_it(0, NULL);
    CHECK_EQ(disk_read_sync(d, 8192, b, 512), EINVAL);
    CHECK_EQ(disk_read_sync(d, 7680, b, 1024), EINVAL);
    CHECK_EQ(disk_read_sync(d, 100, b, 512), EINVAL);
    CHECK_EQ(disk_read_sync(d, 0, b, 100), EINVAL);
    CHECK_EQ(disk_write_sync(d, UINT64_MAX - 511, b, 512), EINVAL);
    CHECK_EQ(disk_read_sync(d, 8192, b, 0), 0);
    struct iovec v = {b, 512};
    struct many m = {
        .req = {.op = DISK_READ, .length = 1024, .iov = &v, .iovcnt = 1, .done = many_done}};
    disk_submit(d, &m.req);
    CHECK_EQ(m.calls, 0);
    while (!m.calls)
        loop_turn(loop, 100);
    CHECK_EQ(m.status, EINVAL);
    disk_close(d);
    d = open_it(DISK_OPEN_READ_ONLY, NULL);
    CHECK_EQ(disk_write_sync(d, 0, b, 512), EROFS);
    CHECK_EQ(disk_flush_sync(d), 0);
    disk_close(d);
    drop_file();
}

static void two_writers_exclude_each_other(void)
{
    make_file(8192);
    err e = ERR_INIT;
    struct disk *w = open_it(0, &e), *d = open_it(0, &e);
    CHECK(w && !d);
    CHECK_EQ(e.code, ERR_BUSY);
    CHECK(open_it(DISK_OPEN_READ_ONLY, &e) == NULL);
    d = open_it(DISK_OPEN_READ_ONLY | DISK_OPEN_NO_LOCK, &e);
    CHECK(d != NULL);
    disk_close(d);
    disk_close(w);
    struct disk *r1 = open_it(DISK_OPEN_READ_ONLY, &e), *r2 = open_it(DISK_OPEN_READ_ONLY, &e);
    CHECK(r1 && r2 && !open_it(0, &e));
    disk_close(r1);
    disk_close(r2);
    drop_file();
}

static int kept_fd = -1;

/* As a worker's: descriptors that it was handed, of which it keeps one. */
static int open_kept(void *ctx, const char *name, const char *referrer, unsigned flags,
                     char **resolved, err *e)
{
    if (kept_fd < 0)
        kept_fd = open(name, O_RDWR | O_CLOEXEC);
    *resolved = strdup(name);
    return dup(kept_fd);
}

static void closing_unlocks(void)
{
    static const struct disk_opener keeper = {.open = open_kept};
    make_file(8192);
    err e = ERR_INIT;
    struct disk_open_params p = {.path = path, .opener = &keeper, .loop = loop};
    struct disk *d = disk_open(&p, &e);
    CHECK(d && !open_it(0, &e));
    disk_close(d);
    d = open_it(0, &e);
    CHECK(d != NULL);
    if (d)
        disk_close(d);
    close(kept_fd);
    drop_file();
}

static void note(void *ctx)
{
    (*(int *)ctx)++;
}

static void a_pause_holds_requests_back(void)
{
    make_file(65536);
    struct disk *d = open_it(0, NULL);
    uint8_t b[512] = {1};
    struct iovec v = {b, 512};
    struct many m[2] = {0};
    int drained = 0;
    for (int i = 0; i < 2; i++)
        m[i].req = (struct disk_req){.op = DISK_WRITE,
                                     .offset = (uint64_t)i * 512,
                                     .length = 512,
                                     .iov = &v,
                                     .iovcnt = 1,
                                     .done = many_done};
    disk_submit(d, &m[0].req);
    disk_pause(d, note, &drained);
    disk_submit(d, &m[1].req);
    while (!drained)
        loop_turn(loop, 100);
    CHECK_EQ(m[0].calls, 1);
    loop_turn(loop, 10);
    CHECK_EQ(m[1].calls, 0);
    CHECK_EQ(disk_in_flight(d), 1);
    disk_resume(d);
    while (!m[1].calls)
        loop_turn(loop, 100);
    disk_pause(d, note, &drained);
    CHECK_EQ(drained, 2);
    disk_submit(d, &m[0].req); /* closed while held back */
    disk_close(d);
    CHECK_EQ(m[0].calls, 2);
    CHECK_EQ(m[0].status, ECANCELED);
    drop_file();
}

static void only_files_and_devices_open(void)
{
    err e = ERR_INIT;
    loop = loop_new(NULL);
    strcpy(path, "storage-raw-fifo");
    unlink(path);
    CHECK(mkfifo(path, 0600) == 0);
    CHECK(!open_it(0, &e) && e.code == ERR_INVALID);
    unlink(path);
    CHECK(!open_it(0, &e) && e.code == ERR_NOT_FOUND);
    strcpy(path, ".");
    CHECK(!open_it(DISK_OPEN_READ_ONLY, &e));
    loop_free(loop);
}

static const struct check_test tests[] = {
    CHECK_TEST(a_model_on_io_uring),
    CHECK_TEST(a_model_on_threads),
    CHECK_TEST(a_model_with_o_direct),
    CHECK_TEST(many_requests_at_once),
    CHECK_TEST(wrong_requests_are_refused),
    CHECK_TEST(two_writers_exclude_each_other),
    CHECK_TEST(closing_unlocks),
    CHECK_TEST(a_pause_holds_requests_back),
    CHECK_TEST(only_files_and_devices_open),
};
CHECK_MAIN(tests)
