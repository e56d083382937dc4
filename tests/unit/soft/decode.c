/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Lengths and ends of decoded instructions; prefixes; what has no length. */
#include <string.h>

#include "core/hv/soft/block.h"
#include "core/hv/soft/ops.h"

#include "check.h"

struct one {
    const char *bytes;
    uint8_t n; /* bytes given */
    uint8_t mode, len, ends, undefined;
};
#define B(s) s, sizeof(s) - 1

static const struct one list[] = {
    {B("\x90"), SOFT_MODE64, 1, 0, 0},
    {B("\x48\xb8\1\2\3\4\5\6\7\x08"), SOFT_MODE64, 10, 0, 0}, /* mov rax, imm64 */
    {B("\x66\xb8\1\2"), SOFT_MODE64, 4, 0, 0},                /* mov ax, imm16 */
    {B("\xb8\1\2"), SOFT_MODE16, 3, 0, 0},                    /* mov ax, imm16 */
    {B("\x8b\x84\x8d\1\2\3\4"), SOFT_MODE64, 7, 0, 0},        /* SIB, disp32 */
    {B("\x8b\x05\1\2\3\4"), SOFT_MODE64, 6, 0, 0},            /* rip-relative */
    {B("\x8b\x06\1\2"), SOFT_MODE16, 4, 0, 0},                /* disp16 */
    {B("\x67\x8b\x04\x24"), SOFT_MODE16, 4, 0, 0},            /* 32-bit address in 16-bit code */
    {B("\xa1\1\2\3\4\5\6\7\x08"), SOFT_MODE64, 9, 0, 0},      /* moffs64 */
    {B("\x67\xa1\1\2\3\4"), SOFT_MODE64, 6, 0, 0},            /* moffs32 */
    {B("\xe8\0\0\0\0"), SOFT_MODE64, 5, 1, 0},                /* call */
    {B("\x66\xe8\0\0\0\0"), SOFT_MODE64, 6, 1, 0},            /* 66 does not shorten it */
    {B("\xe8\0\0"), SOFT_MODE16, 3, 1, 0},
    {B("\x74\0"), SOFT_MODE32, 2, 1, 0},
    {B("\xf7\x05\1\2\3\4\5\6\7\x08"), SOFT_MODE32, 10, 0, 0}, /* test m32, imm32 */
    {B("\xf7\x1d\1\2\3\4"), SOFT_MODE32, 6, 0, 0},            /* neg m32 */
    {B("\xc8\1\2\3"), SOFT_MODE64, 4, 0, 0},                  /* enter */
    {B("\xea\1\2\3\4\5\6"), SOFT_MODE32, 7, 1, 0},            /* jmp far */
    {B("\xea"), SOFT_MODE64, 1, 1, 1},                        /* not in 64-bit code */
    {B("\x06"), SOFT_MODE64, 1, 1, 1},                        /* push es */
    {B("\x06"), SOFT_MODE32, 1, 0, 0},
    {B("\x0f\x0b"), SOFT_MODE64, 2, 1, 1},         /* ud2 */
    {B("\xf0\x01\x00"), SOFT_MODE64, 3, 0, 0},     /* lock add m, r */
    {B("\xf0\x01\xc0"), SOFT_MODE64, 3, 1, 1},     /* lock add r, r */
    {B("\xf0\x03\x00"), SOFT_MODE64, 3, 1, 1},     /* lock add r, m */
    {B("\xf0\x39\x00"), SOFT_MODE64, 3, 1, 1},     /* lock cmp m, r */
    {B("\x8e\xc8"), SOFT_MODE32, 2, 1, 1},         /* mov cs, ax */
    {B("\x48\x66\x01\xc0"), SOFT_MODE64, 4, 0, 0}, /* REX before 66 is dropped */
    {B("\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x90"), SOFT_MODE64, 15, 0, 0},
    {B("\x0f\x1f\x84\x00\0\0\0\0"), SOFT_MODE64, 8, 0, 0}, /* long nop */
    {B("\x0f\x20\xc0"), SOFT_MODE64, 3, 0, 0},             /* mov rax, cr0 */
    {B("\x0f\x20\x40"), SOFT_MODE64, 3, 0, 0},             /* its mod field is ignored */
};

static void lengths(void)
{
    for (unsigned n = 0; n < sizeof list / sizeof *list; n++) {
        const struct one *t = &list[n];
        const uint8_t *bytes = (const uint8_t *)t->bytes;
        struct insn i;
        enum decode_result r = soft_decode(&i, bytes, t->n, t->mode, 0);
        CHECK_EQ(r, t->ends ? DECODE_END : DECODE_OK);
        CHECK_EQ(i.len, t->len);
        CHECK_EQ(i.fn == soft_op_ud, t->undefined);
        for (unsigned less = 0; less < t->len; less++)
            CHECK_EQ(soft_decode(&i, bytes, less, t->mode, 0), DECODE_SHORT);
    }
}

static void too_long(void)
{
    uint8_t bytes[32];
    struct insn i;
    memset(bytes, 0x66, sizeof bytes);
    bytes[15] = 0x90;
    CHECK_EQ(soft_decode(&i, bytes, 32, SOFT_MODE64, 0), DECODE_LONG);
    CHECK_EQ(soft_decode(&i, bytes, 14, SOFT_MODE64, 0), DECODE_SHORT);
}

static void operands(void)
{
    struct insn i;
    soft_decode(&i, (const uint8_t *)"\x88\xe0", 2, SOFT_MODE32, 0); /* mov al, ah */
    CHECK_EQ(i.reg, 0);
    CHECK_EQ(i.rm, 1);
    soft_decode(&i, (const uint8_t *)"\x40\x88\xe0", 3, SOFT_MODE64, 0); /* mov al, spl */
    CHECK_EQ(i.rm, 8 * HV_RSP);
    soft_decode(&i, (const uint8_t *)"\x65\x48\x8b\x04\x25\x08\0\0\0", 9, SOFT_MODE64, 0);
    CHECK_EQ(i.segbase, offsetof(struct soft_vp, seg[HV_GS].base));
    CHECK_EQ(i.disp, 8);
    CHECK_EQ(i.ea, 0);
    soft_decode(&i, (const uint8_t *)"\x8b\x45\xfc", 3, SOFT_MODE32, 0); /* [ebp - 4] */
    CHECK_EQ(i.seg, HV_SS);
    CHECK_EQ((uint64_t)(int64_t)i.disp, (uint64_t)-4);
    CHECK_EQ(i.ea, INSN_EA32 | INSN_EASEG);
    soft_decode(&i, (const uint8_t *)"\xeb\xfe", 2, SOFT_MODE64, 0x20); /* jmp . */
    CHECK_EQ(i.imm, 0x20);
}

static const struct check_test tests[] = {
    CHECK_TEST(lengths),
    CHECK_TEST(too_long),
    CHECK_TEST(operands),
};
CHECK_MAIN(tests)
