/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * x87: every arithmetic instruction is run by the host's own x87 unit on the guest's state, in one
 * asm block that loads the FXSAVE image, runs the very opcode and saves the image again. The host's
 * registers hold guest state only inside that block. An unmasked exception then is what it is on
 * the processor: a bit in the status word, met by the next waiting instruction, so the host sees no
 * signal. Environment loads and stores are done on the image. Source: Intel SDM vol. 1, chapter 8.
 */
#include "core/hv/soft/x87.h"

#include "core/hv/soft/access.h"
#include "core/hv/soft/vec.h"

/*
 * The thunks: four bytes an entry. x87_reg_thunks[opcode & 7][modrm & 63]: the register forms;
 * x87_mem_thunks[opcode & 7][reg]: the memory forms on (%rdi). Entries of undefined encodings are
 * never called (see the look-up).
 */
__asm__(".section .text\n"
        ".balign 16\n"
        "x87_reg_thunks:\n"
        ".set i, 0\n"
        ".rept 512\n"
        ".byte 0xd8 + (i >> 6), 0xc0 + (i & 63), 0xc3, 0xcc\n"
        ".set i, i + 1\n"
        ".endr\n"
        "x87_mem_thunks:\n"
        ".set i, 0\n"
        ".rept 64\n"
        ".byte 0xd8 + (i >> 3), ((i & 7) << 3) | 7, 0xc3, 0xcc\n"
        ".set i, i + 1\n"
        ".endr\n");
extern const uint8_t x87_reg_thunks[8][64][4], x87_mem_thunks[8][8][4];

enum { FSW_TOP = 0x3800, FSW_ES = 0x80, FSW_B = 0x8000 };
enum { HOST_MXCSR = 0x1f80 };

#define XMM_CLOBBERS                                                                         \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

/* Runs a thunk on the guest's x87 state. `status`: flags in and out, as soft_vp.status. */
static uint16_t run(struct soft_fx *fx, const uint8_t *thunk, void *mem, uint16_t status)
{
    uint32_t host = HOST_MXCSR;
    uint64_t ax = status;
    __asm__ volatile("lea -128(%%rsp), %%rsp\n"
                     "fxrstor64 (%[fx])\n"
                     "add $0x7f, %%al\n" /* OF from bit 0 */
                     "sahf\n"
                     "call *%[thunk]\n"
                     "lahf\n"
                     "seto %%al\n"
                     "fxsave64 (%[fx])\n"
                     "fninit\n"
                     "lea 128(%%rsp), %%rsp\n"
                     "ldmxcsr %[host]\n"
                     : "+a"(ax), "+D"(mem)
                     : [fx] "r"(fx), [thunk] "r"(thunk), [host] "m"(host)
                     : "memory", "cc", XMM_CLOBBERS);
    return (uint16_t)ax;
}

/* Instruction pointer and opcode of the last non-control instruction. */
static void note(struct soft_vp *vp, const struct insn *i, unsigned op, uint64_t fip, uint64_t fdp)
{
    struct soft_fx *fx = &vp->fx;
    fx->fip = fip;
    fx->fdp = fdp;
    fx->fop = (uint16_t)(op << 8 | i->modrm);
}

/* Segments are not kept, as CPUID.7.EBX[13] says. */
static uint64_t pointer(const struct soft_vp *vp, uint64_t offset)
{
    return vp->code == SOFT_MODE64 ? offset : (uint32_t)offset;
}

static uint64_t data_pointer(const struct soft_vp *vp, const struct insn *i)
{
    uint64_t offset = soft_offset(vp, i);
    if (i->ea & INSN_EA16)
        offset &= 0xffff;
    return pointer(vp, offset);
}

/* Undocumented aliases that every processor has run as their namesakes: DC D0 FCOM, DC D8 FCOMP, DD
 * C8 FXCH, DE D0 FCOMP, DF C8 FXCH, DF D0 and D8 FSTP. D9 D8 is an FSTP that forgives an empty
 * register. */
static const uint8_t *reg_thunk(unsigned op, uint8_t modrm)
{
    unsigned row = modrm & 0x38, st = modrm & 7;
    if ((op == 4 && (row == 0x10 || row == 0x18)) || (op == 6 && row == 0x10))
        return x87_reg_thunks[0][(op == 6 ? 0x18 : row) | st];
    if ((op == 5 || op == 7) && row == 0x08)
        return x87_reg_thunks[1][0x08 | st];
    if (op == 7 && (row == 0x10 || row == 0x18))
        return x87_reg_thunks[5][0x18 | st];
    return x87_reg_thunks[op][modrm & 63];
}

static void reg_form(struct soft_vp *vp, const struct insn *i, unsigned op)
{
    uint64_t fip = pointer(vp, soft_insn_rip(vp, i)), fdp = vp->fx.fdp;
    uint16_t status = run(&vp->fx, reg_thunk(op, i->modrm), NULL, vp->status);
    note(vp, i, op, fip, fdp);
    if ((op == 3 || op == 7) && (i->modrm & 63) >= 0x28 && (i->modrm & 63) < 0x38)
        vp->status = status; /* FCOMI and its kin */
}

/* Bytes of the memory operand by opcode and reg field; negative: written; 0: handled apart. */
static const int8_t mem_bytes[8][8] = {
    {4, 4, 4, 4, 4, 4, 4, 4},        /* D8 */
    {4, 0, -4, -4, 0, 0, 0, 0},      /* D9 */
    {4, 4, 4, 4, 4, 4, 4, 4},        /* DA */
    {4, -4, -4, -4, 0, 10, 0, -10},  /* DB */
    {8, 8, 8, 8, 8, 8, 8, 8},        /* DC */
    {8, -8, -8, -8, 0, 0, 0, 0},     /* DD */
    {2, 2, 2, 2, 2, 2, 2, 2},        /* DE */
    {2, -2, -2, -2, 10, 8, -10, -8}, /* DF */
};

static void mem_form(struct soft_vp *vp, const struct insn *i, unsigned op)
{
    unsigned reg = i->modrm >> 3 & 7;
    int bytes = mem_bytes[op][reg];
    bool store = bytes < 0;
    unsigned size = (unsigned)(store ? -bytes : bytes);
    uint64_t lin = soft_ea(vp, i, size, store);
    uint8_t buf[16] = {0};
    if (store)
        soft_probe_write(vp, i, lin, size);
    else
        soft_read(vp, i, lin, buf, size);
    uint64_t fip = pointer(vp, soft_insn_rip(vp, i)), fdp = data_pointer(vp, i);
    run(&vp->fx, x87_mem_thunks[op][reg], buf, 0);
    note(vp, i, op, fip, fdp);
    /* An unmasked invalid operation, overflow or underflow leaves the destination alone. */
    if (store && !(vp->fx.fsw & ~vp->fx.fcw & 0x19))
        soft_write(vp, i, lin, buf, size);
}

#define FORMS(n)                                                  \
    static void reg_##n(struct soft_vp *vp, const struct insn *i) \
    {                                                             \
        reg_form(vp, i, n);                                       \
    }                                                             \
    static void mem_##n(struct soft_vp *vp, const struct insn *i) \
    {                                                             \
        mem_form(vp, i, n);                                       \
    }
FORMS(0)
FORMS(1)
FORMS(2)
FORMS(3)
FORMS(4)
FORMS(5)
FORMS(6)
FORMS(7)

/* ---- control instructions, on the image ---- */

/* The error summary follows the flags and masks. */
static void summarize(struct soft_fx *fx)
{
    bool es = fx->fsw & ~fx->fcw & 0x3f;
    fx->fsw = (uint16_t)((fx->fsw & ~(FSW_ES | FSW_B)) | (es ? FSW_ES | FSW_B : 0));
}

void soft_x87_init(struct soft_fx *fx)
{
    unsigned top = fx->fsw >> 11 & 7;
    uint8_t regs[8][16];
    for (unsigned k = 0; k < 8; k++)
        memcpy(regs[(top + k) & 7], fx->st[k], 16);
    memcpy(fx->st, regs, sizeof(regs));
    fx->fcw = 0x37f;
    fx->fsw = 0;
    fx->ftw = 0;
    fx->fop = 0;
    fx->fip = fx->fdp = 0;
}

static void op_fninit(struct soft_vp *vp, const struct insn *i)
{
    soft_x87_init(&vp->fx);
}

static void op_fnclex(struct soft_vp *vp, const struct insn *i)
{
    vp->fx.fsw &= 0x7f00;
}

static void op_nop(struct soft_vp *vp, const struct insn *i)
{
}

static void op_fnstsw_ax(struct soft_vp *vp, const struct insn *i)
{
    memcpy(&vp->gpr[HV_RAX], &vp->fx.fsw, 2);
}

static void op_fnstsw(struct soft_vp *vp, const struct insn *i)
{
    soft_store16(vp, i, soft_ea(vp, i, 2, true), vp->fx.fsw);
}

static void op_fnstcw(struct soft_vp *vp, const struct insn *i)
{
    soft_store16(vp, i, soft_ea(vp, i, 2, true), vp->fx.fcw);
}

/* Bits 6, 7 and 13-15 are reserved: bit 6 reads as one, the others as zero. */
static uint16_t legal_fcw(uint16_t v)
{
    return (uint16_t)((v & 0x1f3f) | 0x40);
}

static void op_fldcw(struct soft_vp *vp, const struct insn *i)
{
    vp->fx.fcw = legal_fcw(soft_load16(vp, i, soft_ea(vp, i, 2, false)));
    summarize(&vp->fx);
}

/* The full tag of one register (SDM vol. 1, 8.1.7): 0 valid, 1 zero, 2 special, 3 empty. */
static unsigned full_tag(const uint8_t st[16])
{
    uint64_t m;
    uint16_t se;
    memcpy(&m, st, 8);
    memcpy(&se, st + 8, 2);
    se &= 0x7fff;
    if (se == 0)
        return m ? 2 : 1;
    if (se == 0x7fff || !(m >> 63))
        return 2;
    return 0;
}

static uint16_t full_tags(const struct soft_fx *fx)
{
    unsigned top = fx->fsw >> 11 & 7, tags = 0;
    for (unsigned r = 0; r < 8; r++) {
        unsigned t = fx->ftw & (1u << r) ? full_tag(fx->st[(r - top) & 7]) : 3;
        tags |= t << (2 * r);
    }
    return (uint16_t)tags;
}

/* The environment in its four layouts (SDM vol. 1, figures 8-9 to 8-12); returns its size. */
static unsigned put_env(const struct soft_vp *vp, bool wide, uint8_t *b)
{
    const struct soft_fx *fx = &vp->fx;
    bool prot = soft_protected(vp);
    uint16_t tags = full_tags(fx), fop = fx->fop & 0x7ff;
    uint32_t fip = (uint32_t)fx->fip, fdp = (uint32_t)fx->fdp;
    if (wide) {
        uint32_t e[7] = {0xffff0000u | fx->fcw, 0xffff0000u | fx->fsw, 0xffff0000u | tags};
        e[3] = prot ? fip : fip & 0xffff;
        e[4] = prot ? (uint32_t)fop << 16 : (fip >> 16) << 12 | fop;
        e[5] = prot ? fdp : fdp & 0xffff;
        e[6] = prot ? 0xffff0000u : (fdp >> 16) << 12;
        memcpy(b, e, sizeof(e));
        return sizeof(e);
    }
    uint16_t e[7] = {fx->fcw, fx->fsw, tags, (uint16_t)fip};
    e[4] = prot ? 0 : (uint16_t)((fip >> 16 & 15) << 12 | fop);
    e[5] = (uint16_t)fdp;
    e[6] = prot ? 0 : (uint16_t)((fdp >> 16 & 15) << 12);
    memcpy(b, e, sizeof(e));
    return sizeof(e);
}

static unsigned env_size(bool wide)
{
    return wide ? 28 : 14;
}

/* Registers stay where they are physically: st[] is rotated to the new top. */
static void set_fsw(struct soft_fx *fx, uint16_t fsw)
{
    unsigned old = fx->fsw >> 11 & 7, top = fsw >> 11 & 7;
    uint8_t regs[8][16];
    if (old != top) {
        for (unsigned k = 0; k < 8; k++)
            memcpy(regs[(old + k - top) & 7], fx->st[k], 16);
        memcpy(fx->st, regs, sizeof(regs));
    }
    fx->fsw = fsw;
}

static void get_env(struct soft_vp *vp, bool wide, const uint8_t *b)
{
    struct soft_fx *fx = &vp->fx;
    bool prot = soft_protected(vp);
    uint32_t e[7];
    if (wide) {
        memcpy(e, b, sizeof(e));
    } else {
        uint16_t n[7];
        memcpy(n, b, sizeof(n));
        for (int k = 0; k < 7; k++)
            e[k] = n[k];
    }
    set_fsw(fx, (uint16_t)e[1]);
    fx->fcw = legal_fcw((uint16_t)e[0]);
    fx->ftw = 0;
    for (unsigned r = 0; r < 8; r++)
        if ((e[2] >> (2 * r) & 3) != 3)
            fx->ftw |= (uint8_t)(1u << r);
    if (prot) {
        fx->fip = e[3];
        fx->fdp = e[5];
        fx->fop = wide ? e[4] >> 16 & 0x7ff : 0;
    } else {
        uint32_t high = wide ? 0x0ffff000u : 0xf000u;
        fx->fip = (e[3] & 0xffff) | (uint64_t)(e[4] & high) << 4;
        fx->fdp = (e[5] & 0xffff) | (uint64_t)(e[6] & high) << 4;
        fx->fop = e[4] & 0x7ff;
    }
    summarize(fx);
}

void soft_fx_normalize(struct soft_fx *fx)
{
    fx->fcw = legal_fcw(fx->fcw);
    fx->fop &= 0x7ff;
    for (unsigned k = 0; k < 8; k++)
        memset(fx->st[k] + 10, 0, 6);
    summarize(fx);
}

/* The operand size: 66 toggles the mode's, REX.W wins over it. */
static bool wide_env(const struct soft_vp *vp, const struct insn *i)
{
    return (i->flags & INSN_REXW) || (vp->code == SOFT_MODE16) == !!(i->flags & INSN_OPSZ);
}

static void op_fnstenv(struct soft_vp *vp, const struct insn *i)
{
    uint8_t b[28];
    unsigned n = put_env(vp, wide_env(vp, i), b);
    soft_write(vp, i, soft_ea(vp, i, n, true), b, n);
    vp->fx.fcw |= 0x3f;
    summarize(&vp->fx);
}

static void op_fldenv(struct soft_vp *vp, const struct insn *i)
{
    uint8_t b[28];
    bool wide = wide_env(vp, i);
    soft_read(vp, i, soft_ea(vp, i, env_size(wide), false), b, env_size(wide));
    get_env(vp, wide, b);
}

static void op_fnsave(struct soft_vp *vp, const struct insn *i)
{
    uint8_t b[108];
    unsigned n = put_env(vp, wide_env(vp, i), b);
    for (unsigned k = 0; k < 8; k++, n += 10)
        memcpy(b + n, vp->fx.st[k], 10);
    soft_write(vp, i, soft_ea(vp, i, n, true), b, n);
    soft_x87_init(&vp->fx);
}

static void op_frstor(struct soft_vp *vp, const struct insn *i)
{
    uint8_t b[108];
    bool wide = wide_env(vp, i);
    unsigned n = env_size(wide);
    soft_read(vp, i, soft_ea(vp, i, n + 80, false), b, n + 80);
    get_env(vp, wide, b);
    for (unsigned k = 0; k < 8; k++, n += 10) {
        memcpy(vp->fx.st[k], b + n, 10);
        memset(vp->fx.st[k] + 10, 0, 6);
    }
}

/* ---- look-up ---- */

static const struct vec_op reg_ops[8] = {
    {reg_0, VEC_X87, 0}, {reg_1, VEC_X87, 0}, {reg_2, VEC_X87, 0}, {reg_3, VEC_X87, 0},
    {reg_4, VEC_X87, 0}, {reg_5, VEC_X87, 0}, {reg_6, VEC_X87, 0}, {reg_7, VEC_X87, 0},
};
static const struct vec_op mem_ops[8] = {
    {mem_0, VEC_X87, 0}, {mem_1, VEC_X87, 0}, {mem_2, VEC_X87, 0}, {mem_3, VEC_X87, 0},
    {mem_4, VEC_X87, 0}, {mem_5, VEC_X87, 0}, {mem_6, VEC_X87, 0}, {mem_7, VEC_X87, 0},
};
static const struct vec_op fldenv = {op_fldenv, VEC_X87, 0}, fldcw = {op_fldcw, VEC_X87, 0},
                           frstor = {op_frstor, VEC_X87, 0}, nop = {op_nop, VEC_X87_QUIET, 0},
                           fnstenv = {op_fnstenv, VEC_X87_QUIET, 0},
                           fnsave = {op_fnsave, VEC_X87_QUIET, 0},
                           fnstcw = {op_fnstcw, VEC_X87_QUIET, 0},
                           fnstsw = {op_fnstsw, VEC_X87_QUIET, 0},
                           fnstsw_ax = {op_fnstsw_ax, VEC_X87_QUIET, 0},
                           fninit = {op_fninit, VEC_X87_QUIET, 0},
                           fnclex = {op_fnclex, VEC_X87_QUIET, 0};

static const struct vec_op *mem_lookup(unsigned op, unsigned reg)
{
    static const struct vec_op *const d9[8] = {NULL,    NULL,   NULL,     NULL,
                                               &fldenv, &fldcw, &fnstenv, &fnstcw};
    static const struct vec_op *const dd[8] = {NULL,    NULL, NULL,    NULL,
                                               &frstor, NULL, &fnsave, &fnstsw};
    if (mem_bytes[op][reg])
        return &mem_ops[op];
    return op == 1 ? d9[reg] : op == 5 ? dd[reg] : NULL;
}

/* Which of the 64 register forms exist: a bit each by modrm & 63. */
static const uint64_t reg_forms[8] = {
    0xffffffffffffffff, /* D8: all */
    0xffff7f33ff01ffff, /* D9: FLD FXCH FNOP (FSTP), FCHS FABS . . FTST FXAM, constants, F0-FF */
    0x00000200ffffffff, /* DA: FCMOVcc, FUCOMPP */
    0x00ffff00ffffffff, /* DB: FCMOVNcc, FUCOMI, FCOMI; controls apart */
    0xffffffffffffffff, /* DC: FADD FMUL (FCOM FCOMP) FSUBR FSUB FDIVR FDIV */
    0x0000ffffffffffff, /* DD: FFREE (FXCH) FST FSTP FUCOM FUCOMP */
    0xffffffff02ffffff, /* DE: FADDP FMULP (FCOMP) FCOMPP FSUBRP ... */
    0x00ffff00ffffffff, /* DF: FFREEP (FXCH FSTP FSTP), FUCOMIP FCOMIP; FNSTSW apart */
};

const struct vec_op *soft_x87_lookup(uint8_t opcode, uint8_t modrm)
{
    unsigned op = opcode & 7;
    if (modrm < 0xc0)
        return mem_lookup(op, modrm >> 3 & 7);
    if (op == 3 && modrm >= 0xe0 && modrm <= 0xe4)
        return modrm == 0xe2 ? &fnclex : modrm == 0xe3 ? &fninit : &nop;
    if (op == 7 && modrm == 0xe0)
        return &fnstsw_ax;
    return reg_forms[op] >> (modrm & 63) & 1 ? &reg_ops[op] : NULL;
}
