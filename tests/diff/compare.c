/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Compares two outcomes of a case and prints what a person needs to find out why they differ. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/diff/diff.h"

static const char *const reg_names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

struct report {
    bool print, same;
};

static void differ(struct report *r, const char *name, uint64_t native, uint64_t soft)
{
    if (native == soft)
        return;
    if (r->print)
        printf("  %-6s native %016" PRIx64 "  soft %016" PRIx64 "\n", name, native, soft);
    r->same = false;
}

static void bytes_differ(struct report *r, const char *name, const uint8_t *native,
                         const uint8_t *soft, unsigned n)
{
    if (memcmp(native, soft, n) == 0)
        return;
    r->same = false;
    if (!r->print)
        return;
    const uint8_t *rows[2] = {native, soft};
    for (int k = 0; k < 2; k++) {
        printf("  %-6s %s ", k ? "" : name, k ? "soft  " : "native");
        for (unsigned i = n; i-- > 0;)
            printf("%02x%s", rows[k][i], i == 8 ? "_" : "");
        printf("\n");
    }
}

static uint32_t le(const uint8_t *p, unsigned n)
{
    uint32_t v = 0;
    memcpy(&v, p, n);
    return v;
}

static void compare_fx(struct report *r, const struct diff_case *c, const uint8_t *a,
                       const uint8_t *b)
{
    char name[16];
    differ(r, "fcw", le(a, 2), le(b, 2));
    differ(r, "fsw", le(a + 2, 2), le(b + 2, 2));
    differ(r, "ftw", a[4], b[4]);
    differ(r, "mxcsr", le(a + 24, 4), le(b + 24, 4));
    for (unsigned k = 0; k < 8; k++) {
        snprintf(name, sizeof(name), "st%u", k);
        bytes_differ(r, name, a + 32 + 16 * k, b + 32 + 16 * k, 10);
    }
    for (unsigned k = 0; k < (c->mode == DIFF_64 ? 16u : 8u); k++) {
        snprintf(name, sizeof(name), "xmm%u", k);
        bytes_differ(r, name, a + 160 + 16 * k, b + 160 + 16 * k, 16);
    }
}

static void compare_data(struct report *r, const uint8_t *a, const uint8_t *b)
{
    unsigned printed = 0;
    for (unsigned i = 0; i < DIFF_DATA_BYTES; i += 8)
        if (memcmp(a + i, b + i, 8) != 0) {
            char name[16];
            snprintf(name, sizeof(name), "+%04x", i);
            if (printed++ < 4)
                bytes_differ(r, name, a + i, b + i, 8);
            r->same = false;
        }
    if (printed > 4 && r->print)
        printf("  ... %u quadwords of data differ\n", printed);
}

/* Linux hides whether a kernel address is mapped. */
static uint32_t comparable_error(const struct diff_outcome *o)
{
    return o->vector == 14 && o->cr2 >> 47 ? o->error | 1 : o->error;
}

bool diff_same(const struct diff_case *c, const struct diff_outcome *n,
               const struct diff_outcome *s, bool report)
{
    struct report r = {.print = report, .same = true};
    if (n->skipped || s->skipped)
        return true;
    if (le(n->s.fx + 24, 4) >> 16) /* AMD's misaligned mode: the guest's processor has none */
        return true;
    bool faults = n->vector >= 12 && n->vector <= 14 && s->vector >= 12 && s->vector <= 14;
    if (faults && (c->quirks & (DIFF_QUIRK_CALL | DIFF_QUIRK_ORDER)) &&
        (n->vector != s->vector || n->error != s->error || n->cr2 != s->cr2))
        return true;
    if (faults && (c->quirks & DIFF_QUIRK_POPA))
        return n->s.rip == s->s.rip;
    differ(&r, "vector", n->vector, s->vector);
    differ(&r, "error", comparable_error(n), comparable_error(s));
    if (n->vector == 14 && !(c->quirks & DIFF_QUIRK_ORDER))
        differ(&r, "cr2", n->cr2, s->cr2);
    /* Linux's way back to 16-bit stacks leaves the upper half of RSP undefined. */
    uint64_t mask = c->mode == DIFF_64 ? UINT64_MAX : UINT32_MAX;
    for (unsigned k = 0; k < (c->mode == DIFF_64 ? 16u : 8u); k++)
        differ(&r, reg_names[k], n->s.gpr[k] & mask, s->s.gpr[k] & mask);
    differ(&r, "rip", n->s.rip, s->s.rip);
    differ(&r, "rflags", n->s.rflags & ~c->undefined_flags, s->s.rflags & ~c->undefined_flags);
    differ(&r, "cs", n->s.cs, s->s.cs);
    differ(&r, "ss", n->s.ss, s->s.ss);
    differ(&r, "ds", n->s.ds, s->s.ds);
    differ(&r, "es", n->s.es, s->s.es);
    differ(&r, "fs", n->s.fs, s->s.fs);
    differ(&r, "gs", n->s.gs, s->s.gs);
    compare_fx(&r, c, n->s.fx, s->s.fx);
    compare_data(&r, n->data, s->data);
    return r.same;
}

void diff_print_case(const struct diff_case *c)
{
    static const char *const modes[] = {"64-bit", "32-bit", "16-bit"};
    printf("case 0x%" PRIx64 ", %s, at %" PRIx64 ":\n", c->seed, modes[c->mode], c->s.rip);
    for (unsigned k = 0; k < c->insns; k++) {
        printf("   ");
        for (unsigned i = c->insn_off[k]; i < c->insn_off[k + 1]; i++)
            printf(" %02x", c->code[i]);
        printf("\n");
    }
    for (unsigned k = 0; k < 16; k++)
        printf("  %-4s%016" PRIx64 "%s", reg_names[k], c->s.gpr[k], k % 4 == 3 ? "\n" : "");
    printf("  rflags %" PRIx64 " fcw %04x fsw %04x ftw %02x mxcsr %04x ds %x es %x ss %x\n",
           c->s.rflags, le(c->s.fx, 2), le(c->s.fx + 2, 2), c->s.fx[4], le(c->s.fx + 24, 4),
           c->s.ds, c->s.es, c->s.ss);
    fflush(stdout);
}
