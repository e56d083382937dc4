/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A block while it is translated: what translate.c (instructions, the whole) and translate-flow.c
 * (stack, ways out) share. */
#ifndef VIREO_HV_SOFT_TRANSLATE_H
#define VIREO_HV_SOFT_TRANSLATE_H

#include "core/hv/soft/jit-internal.h"
#include "core/hv/soft/reread.h"

enum { PEEK_INSNS = 12, MAX_SLOW = 4 * BLOCK_MAX_INSNS, MAX_EXITS = BLOCK_MAX_INSNS + 4 };

/* A way out to `off` from the page's start, emitted behind the block's code. */
struct way_out {
    uint32_t rel_at; /* the branch that comes here */
    int64_t off;
    bool save_flags; /* the host has the guest's flags, and they are needed */
    bool wraps;      /* a jump of 32-bit code */
    uint8_t not_run; /* instructions that the head counted */
};

struct slow {
    uint32_t rel_at; /* the branch that comes here */
    uint32_t back;   /* where a window that was opened again goes on */
    uint16_t insn;
    uint16_t win;
    uint8_t fill, size; /* enum jit_fill; bytes asked for */
    uint8_t kept[2];    /* struct tr's, which a window's opening loses */
    bool offset;        /* J_ADDR is the offset in the window's page */
};

struct step {
    struct reread r;
    bool native, flags_after; /* flags_after: someone reads the flags as this one leaves them */
    /* Accesses by one base, one after another, are checked once, by the first (translate-group.c):
     * `lead` for `span` bytes from `low` beyond its own; `joined`: r14 is their host address. */
    bool lead, joined, group_writes;
    uint8_t span;
    int16_t low;
    int16_t at; /* of the operand beyond r14 */
};

struct tr {
    struct emit *e;
    struct soft_jit *j;
    struct block *b;
    uint32_t page_off; /* of the block in its page */
    const uint8_t *page;
    bool wide;           /* 64-bit code; else 32-bit code in flat segments */
    bool in_host, in_vp; /* where the guest's flags are right now */
    bool exact;          /* keep even flags that only a fault's frame would show */
    uint8_t loaded;      /* enum jit_fpu: what of the guest's is surely in the host's registers */
    uint8_t kept[2];     /* guest registers that J_TMP, J_TMP2 are copies of, or E_NONE */
    unsigned nslow, nout;
    struct step step[BLOCK_MAX_INSNS];
    struct slow slow[MAX_SLOW];
    struct way_out out[MAX_EXITS];
    uint32_t head;
    uint32_t landing_rel; /* of the lea that a call's landing patches */
    uint32_t half;        /* of the address space that the block is in, for now */
    bool user;            /* code of CPL 3 */
};

/* Flags: where the guest's are, and that they get where they are needed. */
void tr_save_flags(struct tr *t);
void tr_load_flags(struct tr *t);
/* What holds RAX meanwhile: LAHF needs it. */
unsigned tr_spare(struct tr *t);
/* Host flags are about to be lost; keeps the guest's if anyone still needs them. */
void tr_clobber_flags(struct tr *t, bool needed);

/* The guest register in a host register: its own, or J_TMP or J_TMP2 but not `avoid`, loaded from
 * vp if `load` and not there yet. Who changes it puts it. */
unsigned tr_use_reg(struct tr *t, unsigned g, unsigned avoid, bool load);
void tr_put_reg(struct tr *t, unsigned g, unsigned h);
/* J_TMP and J_TMP2 are free. */
void tr_forget_regs(struct tr *t);
/* What a thunk has lost: the first n of what J_TMP and J_TMP2 held. */
void tr_reload_regs(struct tr *t, const uint8_t kept[2], unsigned n);
/* On condition `cc`, the interpreter or whoever fills a window does instruction k. */
void tr_slow_way(struct tr *t, unsigned cc, unsigned k);
/* Whether flags that are set before anyone reads them all are kept for this instruction. */
static inline bool tr_merges(const struct tr *t, const struct step *s)
{
    return s->r.flags_merge && (s->flags_after || t->exact);
}

/* translate-memory.c. dst = address of the operand, plus low, without segment base. Leaves flags
 * alone but for RIP-relative ones far away, which cannot be. */
void tr_address(struct tr *t, const struct reread *r, unsigned k, unsigned dst, int32_t low);
/* The way out of line to a page that a window does not show: filled, and back. */
void tr_open_window(struct tr *t, struct slow *s);
/* J_ADDR = host address of `size` bytes at the linear address in J_ADDR, or off to the interpreter.
 * `stack`: it is likely to be where the last of these was. `wait`: others wait for the address.
 * Host flags are lost. */
void tr_check_access(struct tr *t, unsigned k, unsigned size, bool write, bool stack, bool wait);
/* The same for a word at RSP + disp, for all of its group if it leads one; joined: nothing is done.
 * The word is at tr_at(s). `flags`: the guest's are still needed. */
void tr_check_stack(struct tr *t, const struct step *s, unsigned k, int32_t disp, bool write,
                    bool flags);
/* The same for the instruction's memory operand. */
void tr_memory(struct tr *t, const struct step *s, unsigned k, unsigned size, bool write);

/* Offset of instruction k in its page; also of what the block goes on to, for k = n. */
static inline uint32_t tr_off(const struct tr *t, unsigned k)
{
    return t->page_off + (uint32_t)t->b->insn[k].off;
}
/* A jump that the block goes beyond. */
static inline bool tr_midway(const struct tr *t, unsigned k)
{
    return t->step[k].native && t->step[k].r.kind >= RR_JCC && k + 1u != t->b->n;
}

/* What is pushed and popped: bytes. */
static inline unsigned tr_word(const struct tr *t)
{
    return t->wide ? 8 : 4;
}
/* With results of the code's address size, zero-extended. */
static inline void tr_lea(struct tr *t, unsigned dst, struct emit_rm m)
{
    e_op_rm(t->e, t->wide, 0, 0x8d, dst, m);
}
static inline void tr_move(struct tr *t, unsigned dst, unsigned src)
{
    e_op_rm(t->e, t->wide, 0, 0x8b, dst, e_reg(src));
}
static inline void tr_load_word(struct tr *t, unsigned dst, struct emit_rm at)
{
    e_op_rm(t->e, t->wide, 0, 0x8b, dst, at);
}
static inline void tr_store_word(struct tr *t, struct emit_rm at, unsigned src)
{
    e_op_rm(t->e, t->wide, 0, 0x89, src, at);
}

/* The operand that a check was made for. */
static inline struct emit_rm tr_at(const struct step *s)
{
    return e_mem(J_ADDR, s->at);
}

/* translate-group.c: fills in what struct step says of groups. */
void tr_find_groups(struct tr *t);

/* translate-flow.c */
void tr_push(struct tr *t, const struct step *s, unsigned k, unsigned h, bool imm);
void tr_pop(struct tr *t, const struct step *s, unsigned k, unsigned g);
void tr_leave(struct tr *t, const struct step *s, unsigned k);
/* On to what follows instruction k, flags in vp. */
void tr_go_on(struct tr *t, unsigned k);
/* To `off` from the page's start, flags in vp. `rel_at`: a branch that exists already, or 0. */
void tr_jump_to(struct tr *t, uint32_t rel_at, int64_t off);
/* The branch that ends the block. */
void tr_finish(struct tr *t, const struct step *s, unsigned k);
/* A conditional jump that the block goes beyond. */
void tr_side_exit(struct tr *t, const struct step *s, unsigned k);
/* All ways out, behind everything else. */
void tr_ways_out(struct tr *t);
/* Whether the flags may be read at `off` in the page before they are all set. */
bool tr_flags_live_at(const struct tr *t, int64_t off);

#endif
