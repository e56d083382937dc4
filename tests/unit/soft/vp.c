/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the partition asks of a software VP: running, ending, waiting, states, writes from outside.
 */
#include "tests/unit/soft/machine.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include <string.h>

#include "check.h"

static void runs_until_kicked(void)
{
    static const uint8_t code[] = {0xb8, 0x34, 0x12, /* mov ax, 1234h */
                                   0x31, 0xdb,       /* xor bx, bx */
                                   0xe6, 0xf4,       /* out F4h, al: 34h, VP 0 */
                                   0x43,             /* inc bx */
                                   0xe6, 0xf4, 0xf4};
    struct machine m;
    machine_new(&m, 1);
    machine_run(&m, code, sizeof code);
    CHECK(m.ended);
    CHECK_EQ(m.exit.kind, HV_EXIT_KICKED);
    struct hv_vp_state *s = machine_state(&m, 0);
    CHECK_EQ(s->gpr[HV_RAX] & 0xffff, 0x1234);
    CHECK_EQ(s->gpr[HV_RBX] & 0xffff, 0);
    CHECK_EQ(s->rip, MACHINE_CODE + 7);
    machine_go_on(&m);
    CHECK_EQ(machine_state(&m, 0)->gpr[HV_RBX] & 0xffff, 1);
    struct hv_vp_stats st;
    m.ops->vp_stats(m.b, 0, &st);
    CHECK(st.instructions >= 5);
    CHECK_EQ(st.exits[HV_COUNT_PIO], 2);
    machine_free(&m);
}

static void ends_by_triple_fault(void)
{
    static const uint8_t code[] = {0x0f, 0x01, 0x1e, 0x00, 0x20, /* lidt [2000h]: limit 0 */
                                   0xcc};
    struct machine m;
    machine_new(&m, 1);
    machine_run(&m, code, sizeof code);
    CHECK_EQ(m.exit.kind, HV_EXIT_TRIPLE_FAULT);
    machine_free(&m);
}

/* The host overwrites an instruction that has run already: a device's DMA, a loader. */
static void patch(struct machine *m, uint8_t value)
{
    uint8_t two = 2;
    if (value == 1 && m->nout == 100)
        hv_memory_write(m->memory, MACHINE_CODE + 1, &two, 1);
    if (value == 2)
        m->ops->vp_kick(m->b, 0);
}

static void sees_host_writes_to_code(void)
{
    static const uint8_t code[] = {0xb0, 0x01,  /* mov al, 1 */
                                   0xe6, 0x80,  /* out 80h, al */
                                   0xeb, 0xfa}; /* jmp back */
    struct machine m;
    machine_new(&m, 1);
    m.on_out = patch;
    machine_run(&m, code, sizeof code);
    CHECK_EQ(m.nout, 101);
    CHECK_EQ(m.out[99], 1);
    CHECK_EQ(m.out[100], 2);
    machine_free(&m);
}

/* Stores into the very block that runs: the next instruction is the new one. */
static void sees_its_own_writes_to_code(void)
{
    static const uint8_t code[] = {0xb0, 0x90,       /* mov al, 90h */
                                   0xa2, 0x05, 0x10, /* mov [1005h], al */
                                   0xf4,             /* hlt, becomes nop */
                                   0xb0, 0x00, 0xe6, 0xf4, 0xf4};
    struct machine m;
    machine_new(&m, 1);
    machine_run(&m, code, sizeof code);
    CHECK(m.ended);
    CHECK_EQ(m.exit.kind, HV_EXIT_KICKED);
    machine_free(&m);
}

static void *interrupt_later(void *ctx)
{
    struct machine *m = ctx;
    struct timespec t = {.tv_nsec = 30000000};
    nanosleep(&t, NULL);
    m->ops->interrupt(m->b, 0, 0x40);
    return NULL;
}

static void wakes_from_halt(void)
{
    static const uint8_t code[] = {0xb0, 0x00, 0xfb, 0xf4, /* sti, hlt */
                                   0xe6, 0xf4, 0xf4};
    static const uint8_t handler[] = {0xbb, 0x77, 0x00, 0xcf}; /* mov bx, 77h; iret */
    static const uint16_t vector[2] = {0x3000, 0};
    struct machine m;
    machine_new(&m, 1);
    hv_memory_write(m.memory, 0x40 * 4, vector, 4);
    hv_memory_write(m.memory, 0x3000, handler, sizeof handler);
    pthread_t t;
    pthread_create(&t, NULL, interrupt_later, &m);
    machine_run(&m, code, sizeof code);
    pthread_join(t, NULL);
    CHECK(m.ended);
    CHECK_EQ(machine_state(&m, 0)->gpr[HV_RBX] & 0xffff, 0x77);
    machine_free(&m);
}

static void *run_second(void *ctx)
{
    struct machine *m = ctx;
    struct hv_exit x;
    m->ops->vp_run(m->b, 1, &x);
    return NULL;
}

static void starts_by_sipi(void)
{
    static const uint8_t code[] = {0xb0, 0x01, 0xe6, 0xf4, 0xf4}; /* kicks VP 1 */
    struct machine m;
    machine_new(&m, 2);
    hv_memory_write(m.memory, 0x5000, code, sizeof code);
    CHECK_EQ(machine_state(&m, 1)->activity, HV_VP_WAIT_FOR_SIPI);
    pthread_t t;
    pthread_create(&t, NULL, run_second, &m);
    m.ops->apic_write(m.b, 0, 0x300, 1ull << 56 | 0x4500); /* INIT to APIC 1 */
    m.ops->apic_write(m.b, 0, 0x300, 1ull << 56 | 0x4605); /* SIPI, page 5 */
    pthread_join(t, NULL);
    CHECK(m.ended);
    struct hv_vp_state *s = machine_state(&m, 1);
    CHECK_EQ(s->seg[HV_CS].base, 0x5000);
    CHECK_EQ(s->seg[HV_CS].selector, 0x500);
    machine_free(&m);
}

static void logs_dirty_pages(void)
{
    static const uint8_t code[] = {0xa2, 0x00, 0x30,       /* mov [3000h], al */
                                   0xb0, 0x00, 0xe6, 0xf4, /* out */
                                   0xa2, 0x00, 0x40,       /* mov [4000h], al */
                                   0xe6, 0xf4, 0xf4};
    static uint64_t map[MACHINE_RAM / 4096 / 64];
    struct machine m;
    err e;
    machine_new(&m, 1);
    CHECK(m.ops->dirty_log(m.b, m.ram, map, &e));
    CHECK_EQ(map[0], UINT64_MAX); /* nothing is known at first */
    machine_run(&m, code, sizeof code);
    memset(map, 0, sizeof map);
    CHECK(m.ops->dirty_log(m.b, m.ram, map, &e));
    CHECK_EQ(map[0], 1u << 1 | 1u << 3); /* the code that the host wrote, and the store */
    machine_go_on(&m);
    hv_memory_write(m.memory, 0x6ffe, "abcd", 4);
    memset(map, 0, sizeof map);
    CHECK(m.ops->dirty_log(m.b, m.ram, map, &e));
    CHECK_EQ(map[0], 1u << 4 | 3u << 6);
    machine_free(&m);
}

static void keeps_states(void)
{
    static struct hv_vp_state a, b;
    struct machine m;
    err e = ERR_INIT;
    machine_new(&m, 1);
    hv_vp_state_reset(&a, 0);
    for (unsigned n = 0; n < HV_GPR_COUNT; n++)
        a.gpr[n] = 0x1111111111111111ull * n;
    a.rflags = 0x8d7;
    a.rip = 0x123;
    a.lstar = 0xffffffff81000000ull;
    a.dr[2] = 0x4000;
    a.pat = 0x0606060606060606ull;
    a.exception_pending = true;
    a.exception_vector = 14;
    a.exception_has_error = true;
    a.exception_error = 6;
    a.nmi_blocked = true;
    a.activity = HV_VP_HALTED;
    for (unsigned n = 32; n < 416; n++)
        a.xsave[n] = (uint8_t)(n * 7);
    a.lapic[0xf1] = 1;
    a.lapic[0x200 + 16 * 2] = 4;
    CHECK(m.ops->vp_set_state(m.b, 0, &a, &e));
    CHECK(m.ops->vp_get_state(m.b, 0, &b, &e));
    CHECK(memcmp(a.gpr, b.gpr, sizeof a.gpr) == 0);
    CHECK(memcmp(a.seg, b.seg, sizeof a.seg) == 0);
    CHECK(memcmp(a.dr, b.dr, sizeof a.dr) == 0);
    CHECK(memcmp(a.xsave + 32, b.xsave + 32, 384) == 0);
    CHECK(memcmp(a.lapic + 0x100, b.lapic + 0x100, 0x180) == 0);
    CHECK_EQ(a.rflags, b.rflags);
    CHECK_EQ(a.rip, b.rip);
    CHECK_EQ(a.lstar, b.lstar);
    CHECK_EQ(a.pat, b.pat);
    CHECK_EQ(a.cr0, b.cr0);
    CHECK_EQ(b.exception_pending, true);
    CHECK_EQ(b.exception_error, 6);
    CHECK_EQ(b.nmi_blocked, true);
    CHECK_EQ(b.activity, HV_VP_HALTED);
    a.activity = 200;
    CHECK(!m.ops->vp_set_state(m.b, 0, &a, &e));
    machine_free(&m);
}

static const struct check_test tests[] = {
    CHECK_TEST(runs_until_kicked),        CHECK_TEST(ends_by_triple_fault),
    CHECK_TEST(sees_host_writes_to_code), CHECK_TEST(sees_its_own_writes_to_code),
    CHECK_TEST(wakes_from_halt),          CHECK_TEST(starts_by_sipi),
    CHECK_TEST(logs_dirty_pages),         CHECK_TEST(keeps_states),
};
CHECK_MAIN(tests)
