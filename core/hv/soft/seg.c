/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/hv/soft/seg.h"
#include "core/hv/soft/soft.h"

void soft_seg_update(struct soft_vp *vp, unsigned seg)
{
    if (seg >= 6)
        return;
    const struct hv_segment *s = &vp->seg[seg];
    bool flat = s->limit == 0xffffffffu && (s->attrib & SEG_P);
    bool code = s->attrib & SEG_CODE;
    if (!code && (s->attrib & SEG_E))
        flat = false;
    vp->seg_read[seg] = flat && (!code || (s->attrib & SEG_R) || !soft_protected(vp));
    vp->seg_write[seg] = flat && ((!code && (s->attrib & SEG_W)) || !soft_protected(vp));
}

static bool data_flatness_changed(const struct soft_vp *vp)
{
    return vp->code == SOFT_MODE32 && soft_flat(vp) != !!(vp->jump_key[0] & SOFT_MODE_FLAT);
}

void soft_set_seg(struct soft_vp *vp, unsigned seg, const struct hv_segment *s)
{
    vp->seg[seg] = *s;
    soft_seg_update(vp, seg);
    if (seg == HV_SS || data_flatness_changed(vp))
        soft_update_mode(vp);
}

void soft_set_cs(struct soft_vp *vp, const struct hv_segment *s, unsigned cpl)
{
    vp->seg[HV_CS] = *s;
    vp->cpl = (uint8_t)cpl;
    soft_seg_update(vp, HV_CS);
    soft_update_mode(vp);
}

uint64_t soft_seg_lin(struct soft_vp *vp, const struct insn *i, unsigned seg, uint64_t offset,
                      unsigned size, bool write)
{
    const struct hv_segment *s = &vp->seg[seg];
    if (SOFT_LIKELY(write ? vp->seg_write[seg] : vp->seg_read[seg]) &&
        SOFT_LIKELY(offset + size - 1 <= 0xffffffffu))
        return (uint32_t)(s->base + offset);
    unsigned vector = seg == HV_SS ? EXC_SS : EXC_GP;
    bool code = s->attrib & SEG_CODE;
    if (soft_protected(vp)) {
        if (!(s->attrib & SEG_P))
            soft_raise_error(vp, i, vector, 0);
        if (write ? code || !(s->attrib & SEG_W) : code && !(s->attrib & SEG_R))
            soft_raise_error(vp, i, vector, 0);
    }
    uint64_t last = offset + size - 1;
    if (!code && (s->attrib & SEG_E)) {
        if (offset <= s->limit || last > (s->attrib & SEG_D ? 0xffffffffu : 0xffffu))
            soft_raise_error(vp, i, vector, 0);
    } else if (last > s->limit) { /* no wrap at 4 GiB, as AMD has it */
        soft_raise_error(vp, i, vector, 0);
    }
    return (uint32_t)(s->base + offset);
}

uint64_t soft_ea_legacy(struct soft_vp *vp, const struct insn *i, uint64_t offset, unsigned size,
                        bool write)
{
    if (i->ea & INSN_EA32)
        offset = (uint32_t)offset;
    else if (i->ea & INSN_EA16)
        offset = (uint16_t)offset;
    if (i->ea & INSN_EASEG)
        return soft_seg_lin(vp, i, i->seg, offset, size, write);
    return offset + SOFT_REG(uint64_t, vp, i->segbase);
}

/* Descriptors. */

static bool desc_find(struct soft_vp *vp, uint16_t sel, uint64_t *lin)
{
    uint64_t base = vp->gdtr.base, limit = vp->gdtr.limit;
    if (sel & 4) {
        const struct hv_segment *ldt = &vp->seg[HV_LDTR];
        if (!(ldt->attrib & SEG_P))
            return false;
        base = ldt->base;
        limit = ldt->limit;
    }
    *lin = base + (sel & 0xfff8);
    return (uint64_t)(sel | 7) <= limit;
}

bool soft_desc_try(struct soft_vp *vp, const struct insn *i, uint16_t sel, struct desc *d)
{
    if (!(sel & 0xfffc) || !desc_find(vp, sel, &d->at))
        return false;
    soft_sys_read(vp, i, d->at, &d->raw, 8);
    d->high = 0;
    if (soft_long_mode(vp) && !desc_s(d)) {
        uint64_t limit = sel & 4 ? vp->seg[HV_LDTR].limit : vp->gdtr.limit;
        if ((uint64_t)(sel | 7) + 8 <= limit)
            soft_sys_read(vp, i, d->at + 8, &d->high, 8);
    }
    return true;
}

void soft_desc_read(struct soft_vp *vp, const struct insn *i, uint16_t sel, unsigned vector,
                    struct desc *d)
{
    if (!soft_desc_try(vp, i, sel, d))
        soft_raise_sel(vp, i, vector, sel);
}

void soft_desc_to_seg(const struct desc *d, uint16_t sel, bool wide, struct hv_segment *s)
{
    uint32_t lo = (uint32_t)d->raw, hi = (uint32_t)(d->raw >> 32);
    s->selector = sel;
    s->attrib = (uint16_t)(hi >> 8 & 0xf0ff);
    s->limit = (lo & 0xffff) | (hi & 0xf0000);
    if (s->attrib & SEG_G)
        s->limit = s->limit << 12 | 0xfff;
    s->base = lo >> 16 | (hi & 0xff) << 16 | (hi & 0xff000000u);
    if (wide)
        s->base |= d->high << 32;
}

void soft_desc_mark(struct soft_vp *vp, const struct insn *i, struct desc *d)
{
    if (d->raw >> 40 & 1)
        return;
    uint8_t type = (uint8_t)(d->raw >> 40 | 1);
    d->raw |= 1ull << 40;
    soft_sys_write(vp, i, d->at + 5, &type, 1);
}

static void real_seg(struct soft_vp *vp, unsigned seg, uint16_t sel)
{
    struct hv_segment s = vp->seg[seg];
    s.selector = sel;
    s.base = (uint32_t)sel << 4;
    if (vp->eflags & FL_VM) {
        s.limit = 0xffff;
        s.attrib = 0xf3;
    }
    soft_set_seg(vp, seg, &s);
}

void soft_check_ss(struct soft_vp *vp, const struct insn *i, uint16_t sel, unsigned cpl,
                   unsigned vector, struct hv_segment *out)
{
    struct desc d;
    if (!(sel & 0xfffc))
        soft_raise_error(vp, i, vector, vp->ext);
    soft_desc_read(vp, i, sel, vector, &d);
    if ((sel & 3) != cpl || !desc_s(&d) || desc_code(&d) || !(desc_type(&d) & SEG_W) ||
        desc_dpl(&d) != cpl)
        soft_raise_sel(vp, i, vector, sel);
    if (!desc_present(&d))
        soft_raise_sel(vp, i, EXC_SS, sel);
    soft_desc_mark(vp, i, &d);
    soft_desc_to_seg(&d, sel, false, out);
}

static void null_seg(struct soft_vp *vp, unsigned seg, uint16_t sel)
{
    struct hv_segment s = vp->seg[seg];
    s.selector = sel;
    s.attrib &= (uint16_t)~SEG_P;
    s.base = 0;
    s.limit = 0;
    if (seg == HV_SS)
        s.attrib = (uint16_t)((s.attrib & ~0x60u) | vp->cpl << 5);
    soft_set_seg(vp, seg, &s);
}

void soft_load_seg(struct soft_vp *vp, const struct insn *i, unsigned seg, uint16_t sel)
{
    struct hv_segment s;
    if (!soft_protected(vp)) {
        real_seg(vp, seg, sel);
        return;
    }
    if (seg == HV_SS) {
        if (!(sel & 0xfffc) && vp->code == SOFT_MODE64 && vp->cpl < 3 && (sel & 3) == vp->cpl) {
            null_seg(vp, seg, sel);
            return;
        }
        soft_check_ss(vp, i, sel, vp->cpl, EXC_GP, &s);
        soft_set_seg(vp, seg, &s);
        return;
    }
    if (!(sel & 0xfffc)) {
        null_seg(vp, seg, sel);
        return;
    }
    struct desc d;
    soft_desc_read(vp, i, sel, EXC_GP, &d);
    bool code = desc_code(&d);
    if (!desc_s(&d) || (code && !(desc_type(&d) & SEG_R)))
        soft_raise_sel(vp, i, EXC_GP, sel);
    if (!(code && desc_conforming(&d)) &&
        ((unsigned)(sel & 3) > desc_dpl(&d) || vp->cpl > desc_dpl(&d)))
        soft_raise_sel(vp, i, EXC_GP, sel);
    if (!desc_present(&d))
        soft_raise_sel(vp, i, EXC_NP, sel);
    soft_desc_mark(vp, i, &d);
    soft_desc_to_seg(&d, sel, false, &s);
    soft_set_seg(vp, seg, &s);
}

void soft_drop_segs(struct soft_vp *vp)
{
    static const uint8_t segs[] = {HV_ES, HV_DS, HV_FS, HV_GS};
    for (unsigned n = 0; n < 4; n++) {
        struct hv_segment *s = &vp->seg[segs[n]];
        bool conforming = (s->attrib & SEG_CODE) && (s->attrib & SEG_C);
        if (!(s->attrib & SEG_P) || conforming || (unsigned)(s->attrib >> 5 & 3) >= vp->cpl)
            continue;
        s->selector = 0; /* the base stays: FS and GS have it in 64-bit code */
        s->attrib &= (uint16_t)~SEG_P;
        soft_seg_update(vp, segs[n]);
    }
    if (data_flatness_changed(vp))
        soft_update_mode(vp);
}

void soft_tss_stack(struct soft_vp *vp, const struct insn *i, unsigned cpl, uint16_t *ss,
                    uint64_t *sp)
{
    const struct hv_segment *tr = &vp->seg[HV_TR];
    uint8_t b[8] = {0};
    unsigned type = tr->attrib & 15, size = soft_long_mode(vp) ? 8 : type & 8 ? 6 : 4;
    unsigned at = soft_long_mode(vp) ? 4 + cpl * 8 : type & 8 ? 4 + cpl * 8 : 2 + cpl * 4;
    if (at + size - 1 > tr->limit)
        soft_raise_sel(vp, i, EXC_TS, tr->selector);
    soft_sys_read(vp, i, tr->base + at, b, size);
    uint64_t v;
    memcpy(&v, b, 8);
    if (size == 8) {
        *sp = v;
        *ss = (uint16_t)cpl;
    } else if (size == 6) {
        *sp = (uint32_t)v;
        *ss = (uint16_t)(v >> 32);
    } else {
        *sp = (uint16_t)v;
        *ss = (uint16_t)(v >> 16);
    }
}
