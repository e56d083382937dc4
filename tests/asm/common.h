/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What bare-metal tests of both widths share: output, checks, ports. Output goes to COM1; the end
 * is a write to port 0xf4 (process status (code << 1) | 1: 1 is success, 3 failure).
 */
#ifndef VIREO_TESTS_ASM_COMMON_H
#define VIREO_TESTS_ASM_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void test_main(void); /* each test's own */

void print(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* %s %d %u %x %lx %p */
_Noreturn void finish(void);
_Noreturn void leave(unsigned code);
void check_failed(const char *file, int line, const char *what, uintptr_t a, uintptr_t b);
#define CHECK(c)                                        \
    do {                                                \
        if (!(c))                                       \
            check_failed(__FILE__, __LINE__, #c, 0, 0); \
    } while (0)
#define CHECK_EQ(a, b)                                              \
    do {                                                            \
        uintptr_t a_ = (uintptr_t)(a), b_ = (uintptr_t)(b);         \
        if (a_ != b_)                                               \
            check_failed(__FILE__, __LINE__, #a " == " #b, a_, b_); \
    } while (0)

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
static inline void cpu_pause(void)
{
    __asm__ volatile("pause" ::: "memory");
}
#define READ_CR(n)                                                   \
    ({                                                               \
        uintptr_t v_;                                                \
        __asm__ volatile("mov %%cr" #n ", %0" : "=r"(v_)::"memory"); \
        v_;                                                          \
    })
#define WRITE_CR(n, v) __asm__ volatile("mov %0, %%cr" #n ::"r"((uintptr_t)(v)) : "memory")

void *memset(void *p, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);
int memcmp(const void *a, const void *b, size_t n);

#endif
