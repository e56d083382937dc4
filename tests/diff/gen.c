/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Random cases. Single instructions: any opcode and any form, with registers then set so that most
 * memory operands fall into, or across the edges of, the data pages. Sequences: pointer registers
 * are kept, branches go forward, undefined flags are defined again before anything can use them.
 */
#include <string.h>

#include "tests/diff/diff.h"

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI };
enum { POOLS = 8 };

static uint8_t pools[POOLS][DIFF_DATA_BYTES], ro_pool[DIFF_RO_BYTES];

uint64_t diff_rng(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u); /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

struct gen {
    uint64_t rng;
    struct diff_case *c;
    const struct diff_options *o;
    bool seq;
    uint8_t b[32]; /* the instruction at work */
    unsigned n;
    bool adsz, seg_fs, seg_gs, seg_any;
    /* How to land the memory operand, once the length is known. */
    int base, index, scale; /* registers, -1: none */
    int64_t disp;
    unsigned disp_at; /* of a 32-bit displacement that may be set */
    bool has_mem, rip_relative, disp_free;
    unsigned addr_bits;
};

static uint32_t below(struct gen *g, uint32_t n)
{
    return (uint32_t)(diff_rng(&g->rng) >> 33) % n;
}

static bool one_in(struct gen *g, uint32_t n)
{
    return below(g, n) == 0;
}

/* ---- values ---- */

static uint64_t random_integer(uint64_t *rng)
{
    static const uint64_t edges[] = {0,          1,          2,           0x7f,       0x80,
                                     0xff,       0x7fff,     0x8000,      0xffff,     0x7fffffff,
                                     0x80000000, 0xffffffff, 0x100000000, INT64_MAX,  1ull << 63,
                                     UINT64_MAX, ~1ull,      0x10,        0xfffffff0, 63};
    uint64_t r = diff_rng(rng);
    switch (r & 7) {
    case 0:
    case 1: return edges[(r >> 8) % (sizeof(edges) / sizeof(edges[0]))];
    case 2: return (r >> 8) & 0xff;
    case 3: return (uint64_t)(int64_t)(int8_t)(r >> 8);
    case 4: return r >> 32;
    case 5: return diff_rng(rng) >> (r >> 8 & 63);
    default: return diff_rng(rng);
    }
}

static uint64_t random_double(uint64_t *rng)
{
    static const uint64_t edges[] = {0,
                                     1ull << 63,
                                     0x3ff0000000000000,
                                     0xbff0000000000000,
                                     0x7ff0000000000000,
                                     0xfff0000000000000,
                                     0x7ff8000000000000,
                                     0x7ff4000000000001,
                                     0xfff8000000000123,
                                     1,
                                     0x000fffffffffffff,
                                     0x0010000000000000,
                                     0x7fefffffffffffff,
                                     0x43e0000000000000,
                                     0x41dfffffffc00000,
                                     0x4340000000000001};
    uint64_t r = diff_rng(rng);
    switch (r & 3) {
    case 0: return edges[(r >> 8) % (sizeof(edges) / sizeof(edges[0]))] | (r & 4 ? 0 : 0);
    case 1: /* exponents near one another, so that sums and products are of interest */
        return (diff_rng(rng) & 0x800fffffffffffff) | (uint64_t)(1013 + (r >> 8) % 20) << 52;
    case 2: return (diff_rng(rng) & 0x8000000000000fff) | (uint64_t)((r >> 8) % 2047) << 52;
    default: return diff_rng(rng);
    }
}

static uint32_t random_single(uint64_t *rng)
{
    static const uint32_t edges[] = {
        0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7fa00001,
        1, 0x007fffff, 0x00800000, 0x7f7fffff, 0x4f000000, 0x5f000000, 0xffc00123, 0x4effffff};
    uint64_t r = diff_rng(rng);
    switch (r & 3) {
    case 0: return edges[(r >> 8) % (sizeof(edges) / sizeof(edges[0]))];
    case 1: return (uint32_t)(r >> 32 & 0x807fffff) | (uint32_t)(117 + (r >> 8) % 20) << 23;
    case 2: return (uint32_t)(r >> 32 & 0x800000ff) | (uint32_t)((r >> 8) % 255) << 23;
    default: return (uint32_t)(r >> 32);
    }
}

static void random_lane(uint64_t *rng, uint8_t out[8])
{
    uint64_t r = diff_rng(rng), v;
    if ((r & 3) == 0) {
        v = random_integer(rng);
    } else if ((r & 3) == 1) {
        v = random_single(rng) | (uint64_t)random_single(rng) << 32;
    } else if ((r & 3) == 2) {
        v = random_double(rng);
    } else {
        v = diff_rng(rng);
    }
    memcpy(out, &v, 8);
}

/* An 80-bit value, valid or not (SDM vol. 1, 8.2.2). */
static void random_extended(uint64_t *rng, uint8_t out[16])
{
    uint64_t r = diff_rng(rng), m = diff_rng(rng);
    uint16_t se;
    memset(out, 0, 16);
    switch (r & 7) {
    case 0: se = (uint16_t)(r >> 8 & 0x8000), m = 0; break;
    case 1: se = (uint16_t)(0x7fff | (r >> 8 & 0x8000)), m = r & 0x10000 ? 1ull << 63 : m; break;
    case 2: se = (uint16_t)(r >> 8 & 0x8000); break;                       /* denormal */
    case 3: se = (uint16_t)(r >> 8); break;                                /* unnormal, too */
    case 4: se = (uint16_t)(0x3fff + (r >> 8 & 3)), m = 1ull << 63; break; /* 1, 2, 4, 8 */
    default:
        se = (uint16_t)((r >> 8 & 0x8000) | (0x3fff - 40 + (r >> 24) % 80));
        m |= 1ull << 63;
        break;
    }
    memcpy(out, &m, 8);
    memcpy(out + 8, &se, 2);
}

static void make_pools(void)
{
    static bool made;
    if (made)
        return;
    made = true;
    uint64_t rng = 0x5eed;
    for (unsigned p = 0; p < POOLS; p++)
        for (unsigned i = 0; i < DIFF_DATA_BYTES; i += 8)
            random_lane(&rng, pools[p] + i);
    for (unsigned i = 0; i < DIFF_RO_BYTES; i += 8)
        random_lane(&rng, ro_pool + i);
}

const uint8_t *diff_data_pool(uint32_t pick)
{
    make_pools();
    return pools[pick % POOLS];
}

const uint8_t *diff_ro_pool(void)
{
    make_pools();
    return ro_pool;
}

static void random_fx(struct gen *g)
{
    uint8_t *fx = g->c->s.fx;
    uint64_t r = diff_rng(&g->rng);
    memset(fx, 0, 512);
    uint16_t fcw = (uint16_t)(0x37f ^ (r & 1 ? r >> 8 & 0xf00 : 0));
    if (one_in(g, 6))
        fcw &= (uint16_t) ~(r >> 20 & 0x3f);
    uint16_t fsw = one_in(g, 2) ? 0 : (uint16_t)(r >> 28 & 0x7f00);
    if (one_in(g, 6))
        fsw |= (uint16_t)(r >> 44 & 0x7f);
    if (fsw & ~fcw & 0x3f)
        fsw = one_in(g, 4) ? fsw | 0x8080 : fsw & (uint16_t)~0x3f;
    fx[4] = one_in(g, 3) ? 0 : one_in(g, 2) ? 0xff : (uint8_t)(r >> 52);
    memcpy(fx, &fcw, 2);
    memcpy(fx + 2, &fsw, 2);
    uint32_t mxcsr = 0x1f80;
    if (one_in(g, 2))
        mxcsr ^= (uint32_t)diff_rng(&g->rng) & 0xe040; /* rounding, FTZ, DAZ */
    if (one_in(g, 3))
        mxcsr |= (uint32_t)diff_rng(&g->rng) & 0x3f;
    if (one_in(g, 8))
        mxcsr &= ~((uint32_t)diff_rng(&g->rng) & 0x1f80);
    memcpy(fx + 24, &mxcsr, 4);
    uint32_t mask = 0xffff;
    memcpy(fx + 28, &mask, 4);
    for (unsigned k = 0; k < 8; k++)
        random_extended(&g->rng, fx + 32 + 16 * k);
    for (unsigned k = 0; k < (g->c->mode == DIFF_64 ? 32u : 16u); k++)
        random_lane(&g->rng, fx + 160 + 8 * k);
}

/* ---- registers ---- */

/* The linear address of a place in or at the edges of the data. */
static uint64_t random_target(struct gen *g)
{
    uint64_t r = below(g, 100), off = below(g, DIFF_DATA_BYTES - 64);
    if (g->seq)
        return DIFF_DATA + 0x800 + below(g, 0x1000);
    if (r < 45)
        return DIFF_DATA + (off & ~15ull);
    if (r < 80)
        return DIFF_DATA + off;
    if (r < 85)
        return DIFF_DATA + 0x1000 - below(g, 20);
    if (r < 90)
        return DIFF_RO - below(g, 20);
    if (r < 94)
        return DIFF_RO + below(g, DIFF_RO_BYTES);
    if (r < 97)
        return DIFF_RO + DIFF_RO_BYTES - below(g, 20);
    return DIFF_DATA - below(g, 20);
}

/* What a register must hold to point there: an offset in the 16-bit segments. */
static uint64_t as_pointer(const struct gen *g, uint64_t linear, bool stack)
{
    const struct diff_state *s = &g->c->s;
    uint16_t sel = stack ? s->ss : s->ds;
    return (sel & 4) ? linear - DIFF_DATA : linear;
}

static void random_registers(struct gen *g)
{
    struct diff_state *s = &g->c->s;
    for (unsigned k = 0; k < 16; k++)
        s->gpr[k] = random_integer(&g->rng);
    static const uint8_t pointers[] = {RBX, RSI, RDI, RBP, RSP};
    for (unsigned k = 0; k < 5; k++)
        if (g->seq || !one_in(g, 10))
            s->gpr[pointers[k]] = as_pointer(g, random_target(g), pointers[k] >= RSP && k > 2);
    if (!one_in(g, 10))
        s->gpr[RSP] &= ~7ull;
    if (g->seq || !one_in(g, 8))
        s->gpr[RCX] = below(g, 70);
    for (unsigned k = 0; k < 16 && g->c->mode != DIFF_64; k++)
        s->gpr[k] = k < 8 ? (uint32_t)s->gpr[k] : 0;
    s->rflags = 0x202 | (diff_rng(&g->rng) & 0x8d5);
    if (one_in(g, 10))
        s->rflags |= 0x400;
    if (g->o->ac && one_in(g, 60))
        s->rflags |= 0x40000;
    if (!g->seq && !one_in(g, 10))
        s->rflags |= 0x100;
}

static void random_segments(struct gen *g)
{
    struct diff_state *s = &g->c->s;
    switch (g->c->mode) {
    case DIFF_64:
        s->cs = DIFF_CS64;
        s->ds = s->es = one_in(g, 4) ? 0 : DIFF_DS;
        s->fs = s->gs = 0;
        s->ss = DIFF_DS;
        break;
    case DIFF_32:
        s->cs = DIFF_CS32;
        s->ds = s->es = s->ss = DIFF_DS;
        s->fs = one_in(g, 3) ? DIFF_LDT_DOWN : DIFF_LDT_DATA32;
        s->gs = one_in(g, 3) ? 0 : DIFF_LDT_READONLY;
        break;
    default:
        s->cs = DIFF_LDT_CODE16;
        s->ds = DIFF_LDT_DATA16;
        s->es = one_in(g, 3) ? DIFF_LDT_DATA32 : DIFF_LDT_DATA16;
        s->ss = one_in(g, 2) ? DIFF_DS : DIFF_LDT_DATA16;
        s->fs = DIFF_LDT_DATA32;
        s->gs = DIFF_LDT_READONLY;
        break;
    }
}

/* ---- instructions ---- */

static void put(struct gen *g, uint8_t v)
{
    g->b[g->n++] = v;
}

static void put_random(struct gen *g, unsigned bytes)
{
    uint64_t v = random_integer(&g->rng);
    for (unsigned k = 0; k < bytes; k++, v >>= 8)
        put(g, (uint8_t)v);
}

/* Registers a sequence may change. */
static unsigned free_reg(struct gen *g, bool high)
{
    return high ? below(g, 8) : below(g, 3);
}

static void put_address16(struct gen *g, unsigned reg)
{
    static const int8_t base[8] = {RBX, RBX, RBP, RBP, RSI, RDI, RBP, RBX};
    static const int8_t index[8] = {RSI, RDI, RSI, RDI, -1, -1, -1, -1};
    unsigned mod = below(g, 3), rm = g->seq ? 4 + below(g, 4) : below(g, 8);
    put(g, (uint8_t)(mod << 6 | reg << 3 | rm));
    bool direct = mod == 0 && rm == 6;
    g->base = direct ? -1 : base[rm];
    g->index = index[rm];
    g->scale = 0;
    g->addr_bits = 16;
    if (mod == 1) {
        g->disp = (int8_t)below(g, 256);
        put(g, (uint8_t)g->disp);
    } else if (mod == 2 || direct) {
        g->disp = g->seq ? (int64_t)below(g, 256) : (int16_t)below(g, 65536);
        g->disp_at = g->n;
        g->disp_free = true;
        put(g, (uint8_t)g->disp);
        put(g, (uint8_t)(g->disp >> 8));
    }
}

static void put_disp(struct gen *g, unsigned mod, bool always)
{
    if (mod == 1) {
        g->disp = (int8_t)below(g, 256);
        put(g, (uint8_t)g->disp);
    } else if (mod == 2 || always) {
        g->disp = g->seq ? (int32_t)below(g, 512) - 256 : (int32_t)diff_rng(&g->rng);
        if (g->disp_free)
            g->disp_at = g->n;
        for (unsigned k = 0; k < 4; k++)
            put(g, (uint8_t)((uint64_t)g->disp >> (8 * k)));
    }
}

static void put_address(struct gen *g, unsigned reg, unsigned rex)
{
    unsigned mod = below(g, 3);
    static const uint8_t seq_base[] = {RBX, RBP, RSI, RDI};
    unsigned rm = g->seq ? seq_base[below(g, 4)] : below(g, 8);
    if (g->seq && rm == RBP && mod == 0)
        mod = 1;
    put(g, (uint8_t)(mod << 6 | reg << 3 | rm));
    g->addr_bits = g->c->mode == DIFF_64 && !g->adsz ? 64 : 32;
    g->index = -1;
    g->scale = 0;
    g->base = (int)(rm | (rex & 1) << 3);
    if (rm == 4) {
        unsigned sib = below(g, 256), idx = (sib >> 3 & 7) | (rex & 2) << 2;
        put(g, (uint8_t)sib);
        g->scale = (int)(sib >> 6);
        g->index = idx == 4 ? -1 : (int)idx;
        bool none = mod == 0 && (sib & 7) == 5;
        g->base = none ? -1 : (int)((sib & 7) | (rex & 1) << 3);
        g->disp_free = none;
        put_disp(g, mod, none);
    } else if (mod == 0 && rm == 5) {
        g->base = -1;
        g->rip_relative = g->c->mode == DIFF_64;
        g->disp_free = true;
        put_disp(g, mod, true);
    } else {
        put_disp(g, mod, false);
    }
}

/* A map and an opcode; prefix bytes that go with them have been put. */
static void put_modrm(struct gen *g, unsigned map, uint8_t op, unsigned rex)
{
    unsigned reg = g->seq && map < 2 && !(map == 0 && op >= 0x80 && op != 0x88)
                       ? free_reg(g, rex & 4)
                       : below(g, 8);
    bool group = map == 0 && ((op >= 0x80 && op <= 0x83) || op == 0xc0 || op == 0xc1 ||
                              (op >= 0xd0 && op <= 0xdf) || op >= 0xf6 || op == 0xc6 || op == 0xc7);
    if (g->seq && !group && !(map == 0 && op < 0x40 && !(op & 2)))
        reg = free_reg(g, rex & 4);
    if (one_in(g, 2) || (map == 0 && op >= 0xd8 && op <= 0xdf && one_in(g, 2))) {
        unsigned rm =
            g->seq && !(map == 0 && op >= 0xd8 && op <= 0xdf) ? free_reg(g, rex & 1) : below(g, 8);
        put(g, (uint8_t)(0xc0 | reg << 3 | rm));
        return;
    }
    g->has_mem = true;
    bool addr16 = g->c->mode != DIFF_64 && (g->c->mode == DIFF_16) != g->adsz;
    if (addr16)
        put_address16(g, reg);
    else
        put_address(g, reg, rex);
}

static unsigned choose_map(struct gen *g)
{
    if (g->o->map >= 0)
        return (unsigned)g->o->map;
    uint32_t r = below(g, 100);
    return r < 48 ? 0 : r < 82 ? 1 : r < 93 ? 2 : 3;
}

static uint8_t choose_opcode(struct gen *g, unsigned map)
{
    static const uint8_t ops38[] = {
        0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x10, 0x14,
        0x15, 0x17, 0x1c, 0x1d, 0x1e, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x28, 0x29, 0x2a,
        0x2b, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x37, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d,
        0x3e, 0x3f, 0x40, 0x41, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xf0, 0xf1};
    static const uint8_t ops3a[] = {0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f,
                                    0x14, 0x15, 0x16, 0x17, 0x20, 0x21, 0x22, 0x40,
                                    0x41, 0x42, 0x44, 0x60, 0x61, 0x62, 0x63, 0xdf};
    if (g->o->opcode >= 0)
        return (uint8_t)g->o->opcode;
    if (map == 2)
        return ops38[below(g, sizeof(ops38))];
    if (map == 3)
        return ops3a[below(g, sizeof(ops3a))];
    return (uint8_t)below(g, 256);
}

static bool opcode_fits_sequence(unsigned map, uint8_t op)
{
    if (map == 0) {
        if (op == 0xc2 || op == 0xc3 || op == 0x61 || op == 0xcc || op == 0xcd || op == 0xce ||
            op == 0xf4 || op == 0xfa || op == 0xfb || (op >= 0x6c && op <= 0x6f) ||
            (op >= 0xe4 && op <= 0xe7) || (op >= 0xec && op <= 0xef) || op == 0xff || op == 0x9d ||
            op == 0xbc)
            return false;
        if ((op >= 0x40 && op <= 0x4f) || (op >= 0x58 && op <= 0x5f) ||
            (op >= 0x90 && op <= 0x97) || (op >= 0xb0 && op <= 0xbf))
            return (op & 7) < 3;
    }
    if (map == 1)
        return op != 0x0b && op != 0xb9 && !(op >= 0x20 && op <= 0x27) && op > 0x09 &&
               !(op >= 0x30 && op <= 0x37) && !(op >= 0xc8 && op <= 0xcf && (op & 7) > 2);
    return true;
}

static void put_prefixes(struct gen *g, unsigned map, uint8_t op, unsigned *rex)
{
    bool vec = map > 1 || (map == 1 && (op >= 0x50 || (op >= 0x10 && op < 0x30)) &&
                           !(op >= 0x80 && op < 0xc2));
    uint32_t r = below(g, 100);
    if (vec ? r < 40 || map == 3 : r < 20)
        put(g, 0x66);
    if (vec && r >= 40 && r < 60)
        put(g, 0xf3);
    if (vec && r >= 60 && r < 75)
        put(g, 0xf2);
    bool string = map == 0 && ((op >= 0xa4 && op <= 0xa7) || (op >= 0xaa && op <= 0xaf));
    if (!vec && one_in(g, string ? 2 : 40))
        put(g, one_in(g, 2) ? 0xf2 : 0xf3);
    if (map == 1 && op == 0xb8)
        put(g, 0xf3);
    g->adsz = one_in(g, g->seq ? 40 : 12);
    if (g->adsz && g->seq && g->c->mode != DIFF_64)
        g->adsz = false;
    if (g->adsz)
        put(g, 0x67);
    if (one_in(g, 12) && !g->seq) {
        static const uint8_t segs[] = {0x64, 0x65, 0x64, 0x65, 0x2e, 0x36, 0x26, 0x3e};
        uint8_t s = segs[below(g, 8)];
        g->seg_fs = s == 0x64;
        g->seg_gs = s == 0x65;
        g->seg_any = true;
        put(g, s);
    }
    if (one_in(g, 25))
        put(g, 0xf0);
    *rex = 0;
    if (g->c->mode == DIFF_64 && !one_in(g, 3)) {
        *rex = below(g, 16);
        if (g->seq)
            *rex &= 13u - (*rex & 1 ? 0u : 0u);
        put(g, (uint8_t)(0x40 | *rex));
    }
}

/* Sets the registers or the displacement so that the operand is at a place in the data. */
static void land(struct gen *g)
{
    struct diff_state *s = &g->c->s;
    uint64_t target = random_target(g);
    if (g->c->mode == DIFF_64)
        target -= g->seg_fs ? DIFF_FS_BASE : g->seg_gs ? DIFF_GS_BASE : 0;
    else if (g->seg_fs || g->seg_gs || g->c->mode == DIFF_16)
        target -= DIFF_DATA;
    uint64_t index = g->index >= 0 ? s->gpr[g->index] << g->scale : 0;
    if (g->base >= 0 && g->base != g->index) {
        uint64_t v = target - index - (uint64_t)g->disp;
        if (g->addr_bits == 16)
            v = (s->gpr[g->base] & ~0xffffull) | (v & 0xffff);
        else if (g->addr_bits == 32)
            v = (uint32_t)v;
        s->gpr[g->base] = v;
    } else if (g->disp_free) {
        uint64_t d = target - index;
        if (g->rip_relative)
            d = target - (s->rip + g->n);
        memcpy(g->b + g->disp_at, &d, g->addr_bits == 16 ? 2 : 4);
    }
}

static bool locked_needlessly(struct gen *g)
{
    return g->seq && memchr(g->b, 0xf0, 4) && !g->has_mem;
}

/* One instruction into g->b; retries until it may be run. */
static struct diff_scan make_insn(struct gen *g)
{
    for (;;) {
        g->n = 0;
        g->has_mem = g->rip_relative = g->disp_free = false;
        g->seg_fs = g->seg_gs = g->seg_any = false;
        g->base = g->index = -1;
        g->scale = 0;
        g->disp = 0;
        unsigned map = choose_map(g), rex;
        uint8_t op = choose_opcode(g, map);
        if (g->seq && !opcode_fits_sequence(map, op))
            continue;
        put_prefixes(g, map, op, &rex);
        if (map)
            put(g, 0x0f);
        if (map > 1)
            put(g, map == 2 ? 0x38 : 0x3a);
        put(g, op);
        if (diff_has_modrm(map, op, g->c->mode))
            put_modrm(g, map, op, rex);
        unsigned before = g->n;
        put_random(g, 8);
        struct diff_scan s = diff_scan(g->b, g->n, g->c->mode, g->o->host);
        /* FNSTENV and FNSAVE show selectors that processors keep or not. */
        if (g->seq && map == 0 && (op == 0xd9 || op == 0xdd) && s.quirks)
            continue;
        if (!s.valid || s.refused || s.length < before || s.length > 15 || locked_needlessly(g))
            continue;
        g->n = s.length;
        return s;
    }
}

static void place(struct gen *g)
{
    uint32_t off = below(g, DIFF_CODE_BYTES - DIFF_CODE_MAX);
    if (!g->seq && one_in(g, 12)) /* across the pages, or off the end */
        off = (one_in(g, 2) ? 0x1000 : DIFF_CODE_BYTES) - below(g, 16) - 1;
    g->c->s.rip = g->c->mode == DIFF_16 ? off : DIFF_CODE + off;
}

static void single(struct gen *g)
{
    struct diff_case *c = g->c;
    struct diff_scan s = make_insn(g);
    if (g->has_mem && !one_in(g, 12))
        land(g);
    uint64_t off = c->mode == DIFF_16 ? c->s.rip : c->s.rip - DIFF_CODE;
    c->code_len = (uint16_t)g->n;
    if (off + c->code_len > DIFF_CODE_BYTES)
        c->code_len = (uint16_t)(DIFF_CODE_BYTES - off);
    memcpy(c->code, g->b, c->code_len);
    c->insns = 1;
    c->insn_off[1] = c->code_len;
    c->undefined_flags = s.undefined;
    c->quirks = s.quirks;
}

static void sequence(struct gen *g)
{
    struct diff_case *c = g->c;
    unsigned count = 2 + below(g, g->o->max_insns - 1), n = 0;
    unsigned branch_at[DIFF_INSNS_MAX], branch_imm[DIFF_INSNS_MAX], branch_to[DIFF_INSNS_MAX];
    unsigned branches = 0;
    bool fix = false;
    for (c->insns = 0; c->insns < count;) {
        c->insn_off[c->insns] = (uint16_t)n;
        if (fix) { /* CMP AL, imm8 defines all flags */
            c->code[n++] = 0x3c;
            c->code[n++] = (uint8_t)diff_rng(&g->rng);
            c->insns++;
            fix = false;
            continue;
        }
        struct diff_scan s = make_insn(g);
        memcpy(c->code + n, g->b, g->n);
        c->quirks |= s.quirks;
        if (s.branch) {
            branch_at[branches] = n + g->n;
            branch_imm[branches] = s.imm;
            branch_to[branches++] = c->insns + 1 + below(g, 3);
        }
        n += g->n;
        fix = s.undefined && g->o->max_insns > 1;
        c->insns++;
    }
    c->insn_off[c->insns] = (uint16_t)n;
    for (unsigned k = 0; k < branches; k++) {
        unsigned to = c->insn_off[branch_to[k] < c->insns ? branch_to[k] : c->insns];
        uint32_t rel = to - branch_at[k];
        memcpy(c->code + branch_at[k] - branch_imm[k], &rel, branch_imm[k]);
    }
    c->code[n++] = 0x0f;
    c->code[n++] = 0x0b;
    c->code_len = (uint16_t)n;
    c->undefined_flags = fix ? 0x8d5 : 0;
}

static enum diff_mode choose_mode(struct gen *g)
{
    for (;;) {
        static const uint8_t weighted[] = {DIFF_64, DIFF_64, DIFF_64, DIFF_64,
                                           DIFF_64, DIFF_32, DIFF_32, DIFF_16};
        enum diff_mode m = weighted[below(g, 8)];
        if (g->o->mode_mask >> m & 1)
            return m;
    }
}

void diff_generate(struct diff_case *c, uint64_t seed, const struct diff_options *o)
{
    struct gen g = {.rng = seed, .c = c, .o = o};
    make_pools();
    memset(c, 0, offsetof(struct diff_case, code));
    memset(&c->s, 0, sizeof(c->s));
    c->seed = seed;
    c->mode = choose_mode(&g);
    g.seq = o->max_insns > 1 && one_in(&g, 3);
    c->data_pick = below(&g, POOLS);
    random_segments(&g);
    random_registers(&g);
    random_fx(&g);
    place(&g);
    if (g.seq)
        sequence(&g);
    else
        single(&g);
}

bool diff_without(const struct diff_case *c, unsigned k, struct diff_case *out)
{
    if (c->insns < 2 || k >= c->insns)
        return false;
    unsigned at = c->insn_off[k], len = c->insn_off[k + 1] - at;
    struct diff_scan s = diff_scan(c->code + at, c->code_len - at, c->mode, true);
    *out = *c;
    if (s.branch)
        return false;
    /* NOPs keep every branch's distance. */
    memset(out->code + at, 0x90, len);
    return memcmp(out->code, c->code, c->code_len) != 0;
}
