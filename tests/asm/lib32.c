/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the 32-bit tests share. */
#include "test32.h"

struct frame last_trap;
uint32_t last_cr2;
uint64_t idt[64] __attribute__((aligned(16)));
struct tss32 tss;

static trap_fn *handlers[64];

extern uint32_t try_armed, try_vector, user_result;
extern char try_recover[], real_low[], real_low_end[];
void trap(struct frame *f);
void boot_main(void);

void on_vector(unsigned vector, trap_fn *fn)
{
    handlers[vector] = fn;
}

static bool from_user(struct frame *f)
{
    user_result = f->eax;
    f->eip = (uint32_t)user_return;
    f->cs = 8;
    f->eflags = 2;
    return true;
}

/* Called by boot32.S. */
void trap(struct frame *f)
{
    if (handlers[f->vector] && handlers[f->vector](f)) {
        if (f->cs == 8 && f->eip == (uint32_t)user_return) {
            /* IRET within ring 0 must not pop the outer stack: go there directly. */
            __asm__ volatile("jmp *%0" ::"r"(user_return));
        }
        return;
    }
    if (f->vector >= 32 || !try_armed) {
        print("FAIL unexpected vector %u error %x at %x:%x cr2 %x flags %x\n", f->vector, f->error,
              f->cs, f->eip, READ_CR(2), f->eflags);
        leave(1);
    }
    last_trap = *f;
    last_cr2 = READ_CR(2);
    try_vector = f->vector;
    __asm__ volatile("jmp *%0" ::"r"(try_recover));
}

static void load_tables(void)
{
    struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) p = {sizeof(idt) - 1, (uint32_t)idt};
    __asm__ volatile("lidt %0" ::"m"(p));
    memcpy((void *)0x8000, real_low, (size_t)(real_low_end - real_low));
    memcpy((void *)0x8008, &p, sizeof(p));
}

void boot_main(void)
{
    static uint8_t stack0[8192] __attribute__((aligned(16)));
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    for (unsigned v = 0; v < 64; v++)
        idt[v] = gate(8, (uint32_t)trap_entries[v], v == 3 || v == 4 || v == 0x30 ? 0xee : 0x8e, 0);
    tss.esp0 = (uint32_t)(stack0 + sizeof(stack0));
    tss.ss0 = 0x10;
    tss.iobase = sizeof(tss);
    gdt[7] = descriptor((uint32_t)&tss, sizeof(tss) - 1, 0x89, 0); /* 38 */
    __asm__ volatile("ltr %w0; lldt %w1" ::"r"(0x38), "r"(0));
    load_tables();
    on_vector(0x30, from_user);
    test_main();
    finish();
}
