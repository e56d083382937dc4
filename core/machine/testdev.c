/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The devices that kvm-unit-tests expect beside a PC: a scratch register and 64 KiB of scratch
 * MMIO, ports that set interrupt lines, and one that makes SynIC message and event connections and
 * raises SINTs. The layout is theirs (x86/ioapic.c, x86/emulator.c, x86/hyperv.c there).
 */
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/chipset/layout.h"
#include "core/machine/machine-int.h"

enum { RANGES = 4, REGISTER_PORTS = 8, MEMORY = 0x10000, CONNECTIONS = 256 };
enum control {
    ROUTE_CREATE = 1,
    ROUTE_DESTROY,
    SINT_SET,
    MESSAGE_CREATE,
    MESSAGE_DESTROY,
    EVENT_CREATE,
    EVENT_DESTROY,
};

struct connection {
    uint8_t kind; /* 0, MESSAGE_CREATE or EVENT_CREATE */
    uint8_t vp, sint;
};

struct testdev {
    struct machine *m;
    struct hv_io_range *ranges[RANGES];

    pthread_mutex_t lock; /* all below */
    uint8_t reg[REGISTER_PORTS];
    uint8_t memory[MEMORY];
    struct connection conn[CONNECTIONS];
};

static uint64_t scratch_read(struct testdev *t, const uint8_t *from, unsigned size)
{
    uint64_t v = 0;
    pthread_mutex_lock(&t->lock);
    memcpy(&v, from, size);
    pthread_mutex_unlock(&t->lock);
    return v;
}

static void scratch_write(struct testdev *t, uint8_t *to, unsigned size, uint64_t v)
{
    pthread_mutex_lock(&t->lock);
    memcpy(to, &v, size);
    pthread_mutex_unlock(&t->lock);
}

static uint64_t register_read(void *ctx, uint64_t offset, unsigned size)
{
    struct testdev *t = ctx;
    return scratch_read(t, t->reg + offset, size);
}
static void register_write(void *ctx, uint64_t offset, unsigned size, uint64_t v)
{
    struct testdev *t = ctx;
    scratch_write(t, t->reg + offset, size, v);
}
static uint64_t memory_read(void *ctx, uint64_t offset, unsigned size)
{
    struct testdev *t = ctx;
    return scratch_read(t, t->memory + offset, size);
}
static void memory_write(void *ctx, uint64_t offset, unsigned size, uint64_t v)
{
    struct testdev *t = ctx;
    scratch_write(t, t->memory + offset, size, v);
}

static uint64_t nothing_read(void *ctx, uint64_t offset, unsigned size)
{
    return 0;
}

static void lines_write(void *ctx, uint64_t offset, unsigned size, uint64_t v)
{
    struct testdev *t = ctx;
    struct chip_line l = ioapic_line(t->m->ioapic, (unsigned)offset);
    chip_line_set(&l, v & 0xff);
}

static void synic_write(void *ctx, uint64_t offset, unsigned size, uint64_t v)
{
    struct testdev *t = ctx;
    uint8_t sint = (uint8_t)v, vp = (uint8_t)(v >> 8), id = (uint8_t)(v >> 24);
    enum control control = (enum control)(v >> 16 & 0xff);
    if (control == SINT_SET) {
        hv_synic_assert(t->m->partition, vp, sint);
        return;
    }
    pthread_mutex_lock(&t->lock);
    if (control == MESSAGE_CREATE || control == EVENT_CREATE)
        t->conn[id] = (struct connection){.kind = (uint8_t)control, .vp = vp, .sint = sint};
    else if (control == MESSAGE_DESTROY || control == EVENT_DESTROY)
        t->conn[id].kind = 0;
    pthread_mutex_unlock(&t->lock);
}

static const struct hv_io_ops register_ops = {
    .name = "test register", .read = register_read, .write = register_write};
static const struct hv_io_ops memory_ops = {
    .name = "test memory", .read = memory_read, .write = memory_write};
static const struct hv_io_ops lines_ops = {
    .name = "test interrupt lines", .read = nothing_read, .write = lines_write};
static const struct hv_io_ops synic_ops = {
    .name = "test SynIC", .read = nothing_read, .write = synic_write};

/* ---- connections ---- */

static struct connection lookup(struct testdev *t, uint32_t id, uint8_t kind)
{
    struct connection c = {0};
    pthread_mutex_lock(&t->lock);
    if (id < CONNECTIONS && t->conn[id].kind == kind)
        c = t->conn[id];
    pthread_mutex_unlock(&t->lock);
    return c;
}

static enum hv_status on_message(void *ctx, unsigned vp, uint32_t id, uint32_t type,
                                 const void *payload, uint32_t len)
{
    struct testdev *t = ctx;
    struct connection c = lookup(t, id, MESSAGE_CREATE);
    if (!c.kind)
        return HV_STATUS_INVALID_CONNECTION_ID;
    if (!hv_synic_post(t->m->partition, c.vp, c.sint, type, payload, (uint8_t)len))
        return HV_STATUS_INSUFFICIENT_BUFFERS;
    return HV_STATUS_SUCCESS;
}

static enum hv_status on_signal(void *ctx, unsigned vp, uint32_t id, uint16_t flag)
{
    struct testdev *t = ctx;
    struct connection c = lookup(t, id, EVENT_CREATE);
    if (!c.kind)
        return HV_STATUS_INVALID_CONNECTION_ID;
    hv_synic_signal(t->m->partition, c.vp, c.sint, (uint16_t)id); /* the tests look for this flag */
    return HV_STATUS_SUCCESS;
}

/* ---- life ---- */

static void start(void *self)
{
}
static void stop(void *self, void (*done)(void *ctx), void *ctx)
{
    done(ctx);
}

static void reset(void *self)
{
    struct testdev *t = self;
    memset(t->reg, 0, sizeof t->reg);
    memset(t->memory, 0, sizeof t->memory);
    memset(t->conn, 0, sizeof t->conn);
}

static const struct state_field conn_fields[] = {
    STATE_FIELD_MAX(1, STATE_U8, struct connection, kind, EVENT_CREATE),
    STATE_FIELD_MAX(2, STATE_U8, struct connection, vp, HV_MAX_VPS - 1),
    STATE_FIELD_MAX(3, STATE_U8, struct connection, sint, HV_VP_SINTS - 1),
};
static const struct state_table conn_table = {
    .name = "connection", .fields = conn_fields, .nfields = ARRAY_LEN(conn_fields)};
static const struct state_field fields[] = {
    STATE_FIELD(1, STATE_BYTES, struct testdev, reg),
    STATE_FIELD(2, STATE_BYTES, struct testdev, memory),
    STATE_SUB(3, struct testdev, conn, &conn_table, CONNECTIONS),
};
static const struct state_table table = {.name = "test devices",
                                         .section = STATE_ID('T', 'E', 'S', 'T'),
                                         .version = 1,
                                         .least_reader = 1,
                                         .fields = fields,
                                         .nfields = ARRAY_LEN(fields)};

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
    struct testdev *t = self;
    for (unsigned i = 0; i < RANGES; i++)
        if (t->ranges[i])
            hv_io_release(t->m->env.io, t->ranges[i]);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

static bool claim(struct testdev *t, err *e)
{
    static const struct {
        enum hv_io_space space;
        uint64_t base, len;
        const struct hv_io_ops *ops;
    } claims[RANGES] = {
        {HV_IO_PORT, LAYOUT_PORT_TEST_REGISTER, REGISTER_PORTS, &register_ops},
        {HV_IO_PORT, LAYOUT_PORT_TEST_LINES, LAYOUT_IOAPIC_PINS, &lines_ops},
        {HV_IO_PORT, LAYOUT_PORT_TEST_SYNIC, 4, &synic_ops},
        {HV_IO_MMIO, LAYOUT_TEST_MEMORY, MEMORY, &memory_ops},
    };
    for (unsigned i = 0; i < RANGES; i++) {
        t->ranges[i] = hv_io_claim(t->m->env.io, claims[i].space, claims[i].base, claims[i].len,
                                   claims[i].ops, t, e);
        if (!t->ranges[i])
            return false;
    }
    return true;
}

bool machine_add_test_devices(struct machine *m, err *e)
{
    static const struct machine_bus_ops bus = {.post_message = on_message,
                                               .signal_event = on_signal};
    static const struct device_ops ops = {.name = "test devices",
                                          .start = start,
                                          .stop = stop,
                                          .reset = reset,
                                          .save = save,
                                          .restore = restore,
                                          .destroy = destroy};
    struct testdev *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory for the test devices");
    t->m = m;
    pthread_mutex_init(&t->lock, NULL);
    if (!claim(t, e)) {
        destroy(t);
        return false;
    }
    machine_set_bus(m, &bus, t);
    return machine_add_device(m, (struct device){.ops = &ops, .self = t}, e);
}
