/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A decoded guest instruction, as the interpreter runs it: 32 bytes, a handler and its operands
 * already turned into offsets within struct soft_vp. Blocks are arrays of these (block.h); a
 * handler ends by going on to i[1] (SOFT_NEXT) or, having set vp->rip, by leaving the block.
 */
#ifndef VIREO_HV_SOFT_INSN_H
#define VIREO_HV_SOFT_INSN_H

#include <stdbool.h>
#include <stdint.h>

struct soft_vp;
struct insn;

typedef void insn_fn(struct soft_vp *vp, const struct insn *i);

enum insn_flag {
    INSN_MEM = 1,   /* modrm names memory: soft_ea() gives its linear address */
    INSN_LOCK = 2,  /* LOCK prefix, already known to be legal */
    INSN_REP = 4,   /* F3 */
    INSN_REPNE = 8, /* F2 */
    INSN_OPSZ = 16, /* 66 */
    INSN_REXW = 32,
    INSN_REX = 64,
    INSN_NEAR64 = 128, /* in 64-bit code */
};

/* What soft_ea must do beyond base + index * scale + disp + segment base; 0 in plain 64-bit code.
 */
enum insn_ea {
    INSN_EA32 = 1,  /* wrap the offset at 32 bits */
    INSN_EA16 = 2,  /* wrap the offset at 16 bits */
    INSN_EASEG = 4, /* legacy mode: segment rights and limit */
};

struct insn {
    insn_fn *fn;
    union {
        uint64_t imm; /* sign-extended immediate, branch displacement, moffs */
        insn_fn *vec; /* vector, MMX and x87 operations: see vec.h */
    };
    int32_t disp;
    int16_t off; /* of the instruction from its block's first: its rip is vp->block_rip + off */
    uint8_t len;
    uint8_t flags; /* enum insn_flag */
    /* Integer operations: byte offset of the register in struct soft_vp (high bytes: + 1).
     * Vector operations: register numbers 0-15 with REX applied. */
    uint8_t reg, rm;
    /* Memory operand: byte offsets in struct soft_vp of base and index (the zero slot if none) and
     * of the segment base. */
    uint8_t base, index, segbase;
    uint8_t seg : 3; /* enum hv_seg of the memory operand */
    uint8_t scale : 2;
    uint8_t ea : 3; /* enum insn_ea */
    uint8_t imm8;   /* vector operations: immediate byte. Integer: condition, group number, ... */
    uint8_t modrm;  /* the byte as encoded (x87 needs it; reg and rm without REX) */
};

_Static_assert(sizeof(struct insn) == 32, "a decoded instruction is half a cache line");

#endif
