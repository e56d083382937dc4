/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Translating what moves the stack pointer or leaves a block. */
#include "core/base/bytes.h"
#include "core/hv/soft/translate.h"

/* ---- stack ---- */

void tr_push(struct tr *t, const struct step *s, unsigned k, unsigned h, bool imm)
{
    struct emit *e = t->e;
    e_lea(e, J_ADDR, e_mem(jit_pinned(HV_RSP), -8));
    tr_clobber_flags(t, s->flags_after || t->exact);
    tr_check_access(t, k, 8, true, true);
    if (imm) {
        e_op_rm(e, 1, 0, 0xc7, 0, e_mem(J_ADDR, 0));
        e32(e, (uint32_t)s->r.imm);
    } else {
        unsigned src = h;
        if (h == E_NONE) {
            src = J_TMP;
            e_load(e, J_TMP, J_VP, s->r.kind == RR_PUSH_RM ? VP(jit_tmp) : vp_gpr(s->r.rm));
        }
        e_store(e, J_ADDR, 0, src);
    }
    e_lea(e, jit_pinned(HV_RSP), e_mem(jit_pinned(HV_RSP), -8));
}

void tr_pop(struct tr *t, const struct step *s, unsigned k, unsigned g)
{
    struct emit *e = t->e;
    unsigned h = jit_pinned(g);
    e_mov_rr(e, J_ADDR, jit_pinned(HV_RSP));
    tr_clobber_flags(t, s->flags_after || t->exact);
    tr_check_access(t, k, 8, false, true);
    e_load(e, h == E_NONE ? J_TMP : h, J_ADDR, 0);
    tr_put_reg(t, g, J_TMP);
    if (g != HV_RSP)
        e_lea(e, jit_pinned(HV_RSP), e_mem(jit_pinned(HV_RSP), 8));
}

void tr_leave(struct tr *t, const struct step *s, unsigned k)
{
    struct emit *e = t->e;
    e_mov_rr(e, J_ADDR, E_RBP);
    tr_clobber_flags(t, s->flags_after || t->exact);
    tr_check_access(t, k, 8, false, true);
    e_lea(e, jit_pinned(HV_RSP), e_mem(E_RBP, 8));
    e_load(e, E_RBP, J_ADDR, 0);
}

/* ---- ways out of the block ---- */

/* To another page: by the look-up table until the run loop has linked it. */
static void far_jump(struct tr *t, int64_t off)
{
    struct emit *e = t->e;
    struct soft_jit *j = t->j;
    e_load(e, J_ADDR, J_VP, VP(block_rip));
    e_lea(e, J_ADDR, e_mem(J_ADDR, (int32_t)off));
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

void tr_jump_to(struct tr *t, uint32_t rel_at, int64_t off)
{
    struct emit *e = t->e;
    bool same_page = off >= 0 && off < 4096;
    if (same_page) {
        if (!rel_at)
            rel_at = e_jmp(e);
        while ((e->at & 7) && !e->full)
            e8(e, 0xcc);
        struct jit_link link = {
            .phys = (t->b->phys & ~4095ull) + (uint64_t)off, .rel_at = rel_at, .mode = t->b->mode};
        uint32_t at = e->at;
        e_bytes(e, &link, sizeof link);
        e_patch(e, rel_at, e->at);
        e_load(e, J_ADDR, J_VP, VP(block_rip));
        e_lea(e, J_ADDR, e_mem(J_ADDR, (int32_t)off));
        e_store(e, J_VP, VP(rip), J_ADDR);
        e_op_rm(e, 1, 0, 0xc7, 0, e_mem(J_VP, VP(jit_link)));
        e32(e, at);
        e_jmp_to(e, t->j->exit);
        return;
    }
    if (rel_at)
        e_patch(e, rel_at, e->at);
    far_jump(t, off);
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

static void push_return(struct tr *t, unsigned k)
{
    struct emit *e = t->e;
    e_lea(e, J_ADDR, e_mem(jit_pinned(HV_RSP), -8));
    tr_check_access(t, k, 8, true, true);
    e_load(e, J_TMP, J_VP, VP(block_rip));
    e_lea(e, J_TMP, e_mem(J_TMP, (int32_t)(tr_off(t, k) + t->step[k].r.len)));
    e_store(e, J_ADDR, 0, J_TMP);
    e_lea(e, jit_pinned(HV_RSP), e_mem(jit_pinned(HV_RSP), -8));
}

static void branch_rm(struct tr *t, const struct step *s, unsigned k)
{
    struct emit *e = t->e;
    if (s->r.mem) {
        tr_memory(t, s, k, 8, false);
        e_load(e, J_ADDR, J_ADDR, 0);
    } else {
        tr_clobber_flags(t, s->flags_after || t->exact);
        e_mov_rr(e, J_ADDR, tr_use_reg(t, s->r.rm, J_ADDR, true));
    }
    if (s->r.kind == RR_CALL_RM) {
        e_store(e, J_VP, VP(jit_tmp), J_ADDR);
        push_return(t, k);
        note_call(t, k);
        e_load(e, J_ADDR, J_VP, VP(jit_tmp));
    }
    e_jmp_to(e, t->j->indirect);
    if (s->r.kind == RR_CALL_RM)
        land(t, k);
}

static void ret(struct tr *t, const struct step *s, unsigned k)
{
    struct emit *e = t->e;
    e_mov_rr(e, J_ADDR, jit_pinned(HV_RSP));
    tr_clobber_flags(t, s->flags_after || t->exact);
    tr_check_access(t, k, 8, false, true);
    e_load(e, J_ADDR, J_ADDR, 0);
    e_lea(e, jit_pinned(HV_RSP), e_mem(jit_pinned(HV_RSP), 8 + (uint16_t)s->r.imm));
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
        tr_jump_to(t, 0, next);
        tr_jump_to(t, taken, next + r->imm);
        break;
    }
    case RR_CALL:
        tr_clobber_flags(t, s->flags_after || t->exact);
        push_return(t, k);
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
