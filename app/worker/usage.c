/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a machine has used so far: one row of Info("run"), which `vireoctl run --stats` writes. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "app/worker/worker.h"

struct ranges {
    uintptr_t from[64], to[64]; /* regions; a PC has some 20 */
    size_t n;
};

static bool note_region(void *ctx, struct hv_region *r)
{
    struct ranges *g = ctx;
    if (g->n == G_N_ELEMENTS(g->from))
        return false;
    g->from[g->n] = (uintptr_t)hv_region_host(r);
    g->to[g->n] = g->from[g->n] + hv_region_size(r);
    g->n++;
    return true;
}

/* Private memory of this process, in bytes: that of guest memory and the rest. */
static void private_memory(struct machine *m, int64_t *guest, int64_t *other)
{
    struct ranges g = {.n = 0};
    char line[512];
    bool in_guest = false;
    hv_memory_each(hv_partition_memory(machine_partition(m)), note_region, &g);
    *guest = *other = 0;
    FILE *f = fopen("/proc/self/smaps", "re");
    while (f && fgets(line, sizeof line, f)) {
        uintptr_t from, to;
        unsigned long kib;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2) {
            in_guest = false;
            for (size_t i = 0; i < g.n; i++)
                in_guest |= from < g.to[i] && to > g.from[i];
        } else if (sscanf(line, "Private_Dirty: %lu", &kib) == 1 ||
                   sscanf(line, "Private_Clean: %lu", &kib) == 1) {
            *(in_guest ? guest : other) += (int64_t)kib << 10;
        }
    }
    if (f)
        fclose(f);
}

static double seconds(const struct timeval *t)
{
    return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

static void put(GVariantBuilder *b, const char *key, GVariant *v)
{
    g_variant_builder_add(b, "{sv}", key, v);
}

void worker_usage(struct worker *w, GVariantBuilder *b)
{
    static const char *const kinds[HV_COUNT_KINDS] = {
        "pio", "mmio", "msr", "hypercall", "halt", "interrupt-window", "eoi", "signal", "other"};
    struct machine *m = vm_machine(w->vm);
    struct machine_stats s;
    struct rusage u;
    int64_t guest, other;
    machine_stats(m, &s);
    getrusage(RUSAGE_SELF, &u);
    private_memory(m, &guest, &other);
    g_variant_builder_open(b, G_VARIANT_TYPE("a{sv}"));
    put(b, "backend", g_variant_new_string(hv_partition_backend(machine_partition(m))));
    put(b, "resets", g_variant_new_uint64(s.resets));
    for (unsigned i = 0; i < HV_COUNT_KINDS; i++) {
        g_autofree char *key = g_strconcat("exits-", kinds[i], NULL);
        put(b, key, g_variant_new_uint64(s.vp.exits[i]));
    }
    put(b, "guest-instructions", g_variant_new_uint64(s.vp.instructions));
    put(b, "code-memory", g_variant_new_uint64(s.vp.code_memory));
    put(b, "code-flushes", g_variant_new_uint64(s.vp.code_flushes));
    put(b, "guest-seconds", g_variant_new_double(s.guest_seconds));
    put(b, "cpu-seconds", g_variant_new_double(seconds(&u.ru_utime) + seconds(&u.ru_stime)));
    put(b, "peak-memory", g_variant_new_uint64((guint64)u.ru_maxrss << 10));
    put(b, "private-guest-memory", g_variant_new_uint64((guint64)guest));
    put(b, "private-other-memory", g_variant_new_uint64((guint64)other));
    g_variant_builder_close(b);
}
