/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Block commands: reading, writing, flushing, discarding, capacity. */
#include <errno.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/vsp/scsi-internal.h"

struct extent {
    uint64_t offset, length;
};
struct scsi_extents {
    size_t count, next;
    struct extent e[];
};

static enum scsi_sense sense_of(const struct scsi_task *t, int status)
{
    switch (status) {
    case ENOSPC:
    case EDQUOT: return SENSE_SPACE_ALLOCATION;
    case EROFS: return SENSE_WRITE_PROTECTED;
    case EINVAL: return SENSE_LBA_OUT_OF_RANGE;
    case EOPNOTSUPP: return SENSE_INVALID_OPCODE;
    case ECANCELED: return SENSE_ABORTED;
    case ENOMEM: return SENSE_INTERNAL_FAILURE;
    default: return t->req.op == DISK_READ ? SENSE_READ_ERROR : SENSE_WRITE_ERROR;
    }
}

static void on_done(struct disk_req *r, int status)
{
    struct scsi_task *t = r->owner;
    free(t->bounce);
    t->bounce = NULL;
    if (status) {
        scsi_fail(t, sense_of(t, status));
        return;
    }
    if (r->op == DISK_READ || r->op == DISK_WRITE)
        t->transferred = t->bytes;
    scsi_good(t);
}

static void submit(struct scsi_lun *l, struct scsi_task *t, enum disk_op op, unsigned flags,
                   uint64_t offset, uint64_t length, void (*done)(struct disk_req *, int))
{
    bool data = op == DISK_READ || op == DISK_WRITE;
    t->req = (struct disk_req){.op = op,
                               .flags = flags,
                               .offset = offset,
                               .length = length,
                               .iov = data ? t->iov : NULL,
                               .iovcnt = data ? t->iovcnt : 0,
                               .done = done,
                               .owner = t};
    disk_submit(l->disk, &t->req);
}

/* ---- where and how much ---- */

struct where {
    uint64_t lba, count;
    bool fua;
};

static struct where where_of(const uint8_t *c)
{
    switch (c[0] >> 5) { /* the group says how long the CDB is */
    case 0: return (struct where){.lba = get_be32(c) & 0x1FFFFF, .count = c[4] ? c[4] : 256};
    case 5:
        return (struct where){.lba = get_be32(c + 2), .count = get_be32(c + 6), .fua = c[1] & 0x08};
    case 4:
        return (struct where){
            .lba = get_be64(c + 2), .count = get_be32(c + 10), .fua = c[1] & 0x08};
    default:
        return (struct where){.lba = get_be32(c + 2), .count = get_be16(c + 7), .fua = c[1] & 0x08};
    }
}

static bool within(const struct scsi_lun *l, struct where w)
{
    return range_within(w.lba, w.count, scsi_sectors(l));
}

/* Shortens the iovecs to `bytes`. */
static void cut(struct scsi_task *t, size_t bytes)
{
    size_t left = bytes;
    int n = 0;
    for (; n < t->iovcnt && left; n++) {
        t->iov[n].iov_len = MIN(t->iov[n].iov_len, left);
        left -= t->iov[n].iov_len;
    }
    t->iovcnt = n;
    t->bytes = bytes;
}

static void transfer(struct scsi_lun *l, struct scsi_task *t, bool write)
{
    struct where w = where_of(t->cdb);
    uint32_t sector = scsi_sector(l);
    if (!l->disk)
        scsi_fail(t, SENSE_NO_MEDIUM);
    else if (!within(l, w))
        scsi_fail(t, SENSE_LBA_OUT_OF_RANGE);
    else if (write && (l->info.read_only || l->kind == SCSI_DVD))
        scsi_fail(t, SENSE_WRITE_PROTECTED);
    else if (!w.count)
        scsi_good(t);
    else if (t->direction != (write ? SCSI_DATA_OUT : SCSI_DATA_IN) || t->bytes < sector)
        scsi_fail(t, SENSE_INVALID_CDB);
    else {
        cut(t, MIN(w.count * sector, t->bytes - t->bytes % sector));
        submit(l, t, write ? DISK_WRITE : DISK_READ, write && w.fua ? DISK_REQ_FUA : 0,
               w.lba * sector, t->bytes, on_done);
    }
}

static void verify(struct scsi_lun *l, struct scsi_task *t)
{
    if (t->cdb[1] & 0x06) /* comparing bytes */
        scsi_fail(t, SENSE_INVALID_CDB);
    else if (!within(l, where_of(t->cdb)))
        scsi_fail(t, SENSE_LBA_OUT_OF_RANGE);
    else
        scsi_good(t);
}

static void flush(struct scsi_lun *l, struct scsi_task *t)
{
    if (!l->disk || l->info.read_only)
        scsi_good(t);
    else
        submit(l, t, DISK_FLUSH, 0, 0, 0, on_done);
}

/* ---- discarding ---- */

static void next_extent(struct disk_req *r, int status)
{
    struct scsi_task *t = r->owner;
    struct scsi_extents *x = t->extents;
    if (!status && x->next < x->count) {
        struct extent e = x->e[x->next++];
        submit(t->lun, t, DISK_DISCARD, 0, e.offset, e.length, next_extent);
        return;
    }
    free(x);
    t->extents = NULL;
    if (!status)
        t->transferred = t->bytes;
    on_done(r, status);
}

static bool parse_unmap(const struct scsi_lun *l, const uint8_t *p, size_t len,
                        struct scsi_extents *x)
{
    enum { HEADER = 8, DESCRIPTOR = 16 };
    uint32_t sector = scsi_sector(l);
    size_t bytes = MIN((size_t)get_be16(p + 2), len - HEADER);
    uint64_t total = 0;
    for (size_t i = 0; i + DESCRIPTOR <= bytes; i += DESCRIPTOR) {
        struct where w = {.lba = get_be64(p + HEADER + i), .count = get_be32(p + HEADER + i + 8)};
        if (x->count == UNMAP_MAX_DESCRIPTORS || !within(l, w))
            return false;
        total += w.count;
        if (w.count)
            x->e[x->count++] = (struct extent){w.lba * sector, w.count * sector};
    }
    return total <= UNMAP_MAX_BYTES / sector;
}

static void unmap(struct scsi_lun *l, struct scsi_task *t)
{
    enum { HEADER = 8, DESCRIPTOR = 16 };
    uint8_t list[HEADER + DESCRIPTOR * UNMAP_MAX_DESCRIPTORS];
    size_t len = scsi_copy_data(t, list, MIN(sizeof list, (size_t)get_be16(t->cdb + 7)));
    if (l->info.read_only) {
        scsi_fail(t, SENSE_WRITE_PROTECTED);
        return;
    }
    if (len < HEADER) {
        if (get_be16(t->cdb + 7) == 0)
            scsi_good(t);
        else
            scsi_fail(t, SENSE_PARAMETER_LENGTH);
        return;
    }
    t->extents = calloc(1, sizeof *t->extents + UNMAP_MAX_DESCRIPTORS * sizeof(struct extent));
    if (!t->extents)
        scsi_fail(t, SENSE_INTERNAL_FAILURE);
    else if (!parse_unmap(l, list, len, t->extents)) {
        free(t->extents);
        t->extents = NULL;
        scsi_fail(t, SENSE_INVALID_PARAMETER);
    } else {
        t->req.owner = t;
        t->req.op = DISK_DISCARD;
        next_extent(&t->req, 0);
    }
}

/* One sector repeated: only of zeroes as a whole; else chunk by chunk from a bounce buffer. */
enum { SAME_CHUNK = 256 * 1024 };

static void same_next(struct disk_req *r, int status)
{
    struct scsi_task *t = r->owner;
    struct scsi_extents *x = t->extents;
    struct extent *e = &x->e[0];
    if (status || !e->length) {
        free(x);
        t->extents = NULL;
        r->op = DISK_FLUSH; /* nothing of the guest's buffer counts as transferred but the sector */
        t->transferred = status ? 0 : t->bytes;
        on_done(r, status);
        return;
    }
    uint64_t n = MIN(e->length, (uint64_t)SAME_CHUNK);
    t->one = (struct iovec){.iov_base = t->bounce, .iov_len = n};
    t->req = (struct disk_req){.op = DISK_WRITE,
                               .offset = e->offset,
                               .length = n,
                               .iov = &t->one,
                               .iovcnt = 1,
                               .done = same_next,
                               .owner = t};
    e->offset += n;
    e->length -= n;
    disk_submit(t->lun->disk, &t->req);
}

static void write_pattern(struct scsi_lun *l, struct scsi_task *t, const uint8_t *pattern,
                          uint64_t offset, uint64_t length)
{
    uint32_t sector = scsi_sector(l);
    uint64_t n = MIN(length, (uint64_t)SAME_CHUNK);
    t->bounce = malloc(n);
    t->extents = calloc(1, sizeof *t->extents + sizeof(struct extent));
    if (!t->bounce || !t->extents) {
        free(t->bounce);
        free(t->extents);
        t->bounce = NULL;
        t->extents = NULL;
        scsi_fail(t, SENSE_INTERNAL_FAILURE);
        return;
    }
    for (uint64_t at = 0; at < n; at += sector)
        memcpy((uint8_t *)t->bounce + at, pattern, sector);
    t->extents->e[0] = (struct extent){offset, length};
    t->req.owner = t;
    same_next(&t->req, 0);
}

static bool all_zero(const uint8_t *p, size_t n)
{
    return !n || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static void write_same(struct scsi_lun *l, struct scsi_task *t)
{
    enum { UNMAP_BIT = 0x08, NO_DATA = 0x01, FUNNY_BITS = 0x06, LARGEST_SECTOR = 4096 };
    uint8_t pattern[LARGEST_SECTOR] = {0};
    uint32_t sector = scsi_sector(l);
    struct where w = where_of(t->cdb);
    bool no_data = t->cdb[0] == SCSI_WRITE_SAME_16 && (t->cdb[1] & NO_DATA);
    if (l->info.read_only)
        scsi_fail(t, SENSE_WRITE_PROTECTED);
    else if (!w.count || w.count > WRITE_SAME_MAX_BYTES / sector || (t->cdb[1] & FUNNY_BITS) ||
             sector > LARGEST_SECTOR || (!no_data && scsi_copy_data(t, pattern, sector) < sector))
        scsi_fail(t, SENSE_INVALID_CDB);
    else if (!within(l, w))
        scsi_fail(t, SENSE_LBA_OUT_OF_RANGE);
    else if (all_zero(pattern, sector)) {
        t->transferred = t->bytes;
        submit(l, t, DISK_WRITE_ZEROES, t->cdb[1] & UNMAP_BIT ? DISK_REQ_UNMAP : 0, w.lba * sector,
               w.count * sector, on_done);
    } else
        write_pattern(l, t, pattern, w.lba * sector, w.count * sector);
}

/* ---- capacity ---- */

static void capacity_10(struct scsi_lun *l, struct scsi_task *t)
{
    uint8_t r[8];
    uint64_t n = scsi_sectors(l);
    put_be32(r, n > UINT32_MAX ? UINT32_MAX : n ? (uint32_t)(n - 1) : 0);
    put_be32(r + 4, scsi_sector(l));
    scsi_reply(t, r, sizeof r, sizeof r);
}

static void capacity_16(struct scsi_lun *l, struct scsi_task *t)
{
    uint8_t r[32] = {0};
    uint64_t n = scsi_sectors(l);
    uint32_t per_physical = l->info.physical_sector / MAX(scsi_sector(l), 1u);
    put_be64(r, n ? n - 1 : 0);
    put_be32(r + 8, scsi_sector(l));
    r[13] = (uint8_t)(per_physical > 1 ? __builtin_ctz(per_physical) : 0);
    if (l->info.discard_granularity)
        r[14] = (uint8_t)(0x80 | (l->info.zeroes_after_discard ? 0x40 : 0)); /* LBPME, LBPRZ */
    scsi_reply(t, r, sizeof r, get_be32(t->cdb + 10));
}

static bool disk_only(struct scsi_lun *l, struct scsi_task *t)
{
    if (l->kind != SCSI_DISK)
        return false;
    switch (t->cdb[0]) {
    case SCSI_WRITE_6:
    case SCSI_WRITE_10:
    case SCSI_WRITE_12:
    case SCSI_WRITE_16:
    case SCSI_WRITE_VERIFY_10:
    case SCSI_WRITE_VERIFY_16: transfer(l, t, true); return true;
    case SCSI_UNMAP: unmap(l, t); return true;
    case SCSI_WRITE_SAME_10:
    case SCSI_WRITE_SAME_16: write_same(l, t); return true;
    case SCSI_START_STOP:
    case SCSI_PREVENT_ALLOW: scsi_good(t); return true;
    default: return false;
    }
}

bool scsi_block(struct scsi_lun *l, struct scsi_task *t)
{
    switch (t->cdb[0]) {
    case SCSI_TEST_UNIT_READY: scsi_good(t); return true;
    case SCSI_READ_6:
    case SCSI_READ_10:
    case SCSI_READ_12:
    case SCSI_READ_16: transfer(l, t, false); return true;
    case SCSI_VERIFY_10:
    case SCSI_VERIFY_16: verify(l, t); return true;
    case SCSI_SYNC_CACHE_10:
    case SCSI_SYNC_CACHE_16: flush(l, t); return true;
    case SCSI_READ_CAPACITY_10: capacity_10(l, t); return true;
    case SCSI_SERVICE_IN_16:
        if ((t->cdb[1] & 0x1F) != SCSI_READ_CAPACITY_16)
            return false;
        capacity_16(l, t);
        return true;
    default: return disk_only(l, t);
    }
}
