/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Registers, life and state. */
#include "core/chipset/floppy.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/chipset/floppy-int.h"
#include "core/chipset/layout.h"

/* ---- ports ---- */

void floppy_update_line(struct floppy *f)
{
    chip_line_set(&f->p.irq, f->irq && f->dor & DOR_DMA);
}

static uint8_t read_fifo(struct floppy *f)
{
    if (f->phase != PH_RESULT)
        return 0;
    uint8_t v = f->fifo[f->pos++];
    if (f->pos == 1)
        floppy_set_irq(f, false);
    if (f->pos == f->len)
        floppy_give(f, 0);
    return v;
}

static void write_fifo(struct floppy *f, uint8_t v)
{
    if (f->phase != PH_COMMAND || !(f->dor & DOR_ON))
        return;
    f->fifo[f->pos++] = v;
    if (f->pos == floppy_command_length(f->fifo[0]))
        floppy_run(f);
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
        floppy_give(f, 0);
        f->discard = f->in_flight;
        f->irq = false;
    }
    if (!was && v & DOR_ON)
        floppy_soft_reset(f);
    floppy_update_line(f);
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
            floppy_soft_reset(f);
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

/* ---- life ---- */

static void start(void *self)
{
    struct floppy *f = self;
    f->running = true;
    pthread_mutex_lock(&f->lock);
    floppy_update_line(f);
    pthread_mutex_unlock(&f->lock);
    loop_post(f->p.env->loop, &f->post);
}

static void stop(void *self, void (*done)(void *ctx), void *ctx)
{
    struct floppy *f = self;
    f->running = false;
    f->stopped = done;
    f->stopped_ctx = ctx;
    floppy_settle(f);
}

static void reset(void *self)
{
    struct floppy *f = self;
    floppy_power_on(f);
    floppy_update_line(f);
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
              : f->phase == PH_COMMAND ? f->pos < floppy_command_length(f->fifo[0]) || !f->pos
                                       : floppy_command_length(f->fifo[0]) >= 6;
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
    loop_post_init(&f->post, floppy_act, f);
    floppy_power_on(f);
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
