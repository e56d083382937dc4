/* SPDX-License-Identifier: GPL-3.0-or-later */
/* FXSAVE images, x87 environments, #MF and FWAIT, lazy switching by CR0.TS, MXCSR, MMX aliasing. */
#include "test.h"

static uint8_t image[512] __attribute__((aligned(16))), other[512] __attribute__((aligned(16)));

static uint32_t at32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static uint16_t at16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}

static void images(void)
{
    memset(image, 0xee, sizeof(image));
    __asm__ volatile("fninit; fld1; fldz; fldpi\n"
                     "movq %1, %%xmm3; fxsave64 %0"
                     : "=m"(image)
                     : "r"(0x1122334455667788ull));
    CHECK_EQ(at16(image), 0x37f);
    CHECK_EQ(at16(image + 2) & 0x3800, 5 << 11);
    CHECK_EQ(image[4], 0xe0); /* physical 5, 6, 7 */
    CHECK_EQ(at32(image + 24), 0x1f80);
    CHECK(at32(image + 28) & 0x40);                  /* MXCSR mask: DAZ is there */
    CHECK_EQ(at16(image + 32 + 8), 0x4000);          /* pi on top */
    CHECK_EQ(at32(image + 32 + 32 + 4), 0x80000000); /* 1.0 below 0.0 */
    CHECK_EQ(at32(image + 160 + 48), 0x55667788);
    CHECK_EQ(image[511], 0xee); /* the last 48 bytes are the program's */
    memcpy(other, image, sizeof(other));
    other[160 + 48] = 0x99;
    __asm__ volatile("fninit; xorps %%xmm3, %%xmm3; fxrstor64 %0" ::"m"(other));
    __asm__ volatile("fxsave64 %0" : "=m"(image));
    CHECK_EQ(image[4], 0xe0);
    CHECK_EQ(at32(image + 160 + 48), 0x55667799);
    __asm__ volatile("fninit");
}

static void environments(void)
{
    uint8_t env[28], area[108];
    memset(env, 0, sizeof(env));
    __asm__ volatile("fninit; fld1; fldz; fnstenv %0" : "=m"(env));
    CHECK_EQ(at16(env), 0x37f);
    CHECK_EQ(at16(env + 4) >> 11 & 7, 6);
    CHECK_EQ(at16(env + 8), 0x1fff); /* 7: valid, 6: zero, the rest empty */
    uint16_t cw;
    __asm__ volatile("fnstcw %0" : "=m"(cw));
    CHECK_EQ(cw, 0x37f);
    __asm__ volatile("fldenv %0" ::"m"(env));
    __asm__ volatile("fnsave %0" : "=m"(area));
    CHECK_EQ(at16(area + 28 + 10 + 8), 0x3fff);
    uint16_t sw;
    __asm__ volatile("fnstsw %0" : "=m"(sw));
    CHECK_EQ(sw, 0);
    __asm__ volatile("frstor %0; fnstsw %1" : "+m"(area), "=m"(sw));
    CHECK_EQ(sw >> 11 & 7, 6);
    __asm__ volatile("fninit");
}

SNIPPET(pending_then_fld, "fninit; push $0x37b; fldcw (%rsp); pop %rax\n"
                          "fld1; fldz; fdivrp\nfld1");
SNIPPET(pending_then_mmx, "fninit; push $0x37b; fldcw (%rsp); pop %rax\n"
                          "fld1; fldz; fdivrp\npxor %mm0, %mm0");
SNIPPET(pending_no_wait, "fninit; push $0x37b; fldcw (%rsp); pop %rax\n"
                         "fld1; fldz; fdivrp\nfnstsw %ax; fnclex; fwait; fld1; fninit");
static void errors(void)
{
    CHECK_EQ(try_call(pending_then_fld, NULL), 16);
    __asm__ volatile("fnclex");
    CHECK_EQ(try_call(pending_then_mmx, NULL), 16);
    __asm__ volatile("fnclex");
    CHECK_EQ(try_call(pending_no_wait, NULL), -1);
    __asm__ volatile("fninit");
}

/* CR0.TS: the first use faults, and goes on once TS is clear. */
static volatile unsigned nm_count;
static bool on_nm(struct frame *f)
{
    nm_count++;
    __asm__ volatile("clts");
    return true;
}

static void lazy(void)
{
    on_vector(7, on_nm);
    WRITE_CR(0, READ_CR(0) | 8);
    __asm__ volatile("fld1; fstp %st(0)");
    CHECK_EQ(nm_count, 1);
    WRITE_CR(0, READ_CR(0) | 8);
    __asm__ volatile("pxor %xmm0, %xmm0");
    CHECK_EQ(nm_count, 2);
    WRITE_CR(0, READ_CR(0) | 8);
    __asm__ volatile("fxsave64 %0" : "=m"(image));
    CHECK_EQ(nm_count, 3);
    on_vector(7, NULL);
    WRITE_CR(0, READ_CR(0) & ~8ull);
}

static void arithmetic(void)
{
    double r, a = 1.5, b = 2.25;
    __asm__ volatile("fldl %1; faddl %2; fstpl %0" : "=m"(r) : "m"(a), "m"(b));
    uint64_t bits;
    memcpy(&bits, &r, 8);
    CHECK_EQ(bits, 0x400e000000000000);        /* 3.75 */
    uint32_t mx = 0x1f80 | 0x6000, out, flags; /* toward zero */
    uint64_t third;
    __asm__ volatile("ldmxcsr %3; mov $1, %%eax; cvtsi2sdl %%eax, %%xmm0; mov $3, %%eax\n"
                     "cvtsi2sdl %%eax, %%xmm1; divsd %%xmm1, %%xmm0; movq %%xmm0, %0\n"
                     "stmxcsr %1"
                     : "=r"(third), "=m"(out)
                     : "0"(0), "m"(mx)
                     : "eax");
    CHECK_EQ(third, 0x3fd5555555555555);
    flags = out & 0x3f;
    CHECK_EQ(flags, 0x20); /* inexact */
    mx = 0x1f80;
    __asm__ volatile("ldmxcsr %0" ::"m"(mx));
}

static void mmx(void)
{
    uint64_t v;
    __asm__ volatile("fninit; fld1; movq %1, %%mm2; movq %%mm2, %0; fxsave64 %2; emms"
                     : "=r"(v)
                     : "r"(0x0123456789abcdefull), "m"(image)
                     : "memory");
    CHECK_EQ(v, 0x0123456789abcdef);
    CHECK_EQ(image[4], 0xff);
    CHECK_EQ(at16(image + 2) & 0x3800, 0);
    CHECK_EQ(at16(image + 32 + 32 + 8), 0xffff);
    __asm__ volatile("fxsave64 %0" : "=m"(image));
    CHECK_EQ(image[4], 0);
}

void test_main(void)
{
    __asm__ volatile("fninit");
    images();
    environments();
    errors();
    lazy();
    arithmetic();
    mmx();
}
