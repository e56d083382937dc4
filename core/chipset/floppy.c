/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/floppy.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/chipset/layout.h"

enum { SECTOR = 512, MOST_SECTORS = 36, SIDES = 2, MOST_CYLINDER = 85, UNITS = 4, CHANNEL = 2 };
enum { BUFFER = MOST_SECTORS * SIDES * SECTOR, FIFO = 16, RANGES = 2 };
enum { REG_DOR = 2, REG_TAPE, REG_MAIN, REG_FIFO, REG_RATE = 7, PORTS = 6 };
enum { DOR_UNIT = 3, DOR_ON = 4, DOR_DMA = 8, RATE_RESET = 0x80, RATE = 3 };
enum { MAIN_BUSY = 0x10, MAIN_TO_HOST = 0x40, MAIN_READY = 0x80, CHANGED = 0x80 };
enum { MULTI_TRACK = 0x80, HEAD = 4, SIZE_512 = 2 };
enum status0 { ABNORMAL = 0x40, INVALID = 0x80, POLLING = 0xc0, SEEK_END = 0x20, NO_DRIVE = 0x10 };
enum status1 {
    NO_MARK = 1,
    PROTECTED = 2,
    NO_DATA = 4,
    OVERRUN = 0x10,
    BAD_DATA = 0x20,
    BEYOND = 0x80
};
enum status2 { WRONG_CYLINDER = 0x10 };
enum status3 { DRIVE_PROTECTED = 0x40, DRIVE_READY = 0x20, TRACK_0 = 0x10, TWO_SIDED = 0x08 };
enum { CONFIG_IMPLIED_SEEK = 0x40, CONFIG_DEFAULT = 0x20, NON_DMA = 1 };

enum command { /* in the lower five bits of the first byte */
               READ_TRACK = 0x02,
               SPECIFY = 0x03,
               SENSE_DRIVE = 0x04,
               WRITE_DATA = 0x05,
               READ_DATA = 0x06,
               RECALIBRATE = 0x07,
               SENSE_INTERRUPT = 0x08,
               WRITE_DELETED = 0x09,
               READ_ID = 0x0a,
               READ_DELETED = 0x0c,
               FORMAT = 0x0d,
               DUMP = 0x0e,
               SEEK = 0x0f,
               VERSION = 0x10,
               PERPENDICULAR = 0x12,
               CONFIGURE = 0x13,
               LOCK = 0x14,
               VERIFY = 0x16,
};

enum phase { PH_COMMAND, PH_EXECUTE, PH_RESULT, PH_LAST }; /* EXECUTE: the I/O thread's */

struct medium_kind {
    uint16_t kib;
    uint8_t cylinders, heads, sectors;
    uint8_t rates; /* bit n: it is read at data rate n */
    uint8_t cmos;  /* the drive that it goes into */
};
static const struct medium_kind kinds[] = {
    {1440, 80, 2, 18, 1 << 0, 4},        {2880, 80, 2, 36, 1 << 3, 5},
    {1200, 80, 2, 15, 1 << 0, 2},        {720, 80, 2, 9, 1 << 2, 4},
    {360, 40, 2, 9, 1 << 1 | 1 << 2, 2}, {320, 40, 2, 8, 1 << 1 | 1 << 2, 2},
    {180, 40, 1, 9, 1 << 1 | 1 << 2, 2}, {160, 40, 1, 8, 1 << 1 | 1 << 2, 2},
    {1680, 80, 2, 21, 1 << 0, 4},        {1722, 82, 2, 21, 1 << 0, 4},
};

struct floppy {
    struct floppy_params p;
    struct hv_io_range *ranges[RANGES];
    struct loop_post post;

    pthread_mutex_t lock;           /* all below */
    const struct medium_kind *kind; /* NULL: no medium */
    bool read_only;
    bool changed;
    uint8_t dor, rate;
    uint8_t cylinder; /* where the heads are */
    uint8_t phase;
    uint8_t fifo[FIFO]; /* the command, then its result */
    uint8_t pos, len;
    uint8_t specify[2], config[3], perpendicular, eot;
    bool lock_config;
    bool irq;
    uint8_t polled;  /* units that have yet to say that they were reset */
    bool seek_ended; /* SENSE INTERRUPT has something to say */
    uint8_t seek_status;
    struct floppy_counters counters;

    /* I/O thread's */
    struct disk *medium;
    uint64_t bytes; /* of the image, which may be shorter than a floppy */
    struct disk_req req;
    struct iovec iov;
    uint8_t buffer[BUFFER];
    bool running, in_flight, discard;
    uint32_t sectors; /* of the request in flight */
    size_t moves;     /* and bytes */
    bool terminal;    /* which is the last of the DMA channel's count */
    bool pending;     /* a change of the medium */
    struct disk *next;
    void (*medium_done)(void *ctx);
    void *medium_ctx;
    void (*stopped)(void *ctx);
    void *stopped_ctx;
};

/* ---- media ---- */

/* Images of other sizes are the beginning of a floppy of 3.5 inches. */
static const struct medium_kind *kind_of(uint64_t bytes)
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
    const struct medium_kind *k = kind_of(bytes);
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

/* ---- interrupts and results ---- */

static void update_line(struct floppy *f)
{
    chip_line_set(&f->p.irq, f->irq && f->dor & DOR_DMA);
}

static void set_irq(struct floppy *f, bool on)
{
    f->irq = on;
    update_line(f);
}

static void give(struct floppy *f, unsigned len)
{
    f->pos = 0;
    f->len = (uint8_t)len;
    f->phase = len ? PH_RESULT : PH_COMMAND;
}

static void give_one(struct floppy *f, uint8_t v)
{
    f->fifo[0] = v;
    give(f, 1);
}

/* The seven bytes that commands with data end with; fifo[2..5] is where it got to. */
static void finish(struct floppy *f, uint8_t st0, uint8_t st1, uint8_t st2)
{
    uint8_t place[4];
    memcpy(place, f->fifo + 2, sizeof place);
    st0 |= f->fifo[1] & (DOR_UNIT | HEAD);
    f->fifo[0] = st0;
    f->fifo[1] = st1;
    f->fifo[2] = st2;
    memcpy(f->fifo + 3, place, sizeof place);
    give(f, 7);
    set_irq(f, true);
}

/* ---- reset ---- */

static void soft_reset(struct floppy *f)
{
    f->phase = PH_COMMAND;
    f->pos = f->len = 0;
    f->seek_ended = false;
    f->discard = f->in_flight;
    f->polled = UNITS;
    if (!f->lock_config) {
        memset(f->config, 0, sizeof f->config);
        f->config[1] = CONFIG_DEFAULT;
    }
    f->perpendicular &= 0x3c;
    set_irq(f, true);
}

static void power_on(struct floppy *f)
{
    f->dor = f->rate = 0;
    f->cylinder = 0;
    f->phase = PH_COMMAND;
    f->pos = f->len = 0;
    memset(f->specify, 0, sizeof f->specify);
    memset(f->config, 0, sizeof f->config);
    f->config[1] = CONFIG_DEFAULT;
    f->perpendicular = f->eot = 0;
    f->lock_config = f->irq = f->seek_ended = false;
    f->polled = 0;
    f->seek_status = 0;
    f->changed = true;
    f->rate = 2;
}

/* ---- commands without data ---- */

static void seek(struct floppy *f, unsigned unit, uint8_t to)
{
    f->seek_status = (uint8_t)(SEEK_END | (f->fifo[1] & HEAD) | unit);
    if (unit)
        f->seek_status |= ABNORMAL | NO_DRIVE; /* track 0 is never found */
    else {
        if (f->cylinder != to && f->kind)
            f->changed = false; /* a step pulse clears it */
        f->cylinder = MIN(to, (uint8_t)MOST_CYLINDER);
    }
    f->seek_ended = true;
    give(f, 0);
    set_irq(f, true);
}

static void sense_interrupt(struct floppy *f)
{
    if (f->polled) {
        f->fifo[0] = (uint8_t)(POLLING | (UNITS - f->polled--));
        f->fifo[1] = f->fifo[0] & DOR_UNIT ? 0 : f->cylinder;
        give(f, 2);
    } else if (f->seek_ended) {
        f->seek_ended = false;
        f->fifo[0] = f->seek_status;
        f->fifo[1] = f->seek_status & DOR_UNIT ? 0 : f->cylinder;
        give(f, 2);
    } else {
        give_one(f, INVALID);
    }
    set_irq(f, false);
}

static void sense_drive(struct floppy *f)
{
    unsigned unit = f->fifo[1] & DOR_UNIT;
    uint8_t v = (uint8_t)((f->fifo[1] & (HEAD | DOR_UNIT)) | DRIVE_READY | TWO_SIDED);
    if (!unit && !f->cylinder)
        v |= TRACK_0;
    if (!unit && f->kind && f->read_only)
        v |= DRIVE_PROTECTED;
    give_one(f, v);
}

static void dump(struct floppy *f)
{
    uint8_t out[10] = {f->cylinder,
                       0,
                       0,
                       0,
                       f->specify[0],
                       f->specify[1],
                       f->eot,
                       (uint8_t)((f->lock_config ? 0x80 : 0) | (f->perpendicular & 0x7f)),
                       f->config[1],
                       f->config[2]};
    memcpy(f->fifo, out, sizeof out);
    give(f, sizeof out);
}

/* ---- commands with data: what can be said before the image is asked ---- */

/* Whether the drive finds sectors at all: status 1, 0 if so. */
static uint8_t no_track(const struct floppy *f)
{
    bool spins = !(f->fifo[1] & DOR_UNIT) && (f->dor & DOR_UNIT) == 0 && f->kind;
    if (!spins || !(f->kind->rates >> (f->rate & RATE) & 1))
        return NO_MARK;
    return 0;
}

static bool on_cylinder(const struct floppy *f, unsigned c)
{
    /* 40 cylinders in a drive of 80: two steps each */
    return f->cylinder == c || (f->kind->cylinders == 40 && f->cylinder == 2 * c);
}

static void read_id(struct floppy *f)
{
    uint8_t head = f->fifo[1] & HEAD ? 1 : 0, bad = no_track(f);
    if (!bad && (head >= f->kind->heads || f->cylinder >= f->kind->cylinders))
        bad = NO_MARK;
    f->fifo[2] = f->cylinder;
    f->fifo[3] = head;
    f->fifo[4] = 1;
    f->fifo[5] = SIZE_512;
    finish(f, bad ? ABNORMAL : 0, bad, 0);
}

static bool writes(uint8_t command)
{
    command &= 0x1f;
    return command == WRITE_DATA || command == WRITE_DELETED || command == FORMAT;
}

/* Data begins at C, H, R of the command. True: the I/O thread goes on. */
static bool sectors_there(struct floppy *f)
{
    uint8_t c = f->fifo[2], h = f->fifo[3], r = f->fifo[4], bad = no_track(f);
    if (!bad && f->config[1] & CONFIG_IMPLIED_SEEK && c < f->kind->cylinders) {
        f->cylinder = c;
        f->changed = false;
    }
    if (bad) {
        finish(f, ABNORMAL, bad, 0);
    } else if (!on_cylinder(f, c)) {
        finish(f, ABNORMAL, NO_DATA, WRONG_CYLINDER);
    } else if (c >= f->kind->cylinders || h >= f->kind->heads || h != (f->fifo[1] & HEAD ? 1 : 0) ||
               !r || r > f->kind->sectors || f->fifo[5] != SIZE_512) {
        finish(f, ABNORMAL, NO_DATA, 0);
    } else if (writes(f->fifo[0]) && f->read_only) {
        finish(f, ABNORMAL, PROTECTED, 0);
    } else {
        return true;
    }
    return false;
}

static bool can_format(struct floppy *f)
{
    uint8_t bad = no_track(f);
    if (!bad && f->read_only)
        bad = PROTECTED;
    if (!bad && (f->fifo[2] != SIZE_512 || f->fifo[3] != f->kind->sectors ||
                 f->cylinder >= f->kind->cylinders))
        bad = NO_DATA; /* a format that the image has no place for */
    if (!bad && f->fifo[1] & HEAD && f->kind->heads == 1)
        bad = NO_MARK;
    if (bad)
        finish(f, ABNORMAL, bad, 0);
    return !bad;
}

static void execute(struct floppy *f, bool possible)
{
    if (!possible)
        return;
    if (f->specify[1] & NON_DMA) {
        finish(f, ABNORMAL, OVERRUN, 0);
        return;
    }
    f->counters.commands++;
    f->phase = PH_EXECUTE;
    loop_post(f->p.env->loop, &f->post);
}

/* ---- the command phase ---- */

static unsigned command_length(uint8_t first)
{
    switch (first & 0x1f) {
    case READ_TRACK:
    case WRITE_DATA:
    case READ_DATA:
    case WRITE_DELETED:
    case READ_DELETED:
    case VERIFY: return 9;
    case FORMAT: return 6;
    case CONFIGURE: return 4;
    case SPECIFY:
    case SEEK: return 3;
    case SENSE_DRIVE:
    case RECALIBRATE:
    case READ_ID:
    case PERPENDICULAR: return 2;
    default: return 1;
    }
}

static void run(struct floppy *f)
{
    uint8_t first = f->fifo[0];
    unsigned unit = f->fifo[1] & DOR_UNIT;
    switch (first & 0x1f) {
    case SPECIFY:
        memcpy(f->specify, f->fifo + 1, 2);
        give(f, 0);
        break;
    case CONFIGURE:
        memcpy(f->config, f->fifo + 1, 3);
        give(f, 0);
        break;
    case PERPENDICULAR:
        f->perpendicular = f->fifo[1] & 0x3f;
        give(f, 0);
        break;
    case LOCK:
        f->lock_config = first & 0x80;
        give_one(f, first & 0x80 ? 0x10 : 0);
        break;
    case RECALIBRATE:
        f->fifo[1] &= DOR_UNIT;
        seek(f, unit, 0);
        break;
    case SEEK: seek(f, unit, f->fifo[2]); break;
    case SENSE_INTERRUPT: sense_interrupt(f); break;
    case SENSE_DRIVE: sense_drive(f); break;
    case DUMP: dump(f); break;
    case READ_ID: read_id(f); break;
    case VERSION: give_one(f, first == VERSION ? 0x90 : INVALID); break;
    case FORMAT: execute(f, can_format(f)); break;
    case READ_TRACK:
    case WRITE_DATA:
    case READ_DATA:
    case WRITE_DELETED:
    case READ_DELETED:
    case VERIFY:
        f->eot = f->fifo[6];
        execute(f, sectors_there(f));
        break;
    default: give_one(f, INVALID);
    }
}

/* ---- ports ---- */

static uint8_t read_fifo(struct floppy *f)
{
    if (f->phase != PH_RESULT)
        return 0;
    uint8_t v = f->fifo[f->pos++];
    if (f->pos == 1)
        set_irq(f, false);
    if (f->pos == f->len)
        give(f, 0);
    return v;
}

static void write_fifo(struct floppy *f, uint8_t v)
{
    if (f->phase != PH_COMMAND || !(f->dor & DOR_ON))
        return;
    f->fifo[f->pos++] = v;
    if (f->pos == command_length(f->fifo[0]))
        run(f);
}

static uint8_t main_status(const struct floppy *f)
{
    if (!(f->dor & DOR_ON))
        return 0;
    switch (f->phase) {
    case PH_COMMAND: return (uint8_t)(MAIN_READY | (f->pos ? MAIN_BUSY : 0));
    case PH_RESULT: return MAIN_READY | MAIN_TO_HOST | MAIN_BUSY;
    default: return MAIN_BUSY;
    }
}

static void write_dor(struct floppy *f, uint8_t v)
{
    bool was = f->dor & DOR_ON;
    f->dor = v;
    if (was && !(v & DOR_ON)) {
        f->phase = PH_COMMAND;
        f->discard = f->in_flight;
        f->irq = false;
    }
    if (!was && v & DOR_ON)
        soft_reset(f);
    update_line(f);
}

static uint64_t port_read(void *ctx, uint64_t offset, unsigned size)
{
    struct floppy *f = ctx;
    uint8_t v = 0xff;
    pthread_mutex_lock(&f->lock);
    switch (offset) {
    case REG_DOR: v = f->dor; break;
    case REG_TAPE: v = 0x20; break; /* no media id, no tape */
    case REG_MAIN: v = main_status(f); break;
    case REG_FIFO: v = read_fifo(f); break;
    default: break;
    }
    pthread_mutex_unlock(&f->lock);
    return size == 1 ? v : UINT64_MAX;
}

static void port_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct floppy *f = ctx;
    uint8_t v = (uint8_t)value;
    pthread_mutex_lock(&f->lock);
    switch (offset) {
    case REG_DOR: write_dor(f, v); break;
    case REG_MAIN: /* the data rate */
        f->rate = v & RATE;
        if (v & RATE_RESET && f->dor & DOR_ON)
            soft_reset(f);
        break;
    case REG_FIFO: write_fifo(f, v); break;
    default: break;
    }
    pthread_mutex_unlock(&f->lock);
}

static uint64_t change_read(void *ctx, uint64_t offset, unsigned size)
{
    struct floppy *f = ctx;
    pthread_mutex_lock(&f->lock);
    bool changed = (f->dor & DOR_UNIT) == 0 && (f->changed || !f->kind);
    pthread_mutex_unlock(&f->lock);
    return changed ? CHANGED : 0;
}

static void rate_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct floppy *f = ctx;
    pthread_mutex_lock(&f->lock);
    f->rate = value & RATE;
    pthread_mutex_unlock(&f->lock);
}

static const struct hv_io_ops port_ops = {.name = "floppy", .read = port_read, .write = port_write};
static const struct hv_io_ops rate_ops = {
    .name = "floppy", .read = change_read, .write = rate_write};

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
    finish(f, f->terminal ? 0 : ABNORMAL, f->terminal ? 0 : BEYOND, 0);
}

static void completed(struct floppy *f, int status)
{
    uint8_t command = f->fifo[0] & 0x1f;
    if (status) {
        finish(f, ABNORMAL, BAD_DATA, 0);
        return;
    }
    if (writes(command)) {
        f->counters.written_bytes += f->moves;
        if (command == FORMAT)
            finish(f, 0, 0, 0);
        else
            moved(f);
        return;
    }
    f->counters.read_bytes += dma_move(f->p.dma, CHANNEL, f->buffer, f->moves, true, &f->terminal);
    moved(f);
}

static void settle(struct floppy *f)
{
    if (f->stopped && !f->in_flight) {
        void (*stopped)(void *ctx) = f->stopped;
        f->stopped = NULL;
        stopped(f->stopped_ctx);
    }
}

static void act(void *ctx);

static void request_done(struct disk_req *r, int status)
{
    struct floppy *f = r->owner;
    pthread_mutex_lock(&f->lock);
    f->in_flight = false;
    if (!f->discard)
        completed(f, status);
    f->discard = false;
    pthread_mutex_unlock(&f->lock);
    act(f);
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
        finish(f, ABNORMAL, OVERRUN, 0);
        return;
    }
    memset(f->buffer, f->fifo[5], len);
    submit(f, DISK_WRITE, place(f, f->cylinder, head, 1), len);
}

static void begin(struct floppy *f)
{
    uint8_t command = f->fifo[0] & 0x1f;
    bool to_memory = !writes(command);
    /* Asked again: the medium may be another one meanwhile, or the command a saved state's. */
    if (command == FORMAT ? !can_format(f) : !sectors_there(f))
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
        finish(f, ABNORMAL, n ? NO_DATA : OVERRUN, 0);
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

static void act(void *ctx)
{
    struct floppy *f = ctx;
    pthread_mutex_lock(&f->lock);
    if (f->pending && !f->in_flight)
        change_medium(f);
    if (f->running && f->phase == PH_EXECUTE && !f->in_flight)
        begin(f);
    pthread_mutex_unlock(&f->lock);
    settle(f);
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

/* ---- life ---- */

static void start(void *self)
{
    struct floppy *f = self;
    f->running = true;
    pthread_mutex_lock(&f->lock);
    update_line(f);
    pthread_mutex_unlock(&f->lock);
    loop_post(f->p.env->loop, &f->post);
}

static void stop(void *self, void (*done)(void *ctx), void *ctx)
{
    struct floppy *f = self;
    f->running = false;
    f->stopped = done;
    f->stopped_ctx = ctx;
    settle(f);
}

static void reset(void *self)
{
    struct floppy *f = self;
    power_on(f);
    update_line(f);
}

static const struct state_field fields[] = {
    STATE_FIELD(1, STATE_BOOL, struct floppy, changed),
    STATE_FIELD(2, STATE_U8, struct floppy, dor),
    STATE_FIELD_MAX(3, STATE_U8, struct floppy, rate, RATE),
    STATE_FIELD_MAX(4, STATE_U8, struct floppy, cylinder, MOST_CYLINDER),
    STATE_FIELD_MAX(5, STATE_U8, struct floppy, phase, PH_LAST - 1),
    STATE_FIELD(6, STATE_BYTES, struct floppy, fifo),
    STATE_FIELD_MAX(7, STATE_U8, struct floppy, pos, FIFO - 1),
    STATE_FIELD_MAX(8, STATE_U8, struct floppy, len, FIFO - 1),
    STATE_FIELD(9, STATE_BYTES, struct floppy, specify),
    STATE_FIELD(10, STATE_BYTES, struct floppy, config),
    STATE_FIELD(11, STATE_U8, struct floppy, perpendicular),
    STATE_FIELD(12, STATE_U8, struct floppy, eot),
    STATE_FIELD(13, STATE_BOOL, struct floppy, lock_config),
    STATE_FIELD(14, STATE_BOOL, struct floppy, irq),
    STATE_FIELD_MAX(15, STATE_U8, struct floppy, polled, UNITS),
    STATE_FIELD(16, STATE_BOOL, struct floppy, seek_ended),
    STATE_FIELD(17, STATE_U8, struct floppy, seek_status),
};

static bool loaded(void *obj, uint16_t version, err *e)
{
    struct floppy *f = obj;
    bool ok = f->phase == PH_RESULT    ? f->pos < f->len
              : f->phase == PH_COMMAND ? f->pos < command_length(f->fifo[0]) || !f->pos
                                       : command_length(f->fifo[0]) >= 6;
    return ok || err_set(e, ERR_CORRUPT, "the saved floppy controller is damaged");
}

static const struct state_table table = {.name = "floppy controller",
                                         .section = STATE_ID('F', 'D', 'C', ' '),
                                         .version = 1,
                                         .least_reader = 1,
                                         .fields = fields,
                                         .nfields = ARRAY_LEN(fields),
                                         .post_load = loaded};

static void save(void *self, struct state_writer *w)
{
    state_save(w, &table, 0, self);
}
static bool restore(void *self, const struct state_reader *r, err *e)
{
    return state_restore(r, &table, 0, self, e);
}

static void destroy(void *self)
{
    struct floppy *f = self;
    for (unsigned i = 0; i < RANGES; i++)
        if (f->ranges[i])
            hv_io_release(f->p.env->io, f->ranges[i]);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

struct floppy *floppy_new(const struct floppy_params *p, err *e)
{
    struct floppy *f = calloc(1, sizeof *f);
    if (!f) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory for the floppy controller");
        return NULL;
    }
    f->p = *p;
    pthread_mutex_init(&f->lock, NULL);
    loop_post_init(&f->post, act, f);
    power_on(f);
    struct hv_io *io = p->env->io;
    f->ranges[0] = hv_io_claim(io, HV_IO_PORT, LAYOUT_PORT_FLOPPY, PORTS, &port_ops, f, e);
    if (f->ranges[0])
        f->ranges[1] =
            hv_io_claim(io, HV_IO_PORT, LAYOUT_PORT_FLOPPY + REG_RATE, 1, &rate_ops, f, e);
    if (f->ranges[1])
        return f;
    destroy(f);
    return NULL;
}

struct device floppy_device(struct floppy *f)
{
    static const struct device_ops ops = {.name = "floppy controller",
                                          .start = start,
                                          .stop = stop,
                                          .reset = reset,
                                          .save = save,
                                          .restore = restore,
                                          .destroy = destroy};
    return (struct device){.ops = &ops, .self = f};
}
