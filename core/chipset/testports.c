/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/testports.h"

#include <stdlib.h>

#include "core/chipset/layout.h"

enum { I8042_IDLE = 0x14, I8042_RESET = 0xfe };
enum { PORT92 = 0x92, PORT92_A20 = 2, PORT92_RESET = 1 };
/* Within PCI's address register, whose accesses are 32 bits wide. */
enum { PCI_ADDRESS = 0xcf8, RESET_CONTROL = 1, RESET_CONTROL_CPU = 4 };
enum { RANGES = 4 };

struct testports {
    struct testports_params p;
    struct hv_io_range *ranges[RANGES];
};

static uint64_t read_zero(void *ctx, uint64_t offset, unsigned size)
{
    return 0;
}
static uint64_t read_ones(void *ctx, uint64_t offset, unsigned size)
{
    return UINT64_MAX;
}
static uint64_t read_i8042(void *ctx, uint64_t offset, unsigned size)
{
    return I8042_IDLE; /* nothing to read, ready for a command */
}
static uint64_t read_port92(void *ctx, uint64_t offset, unsigned size)
{
    return PORT92_A20; /* always on */
}

static void write_exit(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct testports *t = ctx;
    if (offset == 0)
        t->p.debug_exit(t->p.ctx, (uint32_t)value);
}
static void write_i8042(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct testports *t = ctx;
    if ((uint8_t)value == I8042_RESET)
        t->p.reset(t->p.ctx);
}
static void write_port92(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct testports *t = ctx;
    if (value & PORT92_RESET)
        t->p.reset(t->p.ctx);
}
static void write_reset_control(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct testports *t = ctx;
    if (offset == RESET_CONTROL && size == 1 && (value & RESET_CONTROL_CPU))
        t->p.reset(t->p.ctx);
}

static const struct hv_io_ops exit_ops = {
    .name = "debug exit", .read = read_zero, .write = write_exit};
static const struct hv_io_ops i8042_ops = {
    .name = "keyboard controller", .read = read_i8042, .write = write_i8042};
static const struct hv_io_ops port92_ops = {
    .name = "system control port A", .read = read_port92, .write = write_port92};
static const struct hv_io_ops reset_ops = {
    .name = "reset control", .read = read_ones, .write = write_reset_control};

static void nothing(void *self)
{
}
static void stop(void *self, void (*done)(void *ctx), void *ctx)
{
    done(ctx);
}
static void save(void *self, struct state_writer *w)
{
}
static bool restore(void *self, const struct state_reader *r, err *e)
{
    return true;
}

static void destroy(void *self)
{
    struct testports *t = self;
    for (unsigned i = 0; i < RANGES; i++)
        if (t->ranges[i])
            hv_io_release(t->p.env->io, t->ranges[i]);
    free(t);
}

static bool claim(struct testports *t, unsigned i, uint16_t port, uint64_t len,
                  const struct hv_io_ops *ops, err *e)
{
    t->ranges[i] = hv_io_claim(t->p.env->io, HV_IO_PORT, port, len, ops, t, e);
    return t->ranges[i] != NULL;
}

struct testports *testports_new(const struct testports_params *p, err *e)
{
    struct testports *t = calloc(1, sizeof *t);
    if (!t) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory for the test ports");
        return NULL;
    }
    t->p = *p;
    bool ok = !p->debug_exit || claim(t, 0, LAYOUT_PORT_DEBUG_EXIT, 4, &exit_ops, e);
    if (ok && p->reset)
        ok = claim(t, 1, LAYOUT_PORT_I8042_COMMAND, 1, &i8042_ops, e) &&
             claim(t, 2, PORT92, 1, &port92_ops, e) && claim(t, 3, PCI_ADDRESS, 4, &reset_ops, e);
    if (!ok) {
        destroy(t);
        return NULL;
    }
    return t;
}

struct device testports_device(struct testports *t)
{
    static const struct device_ops ops = {.name = "test ports",
                                          .start = nothing,
                                          .stop = stop,
                                          .reset = nothing,
                                          .save = save,
                                          .restore = restore,
                                          .destroy = destroy};
    return (struct device){.ops = &ops, .self = t};
}
