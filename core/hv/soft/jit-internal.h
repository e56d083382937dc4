/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What jit.c (cache, thunks, linking) and translate.c (blocks) share. */
#ifndef VIREO_HV_SOFT_JIT_INTERNAL_H
#define VIREO_HV_SOFT_JIT_INTERNAL_H

#include <stdio.h>

#include "core/hv/soft/emit.h"
#include "core/hv/soft/jit.h"

enum { J_VP = E_R15, J_ADDR = E_R14, J_TMP = E_R13, J_TMP2 = E_R12 };

/*
 * A window: the page that one place in code of CPL 3 last touched, and where the host has it. The
 * place goes on when its operand's offset in that page is below `limit`: 0 while closed, else
 * `full`, one more than the greatest at which the operand fits. Closing all costs as much as there
 * are open.
 */
struct jit_win {
    uint64_t page, limit;
    uint64_t host, addend; /* of the page; what makes a guest's address in it the host's */
    int32_t misses;        /* counts up to 0 */
    uint32_t full;
};
enum { JIT_WINDOWS = 1 << 14, JIT_MISSES = 64, JIT_OFTEN = 2500 };
/* Which place a window is of; `since`: the host's time stamp when it began to count. */
struct jit_place {
    struct block *b;
    uint64_t since;
    unsigned insn;
};
/* How a window is opened again. */
enum jit_fill {
    JIT_FILL_NONE,
    JIT_FILL_READ,
    JIT_FILL_WRITE,
    JIT_FILL_STACK_READ, /* kernel, user */
    JIT_FILL_STACK_READ_USER,
    JIT_FILL_STACK_WRITE,
    JIT_FILL_STACK_WRITE_USER,
    JIT_FILLS
};

struct soft_jit {
    uint8_t *rw, *rx;
    uint32_t size;
    struct jit_far *far; /* follow the executable view at once: reached from it by offset */
    struct jit_win *win;
    uint32_t nwin, win_at;   /* win_at: offset in the executable view */
    struct jit_place *place; /* by number of window */
    uint32_t fill[JIT_FILLS];
    uint32_t nfar, max_far;
    size_t mapped; /* executable view, far jumps, windows */
    void *rings;   /* see soft_vp.ret_rings */
    struct emit e;
    uint32_t first; /* end of the thunks: where blocks begin */
    /* offsets of the thunks */
    uint32_t enter, exit, bail, leave, leave_linked, cold, indirect, far_miss, call, load_vec,
        load_all, save_fpu;
    bool exact, translate_x87, count; /* see struct tr and struct soft_jit_options */
    FILE *map;                        /* perf's, or NULL */
    uint64_t most;                    /* bytes in use at once; read by any thread */
};

/* vp->jit_fpu: what the host's registers hold of the guest's. */
enum jit_fpu {
    JIT_FPU_NONE,
    JIT_FPU_VEC, /* XMM and MXCSR */
    JIT_FPU_ALL, /* x87 too */
};

/* Lies in the code buffer; vp->jit_link is its offset after an exit by a direct jump. */
struct jit_link {
    uint64_t phys;   /* where the jump goes */
    uint32_t rel_at; /* offset of the rel32 to patch */
    uint32_t mode;
};

/* A direct jump to another page: it goes on at once while linear address and key are these. */
struct jit_far {
    uint64_t lin, key; /* key 0: not linked */
    uint8_t *code;
    uint32_t rel_at; /* of its jmp */
    uint32_t half;   /* of the address space: which key it compares */
};

/* Offset of a far jump's data in the executable view. */
static inline uint32_t jit_far_at(const struct soft_jit *j, uint32_t n)
{
    return j->size + n * (uint32_t)sizeof(struct jit_far);
}

#define VP(field) ((int32_t)offsetof(struct soft_vp, field))

static inline int32_t vp_gpr(unsigned g)
{
    return VP(gpr) + 8 * (int32_t)g;
}

/* Host register of a guest register, or E_NONE: it lives in vp->gpr. */
static inline unsigned jit_pinned(unsigned g)
{
    return g == HV_RSP ? E_R11 : g >= HV_R11 ? E_NONE : g;
}

/* Translates b at the end of the buffer; the offset of its code, or 0 (buffer full or not worth
 * it). */
uint32_t jit_block(struct soft_jit *j, struct soft_vp *vp, struct block *b);

#endif
