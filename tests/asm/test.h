/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Bare-metal tests: freestanding 64-bit code with everything interesting in assembly, a multiboot 1
 * image. The same image runs on every backend, and in other virtual machines.
 */
#ifndef VIREO_TESTS_ASM_TEST_H
#define VIREO_TESTS_ASM_TEST_H

#include "common.h"

struct frame {
    uint64_t rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

/* Exceptions. try_call() returns the vector that ended fn, -1 if none; last_trap has the rest. */
extern struct frame last_trap;
extern uint64_t last_cr2, last_dr6;
int try_call(void (*fn)(void *), void *arg);
/* A function in assembly at file scope, its argument in RDI; `name` at its start. */
#define SNIPPET(name, text)                                                   \
    __asm__(".section .text\n.globl " #name "\n" #name ":\n" text "\nret\n"); \
    void name(void *)
/* A handler of one vector; returns true if it dealt with it (the interrupted code goes on). */
typedef bool trap_fn(struct frame *f);
void on_vector(unsigned vector, trap_fn *fn);
void set_gate(unsigned vector, void (*entry)(void), unsigned dpl, unsigned ist);
extern uint8_t trap_entries[256][16];
struct idt_gate {
    uint16_t low, selector, type, middle;
    uint32_t high, zero;
};
extern struct idt_gate idt[256];
extern uint64_t gdt[64];
struct tss64 {
    uint32_t zero;
    uint64_t rsp[3], zero2, ist[7], zero3;
    uint16_t zero4, iobase;
    uint8_t iomap[33];
} __attribute__((packed));
extern struct tss64 tss;

uint64_t user_call(uint64_t (*fn)(uint64_t), uint64_t arg);

/* Pages: the identity map's tables: [0] PML4, [1] PDPT, [2..5] PDs of 2 MiB pages, all user. */
extern uint64_t page_tables[6][512];
extern char image_end[];
/* Maps the 2 MiB around `linear` with 4 KiB pages and returns its page table. */
uint64_t *split(uint64_t linear);
volatile uint64_t *pte_of(uint64_t linear); /* its entry, after a split */
static inline void invlpg(uint64_t a)
{
    __asm__ volatile("invlpg (%0)" ::"r"(a) : "memory");
}

/* Processors. */
extern volatile unsigned cpus_online; /* with the boot processor */
unsigned smp_start(void);             /* starts all; returns how many there are */
/* Runs fn(index) on all processors, the caller included; returns when all have ended. */
void on_all(void (*fn)(unsigned index));
/* Makes processor `index` run fn in the background; wait_for waits until it ended. */
void on_cpu(unsigned index, void (*fn)(unsigned index));
void wait_for(unsigned index);
unsigned apic_id_of(unsigned index);

enum {
    APIC_ID = 0x20,
    APIC_TPR = 0x80,
    APIC_EOI = 0xb0,
    APIC_SVR = 0xf0,
    APIC_ISR = 0x100,
    APIC_IRR = 0x200,
    APIC_ESR = 0x280,
    APIC_ICR = 0x300,
    APIC_ICR2 = 0x310,
    APIC_LVT_TIMER = 0x320,
    APIC_LVT_LINT0 = 0x350,
    APIC_TIMER_INIT = 0x380,
    APIC_TIMER_NOW = 0x390,
    APIC_TIMER_DIV = 0x3e0
};
static inline uint32_t apic_read(unsigned reg)
{
    return *(volatile uint32_t *)(uintptr_t)(0xfee00000u + reg);
}
static inline void apic_write(unsigned reg, uint32_t v)
{
    *(volatile uint32_t *)(uintptr_t)(0xfee00000u + reg) = v;
}
void ipi(unsigned index, uint32_t icr_low);
bool wait_until(volatile unsigned *v, unsigned value); /* false after some seconds */

/* Instructions. */
static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t a, d;
    __asm__ volatile("rdmsr" : "=a"(a), "=d"(d) : "c"(msr));
    return a | (uint64_t)d << 32;
}
static inline void wrmsr(uint32_t msr, uint64_t v)
{
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}
static inline void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
    __asm__ volatile("cpuid"
                     : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
                     : "a"(leaf), "c"(sub));
}
static inline uint64_t rdtsc(void)
{
    uint32_t a, d;
    __asm__ volatile("rdtsc" : "=a"(a), "=d"(d)::"memory");
    return a | (uint64_t)d << 32;
}
#define READ_DR(n)                                                   \
    ({                                                               \
        uint64_t v_;                                                 \
        __asm__ volatile("mov %%dr" #n ", %0" : "=r"(v_)::"memory"); \
        v_;                                                          \
    })
#define WRITE_DR(n, v) __asm__ volatile("mov %0, %%dr" #n ::"r"((uint64_t)(v)) : "memory")

#endif
