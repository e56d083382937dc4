/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Output and the end. */
#include "common.h"

#include <stdarg.h>

static unsigned failures;
static volatile unsigned print_lock;

void *memset(void *p, int c, size_t n)
{
    void *d = p;
    __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
    return p;
}

void *memcpy(void *to, const void *from, size_t n)
{
    void *d = to;
    __asm__ volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(n)::"memory");
    return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a, *y = b;
    for (size_t i = 0; i < n; i++)
        if (x[i] != y[i])
            return x[i] - y[i];
    return 0;
}

/* ---- output ---- */

static void put_char(char c)
{
    for (unsigned i = 0; i < 100000 && !(inb(0x3fd) & 0x20); i++)
        cpu_pause();
    outb(0x3f8, (uint8_t)c);
}

static void put_number(uintptr_t v, unsigned base)
{
    char b[24];
    unsigned n = 0;
    do
        b[n++] = "0123456789abcdef"[v % base];
    while (v /= base);
    while (n)
        put_char(b[--n]);
}

void print(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    while (__atomic_exchange_n(&print_lock, 1, __ATOMIC_ACQUIRE))
        cpu_pause();
    for (; *fmt; fmt++) {
        if (*fmt != '%') {
            put_char(*fmt);
            continue;
        }
        bool wide = *++fmt == 'l';
        fmt += wide;
        if (*fmt == 'd') {
            int d = va_arg(ap, int);
            if (d < 0)
                put_char('-');
            put_number(d < 0 ? 0u - (unsigned)d : (unsigned)d, 10);
            continue;
        }
        if (*fmt == 's') {
            for (const char *s = va_arg(ap, const char *); *s; s++)
                put_char(*s);
            continue;
        }
        if (*fmt == 'p')
            wide = true;
        uintptr_t v = wide ? va_arg(ap, uintptr_t) : va_arg(ap, unsigned);
        put_number(v, *fmt == 'x' || *fmt == 'p' ? 16 : 10);
    }
    __atomic_store_n(&print_lock, 0, __ATOMIC_RELEASE);
    va_end(ap);
}

void check_failed(const char *file, int line, const char *what, uintptr_t a, uintptr_t b)
{
    print("FAIL %s:%d: %s (0x%lx, 0x%lx)\n", file, line, what, (unsigned long)a, (unsigned long)b);
    failures++;
}

void leave(unsigned code)
{
    __asm__ volatile("outl %0, %1" ::"a"(code), "Nd"((uint16_t)0xf4));
    for (;;)
        __asm__ volatile("cli; hlt");
}

void finish(void)
{
    print("%s: %u failures\n", failures ? "FAILED" : "PASSED", failures);
    leave(failures ? 1 : 0);
}
