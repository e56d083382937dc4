/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The hypervisor's wire layouts: CPUID leaves, synthetic MSRs, pages and hypercall input. Source:
 * TLFS v6.0b. */
#ifndef VIREO_HV_TLFS_PROTO_H
#define VIREO_HV_TLFS_PROTO_H

#include <stdint.h>

/* CPUID (chapter 2). */
#define HV_CPUID_VENDOR 0x40000000u
#define HV_CPUID_INTERFACE 0x40000001u
#define HV_CPUID_VERSION 0x40000002u
#define HV_CPUID_FEATURES 0x40000003u
#define HV_CPUID_HINTS 0x40000004u
#define HV_CPUID_LIMITS 0x40000005u
#define HV_CPUID_HARDWARE 0x40000006u
#define HV_INTERFACE_HV1 0x31237648u

enum { /* 0x40000003 EAX */
       HV_PRIV_VP_RUNTIME = 1 << 0,
       HV_PRIV_REF_COUNT = 1 << 1,
       HV_PRIV_SYNIC = 1 << 2,
       HV_PRIV_STIMER = 1 << 3,
       HV_PRIV_APIC = 1 << 4,
       HV_PRIV_HYPERCALL = 1 << 5,
       HV_PRIV_VP_INDEX = 1 << 6,
       HV_PRIV_RESET = 1 << 7,
       HV_PRIV_REF_TSC = 1 << 9,
       HV_PRIV_FREQUENCY = 1 << 11,
       /* EBX */
       HV_PRIV_POST_MESSAGES = 1 << 4,
       HV_PRIV_SIGNAL_EVENTS = 1 << 5,
       HV_PRIV_EXTENDED = 1 << 20,
       /* EDX */
       HV_FEAT_XMM_INPUT = 1 << 4,
       HV_FEAT_FREQUENCY = 1 << 8,
       HV_FEAT_CRASH = 1 << 10,
       HV_FEAT_DIRECT_STIMER = 1 << 19,
       /* 0x40000004 EAX */
       HV_HINT_REMOTE_FLUSH = 1 << 2,
       HV_HINT_APIC_MSRS = 1 << 3,
       HV_HINT_RELAXED_TIMING = 1 << 5,
       HV_HINT_NO_AEOI = 1 << 9,
       HV_HINT_CLUSTER_IPI = 1 << 10,
       HV_HINT_EX_MASKS = 1 << 11,
};

/* Synthetic MSRs (appendix C). */
enum hv_msr {
    HV_MSR_GUEST_OS_ID = 0x40000000,
    HV_MSR_HYPERCALL = 0x40000001,
    HV_MSR_VP_INDEX = 0x40000002,
    HV_MSR_RESET = 0x40000003,
    HV_MSR_VP_RUNTIME = 0x40000010,
    HV_MSR_REF_COUNT = 0x40000020,
    HV_MSR_REF_TSC = 0x40000021,
    HV_MSR_TSC_FREQUENCY = 0x40000022,
    HV_MSR_APIC_FREQUENCY = 0x40000023,
    HV_MSR_EOI = 0x40000070,
    HV_MSR_ICR = 0x40000071,
    HV_MSR_TPR = 0x40000072,
    HV_MSR_VP_ASSIST = 0x40000073,
    HV_MSR_SCONTROL = 0x40000080,
    HV_MSR_SVERSION = 0x40000081,
    HV_MSR_SIEFP = 0x40000082,
    HV_MSR_SIMP = 0x40000083,
    HV_MSR_EOM = 0x40000084,
    HV_MSR_SINT0 = 0x40000090,
    HV_MSR_STIMER0_CONFIG = 0x400000b0, /* + 2n; COUNT is the odd one */
    HV_MSR_CRASH_P0 = 0x40000100,
    HV_MSR_CRASH_CTL = 0x40000105,
};

#define HV_MSR_ENABLE 1ull      /* bit 0 of the page MSRs */
#define HV_MSR_PAGE (~0xfffull) /* their page frame */
#define HV_HYPERCALL_LOCKED 2ull
#define HV_CRASH_NOTIFY (1ull << 63)
#define HV_CRASH_MESSAGE (1ull << 62)

#define HV_SINT_VECTOR 0xffull
#define HV_SINT_MASKED (1ull << 16)
#define HV_SINT_AUTO_EOI (1ull << 17)
#define HV_SINT_POLLING (1ull << 18)

#define HV_STIMER_ENABLE 1ull
#define HV_STIMER_PERIODIC 2ull
#define HV_STIMER_AUTO_ENABLE 8ull
#define HV_STIMER_VECTOR(c) ((uint8_t)((c) >> 4 & 0xff))
#define HV_STIMER_DIRECT (1ull << 12)
#define HV_STIMER_SINT(c) ((unsigned)((c) >> 16 & 15))
#define HV_STIMER_VALID 0xf1fffull /* defined bits */

/* A slot of the message page (11.10.2). */
enum { HV_SLOT_BYTES = 256, HV_FLAGS_BYTES = 256, HV_FLAGS_BITS = 2048 };
#define HV_MESSAGE_TIMER_EXPIRED 0x80000010u
#define HV_MESSAGE_PENDING 1u /* flags: another one waits for EOM */
struct hv_slot {
    uint32_t type; /* 0: free */
    uint8_t size;
    uint8_t flags;
    uint16_t reserved;
    uint64_t sender;
    uint8_t payload[240];
};
_Static_assert(sizeof(struct hv_slot) == HV_SLOT_BYTES, "message slot");

struct hv_timer_payload {
    uint32_t index, reserved;
    uint64_t expiration, delivery;
};
_Static_assert(sizeof(struct hv_timer_payload) == 24, "timer message");

/* Reference TSC page (12.7). */
struct hv_ref_tsc_page {
    uint32_t sequence; /* 0: not valid */
    uint32_t reserved;
    uint64_t scale;
    int64_t offset;
};

/* Hypercalls (chapter 3, appendix A). */
enum hv_call {
    HV_CALL_FLUSH_SPACE = 0x0002,
    HV_CALL_FLUSH_LIST = 0x0003,
    HV_CALL_LONG_SPIN = 0x0008,
    HV_CALL_SEND_IPI = 0x000b,
    HV_CALL_FLUSH_SPACE_EX = 0x0013,
    HV_CALL_FLUSH_LIST_EX = 0x0014,
    HV_CALL_SEND_IPI_EX = 0x0015,
    HV_CALL_POST_MESSAGE = 0x005c,
    HV_CALL_SIGNAL_EVENT = 0x005d,
    HV_CALL_EXT_CAPABILITIES = 0x8001,
    HV_CALL_EXT_HEAT_HINT = 0x8003,
};
#define HV_EXT_CAP_COLD_DISCARD (1ull << 8)
#define HV_FLUSH_ALL_PROCESSORS 1ull
#define HV_HEAT_COLD_DISCARD 2u

struct hv_flush_input {
    uint64_t space, flags, mask; /* mask: VP set format in the Ex forms */
};
struct hv_post_message_input {
    uint32_t connection, reserved, type, size;
    uint8_t payload[240];
};
_Static_assert(sizeof(struct hv_post_message_input) == 256, "HvPostMessage");

#endif
