/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Translating what moves the stack pointer or leaves a block. */
#include "core/base/bytes.h"
#include "core/hv/soft/translate.h"

/* ---- stack ---- */

/* The guest's stack pointer moves by n bytes. */
static void move_sp(struct tr *t, int32_t n)
{
    tr_lea(t, jit_pinned(HV_RSP), e_mem(jit_pinned(HV_RSP), n));
}

void tr_push(struct tr *t, const struct step *s, unsigned k, unsigned h, bool imm)
{
    struct emit *e = t->e;
    int32_t word = (int32_t)tr_word(t);
    tr_check_stack(t, s, k, -word, true, s->flags_after || t->exact);
    if (imm) {
        e_op_rm(e, t->wide, 0, 0xc7, 0, tr_at(s));
        e32(e, (uint32_t)s->r.imm);
    } else {
        unsigned src = h;
        if (h == E_NONE) {
            src = s->r.kind == RR_PUSH_RM ? J_TMP : tr_use_reg(t, s->r.rm, E_NONE, true);
            if (s->r.kind == RR_PUSH_RM) {
                tr_forget_regs(t);
                e_load(e, J_TMP, J_VP, VP(jit_tmp));
            }
        }
        tr_store_word(t, tr_at(s), src);
    }
    move_sp(t, -word);
}

void tr_pop(struct tr *t, const struct step *s, unsigned k, unsigned g)
{
    tr_check_stack(t, s, k, 0, false, s->flags_after || t->exact);
    unsigned h = tr_use_reg(t, g, E_NONE, false);
    tr_load_word(t, h, tr_at(s));
    tr_put_reg(t, g, h);
    if (g != HV_RSP)
        move_sp(t, (int32_t)tr_word(t));
}

void tr_leave(struct tr *t, const struct step *s, unsigned k)
{
    tr_move(t, J_ADDR, E_RBP);
    tr_clobber_flags(t, s->flags_after || t->exact);
    tr_check_access(t, k, tr_word(t), false, true, false);
    tr_lea(t, jit_pinned(HV_RSP), e_mem(E_RBP, (int32_t)tr_word(t)));
    tr_load_word(t, E_RBP, tr_at(s));
}

/* ---- ways out of the block ---- */

/* To another page: by the look-up table until the run loop has linked it. */
static void far_jump(struct tr *t, int64_t off, bool wraps)
{
    struct emit *e = t->e;
    struct soft_jit *j = t->j;
    e_load(e, J_ADDR, J_VP, VP(block_rip));
    e_op_rm(e, !wraps, 0, 0x8d, J_ADDR, e_mem(J_ADDR, (int32_t)off)); /* lea */
    if (j->nfar == j->max_far) {
        e_jmp_to(e, j->indirect);
        return;
    }
    uint32_t at = jit_far_at(j, j->nfar), half = t->half;
    struct jit_far *f = &j->far[j->nfar++];
    e_op_rip(e, 1, 0x3b, J_ADDR, at + (uint32_t)offsetof(struct jit_far, lin));
    uint32_t lin = e_jcc(e, E_CC_NE);
    e_load(e, J_TMP, J_VP, VP(jump_key) + 8 * (int32_t)half);
    e_op_rip(e, 1, 0x3b, J_TMP, at + (uint32_t)offsetof(struct jit_far, key));
    uint32_t key = e_jcc(e, E_CC_NE);
    e_alu_imm(e, 1, E_AND, e_reg(J_ADDR), -4096);
    e_store(e, J_VP, VP(block_rip), J_ADDR);
    *f = (struct jit_far){.rel_at = e_jmp(e), .half = half};
    e_patch(e, lin, e->at);
    e_patch(e, key, e->at);
    e_op_rip(e, 1, 0x8d, J_TMP, at); /* lea */
    e_jmp_to(e, j->far_miss);
}

static void leave_at(struct tr *t, struct way_out w)
{
    if (t->nout < MAX_EXITS)
        t->out[t->nout++] = w;
    else
        t->e->full = true;
}

void tr_jump_to(struct tr *t, uint32_t rel_at, int64_t off)
{
    leave_at(t, (struct way_out){
                    .rel_at = rel_at ? rel_at : e_jmp(t->e), .off = off, .wraps = !t->wide});
}

/* Running on past 4 GiB is beyond the limit of 32-bit code, other than a jump. */
void tr_go_on(struct tr *t, unsigned k)
{
    leave_at(t, (struct way_out){.rel_at = e_jmp(t->e), .off = tr_off(t, k + 1)});
}

void tr_side_exit(struct tr *t, const struct step *s, unsigned k)
{
    int64_t to = (int64_t)tr_off(t, k) + s->r.len + s->r.imm;
    tr_load_flags(t);
    bool live = t->exact || tr_flags_live_at(t, to);
    leave_at(t, (struct way_out){.rel_at = e_jcc(t->e, s->r.op & 15),
                                 .off = to,
                                 .save_flags = live && !t->in_vp,
                                 .wraps = !t->wide,
                                 .not_run = t->j->count ? (uint8_t)(t->b->n - 1 - k) : 0});
}

/* The run loop makes w->rel_at jump to the target's code when it knows it. */
static void link_stub(struct tr *t, const struct way_out *w)
{
    struct emit *e = t->e;
    while ((e->at & 7) && !e->full)
        e8(e, 0xcc);
    struct jit_link link = {.phys = (t->b->phys & ~4095ull) + (uint64_t)w->off,
                            .rel_at = w->rel_at,
                            .mode = t->b->mode};
    uint32_t at = e->at;
    e_bytes(e, &link, sizeof link);
    e_patch(e, w->rel_at, e->at);
    e_mov_imm32(e, J_TMP, at);
    e_jmp_to(e, t->j->leave_linked);
}

static void way_out(struct tr *t, struct way_out *w)
{
    struct emit *e = t->e;
    if (w->save_flags || w->not_run) {
        e_patch(e, w->rel_at, e->at);
        t->in_vp = false;
        if (w->save_flags)
            tr_save_flags(t);
        if (w->not_run)
            e_alu_imm(e, 1, E_SUB, e_mem(J_VP, VP(icount)), w->not_run);
        w->rel_at = e_jmp(e);
    }
    if (w->off >= 0 && w->off < 4096) {
        link_stub(t, w);
        return;
    }
    e_patch(e, w->rel_at, e->at);
    far_jump(t, w->off, w->wraps);
}

void tr_ways_out(struct tr *t)
{
    for (unsigned n = 0; n < t->nout; n++)
        way_out(t, &t->out[n]);
}

/* A call's return address is on the guest's stack and in J_TMP: notes where translated code goes on
 * after the return. The landing is emitted by land(). */
static void note_call(struct tr *t, unsigned k)
{
    struct emit *e = t->e;
    if (tr_off(t, k) + t->step[k].r.len >= 4096)
        return;
    e_load(e, J_TMP2, J_VP, VP(ret_top));
    e_add_low(e, J_TMP2, sizeof(struct soft_ret));
    e_store(e, J_TMP2, (int32_t)offsetof(struct soft_ret, lin), J_TMP);
    e_op_rip(e, 1, 0x8d, J_TMP, 0); /* lea */
    t->landing_rel = e->at - 4;
    e_store(e, J_TMP2, (int32_t)offsetof(struct soft_ret, code), J_TMP);
    e_store(e, J_VP, VP(ret_top), J_TMP2);
}

/* Where the return comes back to; block_rip is set for it. */
static void land(struct tr *t, unsigned k)
{
    uint32_t next = tr_off(t, k) + t->step[k].r.len;
    if (next >= 4096)
        return;
    e_patch(t->e, t->landing_rel, t->e->at);
    tr_jump_to(t, 0, next);
}

static void push_return(struct tr *t, const struct step *s, unsigned k)
{
    struct emit *e = t->e;
    int32_t word = (int32_t)tr_word(t);
    tr_check_stack(t, s, k, -word, true, s->flags_after || t->exact);
    tr_forget_regs(t);
    e_load(e, J_TMP, J_VP, VP(block_rip));
    tr_lea(t, J_TMP, e_mem(J_TMP, (int32_t)(tr_off(t, k) + t->step[k].r.len)));
    tr_store_word(t, tr_at(s), J_TMP);
    move_sp(t, -word);
}

/* To J_ADDR, in the same half of the address space if the look-up table knows it. */
static void look_up(struct tr *t)
{
    struct emit *e = t->e;
    struct soft_jit *j = t->j;
    e_mov_rr(e, J_TMP, J_ADDR);
    e_shift_imm(e, 1, 5, J_TMP, SOFT_JUMP_BITS);
    e_alu_rm(e, 1, E_XOR, J_TMP, e_reg(J_ADDR));
    e_alu_imm(e, 0, E_AND, e_reg(J_TMP), SOFT_JUMP_SIZE - 1);
    e_load(e, J_TMP2, J_VP, VP(jump_key) + 8 * (int32_t)t->half);
    e_shift_imm(e, 0, 4, J_TMP, 5);
    e_alu_rm(e, 1, E_ADD, J_TMP, e_mem(J_VP, VP(jump)));
    e_alu_rm(e, 1, E_CMP, J_ADDR, e_mem(J_TMP, (int32_t)offsetof(struct soft_jump, lin)));
    e_patch(e, e_jcc(e, E_CC_NE), j->indirect);
    e_alu_rm(e, 1, E_CMP, J_TMP2, e_mem(J_TMP, (int32_t)offsetof(struct soft_jump, key)));
    e_patch(e, e_jcc(e, E_CC_NE), j->indirect);
    e_mov_rr(e, J_TMP2, J_ADDR); /* code of another block's absence wants all of J_ADDR */
    e_alu_imm(e, 1, E_AND, e_reg(J_TMP2), -4096);
    e_store(e, J_VP, VP(block_rip), J_TMP2);
    e_op_rm(e, 0, 0, 0xff, 4, e_mem(J_TMP, (int32_t)offsetof(struct soft_jump, code)));
}

static void branch_rm(struct tr *t, const struct step *s, unsigned k)
{
    struct emit *e = t->e;
    if (s->r.mem) {
        tr_memory(t, s, k, tr_word(t), false);
        tr_load_word(t, J_ADDR, tr_at(s));
    } else {
        tr_clobber_flags(t, s->flags_after || t->exact);
        tr_move(t, J_ADDR, tr_use_reg(t, s->r.rm, E_NONE, true));
    }
    if (s->r.kind == RR_CALL_RM) {
        e_store(e, J_VP, VP(jit_tmp), J_ADDR);
        push_return(t, s, k);
        note_call(t, k);
        e_load(e, J_ADDR, J_VP, VP(jit_tmp));
    }
    look_up(t);
    if (s->r.kind == RR_CALL_RM)
        land(t, k);
}

static void ret(struct tr *t, const struct step *s, unsigned k)
{
    struct emit *e = t->e;
    if (s->joined) /* the host's flags are lost below */
        tr_clobber_flags(t, s->flags_after || t->exact);
    tr_check_stack(t, s, k, 0, false, s->flags_after || t->exact);
    tr_load_word(t, J_ADDR, tr_at(s));
    move_sp(t, (int32_t)tr_word(t) + (uint16_t)s->r.imm);
    e_load(e, J_TMP, J_VP, VP(ret_top));
    e_mov_rr(e, J_TMP2, J_TMP);
    e_add_low(e, J_TMP2, -(int)sizeof(struct soft_ret));
    e_store(e, J_VP, VP(ret_top), J_TMP2);
    e_alu_rm(e, 1, E_CMP, J_ADDR, e_mem(J_TMP, (int32_t)offsetof(struct soft_ret, lin)));
    e_patch(e, e_jcc(e, E_CC_NE), t->j->indirect);
    e_mov_rr(e, J_TMP2, J_ADDR);
    e_alu_imm(e, 1, E_AND, e_reg(J_TMP2), -4096);
    e_store(e, J_VP, VP(block_rip), J_TMP2);
    e_op_rm(e, 0, 0, 0xff, 4, e_mem(J_TMP, (int32_t)offsetof(struct soft_ret, code)));
}

void tr_finish(struct tr *t, const struct step *s, unsigned k)
{
    const struct reread *r = &s->r;
    int64_t next = (int64_t)tr_off(t, k) + r->len;
    switch (r->kind) {
    case RR_JCC: {
        if (s->flags_after)
            tr_save_flags(t);
        tr_load_flags(t);
        uint32_t taken = e_jcc(t->e, r->op & 15);
        tr_go_on(t, k);
        tr_jump_to(t, taken, next + r->imm);
        break;
    }
    case RR_CALL:
        if (s->joined) /* the host's flags are lost below */
            tr_clobber_flags(t, s->flags_after || t->exact);
        push_return(t, s, k);
        note_call(t, k);
        tr_jump_to(t, 0, next + r->imm);
        land(t, k);
        break;
    case RR_JMP:
        tr_clobber_flags(t, s->flags_after);
        tr_jump_to(t, 0, next + r->imm);
        break;
    case RR_RET: ret(t, s, k); break;
    default: branch_rm(t, s, k); break;
    }
}
