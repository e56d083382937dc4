/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ATAPI DVD drives: packets to the SCSI unit, its data to the guest. Source: SFF-8020i, MMC-6. */
#include <string.h>

#include "core/base/bytes.h"
#include "core/chipset/ide-int.h"

enum { READY = ST_DRDY, FEATURE_DMA = 1, REASON_COD = 1, REASON_IO = 2, DVD_BLOCK = 2048 };
enum { SENSE_BYTES = 18, MOST_PER_DRQ = 0xfffe, KEY_SHIFT = 4 };

void ide_atapi_identify(const struct ide_drive *d, uint8_t out[SECTOR])
{
    memset(out, 0, SECTOR);
    put_le16(out, 0x85c0); /* CD-ROM, removable, DRQ within 50 us, 12-byte packets */
    put_le16(out + 98, 0x0f00);
    put_le16(out + 106, 7);
    put_le16(out + 126, (uint16_t)(7 | (d->mwdma ? 0x80 << d->mwdma : 0)));
    put_le16(out + 128, 3);
    put_le16(out + 130, 120);
    put_le16(out + 132, 120);
    put_le16(out + 134, 120);
    put_le16(out + 136, 120);
    put_le16(out + 160, 0x7e);
    put_le16(out + 164, 0x4210);
    put_le16(out + 166, 0x4000);
    put_le16(out + 168, 0x4000);
    put_le16(out + 176, (uint16_t)(0x3f | (d->udma ? 0x80 << d->udma : 0)));
    ide_put_string(out + 20, 20, d->serial);
    ide_put_string(out + 46, 8, "1.0");
    ide_put_string(out + 54, 40, "Virtual CD");
}

static void done(struct ide_channel *c)
{
    c->count[0] = REASON_COD | REASON_IO;
    ide_finish(c, READY, 0);
}

static void check_condition(struct ide_channel *c, uint8_t key, uint8_t asc, uint8_t ascq)
{
    struct ide_drive *d = ide_active(c);
    d->sense_key = key;
    d->asc = asc;
    d->ascq = ascq;
    c->count[0] = REASON_COD | REASON_IO;
    ide_finish(c, READY | ST_ERR, (uint8_t)(key << KEY_SHIFT | ER_ABRT));
}

void ide_packet_command(struct ide_channel *c)
{
    c->packet = true;
    c->writes = false;
    c->dma = c->feature[0] & FEATURE_DMA;
    c->pos = 0;
    c->left = 0;
    c->phase = PH_CDB;
    c->count[0] = REASON_COD;
    ide_active(c)->status = READY | ST_DRQ;
}

static bool is_read(const uint8_t *cdb)
{
    return cdb[0] == SCSI_READ_10 || cdb[0] == SCSI_READ_12;
}

static void request_sense(struct ide_channel *c)
{
    struct ide_drive *d = ide_active(c);
    uint8_t *r = c->buffer;
    memset(r, 0, SENSE_BYTES);
    r[0] = 0x70;
    r[2] = d->sense_key;
    r[7] = SENSE_BYTES - 8;
    r[12] = d->asc;
    r[13] = d->ascq;
    d->sense_key = d->asc = d->ascq = 0;
    c->len = MIN((size_t)c->cdb[4], (size_t)SENSE_BYTES);
}

/* ---- data to the guest ---- */

static void give_data(struct ide_channel *c)
{
    uint32_t limit = (uint32_t)c->high[0] << 8 | c->mid[0];
    struct ide_drive *d = ide_active(c);
    d->counters.read_bytes += c->len;
    if (c->dma) {
        if (!ide_dma_move(c, (uint32_t)c->len, true))
            check_condition(c, 0x0b, 0, 0);
        else if (c->left) {
            c->phase = PH_PACKET;
            ide_go(c);
        } else
            done(c);
        return;
    }
    if (!limit || limit > MOST_PER_DRQ)
        limit = MOST_PER_DRQ;
    c->block = MAX(limit & ~1u, 2u);
    c->pos = c->drq_end = 0;
    c->phase = PH_PIO_IN;
    ide_offer(c, true);
}

void ide_packet_data_done(struct ide_channel *c)
{
    if (c->left) {
        c->phase = PH_PACKET;
        ide_go(c);
    } else {
        done(c);
    }
}

/* ---- the packet ---- */

void ide_packet_start(struct ide_channel *c)
{
    if (is_read(c->cdb)) {
        c->lba = get_be32(c->cdb + 2);
        c->left = c->cdb[0] == SCSI_READ_10 ? get_be16(c->cdb + 7) : get_be32(c->cdb + 6);
        if (!c->left) {
            done(c);
            return;
        }
    }
    if (c->dma && !(c->bm_command & 1)) {
        c->phase = PH_DMA_WAIT;
        ide_active(c)->status = READY | ST_DRQ;
        return;
    }
    c->phase = PH_PACKET;
    ide_go(c);
}

static void task_done(struct scsi_task *t)
{
    struct ide_channel *c = t->owner;
    pthread_mutex_lock(&c->ide->lock);
    c->in_flight = false;
    if (c->discard) {
        ide_reset_done(c);
    } else if (t->status == SCSI_CHECK_CONDITION) {
        check_condition(c, t->sense[2] & 15, t->sense[12], t->sense[13]);
    } else if (t->status != SCSI_GOOD) {
        check_condition(c, 0x0b, 0, 0);
    } else {
        if (is_read(c->cdb)) {
            c->lba += c->chunk;
            c->left -= c->chunk;
        }
        c->len = MIN(t->transferred, sizeof c->buffer);
        if (c->len)
            give_data(c);
        else
            done(c);
    }
    ide_go(c);
    pthread_mutex_unlock(&c->ide->lock);
}

/* One chunk of a long read as a command of its own. */
static void read_chunk(struct ide_channel *c, uint8_t *cdb)
{
    c->chunk = MIN(c->left, (uint32_t)BUFFER / DVD_BLOCK);
    c->len = (size_t)c->chunk * DVD_BLOCK;
    memset(cdb, 0, SCSI_CDB_BYTES);
    cdb[0] = SCSI_READ_10;
    put_be32(cdb + 2, (uint32_t)MIN(c->lba, (uint64_t)UINT32_MAX));
    put_be16(cdb + 7, (uint16_t)c->chunk);
}

void ide_atapi_act(struct ide_channel *c)
{
    if (c->cdb[0] == SCSI_REQUEST_SENSE) {
        request_sense(c);
        if (c->len)
            give_data(c);
        else
            done(c);
        return;
    }
    c->task = (struct scsi_task){
        .direction = SCSI_DATA_IN, .iov = &c->iov, .iovcnt = 1, .done = task_done, .owner = c};
    memcpy(c->task.cdb, c->cdb, sizeof c->task.cdb);
    c->len = sizeof c->buffer;
    if (is_read(c->cdb))
        read_chunk(c, c->task.cdb);
    c->iov = (struct iovec){c->buffer, c->len};
    c->task.bytes = c->len;
    c->in_flight = true;
    /* It may end within; then the lock is taken there. */
    pthread_mutex_unlock(&c->ide->lock);
    scsi_execute(ide_active(c)->lun, &c->task);
    pthread_mutex_lock(&c->ide->lock);
}
