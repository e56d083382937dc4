/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Translated accesses to memory: addresses, and the checks of the windows that they go through. */
#include <string.h>

#include "core/base/bytes.h"
#include "core/hv/soft/soft.h"
#include "core/hv/soft/translate.h"

void tr_address(struct tr *t, const struct reread *r, unsigned k, unsigned dst, int32_t low)
{
    struct emit *e = t->e;
    struct emit_rm m = {
        .reg = E_NONE, .base = E_NONE, .index = E_NONE, .scale = r->scale, .disp = r->disp + low};
    if (r->base == RR_RIP) {
        e_load(e, dst, J_VP, VP(block_rip));
        m.base = (uint8_t)dst;
        m.disp += (int32_t)(tr_off(t, k) + r->len); /* overflow: checked by plain_ok */
    } else if (r->base != RR_NO_REG) {
        m.base = (uint8_t)tr_use_reg(t, r->base, E_NONE, true);
    }
    if (r->index != RR_NO_REG)
        m.index = (uint8_t)tr_use_reg(t, r->index, m.base, true);
    tr_lea(t, dst, m);
}

/* J_TMP2 = page of the operand's last byte. */
static void last_page(struct emit *e, unsigned size)
{
    if (size > 1)
        e_lea(e, J_TMP2, e_mem(J_ADDR, (int32_t)size - 1));
    else
        e_mov_rr(e, J_TMP2, J_ADDR);
    e_alu_imm(e, 1, E_AND, e_reg(J_TMP2), -4096);
}

static void note_fill(struct tr *t, enum jit_fill fill, unsigned w, unsigned size, bool wait)
{
    struct slow *s = &t->slow[t->nslow ? t->nslow - 1 : 0];
    s->back = t->e->at;
    s->win = (uint16_t)w;
    s->size = (uint8_t)size;
    s->fill = fill;
    s->offset = !wait;
    memcpy(s->kept, t->kept, sizeof s->kept);
}

/* A window's fields, as operands. */
struct window {
    unsigned number; /* of a place's own */
    int32_t stack;   /* or of the stack: where it is in vp */
    unsigned span;
};

static void window_op(struct tr *t, const struct window *w, uint8_t opcode, unsigned reg,
                      size_t own, size_t stack)
{
    uint32_t at = t->j->win_at + w->number * (uint32_t)sizeof(struct jit_win);
    if (w->stack)
        e_op_rm(t->e, 1, 0, opcode, reg, e_mem(J_VP, w->stack + (int32_t)stack));
    else
        e_op_rip(t->e, 1, opcode, reg, at + (uint32_t)own);
}
#define WINDOW_OP(t, w, opcode, reg, field)                       \
    window_op(t, w, opcode, reg, offsetof(struct jit_win, field), \
              offsetof(struct soft_stack_win, field))

/*
 * The offset in the window's page decides. J_ADDR becomes it and then the page's host address is
 * added; or, one instruction more, the load behind waits for one addition alone.
 */
static void check_window(struct tr *t, const struct window *w, unsigned k, bool wait)
{
    unsigned offset = J_ADDR;
    if (wait) {
        offset = tr_spare(t);
        e_mov_rr(t->e, offset, J_ADDR);
    }
    WINDOW_OP(t, w, 0x2b, offset, page);                           /* sub */
    window_op(t, w, 0x3b, offset, offsetof(struct jit_win, limit), /* cmp */
              offsetof(struct soft_stack_win, limit) + 8 * w->span);
    tr_slow_way(t, E_CC_AE, k);
    if (wait) /* add */
        WINDOW_OP(t, w, 0x03, J_ADDR, addend);
    else
        WINDOW_OP(t, w, 0x03, J_ADDR, host);
}

static void check_own_window(struct tr *t, unsigned k, unsigned size, bool write, bool wait)
{
    struct soft_jit *j = t->j;
    struct window w = {.number = j->nwin++};
    j->win[w.number] = (struct jit_win){.misses = -JIT_MISSES, .full = 4097 - size};
    j->place[w.number] = (struct jit_place){.b = t->b, .insn = k, .since = __builtin_ia32_rdtsc()};
    check_window(t, &w, k, wait);
    note_fill(t, write ? JIT_FILL_WRITE : JIT_FILL_READ, w.number, size, wait);
}

static int32_t stack_window(const struct tr *t)
{
    return VP(stack_win) + (t->user ? (int32_t)sizeof(struct soft_stack_win) : 0);
}

/* By the window that the stack has. */
static void check_stack_window(struct tr *t, unsigned k, unsigned size, bool write, bool wait)
{
    struct window w = {.stack = stack_window(t), .span = (size - 1) / SOFT_SPAN};
    check_window(t, &w, k, wait);
    unsigned fill = write ? JIT_FILL_STACK_WRITE : JIT_FILL_STACK_READ;
    note_fill(t, fill + t->user, 0, (w.span + 1) * SOFT_SPAN, wait);
}

/* Stacks have windows, and so has each place in code of CPL 3: there programs compute, while a
 * kernel's code rarely meets the same page twice. */
void tr_check_access(struct tr *t, unsigned k, unsigned size, bool write, bool stack, bool wait)
{
    struct emit *e = t->e;
    if (stack && !(t->user && t->b->own_windows)) {
        check_stack_window(t, k, size, write, wait);
        return;
    }
    if (t->user && t->j->nwin < JIT_WINDOWS && !(t->b->no_window >> k & 1)) {
        check_own_window(t, k, size, write, wait);
        return;
    }
    tr_forget_regs(t);
    last_page(e, size);
    e_mov_rr(e, J_TMP, J_ADDR);
    e_shift_imm(e, 1, 5, J_TMP, 7);
    e_alu_imm(e, 0, E_AND, e_reg(J_TMP), (SOFT_TLB_SIZE - 1) << 5);
    e_alu_rm(e, 1, E_ADD, J_TMP2, e_mem(J_VP, VP(tlb_gen)));
    e_alu_rm(e, 1, E_ADD, J_TMP, e_mem(J_VP, VP(tlb)));
    e_alu_rm(e, 1, E_CMP, J_TMP2,
             e_mem(J_TMP, write ? (int32_t)offsetof(struct soft_tlbe, wtag)
                                : (int32_t)offsetof(struct soft_tlbe, rtag)));
    tr_slow_way(t, E_CC_NE, k);
    e_alu_rm(e, 1, E_ADD, J_ADDR, e_mem(J_TMP, (int32_t)offsetof(struct soft_tlbe, addend)));
}

void tr_check_stack(struct tr *t, const struct step *s, unsigned k, int32_t disp, bool write,
                    bool flags)
{
    if (s->joined)
        return;
    tr_lea(t, J_ADDR, e_mem(jit_pinned(HV_RSP), disp + s->low));
    tr_clobber_flags(t, flags);
    tr_check_access(t, k, s->lead ? s->span : tr_word(t), s->lead ? s->group_writes : write, true,
                    false);
}
_Static_assert(sizeof(struct soft_tlbe) == 32, "check_access shifts by 7");

/* FS or GS of 32-bit code: any offset must be allowed, and no operand goes beyond the last. */
static void check_segment(struct tr *t, unsigned seg, unsigned k, unsigned size, bool write)
{
    struct emit *e = t->e;
    e_op_rm(e, 0, 0, 0x80, E_CMP,
            e_mem(J_VP, (write ? VP(seg_write) : VP(seg_read)) + (int32_t)seg));
    e8(e, 0);
    tr_slow_way(t, E_CC_E, k);
    if (size == 1)
        return;
    e_alu_imm(e, 0, E_CMP, e_reg(J_ADDR), -(int32_t)size);
    tr_slow_way(t, E_CC_A, k);
}

/* Tables and chains: the address comes from the last load as a rule, and the next one's from it. */
static bool waits(const struct reread *r)
{
    return r->index != RR_NO_REG ||
           (r->kind == RR_PLAIN && !r->group && (r->reg_use & RR_W) && r->reg == r->base);
}

void tr_memory(struct tr *t, const struct step *s, unsigned k, unsigned size, bool write)
{
    const struct reread *r = &s->r;
    if (s->joined)
        return;
    tr_address(t, r, k, J_ADDR, s->low);
    tr_clobber_flags(t, r->flags_read || t->exact || (s->flags_after && !r->flags_set));
    if (r->seg && !t->wide)
        check_segment(t, r->seg, k, size, write);
    if (r->seg)
        e_alu_rm(t->e, t->wide, E_ADD, J_ADDR,
                 e_mem(J_VP, VP(seg) + (int32_t)sizeof(struct hv_segment) * r->seg +
                                 (int32_t)offsetof(struct hv_segment, base)));
    if (r->aligned) {
        e_op_rm(t->e, 0, 0, 0xf6, 0, e_reg(J_ADDR)); /* test byte, 15 */
        e8(t->e, 15);
        tr_slow_way(t, E_CC_NE, k);
    }
    tr_check_access(t, k, s->lead ? s->span : size, s->lead ? s->group_writes : write,
                    r->base == HV_RSP && !r->seg, waits(r));
}

void tr_open_window(struct tr *t, struct slow *s)
{
    struct emit *e = t->e;
    bool own = s->fill < JIT_FILL_STACK_READ;
    struct window w = {.number = s->win, .stack = own ? 0 : stack_window(t)};
    e_patch(e, s->rel_at, e->at);
    if (s->offset) /* add */
        WINDOW_OP(t, &w, 0x03, J_ADDR, page);
    if (own) { /* lea */
        WINDOW_OP(t, &w, 0x8d, J_TMP, page);
    } else if (t->user) {
        e_mov_imm64(e, J_TMP, (uint64_t)(uintptr_t)t->b);
        e_store(e, J_VP, VP(stack_hot), J_TMP);
    }
    last_page(e, s->size);
    e_call_to(e, t->j->fill[s->fill]);
    s->rel_at = e_jcc(e, E_CC_NE);
    tr_reload_regs(t, s->kept, 2);
    e_jmp_to(e, s->back);
}
