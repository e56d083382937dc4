/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Every exception that a program can cause: vector, error code, where RIP points, what CR2 and DR6
 * hold; software interrupts and their gates; double faults and interrupt stacks. */
#include "test.h"

/* Faults: `name_at` marks the instruction that must be reported. */
#define FAULT(name, before, insn) \
    SNIPPET(name, before "\n.globl " #name "_at\n" #name "_at:\n" insn)

FAULT(x_div0, "xor %ecx, %ecx", "div %ecx");
FAULT(x_div_overflow, "mov $2, %ecx; mov $2, %edx", "div %ecx");
FAULT(x_idiv_min, "movabs $0x8000000000000000, %rax; cqo; mov $-1, %rcx", "idiv %rcx");
FAULT(x_ud2, "", "ud2");
FAULT(x_lock_mov, "", ".byte 0xf0, 0x89, 0xc0");
FAULT(x_lea_reg, "", ".byte 0x8d, 0xc0");
FAULT(x_old_pusha, "", ".byte 0x60");
FAULT(x_gp_noncanonical, "movabs $0x8000000000000000, %rax", "mov (%rax), %rcx");
FAULT(x_gp_null_cs, "push $0; lea 1f(%rip), %rax; push %rax", "lretq\n1: nop");
FAULT(x_gp_selector, "mov $0x38 * 16 + 4, %eax", "mov %eax, %ds");
FAULT(x_gp_ss_null3, "mov $3, %eax", "mov %eax, %ss");
FAULT(x_gp_wrmsr, "mov $0xc0000080, %ecx; mov $0xffffffff, %eax; mov %eax, %edx", "wrmsr");
FAULT(x_gp_rdmsr, "mov $0x12345678, %ecx", "rdmsr");
FAULT(x_gp_cr4, "mov $0xffffffff, %eax", "mov %rax, %cr4");
FAULT(x_gp_cr0, "mov $0x80000000, %eax", "mov %rax, %cr0");
FAULT(x_gp_cr8, "mov $0x10, %eax", "mov %rax, %cr8");
FAULT(x_gp_sse_align, "mov $0x100001, %eax", "movaps (%rax), %xmm0");
FAULT(x_gp_long, "",
      ".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90");
FAULT(x_ss_noncanonical, "mov %rsp, %rcx; movabs $0x8000000000000000, %rbp", "mov (%rbp), %rax");
FAULT(x_pf_read, "movabs $0x1234567000, %rax", "mov (%rax), %ecx");
FAULT(x_pf_write, "movabs $0x1234567008, %rax", "mov %ecx, (%rax)");
FAULT(x_pf_rmw, "movabs $0x1234567008, %rax", "lock incl (%rax)");
FAULT(x_nm_ts, "mov %cr0, %rax; or $8, %eax; mov %rax, %cr0", "fnop");
FAULT(x_nm_em, "mov %cr0, %rax; or $4, %eax; mov %rax, %cr0", "fnop");
FAULT(x_nm_sse, "mov %cr0, %rax; or $8, %eax; mov %rax, %cr0", "xorps %xmm0, %xmm0");
FAULT(x_ud_em, "mov %cr0, %rax; or $4, %eax; mov %rax, %cr0", "xorps %xmm0, %xmm0");
FAULT(x_ud_osfxsr, "mov %cr4, %rax; and $~0x200, %eax; mov %rax, %cr4", "xorps %xmm0, %xmm0");
FAULT(x_nm_wait, "mov %cr0, %rax; or $10, %eax; mov %rax, %cr0", "fwait");
FAULT(x_mf, "fninit; push $0x340; fldcw (%rsp); pop %rax; fld1; fldz; fdivrp; nop", "fwait");
FAULT(x_xm, "push $0x1f00; ldmxcsr (%rsp); pop %rax; xorps %xmm0, %xmm0; xorps %xmm1, %xmm1",
      "divss %xmm1, %xmm0");
FAULT(x_xm_ud,
      "mov %cr4, %rax; and $~0x400, %eax; mov %rax, %cr4; push $0x1f00; ldmxcsr (%rsp);"
      "pop %rax; xorps %xmm0, %xmm0; xorps %xmm1, %xmm1",
      "divss %xmm1, %xmm0");
FAULT(x_mxcsr, "push $-1", "ldmxcsr (%rsp)");
FAULT(x_int_gate, "", "int $0x55");              /* not present below */
FAULT(x_int_limit, "", "int $0xfe");             /* beyond the limit below */
FAULT(x_np, "mov $0x58, %eax", "mov %eax, %ds"); /* not present: see test_main */
FAULT(x_ss_np, "mov $0x58, %eax", "mov %eax, %ss");
FAULT(x_jmp_noncanonical, "movabs $0x8000000000000000, %rax", "jmp *%rax");
FAULT(x_pf_fetch, "movabs $0x1234567000, %rax", "jmp *%rax");
FAULT(x_cmpxchg16b, "lea -8(%rsp), %rdi; and $-16, %rdi", "cmpxchg16b 8(%rdi)");
FAULT(x_into, "", ".byte 0xce"); /* no INTO in 64-bit code */
FAULT(x_fxsave, "lea -1024(%rsp), %rdi; and $-64, %rdi", "fxsave 8(%rdi)");
/* Traps: `name_at` is the instruction after. */
#define TRAP(name, insn) SNIPPET(name, insn "\n.globl " #name "_at\n" #name "_at:\nnop")
TRAP(x_int3, "int3");
TRAP(x_int_3, ".byte 0xcd, 3");
TRAP(x_int1, ".byte 0xf1");
TRAP(x_step, "pushfq; orl $0x100, (%rsp); popfq; nop");
TRAP(x_step_syscall_like, "pushfq; orl $0x100, (%rsp); popfq; movl $5, %eax");

#define E(name, vector, error)                   \
    {                                            \
#name, name, name##_at, vector, error, 0 \
    }
#define P(name, vector, error, cr2)                \
    {                                              \
#name, name, name##_at, vector, error, cr2 \
    }
#define EXT(name) extern char name##_at[];
EXT(x_div0)
EXT(x_div_overflow)
EXT(x_idiv_min)
EXT(x_ud2)
EXT(x_lock_mov)
EXT(x_lea_reg)
EXT(x_old_pusha)
EXT(x_gp_noncanonical)
EXT(x_gp_null_cs) EXT(x_gp_selector) EXT(x_gp_ss_null3) EXT(x_gp_wrmsr) EXT(x_gp_rdmsr)
    EXT(x_gp_cr4) EXT(x_gp_cr0) EXT(x_gp_cr8) EXT(x_gp_sse_align) EXT(x_gp_long)
        EXT(x_ss_noncanonical) EXT(x_pf_read) EXT(x_pf_write) EXT(x_pf_rmw) EXT(x_nm_ts)
            EXT(x_nm_em) EXT(x_nm_sse) EXT(x_ud_em) EXT(x_ud_osfxsr) EXT(x_nm_wait) EXT(x_mf)
                EXT(x_xm) EXT(x_xm_ud) EXT(x_mxcsr) EXT(x_int_gate) EXT(x_int_limit) EXT(x_np)
                    EXT(x_ss_np) EXT(x_jmp_noncanonical) EXT(x_pf_fetch) EXT(x_cmpxchg16b)
                        EXT(x_into) EXT(x_fxsave) EXT(x_int3) EXT(x_int_3) EXT(x_int1) EXT(x_step)
                            EXT(x_step_syscall_like)

                                static const struct {
    const char *name;
    void (*fn)(void *);
    char *rip; /* NULL: not compared */
    unsigned vector;
    uint64_t error, cr2;
} cases[] = {
    E(x_div0, 0, 0),
    E(x_div_overflow, 0, 0),
    E(x_idiv_min, 0, 0),
    E(x_ud2, 6, 0),
    E(x_lock_mov, 6, 0),
    E(x_lea_reg, 6, 0),
    E(x_old_pusha, 6, 0),
    E(x_into, 6, 0),
    E(x_gp_noncanonical, 13, 0),
    E(x_gp_null_cs, 13, 0),
    E(x_gp_selector, 13, 0x38 * 16 + 4),
    E(x_gp_ss_null3, 13, 0),
    E(x_gp_wrmsr, 13, 0),
    E(x_gp_rdmsr, 13, 0),
    E(x_gp_cr4, 13, 0),
    E(x_gp_cr0, 13, 0),
    E(x_gp_cr8, 13, 0),
    E(x_gp_sse_align, 13, 0),
    E(x_gp_long, 13, 0),
    E(x_cmpxchg16b, 13, 0),
    E(x_fxsave, 13, 0),
    E(x_ss_noncanonical, 12, 0),
    P(x_pf_read, 14, 0, 0x1234567000),
    P(x_pf_write, 14, 2, 0x1234567008),
    P(x_pf_rmw, 14, 2, 0x1234567008),
    E(x_nm_ts, 7, 0),
    E(x_nm_em, 7, 0),
    E(x_nm_sse, 7, 0),
    E(x_ud_em, 6, 0),
    E(x_ud_osfxsr, 6, 0),
    E(x_nm_wait, 7, 0),
    E(x_mf, 16, 0),
    E(x_xm, 19, 0),
    E(x_xm_ud, 6, 0),
    E(x_mxcsr, 13, 0),
    E(x_int_gate, 11, 0x55 * 8 + 2),
    E(x_int_limit, 13, 0xfe * 8 + 2),
    E(x_np, 11, 0x58),
    E(x_ss_np, 12, 0x58),
    E(x_int3, 3, 0),
    E(x_int_3, 3, 0),
    E(x_int1, 1, 0),
    E(x_step, 1, 0),
    E(x_step_syscall_like, 1, 0),
};

/* QEMU's TCG is known to let these pass. */
static bool lenient(void (*fn)(void *))
{
    uint32_t r[4];
    cpuid(0x40000000, 0, r);
    return r[1] == 0x54474354 &&
           (fn == x_lock_mov || fn == x_gp_ss_null3 || fn == x_gp_wrmsr || fn == x_gp_rdmsr ||
            fn == x_gp_cr4 || fn == x_gp_cr0 || fn == x_gp_cr8);
}

static void run_cases(void)
{
    uint64_t cr0 = READ_CR(0), cr4 = READ_CR(4);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (lenient(cases[i].fn))
            continue;
        int v = try_call(cases[i].fn, NULL);
        WRITE_CR(0, cr0);
        WRITE_CR(4, cr4);
        __asm__ volatile("fninit; push $0x1f80; ldmxcsr (%%rsp); pop %%rax" ::: "rax", "memory");
        bool ok = v == (int)cases[i].vector && last_trap.error == cases[i].error &&
                  last_trap.rip == (uint64_t)(uintptr_t)cases[i].rip &&
                  (cases[i].vector != 14 || last_cr2 == cases[i].cr2);
        if (ok)
            continue;
        print("%s: vector %d error %lx rip %lx (wanted %u %lx %lx)\n", cases[i].name, v,
              last_trap.error, last_trap.rip, cases[i].vector, cases[i].error,
              (uint64_t)(uintptr_t)cases[i].rip);
        CHECK(!"exception as expected");
    }
}

/* Faults that a jump makes are reported where the jump went or where it was, as the case may be. */
static void jumps(void)
{
    CHECK_EQ(try_call(x_jmp_noncanonical, NULL), 13);
    CHECK_EQ(try_call(x_pf_fetch, NULL), 14);
    CHECK_EQ(last_trap.rip, 0x1234567000);
    CHECK_EQ(last_cr2, 0x1234567000);
    CHECK_EQ(last_trap.error & ~0x10ull, 0);
}

/* RF is set in the image of a fault and not of a trap; TF is clear in handlers. */
static void flags_in_frames(void)
{
    try_call(x_ud2, NULL);
    CHECK_EQ(last_trap.rflags & 0x10100, 0x10000);
    try_call(x_int3, NULL);
    CHECK_EQ(last_trap.rflags & 0x10100, 0);
    try_call(x_step, NULL);
    CHECK_EQ(last_trap.rflags & 0x10100, 0x100);
    CHECK_EQ(last_dr6 & 0x4000, 0x4000);
    WRITE_DR(6, 0xffff0ff0);
}

/* ---- privilege 3 ---- */

static uint64_t user_cli(uint64_t a)
{
    __asm__ volatile("cli");
    return a;
}
static uint64_t user_hlt(uint64_t a)
{
    __asm__ volatile("hlt");
    return a;
}
static uint64_t user_out(uint64_t a)
{
    __asm__ volatile("outb %%al, $0x80" ::"a"(0));
    return a;
}
static uint64_t user_int55(uint64_t a)
{
    __asm__ volatile("int $0x20");
    return a;
}
static uint64_t user_plus(uint64_t a)
{
    return a + 1;
}
static uint64_t user_ac(uint64_t a)
{
    uint64_t v[2] = {0, 0}, r;
    __asm__ volatile("pushfq; orl $0x40000, (%%rsp); popfq\n"
                     "mov 1(%1), %0\n"
                     "pushfq; andl $~0x40000, (%%rsp); popfq"
                     : "=r"(r)
                     : "r"(v)
                     : "memory");
    return r;
}
static void call_user(void *fn)
{
    user_call((uint64_t(*)(uint64_t))(uintptr_t)fn, 1);
}

static void user_faults(void)
{
    CHECK_EQ(user_call(user_plus, 41), 42);
    CHECK_EQ(try_call(call_user, (void *)(uintptr_t)user_cli), 13);
    CHECK_EQ(last_trap.cs, 0x33);
    CHECK_EQ(try_call(call_user, (void *)(uintptr_t)user_hlt), 13);
    CHECK_EQ(try_call(call_user, (void *)(uintptr_t)user_out), 13);
    CHECK_EQ(try_call(call_user, (void *)(uintptr_t)user_int55), 13);
    CHECK_EQ(last_trap.error, 0x20 * 8 + 2);
    uint64_t cr0 = READ_CR(0);
    WRITE_CR(0, cr0 | 1 << 18);
    CHECK_EQ(try_call(call_user, (void *)(uintptr_t)user_ac), 17);
    CHECK_EQ(last_trap.error, 0);
    WRITE_CR(0, cr0);
    CHECK_EQ(try_call(call_user, (void *)(uintptr_t)user_ac), -1);
    /* The I/O bitmap opens one port. */
    memset(tss.iomap, 0xff, sizeof(tss.iomap));
    tss.iomap[0x80 / 8] &= (uint8_t)~1;
    tss.iobase = offsetof(struct tss64, iomap);
    CHECK_EQ(try_call(call_user, (void *)(uintptr_t)user_out), -1);
    tss.iobase = sizeof(tss);
}

/* ---- bases of LDT and TSS ---- */

SNIPPET(x_lldt, "lldt %di");
SNIPPET(x_ltr, "ltr %di");

static void noncanonical_bases(void)
{
    enum { SEL = 0x60 };
    gdt[SEL / 8] = 0x0000820000000067; /* LDT */
    gdt[SEL / 8 + 1] = 0xffaaaaaa;
    CHECK_EQ(try_call(x_lldt, (void *)SEL), 13);
    CHECK_EQ(last_trap.error, SEL);
    gdt[SEL / 8] = 0x0000890000000067; /* available TSS */
    CHECK_EQ(try_call(x_ltr, (void *)SEL), 13);
    CHECK_EQ(gdt[SEL / 8] >> 40 & 0xff, 0x89); /* not made busy */
    gdt[SEL / 8] = 0x0000820000000067;
    gdt[SEL / 8 + 1] = 0;
    CHECK_EQ(try_call(x_lldt, (void *)SEL), -1);
    CHECK_EQ(try_call(x_lldt, (void *)0), -1);
}

/* ---- double faults and IST ---- */

static uint64_t df_rsp, df_error;
static bool on_double_fault(struct frame *f)
{
    df_rsp = (uint64_t)(uintptr_t)f;
    df_error = f->error;
    return false; /* try_call() takes it from here */
}
SNIPPET(x_bad_stack,
        "mov %rsp, %rcx; movabs $0x1234567000, %rsp; movabs $0x7654321000, %rax; mov (%rax), %eax");

static void double_fault(void)
{
    /* A #PF whose frame cannot be pushed is a double fault, taken on its own stack. */
    set_gate(8, (void (*)(void))(uintptr_t)trap_entries[8], 0, 1);
    on_vector(8, on_double_fault);
    CHECK_EQ(try_call(x_bad_stack, NULL), 8);
    CHECK_EQ(df_error, 0);
    CHECK(df_rsp < tss.ist[0] && df_rsp > tss.ist[0] - 4096);
    CHECK_EQ(last_cr2, 0x1234567000 - 8);
    /* #GP with a gate that is not present: contributory after contributory. */
    struct idt_gate gp = idt[13], np = idt[11];
    idt[13].type &= 0x7fff;
    idt[11].type &= 0x7fff;
    CHECK_EQ(try_call(x_gp_noncanonical, NULL), 8);
    idt[13] = gp;
    idt[11] = np;
    /* #UD with a gate that is not present: #NP in its place, EXT set for it is no INT n. */
    struct idt_gate ud = idt[6];
    idt[6].type &= 0x7fff;
    CHECK_EQ(try_call(x_ud2, NULL), 11);
    CHECK_EQ(last_trap.error, 6 * 8 + 2 + 1);
    idt[6] = ud;
    on_vector(8, NULL);
}

void test_main(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) p = {0xfe * 16 - 1, (uint64_t)(uintptr_t)idt};
    __asm__ volatile("lidt %0" ::"m"(p));
    idt[0x55].type &= 0x7fff;
    gdt[0x58 / 8] = 0x00cf13000000ffff; /* data, not present */
    run_cases();
    jumps();
    flags_in_frames();
    user_faults();
    noncanonical_bases();
    double_fault();
}
