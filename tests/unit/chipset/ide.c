/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/ide.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "board.h"

enum { BSY = 0x80, DRQ = 8, ERR = 1, BLOCKS = 64, SECTORS = BLOCKS * 4 };

struct rig {
    struct board b;
    int fd;
    struct disk *disk, *medium;
    struct scsi_lun *dvd;
    struct ide *ide;
    struct device d;
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

static uint8_t status(struct rig *r)
{
    return in8(&r->b.f, 0x3f6);
}

/* Until the drive is not busy. */
static uint8_t ready(struct rig *r)
{
    for (int i = 0; i < 2000 && status(r) & BSY; i++)
        loop_turn(r->b.f.env.loop, 10);
    return status(r);
}

static void command(struct rig *r, uint8_t drive, uint32_t lba, uint8_t count, uint8_t op)
{
    out8(&r->b.f, 0x1f6, (uint8_t)(0xe0 | drive << 4 | (lba >> 24 & 15)));
    out8(&r->b.f, 0x1f2, count);
    out8(&r->b.f, 0x1f3, (uint8_t)lba);
    out8(&r->b.f, 0x1f4, (uint8_t)(lba >> 8));
    out8(&r->b.f, 0x1f5, (uint8_t)(lba >> 16));
    out8(&r->b.f, 0x1f7, op);
}

static void test_identify(struct rig *r)
{
    uint16_t w[256];
    command(r, 0, 0, 0, 0xec);
    CHECK(ready(r) & DRQ);
    CHECK(r->b.irq[14]);
    for (int i = 0; i < 256; i++)
        w[i] = in16(&r->b.f, 0x1f0);
    CHECK_EQ(w[60], SECTORS);
    CHECK_EQ(w[100], SECTORS);
    CHECK((w[93] & 0xdf61) != 0x4041); /* SeaBIOS would not look for the second drive */
    CHECK(!(ready(r) & DRQ));
    in8(&r->b.f, 0x1f7);
    CHECK(!r->b.irq[14]);
    command(r, 1, 0, 0, 0xec); /* a DVD drive says so by its signature */
    CHECK(ready(r) & ERR);
    CHECK_EQ(in8(&r->b.f, 0x1f4), 0x14);
    CHECK_EQ(in8(&r->b.f, 0x1f5), 0xeb);
}

static void test_pio(struct rig *r)
{
    uint16_t word = 0;
    command(r, 0, 5, 2, 0x30);
    for (int s = 0; s < 2; s++) {
        CHECK(ready(r) & DRQ);
        for (int i = 0; i < 256; i++)
            out16(&r->b.f, 0x1f0, (uint16_t)(0x5000 + s * 256 + i));
    }
    CHECK_EQ(ready(r) & (ERR | DRQ), 0);
    CHECK_EQ(pread(r->fd, &word, 2, 6 * 512 + 4), 2);
    CHECK_EQ(word, 0x5000 + 256 + 2);
    command(r, 0, 4, 3, 0x20);
    for (int i = 0; i < 3 * 256; i++) {
        if (i % 256 == 0)
            CHECK(ready(r) & DRQ);
        word = in16(&r->b.f, 0x1f0);
        CHECK_EQ(word, i < 256 ? 0x0404 : 0x5000 + i - 256);
    }
    CHECK_EQ(ready(r) & (ERR | DRQ), 0);
    command(r, 0, SECTORS - 1, 2, 0x20); /* beyond the end */
    CHECK(ready(r) & ERR);
}

static uint16_t start_dma(struct rig *r, uint32_t at, uint16_t len, bool to_memory)
{
    uint8_t prd[8] = {0};
    config_out(&r->b, LAYOUT_PCI_ISA, 1, 0x20, 0xc040);
    config_out(&r->b, LAYOUT_PCI_ISA, 1, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
    put_le32(prd, at);
    put_le16(prd + 4, len);
    prd[7] = 0x80;
    CHECK(hv_memory_write(r->b.memory, 0x1000, prd, sizeof prd));
    out32(&r->b.f, 0xc044, 0x1000);
    out8(&r->b.f, 0xc042, 6);
    out8(&r->b.f, 0xc040, to_memory ? 9 : 1);
    return 0xc042;
}

static void test_dma(struct rig *r)
{
    uint8_t bytes[1024];
    command(r, 0, 16, 2, 0xc8);
    uint16_t bm = start_dma(r, 0x2000, 1024, true);
    CHECK_EQ(ready(r) & ERR, 0);
    CHECK_EQ(in8(&r->b.f, bm) & 7, 4); /* done, interrupt */
    CHECK(hv_memory_read(r->b.memory, 0x2000, bytes, sizeof bytes));
    CHECK(bytes[0] == 16 && bytes[600] == 17);
    out8(&r->b.f, 0xc040, 0);
    memset(bytes, 0x77, sizeof bytes);
    CHECK(hv_memory_write(r->b.memory, 0x2000, bytes, sizeof bytes));
    command(r, 0, 20, 2, 0xca);
    start_dma(r, 0x2000, 1024, false);
    CHECK_EQ(ready(r) & ERR, 0);
    CHECK_EQ(pread(r->fd, bytes, 2, 21 * 512), 2);
    CHECK_EQ(bytes[0], 0x77);
    out8(&r->b.f, 0xc040, 0);
    command(r, 0, 20, 2, 0xc8);
    start_dma(r, 0x2000, 512, true); /* the table is too short */
    CHECK(ready(r) & ERR);
    out8(&r->b.f, 0xc040, 0);
}

static void packet(struct rig *r, const uint8_t cdb[12])
{
    out8(&r->b.f, 0x1f6, 0xb0);
    out8(&r->b.f, 0x1f1, 0);
    out8(&r->b.f, 0x1f4, 0);
    out8(&r->b.f, 0x1f5, 8); /* 2048 bytes at a time */
    out8(&r->b.f, 0x1f7, 0xa0);
    CHECK(ready(r) & DRQ);
    for (int i = 0; i < 12; i += 2)
        out16(&r->b.f, 0x1f0, get_le16(cdb + i));
    ready(r);
}

static void test_dvd(struct rig *r)
{
    const uint8_t unit_ready[12] = {0}, read[12] = {0x28, 0, 0, 0, 0, 3, 0, 0, 2};
    const uint8_t sense[12] = {3, 0, 0, 0, 18}, bad[12] = {0xff};
    packet(r, unit_ready);
    CHECK_EQ(status(r) & (ERR | DRQ), 0);
    packet(r, read);
    for (int block = 0; block < 2; block++) {
        CHECK(ready(r) & DRQ);
        CHECK_EQ(in8(&r->b.f, 0x1f5), 8);
        CHECK_EQ(in8(&r->b.f, 0x1f2), 2);
        CHECK_EQ(in16(&r->b.f, 0x1f0) & 0xff, (3 + block) * 4);
        for (int i = 1; i < 1024; i++)
            in16(&r->b.f, 0x1f0);
    }
    CHECK_EQ(ready(r) & (ERR | DRQ), 0);
    CHECK_EQ(in8(&r->b.f, 0x1f2), 3);
    packet(r, bad);
    CHECK(status(r) & ERR);
    packet(r, sense);
    CHECK(status(r) & DRQ);
    uint8_t s[18];
    for (int i = 0; i < 18; i += 2)
        put_le16(s + i, in16(&r->b.f, 0x1f0));
    CHECK_EQ(s[2], 5);
    CHECK_EQ(s[12], 0x20);
}

/* A transfer is saved in its middle and goes on. */
static void test_state(struct rig *r)
{
    command(r, 0, 8, 4, 0x20);
    CHECK(ready(r) & DRQ);
    for (int i = 0; i < 256 + 10; i++)
        in16(&r->b.f, 0x1f0);
    fake_check_state(&r->b.f, r->d);
    CHECK_EQ(in16(&r->b.f, 0x1f0), 0x0909);
    out8(&r->b.f, 0x3f6, 4); /* reset */
    out8(&r->b.f, 0x3f6, 0);
    CHECK_EQ(ready(r) & (ERR | DRQ), 0);
    CHECK_EQ(in8(&r->b.f, 0x1f3), 1);
    CHECK_EQ(in8(&r->b.f, 0x1f4), 0);
    out8(&r->b.f, 0x1f6, 0xb0); /* each drive says what it is */
    CHECK_EQ(in8(&r->b.f, 0x1f4), 0x14);
    CHECK_EQ(in8(&r->b.f, 0x1f5), 0xeb);
}

int main(void)
{
    struct rig r = {.fd = memfd_create("disk", MFD_CLOEXEC)};
    uint8_t sector[512];
    struct disk_opener opener = {.open = open_memory, .ctx = &r.fd};
    for (int i = 0; i < SECTORS; i++) {
        memset(sector, i, sizeof sector);
        CHECK_EQ(write(r.fd, sector, sizeof sector), 512);
    }
    board_init(&r.b);
    r.disk = open_disk(&r, &opener, 0);
    r.medium = open_disk(&r, &opener, DISK_OPEN_READ_ONLY);
    r.dvd = scsi_lun_new(&(struct scsi_lun_params){.kind = SCSI_DVD, .disk = r.medium}, NULL);
    r.ide = ide_new(&(struct ide_params){.env = &r.b.f.env,
                                         .bus = r.b.bus,
                                         .memory = r.b.memory,
                                         .irq = {board_line(&r.b, 14), board_line(&r.b, 15)}},
                    NULL);
    ide_attach_disk(r.ide, 0, r.disk, "TEST");
    ide_attach_dvd(r.ide, 1, r.dvd);
    r.d = ide_device(r.ide);
    fake_start(&r.b.f, r.d);
    test_identify(&r);
    test_pio(&r);
    test_dma(&r);
    test_dvd(&r);
    test_state(&r);
    struct ide_counters c;
    ide_counters(r.ide, 0, &c);
    CHECK(c.commands >= 8 && c.written_bytes == 2048);
    fake_stop(&r.b.f, r.d);
    r.d.ops->destroy(r.d.self);
    scsi_lun_free(r.dvd);
    disk_close(r.disk);
    disk_close(r.medium);
    board_end(&r.b);
    close(r.fd);
    return check_failures != 0;
}
