/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/hv/soft/reread.h"

#include <string.h>

#include "core/base/bytes.h"
#include "core/hv/vpstate.h"

struct cursor {
    const uint8_t *p;
    unsigned at, left;
    bool over, is32;
};

static uint8_t next8(struct cursor *c)
{
    if (c->at >= c->left || c->at >= 15) {
        c->over = true;
        return 0;
    }
    return c->p[c->at++];
}

static int64_t next_imm(struct cursor *c, unsigned size)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < size; i++)
        v |= (uint64_t)next8(c) << 8 * i;
    unsigned shift = 64 - 8 * size;
    return size ? (int64_t)(v << shift) >> shift : 0;
}

static bool prefixes(struct cursor *c, struct reread *r, bool *rexw, uint8_t *rexbits)
{
    for (;;) {
        uint8_t b = next8(c);
        if (c->over)
            return false;
        switch (b) {
        case 0x66: r->opsz = true; break;
        case 0x2e:
            if (c->is32) /* code is not to be written to */
                return false;
            break;
        case 0x26:
        case 0x36:
        case 0x3e: break; /* no effect in 64-bit code, nor in flat segments */
        case 0x64: r->seg = HV_FS; break;
        case 0x65: r->seg = HV_GS; break;
        case 0xf0: r->lock = true; break;
        case 0xf2:
        case 0xf3: r->rep = b; break;
        case 0x67: return false;
        default:
            if (!c->is32 && (b & 0xf0) == 0x40) {
                *rexbits = b & 15;
                r->rex = true;
                *rexw = b & 8;
                b = next8(c);
                if ((b & 0xf0) == 0x40)
                    return false;
            }
            r->op = b;
            return !c->over;
        }
    }
}

static void modrm(struct cursor *c, struct reread *r, uint8_t rexbits)
{
    r->modrm = next8(c);
    unsigned mod = r->modrm >> 6, rm = r->modrm & 7;
    r->reg = (uint8_t)((r->modrm >> 3 & 7) | (rexbits & 4) << 1);
    r->rm = (uint8_t)(rm | (rexbits & 1) << 3);
    r->mem = mod != 3;
    if (!r->mem)
        return;
    r->base = r->rm;
    if (rm == 4) {
        uint8_t sib = next8(c);
        unsigned index = (sib >> 3 & 7u) | (unsigned)(rexbits & 2) << 2;
        r->base = (uint8_t)((sib & 7) | (rexbits & 1) << 3);
        r->index = index == 4 ? RR_NO_REG : (uint8_t)index;
        r->scale = sib >> 6;
        if ((sib & 7) == 5 && mod == 0)
            r->base = RR_NO_REG;
    } else if (rm == 5 && mod == 0) {
        r->base = c->is32 ? RR_NO_REG : RR_RIP;
    }
    if (mod == 1)
        r->disp = (int32_t)next_imm(c, 1);
    else if (mod == 2 || r->base == RR_RIP || r->base == RR_NO_REG)
        r->disp = (int32_t)next_imm(c, 4);
}

/* Operand roles and flags of an instruction with ModRM. */
static void uses(struct reread *r, unsigned reg, unsigned rm, bool flags_read, bool flags_set)
{
    r->kind = RR_PLAIN;
    r->reg_use = (uint8_t)reg;
    r->rm_use = (uint8_t)rm;
    r->flags_read = flags_read;
    r->flags_set = flags_set;
}

static unsigned imm_z(const struct reread *r)
{
    return r->size == 2 ? 2 : 4;
}

/* Of near branches and what goes on the stack. */
static uint8_t near_size(const struct cursor *c)
{
    return c->is32 ? 4 : 8;
}

static bool group3(struct reread *r)
{
    switch (r->modrm >> 3 & 7) {
    case 0: /* TEST */
        uses(r, 0, RR_R, false, true);
        r->imm_size = (uint8_t)(r->size == 1 ? 1 : imm_z(r));
        return true;
    case 2: uses(r, 0, RR_RW, false, false); return true;
    case 3: uses(r, 0, RR_RW, false, true); return true;
    case 4:
    case 5: uses(r, 0, RR_R, false, true); return true; /* RDX:RAX in place */
    default: return false;                              /* DIV may fault; /1 */
    }
}

static bool group5(const struct cursor *c, struct reread *r, bool byte)
{
    unsigned n = r->modrm >> 3 & 7;
    if (n < 2) { /* INC, DEC leave CF */
        uses(r, 0, RR_RW, false, false);
        r->flags_merge = true;
        return true;
    }
    if (byte || r->opsz)
        return false;
    r->size = r->rm_size = near_size(c);
    r->rm_use = RR_R;
    switch (n) {
    case 2: r->kind = RR_CALL_RM; return true;
    case 4: r->kind = RR_JMP_RM; return true;
    case 6: r->kind = RR_PUSH_RM; return true;
    default: return false;
    }
}

static bool shift_group(struct reread *r)
{
    unsigned n = r->modrm >> 3 & 7;
    bool by_cl = (r->op & 0xfe) == 0xd2;
    bool by_imm = (r->op & 0xfe) == 0xc0;
    uses(r, 0, RR_RW, n == 2 || n == 3, !by_cl && !by_imm && n >= 4);
    r->flags_merge = !r->flags_read && !r->flags_set; /* a shift by none changes nothing */
    r->imm_size = by_imm;
    return n != 6;
}

/* INC, DEC and MOV with an address, which 64-bit code has not, as their longer forms. */
static bool legacy_byte(struct cursor *c, struct reread *r)
{
    uint8_t op = r->op;
    if ((op & 0xf0) == 0x40) {
        uses(r, 0, RR_RW, false, false); /* CF stays */
        r->flags_merge = true;
        r->op = 0xff;
        r->rm = op & 7;
        r->reg = op >> 3 & 1;
        r->modrm = (uint8_t)(0xc0 | r->reg << 3 | r->rm);
        r->group = true;
        return true;
    }
    if (op < 0xa0 || op > 0xa3)
        return false;
    bool store = op & 2;
    r->size = op & 1 ? r->size : 1;
    uses(r, store ? RR_R : RR_W, store ? RR_W : RR_R, false, false);
    r->op = (uint8_t)(0x88 | (store ? 0 : 2) | (op & 1));
    r->modrm = 5;
    r->mem = true;
    r->disp = (int32_t)next_imm(c, 4);
    return true;
}

static bool one_byte(struct cursor *c, struct reread *r, uint8_t rexbits)
{
    uint8_t op = r->op;
    bool byte = !(op & 1);
    if (op < 0x40 && (op & 7) < 4) { /* ALU */
        unsigned n = op >> 3;
        bool to_reg = op & 2;
        r->size = byte ? 1 : r->size;
        modrm(c, r, rexbits);
        uses(r, to_reg ? (n == 7 ? RR_R : RR_RW) : RR_R, to_reg ? RR_R : (n == 7 ? RR_R : RR_RW),
             n == 2 || n == 3, true);
        return true;
    }
    if (op < 0x40 && (op & 7) < 6) {
        unsigned n = op >> 3;
        r->size = byte ? 1 : r->size;
        r->kind = RR_ACC;
        r->flags_read = n == 2 || n == 3;
        r->flags_set = true;
        r->imm_size = (uint8_t)(byte ? 1 : imm_z(r));
        return true;
    }
    if (c->is32 && legacy_byte(c, r))
        return true;
    switch (op) {
    case 0x50 ... 0x57:
    case 0x58 ... 0x5f:
        r->rm = (uint8_t)((op & 7) | (rexbits & 1) << 3);
        r->kind = op < 0x58 ? RR_PUSH : RR_POP;
        r->size = near_size(c);
        return !r->opsz;
    case 0x63:
        if (c->is32) /* ARPL */
            return false;
        modrm(c, r, rexbits);
        uses(r, RR_W, RR_R, false, false);
        r->rm_size = r->size == 8 ? 4 : r->size;
        return true;
    case 0x68:
    case 0x6a:
        r->kind = RR_PUSH_IMM;
        r->imm_size = op == 0x68 ? 4 : 1;
        r->size = near_size(c);
        return !r->opsz;
    case 0x69:
    case 0x6b:
        modrm(c, r, rexbits);
        uses(r, RR_W, RR_R, false, true);
        r->imm_size = (uint8_t)(op == 0x6b ? 1 : imm_z(r));
        return true;
    case 0x70 ... 0x7f:
        r->kind = RR_JCC;
        r->flags_read = true;
        r->imm_size = 1;
        return !(c->is32 && r->opsz);
    case 0x80:
    case 0x81:
    case 0x83: {
        r->size = byte ? 1 : r->size;
        modrm(c, r, rexbits);
        unsigned n = r->modrm >> 3 & 7;
        uses(r, 0, n == 7 ? RR_R : RR_RW, n == 2 || n == 3, true);
        r->imm_size = (uint8_t)(op == 0x81 ? imm_z(r) : 1);
        r->group = true;
        return true;
    }
    case 0x84:
    case 0x85:
        r->size = byte ? 1 : r->size;
        modrm(c, r, rexbits);
        uses(r, RR_R, RR_R, false, true);
        return true;
    case 0x86:
    case 0x87:
        r->size = byte ? 1 : r->size;
        modrm(c, r, rexbits);
        uses(r, RR_RW, RR_RW, false, false);
        return true;
    case 0x88:
    case 0x89:
        r->size = byte ? 1 : r->size;
        modrm(c, r, rexbits);
        uses(r, RR_R, RR_W, false, false);
        return true;
    case 0x8a:
    case 0x8b:
        r->size = byte ? 1 : r->size;
        modrm(c, r, rexbits);
        uses(r, RR_W, RR_R, false, false);
        return true;
    case 0x8d:
        modrm(c, r, rexbits);
        r->kind = RR_LEA;
        return r->mem;
    case 0x90 ... 0x97:
        if (r->rep)
            return false; /* PAUSE */
        r->rm = (uint8_t)((op & 7) | (rexbits & 1) << 3);
        r->kind = r->rm == 0 ? RR_NOP : RR_XCHG_ACC;
        return true;
    case 0x98:
    case 0x99: r->kind = RR_FIXED; return true;
    case 0xa8:
    case 0xa9:
        r->size = byte ? 1 : r->size;
        r->kind = RR_ACC;
        r->flags_set = true;
        r->imm_size = (uint8_t)(byte ? 1 : imm_z(r));
        return true;
    case 0xb0 ... 0xb7:
    case 0xb8 ... 0xbf:
        r->kind = RR_MOV_IMM;
        r->rm = (uint8_t)((op & 7) | (rexbits & 1) << 3);
        r->size = op < 0xb8 ? 1 : r->size;
        r->imm_size = r->size;
        return true;
    case 0xc0:
    case 0xc1:
    case 0xd0 ... 0xd3:
        r->size = byte ? 1 : r->size;
        modrm(c, r, rexbits);
        r->group = true;
        return shift_group(r);
    case 0xc2:
    case 0xc3:
        r->kind = RR_RET;
        r->imm_size = op == 0xc2 ? 2 : 0;
        r->size = near_size(c);
        return !r->opsz;
    case 0xc6:
    case 0xc7:
        r->size = byte ? 1 : r->size;
        modrm(c, r, rexbits);
        uses(r, 0, RR_W, false, false);
        r->imm_size = (uint8_t)(byte ? 1 : imm_z(r));
        r->group = true;
        return (r->modrm & 0x38) == 0;
    case 0xc9:
        r->kind = RR_LEAVE;
        r->size = near_size(c);
        return !r->opsz;
    case 0xd8 ... 0xdf: modrm(c, r, rexbits); return soft_reread_x87(r);
    case 0xe8:
    case 0xe9:
        r->kind = op == 0xe8 ? RR_CALL : RR_JMP;
        r->imm_size = 4;
        return !r->opsz;
    case 0xeb:
        r->kind = RR_JMP;
        r->imm_size = 1;
        return !(c->is32 && r->opsz);
    case 0xf5: /* CMC, CLC, STC */
    case 0xf8:
    case 0xf9:
        r->kind = RR_FIXED;
        r->flags_read = op == 0xf5;
        r->flags_merge = op != 0xf5;
        return true;
    case 0xf6:
    case 0xf7:
        r->size = byte ? 1 : r->size;
        modrm(c, r, rexbits);
        r->group = true;
        return group3(r);
    case 0xfe:
    case 0xff:
        r->size = byte ? 1 : r->size;
        modrm(c, r, rexbits);
        r->group = true;
        return group5(c, r, byte);
    default: return false;
    }
}

static bool two_byte(struct cursor *c, struct reread *r, uint8_t rexbits)
{
    uint8_t op = r->op;
    bool byte = !(op & 1);
    switch (op) {
    case 0x18 ... 0x1f: /* prefetches and hints */
        modrm(c, r, rexbits);
        r->kind = RR_NOP;
        return true;
    case 0x0d:
        modrm(c, r, rexbits);
        r->kind = RR_NOP;
        return r->mem;
    case 0x40 ... 0x4f:
        modrm(c, r, rexbits);
        uses(r, RR_RW, RR_R, true, false);
        return true;
    case 0x80 ... 0x8f:
        r->kind = RR_JCC;
        r->flags_read = true;
        r->imm_size = 4;
        return !r->opsz;
    case 0x90 ... 0x9f:
        r->size = 1;
        modrm(c, r, rexbits);
        uses(r, 0, RR_W, true, false);
        r->group = true;
        return true;
    case 0xa3: /* bit tests: with memory the register counts beyond the operand */
    case 0xab:
    case 0xb3:
    case 0xbb:
        modrm(c, r, rexbits);
        uses(r, RR_R, op == 0xa3 ? RR_R : RR_RW, false, false);
        r->flags_merge = true;
        return !r->mem;
    case 0xba:
        modrm(c, r, rexbits);
        uses(r, 0, (r->modrm >> 3 & 7) == 4 ? RR_R : RR_RW, false, false);
        r->flags_merge = true;
        r->imm_size = 1;
        r->group = true;
        return (r->modrm >> 3 & 7) >= 4;
    case 0xa4:
    case 0xa5:
    case 0xac:
    case 0xad:
        modrm(c, r, rexbits);
        uses(r, RR_R, RR_RW, false, false);
        r->flags_merge = true;
        r->imm_size = byte;
        return true;
    case 0xaf:
        modrm(c, r, rexbits);
        uses(r, RR_RW, RR_R, false, true);
        return true;
    case 0xb0:
    case 0xb1:
        r->size = byte ? 1 : r->size;
        modrm(c, r, rexbits);
        uses(r, RR_R, RR_RW, false, true);
        return true;
    case 0xb6:
    case 0xb7:
    case 0xbe:
    case 0xbf:
        modrm(c, r, rexbits);
        uses(r, RR_W, RR_R, false, false);
        r->rm_size = byte ? 1 : 2;
        r->rm8 = byte;
        return true;
    case 0xb8:
        modrm(c, r, rexbits);
        uses(r, RR_W, RR_R, false, true);
        return r->rep == 0xf3;
    case 0xbc: /* destination unchanged when the source is 0 */
    case 0xbd:
        modrm(c, r, rexbits);
        uses(r, RR_RW, RR_R, false, false);
        r->flags_merge = true;
        return !r->rep;
    case 0xc0:
    case 0xc1:
        r->size = byte ? 1 : r->size;
        modrm(c, r, rexbits);
        uses(r, RR_RW, RR_RW, false, true);
        return true;
    case 0xc8 ... 0xcf:
        r->kind = RR_BSWAP;
        r->rm = (uint8_t)((op & 7) | (rexbits & 1) << 3);
        return r->size >= 4;
    case 0x10 ... 0x17:
    case 0x28 ... 0x2f:
    case 0x50 ... 0x76:
    case 0x7c ... 0x7f:
    case 0xc2:
    case 0xc6:
    case 0xd0 ... 0xfe: modrm(c, r, rexbits); return soft_reread_vec(r, true);
    default: return false;
    }
}

/* Which instructions may carry LOCK; others are #UD and left to the interpreter. */
static bool lock_ok(const struct reread *r)
{
    unsigned n = r->modrm >> 3 & 7;
    if (!r->mem || r->kind != RR_PLAIN || !(r->rm_use & RR_W))
        return false;
    if (r->map)
        return r->op == 0xb0 || r->op == 0xb1 || r->op == 0xc0 || r->op == 0xc1 || r->op == 0xba;
    if (r->op < 0x40)
        return !(r->op & 2);
    if (r->op >= 0x80 && r->op <= 0x87)
        return true;
    return (r->op >= 0xfe && n < 2) || ((r->op & 0xfe) == 0xf6 && (n == 2 || n == 3));
}

bool soft_reread(const uint8_t *p, unsigned left, bool is32, struct reread *r)
{
    struct cursor c = {.p = p, .left = left, .is32 = is32};
    bool rexw = false, ok;
    uint8_t rexbits = 0;
    memset(r, 0, sizeof *r);
    r->base = r->index = RR_NO_REG;
    if (!prefixes(&c, r, &rexw, &rexbits))
        return false;
    r->size = rexw ? 8 : r->opsz ? 2 : 4;
    if (r->op == 0x0f) {
        r->map = 1;
        r->op = next8(&c);
        if (r->op == 0x38 || r->op == 0x3a) {
            r->map = r->op == 0x38 ? 2 : 3;
            r->op = next8(&c);
            modrm(&c, r, rexbits);
            ok = soft_reread_vec(r, __builtin_cpu_supports("sse4.2") &&
                                        __builtin_cpu_supports("aes") &&
                                        __builtin_cpu_supports("pclmul"));
        } else {
            ok = two_byte(&c, r, rexbits);
        }
    } else {
        ok = one_byte(&c, r, rexbits);
    }
    if (!ok)
        return false;
    if (r->rep && r->kind != RR_VEC && !(r->map == 1 && r->op == 0xb8)) {
        /* REP NOP-like uses are meaningless elsewhere but for string instructions (not here) */
        if (r->kind != RR_RET && r->kind != RR_NOP && r->kind != RR_JCC)
            return false;
        r->rep = 0;
    }
    if (!r->rm_size)
        r->rm_size = r->size;
    r->reg8 = r->size == 1 && !r->group;
    r->rm8 = r->rm8 || r->size == 1;
    r->imm = next_imm(&c, r->imm_size);
    r->len = (uint8_t)c.at;
    if (r->map == 0 && (r->op & 0xfe) == 0xc0 && (r->modrm & 0x20) &&
        (r->imm & (r->size == 8 ? 63 : 31))) /* a shift that does shift */
        r->flags_merge = false, r->flags_set = true;
    return !c.over && (!r->lock || lock_ok(r));
}
