/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The 32-bit brother of test.h, for tests of legacy modes: same ideas, same names. */
#ifndef VIREO_TESTS_ASM_TEST32_H
#define VIREO_TESTS_ASM_TEST32_H

#include "common.h"

struct frame {
    uint32_t gs, fs, es, ds;
    uint32_t edi, esi, ebp, esp0, ebx, edx, ecx, eax;
    uint32_t vector, error, eip, cs, eflags;
    uint32_t esp, ss;            /* from an outer ring only */
    uint32_t ves, vds, vfs, vgs; /* from virtual-8086 mode only */
};

extern struct frame last_trap;
extern uint32_t last_cr2;
int try_call(void (*fn)(void *), void *arg);
/* A function in assembly; its argument in EAX. */
#define SNIPPET(name, text)                                                                      \
    __asm__(".section .text\n.globl " #name "\n" #name ":\nmov 4(%esp), %eax\n" text "\nret\n"); \
    void name(void *)
typedef bool trap_fn(struct frame *f);
void on_vector(unsigned vector, trap_fn *fn);
uint32_t user_call(uint32_t (*fn)(uint32_t), uint32_t arg);
uint32_t real_call(uint16_t ip);
void v86_enter(uint32_t ip, uint32_t flags);
extern char v86_return[], user_return[];
extern uint64_t gdt[64], idt[64];
extern uint8_t trap_entries[64][16];

/* A descriptor: access and flags as bits 40-47 and 52-55. */
static inline uint64_t descriptor(uint32_t base, uint32_t limit, unsigned access, unsigned flags)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 |
           (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)flags << 52 |
           (uint64_t)(base >> 24) << 56;
}
static inline uint64_t gate(uint16_t selector, uint32_t offset, unsigned access, unsigned count)
{
    return (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)count << 32 |
           (uint64_t)access << 40 | (uint64_t)(offset >> 16) << 48;
}

struct tss32 {
    uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags;
    uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi, es, cs, ss, ds, fs, gs, ldt;
    uint16_t trap, iobase;
    uint8_t iomap[8200];
};
extern struct tss32 tss;

#endif
