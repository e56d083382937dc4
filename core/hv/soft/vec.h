/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Where x87, MMX, SSE and AES/PCLMUL operations plug into the decoder. The decoder parses prefixes,
 * modrm, SIB and displacement, asks one of the look-ups which operation the bytes name, reads the
 * immediate if the operation has one, and makes an insn with fn = the class's gate and vec = the
 * operation.
 *
 * An operation is a plain insn_fn: it does its work on vp->fx, the GPRs and memory, and returns (it
 * does not go on to the next instruction). insn.reg and insn.rm are register numbers with REX
 * applied; memory operands have INSN_MEM set and their address is soft_ea(vp, i). Faults leave by
 * soft_raise*() (longjmp): nothing guest-visible may be changed before the last possible fault. The
 * gate has already checked CR0.EM/TS and CR4.OSFXSR (#UD, #NM) and pending x87 errors (#MF) for the
 * class. Undefined encodings: return NULL, the decoder makes it #UD.
 */
#ifndef VIREO_HV_SOFT_VEC_H
#define VIREO_HV_SOFT_VEC_H

#include "core/hv/soft/insn.h"

enum vec_class {
    VEC_SSE,       /* needs OSFXSR, not EM, not TS */
    VEC_MMX,       /* needs not EM, not TS; #MF if an x87 error is pending */
    VEC_X87,       /* #NM on EM or TS; #MF if an x87 error is pending */
    VEC_X87_QUIET, /* the no-wait forms (FNINIT, FNSTSW, FNCLEX, FNSTCW, FNSTENV, FNSAVE) */
    VEC_FXSR,      /* FXSAVE, FXRSTOR: #UD on LOCK only, #NM on EM or TS */
    VEC_PLAIN,     /* no check: CRC32, prefetches ... */
};

struct vec_op {
    insn_fn *fn;
    uint8_t cls;  /* enum vec_class */
    uint8_t imm8; /* 1: an immediate byte follows */
};

enum vec_map { VEC_MAP_0F, VEC_MAP_0F38, VEC_MAP_0F3A };
enum vec_prefix { VEC_NP, VEC_66, VEC_F3, VEC_F2 }; /* mandatory prefix; F2/F3 win over 66 */

struct vec_bytes {
    enum vec_map map;
    enum vec_prefix prefix;
    uint8_t opcode;
    uint8_t modrm; /* as encoded */
    bool rexw;
    bool long_mode; /* 64-bit code */
    bool opsz;      /* a 66 prefix is present, whatever `prefix` says */
};

/*
 * 0F xx, 0F38 xx, 0F3A xx. The integer decoder asks only for: 0F 10-17, 28-2F, 50-7F, C2, C4-C6,
 * D0-FF (77 EMMS comes with modrm 0), 0F AE /0-/3 with memory (FXSAVE, FXRSTOR, LDMXCSR, STMXCSR),
 * all of 0F38 and 0F3A but CRC32 and MOVBE, which the integer part does itself.
 */
const struct vec_op *soft_vec_lookup(const struct vec_bytes *v);

/* D8-DF. */
const struct vec_op *soft_x87_lookup(uint8_t opcode, uint8_t modrm);

#endif
