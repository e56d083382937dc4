/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/hv/soft/jit.h"

#include <stdio.h>
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

/* J_ADDR = where the guest goes: straight to its code if the look-up table knows it. */
static void make_indirect(struct soft_jit *j)
{
    struct emit *e = &j->e;
    uint32_t miss[3];
    j->indirect = e->at;
    e_mov_rr(e, J_TMP, J_ADDR);
    e_shift_imm(e, 1, 5, J_TMP, SOFT_JUMP_BITS);
    e_alu_rm(e, 1, E_XOR, J_TMP, e_reg(J_ADDR));
    e_alu_imm(e, 0, E_AND, e_reg(J_TMP), SOFT_JUMP_SIZE - 1);
    e_shift_imm(e, 0, 4, J_TMP, 5);
    e_alu_rm(e, 1, E_ADD, J_TMP, e_mem(J_VP, VP(jump)));
    e_alu_rm(e, 1, E_CMP, J_ADDR, e_mem(J_TMP, (int32_t)offsetof(struct soft_jump, lin)));
    miss[0] = e_jcc(e, E_CC_NE);
    e_load(e, J_TMP2, J_VP, VP(jump_key));
    e_alu_rm(e, 1, E_CMP, J_TMP2, e_mem(J_TMP, (int32_t)offsetof(struct soft_jump, key)));
    miss[1] = e_jcc(e, E_CC_NE);
    e_load(e, J_TMP, J_TMP, (int32_t)offsetof(struct soft_jump, b));
    e_load(e, J_TMP, J_TMP, (int32_t)offsetof(struct block, code));
    e_alu_imm(e, 1, E_CMP, e_reg(J_TMP), SOFT_JIT_NEVER);
    miss[2] = e_jcc(e, E_CC_BE);
    e_mov_rr(e, J_TMP2, J_ADDR);
    e_alu_imm(e, 1, E_AND, e_reg(J_TMP2), -4096);
    e_store(e, J_VP, VP(block_rip), J_TMP2);
    e_op_rm(e, 0, 0, 0xff, 4, e_reg(J_TMP));
    for (unsigned i = 0; i < 3; i++)
        e_patch(e, miss[i], e->at);
    e_store(e, J_VP, VP(rip), J_ADDR);
    e_op_rm(e, 0, 0, 0xc7, 0, e_mem(J_VP, VP(jit_link)));
    e32(e, 0);
    e_jmp_to(e, j->exit);
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

static void make_thunks(struct soft_jit *j)
{
    j->e.at = 16;
    make_save_fpu(j);
    make_load_vec(j);
    make_load_all(j);
    make_enter(j);
    make_exit(j);
    make_bail(j);
    make_indirect(j);
    make_call(j);
    j->first = j->e.at;
}

struct soft_jit *soft_jit_new(struct soft_vp *vp, uint32_t bytes, bool exact)
{
    struct soft_jit *j = calloc(1, sizeof *j);
    AUTO(fd) fd = memfd_create("vireo-code", MFD_CLOEXEC);
    if (!j || fd < 0 || ftruncate(fd, bytes) < 0) {
        free(j);
        return NULL;
    }
    j->size = bytes;
    j->exact = exact;
    j->rw = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    j->rx = mmap(NULL, bytes, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    if (j->rw == MAP_FAILED || j->rx == MAP_FAILED) {
        soft_jit_free(j);
        return NULL;
    }
    j->e = (struct emit){.base = j->rw, .end = bytes};
    make_thunks(j);
    vp->jit_mxcsr = 0x1f80;
    vp->jit_enter = (void (*)(struct soft_vp *, void *))(uintptr_t)(j->rx + j->enter);
    return j;
}

void soft_jit_free(struct soft_jit *j)
{
    if (!j)
        return;
    if (j->rw && j->rw != MAP_FAILED)
        munmap(j->rw, j->size);
    if (j->rx && j->rx != MAP_FAILED)
        munmap(j->rx, j->size);
    free(j);
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
    b->code = at ? (void *)(j->rx + at) : (void *)(uintptr_t)SOFT_JIT_NEVER;
    j->blocks += at != 0;
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

void soft_jit_drop_all(struct soft_vp *vp)
{
    struct soft_jit *j = vp->jit;
    if (!j)
        return;
    j->e.at = j->first;
    j->e.full = false;
    j->flushes++;
    vp->jit_link = 0;
    vp->jit_full = false;
}

void soft_jit_link(struct soft_vp *vp, struct block *b)
{
    struct soft_jit *j = vp->jit;
    struct jit_link link;
    if (!vp->jit_link || !soft_jit_ready(b))
        return;
    memcpy(&link, j->rw + vp->jit_link, sizeof link);
    vp->jit_link = 0;
    if (link.phys == b->phys && link.mode == b->mode) /* no event came between */
        e_patch(&j->e, link.rel_at, (uint32_t)((uint8_t *)b->code - j->rx));
}
