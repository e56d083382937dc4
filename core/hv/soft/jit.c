/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/hv/soft/jit.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/hv/soft/jit-internal.h"

static void spill(struct emit *e)
{
    for (unsigned g = 0; g < HV_GPR_COUNT; g++)
        if (jit_pinned(g) != E_NONE)
            e_store(e, J_VP, vp_gpr(g), jit_pinned(g));
}

static void fill(struct emit *e)
{
    for (unsigned g = 0; g < HV_GPR_COUNT; g++)
        if (jit_pinned(g) != E_NONE)
            e_load(e, jit_pinned(g), J_VP, vp_gpr(g));
}

static const uint8_t saved[] = {E_RBX, E_RBP, E_R12, E_R13, E_R14, E_R15};

static void push_pop(struct emit *e, uint8_t opcode, unsigned reg)
{
    if (reg > 7)
        e8(e, 0x41);
    e8(e, (uint8_t)(opcode | (reg & 7)));
}

/* Undoes enter's frame. */
static void leave_frame(struct emit *e)
{
    e_alu_imm(e, 1, E_ADD, e_reg(E_RSP), 8);
    for (unsigned i = ARRAY_LEN(saved); i-- > 0;)
        push_pop(e, 0x58, saved[i]);
}

/* void enter(vp, code): vp->block_rip is the rip of the block's first instruction. */
static void make_enter(struct soft_jit *j)
{
    struct emit *e = &j->e;
    j->enter = e->at;
    for (unsigned i = 0; i < ARRAY_LEN(saved); i++)
        push_pop(e, 0x50, saved[i]);
    e_alu_imm(e, 1, E_SUB, e_reg(E_RSP), 8);
    e_mov_rr(e, J_VP, E_RDI);
    e_mov_rr(e, J_ADDR, E_RSI);
    e_alu_imm(e, 1, E_AND, e_mem(J_VP, VP(block_rip)), -4096);
    fill(e);
    e_op_rm(e, 0, 0, 0xff, 4, e_reg(J_ADDR)); /* jmp */
}

/* The guest's XMM registers and MXCSR, from vp and back: C code runs with the host's own. */
static void move_xmm(struct emit *e, uint8_t opcode)
{
    for (unsigned i = 0; i < 16; i++) /* movups */
        e_op_rm(e, 0, 0, 0x0f00u | opcode, i, e_mem(J_VP, VP(fx.xmm) + 16 * (int32_t)i));
}

static void set_fpu(struct emit *e, enum jit_fpu what)
{
    e_op_rm(e, 0, 0, 0xc6, 0, e_mem(J_VP, VP(jit_fpu)));
    e8(e, (uint8_t)what);
}

static void fx_op(struct emit *e, unsigned n) /* 0 FXSAVE64, 1 FXRSTOR64 */
{
    e_op_rm(e, 1, 0, 0x0fae, n, e_mem(J_VP, VP(fx)));
}

/* ZF clear after it: the FPU is not to be used unchecked now, or an SSE exception is unmasked. */
static void check_vec(struct emit *e, uint32_t out[2])
{
    e_op_rm(e, 0, 0, 0x80, 7, e_mem(J_VP, VP(fpu_gate)));
    e8(e, 0);
    out[0] = e_jcc(e, E_CC_NE);
    e_op_rm(e, 0, 0, 0x8b, J_TMP, e_mem(J_VP, VP(fx.mxcsr)));
    e_alu_imm(e, 0, E_AND, e_reg(J_TMP), 0x1f80);
    e_alu_imm(e, 0, E_CMP, e_reg(J_TMP), 0x1f80);
    out[1] = e_jcc(e, E_CC_NE);
}

/* ZF set: done. Clear: not now. Clobber J_TMP. */
static void make_load_vec(struct soft_jit *j)
{
    struct emit *e = &j->e;
    uint32_t out[2];
    j->load_vec = e->at;
    check_vec(e, out);
    move_xmm(e, 0x10);
    e_op_rm(e, 0, 0, 0x0fae, 2, e_mem(J_VP, VP(fx.mxcsr))); /* ldmxcsr */
    set_fpu(e, JIT_FPU_VEC);
    e_patch(e, out[0], e->at);
    e_patch(e, out[1], e->at);
    e8(e, 0xc3);
}

/* The same for x87 as well: none of its exceptions may be unmasked. */
static void make_load_all(struct soft_jit *j)
{
    struct emit *e = &j->e;
    uint32_t out[2];
    j->load_all = e->at;
    e_op_rm(e, 0, 0, 0x80, 7, e_mem(J_VP, VP(jit_fpu)));
    e8(e, JIT_FPU_NONE);
    uint32_t none = e_jcc(e, E_CC_E);
    e_call_to(e, j->save_fpu);
    e_patch(e, none, e->at);
    check_vec(e, out);
    e_op_rm(e, 0, 0, 0x0fb7, J_TMP, e_mem(J_VP, VP(fx.fcw)));
    e_alu_imm(e, 0, E_AND, e_reg(J_TMP), 0x3f);
    e_alu_imm(e, 0, E_CMP, e_reg(J_TMP), 0x3f);
    uint32_t unmasked = e_jcc(e, E_CC_NE);
    fx_op(e, 1);
    set_fpu(e, JIT_FPU_ALL);
    e_patch(e, out[0], e->at);
    e_patch(e, out[1], e->at);
    e_patch(e, unmasked, e->at);
    e8(e, 0xc3);
}

/* FXSAVE leaves pointers into translated code: with every exception masked nothing reads them, and
 * they are cleared. */
static void make_save_fpu(struct soft_jit *j)
{
    struct emit *e = &j->e;
    j->save_fpu = e->at;
    e_op_rm(e, 0, 0, 0x80, 7, e_mem(J_VP, VP(jit_fpu)));
    e8(e, JIT_FPU_ALL);
    uint32_t all = e_jcc(e, E_CC_E);
    move_xmm(e, 0x11);
    e_op_rm(e, 0, 0, 0x0fae, 3, e_mem(J_VP, VP(fx.mxcsr))); /* stmxcsr */
    uint32_t done = e_jmp(e);
    e_patch(e, all, e->at);
    fx_op(e, 0);
    e_op_rm(e, 1, 0, 0xc7, 0, e_mem(J_VP, VP(fx.fip)));
    e32(e, 0);
    e_op_rm(e, 1, 0, 0xc7, 0, e_mem(J_VP, VP(fx.fdp)));
    e32(e, 0);
    e8(e, 0x66);
    e_op_rm(e, 0, 0, 0xc7, 0, e_mem(J_VP, VP(fx.fop)));
    e16(e, 0);
    e8(e, 0xdb); /* fninit */
    e8(e, 0xe3);
    e_patch(e, done, e->at);
    e_op_rm(e, 0, 0, 0x0fae, 2, e_mem(J_VP, VP(jit_mxcsr)));
    set_fpu(e, JIT_FPU_NONE);
    e8(e, 0xc3);
}

static void give_back_fpu(struct soft_jit *j)
{
    struct emit *e = &j->e;
    e_op_rm(e, 0, 0, 0x80, 7, e_mem(J_VP, VP(jit_fpu)));
    e8(e, JIT_FPU_NONE);
    uint32_t none = e_jcc(e, E_CC_E);
    e_call_to(e, j->save_fpu);
    e_patch(e, none, e->at);
}

/* vp->rip is set: back to the run loop. */
static void make_exit(struct soft_jit *j)
{
    struct emit *e = &j->e;
    j->exit = e->at;
    give_back_fpu(j);
    spill(e);
    leave_frame(e);
    e8(e, 0xc3);
}

/* J_ADDR = insn, J_TMP = the block's place in its page: the interpreter does it and what follows.
 */
static void make_bail(struct soft_jit *j)
{
    struct emit *e = &j->e;
    j->bail = e->at;
    give_back_fpu(j);
    e_alu_rm(e, 1, E_ADD, J_TMP, e_mem(J_VP, VP(block_rip)));
    e_store(e, J_VP, VP(block_rip), J_TMP);
    spill(e);
    e_mov_rr(e, E_RDI, J_VP);
    e_mov_rr(e, E_RSI, J_ADDR);
    e_load(e, E_RAX, E_RSI, (int32_t)offsetof(struct insn, fn));
    leave_frame(e);
    e_op_rm(e, 0, 0, 0xff, 4, e_reg(E_RAX));
}

/* To the run loop with J_ADDR as rip. */
static void leave_to(struct soft_jit *j)
{
    struct emit *e = &j->e;
    e_store(e, J_VP, VP(rip), J_ADDR);
    e_op_rm(e, 0, 0, 0xc7, 0, e_mem(J_VP, VP(jit_link)));
    e32(e, 0);
    e_jmp_to(e, j->exit);
}

/* To the run loop at J_ADDR in the block's page. */
static void make_leave(struct soft_jit *j)
{
    struct emit *e = &j->e;
    j->leave = e->at;
    e_alu_rm(e, 1, E_ADD, J_ADDR, e_mem(J_VP, VP(block_rip)));
    leave_to(j);
}

/* To the run loop by a direct jump, whose jit_link is at J_TMP in the buffer. */
static void make_leave_linked(struct soft_jit *j)
{
    struct emit *e = &j->e;
    j->leave_linked = e->at;
    e_store(e, J_VP, VP(jit_link), J_TMP);
    e_op_rip(e, 1, 0x8d, J_ADDR, 0); /* lea: where the buffer begins */
    e_alu_rm(e, 1, E_ADD, J_TMP, e_reg(J_ADDR));
    e_load(e, J_ADDR, J_TMP, (int32_t)offsetof(struct jit_link, phys));
    e_alu_imm(e, 0, E_AND, e_reg(J_ADDR), 4095);
    e_alu_rm(e, 1, E_ADD, J_ADDR, e_mem(J_VP, VP(block_rip)));
    e_store(e, J_VP, VP(rip), J_ADDR);
    e_jmp_to(e, j->exit);
}

/* What look-ups find where there is no translated code: J_ADDR = where the guest goes. */
static void make_cold(struct soft_jit *j)
{
    j->cold = j->e.at;
    leave_to(j);
}

/* J_TMP = the slot of the look-up table for J_ADDR. J_TMP2 is lost. */
static void find_slot(struct emit *e, uint32_t miss[2])
{
    e_mov_rr(e, J_TMP, J_ADDR);
    e_shift_imm(e, 1, 5, J_TMP, SOFT_JUMP_BITS);
    e_alu_rm(e, 1, E_XOR, J_TMP, e_reg(J_ADDR));
    e_alu_imm(e, 0, E_AND, e_reg(J_TMP), SOFT_JUMP_SIZE - 1);
    e_mov_rr(e, J_TMP2, J_ADDR);
    e_shift_imm(e, 0, 4, J_TMP, 5);
    e_shift_imm(e, 1, 5, J_TMP2, 63);
    e_alu_rm(e, 1, E_ADD, J_TMP, e_mem(J_VP, VP(jump)));
    struct emit_rm key = e_mem(J_VP, VP(jump_key));
    key.index = J_TMP2;
    key.scale = 3;
    e_op_rm(e, 1, 0, 0x8b, J_TMP2, key);
    e_alu_rm(e, 1, E_CMP, J_ADDR, e_mem(J_TMP, (int32_t)offsetof(struct soft_jump, lin)));
    miss[0] = e_jcc(e, E_CC_NE);
    e_alu_rm(e, 1, E_CMP, J_TMP2, e_mem(J_TMP, (int32_t)offsetof(struct soft_jump, key)));
    miss[1] = e_jcc(e, E_CC_NE);
}

/* To the code at J_TMP for the linear address in J_ADDR. */
static void go_to(struct emit *e)
{
    e_mov_rr(e, J_TMP2, J_ADDR);
    e_alu_imm(e, 1, E_AND, e_reg(J_TMP2), -4096);
    e_store(e, J_VP, VP(block_rip), J_TMP2);
    e_op_rm(e, 0, 0, 0xff, 4, e_reg(J_TMP));
}

/* J_ADDR = where the guest goes: straight to its code if the look-up table knows it. */
static void make_indirect(struct soft_jit *j)
{
    struct emit *e = &j->e;
    uint32_t miss[2];
    j->indirect = e->at;
    find_slot(e, miss);
    e_load(e, J_TMP, J_TMP, (int32_t)offsetof(struct soft_jump, code));
    go_to(e);
    for (unsigned i = 0; i < 2; i++)
        e_patch(e, miss[i], e->at);
    leave_to(j);
}

/* A direct jump to another page, J_ADDR, whose data at J_TMP do not hold now. If only the key is
 * old they are made to hold again; else the run loop sees to it. */
static void make_far_miss(struct soft_jit *j)
{
    struct emit *e = &j->e;
    uint32_t miss[5];
    j->far_miss = e->at;
    e_store(e, J_VP, VP(jit_tmp), J_TMP);
    find_slot(e, miss);
    e_load(e, J_TMP, J_TMP, (int32_t)offsetof(struct soft_jump, code));
    e_alu_rm(e, 1, E_CMP, J_TMP, e_mem(J_VP, VP(jit_cold)));
    miss[2] = e_jcc(e, E_CC_E);
    e_store(e, J_VP, VP(jit_key), J_TMP2);
    e_load(e, J_TMP2, J_VP, VP(jit_tmp));
    e_alu_rm(e, 1, E_CMP, J_ADDR, e_mem(J_TMP2, (int32_t)offsetof(struct jit_far, lin)));
    uint32_t elsewhere = e_jcc(e, E_CC_NE);
    e_alu_rm(e, 1, E_CMP, J_TMP, e_mem(J_TMP2, (int32_t)offsetof(struct jit_far, code)));
    miss[3] = e_jcc(e, E_CC_NE); /* translated anew */
    e_load(e, J_TMP, J_VP, VP(jit_key));
    e_store(e, J_TMP2, (int32_t)offsetof(struct jit_far, key), J_TMP);
    e_load(e, J_TMP, J_TMP2, (int32_t)offsetof(struct jit_far, code));
    uint32_t go = e_jmp(e);
    e_patch(e, elsewhere, e->at);
    e_alu_imm(e, 1, E_CMP, e_mem(J_TMP2, (int32_t)offsetof(struct jit_far, code)), 0);
    miss[4] = e_jcc(e, E_CC_E); /* never linked */
    e_patch(e, go, e->at);
    go_to(e);
    for (unsigned i = 0; i < ARRAY_LEN(miss); i++)
        e_patch(e, miss[i], e->at);
    e_load(e, J_TMP2, J_VP, VP(jit_tmp));
    e_store(e, J_VP, VP(jit_far), J_TMP2);
    leave_to(j);
}

/* J_ADDR = a copy of an insn, followed by one whose handler says that the first went on to it. */
static void make_call(struct soft_jit *j)
{
    struct emit *e = &j->e;
    j->call = e->at;
    give_back_fpu(j);
    spill(e);
    e_alu_imm(e, 1, E_SUB, e_reg(E_RSP), 8);
    e_op_rm(e, 0, 0, 0xc6, 0, e_mem(J_VP, VP(jit_resume)));
    e8(e, 0);
    e_mov_rr(e, E_RDI, J_VP);
    e_mov_rr(e, E_RSI, J_ADDR);
    e_op_rm(e, 0, 0, 0xff, 2, e_mem(J_ADDR, (int32_t)offsetof(struct insn, fn)));
    e_op_rm(e, 0, 0, 0x80, 7, e_mem(J_VP, VP(jit_resume)));
    e8(e, 0);
    uint32_t left = e_jcc(e, E_CC_E);
    e_alu_imm(e, 1, E_ADD, e_reg(E_RSP), 8);
    fill(e);
    e8(e, 0xc3);
    e_patch(e, left, e->at); /* the handler left the block: vp->rip is set, gprs are in vp */
    e_alu_imm(e, 1, E_ADD, e_reg(E_RSP), 16);
    leave_frame(e);
    e8(e, 0xc3);
}

static void tlb_tag(struct emit *e, int32_t which, uint32_t *miss)
{
    e_alu_rm(e, 1, E_CMP, J_TMP2, e_mem(J_TMP, which));
    *miss = e_jcc(e, E_CC_NE);
}

/* J_TMP = the TLB's entry for the first byte, J_TMP2 = tag of the last one's page. */
static void find_entry(struct emit *e)
{
    e_mov_rr(e, J_TMP, J_ADDR);
    e_shift_imm(e, 1, 5, J_TMP, 7);
    e_alu_imm(e, 0, E_AND, e_reg(J_TMP), (SOFT_TLB_SIZE - 1) << 5);
    e_alu_rm(e, 1, E_ADD, J_TMP, e_mem(J_VP, VP(tlb)));
    e_alu_rm(e, 1, E_ADD, J_TMP2, e_mem(J_VP, VP(tlb_gen)));
}

/* The page of the entry at J_TMP may now be written to by a window. */
static void note_written(struct emit *e)
{
    e_load(e, J_TMP2, J_TMP, (int32_t)offsetof(struct soft_tlbe, meta));
    e_shift_imm(e, 1, 5, J_TMP2, 12);
    e_alu_imm(e, 0, E_AND, e_reg(J_TMP2), 4095);
    e_op_rm(e, 1, 0, 0x0fab, J_TMP2, e_mem(J_VP, VP(win_written))); /* bts */
}

/* The run loop is to see to what is set. */
static void look_up_soon(struct emit *e)
{
    e8(e, 0xf0); /* lock or */
    e_alu_imm(e, 0, E_OR, e_mem(J_VP, VP(attn)), ATTN_SELF);
}

static void return_hit(struct emit *e)
{
    e_alu_rm(e, 0, E_CMP, J_TMP, e_reg(J_TMP));
    e8(e, 0xc3);
}

/*
 * Called where a window does not hold: J_ADDR = linear address, J_TMP = the window, J_TMP2 = page
 * of the last byte. The TLB is asked for that page where the first byte's is kept: an operand over
 * two pages finds nothing. ZF set: J_ADDR = host address, and the window is open unless too many
 * are. Clear: no.
 */
static void make_fill(struct soft_jit *j, enum jit_fill kind)
{
    struct emit *e = &j->e;
    uint32_t miss;
    j->fill[kind] = e->at;
    e_store(e, J_VP, VP(jit_win), J_TMP);
    e_alu_imm(e, 0, E_ADD, e_mem(J_TMP, (int32_t)offsetof(struct jit_win, misses)), 1);
    uint32_t cool = e_jcc(e, E_CC_NE);
    e_store(e, J_VP, VP(jit_hot), J_TMP);
    look_up_soon(e);
    e_patch(e, cool, e->at);
    find_entry(e);
    tlb_tag(e,
            kind == JIT_FILL_READ ? (int32_t)offsetof(struct soft_tlbe, rtag)
                                  : (int32_t)offsetof(struct soft_tlbe, wtag),
            &miss);
    if (kind == JIT_FILL_WRITE)
        note_written(e);
    e_load(e, J_TMP2, J_TMP, (int32_t)offsetof(struct soft_tlbe, addend));
    e_store(e, J_VP, VP(jit_key), J_TMP2);
    e_load(e, J_TMP, J_VP, VP(jit_win));
    e_alu_imm(e, 1, E_CMP, e_mem(J_TMP, (int32_t)offsetof(struct jit_win, limit)), 0);
    uint32_t was_open = e_jcc(e, E_CC_NE);
    e_load(e, J_TMP2, J_VP, VP(win_count));
    e_alu_imm(e, 1, E_CMP, e_reg(J_TMP2), SOFT_OPEN_WINDOWS);
    uint32_t too_many = e_jcc(e, E_CC_AE);
    struct emit_rm slot = e_mem(J_VP, VP(win_open));
    slot.index = J_TMP2;
    slot.scale = 3;
    e_op_rm(e, 1, 0, 0x89, J_TMP, slot);
    e_alu_imm(e, 1, E_ADD, e_mem(J_VP, VP(win_count)), 1);
    e_patch(e, was_open, e->at);
    e_mov_rr(e, J_TMP2, J_ADDR);
    e_alu_imm(e, 1, E_AND, e_reg(J_TMP2), -4096);
    e_store(e, J_TMP, (int32_t)offsetof(struct jit_win, page), J_TMP2);
    e_alu_rm(e, 1, E_ADD, J_TMP2, e_mem(J_VP, VP(jit_key)));
    e_store(e, J_TMP, (int32_t)offsetof(struct jit_win, host), J_TMP2);
    e_load(e, J_TMP2, J_VP, VP(jit_key));
    e_store(e, J_TMP, (int32_t)offsetof(struct jit_win, addend), J_TMP2);
    e_op_rm(e, 0, 0, 0x8b, J_TMP2, e_mem(J_TMP, (int32_t)offsetof(struct jit_win, full)));
    e_store(e, J_TMP, (int32_t)offsetof(struct jit_win, limit), J_TMP2);
    e_patch(e, too_many, e->at);
    e_alu_rm(e, 1, E_ADD, J_ADDR, e_mem(J_VP, VP(jit_key)));
    return_hit(e);
    e_patch(e, miss, e->at);
    e8(e, 0xc3);
}

/* The same for the stack, whose window may be written to. Supervisors' opens only in the view that
 * has no user pages: it then holds in the other one, too. */
static void make_stack_fill(struct soft_jit *j, enum jit_fill kind)
{
    struct emit *e = &j->e;
    bool read = kind == JIT_FILL_STACK_READ || kind == JIT_FILL_STACK_READ_USER;
    bool user = kind == JIT_FILL_STACK_READ_USER || kind == JIT_FILL_STACK_WRITE_USER;
    int32_t win = VP(stack_win) + (user ? (int32_t)sizeof(struct soft_stack_win) : 0);
    uint32_t miss, none, closed = 0;
    j->fill[kind] = e->at;
    if (user) {
        e_alu_imm(e, 0, E_ADD, e_mem(J_VP, VP(stack_misses)), 1);
        uint32_t cool = e_jcc(e, E_CC_NE);
        look_up_soon(e);
        e_patch(e, cool, e->at);
    }
    find_entry(e);
    tlb_tag(e, (int32_t)offsetof(struct soft_tlbe, wtag), &miss);
    if (!user) {
        e_op_rm(e, 0, 0, 0x0fb6, J_TMP2, e_mem(J_VP, VP(mmu)));
        e_op_rm(e, 0, 0, 0x3a, J_TMP2, e_mem(J_VP, VP(stack_view)));
        closed = e_jcc(e, E_CC_NE);
    }
    note_written(e);
    e_mov_rr(e, J_TMP2, J_ADDR);
    e_alu_imm(e, 1, E_AND, e_reg(J_TMP2), -4096);
    e_store(e, J_VP, win + (int32_t)offsetof(struct soft_stack_win, page), J_TMP2);
    e_alu_rm(e, 1, E_ADD, J_TMP2, e_mem(J_TMP, (int32_t)offsetof(struct soft_tlbe, addend)));
    e_store(e, J_VP, win + (int32_t)offsetof(struct soft_stack_win, host), J_TMP2);
    e_load(e, J_TMP2, J_TMP, (int32_t)offsetof(struct soft_tlbe, addend));
    e_store(e, J_VP, win + (int32_t)offsetof(struct soft_stack_win, addend), J_TMP2);
    int32_t limits = win + (int32_t)offsetof(struct soft_stack_win, limit);
    e_alu_imm(e, 1, E_CMP, e_mem(J_VP, limits), 0);
    uint32_t was_open = e_jcc(e, E_CC_NE);
    for (unsigned i = 0; i < SOFT_SPANS; i++) {
        e_op_rm(e, 1, 0, 0xc7, 0, e_mem(J_VP, limits + 8 * (int32_t)i));
        e32(e, 4097u - SOFT_SPAN * (i + 1));
    }
    e_patch(e, was_open, e->at);
    if (!user)
        e_patch(e, closed, e->at);
    e_alu_rm(e, 1, E_ADD, J_ADDR, e_mem(J_TMP, (int32_t)offsetof(struct soft_tlbe, addend)));
    return_hit(e);
    e_patch(e, miss, e->at);
    if (read) { /* a page to read only: opens no window */
        tlb_tag(e, (int32_t)offsetof(struct soft_tlbe, rtag), &none);
        e_alu_rm(e, 1, E_ADD, J_ADDR, e_mem(J_TMP, (int32_t)offsetof(struct soft_tlbe, addend)));
        e_alu_rm(e, 0, E_CMP, J_TMP, e_reg(J_TMP));
        e_patch(e, none, e->at);
    }
    e8(e, 0xc3);
}

static void make_thunks(struct soft_jit *j)
{
    j->e.at = 16;
    make_save_fpu(j);
    make_load_vec(j);
    make_load_all(j);
    make_enter(j);
    make_exit(j);
    make_bail(j);
    make_leave(j);
    make_leave_linked(j);
    make_cold(j);
    make_indirect(j);
    make_far_miss(j);
    make_call(j);
    make_fill(j, JIT_FILL_READ);
    make_fill(j, JIT_FILL_WRITE);
    for (enum jit_fill k = JIT_FILL_STACK_READ; k < JIT_FILLS; k++)
        make_stack_fill(j, k);
    j->first = j->e.at;
}

/* A process that may not open it, as a sandboxed worker, has none. */
static void open_map(struct soft_jit *j)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/perf-%d.map", (int)getpid());
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    j->map = fd < 0 ? NULL : fdopen(fd, "a");
    if (fd >= 0 && !j->map)
        close(fd);
}

/* One line a block: by its guest's linear address. */
static void note_in_map(const struct soft_jit *j, const struct soft_vp *vp, uint32_t at)
{
    if (!j->map)
        return;
    fprintf(j->map, "%" PRIx64 " %x guest:%" PRIx64 "\n", (uint64_t)(uintptr_t)(j->rx + at),
            j->e.at - at, vp->rip);
    fflush(j->map);
}

/* The executable view, and right behind it the data of far jumps and windows. */
static bool map_views(struct soft_jit *j, int fd)
{
    size_t jumps = (size_t)j->max_far * sizeof *j->far;
    size_t data = (jumps + JIT_WINDOWS * sizeof *j->win + 4095) & ~(size_t)4095;
    j->rw = mmap(NULL, j->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    j->mapped = j->size + data;
    uint8_t *at =
        mmap(NULL, j->mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    j->rx = at;
    if (j->rw == MAP_FAILED || at == MAP_FAILED)
        return false;
    j->far = (struct jit_far *)(void *)(at + j->size);
    j->win_at = j->size + (uint32_t)jumps;
    j->win = (struct jit_win *)(void *)(at + j->win_at);
    return mmap(at, j->size, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, 0) == at &&
           mprotect(j->far, data, PROT_READ | PROT_WRITE) == 0;
}

struct soft_jit *soft_jit_new(struct soft_vp *vp, uint32_t bytes, const struct soft_jit_options *o)
{
    struct soft_jit *j = calloc(1, sizeof *j);
    AUTO(fd) fd = memfd_create("vireo-code", MFD_CLOEXEC);
    void *rings = aligned_alloc(256, 2 * SOFT_RETS * sizeof(struct soft_ret));
    if (!j || fd < 0 || !rings || ftruncate(fd, bytes) < 0) {
        free(rings);
        free(j);
        return NULL;
    }
    j->size = bytes;
    j->exact = o->exact;
    j->count = o->count;
    j->translate_x87 = !o->exact || o->exact_but_x87;
    if (o->perf_map)
        open_map(j);
    j->max_far = bytes / 256;
    j->rings = rings;
    j->place = calloc(JIT_WINDOWS, sizeof *j->place);
    if (!j->place || !map_views(j, fd)) {
        soft_jit_free(j);
        return NULL;
    }
    j->e = (struct emit){.base = j->rw, .end = bytes};
    make_thunks(j);
    vp->jit_mxcsr = 0x1f80;
    vp->jit_enter = (void (*)(struct soft_vp *, void *))(uintptr_t)(j->rx + j->enter);
    vp->jit_cold = j->rx + j->cold;
    vp->ret_rings = vp->ret_top = rings;
    vp->ret_other = vp->ret_rings + SOFT_RETS;
    vp->jit = j;
    vp->stack_misses = -JIT_MISSES;
    soft_jit_forget_calls(vp);
    soft_jit_close_windows(vp);
    return j;
}

void soft_jit_free(struct soft_jit *j)
{
    if (!j)
        return;
    if (j->rw && j->rw != MAP_FAILED)
        munmap(j->rw, j->size);
    if (j->rx && j->rx != MAP_FAILED)
        munmap(j->rx, j->mapped);
    free(j->rings);
    free(j->place);
    if (j->map)
        fclose(j->map);
    free(j);
}

void soft_jit_close_windows(struct soft_vp *vp)
{
    for (uint64_t n = 0; n < vp->win_count; n++)
        vp->win_open[n]->limit = 0;
    vp->win_count = 0;
    for (unsigned user = 0; user < 2; user++)
        if (vp->stack_win[user].limit[0])
            memset(vp->stack_win[user].limit, 0, sizeof vp->stack_win[user].limit);
    memset(vp->win_written, 0, sizeof vp->win_written);
}

/* A place that misses time and again is quicker by the TLB: its block is translated anew. */
void soft_jit_cool(struct soft_vp *vp)
{
    struct soft_jit *j = vp->jit;
    struct jit_win *w = vp->jit_hot;
    struct jit_place *p = &j->place[w - j->win];
    vp->jit_hot = NULL;
    w->misses = -JIT_MISSES;
    uint64_t now = __builtin_ia32_rdtsc(), took = now - p->since;
    p->since = now;
    if (took > JIT_OFTEN || (p->b->no_window >> p->insn & 1))
        return;
    p->b->no_window |= 1ull << p->insn;
    soft_jit_drop(vp, p->b);
}

/* A frame over two pages, for example: its places get windows of their own. */
void soft_jit_cool_stack(struct soft_vp *vp)
{
    uint64_t now = __builtin_ia32_rdtsc(), took = now - vp->stack_since;
    struct block *b = vp->stack_hot;
    vp->stack_since = now;
    vp->stack_misses = -JIT_MISSES;
    if (took > JIT_OFTEN || !b || !soft_jit_ready(b))
        return;
    b->own_windows = true;
    soft_jit_drop(vp, b);
}

void soft_jit_forget_calls(struct soft_vp *vp)
{
    for (unsigned n = 0; vp->ret_rings && n < 2 * SOFT_RETS; n++)
        vp->ret_rings[n] = (struct soft_ret){1ull << 63, vp->jit_cold}; /* safe to go to */
}

void soft_jit_ring_mode(struct soft_vp *vp, unsigned mode)
{
    if (vp->ret_mode[vp->ret_user] == mode)
        return;
    vp->ret_mode[vp->ret_user] = (uint8_t)mode;
    soft_jit_forget_calls(vp);
}

uint64_t soft_jit_memory(const struct soft_jit *j)
{
    return __atomic_load_n(&j->most, __ATOMIC_RELAXED);
}

static void note_memory(struct soft_jit *j)
{
    uint64_t now = sizeof *j + j->e.at + j->nfar * sizeof *j->far +
                   (uint64_t)j->nwin * (sizeof *j->win + sizeof *j->place);
    if (now > j->most)
        __atomic_store_n(&j->most, now, __ATOMIC_RELAXED);
}

void soft_jit_translate(struct soft_vp *vp, struct block *b)
{
    struct soft_jit *j = vp->jit;
    uint32_t before = j->e.at;
    uint32_t at = jit_block(j, vp, b);
    if (j->e.full) {
        j->e.full = false;
        j->e.at = before;
        vp->jit_full = true; /* the run loop empties the caches between blocks */
        return;
    }
    note_memory(j);
    b->code = at ? (void *)(j->rx + at) : (void *)(uintptr_t)SOFT_JIT_NEVER;
    if (at)
        note_in_map(j, vp, at);
}

/* A dead block's first bytes become a jump to its own way out (the attention stub, right behind the
 * head's compare and branch; see jit_block). */
void soft_jit_drop(struct soft_vp *vp, struct block *b)
{
    struct soft_jit *j = vp->jit;
    if (!soft_jit_ready(b)) {
        b->code = NULL;
        return;
    }
    uint32_t at = (uint32_t)((uint8_t *)b->code - j->rx);
    uint32_t out;
    memcpy(&out, j->rw + at - 4, 4); /* offset of the way out */
    uint32_t rel = out - (at + 5);
    j->rw[at] = 0xe9;
    memcpy(j->rw + at + 1, &rel, 4);
    b->code = NULL;
}

/* cmp dword [r15 + disp32], imm8; jne rel32 (see head() in translate.c) */
void *soft_jit_past_head(const struct block *b)
{
    uint8_t *code = b->code;
    return soft_jit_ready(b) && code[0] == 0x41 && code[1] == 0x83 && code[8] == 0x0f ? code + 14
                                                                                      : NULL;
}

void soft_jit_drop_all(struct soft_vp *vp)
{
    struct soft_jit *j = vp->jit;
    if (!j)
        return;
    note_memory(j);
    j->e.at = j->first;
    j->e.full = false;
    j->nfar = 0;
    soft_jit_close_windows(vp);
    j->nwin = 0;
    vp->jit_hot = NULL;
    vp->stack_hot = NULL;
    vp->jit_link = 0;
    vp->jit_far = NULL;
    vp->jit_full = false;
}

/* A far jump that left, for b if no event came between: true of b and vp->rip in any case. */
static void link_far(struct soft_vp *vp, struct jit_far *f, const struct block *b)
{
    struct soft_jit *j = vp->jit;
    uint8_t *code = b->code;
    if (vp->rip >> 63 != f->half)
        return;
    if (f->code != code)
        e_patch(&j->e, f->rel_at, (uint32_t)(code - j->rx));
    f->lin = vp->rip;
    f->key = vp->jump_key[f->half];
    f->code = code;
}

void soft_jit_link(struct soft_vp *vp, struct block *b)
{
    struct soft_jit *j = vp->jit;
    struct jit_link link;
    if (!soft_jit_ready(b))
        return;
    if (vp->jit_far) {
        link_far(vp, vp->jit_far, b);
        vp->jit_far = NULL;
    }
    if (!vp->jit_link)
        return;
    memcpy(&link, j->rw + vp->jit_link, sizeof link);
    vp->jit_link = 0;
    if (link.phys == b->phys && link.mode == b->mode) /* no event came between */
        e_patch(&j->e, link.rel_at, (uint32_t)((uint8_t *)b->code - j->rx));
}
