/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SYSCALL and SYSRET, SYSENTER and SYSEXIT, SWAPGS, RDTSCP, RDPMC and CPUID from privilege 3,
 * compatibility mode. */
#include "test.h"

enum {
    EFER = 0xc0000080,
    STAR = 0xc0000081,
    LSTAR = 0xc0000082,
    CSTAR = 0xc0000083,
    SFMASK = 0xc0000084,
    FS_BASE = 0xc0000100,
    GS_BASE = 0xc0000101,
    KERNEL_GS_BASE = 0xc0000102,
    TSC_AUX = 0xc0000103
};

static volatile uint64_t seen_rcx, seen_r11, seen_flags, seen_cs, seen_ss, user_after;

/* SYSCALL lands here at privilege 0 on the user's stack. */
__asm__(".section .text\n"
        ".globl syscall_entry\n"
        "syscall_entry:\n"
        "mov %rcx, seen_rcx\n"
        "mov %r11, seen_r11\n"
        "pushfq\n"
        "popq seen_flags\n"
        "mov %cs, %eax\n"
        "mov %rax, seen_cs\n"
        "mov %ss, %eax\n"
        "mov %rax, seen_ss\n"
        "mov $0x1234, %eax\n"
        "sysretq\n"
        ".globl user_syscall, user_syscall_next\n"
        "user_syscall:\n" /* uint64_t user_syscall(uint64_t) */
        "stc\n"
        "std\n"
        "syscall\n"
        "user_syscall_next:\n"
        "pushfq\n"
        "popq user_after\n"
        "cld\n"
        "mov %cs, %ecx\n"
        "shl $32, %rcx\n"
        "or %rcx, %rax\n"
        "mov %ss, %ecx\n"
        "shl $48, %rcx\n"
        "or %rcx, %rax\n"
        "ret\n");
extern char syscall_entry[], user_syscall_next[];
uint64_t user_syscall(uint64_t a);
static volatile uint64_t keep[6] __attribute__((used));

SNIPPET(plain_syscall, "syscall");

static void syscall_sysret(void)
{
    /* SYSCALL: CS 0x10, SS 0x18. SYSRET: CS 0x23 + 16 = 0x33, SS 0x23 + 8 = 0x2b. */
    wrmsr(STAR, 0x23ull << 48 | 0x10ull << 32);
    wrmsr(LSTAR, (uint64_t)(uintptr_t)syscall_entry);
    wrmsr(SFMASK, 0x400); /* DF */
    uint64_t r = user_call(user_syscall, 0);
    CHECK_EQ((uint32_t)r, 0x1234);
    CHECK_EQ(r >> 32 & 0xffff, 0x33);
    CHECK_EQ(r >> 48, 0x2b);
    CHECK_EQ(seen_rcx, (uint64_t)(uintptr_t)user_syscall_next);
    CHECK_EQ(seen_r11 & 0x401, 0x401);
    CHECK_EQ(seen_flags & 0x401, 1);
    CHECK_EQ(seen_cs, 0x10);
    CHECK_EQ(seen_ss, 0x18);
    CHECK_EQ(user_after & 0x601, 0x601);
    /* Without EFER.SCE it is undefined. */
    wrmsr(EFER, rdmsr(EFER) & ~1ull);
    CHECK_EQ(try_call(plain_syscall, NULL), 6);
    wrmsr(EFER, rdmsr(EFER) | 1);
}

static void call_sysret_user(void *a)
{
    user_call((uint64_t(*)(uint64_t))a, 0);
}
static uint64_t user_sysret(uint64_t a)
{
    __asm__ volatile("sysretq");
    return a;
}
static uint64_t user_swapgs(uint64_t a)
{
    __asm__ volatile("swapgs");
    return a;
}
static uint64_t user_rdtsc(uint64_t a)
{
    return rdtsc();
}
static uint64_t user_rdtscp(uint64_t a)
{
    uint32_t lo, hi, aux;
    __asm__ volatile("rdtscp" : "=a"(lo), "=d"(hi), "=c"(aux));
    return aux;
}

static void privileged(void)
{
    CHECK_EQ(try_call(call_sysret_user, (void *)(uintptr_t)user_sysret), 13);
    CHECK_EQ(try_call(call_sysret_user, (void *)(uintptr_t)user_swapgs), 13);
    CHECK_EQ(try_call(call_sysret_user, (void *)(uintptr_t)user_rdtsc), -1);
    WRITE_CR(4, READ_CR(4) | 4); /* TSD */
    CHECK_EQ(try_call(call_sysret_user, (void *)(uintptr_t)user_rdtsc), 13);
    WRITE_CR(4, READ_CR(4) & ~4ull);
    uint32_t r[4];
    cpuid(0x80000001, 0, r);
    if (r[3] & 1u << 27) {
        wrmsr(TSC_AUX, 0x77);
        CHECK_EQ(user_call(user_rdtscp, 0), 0x77);
    }
    uint64_t a = rdtsc(), b = rdtsc();
    CHECK(b >= a);
}

static void bases(void)
{
    static uint64_t one = 1, two = 2;
    uint64_t v;
    wrmsr(GS_BASE, (uint64_t)(uintptr_t)&one);
    wrmsr(KERNEL_GS_BASE, (uint64_t)(uintptr_t)&two);
    __asm__ volatile("mov %%gs:0, %0" : "=r"(v));
    CHECK_EQ(v, 1);
    __asm__ volatile("swapgs; mov %%gs:0, %0" : "=r"(v));
    CHECK_EQ(v, 2);
    CHECK_EQ(rdmsr(KERNEL_GS_BASE), (uint64_t)(uintptr_t)&one);
    wrmsr(FS_BASE, (uint64_t)(uintptr_t)&two);
    __asm__ volatile("mov %%fs:0, %0" : "=r"(v));
    CHECK_EQ(v, 2);
}

/* 32-bit code at privilege 3 of the same long mode: old opcodes, 32-bit addresses, R8 untouched. */
__asm__(".section .text\n"
        ".globl run_compat\n"
        "run_compat:\n"
        "push %rbx\n"
        "push %rbp\n"
        "mov %rsp, keep\n"
        "movabs $0x1122334455667788, %r8\n"
        "movabs $0xffffffff00000001, %rax\n"
        "push $0x2b\n"
        "lea user_stack_end - 64, %rcx\n"
        "push %rcx\n"
        "push $0x202\n"
        "push $0x23\n"
        "push $compat_code\n"
        "iretq\n"
        ".code32\n"
        "compat_code:\n"
        "inc %eax\n" /* 40: REX in 64-bit code */
        "pushl $5\n"
        "popl %ebx\n"
        "add %ebx, %eax\n"
        "mov %esp, %ecx\n"
        "int $0x31\n"
        ".code64\n"
        ".globl compat_back\n"
        "compat_back:\n"
        "mov keep, %rsp\n"
        "mov $0x18, %ecx\n"
        "mov %ecx, %ss\n"
        "pop %rbp\n"
        "pop %rbx\n"
        "ret\n");
void run_compat(void);
extern char compat_back[];
static struct frame compat_frame;

static bool on_compat(struct frame *f)
{
    compat_frame = *f;
    f->rip = (uint64_t)(uintptr_t)compat_back;
    f->cs = 0x10;
    f->ss = 0;
    f->rflags = 2;
    return true;
}

static void compatibility(void)
{
    on_vector(0x31, on_compat);
    set_gate(0x31, (void (*)(void))(uintptr_t)trap_entries[0x31], 3, 0);
    run_compat();
    CHECK_EQ(compat_frame.cs, 0x23);
    CHECK_EQ(compat_frame.rax, 7);
    CHECK_EQ(compat_frame.rbx, 5);
    CHECK_EQ(compat_frame.r8, 0x1122334455667788);
    CHECK_EQ(compat_frame.rsp, compat_frame.rcx);
}

void test_main(void)
{
    syscall_sysret();
    privileged();
    bases();
    compatibility();
}
