/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A partition: guest memory, virtual processors with a thread each, interrupts, the Hyper-V
 * personality (CPUID, MSRs, hypercalls, SynIC, synthetic timers) and I/O dispatch, on one backend.
 * Source: TLFS v6.0b.
 *
 * Thread: functions may be called from any thread unless said; upcalls run on VP threads.
 */
#ifndef VIREO_HV_PARTITION_H
#define VIREO_HV_PARTITION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/base/state.h"
#include "core/hv/backend.h"
#include "core/hv/io.h"
#include "core/hv/memory.h"
#include "core/hv/vpstate.h"

enum hv_accel { HV_ACCEL_AUTO, HV_ACCEL_KVM, HV_ACCEL_SOFT };
enum hv_cpu_model { HV_CPU_BASELINE, HV_CPU_HOST };
enum hv_vendor { HV_VENDOR_INTEL, HV_VENDOR_AMD };
/* What this host is nearest to: the right vendor for a new machine, whose guest then takes the ways
 * (system calls, mitigations) that fit the processor below it. */
enum hv_vendor hv_host_vendor(void);

enum { HV_MAX_VPS = 64, HV_MAX_MESSAGE = 240 };

/* HV_STATUS codes (TLFS appendix B). */
enum hv_status {
    HV_STATUS_SUCCESS = 0,
    HV_STATUS_INVALID_HYPERCALL_CODE = 2,
    HV_STATUS_INVALID_HYPERCALL_INPUT = 3,
    HV_STATUS_INVALID_ALIGNMENT = 4,
    HV_STATUS_INVALID_PARAMETER = 5,
    HV_STATUS_ACCESS_DENIED = 6,
    HV_STATUS_INVALID_PARTITION_STATE = 7,
    HV_STATUS_OPERATION_DENIED = 8,
    HV_STATUS_INSUFFICIENT_MEMORY = 11,
    HV_STATUS_INVALID_VP_INDEX = 14,
    HV_STATUS_INVALID_PORT_ID = 17,
    HV_STATUS_INVALID_CONNECTION_ID = 18,
    HV_STATUS_INSUFFICIENT_BUFFERS = 19,
};

enum hv_end { HV_END_TRIPLE_FAULT, HV_END_RESET, HV_END_CRASH, HV_END_FAILED };
struct hv_end_report {
    enum hv_end kind;
    unsigned vp;
    uint64_t crash_param[5]; /* CRASH: P0-P4 */
    char text[4097];         /* CRASH with message: the kernel log; FAILED: why; else "" */
};

struct hv_partition_ops {
    /* HvPostMessage on connection `id`; payload copied from the guest, at most HV_MAX_MESSAGE
     * bytes. */
    enum hv_status (*post_message)(void *ctx, unsigned vp, uint32_t id, uint32_t type,
                                   const void *payload, uint32_t len);
    /* HvSignalEvent on a connection that no event descriptor is bound to. */
    enum hv_status (*signal_event)(void *ctx, unsigned vp, uint32_t id, uint16_t flag);
    /* The guest ended itself. Called once until reset; the VP that did it waits. CRASH is a report
     * alone: the VP goes on (kdump, a reset of its own), and other ends may follow. On a VP thread.
     */
    void (*ended)(void *ctx, const struct hv_end_report *r);
    /* End of interrupt for the IOAPIC. May be NULL until set. */
    void (*ioapic_eoi)(void *ctx, uint8_t vector);
    int (*pic_ack)(void *ctx); /* see hv_backend_upcalls.extint_ack */
    /* HvExtCallGetBootZeroedMemory/.. are not offered; free page reporting is: may be NULL. */
    void (*pages_reported)(void *ctx, uint64_t gpa, uint64_t len);
};

struct hv_partition_params {
    enum hv_accel accel;
    enum hv_cpu_model cpu;
    enum hv_vendor vendor;
    unsigned vp_count;
    bool page_reporting;
    /* Do not recommend the TLB flush hypercalls (they work): for machines that run 32-bit guests.
     */
    bool no_flush_hint;
    const struct hv_backend_ops *backend; /* borrowed; NULL: by `accel` (tests give their own) */
    const struct hv_partition_ops *ops;   /* borrowed */
    void *ctx;
};

struct hv_partition;

/* AUTO takes KVM where it can run an unmodified kernel; the reason otherwise: hv_partition_note. */
struct hv_partition *hv_partition_new(const struct hv_partition_params *p, err *e);
void hv_partition_free(struct hv_partition *p);                 /* paused */
const char *hv_partition_backend(const struct hv_partition *p); /* "kvm" or "soft" */
const char *hv_partition_note(const struct hv_partition *p);    /* one line, or "" */

struct hv_memory *hv_partition_memory(struct hv_partition *p);
struct hv_io *hv_partition_io(struct hv_partition *p);
unsigned hv_partition_vp_count(const struct hv_partition *p);
/* Nanoseconds of the partition's life, standing still while it is paused: for the clocks of
 * emulated devices.
 */
const struct hv_clock *hv_partition_clock(const struct hv_partition *p);
uint64_t hv_partition_tsc_hz(const struct hv_partition *p);

/* Processors. resume starts or continues all VPs; pause returns when every VP is out of guest code
 * with no instruction half done (must not be called on a VP thread). */
void hv_partition_resume(struct hv_partition *p);
/* Paused: so much time has passed that the guest is to see (a checkpoint of a machine that runs
 * on). Backends with a clock of their own, which goes on by itself, see none of it. */
void hv_partition_pass_time(struct hv_partition *p, uint64_t ns);
void hv_partition_pause(struct hv_partition *p);
/* Paused: every VP, SynIC, MSR and queue to power-on; memory contents are the caller's business. */
void hv_partition_reset(struct hv_partition *p);
/* Paused: the INIT line of the boot processor (hv_vp_state_init); a guest that ended itself goes
 * on. */
bool hv_partition_init(struct hv_partition *p, err *e);
bool hv_partition_get_vp(struct hv_partition *p, unsigned vp, struct hv_vp_state *s, err *e);
bool hv_partition_set_vp(struct hv_partition *p, unsigned vp, const struct hv_vp_state *s, err *e);
void hv_partition_stats(struct hv_partition *p, unsigned vp, struct hv_vp_stats *out);

/* Paused. All of the above with time and queued messages; memory is saved by the machine. */
bool hv_partition_save(struct hv_partition *p, struct state_writer *w, err *e);
bool hv_partition_restore(struct hv_partition *p, const struct state_reader *r, err *e);

/* Reference time, 100 ns since the partition was made (MSR 0x40000020). */
uint64_t hv_partition_reference_time(struct hv_partition *p);

/* Address line 20 (a PC's A20 gate), on after hv_partition_new and whatever else happens. One
 * caller at a time, VP threads too. False: this backend cannot turn it off. */
bool hv_partition_set_a20(struct hv_partition *p, bool on);

/* Interrupts. */
void hv_partition_msi(struct hv_partition *p, const struct hv_msi *m);
void hv_partition_ioapic_route(struct hv_partition *p, unsigned pin, const struct hv_msi *m,
                               const struct hv_msi *in_service);
void hv_partition_extint(struct hv_partition *p, bool asserted);
void hv_partition_nmi(struct hv_partition *p, unsigned vp);

/* SynIC, host side (TLFS 11). post queues behind a busy slot and retries at EOM; false only when
 * the queue is full (1024) or vp/sint/len is out of range. signal sets an event flag and asserts
 * the SINT if the flag was clear; false if the VP's event page is not enabled. */
bool hv_synic_post(struct hv_partition *p, unsigned vp, unsigned sint, uint32_t type,
                   const void *payload, uint8_t len);
bool hv_synic_signal(struct hv_partition *p, unsigned vp, unsigned sint, uint16_t flag);
/* Raises a SINT's interrupt alone, as after a message (for test devices). */
void hv_synic_assert(struct hv_partition *p, unsigned vp, unsigned sint);
/* Drops queued messages of a SINT on all VPs (UNLOAD, new contact). */
void hv_synic_drop(struct hv_partition *p, unsigned sint);
/* HvSignalEvent on connection `id` (24 bits) becomes a write to `fd` (an eventfd, borrowed until
 * unbound). */
bool hv_partition_bind_event(struct hv_partition *p, uint32_t id, int fd, err *e);
void hv_partition_unbind_event(struct hv_partition *p, uint32_t id);

#endif
