/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Exceptions and interrupts: raising, combining, entering handlers. Source: SDM vol. 3, chapter 6.
 */
#include <stdio.h>

#include "core/hv/soft/seg.h"
#include "core/hv/soft/soft.h"

_Noreturn void soft_stop(struct soft_vp *vp, enum hv_exit_kind kind, const char *text)
{
    vp->exit->kind = kind;
    snprintf(vp->exit->text, sizeof vp->exit->text, "%s", text);
    vp->stopped = true;
    longjmp(vp->fault, 1);
}

static bool contributory(unsigned v)
{
    return v == EXC_DE || (v >= EXC_TS && v <= EXC_GP);
}

/* SDM vol. 3, table 6-5. */
static void combine(struct soft_vp *vp, unsigned *vector, bool *has_error, uint32_t *error)
{
    unsigned first = vp->deliver_vector;
    if (first == EXC_DF)
        soft_stop(vp, HV_EXIT_TRIPLE_FAULT, "triple fault");
    if ((contributory(first) && contributory(*vector)) ||
        (first == EXC_PF && (contributory(*vector) || *vector == EXC_PF))) {
        *vector = EXC_DF;
        *has_error = true;
        *error = 0;
    }
}

static _Noreturn void raise_any(struct soft_vp *vp, const struct insn *i, unsigned vector,
                                bool has_error, uint32_t error)
{
    if (i)
        vp->rip = soft_insn_rip(vp, i);
    if (vp->delivering)
        combine(vp, &vector, &has_error, &error);
    vp->exc_pending = true;
    vp->exc_vector = (uint8_t)vector;
    vp->exc_has_error = has_error;
    vp->exc_error = error;
    longjmp(vp->fault, 1);
}

_Noreturn void soft_raise(struct soft_vp *vp, const struct insn *i, unsigned vector)
{
    raise_any(vp, i, vector, false, 0);
}

_Noreturn void soft_raise_error(struct soft_vp *vp, const struct insn *i, unsigned vector,
                                uint32_t error)
{
    raise_any(vp, i, vector, true, error);
}

static _Noreturn void idt_fault(struct soft_vp *vp, unsigned vector, unsigned idt_vector)
{
    soft_raise_error(vp, NULL, vector, idt_vector * 8 + 2 + vp->ext);
}

/* A stack of `cpl` being filled before CPL and SS change. */
struct frame {
    struct hv_segment ss;
    uint64_t sp, mask;
    unsigned cpl, size;
};

static void frame_push(struct soft_vp *vp, struct frame *f, uint64_t v)
{
    uint64_t sp = (f->sp - f->size) & f->mask, lin = sp;
    if (!soft_long_mode(vp)) {
        const struct hv_segment *s = &f->ss;
        bool down = s->attrib & SEG_E;
        bool bad = down ? sp <= s->limit : sp + f->size - 1 > s->limit;
        if (bad)
            soft_raise_error(vp, NULL, EXC_SS,
                             (f->cpl != vp->cpl ? s->selector & 0xfffcu : 0) | vp->ext);
        lin = (uint32_t)(s->base + sp);
    } else {
        soft_stack_check(vp, NULL, lin);
    }
    soft_write_as(vp, NULL, f->cpl, lin, &v, f->size);
    f->sp = sp;
}

static uint64_t pushed_flags(const struct soft_vp *vp, enum soft_event kind, unsigned vector)
{
    uint64_t fl = soft_rflags(vp);
    bool fault = kind == EVENT_FAULT && vector != EXC_DB && vector != EXC_NMI;
    return fault ? fl | FL_RF : fl;
}

static void deliver_real(struct soft_vp *vp, unsigned vector, uint64_t back, uint64_t table)
{
    uint16_t at[2];
    soft_sys_read(vp, NULL, table + vector * 4, at, 4);
    uint64_t fl = soft_rflags(vp) & ~(uint64_t)FL_VM;
    if (vp->eflags & FL_VM) { /* VME: IF is VIF, IOPL reads 3 */
        fl |= FL_IOPL;
        if ((vp->eflags & FL_IOPL) != FL_IOPL)
            fl = (fl & ~(uint64_t)FL_IF) | (vp->eflags & FL_VIF ? FL_IF : 0);
    }
    uint64_t sp = vp->gpr[HV_RSP];
    soft_stack_put(vp, NULL, (sp - 2) & vp->stack_mask, fl, 2);
    soft_stack_put(vp, NULL, (sp - 4) & vp->stack_mask, vp->seg[HV_CS].selector, 2);
    soft_stack_put(vp, NULL, (sp - 6) & vp->stack_mask, back, 2);
    soft_set_sp(vp, sp - 6);
    uint32_t clear = FL_TF | FL_AC | FL_RF;
    clear |= (vp->eflags & FL_VM) && (vp->eflags & FL_IOPL) != FL_IOPL ? FL_VIF : FL_IF;
    if (vp->eflags & FL_VM)
        clear &= ~(uint32_t)FL_AC;
    vp->eflags &= ~clear;
    struct hv_segment cs = vp->seg[HV_CS];
    cs.selector = at[1];
    cs.base = (uint32_t)at[1] << 4;
    vp->rip = at[0];
    soft_set_cs(vp, &cs, vp->cpl);
}

struct gate {
    unsigned type, dpl, ist;
    uint16_t sel;
    uint64_t offset;
};

static void read_gate(struct soft_vp *vp, enum soft_event kind, unsigned vector, struct gate *g)
{
    uint64_t raw[2] = {0, 0};
    unsigned size = soft_long_mode(vp) ? 16 : 8;
    if (vector * size + size - 1 > vp->idtr.limit)
        idt_fault(vp, EXC_GP, vector);
    soft_sys_read(vp, NULL, vp->idtr.base + vector * size, raw, size);
    g->type = raw[0] >> 40 & 31;
    g->dpl = raw[0] >> 45 & 3;
    g->ist = raw[0] >> 32 & 7;
    g->sel = (uint16_t)(raw[0] >> 16);
    g->offset = (raw[0] & 0xffff) | (raw[0] >> 32 & 0xffff0000u);
    bool ok = g->type == 14 || g->type == 15;
    if (soft_long_mode(vp))
        g->offset |= raw[1] << 32;
    else
        ok = ok || g->type == 5 || g->type == 6 || g->type == 7;
    if (!ok)
        idt_fault(vp, EXC_GP, vector);
    if (kind >= EVENT_INT && g->dpl < vp->cpl)
        idt_fault(vp, EXC_GP, vector);
    if (!(raw[0] >> 47 & 1))
        idt_fault(vp, EXC_NP, vector);
    if (!(g->type & 8) && g->type != 5)
        g->offset &= 0xffff;
}

/* The handler's code segment and the privilege level it runs at. */
static unsigned gate_cs(struct soft_vp *vp, const struct gate *g, struct desc *d)
{
    if (!(g->sel & 0xfffc))
        soft_raise_error(vp, NULL, EXC_GP, vp->ext);
    soft_desc_read(vp, NULL, g->sel, EXC_GP, d);
    if (!desc_code(d) || desc_dpl(d) > vp->cpl)
        soft_raise_sel(vp, NULL, EXC_GP, g->sel);
    if (soft_long_mode(vp) && (!desc_long(d) || desc_big(d)))
        soft_raise_sel(vp, NULL, EXC_GP, g->sel);
    if (!desc_present(d))
        soft_raise_sel(vp, NULL, EXC_NP, g->sel);
    return desc_conforming(d) ? vp->cpl : desc_dpl(d);
}

static void enter(struct soft_vp *vp, const struct gate *g, struct desc *d, unsigned cpl)
{
    struct hv_segment cs;
    soft_desc_mark(vp, NULL, d);
    soft_desc_to_seg(d, (uint16_t)((g->sel & ~3u) | cpl), false, &cs);
    uint32_t clear = FL_TF | FL_NT | FL_RF | FL_VM;
    if (!(g->type & 1))
        clear |= FL_IF;
    vp->eflags &= ~clear;
    vp->rip = g->offset;
    soft_set_cs(vp, &cs, cpl);
}

static void deliver_long(struct soft_vp *vp, const struct gate *g, unsigned vector,
                         enum soft_event kind, bool has_error, uint32_t error, uint64_t back)
{
    struct desc d;
    unsigned cpl = gate_cs(vp, g, &d);
    struct frame f = {.mask = ~0ull, .cpl = cpl, .size = 8, .sp = vp->gpr[HV_RSP]};
    bool change = cpl != vp->cpl;
    if (g->ist) {
        uint64_t at = 36 + (g->ist - 1) * 8;
        if (at + 7 > vp->seg[HV_TR].limit)
            soft_raise_sel(vp, NULL, EXC_TS, vp->seg[HV_TR].selector);
        soft_sys_read(vp, NULL, vp->seg[HV_TR].base + at, &f.sp, 8);
    } else if (change) {
        uint16_t ss;
        soft_tss_stack(vp, NULL, cpl, &ss, &f.sp);
    }
    if (!soft_canonical(g->offset))
        soft_raise_error(vp, NULL, EXC_GP, vp->ext);
    f.sp &= ~15ull;
    frame_push(vp, &f, vp->seg[HV_SS].selector);
    frame_push(vp, &f, vp->gpr[HV_RSP]);
    frame_push(vp, &f, pushed_flags(vp, kind, vector));
    frame_push(vp, &f, vp->seg[HV_CS].selector);
    frame_push(vp, &f, back);
    if (has_error)
        frame_push(vp, &f, error);
    enter(vp, g, &d, cpl);
    vp->gpr[HV_RSP] = f.sp;
    if (change) {
        struct hv_segment ss = {.selector = (uint16_t)cpl, .attrib = (uint16_t)(cpl << 5)};
        soft_set_seg(vp, HV_SS, &ss);
    }
}

static void deliver_legacy(struct soft_vp *vp, const struct gate *g, unsigned vector,
                           enum soft_event kind, bool has_error, uint32_t error, uint64_t back)
{
    struct desc d;
    bool v86 = vp->eflags & FL_VM;
    unsigned cpl = gate_cs(vp, g, &d);
    if (v86 && cpl != 0)
        soft_raise_sel(vp, NULL, EXC_GP, g->sel);
    struct frame f = {.cpl = cpl, .size = g->type & 8 ? 4 : 2};
    bool change = cpl != vp->cpl;
    if (change) {
        uint16_t sel;
        soft_tss_stack(vp, NULL, cpl, &sel, &f.sp);
        soft_check_ss(vp, NULL, sel, cpl, EXC_TS, &f.ss);
        f.mask = f.ss.attrib & SEG_D ? 0xffffffffu : 0xffff;
        if (v86) {
            frame_push(vp, &f, vp->seg[HV_GS].selector);
            frame_push(vp, &f, vp->seg[HV_FS].selector);
            frame_push(vp, &f, vp->seg[HV_DS].selector);
            frame_push(vp, &f, vp->seg[HV_ES].selector);
        }
        frame_push(vp, &f, vp->seg[HV_SS].selector);
        frame_push(vp, &f, vp->gpr[HV_RSP]);
    } else {
        f.ss = vp->seg[HV_SS];
        f.mask = vp->stack_mask;
        f.sp = vp->gpr[HV_RSP];
    }
    frame_push(vp, &f, pushed_flags(vp, kind, vector));
    frame_push(vp, &f, vp->seg[HV_CS].selector);
    frame_push(vp, &f, back);
    if (has_error)
        frame_push(vp, &f, error);
    struct hv_segment cs;
    soft_desc_to_seg(&d, g->sel, false, &cs);
    if (g->offset > cs.limit)
        soft_raise_error(vp, NULL, EXC_GP, vp->ext);
    enter(vp, g, &d, cpl);
    if (v86) {
        static const struct hv_segment none = {0};
        soft_set_seg(vp, HV_GS, &none);
        soft_set_seg(vp, HV_FS, &none);
        soft_set_seg(vp, HV_DS, &none);
        soft_set_seg(vp, HV_ES, &none);
    }
    if (change)
        soft_set_seg(vp, HV_SS, &f.ss);
    soft_set_sp(vp, f.sp);
}

/* Virtual-8086 and INT n with CR4.VME: the TSS says which vectors stay in the task (SDM 20.3.3). */
static bool vme_redirects(struct soft_vp *vp, unsigned vector)
{
    if (!(vp->cr4 & CR4_VME))
        return false;
    const struct hv_segment *tr = &vp->seg[HV_TR];
    uint16_t map;
    uint8_t bits;
    if (tr->limit < 103)
        return false;
    soft_sys_read(vp, NULL, tr->base + 102, &map, 2);
    if (map < 32 || map - 32u + vector / 8 > tr->limit)
        return false;
    soft_sys_read(vp, NULL, tr->base + map - 32 + vector / 8, &bits, 1);
    return !(bits >> (vector & 7) & 1);
}

void soft_deliver(struct soft_vp *vp, enum soft_event kind, unsigned vector, bool has_error,
                  uint32_t error, uint64_t back)
{
    vp->delivering = true;
    vp->deliver_vector = kind == EVENT_FAULT ? (uint8_t)vector : 0xff;
    vp->ext = kind <= EVENT_HARDWARE;
    vp->shadow = 0;
    vp->activity = HV_VP_RUNNING; /* a trap after HLT ends it */
    vp->entered = true;
    if (kind == EVENT_INT && (vp->eflags & FL_VM)) {
        if (vme_redirects(vp, vector)) {
            deliver_real(vp, vector, back, 0);
            goto done;
        }
        if ((vp->eflags & FL_IOPL) != FL_IOPL) {
            vp->ext = 0;
            soft_raise_error(vp, NULL, EXC_GP, 0);
        }
    }
    if (!(vp->cr0 & CR0_PE)) {
        if (vector * 4 + 3 > vp->idtr.limit)
            soft_raise_error(vp, NULL, vector == EXC_DF ? EXC_DF : EXC_GP, vector * 8 + 2);
        deliver_real(vp, vector, back, vp->idtr.base);
        goto done;
    }
    struct gate g;
    read_gate(vp, kind, vector, &g);
    if (g.type == 5) {
        soft_task_switch(vp, NULL, g.sel, TASK_INT, back);
        if (has_error)
            soft_push(vp, NULL, error, vp->seg[HV_TR].attrib & 8 ? 4 : 2);
    } else if (soft_long_mode(vp)) {
        deliver_long(vp, &g, vector, kind, has_error, error, back);
    } else {
        deliver_legacy(vp, &g, vector, kind, has_error, error, back);
    }
done:
    vp->delivering = false;
    vp->ext = 0;
}

void soft_deliver_pending(struct soft_vp *vp)
{
    unsigned vector = vp->exc_vector;
    bool has_error = vp->exc_has_error && (vp->cr0 & CR0_PE);
    vp->exc_pending = false;
    vp->db_pending = 0;
    if (vector == EXC_DB)
        vp->dr7 &= ~0x2000ull; /* GD */
    soft_deliver(vp, EVENT_FAULT, vector, has_error, vp->exc_error, vp->rip);
}

void soft_deliver_interrupt(struct soft_vp *vp, unsigned vector)
{
    soft_deliver(vp, EVENT_HARDWARE, vector, false, 0, vp->rip);
}

void soft_software_interrupt(struct soft_vp *vp, const struct insn *i, unsigned vector,
                             enum soft_event kind)
{
    uint64_t rip = soft_insn_rip(vp, i);
    vp->rip = rip;
    soft_deliver(vp, kind, vector, false, 0, rip + i->len);
}
