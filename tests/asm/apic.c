/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The local APIC: timer in its modes, interrupts between processors, priorities, NMI, INIT. */
#include "test.h"

static volatile unsigned ticks, ipis, nmis, low_ticks;
static volatile unsigned order[8], norder;

static bool on_timer(struct frame *f)
{
    ticks++;
    apic_write(APIC_EOI, 0);
    return true;
}
static bool on_ipi(struct frame *f)
{
    __atomic_add_fetch(&ipis, 1, __ATOMIC_SEQ_CST);
    apic_write(APIC_EOI, 0);
    return true;
}
static bool on_nmi(struct frame *f)
{
    __atomic_add_fetch(&nmis, 1, __ATOMIC_SEQ_CST);
    return true;
}
static bool on_order(struct frame *f)
{
    if (norder < 8)
        order[norder++] = (unsigned)f->vector;
    apic_write(APIC_EOI, 0);
    return true;
}

static void sti(void)
{
    __asm__ volatile("sti; nop" ::: "memory");
}
static void cli(void)
{
    __asm__ volatile("cli" ::: "memory");
}

static void timer(void)
{
    apic_write(APIC_SVR, 0x1ff);
    apic_write(APIC_TIMER_DIV, 3); /* by 16 */
    on_vector(0x40, on_timer);
    /* One-shot: once, and HLT ends. */
    apic_write(APIC_LVT_TIMER, 0x40);
    sti();
    uint64_t before = rdtsc();
    apic_write(APIC_TIMER_INIT, 100000);
    for (cli(); !ticks; cli()) /* STI's shadow covers HLT: a tick in between is not lost */
        __asm__ volatile("sti; hlt");
    sti();
    CHECK(rdtsc() > before);
    CHECK_EQ(apic_read(APIC_TIMER_NOW), 0);
    for (unsigned i = 0; i < 100000; i++)
        cpu_pause();
    CHECK_EQ(ticks, 1);
    /* It counts down. */
    apic_write(APIC_LVT_TIMER, 0x10040); /* masked */
    apic_write(APIC_TIMER_INIT, 0xffffffff);
    uint32_t a = apic_read(APIC_TIMER_NOW);
    for (unsigned i = 0; i < 1000; i++)
        inb(0x3fd);
    uint32_t b = apic_read(APIC_TIMER_NOW);
    CHECK(b < a && a > 0xf0000000);
    /* Periodic. */
    ticks = 0;
    apic_write(APIC_LVT_TIMER, 0x20040);
    apic_write(APIC_TIMER_INIT, 50000);
    for (unsigned i = 0; ticks < 5 && i < 1000; i++)
        __asm__ volatile("hlt");
    CHECK(ticks >= 5);
    apic_write(APIC_TIMER_INIT, 0); /* stops it */
    cli();
    unsigned now = ticks;
    sti();
    for (unsigned i = 0; i < 100000; i++)
        cpu_pause();
    CHECK(ticks <= now + 1);
    apic_write(APIC_LVT_TIMER, 0x10000);
    cli();
}

static void to_self(void)
{
    on_vector(0x41, on_ipi);
    ipis = 0;
    sti();
    apic_write(APIC_ICR, 0x40041); /* self */
    CHECK(wait_until(&ipis, 1));
    cli();
    /* Pending while masked; shown in IRR; taken at STI's shadow's end. */
    apic_write(APIC_ICR, 0x40041);
    CHECK_EQ(apic_read(APIC_IRR + 0x20) >> 1 & 1, 1);
    CHECK_EQ(ipis, 1);
    __asm__ volatile("sti; cli"); /* the shadow covers CLI: nothing may come in */
    CHECK_EQ(ipis, 1);
    __asm__ volatile("sti; nop; cli");
    CHECK_EQ(ipis, 2);
    CHECK_EQ(apic_read(APIC_IRR + 0x20) >> 1 & 1, 0);
}

static void priorities(void)
{
    static const uint8_t vectors[] = {0x51, 0x61, 0x71, 0x52};
    for (unsigned i = 0; i < 4; i++)
        on_vector(vectors[i], on_order);
    norder = 0;
    for (unsigned i = 0; i < 4; i++)
        apic_write(APIC_ICR, 0x40000u | vectors[i]);
    __asm__ volatile("sti; nop; nop; nop; nop; nop; cli");
    CHECK_EQ(norder, 4);
    CHECK_EQ(order[0], 0x71);
    CHECK_EQ(order[1], 0x61);
    CHECK_EQ(order[2], 0x52);
    CHECK_EQ(order[3], 0x51);
    /* The task priority holds back its class and those below. */
    norder = 0;
    WRITE_CR(8, 6);
    CHECK_EQ(apic_read(APIC_TPR), 0x60);
    apic_write(APIC_ICR, 0x40061);
    apic_write(APIC_ICR, 0x40071);
    __asm__ volatile("sti; nop; nop; nop; cli");
    CHECK_EQ(norder, 1);
    CHECK_EQ(order[0], 0x71);
    WRITE_CR(8, 0);
    __asm__ volatile("sti; nop; nop; nop; cli");
    CHECK_EQ(norder, 2);
    CHECK_EQ(order[1], 0x61);
}

static void nmi_to_self(void)
{
    on_vector(2, on_nmi);
    nmis = 0;
    ipi(0, 0x4400);
    CHECK(wait_until(&nmis, 1));
    ipi(0, 0x4400);
    CHECK(wait_until(&nmis, 2));
}

static volatile unsigned waiting;
static void open_to_interrupts(unsigned index)
{
    __asm__ volatile("sti");
    __atomic_add_fetch(&waiting, 1, __ATOMIC_SEQ_CST);
    while (waiting)
        __asm__ volatile("pause");
    __asm__ volatile("cli");
}
static void halted(unsigned index)
{
    __atomic_add_fetch(&waiting, 1, __ATOMIC_SEQ_CST);
    __asm__ volatile("sti; hlt; cli");
}

static void between_processors(void)
{
    unsigned n = smp_start();
    print("%u processors\n", n);
    if (n < 2)
        return;
    waiting = 0;
    for (unsigned i = 1; i < n; i++)
        on_cpu(i, open_to_interrupts);
    CHECK(wait_until(&waiting, n - 1));
    ipis = 0;
    for (unsigned k = 1; k <= 50; k++) {
        for (unsigned i = 1; i < n; i++)
            ipi(i, 0x4041);
        CHECK(wait_until(&ipis, k * (n - 1)));
    }
    ipis = 0;
    apic_write(APIC_ICR, 0xc4041); /* all but self */
    CHECK(wait_until(&ipis, n - 1));
    nmis = 0;
    apic_write(APIC_ICR, 0xc4400);
    CHECK(wait_until(&nmis, n - 1));
    /* Logical destinations, flat model. */
    waiting = 0;
    for (unsigned i = 1; i < n; i++)
        wait_for(i);
    ipis = 0;
    sti();
    apic_write(APIC_ICR, 0x84041); /* all, with self */
    CHECK(wait_until(&ipis, 1));   /* the others are closed */
    for (unsigned i = 1; i < n; i++)
        on_cpu(i, open_to_interrupts);
    CHECK(wait_until(&ipis, n)); /* it waited for them */
    CHECK(wait_until(&waiting, n - 1));
    cli();
    waiting = 0;
    for (unsigned i = 1; i < n; i++)
        wait_for(i);
    /* An IPI wakes a halted processor. */
    ipis = 0;
    for (unsigned k = 0; k < 30; k++) {
        waiting = 0;
        on_cpu(1, halted);
        CHECK(wait_until(&waiting, 1));
        ipi(1, 0x4041);
        wait_for(1);
    }
    CHECK_EQ(ipis, 30);
}

static void x2apic(void)
{
    uint32_t r[4];
    cpuid(1, 0, r);
    if (!(r[2] & 1u << 21)) {
        print("x2APIC is not offered\n");
        return;
    }
    wrmsr(0x1b, rdmsr(0x1b) | 1 << 10);
    CHECK_EQ(rdmsr(0x802), apic_id_of(0));
    ipis = 0;
    on_vector(0x42, NULL);
    cli();
    wrmsr(0x83f, 0x55); /* self IPI */
    CHECK_EQ(rdmsr(0x822) >> 21 & 1, 1);
    wrmsr(0x808, 0x60);
    CHECK_EQ(READ_CR(8), 6);
    wrmsr(0x808, 0);
}

static bool on_x2(struct frame *f)
{
    ipis++;
    wrmsr(0x80b, 0);
    return true;
}

void test_main(void)
{
    timer();
    to_self();
    priorities();
    nmi_to_self();
    between_processors();
    x2apic();
    uint32_t r[4];
    cpuid(1, 0, r);
    if (r[2] & 1u << 21) {
        on_vector(0x55, on_x2);
        __asm__ volatile("sti; nop; nop; cli");
        CHECK_EQ(ipis, 1);
    }
}
