/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Port and MMIO accesses of a guest, and saved states, against all chipset devices at once. Input:
 * operations of 6 bytes { u8 what, u8 place, u32 value }, then, after a byte 0xff, a saved state.
 */
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/chipset/fwcfg.h"
#include "core/chipset/ioapic.h"
#include "core/chipset/layout.h"
#include "core/chipset/pic.h"
#include "core/chipset/pit.h"
#include "core/chipset/pm.h"
#include "core/chipset/rtc.h"
#include "core/chipset/testports.h"
#include "core/chipset/uart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DEVICES = 8, OP = 6 };

struct board {
    struct chip_env env;
    uint64_t now;
    struct device dev[DEVICES];
    struct ioapic *ioapic;
    struct pic *pic;
    struct uart *uart;
    struct pm *pm;
    bool done;
};

static uint64_t now(void *ctx)
{
    return ((struct board *)ctx)->now;
}
static void ask(void *ctx)
{
}
static void on_exit_code(void *ctx, uint32_t code)
{
}
static void on_msi(void *ctx, const struct hv_msi *m)
{
    if (m->address >> 20 != 0xfee)
        abort();
}
static void on_route(void *ctx, unsigned pin, const struct hv_msi *m,
                     const struct hv_msi *in_service)
{
    if (pin >= LAYOUT_IOAPIC_PINS)
        abort();
}
static void on_intr(void *ctx, bool asserted)
{
}
static size_t sink(void *ctx, const uint8_t *bytes, size_t len)
{
    return len / 2;
}
static void on_done(void *ctx)
{
    ((struct board *)ctx)->done = true;
}

static void make(struct board *b)
{
    const struct chip_env *env = &b->env;
    b->env =
        (struct chip_env){.io = hv_io_new(NULL), .loop = loop_new(NULL), .guest_ns = now, .ctx = b};
    b->ioapic = ioapic_new(env, &(struct ioapic_out){on_msi, on_route, b}, NULL);
    b->pic = pic_new(env, &(struct pic_out){on_intr, b}, NULL);
    b->uart = uart_new(&(struct uart_params){.env = env,
                                             .port = LAYOUT_PORT_COM1,
                                             .irq = ioapic_line(b->ioapic, 4),
                                             .sink = {.write = sink}},
                       NULL);
    b->pm = pm_new(
        &(struct pm_params){.env = env, .sci = ioapic_line(b->ioapic, 9), .up = {ask, ask, ask, b}},
        NULL);
    b->dev[0] = ioapic_device(b->ioapic);
    b->dev[1] = pic_device(b->pic);
    b->dev[2] = uart_device(b->uart);
    b->dev[3] = pm_device(b->pm);
    b->dev[4] = pit_device(pit_new(env, pic_line(b->pic, 0), NULL));
    b->dev[5] = rtc_device(rtc_new(
        &(struct rtc_params){.env = env, .irq = pic_line(b->pic, 8), .wall_ns = now, .ctx = b},
        NULL));
    b->dev[6] = testports_device(
        testports_new(&(struct testports_params){env, on_exit_code, ask, b}, NULL));
    b->dev[7] = fwcfg_device(fwcfg_new(env, MIB(64), 2, NULL));
}

static void operate(struct board *b, const uint8_t *op)
{
    static const uint16_t bases[] = {0x20,  0xa0, 0x4d0, 0x40, 0x61, 0x70, 0x3f8,
                                     0x400, 0xf4, 0x510, 0x64, 0x92, 0xcf9};
    uint32_t v = get_le32(op + 2);
    uint16_t port = (uint16_t)(bases[(op[1] >> 2) % ARRAY_LEN(bases)] + (v >> 24) % 0x34);
    unsigned size = 1u << op[1] % 3;
    switch (op[0] % 8) {
    case 0:
    case 1: hv_io_write(b->env.io, HV_IO_PORT, port, size, v); break;
    case 2:
    case 3: hv_io_read(b->env.io, HV_IO_PORT, port, size); break;
    case 4: hv_io_write(b->env.io, HV_IO_MMIO, LAYOUT_IOAPIC, 4, op[1]); break;
    case 5: hv_io_write(b->env.io, HV_IO_MMIO, LAYOUT_IOAPIC + 0x10 + (v & 3), size, v); break;
    case 6:
        b->now += (uint64_t)v << op[1] % 16;
        for (unsigned i = 0; i < DEVICES; i++)
            b->dev[i].ops->start(b->dev[i].self);
        loop_turn(b->env.loop, 0);
        break;
    default:
        uart_input(b->uart, op + 2, 4);
        ioapic_eoi(b->ioapic, op[1]);
        pic_acknowledge(b->pic);
        if (op[1] & 1)
            pm_press_power_button(b->pm);
    }
}

static void stop_all(struct board *b)
{
    for (unsigned i = 0; i < DEVICES; i++) {
        b->done = false;
        b->dev[i].ops->stop(b->dev[i].self, on_done, b);
        if (!b->done)
            abort();
    }
    loop_turn(b->env.loop, 0);
    loop_turn(b->env.loop, 0);
}

static void restore_all(struct board *b, const uint8_t *data, size_t size)
{
    struct state_reader r = {.data = data, .len = size};
    for (unsigned i = 0; i < DEVICES; i++) {
        b->dev[i].ops->reset(b->dev[i].self);
        b->dev[i].ops->restore(b->dev[i].self, &r, NULL);
    }
}

/* What was just saved must be accepted. */
static void save_and_restore(struct board *b)
{
    struct state_writer *w = state_writer_new();
    for (unsigned i = 0; i < DEVICES; i++)
        b->dev[i].ops->save(b->dev[i].self, w);
    size_t len;
    const uint8_t *p = state_writer_data(w, &len, NULL);
    struct state_reader r = {.data = p, .len = len};
    err e = ERR_INIT;
    for (unsigned i = 0; p && i < DEVICES; i++)
        if (!b->dev[i].ops->restore(b->dev[i].self, &r, &e))
            abort();
    state_writer_free(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct board b = {.now = 1};
    size_t pos = 0;
    make(&b);
    for (unsigned i = 0; i < DEVICES; i++)
        b.dev[i].ops->start(b.dev[i].self);
    for (; pos + OP <= size && data[pos] != 0xff; pos += OP)
        operate(&b, data + pos);
    stop_all(&b);
    if (pos < size)
        restore_all(&b, data + pos + 1, size - pos - 1);
    save_and_restore(&b);
    static const uint8_t poke[] = {6, 3, 9, 9, 9, 9, 0, 0,    0xff, 0, 0, 0,
                                   2, 0, 0, 0, 0, 0, 7, 0x30, 1,    2, 3, 4};
    for (size_t i = 0; i + OP <= sizeof poke; i += OP)
        operate(&b, poke + i);
    stop_all(&b);
    for (unsigned i = DEVICES; i-- > 0;)
        b.dev[i].ops->destroy(b.dev[i].self);
    loop_free(b.env.loop);
    hv_io_free(b.env.io);
    return 0;
}
