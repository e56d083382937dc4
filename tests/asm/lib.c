/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the 64-bit tests share: exceptions, page tables, processors. */
#include "test.h"

struct frame last_trap;
uint64_t last_cr2, last_dr6;
struct idt_gate idt[256] __attribute__((aligned(16)));
struct tss64 tss;
volatile unsigned cpus_online = 1;

static trap_fn *handlers[256];

extern uint32_t try_armed, try_vector;
extern uint64_t user_result;
extern char try_recover[], user_return[], ap_trampoline[], ap_trampoline_end[], user_stack_end[];
void trap(struct frame *f);
void boot_main(void);
void ap_entry(unsigned index);

/* ---- exceptions ---- */

void set_gate(unsigned vector, void (*entry)(void), unsigned dpl, unsigned ist)
{
    uint64_t a = (uint64_t)(uintptr_t)entry;
    idt[vector] = (struct idt_gate){
        (uint16_t)a,         0x10, (uint16_t)(0x8e00 | dpl << 13 | ist), (uint16_t)(a >> 16),
        (uint32_t)(a >> 32), 0};
}

void on_vector(unsigned vector, trap_fn *fn)
{
    handlers[vector] = fn;
}

static bool from_user(struct frame *f)
{
    user_result = f->rax;
    f->rip = (uint64_t)(uintptr_t)user_return;
    f->cs = 0x10;
    f->ss = 0;
    f->rflags = 2;
    return true;
}

/* Called by boot.S. */
void trap(struct frame *f)
{
    if (handlers[f->vector] && handlers[f->vector](f))
        return;
    uint64_t cr2 = READ_CR(2);
    if (f->vector >= 32 || !try_armed) {
        print("FAIL unexpected vector %lu error %lx at %lx cr2 %lx cs %lx flags %lx\n", f->vector,
              f->error, f->rip, cr2, f->cs, f->rflags);
        leave(1);
    }
    last_trap = *f;
    last_cr2 = cr2;
    last_dr6 = READ_DR(6);
    try_vector = (uint32_t)f->vector;
    f->rip = (uint64_t)(uintptr_t)try_recover;
    f->cs = 0x10;
    f->ss = 0x18;
    f->rflags = 2;
}

static void load_tables(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) p = {sizeof(idt) - 1, (uint64_t)(uintptr_t)idt};
    __asm__ volatile("lidt %0" ::"m"(p));
}

static void init_traps(void)
{
    for (unsigned v = 0; v < 256; v++)
        set_gate(v, (void (*)(void))(uintptr_t)trap_entries[v],
                 v == 3 || v == 4 || v == 0x30 ? 3 : 0, 0);
    static uint8_t stacks[3][8192] __attribute__((aligned(16)));
    uint64_t base = (uint64_t)(uintptr_t)&tss;
    tss.rsp[0] = (uint64_t)(uintptr_t)(stacks[0] + 8192);
    tss.ist[0] = (uint64_t)(uintptr_t)(stacks[1] + 8192);
    tss.ist[1] = (uint64_t)(uintptr_t)(stacks[2] + 8192);
    tss.iobase = sizeof(tss);
    gdt[9] =
        (sizeof(tss) - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
    gdt[10] = base >> 32;
    load_tables();
    __asm__ volatile("ltr %w0; lldt %w1" ::"r"(0x48), "r"(0));
    on_vector(0x30, from_user);
}

/* ---- pages ---- */

enum { SPLITS = 16 };
static uint64_t split_tables[SPLITS][512] __attribute__((aligned(4096)));
static unsigned nsplits;

uint64_t *split(uint64_t linear)
{
    uint64_t *pde = &page_tables[2 + (linear >> 30 & 3)][linear >> 21 & 511];
    if (!(*pde & 0x80))
        return (uint64_t *)(uintptr_t)(*pde & ~0xfffull);
    if (nsplits == SPLITS)
        leave(1);
    uint64_t *pt = split_tables[nsplits++], base = *pde & ~0x1fffffull;
    for (unsigned i = 0; i < 512; i++)
        pt[i] = (base + i * 4096ull) | 7;
    *pde = (uint64_t)(uintptr_t)pt | 7;
    WRITE_CR(3, READ_CR(3));
    return pt;
}

volatile uint64_t *pte_of(uint64_t linear)
{
    return &split(linear)[linear >> 12 & 511];
}

/* ---- processors ---- */

enum { MAX_CPUS = 64 };
static struct {
    void (*volatile fn)(unsigned index);
    volatile unsigned busy;
    unsigned apic_id;
} cpus[MAX_CPUS];

/* At least 7 ms, whatever the TSC's rate; port reads would be dear in a nested machine. */
static void delay(void)
{
    for (uint64_t start = rdtsc(); rdtsc() - start < 30000000;)
        cpu_pause();
}

unsigned apic_id_of(unsigned index)
{
    return cpus[index].apic_id;
}

void ap_entry(unsigned index)
{
    load_tables();
    apic_write(APIC_SVR, 0x1ff);
    cpus[index].apic_id = apic_read(APIC_ID) >> 24;
    __atomic_add_fetch(&cpus_online, 1, __ATOMIC_SEQ_CST);
    for (;;) {
        while (!cpus[index].busy)
            cpu_pause();
        cpus[index].fn(index);
        __atomic_store_n(&cpus[index].busy, 0, __ATOMIC_SEQ_CST);
    }
}

unsigned smp_start(void)
{
    apic_write(APIC_SVR, 0x1ff);
    cpus[0].apic_id = apic_read(APIC_ID) >> 24;
    memcpy((void *)0x8000, ap_trampoline, (size_t)(ap_trampoline_end - ap_trampoline));
    apic_write(APIC_ICR, 0xc4500); /* INIT to all but this */
    delay();
    for (unsigned i = 0; i < 2; i++) {
        apic_write(APIC_ICR, 0xc4608); /* start at 0x8000 */
        for (unsigned before = 0, k = 0; k < 10 && (k < 3 || before != cpus_online); k++) {
            before = cpus_online;
            delay();
        }
    }
    return cpus_online;
}

void on_cpu(unsigned index, void (*fn)(unsigned index))
{
    cpus[index].fn = fn;
    __atomic_store_n(&cpus[index].busy, 1, __ATOMIC_SEQ_CST);
}

void wait_for(unsigned index)
{
    while (cpus[index].busy)
        cpu_pause();
}

void on_all(void (*fn)(unsigned index))
{
    for (unsigned i = 1; i < cpus_online; i++)
        on_cpu(i, fn);
    fn(0);
    for (unsigned i = 1; i < cpus_online; i++)
        wait_for(i);
}

void ipi(unsigned index, uint32_t icr_low)
{
    apic_write(APIC_ICR2, cpus[index].apic_id << 24);
    apic_write(APIC_ICR, icr_low);
}

bool wait_until(volatile unsigned *v, unsigned value)
{
    for (unsigned i = 0; i < 2000000; i++) {
        if (__atomic_load_n(v, __ATOMIC_SEQ_CST) == value)
            return true;
        if (i > 1000)
            inb(0x3fd); /* lets time pass where a loop alone is quick */
        cpu_pause();
    }
    return false;
}

/* Called by boot.S. */
void boot_main(void)
{
    outb(0x21, 0xff); /* no legacy interrupts */
    outb(0xa1, 0xff);
    init_traps();
    test_main();
    finish();
}
