/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Interrupts into KVM: messages, SINTs, the IOAPIC's routes, the PIC's line, event descriptors. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/hv/kvm/kvm-int.h"

#define MSI_ADDRESS 0xfee00000ull
#define MSI_LEVEL (1u << 15)
#define MSI_NMI (4u << 8)

static void put_msi(struct kvm_irq_routing_entry *r, unsigned gsi, const struct hv_msi *m)
{
    *r = (struct kvm_irq_routing_entry){.gsi = gsi, .type = KVM_IRQ_ROUTING_MSI};
    r->u.msi.address_lo = (uint32_t)m->address;
    r->u.msi.address_hi = (uint32_t)(m->address >> 32);
    r->u.msi.data = m->data;
}

static void put_sint(struct kvm_irq_routing_entry *r, unsigned vp, unsigned sint)
{
    *r = (struct kvm_irq_routing_entry){.gsi = KVM_SINT_GSI + HV_VP_SINTS * vp + sint,
                                        .type = KVM_IRQ_ROUTING_HV_SINT};
    r->u.hv_sint.vcpu = vp;
    r->u.hv_sint.sint = sint;
}

/* route_lock held, or nobody else there yet. */
bool kvm_set_routes(struct kvm *k, err *e)
{
    size_t room = KVM_ROUTES + (size_t)k->p.vp_count * HV_VP_SINTS;
    AUTO(buf)
    mem = calloc(1, sizeof(struct kvm_irq_routing) + room * sizeof(struct kvm_irq_routing_entry));
    struct kvm_irq_routing *t = mem;
    if (!t)
        return err_set(e, ERR_NO_MEMORY, "no memory for interrupt routes");
    for (unsigned gsi = 0; gsi < KVM_ROUTES; gsi++)
        if (k->route_used[gsi])
            put_msi(&t->entries[t->nr++], gsi, &k->route[gsi]);
    for (unsigned vp = 0; vp < k->p.vp_count; vp++)
        for (unsigned sint = 0; sint < HV_VP_SINTS; sint++)
            put_sint(&t->entries[t->nr++], vp, sint);
    if (ioctl(k->vm, KVM_SET_GSI_ROUTING, t))
        return err_errno(e, errno, "setting interrupt routes");
    return true;
}

static bool change_route(struct kvm *k, unsigned gsi, const struct hv_msi *m)
{
    if (!m || !(m->data & MSI_LEVEL) ||
        (k->route_used[gsi] && k->route[gsi].address == m->address &&
         k->route[gsi].data == m->data))
        return false;
    k->route_used[gsi] = true;
    k->route[gsi] = *m;
    return true;
}

/* KVM must know level-triggered pins alone: for their vectors it reports EOIs, of the processors
 * that a route names. A pin that is masked or sent elsewhere while its interrupt is in service
 * still gets its EOI, so a route stays until another takes its place. */
void kvm_ioapic_route(void *b, unsigned pin, const struct hv_msi *m,
                      const struct hv_msi *in_service)
{
    struct kvm *k = b;
    err e = ERR_INIT;
    if (pin >= KVM_PINS)
        return;
    pthread_mutex_lock(&k->route_lock);
    bool changed = change_route(k, KVM_PINS + pin, in_service);
    changed |= change_route(k, pin, m);
    if (changed && !kvm_set_routes(k, &e))
        log_line(LOG_ERROR, "kvm", "%s", e.text);
    pthread_mutex_unlock(&k->route_lock);
}

void kvm_msi_op(void *b, const struct hv_msi *m)
{
    struct kvm_msi msi = {.address_lo = (uint32_t)m->address,
                          .address_hi = (uint32_t)(m->address >> 32),
                          .data = m->data};
    ioctl(((struct kvm *)b)->vm, KVM_SIGNAL_MSI, &msi);
}

void kvm_interrupt(void *b, unsigned vp, uint8_t vector)
{
    kvm_msi_op(b, &(struct hv_msi){MSI_ADDRESS | (uint64_t)vp << 12, vector});
}

void kvm_nmi(void *b, unsigned vp)
{
    kvm_msi_op(b, &(struct hv_msi){MSI_ADDRESS | (uint64_t)vp << 12, MSI_NMI});
}

void kvm_extint(void *b, bool asserted)
{
    struct kvm *k = b;
    if (atomic_exchange(&k->extint, asserted) != asserted && asserted)
        kvm_poke(&k->vp[0]);
}

bool kvm_wants_extint(const struct kvm_vp *vp)
{
    return vp->index == 0 && atomic_load(&vp->k->extint) && vp->run->ready_for_interrupt_injection;
}

/* Puts the vector among the processor's events, where a saved state finds it as long as it is not
 * delivered. (KVM_INTERRUPT would keep it where nobody can ask for it.) */
static void give_extint(struct kvm_vp *vp)
{
    const struct hv_backend_upcalls *up = &vp->k->p.up;
    struct kvm_mp_state mp;
    struct kvm_vcpu_events ev;
    if (ioctl(vp->fd, KVM_GET_MP_STATE, &mp) || ioctl(vp->fd, KVM_GET_VCPU_EVENTS, &ev) ||
        (mp.mp_state != KVM_MP_STATE_RUNNABLE && mp.mp_state != KVM_MP_STATE_HALTED) ||
        ev.exception.injected || ev.exception.pending || ev.interrupt.injected || ev.nmi.injected)
        return;
    int vector = up->extint_ack(up->ctx);
    if (vector < 0)
        return;
    mp.mp_state = KVM_MP_STATE_RUNNABLE;
    ev.flags = 0; /* an NMI may have come since */
    ev.interrupt.injected = 1;
    ev.interrupt.nr = (uint8_t)vector;
    ev.interrupt.soft = 0;
    if (ioctl(vp->fd, KVM_SET_VCPU_EVENTS, &ev) || ioctl(vp->fd, KVM_SET_MP_STATE, &mp))
        log_line(LOG_ERROR, "kvm", "injecting vector %d: %s", vector, strerror(errno));
}

void kvm_offer_extint(struct kvm_vp *vp, bool now)
{
    if (now && kvm_wants_extint(vp))
        give_extint(vp);
    if (vp->index == 0)
        vp->run->request_interrupt_window = atomic_load(&vp->k->extint);
}

bool kvm_bind_event(void *b, uint32_t id, int fd, err *e)
{
    struct kvm_hyperv_eventfd ev = {.conn_id = id, .fd = fd};
    if (fd < 0) {
        ev.fd = 0;
        ev.flags = KVM_HYPERV_EVENTFD_DEASSIGN;
    }
    if (ioctl(((struct kvm *)b)->vm, KVM_HYPERV_EVENTFD, &ev))
        return err_errno(e, errno, "binding connection 0x%x", id);
    return true;
}

void kvm_assert_sint(void *b, unsigned vp, unsigned sint)
{
    struct kvm_irq_level l = {.irq = KVM_SINT_GSI + HV_VP_SINTS * vp + sint, .level = 1};
    ioctl(((struct kvm *)b)->vm, KVM_IRQ_LINE, &l);
}
