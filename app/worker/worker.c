/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The machine's life as its worker sees it: made from a configuration, watched, ended. */
#include "app/worker/worker.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/machine/report.h"

enum { LINGER_MS = 2000, REFRESH_MS = 30 };

G_DEFINE_QUARK(vireo - worker - error - quark, worker_error)

static const GDBusErrorEntry error_names[] = {
    {ERR_INVALID, "org.vireo.Error.Invalid"},
    {ERR_CORRUPT, "org.vireo.Error.Corrupt"},
    {ERR_UNSUPPORTED, "org.vireo.Error.Unsupported"},
    {ERR_NOT_FOUND, "org.vireo.Error.NotFound"},
    {ERR_EXISTS, "org.vireo.Error.Exists"},
    {ERR_BUSY, "org.vireo.Error.Busy"},
    {ERR_DENIED, "org.vireo.Error.Denied"},
    {ERR_NO_SPACE, "org.vireo.Error.NoSpace"},
    {ERR_NO_MEMORY, "org.vireo.Error.NoMemory"},
    {ERR_READ_ONLY, "org.vireo.Error.ReadOnly"},
    {ERR_IO, "org.vireo.Error.Io"},
    {ERR_CANCELLED, "org.vireo.Error.Cancelled"},
    {ERR_TIMEOUT, "org.vireo.Error.Timeout"},
    {ERR_STATE, "org.vireo.Error.State"},
};

void worker_fail(GDBusMethodInvocation *call, const err *e)
{
    const char *name = "org.vireo.Error.Io";
    for (size_t i = 0; i < G_N_ELEMENTS(error_names); i++)
        if (error_names[i].error_code == (gint)e->code)
            name = error_names[i].dbus_error_name;
    g_autofree char *text = g_utf8_make_valid(e->text, -1);
    g_dbus_method_invocation_return_dbus_error(call, name, text);
}

/* ---- state ---- */

void worker_set_state(struct worker *w, const char *state, const char *reason)
{
    vireo_machine1_set_state_reason(w->machine, reason);
    vireo_machine1_set_state(w->machine, state);
    g_dbus_interface_skeleton_flush(G_DBUS_INTERFACE_SKELETON(w->machine));
}

gboolean worker_is(struct worker *w, const char *state)
{
    return g_strcmp0(vireo_machine1_get_state(w->machine), state) == 0;
}

gboolean worker_is_live(struct worker *w)
{
    return w->vm && !w->ended && (worker_is(w, "running") || worker_is(w, "paused"));
}

static gboolean quit(gpointer data)
{
    struct worker *w = data;
    if (w->busy) /* a call still waits for the machine: it ends soon, the machine being off */
        return G_SOURCE_CONTINUE;
    g_main_loop_quit(w->loop);
    return G_SOURCE_REMOVE;
}

static gboolean quit_if_alone(gpointer data)
{
    struct worker *w = data;
    if (w->connections->len || w->busy)
        return G_SOURCE_CONTINUE;
    return quit(w);
}

void worker_end(struct worker *w, const char *state, const char *reason)
{
    if (w->ended)
        return;
    w->ended = TRUE;
    g_atomic_int_set(&w->over, 1);
    if (!w->session_over)
        worker_note_running(w, FALSE);
    worker_serial_drain(w->serial);
    worker_set_state(w, state, reason);
    log_line(LOG_INFO, "machine", "%s%s%s", state, reason[0] ? ": " : "", reason);
    g_timeout_add(100, quit_if_alone, w);
    g_timeout_add(LINGER_MS, quit, w);
}

/* ---- upcalls from the I/O thread ---- */

struct ending {
    struct worker *w;
    struct machine_report report;
};

static void tell_ending(struct worker *w, const struct machine_report *r, const char *report)
{
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a{sv}"));
    g_variant_builder_add(&b, "{sv}", "end", g_variant_new_string(machine_end_name(r->end)));
    g_variant_builder_add(&b, "{sv}", "code", g_variant_new_uint32(r->code));
    g_variant_builder_add(&b, "{sv}", "report", g_variant_new_string(report));
    vireo_machine1_set_ending(w->machine, g_variant_builder_end(&b));
}

static gboolean on_end(gpointer data)
{
    static const struct {
        enum machine_end end;
        const char *state, *reason;
    } texts[] = {
        {MACHINE_POWERED_OFF, "off", ""},
        {MACHINE_HIBERNATED, "off", "The guest hibernated."},
        {MACHINE_RESET, "off", "The guest restarted."},
        {MACHINE_TRIPLE_FAULT, "crashed", "The guest's processor gave up (triple fault)."},
        {MACHINE_CRASHED, "crashed", "The guest system crashed."},
        {MACHINE_DEBUG_EXIT, "off", "The guest ended itself by the debug port."},
        {MACHINE_FAILED, "crashed", "The machine could not go on."},
    };
    struct ending *e = data;
    const char *state = "crashed", *reason = "";
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
        if (texts[i].end == e->report.end) {
            state = texts[i].state;
            reason = texts[i].reason;
        }
    AUTO(str) report = machine_report_text(&e->report);
    tell_ending(e->w, &e->report, report ? report : "");
    g_autofree char *words = g_utf8_make_valid(e->report.text, -1);
    g_autofree char *whole = g_strdup_printf("%s%s%s", reason, words[0] ? " " : "", words);
    worker_end(e->w, state, whole);
    g_free(e);
    return G_SOURCE_REMOVE;
}

static void up_ended(void *ctx, const struct machine_report *r)
{
    struct ending *e = g_new0(struct ending, 1);
    e->w = ctx;
    e->report = *r;
    g_idle_add(on_end, e);
}

static gboolean on_changed(gpointer data)
{
    struct worker *w = data;
    worker_refresh(w, (unsigned)g_atomic_int_and((guint *)&w->changes, 0));
    return G_SOURCE_REMOVE;
}

static void up_changed(void *ctx, unsigned what)
{
    struct worker *w = ctx;
    if (g_atomic_int_or((guint *)&w->changes, what) == 0)
        g_timeout_add(REFRESH_MS, on_changed, w);
}

static size_t up_serial(void *ctx, unsigned port, const uint8_t *data, size_t len)
{
    struct worker *w = ctx;
    return worker_serial_out(w->serial, port, data, len);
}

static const struct vm_ops upcalls = {up_ended, up_serial, up_changed};

/* ---- what the properties say ---- */

static const char *heartbeat_name(enum heartbeat_state s)
{
    return s == HEARTBEAT_OK ? "ok" : s == HEARTBEAT_LOST ? "lost" : "none";
}

static void tell_services(struct worker *w)
{
    static const struct {
        unsigned bit;
        const char *name;
    } names[] = {{INTEGRATION_SHUTDOWN, "shutdown"},
                 {INTEGRATION_TIMESYNC, "timesync"},
                 {INTEGRATION_HEARTBEAT, "heartbeat"},
                 {INTEGRATION_KVP, "kvp"},
                 {INTEGRATION_VSS, "vss"},
                 {INTEGRATION_FCOPY, "fcopy"}};
    GVariantBuilder b;
    struct balloon_status memory;
    unsigned offered, ready;
    vm_services(w->vm, &offered, &ready);
    vm_memory(w->vm, &memory);
    g_variant_builder_init(&b, G_VARIANT_TYPE("a{ss}"));
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        g_variant_builder_add(&b, "{ss}", names[i].name,
                              !(offered & names[i].bit) ? "off"
                              : ready & names[i].bit    ? "ok"
                                                        : "waiting");
    g_variant_builder_add(&b, "{ss}", "memory", memory.connected ? "ok" : "waiting");
    vireo_machine1_set_services(w->machine, g_variant_builder_end(&b));
}

void worker_refresh(struct worker *w, unsigned changes)
{
    if (!w->vm)
        return;
    if (changes & VM_CHANGED_DISKS)
        vireo_machine1_set_disks(w->machine, worker_disks(w));
    if (changes & VM_CHANGED_ADAPTERS)
        vireo_machine1_set_adapters(w->machine, worker_adapters(w));
    if (changes & VM_CHANGED_HEARTBEAT)
        vireo_machine1_set_heartbeat(w->machine, heartbeat_name(vm_heartbeat(w->vm)));
    if (changes & (VM_CHANGED_HEARTBEAT | VM_CHANGED_FACTS | VM_CHANGED_MEMORY))
        tell_services(w);
    if (changes & VM_CHANGED_FACTS)
        vireo_machine1_set_guest(w->machine, worker_facts(w));
    if (changes & VM_CHANGED_MEMORY) {
        struct balloon_status s;
        vm_memory(w->vm, &s);
        vireo_machine1_set_memory_assigned(w->machine, s.assigned);
        vireo_machine1_set_memory_demand(w->machine, s.pressure_known ? s.committed : 0);
    }
}

static void tell_machine(struct worker *w)
{
    struct hv_partition *p = machine_partition(vm_machine(w->vm));
    vireo_machine1_set_backend(w->machine, hv_partition_backend(p));
    vireo_machine1_set_backend_note(w->machine, hv_partition_note(p));
    vireo_machine1_set_processors(w->machine, hv_partition_vp_count(p));
    vireo_machine1_set_memory(w->machine, vm_ram(w->vm));
    vireo_machine1_set_memory_assigned(w->machine, vm_ram(w->vm));
    worker_refresh(w, VM_CHANGED_DISKS | VM_CHANGED_ADAPTERS | VM_CHANGED_HEARTBEAT);
}

/* ---- saving and restoring in place: for tests ---- */

static bool save_and_restore(struct worker *w, err *e)
{
    struct state_writer *out = state_writer_new();
    struct state_reader in = {0};
    bool ok = out && vm_save(w->vm, out, e);
    if (ok)
        in.data = state_writer_data(out, &in.len, e);
    ok = ok && in.data && vm_restore(w->vm, &in, e);
    state_writer_free(out);
    return ok;
}

static gboolean on_self_restore(gpointer data)
{
    struct worker *w = data;
    err e = ERR_INIT;
    if (w->ended || !worker_is(w, "running") || !machine_pause(vm_machine(w->vm)))
        return w->ended ? G_SOURCE_REMOVE : G_SOURCE_CONTINUE;
    if (save_and_restore(w, &e)) {
        machine_resume(vm_machine(w->vm));
        return G_SOURCE_CONTINUE;
    }
    struct machine_report r = {.end = MACHINE_FAILED};
    g_strlcpy(r.text, e.text, sizeof r.text);
    up_ended(w, &r);
    return G_SOURCE_REMOVE;
}

/* Guest sockets for the host's programs. The machine does without where the path is too long. */
static void bridge_sockets(struct worker *w)
{
    err e = ERR_INIT;
    g_autofree char *path = g_build_filename(w->runtime, "vsock", NULL);
    if (!vm_bridge_guest(w->vm, path, &e))
        log_line(LOG_WARNING, "worker", "%s", e.text);
}

bool worker_make_vm(struct worker *w, err *e)
{
    struct disk_opener opener = worker_files_opener(w->files);
    struct vm_params p = {.config = w->config,
                          .extra = w->extra,
                          .opener = &opener,
                          .switch_folder = w->switches,
                          .ops = &upcalls,
                          .ctx = w};
    w->vm = vm_new(&p, e);
    if (!w->vm)
        return false;
    bridge_sockets(w);
    worker_serial_attach(w->serial, w->vm);
    worker_session_attach(w->session, w->vm, w->config);
    worker_remote_attach(w->remote);
    for (unsigned i = 0; i < MACHINE_SERIALS; i++) {
        g_autofree char *name = g_strdup_printf("port%u", i);
        int fd = worker_files_take(w->files, name);
        if (fd >= 0 && !worker_serial_join(w->serial, i, fd, e))
            return false;
    }
    worker_console_ready(w);
    tell_machine(w);
    if (w->self_restore)
        g_timeout_add_seconds(w->self_restore, on_self_restore, w);
    return true;
}
