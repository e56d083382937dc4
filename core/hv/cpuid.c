/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What CPUID says: the portable baseline processor (x86-64-v2 with AES, PCLMULQDQ, RDRAND, SMEP and
 * SMAP; 39 physical address bits; neither invariant TSC nor TSC deadline), the host's own where
 * that is asked for, and the Hyper-V leaves (TLFS 2). Per-processor numbers (APIC id) are the
 * backend's to fill in.
 */
#include <string.h>

#include "core/base/bytes.h"
#include "core/hv/partition-int.h"

struct table {
    struct hv_cpuid *v;
    size_t n;
};

static void put(struct table *t, uint32_t leaf, uint32_t eax, uint32_t ebx, uint32_t ecx,
                uint32_t edx)
{
    if (t->n < HV_CPUID_MAX)
        t->v[t->n++] = (struct hv_cpuid){leaf, 0, false, eax, ebx, ecx, edx};
}

static void put_sub(struct table *t, uint32_t leaf, uint32_t subleaf, uint32_t eax, uint32_t ebx,
                    uint32_t ecx, uint32_t edx)
{
    if (t->n < HV_CPUID_MAX)
        t->v[t->n++] = (struct hv_cpuid){leaf, subleaf, true, eax, ebx, ecx, edx};
}

/* Leaves whose text is 12 or 16 bytes long, in the order EBX EDX ECX or EAX EBX ECX EDX. */
static void put_vendor(struct table *t, uint32_t leaf, uint32_t max, const char *text)
{
    put(t, leaf, max, get_le32(text), get_le32(text + 8), get_le32(text + 4));
}

/* ---- the baseline ---- */

/* 1.EDX: FPU VME DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT PSE36 CLFSH MMX FXSR SSE
 * SSE2 */
#define BASE_1_EDX 0x078bfbffu
#define HTT (1u << 28)
/* 1.ECX: SSE3 PCLMULQDQ SSSE3 CX16 SSE4.1 SSE4.2 x2APIC POPCNT AES RDRAND, hypervisor present */
#define BASE_1_ECX                                                                        \
    (1u << 0 | 1u << 1 | 1u << 9 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 21 | 1u << 23 | \
     1u << 25 | 1u << 30 | 1u << 31)
/* 7.EBX: SMEP ERMS SMAP; and two that are no features but warnings, true of all hosts that we may
 * run on: the x87 data pointer is only good after an exception (6), code and data segments are not
 * kept (13) */
#define BASE_7_EBX (1u << 6 | 1u << 7 | 1u << 9 | 1u << 13 | 1u << 20)
/* 0x80000001: SYSCALL NX RDTSCP LM; LAHF PREFETCHW */
#define BASE_EXT_EDX (1u << 11 | 1u << 20 | 1u << 27 | 1u << 29)
#define BASE_EXT_ECX (1u << 0 | 1u << 8)
#define AMD_EXT_EDX_ALIASES 0x0183f3ffu
#define AMD_CMP_LEGACY (1u << 1)
#define PHYS_BITS 39u
#define LINEAR_BITS 48u

/* Processors that guests know without errata of their own: family 6 model 44 ("Westmere"), and
 * family 16 model 0. */
#define INTEL_SIGNATURE 0x000206c1u
#define AMD_SIGNATURE 0x00100f00u

static unsigned log2_up(unsigned n)
{
    unsigned bits = 0;
    while (1u << bits < n)
        bits++;
    return bits;
}

/* Deterministic cache parameters: level, type (1 data, 2 code, 3 both), ways, line 64, sets. */
static void put_cache(struct table *t, unsigned index, unsigned vps, unsigned level, unsigned type,
                      unsigned ways, unsigned sets, bool shared)
{
    uint32_t cores = (1u << log2_up(vps)) - 1;
    uint32_t eax = type | level << 5 | 1u << 8 | (shared ? cores << 14 : 0) | MIN(cores, 63u) << 26;
    put_sub(t, 4, index, eax, (ways - 1) << 22 | 63, sets - 1, 0);
}

static void put_caches(struct table *t, unsigned vps)
{
    put_cache(t, 0, vps, 1, 1, 8, 64, false);
    put_cache(t, 1, vps, 1, 2, 4, 128, false);
    put_cache(t, 2, vps, 2, 3, 8, 512, false);
    put_cache(t, 3, vps, 3, 3, 16, 8192, true);
    put_sub(t, 4, 4, 0, 0, 0, 0);
}

static void put_topology(struct table *t, unsigned vps)
{
    put_sub(t, 0xb, 0, 0, 1, 1 << 8 | 0, 0);              /* one thread a core */
    put_sub(t, 0xb, 1, log2_up(vps), vps, 2 << 8 | 1, 0); /* all cores in one package */
    put_sub(t, 0xb, 2, 0, 0, 2, 0);
}

enum hv_vendor hv_host_vendor(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_is("amd") ? HV_VENDOR_AMD : HV_VENDOR_INTEL;
}

static void put_brand(struct table *t)
{
    static const char brand[48] = "Vireo Virtual Processor (x86-64-v2)";
    for (unsigned i = 0; i < 3; i++)
        put(t, 0x80000002 + i, get_le32(brand + 16 * i), get_le32(brand + 16 * i + 4),
            get_le32(brand + 16 * i + 8), get_le32(brand + 16 * i + 12));
}

static void put_baseline(struct table *t, const struct hv_partition_params *p)
{
    bool amd = p->vendor == HV_VENDOR_AMD, many = p->vp_count > 1;
    const char *vendor = amd ? "AuthenticAMD" : "GenuineIntel";
    put_vendor(t, 0, 0xb, vendor);
    put(t, 1, amd ? AMD_SIGNATURE : INTEL_SIGNATURE, p->vp_count << 16 | 8 << 8, BASE_1_ECX,
        BASE_1_EDX | (many ? HTT : 0));
    if (amd)
        put(t, 2, 0, 0, 0, 0);
    else
        put(t, 2, 1, 0, 0, 0x002c307d);
    if (!amd)
        put_caches(t, p->vp_count);
    put(t, 5, 0, 0, 0, 0);
    put(t, 6, 1 << 2, 0, 0, 0); /* the APIC timer runs always */
    put_sub(t, 7, 0, 0, BASE_7_EBX, 0, 0);
    put(t, 0xa, 0, 0, 0, 0);
    put_topology(t, p->vp_count);
    put_vendor(t, 0x80000000, 0x80000008, vendor);
    put(t, 0x80000001, amd ? AMD_SIGNATURE : 0, 0,
        BASE_EXT_ECX | (amd && many ? AMD_CMP_LEGACY : 0),
        BASE_EXT_EDX | (amd ? AMD_EXT_EDX_ALIASES & BASE_1_EDX : 0));
    put_brand(t);
    if (amd) {
        put(t, 0x80000005, 0x01ff01ff, 0x01ff01ff, 0x40020140, 0x40020140);
        put(t, 0x80000006, 0, 0x42004200, 0x02008140, 0x00808140);
    } else {
        put(t, 0x80000005, 0, 0, 0, 0);
        put(t, 0x80000006, 0, 0, 0x01006040, 0);
    }
    put(t, 0x80000007, 0, 0, 0, 0);
    put(t, 0x80000008, PHYS_BITS | LINEAR_BITS << 8, 0,
        amd ? log2_up(p->vp_count) << 12 | (p->vp_count - 1) : 0, 0);
}

/* ---- the host's processor, without what a guest here cannot have ---- */

#define TSC_DEADLINE (1u << 24)
#define MONITOR (1u << 3)

static void put_host(struct table *t, const struct hv_partition_params *p,
                     const struct hv_backend_ops *ops)
{
    t->n = ops->host_cpuid(t->v, HV_CPUID_MAX - 16);
    for (size_t i = 0; i < t->n; i++) {
        struct hv_cpuid *c = &t->v[i];
        if (c->leaf == 1) {
            c->ebx = (c->ebx & 0xff00) | p->vp_count << 16;
            c->ecx = (c->ecx & ~(TSC_DEADLINE | MONITOR)) | 1u << 21 | 1u << 31;
            c->edx = p->vp_count > 1 ? c->edx | HTT : c->edx & ~HTT;
        } else if (c->leaf == 0x80000007) {
            c->edx = 0; /* no invariant TSC: time is Hyper-V's */
        } else if (c->leaf == 0x80000008) {
            /* Virtual machines put windows below 2^39 whatever the host can address. */
            c->eax = (c->eax & ~0xffu) | PHYS_BITS;
            c->ecx = c->ecx ? log2_up(p->vp_count) << 12 | (p->vp_count - 1) : 0;
        }
    }
    put_topology(t, p->vp_count);
}

/* ---- the hypervisor's leaves ---- */

/*
 * The same on every backend, because a saved guest goes on with what it once read; but for one
 * hint: MSR_EOI, which only says what is quicker.
 *
 * no_flush_hint: 32-bit Linux (6.1) that has chosen retpolines, as it does on our baseline, calls
 * the hypercall page for a list of addresses through an operand relative to ESP, which the
 * retpoline has moved by then, and jumps into nowhere (hv_do_rep_hypercall, CALL_NOSPEC).
 */
static void put_hyperv(struct table *t, const struct hv_partition_params *p,
                       const struct hv_backend_ops *ops)
{
    const uint32_t priv = HV_PRIV_VP_RUNTIME | HV_PRIV_REF_COUNT | HV_PRIV_SYNIC | HV_PRIV_STIMER |
                          HV_PRIV_APIC | HV_PRIV_HYPERCALL | HV_PRIV_VP_INDEX | HV_PRIV_RESET |
                          HV_PRIV_REF_TSC | HV_PRIV_FREQUENCY;
    uint32_t priv_high = HV_PRIV_POST_MESSAGES | HV_PRIV_SIGNAL_EVENTS;
    uint32_t hints =
        HV_HINT_RELAXED_TIMING | HV_HINT_NO_AEOI | HV_HINT_CLUSTER_IPI | HV_HINT_EX_MASKS;
    if (!p->no_flush_hint)
        hints |= HV_HINT_REMOTE_FLUSH;
    if (ops->lazy_eoi && ops->lazy_eoi())
        hints |= HV_HINT_APIC_MSRS;
    if (p->page_reporting && (!ops->extended_calls || ops->extended_calls()))
        priv_high |= HV_PRIV_EXTENDED;
    static const char signature[] = "Microsoft Hv"; /* EBX ECX EDX */
    put(t, HV_CPUID_VENDOR, HV_CPUID_HARDWARE, get_le32(signature), get_le32(signature + 4),
        get_le32(signature + 8));
    put(t, HV_CPUID_INTERFACE, HV_INTERFACE_HV1, 0, 0, 0);
    put(t, HV_CPUID_VERSION, 0x3839, 0x000a0000, 0, 0);
    put(t, HV_CPUID_FEATURES, priv, priv_high, 0,
        HV_FEAT_XMM_INPUT | HV_FEAT_FREQUENCY | HV_FEAT_CRASH | HV_FEAT_DIRECT_STIMER);
    put(t, HV_CPUID_HINTS, hints, 0xfff, 0, 0);
    put(t, HV_CPUID_LIMITS, HV_MAX_VPS, HV_MAX_VPS, 0, 0);
    put(t, HV_CPUID_HARDWARE, 0, 0, 0, 0);
}

size_t hv_cpuid_build(const struct hv_partition_params *p, const struct hv_backend_ops *ops,
                      struct hv_cpuid *out)
{
    struct table t = {.v = out};
    if (p->cpu == HV_CPU_HOST && ops->host_cpuid)
        put_host(&t, p, ops);
    else
        put_baseline(&t, p);
    put_hyperv(&t, p, ops);
    return t.n;
}
