/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/ioapic.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/chipset/layout.h"

enum { PINS = LAYOUT_IOAPIC_PINS, VERSION = 0x11, WINDOW = 0x1000 };
enum { OFF_SELECT = 0, OFF_WINDOW = 0x10 };
enum { REG_ID = 0, REG_VERSION = 1, REG_ARBITRATION = 2, REG_TABLE = 0x10 };

#define RTE_VECTOR 0xffull
#define RTE_MODE_SHIFT 8
#define RTE_LOGICAL (1ull << 11)
#define RTE_PENDING (1ull << 12)
#define RTE_REMOTE_IRR (1ull << 14)
#define RTE_LEVEL (1ull << 15)
#define RTE_MASKED (1ull << 16)
#define RTE_READ_ONLY (RTE_PENDING | RTE_REMOTE_IRR)
#define RTE_DEFINED (0xff0000000001ffffull)

enum delivery { FIXED = 0, LOWEST = 1, EXTINT = 7 };

struct ioapic {
    const struct chip_env *env;
    struct ioapic_out out;
    struct hv_io_range *range;

    pthread_mutex_t lock; /* all below */
    uint8_t select, id;
    uint32_t asserted; /* a bit a pin */
    uint64_t rte[PINS];
    struct hv_msi sent[PINS]; /* of a pin with remote IRR: what it sent; not saved */
};

static unsigned delivery(uint64_t rte)
{
    return (unsigned)(rte >> RTE_MODE_SHIFT) & 7;
}

static bool is_level(uint64_t rte)
{
    return (rte & RTE_LEVEL) && delivery(rte) <= LOWEST;
}

static struct hv_msi message(uint64_t rte)
{
    return (struct hv_msi){
        .address = LAYOUT_LAPIC | (rte >> 56) << 12 | (rte & RTE_LOGICAL ? 4 : 0),
        .data = (uint32_t)((rte & 0x7ff) | (rte & RTE_LEVEL ? 0xc000 : 0)),
    };
}

/* An ended interrupt must be heard of while the pin can deliver, or has delivered a level. */
static void publish(struct ioapic *a, unsigned pin)
{
    uint64_t rte = a->rte[pin];
    bool wanted = is_level(rte) && (!(rte & RTE_MASKED) || (rte & RTE_REMOTE_IRR));
    struct hv_msi m = message(rte);
    const struct hv_msi *sent = rte & RTE_REMOTE_IRR ? &a->sent[pin] : NULL;
    if (sent && wanted && sent->address == m.address && sent->data == m.data)
        sent = NULL;
    a->out.route(a->out.ctx, pin, wanted ? &m : NULL, sent);
}

static void deliver(struct ioapic *a, unsigned pin)
{
    uint64_t rte = a->rte[pin];
    if ((rte & RTE_MASKED) || delivery(rte) == EXTINT)
        return;
    struct hv_msi m = message(rte);
    if (is_level(rte)) {
        if (rte & RTE_REMOTE_IRR)
            return;
        a->rte[pin] |= RTE_REMOTE_IRR;
        a->sent[pin] = m;
    }
    a->out.msi(a->out.ctx, &m);
}

static void deliver_if_level(struct ioapic *a, unsigned pin)
{
    if (is_level(a->rte[pin]) && (a->asserted & 1u << pin))
        deliver(a, pin);
}

static void set_pin(void *ctx, unsigned pin, bool asserted)
{
    struct ioapic *a = ctx;
    pthread_mutex_lock(&a->lock);
    bool was = a->asserted & 1u << pin;
    if (asserted != was) {
        a->asserted ^= 1u << pin;
        if (asserted)
            deliver(a, pin);
    }
    pthread_mutex_unlock(&a->lock);
}

struct chip_line ioapic_line(struct ioapic *a, unsigned pin)
{
    return (struct chip_line){.set = set_pin, .ctx = a, .pin = pin};
}

void ioapic_eoi(struct ioapic *a, uint8_t vector)
{
    pthread_mutex_lock(&a->lock);
    for (unsigned pin = 0; pin < PINS; pin++) {
        if (!(a->rte[pin] & RTE_REMOTE_IRR) || (a->rte[pin] & RTE_VECTOR) != vector)
            continue;
        a->rte[pin] &= ~RTE_REMOTE_IRR;
        deliver_if_level(a, pin);
        publish(a, pin);
    }
    pthread_mutex_unlock(&a->lock);
}

/* ---- registers ---- */

static void write_table(struct ioapic *a, unsigned index, uint32_t v)
{
    unsigned pin = index / 2;
    uint64_t old = a->rte[pin], rte = old;
    if (index & 1)
        rte = (rte & UINT32_MAX) | (uint64_t)v << 32;
    else
        rte = (rte & ~(uint64_t)UINT32_MAX) | v;
    rte = (rte & RTE_DEFINED & ~RTE_READ_ONLY) | (old & RTE_READ_ONLY);
    if (!(rte & RTE_LEVEL)) /* how drivers end a level interrupt without an EOI register */
        rte &= ~RTE_REMOTE_IRR;
    a->rte[pin] = rte;
    deliver_if_level(a, pin);
    publish(a, pin);
}

static uint32_t read_selected(const struct ioapic *a)
{
    switch (a->select) {
    case REG_ID:
    case REG_ARBITRATION: return (uint32_t)a->id << 24;
    case REG_VERSION: return VERSION | (PINS - 1) << 16;
    default: break;
    }
    unsigned index = a->select - REG_TABLE;
    if (a->select < REG_TABLE || index >= 2 * PINS)
        return 0;
    return (uint32_t)(index & 1 ? a->rte[index / 2] >> 32 : a->rte[index / 2]);
}

static void write_selected(struct ioapic *a, uint32_t v)
{
    if (a->select == REG_ID)
        a->id = v >> 24 & 0x0f;
    else if (a->select >= REG_TABLE && a->select < REG_TABLE + 2 * PINS)
        write_table(a, a->select - REG_TABLE, v);
}

static uint64_t mmio_read(void *ctx, uint64_t offset, unsigned size)
{
    struct ioapic *a = ctx;
    uint64_t v = 0;
    pthread_mutex_lock(&a->lock);
    if ((offset & ~3ull) == OFF_SELECT)
        v = a->select;
    else if ((offset & ~3ull) == OFF_WINDOW)
        v = read_selected(a);
    pthread_mutex_unlock(&a->lock);
    return v >> 8 * (offset & 3);
}

static void mmio_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct ioapic *a = ctx;
    pthread_mutex_lock(&a->lock);
    if (offset == OFF_SELECT)
        a->select = (uint8_t)value;
    else if (offset == OFF_WINDOW && size >= 4) /* registers are written whole */
        write_selected(a, (uint32_t)value);
    pthread_mutex_unlock(&a->lock);
}

static const struct hv_io_ops mmio_ops = {.name = "IOAPIC", .read = mmio_read, .write = mmio_write};

/* ---- life ---- */

static void set_power_on(struct ioapic *a)
{
    a->select = a->id = 0;
    for (unsigned pin = 0; pin < PINS; pin++)
        a->rte[pin] = RTE_MASKED;
}

static void ioapic_start(void *self)
{
    struct ioapic *a = self;
    pthread_mutex_lock(&a->lock);
    for (unsigned pin = 0; pin < PINS; pin++) {
        publish(a, pin);
        deliver_if_level(a, pin);
    }
    pthread_mutex_unlock(&a->lock);
}

static void ioapic_stop(void *self, void (*done)(void *ctx), void *ctx)
{
    done(ctx);
}

static void ioapic_reset(void *self)
{
    struct ioapic *a = self;
    pthread_mutex_lock(&a->lock);
    set_power_on(a);
    for (unsigned pin = 0; pin < PINS; pin++)
        publish(a, pin);
    pthread_mutex_unlock(&a->lock);
}

static void ioapic_destroy(void *self)
{
    struct ioapic *a = self;
    if (a->range)
        hv_io_release(a->env->io, a->range);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

static bool loaded(void *obj, uint16_t version, err *e)
{
    struct ioapic *a = obj;
    for (unsigned pin = 0; pin < PINS; pin++) {
        a->rte[pin] &= RTE_DEFINED & ~RTE_PENDING;
        a->sent[pin] = message(a->rte[pin]);
    }
    return true;
}

static const struct state_field fields[] = {
    STATE_FIELD(1, STATE_U8, struct ioapic, select),
    STATE_FIELD_MAX(2, STATE_U8, struct ioapic, id, 0x0f),
    STATE_FIELD_MAX(3, STATE_U32, struct ioapic, asserted, (1u << PINS) - 1),
    STATE_ARRAY(4, STATE_U64, struct ioapic, rte),
};
static const struct state_table table = {.name = "IOAPIC",
                                         .section = STATE_ID('I', 'O', 'A', 'P'),
                                         .version = 1,
                                         .least_reader = 1,
                                         .fields = fields,
                                         .nfields = ARRAY_LEN(fields),
                                         .post_load = loaded};

static void ioapic_save(void *self, struct state_writer *w)
{
    state_save(w, &table, 0, self);
}

static bool ioapic_restore(void *self, const struct state_reader *r, err *e)
{
    return state_restore(r, &table, 0, self, e);
}

struct ioapic *ioapic_new(const struct chip_env *env, const struct ioapic_out *out, err *e)
{
    struct ioapic *a = calloc(1, sizeof *a);
    if (!a) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory for the IOAPIC");
        return NULL;
    }
    a->env = env;
    a->out = *out;
    pthread_mutex_init(&a->lock, NULL);
    set_power_on(a);
    a->range = hv_io_claim(env->io, HV_IO_MMIO, LAYOUT_IOAPIC, WINDOW, &mmio_ops, a, e);
    if (!a->range) {
        ioapic_destroy(a);
        return NULL;
    }
    return a;
}

struct device ioapic_device(struct ioapic *a)
{
    static const struct device_ops ops = {.name = "IOAPIC",
                                          .start = ioapic_start,
                                          .stop = ioapic_stop,
                                          .reset = ioapic_reset,
                                          .save = ioapic_save,
                                          .restore = ioapic_restore,
                                          .destroy = ioapic_destroy};
    return (struct device){.ops = &ops, .self = a};
}
