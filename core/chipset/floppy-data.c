/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Media, and what the I/O thread does with them. */
#include <string.h>

#include "core/base/bytes.h"
#include "core/chipset/floppy-int.h"

static const struct floppy_kind kinds[] = {
    {1440, 80, 2, 18, 1 << 0, 4},        {2880, 80, 2, 36, 1 << 3, 5},
    {1200, 80, 2, 15, 1 << 0, 2},        {720, 80, 2, 9, 1 << 2, 4},
    {360, 40, 2, 9, 1 << 1 | 1 << 2, 2}, {320, 40, 2, 8, 1 << 1 | 1 << 2, 2},
    {180, 40, 1, 9, 1 << 1 | 1 << 2, 2}, {160, 40, 1, 8, 1 << 1 | 1 << 2, 2},
    {1680, 80, 2, 21, 1 << 0, 4},        {1722, 82, 2, 21, 1 << 0, 4},
};

/* ---- media ---- */

/* Images of other sizes are the beginning of a floppy of 3.5 inches. */
static const struct floppy_kind *kind_of(uint64_t bytes)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (bytes == KIB(kinds[i].kib))
            return &kinds[i];
    if (!bytes || bytes > KIB(kinds[1].kib))
        return NULL;
    return &kinds[bytes > KIB(kinds[0].kib)];
}

bool floppy_fits(uint64_t bytes, err *e)
{
    return kind_of(bytes) || err_set(e, ERR_INVALID,
                                     "An image of %llu bytes is no floppy disk's: these have at "
                                     "most 2880 KiB",
                                     (unsigned long long)bytes);
}

uint8_t floppy_cmos(uint64_t bytes)
{
    const struct floppy_kind *k = kind_of(bytes);
    return (uint8_t)((k ? k->cmos : kinds[0].cmos) << 4);
}

static void put_in(struct floppy *f, struct disk *medium)
{
    struct disk_info info = {0};
    if (medium)
        disk_get_info(medium, &info);
    f->medium = medium;
    f->kind = medium ? kind_of(info.size) : NULL;
    f->bytes = info.size;
    f->read_only = info.read_only || (f->kind && info.size < KIB(f->kind->kib));
    f->changed = true;
}

/* ---- the I/O thread's side; lock held ---- */

static uint64_t place(const struct floppy *f, unsigned c, unsigned h, unsigned r)
{
    return ((uint64_t)(c * f->kind->heads + h) * f->kind->sectors + r - 1) * SECTOR;
}

/* From R to the end of the track that the command names, and on to the other side if it says so. */
static uint32_t sectors_to_end(const struct floppy *f)
{
    uint8_t r = f->fifo[4], h = f->fifo[3], end = MIN(f->fifo[6], f->kind->sectors);
    uint32_t n = r <= end ? end - r + 1u : 0;
    if (f->fifo[0] & MULTI_TRACK && h == 0 && f->kind->heads == 2 && end == f->kind->sectors)
        n += end;
    return n;
}

static void advance(struct floppy *f, uint32_t sectors)
{
    for (uint32_t i = 0; i < sectors; i++)
        if (f->fifo[4]++ >= f->fifo[6]) {
            f->fifo[4] = 1;
            if (f->fifo[0] & MULTI_TRACK) {
                f->fifo[3] ^= 1;
                f->fifo[1] ^= HEAD;
            }
            if (!(f->fifo[0] & MULTI_TRACK) || !f->fifo[3])
                f->fifo[2]++;
        }
}

static void moved(struct floppy *f)
{
    advance(f, f->sectors);
    floppy_finish(f, f->terminal ? 0 : ABNORMAL, f->terminal ? 0 : BEYOND, 0);
}

static void completed(struct floppy *f, int status)
{
    uint8_t command = f->fifo[0] & 0x1f;
    if (status) {
        floppy_finish(f, ABNORMAL, BAD_DATA, 0);
        return;
    }
    if (floppy_writes(command)) {
        f->counters.written_bytes += f->moves;
        if (command == FORMAT)
            floppy_finish(f, 0, 0, 0);
        else
            moved(f);
        return;
    }
    f->counters.read_bytes += dma_move(f->p.dma, CHANNEL, f->buffer, f->moves, true, &f->terminal);
    moved(f);
}

void floppy_settle(struct floppy *f)
{
    if (f->stopped && !f->in_flight) {
        void (*stopped)(void *ctx) = f->stopped;
        f->stopped = NULL;
        stopped(f->stopped_ctx);
    }
}

static void request_done(struct disk_req *r, int status)
{
    struct floppy *f = r->owner;
    pthread_mutex_lock(&f->lock);
    f->in_flight = false;
    if (!f->discard)
        completed(f, status);
    f->discard = false;
    pthread_mutex_unlock(&f->lock);
    floppy_act(f);
}

static void submit(struct floppy *f, enum disk_op op, uint64_t at, size_t len)
{
    f->moves = len;
    if (op == DISK_READ && (at >= f->bytes || len > f->bytes - at)) {
        memset(f->buffer, 0, len);
        len = at < f->bytes ? f->bytes - at : 0;
    }
    if (!len) {
        completed(f, 0);
        return;
    }
    f->iov = (struct iovec){.iov_base = f->buffer, .iov_len = len};
    f->req = (struct disk_req){.op = op,
                               .flags = op == DISK_WRITE ? DISK_REQ_FUA : 0,
                               .offset = at,
                               .length = len,
                               .iov = &f->iov,
                               .iovcnt = 1,
                               .done = request_done,
                               .owner = f};
    f->in_flight = true;
    disk_submit(f->medium, &f->req);
}

/* The ids come by DMA; the image has the sectors of a track in their own order anyway. */
static void begin_format(struct floppy *f)
{
    size_t ids = (size_t)f->fifo[3] * 4, len = (size_t)f->fifo[3] * SECTOR;
    unsigned head = f->fifo[1] & HEAD ? 1 : 0;
    bool terminal;
    if (dma_move(f->p.dma, CHANNEL, f->buffer, ids, false, &terminal) != ids) {
        floppy_finish(f, ABNORMAL, OVERRUN, 0);
        return;
    }
    memset(f->buffer, f->fifo[5], len);
    submit(f, DISK_WRITE, place(f, f->cylinder, head, 1), len);
}

static void begin(struct floppy *f)
{
    uint8_t command = f->fifo[0] & 0x1f;
    bool to_memory = !floppy_writes(command);
    /* Asked again: the medium may be another one meanwhile, or the command a saved state's. */
    if (command == FORMAT ? !floppy_can_format(f) : !floppy_sectors_there(f))
        return;
    if (command == FORMAT) {
        begin_format(f);
        return;
    }
    uint32_t end = sectors_to_end(f);
    if (command == VERIFY) {
        f->sectors = end;
        f->terminal = true;
        moved(f);
        return;
    }
    size_t n = dma_ready(f->p.dma, CHANNEL, to_memory);
    f->sectors = (uint32_t)MIN(div_round_up(n, SECTOR), (uint64_t)end);
    if (!f->sectors) {
        floppy_finish(f, ABNORMAL, n ? NO_DATA : OVERRUN, 0);
        return;
    }
    size_t len = (size_t)f->sectors * SECTOR;
    if (!to_memory) {
        size_t got = dma_move(f->p.dma, CHANNEL, f->buffer, len, false, &f->terminal);
        memset(f->buffer + got, 0, len - got); /* the rest of a sector is zeroes */
    }
    submit(f, to_memory ? DISK_READ : DISK_WRITE, place(f, f->fifo[2], f->fifo[3], f->fifo[4]),
           len);
}

static void change_medium(struct floppy *f)
{
    put_in(f, f->next);
    f->pending = false;
    f->medium_done(f->medium_ctx);
}

void floppy_act(void *ctx)
{
    struct floppy *f = ctx;
    pthread_mutex_lock(&f->lock);
    if (f->pending && !f->in_flight)
        change_medium(f);
    if (f->running && f->phase == PH_EXECUTE && !f->in_flight)
        begin(f);
    pthread_mutex_unlock(&f->lock);
    floppy_settle(f);
}

void floppy_attach(struct floppy *f, struct disk *medium)
{
    put_in(f, medium);
}

bool floppy_set_medium(struct floppy *f, struct disk *medium, void (*done)(void *ctx), void *ctx,
                       err *e)
{
    struct disk_info info;
    if (medium)
        disk_get_info(medium, &info);
    if (medium && !floppy_fits(info.size, e))
        return false;
    if (f->pending)
        return err_set(e, ERR_BUSY, "The drive's medium is being changed already");
    f->next = medium;
    f->medium_done = done;
    f->medium_ctx = ctx;
    f->pending = true;
    loop_post(f->p.env->loop, &f->post);
    return true;
}

void floppy_counters(struct floppy *f, struct floppy_counters *out)
{
    pthread_mutex_lock(&f->lock);
    *out = f->counters;
    pthread_mutex_unlock(&f->lock);
}
