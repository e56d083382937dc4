/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The instruction decoder, all code sizes. Source: SDM vol. 2, chapter 2 and appendix A. Every
 * encoding that the CPU model does not have becomes soft_op_ud, found when it is run.
 */
#include <string.h>

#include "core/hv/soft/decode-int.h"

static void alu(struct dec *d, uint8_t op)
{
    unsigned k = op >> 3 & 7, size = dec_size_of(d, op);
    switch (op & 7) {
    case 0:
    case 1:
        dec_modrm(d);
        dec_form_eg(d, size, soft_alu_rr[k][size], soft_alu_mr[k][size]);
        dec_lock_forms(d, soft_alu_mr_lock[k][size]);
        break;
    case 2:
    case 3:
        dec_modrm(d);
        dec_form_ge(d, size, soft_alu_rr[k][size], soft_alu_rm[k][size]);
        break;
    default:
        d->out->reg = 0;
        d->out->imm = size ? dec_imm_z(d) : dec_imm_b(d);
        dec_set(d, soft_alu_ri[k][size]);
    }
}

static void group1(struct dec *d, uint8_t op)
{
    unsigned size = dec_size_of(d, op);
    dec_modrm(d);
    unsigned k = d->regf & 7;
    d->out->imm = op == 0x81 ? dec_imm_z(d) : dec_imm_b(d);
    d->out->reg = dec_reg_off(d, d->rmf, size);
    dec_set(d, dec_mem(d) ? soft_alu_mi[k][size] : soft_alu_ri[k][size]);
    dec_lock_forms(d, soft_alu_mi_lock[k][size]);
}

static void shift_group(struct dec *d, uint8_t op)
{
    unsigned size = dec_size_of(d, op);
    dec_modrm(d);
    unsigned k = d->regf & 7;
    dec_regs(d, size);
    if (op >= 0xd2) {
        dec_set(d, dec_mem(d) ? soft_sh_mc[k][size] : soft_sh_rc[k][size]);
        return;
    }
    unsigned n = (op >= 0xd0 ? 1u : dec_get8(d)) & (size == 3 ? 63 : 31);
    d->out->imm8 = (uint8_t)n;
    if (n)
        dec_set(d, dec_mem(d) ? soft_sh_mi[k][size] : soft_sh_ri[k][size]);
    else if (dec_mem(d)) /* the access is made, nothing changes */
        dec_set(d, soft_touch[size]);
    else
        dec_set(d, size == 2 ? soft_op_zero_upper : soft_op_nop);
}

static void group3(struct dec *d, uint8_t op)
{
    unsigned size = dec_size_of(d, op);
    dec_modrm(d);
    unsigned k = d->regf & 7;
    dec_regs(d, size);
    if (k < 2) {
        d->out->imm = size ? dec_imm_z(d) : dec_imm_b(d);
        d->out->reg = d->out->rm;
        dec_set(d, dec_mem(d) ? soft_alu_mi[ALU_TEST][size] : soft_alu_ri[ALU_TEST][size]);
    } else if (k < 4) {
        dec_set(d, dec_mem(d) ? soft_un_m[k][size] : soft_un_r[k][size]);
        dec_lock_forms(d, soft_un_m_lock[k][size]);
    } else {
        dec_set(d, dec_mem(d) ? soft_mul_m[k - 4][size] : soft_mul_r[k - 4][size]);
    }
}

static void group5(struct dec *d, uint8_t op)
{
    unsigned size = dec_size_of(d, op);
    dec_modrm(d);
    unsigned k = d->regf & 7;
    if (k < 2) {
        dec_regs(d, size);
        dec_set(d, dec_mem(d) ? soft_un_m[k][size] : soft_un_r[k][size]);
        dec_lock_forms(d, soft_un_m_lock[k][size]);
        return;
    }
    if (!size || k == 7) {
        dec_ud(d);
        return;
    }
    unsigned bs = dec_branch_size(d);
    dec_regs(d, 3);
    switch (k) {
    case 2:
        d->out->imm8 = bs == 1;
        dec_set_end(d, dec_mem(d) ? soft_call_m[bs] : soft_call_r[bs]);
        break;
    case 4:
        d->out->imm8 = bs == 1;
        dec_set_end(d, dec_mem(d) ? soft_jmp_m[bs] : soft_jmp_r[bs]);
        break;
    case 3:
    case 5:
        dec_mark_size(d, d->osize);
        dec_set_end(d, !dec_mem(d) ? NULL : k == 3 ? soft_op_far_call_m : soft_op_far_jmp_m);
        break;
    default: dec_set(d, dec_mem(d) ? soft_push_m[dec_size64(d)] : soft_push_r[dec_size64(d)]);
    }
}

static void string(struct dec *d, unsigned k, unsigned size)
{
    dec_address(d, HV_DS);
    if (k >= STR_INS && size == 3)
        size = 2;
    dec_set(d, d->rep ? soft_str_rep[k][size] : soft_str[k][size]);
}

static void moffs(struct dec *d, uint8_t op)
{
    unsigned size = dec_size_of(d, op);
    uint64_t at = d->asize == 1 ? dec_get16(d) : d->asize == 2 ? dec_get32(d) : dec_get64(d);
    dec_address(d, HV_DS);
    d->out->flags |= INSN_MEM;
    d->out->index = OFF_ZERO;
    d->out->reg = 0;
    d->out->imm = at; /* for addresses that disp cannot hold */
    d->out->base = OFF_ZERO;
    if (at == (uint64_t)(int64_t)(int32_t)at) {
        d->out->disp = (int32_t)at;
        dec_set(d, op < 0xa2 ? soft_mov_rm[size] : soft_mov_mr[size]);
    } else if (at <= 0xffffffffu && d->asize == 2) {
        d->out->disp = (int32_t)at; /* EA32 wraps it back */
        dec_set(d, op < 0xa2 ? soft_mov_rm[size] : soft_mov_mr[size]);
    } else {
        dec_set(d, op < 0xa2 ? soft_mov_from_moffs[size] : soft_mov_to_moffs[size]);
    }
}

static void far_imm(struct dec *d, insn_fn *fn)
{
    if (dec_is64(d)) {
        dec_ud(d);
        return;
    }
    uint64_t off = d->osize == 1 ? dec_get16(d) : dec_get32(d);
    d->out->imm = off | (uint64_t)dec_get16(d) << 32;
    dec_mark_size(d, d->osize);
    dec_set_end(d, fn);
}

static void legacy_only(struct dec *d, insn_fn *fn)
{
    dec_set(d, dec_is64(d) ? NULL : fn);
}

static void port(struct dec *d, bool out, unsigned size, bool dx)
{
    if (!dx)
        d->out->imm = dec_get8(d);
    d->out->modrm = dx;
    d->out->imm8 = (uint8_t)(size == 0 ? 1 : size == 1 ? 2 : 4);
    dec_set_end(d, out ? soft_op_out : soft_op_in);
}

static void x87(struct dec *d, uint8_t op)
{
    dec_modrm(d);
    d->out->reg = d->regf;
    d->out->rm = d->rmf;
    const struct vec_op *v = soft_x87_lookup(op, d->out->modrm);
    if (!v || !v->fn) {
        dec_ud(d);
        return;
    }
    d->out->vec = v->fn;
    dec_set(d, soft_vec_gate[v->cls]);
}

static void inc_dec_r(struct dec *d, uint8_t op) /* 40-4F outside 64-bit code */
{
    d->out->rm = dec_reg_off(d, op & 7, d->osize);
    dec_set(d, soft_un_r[op & 8 ? UN_DEC : UN_INC][d->osize]);
}

static unsigned op_reg(const struct dec *d, uint8_t op)
{
    return (op & 7u) | (d->rex & 1u) << 3;
}

static void mov_imm_r(struct dec *d, uint8_t op)
{
    unsigned size = op & 8 ? d->osize : 0;
    d->out->reg = dec_reg_off(d, op_reg(d, op), size);
    d->out->imm = !size       ? dec_get8(d)
                  : size == 3 ? dec_get64(d)
                  : size == 2 ? dec_get32(d)
                              : dec_get16(d);
    dec_set(d, soft_mov_ri[size]);
}

static void xchg_a(struct dec *d, uint8_t op)
{
    unsigned r = op_reg(d, op);
    if (op == 0x90 && !(d->rex & 1)) {
        if (d->rep == 0xf3)
            dec_set_end(d, soft_op_pause);
        else
            dec_set(d, soft_op_nop);
        return;
    }
    d->out->reg = 0;
    d->out->rm = dec_reg_off(d, r, d->osize);
    dec_set(d, soft_xchg_rr[d->osize]);
}

static void mov_sreg(struct dec *d, uint8_t op)
{
    dec_modrm(d);
    unsigned seg = d->out->modrm >> 3 & 7;
    d->out->rm = dec_reg_off(d, d->rmf, 3);
    d->out->imm8 = (uint8_t)seg;
    dec_mark_size(d, d->osize);
    if (seg > 5 || (op == 0x8e && seg == HV_CS))
        dec_ud(d);
    else if (op == 0x8e)
        dec_set_end(d, soft_op_mov_sreg);
    else
        dec_set(d, dec_mem(d) ? soft_op_mov_from_sreg_m : soft_op_mov_from_sreg);
}

static void loops(struct dec *d, uint8_t op)
{
    dec_address(d, HV_DS);
    d->relative = true;
    d->out->imm = dec_imm_b(d);
    d->out->imm8 = (uint8_t)((op & 3) << 1 | (d->osize == 1 && !dec_is64(d)));
    dec_set_end(d, soft_op_loop);
}

static void row_60(struct dec *d, uint8_t op)
{
    unsigned size = d->osize;
    switch (op) {
    case 0x60: legacy_only(d, soft_pusha[size]); break;
    case 0x61: legacy_only(d, soft_popa[size]); break;
    case 0x62:
        if (dec_is64(d)) {
            dec_ud(d);
            break;
        }
        dec_modrm(d);
        dec_regs(d, 3);
        dec_mark_size(d, size);
        dec_set(d, dec_mem(d) ? soft_op_bound : NULL);
        break;
    case 0x63:
        dec_modrm(d);
        if (dec_is64(d)) {
            d->out->reg = dec_reg_off(d, d->regf, size);
            d->out->rm = dec_reg_off(d, d->rmf, 2);
            if (size == 3)
                dec_set(d, dec_mem(d) ? soft_movsx_rm[2][3] : soft_movsx_rr[2][3]);
            else
                dec_set(d, dec_mem(d) ? soft_mov_rm[size] : soft_mov_rr[size]);
        } else {
            dec_regs(d, 3);
            dec_set(d, soft_op_arpl);
        }
        break;
    case 0x68:
        d->out->imm =
            dec_size64(d) == 1 ? (uint64_t)(int16_t)dec_get16(d) : (uint64_t)(int32_t)dec_get32(d);
        dec_set(d, soft_push_i[dec_size64(d)]);
        break;
    case 0x6a:
        d->out->imm = dec_imm_b(d);
        dec_set(d, soft_push_i[dec_size64(d)]);
        break;
    case 0x69:
    case 0x6b:
        dec_modrm(d);
        dec_regs(d, size);
        d->out->imm = op == 0x69 ? dec_imm_z(d) : dec_imm_b(d);
        dec_set(d, dec_mem(d) ? soft_imul_rmi[size] : soft_imul_rri[size]);
        break;
    case 0x6c:
    case 0x6d: string(d, STR_INS, dec_size_of(d, op)); break;
    case 0x6e:
    case 0x6f: string(d, STR_OUTS, dec_size_of(d, op)); break;
    default: dec_ud(d);
    }
}

static void row_80(struct dec *d, uint8_t op)
{
    unsigned size = dec_size_of(d, op);
    switch (op) {
    case 0x82:
        group1(d, op);
        if (dec_is64(d))
            dec_ud(d);
        break;
    case 0x80:
    case 0x81:
    case 0x83: group1(d, op); break;
    case 0x84:
    case 0x85:
        dec_modrm(d);
        dec_form_eg(d, size, soft_alu_rr[ALU_TEST][size], soft_alu_mr[ALU_TEST][size]);
        break;
    case 0x86:
    case 0x87:
        dec_modrm(d);
        dec_form_e(d, size, soft_xchg_rr[size], soft_xchg_mr[size]);
        d->lockable = dec_mem(d);
        break;
    case 0x88:
    case 0x89:
        dec_modrm(d);
        dec_form_eg(d, size, soft_mov_rr[size], soft_mov_mr[size]);
        break;
    case 0x8a:
    case 0x8b:
        dec_modrm(d);
        dec_form_ge(d, size, soft_mov_rr[size], soft_mov_rm[size]);
        break;
    case 0x8c:
    case 0x8e: mov_sreg(d, op); break;
    case 0x8d:
        dec_modrm(d);
        dec_regs(d, d->osize);
        dec_set(d, dec_mem(d) ? soft_lea[d->osize] : NULL);
        break;
    default: /* 8F */
        dec_modrm(d);
        dec_regs(d, 3);
        if (d->regf & 7)
            dec_ud(d);
        else
            dec_set(d, dec_mem(d) ? soft_pop_m[dec_size64(d)] : soft_pop_r[dec_size64(d)]);
    }
}

static void row_90(struct dec *d, uint8_t op)
{
    static insn_fn *const cbw[4] = {NULL, soft_op_cbw, soft_op_cwde, soft_op_cdqe};
    static insn_fn *const cwd[4] = {NULL, soft_op_cwd, soft_op_cdq, soft_op_cqo};
    switch (op) {
    case 0x98: dec_set(d, cbw[d->osize]); break;
    case 0x99: dec_set(d, cwd[d->osize]); break;
    case 0x9a: far_imm(d, soft_op_far_call); break;
    case 0x9b: dec_set(d, soft_op_fwait); break;
    case 0x9c: dec_set(d, soft_pushf[dec_size64(d)]); break;
    case 0x9d: dec_set_end(d, soft_popf[dec_size64(d)]); break;
    case 0x9e: dec_set(d, soft_op_sahf); break;
    case 0x9f: dec_set(d, soft_op_lahf); break;
    default: xchg_a(d, op);
    }
}

static void row_a0(struct dec *d, uint8_t op)
{
    unsigned size = dec_size_of(d, op);
    switch (op & 0xfe) {
    case 0xa0:
    case 0xa2: moffs(d, op); break;
    case 0xa4: string(d, STR_MOVS, size); break;
    case 0xa6: string(d, STR_CMPS, size); break;
    case 0xa8:
        d->out->reg = 0;
        d->out->imm = size ? dec_imm_z(d) : dec_imm_b(d);
        dec_set(d, soft_alu_ri[ALU_TEST][size]);
        break;
    case 0xaa: string(d, STR_STOS, size); break;
    case 0xac: string(d, STR_LODS, size); break;
    default: string(d, STR_SCAS, size);
    }
}

static void row_c0(struct dec *d, uint8_t op)
{
    unsigned size = dec_size_of(d, op), bs = dec_branch_size(d);
    switch (op) {
    case 0xc0:
    case 0xc1: shift_group(d, op); break;
    case 0xc2:
        d->out->imm = dec_get16(d);
        d->out->imm8 = bs == 1;
        dec_set_end(d, soft_ret[bs]);
        break;
    case 0xc3:
        d->out->imm8 = bs == 1;
        dec_set_end(d, bs == 3 ? soft_op_ret64 : soft_ret[bs]);
        break;
    case 0xc4:
    case 0xc5:
        if (dec_is64(d))
            dec_ud(d);
        else
            dec_lseg(d, op == 0xc4 ? HV_ES : HV_DS);
        break;
    case 0xc6:
    case 0xc7:
        dec_modrm(d);
        d->out->imm = size ? dec_imm_z(d) : dec_imm_b(d);
        d->out->reg = dec_reg_off(d, d->rmf, size);
        dec_set(d, d->regf & 7 ? NULL : dec_mem(d) ? soft_mov_mi[size] : soft_mov_ri[size]);
        break;
    case 0xc8:
        d->out->imm = dec_get16(d);
        d->out->imm8 = dec_get8(d);
        dec_set(d, soft_enter[dec_size64(d)]);
        break;
    case 0xc9: dec_set(d, soft_leave[dec_size64(d)]); break;
    case 0xca:
        d->out->imm = dec_get16(d);
        /* fall through */
    case 0xcb:
        dec_mark_size(d, d->osize);
        dec_set_end(d, soft_op_retf);
        break;
    case 0xcc: dec_set_end(d, soft_op_int3); break;
    case 0xcd:
        d->out->imm8 = dec_get8(d);
        dec_set_end(d, soft_op_int);
        break;
    case 0xce:
        d->end = true;
        legacy_only(d, soft_op_into);
        break;
    default: dec_mark_size(d, d->osize); dec_set_end(d, soft_op_iret);
    }
}

static void row_d0(struct dec *d, uint8_t op)
{
    if (op >= 0xd8) {
        x87(d, op);
        return;
    }
    switch (op) {
    case 0xd4:
        d->out->imm8 = dec_get8(d);
        legacy_only(d, soft_op_aam);
        break;
    case 0xd5:
        d->out->imm8 = dec_get8(d);
        legacy_only(d, soft_op_aad);
        break;
    case 0xd6: legacy_only(d, soft_op_salc); break;
    case 0xd7:
        dec_address(d, HV_DS);
        dec_set(d, soft_op_xlat);
        break;
    default: shift_group(d, op);
    }
}

static void row_e0(struct dec *d, uint8_t op)
{
    unsigned size = dec_size_of(d, op);
    switch (op) {
    case 0xe4:
    case 0xe5: port(d, false, size, false); break;
    case 0xe6:
    case 0xe7: port(d, true, size, false); break;
    case 0xe8: dec_jump_rel(d, soft_op_call64, soft_call_rel[d->osize], false); break;
    case 0xe9: dec_jump_rel(d, soft_op_jmp, soft_op_jmp_legacy, false); break;
    case 0xea: far_imm(d, soft_op_far_jmp); break;
    case 0xeb: dec_jump_rel(d, soft_op_jmp, soft_op_jmp_legacy, true); break;
    case 0xec:
    case 0xed: port(d, false, size, true); break;
    case 0xee:
    case 0xef: port(d, true, size, true); break;
    default: loops(d, op);
    }
}

static void row_f0(struct dec *d, uint8_t op)
{
    switch (op) {
    case 0xf1: dec_set_end(d, soft_op_int1); break;
    case 0xf4: dec_set_end(d, soft_op_hlt); break;
    case 0xf5: dec_set(d, soft_op_cmc); break;
    case 0xf6:
    case 0xf7: group3(d, op); break;
    case 0xf8: dec_set(d, soft_op_clc); break;
    case 0xf9: dec_set(d, soft_op_stc); break;
    case 0xfa: dec_set(d, soft_op_cli); break;
    case 0xfb: dec_set(d, soft_op_sti); break;
    case 0xfc: dec_set(d, soft_op_cld); break;
    case 0xfd: dec_set(d, soft_op_std); break;
    default: group5(d, op);
    }
}

/* 00-3F: eight rows of arithmetic, with segment pushes and decimal adjustments in the last columns.
 */
static void rows_00(struct dec *d, uint8_t op)
{
    static insn_fn *const adjust[4] = {soft_op_daa, soft_op_das, soft_op_aaa, soft_op_aas};
    unsigned col = op & 7;
    if (op == 0x0f)
        dec_map_0f(d);
    else if (col < 6)
        alu(d, op);
    else if (op < 0x20)
        dec_push_pop_seg(d, op >> 3, col == 7, true);
    else
        legacy_only(d, adjust[op >> 3 & 3]);
}

static void opcode(struct dec *d, uint8_t op)
{
    switch (op >> 4) {
    case 0x0:
    case 0x1:
    case 0x2:
    case 0x3: rows_00(d, op); break;
    case 0x4: inc_dec_r(d, op); break;
    case 0x5:
        d->out->rm = dec_reg_off(d, op_reg(d, op), 3);
        dec_set(d, op & 8 ? soft_pop_r[dec_size64(d)] : soft_push_r[dec_size64(d)]);
        break;
    case 0x6: row_60(d, op); break;
    case 0x7: dec_jump_rel(d, soft_jcc[op & 15], soft_jcc_legacy[op & 15], true); break;
    case 0x8: row_80(d, op); break;
    case 0x9: row_90(d, op); break;
    case 0xa: row_a0(d, op); break;
    case 0xb: mov_imm_r(d, op); break;
    case 0xc: row_c0(d, op); break;
    case 0xd: row_d0(d, op); break;
    case 0xe: row_e0(d, op); break;
    default: row_f0(d, op);
    }
}

/* Legacy prefixes and REX; returns the opcode byte. A REX counts only right before the opcode. */
static uint8_t prefixes(struct dec *d)
{
    for (;;) {
        uint8_t b = dec_get8(d);
        if (d->is_short || d->is_long)
            return b;
        if (dec_is64(d) && (b & 0xf0) == 0x40) {
            d->rex = b;
            continue;
        }
        switch (b) {
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
            if (!dec_is64(d))
                d->seg = b >> 3 & 3;
            break;
        case 0x64: d->seg = HV_FS; break;
        case 0x65: d->seg = HV_GS; break;
        case 0x66: d->opsz = true; break;
        case 0x67: d->adsz = true; break;
        case 0xf0: d->lock = true; break;
        case 0xf2:
        case 0xf3: d->rep = b; break;
        default: return b;
        }
        d->rex = 0;
    }
}

static void sizes(struct dec *d)
{
    if (dec_is64(d)) {
        d->osize = d->rex & 8 ? 3 : d->opsz ? 1 : 2;
        d->asize = d->adsz ? 2 : 3;
    } else {
        bool wide = d->mode == SOFT_MODE32;
        d->osize = wide != d->opsz ? 2 : 1;
        d->asize = wide != d->adsz ? 2 : 1;
    }
}

enum decode_result soft_decode(struct insn *out, const uint8_t *bytes, unsigned left, unsigned mode,
                               int off)
{
    struct dec d = {.out = out, .p = bytes, .left = left, .mode = mode & SOFT_MODE_SIZE, .seg = -1};
    memset(out, 0, sizeof *out);
    out->off = (int16_t)off;
    out->base = out->index = out->segbase = OFF_ZERO;
    uint8_t op = prefixes(&d);
    sizes(&d);
    if (!d.is_short && !d.is_long)
        opcode(&d, op);
    if (d.is_long)
        return DECODE_LONG;
    if (d.is_short)
        return DECODE_SHORT;
    if (d.lock && !d.lockable)
        dec_ud(&d);
    out->len = (uint8_t)d.pos;
    out->flags |= (uint8_t)((d.lock ? INSN_LOCK : 0) | (d.rep == 0xf3 ? INSN_REP : 0) |
                            (d.rep == 0xf2 ? INSN_REPNE : 0) | (d.opsz ? INSN_OPSZ : 0) |
                            (d.rex & 8 ? INSN_REXW : 0) | (d.rex ? INSN_REX : 0) |
                            (dec_is64(&d) ? INSN_NEAR64 : 0));
    if (d.relative)
        out->imm += (uint64_t)((int64_t)off + d.pos);
    if (d.rip_relative)
        out->disp += off + (int32_t)d.pos;
    return d.end ? DECODE_END : DECODE_OK;
}
