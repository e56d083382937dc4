/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ATA disks: commands and their data. Source: ATA/ATAPI-6. */
#include <errno.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/chipset/ide-int.h"

enum ata_command {
    ATA_NOP = 0x00,
    ATA_DEVICE_RESET = 0x08,
    ATA_RECALIBRATE = 0x10, /* to 1F */
    ATA_READ = 0x20,
    ATA_READ_ONCE = 0x21,
    ATA_READ_EXT = 0x24,
    ATA_READ_DMA_EXT = 0x25,
    ATA_READ_MAX_EXT = 0x27,
    ATA_READ_MULTIPLE_EXT = 0x29,
    ATA_WRITE = 0x30,
    ATA_WRITE_ONCE = 0x31,
    ATA_WRITE_EXT = 0x34,
    ATA_WRITE_DMA_EXT = 0x35,
    ATA_WRITE_MULTIPLE_EXT = 0x39,
    ATA_WRITE_DMA_FUA_EXT = 0x3d,
    ATA_VERIFY = 0x40,
    ATA_VERIFY_ONCE = 0x41,
    ATA_VERIFY_EXT = 0x42,
    ATA_SEEK = 0x70,
    ATA_DIAGNOSTIC = 0x90,
    ATA_INIT_PARAMETERS = 0x91,
    ATA_PACKET = 0xa0,
    ATA_IDENTIFY_PACKET = 0xa1,
    ATA_READ_MULTIPLE = 0xc4,
    ATA_WRITE_MULTIPLE = 0xc5,
    ATA_SET_MULTIPLE = 0xc6,
    ATA_READ_DMA = 0xc8,
    ATA_READ_DMA_ONCE = 0xc9,
    ATA_WRITE_DMA = 0xca,
    ATA_WRITE_DMA_ONCE = 0xcb,
    ATA_STANDBY_NOW = 0xe0,
    ATA_IDLE_NOW = 0xe1,
    ATA_STANDBY = 0xe2,
    ATA_IDLE = 0xe3,
    ATA_CHECK_POWER = 0xe5,
    ATA_SLEEP = 0xe6,
    ATA_FLUSH = 0xe7,
    ATA_FLUSH_EXT = 0xea,
    ATA_IDENTIFY = 0xec,
    ATA_SET_FEATURES = 0xef,
    ATA_READ_MAX = 0xf8,
};
enum { READY = ST_DRDY | ST_DSC, HEADS = 16, PER_TRACK = 63, MOST_CYLINDERS = 16383 };
#define MOST_28 0x0fffffffull

void ide_put_string(uint8_t *at, size_t len, const char *s)
{
    size_t n = strnlen(s, len);
    for (size_t i = 0; i < len; i++)
        at[i ^ 1] = i < n ? (uint8_t)s[i] : ' ';
}

static unsigned cylinders(const struct ide_drive *d)
{
    return (unsigned)MIN(d->sectors / (HEADS * PER_TRACK), (uint64_t)MOST_CYLINDERS);
}

static void identify(const struct ide_drive *d, uint8_t out[SECTOR])
{
    uint16_t w[SECTOR / 2] = {0};
    uint32_t chs = cylinders(d) * HEADS * PER_TRACK;
    w[0] = 0x0040; /* fixed */
    w[1] = w[54] = (uint16_t)cylinders(d);
    w[3] = w[55] = HEADS;
    w[6] = w[56] = PER_TRACK;
    w[47] = 0x8000 | MOST_MULTIPLE;
    w[49] = 0x0f00; /* IORDY, LBA, DMA */
    w[50] = 0x4000;
    w[51] = w[52] = 0x0200;
    w[53] = 7;
    w[57] = (uint16_t)chs;
    w[58] = (uint16_t)(chs >> 16);
    w[59] = d->multiple ? (uint16_t)(0x100 | d->multiple) : 0;
    w[60] = (uint16_t)MIN(d->sectors, MOST_28);
    w[61] = (uint16_t)(MIN(d->sectors, MOST_28) >> 16);
    w[63] = (uint16_t)(7 | (d->mwdma ? 0x80 << d->mwdma : 0));
    w[64] = 3;
    w[65] = w[66] = w[67] = w[68] = 120;
    w[80] = 0x7e;           /* ATA-1 to ATA-6 */
    w[82] = w[85] = 0x4020; /* NOP, write cache */
    w[83] = w[86] = 0x7400; /* 48 bits, both flushes */
    w[86] &= 0x3fff;
    w[84] = w[87] = 0x4000;
    if (!d->write_cache)
        w[85] &= (uint16_t)~0x20;
    w[88] = (uint16_t)(0x3f | (d->udma ? 0x80 << d->udma : 0));
    w[93] = 0x600b; /* 80 wires; does not answer for the other drive */
    for (unsigned i = 0; i < 4; i++)
        w[100 + i] = (uint16_t)(d->sectors >> i * 16);
    for (unsigned i = 0; i < SECTOR / 2; i++)
        put_le16(out + i * 2, w[i]);
    ide_put_string(out + 20, 20, d->serial);
    ide_put_string(out + 46, 8, "1.1.0");
    ide_put_string(out + 54, 40, "Virtual HD");
}

void ide_ata_reset_drive(struct ide_drive *d)
{
    d->multiple = 0;
    d->write_cache = true;
    d->error = 1;
    d->status = d->kind == IDE_DISK ? READY : 0;
    d->sense_key = d->asc = d->ascq = 0;
}

void ide_signature(struct ide_channel *c)
{
    const struct ide_drive *d = ide_selected(c);
    c->count[0] = c->low[0] = 1;
    c->mid[0] = d->kind == IDE_DVD ? 0x14 : 0;
    c->high[0] = d->kind == IDE_DVD ? 0xeb : 0;
    c->device &= IDE_DEV;
}

static void abort_command(struct ide_channel *c)
{
    ide_finish(c, READY | ST_ERR, ER_ABRT);
}

/* ---- addresses ---- */

static uint64_t chs_address(const struct ide_channel *c)
{
    uint32_t cylinder = (uint32_t)c->high[0] << 8 | c->mid[0];
    return ((uint64_t)cylinder * HEADS + (c->device & 15)) * PER_TRACK + c->low[0] - 1;
}

/* Sets lba and left from the task file; false if it lies outside of the disk. */
static bool take_address(struct ide_channel *c, bool ext)
{
    const struct ide_drive *d = ide_active(c);
    uint64_t low = (uint64_t)c->high[0] << 16 | (uint64_t)c->mid[0] << 8 | c->low[0];
    if (ext) {
        c->lba = low | (uint64_t)c->high[1] << 40 | (uint64_t)c->mid[1] << 32 |
                 (uint64_t)c->low[1] << 24;
        c->left = (uint32_t)c->count[1] << 8 | c->count[0];
        c->left = c->left ? c->left : 0x10000;
    } else {
        c->lba = c->device & IDE_LBA ? low | (uint64_t)(c->device & 15) << 24 : chs_address(c);
        c->left = c->count[0] ? c->count[0] : 256;
    }
    return c->lba < d->sectors && c->left <= d->sectors - c->lba;
}

/* The task file names the sector that failed, or the last. */
static void put_address(struct ide_channel *c, uint64_t lba)
{
    c->low[0] = (uint8_t)lba;
    c->mid[0] = (uint8_t)(lba >> 8);
    c->high[0] = (uint8_t)(lba >> 16);
    c->low[1] = (uint8_t)(lba >> 24);
    c->mid[1] = (uint8_t)(lba >> 32);
    c->high[1] = (uint8_t)(lba >> 40);
    if (c->device & IDE_LBA)
        c->device = (uint8_t)((c->device & 0xf0) | (lba >> 24 & 15));
}

/* ---- reading and writing ---- */

static void next_chunk(struct ide_channel *c)
{
    c->chunk = MIN(c->left, (uint32_t)BUFFER / SECTOR);
    c->len = (size_t)c->chunk * SECTOR;
    c->pos = c->drq_end = 0;
}

/* Asks the guest for a chunk (by interrupt, but for the first), or the I/O thread. */
static void step(struct ide_channel *c, bool first)
{
    next_chunk(c);
    if (!c->writes) {
        c->phase = PH_READ;
        ide_go(c);
    } else if (c->dma) {
        c->phase = PH_WRITE;
        ide_go(c);
    } else {
        c->phase = PH_PIO_OUT;
        ide_offer(c, !first);
    }
}

void ide_dma_begin(struct ide_channel *c)
{
    if (c->packet) {
        c->phase = PH_PACKET;
        ide_go(c);
    } else {
        step(c, false);
    }
}

/* `block`: sectors of a DRQ block. */
static void transfer(struct ide_channel *c, bool ext, bool writes, bool dma, unsigned block)
{
    if (!take_address(c, ext)) {
        ide_finish(c, READY | ST_ERR, ER_IDNF);
        return;
    }
    if (!block) {
        abort_command(c);
        return;
    }
    c->writes = writes;
    c->dma = dma;
    c->packet = false;
    c->block = block * SECTOR;
    if (dma) {
        c->phase = PH_DMA_WAIT;
        ide_active(c)->status = READY | ST_DRQ;
        if (c->bm_command & 1)
            ide_dma_begin(c);
        return;
    }
    step(c, true);
}

static void chunk_done(struct ide_channel *c)
{
    struct ide_drive *d = ide_active(c);
    c->lba += c->chunk;
    c->left -= c->chunk;
    if (c->writes)
        d->counters.written_bytes += (uint64_t)c->chunk * SECTOR;
    else
        d->counters.read_bytes += (uint64_t)c->chunk * SECTOR;
}

void ide_data_done(struct ide_channel *c)
{
    if (c->packet) {
        ide_packet_data_done(c);
        return;
    }
    if (c->phase == PH_PIO_OUT) {
        c->phase = PH_WRITE;
        ide_go(c);
        return;
    }
    if (c->command == ATA_IDENTIFY || c->command == ATA_IDENTIFY_PACKET) {
        c->phase = PH_IDLE;
        ide_active(c)->status = READY;
        return;
    }
    chunk_done(c);
    if (c->left) {
        step(c, false);
        return;
    }
    c->phase = PH_IDLE;
    ide_active(c)->status = READY;
}

static void reply(struct ide_channel *c, const uint8_t data[SECTOR])
{
    memcpy(c->buffer, data, SECTOR);
    c->len = c->block = SECTOR;
    c->pos = c->drq_end = 0;
    c->packet = c->writes = c->dma = false;
    c->left = c->chunk = 0;
    c->phase = PH_PIO_IN;
    ide_offer(c, true);
}

/* ---- on the I/O thread ---- */

static void failed(struct ide_channel *c)
{
    put_address(c, c->lba);
    ide_finish(c, READY | ST_ERR, c->writes ? ER_ABRT : ER_UNC);
}

static void after_chunk(struct ide_channel *c)
{
    if (!c->writes && !c->dma) {
        c->phase = PH_PIO_IN;
        ide_offer(c, true);
        return;
    }
    if (!c->writes && !ide_dma_move(c, (uint32_t)c->len, true)) {
        failed(c);
        return;
    }
    chunk_done(c);
    if (c->left) {
        step(c, false);
    } else if (c->flush_after) {
        c->phase = PH_FLUSH;
        ide_go(c);
    } else {
        put_address(c, c->lba - 1);
        ide_finish(c, READY, 0);
    }
}

static void disk_done(struct disk_req *r, int status)
{
    struct ide_channel *c = r->owner;
    pthread_mutex_lock(&c->ide->lock);
    c->in_flight = false;
    if (c->discard)
        ide_reset_done(c);
    else if (status)
        failed(c);
    else if (c->phase == PH_FLUSH)
        ide_finish(c, READY, 0);
    else
        after_chunk(c);
    ide_go(c); /* who waits for it to be idle */
    pthread_mutex_unlock(&c->ide->lock);
}

void ide_ata_act(struct ide_channel *c)
{
    struct ide_drive *d = ide_active(c);
    if (c->phase == PH_WRITE && c->dma && !ide_dma_move(c, (uint32_t)c->len, false)) {
        failed(c);
        return;
    }
    c->iov = (struct iovec){c->buffer, c->len};
    c->req = (struct disk_req){.op = c->phase == PH_FLUSH ? DISK_FLUSH
                                     : c->writes          ? DISK_WRITE
                                                          : DISK_READ,
                               .offset = c->phase == PH_FLUSH ? 0 : c->lba * SECTOR,
                               .length = c->phase == PH_FLUSH ? 0 : c->len,
                               .iov = c->phase == PH_FLUSH ? NULL : &c->iov,
                               .iovcnt = c->phase != PH_FLUSH,
                               .done = disk_done,
                               .owner = c};
    c->in_flight = true;
    disk_submit(d->disk, &c->req);
}

/* ---- commands ---- */

static void set_features(struct ide_channel *c)
{
    struct ide_drive *d = ide_active(c);
    uint8_t mode = c->count[0];
    switch (c->feature[0]) {
    case 0x02: d->write_cache = true; break;
    case 0x82: d->write_cache = false; break;
    case 0x03:
        if (mode >> 3 == 4 && (mode & 7) <= 2) {
            d->mwdma = (uint8_t)((mode & 7) + 1);
            d->udma = 0;
        } else if (mode >> 3 == 8 && (mode & 7) <= 5) {
            d->udma = (uint8_t)((mode & 7) + 1);
            d->mwdma = 0;
        } else if (mode >> 3 > 1) {
            abort_command(c);
            return;
        }
        break;
    case 0x55: /* look-ahead off, on; power management, acoustics off; defaults */
    case 0xaa:
    case 0x66:
    case 0xcc:
    case 0x85:
    case 0xc2: break;
    default: abort_command(c); return;
    }
    ide_finish(c, READY, 0);
}

static void set_multiple(struct ide_channel *c)
{
    uint8_t n = c->count[0];
    if (n > MOST_MULTIPLE || (n & (n - 1))) {
        abort_command(c);
        return;
    }
    ide_active(c)->multiple = n;
    ide_finish(c, READY, 0);
}

static void verify(struct ide_channel *c, bool ext)
{
    bool ok = take_address(c, ext);
    ide_finish(c, ok ? READY : READY | ST_ERR, ok ? 0 : ER_IDNF);
}

static void read_max(struct ide_channel *c, bool ext)
{
    uint64_t last = ide_active(c)->sectors - 1;
    c->device |= IDE_LBA;
    put_address(c, ext ? last : MIN(last, MOST_28 - 1));
    ide_finish(c, READY, 0);
}

static void flush(struct ide_channel *c)
{
    c->packet = c->writes = c->dma = false;
    c->phase = PH_FLUSH;
    ide_go(c);
}

static void disk_command(struct ide_channel *c, uint8_t command)
{
    struct ide_drive *d = ide_active(c);
    uint8_t data[SECTOR];
    c->flush_after = command == ATA_WRITE_DMA_FUA_EXT;
    switch (command) {
    case ATA_READ:
    case ATA_READ_ONCE: transfer(c, false, false, false, 1); break;
    case ATA_READ_EXT: transfer(c, true, false, false, 1); break;
    case ATA_READ_DMA:
    case ATA_READ_DMA_ONCE: transfer(c, false, false, true, 1); break;
    case ATA_READ_DMA_EXT: transfer(c, true, false, true, 1); break;
    case ATA_READ_MULTIPLE: transfer(c, false, false, false, d->multiple); break;
    case ATA_READ_MULTIPLE_EXT: transfer(c, true, false, false, d->multiple); break;
    case ATA_WRITE:
    case ATA_WRITE_ONCE: transfer(c, false, true, false, 1); break;
    case ATA_WRITE_EXT: transfer(c, true, true, false, 1); break;
    case ATA_WRITE_DMA:
    case ATA_WRITE_DMA_ONCE: transfer(c, false, true, true, 1); break;
    case ATA_WRITE_DMA_EXT:
    case ATA_WRITE_DMA_FUA_EXT: transfer(c, true, true, true, 1); break;
    case ATA_WRITE_MULTIPLE: transfer(c, false, true, false, d->multiple); break;
    case ATA_WRITE_MULTIPLE_EXT: transfer(c, true, true, false, d->multiple); break;
    case ATA_VERIFY:
    case ATA_VERIFY_ONCE: verify(c, false); break;
    case ATA_VERIFY_EXT: verify(c, true); break;
    case ATA_READ_MAX: read_max(c, false); break;
    case ATA_READ_MAX_EXT: read_max(c, true); break;
    case ATA_SET_MULTIPLE: set_multiple(c); break;
    case ATA_FLUSH:
    case ATA_FLUSH_EXT: flush(c); break;
    case ATA_IDENTIFY:
        identify(d, data);
        reply(c, data);
        break;
    case ATA_CHECK_POWER:
        c->count[0] = 0xff;
        ide_finish(c, READY, 0);
        break;
    case ATA_INIT_PARAMETERS:
    case ATA_SEEK:
    case ATA_STANDBY_NOW:
    case ATA_IDLE_NOW:
    case ATA_STANDBY:
    case ATA_IDLE:
    case ATA_SLEEP: ide_finish(c, READY, 0); break;
    default:
        if ((command & 0xf0) == ATA_RECALIBRATE)
            ide_finish(c, READY, 0);
        else
            abort_command(c);
    }
}

static void dvd_command(struct ide_channel *c, uint8_t command)
{
    uint8_t data[SECTOR];
    switch (command) {
    case ATA_PACKET: ide_packet_command(c); break;
    case ATA_IDENTIFY_PACKET:
        ide_atapi_identify(ide_active(c), data);
        reply(c, data);
        break;
    case ATA_DEVICE_RESET:
        ide_ata_reset_drive(ide_active(c));
        ide_signature(c);
        c->phase = PH_IDLE;
        break;
    case ATA_CHECK_POWER:
        c->count[0] = 0xff;
        ide_finish(c, READY, 0);
        break;
    case ATA_STANDBY_NOW:
    case ATA_IDLE_NOW:
    case ATA_STANDBY:
    case ATA_IDLE:
    case ATA_SLEEP: ide_finish(c, READY, 0); break;
    case ATA_IDENTIFY: /* the signature says what it is */
    case ATA_READ:
        ide_signature(c);
        abort_command(c);
        break;
    default: abort_command(c);
    }
}

void ide_ata_command(struct ide_channel *c, uint8_t command)
{
    struct ide_drive *d = ide_selected(c);
    ide_lower(c);
    c->unit = c->device & IDE_DEV ? 1 : 0;
    c->command = command;
    d->error = 0;
    d->counters.commands++;
    if (command == ATA_DIAGNOSTIC) {
        c->device &= (uint8_t)~IDE_DEV;
        c->unit = 0;
        ide_signature(c);
        ide_finish(c, ide_active(c)->kind == IDE_DVD ? 0 : READY, 1);
    } else if (command == ATA_SET_FEATURES) {
        set_features(c);
    } else if (d->kind == IDE_DISK) {
        disk_command(c, command);
    } else {
        dvd_command(c, command);
    }
}
