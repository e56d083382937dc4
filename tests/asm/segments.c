/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Segmentation in 32-bit protected mode: limits, types, privileges, gates, and task switches. */
#include "test32.h"

enum {
    S_SMALL = 0x40,
    S_DOWN = 0x48,
    S_RO = 0x50,
    S_XO = 0x58,
    S_NP = 0x60,
    S_USER = 0x68,
    S_CONF = 0x70,
    S_GATE = 0x78,
    S_TSS2 = 0x80,
    S_TSS3 = 0x88,
    S_LDT = 0x90,
    S_STACK16 = 0x98,
    S_CODE16 = 0xa0,
    S_XR = 0xa8,
    S_TASKGATE = 0xb0
};

static uint8_t area[8192] __attribute__((aligned(4096)));
static uint64_t ldt[4] __attribute__((aligned(8)));

static void make_descriptors(void)
{
    uint32_t a = (uint32_t)area;
    gdt[S_SMALL / 8] = descriptor(a, 0xff, 0x92, 4);
    gdt[S_DOWN / 8] = descriptor(a, 0xfff, 0x96, 4);
    gdt[S_RO / 8] = descriptor(a, 0xfff, 0x90, 4);
    gdt[S_XO / 8] = descriptor(a, 0xfff, 0x98, 4);
    gdt[S_XR / 8] = descriptor(a, 0xfff, 0x9a, 4);
    gdt[S_NP / 8] = descriptor(a, 0xfff, 0x12, 4);
    gdt[S_USER / 8] = descriptor(a, 0xfff, 0xf2, 4);
    gdt[S_CONF / 8] = descriptor(0, 0xfffff, 0x9e, 0xc);
    gdt[S_STACK16 / 8] = descriptor(a, 0xfff, 0x92, 0);
    gdt[S_CODE16 / 8] = descriptor(a, 0xffff, 0x9a, 0);
    ldt[1] = descriptor(a + 16, 0xf, 0x92, 4);
    gdt[S_LDT / 8] = descriptor((uint32_t)ldt, sizeof(ldt) - 1, 0x82, 0);
    __asm__ volatile("lldt %w0" ::"r"(S_LDT));
}

SNIPPET(load_fs, "mov %eax, %fs");
SNIPPET(load_ss, "mov %ss, %ecx; mov %eax, %ss; mov %ecx, %ss");
SNIPPET(load_ds_es, "push %ds; mov %eax, %ds; pop %ds");

#define ON(sel, snippet_call)                          \
    ({                                                 \
        __asm__ volatile("mov %w0, %%fs" ::"r"(sel));  \
        int v_ = snippet_call;                         \
        __asm__ volatile("mov %w0, %%fs" ::"r"(0x10)); \
        v_;                                            \
    })
SNIPPET(read_byte, "movb %fs:(%eax), %cl");
SNIPPET(read_word, "movw %fs:(%eax), %cx");
SNIPPET(read_long, "movl %fs:(%eax), %ecx");
SNIPPET(read_double, "fldl %fs:(%eax); fstp %st");
SNIPPET(read_xmm, "movups %fs:(%eax), %xmm0");
SNIPPET(write_long, "movl %fs:(%eax), %ecx; movl %ecx, %fs:(%eax)");
SNIPPET(write_byte, "movb $1, %fs:(%eax)");

static void limits(void)
{
    CHECK_EQ(ON(S_SMALL, try_call(read_byte, (void *)0xff)), -1);
    CHECK_EQ(ON(S_SMALL, try_call(read_byte, (void *)0x100)), 13);
    CHECK_EQ(last_trap.error, 0);
    CHECK_EQ(ON(S_SMALL, try_call(read_word, (void *)0xfe)), -1);
    CHECK_EQ(ON(S_SMALL, try_call(read_word, (void *)0xff)), 13);
    CHECK_EQ(ON(S_SMALL, try_call(read_long, (void *)0xfc)), -1);
    CHECK_EQ(ON(S_SMALL, try_call(read_long, (void *)0xfd)), 13);
    CHECK_EQ(ON(S_SMALL, try_call(read_double, (void *)0xf9)), 13);
    CHECK_EQ(ON(S_SMALL, try_call(read_xmm, (void *)0xf1)), 13);
    CHECK_EQ(ON(S_SMALL, try_call(read_xmm, (void *)0xf0)), -1);
    CHECK_EQ(ON(S_SMALL, try_call(read_long, (void *)0xffffffff)), 13);
    /* Expand-down: above the limit. */
    CHECK_EQ(ON(S_DOWN, try_call(read_byte, (void *)0xfff)), 13);
    CHECK_EQ(ON(S_DOWN, try_call(read_byte, (void *)0x1000)), -1);
    CHECK_EQ(ON(S_DOWN, try_call(write_long, (void *)0x1000)), -1);
    CHECK_EQ(ON(S_DOWN, try_call(read_long, (void *)0xffe)), 13);
}

static void types(void)
{
    CHECK_EQ(ON(S_RO, try_call(read_long, NULL)), -1);
    CHECK_EQ(ON(S_RO, try_call(write_byte, NULL)), 13);
    CHECK_EQ(ON(S_XR, try_call(read_long, NULL)), -1);
    CHECK_EQ(ON(S_XR, try_call(write_byte, NULL)), 13);
    CHECK_EQ(try_call(load_fs, (void *)S_XO), 13); /* execute-only cannot be loaded */
    CHECK_EQ(last_trap.error, S_XO);
    CHECK_EQ(try_call(load_fs, (void *)S_NP), 11);
    CHECK_EQ(last_trap.error, S_NP);
    CHECK_EQ(try_call(load_ss, (void *)S_NP), 12);
    CHECK_EQ(try_call(load_ss, (void *)S_RO), 13);
    CHECK_EQ(try_call(load_ss, (void *)S_USER), 13); /* DPL 3 in ring 0 */
    CHECK_EQ(try_call(load_ss, (void *)0), 13);
    CHECK_EQ(last_trap.error, 0);
    CHECK_EQ(try_call(load_fs, (void *)S_USER), -1);
    CHECK_EQ(try_call(load_fs, (void *)0x1f8), 13); /* a null descriptor */
    CHECK_EQ(last_trap.error, 0x1f8);
    CHECK_EQ(try_call(load_fs, (void *)0x200), 13);           /* beyond the table */
    CHECK_EQ(try_call(load_fs, (void *)0x38), 13);            /* a TSS */
    CHECK_EQ(ON(0, try_call(read_byte, NULL)), 13);           /* null: not to be used */
    CHECK_EQ(ON(0x0c, try_call(read_byte, (void *)0xf)), -1); /* in the LDT */
    CHECK_EQ(ON(0x0c, try_call(read_byte, (void *)0x10)), 13);
    CHECK_EQ(try_call(load_fs, (void *)0x24), 13); /* beyond the LDT */
    CHECK_EQ(last_trap.error, 0x24);
    /* Loading sets the accessed bit. */
    gdt[S_SMALL / 8] &= ~(1ull << 40);
    CHECK_EQ(ON(S_SMALL, try_call(read_byte, NULL)), -1);
    CHECK_EQ(gdt[S_SMALL / 8] >> 40 & 1, 1);
}

/* LAR, LSL, VERR, VERW, ARPL. */
static void queries(void)
{
    uint32_t v = 7;
    bool z;
    __asm__("lar %2, %0" : "+r"(v), "=@ccz"(z) : "r"(S_RO));
    CHECK(z);
    CHECK_EQ(v & 0xff00, 0x9100); /* accessed by now */
    __asm__("lsl %2, %0" : "+r"(v), "=@ccz"(z) : "r"(S_SMALL));
    CHECK(z);
    CHECK_EQ(v, 0xff);
    __asm__("lsl %2, %0" : "+r"(v), "=@ccz"(z) : "r"(0x10));
    CHECK_EQ(v, 0xffffffff);
    v = 77;
    __asm__("lsl %2, %0" : "+r"(v), "=@ccz"(z) : "r"(0x1f8));
    CHECK(!z);
    CHECK_EQ(v, 77);
    __asm__("verw %w1" : "=@ccz"(z) : "r"(S_RO));
    CHECK(!z);
    __asm__("verr %w1" : "=@ccz"(z) : "r"(S_RO));
    CHECK(z);
    __asm__("verr %w1" : "=@ccz"(z) : "r"(S_XO));
    CHECK(!z);
    __asm__("verw %w1" : "=@ccz"(z) : "r"(S_SMALL));
    CHECK(z);
    uint16_t sel = 0x40;
    __asm__("arpl %w2, %w0" : "+r"(sel), "=@ccz"(z) : "r"((uint16_t)3));
    CHECK(z);
    CHECK_EQ(sel, 0x43);
    __asm__("arpl %w2, %w0" : "+r"(sel), "=@ccz"(z) : "r"((uint16_t)1));
    CHECK(!z);
}

/* Old instructions of 32-bit code. */
static int32_t range[2] __attribute__((used)) = {-5, 10};
SNIPPET(bound_check, "bound %eax, range");
SNIPPET(into_of, "mov $0x7fffffff, %eax; inc %eax; into");
SNIPPET(into_no, "xor %eax, %eax; into");
SNIPPET(pusha_popa, "mov %esp, %edx; pusha; popa; cmp %esp, %edx; je 1f; ud2; 1:");
static void old_instructions(void)
{
    CHECK_EQ(try_call(bound_check, (void *)10), -1);
    CHECK_EQ(try_call(bound_check, (void *)-5), -1);
    CHECK_EQ(try_call(bound_check, (void *)11), 5);
    CHECK_EQ(try_call(bound_check, (void *)-6), 5);
    CHECK_EQ(try_call(into_of, NULL), 4);
    CHECK_EQ(try_call(into_no, NULL), -1);
    CHECK_EQ(try_call(pusha_popa, NULL), -1);
    uint32_t r;
    __asm__("mov $0x19, %%al; add $0x28, %%al; daa; movzx %%al, %0" : "=a"(r));
    CHECK_EQ(r, 0x47);
    __asm__("mov $0x47, %%al; sub $0x28, %%al; das; movzx %%al, %0" : "=a"(r));
    CHECK_EQ(r, 0x19);
    __asm__("mov $63, %%eax; aam; movzx %%ax, %0" : "=a"(r));
    CHECK_EQ(r, 0x603);
    __asm__("mov $0x603, %%eax; aad; movzx %%ax, %0" : "=a"(r));
    CHECK_EQ(r, 63);
}

/* A 16-bit stack segment: only SP counts, and PUSH stays within it. */
static void stack16(void)
{
    uint32_t esp;
    memset(area, 0, sizeof(area));
    __asm__ volatile("mov %%esp, %%ebx\n"
                     "mov %1, %%ss\n"
                     "mov $0x12340100, %%esp\n"
                     "push $0x55667788\n"
                     "mov %%esp, %0\n"
                     "mov %2, %%ss\n"
                     "mov %%ebx, %%esp"
                     : "=&r"(esp)
                     : "r"(S_STACK16), "r"(0x10)
                     : "ebx", "memory");
    CHECK_EQ(esp, 0x123400fc);
    CHECK_EQ(*(uint32_t *)(void *)(area + 0xfc), 0x55667788);
    /* 16-bit code: near call and return, operand sizes. */
    static const uint8_t code[] = {
        0xb8, 0x34, 0x12,                   /* mov $0x1234, %ax */
        0x66, 0xbb, 0x78, 0x56, 0x34, 0x12, /* mov $0x12345678, %ebx */
        0xe8, 0x02, 0x00,                   /* call +2 */
        0x66, 0xcb,                         /* lretl */
        0x40,                               /* inc %ax */
        0xc3,                               /* ret */
    };
    memcpy(area + 0x800, code, sizeof(code));
    uint32_t ax, ebx;
    struct {
        uint32_t offset;
        uint16_t selector;
    } __attribute__((packed)) target = {0x800, S_CODE16};
    __asm__ volatile("lcall *%2" : "=a"(ax), "=b"(ebx) : "m"(target), "a"(0xabcd0000) : "memory");
    CHECK_EQ(ax, 0xabcd1235);
    CHECK_EQ(ebx, 0x12345678);
}

/* ---- privileges ---- */

/* Entered through a call gate from ring 3 with two parameters. */
__asm__(".section .text\n"
        "gate_target:\n"
        "mov %cs, %eax\n"
        "and $3, %eax\n" /* 0: ring 0 */
        "shl $16, %eax\n"
        "add 8(%esp), %eax\n" /* the parameters were copied */
        "add 12(%esp), %eax\n"
        "lret $8\n"
        "user_gate:\n" /* uint32_t user_gate(uint32_t arg) */
        "mov 4(%esp), %eax\n"
        "push %eax\n"
        "push $100\n"
        "lcall $0x7b, $0\n"
        "ret\n"
        "conforming:\n"
        "mov %cs, %eax\n"
        "lret\n"
        "user_conforming:\n"
        "lcall $0x70, $conforming\n"
        "ret\n");
extern char gate_target[];
uint32_t user_gate(uint32_t a);
uint32_t user_conforming(uint32_t a);

static uint32_t user_read_cs(uint32_t a)
{
    uint32_t cs;
    __asm__("mov %%cs, %0" : "=r"(cs));
    return cs + a;
}
static uint32_t user_load_fs(uint32_t a)
{
    __asm__ volatile("mov %w0, %%fs" ::"r"(a));
    return a;
}
static uint32_t user_cli(uint32_t a)
{
    __asm__ volatile("cli");
    return a;
}
static uint32_t user_in(uint32_t a)
{
    return inb((uint16_t)a);
}
static uint32_t user_popf(uint32_t a)
{
    uint32_t f;
    __asm__ volatile("push %1; popf; pushf; pop %0" : "=r"(f) : "r"(a));
    return f;
}
struct call {
    uint32_t (*fn)(uint32_t);
    uint32_t arg, result;
};
static void do_user(void *p)
{
    struct call *c = p;
    c->result = user_call(c->fn, c->arg);
}
static int try_user(uint32_t (*fn)(uint32_t), uint32_t arg)
{
    struct call c = {fn, arg, 0};
    return try_call(do_user, &c);
}

static void privileges(void)
{
    CHECK_EQ(user_call(user_read_cs, 0x100), 0x11b);
    CHECK_EQ(try_user(user_cli, 0), 13);
    CHECK_EQ(last_trap.ss, 0x23);
    CHECK_EQ(try_user(user_load_fs, 0x10), 13); /* DPL 0 data from ring 3 */
    CHECK_EQ(last_trap.error, 0x10);
    CHECK_EQ(try_user(user_load_fs, S_USER | 3), -1);
    CHECK_EQ(try_user(user_load_fs, S_CONF | 3), -1); /* conforming: readable from anywhere */
    CHECK_EQ(try_user(user_in, 0x3fd), 13);
    memset(tss.iomap, 0xff, sizeof(tss.iomap));
    tss.iobase = offsetof(struct tss32, iomap);
    CHECK_EQ(try_user(user_in, 0x3fd), 13);
    tss.iomap[0x3fd / 8] &= (uint8_t) ~(1u << (0x3fd & 7));
    CHECK_EQ(try_user(user_in, 0x3fd), -1);
    /* POPF at ring 3 changes neither IF nor IOPL. */
    CHECK_EQ(user_call(user_popf, 0x3202) & 0x3200, 0);
    gdt[S_GATE / 8] = gate(8, (uint32_t)gate_target, 0xec, 2);
    CHECK_EQ(user_call(user_gate, 7), 107);
    gdt[S_GATE / 8] = gate(8, (uint32_t)gate_target, 0x8c, 2); /* DPL 0 */
    CHECK_EQ(try_user(user_gate, 7), 13);
    CHECK_EQ(last_trap.error, S_GATE);
    gdt[S_GATE / 8] = gate(8, (uint32_t)gate_target, 0x6c, 2); /* not present */
    CHECK_EQ(try_user(user_gate, 7), 11);
    CHECK_EQ(user_call(user_conforming, 0), S_CONF | 3); /* CPL stays */
}

/* ---- tasks ---- */

static struct tss32 tss2, tss3;
static uint8_t stack2[4096], stack3[4096];
static volatile uint32_t task_ran __attribute__((used)), task_eax __attribute__((used)),
    task_nt __attribute__((used));

__asm__(".section .text\n"
        "task2:\n"
        "incl task_ran\n"
        "mov %eax, task_eax\n"
        "pushf\n"
        "popl task_nt\n"
        "iret\n"      /* back to whoever called */
        "jmp task2\n" /* the next call goes on here */
        "task3:\n"
        "addl $100, task_ran\n"
        "ljmp $0x38, $0\n" /* a jump back to the first task */
        "jmp task3\n"
        "df_task:\n"
        "pop %eax\n" /* the error code of a double fault */
        "mov %eax, task_eax\n"
        "addl $1000, task_ran\n"
        "movl $try_recover, tss + 32\n" /* the first task goes on there */
        "movl $8, try_vector\n"
        "iret\n"
        "jmp df_task\n");
extern char task2[], task3[], df_task[];
SNIPPET(call_task, "lcall $0x80, $0");
SNIPPET(jump_task, "ljmp $0x88, $0");
SNIPPET(double_fault_in_task, "mov $0, %esp; movl $0x5a5a5a5a, (%esp); push $0; ud2");
SNIPPET(int_task, "int $0x20");

static void make_task(struct tss32 *t, unsigned sel, char *eip, uint8_t *stack)
{
    memset(t, 0, sizeof(*t));
    t->eip = (uint32_t)eip;
    t->eflags = 2;
    t->esp = (uint32_t)stack + 4096;
    t->cs = 8;
    t->ss = t->ds = t->es = t->fs = t->gs = 0x10;
    t->eax = 0x1234;
    t->iobase = sizeof(*t);
    gdt[sel / 8] = descriptor((uint32_t)t, sizeof(*t) - 1, 0x89, 0);
}

static void tasks(void)
{
    make_task(&tss2, S_TSS2, task2, stack2);
    make_task(&tss3, S_TSS3, task3, stack3);
    CHECK_EQ(try_call(call_task, NULL), -1);
    CHECK_EQ(task_ran, 1);
    CHECK_EQ(task_eax, 0x1234);
    CHECK_EQ(task_nt & 0x4000, 0x4000);
    CHECK_EQ(tss2.link & 0xffff, 0x38);
    CHECK_EQ(gdt[S_TSS2 / 8] >> 40 & 0xff, 0x89); /* no longer busy */
    CHECK_EQ(gdt[7] >> 40 & 0xff, 0x8b);
    CHECK_EQ(READ_CR(0) & 8, 8); /* TS */
    __asm__ volatile("clts");
    CHECK_EQ(try_call(call_task, NULL), -1);
    CHECK_EQ(task_ran, 2);
    CHECK_EQ(try_call(jump_task, NULL), -1);
    CHECK_EQ(task_ran, 102);
    CHECK_EQ(try_call(jump_task, NULL), -1);
    CHECK_EQ(task_ran, 202);
    /* Through a task gate in the IDT. */
    idt[0x20] = gate(S_TSS2, 0, 0x85, 0);
    CHECK_EQ(try_call(int_task, NULL), -1);
    CHECK_EQ(task_ran, 203);
    /* A busy task cannot be called. */
    gdt[S_TSS2 / 8] |= 2ull << 40;
    CHECK_EQ(try_call(call_task, NULL), 13);
    CHECK_EQ(last_trap.error, S_TSS2);
    gdt[S_TSS2 / 8] &= ~(2ull << 40);
    /* An invalid TSS: too small; a stack that cannot be loaded (#TS in the new task). */
    gdt[S_TSS3 / 8] = descriptor((uint32_t)&tss3, 0x60, 0x89, 0);
    CHECK_EQ(try_call(jump_task, NULL), 10);
    CHECK_EQ(last_trap.error, S_TSS3);
    gdt[S_TSS3 / 8] = descriptor((uint32_t)&tss3, sizeof(tss3) - 1, 0x09, 0);
    CHECK_EQ(try_call(jump_task, NULL), 11);
    __asm__ volatile("clts");
}

/* Where the processor says that it keeps no code and data segments of x87 instructions, they are 0.
 */
static void x87_segments(void)
{
    uint32_t eax = 7, ebx, ecx = 0, edx, env[7], operand = 1;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    __asm__ volatile("fninit; fildl %1; fnstenv %0; fninit" : "=m"(env) : "m"(operand) : "memory");
    if (!(ebx >> 13 & 1))
        return;
    CHECK_EQ(env[4] & 0xffff, 0);
    CHECK_EQ(env[6] & 0xffff, 0);
}

void test_main(void)
{
    WRITE_CR(4, READ_CR(4) | 0x600);
    __asm__ volatile("fninit");
    x87_segments();
    make_descriptors();
    limits();
    types();
    queries();
    old_instructions();
    stack16();
    privileges();
    tasks();
}
