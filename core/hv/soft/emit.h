/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Writes host instructions. Registers are host numbers 0-15; `w` is 1 for 64-bit operands. The
 * buffer is the writable view of the code cache; addresses that branches need are offsets in it,
 * which are the same in the executable view. Running out of room sets `full` and drops what
 * follows: the caller throws the block away. Source: Intel SDM vol. 2, chapter 2.
 */
#ifndef VIREO_HV_SOFT_EMIT_H
#define VIREO_HV_SOFT_EMIT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct emit {
    uint8_t *base; /* writable view */
    uint32_t at, end;
    bool full;
};

enum emit_reg {
    E_RAX,
    E_RCX,
    E_RDX,
    E_RBX,
    E_RSP,
    E_RBP,
    E_RSI,
    E_RDI,
    E_R8,
    E_R9,
    E_R10,
    E_R11,
    E_R12,
    E_R13,
    E_R14,
    E_R15,
    E_NONE = 0xff
};

/* The /n of group 1 and the low bits of the ALU opcodes. */
enum emit_alu { E_ADD, E_OR, E_ADC, E_SBB, E_AND, E_SUB, E_XOR, E_CMP };
enum emit_cc { E_CC_O, E_CC_NO, E_CC_B, E_CC_AE, E_CC_E, E_CC_NE, E_CC_BE, E_CC_A };

static inline void e_bytes(struct emit *e, const void *p, uint32_t n)
{
    if (e->end - e->at < n) {
        e->full = true;
        return;
    }
    memcpy(e->base + e->at, p, n);
    e->at += n;
}
static inline void e8(struct emit *e, uint8_t v)
{
    e_bytes(e, &v, 1);
}
static inline void e16(struct emit *e, uint16_t v)
{
    e_bytes(e, &v, 2);
}
static inline void e32(struct emit *e, uint32_t v)
{
    e_bytes(e, &v, 4);
}
static inline void e64(struct emit *e, uint64_t v)
{
    e_bytes(e, &v, 8);
}

/* An operand in ModRM's r/m: a register, or base + index * 2^scale + disp. */
struct emit_rm {
    uint8_t reg; /* E_NONE: memory */
    uint8_t base, index, scale;
    int32_t disp;
};
static inline struct emit_rm e_reg(unsigned r)
{
    return (struct emit_rm){.reg = (uint8_t)r, .base = E_NONE, .index = E_NONE};
}
static inline struct emit_rm e_mem(unsigned base, int32_t disp)
{
    return (struct emit_rm){.reg = E_NONE, .base = (uint8_t)base, .index = E_NONE, .disp = disp};
}

static inline uint8_t e_rex_bits(unsigned w, unsigned reg, const struct emit_rm *rm)
{
    unsigned b = rm->reg != E_NONE ? rm->reg : rm->base == E_NONE ? 0 : rm->base;
    unsigned x = rm->reg == E_NONE && rm->index != E_NONE ? rm->index : 0;
    return (uint8_t)(w << 3 | (reg >> 3 & 1) << 2 | (x >> 3 & 1) << 1 | (b >> 3 & 1));
}

static inline void e_modrm(struct emit *e, unsigned reg, const struct emit_rm *rm)
{
    uint8_t r = (uint8_t)((reg & 7) << 3);
    if (rm->reg != E_NONE) {
        e8(e, (uint8_t)(0xc0 | r | (rm->reg & 7)));
        return;
    }
    if (rm->base == E_NONE) { /* [disp32] or [index * s + disp32] */
        e8(e, r | 4);
        e8(e, (uint8_t)(rm->scale << 6 | (rm->index == E_NONE ? 4 : rm->index & 7) << 3 | 5));
        e32(e, (uint32_t)rm->disp);
        return;
    }
    unsigned mod = rm->disp == 0 && (rm->base & 7) != 5  ? 0
                   : rm->disp >= -128 && rm->disp <= 127 ? 1
                                                         : 2;
    if (rm->index != E_NONE || (rm->base & 7) == 4) {
        e8(e, (uint8_t)(mod << 6 | r | 4));
        e8(e, (uint8_t)(rm->scale << 6 | (rm->index == E_NONE ? 4 : rm->index & 7) << 3 |
                        (rm->base & 7)));
    } else {
        e8(e, (uint8_t)(mod << 6 | r | (rm->base & 7)));
    }
    if (mod == 1)
        e8(e, (uint8_t)rm->disp);
    else if (mod == 2)
        e32(e, (uint32_t)rm->disp);
}

/* opcode: up to three bytes, first one highest (0x0fb6, 0x8b). `rex`: bits that must be there (0x40
 * for SIL...). */
static inline void e_op_rm(struct emit *e, unsigned w, unsigned rex, uint32_t opcode, unsigned reg,
                           struct emit_rm rm)
{
    uint8_t bits = e_rex_bits(w, reg, &rm);
    if (bits || rex)
        e8(e, 0x40 | bits);
    if (opcode > 0xffff)
        e8(e, (uint8_t)(opcode >> 16));
    if (opcode > 0xff)
        e8(e, (uint8_t)(opcode >> 8));
    e8(e, (uint8_t)opcode);
    e_modrm(e, reg, &rm);
}

static inline void e_mov_rr(struct emit *e, unsigned dst, unsigned src)
{
    e_op_rm(e, 1, 0, 0x8b, dst, e_reg(src));
}
static inline void e_load(struct emit *e, unsigned dst, unsigned base, int32_t disp)
{
    e_op_rm(e, 1, 0, 0x8b, dst, e_mem(base, disp));
}
static inline void e_store(struct emit *e, unsigned base, int32_t disp, unsigned src)
{
    e_op_rm(e, 1, 0, 0x89, src, e_mem(base, disp));
}
static inline void e_alu_rm(struct emit *e, unsigned w, enum emit_alu op, unsigned reg,
                            struct emit_rm rm) /* reg op= rm */
{
    e_op_rm(e, w, 0, (unsigned)op << 3 | 3, reg, rm);
}
static inline void e_alu_imm(struct emit *e, unsigned w, enum emit_alu op, struct emit_rm rm,
                             int32_t imm)
{
    bool small = imm >= -128 && imm <= 127;
    e_op_rm(e, w, 0, small ? 0x83 : 0x81, op, rm);
    if (small)
        e8(e, (uint8_t)imm);
    else
        e32(e, (uint32_t)imm);
}
static inline void e_lea(struct emit *e, unsigned dst, struct emit_rm rm)
{
    e_op_rm(e, 1, 0, 0x8d, dst, rm);
}
/* Adds to the low byte alone; r8 to r15. */
static inline void e_add_low(struct emit *e, unsigned reg, int n)
{
    e_op_rm(e, 0, 0, 0x80, E_ADD, e_reg(reg));
    e8(e, (uint8_t)n);
}
/* With an operand at `target` in the executable view; no immediate follows. */
static inline void e_op_rip(struct emit *e, unsigned w, uint32_t opcode, unsigned reg,
                            uint32_t target)
{
    uint8_t bits = (uint8_t)(w << 3 | (reg >> 3 & 1) << 2);
    if (bits)
        e8(e, 0x40 | bits);
    e8(e, (uint8_t)opcode);
    e8(e, (uint8_t)((reg & 7) << 3 | 5));
    e32(e, target - (e->at + 4));
}
static inline void e_mov_imm32(struct emit *e, unsigned dst, uint32_t v) /* zero-extends */
{
    if (dst > 7)
        e8(e, 0x41);
    e8(e, (uint8_t)(0xb8 | (dst & 7)));
    e32(e, v);
}
static inline void e_mov_imm64(struct emit *e, unsigned dst, uint64_t v)
{
    if (v <= UINT32_MAX) {
        e_mov_imm32(e, dst, (uint32_t)v);
        return;
    }
    e8(e, (uint8_t)(0x48 | dst >> 3));
    e8(e, (uint8_t)(0xb8 | (dst & 7)));
    e64(e, v);
}
static inline void e_shift_imm(struct emit *e, unsigned w, unsigned op, unsigned reg, uint8_t n)
{
    e_op_rm(e, w, 0, 0xc1, op, e_reg(reg));
    e8(e, n);
}

/* Branches: return the offset of the rel32, to be set by e_patch. */
static inline uint32_t e_jmp(struct emit *e)
{
    e8(e, 0xe9);
    e32(e, 0);
    return e->at - 4;
}
static inline uint32_t e_jcc(struct emit *e, unsigned cc)
{
    e8(e, 0x0f);
    e8(e, (uint8_t)(0x80 | cc));
    e32(e, 0);
    return e->at - 4;
}
static inline void e_patch(struct emit *e, uint32_t rel_at, uint32_t target)
{
    uint32_t v = target - (rel_at + 4);
    if (!e->full)
        memcpy(e->base + rel_at, &v, 4);
}
static inline void e_jmp_to(struct emit *e, uint32_t target)
{
    e_patch(e, e_jmp(e), target);
}
static inline void e_call_to(struct emit *e, uint32_t target)
{
    e8(e, 0xe8);
    e32(e, 0);
    e_patch(e, e->at - 4, target);
}

#endif
