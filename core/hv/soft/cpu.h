/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The state of one software virtual processor and what instruction handlers use: registers, flags,
 * exceptions. Memory access is in access.h. Everything belongs to the VP's thread, but for `attn`
 * and the fields named below it. Source: Intel SDM vol. 2 and 3, AMD APM vol. 2.
 */
#ifndef VIREO_HV_SOFT_CPU_H
#define VIREO_HV_SOFT_CPU_H

#include <setjmp.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>

#include "core/hv/backend.h"
#include "core/hv/soft/insn.h"

#define SOFT_LIKELY(x) __builtin_expect(!!(x), 1)
#define SOFT_UNLIKELY(x) __builtin_expect(!!(x), 0)

struct soft;
struct block;
struct soft_lapic;

/* The FXSAVE image in 64-bit form (SDM vol. 1, table 10-2). st[] is in stack order (st[0] = ST(0))
 * as in FXSAVE; ftw is the abridged tag word. */
struct soft_fx {
    uint16_t fcw, fsw;
    uint8_t ftw, reserved0;
    uint16_t fop;
    uint64_t fip, fdp;
    uint32_t mxcsr, mxcsr_mask;
    uint8_t st[8][16];
    uint8_t xmm[16][16];
    uint8_t reserved1[96];
};
_Static_assert(sizeof(struct soft_fx) == 512, "FXSAVE image");

/*
 * Arithmetic flags as the host gives them: LAHF's AH in the high byte (SF 15, ZF 14, AF 12, PF 10,
 * CF 8), OF in bit 0. The other flags are in soft_vp.eflags, whose arithmetic bits are always 0.
 */
enum { ST_OF = 1, ST_CF = 0x100, ST_PF = 0x400, ST_AF = 0x1000, ST_ZF = 0x4000, ST_SF = 0x8000 };

enum {
    FL_CF = 1,
    FL_PF = 4,
    FL_AF = 0x10,
    FL_ZF = 0x40,
    FL_SF = 0x80,
    FL_TF = 0x100,
    FL_IF = 0x200,
    FL_DF = 0x400,
    FL_OF = 0x800,
    FL_IOPL = 0x3000,
    FL_NT = 0x4000,
    FL_RF = 0x10000,
    FL_VM = 0x20000,
    FL_AC = 0x40000,
    FL_VIF = 0x80000,
    FL_VIP = 0x100000,
    FL_ID = 0x200000,
    FL_ARITH = FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF,
};

enum {
    CR0_PE = 1,
    CR0_MP = 2,
    CR0_EM = 4,
    CR0_TS = 8,
    CR0_ET = 16,
    CR0_NE = 32,
    CR0_WP = 1 << 16,
    CR0_AM = 1 << 18,
    CR0_NW = 1 << 29,
    CR0_CD = 1 << 30,
};
#define CR0_PG 0x80000000u
enum {
    CR4_VME = 1,
    CR4_PVI = 2,
    CR4_TSD = 4,
    CR4_DE = 8,
    CR4_PSE = 0x10,
    CR4_PAE = 0x20,
    CR4_MCE = 0x40,
    CR4_PGE = 0x80,
    CR4_PCE = 0x100,
    CR4_OSFXSR = 0x200,
    CR4_OSXMMEXCPT = 0x400,
    CR4_UMIP = 0x800,
    CR4_FSGSBASE = 0x10000,
    CR4_PCIDE = 0x20000,
    CR4_OSXSAVE = 0x40000,
    CR4_SMEP = 0x100000,
    CR4_SMAP = 0x200000,
};
enum { EFER_SCE = 1, EFER_LME = 0x100, EFER_LMA = 0x400, EFER_NXE = 0x800, EFER_FFXSR = 0x4000 };

enum soft_vector {
    EXC_DE = 0,
    EXC_DB = 1,
    EXC_NMI = 2,
    EXC_BP = 3,
    EXC_OF = 4,
    EXC_BR = 5,
    EXC_UD = 6,
    EXC_NM = 7,
    EXC_DF = 8,
    EXC_TS = 10,
    EXC_NP = 11,
    EXC_SS = 12,
    EXC_GP = 13,
    EXC_PF = 14,
    EXC_MF = 16,
    EXC_AC = 17,
    EXC_MC = 18,
    EXC_XM = 19,
};

/* One entry of the software TLB: a page's linear address plus the generation if it may be read
 * (written) without further checks, else SOFT_TLB_NONE; host = addend + linear. */
struct soft_tlbe {
    uint64_t rtag, wtag;
    uint64_t addend;
    uint64_t meta; /* physical page | SOFT_TLB_* */
};
enum { SOFT_TLB_BITS = 10, SOFT_TLB_SIZE = 1 << SOFT_TLB_BITS };
#define SOFT_TLB_NONE (~(uint64_t)0)

/* Which view of the pages an access has. */
enum soft_mmu { SOFT_MMU_KERNEL, SOFT_MMU_KERNEL_USER, SOFT_MMU_USER, SOFT_MMU_KINDS };

/* Where linear addresses lead: found again when the key is that of the address's half. */
struct soft_jump {
    uint64_t lin, key;
    struct block *b; /* NULL or of this cache, perhaps dropped */
    void *code;      /* to be jumped at by translated code */
};
/* A call made by translated code: where its return goes on (jit.h). */
struct soft_ret {
    uint64_t lin;
    void *code;
};
/* The page that translated code last saw on the stack. limit[i] is one more than the greatest
 * offset in the page at which SOFT_SPAN * (i + 1) bytes fit, or 0 while the window is closed. */
enum { SOFT_SPAN = 4, SOFT_SPANS = 32, SOFT_OPEN_WINDOWS = 512 };
struct soft_stack_win {
    uint64_t page, host, addend, limit[SOFT_SPANS];
};
enum { SOFT_RETS = 16 }; /* in a ring of 256 bytes, aligned so */
enum { SOFT_JUMP_BITS = 13, SOFT_JUMP_SIZE = 1 << SOFT_JUMP_BITS };

struct soft_fetch { /* instruction TLB */
    uint64_t lin, key, phys;
    const uint8_t *host;
};
enum { SOFT_FETCH_SIZE = 128 };

/* Code size and what else decides how bytes decode (the low bits of a block's key). */
enum soft_mode {
    SOFT_MODE16,
    SOFT_MODE32,
    SOFT_MODE64,
    SOFT_MODE_SIZE = 3,
    SOFT_MODE_SINGLE = 4,
    SOFT_MODE_USER = 8,
    SOFT_MODE_FLAT = 16, /* 32-bit code whose CS, DS, ES and SS are all of the address space */
    SOFT_MODE_BLOCK = SOFT_MODE_SIZE | SOFT_MODE_SINGLE | SOFT_MODE_USER | SOFT_MODE_FLAT
};

enum soft_attn { /* why the VP must look up from its work at the next block end */
                 ATTN_KICK = 1,
                 ATTN_INTR = 2,
                 ATTN_NMI = 4,
                 ATTN_INIT = 8,
                 ATTN_SIPI = 16,
                 ATTN_EXTINT = 32,
                 ATTN_CODE = 64, /* decoded code was overwritten by someone else */
                 ATTN_TLB = 128, /* drop all translations */
                 ATTN_SELF =
                     256, /* set by this VP: interrupt flag, shadow or trace state changed */
};

struct soft_vp {
    /* Offsets of these are in struct insn, hence below 256. */
    uint64_t gpr[HV_GPR_COUNT];
    uint64_t zero;      /* always 0 */
    uint64_t block_rip; /* rip of the running block's first instruction */
    struct hv_segment seg[HV_SEG_COUNT];

    uint64_t rip;    /* valid between blocks only; within: block_rip + insn.off */
    uint16_t status; /* ST_* */
    uint8_t cpl;
    uint8_t code;         /* SOFT_MODE16, 32 or 64 */
    uint32_t eflags;      /* all but the arithmetic flags; bit 1 set */
    uint64_t stack_mask;  /* 0xffff, 0xffffffff or all ones */
    uint8_t seg_read[6];  /* 1: any offset below 4 GiB may be read (flat limit) */
    uint8_t seg_write[6]; /* the same for writing */
    uint8_t fpu_gate;     /* 0: SSE may run unchecked */
    uint8_t mmu;          /* enum soft_mmu */

    uint64_t tlb_gen;       /* 1..4095 */
    struct soft_tlbe *tlb;  /* of the current mmu kind */
    struct soft_jump *jump; /* SOFT_JUMP_SIZE */
    /* For linear addresses whose top bit is 0, 1: generation << 8 | mode. A CR3 write need not
     * concern the upper half: see soft_flush_tlb. */
    uint64_t jump_key[2];
    const struct insn *cur; /* set by slow paths: the instruction at work */
    uint64_t icount;
    _Atomic uint32_t attn;

    alignas(16) struct soft_fx fx;

    uint64_t cr0, cr2, cr3, cr4, xcr0;
    uint64_t dr[4], dr6, dr7;
    struct hv_table gdtr, idtr;
    uint64_t efer, star, lstar, cstar, sfmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_eip, sysenter_esp;
    uint64_t pat, tsc_aux, misc_enable, spec_ctrl, debugctl, tsc_adjust, tsc_offset;
    uint64_t mtrr_def_type, mtrr_fixed[11], mtrr_base[8], mtrr_mask[8];
    uint64_t pdpte[4]; /* PAE paging: loaded by CR3 writes */

    /* Events. */
    bool exc_pending, exc_has_error;
    bool delivering; /* an exception or interrupt is being delivered */
    uint8_t exc_vector, deliver_vector;
    uint32_t exc_error;
    bool entered; /* the instruction at work entered a handler */
    bool stopped; /* by soft_stop: the run ends */
    bool held;    /* an interrupt or NMI may wait that could not be delivered at the last look */
    bool nmi_blocked;
    uint8_t nmi_pending; /* 0 to 2 */
    bool taken;          /* an interrupt that a restored state has in delivery already */
    uint8_t taken_vector;
    unsigned pauses;     /* PAUSEs since the last yield */
    uint64_t far_sp;     /* scratch of far calls */
    uint8_t shadow;      /* 1 STI, 2 MOV SS: holds for one instruction */
    uint8_t activity;    /* enum hv_activity */
    uint64_t db_pending; /* DR6 bits of traps met by the instruction at work */
    uint64_t db_saved;   /* the same, held off by MOV SS */
    uint8_t ext; /* EXT of error codes: an event that no INT n asked for is being delivered */
    jmp_buf fault;

    /* Translated code (jit.h). */
    struct soft_jit *jit; /* NULL: interpret only */
    void (*jit_enter)(struct soft_vp *vp, void *code);
    void *jit_cold; /* what translated code jumps to where a block has no code */
    uint64_t jit_link, jit_tmp, jit_key;
    /* Windows (jit-internal.h): the stack's for CPL 0 to 2 and for 3, and those that places in code
     * have open. */
    struct soft_stack_win stack_win[2];
    uint64_t win_count;
    struct jit_win *win_open[SOFT_OPEN_WINDOWS];
    struct jit_win *jit_win;    /* being opened */
    struct jit_win *jit_hot;    /* missed often, or NULL */
    struct block *stack_hot;    /* where CPL 3's stack window missed last */
    int32_t stack_misses;       /* counts up to 0 */
    uint64_t stack_since;       /* the host's time stamp when it began to */
    uint64_t win_written[64];   /* filter: pages by number modulo 4096 that windows may write to */
    uint8_t stack_view;         /* enum soft_mmu in which the stack's window for CPL 0 to 2 opens */
    struct jit_far *jit_far;    /* after an exit by a jump to another page */
    struct soft_ret *ret_top;   /* newest entry of the ring in use ... */
    struct soft_ret *ret_other; /* ... and of the other: CPL 3 and the rest have one each */
    struct soft_ret *ret_rings; /* both */
    bool ret_user;
    uint8_t ret_mode[2]; /* of the code in the ring for CPL 3, in the one for the rest */
    uint32_t jit_mxcsr;  /* the host's */
    uint32_t jit_after;  /* runs before a block is translated */
    bool jit_beyond;     /* blocks go on beyond any conditional jump: for tests */
    bool jit_resume, jit_full;
    uint8_t jit_fpu; /* what of the guest's FPU is in the host's registers (jit-internal.h) */

    struct soft_check *check; /* check.h; NULL but in tests */
    bool checking;            /* a block is interpreted whose writes are to be noted */

    struct soft *soft;
    unsigned index;
    struct soft_lapic *lapic;
    struct soft_mmu_state *mmu_state;
    struct soft_cache *cache; /* decoded blocks */
    struct hv_exit *exit;
    struct hv_vp_stats stats;
};

_Static_assert(offsetof(struct soft_vp, seg) + sizeof(struct hv_segment) * HV_SEG_COUNT <= 272 &&
                   offsetof(struct soft_vp, seg) + sizeof(struct hv_segment) * HV_GS < 256,
               "offsets in insn are bytes");

/* Goes on to the next instruction of the block: the last thing an integer handler does. */
#define SOFT_BODY __attribute__((noinline))
#define SOFT_NEXT(vp, i) return (i)[1].fn((vp), (i) + 1)

#define SOFT_REG(type, vp, o) (*(type *)((char *)(vp) + (o)))

static inline uint64_t soft_jump_key(const struct soft_vp *vp, uint64_t lin)
{
    return vp->jump_key[lin >> 63];
}

static inline uint64_t soft_insn_rip(const struct soft_vp *vp, const struct insn *i)
{
    return vp->block_rip + i->off;
}

static inline bool soft_long_mode(const struct soft_vp *vp)
{
    return vp->efer & EFER_LMA;
}

static inline bool soft_canonical(uint64_t lin)
{
    return (uint64_t)((int64_t)(lin << 16) >> 16) == lin;
}

static inline bool soft_protected(const struct soft_vp *vp) /* and not virtual-8086 */
{
    return (vp->cr0 & CR0_PE) && !(vp->eflags & FL_VM);
}

/* What others read of a running VP, and only its thread writes. */
static inline void soft_count(struct soft_vp *vp, enum hv_exit_count kind)
{
    __atomic_store_n(&vp->stats.exits[kind], vp->stats.exits[kind] + 1, __ATOMIC_RELAXED);
}
static inline void soft_count_insns(struct soft_vp *vp, int64_t n)
{
    __atomic_store_n(&vp->icount, vp->icount + (uint64_t)n, __ATOMIC_RELAXED);
}

/* RFLAGS as the guest sees them, and the arithmetic part of them set. */
static inline uint64_t soft_rflags(const struct soft_vp *vp)
{
    return vp->eflags | (vp->status >> 8) | ((uint32_t)(vp->status & 1) << 11);
}

static inline void soft_set_arith(struct soft_vp *vp, uint64_t fl)
{
    vp->status = (uint16_t)((fl & 0xd5) << 8 | (fl >> 11 & 1));
}

/*
 * Exceptions of the instruction at work: they do not return. The state must be as before the
 * instruction (faults). rip is found from `i`, or is already right if i is NULL.
 */
_Noreturn void soft_raise(struct soft_vp *vp, const struct insn *i, unsigned vector);
_Noreturn void soft_raise_error(struct soft_vp *vp, const struct insn *i, unsigned vector,
                                uint32_t error);

/* x87 errors are delivered by the next waiting instruction: true if one is unmasked and pending. */
static inline bool soft_x87_pending(const struct soft_vp *vp)
{
    return vp->fx.fsw & ~vp->fx.fcw & 0x3f;
}

#endif
