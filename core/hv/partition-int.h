/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The partition's inside, shared by the files of core/hv that make it up; nobody else includes it.
 *
 * Locks, in this order: run_lock; a VP's lock; ref_lock. Backends' msi, interrupt, assert_sint and
 * kick may be called with any of them held; upcalls and partition ops are called with none.
 */
#ifndef VIREO_HV_PARTITION_INT_H
#define VIREO_HV_PARTITION_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/hv/partition.h"
#include "core/hv/timers.h"
#include "core/hv/tlfs-proto.h"

enum { HV_QUEUE_MAX = 1024, HV_CPUID_MAX = 96 };
#define HV_APIC_HZ 1000000000ull

/* A message that waits for its slot. */
struct hv_queued {
    struct hv_queued *next;
    uint32_t type;
    int8_t stimer; /* which timer's expiry message this is, -1: none */
    uint8_t len;
    uint8_t payload[HV_MAX_MESSAGE];
};

struct hv_queue {
    struct hv_queued *first, **last;
    unsigned count;
};

struct hv_vp;
struct hv_stimer {
    struct hv_timer timer;
    struct hv_vp *vp;
    uint8_t index;
    bool queued;  /* its expiry message waits */
    uint64_t due; /* reference time of the next expiry; 0: not running */
};

enum hv_vp_phase { HV_PARKED, HV_IN_GUEST };

struct hv_vp {
    struct hv_partition *p;
    unsigned index;
    pthread_t thread;
    bool has_thread;
    enum hv_vp_phase phase; /* run_lock */
    bool stopped;           /* run_lock: ended itself; waits for reset */

    pthread_mutex_t lock; /* guards what follows */
    /* Soft: all of it. Backends with SynIC of their own: scontrol, siefp and simp alone. */
    struct hv_vp_synthetic syn;
    struct hv_queue queue[HV_VP_SINTS];
    struct hv_stimer stimer[HV_VP_STIMERS];
    uint64_t runtime_base; /* 100 ns, from a restored state */
};

struct hv_binding {
    struct hv_binding *next;
    uint32_t id;
    int fd;
};

struct hv_partition {
    const struct hv_backend_ops *ops;
    void *backend;
    struct hv_partition_params params;
    char note[256];
    struct hv_memory *memory;
    struct hv_io *io;
    struct hv_clock clock;
    struct hv_timers *timers;
    struct hv_cpuid cpuid[HV_CPUID_MAX];
    size_t ncpuid;

    pthread_mutex_t run_lock;
    pthread_cond_t run_changed; /* any of what run_lock guards changed */
    bool running, quit;         /* run_lock */
    bool ended;                 /* run_lock: `ended` was called since reset */

    /* Partition-wide synthetic registers; ref_lock. */
    pthread_mutex_t ref_lock;
    uint64_t guest_os_id, hypercall_msr, ref_tsc_msr;
    uint64_t crash_param[5];
    uint64_t ref_offset; /* reference time = (tsc * scale >> 64) + this (modulo 2^64) */
    uint64_t tsc_offset; /* VP 0's TSC minus the clock, as of the last restore */
    uint32_t ref_sequence;

    pthread_rwlock_t bind_lock;
    struct hv_binding *bindings[256];

    struct hv_vp vp[]; /* params.vp_count */
};

static inline bool hv_has_synic(const struct hv_partition *p)
{
    return p->ops->synic != NULL;
}

/* partition.c */
void hv_end(struct hv_vp *vp, const struct hv_end_report *r); /* on the VP's thread; may return */

/* cpuid.c */
size_t hv_cpuid_build(const struct hv_partition_params *p, const struct hv_backend_ops *ops,
                      struct hv_cpuid *out);

/* msr.c */
bool hv_rdmsr(void *p, unsigned vp, uint32_t msr, uint64_t *value);
bool hv_wrmsr(void *p, unsigned vp, uint32_t msr, uint64_t value);
bool hv_write_hypercall_page(struct hv_partition *p, uint64_t msr);
void hv_msr_reset(struct hv_partition *p);

/* synic.c. The VP's lock is not held. */
void hv_synic_reset(struct hv_vp *vp);
void hv_synic_retry(void *p, unsigned vp); /* EOM: deliver what waits */
void hv_synic_eoi(struct hv_vp *vp, uint8_t vector);
void hv_synic_pages(void *p, unsigned vp, uint64_t scontrol, uint64_t siefp, uint64_t simp);
bool hv_synic_post_stimer(struct hv_stimer *t, unsigned sint); /* the VP's lock is held */
void hv_synic_auto_eoi(struct hv_vp *vp);                      /* lock held: tells the backend */
bool hv_synic_enqueue(struct hv_vp *vp, unsigned sint, uint32_t type, const void *payload,
                      uint8_t len, int stimer); /* lock held */

/* stimer.c. The VP's lock is held. */
void hv_stimer_init(struct hv_vp *vp);
void hv_stimer_write_config(struct hv_vp *vp, unsigned n, uint64_t config);
void hv_stimer_write_count(struct hv_vp *vp, unsigned n, uint64_t count);
void hv_stimer_reset(struct hv_vp *vp);
void hv_stimer_start_all(struct hv_vp *vp);  /* after a restore */
void hv_stimer_cancel_all(struct hv_vp *vp); /* lock not held; waits for callbacks */

/* reftime.c */
uint64_t hv_ref_time(struct hv_partition *p);
/* The partition's clock at which the reference time is `ref`; UINT64_MAX: never. */
uint64_t hv_ref_to_clock(struct hv_partition *p, uint64_t ref);
void hv_ref_tsc_write(struct hv_partition *p, uint64_t msr);
/* Makes the reference time `ref` now, and VP 0's TSC `tsc`; publishes the TSC page again. */
void hv_ref_set(struct hv_partition *p, uint64_t ref, uint64_t tsc);

/* hypercall.c */
bool hv_hypercall(void *p, unsigned vp, const struct hv_hypercall *h, uint64_t *result);

/* bind.c */
/* Writes the descriptor bound to `id`; false if there is none. */
bool hv_bound_signal(struct hv_partition *p, uint32_t id);
void hv_bindings_free(struct hv_partition *p);

#endif
