/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Code that changes while it runs: the next instruction, the present one, through another mapping,
 * across pages, by REP MOVS, by string and locked stores; and code that another processor changes.
 */
#include "test.h"

enum { AREA = 0x1200000, ALIAS = 0x40000000 };

static uint8_t *const code = (uint8_t *)AREA;

static uint32_t run(void *at)
{
    uint32_t r;
    __asm__ volatile("call *%1" : "=a"(r) : "r"(at) : "rcx", "rdx", "rsi", "rdi", "memory");
    return r;
}

/* mov $value, %eax; ret */
static void make(uint8_t *p, uint32_t value)
{
    p[0] = 0xb8;
    memcpy(p + 1, &value, 4);
    p[5] = 0xc3;
}

static void rewritten_between_calls(void)
{
    for (uint32_t i = 0; i < 2000; i++) {
        make(code, i * 0x01010101);
        CHECK_EQ(run(code), i * 0x01010101);
    }
    /* One byte of it. */
    for (unsigned i = 0; i < 256; i++) {
        *(volatile uint8_t *)(code + 1) = (uint8_t)i;
        CHECK_EQ(run(code) & 0xff, i);
    }
}

/* A store to the very next instruction takes effect. */
static void next_instruction(void)
{
    static const uint8_t text[] = {
        0x31, 0xc0,                               /* xor %eax, %eax */
        0xc6, 0x05, 0x00, 0x00, 0x00, 0x00, 0x07, /* movb $7, 0(%rip): its own next byte */
        0x04, 0x01,                               /* add $1, %al */
        0xc3,
    };
    for (unsigned i = 0; i < 50; i++) {
        memcpy(code, text, sizeof(text));
        code[5 - 1] = 1; /* displacement: the immediate of the ADD */
        CHECK_EQ(run(code), 7);
        memcpy(code, text, sizeof(text));
        code[4] = 1;
        code[8] = (uint8_t)i;
        CHECK_EQ(run(code), i);
    }
}

/* A loop that counts in its own immediate. */
static void loop_over_itself(void)
{
    static const uint8_t text[] = {
        0xb9, 0x00, 0x01, 0x00, 0x00,       /* mov $256, %ecx */
        0x31, 0xc0,                         /* xor %eax, %eax */
        0x05, 0x01, 0x00, 0x00, 0x00,       /* 1: add $1, %eax */
        0xff, 0x05, 0xf6, 0xff, 0xff, 0xff, /* incl its immediate */
        0xff, 0xc9,                         /* dec %ecx */
        0x75, 0xf1,                         /* jnz 1b */
        0xc3,
    };
    memcpy(code, text, sizeof(text));
    CHECK_EQ(run(code), 256u * 257 / 2);
}

static void through_an_alias(void)
{
    volatile uint64_t *pte = pte_of(ALIAS);
    *pte = AREA | 7;
    invlpg(ALIAS);
    for (uint32_t i = 0; i < 200; i++) {
        make((uint8_t *)ALIAS, i);
        CHECK_EQ(run(code), i);
        make(code, i + 5);
        CHECK_EQ(run((void *)ALIAS), i + 5);
    }
    /* The mapping changes below the code. */
    make(code, 1);
    make(code + 4096, 2);
    for (unsigned i = 0; i < 50; i++) {
        *pte = (AREA + (i & 1) * 4096) | 7;
        invlpg(ALIAS);
        CHECK_EQ(run((void *)ALIAS), 1 + (i & 1));
    }
}

static void over_a_page_border(void)
{
    uint8_t *p = code + 4096 - 3;
    for (uint32_t i = 0; i < 200; i++) {
        make(p, i << 24 | i);
        CHECK_EQ(run(p), i << 24 | i);
        p[4] = (uint8_t)~i; /* in the second page */
        CHECK_EQ(run(p) >> 24, (uint8_t)~i);
        p[1] = 0x55; /* in the first */
        CHECK_EQ(run(p) & 0xff, 0x55);
    }
}

static void by_every_kind_of_store(void)
{
    uint8_t other[16];
    for (uint32_t i = 0; i < 100; i++) {
        make(other, i);
        memcpy(code, other, 6); /* REP MOVSB */
        CHECK_EQ(run(code), i);
        __asm__ volatile("lock incl 1(%0)" ::"r"(code) : "memory");
        CHECK_EQ(run(code), i + 1);
        uint32_t swap = i + 9;
        __asm__ volatile("xchg %0, 1(%1)" : "+r"(swap) : "r"(code) : "memory");
        CHECK_EQ(run(code), i + 9);
        __asm__ volatile("push %1; popq (%0)" ::"r"(code + 1), "r"(0xc300000000ull | i) : "memory");
        CHECK_EQ(run(code), i);
        __asm__ volatile("movq %1, %%xmm0; movq %%xmm0, (%0)" ::"r"(code + 1),
                         "r"(0xc300000000ull | (i + 3))
                         : "memory");
        CHECK_EQ(run(code), i + 3);
        __asm__ volatile("btcl $0, 1(%0)" ::"r"(code) : "memory");
        CHECK_EQ(run(code), (i + 3) ^ 1);
        uint32_t old = (i + 3) ^ 1;
        __asm__ volatile("cmpxchgl %2, 1(%1)" : "+a"(old) : "r"(code), "r"(77) : "memory");
        CHECK_EQ(run(code), 77);
    }
}

/* Data beside code in one page must not disturb it, whatever it costs. */
static void data_beside_code(void)
{
    make(code, 0x1234);
    volatile uint32_t *data = (volatile uint32_t *)(code + 256);
    *data = 0;
    for (unsigned i = 0; i < 20000; i++) {
        *data += 1;
        CHECK_EQ(run(code), 0x1234);
    }
    CHECK_EQ(*data, 20000);
}

/* Processor 1 runs what processor 0 writes: after the flag, the new code, by a serializing step. */
static volatile unsigned turn, seen_wrong;

static void runner(unsigned index)
{
    for (unsigned i = 1; i <= 300; i++) {
        while (turn != 2 * i - 1)
            cpu_pause();
        uint32_t r[4];
        cpuid(0, 0, r);
        if (run(code) != i)
            seen_wrong++;
        turn = 2 * i;
    }
}

/* A word that is patched while the other runs it: only the old or the new value may be seen. */
static volatile unsigned stop, wrong, last;
static void spinner(unsigned index)
{
    unsigned n = 0, before = 0;
    while (!stop || n < 1000) {
        uint32_t v = run(code + 0x800);
        if ((v & 0xff) != (v >> 8 & 0xff) || v < before)
            wrong++;
        before = v;
        n++;
    }
    last = run(code + 0x800);
}

static void by_another_processor(void)
{
    if (smp_start() < 2) {
        print("one processor: nothing to modify across\n");
        return;
    }
    turn = 0;
    make(code, 0);
    on_cpu(1, runner);
    for (unsigned i = 1; i <= 300; i++) {
        make(code, i);
        turn = 2 * i - 1;
        while (turn != 2 * i)
            cpu_pause();
    }
    wait_for(1);
    CHECK_EQ(seen_wrong, 0);
    uint8_t *p = code + 0x800; /* its immediate at 0x801: not aligned, but in one cache line */
    make(p, 0);
    on_cpu(1, spinner);
    for (uint32_t i = 0; i < 250; i++) {
        __atomic_store_n((uint32_t *)(void *)(p + 1), i << 8 | i, __ATOMIC_SEQ_CST);
        for (unsigned k = 0; k < 100; k++)
            cpu_pause();
    }
    stop = 1;
    wait_for(1);
    CHECK_EQ(wrong, 0);
    CHECK_EQ(last, 249u << 8 | 249);
}

void test_main(void)
{
    rewritten_between_calls();
    next_instruction();
    loop_over_itself();
    through_an_alias();
    over_a_page_border();
    by_every_kind_of_store();
    data_beside_code();
    by_another_processor();
}
