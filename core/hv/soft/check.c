/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/hv/soft/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/hv/soft/jit.h"
#include "core/hv/soft/ops.h"
#include "core/hv/soft/soft.h"

enum { MAX_WRITES = 64, MAX_SIZE = 64, TRIES = 3 };
enum phase { IDLE, INTERPRETED, TRANSLATED };

struct written {
    uint8_t *host;
    unsigned size;
    uint8_t before[MAX_SIZE], after[MAX_SIZE];
};

/* What a block may change and a second run must find as it was. */
struct regs {
    uint64_t gpr[HV_GPR_COUNT], rip, kernel_gs_base;
    struct hv_segment seg[HV_SEG_COUNT];
    uint32_t eflags;
    uint16_t status;
    struct soft_fx fx;
};

struct soft_check {
    uint64_t left, compared, alone; /* alone: could not be done twice */
    unsigned each, until;
    enum phase phase;
    bool once;
    unsigned n;
    struct written w[MAX_WRITES];
    struct regs before, after, other;
};

struct soft_check *soft_check_new(uint64_t count, unsigned each)
{
    struct soft_check *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->left = count;
    c->each = c->until = each ? each : 1;
    return c;
}

static void report(const struct soft_check *c)
{
    fprintf(stderr, "lock-step: %" PRIu64 " blocks compared, %" PRIu64 " interpreted alone\n",
            c->compared, c->alone);
}

void soft_check_free(struct soft_check *c)
{
    if (c && c->left)
        report(c);
    free(c);
}

bool soft_check_on(const struct soft_vp *vp)
{
    return vp->check && vp->check->left;
}

static void get(const struct soft_vp *vp, struct regs *r)
{
    memcpy(r->gpr, vp->gpr, sizeof r->gpr);
    memcpy(r->seg, vp->seg, sizeof r->seg);
    r->rip = vp->rip;
    r->kernel_gs_base = vp->kernel_gs_base;
    r->eflags = vp->eflags;
    r->status = vp->status;
    r->fx = vp->fx;
}

/* The view of the pages follows from the flags. */
static void put(struct soft_vp *vp, const struct regs *r)
{
    memcpy(vp->gpr, r->gpr, sizeof r->gpr);
    memcpy(vp->seg, r->seg, sizeof r->seg);
    vp->rip = r->rip;
    vp->kernel_gs_base = r->kernel_gs_base;
    vp->eflags = r->eflags;
    vp->status = r->status;
    vp->fx = r->fx;
    soft_mmu_update(vp);
}

static bool among(insn_fn *fn, insn_fn *const *table, size_t n)
{
    for (size_t k = 0; k < n; k++)
        if (table[k] == fn)
            return true;
    return false;
}
#define AMONG(fn, table) among(fn, (insn_fn *const *)(table), sizeof(table) / sizeof(insn_fn *))

enum { ARITH_STATUS = ST_OF | ST_CF | ST_PF | ST_AF | ST_ZF | ST_SF }; /* LAHF gives others, too */

/* Flags that are the same both ways: multiplications leave all but CF and OF undefined, and the
 * handler need not use the very form that the translation does. */
static uint16_t defined_flags(const struct block *b)
{
    for (unsigned k = 0; k < b->n; k++) {
        insn_fn *fn = b->insn[k].fn;
        if (AMONG(fn, soft_mul_r) || AMONG(fn, soft_mul_m) || AMONG(fn, soft_imul_rr) ||
            AMONG(fn, soft_imul_rm) || AMONG(fn, soft_imul_rri) || AMONG(fn, soft_imul_rmi))
            return ST_CF | ST_OF;
    }
    return ARITH_STATUS;
}

/* The instruction pointers of x87 are not kept in translated code. */
static const char *difference(const struct regs *a, const struct regs *b, uint16_t flags)
{
    if (memcmp(a->gpr, b->gpr, sizeof a->gpr) != 0)
        return "registers";
    if (a->rip != b->rip)
        return "rip";
    if (((a->status ^ b->status) & flags) || a->eflags != b->eflags)
        return "flags";
    if (memcmp(a->seg, b->seg, sizeof a->seg) != 0 || a->kernel_gs_base != b->kernel_gs_base)
        return "segments";
    const struct soft_fx *x = &a->fx, *y = &b->fx;
    if (memcmp(x->xmm, y->xmm, sizeof x->xmm) != 0 || x->mxcsr != y->mxcsr)
        return "vector registers";
    if (memcmp(x->st, y->st, sizeof x->st) != 0 || x->fcw != y->fcw || x->fsw != y->fsw ||
        x->ftw != y->ftw)
        return "x87 registers";
    return NULL;
}

static void undo(struct soft_check *c)
{
    for (unsigned k = c->n; k-- > 0;)
        memcpy(c->w[k].host, c->w[k].before, c->w[k].size);
}

static bool same_memory(const struct soft_check *c)
{
    for (unsigned k = 0; k < c->n; k++)
        if (memcmp(c->w[k].host, c->w[k].after, c->w[k].size) != 0)
            return false;
    return true;
}

static void leave(struct soft_vp *vp)
{
    vp->check->phase = IDLE;
    vp->checking = false;
    soft_mmu_update(vp);
}

/* First way: no access finds the TLB, so all of them are seen. */
static void interpret(struct soft_vp *vp, struct block *b)
{
    struct soft_check *c = vp->check;
    c->n = 0;
    c->once = false;
    c->phase = INTERPRETED;
    vp->checking = true;
    soft_mmu_update(vp);
    vp->block_rip = vp->rip;
    vp->icount += b->n;
    b->insn[0].fn(vp, b->insn);
    leave(vp);
}

static void translated(struct soft_vp *vp, struct block *b)
{
    vp->check->phase = TRANSLATED;
    vp->block_rip = vp->rip;
    vp->jit_enter(vp, soft_jit_past_head(b));
    vp->check->phase = IDLE;
}

static _Noreturn void differs(struct soft_vp *vp, const struct block *b, const char *what)
{
    const struct soft_check *c = vp->check;
    for (unsigned g = 0; g < HV_GPR_COUNT; g++)
        fprintf(stderr, "lock-step: r%-2u %016" PRIx64 " -> %016" PRIx64 " or %016" PRIx64 "\n", g,
                c->before.gpr[g], c->after.gpr[g], c->other.gpr[g]);
    fprintf(stderr,
            "lock-step: status %04x -> %04x or %04x, eflags %x or %x, rip %" PRIx64 " or %" PRIx64
            "\n",
            c->before.status, c->after.status, c->other.status, c->after.eflags, c->other.eflags,
            c->after.rip, c->other.rip);
    char text[160];
    snprintf(text, sizeof text, "lock-step: %s differ after the block at %" PRIx64 " (%u bytes)",
             what, c->before.rip, b->bytes);
    fprintf(stderr, "%s\n", text);
    soft_stop(vp, HV_EXIT_FAILED, text);
}

/* Whether the block stopped within a repeated instruction: how far that gets at once is free. */
static bool in_string(const struct soft_vp *vp, const struct block *b)
{
    for (unsigned k = 0; k < b->n; k++)
        if ((b->insn[k].flags & (INSN_REP | INSN_REPNE)) &&
            vp->rip == vp->check->before.rip + b->insn[k].off)
            return true;
    return false;
}

/* Both ways, from the same state; NULL if nothing differs. */
static const char *compare(struct soft_vp *vp, struct block *b, bool *stands)
{
    struct soft_check *c = vp->check;
    get(vp, &c->before);
    uint64_t key = vp->jump_key[0]; /* of the mode and the address space: SYSCALL, IRET, MOV CR3 */
    uint8_t cpl = vp->cpl;
    interpret(vp, b);
    *stands = c->once || vp->jump_key[0] != key || vp->cpl != cpl || !soft_jit_ready(b) ||
              in_string(vp, b);
    if (*stands)
        return NULL;
    get(vp, &c->after);
    for (unsigned k = 0; k < c->n; k++)
        memcpy(c->w[k].after, c->w[k].host, c->w[k].size);
    undo(c);
    put(vp, &c->before);
    translated(vp, b);
    get(vp, &c->other);
    const char *what = difference(&c->after, &c->other, defined_flags(b));
    return what ? what : same_memory(c) ? NULL : "bytes of memory";
}

void soft_check_block(struct soft_vp *vp, struct block *b)
{
    struct soft_check *c = vp->check;
    /* so that neither way goes on behind the block */
    atomic_fetch_or(&vp->attn, ATTN_SELF);
    if (--c->until || !soft_jit_past_head(b)) {
        c->until = c->until ? c->until : 1;
        vp->block_rip = vp->rip;
        vp->jit_enter(vp, soft_jit_past_head(b) ? soft_jit_past_head(b) : b->code);
        return;
    }
    c->until = c->each;
    const char *what = NULL;
    for (unsigned n = 0; n < TRIES; n++) { /* a device may write to memory meanwhile */
        bool stands;
        what = compare(vp, b, &stands);
        if (stands) {
            c->alone++;
            return;
        }
        if (!what)
            break;
        undo(c);
        put(vp, &c->before);
    }
    if (what)
        differs(vp, b, what);
    c->compared++;
    if (!--c->left)
        report(c);
}

void soft_check_faulted(struct soft_vp *vp)
{
    struct soft_check *c = vp->check;
    if (!c || c->phase == IDLE)
        return;
    if (c->phase == TRANSLATED) {
        c->phase = IDLE;
        fprintf(stderr, "lock-step: exception %u by translated code alone, block at %" PRIx64 "\n",
                vp->exc_vector, c->before.rip);
        vp->exc_pending = false;
        vp->exit->kind = HV_EXIT_FAILED;
        snprintf(vp->exit->text, sizeof vp->exit->text, "lock-step: an exception differs");
        vp->stopped = true;
        return;
    }
    c->alone++;
    leave(vp);
}

void soft_check_writes(struct soft_vp *vp, void *host, unsigned size)
{
    struct soft_check *c = vp->check;
    if (c->phase != INTERPRETED)
        return;
    if (c->n == MAX_WRITES || size > MAX_SIZE) {
        c->once = true;
        return;
    }
    struct written *w = &c->w[c->n++];
    w->host = host;
    w->size = size;
    memcpy(w->before, host, size);
}

void soft_check_once(struct soft_vp *vp)
{
    if (vp->check && vp->check->phase == INTERPRETED)
        vp->check->once = true;
}
