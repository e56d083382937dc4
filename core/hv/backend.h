/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a processor backend (core/hv/kvm, core/hv/soft) is to the partition: one vtable down, one
 * set of upcalls up. While a VP runs, the backend completes port I/O, MMIO, MSR, CPUID and
 * hypercall exits itself by calling the upcalls on the VP's thread; vp_run returns only for what
 * ends the run.
 *
 * Thread: create, map, vp_create, get_state, set_state: VPs not running. vp_run: the VP's own
 * thread. kick, msi, interrupt, nmi, extint, ioapic_route, bind_event: any thread, at any time.
 */
#ifndef VIREO_HV_BACKEND_H
#define VIREO_HV_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/hv/clock.h"
#include "core/hv/io.h"
#include "core/hv/memory.h"
#include "core/hv/timers.h"
#include "core/hv/vpstate.h"

enum hv_exit_kind {
    HV_EXIT_KICKED,       /* vp_kick was called; all instructions begun are complete */
    HV_EXIT_TRIPLE_FAULT, /* shutdown state */
    HV_EXIT_FAILED,       /* the backend cannot go on; text says why */
    HV_EXIT_RESET,        /* the guest asked by a backend-internal way (KVM system event) */
    HV_EXIT_CRASH,        /* the guest wrote the crash control MSR (KVM system event) */
};
struct hv_exit {
    enum hv_exit_kind kind;
    char text[200];
};

enum hv_exit_count {
    HV_COUNT_PIO,
    HV_COUNT_MMIO,
    HV_COUNT_MSR,
    HV_COUNT_HYPERCALL,
    HV_COUNT_HALT,
    HV_COUNT_INTERRUPT_WINDOW,
    HV_COUNT_EOI,
    HV_COUNT_SIGNAL,
    HV_COUNT_OTHER,
    HV_COUNT_KINDS
};
struct hv_vp_stats {
    uint64_t exits[HV_COUNT_KINDS];
    uint64_t instructions; /* interpreted by the software processor (core/hv/soft/README.md:
                              `count`); 0 on KVM */
    /* The software processor's: decoded and translated code and all of its tables, as far as they
     * have been in use (bytes), and how often they were full and emptied. */
    uint64_t code_memory, code_flushes;
};

struct hv_cpuid {
    uint32_t leaf, subleaf;
    bool per_subleaf; /* subleaf must match */
    uint32_t eax, ebx, ecx, edx;
};

/* A hypercall as the guest made it (TLFS 3): control word and the two input registers; XMM0-5 when
 * `fast`. */
struct hv_hypercall {
    uint64_t control, input, output; /* RCX, RDX, R8; 32-bit guests' register pairs are joined */
    uint8_t xmm[6][16];
    bool has_xmm;
    bool long_mode;
};

struct hv_backend_upcalls {
    bool (*rdmsr)(void *ctx, unsigned vp, uint32_t msr, uint64_t *value); /* false: #GP(0) */
    bool (*wrmsr)(void *ctx, unsigned vp, uint32_t msr, uint64_t value);
    /* From CPL 0 in protected mode only (anything else is #UD). False: #UD (no guest OS id). */
    bool (*hypercall)(void *ctx, unsigned vp, const struct hv_hypercall *h, uint64_t *result);
    /* The guest wrote end-of-interrupt for a vector that an ioapic_route or any level-triggered
     * message names. */
    void (*eoi)(void *ctx, unsigned vp, uint8_t vector);
    /* The VP ended a SynIC message (EOM) or the vector of a SINT: retry queued messages. */
    void (*eom)(void *ctx, unsigned vp);
    /* Backends with `synic` only: the guest wrote one of these MSRs (values with their enable
     * bits). */
    void (*synic_pages)(void *ctx, unsigned vp, uint64_t scontrol, uint64_t siefp, uint64_t simp);
    /* The VP can take an ExtINT: acknowledges the PIC and returns the vector, -1 if none. */
    int (*extint_ack)(void *ctx);
    void *ctx;
};

struct hv_backend_params {
    struct hv_memory *memory;
    struct hv_io *io;
    struct hv_timers *timers;
    unsigned vp_count;
    const struct hv_cpuid *cpuid; /* static leaves; the backend adds APIC ids, OSXSAVE, ... */
    size_t ncpuid;
    /* The partition's clock. Soft: every VP's TSC is hv_clock_now plus an offset of its own (0
     * until the guest writes TSC or TSC_ADJUST, or set_state gives another), so TSC ticks are
     * nanoseconds. */
    const struct hv_clock *clock;
    uint64_t apic_hz; /* local APIC timer's input clock: 1 GHz, before its divider */
    struct hv_backend_upcalls up;
};

/* An IOAPIC pin's or a message's address and data as an MSI would carry them (SDM 11.11). */
struct hv_msi {
    uint64_t address;
    uint32_t data;
};

struct hv_backend_ops {
    const char *name; /* "kvm", "soft" */
    /* CPUID leaves of the host that this backend can give a guest, at most `room`, and how many.
     * NULL: it has one processor model. `leaf` is one subleaf each. */
    size_t (*host_cpuid)(struct hv_cpuid *out, size_t room);
    /* Whether guests do well to end interrupts by MSR 0x40000070, where the VP assist page can
     * spare them the exit (TLFS 10.3.5). NULL: no. */
    bool (*lazy_eoi)(void);
    /* Whether extended hypercalls (0x8001 and on: free page reporting) reach core/hv. NULL: yes. */
    bool (*extended_calls)(void);
    /* Whether this host can run an unmodified kernel with it; `why` gets one line if not. */
    bool (*usable)(char *why, size_t size);
    void *(*create)(const struct hv_backend_params *p, err *e);
    void (*destroy)(void *b);

    /* Runs until kicked or until something ends the run. A halted VP waits inside. */
    void (*vp_run)(void *b, unsigned vp, struct hv_exit *exit);
    /* Makes vp_run return soon; remembered if the VP is not inside (the next vp_run returns at
     * once, after completing a pending exit). */
    void (*vp_kick)(void *b, unsigned vp);
    bool (*vp_get_state)(void *b, unsigned vp, struct hv_vp_state *s, err *e);
    bool (*vp_set_state)(void *b, unsigned vp, const struct hv_vp_state *s, err *e);
    void (*vp_stats)(void *b, unsigned vp, struct hv_vp_stats *out);

    void (*msi)(void *b, const struct hv_msi *m);
    /* Fixed, edge-triggered vector into one VP's local APIC (SINTs, synthetic timers). */
    void (*interrupt)(void *b, unsigned vp, uint8_t vector);
    void (*nmi)(void *b, unsigned vp);
    void (*extint)(void *b, bool asserted); /* the PIC's INTR line, to VP 0 */
    /* What IOAPIC pin `pin` is programmed to (NULL: masked), and a level that it sent otherwise and
     * that is not ended yet (or NULL): KVM needs them to report EOIs. */
    void (*ioapic_route)(void *b, unsigned pin, const struct hv_msi *m,
                         const struct hv_msi *in_service);

    /* Vectors whose interrupts the local APIC ends by itself when it delivers them (auto-EOI
     * SINTs): bit n of the 256. NULL where the kernel does it. Any thread. */
    void (*auto_eoi)(void *b, unsigned vp, const uint64_t vectors[4]);
    /* Drops all address translations of the VPs in the mask (bit n: VP n) before it returns; called
     * by VP `vp` out of a hypercall, by several at once. NULL: no remote flush is offered to
     * guests. */
    void (*flush_tlb)(void *b, unsigned vp, uint64_t mask);
    /* The local APIC's registers for MSRs 0x40000070-72: offset 0xb0 EOI, 0x300 ICR (64 bits as in
     * x2APIC mode's MSR), 0x80 TPR. On the VP's thread. False: #GP. NULL: not offered, or the
     * kernel's. */
    bool (*apic_read)(void *b, unsigned vp, unsigned offset, uint64_t *value);
    bool (*apic_write)(void *b, unsigned vp, unsigned offset, uint64_t value);
    /* Address line 20 of all VPs' accesses: off, bit 20 of each address is 0. KVM has that for
     * what real mode reaches alone: there the region at 1 MiB shows the one at 0. One caller at a
     * time, also out of an upcall. False: it cannot. */
    bool (*set_a20)(void *b, bool on);
    /* Rate of the TSC that guests see, in Hz. */
    uint64_t (*tsc_hz)(void *b);

    /*
     * Hyper-V in the kernel. NULL on a backend whose personality is all core/hv's (soft): then its
     * synthetic MSRs and hypercalls come as upcalls.
     */
    const struct hv_backend_synic_ops *synic;
    /* Pages written since the last call are or-ed into the bitmap (a bit a page). */
    bool (*dirty_log)(void *b, const struct hv_region *r, uint64_t *bitmap, err *e);
};

struct hv_backend_synic_ops {
    /* Reference time of the partition in 100 ns, and the way to set it on restore (VPs not
     * running). */
    uint64_t (*reference_time)(void *b);
    bool (*set_reference_time)(void *b, uint64_t t, err *e);
    /* SIGNAL_EVENT on connection `id` writes fd instead of exiting. fd -1 removes. */
    bool (*bind_event)(void *b, uint32_t id, int fd, err *e);
    /* Asserts a SINT of a VP after a message or flag was written. */
    void (*assert_sint)(void *b, unsigned vp, unsigned sint);
    bool (*get_msr)(void *b, unsigned vp, uint32_t msr, uint64_t *value);
    bool (*set_msr)(void *b, unsigned vp, uint32_t msr, uint64_t value);
};

extern const struct hv_backend_ops hv_backend_kvm;
extern const struct hv_backend_ops hv_backend_soft;

#endif
