/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The floppy controller with the DMA controllers below it. */
#include "core/chipset/floppy.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "board.h"

enum { SECTOR = 512, SECTORS = 2880, MAIN = 0x3f4, FIFO = 0x3f5, DOR = 0x3f2, DIR = 0x3f7 };
enum { TO_MEMORY = 0x46, FROM_MEMORY = 0x4a, AT = 0x12000 };

struct rig {
    struct board b;
    int fd;
    struct disk *medium;
    struct floppy *floppy;
    struct device dma_device, d;
    struct dma *dma;
    uint8_t result[16];
};

static int open_memory(void *ctx, const char *path, const char *referrer, unsigned flags,
                       char **resolved, err *e)
{
    *resolved = strdup(path);
    return dup(*(int *)ctx);
}

static struct disk *open_disk(struct rig *r, const struct disk_opener *o, unsigned flags)
{
    return disk_open(&(struct disk_open_params){.path = "disk",
                                                .format = DISK_FORMAT_RAW,
                                                .flags = flags | DISK_OPEN_NO_LOCK,
                                                .opener = o,
                                                .loop = r->b.f.env.loop},
                     NULL);
}

static void send(struct rig *r, const uint8_t *bytes, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        CHECK_EQ(in8(&r->b.f, MAIN) & 0xc0, 0x80);
        out8(&r->b.f, FIFO, bytes[i]);
    }
}
#define SEND(r, ...) send(r, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* Waits for the result and takes it all. */
static unsigned take(struct rig *r)
{
    unsigned n = 0;
    for (int i = 0; i < 3000 && !(in8(&r->b.f, MAIN) & 0x80); i++)
        loop_turn(r->b.f.env.loop, 10);
    while ((in8(&r->b.f, MAIN) & 0xc0) == 0xc0 && n < sizeof r->result)
        r->result[n++] = in8(&r->b.f, FIFO);
    return n;
}

static void program_dma(struct rig *r, uint8_t mode, uint32_t at, unsigned len)
{
    out8(&r->b.f, 0x0a, 0x06);
    out8(&r->b.f, 0x0c, 0);
    out8(&r->b.f, 0x04, (uint8_t)at);
    out8(&r->b.f, 0x04, (uint8_t)(at >> 8));
    out8(&r->b.f, 0x81, (uint8_t)(at >> 16));
    out8(&r->b.f, 0x0c, 0);
    out8(&r->b.f, 0x05, (uint8_t)(len - 1));
    out8(&r->b.f, 0x05, (uint8_t)((len - 1) >> 8));
    out8(&r->b.f, 0x0b, mode);
    out8(&r->b.f, 0x0a, 0x02);
}

static void seek_to(struct rig *r, uint8_t cylinder)
{
    SEND(r, 0x0f, 0, cylinder);
    CHECK(r->b.irq[6]);
    SEND(r, 0x08);
    CHECK_EQ(take(r), 2);
    CHECK_EQ(r->result[0], 0x20);
    CHECK_EQ(r->result[1], cylinder);
    CHECK(!r->b.irq[6]);
}

static void test_reset(struct rig *r)
{
    CHECK_EQ(in8(&r->b.f, MAIN), 0);
    out8(&r->b.f, DOR, 0x1c);
    CHECK(r->b.irq[6]);
    for (uint8_t unit = 0; unit < 4; unit++) {
        SEND(r, 0x08);
        CHECK_EQ(take(r), 2);
        CHECK_EQ(r->result[0], 0xc0 | unit);
    }
    SEND(r, 0x08); /* nothing more to say */
    CHECK_EQ(take(r), 1);
    CHECK_EQ(r->result[0], 0x80);
    SEND(r, 0x10);
    CHECK_EQ(take(r), 1);
    CHECK_EQ(r->result[0], 0x90);
    SEND(r, 0x03, 0xaf, 0x02);
    out8(&r->b.f, DIR, 0); /* 500 kbit/s */
    CHECK_EQ(in8(&r->b.f, DIR) & 0x80, 0x80);
    seek_to(r, 1);
    CHECK_EQ(in8(&r->b.f, DIR) & 0x80, 0);
    SEND(r, 0x07, 0);
    SEND(r, 0x08);
    CHECK_EQ(take(r), 2);
    CHECK_EQ(r->result[1], 0);
}

static void test_read(struct rig *r)
{
    uint8_t got[2 * SECTOR];
    program_dma(r, TO_MEMORY, AT, sizeof got);
    SEND(r, 0xe6, 0x04, 0, 1, 3, 2, 18, 0x1b, 0xff); /* cylinder 0, head 1, sectors 3 and 4 */
    CHECK_EQ(take(r), 7);
    CHECK_EQ(r->result[0], 0x04);
    CHECK_EQ(r->result[1] | r->result[2], 0);
    CHECK_EQ(r->result[3], 0);
    CHECK_EQ(r->result[5], 5);
    CHECK(hv_memory_read(r->b.memory, AT, got, sizeof got));
    CHECK_EQ(get_le32(got), 20);
    CHECK_EQ(get_le32(got + SECTOR), 21);
    CHECK_EQ(in8(&r->b.f, 0x08) & 4, 4); /* terminal count, once */
    CHECK_EQ(in8(&r->b.f, 0x08) & 4, 0);
    /* Past the end of the track without the count's end; then over to the other side. */
    program_dma(r, TO_MEMORY, AT, 3 * SECTOR);
    SEND(r, 0x46, 0, 0, 0, 18, 2, 18, 0x1b, 0xff);
    CHECK_EQ(take(r), 7);
    CHECK_EQ(r->result[0], 0x40);
    CHECK_EQ(r->result[1], 0x80);
    program_dma(r, TO_MEMORY, AT, 2 * SECTOR);
    SEND(r, 0xc6, 0, 0, 0, 18, 2, 18, 0x1b, 0xff);
    CHECK_EQ(take(r), 7);
    CHECK_EQ(r->result[1], 0);
    CHECK_EQ(r->result[4], 1);
    CHECK_EQ(r->result[5], 2);
    CHECK(hv_memory_read(r->b.memory, AT, got, sizeof got));
    CHECK_EQ(get_le32(got + SECTOR), 18);
}

static void test_refused(struct rig *r)
{
    program_dma(r, TO_MEMORY, AT, SECTOR);
    SEND(r, 0xe6, 0, 5, 0, 1, 2, 18, 0x1b, 0xff); /* the heads stand elsewhere */
    CHECK_EQ(take(r), 7);
    CHECK_EQ(r->result[0], 0x40);
    CHECK_EQ(r->result[2], 0x10);
    SEND(r, 0xe6, 0, 0, 0, 19, 2, 18, 0x1b, 0xff); /* no such sector */
    CHECK_EQ(take(r), 7);
    CHECK_EQ(r->result[1], 4);
    SEND(r, 0xe6, 1, 0, 0, 1, 2, 18, 0x1b, 0xff); /* no such drive */
    CHECK_EQ(take(r), 7);
    CHECK_EQ(r->result[1], 1);
    out8(&r->b.f, DIR, 2); /* another rate */
    SEND(r, 0x4a, 0);
    CHECK_EQ(take(r), 7);
    CHECK_EQ(r->result[1], 1);
    out8(&r->b.f, DIR, 0);
    SEND(r, 0x4a, 0);
    CHECK_EQ(take(r), 7);
    CHECK_EQ(r->result[0], 0);
    out8(&r->b.f, 0x0a, 0x06); /* the channel is masked */
    SEND(r, 0xe6, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
    CHECK_EQ(take(r), 7);
    CHECK_EQ(r->result[1], 0x10);
    SEND(r, 0x1f);
    CHECK_EQ(take(r), 1);
    CHECK_EQ(r->result[0], 0x80);
}

static void test_write(struct rig *r)
{
    uint8_t bytes[SECTOR], got[SECTOR];
    memset(bytes, 0xa5, sizeof bytes);
    CHECK(hv_memory_write(r->b.memory, AT, bytes, sizeof bytes));
    seek_to(r, 79);
    program_dma(r, FROM_MEMORY, AT, SECTOR);
    SEND(r, 0xc5, 0x04, 79, 1, 18, 2, 18, 0x1b, 0xff);
    CHECK_EQ(take(r), 7);
    CHECK_EQ(r->result[0] & 0xc0, 0);
    CHECK_EQ(pread(r->fd, got, SECTOR, (off_t)(SECTORS - 1) * SECTOR), SECTOR);
    CHECK(memcmp(got, bytes, SECTOR) == 0);
    uint8_t ids[18 * 4];
    for (unsigned i = 0; i < 18; i++)
        memcpy(ids + i * 4, (const uint8_t[]){79, 0, (uint8_t)(i + 1), 2}, 4);
    CHECK(hv_memory_write(r->b.memory, AT, ids, sizeof ids));
    program_dma(r, FROM_MEMORY, AT, sizeof ids);
    SEND(r, 0x4d, 0, 2, 18, 0x50, 0xf6);
    CHECK_EQ(take(r), 7);
    CHECK_EQ(r->result[0], 0);
    CHECK_EQ(pread(r->fd, got, SECTOR, (off_t)(79 * 36 + 17) * SECTOR), SECTOR);
    CHECK_EQ(got[0], 0xf6);
    CHECK_EQ(got[SECTOR - 1], 0xf6);
}

static void on_change(void *ctx)
{
    *(bool *)ctx = true;
}

static void test_medium(struct rig *r, const struct disk_opener *o)
{
    bool out = false, in = false;
    CHECK(floppy_set_medium(r->floppy, NULL, on_change, &out, NULL));
    for (int i = 0; i < 100 && !out; i++)
        loop_turn(r->b.f.env.loop, 10);
    disk_close(r->medium);
    SEND(r, 0x4a, 0);
    CHECK_EQ(take(r), 7);
    CHECK_EQ(r->result[1], 1);
    CHECK_EQ(in8(&r->b.f, DIR) & 0x80, 0x80);
    r->medium = open_disk(r, o, DISK_OPEN_READ_ONLY);
    CHECK(floppy_set_medium(r->floppy, r->medium, on_change, &in, NULL));
    for (int i = 0; i < 100 && !in; i++)
        loop_turn(r->b.f.env.loop, 10);
    CHECK_EQ(in8(&r->b.f, DIR) & 0x80, 0x80);
    seek_to(r, 0);
    CHECK_EQ(in8(&r->b.f, DIR) & 0x80, 0);
    program_dma(r, FROM_MEMORY, AT, SECTOR);
    SEND(r, 0xc5, 0, 0, 0, 1, 2, 18, 0x1b, 0xff); /* write-protected */
    CHECK_EQ(take(r), 7);
    CHECK_EQ(r->result[1], 2);
    SEND(r, 0x04, 0);
    CHECK_EQ(take(r), 1);
    CHECK_EQ(r->result[0] & 0x50, 0x50);
}

/* A result that was half taken, and a programmed channel, go on after a restore. */
static void test_state(struct rig *r)
{
    struct state_writer *w = state_writer_new();
    size_t len;
    program_dma(r, TO_MEMORY, AT, SECTOR);
    SEND(r, 0x4a, 0);
    CHECK_EQ(in8(&r->b.f, FIFO), 0);
    fake_stop(&r->b.f, r->d);
    r->d.ops->save(r->d.self, w);
    r->dma_device.ops->save(r->dma_device.self, w);
    const uint8_t *p = state_writer_data(w, &len, NULL);
    r->d.ops->reset(r->d.self);
    r->dma_device.ops->reset(r->dma_device.self);
    CHECK_EQ(dma_ready(r->dma, 2, true), 0);
    const struct state_reader s = {.data = p, .len = len};
    CHECK(r->d.ops->restore(r->d.self, &s, NULL));
    CHECK(r->dma_device.ops->restore(r->dma_device.self, &s, NULL));
    fake_start(&r->b.f, r->d);
    CHECK_EQ(dma_ready(r->dma, 2, true), SECTOR);
    CHECK_EQ(dma_ready(r->dma, 2, false), 0);
    CHECK_EQ(take(r), 6);
    CHECK_EQ(r->result[5], 2);
    state_writer_free(w);
    /* Switched off in the midst of a command, it can be saved all the same. */
    SEND(r, 0xe6, 0, 0);
    out8(&r->b.f, DOR, 0);
    w = state_writer_new();
    fake_stop(&r->b.f, r->d);
    r->d.ops->save(r->d.self, w);
    p = state_writer_data(w, &len, NULL);
    const struct state_reader off = {.data = p, .len = len};
    CHECK(r->d.ops->restore(r->d.self, &off, NULL));
    fake_start(&r->b.f, r->d);
    state_writer_free(w);
}

static void test_dma(struct rig *r)
{
    uint8_t bytes[4] = {1, 2, 3, 4}, got[4];
    bool terminal;
    program_dma(r, 0x66, 0x10003, 4); /* downwards, to memory */
    CHECK_EQ(dma_move(r->dma, 2, bytes, 4, true, &terminal), 4);
    CHECK(terminal);
    CHECK(hv_memory_read(r->b.memory, 0x10000, got, 4));
    CHECK_EQ(get_le32(got), 0x01020304);
    program_dma(r, 0x5a, 0x1fffe, 4); /* from memory, again and again, around the 64 KiB */
    CHECK_EQ(dma_move(r->dma, 2, got, 3, false, &terminal), 3);
    CHECK(!terminal);
    CHECK_EQ(got[2], 4);
    CHECK_EQ(dma_move(r->dma, 2, got, 3, false, &terminal), 1);
    CHECK(terminal);
    CHECK_EQ(dma_ready(r->dma, 2, false), 4);
    program_dma(r, FROM_MEMORY, 0xfe0000, 1); /* no memory there */
    CHECK_EQ(dma_move(r->dma, 2, got, 1, false, &terminal), 1);
    CHECK_EQ(got[0], 0xff);
    out8(&r->b.f, 0x80, 0x42); /* a POST code */
    CHECK_EQ(in8(&r->b.f, 0x80), 0x42);
    CHECK(!floppy_fits(KIB(2881), NULL));
    CHECK(floppy_fits(KIB(720), NULL));
    CHECK_EQ(floppy_cmos(KIB(1200)), 0x20);
    CHECK_EQ(floppy_cmos(0), 0x40);
}

int main(void)
{
    struct rig r = {0};
    board_init(&r.b);
    r.fd = memfd_create("floppy", MFD_CLOEXEC);
    for (uint32_t i = 0; i < SECTORS; i++) {
        uint8_t sector[SECTOR] = {0};
        put_le32(sector, i);
        CHECK_EQ(pwrite(r.fd, sector, SECTOR, (off_t)i * SECTOR), SECTOR);
    }
    const struct disk_opener opener = {.open = open_memory, .ctx = &r.fd};
    r.medium = open_disk(&r, &opener, 0);
    r.dma = dma_new(&r.b.f.env, r.b.memory, NULL);
    r.dma_device = dma_device(r.dma);
    r.floppy = floppy_new(&(struct floppy_params){.env = &r.b.f.env,
                                                  .dma = r.dma,
                                                  .irq = board_line(&r.b, LAYOUT_IRQ_FLOPPY)},
                          NULL);
    floppy_attach(r.floppy, r.medium);
    r.d = floppy_device(r.floppy);
    r.d.ops->reset(r.d.self);
    fake_start(&r.b.f, r.d);
    test_reset(&r);
    test_read(&r);
    test_refused(&r);
    test_write(&r);
    test_medium(&r, &opener);
    test_state(&r);
    test_dma(&r);
    fake_stop(&r.b.f, r.d);
    r.d.ops->destroy(r.d.self);
    r.dma_device.ops->destroy(r.dma_device.self);
    disk_close(r.medium);
    board_end(&r.b);
    close(r.fd);
    return check_failures != 0;
}
