/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Cases on the processor itself. A child lives in a signal handler: each exception of a case lands
 * there with every register in the signal frame; the handler writes the outcome to shared memory,
 * puts the next case's registers into the frame and returns into it. No system call but the child's
 * own few, at known addresses, passes its seccomp filter; one made by a case marks it skipped.
 */
#include <asm/ldt.h>
#include <asm/prctl.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/ucontext.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/diff/diff.h"

/* Shared between parent and child. */
struct shared {
    uint32_t count;
    uint32_t done; /* cases finished, for blame when the child dies */
    struct diff_case cases[DIFF_BATCH];
    uint8_t data[DIFF_BATCH][DIFF_DATA_BYTES];
    struct diff_outcome out[DIFF_BATCH];
};

struct diff_native {
    struct shared *sh;
    int to_child, from_child;
    pid_t pid;
};

/* Child only. The handler may not use thread-local storage: FS belongs to the case. */
static struct shared *child_sh;
static int child_in, child_out;
static uint32_t child_index;
static uint8_t *child_code; /* DIFF_CODE, writable alias */
static bool child_started;

enum { FLAGS_RESTORED = 0x50dd5 | 0x200 }; /* what sigreturn takes from the frame, and IF */

extern const char diff_syscall_ip[], diff_sigreturn_ip[];
long diff_syscall(long nr, long a, long b, long c, long d);
void diff_restorer(void);
void diff_entry(int sig, siginfo_t *si, void *uc);
void diff_on_signal(int sig, siginfo_t *si, ucontext_t *uc);

__asm__(".text\n"
        ".globl diff_syscall, diff_syscall_ip, diff_restorer, diff_sigreturn_ip, diff_entry\n"
        ".hidden diff_syscall, diff_syscall_ip, diff_restorer, diff_sigreturn_ip, diff_entry\n"
        "diff_syscall:\n"
        "  mov %rdi, %rax\n"
        "  mov %rsi, %rdi\n"
        "  mov %rdx, %rsi\n"
        "  mov %rcx, %rdx\n"
        "  mov %r8, %r10\n"
        "  syscall\n"
        "diff_syscall_ip:\n"
        "  ret\n"
        "diff_restorer:\n"
        "  mov $15, %eax\n"
        "  syscall\n"
        "diff_sigreturn_ip:\n"
        "  ud2\n"
        /* A case may have left AC, NT or ID behind. */
        "diff_entry:\n"
        "  pushq $0x202\n"
        "  popfq\n"
        "  jmp diff_on_signal\n");

static inline uint16_t get_sel(int which)
{
    uint16_t v;
    switch (which) {
    case 0: __asm__ volatile("mov %%ds, %w0" : "=r"(v)); break;
    case 1: __asm__ volatile("mov %%es, %w0" : "=r"(v)); break;
    case 2: __asm__ volatile("mov %%fs, %w0" : "=r"(v)); break;
    default: __asm__ volatile("mov %%gs, %w0" : "=r"(v)); break;
    }
    return v;
}

static void set_segments(const struct diff_case *c)
{
    __asm__ volatile("mov %w0, %%ds; mov %w1, %%es; mov %w2, %%fs; mov %w3, %%gs" ::"r"(c->s.ds),
                     "r"(c->s.es), "r"(c->s.fs), "r"(c->s.gs));
    if (c->mode == DIFF_64) {
        diff_syscall(SYS_arch_prctl, ARCH_SET_FS, DIFF_FS_BASE, 0, 0);
        diff_syscall(SYS_arch_prctl, ARCH_SET_GS, DIFF_GS_BASE, 0, 0);
    }
}

static const int greg_of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                REG_R12, REG_R13, REG_R14, REG_R15};

static void copy(void *to, const void *from, size_t n)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n)::"memory");
}

static uint64_t linear_rip(const struct diff_case *c)
{
    return c->s.cs == DIFF_LDT_CODE16 ? DIFF_CODE + c->s.rip : c->s.rip;
}

static void load_case(ucontext_t *uc)
{
    const struct diff_case *c = &child_sh->cases[child_index];
    uint64_t off = linear_rip(c) - DIFF_CODE;
    copy((void *)(uintptr_t)DIFF_DATA, child_sh->data[child_index], DIFF_DATA_BYTES);
    copy(child_code + off, c->code, c->code_len);
    greg_t *g = uc->uc_mcontext.gregs;
    for (int i = 0; i < 16; i++)
        g[greg_of[i]] = (greg_t)c->s.gpr[i];
    g[REG_RIP] = (greg_t)c->s.rip;
    g[REG_EFL] = (greg_t)c->s.rflags;
    g[REG_CSGSFS] = (greg_t)((uint64_t)c->s.cs | (uint64_t)c->s.ss << 48);
    uint8_t *fx = (uint8_t *)uc->uc_mcontext.fpregs;
    copy(fx, c->s.fx, 416);
    uint64_t *xstate_bv = (uint64_t *)(fx + 512);
    uint32_t magic;
    copy(&magic, fx + 464, 4);
    if (magic == 0x46505853) /* FP_XSTATE_MAGIC1: an XSAVE frame */
        *xstate_bv = 3;      /* upper halves back to their initial zero */
    set_segments(c);
}

static void store_case(int sig, ucontext_t *uc)
{
    const struct diff_case *c = &child_sh->cases[child_index];
    struct diff_outcome *o = &child_sh->out[child_index];
    const greg_t *g = uc->uc_mcontext.gregs;
    for (int i = 0; i < 16; i++)
        o->s.gpr[i] = (uint64_t)g[greg_of[i]];
    o->s.rip = (uint64_t)g[REG_RIP];
    o->s.rflags = (uint64_t)g[REG_EFL];
    o->s.cs = (uint16_t)g[REG_CSGSFS];
    o->s.ss = (uint16_t)((uint64_t)g[REG_CSGSFS] >> 48);
    o->s.ds = get_sel(0);
    o->s.es = get_sel(1);
    o->s.fs = get_sel(2);
    o->s.gs = get_sel(3);
    copy(o->s.fx, uc->uc_mcontext.fpregs, 512);
    o->vector = (uint32_t)g[REG_TRAPNO];
    o->error = (uint32_t)g[REG_ERR];
    o->cr2 = (uint64_t)g[REG_CR2];
    o->skipped = sig == SIGSYS || sig == SIGVTALRM;
    copy(o->data, (void *)(uintptr_t)DIFF_DATA, DIFF_DATA_BYTES);
    uint64_t off = linear_rip(c) - DIFF_CODE;
    for (unsigned i = 0; i < c->code_len; i++)
        child_code[off + i] = 0xcc;
}

/* Asks the parent for the next batch; ends the child when there is none. */
static void next_batch(void)
{
    char b = 0;
    if (child_started)
        diff_syscall(SYS_write, child_out, (long)&b, 1, 0);
    if (diff_syscall(SYS_read, child_in, (long)&b, 1, 0) != 1)
        diff_syscall(SYS_exit_group, 0, 0, 0, 0);
    child_index = 0;
    child_started = true;
}

__attribute__((used)) void diff_on_signal(int sig, siginfo_t *si, ucontext_t *uc)
{
    if (child_started && child_index < child_sh->count) {
        store_case(sig, uc);
        child_index++;
        child_sh->done = child_index;
    }
    while (!child_started || child_index >= child_sh->count)
        next_batch();
    load_case(uc);
}

static bool make_ldt(void)
{
    struct user_desc d[DIFF_LDT_ENTRIES] = {
        {.entry_number = 0, .base_addr = DIFF_CODE, .limit = 0x1fff, .contents = 2},
        {.entry_number = 1, .base_addr = DIFF_DATA, .limit = 0x2fff},
        {.entry_number = 2, .base_addr = DIFF_DATA, .limit = 0x2fff, .seg_32bit = 1},
        {.entry_number = 3,
         .base_addr = DIFF_DATA - 0x10000,
         .limit = 0xffff,
         .seg_32bit = 1,
         .contents = 1},
        {.entry_number = 4,
         .base_addr = DIFF_DATA,
         .limit = 0x2fff,
         .seg_32bit = 1,
         .read_exec_only = 1},
    };
    for (unsigned i = 0; i < DIFF_LDT_ENTRIES; i++)
        if (syscall(SYS_modify_ldt, 1, &d[i], sizeof(d[i])) != 0)
            return false;
    return true;
}

static bool make_memory(void)
{
    int fd = memfd_create("diff-code", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, DIFF_CODE_BYTES) != 0)
        return false;
    int fixed = MAP_FIXED_NOREPLACE;
    child_code = mmap(NULL, DIFF_CODE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (child_code == MAP_FAILED ||
        mmap((void *)(uintptr_t)DIFF_CODE, DIFF_CODE_BYTES, PROT_READ | PROT_EXEC,
             MAP_SHARED | fixed, fd, 0) == MAP_FAILED)
        return false;
    close(fd);
    memset(child_code, 0xcc, DIFF_CODE_BYTES);
    uint8_t *data = mmap((void *)(uintptr_t)DIFF_DATA, DIFF_DATA_BYTES + DIFF_RO_BYTES,
                         PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);
    if (data == MAP_FAILED)
        return false;
    memset(data, 0, DIFF_DATA_BYTES);
    memcpy(data + DIFF_DATA_BYTES, diff_ro_pool(), DIFF_RO_BYTES);
    return mprotect(data + DIFF_DATA_BYTES, DIFF_RO_BYTES, PROT_READ) == 0;
}

/* The kernel's own structure: glibc's would add its restorer and need thread-local storage. */
struct kernel_sigaction {
    void *handler;
    unsigned long flags;
    void *restorer;
    unsigned long mask;
};

static bool make_handlers(void)
{
    size_t size = 256 * 1024;
    void *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t ss = {.ss_sp = stack, .ss_size = size};
    if (stack == MAP_FAILED || sigaltstack(&ss, NULL) != 0)
        return false;
    struct kernel_sigaction sa = {.handler = diff_entry,
                                  .flags = SA_SIGINFO | SA_ONSTACK | 0x04000000, /* SA_RESTORER */
                                  .restorer = diff_restorer,
                                  .mask = ~0ul};
    static const int sigs[] = {SIGSEGV, SIGBUS, SIGILL,  SIGFPE,
                               SIGTRAP, SIGSYS, SIGUSR1, SIGVTALRM};
    for (size_t i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
        if (syscall(SYS_rt_sigaction, sigs[i], &sa, NULL, 8) != 0)
            return false;
    return true;
}

static bool make_filter(void)
{
#define ALLOW_AT(ip)                                                                        \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer)), \
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(uintptr_t)(ip), 0, 3),               \
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS,                                                  \
                 offsetof(struct seccomp_data, instruction_pointer) + 4),                   \
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)((uintptr_t)(ip) >> 32), 0, 1),       \
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
    struct sock_filter f[] = {
        ALLOW_AT(diff_syscall_ip),
        ALLOW_AT(diff_sigreturn_ip),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    struct sock_fprog prog = {.len = sizeof(f) / sizeof(f[0]), .filter = f};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0;
}

static void child_main(struct shared *sh, int in, int out)
{
    child_sh = sh;
    child_in = in;
    child_out = out;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct itimerval it = {{0, 50000}, {0, 50000}};
    if (!make_memory() || !make_ldt() || !make_handlers() || setitimer(ITIMER_VIRTUAL, &it, NULL) ||
        !make_filter()) {
        static const char text[] = "diff: the native child cannot be set up\n";
        ssize_t n = write(2, text, sizeof(text) - 1);
        _exit(n ? 1 : 2);
    }
    __asm__ volatile("ud2"); /* into the handler, for good */
    _exit(3);
}

struct diff_native *diff_native_new(void)
{
    struct diff_native *n = calloc(1, sizeof(*n));
    int to[2] = {-1, -1}, from[2] = {-1, -1};
    if (!n || pipe(to) != 0 || pipe(from) != 0)
        goto fail;
    n->sh = mmap(NULL, sizeof(*n->sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (n->sh == MAP_FAILED)
        goto fail;
    diff_ro_pool();
    n->pid = fork();
    if (n->pid < 0)
        goto fail;
    if (n->pid == 0) {
        close(to[1]);
        close(from[0]);
        child_main(n->sh, to[0], from[1]);
    }
    close(to[0]);
    close(from[1]);
    n->to_child = to[1];
    n->from_child = from[0];
    return n;
fail:
    perror("diff: native child");
    free(n);
    return NULL;
}

void diff_native_free(struct diff_native *n)
{
    if (!n)
        return;
    close(n->to_child);
    close(n->from_child);
    waitpid(n->pid, NULL, 0);
    munmap(n->sh, sizeof(*n->sh));
    free(n);
}

bool diff_native_run(struct diff_native *n, const struct diff_case *cases, unsigned count,
                     struct diff_outcome *out)
{
    struct shared *sh = n->sh;
    sh->count = count;
    sh->done = 0;
    memcpy(sh->cases, cases, count * sizeof(*cases));
    for (unsigned i = 0; i < count; i++)
        memcpy(sh->data[i], diff_data_pool(cases[i].data_pick), DIFF_DATA_BYTES);
    char b = 1;
    signal(SIGPIPE, SIG_IGN);
    if (write(n->to_child, &b, 1) != 1 || read(n->from_child, &b, 1) != 1) {
        fprintf(stderr, "diff: the native child died; the case was:\n");
        diff_print_case(&cases[sh->done < count ? sh->done : count - 1]);
        return false;
    }
    memcpy(out, sh->out, count * sizeof(*out));
    return true;
}
