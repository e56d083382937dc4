/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Unaligned little- and big-endian access, alignment and small arithmetic. Thread: any. */
#ifndef VIREO_BASE_BYTES_H
#define VIREO_BASE_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)
#define TIB(n) ((uint64_t)(n) << 40)
#define HV_PAGE_SIZE 4096u

/* `a` is a power of two; align_up must not be called within `a` of UINT64_MAX (see checked.h). */
static inline uint64_t align_down(uint64_t v, uint64_t a)
{
    return v & ~(a - 1);
}
static inline uint64_t align_up(uint64_t v, uint64_t a)
{
    return (v + a - 1) & ~(a - 1);
}
static inline uint64_t div_round_up(uint64_t v, uint64_t d)
{
    return v / d + (v % d != 0);
}

#define BYTES_LE(bits)                                         \
    static inline uint##bits##_t get_le##bits(const void *p)   \
    {                                                          \
        uint##bits##_t v;                                      \
        memcpy(&v, p, sizeof v);                               \
        return v;                                              \
    }                                                          \
    static inline void put_le##bits(void *p, uint##bits##_t v) \
    {                                                          \
        memcpy(p, &v, sizeof v);                               \
    }                                                          \
    static inline uint##bits##_t get_be##bits(const void *p)   \
    {                                                          \
        return __builtin_bswap##bits(get_le##bits(p));         \
    }                                                          \
    static inline void put_be##bits(void *p, uint##bits##_t v) \
    {                                                          \
        put_le##bits(p, __builtin_bswap##bits(v));             \
    }
BYTES_LE(16)
BYTES_LE(32)
BYTES_LE(64)
#undef BYTES_LE

#endif
