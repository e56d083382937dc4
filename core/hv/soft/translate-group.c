/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Groups: accesses of a block by one base register, near each other and with no other access
 * between, are checked at the first of them, for the whole range and for writing if any of them
 * writes. r14 keeps the range's host address. Should the check fail the interpreter does them all,
 * one by one, so faults are as precise as ever.
 */
#include "core/hv/soft/translate.h"

enum { GROUP_SPAN = SOFT_SPAN * SOFT_SPANS };

struct access {
    unsigned base;
    int32_t disp, moves; /* RSP: what the instruction adds to it */
    unsigned size;
    bool write;
};

/* What the instruction accesses, if it is one access by a base alone. */
static bool plain_access(const struct tr *t, const struct step *s, struct access *a)
{
    const struct reread *r = &s->r;
    int32_t word = (int32_t)tr_word(t);
    *a = (struct access){.base = HV_RSP, .size = (unsigned)word};
    switch (r->kind) {
    case RR_PUSH:
    case RR_PUSH_IMM:
    case RR_CALL:
        a->disp = a->moves = -word;
        a->write = true;
        return true;
    case RR_POP: a->moves = word; return r->rm != HV_RSP;
    case RR_RET: return true; /* the last one */
    case RR_PLAIN:
    case RR_VEC:
    case RR_X87: break;
    default: return false;
    }
    *a = (struct access){
        .base = r->base, .disp = r->disp, .size = r->rm_size, .write = r->rm_use & RR_W};
    return r->mem && r->base < HV_GPR_COUNT && r->index == RR_NO_REG && !r->seg && !r->aligned &&
           !r->lock && r->disp > -GROUP_SPAN && r->disp < 0x4000;
}

/* RSP plus or minus a small constant. */
static bool moves_sp(const struct tr *t, const struct reread *r, int32_t *by)
{
    unsigned n = r->modrm >> 3 & 7;
    bool add = r->kind == RR_PLAIN && !r->map && (r->op == 0x81 || r->op == 0x83) && !r->mem &&
               r->rm == HV_RSP && (n == E_ADD || n == E_SUB) && r->size == tr_word(t);
    if (!add || r->imm < -0x1000 || r->imm > 0x1000)
        return false;
    *by = (int32_t)(n == E_ADD ? r->imm : -r->imm);
    return true;
}

static bool names(const struct reread *r, bool byte, unsigned reg, unsigned g)
{
    return reg == g || (byte && !r->rex && reg >= 4 && reg < 8 && reg - 4 == g);
}

/* Whether the instruction may change the register, other than by push and pop. */
static bool writes(const struct reread *r, unsigned g)
{
    if (g <= HV_RDX && (r->kind == RR_FIXED || r->kind == RR_ACC || r->kind == RR_X87 ||
                        r->kind == RR_XCHG_ACC || r->group || (r->map && r->kind == RR_PLAIN)))
        return true; /* the accumulator, in some of these */
    switch (r->kind) {
    case RR_PLAIN:
    case RR_VEC:
        return (!r->group && !r->xreg && (r->reg_use & RR_W) && names(r, r->reg8, r->reg, g)) ||
               (!r->mem && !r->xrm && (r->rm_use & RR_W) && names(r, r->rm8, r->rm, g));
    case RR_MOV_IMM: return names(r, r->size == 1, r->rm, g);
    case RR_BSWAP:
    case RR_XCHG_ACC:
    case RR_POP: return r->rm == g;
    case RR_LEA: return r->reg == g;
    case RR_FIXED:
    case RR_ACC:
    case RR_NOP:
    case RR_X87:
    case RR_PUSH:
    case RR_PUSH_IMM:
    case RR_CALL:
    case RR_JCC:
    case RR_JMP:
    case RR_RET: return false;
    default: return true;
    }
}

/* Whether it leaves r14 alone, where it has no access of its own. */
static bool keeps_address(const struct tr *t, const struct reread *r)
{
    switch (r->kind) {
    case RR_PLAIN:
    case RR_VEC:
    case RR_X87: return !r->mem;
    case RR_LEA: return r->size == tr_word(t) && jit_pinned(r->reg) != E_NONE;
    case RR_FIXED:
    case RR_ACC:
    case RR_MOV_IMM:
    case RR_BSWAP:
    case RR_XCHG_ACC:
    case RR_NOP:
    case RR_JCC: /* midway, these two */
    case RR_JMP: return true;
    default: return false;
    }
}

struct group {
    unsigned first, last, base;
    int32_t low, high, moved; /* from the base's value at the first */
    bool write, branched;     /* branched: what follows may not be run */
};

/* Takes instruction k in if it may be; false: the group ends before it. */
static bool extend(const struct tr *t, struct group *g, unsigned k)
{
    const struct step *s = &t->step[k];
    struct access a;
    int32_t by = 0;
    if (!s->native)
        return false;
    if (!plain_access(t, s, &a)) {
        if (!keeps_address(t, &s->r))
            return false;
        g->branched |= s->r.kind == RR_JCC;
        if (g->base == HV_RSP && moves_sp(t, &s->r, &by))
            g->moved += by;
        else if (writes(&s->r, g->base))
            return false;
        return true;
    }
    int32_t low = a.disp + g->moved, high = low + (int32_t)a.size;
    low = low < g->low ? low : g->low;
    high = high > g->high ? high : g->high;
    if (a.base != g->base || high - low > GROUP_SPAN || (g->branched && a.write && !g->write))
        return false;
    g->low = low;
    g->high = high;
    g->write |= a.write;
    g->last = k;
    g->moved += a.moves;
    return true;
}

/* Marks the group that begins at k; the first instruction behind it. */
static unsigned group_at(struct tr *t, unsigned k)
{
    struct step *s = &t->step[k];
    struct access a;
    if (!s->native || !plain_access(t, s, &a))
        return k + 1;
    struct group g = {.first = k,
                      .last = k,
                      .base = a.base,
                      .low = a.disp,
                      .high = a.disp + (int32_t)a.size,
                      .moved = a.moves,
                      .write = a.write};
    int32_t first = a.disp;
    bool lost = writes(&s->r, g.base);
    for (unsigned n = k + 1; n < t->b->n && !lost && extend(t, &g, n); n++)
        lost = writes(&t->step[n].r, g.base) && !(g.base == HV_RSP && g.last != n);
    if (g.last == k)
        return k + 1;
    int32_t moved = 0, by;
    for (unsigned n = k; n <= g.last; n++) {
        s = &t->step[n];
        if (plain_access(t, s, &a)) {
            s->joined = n > k;
            s->at = (int16_t)(a.disp + moved - g.low);
            moved += a.moves;
        } else if (g.base == HV_RSP && moves_sp(t, &s->r, &by)) {
            moved += by;
        }
    }
    s = &t->step[k];
    s->lead = true;
    s->span = (uint8_t)(g.high - g.low);
    s->low = (int16_t)(g.low - first);
    s->group_writes = g.write;
    return g.last + 1;
}

void tr_find_groups(struct tr *t)
{
    for (unsigned k = 0; k < t->b->n; k++) {
        struct step *s = &t->step[k];
        s->lead = s->joined = s->group_writes = false;
        s->span = 0;
        s->low = s->at = 0;
    }
    for (unsigned k = 0; k < t->b->n;)
        k = group_at(t, k);
}
