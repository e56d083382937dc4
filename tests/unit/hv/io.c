/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/hv/io.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "check.h"

struct dev {
    char log[256];
    uint8_t fill;
};

static uint64_t dev_read(void *ctx, uint64_t offset, unsigned size)
{
    struct dev *d = ctx;
    size_t n = strlen(d->log);
    snprintf(d->log + n, sizeof d->log - n, "r%u.%u ", (unsigned)offset, size);
    return 0x0101010101010101u * d->fill;
}
static void dev_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct dev *d = ctx;
    size_t n = strlen(d->log);
    snprintf(d->log + n, sizeof d->log - n, "w%u.%u=%llx ", (unsigned)offset, size,
             (unsigned long long)value);
}
static const struct hv_io_ops ops = {"device", dev_read, dev_write};

static void accesses_reach_their_claim(void)
{
    struct hv_io *io = hv_io_new(NULL);
    struct dev a = {.fill = 0xaa}, b = {.fill = 0xbb};
    CHECK(hv_io_claim(io, HV_IO_PORT, 0x3f8, 8, &ops, &a, NULL));
    CHECK(hv_io_claim(io, HV_IO_MMIO, 0xfec00000, 0x1000, &ops, &b, NULL));
    CHECK_EQ(hv_io_read(io, HV_IO_PORT, 0x3fd, 1), 0xaa);
    hv_io_write(io, HV_IO_PORT, 0x3f8, 1, 0x41);
    hv_io_write(io, HV_IO_MMIO, 0xfec00010, 8, 0x1122334455667788);
    CHECK_STR(a.log, "r5.1 w0.1=41 ");
    CHECK_STR(b.log, "w16.8=1122334455667788 ");
    CHECK_EQ(hv_io_read(io, HV_IO_PORT, 0x80, 1), 0xff);
    CHECK_EQ(hv_io_read(io, HV_IO_MMIO, 0x80, 4), 0xffffffff);
    CHECK_EQ(hv_io_read(io, HV_IO_MMIO, UINT64_MAX, 8), UINT64_MAX);
    hv_io_free(io);
}

static void wide_accesses_are_split(void)
{
    struct hv_io *io = hv_io_new(NULL);
    struct dev a = {.fill = 0xaa}, b = {.fill = 0xbb};
    CHECK(hv_io_claim(io, HV_IO_PORT, 0x100, 3, &ops, &a, NULL));
    CHECK(hv_io_claim(io, HV_IO_PORT, 0x104, 2, &ops, &b, NULL));
    CHECK_EQ(hv_io_read(io, HV_IO_PORT, 0x100, 4), 0xffaaaaaa); /* 2 + 1 + nobody */
    CHECK_EQ(hv_io_read(io, HV_IO_PORT, 0x102, 4), 0xbbbbffaa);
    hv_io_write(io, HV_IO_PORT, 0x102, 4, 0x44332211);
    CHECK_STR(a.log, "r0.2 r2.1 r2.1 w2.1=11 ");
    CHECK_STR(b.log, "r0.2 w0.2=4433 ");
    hv_io_free(io);
}

static void overlaps_are_refused(void)
{
    struct hv_io *io = hv_io_new(NULL);
    struct dev a = {0};
    err e = ERR_INIT;
    struct hv_io_range *r = hv_io_claim(io, HV_IO_PORT, 0x60, 5, &ops, &a, NULL);
    CHECK(r);
    CHECK(!hv_io_claim(io, HV_IO_PORT, 0x64, 1, &ops, &a, &e));
    CHECK_EQ(e.code, ERR_EXISTS);
    CHECK(!hv_io_claim(io, HV_IO_PORT, 0x50, 0x100, &ops, &a, &e));
    CHECK(!hv_io_claim(io, HV_IO_PORT, 0xffff, 2, &ops, &a, &e));
    CHECK(!hv_io_claim(io, HV_IO_PORT, 0x70, 0, &ops, &a, &e));
    CHECK(!hv_io_claim(io, HV_IO_MMIO, UINT64_MAX, 2, &ops, &a, &e));
    CHECK(hv_io_claim(io, HV_IO_MMIO, 0x60, 5, &ops, &a, NULL)); /* another space */
    hv_io_release(io, r);
    CHECK_EQ(hv_io_read(io, HV_IO_PORT, 0x60, 1), 0xff);
    CHECK(hv_io_claim(io, HV_IO_PORT, 0x64, 1, &ops, &a, NULL));
    hv_io_free(io);
}

static _Atomic int phase;
static uint64_t slow_read(void *ctx, uint64_t offset, unsigned size)
{
    atomic_store(&phase, 1);
    usleep(30000);
    atomic_store(&phase, 2);
    return 0;
}
static void *reader(void *io)
{
    hv_io_read(io, HV_IO_PORT, 0x60, 1);
    return NULL;
}

static void release_waits_for_handlers(void)
{
    static const struct hv_io_ops slow = {"slow", slow_read, NULL};
    struct hv_io *io = hv_io_new(NULL);
    struct hv_io_range *r = hv_io_claim(io, HV_IO_PORT, 0x60, 1, &slow, NULL, NULL);
    hv_io_write(io, HV_IO_PORT, 0x60, 1, 0); /* no write handler: ignored */
    pthread_t t;
    pthread_create(&t, NULL, reader, io);
    while (atomic_load(&phase) == 0)
        usleep(100);
    hv_io_release(io, r);
    CHECK_EQ(atomic_load(&phase), 2);
    pthread_join(t, NULL);
    hv_io_free(io);
}

static const struct check_test tests[] = {
    CHECK_TEST(accesses_reach_their_claim),
    CHECK_TEST(wide_accesses_are_split),
    CHECK_TEST(overlaps_are_refused),
    CHECK_TEST(release_waits_for_handlers),
};
CHECK_MAIN(tests)
