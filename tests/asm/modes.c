/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Real mode, virtual-8086 mode, and protected mode with 32-bit and PAE paging. */
#include "test32.h"

extern char real_tests[], real_tests_end[], r_add[], r_int[], r_fault[], r_segments[], r_string[],
    r_wrap[], r_bios_flags[], v_work[], v_int[], v_cli[], v_hlt[], v_in[], v_pushf[];

/* 16-bit code, copied to 0x7100 with its labels' offsets kept. */
__asm__(".section .text\n"
        ".code16\n"
        "real_tests:\n"
        "r_add:\n" /* 32-bit registers and addresses in 16-bit code */
        "mov $0x12345678, %eax\n"
        "mov $0x11111111, %ecx\n"
        "add %ecx, %eax\n"
        "mov $0x6000, %ebx\n"
        "mov %eax, (%ebx)\n"
        "mov 0x6000, %ax\n"
        "ret\n"
        "r_int:\n" /* INT 0x60 through the vector table, with IF and TF cleared in the handler */
        "mov $0x60 * 4, %bx\n"
        "movw $0x7100 + (r_handler - real_tests), (%bx)\n"
        "movw $0, 2(%bx)\n"
        "stc\n"
        "mov $5, %eax\n"
        "int $0x60\n"
        "adc $0, %eax\n" /* the handler's IRET gave CF back */
        "ret\n"
        "r_handler:\n"
        "clc\n"
        "add $0x100, %eax\n"
        "iret\n"
        "r_fault:\n" /* divide error: vector 0, the saved IP is the DIV's */
        "movw $0x7100 + (r_div_handler - real_tests), 0\n"
        "movw $0, 2\n"
        "xor %eax, %eax\n"
        "xor %cx, %cx\n"
        "r_div: div %cx\n"
        "ret\n"
        "r_div_handler:\n"
        "mov %sp, %bx\n"
        "mov (%bx), %ax\n"
        "sub $0x7100 + (r_div - real_tests), %ax\n" /* 0 if it points at the DIV */
        "addw $2, (%bx)\n"
        "or $0x77000000, %eax\n"
        "iret\n"
        "r_segments:\n" /* base = selector * 16; far call and return */
        "mov $0x600, %ax\n"
        "mov %ax, %es\n"
        "movl $0xcafebabe, %es:0x10\n"
        "mov 0x6010, %eax\n"
        "lcall $0x710, $(r_far - real_tests)\n"
        "ret\n"
        "r_far:\n"
        "mov %cs, %cx\n"
        "sub $0x710, %cx\n"
        "movzx %cx, %ecx\n"
        "add %ecx, %eax\n"
        "lret\n"
        "r_string:\n"
        "mov $0x6000, %si\n"
        "mov $0x6100, %di\n"
        "mov $8, %cx\n"
        "movl $0x01020304, (%si)\n"
        "movl $0x05060708, 4(%si)\n"
        "rep movsb\n"
        "mov 0x6104, %eax\n"
        "movzx %cx, %ecx\n"
        "add %ecx, %eax\n"
        "ret\n"
        "r_wrap:\n" /* a word at offset 0xffff of a segment is #GP: vector 13 */
        "movw $0x7100 + (r_gp_handler - real_tests), 13 * 4\n"
        "movw $0, 13 * 4 + 2\n"
        "xor %eax, %eax\n"
        "mov $0xffff, %bx\n"
        "mov (%bx), %cx\n"
        "ret\n"
        "r_gp_handler:\n"
        "mov %sp, %bx\n"
        "addw $2, (%bx)\n"
        "mov $0x1313, %eax\n"
        "iret\n"
        "r_bios_flags:\n" /* flag image: IOPL and NT can be set in real mode */
        "push $0x7002\n"
        "popf\n"
        "pushf\n"
        "xor %eax, %eax\n"
        "pop %ax\n"
        "push $2\n"
        "popf\n"
        "ret\n"
        "v_work:\n"
        "mov $0x640, %ax\n"
        "mov %ax, %ds\n"
        "movl $0x600dcafe, 0x20\n"
        "mov 0x20, %eax\n"
        "int $0x31\n" /* to the monitor: see on_gp */
        "v_int:\n"
        "int $0x31\n"
        "v_cli:\n"
        "cli\n"
        "v_hlt:\n"
        "hlt\n"
        "v_in:\n"
        "in $0x80, %al\n"
        "mov $0x1a1a, %eax\n"
        "hlt\n"
        "v_pushf:\n"
        "pushf\n"
        "pop %ax\n"
        "hlt\n"
        "real_tests_end:\n"
        ".code32\n");

static uint16_t low(char *label)
{
    return (uint16_t)(0x7100 + (label - real_tests));
}

static void real_mode(void)
{
    CHECK_EQ(real_call(low(r_add)), 0x23456789);
    CHECK_EQ(*(volatile uint32_t *)0x6000, 0x23456789);
    CHECK_EQ(real_call(low(r_int)), 0x106);
    CHECK_EQ(real_call(low(r_fault)), 0x77000000);
    CHECK_EQ(real_call(low(r_segments)), 0xcafebabe);
    CHECK_EQ(real_call(low(r_string)), 0x05060708);
    CHECK_EQ(real_call(low(r_wrap)), 0x1313);
    CHECK_EQ(real_call(low(r_bios_flags)), 0x7002);
}

/* ---- virtual-8086 mode: every way out is a #GP that the monitor sees ---- */

static struct frame v86_frame;
static bool on_gp(struct frame *f)
{
    if (!(f->eflags & 0x20000))
        return false;
    v86_frame = *f;
    __asm__ volatile("jmp *%0" ::"r"(v86_return));
    return true;
}

static void v86(void)
{
    on_vector(13, on_gp);
    /* IOPL 0: INT, CLI, HLT, PUSHF and IN all trap. */
    v86_enter(low(v_work), 0x20002);
    CHECK_EQ(v86_frame.eax, 0x600dcafe);
    CHECK_EQ(*(volatile uint32_t *)0x6420, 0x600dcafe);
    CHECK_EQ(v86_frame.eip, (uint32_t)low(v_int) - 2);
    CHECK_EQ(v86_frame.vds, 0x640);
    CHECK_EQ(v86_frame.error, 0);
    CHECK_EQ(v86_frame.cs, 0);
    v86_enter(low(v_cli), 0x20002);
    CHECK_EQ(v86_frame.eip, (uint32_t)low(v_cli));
    v86_enter(low(v_hlt), 0x20002);
    CHECK_EQ(v86_frame.eip, (uint32_t)low(v_hlt));
    v86_enter(low(v_pushf), 0x20002);
    CHECK_EQ(v86_frame.eip, (uint32_t)low(v_pushf));
    tss.iobase = sizeof(tss);
    v86_enter(low(v_in), 0x23002); /* I/O by the bitmap, whatever IOPL */
    CHECK_EQ(v86_frame.eip, (uint32_t)low(v_in));
    memset(tss.iomap, 0, sizeof(tss.iomap));
    tss.iobase = offsetof(struct tss32, iomap);
    v86_enter(low(v_in), 0x20002);
    CHECK_EQ(v86_frame.eax, 0x1a1a);
    /* IOPL 3: PUSHF is allowed, HLT still is not; INT goes through the IDT. */
    v86_enter(low(v_pushf), 0x23002);
    CHECK_EQ(v86_frame.eip, (uint32_t)low(v_pushf) + 2);
    CHECK_EQ(v86_frame.eax & 0x3000, 0x3000);
    v86_enter(low(v_int), 0x23002); /* the gate's DPL is 0: #GP(0x31 * 8 + 2) */
    CHECK_EQ(v86_frame.error, 0x31 * 8 + 2);
    on_vector(13, NULL);
}

/* ---- paging ---- */

static volatile uint32_t pd[1024] __attribute__((aligned(4096))),
    pt[1024] __attribute__((aligned(4096)));
static volatile uint64_t pdpt[4] __attribute__((aligned(32))),
    pds[4][512] __attribute__((aligned(4096))), pte[512] __attribute__((aligned(4096)));

SNIPPET(read_at, "movl (%eax), %ecx");
SNIPPET(write_at, "movl $1, (%eax)");

static void paging32(void)
{
    for (uint32_t i = 0; i < 1024; i++)
        pd[i] = i << 22 | 0x83; /* 4 MiB pages, for PSE */
    for (uint32_t i = 0; i < 1024; i++)
        pt[i] = (0x800000 + (i << 12)) | 3;
    pd[0x40000000 >> 22] = (uint32_t)pt | 3;
    WRITE_CR(4, READ_CR(4) | 0x10);
    WRITE_CR(3, (uint32_t)pd);
    WRITE_CR(0, READ_CR(0) | 0x80010000);
    *(volatile uint32_t *)0x803000 = 0x1111;
    CHECK_EQ(*(volatile uint32_t *)0x40003000, 0x1111);
    CHECK_EQ(pt[3] & 0x60, 0x20);
    *(volatile uint32_t *)0x40003000 = 0x2222;
    CHECK_EQ(pt[3] & 0x60, 0x60);
    CHECK_EQ(*(volatile uint32_t *)0x803000, 0x2222);
    CHECK_EQ(pd[2] & 0x60, 0x60);
    pt[4] = 0;
    __asm__ volatile("invlpg 0x40004000" ::: "memory");
    CHECK_EQ(try_call(write_at, (void *)0x40004010), 14);
    CHECK_EQ(last_trap.error, 2);
    CHECK_EQ(last_cr2, 0x40004010);
    pt[4] = 0x804001;
    CHECK_EQ(try_call(write_at, (void *)0x40004010), 14);
    CHECK_EQ(last_trap.error, 3);
    CHECK_EQ(try_call(read_at, (void *)0x40004010), -1);
    /* INVLPG anywhere in a page of 4 MiB forgets all of it. */
    *(volatile uint32_t *)0x801000 = 0x800;
    *(volatile uint32_t *)0xc01000 = 0xc00;
    pd[0x50000000 >> 22] = 0x800083;
    CHECK_EQ(*(volatile uint32_t *)0x50001000, 0x800);
    pd[0x50000000 >> 22] = 0xc00083;
    __asm__ volatile("invlpg 0x50200000" ::: "memory");
    CHECK_EQ(*(volatile uint32_t *)0x50001000, 0xc00);
    WRITE_CR(0, READ_CR(0) & ~0x80000000u);
    WRITE_CR(4, READ_CR(4) & ~0x10u);
}

static void paging_pae(void)
{
    for (uint32_t k = 0; k < 4; k++) {
        pdpt[k] = (uint32_t)pds[k] | 1;
        for (uint32_t i = 0; i < 512; i++)
            pds[k][i] = ((uint64_t)k << 30) | (i << 21) | 0x83;
    }
    for (uint32_t i = 0; i < 512; i++)
        pte[i] = (0x800000 + (i << 12)) | 3;
    pds[1][0] = (uint32_t)pte | 3;
    WRITE_CR(4, READ_CR(4) | 0x20);
    uint32_t eax, edx;
    __asm__ volatile("rdmsr" : "=a"(eax), "=d"(edx) : "c"(0xc0000080));
    __asm__ volatile("wrmsr" ::"a"(eax | 0x800), "d"(edx), "c"(0xc0000080));
    WRITE_CR(3, (uint32_t)pdpt);
    WRITE_CR(0, READ_CR(0) | 0x80010000);
    *(volatile uint32_t *)0x40003000 = 0x3333;
    CHECK_EQ(*(volatile uint32_t *)0x803000, 0x3333);
    CHECK_EQ((uint32_t)pte[3] & 0x60, 0x60);
    pte[4] |= 1ull << 63; /* NX */
    *(volatile uint8_t *)0x804000 = 0xc3;
    __asm__ volatile("invlpg 0x40004000" ::: "memory");
    CHECK_EQ(try_call((void (*)(void *))0x40004000, NULL), 14);
    CHECK_EQ(last_trap.error, 0x11);
    pte[4] &= ~(1ull << 63);
    __asm__ volatile("invlpg 0x40004000" ::: "memory");
    CHECK_EQ(try_call((void (*)(void *))0x40004000, NULL), -1);
    /* The four entries are loaded by CR3 alone. */
    pdpt[1] = 0;
    CHECK_EQ(*(volatile uint32_t *)0x40003000, 0x3333);
    WRITE_CR(3, (uint32_t)pdpt);
    CHECK_EQ(try_call(read_at, (void *)0x40003000), 14);
    pdpt[1] = (uint32_t)pds[1] | 1;
    WRITE_CR(3, (uint32_t)pdpt);
    CHECK_EQ(*(volatile uint32_t *)0x40003000, 0x3333);
    WRITE_CR(0, READ_CR(0) & ~0x80000000u);
    WRITE_CR(4, READ_CR(4) & ~0x20u);
}

void test_main(void)
{
    memcpy((void *)0x7100, real_tests, (size_t)(real_tests_end - real_tests));
    real_mode();
    v86();
    paging32();
    paging_pae();
    real_mode(); /* once more, after paging */
}
