/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * String instructions. Repeats run page by page through host pointers; registers are right after
 * each step, so a fault or an interrupt between steps leaves a restartable instruction.
 */
#include "core/hv/soft/block.h"
#include "core/hv/soft/flags.h"
#include "core/hv/soft/ops.h"
#include "core/hv/soft/soft.h"
#include "core/hv/soft/stack.h"

#define ROW(op)                       \
    {                                 \
        op##8, op##16, op##32, op##64 \
    }

static inline uint64_t mask_of(const struct insn *i)
{
    return i->ea & INSN_EA16 ? 0xffff : i->ea & INSN_EA32 ? 0xffffffffu : ~0ull;
}

static inline void set_reg(struct soft_vp *vp, unsigned r, uint64_t mask, uint64_t v)
{
    if (mask == 0xffff)
        SOFT_REG(uint16_t, vp, 8 * r) = (uint16_t)v;
    else
        vp->gpr[r] = v & mask;
}

static inline void advance(struct soft_vp *vp, unsigned r, uint64_t mask, uint64_t by)
{
    set_reg(vp, r, mask, vp->eflags & FL_DF ? vp->gpr[r] - by : vp->gpr[r] + by);
}

static inline uint64_t src_lin(struct soft_vp *vp, const struct insn *i, uint64_t mask, unsigned n)
{
    return soft_lin(vp, i, i->seg, vp->gpr[HV_RSI] & mask, n, false);
}

static inline uint64_t dst_lin(struct soft_vp *vp, const struct insn *i, uint64_t mask, unsigned n,
                               bool write)
{
    return soft_lin(vp, i, HV_ES, vp->gpr[HV_RDI] & mask, n, write);
}

/* How many elements of n bytes may be taken at once from `off` on, forward, inside its page and
 * limit. */
static uint64_t in_page(uint64_t off, uint64_t lin, uint64_t mask, unsigned n)
{
    uint64_t most = (0x1000 - (lin & 0xfff)) / n, wrap = (mask - off) / n;
    return most < wrap ? most : wrap;
}

/* Between two steps of a repeat: whether to go on. Else rip is back at the instruction. */
static bool go_on(struct soft_vp *vp, const struct insn *i)
{
    if (SOFT_LIKELY(!atomic_load_explicit(&vp->attn, memory_order_relaxed)))
        return true;
    vp->rip = soft_insn_rip(vp, i);
    return false;
}

#define STRING(bits, sfx, op, ins)                                                        \
    static void movs_one##bits(struct soft_vp *vp, const struct insn *i, uint64_t m)      \
    {                                                                                     \
        U(bits) v = soft_load##bits(vp, i, src_lin(vp, i, m, bits / 8));                  \
        soft_store##bits(vp, i, dst_lin(vp, i, m, bits / 8, true), v);                    \
        advance(vp, HV_RSI, m, bits / 8);                                                 \
        advance(vp, HV_RDI, m, bits / 8);                                                 \
    }                                                                                     \
    static void stos_one##bits(struct soft_vp *vp, const struct insn *i, uint64_t m)      \
    {                                                                                     \
        soft_store##bits(vp, i, dst_lin(vp, i, m, bits / 8, true), RD(bits, vp, 0));      \
        advance(vp, HV_RDI, m, bits / 8);                                                 \
    }                                                                                     \
    static void lods_one##bits(struct soft_vp *vp, const struct insn *i, uint64_t m)      \
    {                                                                                     \
        U(bits) v = soft_load##bits(vp, i, src_lin(vp, i, m, bits / 8));                  \
        WR(bits, vp, 0, v);                                                               \
        advance(vp, HV_RSI, m, bits / 8);                                                 \
    }                                                                                     \
    static void cmps_one##bits(struct soft_vp *vp, const struct insn *i, uint64_t m)      \
    {                                                                                     \
        U(bits) a = soft_load##bits(vp, i, src_lin(vp, i, m, bits / 8));                  \
        U(bits) b = soft_load##bits(vp, i, dst_lin(vp, i, m, bits / 8, false));           \
        fl_cmp##bits(a, b, &vp->status);                                                  \
        advance(vp, HV_RSI, m, bits / 8);                                                 \
        advance(vp, HV_RDI, m, bits / 8);                                                 \
    }                                                                                     \
    static void scas_one##bits(struct soft_vp *vp, const struct insn *i, uint64_t m)      \
    {                                                                                     \
        U(bits) b = soft_load##bits(vp, i, dst_lin(vp, i, m, bits / 8, false));           \
        fl_cmp##bits(RD(bits, vp, 0), b, &vp->status);                                    \
        advance(vp, HV_RDI, m, bits / 8);                                                 \
    }                                                                                     \
    static uint64_t movs_many##bits(struct soft_vp *vp, const struct insn *i, uint64_t m, \
                                    uint64_t count)                                       \
    {                                                                                     \
        uint64_t s = src_lin(vp, i, m, bits / 8), d = dst_lin(vp, i, m, bits / 8, true);  \
        uint64_t n = in_page(vp->gpr[HV_RSI] & m, s, m, bits / 8);                        \
        uint64_t n2 = in_page(vp->gpr[HV_RDI] & m, d, m, bits / 8);                       \
        n = n < n2 ? n : n2;                                                              \
        n = n < count ? n : count;                                                        \
        if (n < 2 || (vp->eflags & FL_DF) || !plain(vp, i->seg) || !plain(vp, HV_ES))     \
            return 0;                                                                     \
        unsigned len = (unsigned)(n * (bits / 8));                                        \
        const uint8_t *from = soft_hit_read(vp, s, len);                                  \
        uint8_t *to = soft_hit_write(vp, d, len);                                         \
        if (!from || !to)                                                                 \
            return 0;                                                                     \
        if (to > from && to < from + len) /* spreads what it just wrote */                \
            for (uint64_t k = 0; k < n; k++)                                              \
                memmove(to + k * (bits / 8), from + k * (bits / 8), bits / 8);            \
        else                                                                              \
            memmove(to, from, len);                                                       \
        advance(vp, HV_RSI, m, len);                                                      \
        advance(vp, HV_RDI, m, len);                                                      \
        return n;                                                                         \
    }                                                                                     \
    static uint64_t stos_many##bits(struct soft_vp *vp, const struct insn *i, uint64_t m, \
                                    uint64_t count)                                       \
    {                                                                                     \
        uint64_t d = dst_lin(vp, i, m, bits / 8, true);                                   \
        uint64_t n = in_page(vp->gpr[HV_RDI] & m, d, m, bits / 8);                        \
        n = n < count ? n : count;                                                        \
        if (n < 2 || (vp->eflags & FL_DF) || !plain(vp, HV_ES))                           \
            return 0;                                                                     \
        uint8_t *to = soft_hit_write(vp, d, (unsigned)(n * (bits / 8)));                  \
        if (!to)                                                                          \
            return 0;                                                                     \
        U(bits) v = RD(bits, vp, 0);                                                      \
        if (bits == 8 || v == 0)                                                          \
            memset(to, (uint8_t)v, n *(bits / 8));                                        \
        else                                                                              \
            for (uint64_t k = 0; k < n; k++)                                              \
                memcpy(to + k * (bits / 8), &v, bits / 8);                                \
        advance(vp, HV_RDI, m, n *(bits / 8));                                            \
        return n;                                                                         \
    }                                                                                     \
    REPEAT(movs, bits, movs_many##bits(vp, i, m, count), true)                            \
    REPEAT(stos, bits, stos_many##bits(vp, i, m, count), true)                            \
    REPEAT(lods, bits, 0, true)                                                           \
    REPEAT(cmps, bits, 0, soft_zf_goes_on(vp, i))                                         \
    REPEAT(scas, bits, 0, soft_zf_goes_on(vp, i))

/* Outside 64-bit code only flat segments take the fast way. */
static inline bool plain(const struct soft_vp *vp, unsigned seg)
{
    return vp->code == SOFT_MODE64 || (vp->seg_read[seg] && vp->seg_write[seg]);
}

static inline bool soft_zf_goes_on(const struct soft_vp *vp, const struct insn *i)
{
    return !!(vp->status & ST_ZF) == !!(i->flags & INSN_REP);
}

#define REPEAT(op, bits, many, more)                                       \
    HANDLER(op##bits)                                                      \
    {                                                                      \
        op##_one##bits(vp, i, mask_of(i));                                 \
        SOFT_NEXT(vp, i);                                                  \
    }                                                                      \
    HANDLER(op##_rep##bits)                                                \
    {                                                                      \
        uint64_t m = mask_of(i), count;                                    \
        while ((count = vp->gpr[HV_RCX] & m)) {                            \
            uint64_t done = vp->jump_key[0] & SOFT_MODE_SINGLE ? 0 : many; \
            if (!done) {                                                   \
                op##_one##bits(vp, i, m);                                  \
                done = 1;                                                  \
            }                                                              \
            set_reg(vp, HV_RCX, m, count - done);                          \
            if (count == done || !(more))                                  \
                break;                                                     \
            if (!go_on(vp, i))                                             \
                return;                                                    \
        }                                                                  \
        SOFT_NEXT(vp, i);                                                  \
    }
FOR_SIZES(STRING, , "")

/* INS, OUTS: one port access an element. */

static void ins_one(struct soft_vp *vp, const struct insn *i, uint64_t m, unsigned n)
{
    unsigned port = vp->gpr[HV_RDX] & 0xffff;
    soft_io_check(vp, i, port, n);
    uint64_t lin = dst_lin(vp, i, m, n, true);
    soft_probe_write(vp, i, lin, n);
    uint32_t v = soft_port_in(vp, port, n);
    soft_write(vp, i, lin, &v, n);
    advance(vp, HV_RDI, m, n);
}

static void outs_one(struct soft_vp *vp, const struct insn *i, uint64_t m, unsigned n)
{
    unsigned port = vp->gpr[HV_RDX] & 0xffff;
    uint32_t v = 0;
    soft_io_check(vp, i, port, n);
    soft_read(vp, i, src_lin(vp, i, m, n), &v, n);
    soft_port_out(vp, port, n, v);
    advance(vp, HV_RSI, m, n);
}

#define ins_one8(vp, i, m) ins_one(vp, i, m, 1)
#define ins_one16(vp, i, m) ins_one(vp, i, m, 2)
#define ins_one32(vp, i, m) ins_one(vp, i, m, 4)
#define outs_one8(vp, i, m) outs_one(vp, i, m, 1)
#define outs_one16(vp, i, m) outs_one(vp, i, m, 2)
#define outs_one32(vp, i, m) outs_one(vp, i, m, 4)
REPEAT(ins, 8, 0, true)
REPEAT(ins, 16, 0, true)
REPEAT(ins, 32, 0, true)
REPEAT(outs, 8, 0, true)
REPEAT(outs, 16, 0, true)
REPEAT(outs, 32, 0, true)

insn_fn *const soft_str[STR_OPS][4] = {
    ROW(movs),
    ROW(cmps),
    ROW(stos),
    ROW(lods),
    ROW(scas),
    {ins8, ins16, ins32, ins32},
    {outs8, outs16, outs32, outs32},
};
insn_fn *const soft_str_rep[STR_OPS][4] = {
    ROW(movs_rep),
    ROW(cmps_rep),
    ROW(stos_rep),
    ROW(lods_rep),
    ROW(scas_rep),
    {ins_rep8, ins_rep16, ins_rep32, ins_rep32},
    {outs_rep8, outs_rep16, outs_rep32, outs_rep32},
};
