/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Moves between XMM, MMX, general registers and memory; FXSAVE, FXRSTOR, LDMXCSR, STMXCSR. */
#include "core/hv/soft/vec-impl.h"

enum { MXCSR_LEGAL = 0xffff };

static void op_load_aligned(struct soft_vp *vp, const struct insn *i)
{
    xmm_set(vp, i->reg, src128(vp, i));
}

static void op_load_unaligned(struct soft_vp *vp, const struct insn *i)
{
    xmm_set(vp, i->reg, src128u(vp, i));
}

static void store(struct soft_vp *vp, const struct insn *i, bool aligned)
{
    if (is_mem(i) && aligned)
        soft_store128(vp, i, ea_aligned(vp, i, true), vp->fx.xmm[i->reg], true);
    else if (is_mem(i))
        soft_store128(vp, i, soft_ea(vp, i, 16, true), vp->fx.xmm[i->reg], false);
    else
        xmm_set(vp, i->rm, xmm_get(vp, i->reg));
}

static void op_store_aligned(struct soft_vp *vp, const struct insn *i)
{
    store(vp, i, true);
}

static void op_store_unaligned(struct soft_vp *vp, const struct insn *i)
{
    store(vp, i, false);
}

static uint64_t *quad(struct soft_vp *vp, unsigned reg, unsigned half)
{
    return (uint64_t *)(void *)vp->fx.xmm[reg] + half;
}

static void op_movss_load(struct soft_vp *vp, const struct insn *i)
{
    if (is_mem(i))
        xmm_set(vp, i->reg, src32(vp, i));
    else
        memcpy(vp->fx.xmm[i->reg], vp->fx.xmm[i->rm], 4);
}

static void op_movsd_load(struct soft_vp *vp, const struct insn *i)
{
    if (is_mem(i))
        xmm_set(vp, i->reg, src64(vp, i));
    else
        *quad(vp, i->reg, 0) = *quad(vp, i->rm, 0);
}

static void op_movss_store(struct soft_vp *vp, const struct insn *i)
{
    uint32_t v = (uint32_t)*quad(vp, i->reg, 0);
    if (is_mem(i))
        soft_store32(vp, i, soft_ea(vp, i, 4, true), v);
    else
        memcpy(vp->fx.xmm[i->rm], &v, 4);
}

static void op_movsd_store(struct soft_vp *vp, const struct insn *i)
{
    uint64_t v = *quad(vp, i->reg, 0);
    if (is_mem(i))
        soft_store64(vp, i, soft_ea(vp, i, 8, true), v);
    else
        *quad(vp, i->rm, 0) = v;
}

/* MOVLPS, MOVLPD, MOVHLPS. */
static void op_movlp_load(struct soft_vp *vp, const struct insn *i)
{
    *quad(vp, i->reg, 0) =
        is_mem(i) ? soft_load64(vp, i, soft_ea(vp, i, 8, false)) : *quad(vp, i->rm, 1);
}

/* MOVHPS, MOVHPD, MOVLHPS. */
static void op_movhp_load(struct soft_vp *vp, const struct insn *i)
{
    *quad(vp, i->reg, 1) =
        is_mem(i) ? soft_load64(vp, i, soft_ea(vp, i, 8, false)) : *quad(vp, i->rm, 0);
}

static void op_movlp_store(struct soft_vp *vp, const struct insn *i)
{
    soft_store64(vp, i, soft_ea(vp, i, 8, true), *quad(vp, i->reg, 0));
}

static void op_movhp_store(struct soft_vp *vp, const struct insn *i)
{
    soft_store64(vp, i, soft_ea(vp, i, 8, true), *quad(vp, i->reg, 1));
}

/* MOVD, MOVQ xmm, r/m. */
static void op_movd_to_xmm(struct soft_vp *vp, const struct insn *i)
{
    xmm_set(vp, i->reg, _mm_cvtsi64_si128((long long)src_gpr(vp, i, is_wide(i))));
}

static void put_gpr(struct soft_vp *vp, const struct insn *i, uint64_t v)
{
    if (!is_mem(i))
        vp->gpr[i->rm] = is_wide(i) ? v : (uint32_t)v;
    else if (is_wide(i))
        soft_store64(vp, i, soft_ea(vp, i, 8, true), v);
    else
        soft_store32(vp, i, soft_ea(vp, i, 4, true), (uint32_t)v);
}

static void op_movd_from_xmm(struct soft_vp *vp, const struct insn *i)
{
    put_gpr(vp, i, *quad(vp, i->reg, 0));
}

/* MOVQ xmm, xmm/m64 clears the upper half; so does the register form of the store. */
static void op_movq_load(struct soft_vp *vp, const struct insn *i)
{
    xmm_set(vp, i->reg, _mm_move_epi64(src64(vp, i)));
}

static void op_movq_store(struct soft_vp *vp, const struct insn *i)
{
    if (is_mem(i))
        op_movlp_store(vp, i);
    else
        xmm_set(vp, i->rm, _mm_move_epi64(xmm_get(vp, i->reg)));
}

static void op_movnti(struct soft_vp *vp, const struct insn *i)
{
    if (is_wide(i))
        soft_store64(vp, i, soft_ea(vp, i, 8, true), vp->gpr[i->reg]);
    else
        soft_store32(vp, i, soft_ea(vp, i, 4, true), (uint32_t)vp->gpr[i->reg]);
}

/* Writes the bytes of `v` whose mask byte has its top bit set, at rDI, which the decoder has made
 * the memory operand. All n bytes must be writable, as AMD has it. */
static void masked_store(struct soft_vp *vp, const struct insn *i, const uint8_t *v,
                         const uint8_t *mask, unsigned n)
{
    struct insn at = *i;
    soft_probe_write(vp, i, soft_ea(vp, i, n, true), n);
    for (unsigned k = 0; k < n; k++)
        if (mask[k] & 0x80) {
            at.disp = (int32_t)k;
            soft_store8(vp, i, soft_ea(vp, &at, 1, true), v[k]);
        }
}

static void op_maskmovdqu(struct soft_vp *vp, const struct insn *i)
{
    masked_store(vp, i, vp->fx.xmm[i->reg], vp->fx.xmm[i->rm], 16);
}

static void op_maskmovq(struct soft_vp *vp, const struct insn *i)
{
    soft_mmx_enter(&vp->fx); /* even if a fault follows */
    masked_store(vp, i, vp->fx.st[i->reg & 7], vp->fx.st[i->rm & 7], 8);
}

/* ---- MMX ---- */

static void op_mm_movd_load(struct soft_vp *vp, const struct insn *i)
{
    uint64_t v = src_gpr(vp, i, is_wide(i));
    soft_mmx_enter(&vp->fx);
    mm_set(vp, i->reg, v);
}

/* A store from an MMX register: the store may fault, so the register is read where it is now. */
static uint64_t mm_peek(const struct soft_vp *vp, unsigned n)
{
    unsigned top = vp->fx.fsw >> 11 & 7;
    return mm_get(vp, n - top);
}

static void op_mm_movd_store(struct soft_vp *vp, const struct insn *i)
{
    put_gpr(vp, i, mm_peek(vp, i->reg));
    soft_mmx_enter(&vp->fx);
}

static void op_mm_movq_load(struct soft_vp *vp, const struct insn *i)
{
    uint64_t v = mm_mem64(vp, i);
    soft_mmx_enter(&vp->fx);
    mm_set(vp, i->reg, is_mem(i) ? v : mm_get(vp, i->rm));
}

static void op_mm_movq_store(struct soft_vp *vp, const struct insn *i)
{
    if (is_mem(i))
        soft_store64(vp, i, soft_ea(vp, i, 8, true), mm_peek(vp, i->reg));
    soft_mmx_enter(&vp->fx);
    if (!is_mem(i))
        mm_set(vp, i->rm, mm_get(vp, i->reg));
}

static void op_movq2dq(struct soft_vp *vp, const struct insn *i)
{
    need_osfxsr(vp, i);
    soft_mmx_enter(&vp->fx);
    xmm_set(vp, i->reg, _mm_cvtsi64_si128((long long)mm_get(vp, i->rm)));
}

static void op_movdq2q(struct soft_vp *vp, const struct insn *i)
{
    need_osfxsr(vp, i);
    soft_mmx_enter(&vp->fx);
    mm_set(vp, i->reg, *quad(vp, i->rm, 0));
}

static void op_emms(struct soft_vp *vp, const struct insn *i)
{
    soft_mmx_enter(&vp->fx);
    vp->fx.ftw = 0;
}

/* ---- state ---- */

static void op_ldmxcsr(struct soft_vp *vp, const struct insn *i)
{
    uint32_t v = soft_load32(vp, i, soft_ea(vp, i, 4, false));
    if (v & ~(uint32_t)MXCSR_LEGAL)
        soft_raise_error(vp, i, EXC_GP, 0);
    vp->fx.mxcsr = v;
}

static void op_stmxcsr(struct soft_vp *vp, const struct insn *i)
{
    soft_store32(vp, i, soft_ea(vp, i, 4, true), vp->fx.mxcsr);
}

/* How much of the image this FXSAVE or FXRSTOR concerns: XMM8-15 in 64-bit code only; no XMM at
 * all with fast FXSAVE (AMD APM vol. 2, 11.4.4). */
static unsigned fx_bytes(const struct soft_vp *vp)
{
    bool fast = (vp->efer & EFER_FFXSR) && vp->code == SOFT_MODE64 && vp->cpl == 0;
    return fast || !(vp->cr4 & CR4_OSFXSR) ? 160 : vp->code == SOFT_MODE64 ? 416 : 288;
}

static uint64_t fx_address(struct soft_vp *vp, const struct insn *i, bool write)
{
    uint64_t lin = soft_ea(vp, i, 512, write);
    if (lin & 15)
        soft_raise_error(vp, i, EXC_GP, 0);
    return lin;
}

static void op_fxsave(struct soft_vp *vp, const struct insn *i)
{
    uint64_t lin = fx_address(vp, i, true);
    struct soft_fx fx = vp->fx;
    fx.reserved0 = 0;
    fx.mxcsr_mask = MXCSR_LEGAL;
    fx.fop &= 0x7ff;
    if (vp->code != SOFT_MODE64 || !is_wide(i)) { /* 32-bit pointers; segments are not kept */
        fx.fip = (uint32_t)fx.fip;
        fx.fdp = (uint32_t)fx.fdp;
    }
    soft_probe_write(vp, i, lin, 512);
    soft_write(vp, i, lin, &fx, fx_bytes(vp));
}

static void op_fxrstor(struct soft_vp *vp, const struct insn *i)
{
    uint64_t lin = fx_address(vp, i, false);
    struct soft_fx fx;
    soft_read(vp, i, lin, &fx, sizeof(fx));
    unsigned n = fx_bytes(vp);
    if (n > 160 && (fx.mxcsr & ~(uint32_t)MXCSR_LEGAL))
        soft_raise_error(vp, i, EXC_GP, 0);
    uint32_t mxcsr = vp->fx.mxcsr;
    memcpy(&vp->fx, &fx, n);
    if (n == 160)
        vp->fx.mxcsr = mxcsr;
    soft_fx_normalize(&vp->fx);
}

void soft_vec_fill_move(vec_table *t0f, vec_table *t38, vec_table *t3a)
{
    static const struct {
        uint8_t prefix, opcode;
        insn_fn *fn;
        uint8_t cls, form;
    } ops[] = {
        {VEC_NP, 0x10, op_load_unaligned, VEC_SSE, 0},
        {VEC_66, 0x10, op_load_unaligned, VEC_SSE, 0},
        {VEC_F3, 0x10, op_movss_load, VEC_SSE, 0},
        {VEC_F2, 0x10, op_movsd_load, VEC_SSE, 0},
        {VEC_NP, 0x11, op_store_unaligned, VEC_SSE, 0},
        {VEC_66, 0x11, op_store_unaligned, VEC_SSE, 0},
        {VEC_F3, 0x11, op_movss_store, VEC_SSE, 0},
        {VEC_F2, 0x11, op_movsd_store, VEC_SSE, 0},
        {VEC_NP, 0x12, op_movlp_load, VEC_SSE, 0},
        {VEC_66, 0x12, op_movlp_load, VEC_SSE, FORM_MEM},
        {VEC_NP, 0x13, op_movlp_store, VEC_SSE, FORM_MEM},
        {VEC_66, 0x13, op_movlp_store, VEC_SSE, FORM_MEM},
        {VEC_NP, 0x16, op_movhp_load, VEC_SSE, 0},
        {VEC_66, 0x16, op_movhp_load, VEC_SSE, FORM_MEM},
        {VEC_NP, 0x17, op_movhp_store, VEC_SSE, FORM_MEM},
        {VEC_66, 0x17, op_movhp_store, VEC_SSE, FORM_MEM},
        {VEC_NP, 0x28, op_load_aligned, VEC_SSE, 0},
        {VEC_66, 0x28, op_load_aligned, VEC_SSE, 0},
        {VEC_NP, 0x29, op_store_aligned, VEC_SSE, 0},
        {VEC_66, 0x29, op_store_aligned, VEC_SSE, 0},
        {VEC_NP, 0x2b, op_store_aligned, VEC_SSE, FORM_MEM},
        {VEC_66, 0x2b, op_store_aligned, VEC_SSE, FORM_MEM},
        {VEC_66, 0x6e, op_movd_to_xmm, VEC_SSE, 0},
        {VEC_66, 0x7e, op_movd_from_xmm, VEC_SSE, 0},
        {VEC_F3, 0x7e, op_movq_load, VEC_SSE, 0},
        {VEC_66, 0xd6, op_movq_store, VEC_SSE, 0},
        {VEC_66, 0x6f, op_load_aligned, VEC_SSE, 0},
        {VEC_F3, 0x6f, op_load_unaligned, VEC_SSE, 0},
        {VEC_66, 0x7f, op_store_aligned, VEC_SSE, 0},
        {VEC_F3, 0x7f, op_store_unaligned, VEC_SSE, 0},
        {VEC_66, 0xe7, op_store_aligned, VEC_SSE, FORM_MEM},
        {VEC_F2, 0xf0, op_load_unaligned, VEC_SSE, FORM_MEM | NEED_SSE3},
        {VEC_66, 0xf7, op_maskmovdqu, VEC_SSE, FORM_REG},
        {VEC_NP, 0xc3, op_movnti, VEC_PLAIN, FORM_MEM},
        {VEC_NP, 0x6e, op_mm_movd_load, VEC_MMX, 0},
        {VEC_NP, 0x7e, op_mm_movd_store, VEC_MMX, 0},
        {VEC_NP, 0x6f, op_mm_movq_load, VEC_MMX, 0},
        {VEC_NP, 0x7f, op_mm_movq_store, VEC_MMX, 0},
        {VEC_NP, 0xe7, op_mm_movq_store, VEC_MMX, FORM_MEM},
        {VEC_NP, 0xf7, op_maskmovq, VEC_MMX, FORM_REG},
        {VEC_F3, 0xd6, op_movq2dq, VEC_MMX, FORM_REG},
        {VEC_F2, 0xd6, op_movdq2q, VEC_MMX, FORM_REG},
        {VEC_NP, 0x77, op_emms, VEC_MMX, 0},
    };
    for (size_t k = 0; k < sizeof(ops) / sizeof(ops[0]); k++)
        vec_put(t0f, ops[k].prefix, ops[k].opcode, ops[k].fn, ops[k].cls, 0, ops[k].form);
    vec_put(t38, VEC_66, 0x2a, op_load_aligned, VEC_SSE, 0, FORM_MEM | NEED_SSE41);
}

const struct vec_op *soft_vec_group15(uint8_t modrm)
{
    static const struct vec_op ops[4] = {{op_fxsave, VEC_FXSR, 0},
                                         {op_fxrstor, VEC_FXSR, 0},
                                         {op_ldmxcsr, VEC_SSE, 0},
                                         {op_stmxcsr, VEC_SSE, 0}};
    unsigned reg = modrm >> 3 & 7;
    return modrm < 0xc0 && reg < 4 ? &ops[reg] : NULL;
}
