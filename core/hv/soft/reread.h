/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The translator's own look at guest bytes: what it must know to emit an instruction for the host
 * again, and what the instruction does to the flags. 64-bit code, and 32-bit code in flat segments
 * with 32-bit addresses and stack. It knows just the
 * instructions that the translator emits; the block's decoded insn is the authority for lengths and
 * for all else.
 */
#ifndef VIREO_HV_SOFT_REREAD_H
#define VIREO_HV_SOFT_REREAD_H

#include <stdbool.h>
#include <stdint.h>

enum reread_kind {
    RR_PLAIN,   /* explicit ModRM operands (and RAX, RDX, RCX, which the host has in the same place)
                 */
    RR_FIXED,   /* no ModRM, no memory: emitted as it is (CDQ, CLC ...); operands RAX, RDX only */
    RR_ACC,     /* accumulator with immediate (ADD EAX, imm) */
    RR_MOV_IMM, /* B0-BF */
    RR_BSWAP,
    RR_XCHG_ACC, /* 90-97 */
    RR_NOP,
    RR_LEA,
    RR_PUSH, /* register in rm */
    RR_POP,
    RR_PUSH_IMM,
    RR_PUSH_RM, /* from memory */
    RR_LEAVE,
    RR_VEC, /* SSE: operands in xmm registers where xreg, xrm say so */
    RR_X87, /* the register operand, if any, is in modrm */
    RR_JCC,
    RR_JMP,
    RR_CALL,
    RR_JMP_RM,
    RR_CALL_RM,
    RR_RET,
};

enum { RR_R = 1, RR_W = 2, RR_RW = 3 };
enum { RR_NO_REG = 0xff, RR_RIP = 0xfe };

struct reread {
    uint8_t kind, len;
    uint8_t map; /* 0 one byte, 1 0F, 2 0F38, 3 0F3A */
    uint8_t op, modrm;
    uint8_t size;    /* operand bytes: 1, 2, 4, 8 */
    uint8_t rm_size; /* memory operand's bytes (MOVZX: 1 or 2) */
    uint8_t rep;     /* mandatory F3/F2 (POPCNT, CRC32), 0 otherwise */
    bool rex, lock, opsz, mem;
    bool group;                 /* modrm.reg is part of the opcode */
    bool reg8, rm8;             /* byte registers: high ones without REX */
    uint8_t reg, rm;            /* with REX applied */
    uint8_t base, index, scale; /* RR_NO_REG, RR_RIP */
    uint8_t seg;                /* 0: base 0; else enum hv_seg HV_FS, HV_GS */
    int32_t disp;
    uint8_t imm_size;
    int64_t imm;
    uint8_t reg_use, rm_use; /* RR_R, RR_W */
    bool xreg, xrm, aligned; /* aligned: a memory operand must be, or #GP */
    /* set: all six, whatever they were; merge: it changes some of them and reads none */
    bool flags_read, flags_set, flags_merge;
};

/* The vector part: prefixes, opcode and ModRM have been read. */
bool soft_reread_vec(struct reread *r, bool sse42_host);

bool soft_reread_x87(struct reread *r);

/* False: not one of the translator's. `left` bytes are readable. */
bool soft_reread(const uint8_t *p, unsigned left, bool is32, struct reread *r);

#endif
