/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Commands, their results, and resets. Lock held. */
#include <string.h>

#include "core/base/bytes.h"
#include "core/chipset/floppy-int.h"

/* ---- interrupts and results ---- */

void floppy_set_irq(struct floppy *f, bool on)
{
    f->irq = on;
    floppy_update_line(f);
}

void floppy_give(struct floppy *f, unsigned len)
{
    f->pos = 0;
    f->len = (uint8_t)len;
    f->phase = len ? PH_RESULT : PH_COMMAND;
}

static void give_one(struct floppy *f, uint8_t v)
{
    f->fifo[0] = v;
    floppy_give(f, 1);
}

void floppy_finish(struct floppy *f, uint8_t st0, uint8_t st1, uint8_t st2)
{
    uint8_t place[4];
    memcpy(place, f->fifo + 2, sizeof place);
    st0 |= f->fifo[1] & (DOR_UNIT | HEAD);
    f->fifo[0] = st0;
    f->fifo[1] = st1;
    f->fifo[2] = st2;
    memcpy(f->fifo + 3, place, sizeof place);
    floppy_give(f, 7);
    floppy_set_irq(f, true);
}

/* ---- reset ---- */

void floppy_soft_reset(struct floppy *f)
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
    floppy_set_irq(f, true);
}

void floppy_power_on(struct floppy *f)
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
    floppy_give(f, 0);
    floppy_set_irq(f, true);
}

static void sense_interrupt(struct floppy *f)
{
    if (f->polled) {
        f->fifo[0] = (uint8_t)(POLLING | (UNITS - f->polled--));
        f->fifo[1] = f->fifo[0] & DOR_UNIT ? 0 : f->cylinder;
        floppy_give(f, 2);
    } else if (f->seek_ended) {
        f->seek_ended = false;
        f->fifo[0] = f->seek_status;
        f->fifo[1] = f->seek_status & DOR_UNIT ? 0 : f->cylinder;
        floppy_give(f, 2);
    } else {
        give_one(f, INVALID);
    }
    floppy_set_irq(f, false);
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
    floppy_give(f, sizeof out);
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
    floppy_finish(f, bad ? ABNORMAL : 0, bad, 0);
}

bool floppy_writes(uint8_t command)
{
    command &= 0x1f;
    return command == WRITE_DATA || command == WRITE_DELETED || command == FORMAT;
}

/* Data begins at C, H, R of the command. True: the I/O thread goes on. */
bool floppy_sectors_there(struct floppy *f)
{
    uint8_t c = f->fifo[2], h = f->fifo[3], r = f->fifo[4], bad = no_track(f);
    if (!bad && f->config[1] & CONFIG_IMPLIED_SEEK && c < f->kind->cylinders) {
        f->cylinder = c;
        f->changed = false;
    }
    if (bad) {
        floppy_finish(f, ABNORMAL, bad, 0);
    } else if (!on_cylinder(f, c)) {
        floppy_finish(f, ABNORMAL, NO_DATA, WRONG_CYLINDER);
    } else if (c >= f->kind->cylinders || h >= f->kind->heads || h != (f->fifo[1] & HEAD ? 1 : 0) ||
               !r || r > f->kind->sectors || f->fifo[5] != SIZE_512) {
        floppy_finish(f, ABNORMAL, NO_DATA, 0);
    } else if (floppy_writes(f->fifo[0]) && f->read_only) {
        floppy_finish(f, ABNORMAL, PROTECTED, 0);
    } else {
        return true;
    }
    return false;
}

bool floppy_can_format(struct floppy *f)
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
        floppy_finish(f, ABNORMAL, bad, 0);
    return !bad;
}

static void execute(struct floppy *f, bool possible)
{
    if (!possible)
        return;
    if (f->specify[1] & NON_DMA) {
        floppy_finish(f, ABNORMAL, OVERRUN, 0);
        return;
    }
    f->counters.commands++;
    f->phase = PH_EXECUTE;
    loop_post(f->p.env->loop, &f->post);
}

/* ---- the command phase ---- */

unsigned floppy_command_length(uint8_t first)
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

void floppy_run(struct floppy *f)
{
    uint8_t first = f->fifo[0];
    unsigned unit = f->fifo[1] & DOR_UNIT;
    switch (first & 0x1f) {
    case SPECIFY:
        memcpy(f->specify, f->fifo + 1, 2);
        floppy_give(f, 0);
        break;
    case CONFIGURE:
        memcpy(f->config, f->fifo + 1, 3);
        floppy_give(f, 0);
        break;
    case PERPENDICULAR:
        f->perpendicular = f->fifo[1] & 0x3f;
        floppy_give(f, 0);
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
    case FORMAT: execute(f, floppy_can_format(f)); break;
    case READ_TRACK:
    case WRITE_DATA:
    case READ_DATA:
    case WRITE_DELETED:
    case READ_DELETED:
    case VERIFY:
        f->eot = f->fifo[6];
        execute(f, floppy_sectors_there(f));
        break;
    default: give_one(f, INVALID);
    }
}
