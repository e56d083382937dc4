/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The 32-bit brother of test.h, for tests of legacy modes: same ideas, same names. */
#ifndef VIREO_TESTS_ASM_TEST32_H
#define VIREO_TESTS_ASM_TEST32_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct frame {
    uint32_t gs, fs, es, ds;
    uint32_t edi, esi, ebp, esp0, ebx, edx, ecx, eax;
    uint32_t vector, error, eip, cs, eflags;
    uint32_t esp, ss;            /* from an outer ring only */
    uint32_t ves, vds, vfs, vgs; /* from virtual-8086 mode only */
};

void test_main(void);
void print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void check_failed(const char *file, int line, const char *what, uint32_t a, uint32_t b);
#define CHECK(c)                                        \
    do {                                                \
        if (!(c))                                       \
            check_failed(__FILE__, __LINE__, #c, 0, 0); \
    } while (0)
#define CHECK_EQ(a, b)                                              \
    do {                                                            \
        uint32_t a_ = (uint32_t)(a), b_ = (uint32_t)(b);            \
        if (a_ != b_)                                               \
            check_failed(__FILE__, __LINE__, #a " == " #b, a_, b_); \
    } while (0)

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

#define READ_CR(n)                                                   \
    ({                                                               \
        uint32_t v_;                                                 \
        __asm__ volatile("mov %%cr" #n ", %0" : "=r"(v_)::"memory"); \
        v_;                                                          \
    })
#define WRITE_CR(n, v) __asm__ volatile("mov %0, %%cr" #n ::"r"((uint32_t)(v)) : "memory")
static inline void outb(uint16_t port, uint8_t v)
{
    __asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port));
}
static inline uint8_t inb(uint16_t port)
{
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
void *memset(void *p, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);

#endif
