/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Running a VP on KVM and completing its exits. All on the VP's thread but kick and poke. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "core/base/log.h"
#include "core/hv/kvm/kvm-int.h"
#include "core/hv/tlfs-proto.h"

enum { HV_INVALID_CODE = 2 };

static void count(struct kvm_vp *vp, enum hv_exit_count kind)
{
    __atomic_store_n(&vp->exits[kind], vp->exits[kind] + 1, __ATOMIC_RELAXED);
}

/* ---- exits ---- */

static uint64_t load(const uint8_t *p, unsigned size)
{
    uint64_t v = 0;
    memcpy(&v, p, size);
    return v;
}

static void exit_io(struct kvm_vp *vp)
{
    struct kvm_run *run = vp->run;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    count(vp, HV_COUNT_PIO);
    for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
        if (run->io.direction == KVM_EXIT_IO_OUT) {
            hv_io_write(vp->k->p.io, HV_IO_PORT, run->io.port, run->io.size,
                        load(data, run->io.size));
        } else {
            uint64_t v = hv_io_read(vp->k->p.io, HV_IO_PORT, run->io.port, run->io.size);
            memcpy(data, &v, run->io.size);
        }
    }
}

static void exit_mmio(struct kvm_vp *vp)
{
    struct kvm_run *run = vp->run;
    count(vp, HV_COUNT_MMIO);
    if (run->mmio.is_write) {
        hv_io_write(vp->k->p.io, HV_IO_MMIO, run->mmio.phys_addr, run->mmio.len,
                    load(run->mmio.data, run->mmio.len));
    } else {
        uint64_t v = hv_io_read(vp->k->p.io, HV_IO_MMIO, run->mmio.phys_addr, run->mmio.len);
        memcpy(run->mmio.data, &v, run->mmio.len);
    }
}

static void exit_rdmsr(struct kvm_vp *vp)
{
    const struct hv_backend_upcalls *up = &vp->k->p.up;
    uint64_t v = 0;
    count(vp, HV_COUNT_MSR);
    vp->run->msr.error = !up->rdmsr(up->ctx, vp->index, vp->run->msr.index, &v);
    vp->run->msr.data = v;
}

static void exit_wrmsr(struct kvm_vp *vp)
{
    const struct hv_backend_upcalls *up = &vp->k->p.up;
    uint32_t msr = vp->run->msr.index;
    uint64_t data = vp->run->msr.data;
    count(vp, HV_COUNT_MSR);
    vp->run->msr.error = !up->wrmsr(up->ctx, vp->index, msr, data);
    if (msr == HV_MSR_EOM) /* KVM's own timer messages and resamplers wait for it, too */
        kvm_set_msr(vp->k, vp->index, msr, data);
}

static void exit_hyperv(struct kvm_vp *vp)
{
    const struct hv_backend_upcalls *up = &vp->k->p.up;
    struct kvm_hyperv_exit *x = &vp->run->hyperv;
    if (x->type == KVM_EXIT_HYPERV_SYNIC) {
        count(vp, HV_COUNT_MSR);
        up->synic_pages(up->ctx, vp->index, x->u.synic.control, x->u.synic.evt_page,
                        x->u.synic.msg_page);
    } else if (x->type == KVM_EXIT_HYPERV_HCALL) {
        const struct hv_hypercall h = {.control = x->u.hcall.input,
                                       .input = x->u.hcall.params[0],
                                       .output = x->u.hcall.params[1],
                                       .long_mode = true};
        uint64_t result = HV_INVALID_CODE;
        count(vp, HV_COUNT_HYPERCALL);
        if (!up->hypercall(up->ctx, vp->index, &h, &result))
            result = HV_INVALID_CODE;
        x->u.hcall.result = result;
    } else {
        count(vp, HV_COUNT_OTHER);
    }
}

static bool exit_system_event(struct kvm_vp *vp, struct hv_exit *x)
{
    switch (vp->run->system_event.type) {
    case KVM_SYSTEM_EVENT_RESET: x->kind = HV_EXIT_RESET; return true;
    case KVM_SYSTEM_EVENT_CRASH: x->kind = HV_EXIT_CRASH; return true;
    default:
        x->kind = HV_EXIT_FAILED;
        snprintf(x->text, sizeof x->text, "unexpected system event %u from KVM",
                 vp->run->system_event.type);
        return true;
    }
}

static bool exit_failed(struct kvm_vp *vp, struct hv_exit *x)
{
    struct kvm_regs regs = {0};
    const struct kvm_run *run = vp->run;
    ioctl(vp->fd, KVM_GET_REGS, &regs);
    x->kind = HV_EXIT_FAILED;
    if (run->exit_reason == KVM_EXIT_FAIL_ENTRY)
        snprintf(x->text, sizeof x->text,
                 "the processor refuses the guest's state (reason 0x%llx) at 0x%llx",
                 run->fail_entry.hardware_entry_failure_reason, regs.rip);
    else if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
        snprintf(x->text, sizeof x->text, "KVM cannot go on at 0x%llx (%s, %u)", regs.rip,
                 run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION ? "an instruction that it "
                                                                          "does not emulate"
                                                                        : "internal error",
                 run->internal.suberror);
    else
        snprintf(x->text, sizeof x->text, "unexpected exit %u from KVM at 0x%llx", run->exit_reason,
                 regs.rip);
    return true;
}

/* On SVM, KVM (seen with 6.1) clears its control block at a shutdown, and with paging off forgets
 * to put its page tables' address there again: the VP would fault for ever. A changed system
 * register makes it do so. */
static void load_page_tables(struct kvm_vp *vp)
{
    enum { CR4_PSE = 0x10 };
    struct kvm_sregs s;
    if (ioctl(vp->fd, KVM_GET_SREGS, &s))
        return;
    s.cr4 ^= CR4_PSE;
    ioctl(vp->fd, KVM_SET_SREGS, &s);
    s.cr4 ^= CR4_PSE;
    ioctl(vp->fd, KVM_SET_SREGS, &s);
}

/* Whether the exit ends the run. */
static bool handle(struct kvm_vp *vp, struct hv_exit *x)
{
    const struct hv_backend_upcalls *up = &vp->k->p.up;
    switch (vp->run->exit_reason) {
    case KVM_EXIT_IO: exit_io(vp); return false;
    case KVM_EXIT_MMIO: exit_mmio(vp); return false;
    case KVM_EXIT_X86_RDMSR: exit_rdmsr(vp); return false;
    case KVM_EXIT_X86_WRMSR: exit_wrmsr(vp); return false;
    case KVM_EXIT_HYPERV: exit_hyperv(vp); return false;
    case KVM_EXIT_IOAPIC_EOI:
        count(vp, HV_COUNT_EOI);
        up->eoi(up->ctx, vp->index, vp->run->eoi.vector);
        return false;
    case KVM_EXIT_IRQ_WINDOW_OPEN: count(vp, HV_COUNT_INTERRUPT_WINDOW); return false;
    case KVM_EXIT_INTR: count(vp, HV_COUNT_SIGNAL); return false;
    case KVM_EXIT_HLT: count(vp, HV_COUNT_HALT); return false;
    case KVM_EXIT_SHUTDOWN:
        count(vp, HV_COUNT_OTHER);
        load_page_tables(vp);
        x->kind = HV_EXIT_TRIPLE_FAULT;
        return true;
    case KVM_EXIT_SYSTEM_EVENT: count(vp, HV_COUNT_OTHER); return exit_system_event(vp, x);
    default: count(vp, HV_COUNT_OTHER); return exit_failed(vp, x);
    }
}

/* ---- running ---- */

/* One KVM_RUN. Whether the run ends; *interrupted: a signal or immediate_exit ended KVM_RUN. */
static bool enter(struct kvm_vp *vp, struct hv_exit *x, bool *interrupted)
{
    *interrupted = false;
    if (ioctl(vp->fd, KVM_RUN, 0) == 0)
        return handle(vp, x);
    if (errno == EINTR || errno == EAGAIN) { /* EAGAIN: a start-up interrupt came */
        *interrupted = errno == EINTR;
        count(vp, HV_COUNT_SIGNAL);
        return false;
    }
    x->kind = HV_EXIT_FAILED;
    snprintf(x->text, sizeof x->text, "KVM refuses to run processor %u: %s", vp->index,
             strerror(errno));
    return true;
}

/* Completes the exit that the guest is in the middle of, without running it further. */
static bool complete(struct kvm_vp *vp, struct hv_exit *x)
{
    bool interrupted = false, ended = false;
    while (!ended && !interrupted) {
        vp->run->immediate_exit = 1;
        ended = enter(vp, x, &interrupted);
    }
    vp->run->immediate_exit = 0;
    return ended;
}

static void run(struct kvm_vp *vp, struct hv_exit *x)
{
    bool interrupted;
    for (;;) {
        /* What the exit leaves to be done might itself raise an exception. */
        bool extint = kvm_wants_extint(vp);
        if (extint && complete(vp, x))
            return;
        __atomic_store_n(&vp->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
        if (atomic_exchange(&vp->kicked, false)) {
            x->kind = HV_EXIT_KICKED;
            complete(vp, x);
            return;
        }
        kvm_offer_extint(vp, extint);
        if (enter(vp, x, &interrupted))
            return;
    }
}

void kvm_vp_run(void *b, unsigned index, struct hv_exit *x)
{
    struct kvm_vp *vp = &((struct kvm *)b)->vp[index];
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, KVM_KICK_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    vp->thread = pthread_self();
    atomic_store(&vp->inside, true);
    run(vp, x);
    atomic_store(&vp->inside, false);
}

void kvm_poke(struct kvm_vp *vp)
{
    __atomic_store_n(&vp->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (atomic_load(&vp->inside) && !pthread_equal(vp->thread, pthread_self()))
        pthread_kill(vp->thread, KVM_KICK_SIGNAL);
}

void kvm_vp_kick(void *b, unsigned index)
{
    struct kvm_vp *vp = &((struct kvm *)b)->vp[index];
    atomic_store(&vp->kicked, true);
    kvm_poke(vp);
}
