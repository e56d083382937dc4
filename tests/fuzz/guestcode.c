/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Random guest code at privilege 0 in the software processor, looking for any access outside guest
 * memory. The guest's RAM is one small region; what is not RAM goes to counted I/O handlers. The
 * region's host mapping lies between guards of 4 GiB without access, or as much as is free there; a
 * stray access elsewhere shows where it crashes or ASan sees it. The code may rewrite page tables,
 * descriptors and itself. A run ends by a triple fault, or is ended after two milliseconds.
 *
 * Input: byte 0 the mode, then register seeds, then code.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/hv/backend.h"
#include "core/hv/clock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

enum {
    RAM = 0x80000,
    CODE = 0x10000,
    STACK = 0x20000,
    TABLES = 0x30000,
    SEEDS = 64,
    RUN_NS = 2000000 /* a run is ended then: halted, or in a loop */
};

static struct guest {
    void *b;
    struct hv_memory *memory;
    struct hv_io *io;
    struct hv_clock clock;
    struct hv_timers *timers;
    struct hv_timer timer;
    struct hv_region *ram;
} g;

static uint64_t io_read(void *ctx, uint64_t offset, unsigned size)
{
    return 0x5a5a5a5a5a5a5a5a;
}

static void io_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
}

static bool rdmsr(void *ctx, unsigned vp, uint32_t msr, uint64_t *v)
{
    return false;
}
static bool wrmsr(void *ctx, unsigned vp, uint32_t msr, uint64_t v)
{
    return false;
}
static bool hypercall(void *ctx, unsigned vp, const struct hv_hypercall *h, uint64_t *result)
{
    *result = 2;
    return true;
}
static void eoi(void *ctx, unsigned vp, uint8_t vector)
{
}
static void eom(void *ctx, unsigned vp)
{
}
static int extint(void *ctx)
{
    return -1;
}

static void kick(void *ctx)
{
    hv_backend_soft.vp_kick(g.b, 0);
}

/* Reserves addresses below (dir -1) or above what is taken, from `at` on, as far as they are free.
 */
static void guard(uint8_t *at, int dir)
{
    for (size_t step = 1ull << 32, left = step; left;) {
        uint8_t *want = dir < 0 ? at - step : at;
        void *got = mmap(want, step, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        if (got == want) {
            at += dir < 0 ? -(ptrdiff_t)step : (ptrdiff_t)step;
            left -= step;
        } else if (got != MAP_FAILED) {
            munmap(got, step);
        }
        if (got != want && (step /= 2) < 4096)
            return;
        step = step < left ? step : left;
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
#ifdef GUESTCODE_TRANSLATE
    setenv("VIREO_SOFT_TRANSLATE", GUESTCODE_TRANSLATE, 1);
#endif
    static const struct hv_io_ops ops = {"fuzz", io_read, io_write};
    err e = ERR_INIT;
    g.memory = hv_memory_new(&e);
    g.io = hv_io_new(&e);
    hv_clock_init(&g.clock);
    hv_clock_start(&g.clock);
    g.timers = hv_timers_new(&g.clock, &e);
    struct hv_backend_params p = {.memory = g.memory,
                                  .io = g.io,
                                  .timers = g.timers,
                                  .vp_count = 1,
                                  .clock = &g.clock,
                                  .apic_hz = 1000000000,
                                  .up = {.rdmsr = rdmsr,
                                         .wrmsr = wrmsr,
                                         .hypercall = hypercall,
                                         .eoi = eoi,
                                         .eom = eom,
                                         .extint_ack = extint}};
    g.b = hv_backend_soft.create(&p, &e);
    g.ram = g.b ? hv_memory_add_ram(g.memory, 0, RAM, &e) : NULL;
    if (!g.ram || !hv_io_claim(g.io, HV_IO_PORT, 0, 0x10000, &ops, NULL, &e) ||
        !hv_io_claim(g.io, HV_IO_MMIO, 0x100000, 0x100000, &ops, NULL, &e))
        abort();
    guard(hv_region_host(g.ram), -1);
    guard((uint8_t *)hv_region_host(g.ram) + RAM, 1);
    hv_timer_init(&g.timer, g.timers, kick, NULL);
    return 0;
}

static void put64(uint64_t gpa, uint64_t v)
{
    hv_memory_write(g.memory, gpa, &v, 8);
}

/* Flat segments, an IDT whose gates all lead into the code, identity pages up to 2 MiB and an MMIO
 * page behind them. */
static void set_up(struct hv_vp_state *s, unsigned mode)
{
    static const struct hv_segment code16 = {0, 0xffff, 0x08, 0x009b},
                                   code32 = {0, 0xffffffff, 0x08, 0xc09b},
                                   code64 = {0, 0xffffffff, 0x08, 0xa09b},
                                   data = {0, 0xffffffff, 0x10, 0xc093};
    hv_vp_state_reset(s, 0);
    for (unsigned k = HV_ES; k <= HV_GS; k++)
        s->seg[k] = data;
    s->cr4 = 0x620;
    s->cr0 = mode ? 0x11 : 0x10;
    s->seg[HV_CS] = mode == 0 ? code16 : mode == 1 ? code32 : code64;
    if (mode == 0)
        for (unsigned k = HV_ES; k <= HV_GS; k++)
            s->seg[k] = (struct hv_segment){0, 0xffff, 0, 0x93};
    if (mode == 2) {
        put64(TABLES, TABLES + 0x1007);
        put64(TABLES + 0x1000, TABLES + 0x2007);
        put64(TABLES + 0x2000, 0x87);
        s->cr3 = TABLES;
        s->efer = 0xd01;
        s->cr0 = 0x80010031;
    }
    put64(TABLES + 0x3008, 0x00cf9b000000ffff | (mode == 2 ? 0x00a00000000000 : 0));
    put64(TABLES + 0x3010, 0x00cf93000000ffff);
    s->gdtr = (struct hv_table){TABLES + 0x3000, 0xff};
    s->idtr = (struct hv_table){TABLES + 0x4000, 0xfff};
    for (unsigned v = 0; v < 32; v++)
        if (mode == 2) {
            put64(TABLES + 0x4000 + 16 * v, CODE | 0x80000 | 0x8e00ull << 32);
            put64(TABLES + 0x4008 + 16 * v, 0);
        } else {
            put64(TABLES + 0x4000 + 8 * v,
                  (CODE & 0xffff) | 0x80000 | 0x8e01ull << 32 | (uint64_t)(CODE >> 16) << 48);
        }
    s->rip = mode == 0 ? 0x7c00 : CODE;
    s->gpr[HV_RSP] = mode == 0 ? 0x7000 : STACK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct hv_vp_state s;
    static const uint8_t zeros[RAM];
    err e = ERR_INIT;
    if (size < SEEDS + 2)
        return 0;
    unsigned mode = data[0] % 3;
    hv_memory_write(g.memory, 0, zeros, RAM);
    set_up(&s, mode);
    for (unsigned k = 0; k < 16; k++)
        if (k != HV_RSP) {
            uint32_t v;
            memcpy(&v, data + 1 + 3 * k, 4);
            s.gpr[k] = v & 1 ? v % RAM : (uint64_t)(int64_t)(int32_t)v;
        }
    size_t n = size - SEEDS < 0x4000 ? size - SEEDS : 0x4000;
    hv_memory_write(g.memory, mode == 0 ? 0x7c00 : CODE, data + SEEDS, n);
    if (!hv_backend_soft.vp_set_state(g.b, 0, &s, &e))
        return 0;
    struct hv_exit exit;
    hv_timer_arm(&g.timer, hv_clock_now(&g.clock) + RUN_NS);
    hv_backend_soft.vp_run(g.b, 0, &exit);
    hv_timer_cancel(&g.timer);
    return 0;
}
