/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One decoded block to host code. Layout: u32 offset of the way out, head (attention check, count),
 * body, then the slow ways: one per memory access, jump or call out of line.
 */
#include <string.h>

#include "core/base/bytes.h"
#include "core/hv/soft/ops.h"
#include "core/hv/soft/soft.h"
#include "core/hv/soft/translate.h"

/* ---- flags ---- */

/* A register to keep RAX in. */
unsigned tr_spare(struct tr *t)
{
    unsigned x = t->kept[1] != E_NONE && t->kept[0] == E_NONE ? 0 : 1;
    t->kept[x] = E_NONE;
    return x ? J_TMP2 : J_TMP;
}

void tr_save_flags(struct tr *t)
{
    struct emit *e = t->e;
    if (t->in_vp)
        return;
    unsigned rax = tr_spare(t);
    e_mov_rr(e, rax, E_RAX);
    e8(e, 0x9f);                               /* lahf */
    e_op_rm(e, 0, 0, 0x0f90, 0, e_reg(E_RAX)); /* seto al */
    e8(e, 0x66);
    e_op_rm(e, 0, 0, 0x89, E_RAX, e_mem(J_VP, VP(status)));
    e_mov_rr(e, E_RAX, rax);
    t->in_vp = true;
}

void tr_load_flags(struct tr *t)
{
    struct emit *e = t->e;
    if (t->in_host)
        return;
    unsigned rax = tr_spare(t);
    e_mov_rr(e, rax, E_RAX);
    e_op_rm(e, 0, 0, 0x0fb7, E_RAX, e_mem(J_VP, VP(status)));
    e8(e, 0x04); /* add al, 127: overflows if bit 0 was set */
    e8(e, 0x7f);
    e8(e, 0x9e); /* sahf */
    e_mov_rr(e, E_RAX, rax);
    t->in_host = true;
}

/* Host flags are about to be lost; keep the guest's if anyone still needs them. */
void tr_clobber_flags(struct tr *t, bool needed)
{
    if (needed)
        tr_save_flags(t);
    t->in_host = false;
}

/* An instruction set the flags in the host. */
static void flags_written(struct tr *t)
{
    t->in_host = true;
    t->in_vp = false;
}

/* ---- operands ---- */

void tr_slow_way(struct tr *t, unsigned cc, unsigned k)
{
    uint32_t at = e_jcc(t->e, cc);
    if (t->nslow < MAX_SLOW)
        t->slow[t->nslow++] = (struct slow){.rel_at = at, .insn = (uint16_t)k};
    else
        t->e->full = true;
}

static const uint8_t tmp[2] = {J_TMP, J_TMP2};

unsigned tr_use_reg(struct tr *t, unsigned g, unsigned avoid, bool load)
{
    unsigned h = jit_pinned(g);
    if (h != E_NONE)
        return h;
    for (unsigned x = 0; x < 2; x++)
        if (t->kept[x] == g)
            return tmp[x];
    unsigned x = avoid == J_TMP ? 1 : avoid == J_TMP2 ? 0 : t->kept[0] != E_NONE;
    t->kept[x] = load ? (uint8_t)g : E_NONE;
    if (load)
        e_load(t->e, tmp[x], J_VP, vp_gpr(g));
    return tmp[x];
}

void tr_put_reg(struct tr *t, unsigned g, unsigned h)
{
    if (jit_pinned(g) != E_NONE)
        return;
    e_store(t->e, J_VP, vp_gpr(g), h);
    for (unsigned x = 0; x < 2; x++)
        if (tmp[x] == h)
            t->kept[x] = (uint8_t)g;
        else if (t->kept[x] == g)
            t->kept[x] = E_NONE;
}

void tr_forget_regs(struct tr *t)
{
    t->kept[0] = t->kept[1] = E_NONE;
}

void tr_reload_regs(struct tr *t, const uint8_t kept[2], unsigned n)
{
    for (unsigned x = 0; x < n; x++)
        if (kept[x] != E_NONE)
            e_load(t->e, tmp[x], J_VP, vp_gpr(kept[x]));
}

static bool high_byte(const struct reread *r, unsigned g)
{
    return !r->rex && g >= 4 && g < 8;
}

/* As use_reg, for an operand that may be a byte: AH to BH keep their number. */
static unsigned use_operand(struct tr *t, const struct reread *r, unsigned g, bool byte,
                            unsigned avoid, unsigned use)
{
    bool load = (use & RR_R) || r->size < 4;
    return byte && high_byte(r, g) ? g : tr_use_reg(t, g, avoid, load);
}

/* ---- plain instructions ---- */

static void emit_host(struct tr *t, const struct reread *r, unsigned reg, struct emit_rm rm,
                      bool force_rex)
{
    struct emit *e = t->e;
    static const uint32_t maps[] = {0, 0x0f00, 0x0f3800, 0x0f3a00};
    uint32_t opcode = maps[r->map] | r->op;
    if (r->lock)
        e8(e, 0xf0);
    if (r->opsz && (r->size == 2 || r->kind == RR_VEC))
        e8(e, 0x66);
    if (r->rep)
        e8(e, r->rep);
    e_op_rm(e, r->size == 8, force_rex ? 0x40 : 0, opcode, reg, rm);
    e_bytes(e, &r->imm, r->imm_size);
}

/* Byte registers 4-7 mean AH..BH without REX, SPL..DIL with: both operands must agree on what the
 * host encoding says. */
static bool bytes_fit(const struct reread *r, unsigned reg, bool reg_used, struct emit_rm rm)
{
    bool high =
        (r->reg8 && reg_used && high_byte(r, r->reg)) || (r->rm8 && !r->mem && high_byte(r, r->rm));
    if (!high)
        return true;
    return !r->rex && !e_rex_bits(0, reg_used ? reg : 0, &rm);
}

static bool plain_ok(const struct reread *r, uint32_t next_off)
{
    if (r->mem && r->base == RR_RIP && r->disp > INT32_MAX - (int32_t)next_off)
        return false;
    bool reg_used = !r->group;
    unsigned reg = r->reg & 7u;
    if (reg_used && !(r->reg8 && high_byte(r, r->reg)))
        reg = jit_pinned(r->reg);
    bool rm_high = r->rm8 && !r->mem && high_byte(r, r->rm);
    struct emit_rm rm = r->mem ? e_mem(J_ADDR, 0) : e_reg(rm_high ? r->rm : jit_pinned(r->rm));
    if (reg == E_NONE)
        reg = J_TMP2;
    if (!r->mem && rm.reg == E_NONE)
        rm = e_reg(J_TMP);
    return bytes_fit(r, reg, reg_used, rm);
}

/* A register that has no host register may be operated on where it is, unless the upper half must
 * be cleared, or memory would mean something else: bit strings, a locked exchange. */
static bool in_place(const struct tr *t, const struct reread *r)
{
    if (r->mem || jit_pinned(r->rm) != E_NONE || t->kept[0] == r->rm || t->kept[1] == r->rm)
        return false;
    if ((r->rm_use & RR_W) && (r->size == 4 || (r->reg_use & RR_W))) /* XADD: r/m is written last */
        return false;
    bool bits = r->map == 1 && (r->op == 0xa3 || r->op == 0xab || r->op == 0xb3 || r->op == 0xbb);
    return !bits && !(r->map == 0 && (r->op & 0xfe) == 0x86);
}

static void plain(struct tr *t, const struct step *s, unsigned k)
{
    const struct reread *r = &s->r;
    bool reg_used = !r->group;
    struct emit_rm rm = tr_at(s);
    unsigned reg = r->reg & 7u, h = 0;
    if (r->mem)
        tr_memory(t, s, k, r->rm_size, r->rm_use & RR_W);
    if (r->flags_read || tr_merges(t, s))
        tr_load_flags(t);
    if (reg_used)
        reg = use_operand(t, r, r->reg, r->reg8, E_NONE, r->reg_use);
    bool direct = in_place(t, r);
    if (direct) {
        rm = e_mem(J_VP, vp_gpr(r->rm));
    } else if (!r->mem) {
        h = use_operand(t, r, r->rm, r->rm8, reg_used ? reg : E_NONE, r->rm_use);
        rm = e_reg(h);
    }
    bool low_byte = (r->reg8 && reg_used && !high_byte(r, r->reg) && reg >= 4) ||
                    (r->rm8 && !r->mem && !direct && !high_byte(r, r->rm) && h >= 4);
    emit_host(t, r, reg, rm, low_byte);
    if (reg_used && (r->reg_use & RR_W))
        tr_put_reg(t, r->reg, reg);
    if (!r->mem && !direct && (r->rm_use & RR_W))
        tr_put_reg(t, r->rm, h);
    if (r->flags_set || r->flags_merge ||
        (r->flags_read && r->kind == RR_PLAIN && !(r->map == 1 && (r->op & 0xf0) == 0x40) &&
         !(r->map == 1 && (r->op & 0xf0) == 0x90)))
        flags_written(t);
}

/* ---- vector instructions ---- */

static void load_fpu(struct tr *t, const struct step *s, unsigned k, enum jit_fpu what)
{
    struct emit *e = t->e;
    if (t->loaded >= what)
        return;
    tr_clobber_flags(t, t->exact || s->r.flags_read || (s->flags_after && !s->r.flags_set));
    e_op_rm(e, 0, 0, 0x80, 7, e_mem(J_VP, VP(jit_fpu))); /* cmp byte */
    e8(e, (uint8_t)what);
    uint32_t there = e_jcc(e, E_CC_AE);
    e_call_to(e, what == JIT_FPU_ALL ? t->j->load_all : t->j->load_vec);
    tr_slow_way(t, E_CC_NE, k); /* not allowed now, or an exception is unmasked */
    tr_reload_regs(t, t->kept, 1);
    e_patch(e, there, e->at);
    t->loaded = (uint8_t)what;
}

static void vec(struct tr *t, const struct step *s, unsigned k)
{
    const struct reread *r = &s->r;
    struct emit_rm rm = tr_at(s);
    unsigned reg = r->reg, h = 0;
    load_fpu(t, s, k, JIT_FPU_VEC);
    if (r->mem)
        tr_memory(t, s, k, r->rm_size, r->rm_use & RR_W);
    if (r->group)
        reg = r->reg & 7u;
    else if (!r->xreg)
        reg = tr_use_reg(t, r->reg, E_NONE, false);
    if (!r->mem) {
        h = r->xrm ? r->rm : tr_use_reg(t, r->rm, r->xreg ? E_NONE : reg, r->rm_use & RR_R);
        rm = e_reg(h);
    }
    emit_host(t, r, reg, rm, false);
    if (!r->xreg && !r->group)
        tr_put_reg(t, r->reg, reg);
    if (!r->mem && !r->xrm && (r->rm_use & RR_W))
        tr_put_reg(t, r->rm, h);
    if (r->flags_set)
        flags_written(t);
}

static void x87(struct tr *t, const struct step *s, unsigned k)
{
    const struct reread *r = &s->r;
    load_fpu(t, s, k, JIT_FPU_ALL);
    if (r->mem)
        tr_memory(t, s, k, r->rm_size, r->rm_use & RR_W);
    if (r->flags_read)
        tr_load_flags(t);
    if (r->mem) {
        e_op_rm(t->e, 0, 0, r->op, r->modrm >> 3 & 7, tr_at(s));
    } else {
        e8(t->e, r->op);
        e8(t->e, r->modrm);
    }
    if (r->flags_set)
        flags_written(t);
}

/* ---- the interpreter's part ---- */

static void soft_jit_resumed(struct soft_vp *vp, const struct insn *i)
{
    vp->jit_resume = true;
}

/* Emits a jump around two insns and a call of the thunk with them. */
static void call_handler(struct tr *t, unsigned k)
{
    struct emit *e = t->e;
    struct insn pair[2] = {t->b->insn[k], {.fn = soft_jit_resumed}};
    pair[0].off = (uint16_t)tr_off(t, k);
    if (pair[0].base ==
        offsetof(struct soft_vp, block_rip)) /* RIP-relative: from the page's start */
        pair[0].disp += (int32_t)t->page_off;
    tr_clobber_flags(t, true);
    uint32_t over = e_jmp(e);
    while ((e->at & 7) && !e->full)
        e8(e, 0xcc);
    uint32_t at = e->at;
    e_bytes(e, pair, sizeof pair);
    e_patch(e, over, e->at);
    e_mov_imm64(e, J_ADDR, (uint64_t)(uintptr_t)(t->j->rx + at));
    e_call_to(e, t->j->call);
    t->in_host = false;
    t->loaded = JIT_FPU_NONE;
    t->in_vp = true;
    tr_forget_regs(t);
    /* the handler may have overwritten this very block: its head is a jump then */
    e8(e, 0x80); /* cmp byte [rip + head], 0xe9 */
    e8(e, 0x3d);
    e32(e, t->head - (e->at + 5));
    e8(e, 0xe9);
    uint32_t alive = e_jcc(e, E_CC_NE);
    e_load(e, J_ADDR, J_VP, VP(block_rip));
    e_lea(e, J_ADDR, e_mem(J_ADDR, (int32_t)(tr_off(t, k) + t->b->insn[k].len)));
    e_store(e, J_VP, VP(rip), J_ADDR);
    e_jmp_to(e, t->j->exit);
    e_patch(e, alive, e->at);
}

static void to_interpreter(struct tr *t, unsigned k)
{
    struct emit *e = t->e;
    e_mov_imm64(e, J_ADDR, (uint64_t)(uintptr_t)&t->b->insn[k]);
    e_mov_imm32(e, J_TMP, t->page_off);
    e_jmp_to(e, t->j->bail);
}

static void slow_ways(struct tr *t)
{
    uint32_t at = 0;
    unsigned of = BLOCK_MAX_INSNS; /* the instruction that `at` is the way out for */
    for (unsigned i = 0; i < t->nslow; i++) {
        struct slow *s = &t->slow[i];
        if (s->fill)
            tr_open_window(t, s);
        bool known = s->insn == of;
        if (!known)
            at = t->e->at;
        of = s->insn;
        e_patch(t->e, s->rel_at, at);
        if (!known)
            to_interpreter(t, s->insn);
    }
}

/* ---- a block ---- */

/* What kernels do often, at privilege 0; else it is the interpreter's. False: none of these. */
static bool privileged(struct tr *t, unsigned k)
{
    struct emit *e = t->e;
    insn_fn *fn = t->b->insn[k].fn;
    if (fn != soft_op_swapgs && fn != soft_op_cli && fn != soft_op_sti)
        return false;
    tr_clobber_flags(t, true);
    tr_forget_regs(t);
    e_op_rm(e, 0, 0, 0x80, E_CMP, e_mem(J_VP, VP(cpl)));
    e8(e, 0);
    tr_slow_way(t, E_CC_NE, k);
    if (fn == soft_op_swapgs) {
        int32_t base = VP(seg) + (int32_t)sizeof(struct hv_segment) * HV_GS +
                       (int32_t)offsetof(struct hv_segment, base);
        e_load(e, J_TMP, J_VP, VP(kernel_gs_base));
        e_load(e, J_TMP2, J_VP, base);
        e_store(e, J_VP, base, J_TMP);
        e_store(e, J_VP, VP(kernel_gs_base), J_TMP2);
    } else if (fn == soft_op_cli) {
        e_alu_imm(e, 0, E_AND, e_mem(J_VP, VP(eflags)), ~FL_IF);
    } else {
        e_op_rm(e, 0, 0, 0x80, E_CMP, e_mem(J_VP, VP(held)));
        e8(e, 0);
        tr_slow_way(t, E_CC_NE, k);
        e_alu_imm(e, 0, E_OR, e_mem(J_VP, VP(eflags)), FL_IF);
    }
    return true;
}

static void lea(struct tr *t, const struct reread *r, unsigned k)
{
    unsigned h = jit_pinned(r->reg);
    if (h != E_NONE && r->size == tr_word(t)) {
        tr_address(t, r, k, h, 0);
        return;
    }
    tr_address(t, r, k, J_ADDR, 0);
    h = tr_use_reg(t, r->reg, E_NONE, r->size == 2);
    if (r->size == 2)
        e8(t->e, 0x66);
    e_op_rm(t->e, r->size == 8, 0, 0x8b, h, e_reg(J_ADDR));
    tr_put_reg(t, r->reg, h);
}

static bool one(struct tr *t, unsigned k)
{
    struct step *s = &t->step[k];
    const struct reread *r = &s->r;
    struct emit *e = t->e;
    if (!s->native) {
        if (privileged(t, k))
            return true;
        call_handler(t, k);
        return true;
    }
    switch (r->kind) {
    case RR_PLAIN: plain(t, s, k); break;
    case RR_VEC: vec(t, s, k); break;
    case RR_X87: x87(t, s, k); break;
    case RR_NOP: break;
    case RR_FIXED:
        if (r->flags_read || tr_merges(t, s))
            tr_load_flags(t);
        if (r->opsz)
            e8(e, 0x66);
        if (r->size == 8)
            e8(e, 0x48);
        e8(e, r->op);
        if (r->flags_read || r->flags_merge)
            flags_written(t);
        break;
    case RR_ACC:
        if (r->flags_read)
            tr_load_flags(t);
        if (r->opsz && r->size == 2)
            e8(e, 0x66);
        if (r->size == 8)
            e8(e, 0x48);
        e8(e, r->op);
        e_bytes(e, &r->imm, r->imm_size);
        flags_written(t);
        break;
    case RR_MOV_IMM: {
        bool byte = r->size == 1;
        unsigned h =
            byte && high_byte(r, r->rm) ? r->rm : tr_use_reg(t, r->rm, E_NONE, r->size < 4);
        if (r->opsz && r->size == 2)
            e8(e, 0x66);
        unsigned rex = (r->size == 8 ? 8u : 0) | (h > 7);
        if (rex || (byte && h >= 4 && !high_byte(r, r->rm)))
            e8(e, (uint8_t)(0x40 | rex));
        e8(e, (uint8_t)((byte ? 0xb0 : 0xb8) | (h & 7)));
        e_bytes(e, &r->imm, r->imm_size);
        tr_put_reg(t, r->rm, h);
        break;
    }
    case RR_BSWAP: {
        unsigned h = tr_use_reg(t, r->rm, E_NONE, true);
        unsigned rex = (r->size == 8 ? 8u : 0) | (h > 7);
        if (rex)
            e8(e, (uint8_t)(0x40 | rex));
        e8(e, 0x0f);
        e8(e, (uint8_t)(0xc8 | (h & 7)));
        tr_put_reg(t, r->rm, h);
        break;
    }
    case RR_XCHG_ACC: {
        unsigned h = tr_use_reg(t, r->rm, E_NONE, true);
        if (r->opsz && r->size == 2)
            e8(e, 0x66);
        e_op_rm(e, r->size == 8, 0, 0x87, E_RAX, e_reg(h));
        tr_put_reg(t, r->rm, h);
        break;
    }
    case RR_LEA: lea(t, r, k); break;
    case RR_PUSH: tr_push(t, s, k, jit_pinned(r->rm), false); break;
    case RR_PUSH_IMM: tr_push(t, s, k, 0, true); break;
    case RR_PUSH_RM:
        tr_memory(t, s, k, tr_word(t), false);
        tr_load_word(t, J_ADDR, tr_at(s));
        e_store(e, J_VP, VP(jit_tmp), J_ADDR);
        tr_push(t, s, k, E_NONE, false);
        break;
    case RR_POP: tr_pop(t, s, k, r->rm); break;
    case RR_LEAVE: tr_leave(t, s, k); break;
    default:
        if (tr_midway(t, k)) {
            if (r->kind == RR_JCC)
                tr_side_exit(t, s, k);
            break;
        }
        tr_finish(t, s, k);
        return false;
    }
    return true;
}

/* Whether an instruction may stand in the middle, or only as the last one. */
static bool native(const struct reread *r, uint32_t next_off, bool x87)
{
    bool direct = r->kind == RR_JCC || r->kind == RR_JMP || r->kind == RR_CALL;
    if (direct && (int64_t)r->imm > INT32_MAX - (int64_t)next_off) /* from the page's start */
        return false;
    switch (r->kind) {
    case RR_PLAIN: return plain_ok(r, next_off);
    case RR_X87: /* the interpreter keeps the last instruction's pointer: compared exactly only
                    there */
        return x87 && !(r->base == RR_RIP && r->disp > INT32_MAX - (int32_t)next_off);
    case RR_VEC:
    case RR_LEA: return !(r->base == RR_RIP && r->disp > INT32_MAX - (int32_t)next_off);
    case RR_CALL_RM:
    case RR_JMP_RM:
        return plain_ok(r, next_off) && (r->mem || r->rm != HV_RSP || r->kind == RR_JMP_RM);
    case RR_PUSH_RM: return r->mem && plain_ok(r, next_off) && r->base != HV_RSP;
    default: return true;
    }
}

/* Whether the flags may be read at `off` in the page before they are all set: looks a few
 * instructions ahead. */
bool tr_flags_live_at(const struct tr *t, int64_t off)
{
    for (unsigned i = 0; i < PEEK_INSNS; i++) {
        struct reread r;
        if (off < 0 || off >= 4096 ||
            !soft_reread(t->page + off, (unsigned)(4096 - off), !t->wide, &r))
            return true;
        if (r.flags_read)
            return true;
        if (r.flags_set)
            return false;
        if (r.kind == RR_JMP)
            off += r.imm;
        else if (r.kind >= RR_CALL)
            return true;
        off += r.len;
    }
    return true;
}

static bool flags_live_out(const struct tr *t, unsigned last)
{
    const struct step *s = &t->step[last];
    int64_t next = tr_off(t, last + 1), end = (int64_t)tr_off(t, last) + t->b->insn[last].len;
    if (!s->native)
        return true;
    switch (s->r.kind) {
    case RR_JCC: return tr_flags_live_at(t, next) || tr_flags_live_at(t, end + s->r.imm);
    case RR_JMP:
    case RR_CALL: return tr_flags_live_at(t, end + s->r.imm);
    case RR_RET:
    case RR_JMP_RM:
    case RR_CALL_RM: return true;
    default: return tr_flags_live_at(t, next);
    }
}

static unsigned read_block(struct tr *t)
{
    struct block *b = t->b;
    unsigned known = 0;
    for (unsigned k = 0; k < b->n; k++) {
        struct step *s = &t->step[k];
        uint32_t off = tr_off(t, k);
        s->native = off < 4096 && soft_reread(t->page + off, 4096 - off, !t->wide, &s->r) &&
                    s->r.len == b->insn[k].len &&
                    native(&s->r, off + s->r.len, t->j->translate_x87);
        /* others end blocks: one in the middle would be the decoder's and our disagreement */
        if (s->native && s->r.kind >= RR_JCC && k + 1 != b->n && s->r.kind != RR_JCC &&
            s->r.kind != RR_JMP)
            s->native = false;
        known += s->native;
    }
    bool live = t->exact || flags_live_out(t, b->n - 1u);
    for (unsigned k = b->n; k-- > 0;) {
        struct step *s = &t->step[k];
        s->flags_after = live;
        if (s->native && s->r.flags_set)
            live = false;
        if (!s->native || s->r.flags_read)
            live = true;
    }
    return known;
}

static void head(struct tr *t)
{
    struct emit *e = t->e;
    while ((e->at & 15) && !e->full)
        e8(e, 0xcc);
    uint32_t out = e->at; /* the way out for attention, and for a dead block */
    e_mov_imm32(e, J_ADDR, t->page_off);
    e_jmp_to(e, t->j->leave);
    while ((e->at & 15) != 12 && !e->full)
        e8(e, 0xcc);
    e32(e, out);
    t->head = e->at;
    e_alu_imm(e, 0, E_CMP, e_mem(J_VP, VP(attn)), 0);
    e_patch(e, e_jcc(e, E_CC_NE), out);
    if (t->j->count)
        e_alu_imm(e, 1, E_ADD, e_mem(J_VP, VP(icount)), t->b->n);
}

uint32_t jit_block(struct soft_jit *j, struct soft_vp *vp, struct block *b)
{
    const struct soft_region *r = soft_region_at(vp->soft, b->phys);
    static _Thread_local struct tr t;
    unsigned size = b->mode & SOFT_MODE_SIZE;
    if (!r || !b->n || (b->phys & 4095) + b->bytes > 4096 || (b->phys & 4095) < b->before ||
        (b->mode & SOFT_MODE_SINGLE) ||
        !(size == SOFT_MODE64 || (size == SOFT_MODE32 && (b->mode & SOFT_MODE_FLAT))))
        return 0;
    t.e = &j->e;
    t.j = j;
    t.b = b;
    t.wide = size == SOFT_MODE64;
    t.page_off = (uint32_t)(b->phys & 4095);
    t.page = r->host + ((b->phys & ~4095ull) - r->gpa);
    t.nslow = t.nout = 0;
    t.exact = j->exact;
    t.half = vp->rip >> 63;
    t.user = b->mode & SOFT_MODE_USER;
    if (!read_block(&t))
        return 0;
    tr_find_groups(&t);
    head(&t);
    t.in_host = false;
    t.in_vp = true;
    t.loaded = JIT_FPU_NONE;
    tr_forget_regs(&t);
    bool open = true;
    for (unsigned k = 0; k < b->n && open; k++) {
        if (!t.step[k].native && k + 1 == b->n && !privileged(&t, k)) {
            tr_clobber_flags(&t, true); /* ends the block in the interpreter's way */
            to_interpreter(&t, k);
            open = false;
        } else if (t.step[k].native || k + 1 != b->n) {
            open = one(&t, k);
        }
    }
    if (open) {
        tr_clobber_flags(&t, t.step[b->n - 1].flags_after);
        tr_go_on(&t, b->n - 1u);
    }
    slow_ways(&t);
    tr_ways_out(&t);
    return t.head;
}
