/* SPDX-License-Identifier: GPL-3.0-or-later */
/* CPUID on KVM: what the host can give, and the table given to each VP. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/hv/kvm/kvm-int.h"

enum { MAX_ENTRIES = 256 };

struct cpuid_list {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 e[MAX_ENTRIES];
};

static struct cpuid_list *supported(int dev)
{
    struct cpuid_list *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    l->head.nent = MAX_ENTRIES;
    if (ioctl(dev, KVM_GET_SUPPORTED_CPUID, l)) {
        free(l);
        return NULL;
    }
    return l;
}

/* Leaves that are core/hv's (hypervisor, topology) or that machines here do not have (PMU, TSC
 * rate, SGX, processor trace, AMX, topology of AMD). */
static bool withheld(uint32_t leaf)
{
    static const uint32_t no[] = {0xa,  0xb,  0xf,  0x10, 0x12, 0x14,
                                  0x15, 0x16, 0x1d, 0x1e, 0x1f, 0x8000001e};
    for (size_t i = 0; i < ARRAY_LEN(no); i++)
        if (leaf == no[i])
            return true;
    return leaf >> 28 == 4;
}

size_t kvm_host_cpuid(struct hv_cpuid *out, size_t room)
{
    char why[160];
    AUTO(fd) dev = kvm_open(why, sizeof why);
    AUTO(buf) mem = dev >= 0 ? supported(dev) : NULL;
    const struct cpuid_list *l = mem;
    size_t n = 0;
    for (uint32_t i = 0; l && i < l->head.nent && n < room; i++) {
        const struct kvm_cpuid_entry2 *x = &l->e[i];
        if (withheld(x->function))
            continue;
        out[n++] = (struct hv_cpuid){
            x->function, x->index, x->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX, x->eax, x->ebx,
            x->ecx,      x->edx};
    }
    return n;
}

/* ---- does the host have what the table promises ---- */

struct feature {
    uint8_t bit;
    const char *name;
};
static const struct feature leaf1_ecx[] = {
    {0, "SSE3"},    {1, "PCLMULQDQ"}, {9, "SSSE3"},   {13, "CMPXCHG16B"}, {19, "SSE4.1"},
    {20, "SSE4.2"}, {21, "x2APIC"},   {23, "POPCNT"}, {25, "AES"},        {30, "RDRAND"}};
static const struct feature leaf7_ebx[] = {{7, "SMEP"}, {20, "SMAP"}};
static const struct feature ext_edx[] = {
    {11, "SYSCALL"}, {20, "NX"}, {27, "RDTSCP"}, {29, "long mode"}};

static uint32_t reg_of(const struct kvm_cpuid_entry2 *x, char reg)
{
    return reg == 'b' ? x->ebx : reg == 'c' ? x->ecx : x->edx;
}

static bool check_reg(const struct cpuid_list *l, const struct hv_cpuid *want, char reg,
                      const struct feature *f, size_t nf, err *e)
{
    uint32_t have = 0, ask = reg == 'b' ? want->ebx : reg == 'c' ? want->ecx : want->edx;
    for (uint32_t i = 0; i < l->head.nent; i++)
        if (l->e[i].function == want->leaf && l->e[i].index == want->subleaf)
            have = reg_of(&l->e[i], reg);
    for (size_t i = 0; i < nf; i++)
        if (ask & ~have & 1u << f[i].bit)
            return err_set(e, ERR_UNSUPPORTED,
                           "this host's processor lacks %s, which the portable processor model has",
                           f[i].name);
    return true;
}

bool kvm_check_cpuid(struct kvm *k, err *e)
{
    AUTO(buf) mem = supported(k->dev);
    const struct cpuid_list *l = mem;
    if (!l)
        return err_errno(e, errno, "asking KVM for its processor model");
    for (size_t i = 0; i < k->p.ncpuid; i++) {
        const struct hv_cpuid *c = &k->p.cpuid[i];
        if (c->leaf == 1 && !check_reg(l, c, 'c', leaf1_ecx, ARRAY_LEN(leaf1_ecx), e))
            return false;
        if (c->leaf == 7 && c->subleaf == 0 &&
            !check_reg(l, c, 'b', leaf7_ebx, ARRAY_LEN(leaf7_ebx), e))
            return false;
        if (c->leaf == 0x80000001 && !check_reg(l, c, 'd', ext_edx, ARRAY_LEN(ext_edx), e))
            return false;
    }
    return true;
}

/* ---- per VP ---- */

static void personalise(struct kvm_cpuid_entry2 *x, unsigned vp)
{
    if (x->function == 1)
        x->ebx = (x->ebx & 0xffffff) | vp << 24;
    else if (x->function == 0xb)
        x->edx = vp;
}

bool kvm_set_cpuid(struct kvm_vp *vp, err *e)
{
    const struct hv_backend_params *p = &vp->k->p;
    AUTO(buf) mem = calloc(1, sizeof(struct cpuid_list));
    struct cpuid_list *l = mem;
    if (!l || p->ncpuid > MAX_ENTRIES)
        return err_set(e, ERR_NO_MEMORY, "no memory for the processor model");
    for (size_t i = 0; i < p->ncpuid; i++) {
        const struct hv_cpuid *c = &p->cpuid[i];
        l->e[i] =
            (struct kvm_cpuid_entry2){.function = c->leaf,
                                      .index = c->subleaf,
                                      .flags = c->per_subleaf ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
                                      .eax = c->eax,
                                      .ebx = c->ebx,
                                      .ecx = c->ecx,
                                      .edx = c->edx};
        personalise(&l->e[i], vp->index);
    }
    l->head.nent = (uint32_t)p->ncpuid;
    if (ioctl(vp->fd, KVM_SET_CPUID2, l))
        return err_errno(e, errno, "setting the model of processor %u", vp->index);
    return true;
}
