/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The integer handlers by table, for the decoder. Sizes index 0-3: 8, 16, 32, 64 bits. Forms: `rr`
 * reg op rm, `rm` reg op memory, `mr` memory op reg, `ri` reg op immediate, `mi` memory op
 * immediate, `r` and `m` the one operand in rm.
 */
#ifndef VIREO_HV_SOFT_OPS_H
#define VIREO_HV_SOFT_OPS_H

#include "core/hv/soft/insn.h"

enum { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP, ALU_TEST, ALU_OPS };
extern insn_fn *const soft_alu_rr[ALU_OPS][4],
    *const soft_alu_rm[ALU_OPS][4], *const soft_alu_mr[ALU_OPS][4],
                                        *const soft_alu_ri[ALU_OPS][4],
                                            *const soft_alu_mi[ALU_OPS][4],
                                                *const soft_alu_mr_lock[ALU_OPS][4],
                                                    *const soft_alu_mi_lock[ALU_OPS][4];

enum { UN_INC, UN_DEC, UN_NOT, UN_NEG, UN_OPS };
extern insn_fn *const soft_un_r[UN_OPS][4], *const soft_un_m[UN_OPS][4],
                                                *const soft_un_m_lock[UN_OPS][4];

/* Group 2 order: ROL ROR RCL RCR SHL SHR SAL SAR; `c` counts by CL, `i` by imm8. */
extern insn_fn *const soft_sh_ri[8][4], *const soft_sh_rc[8][4], *const soft_sh_mi[8][4],
                                                                     *const soft_sh_mc[8][4];
extern insn_fn *const soft_shd_ri[2][4],
    *const soft_shd_rc[2][4], *const soft_shd_mi[2][4], *const soft_shd_mc[2][4]; /* SHLD, SHRD */

/* MUL IMUL DIV IDIV. */
extern insn_fn *const soft_mul_r[4][4], *const soft_mul_m[4][4];
extern insn_fn *const soft_imul_rr[4], *const soft_imul_rm[4], *const soft_imul_rri[4],
                                                                   *const soft_imul_rmi[4];

/* BT BTS BTR BTC. */
extern insn_fn *const soft_bt_rr[4][4],
    *const soft_bt_ri[4][4], *const soft_bt_mr[4][4], *const soft_bt_mi[4][4],
                                                          *const soft_bt_mr_lock[4][4],
                                                              *const soft_bt_mi_lock[4][4];
enum { BIT_BSF, BIT_BSR, BIT_POPCNT, BIT_OPS };
extern insn_fn *const soft_bit_rr[BIT_OPS][4], *const soft_bit_rm[BIT_OPS][4];
extern insn_fn *const soft_crc32_rr[4], *const soft_crc32_rm[4];

extern insn_fn *const soft_xchg_rr[4], *const soft_xchg_mr[4];
extern insn_fn *const soft_xadd_rr[4], *const soft_xadd_mr[4], *const soft_xadd_mr_lock[4];
extern insn_fn *const soft_cmpxchg_rr[4], *const soft_cmpxchg_mr[4], *const soft_cmpxchg_mr_lock[4];
insn_fn soft_op_cmpxchg8b, soft_op_cmpxchg16b;

/* Moves. */
extern insn_fn *const soft_mov_rr[4],
    *const soft_mov_rm[4], *const soft_mov_mr[4], *const soft_mov_ri[4], *const soft_mov_mi[4];
/* MOV with a 64-bit offset in imm; an access by an operation that changes nothing (a shift by 0).
 */
extern insn_fn *const soft_mov_from_moffs[4], *const soft_mov_to_moffs[4], *const soft_touch[4];
insn_fn soft_op_zero_upper; /* of a 32-bit register in rm */
extern insn_fn *const soft_movzx_rr[2][4], *const soft_movzx_rm[2][4]; /* [from 8, 16][to] */
extern insn_fn *const soft_movsx_rr[3][4], *const soft_movsx_rm[3][4]; /* [from 8, 16, 32][to] */
extern insn_fn *const soft_lea[4];
extern insn_fn *const soft_cmov_rr[16][4], *const soft_cmov_rm[16][4];
extern insn_fn *const soft_set_r[16], *const soft_set_m[16];
extern insn_fn *const soft_bswap[4];
insn_fn soft_op_nop, soft_op_pause, soft_op_cbw, soft_op_cwde, soft_op_cdqe, soft_op_cwd,
    soft_op_cdq, soft_op_cqo, soft_op_sahf, soft_op_lahf, soft_op_salc, soft_op_xlat, soft_op_cmc,
    soft_op_clc, soft_op_stc, soft_op_cld, soft_op_std, soft_op_daa, soft_op_das, soft_op_aaa,
    soft_op_aas, soft_op_aam, soft_op_aad, soft_op_fence, soft_op_clflush;

/* Stack; index 1-3: operand size 16, 32, 64. */
extern insn_fn *const soft_push_r[4],
    *const soft_push_i[4], *const soft_push_m[4],
                               *const soft_pop_r[4],
                                   *const soft_pop_m[4],
                                       *const soft_pushf[4],
                                           *const soft_popf[4],
                                               *const soft_pusha[4],
                                                   *const soft_popa[4],
                                                       *const soft_leave[4],
                                                           *const soft_enter[4],
                                                               *const soft_push_seg[4],
                                                                   *const soft_pop_seg[4];

/* Near branches; the target's displacement from the block's start is in imm. */
extern insn_fn *const soft_jcc[16], *const soft_jcc_legacy[16];
/* In the midst of a block: on to the next instruction unless taken; disp: how many follow it. The
 * target lies within the code segment. Of any jump that the next one is the target of. */
extern insn_fn *const soft_jcc_mid[16];
insn_fn soft_op_jmp_mid;
insn_fn soft_op_jmp, soft_op_jmp_legacy, soft_op_call64, soft_op_ret64, soft_op_ret64_imm,
    soft_op_jmp_r64, soft_op_jmp_m64, soft_op_call_r64, soft_op_call_m64;
extern insn_fn *const soft_call_rel[4],
    *const soft_ret[4], *const soft_jmp_r[4], *const soft_jmp_m[4], *const soft_call_r[4],
                                                                        *const soft_call_m[4];
insn_fn soft_op_loop; /* imm8: 0 LOOPNE, 1 LOOPE, 2 LOOP, 3 JCXZ */

/* String instructions: [MOVS CMPS STOS LODS SCAS][size], with or without a repeat prefix. */
enum { STR_MOVS, STR_CMPS, STR_STOS, STR_LODS, STR_SCAS, STR_INS, STR_OUTS, STR_OPS };
extern insn_fn *const soft_str[STR_OPS][4], *const soft_str_rep[STR_OPS][4];

/* Segments and far control transfer. */
insn_fn soft_op_mov_sreg, soft_op_mov_from_sreg, soft_op_mov_from_sreg_m, soft_op_lseg,
    soft_op_far_jmp, soft_op_far_call, soft_op_far_jmp_m, soft_op_far_call_m, soft_op_retf,
    soft_op_iret, soft_op_int, soft_op_int3, soft_op_into, soft_op_int1, soft_op_bound,
    soft_op_arpl, soft_op_lar, soft_op_lsl, soft_op_grp6;

/* System. */
insn_fn soft_op_ud, soft_op_hlt, soft_op_cli, soft_op_sti, soft_op_sti_last, soft_op_in,
    soft_op_out, soft_op_cpuid, soft_op_rdtsc, soft_op_rdtscp, soft_op_rdpmc, soft_op_rdmsr,
    soft_op_wrmsr, soft_op_syscall, soft_op_sysret, soft_op_sysenter, soft_op_sysexit,
    soft_op_mov_cr, soft_op_mov_to_cr, soft_op_mov_dr, soft_op_mov_to_dr, soft_op_clts,
    soft_op_invd, soft_op_lgdt, soft_op_lidt, soft_op_sgdt, soft_op_sidt, soft_op_smsw,
    soft_op_smsw_m, soft_op_lmsw, soft_op_invlpg, soft_op_swapgs, soft_op_clac, soft_op_stac,
    soft_op_vmcall, soft_op_rdrand, soft_op_rsm, soft_op_fsgsbase, soft_op_fwait, soft_op_rdpid,
    soft_op_gp;

/* Vector gates, by enum vec_class. */
extern insn_fn *const soft_vec_gate[6];

#endif
