/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Hardware task switches, 16- and 32-bit TSS. Source: SDM vol. 3, chapter 8. */
#include "core/base/bytes.h"
#include "core/hv/soft/seg.h"
#include "core/hv/soft/soft.h"

enum { TSS32_LIMIT = 103, TSS16_LIMIT = 43 };

struct task {
    uint64_t cr3, rip, eflags, gpr[8];
    uint16_t seg[6], ldt;
    bool wide;
};

static void read_task(struct soft_vp *vp, const struct insn *i, uint64_t base, struct task *t)
{
    uint8_t b[104];
    soft_sys_read(vp, i, base, b, t->wide ? 104 : 44);
    for (unsigned n = 0; n < 8; n++)
        t->gpr[n] = t->wide ? get_le32(b + 0x28 + 4 * n) : get_le16(b + 0x12 + 2 * n) | 0xffff0000u;
    for (unsigned n = 0; n < 6; n++)
        t->seg[n] = t->wide ? get_le16(b + 0x48 + 4 * n) : n < 4 ? get_le16(b + 0x22 + 2 * n) : 0;
    t->cr3 = t->wide ? get_le32(b + 0x1c) : vp->cr3;
    t->rip = t->wide ? get_le32(b + 0x20) : get_le16(b + 0x0e);
    t->eflags = t->wide ? get_le32(b + 0x24) : get_le16(b + 0x10);
    t->ldt = get_le16(b + (t->wide ? 0x60 : 0x2a));
}

static void save_task(struct soft_vp *vp, const struct insn *i, uint64_t next, uint64_t flags)
{
    uint64_t base = vp->seg[HV_TR].base;
    uint8_t b[104];
    if (vp->seg[HV_TR].attrib & 8) {
        soft_sys_read(vp, i, base, b, 104);
        put_le32(b + 0x20, (uint32_t)next);
        put_le32(b + 0x24, (uint32_t)flags);
        for (unsigned n = 0; n < 8; n++)
            put_le32(b + 0x28 + 4 * n, (uint32_t)vp->gpr[n]);
        for (unsigned n = 0; n < 6; n++)
            put_le16(b + 0x48 + 4 * n, vp->seg[n].selector);
        soft_sys_write(vp, i, base + 0x20, b + 0x20, 0x60 - 0x20);
        return;
    }
    put_le16(b + 0x0e, (uint16_t)next);
    put_le16(b + 0x10, (uint16_t)flags);
    for (unsigned n = 0; n < 8; n++)
        put_le16(b + 0x12 + 2 * n, (uint16_t)vp->gpr[n]);
    for (unsigned n = 0; n < 4; n++)
        put_le16(b + 0x22 + 2 * n, vp->seg[n].selector);
    soft_sys_write(vp, i, base + 0x0e, b + 0x0e, 0x2a - 0x0e);
}

static void set_busy(struct soft_vp *vp, const struct insn *i, uint64_t at, bool busy)
{
    uint8_t type;
    soft_sys_read(vp, i, at + 5, &type, 1);
    type = (uint8_t)(busy ? type | 2 : type & ~2u);
    soft_sys_write(vp, i, at + 5, &type, 1);
}

/* From here on faults belong to the new task. */
static void load_task_ldt(struct soft_vp *vp, uint16_t sel)
{
    struct desc d;
    vp->seg[HV_LDTR] = (struct hv_segment){.selector = sel};
    if (!(sel & 0xfffc))
        return;
    if (sel & 4)
        soft_raise_sel(vp, NULL, EXC_TS, sel);
    soft_desc_read(vp, NULL, sel, EXC_TS, &d);
    if (desc_s(&d) || desc_type(&d) != 2 || !desc_present(&d))
        soft_raise_sel(vp, NULL, EXC_TS, sel);
    soft_desc_to_seg(&d, sel, false, &vp->seg[HV_LDTR]);
}

static void load_task_cs(struct soft_vp *vp, uint16_t sel)
{
    struct desc d;
    struct hv_segment cs;
    unsigned rpl = sel & 3;
    if (!(sel & 0xfffc))
        soft_raise_sel(vp, NULL, EXC_TS, sel);
    soft_desc_read(vp, NULL, sel, EXC_TS, &d);
    if (!desc_code(&d) || (desc_conforming(&d) ? desc_dpl(&d) > rpl : desc_dpl(&d) != rpl))
        soft_raise_sel(vp, NULL, EXC_TS, sel);
    if (!desc_present(&d))
        soft_raise_sel(vp, NULL, EXC_NP, sel);
    soft_desc_mark(vp, NULL, &d);
    soft_desc_to_seg(&d, sel, false, &cs);
    soft_set_cs(vp, &cs, rpl);
}

static void load_task_data(struct soft_vp *vp, unsigned seg, uint16_t sel)
{
    struct desc d;
    struct hv_segment s = {.selector = sel};
    if (sel & 0xfffc) {
        soft_desc_read(vp, NULL, sel, EXC_TS, &d);
        bool code = desc_code(&d);
        if (!desc_s(&d) || (code && !(desc_type(&d) & SEG_R)) ||
            (!(code && desc_conforming(&d)) &&
             ((unsigned)(sel & 3) > desc_dpl(&d) || vp->cpl > desc_dpl(&d))))
            soft_raise_sel(vp, NULL, EXC_TS, sel);
        if (!desc_present(&d))
            soft_raise_sel(vp, NULL, EXC_NP, sel);
        soft_desc_mark(vp, NULL, &d);
        soft_desc_to_seg(&d, sel, false, &s);
    }
    soft_set_seg(vp, seg, &s);
}

static void load_task_segs(struct soft_vp *vp, const struct task *t)
{
    static const uint8_t data[4] = {HV_ES, HV_DS, HV_FS, HV_GS};
    struct hv_segment ss;
    for (unsigned n = 0; n < 6; n++) /* not yet valid */
        vp->seg[n] = (struct hv_segment){.selector = t->seg[n], .limit = 0xffff};
    load_task_ldt(vp, t->ldt);
    if (vp->eflags & FL_VM) {
        struct hv_segment cs = {(uint64_t)t->seg[HV_CS] << 4, 0xffff, t->seg[HV_CS], 0xfb};
        for (unsigned n = 0; n < 6; n++)
            if (n != HV_CS)
                soft_load_seg(vp, NULL, n, t->seg[n]);
        soft_set_cs(vp, &cs, 3);
        return;
    }
    load_task_cs(vp, t->seg[HV_CS]);
    soft_check_ss(vp, NULL, t->seg[HV_SS], vp->cpl, EXC_TS, &ss);
    soft_set_seg(vp, HV_SS, &ss);
    for (unsigned n = 0; n < 4; n++)
        load_task_data(vp, data[n], t->seg[data[n]]);
}

static void check_tss(struct soft_vp *vp, const struct insn *i, uint16_t sel,
                      enum soft_task_how how, struct desc *d)
{
    unsigned vector = how == TASK_IRET ? EXC_TS : EXC_GP;
    if (!(sel & 0xfffc) || (sel & 4))
        soft_raise_sel(vp, i, vector, sel);
    soft_desc_read(vp, i, sel, vector, d);
    unsigned type = desc_type(d);
    bool busy = type & 2;
    if (desc_s(d) || (type & 5) != 1 || busy != (how == TASK_IRET))
        soft_raise_sel(vp, i, vector, sel);
    if (!desc_present(d))
        soft_raise_sel(vp, i, EXC_NP, sel);
}

void soft_task_switch(struct soft_vp *vp, const struct insn *i, uint16_t sel,
                      enum soft_task_how how, uint64_t next)
{
    struct desc d;
    struct hv_segment tss;
    check_tss(vp, i, sel, how, &d);
    soft_desc_to_seg(&d, sel, false, &tss);
    struct task t = {.wide = desc_type(&d) & 8};
    if (tss.limit < (t.wide ? TSS32_LIMIT : TSS16_LIMIT))
        soft_raise_sel(vp, i, EXC_TS, sel);
    read_task(vp, i, tss.base, &t);
    uint64_t flags = soft_rflags(vp), old_at = vp->gdtr.base + (vp->seg[HV_TR].selector & 0xfff8);
    if (how == TASK_IRET)
        flags &= ~(uint64_t)FL_NT;
    save_task(vp, i, next, flags);
    if (how == TASK_JMP || how == TASK_IRET)
        set_busy(vp, i, old_at, false);
    if (how == TASK_CALL || how == TASK_INT) {
        uint16_t back = vp->seg[HV_TR].selector;
        soft_sys_write(vp, i, tss.base, &back, 2);
        t.eflags |= FL_NT;
    }
    if (how != TASK_IRET)
        set_busy(vp, i, d.at, true);
    tss.attrib |= 2;
    vp->seg[HV_TR] = tss;
    vp->cr0 |= CR0_TS;
    if ((vp->cr0 & CR0_PG) && t.wide && t.cr3 != vp->cr3) {
        vp->cr3 = t.cr3;
        if (vp->cr4 & CR4_PAE)
            soft_load_pdptes(vp, t.cr3);
        soft_flush_tlb(vp, false);
    }
    vp->rip = t.rip;
    vp->eflags = (uint32_t)(t.eflags & 0x277fd7 & ~(uint64_t)FL_ARITH) | 2;
    soft_set_arith(vp, t.eflags);
    for (unsigned n = 0; n < 8; n++)
        vp->gpr[n] = t.gpr[n];
    vp->dr7 &= ~0x55ull; /* the local enables */
    load_task_segs(vp, &t);
    soft_update_mode(vp);
    if (vp->rip > vp->seg[HV_CS].limit)
        soft_raise_error(vp, NULL, EXC_GP, vp->ext);
}
