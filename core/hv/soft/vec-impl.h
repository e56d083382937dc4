/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the files of vector operations share: operands, and the shape of their tables. */
#ifndef VIREO_HV_SOFT_VEC_IMPL_H
#define VIREO_HV_SOFT_VEC_IMPL_H

#include <emmintrin.h>

#include "core/hv/soft/access.h"
#include "core/hv/soft/vec.h"
#include "core/hv/soft/x87.h"

/* Forms and host features of an opcode. */
enum vec_form {
    FORM_ANY = 0,
    FORM_MEM = 1, /* memory operand only */
    FORM_REG = 2, /* register operand only */
    FORM_MASK = 3,
    NEED_SSE3 = 4,
    NEED_SSSE3 = 8,
    NEED_SSE41 = 12,
    NEED_SSE42 = 16,
    NEED_AES = 20,
    NEED_PCLMUL = 24,
    NEED_MASK = 28,
};

struct vec_entry {
    struct vec_op op;
    uint8_t form;
};

/* [prefix][opcode]; fn NULL: undefined. */
typedef struct vec_entry vec_table[4][256];

/* Each file fills its part of the tables, once, before any VP runs. */
void soft_vec_fill_move(vec_table *t0f, vec_table *t38, vec_table *t3a);
void soft_vec_fill_int(vec_table *t0f, vec_table *t38, vec_table *t3a);
void soft_vec_fill_fp(vec_table *t0f, vec_table *t38, vec_table *t3a);
void soft_vec_fill_mmx(vec_table *t0f, vec_table *t38, vec_table *t3a);
void soft_vec_fill_imm(vec_table *t0f, vec_table *t38, vec_table *t3a);

/* 0F 71, 72, 73. */
const struct vec_op *soft_vec_shift_group(const struct vec_bytes *v);

static inline void vec_put(vec_table *t, enum vec_prefix p, uint8_t opcode, insn_fn *fn,
                           enum vec_class cls, unsigned imm8, unsigned form)
{
    (*t)[p][opcode] = (struct vec_entry){{fn, (uint8_t)cls, (uint8_t)imm8}, (uint8_t)form};
}

typedef union {
    uint8_t b[16];
    uint16_t w[8];
    uint32_t d[4];
    uint64_t q[2];
    __m128i v;
} vec128;

static inline __m128i xmm_get(const struct soft_vp *vp, unsigned n)
{
    return _mm_load_si128((const __m128i *)(const void *)vp->fx.xmm[n]);
}

static inline void xmm_set(struct soft_vp *vp, unsigned n, __m128i v)
{
    _mm_store_si128((__m128i *)(void *)vp->fx.xmm[n], v);
}

static inline bool is_mem(const struct insn *i)
{
    return i->flags & INSN_MEM;
}

/* The address of an aligned 16-byte operand. Misalignment comes before the segment's limit. */
static inline uint64_t ea_aligned(struct soft_vp *vp, const struct insn *i, bool write)
{
    if (SOFT_UNLIKELY(i->ea)) {
        uint64_t offset = soft_offset(vp, i), base = SOFT_REG(const uint64_t, vp, i->segbase);
        if ((base + offset) & 15)
            soft_raise_error(vp, i, EXC_GP, 0);
    }
    return soft_ea(vp, i, 16, write);
}

/* The source operand: a register, or so many bytes of memory, zero-extended. */
static inline __m128i src128(struct soft_vp *vp, const struct insn *i)
{
    vec128 t;
    if (!is_mem(i))
        return xmm_get(vp, i->rm);
    soft_load128(vp, i, ea_aligned(vp, i, false), &t, true);
    return t.v;
}

static inline __m128i src128u(struct soft_vp *vp, const struct insn *i)
{
    vec128 t;
    if (!is_mem(i))
        return xmm_get(vp, i->rm);
    soft_load128(vp, i, soft_ea(vp, i, 16, false), &t, false);
    return t.v;
}

static inline __m128i src64(struct soft_vp *vp, const struct insn *i)
{
    if (!is_mem(i))
        return xmm_get(vp, i->rm);
    return _mm_cvtsi64_si128((long long)soft_load64(vp, i, soft_ea(vp, i, 8, false)));
}

static inline __m128i src32(struct soft_vp *vp, const struct insn *i)
{
    if (!is_mem(i))
        return xmm_get(vp, i->rm);
    return _mm_cvtsi32_si128((int)soft_load32(vp, i, soft_ea(vp, i, 4, false)));
}

static inline __m128i src16(struct soft_vp *vp, const struct insn *i)
{
    if (!is_mem(i))
        return xmm_get(vp, i->rm);
    return _mm_cvtsi32_si128(soft_load16(vp, i, soft_ea(vp, i, 2, false)));
}

/* A general register or memory operand of 4 or 8 bytes. */
static inline uint64_t src_gpr(struct soft_vp *vp, const struct insn *i, bool wide)
{
    if (!is_mem(i))
        return wide ? vp->gpr[i->rm] : (uint32_t)vp->gpr[i->rm];
    if (wide)
        return soft_load64(vp, i, soft_ea(vp, i, 8, false));
    return soft_load32(vp, i, soft_ea(vp, i, 4, false));
}

static inline bool is_wide(const struct insn *i)
{
    return i->flags & INSN_REXW;
}

/* MMX registers, after soft_mmx_enter. */
static inline uint64_t mm_get(const struct soft_vp *vp, unsigned n)
{
    uint64_t v;
    memcpy(&v, vp->fx.st[n & 7], 8);
    return v;
}

static inline void mm_set(struct soft_vp *vp, unsigned n, uint64_t v)
{
    static const uint8_t ones[2] = {0xff, 0xff};
    memcpy(vp->fx.st[n & 7], &v, 8);
    memcpy(vp->fx.st[n & 7] + 8, ones, 2);
}

/* The memory operand if there is one: to be read before soft_mmx_enter, since it may fault. */
static inline uint64_t mm_mem64(struct soft_vp *vp, const struct insn *i)
{
    return is_mem(i) ? soft_load64(vp, i, soft_ea(vp, i, 8, false)) : 0;
}

/* Instructions that mix MMX and SSE also need CR4.OSFXSR. */
static inline void need_osfxsr(struct soft_vp *vp, const struct insn *i)
{
    if (!(vp->cr4 & CR4_OSFXSR))
        soft_raise(vp, i, EXC_UD);
}

#endif
