/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The live view: channels, processors, adapters, disks, the worker itself. */
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "app/worker/worker.h"

static void put_u64(GVariantBuilder *b, const char *key, guint64 v)
{
    g_variant_builder_add(b, "{sv}", key, g_variant_new_uint64(v));
}

static void put_text(GVariantBuilder *b, const char *key, const char *v)
{
    g_variant_builder_add(b, "{sv}", key, g_variant_new_string(v));
}

static void open_row(GVariantBuilder *b)
{
    g_variant_builder_open(b, G_VARIANT_TYPE("a{sv}"));
}

/* ---- VMBus ---- */

static bool channel_row(void *ctx, const struct vmbus_channel_info *i)
{
    GVariantBuilder *b = ctx;
    char instance[GUID_STR_LEN + 1];
    guid_format(&i->instance, instance);
    open_row(b);
    put_text(b, "device", i->provider ? i->provider : "");
    put_text(b, "instance", instance);
    put_text(b, "state", vmbus_channel_state_name(i->state));
    put_u64(b, "channel", i->index);
    put_u64(b, "relid", i->relid);
    put_u64(b, "connection", i->connection);
    put_u64(b, "vp", i->target_vp);
    put_u64(b, "in-size", i->in_size);
    put_u64(b, "in-used", i->in_used);
    put_u64(b, "out-size", i->out_size);
    put_u64(b, "out-used", i->out_used);
    put_u64(b, "packets-in", i->stats.packets_in);
    put_u64(b, "packets-out", i->stats.packets_out);
    put_u64(b, "bytes-in", i->stats.bytes_in);
    put_u64(b, "bytes-out", i->stats.bytes_out);
    put_u64(b, "signals-in", i->stats.signals_in);
    put_u64(b, "signals-out", i->stats.signals_out);
    put_u64(b, "full", i->stats.full);
    put_u64(b, "errors", i->stats.errors);
    put_u64(b, "in-flight", i->busy);
    g_variant_builder_close(b);
    return true;
}

struct listing {
    struct worker *w;
    GVariantBuilder *b;
};

static void list_channels(void *ctx)
{
    struct listing *l = ctx;
    vmbus_each_channel(vm_bus(l->w->vm), channel_row, l->b);
}

static void vmbus_rows(struct worker *w, GVariantBuilder *b)
{
    struct listing l = {w, b};
    loop_call_wait(vm_loop(w->vm), list_channels, &l);
}

/* ---- the others ---- */

static void processor_rows(struct worker *w, GVariantBuilder *b)
{
    static const char *const kinds[HV_COUNT_KINDS] = {"port-io",   "mmio",   "msr",
                                                      "hypercall", "halt",   "interrupt-window",
                                                      "eoi",       "signal", "other"};
    struct hv_partition *p = machine_partition(vm_machine(w->vm));
    for (unsigned vp = 0; vp < hv_partition_vp_count(p); vp++) {
        struct hv_vp_stats s;
        hv_partition_stats(p, vp, &s);
        open_row(b);
        put_u64(b, "processor", vp);
        put_u64(b, "instructions", s.instructions);
        put_u64(b, "code-memory", s.code_memory);
        put_u64(b, "code-flushes", s.code_flushes);
        for (unsigned k = 0; k < HV_COUNT_KINDS; k++)
            put_u64(b, kinds[k], s.exits[k]);
        g_variant_builder_close(b);
    }
}

static void adapter_rows(struct worker *w, GVariantBuilder *b)
{
    struct vm_adapter_info list[VM_MAX_ADAPTERS];
    unsigned n = vm_list_adapters(w->vm, list, VM_MAX_ADAPTERS);
    for (unsigned i = 0; i < n; i++) {
        open_row(b);
        put_text(b, "id", list[i].id);
        put_text(b, "switch", list[i].settings.where);
        put_u64(b, "version", list[i].version);
        put_u64(b, "queues", list[i].queues);
        put_u64(b, "mtu", list[i].mtu);
        g_variant_builder_add(b, "{sv}", "legacy", g_variant_new_boolean(list[i].legacy));
        put_u64(b, "frames-out", list[i].stats.tx_frames);
        put_u64(b, "bytes-out", list[i].stats.tx_bytes);
        put_u64(b, "dropped-out", list[i].stats.tx_dropped);
        put_u64(b, "refused-out", list[i].stats.tx_refused);
        put_u64(b, "frames-in", list[i].stats.rx_frames);
        put_u64(b, "bytes-in", list[i].stats.rx_bytes);
        put_u64(b, "dropped-in", list[i].stats.rx_dropped);
        g_variant_builder_close(b);
    }
}

static void disk_rows(struct worker *w, GVariantBuilder *b)
{
    g_autoptr(GVariant) rows = g_variant_ref_sink(worker_disks(w));
    for (gsize i = 0; i < g_variant_n_children(rows); i++) {
        g_autoptr(GVariant) row = g_variant_get_child_value(rows, i);
        g_variant_builder_add_value(b, row);
    }
}

static void memory_rows(struct worker *w, GVariantBuilder *b)
{
    struct balloon_status s = {0};
    vm_memory(w->vm, &s);
    open_row(b);
    put_u64(b, "started-with", vm_ram(w->vm));
    put_u64(b, "connected", s.connected);
    put_u64(b, "assigned", s.connected ? s.assigned : vm_ram(w->vm));
    put_u64(b, "target", s.target);
    put_u64(b, "ballooned", s.ballooned);
    put_u64(b, "added", s.added);
    put_u64(b, "available", s.available);
    put_u64(b, "committed", s.committed);
    g_variant_builder_close(b);
}

static void worker_rows(struct worker *w, GVariantBuilder *b)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    open_row(b);
    put_u64(b, "pid", (guint64)getpid());
    put_u64(b, "user-us", (guint64)u.ru_utime.tv_sec * 1000000 + (guint64)u.ru_utime.tv_usec);
    put_u64(b, "system-us", (guint64)u.ru_stime.tv_sec * 1000000 + (guint64)u.ru_stime.tv_usec);
    put_u64(b, "max-resident", (guint64)u.ru_maxrss * 1024);
    put_u64(b, "connections", w->connections->len);
    put_u64(b, "viewers", w->viewers->len);
    put_u64(b, "sandboxed", (guint64)w->sandboxed);
    g_variant_builder_close(b);
}

GVariant *worker_info(struct worker *w, const char *topic, err *e)
{
    static const struct {
        const char *name;
        void (*fn)(struct worker *w, GVariantBuilder *b);
    } topics[] = {
        {"vmbus", vmbus_rows}, {"processors", processor_rows}, {"adapters", adapter_rows},
        {"disks", disk_rows},  {"memory", memory_rows},        {"worker", worker_rows},
        {"run", worker_usage},
    };
    if (!w->vm) {
        err_set(e, ERR_STATE, "The machine is not running.");
        return NULL;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(topics); i++)
        if (strcmp(topics[i].name, topic) == 0) {
            GVariantBuilder b;
            g_variant_builder_init(&b, G_VARIANT_TYPE("aa{sv}"));
            topics[i].fn(w, &b);
            return g_variant_builder_end(&b);
        }
    err_set(e, ERR_NOT_FOUND, "There is nothing to tell about “%s”.", topic);
    return NULL;
}
