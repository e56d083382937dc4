/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/hv/soft/lapic.h"

#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/hv/soft/soft.h"

enum {
    REG_ID = 0x20,
    REG_VERSION = 0x30,
    REG_TPR = 0x80,
    REG_APR = 0x90,
    REG_PPR = 0xa0,
    REG_EOI = 0xb0,
    REG_LDR = 0xd0,
    REG_DFR = 0xe0,
    REG_SVR = 0xf0,
    REG_ISR = 0x100,
    REG_TMR = 0x180,
    REG_IRR = 0x200,
    REG_ESR = 0x280,
    REG_ICR = 0x300,
    REG_ICR2 = 0x310,
    REG_LVT = 0x320,
    REG_LVT_END = 0x370,
    REG_TMICT = 0x380,
    REG_TMCCT = 0x390,
    REG_TDCR = 0x3e0,
    REG_SELF_IPI = 0x3f0,
};
enum { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };
enum { LVT_MASKED = 0x10000, LVT_PERIODIC = 0x20000, SVR_ENABLE = 0x100 };
enum { BASE_BSP = 0x100, BASE_X2APIC = 0x400, BASE_ENABLE = 0x800 };
enum { MODE_FIXED, MODE_LOWEST, MODE_SMI, MODE_NMI = 4, MODE_INIT, MODE_SIPI, MODE_EXTINT };
enum { ESR_SEND_ILLEGAL = 0x20, ESR_RECEIVE_ILLEGAL = 0x40, ESR_REGISTER = 0x80 };
enum { VERSION = 0x00050014, LEAST_PERIOD_NS = 20000 };

struct soft_lapic {
    struct soft_vp *vp;
    _Atomic uint64_t base;
    _Atomic uint32_t irr[8], tmr[8];
    _Atomic uint32_t id, ldr, dfr, svr; /* read by senders */
    _Atomic uint32_t lvt[LVT_COUNT];
    _Atomic uint32_t esr; /* collected */
    _Atomic uint64_t auto_eoi[4];
    /* The VP's own. */
    uint32_t isr[8], tpr, esr_read, icr, icr2;
    /* Timer; under `lock`: the timer thread rearms it. */
    pthread_mutex_t lock;
    struct hv_timer timer;
    uint32_t initial, tdcr;
    uint64_t started, period; /* ns */
};

static void timer_fired(void *ctx);

struct soft_lapic *soft_lapic_new(struct soft_vp *vp, err *e)
{
    struct soft_lapic *l = calloc(1, sizeof *l);
    if (!l) {
        err_set(e, ERR_NO_MEMORY, "no memory for a local APIC");
        return NULL;
    }
    l->vp = vp;
    pthread_mutex_init(&l->lock, NULL);
    hv_timer_init(&l->timer, vp->soft->timers, timer_fired, l);
    l->base = 0xfee00000u | BASE_ENABLE | (vp->index == 0 ? BASE_BSP : 0);
    soft_lapic_reset(l, false);
    return l;
}

void soft_lapic_free(struct soft_lapic *l)
{
    if (!l)
        return;
    hv_timer_cancel(&l->timer);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

static bool x2apic(const struct soft_lapic *l)
{
    return (l->base & (BASE_ENABLE | BASE_X2APIC)) == (BASE_ENABLE | BASE_X2APIC);
}

static uint32_t x2apic_ldr(uint32_t id)
{
    return (id >> 4) << 16 | 1u << (id & 15);
}

static void timer_stop(struct soft_lapic *l)
{
    pthread_mutex_lock(&l->lock);
    l->period = 0;
    hv_timer_disarm(&l->timer);
    pthread_mutex_unlock(&l->lock);
}

void soft_lapic_reset(struct soft_lapic *l, bool init)
{
    timer_stop(l);
    for (unsigned n = 0; n < 8; n++) {
        l->irr[n] = l->tmr[n] = 0;
        l->isr[n] = 0;
    }
    for (unsigned n = 0; n < LVT_COUNT; n++)
        l->lvt[n] = LVT_MASKED;
    if (!init) {
        l->base = 0xfee00000u | BASE_ENABLE | (l->vp->index == 0 ? BASE_BSP : 0);
        l->id = l->vp->index;
    }
    l->ldr = x2apic(l) ? x2apic_ldr(l->id) : 0;
    l->dfr = 0xffffffffu;
    l->svr = 0xff;
    l->tpr = l->esr_read = l->icr = l->icr2 = l->initial = l->tdcr = 0;
    l->esr = 0;
}

uint64_t soft_lapic_base(const struct soft_lapic *l)
{
    return atomic_load_explicit(&l->base, memory_order_relaxed);
}

bool soft_lapic_set_base(struct soft_lapic *l, uint64_t v)
{
    uint64_t old = l->base, mode = v & (BASE_ENABLE | BASE_X2APIC);
    uint64_t was = old & (BASE_ENABLE | BASE_X2APIC);
    uint64_t known =
        BASE_BSP | BASE_X2APIC | BASE_ENABLE | (((1ull << SOFT_PHYS_BITS) - 1) & ~0xfffull);
    if ((v & ~known) || mode == BASE_X2APIC)
        return false;
    if (was == (BASE_ENABLE | BASE_X2APIC) && mode == BASE_ENABLE)
        return false;
    if (!was && mode == (BASE_ENABLE | BASE_X2APIC))
        return false;
    l->base = v;
    if (mode != was && mode == (BASE_ENABLE | BASE_X2APIC)) {
        l->id = l->vp->index;
        l->ldr = x2apic_ldr(l->id);
    } else if (mode != was && !mode) {
        soft_lapic_reset(l, true);
    }
    if ((v ^ old) & ~0xfffull || mode != was)
        soft_flush_tlb(l->vp, true);
    return true;
}

/* Vectors. */

static int highest(const _Atomic uint32_t *set)
{
    for (int n = 7; n >= 0; n--) {
        uint32_t w = atomic_load_explicit(&set[n], memory_order_relaxed);
        if (w)
            return n * 32 + 31 - __builtin_clz(w);
    }
    return -1;
}

static int highest_own(const uint32_t *set)
{
    for (int n = 7; n >= 0; n--)
        if (set[n])
            return n * 32 + 31 - __builtin_clz(set[n]);
    return -1;
}

static uint8_t ppr(const struct soft_lapic *l)
{
    int isr = highest_own(l->isr);
    uint8_t service = isr < 0 ? 0 : (uint8_t)(isr & 0xf0);
    return (l->tpr & 0xf0) >= service ? (uint8_t)l->tpr : service;
}

int soft_lapic_pending(struct soft_lapic *l)
{
    int v = highest(l->irr);
    if (v < 0 || (v & 0xf0) <= (ppr(l) & 0xf0))
        return -1;
    return v;
}

int soft_lapic_ack(struct soft_lapic *l)
{
    int v = soft_lapic_pending(l);
    if (v < 0)
        return -1;
    atomic_fetch_and(&l->irr[v / 32], ~(1u << (v & 31)));
    if (!(l->auto_eoi[v / 64] >> (v & 63) & 1))
        l->isr[v / 32] |= 1u << (v & 31);
    return v;
}

static void error(struct soft_lapic *l, uint32_t bit)
{
    uint32_t lvt = l->lvt[LVT_ERROR];
    atomic_fetch_or(&l->esr, bit);
    if (!(lvt & LVT_MASKED) && (lvt & 0xff) >= 16)
        soft_lapic_fixed(l, (uint8_t)lvt, false);
}

void soft_lapic_fixed(struct soft_lapic *l, uint8_t vector, bool level)
{
    if (vector < 16) {
        error(l, ESR_RECEIVE_ILLEGAL);
        return;
    }
    if (level)
        atomic_fetch_or(&l->tmr[vector / 32], 1u << (vector & 31));
    else
        atomic_fetch_and(&l->tmr[vector / 32], ~(1u << (vector & 31)));
    atomic_fetch_or(&l->irr[vector / 32], 1u << (vector & 31));
    soft_attention(l->vp->soft, l->vp->index, ATTN_INTR);
}

bool soft_lapic_takes_extint(const struct soft_lapic *l)
{
    if (!(l->base & BASE_ENABLE))
        return l->vp->index == 0;
    uint32_t lvt = l->lvt[LVT_LINT0];
    return !(lvt & LVT_MASKED) && (lvt >> 8 & 7) == MODE_EXTINT;
}

uint8_t soft_lapic_tpr(const struct soft_lapic *l)
{
    return (uint8_t)l->tpr;
}

void soft_lapic_set_tpr(struct soft_lapic *l, uint8_t tpr)
{
    l->tpr = tpr;
    atomic_fetch_or(&l->vp->attn, ATTN_SELF);
}

static void eoi(struct soft_lapic *l)
{
    int v = highest_own(l->isr);
    struct soft *s = l->vp->soft;
    if (v < 0)
        return;
    l->isr[v / 32] &= ~(1u << (v & 31));
    atomic_fetch_or(&l->vp->attn, ATTN_SELF);
    soft_count(l->vp, HV_COUNT_EOI);
    bool inside = atomic_load(&s->mail[l->vp->index].inside); /* not when an upcall asks */
    if (inside)
        soft_leave_guest(l->vp);
    if (atomic_load(&l->tmr[v / 32]) >> (v & 31) & 1)
        s->up.eoi(s->up.ctx, l->vp->index, (uint8_t)v);
    if (s->up.eom)
        s->up.eom(s->up.ctx, l->vp->index);
    if (inside)
        soft_enter_guest(l->vp);
}

/* Messages between APICs. */

static bool listens(const struct soft_lapic *l)
{
    return (l->base & BASE_ENABLE) && (l->svr & SVR_ENABLE);
}

static bool matches(const struct soft_lapic *l, bool logical, uint32_t dest)
{
    uint32_t id = l->id, ldr = l->ldr;
    if (x2apic(l)) {
        if (!logical)
            return dest == id || dest == 0xffffffffu || dest == 0xff;
        return dest == 0xffffffffu || (dest >> 16 == ldr >> 16 && (dest & ldr & 0xffff));
    }
    if (!logical)
        return (dest & 0xff) == (id & 0xff) || (dest & 0xff) == 0xff;
    if ((dest & 0xff) == 0xff)
        return true;
    if (l->dfr >> 28 == 0xf)
        return dest & (ldr >> 24) & 0xff;
    return l->dfr >> 28 == 0 && (dest >> 4 & 15) == ldr >> 28 && (dest & (ldr >> 24) & 15);
}

struct message {
    uint8_t vector;
    unsigned mode;
    bool logical, level;
    uint32_t dest;
};

static void receive(struct soft_lapic *l, const struct message *m)
{
    struct soft *s = l->vp->soft;
    unsigned vp = l->vp->index;
    switch (m->mode) {
    case MODE_FIXED:
    case MODE_LOWEST:
        if (listens(l))
            soft_lapic_fixed(l, m->vector, m->level);
        break;
    case MODE_NMI: soft_send_nmi(s, vp); break;
    case MODE_INIT: soft_attention(s, vp, ATTN_INIT); break;
    case MODE_SIPI:
        atomic_store(&s->mail[vp].sipi, m->vector);
        soft_attention(s, vp, ATTN_SIPI);
        break;
    default: break;
    }
}

/* Lowest priority: the least busy of those named (SDM 11.6.2.4 leaves the choice to the system). */
static void send_lowest(struct soft *s, const struct message *m)
{
    struct soft_lapic *best = NULL;
    for (unsigned n = 0; n < s->vp_count; n++) {
        struct soft_lapic *l = s->vp[n]->lapic;
        if (!matches(l, m->logical, m->dest) || !listens(l))
            continue;
        if (!best || highest(l->irr) < highest(best->irr))
            best = l;
    }
    if (best)
        receive(best, m);
}

static void send(struct soft *s, const struct message *m)
{
    if (m->mode == MODE_LOWEST) {
        send_lowest(s, m);
        return;
    }
    for (unsigned n = 0; n < s->vp_count; n++)
        if (matches(s->vp[n]->lapic, m->logical, m->dest))
            receive(s->vp[n]->lapic, m);
}

static void send_ipi(struct soft_lapic *l, uint32_t icr, uint32_t dest)
{
    struct soft *s = l->vp->soft;
    struct message m = {
        .vector = (uint8_t)icr, .mode = icr >> 8 & 7, .logical = icr >> 11 & 1, .dest = dest};
    if ((m.mode == MODE_FIXED || m.mode == MODE_LOWEST) && m.vector < 16) {
        error(l, ESR_SEND_ILLEGAL);
        return;
    }
    if (m.mode == MODE_INIT && (icr & 0x8000) && !(icr & 0x4000)) /* level de-assert */
        return;
    unsigned shorthand = icr >> 18 & 3;
    if (!shorthand) {
        send(s, &m);
        return;
    }
    for (unsigned n = 0; n < s->vp_count; n++) {
        bool self = n == l->vp->index;
        if ((shorthand == 1 && self) || shorthand == 2 || (shorthand == 3 && !self))
            receive(s->vp[n]->lapic, &m);
    }
}

void soft_lapic_msi(struct soft *s, const struct hv_msi *msi)
{
    struct message m = {
        .vector = (uint8_t)msi->data,
        .mode = msi->data >> 8 & 7,
        .logical = msi->address >> 2 & 1,
        .level = msi->data >> 15 & 1,
        .dest = (uint32_t)(msi->address >> 12 & 0xff) | (uint32_t)(msi->address >> 5 & 0x7f) << 8,
    };
    if ((msi->address >> 20 & 0xfff) != 0xfee)
        return;
    if (m.mode == MODE_EXTINT)
        m.mode = MODE_FIXED;
    send(s, &m);
}

/* The timer: one tick of the input clock is a nanosecond (1 GHz). */

static uint64_t divider(uint32_t tdcr)
{
    static const uint8_t shift[8] = {1, 2, 3, 4, 5, 6, 7, 0};
    return 1ull << shift[(tdcr & 3) | (tdcr >> 1 & 4)];
}

static void timer_fired(void *ctx)
{
    struct soft_lapic *l = ctx;
    pthread_mutex_lock(&l->lock);
    uint32_t lvt = l->lvt[LVT_TIMER];
    bool live = l->period != 0;
    if (live && (lvt & LVT_PERIODIC)) {
        uint64_t now = hv_clock_now(l->vp->soft->clock), step = l->period;
        if (step < LEAST_PERIOD_NS)
            step = LEAST_PERIOD_NS / l->period * l->period + l->period;
        l->started += step;
        if (l->started + step < now) /* fell behind: what was missed is not made up */
            l->started = now - (now - l->started) % l->period;
        hv_timer_arm(&l->timer, l->started + step);
    } else {
        l->period = 0;
    }
    pthread_mutex_unlock(&l->lock);
    if (live && !(lvt & LVT_MASKED))
        soft_lapic_fixed(l, (uint8_t)lvt, false);
}

static void timer_start(struct soft_lapic *l, uint32_t count)
{
    pthread_mutex_lock(&l->lock);
    l->initial = count;
    l->period = count * divider(l->tdcr);
    l->started = hv_clock_now(l->vp->soft->clock);
    if (l->period)
        hv_timer_arm(&l->timer, l->started + l->period);
    else
        hv_timer_disarm(&l->timer);
    pthread_mutex_unlock(&l->lock);
}

static uint32_t timer_count(struct soft_lapic *l)
{
    uint32_t count = 0;
    pthread_mutex_lock(&l->lock);
    if (l->period) {
        uint64_t gone = hv_clock_now(l->vp->soft->clock) - l->started;
        if (l->lvt[LVT_TIMER] & LVT_PERIODIC)
            gone %= l->period;
        if (gone < l->period)
            count = (uint32_t)((l->period - gone) / divider(l->tdcr));
    }
    pthread_mutex_unlock(&l->lock);
    return count;
}

/* A new divider: the count goes on from where it is. */
static void set_divider(struct soft_lapic *l, uint32_t v)
{
    uint32_t left = timer_count(l);
    pthread_mutex_lock(&l->lock);
    l->tdcr = v & 11;
    if (l->period && left) {
        uint64_t d = divider(l->tdcr);
        l->period = l->initial * d;
        l->started = hv_clock_now(l->vp->soft->clock) - (l->initial - left) * d;
        hv_timer_arm(&l->timer, l->started + l->period);
    }
    pthread_mutex_unlock(&l->lock);
}

/* Registers. */

static uint32_t set_word(struct soft_lapic *l, uint32_t offset)
{
    unsigned n = offset >> 4 & 7;
    switch (offset & ~0x7fu) {
    case REG_ISR: return l->isr[n];
    case REG_TMR: return l->tmr[n];
    default: return l->irr[n];
    }
}

uint32_t soft_lapic_read(struct soft_lapic *l, uint32_t offset)
{
    if (offset & 15)
        return 0;
    if (offset >= REG_ISR && offset < REG_ESR)
        return set_word(l, offset);
    if (offset >= REG_LVT && offset <= REG_LVT_END)
        return l->lvt[(offset - REG_LVT) >> 4];
    switch (offset) {
    case REG_ID: return x2apic(l) ? l->id : l->id << 24;
    case REG_VERSION: return VERSION;
    case REG_TPR: return l->tpr;
    case REG_PPR: return ppr(l);
    case REG_LDR: return l->ldr;
    case REG_DFR: return l->dfr;
    case REG_SVR: return l->svr;
    case REG_ESR: return l->esr_read;
    case REG_ICR: return l->icr;
    case REG_ICR2: return l->icr2;
    case REG_TMICT: return l->initial;
    case REG_TMCCT: return timer_count(l);
    case REG_TDCR: return l->tdcr;
    default: return 0;
    }
}

static void write_lvt(struct soft_lapic *l, unsigned n, uint32_t v)
{
    static const uint32_t may[LVT_COUNT] = {0x300ff, 0x107ff, 0x107ff, 0x1a7ff, 0x1a7ff, 0x100ff};
    v &= may[n];
    if (!(l->svr & SVR_ENABLE))
        v |= LVT_MASKED;
    if (n == LVT_TIMER && ((v ^ l->lvt[n]) & LVT_PERIODIC) && !(v & LVT_PERIODIC)) {
        uint32_t left = timer_count(l); /* runs out once more */
        l->lvt[n] = v;
        pthread_mutex_lock(&l->lock);
        if (l->period)
            hv_timer_arm(&l->timer, hv_clock_now(l->vp->soft->clock) + left * divider(l->tdcr));
        pthread_mutex_unlock(&l->lock);
    }
    l->lvt[n] = v;
    if (n == LVT_LINT0)
        atomic_fetch_or(&l->vp->attn, ATTN_SELF);
}

static void write_svr(struct soft_lapic *l, uint32_t v)
{
    l->svr = v & 0x1ff;
    if (v & SVR_ENABLE)
        return;
    for (unsigned n = 0; n < LVT_COUNT; n++)
        atomic_fetch_or(&l->lvt[n], LVT_MASKED);
}

void soft_lapic_write(struct soft_lapic *l, uint32_t offset, uint32_t v)
{
    if (offset & 15)
        return;
    if (offset >= REG_LVT && offset <= REG_LVT_END) {
        write_lvt(l, (offset - REG_LVT) >> 4, v);
        return;
    }
    switch (offset) {
    case REG_ID:
        if (!x2apic(l))
            l->id = v >> 24;
        break;
    case REG_TPR: soft_lapic_set_tpr(l, (uint8_t)v); break;
    case REG_EOI: eoi(l); break;
    case REG_LDR:
        if (!x2apic(l))
            l->ldr = v & 0xff000000u;
        break;
    case REG_DFR: l->dfr = v | 0x0fffffffu; break;
    case REG_SVR: write_svr(l, v); break;
    case REG_ESR: l->esr_read = atomic_exchange(&l->esr, 0); break;
    case REG_ICR:
        l->icr = v & ~0x1000u;
        send_ipi(l, v, x2apic(l) ? l->icr2 : l->icr2 >> 24);
        break;
    case REG_ICR2: l->icr2 = v; break;
    case REG_TMICT: timer_start(l, v); break;
    case REG_TDCR: set_divider(l, v); break;
    default: break;
    }
}

static bool x2apic_has(uint32_t offset, bool write)
{
    if (offset >= REG_ISR && offset < REG_ESR)
        return !write;
    if (offset >= REG_LVT && offset <= REG_LVT_END)
        return true;
    switch (offset) {
    case REG_ID:
    case REG_VERSION:
    case REG_PPR:
    case REG_LDR:
    case REG_TMCCT: return !write;
    case REG_EOI:
    case REG_SELF_IPI: return write;
    case REG_TPR:
    case REG_SVR:
    case REG_ESR:
    case REG_ICR:
    case REG_TMICT:
    case REG_TDCR: return true;
    default: return false;
    }
}

bool soft_lapic_rdmsr(struct soft_lapic *l, uint32_t msr, uint64_t *v)
{
    uint32_t offset = (msr - 0x800) << 4;
    if (!x2apic(l) || msr > 0x8ff || !x2apic_has(offset, false))
        return false;
    *v = soft_lapic_read(l, offset);
    if (offset == REG_ICR)
        *v |= (uint64_t)l->icr2 << 32;
    return true;
}

bool soft_lapic_wrmsr(struct soft_lapic *l, uint32_t msr, uint64_t v)
{
    static const uint32_t lvt_bits[LVT_COUNT] = {0x310ff, 0x117ff, 0x117ff,
                                                 0x1f7ff, 0x1f7ff, 0x110ff};
    uint32_t offset = (msr - 0x800) << 4;
    if (!x2apic(l) || msr > 0x8ff || !x2apic_has(offset, true))
        return false;
    if (offset == REG_ICR) {
        l->icr2 = (uint32_t)(v >> 32);
        soft_lapic_write(l, REG_ICR, (uint32_t)v);
        return true;
    }
    if (v >> 32 || ((offset == REG_EOI || offset == REG_ESR) && v) ||
        ((offset == REG_TPR || offset == REG_SELF_IPI) && v >> 8) ||
        (offset == REG_SVR && v >> 9) || (offset == REG_TDCR && (v & ~11ull)) ||
        (offset >= REG_LVT && offset <= REG_LVT_END &&
         (v & ~(uint64_t)lvt_bits[(offset - REG_LVT) >> 4])))
        return false;
    if (offset == REG_SELF_IPI)
        soft_lapic_fixed(l, (uint8_t)v, false);
    else
        soft_lapic_write(l, offset, (uint32_t)v);
    return true;
}

/* Saved state: the xAPIC page's layout. */

void soft_lapic_save(struct soft_lapic *l, uint8_t page[HV_LAPIC_BYTES])
{
    static const uint16_t regs[] = {REG_ID,    REG_VERSION, REG_TPR, REG_PPR, REG_LDR,
                                    REG_DFR,   REG_SVR,     REG_ESR, REG_ICR, REG_ICR2,
                                    REG_TMICT, REG_TMCCT,   REG_TDCR};
    memset(page, 0, HV_LAPIC_BYTES);
    for (unsigned n = 0; n < sizeof regs / sizeof *regs; n++)
        put_le32(page + regs[n], soft_lapic_read(l, regs[n]));
    for (unsigned at = REG_ISR; at < REG_ESR; at += 16)
        put_le32(page + at, set_word(l, at));
    for (unsigned n = 0; n < LVT_COUNT; n++)
        put_le32(page + REG_LVT + 16 * n, l->lvt[n]);
}

void soft_lapic_load(struct soft_lapic *l, uint64_t base, const uint8_t page[HV_LAPIC_BYTES])
{
    timer_stop(l);
    l->base = base;
    uint32_t id = get_le32(page + REG_ID);
    l->id = x2apic(l) && id < 256 ? id : id >> 24; /* KVM leaves it at 24 in x2APIC mode, too */
    l->tpr = get_le32(page + REG_TPR) & 0xff;
    l->ldr = x2apic(l) ? x2apic_ldr(l->id) : get_le32(page + REG_LDR);
    l->dfr = get_le32(page + REG_DFR) | 0x0fffffffu;
    l->svr = get_le32(page + REG_SVR) & 0x1ff;
    l->esr_read = get_le32(page + REG_ESR);
    l->esr = 0;
    l->icr = get_le32(page + REG_ICR);
    l->icr2 = get_le32(page + REG_ICR2);
    for (unsigned n = 0; n < LVT_COUNT; n++)
        l->lvt[n] = get_le32(page + REG_LVT + 16 * n);
    for (unsigned n = 0; n < 8; n++) {
        l->isr[n] = get_le32(page + REG_ISR + 16 * n);
        l->tmr[n] = get_le32(page + REG_TMR + 16 * n);
        l->irr[n] = get_le32(page + REG_IRR + 16 * n);
    }
    l->tdcr = get_le32(page + REG_TDCR) & 11;
    uint32_t initial = get_le32(page + REG_TMICT), left = get_le32(page + REG_TMCCT);
    timer_start(l, left ? initial : 0);
    l->initial = initial;
    if (left && left <= initial) {
        pthread_mutex_lock(&l->lock);
        l->started -= (initial - left) * divider(l->tdcr);
        hv_timer_arm(&l->timer, l->started + l->period);
        pthread_mutex_unlock(&l->lock);
    }
    atomic_fetch_or(&l->vp->attn, ATTN_SELF);
}

void soft_lapic_auto_eoi(struct soft_lapic *l, const uint64_t vectors[4])
{
    for (unsigned n = 0; n < 4; n++)
        l->auto_eoi[n] = vectors[n];
}
