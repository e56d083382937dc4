/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Vector operations with an immediate byte. Where the immediate is part of the operation there is a
 * row of 16-byte thunks, one a value, that run "op $imm, %xmm1, %xmm0; ret". Source: Intel SDM
 * vol. 2.
 */
#include "core/hv/soft/vec-impl.h"

#define THUNKS(name, values)                                           \
    __asm__(".section .text\n.balign 16\n"                             \
            "vec_imm_" #name ":\n.set i, 0\n.rept " #values "\n" #name \
            " $i, %xmm1, %xmm0\nret\n.balign 16, 0xcc\n"               \
            ".set i, i + 1\n.endr\n");                                 \
    extern const uint8_t vec_imm_##name[values][16];

static inline __m128i call_imm(const uint8_t *thunk, __m128i d, __m128i s)
{
    register __m128i x1 __asm__("xmm1") = s;
    __asm__ volatile("lea -128(%%rsp), %%rsp\ncall *%[thunk]\nlea 128(%%rsp), %%rsp"
                     : "+Yz"(d)
                     : [thunk] "r"(thunk), "x"(x1)
                     : "memory");
    return d;
}

/* OP(name, prefix, map, opcode, values, source, needs) */
#define IMM_OPS(OP)                                    \
    OP(pshufd, 66, 0f, 0x70, 256, src128, 0)           \
    OP(pshufhw, F3, 0f, 0x70, 256, src128, 0)          \
    OP(pshuflw, F2, 0f, 0x70, 256, src128, 0)          \
    OP(shufps, NP, 0f, 0xc6, 256, src128, 0)           \
    OP(shufpd, 66, 0f, 0xc6, 4, src128, 0)             \
    OP(blendps, 66, 3a, 0x0c, 16, src128, NEED_SSE41)  \
    OP(blendpd, 66, 3a, 0x0d, 4, src128, NEED_SSE41)   \
    OP(pblendw, 66, 3a, 0x0e, 256, src128, NEED_SSE41) \
    OP(palignr, 66, 3a, 0x0f, 256, src128, NEED_SSSE3) \
    OP(mpsadbw, 66, 3a, 0x42, 8, src128, NEED_SSE41)   \
    OP(aeskeygenassist, 66, 3a, 0xdf, 256, src128, NEED_AES)

#define DEFINE(name, prefix, map, opcode, values, src, needs)       \
    THUNKS(name, values)                                            \
    static void op_##name(struct soft_vp *vp, const struct insn *i) \
    {                                                               \
        __m128i s = src(vp, i), d = xmm_get(vp, i->reg);            \
        d = call_imm(vec_imm_##name[i->imm8 & ((values)-1)], d, s); \
        xmm_set(vp, i->reg, d);                                     \
    }
IMM_OPS(DEFINE)

/* Bits 0 and 4 of the immediate choose the quadwords. */
static void op_pclmulqdq(struct soft_vp *vp, const struct insn *i)
{
    __m128i s = src128(vp, i), d = xmm_get(vp, i->reg);
    if (i->imm8 & 1)
        d = _mm_unpackhi_epi64(d, d);
    if (i->imm8 & 0x10)
        s = _mm_unpackhi_epi64(s, s);
    __asm__("pclmulqdq $0, %1, %0" : "+x"(d) : "x"(s));
    xmm_set(vp, i->reg, d);
}

/* INSERTPS: with a memory operand the source lane (bits 7:6) is the single value read. */
static void op_insertps(struct soft_vp *vp, const struct insn *i)
{
    vec128 s = {.v = src32(vp, i)}, d = {.v = xmm_get(vp, i->reg)};
    unsigned from = is_mem(i) ? 0 : i->imm8 >> 6;
    d.d[i->imm8 >> 4 & 3] = s.d[from];
    for (unsigned k = 0; k < 4; k++)
        if (i->imm8 >> k & 1)
            d.d[k] = 0;
    xmm_set(vp, i->reg, d.v);
}

static void op_pinsrb(struct soft_vp *vp, const struct insn *i)
{
    uint8_t v = is_mem(i) ? soft_load8(vp, i, soft_ea(vp, i, 1, false)) : (uint8_t)vp->gpr[i->rm];
    vp->fx.xmm[i->reg][i->imm8 & 15] = v;
}

static uint16_t word_source(struct soft_vp *vp, const struct insn *i)
{
    return is_mem(i) ? soft_load16(vp, i, soft_ea(vp, i, 2, false)) : (uint16_t)vp->gpr[i->rm];
}

static void op_pinsrw(struct soft_vp *vp, const struct insn *i)
{
    uint16_t v = word_source(vp, i);
    memcpy(vp->fx.xmm[i->reg] + (i->imm8 & 7) * 2, &v, 2);
}

static void op_mm_pinsrw(struct soft_vp *vp, const struct insn *i)
{
    uint16_t v = word_source(vp, i);
    soft_mmx_enter(&vp->fx);
    uint64_t d = mm_get(vp, i->reg);
    memcpy((uint8_t *)&d + (i->imm8 & 3) * 2, &v, 2);
    mm_set(vp, i->reg, d);
}

static void op_pinsrd(struct soft_vp *vp, const struct insn *i)
{
    uint64_t v = src_gpr(vp, i, is_wide(i));
    if (is_wide(i))
        memcpy(vp->fx.xmm[i->reg] + (i->imm8 & 1) * 8, &v, 8);
    else
        memcpy(vp->fx.xmm[i->reg] + (i->imm8 & 3) * 4, &v, 4);
}

/* PEXTRW r32, xmm, imm8 (0F C5). */
static void op_pextrw(struct soft_vp *vp, const struct insn *i)
{
    vec128 s = {.v = xmm_get(vp, i->rm)};
    vp->gpr[i->reg] = s.w[i->imm8 & 7];
}

static void op_mm_pextrw(struct soft_vp *vp, const struct insn *i)
{
    soft_mmx_enter(&vp->fx);
    vp->gpr[i->reg] = mm_get(vp, i->rm) >> (16 * (i->imm8 & 3)) & 0xffff;
}

/* The SSE4.1 extracts: r/m is the destination. */
static void op_pextrb_rm(struct soft_vp *vp, const struct insn *i)
{
    uint8_t v = vp->fx.xmm[i->reg][i->imm8 & 15];
    if (is_mem(i))
        soft_store8(vp, i, soft_ea(vp, i, 1, true), v);
    else
        vp->gpr[i->rm] = v;
}

static void op_pextrw_rm(struct soft_vp *vp, const struct insn *i)
{
    vec128 s = {.v = xmm_get(vp, i->reg)};
    uint16_t v = s.w[i->imm8 & 7];
    if (is_mem(i))
        soft_store16(vp, i, soft_ea(vp, i, 2, true), v);
    else
        vp->gpr[i->rm] = v;
}

static void store_d(struct soft_vp *vp, const struct insn *i, uint32_t v)
{
    if (is_mem(i))
        soft_store32(vp, i, soft_ea(vp, i, 4, true), v);
    else
        vp->gpr[i->rm] = v;
}

static void op_extractps(struct soft_vp *vp, const struct insn *i)
{
    vec128 s = {.v = xmm_get(vp, i->reg)};
    store_d(vp, i, s.d[i->imm8 & 3]);
}

static void op_pextrd(struct soft_vp *vp, const struct insn *i)
{
    vec128 s = {.v = xmm_get(vp, i->reg)};
    if (!is_wide(i))
        store_d(vp, i, s.d[i->imm8 & 3]);
    else if (is_mem(i))
        soft_store64(vp, i, soft_ea(vp, i, 8, true), s.q[i->imm8 & 1]);
    else
        vp->gpr[i->rm] = s.q[i->imm8 & 1];
}

/* MMX: PSHUFW and PALIGNR, in plain C: the low half of wider words. */
static void op_pshufw(struct soft_vp *vp, const struct insn *i)
{
    uint64_t s = mm_mem64(vp, i), d = 0;
    soft_mmx_enter(&vp->fx);
    if (!is_mem(i))
        s = mm_get(vp, i->rm);
    for (unsigned k = 0; k < 4; k++)
        d |= (s >> (16 * (i->imm8 >> (2 * k) & 3)) & 0xffff) << (16 * k);
    mm_set(vp, i->reg, d);
}

static void op_mm_palignr(struct soft_vp *vp, const struct insn *i)
{
    uint64_t s = mm_mem64(vp, i);
    soft_mmx_enter(&vp->fx);
    if (!is_mem(i))
        s = mm_get(vp, i->rm);
    unsigned __int128 wide = (unsigned __int128)mm_get(vp, i->reg) << 64 | s;
    mm_set(vp, i->reg, i->imm8 < 16 ? (uint64_t)(wide >> (8 * i->imm8)) : 0);
}

/* ---- shifts by an immediate: groups 12, 13 and 14 ---- */

#define SHIFT(name)                                                                  \
    static void op_##name##_imm(struct soft_vp *vp, const struct insn *i)            \
    {                                                                                \
        __m128i d = xmm_get(vp, i->rm), n = _mm_cvtsi32_si128(i->imm8);              \
        __asm__(#name " %1, %0" : "+x"(d) : "x"(n));                                 \
        xmm_set(vp, i->rm, d);                                                       \
    }                                                                                \
    static void op_mm_##name##_imm(struct soft_vp *vp, const struct insn *i)         \
    {                                                                                \
        soft_mmx_enter(&vp->fx);                                                     \
        uint64_t d = mm_get(vp, i->rm), n = i->imm8;                                 \
        __asm__ volatile("movq %0, %%mm0\n" #name " %1, %%mm0\nmovq %%mm0, %0\nemms" \
                         : "+m"(d)                                                   \
                         : "m"(n));                                                  \
        mm_set(vp, i->rm, d);                                                        \
    }
SHIFT(psrlw)
SHIFT(psraw)
SHIFT(psllw)
SHIFT(psrld)
SHIFT(psrad)
SHIFT(pslld)
SHIFT(psrlq)
SHIFT(psllq)

static void op_psrldq(struct soft_vp *vp, const struct insn *i)
{
    vec128 s = {.v = xmm_get(vp, i->rm)}, d = {.q = {0, 0}};
    for (unsigned k = i->imm8; k < 16; k++)
        d.b[k - i->imm8] = s.b[k];
    xmm_set(vp, i->rm, d.v);
}

static void op_pslldq(struct soft_vp *vp, const struct insn *i)
{
    vec128 s = {.v = xmm_get(vp, i->rm)}, d = {.q = {0, 0}};
    for (unsigned k = i->imm8; k < 16; k++)
        d.b[k] = s.b[k - i->imm8];
    xmm_set(vp, i->rm, d.v);
}

#define SSE_SHIFT(name)             \
    {                               \
        op_##name##_imm, VEC_SSE, 1 \
    }
#define MMX_SHIFT(name)                \
    {                                  \
        op_mm_##name##_imm, VEC_MMX, 1 \
    }
const struct vec_op *soft_vec_shift_group(const struct vec_bytes *v)
{
    static const struct vec_op sse[3][8] = {
        {[2] = SSE_SHIFT(psrlw), [4] = SSE_SHIFT(psraw), [6] = SSE_SHIFT(psllw)},
        {[2] = SSE_SHIFT(psrld), [4] = SSE_SHIFT(psrad), [6] = SSE_SHIFT(pslld)},
        {[2] = SSE_SHIFT(psrlq),
         [3] = {op_psrldq, VEC_SSE, 1},
         [6] = SSE_SHIFT(psllq),
         [7] = {op_pslldq, VEC_SSE, 1}},
    };
    static const struct vec_op mmx[3][8] = {
        {[2] = MMX_SHIFT(psrlw), [4] = MMX_SHIFT(psraw), [6] = MMX_SHIFT(psllw)},
        {[2] = MMX_SHIFT(psrld), [4] = MMX_SHIFT(psrad), [6] = MMX_SHIFT(pslld)},
        {[2] = MMX_SHIFT(psrlq), [6] = MMX_SHIFT(psllq)},
    };
    if (v->modrm < 0xc0 || v->prefix > VEC_66)
        return NULL;
    const struct vec_op *op =
        &(v->prefix == VEC_66 ? sse : mmx)[v->opcode - 0x71][v->modrm >> 3 & 7];
    return op->fn ? op : NULL;
}

/* ---- PCMPxSTRx: thunks that return ECX (in rcx) or XMM0, and flags ---- */

/* "[rexw] pcmpxstrx $imm, %xmm2, %xmm1; ret", spelled out: assemblers differ in the name of the
 * form with 64-bit lengths. */
#define STRING_THUNKS(name, rex, opcode)                                     \
    __asm__(".section .text\n.balign 16\n"                                   \
            "vec_str_" #name ":\n.set i, 0\n.rept 256\n"                     \
            ".byte 0x66, " #rex ", 0x0f, 0x3a, " #opcode ", 0xca, i, 0xc3\n" \
            ".balign 16, 0xcc\n.set i, i + 1\n.endr\n");                     \
    extern const uint8_t vec_str_##name[256][16];
STRING_THUNKS(pcmpestrm, 0x40, 0x60)
STRING_THUNKS(pcmpestrm_wide, 0x48, 0x60)
STRING_THUNKS(pcmpestri, 0x40, 0x61)
STRING_THUNKS(pcmpestri_wide, 0x48, 0x61)
STRING_THUNKS(pcmpistrm, 0x40, 0x62)
STRING_THUNKS(pcmpistri, 0x40, 0x63)

struct string_result {
    uint64_t rcx;
    __m128i xmm0;
    uint16_t status;
};

static struct string_result call_string(struct soft_vp *vp, const struct insn *i,
                                        const uint8_t *thunk)
{
    struct string_result r = {.rcx = vp->gpr[HV_RCX], .xmm0 = xmm_get(vp, 0)};
    register __m128i x2 __asm__("xmm2") = src128u(vp, i);
    register __m128i x1 __asm__("xmm1") = xmm_get(vp, i->reg);
    bool c, z, s, o;
    __asm__ volatile("lea -128(%%rsp), %%rsp\ncall *%[thunk]\nlea 128(%%rsp), %%rsp"
                     : "=@ccc"(c), "=@ccz"(z), "=@ccs"(s), "=@cco"(o), "+c"(r.rcx), "+Yz"(r.xmm0)
                     : "a"(vp->gpr[HV_RAX]), "d"(vp->gpr[HV_RDX]), [thunk] "r"(thunk), "x"(x1),
                       "x"(x2)
                     : "memory");
    r.status = (uint16_t)((c ? ST_CF : 0) | (z ? ST_ZF : 0) | (s ? ST_SF : 0) | (o ? ST_OF : 0));
    return r;
}

#define STRING_OP(name, thunk, wide_thunk, is_index)                          \
    static void op_##name(struct soft_vp *vp, const struct insn *i)           \
    {                                                                         \
        const uint8_t *t = is_wide(i) ? wide_thunk[i->imm8] : thunk[i->imm8]; \
        struct string_result r = call_string(vp, i, t);                       \
        if (is_index)                                                         \
            vp->gpr[HV_RCX] = (uint32_t)r.rcx;                                \
        else                                                                  \
            xmm_set(vp, 0, r.xmm0);                                           \
        vp->status = r.status;                                                \
    }
STRING_OP(pcmpestrm, vec_str_pcmpestrm, vec_str_pcmpestrm_wide, false)
STRING_OP(pcmpestri, vec_str_pcmpestri, vec_str_pcmpestri_wide, true)
STRING_OP(pcmpistrm, vec_str_pcmpistrm, vec_str_pcmpistrm, false)
STRING_OP(pcmpistri, vec_str_pcmpistri, vec_str_pcmpistri, true)

#define PUT(name, prefix, map, opcode, values, src, needs) \
    vec_put(t##map, VEC_##prefix, opcode, op_##name, VEC_SSE, 1, needs);

void soft_vec_fill_imm(vec_table *t0f, vec_table *t38, vec_table *t3a)
{
    IMM_OPS(PUT)
    vec_put(t3a, VEC_66, 0x44, op_pclmulqdq, VEC_SSE, 1, NEED_PCLMUL);
    vec_put(t3a, VEC_66, 0x21, op_insertps, VEC_SSE, 1, NEED_SSE41);
    vec_put(t3a, VEC_66, 0x20, op_pinsrb, VEC_SSE, 1, NEED_SSE41);
    vec_put(t3a, VEC_66, 0x22, op_pinsrd, VEC_SSE, 1, NEED_SSE41);
    vec_put(t3a, VEC_66, 0x14, op_pextrb_rm, VEC_SSE, 1, NEED_SSE41);
    vec_put(t3a, VEC_66, 0x15, op_pextrw_rm, VEC_SSE, 1, NEED_SSE41);
    vec_put(t3a, VEC_66, 0x16, op_pextrd, VEC_SSE, 1, NEED_SSE41);
    vec_put(t3a, VEC_66, 0x17, op_extractps, VEC_SSE, 1, NEED_SSE41);
    vec_put(t3a, VEC_66, 0x60, op_pcmpestrm, VEC_SSE, 1, NEED_SSE42);
    vec_put(t3a, VEC_66, 0x61, op_pcmpestri, VEC_SSE, 1, NEED_SSE42);
    vec_put(t3a, VEC_66, 0x62, op_pcmpistrm, VEC_SSE, 1, NEED_SSE42);
    vec_put(t3a, VEC_66, 0x63, op_pcmpistri, VEC_SSE, 1, NEED_SSE42);
    vec_put(t0f, VEC_66, 0xc4, op_pinsrw, VEC_SSE, 1, 0);
    vec_put(t0f, VEC_66, 0xc5, op_pextrw, VEC_SSE, 1, FORM_REG);
    vec_put(t0f, VEC_NP, 0xc4, op_mm_pinsrw, VEC_MMX, 1, 0);
    vec_put(t0f, VEC_NP, 0xc5, op_mm_pextrw, VEC_MMX, 1, FORM_REG);
    vec_put(t0f, VEC_NP, 0x70, op_pshufw, VEC_MMX, 1, 0);
    vec_put(t3a, VEC_NP, 0x0f, op_mm_palignr, VEC_MMX, 1, NEED_SSSE3);
}
