/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The two- and three-byte opcodes. Source: SDM vol. 2, appendix A. */
#include "core/hv/soft/decode-int.h"

static void vector(struct dec *d, enum vec_map map, uint8_t op)
{
    if (!(map == VEC_MAP_0F && op == 0x77))
        dec_modrm(d);
    struct vec_bytes b = {
        .map = map,
        .prefix = d->rep == 0xf3   ? VEC_F3
                  : d->rep == 0xf2 ? VEC_F2
                  : d->opsz        ? VEC_66
                                   : VEC_NP,
        .opcode = op,
        .modrm = d->out->modrm,
        .rexw = d->rex & 8,
        .long_mode = dec_is64(d),
        .opsz = d->opsz,
    };
    d->out->reg = d->regf;
    d->out->rm = d->rmf;
    if (map == VEC_MAP_0F && op == 0xf7 && !dec_mem(d)) { /* MASKMOV: memory at rDI */
        dec_address(d, HV_DS);
        d->out->base = 8 * HV_RDI;
        d->out->index = OFF_ZERO;
    }
    const struct vec_op *v = soft_vec_lookup(&b);
    if (!v || !v->fn) {
        bool imm =
            map == VEC_MAP_0F3A ||
            (map == VEC_MAP_0F && ((op >= 0x70 && op <= 0x73) || (op >= 0xc4 && op <= 0xc6)));
        if (imm) /* fetched, though undefined */
            dec_get8(d);
        dec_ud(d);
        return;
    }
    if (v->imm8)
        d->out->imm8 = dec_get8(d);
    d->out->vec = v->fn;
    dec_set(d, soft_vec_gate[v->cls]);
}

static void map_0f38(struct dec *d)
{
    uint8_t op = dec_get8(d);
    if ((op & 0xfe) == 0xf0 && d->rep == 0xf2) {
        unsigned size = op & 1 ? (d->rex & 8 ? 3 : d->opsz ? 1 : 2) : 0;
        if (!dec_is64(d) && op & 1)
            size = d->osize;
        dec_modrm(d);
        d->out->reg = dec_reg_off(d, d->regf, 3);
        d->out->rm = dec_reg_off(d, d->rmf, size);
        dec_set(d, dec_mem(d) ? soft_crc32_rm[size] : soft_crc32_rr[size]);
        return;
    }
    vector(d, VEC_MAP_0F38, op);
}

static void group7(struct dec *d)
{
    static insn_fn *const m[8] = {soft_op_sgdt,   soft_op_sidt, soft_op_lgdt, soft_op_lidt,
                                  soft_op_smsw_m, NULL,         soft_op_lmsw, soft_op_invlpg};
    dec_modrm(d);
    unsigned k = d->regf & 7;
    dec_regs(d, 3);
    dec_mark_size(d, d->osize);
    if (dec_mem(d)) {
        dec_set(d, m[k]);
        if (k == 6 || k == 7)
            d->end = true;
        return;
    }
    switch (d->out->modrm) {
    case 0xc1:
    case 0xd9: dec_set_end(d, soft_op_vmcall); return;
    case 0xca: dec_set(d, soft_op_clac); return;
    case 0xcb: dec_set(d, soft_op_stac); return;
    case 0xf8: dec_set(d, dec_is64(d) ? soft_op_swapgs : NULL); return;
    case 0xf9: dec_set(d, soft_op_rdtscp); return;
    default: break;
    }
    if (k == 4)
        dec_set(d, soft_op_smsw);
    else if (k == 6)
        dec_set_end(d, soft_op_lmsw);
    else
        dec_ud(d);
}

static void group8(struct dec *d)
{
    dec_modrm(d);
    unsigned k = (d->regf & 7) - 4u;
    dec_regs(d, d->osize);
    d->out->imm8 = dec_get8(d);
    if (k > 3) {
        dec_ud(d);
        return;
    }
    dec_set(d, dec_mem(d) ? soft_bt_mi[k][d->osize] : soft_bt_ri[k][d->osize]);
    dec_lock_forms(d, soft_bt_mi_lock[k][d->osize]);
}

static void group9(struct dec *d)
{
    dec_modrm(d);
    unsigned k = d->regf & 7;
    dec_regs(d, 3);
    dec_mark_size(d, d->osize);
    if (dec_mem(d)) {
        dec_set(d, k != 1 ? NULL : d->rex & 8 ? soft_op_cmpxchg16b : soft_op_cmpxchg8b);
        d->lockable = k == 1;
    } else if (k == 7 && d->rep == 0xf3) {
        dec_set(d, soft_op_rdpid);
    } else {
        dec_set(d, k >= 6 && !d->rep ? soft_op_rdrand : NULL);
    }
}

static void group15(struct dec *d)
{
    unsigned save = d->pos;
    uint8_t b = dec_get8(d);
    unsigned k = b >> 3 & 7;
    d->pos = save;
    if (b < 0xc0 && k < 4 && !d->rep && !d->opsz) {
        vector(d, VEC_MAP_0F, 0xae);
        return;
    }
    dec_modrm(d);
    dec_regs(d, 3);
    if (dec_mem(d))
        dec_set(d, k == 7 && !d->rep && !d->opsz ? soft_op_clflush : NULL);
    else if (d->rep == 0xf3)
        dec_set(d, k < 4 && dec_is64(d) ? soft_op_fsgsbase : NULL);
    else
        dec_set(d, k >= 5 && !d->rep && !d->opsz ? soft_op_fence : NULL);
}

static void bits(struct dec *d, unsigned k)
{
    dec_modrm(d);
    dec_regs(d, d->osize);
    dec_set(d, dec_mem(d) ? soft_bt_mr[k][d->osize] : soft_bt_rr[k][d->osize]);
    dec_lock_forms(d, soft_bt_mr_lock[k][d->osize]);
}

/* The modrm byte names registers whatever its mod field says. */
static void mov_cr(struct dec *d, uint8_t op)
{
    uint8_t m = dec_get8(d);
    d->out->modrm = m;
    d->regf = (uint8_t)((m >> 3 & 7) | (d->rex & 4) << 1);
    d->rmf = (uint8_t)((m & 7) | (d->rex & 1) << 3);
    d->out->rm = dec_reg_off(d, d->rmf, 3);
    d->out->imm8 = d->regf;
    switch (op) {
    case 0x20: dec_set(d, soft_op_mov_cr); break;
    case 0x21: dec_set(d, d->regf < 8 ? soft_op_mov_dr : NULL); break;
    case 0x22: dec_set_end(d, soft_op_mov_to_cr); break;
    default: dec_set_end(d, d->regf < 8 ? soft_op_mov_to_dr : NULL);
    }
}

static void map_0f_system(struct dec *d, uint8_t op)
{
    switch (op) {
    case 0x00:
        dec_modrm(d);
        dec_regs(d, 3);
        dec_mark_size(d, d->osize);
        dec_set(d, soft_op_grp6);
        break;
    case 0x01: group7(d); break;
    case 0x02:
    case 0x03:
        dec_modrm(d);
        dec_regs(d, 3);
        dec_mark_size(d, d->osize);
        dec_set(d, op == 2 ? soft_op_lar : soft_op_lsl);
        break;
    case 0x05: dec_set_end(d, soft_op_syscall); break;
    case 0x06: dec_set_end(d, soft_op_clts); break;
    case 0x07: dec_set_end(d, soft_op_sysret); break;
    case 0x08:
    case 0x09: dec_set(d, soft_op_invd); break;
    case 0x0d:
        dec_modrm(d);
        dec_set(d, dec_mem(d) ? soft_op_nop : NULL);
        break;
    case 0x30: dec_set_end(d, soft_op_wrmsr); break;
    case 0x31: dec_set(d, soft_op_rdtsc); break;
    case 0x32: dec_set_end(d, soft_op_rdmsr); break;
    case 0x33: dec_set(d, soft_op_rdpmc); break;
    case 0x34: dec_set_end(d, soft_op_sysenter); break;
    case 0x35: dec_set_end(d, soft_op_sysexit); break;
    case 0xa2: dec_set_end(d, soft_op_cpuid); break;
    case 0xaa: dec_set(d, soft_op_rsm); break;
    default: dec_ud(d);
    }
}

static void map_0f_exchange(struct dec *d, uint8_t op)
{
    unsigned size = dec_size_of(d, op);
    switch (op) {
    case 0xb0:
    case 0xb1:
        dec_modrm(d);
        dec_form_e(d, size, soft_cmpxchg_rr[size], soft_cmpxchg_mr[size]);
        dec_lock_forms(d, soft_cmpxchg_mr_lock[size]);
        break;
    case 0xc0:
    case 0xc1:
        dec_modrm(d);
        dec_form_e(d, size, soft_xadd_rr[size], soft_xadd_mr[size]);
        dec_lock_forms(d, soft_xadd_mr_lock[size]);
        break;
    default: dec_ud(d);
    }
}

static void map_0f_bits(struct dec *d, uint8_t op)
{
    unsigned size = d->osize, k;
    switch (op) {
    case 0xa3: bits(d, 0); break;
    case 0xab: bits(d, 1); break;
    case 0xb3: bits(d, 2); break;
    case 0xbb: bits(d, 3); break;
    case 0xba: group8(d); break;
    case 0xa4:
    case 0xac:
        dec_modrm(d);
        k = op == 0xac;
        dec_regs(d, size);
        d->out->imm8 = dec_get8(d);
        dec_set(d, dec_mem(d) ? soft_shd_mi[k][size] : soft_shd_ri[k][size]);
        break;
    case 0xa5:
    case 0xad:
        dec_modrm(d);
        k = op == 0xad;
        dec_form_e(d, size, soft_shd_rc[k][size], soft_shd_mc[k][size]);
        break;
    case 0xb8:
    case 0xbc:
    case 0xbd:
        dec_modrm(d);
        k = op == 0xb8 ? BIT_POPCNT : op == 0xbc ? BIT_BSF : BIT_BSR;
        if (op == 0xb8 && d->rep != 0xf3)
            dec_ud(d);
        else
            dec_form_ge(d, size, soft_bit_rr[k][size], soft_bit_rm[k][size]);
        break;
    default: dec_ud(d);
    }
}

static void widen(struct dec *d, uint8_t op)
{
    unsigned from = op & 1, size = d->osize;
    dec_modrm(d);
    d->out->reg = dec_reg_off(d, d->regf, size);
    d->out->rm = dec_reg_off(d, d->rmf, from);
    if (op < 0xb8)
        dec_set(d, dec_mem(d) ? soft_movzx_rm[from][size] : soft_movzx_rr[from][size]);
    else
        dec_set(d, dec_mem(d) ? soft_movsx_rm[from][size] : soft_movsx_rr[from][size]);
}

static bool is_vector(uint8_t op)
{
    return (op >= 0x10 && op <= 0x17) || (op >= 0x28 && op <= 0x2f) ||
           (op >= 0x50 && op <= 0x7f && op != 0x78 && op != 0x79) || op == 0xc2 ||
           (op >= 0xc4 && op <= 0xc6) || (op >= 0xd0 && op <= 0xfe);
}

void dec_map_0f(struct dec *d)
{
    uint8_t op = dec_get8(d);
    if (is_vector(op)) {
        vector(d, VEC_MAP_0F, op);
        return;
    }
    switch (op >> 4) {
    case 0x1:
        dec_modrm(d);
        dec_set(d, soft_op_nop);
        return;
    case 0x4:
        dec_modrm(d);
        dec_form_ge(d, d->osize, soft_cmov_rr[op & 15][d->osize], soft_cmov_rm[op & 15][d->osize]);
        return;
    case 0x8: dec_jump_rel(d, soft_jcc[op & 15], soft_jcc_legacy[op & 15], false); return;
    case 0x9:
        dec_modrm(d);
        dec_form_e(d, 0, soft_set_r[op & 15], soft_set_m[op & 15]);
        return;
    default: break;
    }
    switch (op) {
    case 0x20:
    case 0x21:
    case 0x22:
    case 0x23: mov_cr(d, op); break;
    case 0x38: map_0f38(d); break;
    case 0x3a: vector(d, VEC_MAP_0F3A, dec_get8(d)); break;
    case 0xa0: dec_push_pop_seg(d, HV_FS, false, false); break;
    case 0xa1: dec_push_pop_seg(d, HV_FS, true, false); break;
    case 0xa8: dec_push_pop_seg(d, HV_GS, false, false); break;
    case 0xa9: dec_push_pop_seg(d, HV_GS, true, false); break;
    case 0xa3:
    case 0xab:
    case 0xb3:
    case 0xbb:
    case 0xba:
    case 0xa4:
    case 0xac:
    case 0xa5:
    case 0xad:
    case 0xb8:
    case 0xbc:
    case 0xbd: map_0f_bits(d, op); break;
    case 0xae: group15(d); break;
    case 0xaf:
        dec_modrm(d);
        dec_form_ge(d, d->osize, soft_imul_rr[d->osize], soft_imul_rm[d->osize]);
        break;
    case 0xb0:
    case 0xb1:
    case 0xc0:
    case 0xc1: map_0f_exchange(d, op); break;
    case 0xb2: dec_lseg(d, HV_SS); break;
    case 0xb4: dec_lseg(d, HV_FS); break;
    case 0xb5: dec_lseg(d, HV_GS); break;
    case 0xb6:
    case 0xb7:
    case 0xbe:
    case 0xbf: widen(d, op); break;
    case 0xb9:
        dec_modrm(d);
        dec_ud(d);
        break;
    case 0xc3: {
        unsigned size = d->rex & 8 ? 3 : 2;
        dec_modrm(d);
        dec_form_e(d, size, NULL, d->rep || d->opsz ? NULL : soft_mov_mr[size]);
        break;
    }
    case 0xc7: group9(d); break;
    case 0xc8:
    case 0xc9:
    case 0xca:
    case 0xcb:
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        d->out->rm = dec_reg_off(d, (op & 7u) | (d->rex & 1u) << 3, d->osize);
        dec_set(d, soft_bswap[d->osize]);
        break;
    default: map_0f_system(d, op);
    }
}
