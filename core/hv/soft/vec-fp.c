/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * SSE floating point, each operation by the host's own instruction under the guest's MXCSR. With
 * all exceptions masked the guest's control bits are simply loaded around it. Otherwise the
 * operation runs masked on copies, and its flags tell which unmasked exception the guest gets
 * (SDM vol. 1, 11.5 and appendix E): the host never takes a signal.
 */
#include "core/hv/soft/vec-impl.h"

enum {
    MX_PRE = 7, /* invalid, denormal, zero divide: found before the operation */
    MX_OE = 8,
    MX_UE = 0x10,
    MX_PE = 0x20,
    MX_FLAGS = 0x3f,
    MX_MASKS = 0x1f80,
    MX_UM = 0x800,
    MX_FTZ = 0x8000,
};
static const uint32_t host_mxcsr = 0x1f80;

static inline bool all_masked(uint32_t mxcsr)
{
    return (mxcsr & MX_MASKS) == MX_MASKS;
}

/* MXCSR to run with: masked; a result that unmasked underflow would report must stay visible. */
static inline uint32_t run_mxcsr(const struct soft_vp *vp)
{
    uint32_t m = vp->fx.mxcsr;
    if (SOFT_LIKELY(all_masked(m)))
        return m;
    if (!(m & MX_UM))
        m &= ~(uint32_t)MX_FTZ;
    return (m | MX_MASKS) & ~(uint32_t)MX_FLAGS;
}

/* What of a result may be tiny: so many lanes of 4 or 8 bytes. */
enum tiny {
    TINY_NONE,
    TINY_S1,
    TINY_S2,
    TINY_S4,
    TINY_D1,
    TINY_D2,
    TINY_LANES = 7,
    /* How the result came about. */
    BY_MUL = 8,
    BY_DIV = 16,
    BY_CVT = 24,
    BY_ADD = 32,
    BY_SUB = 40,
    BY_MASK = 56,
};

/* Whether one lane's result is inexact if the exponent has no bounds, which is what decides the
 * precision flag beside an unmasked underflow or overflow. x87 arithmetic with the precision
 * control of the format is just that. */
static bool inexact_lane(enum tiny how, bool dbl, const void *a, const void *b)
{
    uint16_t cw = dbl ? 0x27f : 0x7f, sw;
    double x, y;
    if (dbl || how == BY_CVT) {
        memcpy(&x, how == BY_CVT ? b : a, 8);
        memcpy(&y, b, 8);
    } else { /* widening is exact */
        float f[2];
        memcpy(&f[0], a, 4);
        memcpy(&f[1], b, 4);
        x = (double)f[0];
        y = (double)f[1];
    }
#define X87_LANE(insn)                                                   \
    __asm__ volatile("fldcw %1\nfldl %2\n" insn " %3\nfnstsw %0\nfninit" \
                     : "=m"(sw)                                          \
                     : "m"(cw), "m"(x), "m"(y))
    switch (how) {
    case BY_DIV: X87_LANE("fdivl"); break;
    case BY_MUL: X87_LANE("fmull"); break;
    case BY_ADD: X87_LANE("faddl"); break;
    case BY_SUB: X87_LANE("fsubl"); break;
    default:
        y = 1;
        X87_LANE("fmull");
        break; /* rounds to the format */
    }
#undef X87_LANE
    return sw & MX_PE;
}

static bool inexact(enum tiny tiny, __m128i d, __m128i s)
{
    static const uint8_t lanes[] = {0, 1, 2, 4, 1, 2};
    enum tiny how = tiny & BY_MASK;
    vec128 a = {.v = d}, b = {.v = s};
    bool dbl = (tiny & TINY_LANES) >= TINY_D1, any = false;
    for (unsigned k = 0; k < lanes[tiny & TINY_LANES]; k++)
        any |= dbl || how == BY_CVT ? inexact_lane(how, dbl, &a.q[k & 1], &b.q[k & 1])
                                    : inexact_lane(how, dbl, &a.d[k], &b.d[k]);
    return any;
}

static bool has_denormal(__m128i v, enum tiny kind)
{
    kind &= TINY_LANES;
    vec128 r = {.v = v};
    unsigned singles = kind == TINY_S1 ? 1 : kind == TINY_S2 ? 2 : kind == TINY_S4 ? 4 : 0;
    unsigned doubles = kind == TINY_D1 ? 1 : kind == TINY_D2 ? 2 : 0;
    for (unsigned k = 0; k < singles; k++)
        if ((r.d[k] & 0x7fffff) && !(r.d[k] & 0x7f800000))
            return true;
    for (unsigned k = 0; k < doubles; k++)
        if ((r.q[k] & 0xfffffffffffff) && !(r.q[k] & 0x7ff0000000000000))
            return true;
    return false;
}

static void finish_unmasked(struct soft_vp *vp, const struct insn *i, uint32_t out, __m128i result,
                            __m128i a, __m128i b, enum tiny tiny)
{
    uint32_t m = vp->fx.mxcsr, flags = out & MX_FLAGS;
    if (!(m & MX_UM) && has_denormal(result, tiny))
        flags |= MX_UE;
    uint32_t range = flags & (MX_OE | MX_UE);
    if (range && !(range & (m >> 7)) && (tiny & BY_MASK) && !inexact(tiny, a, b))
        flags &= ~(uint32_t)MX_PE;
    uint32_t unmasked = flags & ~(m >> 7) & MX_FLAGS;
    if (unmasked & MX_PRE)
        flags &= MX_PRE;
    vp->fx.mxcsr = m | flags;
    if (unmasked)
        soft_raise(vp, i, vp->cr4 & CR4_OSXMMEXCPT ? EXC_XM : EXC_UD);
}

/* To be called between the operation and the write of its result. */
static inline void finish(struct soft_vp *vp, const struct insn *i, uint32_t out, __m128i result,
                          __m128i a, __m128i b, enum tiny tiny)
{
    if (SOFT_LIKELY(all_masked(vp->fx.mxcsr)))
        vp->fx.mxcsr = out;
    else
        finish_unmasked(vp, i, out, result, a, b, tiny);
}

/* OP(name, prefix, opcode, source, needs, tiny, cast): xmm = xmm op source. */
#define FP_OPS(OP)                                      \
    OP(sqrtps, NP, 0x51, src128, 0, TINY_NONE)          \
    OP(sqrtpd, 66, 0x51, src128, 0, TINY_NONE)          \
    OP(sqrtss, F3, 0x51, src32, 0, TINY_NONE)           \
    OP(sqrtsd, F2, 0x51, src64, 0, TINY_NONE)           \
    OP(rsqrtps, NP, 0x52, src128, 0, TINY_NONE)         \
    OP(rsqrtss, F3, 0x52, src32, 0, TINY_NONE)          \
    OP(rcpps, NP, 0x53, src128, 0, TINY_NONE)           \
    OP(rcpss, F3, 0x53, src32, 0, TINY_NONE)            \
    OP(addps, NP, 0x58, src128, 0, TINY_S4 | BY_ADD)    \
    OP(addpd, 66, 0x58, src128, 0, TINY_D2 | BY_ADD)    \
    OP(addss, F3, 0x58, src32, 0, TINY_S1 | BY_ADD)     \
    OP(addsd, F2, 0x58, src64, 0, TINY_D1 | BY_ADD)     \
    OP(mulps, NP, 0x59, src128, 0, TINY_S4 | BY_MUL)    \
    OP(mulpd, 66, 0x59, src128, 0, TINY_D2 | BY_MUL)    \
    OP(mulss, F3, 0x59, src32, 0, TINY_S1 | BY_MUL)     \
    OP(mulsd, F2, 0x59, src64, 0, TINY_D1 | BY_MUL)     \
    OP(cvtps2pd, NP, 0x5a, src64, 0, TINY_NONE)         \
    OP(cvtpd2ps, 66, 0x5a, src128, 0, TINY_S2 | BY_CVT) \
    OP(cvtss2sd, F3, 0x5a, src32, 0, TINY_NONE)         \
    OP(cvtsd2ss, F2, 0x5a, src64, 0, TINY_S1 | BY_CVT)  \
    OP(cvtdq2ps, NP, 0x5b, src128, 0, TINY_NONE)        \
    OP(cvtps2dq, 66, 0x5b, src128, 0, TINY_NONE)        \
    OP(cvttps2dq, F3, 0x5b, src128, 0, TINY_NONE)       \
    OP(subps, NP, 0x5c, src128, 0, TINY_S4 | BY_SUB)    \
    OP(subpd, 66, 0x5c, src128, 0, TINY_D2 | BY_SUB)    \
    OP(subss, F3, 0x5c, src32, 0, TINY_S1 | BY_SUB)     \
    OP(subsd, F2, 0x5c, src64, 0, TINY_D1 | BY_SUB)     \
    OP(minps, NP, 0x5d, src128, 0, TINY_NONE)           \
    OP(minpd, 66, 0x5d, src128, 0, TINY_NONE)           \
    OP(minss, F3, 0x5d, src32, 0, TINY_NONE)            \
    OP(minsd, F2, 0x5d, src64, 0, TINY_NONE)            \
    OP(divps, NP, 0x5e, src128, 0, TINY_S4 | BY_DIV)    \
    OP(divpd, 66, 0x5e, src128, 0, TINY_D2 | BY_DIV)    \
    OP(divss, F3, 0x5e, src32, 0, TINY_S1 | BY_DIV)     \
    OP(divsd, F2, 0x5e, src64, 0, TINY_D1 | BY_DIV)     \
    OP(maxps, NP, 0x5f, src128, 0, TINY_NONE)           \
    OP(maxpd, 66, 0x5f, src128, 0, TINY_NONE)           \
    OP(maxss, F3, 0x5f, src32, 0, TINY_NONE)            \
    OP(maxsd, F2, 0x5f, src64, 0, TINY_NONE)            \
    OP(haddpd, 66, 0x7c, src128, NEED_SSE3, TINY_D2)    \
    OP(haddps, F2, 0x7c, src128, NEED_SSE3, TINY_S4)    \
    OP(hsubpd, 66, 0x7d, src128, NEED_SSE3, TINY_D2)    \
    OP(hsubps, F2, 0x7d, src128, NEED_SSE3, TINY_S4)    \
    OP(addsubpd, 66, 0xd0, src128, NEED_SSE3, TINY_D2)  \
    OP(addsubps, F2, 0xd0, src128, NEED_SSE3, TINY_S4)  \
    OP(cvttpd2dq, 66, 0xe6, src128, 0, TINY_NONE)       \
    OP(cvtdq2pd, F3, 0xe6, src64, 0, TINY_NONE)         \
    OP(cvtpd2dq, F2, 0xe6, src128, 0, TINY_NONE)

#define DEFINE(name, prefix, opcode, src, needs, tiny)                          \
    static void op_##name(struct soft_vp *vp, const struct insn *i)             \
    {                                                                           \
        __m128i s = src(vp, i), d = xmm_get(vp, i->reg), a = d;                 \
        uint32_t mx = run_mxcsr(vp);                                            \
        __asm__ volatile("ldmxcsr %1\n" #name " %2, %0\nstmxcsr %1\nldmxcsr %3" \
                         : "+&x"(d), "+m"(mx)                                   \
                         : "x"(s), "m"(host_mxcsr));                            \
        finish(vp, i, mx, d, a, s, tiny);                                       \
        xmm_set(vp, i->reg, d);                                                 \
    }
FP_OPS(DEFINE)

/* (U)COMISS, (U)COMISD: ZF, PF, CF of the comparison; OF, SF, AF zero. */
#define COMPARE(name, src)                                                            \
    static void op_##name(struct soft_vp *vp, const struct insn *i)                   \
    {                                                                                 \
        __m128i s = src(vp, i), d = xmm_get(vp, i->reg);                              \
        uint32_t mx = run_mxcsr(vp);                                                  \
        bool z, p, c;                                                                 \
        __asm__ volatile("ldmxcsr %3\n" #name " %5, %4\nstmxcsr %3\nldmxcsr %6"       \
                         : "=@ccz"(z), "=@ccp"(p), "=@ccc"(c), "+m"(mx)               \
                         : "x"(d), "x"(s), "m"(host_mxcsr));                          \
        finish(vp, i, mx, d, d, s, TINY_NONE);                                        \
        vp->status = (uint16_t)((z ? ST_ZF : 0) | (p ? ST_PF : 0) | (c ? ST_CF : 0)); \
    }
COMPARE(ucomiss, src32)
COMPARE(ucomisd, src64)
COMPARE(comiss, src32)
COMPARE(comisd, src64)

/* Scalar to general register. */
#define TO_GPR(name, src)                                                            \
    static void op_##name(struct soft_vp *vp, const struct insn *i)                  \
    {                                                                                \
        __m128i s = src(vp, i);                                                      \
        uint32_t mx = run_mxcsr(vp);                                                 \
        uint64_t r;                                                                  \
        if (is_wide(i))                                                              \
            __asm__ volatile("ldmxcsr %1\n" #name " %2, %0\nstmxcsr %1\nldmxcsr %3"  \
                             : "=&r"(r), "+m"(mx)                                    \
                             : "x"(s), "m"(host_mxcsr));                             \
        else                                                                         \
            __asm__ volatile("ldmxcsr %1\n" #name " %2, %k0\nstmxcsr %1\nldmxcsr %3" \
                             : "=&r"(r), "+m"(mx)                                    \
                             : "x"(s), "m"(host_mxcsr));                             \
        finish(vp, i, mx, s, s, s, TINY_NONE);                                       \
        vp->gpr[i->reg] = r;                                                         \
    }
TO_GPR(cvtss2si, src32)
TO_GPR(cvttss2si, src32)
TO_GPR(cvtsd2si, src64)
TO_GPR(cvttsd2si, src64)

/* General register or memory to scalar. */
#define FROM_GPR(name)                                                                \
    static void op_##name(struct soft_vp *vp, const struct insn *i)                   \
    {                                                                                 \
        uint64_t s = src_gpr(vp, i, is_wide(i));                                      \
        __m128i d = xmm_get(vp, i->reg);                                              \
        uint32_t mx = run_mxcsr(vp);                                                  \
        if (is_wide(i))                                                               \
            __asm__ volatile("ldmxcsr %1\n" #name "q %2, %0\nstmxcsr %1\nldmxcsr %3"  \
                             : "+&x"(d), "+m"(mx)                                     \
                             : "r"(s), "m"(host_mxcsr));                              \
        else                                                                          \
            __asm__ volatile("ldmxcsr %1\n" #name "l %k2, %0\nstmxcsr %1\nldmxcsr %3" \
                             : "+&x"(d), "+m"(mx)                                     \
                             : "r"(s), "m"(host_mxcsr));                              \
        finish(vp, i, mx, d, d, d, TINY_NONE);                                        \
        xmm_set(vp, i->reg, d);                                                       \
    }
FROM_GPR(cvtsi2ss)
FROM_GPR(cvtsi2sd)

/* Two MMX integers to floating point. With a memory operand the x87 state is left alone (AMD; Intel
 * says so of CVTPI2PD only). */
#define FROM_MMX(name)                                                          \
    static void op_##name(struct soft_vp *vp, const struct insn *i)             \
    {                                                                           \
        need_osfxsr(vp, i);                                                     \
        uint64_t v = mm_mem64(vp, i);                                           \
        if (!is_mem(i)) {                                                       \
            soft_mmx_enter(&vp->fx); /* even if #XM follows */                  \
            v = mm_get(vp, i->rm);                                              \
        }                                                                       \
        __m128i d = xmm_get(vp, i->reg);                                        \
        uint32_t mx = run_mxcsr(vp);                                            \
        __asm__ volatile("ldmxcsr %1\n" #name " %2, %0\nstmxcsr %1\nldmxcsr %3" \
                         : "+&x"(d), "+m"(mx)                                   \
                         : "m"(v), "m"(host_mxcsr));                            \
        __asm__ volatile("emms");                                               \
        finish(vp, i, mx, d, d, d, TINY_NONE);                                  \
        xmm_set(vp, i->reg, d);                                                 \
    }
FROM_MMX(cvtpi2ps)
FROM_MMX(cvtpi2pd)

#define TO_MMX(name, src)                                                            \
    static void op_##name(struct soft_vp *vp, const struct insn *i)                  \
    {                                                                                \
        need_osfxsr(vp, i);                                                          \
        __m128i s = src(vp, i);                                                      \
        uint32_t mx = run_mxcsr(vp);                                                 \
        uint64_t v;                                                                  \
        __asm__ volatile("ldmxcsr %1\n" #name " %2, %%mm0\nstmxcsr %1\nldmxcsr %3\n" \
                         "movq %%mm0, %0\nemms"                                      \
                         : "=m"(v), "+m"(mx)                                         \
                         : "x"(s), "m"(host_mxcsr));                                 \
        soft_mmx_enter(&vp->fx); /* even if #XM follows */                           \
        finish(vp, i, mx, s, s, s, TINY_NONE);                                       \
        mm_set(vp, i->reg, v);                                                       \
    }
TO_MMX(cvtps2pi, src64)
TO_MMX(cvttps2pi, src64)
TO_MMX(cvtpd2pi, src128)
TO_MMX(cvttpd2pi, src128)

/*
 * Operations with an immediate: 16-byte thunks "op $imm, %xmm1, %xmm0; ret", one for each value of
 * the immediate's meaningful low bits.
 */
#define IMM_THUNKS(name, values)                                      \
    __asm__(".section .text\n.balign 16\n"                            \
            "vec_fp_" #name ":\n.set i, 0\n.rept " #values "\n" #name \
            " $i, %xmm1, %xmm0\nret\n.balign 16, 0xcc\n"              \
            ".set i, i + 1\n.endr\n");                                \
    extern const uint8_t vec_fp_##name[values][16];

static inline __m128i call_fp(const uint8_t *thunk, __m128i d, __m128i s, uint32_t *mx)
{
    register __m128i x1 __asm__("xmm1") = s;
    __asm__ volatile("lea -128(%%rsp), %%rsp\nldmxcsr (%[mx])\ncall *%[thunk]\nstmxcsr (%[mx])\n"
                     "ldmxcsr (%[host])\nlea 128(%%rsp), %%rsp"
                     : [d] "+Yz"(d)
                     : [thunk] "r"(thunk), [mx] "r"(mx), [host] "r"(&host_mxcsr), "x"(x1)
                     : "memory");
    return d;
}

#define IMM_OP(name, prefix, map, opcode, values, src, needs, tiny)    \
    IMM_THUNKS(name, values)                                           \
    static void op_##name(struct soft_vp *vp, const struct insn *i)    \
    {                                                                  \
        __m128i s = src(vp, i), d = xmm_get(vp, i->reg);               \
        uint32_t mx = run_mxcsr(vp);                                   \
        d = call_fp(vec_fp_##name[i->imm8 & ((values)-1)], d, s, &mx); \
        finish(vp, i, mx, d, d, s, tiny);                              \
        xmm_set(vp, i->reg, d);                                        \
    }
#define FP_IMM_OPS(OP)                                           \
    OP(cmpps, NP, 0f, 0xc2, 8, src128, 0, TINY_NONE)             \
    OP(cmppd, 66, 0f, 0xc2, 8, src128, 0, TINY_NONE)             \
    OP(cmpss, F3, 0f, 0xc2, 8, src32, 0, TINY_NONE)              \
    OP(cmpsd, F2, 0f, 0xc2, 8, src64, 0, TINY_NONE)              \
    OP(roundps, 66, 3a, 0x08, 16, src128, NEED_SSE41, TINY_NONE) \
    OP(roundpd, 66, 3a, 0x09, 16, src128, NEED_SSE41, TINY_NONE) \
    OP(roundss, 66, 3a, 0x0a, 16, src32, NEED_SSE41, TINY_NONE)  \
    OP(roundsd, 66, 3a, 0x0b, 16, src64, NEED_SSE41, TINY_NONE)
FP_IMM_OPS(IMM_OP)

/*
 * Dot products. With unmasked exceptions each stage may end the instruction: the products of the
 * chosen lanes, then their sums in pairs, then the sum of those.
 */
IMM_THUNKS(dpps, 256)
IMM_THUNKS(dppd, 256)

#define STAGE(name)                                                                             \
    static __m128i stage_##name(struct soft_vp *vp, const struct insn *i, __m128i d, __m128i s, \
                                enum tiny tiny)                                                 \
    {                                                                                           \
        __m128i a = d;                                                                          \
        uint32_t mx = run_mxcsr(vp);                                                            \
        __asm__ volatile("ldmxcsr %1\n" #name " %2, %0\nstmxcsr %1\nldmxcsr %3"                 \
                         : "+&x"(d), "+m"(mx)                                                   \
                         : "x"(s), "m"(host_mxcsr));                                            \
        finish(vp, i, mx, d, a, s, tiny);                                                       \
        return d;                                                                               \
    }
STAGE(mulps)
STAGE(addps)
STAGE(mulpd)
STAGE(addsd)

static void dpps_stages(struct soft_vp *vp, const struct insn *i, __m128i d, __m128i s)
{
    vec128 a = {.v = d}, b = {.v = s};
    for (unsigned k = 0; k < 4; k++)
        if (!(i->imm8 >> (4 + k) & 1))
            a.d[k] = b.d[k] = 0;
    vec128 p = {.v = stage_mulps(vp, i, a.v, b.v, TINY_S4 | BY_MUL)};
    vec128 x = {.d = {p.d[0], p.d[2]}}, y = {.d = {p.d[1], p.d[3]}};
    vec128 t = {.v = stage_addps(vp, i, x.v, y.v, TINY_S2 | BY_ADD)};
    vec128 u = {.d = {t.d[0]}}, v = {.d = {t.d[1]}};
    stage_addps(vp, i, u.v, v.v, TINY_S1 | BY_ADD);
}

static void dppd_stages(struct soft_vp *vp, const struct insn *i, __m128i d, __m128i s)
{
    vec128 a = {.v = d}, b = {.v = s};
    for (unsigned k = 0; k < 2; k++)
        if (!(i->imm8 >> (4 + k) & 1))
            a.q[k] = b.q[k] = 0;
    vec128 p = {.v = stage_mulpd(vp, i, a.v, b.v, TINY_D2 | BY_MUL)};
    vec128 x = {.q = {p.q[0]}}, y = {.q = {p.q[1]}};
    stage_addsd(vp, i, x.v, y.v, TINY_D1 | BY_ADD);
}

#define DOT_OP(name)                                                \
    static void op_##name(struct soft_vp *vp, const struct insn *i) \
    {                                                               \
        __m128i s = src128(vp, i), d = xmm_get(vp, i->reg);         \
        uint32_t mx = run_mxcsr(vp);                                \
        if (!all_masked(vp->fx.mxcsr))                              \
            name##_stages(vp, i, d, s);                             \
        d = call_fp(vec_fp_##name[i->imm8], d, s, &mx);             \
        if (all_masked(vp->fx.mxcsr))                               \
            vp->fx.mxcsr = mx;                                      \
        xmm_set(vp, i->reg, d);                                     \
    }
DOT_OP(dpps)
DOT_OP(dppd)

#define PUT(name, prefix, opcode, src, needs, tiny) \
    vec_put(t0f, VEC_##prefix, opcode, op_##name, VEC_SSE, 0, needs);
#define PUT_IMM(name, prefix, map, opcode, values, src, needs, tiny) \
    vec_put(t##map, VEC_##prefix, opcode, op_##name, VEC_SSE, 1, needs);

void soft_vec_fill_fp(vec_table *t0f, vec_table *t38, vec_table *t3a)
{
    FP_OPS(PUT)
    FP_IMM_OPS(PUT_IMM)
    vec_put(t3a, VEC_66, 0x40, op_dpps, VEC_SSE, 1, NEED_SSE41);
    vec_put(t3a, VEC_66, 0x41, op_dppd, VEC_SSE, 1, NEED_SSE41);
    vec_put(t0f, VEC_NP, 0x2e, op_ucomiss, VEC_SSE, 0, 0);
    vec_put(t0f, VEC_66, 0x2e, op_ucomisd, VEC_SSE, 0, 0);
    vec_put(t0f, VEC_NP, 0x2f, op_comiss, VEC_SSE, 0, 0);
    vec_put(t0f, VEC_66, 0x2f, op_comisd, VEC_SSE, 0, 0);
    vec_put(t0f, VEC_F3, 0x2a, op_cvtsi2ss, VEC_SSE, 0, 0);
    vec_put(t0f, VEC_F2, 0x2a, op_cvtsi2sd, VEC_SSE, 0, 0);
    vec_put(t0f, VEC_F3, 0x2c, op_cvttss2si, VEC_SSE, 0, 0);
    vec_put(t0f, VEC_F2, 0x2c, op_cvttsd2si, VEC_SSE, 0, 0);
    vec_put(t0f, VEC_F3, 0x2d, op_cvtss2si, VEC_SSE, 0, 0);
    vec_put(t0f, VEC_F2, 0x2d, op_cvtsd2si, VEC_SSE, 0, 0);
    vec_put(t0f, VEC_NP, 0x2a, op_cvtpi2ps, VEC_MMX, 0, 0);
    vec_put(t0f, VEC_66, 0x2a, op_cvtpi2pd, VEC_MMX, 0, 0);
    vec_put(t0f, VEC_NP, 0x2c, op_cvttps2pi, VEC_MMX, 0, 0);
    vec_put(t0f, VEC_66, 0x2c, op_cvttpd2pi, VEC_MMX, 0, 0);
    vec_put(t0f, VEC_NP, 0x2d, op_cvtps2pi, VEC_MMX, 0, 0);
    vec_put(t0f, VEC_66, 0x2d, op_cvtpd2pi, VEC_MMX, 0, 0);
}
