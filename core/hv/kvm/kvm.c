/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The KVM backend: a VM with a split irqchip (local APICs, SynIC and synthetic timers in the
 * kernel; the IOAPIC and PIC are the machine's), Hyper-V enlightenments on, end of message and the
 * crash MSRs filtered to us.
 */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/hv/kvm/kvm-int.h"
#include "core/hv/tlfs-proto.h"

/* ---- can it be used ---- */

enum { VMX = 1 << 5, SVM = 1 << 2 }; /* CPUID 1.ECX, 0x80000001.ECX */

/* By the instruction: a sandboxed worker sees no /proc/cpuinfo. */
static bool has_flag(void)
{
    unsigned eax, ebx, ecx, edx;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & VMX))
        return true;
    return __get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) && (ecx & SVM);
}

static bool lacks_capability(int dev, char *why, size_t size)
{
    static const struct {
        int cap;
        const char *name;
    } needed[] = {
        {KVM_CAP_SPLIT_IRQCHIP, "a split interrupt controller"},
        {KVM_CAP_HYPERV_SYNIC2, "Hyper-V's interrupt controller"},
        {KVM_CAP_HYPERV_EVENTFD, "Hyper-V's event signalling"},
        {KVM_CAP_HYPERV_TLBFLUSH, "Hyper-V's TLB flush"},
        {KVM_CAP_HYPERV_SEND_IPI, "Hyper-V's interprocessor interrupts"},
        {KVM_CAP_X86_MSR_FILTER, "filtering of model-specific registers"},
        {KVM_CAP_X86_USER_SPACE_MSR, "handling of model-specific registers"},
        {KVM_CAP_IMMEDIATE_EXIT, "immediate exits"},
        {KVM_CAP_SIGNAL_MSI, "message-signalled interrupts"},
        {KVM_CAP_READONLY_MEM, "read-only memory"},
    };
    for (size_t i = 0; i < ARRAY_LEN(needed); i++)
        if (ioctl(dev, KVM_CHECK_EXTENSION, needed[i].cap) <= 0) {
            snprintf(why, size, "this kernel's KVM has no support for %s", needed[i].name);
            return true;
        }
    return false;
}

int kvm_open(char *why, size_t size)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    if (errno == ENOENT || errno == ENXIO || errno == ENODEV)
        snprintf(why, size, "this host has no /dev/kvm");
    else if (errno == EACCES || errno == EPERM)
        snprintf(why, size, "/dev/kvm may not be opened by this user (is it in the group kvm?)");
    else
        snprintf(why, size, "/dev/kvm cannot be opened: %s", strerror(errno));
    return -1;
}

static bool usable(char *why, size_t size)
{
    AUTO(fd) dev = kvm_open(why, size);
    if (dev < 0)
        return false;
    if (!has_flag()) {
        snprintf(
            why, size,
            "the processor of this host shows neither vmx nor svm, so its /dev/kvm cannot run an "
            "unmodified kernel");
        return false;
    }
    if (ioctl(dev, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
        snprintf(why, size, "/dev/kvm speaks another version of its interface");
        return false;
    }
    return !lacks_capability(dev, why, size) && kvm_selftest(dev, why, size);
}

static bool parameter_is_on(const char *path)
{
    char c = 0;
    AUTO(fd) fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && read(fd, &c, 1) == 1 && (c == 'Y' || c == '1');
}

/* Where the hardware ends interrupts without an exit, the MSR would bring exits back. */
static bool lazy_eoi(void)
{
    return !parameter_is_on("/sys/module/kvm_intel/parameters/enable_apicv") &&
           !parameter_is_on("/sys/module/kvm_amd/parameters/avic");
}

/* KVM hands extended hypercalls out since Linux 6.3; there is no capability that says so. */
static bool extended_calls(void)
{
    struct utsname u;
    unsigned major, minor;
    return uname(&u) == 0 && sscanf(u.release, "%u.%u", &major, &minor) == 2 &&
           (major > 6 || (major == 6 && minor >= 3));
}

/* ---- making ---- */

static void on_kick(int sig)
{
}

/* The signal's only effect is that KVM_RUN returns. */
void kvm_install_kick_handler(void)
{
    struct sigaction sa = {.sa_handler = on_kick};
    sigemptyset(&sa.sa_mask);
    sigaction(KVM_KICK_SIGNAL, &sa, NULL);
}

static bool enable(int fd, uint32_t cap, uint64_t arg)
{
    struct kvm_enable_cap c = {.cap = cap, .args = {arg}};
    return ioctl(fd, KVM_ENABLE_CAP, &c) == 0;
}

/* End of message (pending messages are retried by core/hv) and the crash registers (whose message
 * flag KVM does not know) leave the kernel; all other MSRs stay there. */
static bool filter_msrs(struct kvm *k)
{
    static uint8_t none[1]; /* all denied */
    struct kvm_msr_filter f = {.flags = KVM_MSR_FILTER_DEFAULT_ALLOW};
    f.ranges[0] = (struct kvm_msr_filter_range){.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
                                                .nmsrs = 1,
                                                .base = HV_MSR_EOM,
                                                .bitmap = none};
    f.ranges[1] = (struct kvm_msr_filter_range){.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
                                                .nmsrs = HV_MSR_CRASH_CTL - HV_MSR_CRASH_P0 + 1,
                                                .base = HV_MSR_CRASH_P0,
                                                .bitmap = none};
    return enable(k->vm, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER) &&
           ioctl(k->vm, KVM_X86_SET_MSR_FILTER, &f) == 0;
}

/* Four pages below the firmware's window that Intel processors without unrestricted guests need. */
#define IDENTITY_MAP 0xfeffc000ull
#define TSS 0xfeffd000ul

static bool make_vm(struct kvm *k, err *e)
{
    uint64_t identity = IDENTITY_MAP;
    k->vm = ioctl(k->dev, KVM_CREATE_VM, 0);
    if (k->vm < 0)
        return err_errno(e, errno, "making a KVM virtual machine");
    if (ioctl(k->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity) || ioctl(k->vm, KVM_SET_TSS_ADDR, TSS))
        return err_errno(e, errno, "reserving KVM's own pages");
    if (!enable(k->vm, KVM_CAP_SPLIT_IRQCHIP, KVM_ROUTES))
        return err_errno(e, errno, "splitting KVM's interrupt controller");
    if (!filter_msrs(k))
        return err_errno(e, errno, "filtering model-specific registers");
    return true;
}

static bool make_vp(struct kvm *k, unsigned i, err *e)
{
    struct kvm_vp *vp = &k->vp[i];
    *vp = (struct kvm_vp){.k = k, .index = i, .fd = ioctl(k->vm, KVM_CREATE_VCPU, i)};
    if (vp->fd < 0)
        return err_errno(e, errno, "making processor %u", i);
    k->made++;
    vp->run = mmap(NULL, vp->run_size = (size_t)ioctl(k->dev, KVM_GET_VCPU_MMAP_SIZE, 0),
                   PROT_READ | PROT_WRITE, MAP_SHARED, vp->fd, 0);
    if (vp->run == MAP_FAILED) {
        vp->run = NULL;
        return err_errno(e, errno, "mapping processor %u", i);
    }
    if (!kvm_set_cpuid(vp, e))
        return false;
    if (!enable(vp->fd, KVM_CAP_HYPERV_SYNIC2, 0))
        return err_errno(e, errno, "enabling Hyper-V's interrupt controller");
    enable(vp->fd, KVM_CAP_HYPERV_ENFORCE_CPUID, 1); /* older kernels: looser, not wrong */
    return true;
}

static void destroy(void *b)
{
    struct kvm *k = b;
    for (unsigned i = 0; i < k->made; i++) {
        if (k->vp[i].run)
            munmap(k->vp[i].run, k->vp[i].run_size);
        close(k->vp[i].fd);
    }
    if (k->vm >= 0)
        close(k->vm);
    if (k->dev >= 0)
        close(k->dev);
    pthread_mutex_destroy(&k->route_lock);
    pthread_mutex_destroy(&k->slot_lock);
    free(k->vp);
    free(k);
}

static bool make_all(struct kvm *k, err *e)
{
    char why[160];
    k->dev = kvm_open(why, sizeof why);
    if (k->dev < 0)
        return err_set(e, ERR_UNSUPPORTED, "%s", why);
    int max = ioctl(k->dev, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
    if (max > 0 && k->p.vp_count > (unsigned)max)
        return err_set(e, ERR_UNSUPPORTED, "KVM here runs at most %d processors, not %u", max,
                       k->p.vp_count);
    if (!make_vm(k, e) || !kvm_check_cpuid(k, e))
        return false;
    for (unsigned i = 0; i < k->p.vp_count; i++)
        if (!make_vp(k, i, e))
            return false;
    int khz = ioctl(k->vp[0].fd, KVM_GET_TSC_KHZ, 0);
    if (khz <= 0)
        return err_errno(e, errno, "asking for the rate of the time-stamp counter");
    k->tsc_hz = (uint64_t)khz * 1000;
    if (!kvm_set_routes(k, e))
        return false;
    const struct hv_memory_listener l = {
        .map = kvm_map, .change = kvm_change, .unmap = kvm_unmap, .ctx = k};
    return hv_memory_add_listener(k->p.memory, &l, e);
}

static void *create(const struct hv_backend_params *p, err *e)
{
    struct kvm *k = calloc(1, sizeof *k);
    if (!k || !(k->vp = calloc(p->vp_count, sizeof *k->vp))) {
        free(k);
        err_set(e, ERR_NO_MEMORY, "no memory for a virtual machine");
        return NULL;
    }
    k->p = *p;
    k->dev = k->vm = -1;
    pthread_mutex_init(&k->route_lock, NULL);
    pthread_mutex_init(&k->slot_lock, NULL);
    kvm_install_kick_handler();
    if (!make_all(k, e)) {
        destroy(k);
        return NULL;
    }
    return k;
}

/* ---- time and numbers ---- */

static uint64_t tsc_hz(void *b)
{
    return ((struct kvm *)b)->tsc_hz;
}

/* KVM's reference counter is its clock in units of 100 ns. */
static uint64_t reference_time(void *b)
{
    struct kvm_clock_data c = {0};
    ioctl(((struct kvm *)b)->vm, KVM_GET_CLOCK, &c);
    return c.clock / 100;
}

static bool set_reference_time(void *b, uint64_t t, err *e)
{
    struct kvm_clock_data c = {.clock = t * 100};
    if (t > INT64_MAX / 100)
        return err_set(e, ERR_CORRUPT, "the saved reference time is out of range");
    if (ioctl(((struct kvm *)b)->vm, KVM_SET_CLOCK, &c))
        return err_errno(e, errno, "setting the machine's clock");
    return true;
}

static void stats(void *b, unsigned vp, struct hv_vp_stats *out)
{
    const struct kvm *k = b;
    for (unsigned i = 0; i < HV_COUNT_KINDS; i++)
        out->exits[i] = __atomic_load_n(&k->vp[vp].exits[i], __ATOMIC_RELAXED);
}

static const struct hv_backend_synic_ops synic_ops = {
    .reference_time = reference_time,
    .set_reference_time = set_reference_time,
    .bind_event = kvm_bind_event,
    .assert_sint = kvm_assert_sint,
    .get_msr = kvm_get_msr,
    .set_msr = kvm_set_msr,
};

const struct hv_backend_ops hv_backend_kvm = {
    .name = "kvm",
    .host_cpuid = kvm_host_cpuid,
    .lazy_eoi = lazy_eoi,
    .extended_calls = extended_calls,
    .usable = usable,
    .create = create,
    .destroy = destroy,
    .vp_run = kvm_vp_run,
    .vp_kick = kvm_vp_kick,
    .vp_get_state = kvm_get_state,
    .vp_set_state = kvm_set_state,
    .vp_stats = stats,
    .msi = kvm_msi_op,
    .interrupt = kvm_interrupt,
    .nmi = kvm_nmi,
    .extint = kvm_extint,
    .ioapic_route = kvm_ioapic_route,
    .tsc_hz = tsc_hz,
    .set_a20 = kvm_set_a20,
    .synic = &synic_ops,
    .dirty_log = kvm_dirty_log,
};
