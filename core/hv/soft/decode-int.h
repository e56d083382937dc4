/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the decoder's files share: the instruction being decoded, and the forms of operands. */
#ifndef VIREO_HV_SOFT_DECODE_INT_H
#define VIREO_HV_SOFT_DECODE_INT_H

#include "core/hv/soft/block.h"
#include "core/hv/soft/ops.h"
#include "core/hv/soft/vec.h"

enum { OFF_ZERO = offsetof(struct soft_vp, zero), OFF_BLOCK = offsetof(struct soft_vp, block_rip) };

struct dec {
    struct insn *out;
    const uint8_t *p;
    unsigned pos, left;
    bool is_short, is_long;
    unsigned mode;    /* SOFT_MODE16, 32, 64 */
    uint8_t rex, rep; /* rep: 0, 0xf2, 0xf3 */
    bool opsz, adsz, lock, lockable;
    int seg;                /* override, -1 none */
    unsigned osize;         /* 1, 2, 3: 16, 32, 64 bits */
    unsigned asize;         /* the same */
    uint8_t mod, regf, rmf; /* fields with REX */
    bool relative, rip_relative, end;
};

uint8_t dec_get8(struct dec *d);
uint16_t dec_get16(struct dec *d);
uint32_t dec_get32(struct dec *d);
uint64_t dec_get64(struct dec *d);
/* Immediate of the operand size, at most 32 bits, sign-extended. */
uint64_t dec_imm_z(struct dec *d);
uint64_t dec_imm_b(struct dec *d);
bool dec_is64(const struct dec *d);
uint8_t dec_reg_off(const struct dec *d, unsigned n, unsigned size);
/* What memory operands and string instructions share: address size and segment. */
void dec_address(struct dec *d, unsigned default_seg);
void dec_modrm(struct dec *d);
bool dec_mem(const struct dec *d);
void dec_ud(struct dec *d);
void dec_set(struct dec *d, insn_fn *fn);
void dec_set_end(struct dec *d, insn_fn *fn);
/* reg and rm fields as integer registers of `size`. */
void dec_regs(struct dec *d, unsigned size);
/* E op G or G op E; the register form has the destination in `reg`. */
void dec_form_eg(struct dec *d, unsigned size, insn_fn *rr, insn_fn *mr);
void dec_form_ge(struct dec *d, unsigned size, insn_fn *rr, insn_fn *rm);
void dec_form_e(struct dec *d, unsigned size, insn_fn *r, insn_fn *m);
unsigned dec_size_of(const struct dec *d, uint8_t op);
/* Near branches and stack operations default to 64 bits in 64-bit code. */
unsigned dec_size64(const struct dec *d);
unsigned dec_branch_size(const struct dec *d);
void dec_mark_size(struct dec *d, unsigned size);
void dec_lock_forms(struct dec *d, insn_fn *locked);
void dec_jump_rel(struct dec *d, insn_fn *wide, insn_fn *legacy, bool byte);
void dec_push_pop_seg(struct dec *d, unsigned seg, bool pop, bool legacy);
void dec_lseg(struct dec *d, unsigned seg);

/* decode-0f.c: after the byte 0F. */
void dec_map_0f(struct dec *d);

#endif
