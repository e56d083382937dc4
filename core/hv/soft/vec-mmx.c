/* SPDX-License-Identifier: GPL-3.0-or-later */
/* MMX arithmetic by the host's own MMX instructions. The 64-bit registers are the significands of
 * the x87 registers. Source: Intel SDM vol. 1, chapter 9. */
#include "core/hv/soft/vec-impl.h"

/* mm op= mm/m64; PUNPCKL* with memory read 32 bits. */
#define MMX_OPS_0F(OP)                                                                           \
    OP(packsswb, 0x63)                                                                           \
    OP(pcmpgtb, 0x64)                                                                            \
    OP(pcmpgtw, 0x65)                                                                            \
    OP(pcmpgtd, 0x66) OP(packuswb, 0x67) OP(punpckhbw, 0x68) OP(punpckhwd, 0x69)                 \
        OP(punpckhdq, 0x6a) OP(packssdw, 0x6b) OP(pcmpeqb, 0x74) OP(pcmpeqw, 0x75)               \
            OP(pcmpeqd, 0x76) OP(psrlw, 0xd1) OP(psrld, 0xd2) OP(psrlq, 0xd3) OP(paddq, 0xd4)    \
                OP(pmullw, 0xd5) OP(psubusb, 0xd8) OP(psubusw, 0xd9) OP(pminub, 0xda)            \
                    OP(pand, 0xdb) OP(paddusb, 0xdc) OP(paddusw, 0xdd) OP(pmaxub, 0xde)          \
                        OP(pandn, 0xdf) OP(pavgb, 0xe0) OP(psraw, 0xe1) OP(psrad, 0xe2)          \
                            OP(pavgw, 0xe3) OP(pmulhuw, 0xe4) OP(pmulhw, 0xe5) OP(psubsb, 0xe8)  \
                                OP(psubsw, 0xe9) OP(pminsw, 0xea) OP(por, 0xeb) OP(paddsb, 0xec) \
                                    OP(paddsw, 0xed) OP(pmaxsw, 0xee) OP(pxor, 0xef)             \
                                        OP(psllw, 0xf1) OP(pslld, 0xf2) OP(psllq, 0xf3)          \
                                            OP(pmuludq, 0xf4) OP(pmaddwd, 0xf5) OP(psadbw, 0xf6) \
                                                OP(psubb, 0xf8) OP(psubw, 0xf9) OP(psubd, 0xfa)  \
                                                    OP(psubq, 0xfb) OP(paddb, 0xfc)              \
                                                        OP(paddw, 0xfd) OP(paddd, 0xfe)
#define MMX_OPS_38(OP)                                                                        \
    OP(pshufb, 0x00)                                                                          \
    OP(phaddw, 0x01)                                                                          \
    OP(phaddd, 0x02)                                                                          \
    OP(phaddsw, 0x03) OP(pmaddubsw, 0x04) OP(phsubw, 0x05) OP(phsubd, 0x06) OP(phsubsw, 0x07) \
        OP(psignb, 0x08) OP(psignw, 0x09) OP(psignd, 0x0a) OP(pmulhrsw, 0x0b) OP(pabsb, 0x1c) \
            OP(pabsw, 0x1d) OP(pabsd, 0x1e)
#define MMX_OPS_LOW(OP) OP(punpcklbw, 0x60) OP(punpcklwd, 0x61) OP(punpckldq, 0x62)

#define RUN(name)                                                                \
    soft_mmx_enter(&vp->fx);                                                     \
    if (!is_mem(i))                                                              \
        s = mm_get(vp, i->rm);                                                   \
    uint64_t d = mm_get(vp, i->reg);                                             \
    __asm__ volatile("movq %0, %%mm0\n" #name " %1, %%mm0\nmovq %%mm0, %0\nemms" \
                     : "+m"(d)                                                   \
                     : "m"(s));                                                  \
    mm_set(vp, i->reg, d);
#define DEFINE(name, opcode)                                        \
    static void op_##name(struct soft_vp *vp, const struct insn *i) \
    {                                                               \
        uint64_t s = mm_mem64(vp, i);                               \
        RUN(name)                                                   \
    }
#define DEFINE_LOW(name, opcode)                                                   \
    static void op_##name(struct soft_vp *vp, const struct insn *i)                \
    {                                                                              \
        uint64_t s = is_mem(i) ? soft_load32(vp, i, soft_ea(vp, i, 4, false)) : 0; \
        RUN(name)                                                                  \
    }
MMX_OPS_0F(DEFINE)
MMX_OPS_38(DEFINE)
MMX_OPS_LOW(DEFINE_LOW)

static void op_pmovmskb(struct soft_vp *vp, const struct insn *i)
{
    soft_mmx_enter(&vp->fx);
    __m128i v = _mm_cvtsi64_si128((long long)mm_get(vp, i->rm));
    vp->gpr[i->reg] = (uint32_t)_mm_movemask_epi8(v);
}

#define PUT_0F(name, opcode) vec_put(t0f, VEC_NP, opcode, op_##name, VEC_MMX, 0, 0);
#define PUT_38(name, opcode) vec_put(t38, VEC_NP, opcode, op_##name, VEC_MMX, 0, NEED_SSSE3);

void soft_vec_fill_mmx(vec_table *t0f, vec_table *t38, vec_table *t3a)
{
    MMX_OPS_0F(PUT_0F)
    MMX_OPS_LOW(PUT_0F)
    MMX_OPS_38(PUT_38)
    vec_put(t0f, VEC_NP, 0xd7, op_pmovmskb, VEC_MMX, 0, FORM_REG);
}
