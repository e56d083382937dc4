/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/dma.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"

enum { CONTROLLERS = 2, CHANNELS = 4, PAGES = 16, RANGES = 3 };
enum { MASTER = 0x00, SLAVE = 0xc0, PAGE_PORTS = 0x80 };
enum { REG_STATUS = 8, REG_REQUEST, REG_MASK, REG_MODE, REG_FLIP, REG_CLEAR, REG_UNMASK, REG_ALL };
enum { COMMAND_OFF = 4, MODE_AUTO = 0x10, MODE_DOWN = 0x20, MODE_TYPE = 0x0c, ALL = 0x0f };
enum { TYPE_VERIFY = 0x00, TYPE_TO_MEMORY = 0x04, TYPE_FROM_MEMORY = 0x08 };

struct dma_channel {
    uint16_t base_address, base_count, address, count;
    uint8_t mode;
};

struct dma_controller {
    struct dma_channel channel[CHANNELS];
    uint8_t command, status, mask;
    bool high; /* the next byte of a 16-bit register is the upper one */
};

struct dma {
    const struct chip_env *env;
    struct hv_memory *memory;
    struct hv_io_range *ranges[RANGES];
    pthread_mutex_t lock; /* all below */
    struct dma_controller controller[CONTROLLERS];
    uint8_t pages[PAGES]; /* those of no channel are kept: POST codes */
};

/* ---- registers ---- */

static void clear(struct dma_controller *c)
{
    c->command = c->status = 0;
    c->mask = ALL;
    c->high = false;
}

static uint8_t read_word(struct dma_controller *c, uint16_t v)
{
    c->high = !c->high;
    return (uint8_t)(c->high ? v : v >> 8);
}

static void write_word(struct dma_controller *c, uint16_t *base, uint16_t *now, uint8_t v)
{
    *base = (uint16_t)(c->high ? (*base & 0x00ff) | v << 8 : (*base & 0xff00) | v);
    *now = *base;
    c->high = !c->high;
}

static uint8_t read_register(struct dma_controller *c, unsigned reg)
{
    const struct dma_channel *ch = &c->channel[reg / 2 % CHANNELS];
    uint8_t v;
    if (reg < REG_STATUS)
        return read_word(c, reg & 1 ? ch->count : ch->address);
    switch (reg) {
    case REG_STATUS:
        v = c->status;
        c->status = 0;
        return v;
    case REG_ALL: return (uint8_t)(c->mask | 0xf0);
    case REG_CLEAR: return 0; /* the temporary register */
    default: return 0xff;
    }
}

static void write_register(struct dma_controller *c, unsigned reg, uint8_t v)
{
    struct dma_channel *ch = &c->channel[reg < REG_STATUS ? reg / 2 : v % CHANNELS];
    uint8_t bit = (uint8_t)(1u << v % CHANNELS);
    switch (reg) {
    case REG_STATUS: c->command = v; break;
    case REG_REQUEST: break; /* by software: of use for memory to memory alone */
    case REG_MASK: c->mask = v & 4 ? c->mask | bit : c->mask & (uint8_t)~bit; break;
    case REG_MODE: ch->mode = v & 0xfc; break;
    case REG_FLIP: c->high = false; break;
    case REG_CLEAR: clear(c); break;
    case REG_UNMASK: c->mask = 0; break;
    case REG_ALL: c->mask = v & ALL; break;
    default:
        if (reg & 1)
            write_word(c, &ch->base_count, &ch->count, v);
        else
            write_word(c, &ch->base_address, &ch->address, v);
    }
}

/* ---- ports: the second controller's lie two apart ---- */

static uint64_t port_read(struct dma *d, unsigned n, uint64_t reg, unsigned size)
{
    if (size != 1)
        return UINT64_MAX;
    pthread_mutex_lock(&d->lock);
    uint8_t v = read_register(&d->controller[n], (unsigned)reg);
    pthread_mutex_unlock(&d->lock);
    return v;
}

static void port_write(struct dma *d, unsigned n, uint64_t reg, uint64_t value)
{
    pthread_mutex_lock(&d->lock);
    write_register(&d->controller[n], (unsigned)reg, (uint8_t)value);
    pthread_mutex_unlock(&d->lock);
}

static uint64_t read_master(void *ctx, uint64_t offset, unsigned size)
{
    return port_read(ctx, 0, offset, size);
}
static void write_master(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    port_write(ctx, 0, offset, value);
}
static uint64_t read_slave(void *ctx, uint64_t offset, unsigned size)
{
    return port_read(ctx, 1, offset / 2, size);
}
static void write_slave(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    port_write(ctx, 1, offset / 2, value);
}

static uint64_t read_page(void *ctx, uint64_t offset, unsigned size)
{
    struct dma *d = ctx;
    pthread_mutex_lock(&d->lock);
    uint8_t v = d->pages[offset];
    pthread_mutex_unlock(&d->lock);
    return size == 1 ? v : UINT64_MAX;
}

static void write_page(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct dma *d = ctx;
    pthread_mutex_lock(&d->lock);
    d->pages[offset] = (uint8_t)value;
    pthread_mutex_unlock(&d->lock);
}

static const struct hv_io_ops master_ops = {
    .name = "DMA controller", .read = read_master, .write = write_master};
static const struct hv_io_ops slave_ops = {
    .name = "DMA controller", .read = read_slave, .write = write_slave};
static const struct hv_io_ops page_ops = {
    .name = "DMA page registers", .read = read_page, .write = write_page};

/* ---- transfers ---- */

static size_t ready(const struct dma *d, unsigned channel, bool to_memory)
{
    const struct dma_controller *c = &d->controller[0];
    const struct dma_channel *ch = &c->channel[channel];
    uint8_t type = ch->mode & MODE_TYPE;
    if ((c->command & COMMAND_OFF) || (c->mask >> channel & 1))
        return 0;
    if (type != TYPE_VERIFY && type != (to_memory ? TYPE_TO_MEMORY : TYPE_FROM_MEMORY))
        return 0;
    return (size_t)ch->count + 1;
}

size_t dma_ready(struct dma *d, unsigned channel, bool to_memory)
{
    pthread_mutex_lock(&d->lock);
    size_t n = ready(d, channel, to_memory);
    pthread_mutex_unlock(&d->lock);
    return n;
}

/* Bytes that lie in a row from the channel's address on, and where. */
static size_t piece(const struct dma *d, unsigned channel, size_t len, uint64_t *at)
{
    static const uint8_t page_of[CHANNELS] = {7, 3, 1, 2};
    const struct dma_channel *ch = &d->controller[0].channel[channel];
    uint64_t page = (uint64_t)d->pages[page_of[channel]] << 16;
    *at = page | ch->address;
    return ch->mode & MODE_DOWN ? 1 : MIN(len, (size_t)0x10000 - ch->address);
}

static void copy(struct dma *d, uint64_t at, uint8_t *bytes, size_t len, bool to_memory)
{
    if (to_memory)
        hv_memory_write(d->memory, at, bytes, len);
    else if (!hv_memory_read(d->memory, at, bytes, len))
        memset(bytes, 0xff, len);
}

/* The last byte of the count was moved. */
static void terminate(struct dma *d, unsigned channel)
{
    struct dma_controller *c = &d->controller[0];
    struct dma_channel *ch = &c->channel[channel];
    c->status |= (uint8_t)(1u << channel);
    if (ch->mode & MODE_AUTO) {
        ch->address = ch->base_address;
        ch->count = ch->base_count;
    } else {
        c->mask |= (uint8_t)(1u << channel);
    }
}

size_t dma_move(struct dma *d, unsigned channel, uint8_t *bytes, size_t len, bool to_memory,
                bool *terminal)
{
    struct dma_channel *ch = &d->controller[0].channel[channel];
    pthread_mutex_lock(&d->lock);
    size_t limit = ready(d, channel, to_memory), total = MIN(len, limit);
    bool moves = (ch->mode & MODE_TYPE) != TYPE_VERIFY;
    for (size_t done = 0; done < total;) {
        uint64_t at;
        size_t n = piece(d, channel, total - done, &at);
        if (moves)
            copy(d, at, bytes + done, n, to_memory);
        ch->address = (uint16_t)(ch->mode & MODE_DOWN ? ch->address - n : ch->address + n);
        ch->count = (uint16_t)(ch->count - n); /* 0xffff after the last */
        done += n;
    }
    *terminal = total && total == limit;
    if (*terminal)
        terminate(d, channel);
    pthread_mutex_unlock(&d->lock);
    return total;
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
    struct dma *d = self;
    memset(d->controller, 0, sizeof d->controller);
    memset(d->pages, 0, sizeof d->pages);
    for (unsigned i = 0; i < CONTROLLERS; i++)
        clear(&d->controller[i]);
}

static const struct state_field channel_fields[] = {
    STATE_FIELD(1, STATE_U16, struct dma_channel, base_address),
    STATE_FIELD(2, STATE_U16, struct dma_channel, base_count),
    STATE_FIELD(3, STATE_U16, struct dma_channel, address),
    STATE_FIELD(4, STATE_U16, struct dma_channel, count),
    STATE_FIELD(5, STATE_U8, struct dma_channel, mode),
};
static const struct state_table channel_table = {
    .name = "DMA channel", .fields = channel_fields, .nfields = ARRAY_LEN(channel_fields)};
static const struct state_field controller_fields[] = {
    STATE_SUB(1, struct dma_controller, channel, &channel_table, CHANNELS),
    STATE_FIELD(2, STATE_U8, struct dma_controller, command),
    STATE_FIELD_MAX(3, STATE_U8, struct dma_controller, status, ALL),
    STATE_FIELD_MAX(4, STATE_U8, struct dma_controller, mask, ALL),
    STATE_FIELD(5, STATE_BOOL, struct dma_controller, high),
};
static const struct state_table controller_table = {
    .name = "DMA controller", .fields = controller_fields, .nfields = ARRAY_LEN(controller_fields)};
static const struct state_field fields[] = {
    STATE_SUB(1, struct dma, controller, &controller_table, CONTROLLERS),
    STATE_FIELD(2, STATE_BYTES, struct dma, pages),
};
static const struct state_table table = {.name = "DMA controllers",
                                         .section = STATE_ID('D', 'M', 'A', ' '),
                                         .version = 1,
                                         .least_reader = 1,
                                         .fields = fields,
                                         .nfields = ARRAY_LEN(fields)};

static void save(void *self, struct state_writer *w)
{
    state_save(w, &table, 0, self);
}

/* States from before there was one have none: it is as after a reset. */
static bool restore(void *self, const struct state_reader *r, err *e)
{
    struct state_section found;
    err why = ERR_INIT;
    if (!state_find(r, table.section, 0, &found, &why) && why.code == ERR_NOT_FOUND)
        return true;
    return state_restore(r, &table, 0, self, e);
}

static void destroy(void *self)
{
    struct dma *d = self;
    for (unsigned i = 0; i < RANGES; i++)
        if (d->ranges[i])
            hv_io_release(d->env->io, d->ranges[i]);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

static bool claim(struct dma *d, unsigned i, uint16_t port, unsigned len,
                  const struct hv_io_ops *ops, err *e)
{
    d->ranges[i] = hv_io_claim(d->env->io, HV_IO_PORT, port, len, ops, d, e);
    return d->ranges[i] != NULL;
}

struct dma *dma_new(const struct chip_env *env, struct hv_memory *memory, err *e)
{
    struct dma *d = calloc(1, sizeof *d);
    if (!d) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory for the DMA controllers");
        return NULL;
    }
    d->env = env;
    d->memory = memory;
    pthread_mutex_init(&d->lock, NULL);
    reset(d);
    if (claim(d, 0, MASTER, 16, &master_ops, e) && claim(d, 1, SLAVE, 32, &slave_ops, e) &&
        claim(d, 2, PAGE_PORTS, PAGES, &page_ops, e))
        return d;
    destroy(d);
    return NULL;
}

struct device dma_device(struct dma *d)
{
    static const struct device_ops ops = {.name = "DMA controllers",
                                          .start = start,
                                          .stop = stop,
                                          .reset = reset,
                                          .save = save,
                                          .restore = restore,
                                          .destroy = destroy};
    return (struct device){.ops = &ops, .self = d};
}
