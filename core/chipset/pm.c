/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/pm.h"

#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/base/log.h"
#include "core/chipset/layout.h"

enum {
    PM1_TIMER = 1,
    PM1_GLOBAL = 0x20,
    PM1_POWER = 0x100,
    PM1_SLEEP = 0x200,
    PM1_RTC = 0x400,
    PM1_WAKE = 0x8000
};
enum { STATUS_BITS = PM1_TIMER | 0x10 | PM1_GLOBAL | PM1_POWER | PM1_SLEEP | PM1_RTC | PM1_WAKE };
enum { ENABLE_BITS = PM1_TIMER | PM1_GLOBAL | PM1_POWER | PM1_SLEEP | PM1_RTC };
enum { CONTROL_SCI = 1, CONTROL_TYPE_SHIFT = 10, CONTROL_SLEEP = 0x2000, CONTROL_BITS = 0x1c07 };
enum { GPE_BITS = 1u << PM_GPE_GENERATION };

struct pm {
    const struct chip_env *env;
    struct chip_line sci;
    struct pm_upcalls up;
    bool s4;
    struct hv_io_range *range;
    struct chip_timer timer; /* next carry of the PM timer, while its interrupt is enabled */

    pthread_mutex_t lock; /* all below */
    uint16_t status, enable, control, gpe_status, gpe_enable;
    uint64_t seen; /* PM timer ticks up to which the carry was looked at */
};

static uint64_t timer_ticks(const struct pm *p)
{
    return chip_scale(chip_now(p->env), PM_TIMER_HZ, CHIP_NS_PER_S);
}

static void update(struct pm *p)
{
    uint64_t now = timer_ticks(p);
    if ((now ^ p->seen) >> 31) /* bit 31 changed */
        p->status |= PM1_TIMER;
    p->seen = now;
    bool wanted = (p->status & p->enable & ENABLE_BITS) || (p->gpe_status & p->gpe_enable);
    chip_line_set(&p->sci, wanted);
    uint64_t due = 0;
    if ((p->enable & PM1_TIMER) && !(p->status & PM1_TIMER))
        due = chip_scale(((now >> 31) + 1) << 31, CHIP_NS_PER_S, PM_TIMER_HZ) + 1;
    chip_timer_set(&p->timer, due);
}

static void on_timer(void *ctx)
{
    struct pm *p = ctx;
    pthread_mutex_lock(&p->lock);
    update(p);
    pthread_mutex_unlock(&p->lock);
}

/* ---- registers: a byte at a time; what a write asks for beyond registers comes back ---- */

enum request { NOTHING, POWER_OFF, HIBERNATED, RESET };

static uint8_t byte_of(uint64_t v, unsigned n)
{
    return (uint8_t)(v >> 8 * n);
}
static uint16_t with_byte(uint16_t old, unsigned n, uint8_t v)
{
    return (uint16_t)((old & ~(0xffu << 8 * n)) | (unsigned)v << 8 * n);
}

static uint8_t read_byte(struct pm *p, unsigned reg, uint64_t ticks)
{
    if (reg < 2)
        return byte_of(p->status, reg);
    if (reg < 4)
        return byte_of(p->enable, reg - 2);
    if (reg < 6)
        return byte_of(p->control | CONTROL_SCI, reg - 4);
    if (reg >= PM_OFF_TIMER && reg < PM_OFF_TIMER + 4)
        return byte_of(ticks, reg - PM_OFF_TIMER);
    if (reg >= PM_OFF_GPE0 && reg < PM_OFF_GPE0 + 2)
        return byte_of(p->gpe_status, reg - PM_OFF_GPE0);
    if (reg >= PM_OFF_GPE0 + 2 && reg < PM_OFF_GPE0 + 4)
        return byte_of(p->gpe_enable, reg - PM_OFF_GPE0 - 2);
    return 0;
}

static enum request write_control(struct pm *p, unsigned n, uint8_t v)
{
    uint16_t full = with_byte(p->control, n, v);
    p->control = full & CONTROL_BITS;
    if (!(full & CONTROL_SLEEP))
        return NOTHING;
    unsigned type = full >> CONTROL_TYPE_SHIFT & 7;
    if (type == PM_SLEEP_TYPE_S5)
        return POWER_OFF;
    if (type == PM_SLEEP_TYPE_S4 && p->s4)
        return HIBERNATED;
    LOG_GUEST("power management", "The guest asked for a sleep state that it was not offered (%u)",
              type);
    return NOTHING;
}

static enum request write_byte(struct pm *p, unsigned reg, uint8_t v)
{
    if (reg < 2)
        p->status &= (uint16_t) ~((unsigned)v << 8 * reg);
    else if (reg < 4)
        p->enable = with_byte(p->enable, reg - 2, v) & ENABLE_BITS;
    else if (reg < 6)
        return write_control(p, reg - 4, v);
    else if (reg >= PM_OFF_GPE0 && reg < PM_OFF_GPE0 + 2)
        p->gpe_status &= (uint16_t) ~((unsigned)v << 8 * (reg - PM_OFF_GPE0));
    else if (reg >= PM_OFF_GPE0 + 2 && reg < PM_OFF_GPE0 + 4)
        p->gpe_enable = with_byte(p->gpe_enable, reg - PM_OFF_GPE0 - 2, v) & GPE_BITS;
    else if (reg == PM_OFF_RESET && v == PM_RESET_VALUE)
        return RESET;
    return NOTHING;
}

static uint64_t port_read(void *ctx, uint64_t offset, unsigned size)
{
    struct pm *p = ctx;
    uint64_t v = 0, ticks = timer_ticks(p);
    /* The timer alone, by far the most frequent, needs no lock. */
    if (offset == PM_OFF_TIMER && size == 4)
        return (uint32_t)ticks;
    pthread_mutex_lock(&p->lock);
    update(p);
    for (unsigned i = 0; i < size; i++)
        v |= (uint64_t)read_byte(p, (unsigned)offset + i, ticks) << 8 * i;
    pthread_mutex_unlock(&p->lock);
    return v;
}

static void perform(struct pm *p, enum request r)
{
    switch (r) {
    case NOTHING: break;
    case POWER_OFF: p->up.power_off(p->up.ctx); break;
    case HIBERNATED: p->up.hibernated(p->up.ctx); break;
    case RESET: p->up.reset(p->up.ctx); break;
    }
}

static void port_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct pm *p = ctx;
    enum request wanted = NOTHING;
    pthread_mutex_lock(&p->lock);
    update(p);
    for (unsigned i = 0; i < size; i++) {
        enum request r = write_byte(p, (unsigned)offset + i, byte_of(value, i));
        if (r != NOTHING)
            wanted = r;
    }
    update(p);
    pthread_mutex_unlock(&p->lock);
    perform(p, wanted);
}

static const struct hv_io_ops port_ops = {
    .name = "power management", .read = port_read, .write = port_write};

static void raise_status(struct pm *p, uint16_t pm1, uint16_t gpe)
{
    pthread_mutex_lock(&p->lock);
    p->status |= pm1;
    p->gpe_status |= gpe;
    update(p);
    pthread_mutex_unlock(&p->lock);
}

void pm_press_power_button(struct pm *p)
{
    raise_status(p, PM1_POWER, 0);
}

void pm_press_sleep_button(struct pm *p)
{
    raise_status(p, PM1_SLEEP, 0);
}

void pm_raise_gpe(struct pm *p, enum pm_gpe gpe)
{
    raise_status(p, 0, (uint16_t)(1u << gpe));
}

/* ---- life ---- */

static void pm_start(void *self)
{
    struct pm *p = self;
    chip_timer_start(&p->timer);
    on_timer(p);
}

static void pm_stop(void *self, void (*done)(void *ctx), void *ctx)
{
    struct pm *p = self;
    chip_timer_stop(&p->timer);
    done(ctx);
}

static void pm_reset(void *self)
{
    struct pm *p = self;
    pthread_mutex_lock(&p->lock);
    p->status = p->enable = p->control = p->gpe_status = p->gpe_enable = 0;
    p->seen = timer_ticks(p);
    chip_timer_set(&p->timer, 0);
    chip_line_set(&p->sci, false);
    pthread_mutex_unlock(&p->lock);
}

static void pm_destroy(void *self)
{
    struct pm *p = self;
    if (p->range)
        hv_io_release(p->env->io, p->range);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static const struct state_field fields[] = {
    STATE_FIELD_MAX(1, STATE_U16, struct pm, status, STATUS_BITS),
    STATE_FIELD_MAX(2, STATE_U16, struct pm, enable, ENABLE_BITS),
    STATE_FIELD_MAX(3, STATE_U16, struct pm, control, CONTROL_BITS),
    STATE_FIELD_MAX(4, STATE_U16, struct pm, gpe_status, GPE_BITS),
    STATE_FIELD_MAX(5, STATE_U16, struct pm, gpe_enable, GPE_BITS),
    STATE_FIELD(6, STATE_U64, struct pm, seen),
};
static const struct state_table table = {.name = "power management",
                                         .section = STATE_ID('A', 'C', 'P', 'M'),
                                         .version = 1,
                                         .least_reader = 1,
                                         .fields = fields,
                                         .nfields = ARRAY_LEN(fields)};

static void pm_save(void *self, struct state_writer *w)
{
    state_save(w, &table, 0, self);
}

static bool pm_restore(void *self, const struct state_reader *r, err *e)
{
    return state_restore(r, &table, 0, self, e);
}

struct pm *pm_new(const struct pm_params *params, err *e)
{
    struct pm *p = calloc(1, sizeof *p);
    if (!p) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory for power management");
        return NULL;
    }
    p->env = params->env;
    p->sci = params->sci;
    p->up = params->up;
    p->s4 = params->s4;
    pthread_mutex_init(&p->lock, NULL);
    chip_timer_init(&p->timer, p->env, on_timer, p);
    p->range = hv_io_claim(p->env->io, HV_IO_PORT, params->port ? params->port : LAYOUT_PORT_PM,
                           PM_PORTS, &port_ops, p, e);
    if (!p->range) {
        pm_destroy(p);
        return NULL;
    }
    return p;
}

struct device pm_device(struct pm *p)
{
    static const struct device_ops ops = {.name = "power management",
                                          .start = pm_start,
                                          .stop = pm_stop,
                                          .reset = pm_reset,
                                          .save = pm_save,
                                          .restore = pm_restore,
                                          .destroy = pm_destroy};
    return (struct device){.ops = &ops, .self = p};
}
