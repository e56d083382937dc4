/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The SSE part of reread.h: which vector instructions the translator emits as themselves. Source:
 * SDM vol. 2. */
#include "core/hv/soft/reread.h"

#include <stddef.h>

#include "core/hv/soft/vec.h"

enum form {
    F_NO,
    F_X,      /* xmm, xmm/m128 (aligned) */
    F_XU,     /* xmm, xmm/m128 (any) */
    F_SCALAR, /* xmm, xmm/m32 with F3 or none, m64 with F2 or 66 */
    F_X8,
    F_X4,
    F_X2, /* xmm, xmm/m64 ... */
    F_S,  /* store: xmm/m128, xmm (aligned) */
    F_SU,
    F_S8,
    F_S_SCALAR,
    F_FROM_G, /* xmm, r/m by REX.W */
    F_TO_G,   /* r/m by REX.W, xmm */
    F_G_X,    /* r by REX.W, xmm/m scalar */
    F_G_XREG, /* r32, xmm */
    F_XREG,   /* group: /n xmm, imm8 */
};

enum { P_NP = 1, P_66 = 2, P_F3 = 4, P_F2 = 8 };

struct rule {
    uint8_t from, to, prefixes, form;
    bool imm, mem_only, flags;
};

/* The first rule that holds the opcode and the prefix decides. */
static const struct rule map_0f[] = {
    {0x10, 0x10, P_NP | P_66, F_XU},
    {0x10, 0x10, P_F3 | P_F2, F_SCALAR},
    {0x11, 0x11, P_NP | P_66, F_SU},
    {0x11, 0x11, P_F3 | P_F2, F_S_SCALAR},
    {0x12, 0x12, P_NP, F_X8},
    {0x12, 0x12, P_66, F_X8, .mem_only = true},
    {0x12, 0x12, P_F3, F_X},
    {0x12, 0x12, P_F2, F_X8},
    {0x13, 0x13, P_NP | P_66, F_S8, .mem_only = true},
    {0x14, 0x15, P_NP | P_66, F_X},
    {0x16, 0x16, P_NP, F_X8},
    {0x16, 0x16, P_66, F_X8, .mem_only = true},
    {0x16, 0x16, P_F3, F_X},
    {0x17, 0x17, P_NP | P_66, F_S8, .mem_only = true},
    {0x28, 0x28, P_NP | P_66, F_X},
    {0x29, 0x29, P_NP | P_66, F_S},
    {0x2a, 0x2a, P_F3 | P_F2, F_FROM_G},
    {0x2b, 0x2b, P_NP | P_66, F_S, .mem_only = true},
    {0x2c, 0x2d, P_F3 | P_F2, F_G_X},
    {0x2e, 0x2f, P_NP | P_66, F_SCALAR, .flags = true},
    {0x50, 0x50, P_NP | P_66, F_G_XREG},
    {0x51, 0x51, P_NP | P_66, F_X},
    {0x51, 0x51, P_F3 | P_F2, F_SCALAR},
    {0x52, 0x53, P_NP, F_X},
    {0x52, 0x53, P_F3, F_SCALAR},
    {0x54, 0x57, P_NP | P_66, F_X},
    {0x5a, 0x5a, P_NP, F_X8},
    {0x5a, 0x5a, P_66, F_X},
    {0x5b, 0x5b, P_NP | P_66 | P_F3, F_X},
    {0x58, 0x5f, P_NP | P_66, F_X},
    {0x58, 0x5f, P_F3 | P_F2, F_SCALAR},
    {0x60, 0x6d, P_66, F_X},
    {0x6e, 0x6e, P_66, F_FROM_G},
    {0x6f, 0x6f, P_66, F_X},
    {0x6f, 0x6f, P_F3, F_XU},
    {0x70, 0x70, P_66 | P_F3 | P_F2, F_X, .imm = true},
    {0x71, 0x73, P_66, F_XREG, .imm = true},
    {0x74, 0x76, P_66, F_X},
    {0x7c, 0x7d, P_66 | P_F2, F_X},
    {0x7e, 0x7e, P_66, F_TO_G},
    {0x7e, 0x7e, P_F3, F_X8},
    {0x7f, 0x7f, P_66, F_S},
    {0x7f, 0x7f, P_F3, F_SU},
    {0xc2, 0xc2, P_NP | P_66, F_X, .imm = true},
    {0xc2, 0xc2, P_F3 | P_F2, F_SCALAR, .imm = true},
    {0xc6, 0xc6, P_NP | P_66, F_X, .imm = true},
    {0xd0, 0xd0, P_66 | P_F2, F_X},
    {0xd1, 0xd5, P_66, F_X},
    {0xd6, 0xd6, P_66, F_S8},
    {0xd7, 0xd7, P_66, F_G_XREG},
    {0xd8, 0xe5, P_66, F_X},
    {0xe6, 0xe6, P_66 | P_F2, F_X},
    {0xe6, 0xe6, P_F3, F_X8},
    {0xe7, 0xe7, P_66, F_S, .mem_only = true},
    {0xe8, 0xef, P_66, F_X},
    {0xf0, 0xf0, P_F2, F_XU, .mem_only = true},
    {0xf1, 0xf6, P_66, F_X},
    {0xf8, 0xfe, P_66, F_X},
};
static const struct rule map_0f38[] = {
    {0x00, 0x0b, P_66, F_X},
    {0x10, 0x10, P_66, F_X},
    {0x14, 0x15, P_66, F_X},
    {0x17, 0x17, P_66, F_X, .flags = true},
    {0x1c, 0x1e, P_66, F_X},
    {0x20, 0x20, P_66, F_X8},
    {0x21, 0x21, P_66, F_X4},
    {0x22, 0x22, P_66, F_X2},
    {0x23, 0x23, P_66, F_X8},
    {0x24, 0x24, P_66, F_X4},
    {0x25, 0x25, P_66, F_X8},
    {0x28, 0x29, P_66, F_X},
    {0x2a, 0x2a, P_66, F_X, .mem_only = true},
    {0x2b, 0x2b, P_66, F_X},
    {0x30, 0x30, P_66, F_X8},
    {0x31, 0x31, P_66, F_X4},
    {0x32, 0x32, P_66, F_X2},
    {0x33, 0x33, P_66, F_X8},
    {0x34, 0x34, P_66, F_X4},
    {0x35, 0x35, P_66, F_X8},
    {0x37, 0x41, P_66, F_X},
    {0xdb, 0xdf, P_66, F_X},
};
static const struct rule map_0f3a[] = {
    {0x08, 0x09, P_66, F_X, .imm = true},      {0x0a, 0x0a, P_66, F_X4, .imm = true},
    {0x0b, 0x0b, P_66, F_X8, .imm = true},     {0x0c, 0x0f, P_66, F_X, .imm = true},
    {0x16, 0x16, P_66, F_TO_G, .imm = true},   {0x21, 0x21, P_66, F_X4, .imm = true},
    {0x22, 0x22, P_66, F_FROM_G, .imm = true}, {0x40, 0x42, P_66, F_X, .imm = true},
    {0x44, 0x44, P_66, F_X, .imm = true},      {0xdf, 0xdf, P_66, F_X, .imm = true},
};

static const struct rule *find(const struct rule *rules, unsigned n, uint8_t op, unsigned prefix)
{
    for (unsigned i = 0; i < n; i++)
        if (op >= rules[i].from && op <= rules[i].to && (rules[i].prefixes & prefix))
            return &rules[i];
    return NULL;
}

static void operands(struct reread *r, enum form form)
{
    unsigned g = r->size == 8 ? 8 : 4;
    unsigned scalar = r->rep == 0xf3 || (!r->rep && !r->opsz) ? 4 : 8;
    r->reg_use = RR_W;
    r->rm_use = RR_R;
    r->xreg = r->xrm = true;
    r->rm_size = 16;
    switch (form) {
    case F_NO: break;
    case F_X: r->aligned = true; break;
    case F_XU: break;
    case F_SCALAR: r->rm_size = (uint8_t)scalar; break;
    case F_X8: r->rm_size = 8; break;
    case F_X4: r->rm_size = 4; break;
    case F_X2: r->rm_size = 2; break;
    case F_S:
        r->aligned = true;
        r->rm_use = RR_W;
        break;
    case F_SU: r->rm_use = RR_W; break;
    case F_S8:
        r->rm_use = RR_W;
        r->rm_size = 8;
        break;
    case F_S_SCALAR:
        r->rm_use = RR_W;
        r->rm_size = (uint8_t)scalar;
        break;
    case F_FROM_G:
        r->xrm = false;
        r->rm_size = (uint8_t)g;
        break;
    case F_TO_G:
        r->xrm = false;
        r->rm_use = RR_W;
        r->rm_size = (uint8_t)g;
        break;
    case F_G_X:
        r->xreg = false;
        r->rm_size = (uint8_t)scalar;
        break;
    case F_G_XREG: r->xreg = false; break;
    case F_XREG:
        r->group = true;
        r->rm_use = RR_RW;
        break;
    }
}

/* What the interpreter takes for undefined, or the host cannot do, must never be emitted: it would
 * be undefined in Vireo itself. */
static bool defined(const struct reread *r)
{
    struct vec_bytes b = {
        .map = r->map == 1   ? VEC_MAP_0F
               : r->map == 2 ? VEC_MAP_0F38
                             : VEC_MAP_0F3A,
        .prefix = r->rep == 0xf3   ? VEC_F3
                  : r->rep == 0xf2 ? VEC_F2
                  : r->opsz        ? VEC_66
                                   : VEC_NP,
        .opcode = r->op,
        .modrm = r->modrm,
        .rexw = r->size == 8,
        .long_mode = true,
        .opsz = r->opsz,
    };
    const struct vec_op *v = soft_vec_lookup(&b);
    return v && v->fn;
}

bool soft_reread_vec(struct reread *r, bool sse42_host)
{
#define FIND(map) find(map, sizeof map / sizeof map[0], r->op, prefix)
    unsigned prefix = r->rep == 0xf3 ? P_F3 : r->rep == 0xf2 ? P_F2 : r->opsz ? P_66 : P_NP;
    const struct rule *rule = r->map == 1   ? FIND(map_0f)
                              : !sse42_host ? NULL
                              : r->map == 2 ? FIND(map_0f38)
                                            : FIND(map_0f3a);
    if (!rule || (r->rep && r->opsz) || !defined(r))
        return false;
    if (rule->mem_only ? !r->mem : (rule->form == F_XREG || rule->form == F_G_XREG) && r->mem)
        return false;
    if (rule->form == F_XREG) { /* shifts: /2 /4 /6, and for quadwords /2 /3 /6 /7 */
        unsigned n = r->modrm >> 3 & 7;
        if (r->op == 0x73 ? !(n == 2 || n == 3 || n == 6 || n == 7) : !(n == 2 || n == 4 || n == 6))
            return false;
    }
    operands(r, (enum form)rule->form);
    r->imm_size = rule->imm;
    r->kind = RR_VEC;
    r->flags_set = rule->flags;
    r->flags_read = false;
    return true;
#undef FIND
}
