/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Bytes, addressing forms and operand sizes. Source: SDM vol. 2, chapter 2. */
#include "core/hv/soft/decode-int.h"

uint8_t dec_get8(struct dec *d)
{
    if (d->is_short || d->is_long)
        return 0;
    if (d->pos < 15 && d->pos < d->left)
        return d->p[d->pos++];
    d->is_long = d->pos >= 15;
    d->is_short = !d->is_long;
    return 0;
}

uint16_t dec_get16(struct dec *d)
{
    uint16_t v = dec_get8(d);
    return (uint16_t)(v | dec_get8(d) << 8);
}

uint32_t dec_get32(struct dec *d)
{
    uint32_t v = dec_get16(d);
    return v | (uint32_t)dec_get16(d) << 16;
}

uint64_t dec_get64(struct dec *d)
{
    uint64_t v = dec_get32(d);
    return v | (uint64_t)dec_get32(d) << 32;
}

uint64_t dec_imm_z(struct dec *d)
{
    return d->osize == 1 ? (uint64_t)(int16_t)dec_get16(d) : (uint64_t)(int32_t)dec_get32(d);
}

uint64_t dec_imm_b(struct dec *d)
{
    return (uint64_t)(int8_t)dec_get8(d);
}

bool dec_is64(const struct dec *d)
{
    return d->mode == SOFT_MODE64;
}

static uint8_t reg8(const struct dec *d, unsigned n)
{
    return (uint8_t)(d->rex || n < 4 || n > 7 ? n * 8 : (n - 4) * 8 + 1);
}

uint8_t dec_reg_off(const struct dec *d, unsigned n, unsigned size)
{
    return size ? (uint8_t)(n * 8) : reg8(d, n);
}

static uint8_t seg_off(unsigned seg)
{
    return (uint8_t)(offsetof(struct soft_vp, seg) + seg * sizeof(struct hv_segment) +
                     offsetof(struct hv_segment, base));
}

void dec_address(struct dec *d, unsigned default_seg)
{
    struct insn *o = d->out;
    unsigned seg = d->seg >= 0 ? (unsigned)d->seg : default_seg;
    o->seg = seg & 7;
    if (dec_is64(d)) {
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
        o->disp = dec_get16(d);
        seg = HV_DS;
    } else if (d->mod == 1) {
        o->disp = (int8_t)dec_get8(d);
    } else if (d->mod == 2) {
        o->disp = (int16_t)dec_get16(d);
    }
    dec_address(d, seg);
}

static void modrm32(struct dec *d)
{
    struct insn *o = d->out;
    unsigned rm = d->rmf & 7, seg = HV_DS, base = rm;
    o->index = OFF_ZERO;
    if (rm == 4) {
        uint8_t sib = dec_get8(d);
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
        o->disp = (int32_t)dec_get32(d);
        if (dec_is64(d) && rm == 5) {
            o->base = OFF_BLOCK;
            d->rip_relative = true;
        }
    } else {
        if (base == 4 || base == 5)
            seg = d->rex & 1 ? HV_DS : HV_SS;
        o->base = (uint8_t)((base | (d->rex & 1) << 3) * 8);
        if (d->mod == 1)
            o->disp = (int8_t)dec_get8(d);
        else if (d->mod == 2)
            o->disp = (int32_t)dec_get32(d);
    }
    dec_address(d, seg);
}

void dec_modrm(struct dec *d)
{
    uint8_t b = dec_get8(d);
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

bool dec_mem(const struct dec *d)
{
    return d->mod != 3;
}

void dec_ud(struct dec *d)
{
    d->out->fn = soft_op_ud;
    d->lockable = true; /* #UD either way */
    d->end = true;
}

void dec_set(struct dec *d, insn_fn *fn)
{
    if (fn)
        d->out->fn = fn;
    else
        dec_ud(d);
}

void dec_set_end(struct dec *d, insn_fn *fn)
{
    d->end = true;
    dec_set(d, fn);
}

void dec_regs(struct dec *d, unsigned size)
{
    d->out->reg = dec_reg_off(d, d->regf, size);
    d->out->rm = dec_reg_off(d, d->rmf, size);
}

void dec_form_eg(struct dec *d, unsigned size, insn_fn *rr, insn_fn *mr)
{
    dec_regs(d, size);
    if (dec_mem(d)) {
        dec_set(d, mr);
        return;
    }
    uint8_t t = d->out->reg;
    d->out->reg = d->out->rm;
    d->out->rm = t;
    dec_set(d, rr);
}

void dec_form_ge(struct dec *d, unsigned size, insn_fn *rr, insn_fn *rm)
{
    dec_regs(d, size);
    dec_set(d, dec_mem(d) ? rm : rr);
}

void dec_form_e(struct dec *d, unsigned size, insn_fn *r, insn_fn *m)
{
    dec_regs(d, size);
    dec_set(d, dec_mem(d) ? m : r);
}

unsigned dec_size_of(const struct dec *d,
                     uint8_t op) /* bit 0 of the opcode: byte or operand size */
{
    return op & 1 ? d->osize : 0;
}

static unsigned bytes_of(unsigned size)
{
    return 1u << size;
}

unsigned dec_size64(const struct dec *d)
{
    return dec_is64(d) ? (d->opsz && !(d->rex & 8) ? 1 : 3) : d->osize;
}

unsigned dec_branch_size(const struct dec *d)
{
    return dec_is64(d) ? 3 : d->osize;
}

void dec_mark_size(struct dec *d, unsigned size)
{
    d->out->imm8 = (uint8_t)((d->out->imm8 & 15) | bytes_of(size) << 4);
}

void dec_lock_forms(struct dec *d, insn_fn *locked)
{
    d->lockable = dec_mem(d) && locked;
    if (d->lock && d->lockable)
        dec_set(d, locked);
}

void dec_jump_rel(struct dec *d, insn_fn *wide, insn_fn *legacy, bool byte)
{
    d->relative = true;
    if (byte)
        d->out->imm = dec_imm_b(d);
    else if (dec_is64(d))
        d->out->imm = (uint64_t)(int32_t)dec_get32(d);
    else
        d->out->imm = dec_imm_z(d);
    d->out->imm8 = d->osize == 1;
    dec_set_end(d, dec_is64(d) ? wide : legacy);
}

void dec_push_pop_seg(struct dec *d, unsigned seg, bool pop, bool legacy)
{
    if (legacy && dec_is64(d)) {
        dec_ud(d);
        return;
    }
    d->out->imm8 = (uint8_t)seg;
    if (pop)
        dec_set_end(d, soft_pop_seg[dec_size64(d)]);
    else
        dec_set(d, soft_push_seg[dec_size64(d)]);
}

void dec_lseg(struct dec *d, unsigned seg)
{
    dec_modrm(d);
    d->out->imm8 = (uint8_t)seg;
    dec_mark_size(d, d->osize);
    dec_regs(d, 3);
    dec_set_end(d, dec_mem(d) ? soft_op_lseg : NULL);
}
