/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the generator must know of an instruction: its length, the flags it leaves undefined, and
 * whether it may be run at all. Written apart from the interpreter's decoder on purpose.
 * Source: Intel SDM vol. 2, appendix A and the flag tables of vol. 1, appendix A.
 */
#include <string.h>

#include "tests/diff/diff.h"

enum { CF = 1, PF = 4, AF = 0x10, ZF = 0x40, SF = 0x80, OF = 0x800 };
enum { ALL = CF | PF | AF | ZF | SF | OF };

struct bytes {
    const uint8_t *p;
    size_t n, at;
    enum diff_mode mode;
    bool opsz, adsz, lock, rep, repne, rexw, rex;
    bool host;
};

static bool in(uint8_t v, uint8_t lo, uint8_t hi)
{
    return v >= lo && v <= hi;
}

bool diff_has_modrm(unsigned map, uint8_t op, enum diff_mode mode)
{
    if (map >= 2)
        return true;
    if (map == 1)
        return !(in(op, 0x04, 0x0b) || op == 0x0e || in(op, 0x30, 0x37) || op == 0x77 ||
                 in(op, 0x80, 0x8f) || in(op, 0xa0, 0xa2) || in(op, 0xa8, 0xaa) ||
                 in(op, 0xc8, 0xcf));
    if (op < 0x40)
        return (op & 7) < 4;
    return op == 0x62 || op == 0x63 || op == 0x69 || op == 0x6b || in(op, 0x80, 0x8f) ||
           in(op, 0xc0, 0xc1) || in(op, 0xc4, 0xc7) || in(op, 0xd0, 0xd3) || in(op, 0xd8, 0xdf) ||
           in(op, 0xf6, 0xf7) || in(op, 0xfe, 0xff);
}

/* Immediate bytes of one-byte opcodes. */
static unsigned imm_of(const struct bytes *b, uint8_t op, unsigned reg)
{
    bool op16 = (b->mode == DIFF_16) != b->opsz && !b->rexw;
    bool ad16 = (b->mode == DIFF_16) != b->adsz && b->mode != DIFF_64;
    unsigned z = op16 ? 2 : 4;
    if (op < 0x40)
        return (op & 7) == 4 ? 1 : (op & 7) == 5 ? z : 0;
    if (in(op, 0x70, 0x7f) || in(op, 0xb0, 0xb7) || in(op, 0xe0, 0xe7))
        return 1;
    if (in(op, 0xb8, 0xbf))
        return b->rexw ? 8 : z;
    if (in(op, 0xa0, 0xa3))
        return b->mode == DIFF_64 ? (b->adsz ? 4 : 8) : ad16 ? 2 : 4;
    switch (op) {
    case 0x68:
    case 0x69:
    case 0x81:
    case 0xa9:
    case 0xc7:
    case 0xe8:
    case 0xe9: return z;
    case 0x6a:
    case 0x6b:
    case 0x80:
    case 0x82:
    case 0x83:
    case 0xa8:
    case 0xc0:
    case 0xc1:
    case 0xc6:
    case 0xcd:
    case 0xd4:
    case 0xd5:
    case 0xeb: return 1;
    case 0xc2:
    case 0xca: return 2;
    case 0xc8: return 3;
    case 0x9a:
    case 0xea: return z + 2;
    case 0xf6: return reg < 2 ? 1 : 0;
    case 0xf7: return reg < 2 ? z : 0;
    default: return 0;
    }
}

static unsigned imm_0f(const struct bytes *b, uint8_t op)
{
    if (in(op, 0x80, 0x8f))
        return (b->mode == DIFF_16) != b->opsz && b->mode != DIFF_64 ? 2 : 4;
    return in(op, 0x70, 0x73) || op == 0xa4 || op == 0xac || op == 0xba || op == 0xc2 ||
                   in(op, 0xc4, 0xc6)
               ? 1
               : 0;
}

static bool refused_one(const struct bytes *b, uint8_t op, uint8_t modrm)
{
    unsigned reg = modrm >> 3 & 7;
    bool m64 = b->mode == DIFF_64;
    switch (op) {
    case 0x06: /* processors differ in what a 32-bit push of a selector writes */
    case 0x0e:
    case 0x16:
    case 0x1e: return !m64 && (b->mode == DIFF_16) == b->opsz;
    case 0x26: /* prefixes: after REX they are no opcode */
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64:
    case 0x65:
    case 0x66:
    case 0x67:
    case 0xf0:
    case 0xf2:
    case 0xf3: return true;
    case 0x07: /* segment register loads */
    case 0x17:
    case 0x1f:
    case 0x8e:
    case 0x9a: /* far transfers */
    case 0xea:
    case 0xca:
    case 0xcb:
    case 0xcf:
    case 0xd6:              /* undocumented */
    case 0xf1: return true; /* reserved for emulators in circuit */
    case 0x62: return m64 || modrm >= 0xc0;
    case 0xc4:
    case 0xc5: return true;
    case 0x8f: return reg != 0;
    case 0xc6:
    case 0xc7: return reg == 7; /* XABORT, XBEGIN */
    case 0xcd: return false;
    case 0x6c: /* with REP and a count of zero: permission checked or not */
    case 0x6d:
    case 0x6e:
    case 0x6f: return b->rep || b->repne;
    case 0xff: return reg == 3 || reg == 5 || (m64 && b->opsz && (reg == 2 || reg == 4));
    /* Processors differ in what a 16-bit operand size does to near branches in 64-bit mode. */
    case 0xe0: /* LOOPcc with REP prefixes: AMD looks at them */
    case 0xe1: return b->rep || b->repne || (m64 && b->opsz);
    case 0xe8:
    case 0xe9:
    case 0xeb:
    case 0xc2:
    case 0xc3: return m64 && b->opsz;
    default:
        if (m64 && in(op, 0x40, 0x4f))
            return true;
        if (in(op, 0x70, 0x7f) || in(op, 0xe0, 0xe3))
            return m64 && b->opsz;
        return false;
    }
}

static bool refused_0f(const struct bytes *b, uint8_t op, uint8_t modrm)
{
    unsigned reg = modrm >> 3 & 7;
    bool mem = modrm < 0xc0, m64 = b->mode == DIFF_64;
    bool prefixed = b->opsz || b->rep || b->repne;
    switch (op) {
    case 0x00: return reg != 2 && reg != 3;
    case 0x01: return !mem || reg == 0 || reg == 1 || reg == 4 || reg == 5;
    case 0x02:
    case 0x03:
    case 0x05:
    case 0x07:
    case 0x0d:
    case 0x0e:
    case 0x0f:
    case 0x31:
    case 0x33:
    case 0x34:
    case 0x35:
    case 0x36:
    case 0x37:
    case 0x78:
    case 0x79:
    case 0x7a:
    case 0x7b:
    case 0xa1:
    case 0xa2:
    case 0xa9:
    case 0xb2:
    case 0xb4:
    case 0xb5:
    case 0xb9: /* UD1: AMD looks at no modrm byte */
    case 0xff: return true;
    case 0xa0:
    case 0xa8: return !m64 && (b->mode == DIFF_16) == b->opsz;
    case 0x1a: /* bounds, shadow stacks: no-ops or not, by processor */
    case 0x1b:
    case 0x1c:
    case 0x1e: return prefixed || op == 0x1c;
    case 0x20:
    case 0x21:
    case 0x22:
    case 0x23: return b->lock || !m64;
    case 0x2a: return mem && !b->rep && !b->repne; /* MMX state: processors differ */
    case 0x2b: return b->rep || b->repne;
    case 0xae:
        if (mem) /* FXSAVE's image differs by processor; FXRSTOR, LDMXCSR, STMXCSR, CLFLUSH */
            return prefixed || reg == 0 || in((uint8_t)reg, 4, 6);
        return prefixed || !(modrm == 0xe8 || modrm == 0xf0 || modrm == 0xf8);
    case 0xb8: return !b->rep || b->repne;
    case 0xbc:
    case 0xbd: return b->rep && !b->host;
    case 0xc7: return reg != 1 || !mem || (prefixed && !b->opsz);
    case 0xc8:
    case 0xc9:
    case 0xca:
    case 0xcb:
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf: return (b->mode == DIFF_16) != b->opsz && !b->rexw; /* undefined result */
    default: return in(op, 0x80, 0x8f) && m64 && b->opsz;
    }
}

static bool refused_38(const struct bytes *b, uint8_t op)
{
    if (op == 0xf0 || op == 0xf1)
        return b->repne ? false : !b->host || b->rep;
    return !(in(op, 0x00, 0x0b) || op == 0x10 || op == 0x14 || op == 0x15 || op == 0x17 ||
             in(op, 0x1c, 0x1e) || in(op, 0x20, 0x25) || in(op, 0x28, 0x2b) || in(op, 0x30, 0x35) ||
             in(op, 0x37, 0x41) || in(op, 0xdb, 0xdf));
}

static bool refused_3a(const struct bytes *b, uint8_t op)
{
    return !(in(op, 0x08, 0x0f) || in(op, 0x14, 0x17) || in(op, 0x20, 0x22) || in(op, 0x40, 0x42) ||
             op == 0x44 || in(op, 0x60, 0x63) || op == 0xdf);
}

static uint64_t undefined_shift(uint8_t op, unsigned reg, uint8_t imm)
{
    unsigned count = op >= 0xd2 ? 255 : op >= 0xd0 ? 1 : imm & 31;
    bool rotate = reg < 4;
    uint64_t u = rotate ? 0 : AF;
    if (count != 1 && count != 0)
        u |= OF;
    if (count > 8 && !rotate) /* perhaps more than the operand's bits */
        u |= CF;
    return count ? u : 0;
}

static uint64_t undefined_one(uint8_t op, unsigned reg, uint8_t imm)
{
    if (op < 0x40 && (op & 7) < 6) {
        unsigned alu = op >> 3;
        return alu == 1 || alu == 4 || alu == 6 ? AF : 0;
    }
    if (op == 0xc0 || op == 0xc1 || in(op, 0xd0, 0xd3))
        return undefined_shift(op, reg, imm);
    switch (op) {
    case 0x80:
    case 0x81:
    case 0x82:
    case 0x83: return reg == 1 || reg == 4 || reg == 6 ? AF : 0;
    case 0x84:
    case 0x85:
    case 0xa8:
    case 0xa9: return AF;
    case 0xf6:
    case 0xf7: return reg < 2 ? AF : reg == 4 || reg == 5 ? SF | ZF | AF | PF : reg >= 6 ? ALL : 0;
    case 0x69:
    case 0x6b: return SF | ZF | AF | PF;
    case 0x27:
    case 0x2f: return OF;
    case 0x37:
    case 0x3f: return OF | SF | ZF | PF;
    case 0xd4:
    case 0xd5: return OF | AF | CF;
    default: return 0;
    }
}

static uint64_t undefined_0f(const struct bytes *b, uint8_t op)
{
    switch (op) {
    case 0xa3:
    case 0xab:
    case 0xb3:
    case 0xba:
    case 0xbb: return OF | SF | AF | PF;
    case 0xa4:
    case 0xa5:
    case 0xac:
    case 0xad: return OF | AF | CF;
    case 0xaf: return SF | ZF | AF | PF;
    case 0xbc:
    case 0xbd: return b->rep ? OF | SF | AF | PF : ALL & ~ZF;
    default: return 0;
    }
}

static void read_prefixes(struct bytes *b)
{
    for (; b->at < b->n; b->at++) {
        uint8_t v = b->p[b->at];
        if (v == 0x66)
            b->opsz = true;
        else if (v == 0x67)
            b->adsz = true;
        else if (v == 0xf0)
            b->lock = true;
        else if (v == 0xf2)
            b->repne = true;
        else if (v == 0xf3)
            b->rep = true;
        else if (v != 0x26 && v != 0x2e && v != 0x36 && v != 0x3e && v != 0x64 && v != 0x65)
            break;
    }
    if (b->mode == DIFF_64 && b->at < b->n && (b->p[b->at] & 0xf0) == 0x40) {
        b->rexw = b->p[b->at] & 8;
        b->rex = true;
        b->at++;
    }
}

/* Bytes of SIB and displacement after the modrm byte at b->at. */
static unsigned address_bytes(const struct bytes *b)
{
    uint8_t m = b->p[b->at];
    unsigned mod = m >> 6, rm = m & 7;
    if (mod == 3)
        return 0;
    if (b->mode != DIFF_64 && (b->mode == DIFF_16) != b->adsz)
        return mod == 1 ? 1 : mod == 2 || rm == 6 ? 2 : 0;
    unsigned n = mod == 1 ? 1 : mod == 2 ? 4 : 0;
    if (rm == 4) {
        n++;
        if (mod == 0 && b->at + 1 < b->n && (b->p[b->at + 1] & 7) == 5)
            n += 4;
    } else if (mod == 0 && rm == 5) {
        n += 4;
    }
    return n;
}

static bool is_branch(unsigned map, uint8_t op)
{
    return map == 0 ? in(op, 0x70, 0x7f) || in(op, 0xe0, 0xe3) || in(op, 0xe8, 0xe9) || op == 0xeb
                    : map == 1 && in(op, 0x80, 0x8f);
}

struct diff_scan diff_scan(const uint8_t *p, size_t n, enum diff_mode mode, bool host)
{
    struct bytes b = {.p = p, .n = n, .mode = mode, .host = host};
    struct diff_scan s = {.valid = false};
    read_prefixes(&b);
    for (s.map = 0; b.at < n; b.at++) {
        if (s.map == 0 && p[b.at] == 0x0f)
            s.map = 1;
        else if (s.map == 1 && p[b.at] == 0x38)
            s.map = 2;
        else if (s.map == 1 && p[b.at] == 0x3a)
            s.map = 3;
        else
            break;
    }
    if (b.at >= n)
        return s;
    uint8_t op = p[b.at], modrm = 0;
    s.opcode_at = (uint8_t)b.at++;
    s.has_modrm = diff_has_modrm(s.map, op, mode);
    if (s.has_modrm) {
        if (b.at >= n)
            return s;
        s.modrm_at = (uint8_t)b.at;
        modrm = p[b.at];
        b.at += 1 + address_bytes(&b);
    }
    unsigned reg = modrm >> 3 & 7;
    s.imm = (uint8_t)(s.map == 0   ? imm_of(&b, op, reg)
                      : s.map == 1 ? imm_0f(&b, op)
                      : s.map == 3 ? 1
                                   : 0);
    uint8_t imm = b.at < n ? p[b.at] : 0;
    s.length = (uint8_t)(b.at + s.imm);
    s.valid = s.length <= n;
    s.branch = is_branch(s.map, op);
    s.refused = s.map == 0   ? refused_one(&b, op, modrm)
                : s.map == 1 ? refused_0f(&b, op, modrm)
                : s.map == 2 ? refused_38(&b, op)
                             : refused_3a(&b, op);
    if (s.map == 0 && op == 0xcd && imm == 0x80)
        s.refused = true;
    if (s.map == 0)
        s.quirks = (op == 0xa6 || op == 0xa7 ? DIFF_QUIRK_ORDER : 0) |
                   (op == 0xe8 || (op == 0xff && reg == 2) ? DIFF_QUIRK_CALL : 0) |
                   (op == 0x61 ? DIFF_QUIRK_POPA : 0);
    if (s.map == 0 && (op == 0xd9 || op == 0xdd) && modrm < 0xc0 && (reg == 4 || reg == 6))
        s.quirks = DIFF_QUIRK_ORDER;
    if (s.map == 1 && (op == 0xae || op == 0xf7))
        s.quirks = DIFF_QUIRK_ORDER;
    s.undefined = s.map == 0 ? undefined_one(op, reg, imm) : s.map == 1 ? undefined_0f(&b, op) : 0;
    return s;
}
