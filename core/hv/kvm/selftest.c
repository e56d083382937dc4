/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Whether KVM really runs 64-bit code here: a page of it stores, loads and reports by a port; a
 * /dev/kvm that hangs, fails or computes wrongly is not used.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/hv/kvm/kvm-int.h"

enum { RAM = 0x10000, PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, CODE = 0x4000, DATA = 0x5000 };
enum { PORT = 0xf4, LIMIT_SECONDS = 5 };

/* mov rax, 0x1122334455667788; mov [DATA], rax; xor eax, eax; mov rbx, [DATA]; lea rax, [rbx +
 * rbx]; mov r8, rax; shr r8, 32; mov eax, r8d; out PORT, eax; hlt */
static const uint8_t code[] = {
    0x48, 0xb8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* mov rax, imm64 */
    0x48, 0x89, 0x04, 0x25, 0x00, 0x50, 0x00, 0x00,             /* mov [0x5000], rax */
    0x31, 0xc0,                                                 /* xor eax, eax */
    0x48, 0x8b, 0x1c, 0x25, 0x00, 0x50, 0x00, 0x00,             /* mov rbx, [0x5000] */
    0x48, 0x8d, 0x04, 0x1b,                                     /* lea rax, [rbx + rbx] */
    0x49, 0x89, 0xc0,                                           /* mov r8, rax */
    0x49, 0xc1, 0xe8, 0x20,                                     /* shr r8, 32 */
    0x44, 0x89, 0xc0,                                           /* mov eax, r8d */
    0xe7, PORT,                                                 /* out PORT, eax */
    0xf4,                                                       /* hlt */
};
#define EXPECTED 0x22446688u

static void fill(uint8_t *ram)
{
    put_le64(ram + PML4, PDPT | 3);
    put_le64(ram + PDPT, PD | 3);
    put_le64(ram + PD, 0x83); /* 2 MiB */
    memcpy(ram + CODE, code, sizeof code);
}

static bool set_long_mode(int vcpu)
{
    struct kvm_sregs s;
    struct kvm_regs r = {.rip = CODE, .rflags = 2};
    if (ioctl(vcpu, KVM_GET_SREGS, &s))
        return false;
    s.cr0 = 0x80000011;
    s.cr3 = PML4;
    s.cr4 = 0x20;
    s.efer = 0x500;
    s.cs = (struct kvm_segment){
        .limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
    s.ds = s.es = s.ss = s.fs = s.gs = (struct kvm_segment){
        .limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1};
    return ioctl(vcpu, KVM_SET_SREGS, &s) == 0 && ioctl(vcpu, KVM_SET_REGS, &r) == 0;
}

/* KVM_RUN with a time limit: a signal to this thread. */
static int run_limited(int vcpu)
{
    timer_t t;
    struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = KVM_KICK_SIGNAL};
    ev._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    const struct itimerspec when = {.it_value = {.tv_sec = LIMIT_SECONDS}};
    sigset_t set, old;
    kvm_install_kick_handler();
    sigemptyset(&set);
    sigaddset(&set, KVM_KICK_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &set, &old);
    bool timed = timer_create(CLOCK_MONOTONIC, &ev, &t) == 0;
    if (timed)
        timer_settime(t, 0, &when, NULL);
    int rc = ioctl(vcpu, KVM_RUN, 0), saved = errno;
    if (timed)
        timer_delete(t);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = saved;
    return rc;
}

static bool verdict(int rc, struct kvm_run *run, char *why, size_t size)
{
    if (rc < 0)
        snprintf(why, size, "KVM's self-test failed: %s",
                 errno == EINTR ? "64-bit code hangs" : strerror(errno));
    else if (run->exit_reason != KVM_EXIT_IO || run->io.port != PORT)
        snprintf(why, size, "KVM's self-test failed: 64-bit code ends with exit %u",
                 run->exit_reason);
    else if (get_le32((uint8_t *)run + run->io.data_offset) != EXPECTED)
        snprintf(why, size, "KVM's self-test failed: 64-bit code computes wrongly");
    else
        return true;
    return false;
}

static bool run_vcpu(int vcpu, size_t run_size, char *why, size_t size)
{
    struct kvm_run *run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (run == MAP_FAILED || !set_long_mode(vcpu)) {
        snprintf(why, size, "KVM's self-test failed: %s", strerror(errno));
        if (run != MAP_FAILED)
            munmap(run, run_size);
        return false;
    }
    bool ok = verdict(run_limited(vcpu), run, why, size);
    munmap(run, run_size);
    return ok;
}

bool kvm_selftest(int dev, char *why, size_t size)
{
    AUTO(fd) vm = ioctl(dev, KVM_CREATE_VM, 0);
    AUTO(fd) vcpu = vm >= 0 ? ioctl(vm, KVM_CREATE_VCPU, 0) : -1;
    uint8_t *ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int run_size = ioctl(dev, KVM_GET_VCPU_MMAP_SIZE, 0);
    struct kvm_userspace_memory_region m = {.memory_size = RAM, .userspace_addr = (uintptr_t)ram};
    bool ok = false;
    if (vcpu < 0 || run_size <= 0 || ram == MAP_FAILED ||
        ioctl(vm, KVM_SET_USER_MEMORY_REGION, &m)) {
        snprintf(why, size, "KVM makes no virtual machine: %s", strerror(errno));
    } else {
        fill(ram);
        ok = run_vcpu(vcpu, (size_t)run_size, why, size);
    }
    if (ram != MAP_FAILED)
        munmap(ram, RAM);
    return ok;
}
