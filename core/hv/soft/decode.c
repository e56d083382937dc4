/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The instruction decoder, all code sizes. Source: SDM vol. 2, chapter 2 and appendix A. Every
 * encoding that the CPU model does not have becomes soft_op_ud, found when it is run.
 */
#include <string.h>

#include "core/hv/soft/block.h"
#include "core/hv/soft/ops.h"
#include "core/hv/soft/vec.h"

enum { OFF_ZERO = offsetof(struct soft_vp, zero), OFF_BLOCK = offsetof(struct soft_vp, block_rip) };

struct dec {
    struct insn *out;
    const uint8_t *p;
    unsigned pos, left;
    bool is_short, is_long;
    unsigned mode;    /* SOFT_MODE16, 32, 64 */
    uint8_t rex, rep; /* rep: 0, 0xf2, 0xf3 */
    bool opsz, adsz, lock, lockable;
    int seg;                /* override, -1 none */
    unsigned osize;         /* 1, 2, 3: 16, 32, 64 bits */
    unsigned asize;         /* the same */
    uint8_t mod, regf, rmf; /* fields with REX */
    bool relative, rip_relative, end;
};

static uint8_t get8(struct dec *d)
{
    if (d->is_short || d->is_long)
        return 0;
    if (d->pos < 15 && d->pos < d->left)
        return d->p[d->pos++];
    d->is_long = d->pos >= 15;
    d->is_short = !d->is_long;
    return 0;
}

static uint16_t get16(struct dec *d)
{
    uint16_t v = get8(d);
    return (uint16_t)(v | get8(d) << 8);
}

static uint32_t get32(struct dec *d)
{
    uint32_t v = get16(d);
    return v | (uint32_t)get16(d) << 16;
}

static uint64_t get64(struct dec *d)
{
    uint64_t v = get32(d);
    return v | (uint64_t)get32(d) << 32;
}

/* Immediate of the operand size, at most 32 bits, sign-extended. */
static uint64_t imm_z(struct dec *d)
{
    return d->osize == 1 ? (uint64_t)(int16_t)get16(d) : (uint64_t)(int32_t)get32(d);
}

static uint64_t imm_b(struct dec *d)
{
    return (uint64_t)(int8_t)get8(d);
}

static bool is64(const struct dec *d)
{
    return d->mode == SOFT_MODE64;
}

static uint8_t reg8(const struct dec *d, unsigned n)
{
    return (uint8_t)(d->rex || n < 4 || n > 7 ? n * 8 : (n - 4) * 8 + 1);
}

static uint8_t reg_off(const struct dec *d, unsigned n, unsigned size)
{
    return size ? (uint8_t)(n * 8) : reg8(d, n);
}

static uint8_t seg_off(unsigned seg)
{
    return (uint8_t)(offsetof(struct soft_vp, seg) + seg * sizeof(struct hv_segment) +
                     offsetof(struct hv_segment, base));
}

/* What memory operands and string instructions share: address size and segment. */
static void address(struct dec *d, unsigned default_seg)
{
    struct insn *o = d->out;
    unsigned seg = d->seg >= 0 ? (unsigned)d->seg : default_seg;
    o->seg = seg & 7;
    if (is64(d)) {
        o->ea = d->asize == 2 ? INSN_EA32 : 0;
        o->segbase = seg >= HV_FS ? seg_off(seg) : OFF_ZERO;
    } else {
        o->ea = (d->asize == 1 ? INSN_EA16 : INSN_EA32) | INSN_EASEG;
        o->segbase = seg_off(seg);
    }
}

static void modrm16(struct dec *d)
{
    static const uint8_t base[8] = {HV_RBX, HV_RBX, HV_RBP, HV_RBP, HV_RSI, HV_RDI, HV_RBP, HV_RBX};
    static const uint8_t index[8] = {HV_RSI, HV_RDI, HV_RSI, HV_RDI, 0xff, 0xff, 0xff, 0xff};
    struct insn *o = d->out;
    unsigned rm = d->rmf & 7, seg = HV_DS;
    o->base = (uint8_t)(base[rm] * 8);
    o->index = index[rm] == 0xff ? OFF_ZERO : (uint8_t)(index[rm] * 8);
    if (rm == 2 || rm == 3 || rm == 6)
        seg = HV_SS;
    if (d->mod == 0 && rm == 6) {
        o->base = OFF_ZERO;
        o->disp = get16(d);
        seg = HV_DS;
    } else if (d->mod == 1) {
        o->disp = (int8_t)get8(d);
    } else if (d->mod == 2) {
        o->disp = (int16_t)get16(d);
    }
    address(d, seg);
}

static void modrm32(struct dec *d)
{
    struct insn *o = d->out;
    unsigned rm = d->rmf & 7, seg = HV_DS, base = rm;
    o->index = OFF_ZERO;
    if (rm == 4) {
        uint8_t sib = get8(d);
        unsigned index = (sib >> 3 & 7) | (d->rex & 2) << 2;
        base = sib & 7;
        o->scale = sib >> 6 & 3;
        if (index != 4)
            o->index = (uint8_t)(index * 8);
        else
            o->scale = 0;
    }
    if (base == 5 && d->mod == 0) {
        o->base = OFF_ZERO;
        o->disp = (int32_t)get32(d);
        if (is64(d) && rm == 5) {
            o->base = OFF_BLOCK;
            d->rip_relative = true;
        }
    } else {
        if (base == 4 || base == 5)
            seg = d->rex & 1 ? HV_DS : HV_SS;
        o->base = (uint8_t)((base | (d->rex & 1) << 3) * 8);
        if (d->mod == 1)
            o->disp = (int8_t)get8(d);
        else if (d->mod == 2)
            o->disp = (int32_t)get32(d);
    }
    address(d, seg);
}

static void modrm(struct dec *d)
{
    uint8_t b = get8(d);
    d->out->modrm = b;
    d->mod = b >> 6;
    d->regf = (uint8_t)((b >> 3 & 7) | (d->rex & 4) << 1);
    d->rmf = (uint8_t)((b & 7) | (d->rex & 1) << 3);
    if (d->mod == 3)
        return;
    d->out->flags |= INSN_MEM;
    if (d->asize == 1)
        modrm16(d);
    else
        modrm32(d);
}

static bool mem(const struct dec *d)
{
    return d->mod != 3;
}

static void ud(struct dec *d)
{
    d->out->fn = soft_op_ud;
    d->lockable = true; /* #UD either way */
    d->end = true;
}

static void set(struct dec *d, insn_fn *fn)
{
    if (fn)
        d->out->fn = fn;
    else
        ud(d);
}

static void set_end(struct dec *d, insn_fn *fn)
{
    d->end = true;
    set(d, fn);
}

/* reg and rm fields as integer registers of `size`. */
static void regs(struct dec *d, unsigned size)
{
    d->out->reg = reg_off(d, d->regf, size);
    d->out->rm = reg_off(d, d->rmf, size);
}

/* E op G or G op E; the register form has the destination in `reg`. */
static void form_eg(struct dec *d, unsigned size, insn_fn *rr, insn_fn *mr)
{
    regs(d, size);
    if (mem(d)) {
        set(d, mr);
        return;
    }
    uint8_t t = d->out->reg;
    d->out->reg = d->out->rm;
    d->out->rm = t;
    set(d, rr);
}

static void form_ge(struct dec *d, unsigned size, insn_fn *rr, insn_fn *rm)
{
    regs(d, size);
    set(d, mem(d) ? rm : rr);
}

static void form_e(struct dec *d, unsigned size, insn_fn *r, insn_fn *m)
{
    regs(d, size);
    set(d, mem(d) ? m : r);
}

static unsigned size_of(const struct dec *d,
                        uint8_t op) /* bit 0 of the opcode: byte or operand size */
{
    return op & 1 ? d->osize : 0;
}

static unsigned bytes_of(unsigned size)
{
    return 1u << size;
}

/* Near branches and stack operations default to 64 bits in 64-bit code. */
static unsigned size64(const struct dec *d)
{
    return is64(d) ? (d->opsz && !(d->rex & 8) ? 1 : 3) : d->osize;
}

static unsigned branch_size(const struct dec *d)
{
    return is64(d) ? 3 : d->osize;
}

static void mark_size(struct dec *d, unsigned size)
{
    d->out->imm8 = (uint8_t)((d->out->imm8 & 15) | bytes_of(size) << 4);
}

static void lock_forms(struct dec *d, insn_fn *locked)
{
    d->lockable = mem(d) && locked;
    if (d->lock && d->lockable)
        set(d, locked);
}

static void alu(struct dec *d, uint8_t op)
{
    unsigned k = op >> 3 & 7, size = size_of(d, op);
    switch (op & 7) {
    case 0:
    case 1:
        modrm(d);
        form_eg(d, size, soft_alu_rr[k][size], soft_alu_mr[k][size]);
        lock_forms(d, soft_alu_mr_lock[k][size]);
        break;
    case 2:
    case 3:
        modrm(d);
        form_ge(d, size, soft_alu_rr[k][size], soft_alu_rm[k][size]);
        break;
    default:
        d->out->reg = 0;
        d->out->imm = size ? imm_z(d) : imm_b(d);
        set(d, soft_alu_ri[k][size]);
    }
}

static void group1(struct dec *d, uint8_t op)
{
    unsigned size = size_of(d, op);
    modrm(d);
    unsigned k = d->regf & 7;
    d->out->imm = op == 0x81 ? imm_z(d) : imm_b(d);
    d->out->reg = reg_off(d, d->rmf, size);
    set(d, mem(d) ? soft_alu_mi[k][size] : soft_alu_ri[k][size]);
    lock_forms(d, soft_alu_mi_lock[k][size]);
}

static void shift_group(struct dec *d, uint8_t op)
{
    unsigned size = size_of(d, op);
    modrm(d);
    unsigned k = d->regf & 7;
    regs(d, size);
    if (op >= 0xd2) {
        set(d, mem(d) ? soft_sh_mc[k][size] : soft_sh_rc[k][size]);
        return;
    }
    unsigned n = (op >= 0xd0 ? 1u : get8(d)) & (size == 3 ? 63 : 31);
    d->out->imm8 = (uint8_t)n;
    if (n)
        set(d, mem(d) ? soft_sh_mi[k][size] : soft_sh_ri[k][size]);
    else if (mem(d)) /* the access is made, nothing changes */
        set(d, soft_touch[size]);
    else
        set(d, size == 2 ? soft_op_zero_upper : soft_op_nop);
}

static void group3(struct dec *d, uint8_t op)
{
    unsigned size = size_of(d, op);
    modrm(d);
    unsigned k = d->regf & 7;
    regs(d, size);
    if (k < 2) {
        d->out->imm = size ? imm_z(d) : imm_b(d);
        d->out->reg = d->out->rm;
        set(d, mem(d) ? soft_alu_mi[ALU_TEST][size] : soft_alu_ri[ALU_TEST][size]);
    } else if (k < 4) {
        set(d, mem(d) ? soft_un_m[k][size] : soft_un_r[k][size]);
        lock_forms(d, soft_un_m_lock[k][size]);
    } else {
        set(d, mem(d) ? soft_mul_m[k - 4][size] : soft_mul_r[k - 4][size]);
    }
}

static void group5(struct dec *d, uint8_t op)
{
    unsigned size = size_of(d, op);
    modrm(d);
    unsigned k = d->regf & 7;
    if (k < 2) {
        regs(d, size);
        set(d, mem(d) ? soft_un_m[k][size] : soft_un_r[k][size]);
        lock_forms(d, soft_un_m_lock[k][size]);
        return;
    }
    if (!size || k == 7) {
        ud(d);
        return;
    }
    unsigned bs = branch_size(d);
    regs(d, 3);
    switch (k) {
    case 2:
        d->out->imm8 = bs == 1;
        set_end(d, mem(d) ? soft_call_m[bs] : soft_call_r[bs]);
        break;
    case 4:
        d->out->imm8 = bs == 1;
        set_end(d, mem(d) ? soft_jmp_m[bs] : soft_jmp_r[bs]);
        break;
    case 3:
    case 5:
        mark_size(d, d->osize);
        set_end(d, !mem(d) ? NULL : k == 3 ? soft_op_far_call_m : soft_op_far_jmp_m);
        break;
    default: set(d, mem(d) ? soft_push_m[size64(d)] : soft_push_r[size64(d)]);
    }
}

static void string(struct dec *d, unsigned k, unsigned size)
{
    address(d, HV_DS);
    if (k >= STR_INS && size == 3)
        size = 2;
    set(d, d->rep ? soft_str_rep[k][size] : soft_str[k][size]);
}

static void jump_rel(struct dec *d, insn_fn *wide, insn_fn *legacy, bool byte)
{
    d->relative = true;
    if (byte)
        d->out->imm = imm_b(d);
    else if (is64(d))
        d->out->imm = (uint64_t)(int32_t)get32(d);
    else
        d->out->imm = imm_z(d);
    d->out->imm8 = d->osize == 1;
    set_end(d, is64(d) ? wide : legacy);
}

static void moffs(struct dec *d, uint8_t op)
{
    unsigned size = size_of(d, op);
    uint64_t at = d->asize == 1 ? get16(d) : d->asize == 2 ? get32(d) : get64(d);
    address(d, HV_DS);
    d->out->flags |= INSN_MEM;
    d->out->index = OFF_ZERO;
    d->out->reg = 0;
    d->out->imm = at; /* for addresses that disp cannot hold */
    d->out->base = OFF_ZERO;
    if (at == (uint64_t)(int64_t)(int32_t)at) {
        d->out->disp = (int32_t)at;
        set(d, op < 0xa2 ? soft_mov_rm[size] : soft_mov_mr[size]);
    } else if (at <= 0xffffffffu && d->asize == 2) {
        d->out->disp = (int32_t)at; /* EA32 wraps it back */
        set(d, op < 0xa2 ? soft_mov_rm[size] : soft_mov_mr[size]);
    } else {
        set(d, op < 0xa2 ? soft_mov_from_moffs[size] : soft_mov_to_moffs[size]);
    }
}

static void far_imm(struct dec *d, insn_fn *fn)
{
    if (is64(d)) {
        ud(d);
        return;
    }
    uint64_t off = d->osize == 1 ? get16(d) : get32(d);
    d->out->imm = off | (uint64_t)get16(d) << 32;
    mark_size(d, d->osize);
    set_end(d, fn);
}

static void legacy_only(struct dec *d, insn_fn *fn)
{
    set(d, is64(d) ? NULL : fn);
}

static void push_pop_seg(struct dec *d, unsigned seg, bool pop, bool legacy)
{
    if (legacy && is64(d)) {
        ud(d);
        return;
    }
    d->out->imm8 = (uint8_t)seg;
    if (pop)
        set_end(d, soft_pop_seg[size64(d)]);
    else
        set(d, soft_push_seg[size64(d)]);
}

static void lseg(struct dec *d, unsigned seg)
{
    modrm(d);
    d->out->imm8 = (uint8_t)seg;
    mark_size(d, d->osize);
    regs(d, 3);
    set_end(d, mem(d) ? soft_op_lseg : NULL);
}

static void port(struct dec *d, bool out, unsigned size, bool dx)
{
    if (!dx)
        d->out->imm = get8(d);
    d->out->modrm = dx;
    d->out->imm8 = (uint8_t)(size == 0 ? 1 : size == 1 ? 2 : 4);
    set_end(d, out ? soft_op_out : soft_op_in);
}

static void x87(struct dec *d, uint8_t op)
{
    modrm(d);
    d->out->reg = d->regf;
    d->out->rm = d->rmf;
    const struct vec_op *v = soft_x87_lookup(op, d->out->modrm);
    if (!v || !v->fn) {
        ud(d);
        return;
    }
    d->out->vec = v->fn;
    set(d, soft_vec_gate[v->cls]);
}

static void vector(struct dec *d, enum vec_map map, uint8_t op)
{
    if (!(map == VEC_MAP_0F && op == 0x77))
        modrm(d);
    struct vec_bytes b = {
        .map = map,
        .prefix = d->rep == 0xf3   ? VEC_F3
                  : d->rep == 0xf2 ? VEC_F2
                  : d->opsz        ? VEC_66
                                   : VEC_NP,
        .opcode = op,
        .modrm = d->out->modrm,
        .rexw = d->rex & 8,
        .long_mode = is64(d),
        .opsz = d->opsz,
    };
    d->out->reg = d->regf;
    d->out->rm = d->rmf;
    if (map == VEC_MAP_0F && op == 0xf7 && !mem(d)) { /* MASKMOV: memory at rDI */
        address(d, HV_DS);
        d->out->base = 8 * HV_RDI;
        d->out->index = OFF_ZERO;
    }
    const struct vec_op *v = soft_vec_lookup(&b);
    if (!v || !v->fn) {
        bool imm =
            map == VEC_MAP_0F3A ||
            (map == VEC_MAP_0F && ((op >= 0x70 && op <= 0x73) || (op >= 0xc4 && op <= 0xc6)));
        if (imm) /* fetched, though undefined */
            get8(d);
        ud(d);
        return;
    }
    if (v->imm8)
        d->out->imm8 = get8(d);
    d->out->vec = v->fn;
    set(d, soft_vec_gate[v->cls]);
}

static void map_0f38(struct dec *d)
{
    uint8_t op = get8(d);
    if ((op & 0xfe) == 0xf0 && d->rep == 0xf2) {
        unsigned size = op & 1 ? (d->rex & 8 ? 3 : d->opsz ? 1 : 2) : 0;
        if (!is64(d) && op & 1)
            size = d->osize;
        modrm(d);
        d->out->reg = reg_off(d, d->regf, 3);
        d->out->rm = reg_off(d, d->rmf, size);
        set(d, mem(d) ? soft_crc32_rm[size] : soft_crc32_rr[size]);
        return;
    }
    vector(d, VEC_MAP_0F38, op);
}

static void group7(struct dec *d)
{
    static insn_fn *const m[8] = {soft_op_sgdt,   soft_op_sidt, soft_op_lgdt, soft_op_lidt,
                                  soft_op_smsw_m, NULL,         soft_op_lmsw, soft_op_invlpg};
    modrm(d);
    unsigned k = d->regf & 7;
    regs(d, 3);
    mark_size(d, d->osize);
    if (mem(d)) {
        set(d, m[k]);
        if (k == 6 || k == 7)
            d->end = true;
        return;
    }
    switch (d->out->modrm) {
    case 0xc1:
    case 0xd9: set_end(d, soft_op_vmcall); return;
    case 0xca: set(d, soft_op_clac); return;
    case 0xcb: set(d, soft_op_stac); return;
    case 0xf8: set(d, is64(d) ? soft_op_swapgs : NULL); return;
    case 0xf9: set(d, soft_op_rdtscp); return;
    default: break;
    }
    if (k == 4)
        set(d, soft_op_smsw);
    else if (k == 6)
        set_end(d, soft_op_lmsw);
    else
        ud(d);
}

static void group8(struct dec *d)
{
    modrm(d);
    unsigned k = (d->regf & 7) - 4u;
    regs(d, d->osize);
    d->out->imm8 = get8(d);
    if (k > 3) {
        ud(d);
        return;
    }
    set(d, mem(d) ? soft_bt_mi[k][d->osize] : soft_bt_ri[k][d->osize]);
    lock_forms(d, soft_bt_mi_lock[k][d->osize]);
}

static void group9(struct dec *d)
{
    modrm(d);
    unsigned k = d->regf & 7;
    regs(d, 3);
    mark_size(d, d->osize);
    if (mem(d)) {
        set(d, k != 1 ? NULL : d->rex & 8 ? soft_op_cmpxchg16b : soft_op_cmpxchg8b);
        d->lockable = k == 1;
    } else if (k == 7 && d->rep == 0xf3) {
        set(d, soft_op_rdpid);
    } else {
        set(d, k >= 6 && !d->rep ? soft_op_rdrand : NULL);
    }
}

static void group15(struct dec *d)
{
    unsigned save = d->pos;
    uint8_t b = get8(d);
    unsigned k = b >> 3 & 7;
    d->pos = save;
    if (b < 0xc0 && k < 4 && !d->rep && !d->opsz) {
        vector(d, VEC_MAP_0F, 0xae);
        return;
    }
    modrm(d);
    regs(d, 3);
    if (mem(d))
        set(d, k == 7 && !d->rep && !d->opsz ? soft_op_clflush : NULL);
    else if (d->rep == 0xf3)
        set(d, k < 4 && is64(d) ? soft_op_fsgsbase : NULL);
    else
        set(d, k >= 5 && !d->rep && !d->opsz ? soft_op_fence : NULL);
}

static void bits(struct dec *d, unsigned k)
{
    modrm(d);
    regs(d, d->osize);
    set(d, mem(d) ? soft_bt_mr[k][d->osize] : soft_bt_rr[k][d->osize]);
    lock_forms(d, soft_bt_mr_lock[k][d->osize]);
}

/* The modrm byte names registers whatever its mod field says. */
static void mov_cr(struct dec *d, uint8_t op)
{
    uint8_t m = get8(d);
    d->out->modrm = m;
    d->regf = (uint8_t)((m >> 3 & 7) | (d->rex & 4) << 1);
    d->rmf = (uint8_t)((m & 7) | (d->rex & 1) << 3);
    d->out->rm = reg_off(d, d->rmf, 3);
    d->out->imm8 = d->regf;
    switch (op) {
    case 0x20: set(d, soft_op_mov_cr); break;
    case 0x21: set(d, d->regf < 8 ? soft_op_mov_dr : NULL); break;
    case 0x22: set_end(d, soft_op_mov_to_cr); break;
    default: set_end(d, d->regf < 8 ? soft_op_mov_to_dr : NULL);
    }
}

static void map_0f_system(struct dec *d, uint8_t op)
{
    switch (op) {
    case 0x00:
        modrm(d);
        regs(d, 3);
        mark_size(d, d->osize);
        set(d, soft_op_grp6);
        break;
    case 0x01: group7(d); break;
    case 0x02:
    case 0x03:
        modrm(d);
        regs(d, 3);
        mark_size(d, d->osize);
        set(d, op == 2 ? soft_op_lar : soft_op_lsl);
        break;
    case 0x05: set_end(d, soft_op_syscall); break;
    case 0x06: set_end(d, soft_op_clts); break;
    case 0x07: set_end(d, soft_op_sysret); break;
    case 0x08:
    case 0x09: set(d, soft_op_invd); break;
    case 0x0d:
        modrm(d);
        set(d, mem(d) ? soft_op_nop : NULL);
        break;
    case 0x30: set_end(d, soft_op_wrmsr); break;
    case 0x31: set(d, soft_op_rdtsc); break;
    case 0x32: set_end(d, soft_op_rdmsr); break;
    case 0x33: set(d, soft_op_rdpmc); break;
    case 0x34: set_end(d, soft_op_sysenter); break;
    case 0x35: set_end(d, soft_op_sysexit); break;
    case 0xa2: set_end(d, soft_op_cpuid); break;
    case 0xaa: set(d, soft_op_rsm); break;
    default: ud(d);
    }
}

static void map_0f_exchange(struct dec *d, uint8_t op)
{
    unsigned size = size_of(d, op);
    switch (op) {
    case 0xb0:
    case 0xb1:
        modrm(d);
        form_e(d, size, soft_cmpxchg_rr[size], soft_cmpxchg_mr[size]);
        lock_forms(d, soft_cmpxchg_mr_lock[size]);
        break;
    case 0xc0:
    case 0xc1:
        modrm(d);
        form_e(d, size, soft_xadd_rr[size], soft_xadd_mr[size]);
        lock_forms(d, soft_xadd_mr_lock[size]);
        break;
    default: ud(d);
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
        modrm(d);
        k = op == 0xac;
        regs(d, size);
        d->out->imm8 = get8(d);
        set(d, mem(d) ? soft_shd_mi[k][size] : soft_shd_ri[k][size]);
        break;
    case 0xa5:
    case 0xad:
        modrm(d);
        k = op == 0xad;
        form_e(d, size, soft_shd_rc[k][size], soft_shd_mc[k][size]);
        break;
    case 0xb8:
    case 0xbc:
    case 0xbd:
        modrm(d);
        k = op == 0xb8 ? BIT_POPCNT : op == 0xbc ? BIT_BSF : BIT_BSR;
        if (op == 0xb8 && d->rep != 0xf3)
            ud(d);
        else
            form_ge(d, size, soft_bit_rr[k][size], soft_bit_rm[k][size]);
        break;
    default: ud(d);
    }
}

static void widen(struct dec *d, uint8_t op)
{
    unsigned from = op & 1, size = d->osize;
    modrm(d);
    d->out->reg = reg_off(d, d->regf, size);
    d->out->rm = reg_off(d, d->rmf, from);
    if (op < 0xb8)
        set(d, mem(d) ? soft_movzx_rm[from][size] : soft_movzx_rr[from][size]);
    else
        set(d, mem(d) ? soft_movsx_rm[from][size] : soft_movsx_rr[from][size]);
}

static bool is_vector(uint8_t op)
{
    return (op >= 0x10 && op <= 0x17) || (op >= 0x28 && op <= 0x2f) ||
           (op >= 0x50 && op <= 0x7f && op != 0x78 && op != 0x79) || op == 0xc2 ||
           (op >= 0xc4 && op <= 0xc6) || (op >= 0xd0 && op <= 0xfe);
}

static void map_0f(struct dec *d)
{
    uint8_t op = get8(d);
    if (is_vector(op)) {
        vector(d, VEC_MAP_0F, op);
        return;
    }
    switch (op >> 4) {
    case 0x1:
        modrm(d);
        set(d, soft_op_nop);
        return;
    case 0x4:
        modrm(d);
        form_ge(d, d->osize, soft_cmov_rr[op & 15][d->osize], soft_cmov_rm[op & 15][d->osize]);
        return;
    case 0x8: jump_rel(d, soft_jcc[op & 15], soft_jcc_legacy[op & 15], false); return;
    case 0x9:
        modrm(d);
        form_e(d, 0, soft_set_r[op & 15], soft_set_m[op & 15]);
        return;
    default: break;
    }
    switch (op) {
    case 0x20:
    case 0x21:
    case 0x22:
    case 0x23: mov_cr(d, op); break;
    case 0x38: map_0f38(d); break;
    case 0x3a: vector(d, VEC_MAP_0F3A, get8(d)); break;
    case 0xa0: push_pop_seg(d, HV_FS, false, false); break;
    case 0xa1: push_pop_seg(d, HV_FS, true, false); break;
    case 0xa8: push_pop_seg(d, HV_GS, false, false); break;
    case 0xa9: push_pop_seg(d, HV_GS, true, false); break;
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
        modrm(d);
        form_ge(d, d->osize, soft_imul_rr[d->osize], soft_imul_rm[d->osize]);
        break;
    case 0xb0:
    case 0xb1:
    case 0xc0:
    case 0xc1: map_0f_exchange(d, op); break;
    case 0xb2: lseg(d, HV_SS); break;
    case 0xb4: lseg(d, HV_FS); break;
    case 0xb5: lseg(d, HV_GS); break;
    case 0xb6:
    case 0xb7:
    case 0xbe:
    case 0xbf: widen(d, op); break;
    case 0xb9:
        modrm(d);
        ud(d);
        break;
    case 0xc3: {
        unsigned size = d->rex & 8 ? 3 : 2;
        modrm(d);
        form_e(d, size, NULL, d->rep || d->opsz ? NULL : soft_mov_mr[size]);
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
        d->out->rm = reg_off(d, (op & 7u) | (d->rex & 1u) << 3, d->osize);
        set(d, soft_bswap[d->osize]);
        break;
    default: map_0f_system(d, op);
    }
}

static void inc_dec_r(struct dec *d, uint8_t op) /* 40-4F outside 64-bit code */
{
    d->out->rm = reg_off(d, op & 7, d->osize);
    set(d, soft_un_r[op & 8 ? UN_DEC : UN_INC][d->osize]);
}

static unsigned op_reg(const struct dec *d, uint8_t op)
{
    return (op & 7u) | (d->rex & 1u) << 3;
}

static void mov_imm_r(struct dec *d, uint8_t op)
{
    unsigned size = op & 8 ? d->osize : 0;
    d->out->reg = reg_off(d, op_reg(d, op), size);
    d->out->imm = !size ? get8(d) : size == 3 ? get64(d) : size == 2 ? get32(d) : get16(d);
    set(d, soft_mov_ri[size]);
}

static void xchg_a(struct dec *d, uint8_t op)
{
    unsigned r = op_reg(d, op);
    if (op == 0x90 && !(d->rex & 1)) {
        if (d->rep == 0xf3)
            set_end(d, soft_op_pause);
        else
            set(d, soft_op_nop);
        return;
    }
    d->out->reg = 0;
    d->out->rm = reg_off(d, r, d->osize);
    set(d, soft_xchg_rr[d->osize]);
}

static void mov_sreg(struct dec *d, uint8_t op)
{
    modrm(d);
    unsigned seg = d->out->modrm >> 3 & 7;
    d->out->rm = reg_off(d, d->rmf, 3);
    d->out->imm8 = (uint8_t)seg;
    mark_size(d, d->osize);
    if (seg > 5 || (op == 0x8e && seg == HV_CS))
        ud(d);
    else if (op == 0x8e)
        set_end(d, soft_op_mov_sreg);
    else
        set(d, mem(d) ? soft_op_mov_from_sreg_m : soft_op_mov_from_sreg);
}

static void loops(struct dec *d, uint8_t op)
{
    address(d, HV_DS);
    d->relative = true;
    d->out->imm = imm_b(d);
    d->out->imm8 = (uint8_t)((op & 3) << 1 | (d->osize == 1 && !is64(d)));
    set_end(d, soft_op_loop);
}

static void row_60(struct dec *d, uint8_t op)
{
    unsigned size = d->osize;
    switch (op) {
    case 0x60: legacy_only(d, soft_pusha[size]); break;
    case 0x61: legacy_only(d, soft_popa[size]); break;
    case 0x62:
        if (is64(d)) {
            ud(d);
            break;
        }
        modrm(d);
        regs(d, 3);
        mark_size(d, size);
        set(d, mem(d) ? soft_op_bound : NULL);
        break;
    case 0x63:
        modrm(d);
        if (is64(d)) {
            d->out->reg = reg_off(d, d->regf, size);
            d->out->rm = reg_off(d, d->rmf, 2);
            if (size == 3)
                set(d, mem(d) ? soft_movsx_rm[2][3] : soft_movsx_rr[2][3]);
            else
                set(d, mem(d) ? soft_mov_rm[size] : soft_mov_rr[size]);
        } else {
            regs(d, 3);
            set(d, soft_op_arpl);
        }
        break;
    case 0x68:
        d->out->imm = size64(d) == 1 ? (uint64_t)(int16_t)get16(d) : (uint64_t)(int32_t)get32(d);
        set(d, soft_push_i[size64(d)]);
        break;
    case 0x6a:
        d->out->imm = imm_b(d);
        set(d, soft_push_i[size64(d)]);
        break;
    case 0x69:
    case 0x6b:
        modrm(d);
        regs(d, size);
        d->out->imm = op == 0x69 ? imm_z(d) : imm_b(d);
        set(d, mem(d) ? soft_imul_rmi[size] : soft_imul_rri[size]);
        break;
    case 0x6c:
    case 0x6d: string(d, STR_INS, size_of(d, op)); break;
    case 0x6e:
    case 0x6f: string(d, STR_OUTS, size_of(d, op)); break;
    default: ud(d);
    }
}

static void row_80(struct dec *d, uint8_t op)
{
    unsigned size = size_of(d, op);
    switch (op) {
    case 0x82:
        group1(d, op);
        if (is64(d))
            ud(d);
        break;
    case 0x80:
    case 0x81:
    case 0x83: group1(d, op); break;
    case 0x84:
    case 0x85:
        modrm(d);
        form_eg(d, size, soft_alu_rr[ALU_TEST][size], soft_alu_mr[ALU_TEST][size]);
        break;
    case 0x86:
    case 0x87:
        modrm(d);
        form_e(d, size, soft_xchg_rr[size], soft_xchg_mr[size]);
        d->lockable = mem(d);
        break;
    case 0x88:
    case 0x89:
        modrm(d);
        form_eg(d, size, soft_mov_rr[size], soft_mov_mr[size]);
        break;
    case 0x8a:
    case 0x8b:
        modrm(d);
        form_ge(d, size, soft_mov_rr[size], soft_mov_rm[size]);
        break;
    case 0x8c:
    case 0x8e: mov_sreg(d, op); break;
    case 0x8d:
        modrm(d);
        regs(d, d->osize);
        set(d, mem(d) ? soft_lea[d->osize] : NULL);
        break;
    default: /* 8F */
        modrm(d);
        regs(d, 3);
        if (d->regf & 7)
            ud(d);
        else
            set(d, mem(d) ? soft_pop_m[size64(d)] : soft_pop_r[size64(d)]);
    }
}

static void row_90(struct dec *d, uint8_t op)
{
    static insn_fn *const cbw[4] = {NULL, soft_op_cbw, soft_op_cwde, soft_op_cdqe};
    static insn_fn *const cwd[4] = {NULL, soft_op_cwd, soft_op_cdq, soft_op_cqo};
    switch (op) {
    case 0x98: set(d, cbw[d->osize]); break;
    case 0x99: set(d, cwd[d->osize]); break;
    case 0x9a: far_imm(d, soft_op_far_call); break;
    case 0x9b: set(d, soft_op_fwait); break;
    case 0x9c: set(d, soft_pushf[size64(d)]); break;
    case 0x9d: set_end(d, soft_popf[size64(d)]); break;
    case 0x9e: set(d, soft_op_sahf); break;
    case 0x9f: set(d, soft_op_lahf); break;
    default: xchg_a(d, op);
    }
}

static void row_a0(struct dec *d, uint8_t op)
{
    unsigned size = size_of(d, op);
    switch (op & 0xfe) {
    case 0xa0:
    case 0xa2: moffs(d, op); break;
    case 0xa4: string(d, STR_MOVS, size); break;
    case 0xa6: string(d, STR_CMPS, size); break;
    case 0xa8:
        d->out->reg = 0;
        d->out->imm = size ? imm_z(d) : imm_b(d);
        set(d, soft_alu_ri[ALU_TEST][size]);
        break;
    case 0xaa: string(d, STR_STOS, size); break;
    case 0xac: string(d, STR_LODS, size); break;
    default: string(d, STR_SCAS, size);
    }
}

static void row_c0(struct dec *d, uint8_t op)
{
    unsigned size = size_of(d, op), bs = branch_size(d);
    switch (op) {
    case 0xc0:
    case 0xc1: shift_group(d, op); break;
    case 0xc2:
        d->out->imm = get16(d);
        d->out->imm8 = bs == 1;
        set_end(d, soft_ret[bs]);
        break;
    case 0xc3:
        d->out->imm8 = bs == 1;
        set_end(d, bs == 3 ? soft_op_ret64 : soft_ret[bs]);
        break;
    case 0xc4:
    case 0xc5:
        if (is64(d))
            ud(d);
        else
            lseg(d, op == 0xc4 ? HV_ES : HV_DS);
        break;
    case 0xc6:
    case 0xc7:
        modrm(d);
        d->out->imm = size ? imm_z(d) : imm_b(d);
        d->out->reg = reg_off(d, d->rmf, size);
        set(d, d->regf & 7 ? NULL : mem(d) ? soft_mov_mi[size] : soft_mov_ri[size]);
        break;
    case 0xc8:
        d->out->imm = get16(d);
        d->out->imm8 = get8(d);
        set(d, soft_enter[size64(d)]);
        break;
    case 0xc9: set(d, soft_leave[size64(d)]); break;
    case 0xca:
        d->out->imm = get16(d);
        /* fall through */
    case 0xcb:
        mark_size(d, d->osize);
        set_end(d, soft_op_retf);
        break;
    case 0xcc: set_end(d, soft_op_int3); break;
    case 0xcd:
        d->out->imm8 = get8(d);
        set_end(d, soft_op_int);
        break;
    case 0xce:
        d->end = true;
        legacy_only(d, soft_op_into);
        break;
    default: mark_size(d, d->osize); set_end(d, soft_op_iret);
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
        d->out->imm8 = get8(d);
        legacy_only(d, soft_op_aam);
        break;
    case 0xd5:
        d->out->imm8 = get8(d);
        legacy_only(d, soft_op_aad);
        break;
    case 0xd6: legacy_only(d, soft_op_salc); break;
    case 0xd7:
        address(d, HV_DS);
        set(d, soft_op_xlat);
        break;
    default: shift_group(d, op);
    }
}

static void row_e0(struct dec *d, uint8_t op)
{
    unsigned size = size_of(d, op);
    switch (op) {
    case 0xe4:
    case 0xe5: port(d, false, size, false); break;
    case 0xe6:
    case 0xe7: port(d, true, size, false); break;
    case 0xe8: jump_rel(d, soft_op_call64, soft_call_rel[d->osize], false); break;
    case 0xe9: jump_rel(d, soft_op_jmp, soft_op_jmp_legacy, false); break;
    case 0xea: far_imm(d, soft_op_far_jmp); break;
    case 0xeb: jump_rel(d, soft_op_jmp, soft_op_jmp_legacy, true); break;
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
    case 0xf1: set_end(d, soft_op_int1); break;
    case 0xf4: set_end(d, soft_op_hlt); break;
    case 0xf5: set(d, soft_op_cmc); break;
    case 0xf6:
    case 0xf7: group3(d, op); break;
    case 0xf8: set(d, soft_op_clc); break;
    case 0xf9: set(d, soft_op_stc); break;
    case 0xfa: set(d, soft_op_cli); break;
    case 0xfb: set_end(d, soft_op_sti); break;
    case 0xfc: set(d, soft_op_cld); break;
    case 0xfd: set(d, soft_op_std); break;
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
        map_0f(d);
    else if (col < 6)
        alu(d, op);
    else if (op < 0x20)
        push_pop_seg(d, op >> 3, col == 7, true);
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
        d->out->rm = reg_off(d, op_reg(d, op), 3);
        set(d, op & 8 ? soft_pop_r[size64(d)] : soft_push_r[size64(d)]);
        break;
    case 0x6: row_60(d, op); break;
    case 0x7: jump_rel(d, soft_jcc[op & 15], soft_jcc_legacy[op & 15], true); break;
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
        uint8_t b = get8(d);
        if (d->is_short || d->is_long)
            return b;
        if (is64(d) && (b & 0xf0) == 0x40) {
            d->rex = b;
            continue;
        }
        switch (b) {
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
            if (!is64(d))
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
    if (is64(d)) {
        d->osize = d->rex & 8 ? 3 : d->opsz ? 1 : 2;
        d->asize = d->adsz ? 2 : 3;
    } else {
        bool wide = d->mode == SOFT_MODE32;
        d->osize = wide != d->opsz ? 2 : 1;
        d->asize = wide != d->adsz ? 2 : 1;
    }
}

enum decode_result soft_decode(struct insn *out, const uint8_t *bytes, unsigned left, unsigned mode,
                               unsigned off)
{
    struct dec d = {.out = out, .p = bytes, .left = left, .mode = mode & SOFT_MODE_SIZE, .seg = -1};
    memset(out, 0, sizeof *out);
    out->off = (uint16_t)off;
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
        ud(&d);
    out->len = (uint8_t)d.pos;
    out->flags |= (uint8_t)((d.lock ? INSN_LOCK : 0) | (d.rep == 0xf3 ? INSN_REP : 0) |
                            (d.rep == 0xf2 ? INSN_REPNE : 0) | (d.opsz ? INSN_OPSZ : 0) |
                            (d.rex & 8 ? INSN_REXW : 0) | (d.rex ? INSN_REX : 0) |
                            (is64(&d) ? INSN_NEAR64 : 0));
    if (d.relative)
        out->imm += off + d.pos;
    if (d.rip_relative)
        out->disp += (int32_t)(off + d.pos);
    return d.end ? DECODE_END : DECODE_OK;
}
