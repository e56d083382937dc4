/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The backend's table: creation, and what the partition asks. */
#include "core/hv/soft/soft.h"

#include <stdlib.h>

#include "core/hv/soft/check.h"
#include "core/hv/soft/jit.h"

enum { JIT_AFTER = 24, JIT_BYTES = 28 << 20 };

static void vp_free(struct soft_vp *vp)
{
    if (!vp)
        return;
    soft_lapic_free(vp->lapic);
    soft_cache_free(vp->cache);
    soft_jit_free(vp->jit);
    soft_check_free(vp->check);
    soft_mmu_free(vp->mmu_state);
    free(vp);
}

/* COUNT or COUNT/EACH */
static void start_check(struct soft_vp *vp, const char *text)
{
    char *end;
    uint64_t count = strtoull(text, &end, 10);
    vp->check = soft_check_new(count, *end == '/' ? (unsigned)strtoul(end + 1, NULL, 10) : 1);
}

/* VIREO_SOFT_TRANSLATE: runs after which a block is translated, 0 for never, and words after
 * commas: "exact" keeps flags that only a fault's frame would show, for tests that compare with the
 * interpreter; "beyond" has blocks go on beyond any jump that they can; "x87" translates x87 code
 * even so; "perf" writes perf's map; "count" counts translated code's instructions, too;
 * "check=COUNT/EACH" compares so many blocks with the interpreter's run of them (check.h). */
static void start_translator(struct soft_vp *vp, unsigned vp_count)
{
    const char *after = getenv("VIREO_SOFT_TRANSLATE");
    vp->jit_after = after ? (uint32_t)strtoul(after, NULL, 10) : JIT_AFTER;
    struct soft_jit_options o = {.exact = after && strstr(after, "exact"),
                                 .exact_but_x87 = after && strstr(after, "x87"),
                                 .perf_map = after && strstr(after, "perf"),
                                 .count = after && strstr(after, "count")};
    o.exact |= after && strstr(after, "check=");
    vp->jit_beyond = after && strstr(after, "beyond");
    if (vp->jit_after)
        vp->jit = soft_jit_new(vp, soft_share(JIT_BYTES, vp_count), &o);
    const char *check = after ? strstr(after, "check=") : NULL;
    if (check && vp->jit && vp_count == 1)
        start_check(vp, check + strlen("check="));
}

static struct soft_vp *vp_new(struct soft *s, unsigned index, err *e)
{
    struct soft_vp *vp = aligned_alloc(64, (sizeof *vp + 63) & ~(size_t)63);
    if (!vp) {
        err_set(e, ERR_NO_MEMORY, "no memory for processor %u", index);
        return NULL;
    }
    memset(vp, 0, sizeof *vp);
    vp->soft = s;
    vp->index = index;
    vp->cache = soft_cache_new(s->vp_count);
    if (!vp->cache || !soft_mmu_new(vp)) {
        err_set(e, ERR_NO_MEMORY, "no memory for processor %u", index);
        vp_free(vp);
        return NULL;
    }
    start_translator(vp, s->vp_count);
    soft_jump_flush(vp, 3);
    vp->lapic = soft_lapic_new(vp, e);
    if (!vp->lapic) {
        vp_free(vp);
        return NULL;
    }
    soft_reset_vp(vp, false);
    return vp;
}

static bool map_has(const struct soft_map *m, const struct soft_region *r)
{
    for (unsigned n = 0; m && n < m->n; n++)
        if (m->r[n].code == r->code)
            return true;
    return false;
}

/* A region's arrays are freed with the last of the maps that name it. */
static void map_free(struct soft *s)
{
    struct soft_map *newer = NULL, *m = atomic_load(&s->map);
    while (m) {
        for (unsigned n = 0; n < m->n; n++) {
            if (map_has(newer, &m->r[n]))
                continue;
            free((void *)m->r[n].code);
            free((void *)m->r[n].dirty);
        }
        free(newer);
        newer = m;
        m = m->older;
    }
    free(newer);
}

static void soft_destroy(void *b)
{
    struct soft *s = b;
    for (unsigned n = 0; n < s->vp_count && s->vp; n++)
        vp_free(s->vp[n]);
    map_free(s);
    free(s->vp);
    free(s->mail);
    free(s->cpuid);
    pthread_mutex_destroy(&s->map_lock);
    pthread_mutex_destroy(&s->split_lock);
    free(s);
}

static bool listen_map(void *ctx, const struct hv_region *r, err *e)
{
    return soft_map_add(ctx, r, e);
}

static bool listen_change(void *ctx, const struct hv_region *r, err *e)
{
    soft_map_change(ctx, r);
    return true;
}

static void listen_unmap(void *ctx, const struct hv_region *r)
{
    soft_map_remove(ctx, r);
}

static void listen_written(void *ctx, uint64_t gpa, uint64_t len)
{
    soft_host_wrote(ctx, gpa, len);
}

static bool copy_cpuid(struct soft *s, const struct hv_backend_params *p)
{
    s->cpuid = calloc(p->ncpuid ? p->ncpuid : 1, sizeof *s->cpuid);
    if (!s->cpuid)
        return false;
    if (p->ncpuid)
        memcpy(s->cpuid, p->cpuid, p->ncpuid * sizeof *s->cpuid);
    s->ncpuid = p->ncpuid;
    for (size_t n = 0; n < s->ncpuid; n++) {
        const struct hv_cpuid *c = &s->cpuid[n];
        if (c->leaf == 0)
            s->amd = c->ebx == 0x68747541; /* "Auth" */
        if (c->leaf == 7 && c->subleaf == 0)
            s->has_smap = c->ebx >> 20 & 1;
        if (c->leaf == 0x80000001)
            s->has_1g = c->edx >> 26 & 1;
    }
    return true;
}

static bool make_vps(struct soft *s, err *e)
{
    for (unsigned n = 0; n < s->vp_count; n++) {
        pthread_mutex_init(&s->mail[n].lock, NULL);
        pthread_cond_init(&s->mail[n].wake, NULL);
        pthread_cond_init(&s->mail[n].left, NULL);
    }
    for (unsigned n = 0; n < s->vp_count; n++) {
        s->vp[n] = vp_new(s, n, e);
        if (!s->vp[n])
            return false;
    }
    return true;
}

static void *soft_create(const struct hv_backend_params *p, err *e)
{
    if (!p->vp_count || p->vp_count > SOFT_MAX_VPS) {
        err_set(e, ERR_INVALID, "%u processors: 1 to %d are possible", p->vp_count, SOFT_MAX_VPS);
        return NULL;
    }
    struct soft *s = calloc(1, sizeof *s);
    if (!s) {
        err_set(e, ERR_NO_MEMORY, "no memory for the software processor");
        return NULL;
    }
    s->memory = p->memory;
    s->io = p->io;
    s->timers = p->timers;
    s->up = p->up;
    s->clock = p->clock;
    s->apic_hz = p->apic_hz;
    s->a20_mask = ~0ull;
    s->vp_count = p->vp_count;
    pthread_mutex_init(&s->map_lock, NULL);
    pthread_mutex_init(&s->split_lock, NULL);
    s->vp = calloc(p->vp_count, sizeof *s->vp);
    s->mail = calloc(p->vp_count, sizeof *s->mail);
    struct hv_memory_listener l = {.map = listen_map,
                                   .change = listen_change,
                                   .unmap = listen_unmap,
                                   .written = listen_written,
                                   .ctx = s};
    if (!s->vp || !s->mail || !copy_cpuid(s, p))
        err_set(e, ERR_NO_MEMORY, "no memory for the software processor");
    else if (make_vps(s, e) && hv_memory_add_listener(p->memory, &l, e))
        return s;
    soft_destroy(s);
    return NULL;
}

static bool soft_usable(char *why, size_t size)
{
    if (size)
        why[0] = 0;
    return true;
}

static void soft_vp_run(void *b, unsigned vp, struct hv_exit *exit)
{
    struct soft *s = b;
    memset(exit, 0, sizeof *exit);
    soft_run(s->vp[vp], exit);
}

static void soft_vp_kick(void *b, unsigned vp)
{
    soft_attention(b, vp, ATTN_KICK);
}

static bool soft_vp_get(void *b, unsigned vp, struct hv_vp_state *s, err *e)
{
    struct soft *soft = b;
    return soft_get_state(soft->vp[vp], s);
}

static bool soft_vp_set(void *b, unsigned vp, const struct hv_vp_state *s, err *e)
{
    struct soft *soft = b;
    return soft_set_state(soft->vp[vp], s, e);
}

static void soft_vp_stats(void *b, unsigned vp, struct hv_vp_stats *out)
{
    struct soft *s = b;
    const struct soft_vp *v = s->vp[vp];
    for (unsigned i = 0; i < HV_COUNT_KINDS; i++)
        out->exits[i] = __atomic_load_n(&v->stats.exits[i], __ATOMIC_RELAXED);
    out->instructions = __atomic_load_n(&v->icount, __ATOMIC_RELAXED);
    out->code_memory = soft_cache_memory(v->cache) + soft_mmu_memory();
    if (v->jit)
        out->code_memory += soft_jit_memory(v->jit);
    out->code_flushes = soft_cache_flushes(v->cache);
}

static void soft_msi(void *b, const struct hv_msi *m)
{
    soft_lapic_msi(b, m);
}

static void soft_interrupt(void *b, unsigned vp, uint8_t vector)
{
    struct soft *s = b;
    soft_lapic_fixed(s->vp[vp]->lapic, vector, false);
}

static void soft_nmi(void *b, unsigned vp)
{
    soft_send_nmi(b, vp);
}

static void soft_extint(void *b, bool asserted)
{
    struct soft *s = b;
    atomic_store(&s->extint, asserted);
    if (asserted)
        soft_attention(s, 0, ATTN_EXTINT);
}

static void soft_route(void *b, unsigned pin, const struct hv_msi *m,
                       const struct hv_msi *in_service)
{
}

static void soft_auto_eoi(void *b, unsigned vp, const uint64_t vectors[4])
{
    struct soft *s = b;
    soft_lapic_auto_eoi(s->vp[vp]->lapic, vectors);
}

static void soft_flush_vps(void *b, unsigned vp, uint64_t mask)
{
    soft_flush_others(b, mask); /* the caller is in an upcall: it flushes when it is back */
}

static bool soft_apic_read(void *b, unsigned vp, unsigned offset, uint64_t *value)
{
    struct soft_lapic *l = ((struct soft *)b)->vp[vp]->lapic;
    *value = soft_lapic_read(l, offset);
    if (offset == 0x300)
        *value |= (uint64_t)soft_lapic_read(l, 0x310) << 32;
    return true;
}

static bool soft_apic_write(void *b, unsigned vp, unsigned offset, uint64_t value)
{
    struct soft_lapic *l = ((struct soft *)b)->vp[vp]->lapic;
    if (offset == 0x300)
        soft_lapic_write(l, 0x310, (uint32_t)(value >> 32));
    soft_lapic_write(l, offset, (uint32_t)value);
    return true;
}

static bool soft_set_a20(void *b, bool on)
{
    soft_set_a20_mask(b, on ? ~0ull : ~(1ull << 20));
    return true;
}

static uint64_t soft_tsc_hz(void *b)
{
    return HV_CLOCK_TSC_HZ;
}

/* The first call turns the log on; a region is reported as written whole at first. */
static bool soft_dirty_log(void *b, const struct hv_region *r, uint64_t *bitmap, err *e)
{
    return soft_map_dirty(b, r, bitmap, e);
}

const struct hv_backend_ops hv_backend_soft = {
    .name = "soft",
    .usable = soft_usable,
    .create = soft_create,
    .destroy = soft_destroy,
    .vp_run = soft_vp_run,
    .vp_kick = soft_vp_kick,
    .vp_get_state = soft_vp_get,
    .vp_set_state = soft_vp_set,
    .vp_stats = soft_vp_stats,
    .msi = soft_msi,
    .interrupt = soft_interrupt,
    .nmi = soft_nmi,
    .extint = soft_extint,
    .ioapic_route = soft_route,
    .auto_eoi = soft_auto_eoi,
    .flush_tlb = soft_flush_vps,
    .apic_read = soft_apic_read,
    .apic_write = soft_apic_write,
    .set_a20 = soft_set_a20,
    .tsc_hz = soft_tsc_hz,
    .dirty_log = soft_dirty_log,
};
