/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Debug registers: instruction and data breakpoints, single steps, DR6, RF, general detect, MOV SS.
 */
#include "test.h"

enum { DR6_IDLE = 0xffff0ff0, BS = 0x4000, BD = 0x2000 };

static volatile unsigned hits;
static uint64_t hit_rip[16], hit_dr6[16];
static volatile uint64_t word[4] __attribute__((aligned(32)));

/* Records each #DB; steps over instruction breakpoints by RF; ends after 16. */
static bool on_debug(struct frame *f)
{
    if (hits < 16) {
        hit_rip[hits] = f->rip;
        hit_dr6[hits] = READ_DR(6);
    }
    hits++;
    WRITE_DR(6, DR6_IDLE);
    if (hits >= 16)
        f->rflags &= ~0x100ull;
    if (!(hit_dr6[hits - 1] & BS))
        f->rflags |= 0x10000; /* RF */
    return true;
}

static void start(void)
{
    hits = 0;
    WRITE_DR(6, DR6_IDLE);
}

SNIPPET(three, ".globl three_1, three_2\nnop\nthree_1: mov $1, %eax\nthree_2: mov $2, %eax");
extern char three_1[], three_2[];

static void instruction_breakpoints(void)
{
    start();
    WRITE_DR(0, (uint64_t)(uintptr_t)three_1);
    WRITE_DR(3, (uint64_t)(uintptr_t)three_2);
    WRITE_DR(7, 0x400 | 1 | 1 << 6);
    three(NULL);
    CHECK_EQ(hits, 2);
    CHECK_EQ(hit_rip[0], (uint64_t)(uintptr_t)three_1);
    CHECK_EQ(hit_dr6[0] & 0xe00f, 1);
    CHECK_EQ(hit_rip[1], (uint64_t)(uintptr_t)three_2);
    CHECK_EQ(hit_dr6[1] & 0xe00f, 8);
    WRITE_DR(7, 0x400);
    start();
    three(NULL);
    CHECK_EQ(hits, 0);
}

static void data_breakpoints(void)
{
    start();
    WRITE_DR(1, (uint64_t)(uintptr_t)&word[1]);
    WRITE_DR(7, 0x400 | 1 << 2 | 0x9ull << 20); /* write, 8 bytes */
    word[0] = 1;
    CHECK_EQ(hits, 0);
    word[1] = 1;
    CHECK_EQ(hits, 1);
    CHECK_EQ(hit_dr6[0] & 0xe00f, 2);
    (void)word[1];
    CHECK_EQ(hits, 1);
    *(volatile uint8_t *)((uintptr_t)&word[1] + 7) = 1;
    CHECK_EQ(hits, 2);
    *(volatile uint32_t *)((uintptr_t)&word[1] - 2) = 1; /* overlaps */
    CHECK_EQ(hits, 3);
    __asm__ volatile("lock incq %0" : "+m"(word[1]));
    CHECK_EQ(hits, 4);
    __asm__ volatile("movups %%xmm0, %0" : "=m"(word[0]));
    CHECK_EQ(hits, 5);
    WRITE_DR(7, 0x400 | 1 << 2 | 0xbull << 20); /* read or write */
    (void)word[1];
    CHECK_EQ(hits, 6);
    WRITE_DR(7, 0x400);
    word[1] = 2;
    CHECK_EQ(hits, 6);
}

SNIPPET(stepped, "pushfq; orl $0x100, (%rsp); popfq\n.globl stepped_1, stepped_end\n"
                 "stepped_1: nop\nmov $3, %ecx\nmov $word, %rdi\nxor %eax, %eax\nrep stosb\n"
                 "pushfq; andl $~0x100, (%rsp); popfq\nstepped_end: nop");
extern char stepped_1[], stepped_end[];

static void single_steps(void)
{
    start();
    stepped(NULL);
    /* NOP, 3 MOV/XOR, REP STOSB three times, PUSHF, AND, POPF (which clears TF, yet traps). */
    CHECK_EQ(hits, 10);
    CHECK_EQ(hit_rip[0], (uint64_t)(uintptr_t)stepped_1 + 1);
    CHECK_EQ(hit_dr6[0] & 0xe00f, BS);
    CHECK_EQ(hit_rip[4], hit_rip[5]); /* in the midst of the repetition */
    CHECK_EQ(hit_rip[9], (uint64_t)(uintptr_t)stepped_end);
}

SNIPPET(mov_ss_step, "mov %ss, %ecx\npushfq; orl $0x100, (%rsp); popfq\n"
                     "mov %ecx, %ss\nnop\n.globl after_mov_ss\nafter_mov_ss:\n"
                     "pushfq; andl $~0x100, (%rsp); popfq");
extern char after_mov_ss[];

static void mov_ss(void)
{
    start();
    mov_ss_step(NULL);
    CHECK(hits > 1);
    CHECK_EQ(hit_rip[0], (uint64_t)(uintptr_t)after_mov_ss); /* none between MOV SS and NOP */
}

SNIPPET(mov_ss_break, "mov %ss, %ecx\nmov %ecx, %ss\n.globl shaded_1\nshaded_1: nop");
SNIPPET(sti_break, "cli; sti\n.globl shaded_2\nshaded_2: nop; cli");
extern char shaded_1[], shaded_2[];

/* MOV SS holds instruction breakpoints off on Intel's processors alone; STI nowhere. */
static void breakpoints_in_shadows(void)
{
    uint32_t r[4];
    cpuid(0, 0, r);
    bool amd = r[1] == 0x68747541; /* "Auth" */
    start();
    WRITE_DR(0, (uint64_t)(uintptr_t)shaded_1);
    WRITE_DR(1, (uint64_t)(uintptr_t)shaded_2);
    WRITE_DR(7, 0x400 | 1 | 1 << 2);
    mov_ss_break(NULL);
    CHECK_EQ(hits, amd ? 1 : 0);
    start();
    sti_break(NULL);
    CHECK_EQ(hits, 1);
    WRITE_DR(7, 0x400);
}

SNIPPET(touch_dr7, "mov %dr7, %rax");

static void general_detect(void)
{
    on_vector(1, NULL);
    WRITE_DR(6, DR6_IDLE);
    WRITE_DR(7, 0x400 | 0x2000);
    CHECK_EQ(try_call(touch_dr7, NULL), 1);
    CHECK_EQ(last_dr6 & 0xe00f, BD);
    CHECK_EQ(READ_DR(7) & 0x2000, 0); /* cleared on the way into the handler */
    WRITE_DR(6, DR6_IDLE);
}

SNIPPET(dr4_with_de, "mov %dr4, %rax");
SNIPPET(dr7_high, "movabs $0x100000000, %rax; mov %rax, %dr7");
static void registers(void)
{
    CHECK_EQ(READ_DR(6), DR6_IDLE);
    WRITE_DR(6, 0);
    CHECK_EQ(READ_DR(6), DR6_IDLE);
    WRITE_DR(7, 0);
    CHECK_EQ(READ_DR(7), 0x400);
    uint64_t dr4;
    __asm__ volatile("mov %%dr4, %0" : "=r"(dr4));
    CHECK_EQ(dr4, DR6_IDLE);
    WRITE_CR(4, READ_CR(4) | 8);
    CHECK_EQ(try_call(dr4_with_de, NULL), 6);
    WRITE_CR(4, READ_CR(4) & ~8ull);
    CHECK_EQ(try_call(dr7_high, NULL), 13);
}

void test_main(void)
{
    on_vector(1, on_debug);
    instruction_breakpoints();
    data_breakpoints();
    single_steps();
    mov_ss();
    breakpoints_in_shadows();
    general_detect();
    registers();
}
