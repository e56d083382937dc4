/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/hv/memory.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "core/base/bytes.h"

static void access_is_bounded(void)
{
    struct hv_memory *m = hv_memory_new(NULL);
    CHECK(hv_memory_add_ram(m, 0, MIB(1), NULL));
    CHECK(hv_memory_add_ram(m, MIB(1), MIB(1), NULL)); /* adjacent */
    uint8_t in[64], out[64] = {0};
    memset(in, 0xa5, sizeof in);
    CHECK(hv_memory_write(m, MIB(1) - 32, in, 64)); /* crosses both */
    CHECK(hv_memory_read(m, MIB(1) - 32, out, 64));
    CHECK(memcmp(in, out, 64) == 0);
    CHECK(!hv_memory_write(m, MIB(2) - 32, in, 64));
    CHECK(hv_memory_read(m, MIB(2) - 32, out, 32));
    CHECK_EQ(out[0], 0); /* a refused write touched nothing */
    CHECK(!hv_memory_read(m, UINT64_MAX - 8, out, 64));
    CHECK(!hv_memory_read(m, MIB(3), out, 1));
    CHECK(hv_memory_read(m, MIB(3), out, 0));

    struct hv_span s;
    CHECK(!hv_memory_acquire(m, MIB(1) - 8, 16, true, &s)); /* no pointer over two regions */
    CHECK(s.ptr == NULL);
    hv_memory_release(&s);
    CHECK(hv_memory_acquire(m, MIB(2) - 8, 8, true, &s));
    hv_memory_release(&s);
    CHECK(!hv_memory_acquire(m, 8, SIZE_MAX, true, &s));
    CHECK_EQ(hv_memory_ram_bytes(m), MIB(2));
    hv_memory_free(m);
}

static void bad_regions_are_refused(void)
{
    struct hv_memory *m = hv_memory_new(NULL);
    err e = ERR_INIT;
    CHECK(!hv_memory_add_ram(m, 1, 4096, &e));
    CHECK(!hv_memory_add_ram(m, 0, 0, &e));
    CHECK(!hv_memory_add_ram(m, 0, 4095, &e));
    CHECK(!hv_memory_add_ram(m, 1ull << 52, 4096, &e));
    CHECK(hv_memory_add_ram(m, MIB(1), MIB(1), &e));
    CHECK(!hv_memory_add_ram(m, MIB(2) - 4096, 8192, &e));
    CHECK_EQ(e.code, ERR_EXISTS);
    CHECK(!hv_memory_add_ram(m, 0, MIB(4), &e));
    CHECK_EQ(e.code, ERR_EXISTS);
    CHECK(!hv_memory_add_ram(m, GIB(4), TIB(1024), &e)); /* a petabyte */
    CHECK_EQ(e.code, ERR_NO_MEMORY);
    hv_memory_free(m);
}

static void rom_is_read_only(void)
{
    struct hv_memory *m = hv_memory_new(NULL);
    CHECK(hv_memory_add_rom(m, 0xf0000, 65536, "bios", 4, NULL));
    CHECK(!hv_memory_add_rom(m, 0x100000, 4096, "bios", 4097, NULL));
    uint8_t b[8];
    CHECK(hv_memory_read(m, 0xf0000, b, 8));
    CHECK(memcmp(b, "bios\0\0\0\0", 8) == 0);
    CHECK(!hv_memory_write(m, 0xf0000, b, 8));
    CHECK(!hv_memory_discard(m, 0xf0000, 4096));
    struct hv_span s;
    CHECK(!hv_memory_acquire(m, 0xf0000, 8, true, &s));
    CHECK(hv_memory_acquire(m, 0xf0000, 8, false, &s));
    hv_memory_release(&s);
    hv_memory_free(m);
}

static void files_are_private_and_video_is_shared(void)
{
    int fd = memfd_create("t", MFD_CLOEXEC);
    CHECK(ftruncate(fd, 8192) == 0 && pwrite(fd, "12345678", 8, 4096) == 8);
    struct hv_memory *m = hv_memory_new(NULL);
    err e = ERR_INIT;
    CHECK(!hv_memory_add_ram_file(m, 0, 8192, fd, 4096, &e));
    CHECK_EQ(e.code, ERR_CORRUPT);
    CHECK(hv_memory_add_ram_file(m, 0, 4096, fd, 4096, NULL));
    CHECK(hv_memory_add_video(m, MIB(16), 8192, fd, NULL));
    char b[8];
    CHECK(hv_memory_read(m, 0, b, 8) && memcmp(b, "12345678", 8) == 0);
    CHECK(hv_memory_write(m, 0, "private!", 8));
    CHECK(pread(fd, b, 8, 4096) == 8 && memcmp(b, "12345678", 8) == 0);
    CHECK(hv_memory_write(m, MIB(16), "visible!", 8));
    CHECK(pread(fd, b, 8, 0) == 8 && memcmp(b, "visible!", 8) == 0);
    CHECK(hv_memory_discard(m, 0, 4096)); /* zeroes, not the file again */
    CHECK(hv_memory_read(m, 0, b, 8) && memcmp(b, "\0\0\0\0\0\0\0\0", 8) == 0);
    hv_memory_free(m);
    close(fd);
}

struct seen {
    unsigned maps, unmaps, slots, writes;
    uint64_t gpa, len;
    unsigned changes;
    bool refuse;
};
static bool on_map(void *ctx, const struct hv_region *r, err *e)
{
    struct seen *s = ctx;
    if (s->refuse)
        return err_set(e, ERR_NO_SPACE, "full");
    s->maps++;
    s->slots |= 1u << hv_region_slot(r);
    return true;
}
static void on_unmap(void *ctx, const struct hv_region *r)
{
    ((struct seen *)ctx)->unmaps++;
}
static void on_written(void *ctx, uint64_t gpa, uint64_t len)
{
    struct seen *s = ctx;
    s->writes++;
    s->gpa = gpa;
    s->len = len;
}
static bool on_change(void *ctx, const struct hv_region *r, err *e)
{
    ((struct seen *)ctx)->changes++;
    return true;
}
#define LISTENER(s)                \
    (&(struct hv_memory_listener){ \
        .map = on_map, .change = on_change, .unmap = on_unmap, .written = on_written, .ctx = (s)})

static void listeners_hear_of_each_region(void)
{
    struct hv_memory *m = hv_memory_new(NULL);
    struct hv_region *a = hv_memory_add_ram(m, 0, 4096, NULL);
    struct seen one = {0}, two = {0};
    CHECK(hv_memory_add_listener(m, LISTENER(&one), NULL));
    CHECK(hv_memory_add_listener(m, LISTENER(&two), NULL));
    CHECK_EQ(one.maps, 1);
    CHECK(hv_memory_add_ram(m, 8192, 4096, NULL));
    CHECK_EQ(one.maps, 2);
    CHECK_EQ(one.slots, 3);
    two.refuse = true;
    CHECK(!hv_memory_add_ram(m, 65536, 4096, NULL));
    CHECK_EQ(one.unmaps, 1); /* taken back */
    two.refuse = false;
    hv_memory_remove(m, a);
    CHECK_EQ(two.unmaps, 1);
    uint8_t b;
    CHECK(!hv_memory_read(m, 0, &b, 1));
    CHECK(hv_memory_add_ram(m, 0, 4096, NULL));
    CHECK_EQ(one.slots, 7); /* slot 2 was used by the refused one, 0 again now */
    hv_memory_free(m);
}

static uint8_t byte_at(struct hv_memory *m, uint64_t gpa)
{
    uint8_t b = 0xee;
    CHECK(hv_memory_read(m, gpa, &b, 1));
    return b;
}

static void something_else_is_shown(void)
{
    static const uint64_t parts[] = {8192, 4096};
    static _Alignas(4096) uint8_t view[8192] = {1, 2, 3};
    struct hv_memory *m = hv_memory_new(NULL);
    struct seen seen = {0};
    CHECK(!hv_memory_add_ram_parts(m, 0, 12288, parts, 2, NULL)); /* nothing would be left */
    CHECK(hv_memory_add_ram_parts(m, 0, 65536, parts, 2, NULL));
    CHECK(hv_memory_add_listener(m, LISTENER(&seen), NULL));
    CHECK_EQ(seen.maps, 3);
    CHECK_EQ(hv_memory_ram_bytes(m), 65536);
    CHECK(hv_memory_write(m, 8190, "RAMRAM", 6)); /* over the border */
    CHECK(hv_memory_write(m, 0, "own", 3));

    CHECK(!hv_memory_show(m, 4096, view, false, NULL)); /* no region begins there */
    CHECK(!hv_memory_show(m, 0, view, true, NULL));
    CHECK(hv_memory_show(m, 0, view, false, NULL));
    CHECK(hv_memory_show(m, 0, view, false, NULL)); /* the same: nobody hears */
    CHECK_EQ(seen.changes, 1);
    CHECK_EQ(byte_at(m, 0), 1);
    CHECK(!hv_memory_write(m, 8190, "xx", 2));
    CHECK(!hv_memory_write(m, 8190, "xxxx", 4)); /* and nothing of it beyond the border */
    CHECK_EQ(byte_at(m, 8192), 'M');
    struct hv_span s;
    CHECK(!hv_memory_acquire(m, 0, 8, true, &s));
    CHECK(hv_memory_acquire(m, 0, 8, false, &s) && s.ptr == view);
    hv_memory_release(&s);
    CHECK(hv_memory_load(m, 1, "W", 1)); /* its own bytes are there behind it */
    CHECK_EQ(byte_at(m, 1), 2);

    CHECK(hv_memory_show(m, 0, NULL, false, NULL));
    CHECK_EQ(byte_at(m, 1), 'W');
    CHECK(!hv_memory_write(m, 0, "x", 1));
    CHECK(hv_memory_discard(m, 0, 4096)); /* a reset */
    CHECK_EQ(byte_at(m, 1), 0);
    CHECK(hv_memory_show(m, 0, NULL, true, NULL));
    CHECK_EQ(seen.changes, 3);
    CHECK(hv_memory_write(m, 0, "x", 1));

    int fd = memfd_create("t", MFD_CLOEXEC);
    CHECK(ftruncate(fd, 65536) == 0 && pwrite(fd, "file", 4, 8190) == 4);
    CHECK(hv_memory_map_file(m, 4096, 12288, fd, 4096, NULL)); /* over all three */
    CHECK_EQ(byte_at(m, 8191), 'i');
    CHECK_EQ(byte_at(m, 8192), 'l');
    CHECK_EQ(byte_at(m, 0), 'x');
    close(fd);
    hv_memory_free(m);
}

static void listeners_hear_of_host_writes(void)
{
    struct hv_memory *m = hv_memory_new(NULL);
    struct seen one = {0};
    CHECK(hv_memory_add_listener(m, LISTENER(&one), NULL));
    CHECK(hv_memory_add_ram(m, 0, 8192, NULL));
    CHECK(hv_memory_write(m, 16, "x", 1));
    CHECK(one.writes == 1 && one.gpa == 16 && one.len == 1);
    CHECK(!hv_memory_write(m, 8192, "x", 1));
    struct hv_span s;
    CHECK(hv_memory_acquire(m, 4096, 64, false, &s));
    hv_memory_release(&s);
    CHECK_EQ(one.writes, 1);
    CHECK(hv_memory_acquire(m, 4096, 64, true, &s));
    CHECK_EQ(one.writes, 1); /* the bytes are not there yet */
    hv_memory_release(&s);
    CHECK(one.writes == 2 && one.gpa == 4096 && one.len == 64);
    CHECK(hv_memory_discard(m, 0, 4096));
    CHECK(one.writes == 3 && one.gpa == 0 && one.len == 4096);
    hv_memory_free(m);
}

struct holder {
    struct hv_span span;
    _Atomic bool released;
};
static void *release_later(void *arg)
{
    struct holder *h = arg;
    usleep(30000);
    atomic_store(&h->released, true);
    hv_memory_release(&h->span);
    return NULL;
}

static void removal_waits_for_spans(void)
{
    struct hv_memory *m = hv_memory_new(NULL);
    struct hv_region *a = hv_memory_add_ram(m, 0, 4096, NULL);
    struct holder h = {0};
    CHECK(hv_memory_acquire(m, 0, 4096, true, &h.span));
    pthread_t t;
    pthread_create(&t, NULL, release_later, &h);
    hv_memory_remove(m, a);
    CHECK(atomic_load(&h.released));
    pthread_join(t, NULL);
    hv_memory_free(m);
}

static const struct check_test tests[] = {
    CHECK_TEST(access_is_bounded),
    CHECK_TEST(bad_regions_are_refused),
    CHECK_TEST(rom_is_read_only),
    CHECK_TEST(files_are_private_and_video_is_shared),
    CHECK_TEST(listeners_hear_of_each_region),
    CHECK_TEST(something_else_is_shown),
    CHECK_TEST(listeners_hear_of_host_writes),
    CHECK_TEST(removal_waits_for_spans),
};
CHECK_MAIN(tests)
