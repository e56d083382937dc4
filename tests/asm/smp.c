/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Several processors: locked operations of every width on shared words, aligned or not, over cache
 * lines and pages; ordering by XCHG and MFENCE; TLB shootdown by IPI; accessed and dirty bits set
 * by several at once. With one processor the arithmetic is still checked.
 */
#include "test.h"

enum { ROUNDS = 3000, AREA = 0x1400000, WINDOW = 0x40000000 };

static struct {
    uint8_t b;
    uint16_t w;
    uint32_t d;
    uint64_t q __attribute__((aligned(8)));
    uint64_t x, dec, plain;
    uint64_t pair[2] __attribute__((aligned(16)));
    uint64_t bits[8];
    uint32_t lock, guarded;
    uint64_t c8;
} s __attribute__((aligned(64)));

static uint8_t torn[128] __attribute__((aligned(64)));

static void add_lots(unsigned index)
{
    uint64_t *unaligned = (uint64_t *)(void *)(torn + 60);      /* two cache lines */
    uint64_t *pages = (uint64_t *)(uintptr_t)(AREA + 4096 - 4); /* two pages */
    for (unsigned i = 0; i < ROUNDS; i++) {
        __asm__ volatile("lock addb $1, %0" : "+m"(s.b));
        __asm__ volatile("lock incw %0" : "+m"(s.w));
        __asm__ volatile("lock addl $3, %0" : "+m"(s.d));
        __asm__ volatile("lock subq $-5, %0" : "+m"(s.q));
        __asm__ volatile("lock decq %0" : "+m"(s.dec));
        uint64_t one = 1;
        __asm__ volatile("lock xaddq %0, %1" : "+r"(one), "+m"(s.x));
        __asm__ volatile("lock addq $1, %0" : "+m"(*unaligned));
        __asm__ volatile("lock addq $1, %0" : "+m"(*pages));
        uint64_t old = s.plain, new;
        do
            new = old + 7;
        while (!__atomic_compare_exchange_n(&s.plain, &old, new, false, __ATOMIC_SEQ_CST,
                                            __ATOMIC_SEQ_CST));
        bool done;
        uint64_t lo = s.pair[0], hi = s.pair[1];
        do
            __asm__ volatile("lock cmpxchg16b %1"
                             : "=@ccz"(done), "+m"(s.pair), "+a"(lo), "+d"(hi)
                             : "b"(lo + 1), "c"(hi + 2)
                             : "memory");
        while (!done);
        uint32_t l = (uint32_t)s.c8, h = (uint32_t)(s.c8 >> 32);
        do
            __asm__ volatile("lock cmpxchg8b %1"
                             : "=@ccz"(done), "+m"(s.c8), "+a"(l), "+d"(h)
                             : "b"(l + 1), "c"(h + 1)
                             : "memory");
        while (!done);
        /* A lock of XCHG around a plain increment. */
        uint32_t v = 1;
        for (;;) {
            __asm__ volatile("xchgl %0, %1" : "+r"(v), "+m"(s.lock)::"memory");
            if (!v)
                break;
            cpu_pause();
        }
        s.guarded++;
        __asm__ volatile("movl $0, %0" : "=m"(s.lock)::"memory");
    }
    /* Bits of one word, set by different processors. */
    for (unsigned i = index; i < 512; i += cpus_online)
        __asm__ volatile("lock btsq %1, %0" : "+m"(s.bits) : "r"((uint64_t)i) : "memory");
}

static void counting(void)
{
    unsigned n = cpus_online;
    memset((void *)(uintptr_t)AREA, 0, 8192);
    on_all(add_lots);
    uint64_t r = (uint64_t)n * ROUNDS;
    CHECK_EQ(s.b, (uint8_t)r);
    CHECK_EQ(s.w, (uint16_t)r);
    CHECK_EQ(s.d, 3 * r);
    CHECK_EQ(s.q, 5 * r);
    CHECK_EQ(s.dec, -r);
    CHECK_EQ(s.x, r);
    CHECK_EQ(s.plain, 7 * r);
    CHECK_EQ(s.pair[0], r);
    CHECK_EQ(s.pair[1], 2 * r);
    CHECK_EQ(s.c8, r << 32 | r);
    CHECK_EQ(s.guarded, r);
    uint64_t v;
    memcpy(&v, torn + 60, 8);
    CHECK_EQ(v, r);
    memcpy(&v, (void *)(uintptr_t)(AREA + 4096 - 4), 8);
    CHECK_EQ(v, r);
    for (unsigned i = 0; i < 8; i++)
        CHECK_EQ(s.bits[i], UINT64_MAX);
}

/* Store buffers: with a fence, x86 never lets both read zero. */
static volatile uint32_t x, y, got[2], round_of[2];
static void dekker(unsigned index)
{
    if (index > 1)
        return;
    volatile uint32_t *mine = index ? &y : &x, *theirs = index ? &x : &y;
    for (uint32_t i = 1; i <= 2000; i++) {
        round_of[index] = i;
        while (round_of[!index] < i)
            cpu_pause();
        *mine = i;
        __asm__ volatile("mfence" ::: "memory");
        got[index] = *theirs;
        __atomic_add_fetch(&s.lock, 1, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&s.lock, __ATOMIC_SEQ_CST) < 2 * i)
            cpu_pause();
        if (index == 0)
            CHECK(got[0] == i || got[1] == i);
        round_of[index] = i;
        /* both must have looked before the next round changes got[] */
        __atomic_add_fetch(&s.guarded, 1, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&s.guarded, __ATOMIC_SEQ_CST) < 2 * i)
            cpu_pause();
    }
}

/* ---- TLB shootdown ---- */

static volatile unsigned flushed, looking;
static volatile unsigned stale;

static bool on_flush(struct frame *f)
{
    invlpg(WINDOW);
    apic_write(APIC_EOI, 0);
    __atomic_add_fetch(&flushed, 1, __ATOMIC_SEQ_CST);
    return true;
}

static volatile uint64_t allowed_low; /* values below are stale */
static void reader(unsigned index)
{
    __asm__ volatile("sti");
    while (looking) {
        uint64_t low = allowed_low, v = *(volatile uint64_t *)(uintptr_t)WINDOW;
        if (v < low)
            stale++;
    }
    __asm__ volatile("cli");
}

static void shootdown(void)
{
    volatile uint64_t *pte = pte_of(WINDOW);
    on_vector(0xf0, on_flush);
    for (unsigned i = 0; i < 8; i++)
        *(volatile uint64_t *)(uintptr_t)(AREA + i * 4096) = i;
    *pte = AREA | 7;
    invlpg(WINDOW);
    looking = 1;
    for (unsigned i = 1; i < cpus_online; i++)
        on_cpu(i, reader);
    for (unsigned i = 1; i < 8; i++) {
        for (unsigned k = 0; k < 50; k++)
            inb(0x3fd);
        *pte = (AREA + i * 4096) | 7;
        flushed = 0;
        apic_write(APIC_ICR, 0xc40f0); /* fixed, all but self */
        CHECK(wait_until(&flushed, cpus_online - 1));
        allowed_low = i;
    }
    looking = 0;
    for (unsigned i = 1; i < cpus_online; i++)
        wait_for(i);
    CHECK_EQ(stale, 0);
}

/* Accessed and dirty bits of one table, by all at once: none may be lost. */
static void touch(unsigned index)
{
    for (unsigned i = 0; i < 256; i++) {
        volatile uint8_t *p = (volatile uint8_t *)(uintptr_t)(WINDOW + i * 4096ull + index);
        if ((i + index) & 1)
            *p = 1;
        else
            (void)*p;
    }
}

static void dirty_together(void)
{
    volatile uint64_t *pt = pte_of(WINDOW);
    for (unsigned i = 0; i < 256; i++)
        pt[i] = (AREA + (i & 7) * 4096ull) | 7;
    WRITE_CR(3, READ_CR(3));
    on_all(touch);
    for (unsigned i = 0; i < 256; i++)
        if (cpus_online > 1 || i & 1)
            CHECK_EQ(pt[i] & 0x60, 0x60);
}

void test_main(void)
{
    print("%u processors\n", smp_start());
    counting();
    s.lock = s.guarded = 0;
    if (cpus_online > 1) {
        on_all(dekker);
        shootdown();
    }
    dirty_together();
}
