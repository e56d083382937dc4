/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Packed integer and logical operations on XMM registers: xmm op= xmm/m128, the host's own
 * instruction each. Source: Intel SDM vol. 2. */
#include "core/hv/soft/vec-impl.h"

/* OP(name, prefix, opcode, source, needs): dst = dst op src. */
#define INT_OPS_0F(OP)                        \
    OP(unpcklps, NP, 0x14, src128, 0)         \
    OP(unpcklpd, 66, 0x14, src128, 0)         \
    OP(unpckhps, NP, 0x15, src128, 0)         \
    OP(unpckhpd, 66, 0x15, src128, 0)         \
    OP(andps, NP, 0x54, src128, 0)            \
    OP(andpd, 66, 0x54, src128, 0)            \
    OP(andnps, NP, 0x55, src128, 0)           \
    OP(andnpd, 66, 0x55, src128, 0)           \
    OP(orps, NP, 0x56, src128, 0)             \
    OP(orpd, 66, 0x56, src128, 0)             \
    OP(xorps, NP, 0x57, src128, 0)            \
    OP(xorpd, 66, 0x57, src128, 0)            \
    OP(punpcklbw, 66, 0x60, src128, 0)        \
    OP(punpcklwd, 66, 0x61, src128, 0)        \
    OP(punpckldq, 66, 0x62, src128, 0)        \
    OP(packsswb, 66, 0x63, src128, 0)         \
    OP(pcmpgtb, 66, 0x64, src128, 0)          \
    OP(pcmpgtw, 66, 0x65, src128, 0)          \
    OP(pcmpgtd, 66, 0x66, src128, 0)          \
    OP(packuswb, 66, 0x67, src128, 0)         \
    OP(punpckhbw, 66, 0x68, src128, 0)        \
    OP(punpckhwd, 66, 0x69, src128, 0)        \
    OP(punpckhdq, 66, 0x6a, src128, 0)        \
    OP(packssdw, 66, 0x6b, src128, 0)         \
    OP(punpcklqdq, 66, 0x6c, src128, 0)       \
    OP(punpckhqdq, 66, 0x6d, src128, 0)       \
    OP(pcmpeqb, 66, 0x74, src128, 0)          \
    OP(pcmpeqw, 66, 0x75, src128, 0)          \
    OP(pcmpeqd, 66, 0x76, src128, 0)          \
    OP(psrlw, 66, 0xd1, src128, 0)            \
    OP(psrld, 66, 0xd2, src128, 0)            \
    OP(psrlq, 66, 0xd3, src128, 0)            \
    OP(paddq, 66, 0xd4, src128, 0)            \
    OP(pmullw, 66, 0xd5, src128, 0)           \
    OP(psubusb, 66, 0xd8, src128, 0)          \
    OP(psubusw, 66, 0xd9, src128, 0)          \
    OP(pminub, 66, 0xda, src128, 0)           \
    OP(pand, 66, 0xdb, src128, 0)             \
    OP(paddusb, 66, 0xdc, src128, 0)          \
    OP(paddusw, 66, 0xdd, src128, 0)          \
    OP(pmaxub, 66, 0xde, src128, 0)           \
    OP(pandn, 66, 0xdf, src128, 0)            \
    OP(pavgb, 66, 0xe0, src128, 0)            \
    OP(psraw, 66, 0xe1, src128, 0)            \
    OP(psrad, 66, 0xe2, src128, 0)            \
    OP(pavgw, 66, 0xe3, src128, 0)            \
    OP(pmulhuw, 66, 0xe4, src128, 0)          \
    OP(pmulhw, 66, 0xe5, src128, 0)           \
    OP(psubsb, 66, 0xe8, src128, 0)           \
    OP(psubsw, 66, 0xe9, src128, 0)           \
    OP(pminsw, 66, 0xea, src128, 0)           \
    OP(por, 66, 0xeb, src128, 0)              \
    OP(paddsb, 66, 0xec, src128, 0)           \
    OP(paddsw, 66, 0xed, src128, 0)           \
    OP(pmaxsw, 66, 0xee, src128, 0)           \
    OP(pxor, 66, 0xef, src128, 0)             \
    OP(psllw, 66, 0xf1, src128, 0)            \
    OP(pslld, 66, 0xf2, src128, 0)            \
    OP(psllq, 66, 0xf3, src128, 0)            \
    OP(pmuludq, 66, 0xf4, src128, 0)          \
    OP(pmaddwd, 66, 0xf5, src128, 0)          \
    OP(psadbw, 66, 0xf6, src128, 0)           \
    OP(psubb, 66, 0xf8, src128, 0)            \
    OP(psubw, 66, 0xf9, src128, 0)            \
    OP(psubd, 66, 0xfa, src128, 0)            \
    OP(psubq, 66, 0xfb, src128, 0)            \
    OP(paddb, 66, 0xfc, src128, 0)            \
    OP(paddw, 66, 0xfd, src128, 0)            \
    OP(paddd, 66, 0xfe, src128, 0)            \
    OP(movsldup, F3, 0x12, src128, NEED_SSE3) \
    OP(movshdup, F3, 0x16, src128, NEED_SSE3) \
    OP(movddup, F2, 0x12, src64, NEED_SSE3)

#define INT_OPS_38(OP)                           \
    OP(pshufb, 66, 0x00, src128, NEED_SSSE3)     \
    OP(phaddw, 66, 0x01, src128, NEED_SSSE3)     \
    OP(phaddd, 66, 0x02, src128, NEED_SSSE3)     \
    OP(phaddsw, 66, 0x03, src128, NEED_SSSE3)    \
    OP(pmaddubsw, 66, 0x04, src128, NEED_SSSE3)  \
    OP(phsubw, 66, 0x05, src128, NEED_SSSE3)     \
    OP(phsubd, 66, 0x06, src128, NEED_SSSE3)     \
    OP(phsubsw, 66, 0x07, src128, NEED_SSSE3)    \
    OP(psignb, 66, 0x08, src128, NEED_SSSE3)     \
    OP(psignw, 66, 0x09, src128, NEED_SSSE3)     \
    OP(psignd, 66, 0x0a, src128, NEED_SSSE3)     \
    OP(pmulhrsw, 66, 0x0b, src128, NEED_SSSE3)   \
    OP(pabsb, 66, 0x1c, src128, NEED_SSSE3)      \
    OP(pabsw, 66, 0x1d, src128, NEED_SSSE3)      \
    OP(pabsd, 66, 0x1e, src128, NEED_SSSE3)      \
    OP(pmovsxbw, 66, 0x20, src64, NEED_SSE41)    \
    OP(pmovsxbd, 66, 0x21, src32, NEED_SSE41)    \
    OP(pmovsxbq, 66, 0x22, src16, NEED_SSE41)    \
    OP(pmovsxwd, 66, 0x23, src64, NEED_SSE41)    \
    OP(pmovsxwq, 66, 0x24, src32, NEED_SSE41)    \
    OP(pmovsxdq, 66, 0x25, src64, NEED_SSE41)    \
    OP(pmuldq, 66, 0x28, src128, NEED_SSE41)     \
    OP(pcmpeqq, 66, 0x29, src128, NEED_SSE41)    \
    OP(packusdw, 66, 0x2b, src128, NEED_SSE41)   \
    OP(pmovzxbw, 66, 0x30, src64, NEED_SSE41)    \
    OP(pmovzxbd, 66, 0x31, src32, NEED_SSE41)    \
    OP(pmovzxbq, 66, 0x32, src16, NEED_SSE41)    \
    OP(pmovzxwd, 66, 0x33, src64, NEED_SSE41)    \
    OP(pmovzxwq, 66, 0x34, src32, NEED_SSE41)    \
    OP(pmovzxdq, 66, 0x35, src64, NEED_SSE41)    \
    OP(pcmpgtq, 66, 0x37, src128, NEED_SSE42)    \
    OP(pminsb, 66, 0x38, src128, NEED_SSE41)     \
    OP(pminsd, 66, 0x39, src128, NEED_SSE41)     \
    OP(pminuw, 66, 0x3a, src128, NEED_SSE41)     \
    OP(pminud, 66, 0x3b, src128, NEED_SSE41)     \
    OP(pmaxsb, 66, 0x3c, src128, NEED_SSE41)     \
    OP(pmaxsd, 66, 0x3d, src128, NEED_SSE41)     \
    OP(pmaxuw, 66, 0x3e, src128, NEED_SSE41)     \
    OP(pmaxud, 66, 0x3f, src128, NEED_SSE41)     \
    OP(pmulld, 66, 0x40, src128, NEED_SSE41)     \
    OP(phminposuw, 66, 0x41, src128, NEED_SSE41) \
    OP(aesimc, 66, 0xdb, src128, NEED_AES)       \
    OP(aesenc, 66, 0xdc, src128, NEED_AES)       \
    OP(aesenclast, 66, 0xdd, src128, NEED_AES)   \
    OP(aesdec, 66, 0xde, src128, NEED_AES)       \
    OP(aesdeclast, 66, 0xdf, src128, NEED_AES)

#define DEFINE(name, prefix, opcode, src, needs)                    \
    static void op_##name(struct soft_vp *vp, const struct insn *i) \
    {                                                               \
        __m128i s = src(vp, i), d = xmm_get(vp, i->reg);            \
        __asm__(#name " %1, %0" : "+x"(d) : "x"(s));                \
        xmm_set(vp, i->reg, d);                                     \
    }
INT_OPS_0F(DEFINE)
INT_OPS_38(DEFINE)

/* XMM0 is the implicit mask. */
#define DEFINE_BLEND(name)                                            \
    static void op_##name(struct soft_vp *vp, const struct insn *i)   \
    {                                                                 \
        __m128i s = src128(vp, i), d = xmm_get(vp, i->reg);           \
        __m128i m = xmm_get(vp, 0);                                   \
        __asm__(#name " %%xmm0, %1, %0" : "+x"(d) : "x"(s), "Yz"(m)); \
        xmm_set(vp, i->reg, d);                                       \
    }
DEFINE_BLEND(pblendvb)
DEFINE_BLEND(blendvps)
DEFINE_BLEND(blendvpd)

static void op_ptest(struct soft_vp *vp, const struct insn *i)
{
    __m128i s = src128(vp, i), d = xmm_get(vp, i->reg);
    bool z, c;
    __asm__("ptest %3, %2" : "=@ccz"(z), "=@ccc"(c) : "x"(d), "x"(s));
    vp->status = (uint16_t)((z ? ST_ZF : 0) | (c ? ST_CF : 0));
}

static void op_pmovmskb(struct soft_vp *vp, const struct insn *i)
{
    vp->gpr[i->reg] = (uint32_t)_mm_movemask_epi8(xmm_get(vp, i->rm));
}

static void op_movmskps(struct soft_vp *vp, const struct insn *i)
{
    vp->gpr[i->reg] = (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(xmm_get(vp, i->rm)));
}

static void op_movmskpd(struct soft_vp *vp, const struct insn *i)
{
    vp->gpr[i->reg] = (uint32_t)_mm_movemask_pd(_mm_castsi128_pd(xmm_get(vp, i->rm)));
}

#define PUT_0F(name, prefix, opcode, src, needs) \
    vec_put(t0f, VEC_##prefix, opcode, op_##name, VEC_SSE, 0, needs);
#define PUT_38(name, prefix, opcode, src, needs) \
    vec_put(t38, VEC_##prefix, opcode, op_##name, VEC_SSE, 0, needs);

void soft_vec_fill_int(vec_table *t0f, vec_table *t38, vec_table *t3a)
{
    INT_OPS_0F(PUT_0F)
    INT_OPS_38(PUT_38)
    vec_put(t38, VEC_66, 0x10, op_pblendvb, VEC_SSE, 0, NEED_SSE41);
    vec_put(t38, VEC_66, 0x14, op_blendvps, VEC_SSE, 0, NEED_SSE41);
    vec_put(t38, VEC_66, 0x15, op_blendvpd, VEC_SSE, 0, NEED_SSE41);
    vec_put(t38, VEC_66, 0x17, op_ptest, VEC_SSE, 0, NEED_SSE41);
    vec_put(t0f, VEC_66, 0xd7, op_pmovmskb, VEC_SSE, 0, FORM_REG);
    vec_put(t0f, VEC_NP, 0x50, op_movmskps, VEC_SSE, 0, FORM_REG);
    vec_put(t0f, VEC_66, 0x50, op_movmskpd, VEC_SSE, 0, FORM_REG);
}
