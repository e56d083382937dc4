/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/pit.h"

#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/chipset/layout.h"

enum { CHANNELS = 3, CONTROL = 3, SPEAKER_CHANNEL = 2 };
enum { ACCESS_LATCH, ACCESS_LOW, ACCESS_HIGH, ACCESS_BOTH };
enum { STATUS_OUT = 0x80, STATUS_NULL = 0x40 };
enum {
    PORT61_GATE2 = 1,
    PORT61_SPEAKER = 2,
    PORT61_WRITABLE = 0x0f,
    PORT61_REFRESH = 0x10,
    PORT61_OUT2 = 0x20
};

struct channel {
    uint8_t mode, bcd, access;
    bool gate;
    bool loaded;       /* a count was written since the mode was set */
    bool write_second; /* the low byte is in `partial` */
    bool read_second;  /* next read gives the high byte */
    uint8_t partial;
    uint8_t latched; /* bytes of `latch` still to be read: 0, 1 (high half), 2 */
    uint16_t latch;  /* as read: BCD if bcd */
    bool status_latched;
    uint8_t status;
    uint32_t count;    /* 1 to 65536 (10000 in BCD) */
    uint64_t start_ns; /* guest time at which the present count began */
    uint64_t held;     /* ticks counted before the gate fell */
};

struct pit {
    const struct chip_env *env;
    struct chip_line irq;
    struct hv_io_range *ranges[2];
    struct chip_timer timer;

    pthread_mutex_t lock; /* all below */
    struct channel ch[CHANNELS];
    uint8_t port61;
    uint64_t last_edge; /* ticks of channel 0 at the newest rising edge that was passed on */
};

static bool is_periodic(const struct channel *c)
{
    return c->mode == 2 || c->mode == 3;
}
static bool starts_by_gate(const struct channel *c)
{
    return c->mode == 1 || c->mode == 5;
}
static bool counting(const struct channel *c)
{
    return c->loaded && (c->gate || starts_by_gate(c));
}

/* Ticks since the count was loaded (or the gate rose). */
static uint64_t ticks(const struct channel *c, uint64_t now)
{
    if (!counting(c))
        return c->held;
    return c->held + (now > c->start_ns ? chip_scale(now - c->start_ns, PIT_HZ, CHIP_NS_PER_S) : 0);
}

static void begin(struct channel *c, uint64_t now)
{
    c->start_ns = now;
    c->held = 0;
}

static bool output(const struct channel *c, uint64_t now)
{
    uint64_t t = ticks(c, now);
    if (!c->loaded)
        return c->mode != 0;
    switch (c->mode) {
    case 0: return t >= c->count;
    case 1: return t >= c->count;
    case 2: return !c->gate || t % c->count != c->count - 1;
    case 3: return !c->gate || t % c->count < (c->count + 1) / 2;
    default: return t != c->count;
    }
}

static uint32_t counter(const struct channel *c, uint64_t now)
{
    uint64_t t = ticks(c, now), wrap = c->bcd ? 10000 : 65536;
    if (!c->loaded)
        return 0;
    switch (c->mode) {
    case 2: return (uint32_t)(c->count - t % c->count);
    case 3: return (uint32_t)(c->count - 2 * t % c->count) & ~1u;
    default: return (uint32_t)((c->count + wrap - t % wrap) % wrap);
    }
}

/* The tick of the first rising edge of the output after tick `after`; 0: none to come. */
static uint64_t next_edge(const struct channel *c, uint64_t after)
{
    if (!counting(c))
        return 0;
    if (is_periodic(c))
        return (after / c->count + 1) * c->count;
    uint64_t edge = c->count + (c->mode >= 4 ? 1 : 0);
    return edge > after ? edge : 0;
}

/* Passes channel 0's output to the line and arms the timer for the next edge. */
static void update(struct pit *p)
{
    struct channel *c = &p->ch[0];
    uint64_t now = chip_now(p->env), t = ticks(c, now);
    uint64_t edge = next_edge(c, p->last_edge);
    if (edge && edge <= t) {
        chip_line_set(&p->irq, false);
        chip_line_set(&p->irq, true);
        p->last_edge = is_periodic(c) ? t / c->count * c->count : edge;
        edge = next_edge(c, p->last_edge);
    }
    chip_line_set(&p->irq, output(c, now));
    uint64_t due = 0;
    if (edge)
        due = c->start_ns + chip_scale(edge - c->held, CHIP_NS_PER_S, PIT_HZ) + 1;
    chip_timer_set(&p->timer, due);
}

static void on_timer(void *ctx)
{
    struct pit *p = ctx;
    pthread_mutex_lock(&p->lock);
    update(p);
    pthread_mutex_unlock(&p->lock);
}

/* ---- registers ---- */

static uint16_t to_bcd(uint32_t v)
{
    return (uint16_t)(v % 10 | v / 10 % 10 << 4 | v / 100 % 10 << 8 | v / 1000 % 10 << 12);
}
static uint32_t from_bcd(uint16_t v)
{
    return (v & 15u) + (v >> 4 & 15u) * 10 + (v >> 8 & 15u) * 100 + (v >> 12) * 1000u;
}

static void load_count(struct pit *p, struct channel *c, uint16_t v)
{
    uint32_t n = c->bcd ? from_bcd(v) : v;
    c->count = n ? n : c->bcd ? 10000 : 65536;
    c->loaded = true;
    begin(c, chip_now(p->env));
    if (starts_by_gate(c)) /* waits for the gate: as if long expired */
        c->held = c->count + 2;
    if (c == &p->ch[0])
        p->last_edge = starts_by_gate(c) ? c->held : 0;
}

static void write_count(struct pit *p, struct channel *c, uint8_t v)
{
    switch (c->access) {
    case ACCESS_LOW: load_count(p, c, v); break;
    case ACCESS_HIGH: load_count(p, c, (uint16_t)(v << 8)); break;
    default:
        if (c->write_second)
            load_count(p, c, (uint16_t)(c->partial | v << 8));
        else {
            c->partial = v;
            if (c->mode == 0) /* the first byte stops the count */
                c->loaded = false;
        }
        c->write_second = !c->write_second;
    }
}

static uint16_t visible_count(struct pit *p, const struct channel *c)
{
    uint32_t v = counter(c, chip_now(p->env));
    return c->bcd ? to_bcd(v) : (uint16_t)v;
}

static void latch_count(struct pit *p, struct channel *c)
{
    if (c->latched)
        return;
    c->latch = visible_count(p, c);
    c->latched = c->access == ACCESS_BOTH ? 2 : 1;
}

static void latch_status(struct pit *p, struct channel *c)
{
    if (c->status_latched)
        return;
    c->status = (uint8_t)((output(c, chip_now(p->env)) ? STATUS_OUT : 0) |
                          (c->loaded ? 0 : STATUS_NULL) | c->access << 4 | c->mode << 1 | c->bcd);
    c->status_latched = true;
}

static void read_back(struct pit *p, uint8_t v)
{
    for (unsigned i = 0; i < CHANNELS; i++) {
        if (!(v & 2u << i))
            continue;
        if (!(v & 0x20))
            latch_count(p, &p->ch[i]);
        if (!(v & 0x10))
            latch_status(p, &p->ch[i]);
    }
}

static void write_control(struct pit *p, uint8_t v)
{
    if (v >> 6 == 3) {
        read_back(p, v);
        return;
    }
    struct channel *c = &p->ch[v >> 6];
    if ((v >> 4 & 3) == ACCESS_LATCH) {
        latch_count(p, c);
        return;
    }
    unsigned mode = v >> 1 & 7;
    bool gate = c->gate;
    *c = (struct channel){.gate = gate,
                          .mode = (uint8_t)(mode > 5 ? mode - 4 : mode),
                          .bcd = v & 1,
                          .access = v >> 4 & 3,
                          .count = 65536};
    if (c == &p->ch[0])
        p->last_edge = 0;
}

static uint8_t read_latch(struct channel *c)
{
    bool high = c->access == ACCESS_HIGH || (c->access == ACCESS_BOTH && c->latched == 1);
    c->latched--;
    return (uint8_t)(high ? c->latch >> 8 : c->latch);
}

static uint8_t read_channel(struct pit *p, struct channel *c)
{
    if (c->status_latched) {
        c->status_latched = false;
        return c->status;
    }
    if (c->latched)
        return read_latch(c);
    uint16_t v = visible_count(p, c);
    bool high = c->access == ACCESS_HIGH || (c->access == ACCESS_BOTH && c->read_second);
    if (c->access == ACCESS_BOTH)
        c->read_second = !c->read_second;
    return (uint8_t)(high ? v >> 8 : v);
}

static uint64_t pit_read(void *ctx, uint64_t offset, unsigned size)
{
    struct pit *p = ctx;
    if (offset == CONTROL)
        return 0xff;
    pthread_mutex_lock(&p->lock);
    uint8_t v = read_channel(p, &p->ch[offset]);
    pthread_mutex_unlock(&p->lock);
    return v;
}

static void pit_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct pit *p = ctx;
    pthread_mutex_lock(&p->lock);
    if (offset == CONTROL)
        write_control(p, (uint8_t)value);
    else
        write_count(p, &p->ch[offset], (uint8_t)value);
    update(p);
    pthread_mutex_unlock(&p->lock);
}

static void set_gate(struct pit *p, struct channel *c, bool gate)
{
    if (gate == c->gate)
        return;
    uint64_t now = chip_now(p->env);
    if (!gate && !starts_by_gate(c))
        c->held = ticks(c, now);
    c->gate = gate;
    if (!gate)
        return;
    c->start_ns = now;
    if (c->mode != 0 && c->mode != 4)
        c->held = 0; /* modes 1 and 5 start, 2 and 3 start again */
}

static uint64_t port61_read(void *ctx, uint64_t offset, unsigned size)
{
    struct pit *p = ctx;
    pthread_mutex_lock(&p->lock);
    uint64_t now = chip_now(p->env);
    uint8_t v = p->port61;
    if (now / 15085 & 1) /* DRAM refresh toggles every 15.085 us */
        v |= PORT61_REFRESH;
    if (output(&p->ch[SPEAKER_CHANNEL], now))
        v |= PORT61_OUT2;
    pthread_mutex_unlock(&p->lock);
    return v;
}

static void port61_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct pit *p = ctx;
    pthread_mutex_lock(&p->lock);
    p->port61 = value & PORT61_WRITABLE;
    set_gate(p, &p->ch[SPEAKER_CHANNEL], value & PORT61_GATE2);
    pthread_mutex_unlock(&p->lock);
}

static const struct hv_io_ops pit_ops = {.name = "timer", .read = pit_read, .write = pit_write};
static const struct hv_io_ops port61_ops = {
    .name = "system control port", .read = port61_read, .write = port61_write};

/* ---- life ---- */

static void set_power_on(struct pit *p)
{
    for (unsigned i = 0; i < CHANNELS; i++)
        p->ch[i] = (struct channel){
            .access = ACCESS_BOTH, .mode = 3, .count = 65536, .gate = i != SPEAKER_CHANNEL};
    p->port61 = 0;
    p->last_edge = 0;
}

static void pit_start(void *self)
{
    struct pit *p = self;
    chip_timer_start(&p->timer);
    on_timer(p);
}

static void pit_stop(void *self, void (*done)(void *ctx), void *ctx)
{
    struct pit *p = self;
    chip_timer_stop(&p->timer);
    done(ctx);
}

static void pit_reset(void *self)
{
    struct pit *p = self;
    pthread_mutex_lock(&p->lock);
    set_power_on(p);
    chip_timer_set(&p->timer, 0);
    chip_line_set(&p->irq, false);
    pthread_mutex_unlock(&p->lock);
}

static void pit_destroy(void *self)
{
    struct pit *p = self;
    for (unsigned i = 0; i < 2; i++)
        if (p->ranges[i])
            hv_io_release(p->env->io, p->ranges[i]);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static bool channel_loaded(void *obj, uint16_t version, err *e)
{
    struct channel *c = obj;
    if (c->count == 0 || c->count > 65536)
        return err_set(e, ERR_CORRUPT, "The saved state of the timer is damaged (count)");
    if (c->held > UINT64_MAX / 4 || c->start_ns > UINT64_MAX / 4)
        return err_set(e, ERR_CORRUPT, "The saved state of the timer is damaged (time)");
    return true;
}

static const struct state_field channel_fields[] = {
    STATE_FIELD_MAX(1, STATE_U8, struct channel, mode, 5),
    STATE_FIELD_MAX(2, STATE_U8, struct channel, bcd, 1),
    STATE_FIELD_MAX(3, STATE_U8, struct channel, access, 3),
    STATE_FIELD(4, STATE_BOOL, struct channel, gate),
    STATE_FIELD(5, STATE_BOOL, struct channel, loaded),
    STATE_FIELD(6, STATE_BOOL, struct channel, write_second),
    STATE_FIELD(7, STATE_BOOL, struct channel, read_second),
    STATE_FIELD(8, STATE_U8, struct channel, partial),
    STATE_FIELD_MAX(9, STATE_U8, struct channel, latched, 2),
    STATE_FIELD(10, STATE_U16, struct channel, latch),
    STATE_FIELD(11, STATE_BOOL, struct channel, status_latched),
    STATE_FIELD(12, STATE_U8, struct channel, status),
    STATE_FIELD(13, STATE_U32, struct channel, count),
    STATE_FIELD(14, STATE_U64, struct channel, start_ns),
    STATE_FIELD(15, STATE_U64, struct channel, held),
};
static const struct state_table channel_table = {.name = "timer channel",
                                                 .fields = channel_fields,
                                                 .nfields = ARRAY_LEN(channel_fields),
                                                 .post_load = channel_loaded};
static const struct state_field fields[] = {
    STATE_SUB(1, struct pit, ch, &channel_table, CHANNELS),
    STATE_FIELD_MAX(2, STATE_U8, struct pit, port61, PORT61_WRITABLE),
    STATE_FIELD_MAX(3, STATE_U64, struct pit, last_edge, UINT64_MAX / 4),
};
static const struct state_table table = {.name = "timer",
                                         .section = STATE_ID('P', 'I', 'T', ' '),
                                         .version = 1,
                                         .least_reader = 1,
                                         .fields = fields,
                                         .nfields = ARRAY_LEN(fields)};

static void pit_save(void *self, struct state_writer *w)
{
    state_save(w, &table, 0, self);
}

static bool pit_restore(void *self, const struct state_reader *r, err *e)
{
    return state_restore(r, &table, 0, self, e);
}

struct pit *pit_new(const struct chip_env *env, struct chip_line irq, err *e)
{
    struct pit *p = calloc(1, sizeof *p);
    if (!p) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory for the timer");
        return NULL;
    }
    p->env = env;
    p->irq = irq;
    pthread_mutex_init(&p->lock, NULL);
    chip_timer_init(&p->timer, env, on_timer, p);
    set_power_on(p);
    p->ranges[0] = hv_io_claim(env->io, HV_IO_PORT, LAYOUT_PORT_PIT, 4, &pit_ops, p, e);
    if (p->ranges[0])
        p->ranges[1] = hv_io_claim(env->io, HV_IO_PORT, LAYOUT_PORT_SPEAKER, 1, &port61_ops, p, e);
    if (!p->ranges[1]) {
        pit_destroy(p);
        return NULL;
    }
    return p;
}

struct device pit_device(struct pit *p)
{
    static const struct device_ops ops = {.name = "timer",
                                          .start = pit_start,
                                          .stop = pit_stop,
                                          .reset = pit_reset,
                                          .save = pit_save,
                                          .restore = pit_restore,
                                          .destroy = pit_destroy};
    return (struct device){.ops = &ops, .self = p};
}
