/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Moves, conversions, flag instructions, decimal arithmetic. Source: SDM vol. 2. */
#include "core/hv/soft/flags.h"
#include "core/hv/soft/ops.h"
#include "core/hv/soft/stack.h"

#define ROW(op)                       \
    {                                 \
        op##8, op##16, op##32, op##64 \
    }
#define ROWW(op)                     \
    {                                \
        NULL, op##16, op##32, op##64 \
    }

#define MOV(bits, sfx, op, ins)                                                        \
    HANDLER(mov_rr##bits)                                                              \
    {                                                                                  \
        WR(bits, vp, i->reg, RD(bits, vp, i->rm));                                     \
        SOFT_NEXT(vp, i);                                                              \
    }                                                                                  \
    HANDLER(mov_rm##bits)                                                              \
    {                                                                                  \
        WR(bits, vp, i->reg, soft_load##bits(vp, i, soft_ea(vp, i, bits / 8, false))); \
        SOFT_NEXT(vp, i);                                                              \
    }                                                                                  \
    HANDLER(mov_mr##bits)                                                              \
    {                                                                                  \
        soft_store##bits(vp, i, soft_ea(vp, i, bits / 8, true), RD(bits, vp, i->reg)); \
        SOFT_NEXT(vp, i);                                                              \
    }                                                                                  \
    HANDLER(mov_ri##bits)                                                              \
    {                                                                                  \
        WR(bits, vp, i->reg, (U(bits))i->imm);                                         \
        SOFT_NEXT(vp, i);                                                              \
    }                                                                                  \
    HANDLER(mov_mi##bits)                                                              \
    {                                                                                  \
        soft_store##bits(vp, i, soft_ea(vp, i, bits / 8, true), (U(bits))i->imm);      \
        SOFT_NEXT(vp, i);                                                              \
    }
FOR_SIZES(MOV, , "")
insn_fn *const soft_mov_rr[4] = ROW(mov_rr);
insn_fn *const soft_mov_rm[4] = ROW(mov_rm);
insn_fn *const soft_mov_mr[4] = ROW(mov_mr);
insn_fn *const soft_mov_ri[4] = ROW(mov_ri);
insn_fn *const soft_mov_mi[4] = ROW(mov_mi);

#define MOFFS(bits, sfx, op, ins)                                          \
    HANDLER(from_moffs##bits)                                              \
    {                                                                      \
        uint64_t lin = i->imm + SOFT_REG(uint64_t, vp, i->segbase);        \
        WR(bits, vp, i->reg, soft_load##bits(vp, i, lin));                 \
        SOFT_NEXT(vp, i);                                                  \
    }                                                                      \
    HANDLER(to_moffs##bits)                                                \
    {                                                                      \
        uint64_t lin = i->imm + SOFT_REG(uint64_t, vp, i->segbase);        \
        soft_store##bits(vp, i, lin, RD(bits, vp, i->reg));                \
        SOFT_NEXT(vp, i);                                                  \
    }                                                                      \
    HANDLER(touch##bits)                                                   \
    {                                                                      \
        soft_probe_write(vp, i, soft_ea(vp, i, bits / 8, true), bits / 8); \
        SOFT_NEXT(vp, i);                                                  \
    }
FOR_SIZES(MOFFS, , "")
insn_fn *const soft_mov_from_moffs[4] = ROW(from_moffs);
insn_fn *const soft_mov_to_moffs[4] = ROW(to_moffs);
insn_fn *const soft_touch[4] = ROW(touch);

void soft_op_zero_upper(struct soft_vp *vp, const struct insn *i)
{
    SOFT_REG(uint64_t, vp, i->rm) = SOFT_REG(uint32_t, vp, i->rm);
    SOFT_NEXT(vp, i);
}

#define WIDEN(from, to, cast, op)                                                                 \
    HANDLER(op##_rr##from##_##to)                                                                 \
    {                                                                                             \
        WR(to, vp, i->reg, (U(to))(cast)RD(from, vp, i->rm));                                     \
        SOFT_NEXT(vp, i);                                                                         \
    }                                                                                             \
    HANDLER(op##_rm##from##_##to)                                                                 \
    {                                                                                             \
        WR(to, vp, i->reg, (U(to))(cast)soft_load##from(vp, i, soft_ea(vp, i, from / 8, false))); \
        SOFT_NEXT(vp, i);                                                                         \
    }
#define WIDEN3(from, cast, op) \
    WIDEN(from, 16, cast, op) WIDEN(from, 32, cast, op) WIDEN(from, 64, cast, op)
WIDEN3(8, uint8_t, movzx)
WIDEN3(16, uint16_t, movzx)
WIDEN3(8, int8_t, movsx)
WIDEN3(16, int16_t, movsx)
WIDEN3(32, int32_t, movsx)
#define ROWX(op, from)                                    \
    {                                                     \
        NULL, op##from##_16, op##from##_32, op##from##_64 \
    }
insn_fn *const soft_movzx_rr[2][4] = {ROWX(movzx_rr, 8), ROWX(movzx_rr, 16)};
insn_fn *const soft_movzx_rm[2][4] = {ROWX(movzx_rm, 8), ROWX(movzx_rm, 16)};
insn_fn *const soft_movsx_rr[3][4] = {ROWX(movsx_rr, 8), ROWX(movsx_rr, 16), ROWX(movsx_rr, 32)};
insn_fn *const soft_movsx_rm[3][4] = {ROWX(movsx_rm, 8), ROWX(movsx_rm, 16), ROWX(movsx_rm, 32)};

static inline uint64_t lea_offset(const struct soft_vp *vp, const struct insn *i)
{
    uint64_t o = soft_offset(vp, i);
    if (i->ea & INSN_EA32)
        o = (uint32_t)o;
    else if (i->ea & INSN_EA16)
        o = (uint16_t)o;
    return o;
}
#define LEA(bits, sfx, op, ins)                                                               \
    HANDLER(lea##bits)                                                                        \
    {                                                                                         \
        WR(bits, vp, i->reg, (U(bits))lea_offset(vp, i));                                     \
        SOFT_NEXT(vp, i);                                                                     \
    }                                                                                         \
    HANDLER(bswap##bits)                                                                      \
    {                                                                                         \
        U(bits) v = RD(bits, vp, i->rm);                                                      \
        WR(bits, vp, i->rm, bits == 16 ? 0 : (U(bits))(__builtin_bswap64(v) >> (64 - bits))); \
        SOFT_NEXT(vp, i);                                                                     \
    }
FOR_WORDS(LEA, , "")
insn_fn *const soft_lea[4] = ROWW(lea);
insn_fn *const soft_bswap[4] = ROWW(bswap);

#define FOR_CC(M) \
    M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15)
#define LIST_CC(M)                                                                              \
    {                                                                                           \
        M(0), M(1), M(2), M(3), M(4), M(5), M(6), M(7), M(8), M(9), M(10), M(11), M(12), M(13), \
            M(14), M(15)                                                                        \
    }
#define CMOV(bits, cc)                                                                      \
    HANDLER(cmov_rr##bits##_##cc)                                                           \
    {                                                                                       \
        U(bits) v = soft_cond(vp->status, cc) ? RD(bits, vp, i->rm) : RD(bits, vp, i->reg); \
        WR(bits, vp, i->reg, v);                                                            \
        SOFT_NEXT(vp, i);                                                                   \
    }                                                                                       \
    HANDLER(cmov_rm##bits##_##cc)                                                           \
    {                                                                                       \
        U(bits) v = soft_load##bits(vp, i, soft_ea(vp, i, bits / 8, false));                \
        v = soft_cond(vp->status, cc) ? v : RD(bits, vp, i->reg);                           \
        WR(bits, vp, i->reg, v);                                                            \
        SOFT_NEXT(vp, i);                                                                   \
    }
#define CC_OPS(cc)                                                              \
    CMOV(16, cc)                                                                \
    CMOV(32, cc)                                                                \
    CMOV(64, cc)                                                                \
    HANDLER(set_r_##cc)                                                         \
    {                                                                           \
        WR8(vp, i->rm, soft_cond(vp->status, cc));                              \
        SOFT_NEXT(vp, i);                                                       \
    }                                                                           \
    HANDLER(set_m_##cc)                                                         \
    {                                                                           \
        soft_store8(vp, i, soft_ea(vp, i, 1, true), soft_cond(vp->status, cc)); \
        SOFT_NEXT(vp, i);                                                       \
    }
FOR_CC(CC_OPS)
#define CMOV_RR(cc)                                          \
    {                                                        \
        NULL, cmov_rr16_##cc, cmov_rr32_##cc, cmov_rr64_##cc \
    }
#define CMOV_RM(cc)                                          \
    {                                                        \
        NULL, cmov_rm16_##cc, cmov_rm32_##cc, cmov_rm64_##cc \
    }
#define SET_R(cc) set_r_##cc
#define SET_M(cc) set_m_##cc
insn_fn *const soft_cmov_rr[16][4] = LIST_CC(CMOV_RR);
insn_fn *const soft_cmov_rm[16][4] = LIST_CC(CMOV_RM);
insn_fn *const soft_set_r[16] = LIST_CC(SET_R);
insn_fn *const soft_set_m[16] = LIST_CC(SET_M);

#define OP(name) void soft_op_##name(struct soft_vp *vp, const struct insn *i)

OP(nop)
{
    SOFT_NEXT(vp, i);
}

OP(fence)
{
    atomic_thread_fence(memory_order_seq_cst);
    SOFT_NEXT(vp, i);
}

OP(clflush)
{
    soft_load8(vp, i, soft_ea(vp, i, 1, false));
    SOFT_NEXT(vp, i);
}

OP(cbw)
{
    WR16(vp, 0, (uint16_t)(int8_t)vp->gpr[HV_RAX]);
    SOFT_NEXT(vp, i);
}

OP(cwde)
{
    vp->gpr[HV_RAX] = (uint32_t)(int16_t)vp->gpr[HV_RAX];
    SOFT_NEXT(vp, i);
}

OP(cdqe)
{
    vp->gpr[HV_RAX] = (uint64_t)(int32_t)vp->gpr[HV_RAX];
    SOFT_NEXT(vp, i);
}

OP(cwd)
{
    WR16(vp, 8 * HV_RDX, (uint16_t)((int16_t)vp->gpr[HV_RAX] >> 15));
    SOFT_NEXT(vp, i);
}

OP(cdq)
{
    vp->gpr[HV_RDX] = (uint32_t)((int32_t)vp->gpr[HV_RAX] >> 31);
    SOFT_NEXT(vp, i);
}

OP(cqo)
{
    vp->gpr[HV_RDX] = (uint64_t)((int64_t)vp->gpr[HV_RAX] >> 63);
    SOFT_NEXT(vp, i);
}

OP(sahf)
{
    vp->status = (uint16_t)((vp->gpr[HV_RAX] & 0xd500) | (vp->status & ST_OF));
    SOFT_NEXT(vp, i);
}

OP(lahf)
{
    SOFT_REG(uint8_t, vp, 1) = (uint8_t)(((vp->status >> 8) & 0xd5) | 2);
    SOFT_NEXT(vp, i);
}

OP(salc)
{
    WR8(vp, 0, vp->status & ST_CF ? 0xff : 0);
    SOFT_NEXT(vp, i);
}

OP(cmc)
{
    vp->status ^= ST_CF;
    SOFT_NEXT(vp, i);
}

OP(clc)
{
    vp->status &= (uint16_t)~ST_CF;
    SOFT_NEXT(vp, i);
}

OP(stc)
{
    vp->status |= ST_CF;
    SOFT_NEXT(vp, i);
}

OP(cld)
{
    vp->eflags &= ~(uint32_t)FL_DF;
    SOFT_NEXT(vp, i);
}

OP(std)
{
    vp->eflags |= FL_DF;
    SOFT_NEXT(vp, i);
}

OP(xlat)
{
    uint64_t o = vp->gpr[HV_RBX] + (uint8_t)vp->gpr[HV_RAX];
    if (i->ea & INSN_EA32)
        o = (uint32_t)o;
    else if (i->ea & INSN_EA16)
        o = (uint16_t)o;
    WR8(vp, 0, soft_load8(vp, i, soft_lin(vp, i, i->seg, o, 1, false)));
    SOFT_NEXT(vp, i);
}

/* Decimal adjustments (not in 64-bit code): SDM's pseudo code; SF, ZF, PF of AL. */
static uint16_t result_flags(uint8_t v)
{
    uint16_t st;
    fl_test8(v, v, &st);
    return st & (ST_SF | ST_ZF | ST_PF);
}

static void decimal(struct soft_vp *vp, bool subtract)
{
    uint8_t al = (uint8_t)vp->gpr[HV_RAX], was = al;
    bool cf = vp->status & ST_CF, af = vp->status & ST_AF, carry = false;
    if ((al & 15) > 9 || af) {
        carry = cf || (subtract ? al < 6 : al > 0xf9);
        al = (uint8_t)(subtract ? al - 6 : al + 6);
        af = true;
    }
    if (was > 0x99 || cf) {
        al = (uint8_t)(subtract ? al - 0x60 : al + 0x60);
        carry = true;
    }
    WR8(vp, 0, al);
    vp->status = (uint16_t)(result_flags(al) | (carry ? ST_CF : 0) | (af ? ST_AF : 0));
}

OP(daa)
{
    decimal(vp, false);
    SOFT_NEXT(vp, i);
}

OP(das)
{
    decimal(vp, true);
    SOFT_NEXT(vp, i);
}

static void ascii(struct soft_vp *vp, int step)
{
    uint16_t ax = (uint16_t)vp->gpr[HV_RAX];
    bool adjust = (ax & 15) > 9 || (vp->status & ST_AF);
    if (adjust)
        ax = (uint16_t)(ax + step);
    ax &= 0xff0f;
    WR16(vp, 0, ax);
    vp->status = (uint16_t)(result_flags((uint8_t)ax) | (adjust ? ST_CF | ST_AF : 0));
}

OP(aaa)
{
    ascii(vp, 0x106);
    SOFT_NEXT(vp, i);
}

OP(aas)
{
    ascii(vp, -0x106);
    SOFT_NEXT(vp, i);
}

OP(aam)
{
    uint8_t al = (uint8_t)vp->gpr[HV_RAX], base = i->imm8;
    if (!base)
        soft_raise(vp, i, EXC_DE);
    WR16(vp, 0, (uint16_t)(al / base << 8 | al % base));
    vp->status = result_flags(al % base);
    SOFT_NEXT(vp, i);
}

OP(aad)
{
    uint16_t ax = (uint16_t)vp->gpr[HV_RAX];
    uint8_t al = (uint8_t)((ax & 0xff) + (ax >> 8) * i->imm8);
    WR16(vp, 0, al);
    vp->status = result_flags(al);
    SOFT_NEXT(vp, i);
}
