/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The KVM backend's inside. Source: Linux Documentation/virt/kvm/api.rst. */
#ifndef VIREO_HV_KVM_INT_H
#define VIREO_HV_KVM_INT_H

#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "core/hv/backend.h"

enum {
    KVM_PINS = 24,
    KVM_ROUTES =
        2 *
        KVM_PINS, /* GSIs that KVM scans as an IOAPIC's: what pins are set to, what is in service */
    KVM_SINT_GSI = 64, /* SINT n of VP v is GSI KVM_SINT_GSI + 16v + n */
    KVM_SLOTS = 256,
    KVM_A20 = 1 << 20,
    KVM_KICK_SIGNAL = SIGUSR1,
};

struct kvm_vp {
    struct kvm *k;
    unsigned index;
    int fd;
    struct kvm_run *run;
    size_t run_size;
    pthread_t thread;    /* valid while inside */
    _Atomic bool inside; /* vp_run is on */
    _Atomic bool kicked;
    uint64_t exits[HV_COUNT_KINDS]; /* written by the VP's thread; read by others as it comes */
};

struct kvm {
    struct hv_backend_params p;
    int dev, vm;
    uint64_t tsc_hz;
    struct kvm_vp *vp; /* p.vp_count */
    unsigned made;

    pthread_mutex_t route_lock;
    struct hv_msi route[KVM_ROUTES]; /* level-triggered, kept while masked */
    bool route_used[KVM_ROUTES];

    _Atomic bool extint; /* the PIC's INTR line */
    pthread_mutex_t slot_lock;
    bool logged[KVM_SLOTS]; /* dirty logging is on */
    void *low_ram;          /* address line 20 is off: what is seen at 1 MiB, too */
};

/* kvm.c */
int kvm_open(char *why, size_t size); /* /dev/kvm, -1 if it cannot be used */
void kvm_install_kick_handler(void);

/* selftest.c: runs a little 64-bit code. */
bool kvm_selftest(int dev, char *why, size_t size);

/* cpuid.c */
size_t kvm_host_cpuid(struct hv_cpuid *out, size_t room);
bool kvm_set_cpuid(struct kvm_vp *vp, err *e);
bool kvm_check_cpuid(struct kvm *k, err *e);

/* run.c */
void kvm_vp_run(void *b, unsigned vp, struct hv_exit *x);
void kvm_vp_kick(void *b, unsigned vp);
void kvm_poke(struct kvm_vp *vp); /* out of the guest and back in */

/* irq.c */
bool kvm_set_routes(struct kvm *k, err *e);
void kvm_msi_op(void *b, const struct hv_msi *m);
void kvm_interrupt(void *b, unsigned vp, uint8_t vector);
void kvm_nmi(void *b, unsigned vp);
void kvm_extint(void *b, bool asserted);
void kvm_ioapic_route(void *b, unsigned pin, const struct hv_msi *m,
                      const struct hv_msi *in_service);
bool kvm_bind_event(void *b, uint32_t id, int fd, err *e);
void kvm_assert_sint(void *b, unsigned vp, unsigned sint);
/* Whether the PIC has an interrupt that VP 0 could take. */
bool kvm_wants_extint(const struct kvm_vp *vp);
/* On the VP's thread, before it enters the guest. `now`: it may be given, there is no exit to
 * complete. */
void kvm_offer_extint(struct kvm_vp *vp, bool now);

/* state.c */
bool kvm_get_state(void *b, unsigned vp, struct hv_vp_state *s, err *e);
bool kvm_set_state(void *b, unsigned vp, const struct hv_vp_state *s, err *e);
bool kvm_get_msr(void *b, unsigned vp, uint32_t msr, uint64_t *value);
bool kvm_set_msr(void *b, unsigned vp, uint32_t msr, uint64_t value);

/* memory.c */
bool kvm_map(void *ctx, const struct hv_region *r, err *e);
void kvm_unmap(void *ctx, const struct hv_region *r);
bool kvm_change(void *ctx, const struct hv_region *r, err *e);
bool kvm_set_a20(void *b, bool on);
bool kvm_dirty_log(void *b, const struct hv_region *r, uint64_t *bitmap, err *e);

#endif
