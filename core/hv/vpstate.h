/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The architectural state of a virtual processor, complete and independent of the backend: what
 * get_state and set_state exchange, what a saved state holds, and how a VP is set up for boot. A
 * state taken from one backend can be given to the other. Source: Intel SDM vol. 3; AMD APM vol. 2;
 * TLFS appendix A (segment attributes).
 */
#ifndef VIREO_HV_VPSTATE_H
#define VIREO_HV_VPSTATE_H

#include <stdbool.h>
#include <stdint.h>

enum hv_gpr {
    HV_RAX,
    HV_RCX,
    HV_RDX,
    HV_RBX,
    HV_RSP,
    HV_RBP,
    HV_RSI,
    HV_RDI,
    HV_R8,
    HV_R9,
    HV_R10,
    HV_R11,
    HV_R12,
    HV_R13,
    HV_R14,
    HV_R15,
    HV_GPR_COUNT
};

/* The order of the sreg field in instruction encodings, then the system ones. */
enum hv_seg { HV_ES, HV_CS, HV_SS, HV_DS, HV_FS, HV_GS, HV_LDTR, HV_TR, HV_SEG_COUNT };

/* HV_X64_SEGMENT_REGISTER: attributes as in bits 8-23 of a descriptor's high half: type 3:0, S 4,
 * DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15. limit is in bytes (granularity applied). */
struct hv_segment {
    uint64_t base;
    uint32_t limit;
    uint16_t selector;
    uint16_t attrib;
};

struct hv_table {
    uint64_t base;
    uint16_t limit;
};

enum hv_activity {
    HV_VP_RUNNING,
    HV_VP_HALTED,
    HV_VP_WAIT_FOR_SIPI,
    HV_VP_INIT_RECEIVED, /* INIT taken, SIPI not: same as WAIT_FOR_SIPI to the guest */
};

enum {
    HV_XSAVE_BYTES = 4096, /* standard (non-compacted) format */
    HV_LAPIC_BYTES = 1024, /* the register page's first KiB, xAPIC layout as KVM_GET_LAPIC has it */
    HV_VP_SINTS = 16,
    HV_VP_STIMERS = 4,
};

/* Synthetic registers of one VP (TLFS 11 SynIC, 12 timers, 10.3 APIC assist). */
struct hv_vp_synthetic {
    uint64_t vp_assist_page; /* MSR 0x40000073 */
    uint64_t scontrol, siefp, simp;
    uint64_t sint[HV_VP_SINTS];
    uint64_t stimer_config[HV_VP_STIMERS], stimer_count[HV_VP_STIMERS];
};

struct hv_vp_state {
    uint64_t gpr[HV_GPR_COUNT];
    uint64_t rip, rflags;
    struct hv_segment seg[HV_SEG_COUNT];
    struct hv_table gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4, cr8, xcr0;
    uint64_t dr[4], dr6, dr7;
    /* MSRs */
    uint64_t efer, star, lstar, cstar, sfmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_eip, sysenter_esp;
    uint64_t pat, apic_base, tsc_aux, misc_enable, spec_ctrl, debugctl;
    uint64_t tsc, tsc_adjust; /* tsc as the guest would read it at this instant */
    uint64_t mtrr_def_type, mtrr_fixed[11], mtrr_base[8], mtrr_mask[8];
    /* Events. exception_*: raised, not yet delivered (vector, error code if it has one).
     * interrupt_*: an external interrupt taken from the APIC or PIC, not yet delivered. */
    bool exception_pending, exception_has_error;
    uint8_t exception_vector;
    uint32_t exception_error;
    bool interrupt_pending;
    uint8_t interrupt_vector;
    bool nmi_pending, nmi_blocked;
    uint8_t interrupt_shadow; /* 1: STI, 2: MOV SS / POP SS */
    uint8_t activity;         /* enum hv_activity */
    struct hv_vp_synthetic synthetic;
    /* The xAPIC page. Its ID, the processor's number, is in bits 24 and up; the software processor
     * has it in the low ones in x2APIC mode: readers take both. */
    uint8_t lapic[HV_LAPIC_BYTES];
    uint8_t xsave[HV_XSAVE_BYTES];
};

/* Power-on (RESET) values of the architecture for this VP: real mode at F000:FFF0, APIC base with
 * BSP bit and x2APIC off; VP 0 runs, the others wait for SIPI. */
void hv_vp_state_reset(struct hv_vp_state *s, unsigned vp_index);
/* What the INIT line does to a boot processor: as a reset, but that caches, FPU, APIC, memory
 * types, time and the synthetic registers stay (SDM vol. 3, 10.1.1). */
void hv_vp_state_init(struct hv_vp_state *s);

#endif
