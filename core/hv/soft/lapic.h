/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The local APIC of a software VP: xAPIC page and x2APIC MSRs, timer, IPIs. Source: SDM vol. 3,
 * chapter 11. Thread: IRR and delivery from any thread; the rest is the VP's own. The timer fires
 * on the timer thread.
 */
#ifndef VIREO_HV_SOFT_LAPIC_H
#define VIREO_HV_SOFT_LAPIC_H

#include <stdbool.h>
#include <stdint.h>

#include "core/hv/backend.h"

struct soft;
struct soft_vp;
struct soft_lapic;

struct soft_lapic *soft_lapic_new(struct soft_vp *vp, err *e);
void soft_lapic_free(struct soft_lapic *l);
void soft_lapic_reset(struct soft_lapic *l, bool init); /* INIT keeps the id and APIC base */

/* The xAPIC page, offsets 0-0xfff, 32-bit registers. */
uint32_t soft_lapic_read(struct soft_lapic *l, uint32_t offset);
void soft_lapic_write(struct soft_lapic *l, uint32_t offset, uint32_t value);
/* MSRs 0x800-0x8ff: false is #GP. */
bool soft_lapic_rdmsr(struct soft_lapic *l, uint32_t msr, uint64_t *v);
bool soft_lapic_wrmsr(struct soft_lapic *l, uint32_t msr, uint64_t v);
uint64_t soft_lapic_base(const struct soft_lapic *l);
bool soft_lapic_set_base(struct soft_lapic *l, uint64_t v); /* false: #GP */

/* Highest vector that may be delivered now, -1 if none. ack moves it from IRR to ISR. */
int soft_lapic_pending(struct soft_lapic *l);
int soft_lapic_ack(struct soft_lapic *l);
/* Whether the PIC's INTR reaches this VP (LVT0 ExtINT, or APIC off). */
bool soft_lapic_takes_extint(const struct soft_lapic *l);
uint8_t soft_lapic_tpr(const struct soft_lapic *l); /* CR8 is its high nibble */
void soft_lapic_set_tpr(struct soft_lapic *l, uint8_t tpr);

/* From any thread. */
void soft_lapic_fixed(struct soft_lapic *l, uint8_t vector, bool level);
/* Vectors that are never in service (auto-EOI SINTs). */
void soft_lapic_auto_eoi(struct soft_lapic *l, const uint64_t vectors[4]);
void soft_lapic_msi(struct soft *s, const struct hv_msi *m);

void soft_lapic_save(struct soft_lapic *l, uint8_t page[HV_LAPIC_BYTES]);
void soft_lapic_load(struct soft_lapic *l, uint64_t base, const uint8_t page[HV_LAPIC_BYTES]);

#endif
