/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "tests/unit/soft/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(bool ok, const err *e)
{
    if (ok)
        return;
    fprintf(stderr, "machine: %s\n", e->text);
    exit(1);
}

static bool no_rdmsr(void *ctx, unsigned vp, uint32_t msr, uint64_t *value)
{
    return false;
}

static bool no_wrmsr(void *ctx, unsigned vp, uint32_t msr, uint64_t value)
{
    return false;
}

static bool no_hypercall(void *ctx, unsigned vp, const struct hv_hypercall *h, uint64_t *result)
{
    return false;
}

static void no_eoi(void *ctx, unsigned vp, uint8_t vector)
{
}

static uint64_t port_read(void *ctx, uint64_t offset, unsigned size)
{
    return 0x5a;
}

static void port_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct machine *m = ctx;
    if (m->nout < sizeof m->out)
        m->out[m->nout++] = (uint8_t)value;
    if (m->on_out)
        m->on_out(m, (uint8_t)value);
}

static void end_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct machine *m = ctx;
    m->ended = true;
    m->ops->vp_kick(m->b, (unsigned)value & 1);
}

static const struct hv_io_ops ports = {"test port", port_read, port_write};
static const struct hv_io_ops end = {"end port", port_read, end_write};

void machine_new(struct machine *m, unsigned vps)
{
    err e = ERR_INIT;
    memset(m, 0, sizeof *m);
    hv_clock_init(&m->clock);
    hv_clock_start(&m->clock);
    m->memory = hv_memory_new(&e);
    m->io = hv_io_new(&e);
    m->timers = hv_timers_new(&m->clock, &e);
    must(m->memory && m->io && m->timers, &e);
    must(hv_io_claim(m->io, HV_IO_PORT, MACHINE_PORTS, 1, &ports, m, &e), &e);
    must(hv_io_claim(m->io, HV_IO_PORT, MACHINE_END, 1, &end, m, &e), &e);
    struct hv_backend_params p = {
        .memory = m->memory,
        .io = m->io,
        .timers = m->timers,
        .vp_count = vps,
        .clock = &m->clock,
        .apic_hz = 1000000000,
        .up = {no_rdmsr, no_wrmsr, no_hypercall, no_eoi},
    };
    m->ops = &hv_backend_soft;
    m->b = m->ops->create(&p, &e);
    must(m->b, &e);
    m->ram = hv_memory_add_ram(m->memory, 0, MACHINE_RAM, &e);
    must(m->ram, &e);
}

void machine_free(struct machine *m)
{
    m->ops->destroy(m->b);
    hv_memory_free(m->memory);
    hv_timers_free(m->timers);
    hv_io_free(m->io);
}

struct hv_vp_state *machine_state(struct machine *m, unsigned vp)
{
    static struct hv_vp_state s;
    err e = ERR_INIT;
    must(m->ops->vp_get_state(m->b, vp, &s, &e), &e);
    return &s;
}

void machine_go_on(struct machine *m)
{
    m->ended = false;
    m->ops->vp_run(m->b, 0, &m->exit);
}

void machine_run(struct machine *m, const void *code, size_t len)
{
    err e = ERR_INIT;
    hv_memory_write(m->memory, MACHINE_CODE, code, len);
    struct hv_vp_state *s = machine_state(m, 0);
    s->seg[HV_CS].base = 0;
    s->seg[HV_CS].selector = 0;
    s->rip = MACHINE_CODE;
    s->gpr[HV_RSP] = 0x8000;
    must(m->ops->vp_set_state(m->b, 0, s, &e), &e);
    m->nout = 0;
    machine_go_on(m);
}
