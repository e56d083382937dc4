/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/pic.h"

#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/chipset/layout.h"

enum { MASTER, SLAVE, CHIPS, CASCADE = 2 };
enum { ICW1 = 0x10, ICW1_NEED_4 = 1, ICW1_SINGLE = 2, ICW1_LEVEL = 8 };
enum { ICW4_AUTO_EOI = 2, ICW4_SPECIAL_NESTED = 0x10 };
enum { OCW3 = 8 };

struct chip {
    uint8_t irr, isr, imr;
    uint8_t lines;     /* inputs as they are */
    uint8_t elcr;      /* a bit: level triggered */
    uint8_t base;      /* vector of input 0 */
    uint8_t lowest;    /* input of lowest priority */
    uint8_t init_step; /* ICW expected next: 2, 3, 4; 0: operating */
    uint8_t icw4_follows, single, all_level;
    uint8_t auto_eoi, rotate_on_auto_eoi, special_nested, special_mask;
    uint8_t read_isr, poll;
};

struct pic {
    const struct chip_env *env;
    struct pic_out out;
    struct hv_io_range *ranges[3];

    pthread_mutex_t lock; /* all below */
    struct chip chip[CHIPS];
    bool intr;
};

static uint8_t level_mask(const struct chip *c)
{
    return c->all_level ? 0xff : c->elcr;
}

/* The slave's INTR: follows it both ways, so that a request the slave withdrew is gone here too. */
static void set_cascade(struct chip *c, bool asserted)
{
    const uint8_t bit = 1u << CASCADE;
    c->lines = asserted ? c->lines | bit : c->lines & (uint8_t)~bit;
    c->irr = asserted ? c->irr | bit : c->irr & (uint8_t)~bit;
}

/* Inputs in order of priority: place 0 is the highest. */
static unsigned input_at(const struct chip *c, unsigned place)
{
    return (c->lowest + 1 + place) & 7;
}

/* The input to be serviced now, -1 if none outranks what is in service. */
static int best_request(const struct chip *c, bool is_master)
{
    uint8_t requests = c->irr & (uint8_t)~c->imr;
    uint8_t blocking = c->isr;
    if (is_master && c->special_nested)
        blocking &= (uint8_t) ~(1u << CASCADE);
    for (unsigned place = 0; place < 8; place++) {
        unsigned i = input_at(c, place);
        bool blocked = blocking & 1u << i;
        if (blocked && !c->special_mask)
            return -1;
        if (!blocked && (requests & 1u << i))
            return (int)i;
    }
    return -1;
}

static void set_input(struct chip *c, unsigned i, bool asserted)
{
    uint8_t bit = (uint8_t)(1u << i);
    bool rising = asserted && !(c->lines & bit);
    c->lines = asserted ? c->lines | bit : c->lines & (uint8_t)~bit;
    if (!asserted && (level_mask(c) & bit))
        c->irr &= (uint8_t)~bit; /* an edge stays latched */
    else if (asserted && (rising || (level_mask(c) & bit)))
        c->irr |= bit;
}

static void update(struct pic *p)
{
    set_cascade(&p->chip[MASTER], best_request(&p->chip[SLAVE], false) >= 0);
    bool intr = best_request(&p->chip[MASTER], true) >= 0;
    if (intr == p->intr)
        return;
    p->intr = intr;
    p->out.intr(p->out.ctx, intr);
}

static void end_input(struct chip *c, unsigned i, bool rotate)
{
    c->isr &= (uint8_t) ~(1u << i);
    if (rotate)
        c->lowest = (uint8_t)i;
    if (level_mask(c) & c->lines & 1u << i)
        c->irr |= (uint8_t)(1u << i);
}

static void accept(struct chip *c, unsigned i)
{
    uint8_t bit = (uint8_t)(1u << i);
    c->irr &= (uint8_t)~bit;
    c->isr |= bit;
    if (c->auto_eoi)
        end_input(c, i, c->rotate_on_auto_eoi);
}

/* Acknowledges one chip: its vector; input 7's (spurious, nothing in service) if none requests. */
static uint8_t acknowledge(struct chip *c, bool is_master, int *input)
{
    *input = best_request(c, is_master);
    if (*input < 0)
        return c->base + 7;
    accept(c, (unsigned)*input);
    return c->base + (uint8_t)*input;
}

static int acknowledge_pair(struct pic *p)
{
    int input, slave_input;
    uint8_t vector = acknowledge(&p->chip[MASTER], true, &input);
    if (input == CASCADE)
        vector = acknowledge(&p->chip[SLAVE], false, &slave_input);
    return vector;
}

int pic_acknowledge(struct pic *p)
{
    pthread_mutex_lock(&p->lock);
    int vector = -1;
    if (p->intr) {
        vector = acknowledge_pair(p);
        update(p);
    }
    pthread_mutex_unlock(&p->lock);
    return vector;
}

/* ---- registers ---- */

static void start_init(struct chip *c, uint8_t v)
{
    uint8_t lines = c->lines, elcr = c->elcr;
    *c = (struct chip){.lines = lines,
                       .elcr = elcr,
                       .base = c->base,
                       .lowest = 7,
                       .init_step = 2,
                       .icw4_follows = v & ICW1_NEED_4 ? 1 : 0,
                       .single = v & ICW1_SINGLE ? 1 : 0,
                       .all_level = v & ICW1_LEVEL ? 1 : 0};
    c->irr = lines & level_mask(c);
}

static int highest_in_service(const struct chip *c)
{
    for (unsigned place = 0; place < 8; place++) {
        unsigned i = input_at(c, place);
        if ((c->isr & 1u << i) && !(c->special_mask && (c->imr & 1u << i)))
            return (int)i;
    }
    return -1;
}

static void write_ocw2(struct chip *c, uint8_t v)
{
    int top = highest_in_service(c);
    unsigned named = v & 7;
    switch (v >> 5) {
    case 0: c->rotate_on_auto_eoi = 0; break;
    case 4: c->rotate_on_auto_eoi = 1; break;
    case 1:
    case 5:
        if (top >= 0)
            end_input(c, (unsigned)top, v >> 5 == 5);
        break;
    case 3:
    case 7: end_input(c, named, v >> 5 == 7); break;
    case 6: c->lowest = (uint8_t)named; break;
    default: break;
    }
}

static void write_ocw3(struct chip *c, uint8_t v)
{
    if (v & 4)
        c->poll = 1;
    if (v & 2)
        c->read_isr = v & 1;
    if (v & 0x40)
        c->special_mask = v >> 5 & 1;
}

static void write_data(struct chip *c, uint8_t v)
{
    switch (c->init_step) {
    case 2:
        c->base = v & 0xf8;
        c->init_step = c->single ? (c->icw4_follows ? 4 : 0) : 3;
        break;
    case 3: c->init_step = c->icw4_follows ? 4 : 0; break;
    case 4:
        c->auto_eoi = v & ICW4_AUTO_EOI ? 1 : 0;
        c->special_nested = v & ICW4_SPECIAL_NESTED ? 1 : 0;
        c->init_step = 0;
        break;
    default: c->imr = v; break;
    }
}

static void write_chip(struct chip *c, unsigned a0, uint8_t v)
{
    if (a0)
        write_data(c, v);
    else if (v & ICW1)
        start_init(c, v);
    else if (v & OCW3)
        write_ocw3(c, v);
    else
        write_ocw2(c, v);
}

static uint8_t read_chip(struct chip *c, unsigned a0, bool is_master)
{
    if (c->poll) {
        int input;
        c->poll = 0;
        acknowledge(c, is_master, &input);
        return input < 0 ? 0 : (uint8_t)(0x80 | input);
    }
    if (a0)
        return c->imr;
    return c->read_isr ? c->isr : c->irr;
}

static uint64_t io_read(struct pic *p, unsigned which, uint64_t offset)
{
    pthread_mutex_lock(&p->lock);
    uint8_t v = read_chip(&p->chip[which], (unsigned)offset & 1, which == MASTER);
    update(p);
    pthread_mutex_unlock(&p->lock);
    return v;
}

static void io_write(struct pic *p, unsigned which, uint64_t offset, uint64_t value)
{
    pthread_mutex_lock(&p->lock);
    write_chip(&p->chip[which], (unsigned)offset & 1, (uint8_t)value);
    update(p);
    pthread_mutex_unlock(&p->lock);
}

static uint64_t master_read(void *ctx, uint64_t offset, unsigned size)
{
    return io_read(ctx, MASTER, offset);
}
static uint64_t slave_read(void *ctx, uint64_t offset, unsigned size)
{
    return io_read(ctx, SLAVE, offset);
}

/* A word written to the even port reaches both registers, as two bus cycles. */
static void both_write(struct pic *p, unsigned which, uint64_t offset, unsigned size,
                       uint64_t value)
{
    for (unsigned i = 0; i < size && offset + i < 2; i++)
        io_write(p, which, offset + i, value >> 8 * i);
}
static void master_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    both_write(ctx, MASTER, offset, size, value);
}
static void slave_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    both_write(ctx, SLAVE, offset, size, value);
}

static uint64_t elcr_read(void *ctx, uint64_t offset, unsigned size)
{
    struct pic *p = ctx;
    pthread_mutex_lock(&p->lock);
    uint64_t v = p->chip[MASTER].elcr | (uint64_t)p->chip[SLAVE].elcr << 8;
    pthread_mutex_unlock(&p->lock);
    return v >> 8 * offset;
}

static void elcr_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    static const uint8_t writable[CHIPS] = {0xf8,
                                            0xde}; /* not the timer, keyboard, cascade, RTC, FPU */
    struct pic *p = ctx;
    pthread_mutex_lock(&p->lock);
    for (unsigned i = 0; i < size && offset + i < CHIPS; i++)
        p->chip[offset + i].elcr = (uint8_t)(value >> 8 * i) & writable[offset + i];
    update(p);
    pthread_mutex_unlock(&p->lock);
}

static const struct hv_io_ops io_ops[3] = {
    {.name = "PIC", .read = master_read, .write = master_write},
    {.name = "PIC", .read = slave_read, .write = slave_write},
    {.name = "PIC", .read = elcr_read, .write = elcr_write},
};

static void line_set(void *ctx, unsigned input, bool asserted)
{
    struct pic *p = ctx;
    pthread_mutex_lock(&p->lock);
    set_input(&p->chip[input >> 3], input & 7, asserted);
    update(p);
    pthread_mutex_unlock(&p->lock);
}

struct chip_line pic_line(struct pic *p, unsigned input)
{
    return (struct chip_line){.set = line_set, .ctx = p, .pin = input};
}

/* ---- life ---- */

static void set_power_on(struct pic *p)
{
    for (unsigned i = 0; i < CHIPS; i++) {
        uint8_t lines = p->chip[i].lines;
        p->chip[i] = (struct chip){.lines = lines, .lowest = 7, .imr = 0xff};
    }
}

static void pic_start(void *self)
{
    struct pic *p = self;
    pthread_mutex_lock(&p->lock);
    p->out.intr(p->out.ctx, p->intr);
    pthread_mutex_unlock(&p->lock);
}

static void pic_stop(void *self, void (*done)(void *ctx), void *ctx)
{
    done(ctx);
}

static void pic_reset(void *self)
{
    struct pic *p = self;
    pthread_mutex_lock(&p->lock);
    set_power_on(p);
    update(p);
    pthread_mutex_unlock(&p->lock);
}

static void pic_destroy(void *self)
{
    struct pic *p = self;
    for (unsigned i = 0; i < 3; i++)
        if (p->ranges[i])
            hv_io_release(p->env->io, p->ranges[i]);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

#define CHIP_FIELD(tag, member, max) STATE_FIELD_MAX(tag, STATE_U8, struct chip, member, max)
static const struct state_field chip_fields[] = {
    CHIP_FIELD(1, irr, 0xff),
    CHIP_FIELD(2, isr, 0xff),
    CHIP_FIELD(3, imr, 0xff),
    CHIP_FIELD(4, lines, 0xff),
    CHIP_FIELD(5, elcr, 0xff),
    CHIP_FIELD(6, base, 0xf8),
    CHIP_FIELD(7, lowest, 7),
    CHIP_FIELD(8, init_step, 4),
    CHIP_FIELD(9, icw4_follows, 1),
    CHIP_FIELD(10, single, 1),
    CHIP_FIELD(11, all_level, 1),
    CHIP_FIELD(12, auto_eoi, 1),
    CHIP_FIELD(13, rotate_on_auto_eoi, 1),
    CHIP_FIELD(14, special_nested, 1),
    CHIP_FIELD(15, special_mask, 1),
    CHIP_FIELD(16, read_isr, 1),
    CHIP_FIELD(17, poll, 1),
};
static const struct state_table chip_table = {
    .name = "interrupt controller", .fields = chip_fields, .nfields = ARRAY_LEN(chip_fields)};
static const struct state_field fields[] = {
    STATE_SUB(1, struct pic, chip, &chip_table, CHIPS),
};

static bool loaded(void *obj, uint16_t version, err *e)
{
    struct pic *p = obj;
    for (unsigned i = 0; i < CHIPS; i++)
        p->chip[i].base &= 0xf8;
    p->intr = best_request(&p->chip[MASTER], true) >= 0;
    return true;
}
static const struct state_table table = {.name = "interrupt controllers",
                                         .section = STATE_ID('P', 'I', 'C', ' '),
                                         .version = 1,
                                         .least_reader = 1,
                                         .fields = fields,
                                         .nfields = ARRAY_LEN(fields),
                                         .post_load = loaded};

static void pic_save(void *self, struct state_writer *w)
{
    state_save(w, &table, 0, self);
}

static bool pic_restore(void *self, const struct state_reader *r, err *e)
{
    return state_restore(r, &table, 0, self, e);
}

struct pic *pic_new(const struct chip_env *env, const struct pic_out *out, err *e)
{
    static const uint16_t ports[3] = {LAYOUT_PORT_PIC_MASTER, LAYOUT_PORT_PIC_SLAVE,
                                      LAYOUT_PORT_ELCR};
    struct pic *p = calloc(1, sizeof *p);
    if (!p) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory for the interrupt controllers");
        return NULL;
    }
    p->env = env;
    p->out = *out;
    pthread_mutex_init(&p->lock, NULL);
    set_power_on(p);
    for (unsigned i = 0; i < 3; i++) {
        p->ranges[i] = hv_io_claim(env->io, HV_IO_PORT, ports[i], 2, &io_ops[i], p, e);
        if (!p->ranges[i]) {
            pic_destroy(p);
            return NULL;
        }
    }
    return p;
}

struct device pic_device(struct pic *p)
{
    static const struct device_ops ops = {.name = "interrupt controllers",
                                          .start = pic_start,
                                          .stop = pic_stop,
                                          .reset = pic_reset,
                                          .save = pic_save,
                                          .restore = pic_restore,
                                          .destroy = pic_destroy};
    return (struct device){.ops = &ops, .self = p};
}
