/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/base/crc32c.h"

#include <nmmintrin.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

static uint32_t table[256];
static _Atomic int table_ready;

static void make_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++)
            c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
        __atomic_store_n(&table[i], c, __ATOMIC_RELAXED);
    }
    atomic_store_explicit(&table_ready, 1, memory_order_release);
}

static uint32_t by_table(uint32_t c, const uint8_t *p, size_t len)
{
    if (!atomic_load_explicit(&table_ready, memory_order_acquire))
        make_table(); /* two threads may both do it: they write the same values */
    while (len--)
        c = c >> 8 ^ __atomic_load_n(&table[(c ^ *p++) & 0xff], __ATOMIC_RELAXED);
    return c;
}

__attribute__((target("sse4.2"))) static uint32_t by_sse42(uint32_t c, const uint8_t *p, size_t len)
{
    uint64_t c64 = c;
    for (; len >= 8; p += 8, len -= 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        c64 = _mm_crc32_u64(c64, v);
    }
    c = (uint32_t)c64;
    while (len--)
        c = _mm_crc32_u8(c, *p++);
    return c;
}

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
    return ~(__builtin_cpu_supports("sse4.2") ? by_sse42(~crc, data, len)
                                              : by_table(~crc, data, len));
}
