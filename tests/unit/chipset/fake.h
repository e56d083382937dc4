/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A chipset device's surroundings with time that stands still until the test moves it. */
#ifndef VIREO_TESTS_CHIPSET_FAKE_H
#define VIREO_TESTS_CHIPSET_FAKE_H

#include <stdlib.h>

#include "check.h"
#include "core/chipset/chip.h"
#include "core/hv/io.h"

struct fake {
    struct chip_env env;
    uint64_t now_ns;
    bool line;
    unsigned rises;
};

static inline uint64_t fake_now(void *ctx)
{
    return ((struct fake *)ctx)->now_ns;
}

static inline void fake_set_line(void *ctx, unsigned pin, bool asserted)
{
    struct fake *f = ctx;
    f->rises += asserted && !f->line;
    f->line = asserted;
}

static inline struct chip_line fake_line(struct fake *f)
{
    return (struct chip_line){.set = fake_set_line, .ctx = f};
}

static inline void fake_init(struct fake *f)
{
    *f = (struct fake){.now_ns = 1000};
    f->env = (struct chip_env){
        .io = hv_io_new(NULL), .loop = loop_new(NULL), .guest_ns = fake_now, .ctx = f};
}

static inline void fake_done(void *ctx)
{
    *(bool *)ctx = true;
}

static inline void fake_start(struct fake *f, struct device d)
{
    d.ops->start(d.self);
    loop_turn(f->env.loop, 0);
}

static inline void fake_stop(struct fake *f, struct device d)
{
    bool done = false;
    d.ops->stop(d.self, fake_done, &done);
    for (int i = 0; i < 8 && loop_turn(f->env.loop, 0); i++)
        ;
    CHECK(done);
}

/* Stops and frees the device and its surroundings. */
static inline void fake_end(struct fake *f, struct device d)
{
    fake_stop(f, d);
    d.ops->destroy(d.self);
    loop_free(f->env.loop);
    hv_io_free(f->env.io);
}

/* Moves time on and lets timers fire that are due by then. */
static inline void fake_advance(struct fake *f, struct device d, uint64_t ns)
{
    f->now_ns += ns;
    d.ops->start(d.self);                                    /* timers look at the new time */
    for (int i = 0; i < 8 && loop_turn(f->env.loop, 0); i++) /* one due in a moment stays so */
        ;
}

static inline void out8(struct fake *f, uint16_t port, uint8_t v)
{
    hv_io_write(f->env.io, HV_IO_PORT, port, 1, v);
}
static inline void out16(struct fake *f, uint16_t port, uint16_t v)
{
    hv_io_write(f->env.io, HV_IO_PORT, port, 2, v);
}
static inline uint8_t in8(struct fake *f, uint16_t port)
{
    return (uint8_t)hv_io_read(f->env.io, HV_IO_PORT, port, 1);
}
static inline uint16_t in16(struct fake *f, uint16_t port)
{
    return (uint16_t)hv_io_read(f->env.io, HV_IO_PORT, port, 2);
}
static inline uint32_t in32(struct fake *f, uint16_t port)
{
    return (uint32_t)hv_io_read(f->env.io, HV_IO_PORT, port, 4);
}

/* The device's saved state; the caller frees it. */
static inline uint8_t *fake_save(struct device d, size_t *len)
{
    struct state_writer *w = state_writer_new();
    d.ops->save(d.self, w);
    const uint8_t *p = state_writer_data(w, len, NULL);
    uint8_t *copy = malloc(*len ? *len : 1);
    memcpy(copy, p, *len);
    state_writer_free(w);
    return copy;
}

static inline bool fake_restore(struct device d, const uint8_t *bytes, size_t len)
{
    struct state_reader r = {.data = bytes, .len = len};
    return d.ops->restore(d.self, &r, NULL);
}

/* Saves, restores into the reset device, saves again: both states must be the same bytes. */
static inline void fake_check_state(struct fake *f, struct device d)
{
    size_t a, b;
    fake_stop(f, d);
    uint8_t *first = fake_save(d, &a);
    d.ops->reset(d.self);
    CHECK(fake_restore(d, first, a));
    uint8_t *second = fake_save(d, &b);
    CHECK_EQ(a, b);
    CHECK(a == b && memcmp(first, second, a) == 0);
    free(first);
    free(second);
    fake_start(f, d);
}

#endif
