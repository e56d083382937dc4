/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Host arithmetic with the host's flags: each operation runs the host's own instruction and takes
 * the flags by LAHF and SETO in soft_vp.status layout, undefined ones included.
 */
#ifndef VIREO_HV_SOFT_FLAGS_H
#define VIREO_HV_SOFT_FLAGS_H

#include "core/hv/soft/cpu.h"

#define FLAGS_GET "\n\tlahf\n\tseto %%al"
#define FLAGS_PUT "addb $0x7f, %%al\n\tsahf\n\t" /* all six from ax */
#define CARRY_PUT "btl $8, %%eax\n\t"

#define FOR_SIZES(M, ...) \
    M(8, "b", __VA_ARGS__) M(16, "w", __VA_ARGS__) M(32, "l", __VA_ARGS__) M(64, "q", __VA_ARGS__)

/* a = a op b */
#define FLAGS_BIN(bits, sfx, name, ins)                                                            \
    static inline uint##bits##_t fl_##name##bits(uint##bits##_t a, uint##bits##_t b, uint16_t *st) \
    {                                                                                              \
        uint32_t f;                                                                                \
        __asm__(ins sfx " %2, %0" FLAGS_GET : "+q"(a), "=a"(f) : "q"(b) : "cc");                   \
        *st = (uint16_t)f;                                                                         \
        return a;                                                                                  \
    }
FOR_SIZES(FLAGS_BIN, add, "add")
FOR_SIZES(FLAGS_BIN, or, "or")
FOR_SIZES(FLAGS_BIN, and, "and")
FOR_SIZES(FLAGS_BIN, sub, "sub")
FOR_SIZES(FLAGS_BIN, xor, "xor")

#define FLAGS_CARRY(bits, sfx, name, ins)                                                          \
    static inline uint##bits##_t fl_##name##bits(uint##bits##_t a, uint##bits##_t b, uint16_t *st) \
    {                                                                                              \
        uint32_t f = *st;                                                                          \
        __asm__(CARRY_PUT ins sfx " %2, %0" FLAGS_GET : "+&q"(a), "+&a"(f) : "q"(b) : "cc");       \
        *st = (uint16_t)f;                                                                         \
        return a;                                                                                  \
    }
FOR_SIZES(FLAGS_CARRY, adc, "adc")
FOR_SIZES(FLAGS_CARRY, sbb, "sbb")

#define FLAGS_CMP(bits, sfx, name, ins)                                                  \
    static inline void fl_##name##bits(uint##bits##_t a, uint##bits##_t b, uint16_t *st) \
    {                                                                                    \
        uint32_t f;                                                                      \
        __asm__(ins sfx " %2, %1" FLAGS_GET : "=a"(f) : "q"(a), "q"(b) : "cc");          \
        *st = (uint16_t)f;                                                               \
    }
FOR_SIZES(FLAGS_CMP, cmp, "cmp")
FOR_SIZES(FLAGS_CMP, test, "test")

#define FLAGS_UN(bits, sfx, name, ins)                                            \
    static inline uint##bits##_t fl_##name##bits(uint##bits##_t a, uint16_t *st)  \
    {                                                                             \
        uint32_t f = *st;                                                         \
        __asm__(FLAGS_PUT ins sfx " %0" FLAGS_GET : "+&q"(a), "+&a"(f) : : "cc"); \
        *st = (uint16_t)f;                                                        \
        return a;                                                                 \
    }
FOR_SIZES(FLAGS_UN, inc, "inc")
FOR_SIZES(FLAGS_UN, dec, "dec")
FOR_SIZES(FLAGS_UN, neg, "neg")

/* Shifts and rotates by a count that the caller has masked and found not zero. */
#define FLAGS_SHIFT(bits, sfx, name, ins)                                                      \
    static inline uint##bits##_t fl_##name##bits(uint##bits##_t a, uint8_t n, uint16_t *st)    \
    {                                                                                          \
        uint32_t f = *st;                                                                      \
        __asm__(FLAGS_PUT ins sfx " %%cl, %0" FLAGS_GET : "+&q"(a), "+&a"(f) : "c"(n) : "cc"); \
        *st = (uint16_t)f;                                                                     \
        return a;                                                                              \
    }
FOR_SIZES(FLAGS_SHIFT, rol, "rol")
FOR_SIZES(FLAGS_SHIFT, ror, "ror")
FOR_SIZES(FLAGS_SHIFT, rcl, "rcl")
FOR_SIZES(FLAGS_SHIFT, rcr, "rcr")
FOR_SIZES(FLAGS_SHIFT, shl, "shl")
FOR_SIZES(FLAGS_SHIFT, shr, "shr")
FOR_SIZES(FLAGS_SHIFT, sal, "shl")
FOR_SIZES(FLAGS_SHIFT, sar, "sar")

#define FOR_WORDS(M, ...) M(16, "w", __VA_ARGS__) M(32, "l", __VA_ARGS__) M(64, "q", __VA_ARGS__)

#define FLAGS_SHIFTD(bits, sfx, name, ins)                                                      \
    static inline uint##bits##_t fl_##name##bits(uint##bits##_t a, uint##bits##_t b, uint8_t n, \
                                                 uint16_t *st)                                  \
    {                                                                                           \
        uint32_t f = *st;                                                                       \
        __asm__(FLAGS_PUT ins sfx " %%cl, %2, %0" FLAGS_GET                                     \
                : "+&r"(a), "+&a"(f)                                                            \
                : "r"(b), "c"(n)                                                                \
                : "cc");                                                                        \
        *st = (uint16_t)f;                                                                      \
        return a;                                                                               \
    }
FOR_WORDS(FLAGS_SHIFTD, shld, "shld")
FOR_WORDS(FLAGS_SHIFTD, shrd, "shrd")

/* Bit tests on a value; `b` below the width. Bit scans and IMUL: a = op b, a kept where x86 keeps
 * it. */
#define FLAGS_TO(bits, sfx, name, ins)                                                             \
    static inline uint##bits##_t fl_##name##bits(uint##bits##_t a, uint##bits##_t b, uint16_t *st) \
    {                                                                                              \
        uint32_t f = *st;                                                                          \
        __asm__(FLAGS_PUT ins sfx " %2, %0" FLAGS_GET : "+&r"(a), "+&a"(f) : "r"(b) : "cc");       \
        *st = (uint16_t)f;                                                                         \
        return a;                                                                                  \
    }
FOR_WORDS(FLAGS_TO, bt, "bt")
FOR_WORDS(FLAGS_TO, bts, "bts")
FOR_WORDS(FLAGS_TO, btr, "btr")
FOR_WORDS(FLAGS_TO, btc, "btc")
FOR_WORDS(FLAGS_TO, bsf, "bsf")
FOR_WORDS(FLAGS_TO, bsr, "bsr")
FOR_WORDS(FLAGS_TO, imul, "imul")
FOR_WORDS(FLAGS_TO, popcnt, "popcnt")

/*
 * MUL, IMUL, DIV, IDIV on rax and rdx (8 bits: ax alone). For divisions the caller knows that the
 * quotient fits.
 */
#define FLAGS_WIDE(bits, sfx, name, ins)                                                 \
    static inline void fl_##name##bits(uint64_t *rax, uint64_t *rdx, uint##bits##_t b,   \
                                       uint16_t *st)                                     \
    {                                                                                    \
        uint64_t a = *rax, d = *rdx;                                                     \
        uint32_t f = *st;                                                                \
        __asm__(FLAGS_PUT "movq %1, %%rax\n\t" ins sfx " %3\n\tmovq %%rax, %1" FLAGS_GET \
                : "+&a"(f), "+&r"(a), "+&d"(d)                                           \
                : "q"(b)                                                                 \
                : "cc");                                                                 \
        *rax = a;                                                                        \
        *rdx = d;                                                                        \
        *st = (uint16_t)f;                                                               \
    }
FOR_SIZES(FLAGS_WIDE, mul, "mul")
FOR_SIZES(FLAGS_WIDE, imul1, "imul")
FOR_SIZES(FLAGS_WIDE, div, "div")
FOR_SIZES(FLAGS_WIDE, idiv, "idiv")

/* Jcc, SETcc, CMOVcc by condition code. */
static inline bool soft_cond(uint16_t st, unsigned cc)
{
    bool v;
    switch (cc >> 1) {
    case 0: v = st & ST_OF; break;
    case 1: v = st & ST_CF; break;
    case 2: v = st & ST_ZF; break;
    case 3: v = st & (ST_CF | ST_ZF); break;
    case 4: v = st & ST_SF; break;
    case 5: v = st & ST_PF; break;
    case 6: v = (st >> 15 ^ st) & 1; break;
    default: v = ((st >> 15 ^ st) & 1) || (st & ST_ZF); break;
    }
    return v ^ (cc & 1);
}

#endif
