/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Arithmetic, logic, shifts, bits. Source: SDM vol. 2. */
#include "core/hv/soft/access.h"
#include "core/hv/soft/flags.h"
#include "core/hv/soft/ops.h"

#define U(bits) uint##bits##_t
#define RD(bits, vp, o) SOFT_REG(U(bits), vp, o)
#define WR8(vp, o, v) (SOFT_REG(uint8_t, vp, o) = (v))
#define WR16(vp, o, v) (SOFT_REG(uint16_t, vp, o) = (v))
#define WR32(vp, o, v) (SOFT_REG(uint64_t, vp, o) = (uint32_t)(v))
#define WR64(vp, o, v) (SOFT_REG(uint64_t, vp, o) = (v))
#define WR(bits, vp, o, v) WR##bits(vp, o, v)

/* Runs `body` on `*p`, the memory operand, written back. */
#define RMW(bits, vp, i, body)                           \
    do {                                                 \
        uint64_t lin_ = soft_ea(vp, i, bits / 8, true);  \
        U(bits) *p = soft_hit_write(vp, lin_, bits / 8); \
        if (SOFT_LIKELY(p)) {                            \
            body;                                        \
        } else {                                         \
            p = soft_rmw_slow(vp, i, lin_, bits / 8);    \
            body;                                        \
            soft_rmw_commit(vp, i, bits / 8);            \
        }                                                \
    } while (0)

#define HANDLER(name) static void name(struct soft_vp *vp, const struct insn *i)

/* Two-operand operations that write. */
#define BIN(bits, sfx, op, ins)                                                                  \
    HANDLER(op##_rr##bits)                                                                       \
    {                                                                                            \
        WR(bits, vp, i->reg,                                                                     \
           fl_##op##bits(RD(bits, vp, i->reg), RD(bits, vp, i->rm), &vp->status));               \
        SOFT_NEXT(vp, i);                                                                        \
    }                                                                                            \
    HANDLER(op##_rm##bits)                                                                       \
    {                                                                                            \
        U(bits) b = soft_load##bits(vp, i, soft_ea(vp, i, bits / 8, false));                     \
        WR(bits, vp, i->reg, fl_##op##bits(RD(bits, vp, i->reg), b, &vp->status));               \
        SOFT_NEXT(vp, i);                                                                        \
    }                                                                                            \
    HANDLER(op##_mr##bits)                                                                       \
    {                                                                                            \
        U(bits) b = RD(bits, vp, i->reg);                                                        \
        RMW(bits, vp, i, *p = fl_##op##bits(*p, b, &vp->status));                                \
        SOFT_NEXT(vp, i);                                                                        \
    }                                                                                            \
    HANDLER(op##_ri##bits)                                                                       \
    {                                                                                            \
        WR(bits, vp, i->reg, fl_##op##bits(RD(bits, vp, i->reg), (U(bits))i->imm, &vp->status)); \
        SOFT_NEXT(vp, i);                                                                        \
    }                                                                                            \
    HANDLER(op##_mi##bits)                                                                       \
    {                                                                                            \
        RMW(bits, vp, i, *p = fl_##op##bits(*p, (U(bits))i->imm, &vp->status));                  \
        SOFT_NEXT(vp, i);                                                                        \
    }

/* LOCK forms: compare-and-swap with the plain operation in between; flags are of the value swapped
 * in. */
#define LOCKED(bits, expr)                                                             \
    do {                                                                               \
        U(bits) was_ = __atomic_load_n(p, __ATOMIC_RELAXED), now_;                     \
        uint16_t old_st_ = vp->status, st_;                                            \
        do {                                                                           \
            st_ = old_st_;                                                             \
            now_ = (expr);                                                             \
        } while (!__atomic_compare_exchange_n(p, &was_, now_, false, __ATOMIC_SEQ_CST, \
                                              __ATOMIC_SEQ_CST));                      \
        vp->status = st_;                                                              \
    } while (0)

#define BIN_LOCK(bits, sfx, op, ins)                                                \
    HANDLER(op##_mr_lock##bits)                                                     \
    {                                                                               \
        U(bits) b = RD(bits, vp, i->reg);                                           \
        RMW(bits, vp, i, LOCKED(bits, fl_##op##bits(was_, b, &st_)));               \
        SOFT_NEXT(vp, i);                                                           \
    }                                                                               \
    HANDLER(op##_mi_lock##bits)                                                     \
    {                                                                               \
        RMW(bits, vp, i, LOCKED(bits, fl_##op##bits(was_, (U(bits))i->imm, &st_))); \
        SOFT_NEXT(vp, i);                                                           \
    }

#define BOTH(op) FOR_SIZES(BIN, op, "") FOR_SIZES(BIN_LOCK, op, "")
BOTH(add)
BOTH(or)
BOTH(adc)
BOTH(sbb)
BOTH(and)
BOTH(sub)
BOTH(xor)

#define CMPS(bits, sfx, op, ins)                                               \
    HANDLER(op##_rr##bits)                                                     \
    {                                                                          \
        fl_##op##bits(RD(bits, vp, i->reg), RD(bits, vp, i->rm), &vp->status); \
        SOFT_NEXT(vp, i);                                                      \
    }                                                                          \
    HANDLER(op##_rm##bits)                                                     \
    {                                                                          \
        U(bits) b = soft_load##bits(vp, i, soft_ea(vp, i, bits / 8, false));   \
        fl_##op##bits(RD(bits, vp, i->reg), b, &vp->status);                   \
        SOFT_NEXT(vp, i);                                                      \
    }                                                                          \
    HANDLER(op##_mr##bits)                                                     \
    {                                                                          \
        U(bits) a = soft_load##bits(vp, i, soft_ea(vp, i, bits / 8, false));   \
        fl_##op##bits(a, RD(bits, vp, i->reg), &vp->status);                   \
        SOFT_NEXT(vp, i);                                                      \
    }                                                                          \
    HANDLER(op##_ri##bits)                                                     \
    {                                                                          \
        fl_##op##bits(RD(bits, vp, i->reg), (U(bits))i->imm, &vp->status);     \
        SOFT_NEXT(vp, i);                                                      \
    }                                                                          \
    HANDLER(op##_mi##bits)                                                     \
    {                                                                          \
        U(bits) a = soft_load##bits(vp, i, soft_ea(vp, i, bits / 8, false));   \
        fl_##op##bits(a, (U(bits))i->imm, &vp->status);                        \
        SOFT_NEXT(vp, i);                                                      \
    }
FOR_SIZES(CMPS, cmp, "")
FOR_SIZES(CMPS, test, "")

#define ROW(op, form)                                                     \
    {                                                                     \
        op##_##form##8, op##_##form##16, op##_##form##32, op##_##form##64 \
    }
#define TABLE(form)                                                                    \
    {                                                                                  \
        ROW(add, form), ROW(or, form), ROW(adc, form), ROW(sbb, form), ROW(and, form), \
            ROW(sub, form), ROW(xor, form), ROW(cmp, form), ROW(test, form)            \
    }
insn_fn *const soft_alu_rr[ALU_OPS][4] = TABLE(rr);
insn_fn *const soft_alu_rm[ALU_OPS][4] = TABLE(rm);
insn_fn *const soft_alu_mr[ALU_OPS][4] = TABLE(mr);
insn_fn *const soft_alu_ri[ALU_OPS][4] = TABLE(ri);
insn_fn *const soft_alu_mi[ALU_OPS][4] = TABLE(mi);
#define TABLE_LOCK(form)                                                               \
    {                                                                                  \
        ROW(add, form), ROW(or, form), ROW(adc, form), ROW(sbb, form), ROW(and, form), \
            ROW(sub, form), ROW(xor, form)                                             \
    }
insn_fn *const soft_alu_mr_lock[ALU_OPS][4] = TABLE_LOCK(mr_lock);
insn_fn *const soft_alu_mi_lock[ALU_OPS][4] = TABLE_LOCK(mi_lock);

/* INC, DEC, NOT, NEG. */
#define fl_not8(a, st) ((uint8_t) ~(a))
#define fl_not16(a, st) ((uint16_t) ~(a))
#define fl_not32(a, st) (~(a))
#define fl_not64(a, st) (~(a))
#define UNARY(bits, sfx, op, ins)                                             \
    HANDLER(op##_r##bits)                                                     \
    {                                                                         \
        WR(bits, vp, i->rm, fl_##op##bits(RD(bits, vp, i->rm), &vp->status)); \
        SOFT_NEXT(vp, i);                                                     \
    }                                                                         \
    HANDLER(op##_m##bits)                                                     \
    {                                                                         \
        RMW(bits, vp, i, *p = fl_##op##bits(*p, &vp->status));                \
        SOFT_NEXT(vp, i);                                                     \
    }                                                                         \
    HANDLER(op##_m_lock##bits)                                                \
    {                                                                         \
        RMW(bits, vp, i, LOCKED(bits, fl_##op##bits(was_, &st_)));            \
        SOFT_NEXT(vp, i);                                                     \
    }
FOR_SIZES(UNARY, inc, "")
FOR_SIZES(UNARY, dec, "")
FOR_SIZES(UNARY, not, "")
FOR_SIZES(UNARY, neg, "")
#define TABLE_UN(form)                                                 \
    {                                                                  \
        ROW(inc, form), ROW(dec, form), ROW(not, form), ROW(neg, form) \
    }
insn_fn *const soft_un_r[UN_OPS][4] = TABLE_UN(r);
insn_fn *const soft_un_m[UN_OPS][4] = TABLE_UN(m);
insn_fn *const soft_un_m_lock[UN_OPS][4] = TABLE_UN(m_lock);

/* Shifts and rotates. A count of zero changes nothing, not even memory's dirty bit is asked for
 * less. */
#define MASK8 31
#define MASK16 31
#define MASK32 31
#define MASK64 63
#define SHIFT(bits, sfx, op, ins)                                                      \
    HANDLER(op##_ri##bits)                                                             \
    {                                                                                  \
        WR(bits, vp, i->rm, fl_##op##bits(RD(bits, vp, i->rm), i->imm8, &vp->status)); \
        SOFT_NEXT(vp, i);                                                              \
    }                                                                                  \
    HANDLER(op##_rc##bits)                                                             \
    {                                                                                  \
        uint8_t n = vp->gpr[HV_RCX] & MASK##bits;                                      \
        U(bits) a = RD(bits, vp, i->rm);                                               \
        if (n)                                                                         \
            a = fl_##op##bits(a, n, &vp->status);                                      \
        WR(bits, vp, i->rm, a);                                                        \
        SOFT_NEXT(vp, i);                                                              \
    }                                                                                  \
    HANDLER(op##_mi##bits)                                                             \
    {                                                                                  \
        RMW(bits, vp, i, *p = fl_##op##bits(*p, i->imm8, &vp->status));                \
        SOFT_NEXT(vp, i);                                                              \
    }                                                                                  \
    HANDLER(op##_mc##bits)                                                             \
    {                                                                                  \
        uint8_t n = vp->gpr[HV_RCX] & MASK##bits;                                      \
        if (n)                                                                         \
            RMW(bits, vp, i, *p = fl_##op##bits(*p, n, &vp->status));                  \
        else                                                                           \
            soft_probe_write(vp, i, soft_ea(vp, i, bits / 8, true), bits / 8);         \
        SOFT_NEXT(vp, i);                                                              \
    }
FOR_SIZES(SHIFT, rol, "")
FOR_SIZES(SHIFT, ror, "")
FOR_SIZES(SHIFT, rcl, "")
FOR_SIZES(SHIFT, rcr, "")
FOR_SIZES(SHIFT, shl, "")
FOR_SIZES(SHIFT, shr, "")
FOR_SIZES(SHIFT, sal, "")
FOR_SIZES(SHIFT, sar, "")
#define TABLE_SH(form)                                                                  \
    {                                                                                   \
        ROW(rol, form), ROW(ror, form), ROW(rcl, form), ROW(rcr, form), ROW(shl, form), \
            ROW(shr, form), ROW(sal, form), ROW(sar, form)                              \
    }
insn_fn *const soft_sh_ri[8][4] = TABLE_SH(ri);
insn_fn *const soft_sh_rc[8][4] = TABLE_SH(rc);
insn_fn *const soft_sh_mi[8][4] = TABLE_SH(mi);
insn_fn *const soft_sh_mc[8][4] = TABLE_SH(mc);

#define SHIFTD(bits, sfx, op, ins)                                                                \
    static U(bits) op##_do##bits(struct soft_vp *vp, const struct insn *i, U(bits) a, unsigned n) \
    {                                                                                             \
        n &= MASK##bits;                                                                          \
        return n ? fl_##op##bits(a, RD(bits, vp, i->reg), (uint8_t)n, &vp->status) : a;           \
    }                                                                                             \
    HANDLER(op##_ri##bits)                                                                        \
    {                                                                                             \
        WR(bits, vp, i->rm, op##_do##bits(vp, i, RD(bits, vp, i->rm), i->imm8));                  \
        SOFT_NEXT(vp, i);                                                                         \
    }                                                                                             \
    HANDLER(op##_rc##bits)                                                                        \
    {                                                                                             \
        WR(bits, vp, i->rm, op##_do##bits(vp, i, RD(bits, vp, i->rm), (uint8_t)vp->gpr[HV_RCX])); \
        SOFT_NEXT(vp, i);                                                                         \
    }                                                                                             \
    HANDLER(op##_mi##bits)                                                                        \
    {                                                                                             \
        RMW(bits, vp, i, *p = op##_do##bits(vp, i, *p, i->imm8));                                 \
        SOFT_NEXT(vp, i);                                                                         \
    }                                                                                             \
    HANDLER(op##_mc##bits)                                                                        \
    {                                                                                             \
        RMW(bits, vp, i, *p = op##_do##bits(vp, i, *p, (uint8_t)vp->gpr[HV_RCX]));                \
        SOFT_NEXT(vp, i);                                                                         \
    }
FOR_WORDS(SHIFTD, shld, "")
FOR_WORDS(SHIFTD, shrd, "")
#define ROWW(op, form)                                          \
    {                                                           \
        NULL, op##_##form##16, op##_##form##32, op##_##form##64 \
    }
insn_fn *const soft_shd_ri[2][4] = {ROWW(shld, ri), ROWW(shrd, ri)};
insn_fn *const soft_shd_rc[2][4] = {ROWW(shld, rc), ROWW(shrd, rc)};
insn_fn *const soft_shd_mi[2][4] = {ROWW(shld, mi), ROWW(shrd, mi)};
insn_fn *const soft_shd_mc[2][4] = {ROWW(shld, mc), ROWW(shrd, mc)};

/* Multiply and divide. */
#define LOAD_E(bits, form) LOAD_E_##form(bits)
#define LOAD_E_r(bits) RD(bits, vp, i->rm)
#define LOAD_E_m(bits) soft_load##bits(vp, i, soft_ea(vp, i, bits / 8, false))

static inline void wide_write(struct soft_vp *vp, unsigned bits, uint64_t a, uint64_t d)
{
    switch (bits) {
    case 8: WR16(vp, 0, (uint16_t)a); break;
    case 16:
        WR16(vp, 8 * HV_RAX, (uint16_t)a);
        WR16(vp, 8 * HV_RDX, (uint16_t)d);
        break;
    case 32:
        vp->gpr[HV_RAX] = (uint32_t)a;
        vp->gpr[HV_RDX] = (uint32_t)d;
        break;
    default: vp->gpr[HV_RAX] = a; vp->gpr[HV_RDX] = d;
    }
}

static inline bool div_fits(unsigned bits, uint64_t a, uint64_t d, uint64_t b)
{
    switch (bits) {
    case 8: return b && (uint16_t)a >> 8 < b;
    case 16: return b && (uint16_t)d < b;
    case 32: return b && (uint32_t)d < b;
    default: return b && d < b;
    }
}

typedef __int128 wide;

static bool idiv_fits64(int64_t a, int64_t d, int64_t b)
{
    if (!b)
        return false;
    if (d == a >> 63 && b != -1)
        return true;
    wide n = (wide)((unsigned __int128)(uint64_t)d << 64 | (uint64_t)a);
    if (b == -1)
        return n >= -(wide)INT64_MAX && n <= (wide)1 << 63;
    wide q = n / b;
    return q == (int64_t)q;
}

static inline bool idiv_fits(unsigned bits, uint64_t a, uint64_t d, uint64_t b)
{
    int64_t n, q;
    switch (bits) {
    case 8:
        n = (int16_t)a;
        q = (int8_t)b;
        return q && n / q == (int8_t)(n / q);
    case 16:
        n = (int32_t)((uint32_t)d << 16 | (uint16_t)a);
        q = (int16_t)b;
        return q && n / q == (int16_t)(n / q);
    case 32:
        n = (int64_t)(d << 32 | (uint32_t)a);
        q = (int32_t)b;
        if (!q || (q == -1 && n == INT64_MIN))
            return false;
        return n / q == (int32_t)(n / q);
    default: return idiv_fits64((int64_t)a, (int64_t)d, (int64_t)b);
    }
}

#define always_fits(bits, a, d, b) true
#define MULDIV(bits, form, op, fits)                       \
    HANDLER(op##_##form##bits)                             \
    {                                                      \
        U(bits) b = LOAD_E(bits, form);                    \
        uint64_t a = vp->gpr[HV_RAX], d = vp->gpr[HV_RDX]; \
        if (SOFT_UNLIKELY(!fits(bits, a, d, b)))           \
            soft_raise(vp, i, EXC_DE);                     \
        fl_##op##bits(&a, &d, b, &vp->status);             \
        wide_write(vp, bits, a, d);                        \
        SOFT_NEXT(vp, i);                                  \
    }
#define MULDIV4(form, op, fits) \
    MULDIV(8, form, op, fits)   \
    MULDIV(16, form, op, fits) MULDIV(32, form, op, fits) MULDIV(64, form, op, fits)
MULDIV4(r, mul, always_fits)
MULDIV4(m, mul, always_fits)
MULDIV4(r, imul1, always_fits)
MULDIV4(m, imul1, always_fits)
MULDIV4(r, div, div_fits)
MULDIV4(m, div, div_fits)
MULDIV4(r, idiv, idiv_fits)
MULDIV4(m, idiv, idiv_fits)
insn_fn *const soft_mul_r[4][4] = {ROW(mul, r), ROW(imul1, r), ROW(div, r), ROW(idiv, r)};
insn_fn *const soft_mul_m[4][4] = {ROW(mul, m), ROW(imul1, m), ROW(div, m), ROW(idiv, m)};

#define IMUL(bits, sfx, op, ins)                                              \
    HANDLER(op##_rri##bits)                                                   \
    {                                                                         \
        U(bits) a = RD(bits, vp, i->rm);                                      \
        WR(bits, vp, i->reg, fl_##op##bits(a, (U(bits))i->imm, &vp->status)); \
        SOFT_NEXT(vp, i);                                                     \
    }                                                                         \
    HANDLER(op##_rmi##bits)                                                   \
    {                                                                         \
        U(bits) a = LOAD_E_m(bits);                                           \
        WR(bits, vp, i->reg, fl_##op##bits(a, (U(bits))i->imm, &vp->status)); \
        SOFT_NEXT(vp, i);                                                     \
    }
FOR_WORDS(IMUL, imul, "")
/* BSF and BSR of zero leave the register untouched, upper half and all. */
enum { TO_KEEPS_imul = 0, TO_KEEPS_popcnt = 0, TO_KEEPS_bsf = 1, TO_KEEPS_bsr = 1 };
#define TO(bits, sfx, op, ins)                                           \
    HANDLER(op##_rr##bits)                                               \
    {                                                                    \
        U(bits) b = RD(bits, vp, i->rm);                                 \
        U(bits) r = fl_##op##bits(RD(bits, vp, i->reg), b, &vp->status); \
        if (!TO_KEEPS_##op || b)                                         \
            WR(bits, vp, i->reg, r);                                     \
        SOFT_NEXT(vp, i);                                                \
    }                                                                    \
    HANDLER(op##_rm##bits)                                               \
    {                                                                    \
        U(bits) b = LOAD_E_m(bits);                                      \
        U(bits) r = fl_##op##bits(RD(bits, vp, i->reg), b, &vp->status); \
        if (!TO_KEEPS_##op || b)                                         \
            WR(bits, vp, i->reg, r);                                     \
        SOFT_NEXT(vp, i);                                                \
    }
FOR_WORDS(TO, imul, "")
FOR_WORDS(TO, bsf, "")
FOR_WORDS(TO, bsr, "")
FOR_WORDS(TO, popcnt, "")
insn_fn *const soft_imul_rr[4] = ROWW(imul, rr);
insn_fn *const soft_imul_rm[4] = ROWW(imul, rm);
insn_fn *const soft_imul_rri[4] = ROWW(imul, rri);
insn_fn *const soft_imul_rmi[4] = ROWW(imul, rmi);
insn_fn *const soft_bit_rr[BIT_OPS][4] = {ROWW(bsf, rr), ROWW(bsr, rr), ROWW(popcnt, rr)};
insn_fn *const soft_bit_rm[BIT_OPS][4] = {ROWW(bsf, rm), ROWW(bsr, rm), ROWW(popcnt, rm)};

/* Bit tests. With a register index, memory is addressed by the bit string's word. */
#define BTM_EA(bits)                                                                          \
    uint64_t off_ =                                                                           \
        soft_offset(vp, i) + (uint64_t)(((int64_t)(int##bits##_t)RD(bits, vp, i->reg) >> 3) & \
                                        ~(int64_t)(bits / 8 - 1));                            \
    uint64_t lin = i->ea ? soft_ea_legacy(vp, i, off_, bits / 8, BT_WRITES)                   \
                         : off_ + SOFT_REG(uint64_t, vp, i->segbase);                         \
    U(bits) n = RD(bits, vp, i->reg) & (bits - 1);
#define RMW_AT(bits, body)                              \
    do {                                                \
        U(bits) *p = soft_hit_write(vp, lin, bits / 8); \
        if (SOFT_LIKELY(p)) {                           \
            body;                                       \
        } else {                                        \
            p = soft_rmw_slow(vp, i, lin, bits / 8);    \
            body;                                       \
            soft_rmw_commit(vp, i, bits / 8);           \
        }                                               \
    } while (0)
/* BT alone leaves its register untouched, upper half and all. */
#define BT_PUT_bt(bits, vp, o, v) (void)(v)
#define BT_PUT_bts(bits, vp, o, v) WR(bits, vp, o, v)
#define BT_PUT_btr(bits, vp, o, v) WR(bits, vp, o, v)
#define BT_PUT_btc(bits, vp, o, v) WR(bits, vp, o, v)
#define BT(bits, sfx, op, ins)                                                             \
    HANDLER(op##_rr##bits)                                                                 \
    {                                                                                      \
        U(bits) n = RD(bits, vp, i->reg) & (bits - 1);                                     \
        BT_PUT_##op(bits, vp, i->rm, fl_##op##bits(RD(bits, vp, i->rm), n, &vp->status));  \
        SOFT_NEXT(vp, i);                                                                  \
    }                                                                                      \
    HANDLER(op##_ri##bits)                                                                 \
    {                                                                                      \
        BT_PUT_##op(bits, vp, i->rm,                                                       \
                    fl_##op##bits(RD(bits, vp, i->rm), i->imm8 &(bits - 1), &vp->status)); \
        SOFT_NEXT(vp, i);                                                                  \
    }
#define BTW(bits, sfx, op, ins)                                                         \
    HANDLER(op##_mr##bits)                                                              \
    {                                                                                   \
        BTM_EA(bits)                                                                    \
        RMW_AT(bits, *p = fl_##op##bits(*p, n, &vp->status));                           \
        SOFT_NEXT(vp, i);                                                               \
    }                                                                                   \
    HANDLER(op##_mr_lock##bits)                                                         \
    {                                                                                   \
        BTM_EA(bits)                                                                    \
        RMW_AT(bits, LOCKED(bits, fl_##op##bits(was_, n, &st_)));                       \
        SOFT_NEXT(vp, i);                                                               \
    }                                                                                   \
    HANDLER(op##_mi##bits)                                                              \
    {                                                                                   \
        RMW(bits, vp, i, *p = fl_##op##bits(*p, i->imm8 & (bits - 1), &vp->status));    \
        SOFT_NEXT(vp, i);                                                               \
    }                                                                                   \
    HANDLER(op##_mi_lock##bits)                                                         \
    {                                                                                   \
        RMW(bits, vp, i, LOCKED(bits, fl_##op##bits(was_, i->imm8 &(bits - 1), &st_))); \
        SOFT_NEXT(vp, i);                                                               \
    }
#define BTR(bits, sfx, op, ins)                                          \
    HANDLER(op##_mr##bits)                                               \
    {                                                                    \
        BTM_EA(bits)                                                     \
        fl_##op##bits(soft_load##bits(vp, i, lin), n, &vp->status);      \
        SOFT_NEXT(vp, i);                                                \
    }                                                                    \
    HANDLER(op##_mi##bits)                                               \
    {                                                                    \
        fl_##op##bits(LOAD_E_m(bits), i->imm8 &(bits - 1), &vp->status); \
        SOFT_NEXT(vp, i);                                                \
    }
#define BT_WRITES false
FOR_WORDS(BT, bt, "")
FOR_WORDS(BTR, bt, "")
#undef BT_WRITES
#define BT_WRITES true
FOR_WORDS(BT, bts, "")
FOR_WORDS(BT, btr, "")
FOR_WORDS(BT, btc, "")
FOR_WORDS(BTW, bts, "")
FOR_WORDS(BTW, btr, "")
FOR_WORDS(BTW, btc, "")
insn_fn *const soft_bt_rr[4][4] = {ROWW(bt, rr), ROWW(bts, rr), ROWW(btr, rr), ROWW(btc, rr)};
insn_fn *const soft_bt_ri[4][4] = {ROWW(bt, ri), ROWW(bts, ri), ROWW(btr, ri), ROWW(btc, ri)};
insn_fn *const soft_bt_mr[4][4] = {ROWW(bt, mr), ROWW(bts, mr), ROWW(btr, mr), ROWW(btc, mr)};
insn_fn *const soft_bt_mi[4][4] = {ROWW(bt, mi), ROWW(bts, mi), ROWW(btr, mi), ROWW(btc, mi)};
insn_fn *const soft_bt_mr_lock[4][4] = {
    {NULL}, ROWW(bts, mr_lock), ROWW(btr, mr_lock), ROWW(btc, mr_lock)};
insn_fn *const soft_bt_mi_lock[4][4] = {
    {NULL}, ROWW(bts, mi_lock), ROWW(btr, mi_lock), ROWW(btc, mi_lock)};

/* CRC32: the destination is 32 bits wide (64 with REX.W, upper half zero); the size is the
 * source's. */
#define CRC(bits, sfx, form, ins)                                 \
    HANDLER(crc32_##form##bits)                                   \
    {                                                             \
        U(bits) b = LOAD_E(bits, form);                           \
        uint64_t a = (uint32_t)vp->gpr[i->reg / 8];               \
        __asm__("crc32" sfx " %1, %" ins "0" : "+r"(a) : "r"(b)); \
        vp->gpr[i->reg / 8] = a;                                  \
        SOFT_NEXT(vp, i);                                         \
    }
#define CRC4(form) \
    CRC(8, "b", form, "k") CRC(16, "w", form, "k") CRC(32, "l", form, "k") CRC(64, "q", form, "q")
CRC4(r)
CRC4(m)
insn_fn *const soft_crc32_rr[4] = ROW(crc32, r);
insn_fn *const soft_crc32_rm[4] = ROW(crc32, m);

/* Exchanges. XCHG with memory is locked always. */
#define XCHG(bits, sfx, op, ins)                                                                 \
    HANDLER(xchg_rr##bits)                                                                       \
    {                                                                                            \
        U(bits) a = RD(bits, vp, i->reg), b = RD(bits, vp, i->rm);                               \
        WR(bits, vp, i->rm, a);                                                                  \
        WR(bits, vp, i->reg, b);                                                                 \
        SOFT_NEXT(vp, i);                                                                        \
    }                                                                                            \
    HANDLER(xchg_mr##bits)                                                                       \
    {                                                                                            \
        U(bits) a = RD(bits, vp, i->reg), b;                                                     \
        RMW(bits, vp, i, b = __atomic_exchange_n(p, a, __ATOMIC_SEQ_CST));                       \
        WR(bits, vp, i->reg, b);                                                                 \
        SOFT_NEXT(vp, i);                                                                        \
    }                                                                                            \
    HANDLER(xadd_rr##bits)                                                                       \
    {                                                                                            \
        U(bits) a = RD(bits, vp, i->rm), b = RD(bits, vp, i->reg);                               \
        WR(bits, vp, i->reg, a);                                                                 \
        WR(bits, vp, i->rm, fl_add##bits(a, b, &vp->status));                                    \
        SOFT_NEXT(vp, i);                                                                        \
    }                                                                                            \
    HANDLER(xadd_mr##bits)                                                                       \
    {                                                                                            \
        U(bits) a, b = RD(bits, vp, i->reg);                                                     \
        RMW(bits, vp, i, (a = *p, *p = fl_add##bits(a, b, &vp->status)));                        \
        WR(bits, vp, i->reg, a);                                                                 \
        SOFT_NEXT(vp, i);                                                                        \
    }                                                                                            \
    HANDLER(xadd_mr_lock##bits)                                                                  \
    {                                                                                            \
        U(bits) a, b = RD(bits, vp, i->reg);                                                     \
        RMW(bits, vp, i, a = __atomic_fetch_add(p, b, __ATOMIC_SEQ_CST));                        \
        fl_add##bits(a, b, &vp->status);                                                         \
        WR(bits, vp, i->reg, a);                                                                 \
        SOFT_NEXT(vp, i);                                                                        \
    }                                                                                            \
    HANDLER(cmpxchg_rr##bits)                                                                    \
    {                                                                                            \
        U(bits) a = RD(bits, vp, 0), was = RD(bits, vp, i->rm);                                  \
        fl_cmp##bits(a, was, &vp->status);                                                       \
        if (was == a)                                                                            \
            WR(bits, vp, i->rm, RD(bits, vp, i->reg));                                           \
        else                                                                                     \
            WR(bits, vp, 0, was);                                                                \
        SOFT_NEXT(vp, i);                                                                        \
    }                                                                                            \
    HANDLER(cmpxchg_mr##bits)                                                                    \
    {                                                                                            \
        U(bits) a = RD(bits, vp, 0), was, b = RD(bits, vp, i->reg);                              \
        RMW(bits, vp, i, (was = *p, *p = was == a ? b : was));                                   \
        fl_cmp##bits(a, was, &vp->status);                                                       \
        if (was != a)                                                                            \
            WR(bits, vp, 0, was);                                                                \
        SOFT_NEXT(vp, i);                                                                        \
    }                                                                                            \
    HANDLER(cmpxchg_mr_lock##bits)                                                               \
    {                                                                                            \
        U(bits) a = RD(bits, vp, 0), was = a, b = RD(bits, vp, i->reg);                          \
        RMW(bits, vp, i,                                                                         \
            __atomic_compare_exchange_n(p, &was, b, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)); \
        fl_cmp##bits(a, was, &vp->status);                                                       \
        if (was != a)                                                                            \
            WR(bits, vp, 0, was);                                                                \
        SOFT_NEXT(vp, i);                                                                        \
    }
FOR_SIZES(XCHG, , "")
insn_fn *const soft_xchg_rr[4] = ROW(xchg, rr);
insn_fn *const soft_xchg_mr[4] = ROW(xchg, mr);
insn_fn *const soft_xadd_rr[4] = ROW(xadd, rr);
insn_fn *const soft_xadd_mr[4] = ROW(xadd, mr);
insn_fn *const soft_xadd_mr_lock[4] = ROW(xadd, mr_lock);
insn_fn *const soft_cmpxchg_rr[4] = ROW(cmpxchg, rr);
insn_fn *const soft_cmpxchg_mr[4] = ROW(cmpxchg, mr);
insn_fn *const soft_cmpxchg_mr_lock[4] = ROW(cmpxchg, mr_lock);

static void set_zf(struct soft_vp *vp, bool z)
{
    vp->status = (uint16_t)((vp->status & ~ST_ZF) | (z ? ST_ZF : 0));
}

void soft_op_cmpxchg8b(struct soft_vp *vp, const struct insn *i)
{
    uint64_t want = (uint32_t)vp->gpr[HV_RAX] | vp->gpr[HV_RDX] << 32, was = want;
    uint64_t put = (uint32_t)vp->gpr[HV_RBX] | vp->gpr[HV_RCX] << 32;
    RMW(64, vp, i,
        __atomic_compare_exchange_n(p, &was, put, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    set_zf(vp, was == want);
    if (was != want) {
        vp->gpr[HV_RAX] = (uint32_t)was;
        vp->gpr[HV_RDX] = was >> 32;
    }
    SOFT_NEXT(vp, i);
}

/* Apart, so that the operation ends in a tail call (see ops_sys.c). */
static SOFT_BODY void cmpxchg16b_body(struct soft_vp *vp, const struct insn *i)
{
    uint64_t lin = soft_ea(vp, i, 16, true);
    if (lin & 15)
        soft_raise_error(vp, i, EXC_GP, 0);
    uint8_t *p = soft_hit_write(vp, lin, 16);
    bool slow = !p, z;
    if (slow)
        p = soft_rmw_slow(vp, i, lin, 16);
    uint64_t a = vp->gpr[HV_RAX], d = vp->gpr[HV_RDX];
    uint8_t local[16] __attribute__((aligned(16)));
    bool aligned = ((uintptr_t)p & 15) == 0; /* else it is the buffer of an MMIO access */
    if (!aligned)
        memcpy(local, p, 16);
    uint8_t *at = aligned ? p : local;
    __asm__ volatile("lock cmpxchg16b (%[p])\n\tsetz %[z]"
                     : "+a"(a), "+d"(d), [z] "=q"(z)
                     : [p] "r"(at), "b"(vp->gpr[HV_RBX]), "c"(vp->gpr[HV_RCX])
                     : "memory", "cc");
    if (!aligned)
        memcpy(p, local, 16);
    if (slow)
        soft_rmw_commit(vp, i, 16);
    set_zf(vp, z);
    vp->gpr[HV_RAX] = a;
    vp->gpr[HV_RDX] = d;
}

void soft_op_cmpxchg16b(struct soft_vp *vp, const struct insn *i)
{
    cmpxchg16b_body(vp, i);
    SOFT_NEXT(vp, i);
}
