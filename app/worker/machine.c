/* SPDX-License-Identifier: GPL-3.0-or-later */
/* org.vireo.Machine1: each method checks its arguments, does what it says by core/machine/vm.h, and
 * answers. What may take long runs in a thread. Disks and adapters are in devices.c, checkpoints in
 * checkpoints.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/worker/call.h"
#include "app/worker/sandbox.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"

enum { MAX_LISTED = 64 };

/* ---- what properties show ---- */

GVariant *worker_disks(struct worker *w)
{
    struct vm_disk_info *list = g_new0(struct vm_disk_info, MAX_LISTED);
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("aa{sv}"));
    unsigned n = vm_list_disks(w->vm, list, MAX_LISTED);
    for (unsigned i = 0; i < n; i++) {
        g_autofree char *path = g_utf8_make_valid(list[i].path, -1);
        g_variant_builder_open(&b, G_VARIANT_TYPE("a{sv}"));
        g_variant_builder_add(&b, "{sv}", "id", g_variant_new_string(list[i].id));
        g_variant_builder_add(&b, "{sv}", "kind",
                              g_variant_new_string(list[i].floppy ? "floppy"
                                                   : list[i].dvd  ? "dvd"
                                                                  : "disk"));
        g_variant_builder_add(&b, "{sv}", "controller", g_variant_new_uint32(0));
        g_variant_builder_add(&b, "{sv}", "lun", g_variant_new_uint32(list[i].lun));
        g_variant_builder_add(&b, "{sv}", "requests", g_variant_new_uint64(list[i].requests));
        if (list[i].floppy || !strncmp(list[i].id, "ide", 3)) {
            g_variant_builder_add(&b, "{sv}", "emulated-commands",
                                  g_variant_new_uint64(list[i].emulated_commands));
            g_variant_builder_add(&b, "{sv}", "emulated-read",
                                  g_variant_new_uint64(list[i].emulated_read));
            g_variant_builder_add(&b, "{sv}", "emulated-written",
                                  g_variant_new_uint64(list[i].emulated_written));
        }
        g_variant_builder_add(&b, "{sv}", "path", g_variant_new_string(path));
        g_variant_builder_add(&b, "{sv}", "size", g_variant_new_uint64(list[i].size));
        g_variant_builder_add(&b, "{sv}", "read-only", g_variant_new_boolean(list[i].read_only));
        g_variant_builder_add(&b, "{sv}", "media", g_variant_new_boolean(list[i].medium));
        g_variant_builder_close(&b);
    }
    g_free(list);
    return g_variant_builder_end(&b);
}

static GVariant *forwards_of(const struct vm_adapter_settings *s)
{
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("as"));
    for (unsigned i = 0; i < s->nforwards; i++) {
        char text[64];
        net_forward_format(&s->forwards[i], text, sizeof text);
        g_variant_builder_add(&b, "s", text);
    }
    return g_variant_builder_end(&b);
}

static void add_adapter(GVariantBuilder *b, const struct vm_adapter_info *a)
{
    char mac[18], address[INET_ADDRSTRLEN] = "";
    snprintf(mac, sizeof mac, "%02x:%02x:%02x:%02x:%02x:%02x", a->mac[0], a->mac[1], a->mac[2],
             a->mac[3], a->mac[4], a->mac[5]);
    if (strcmp(a->settings.where, "nat") == 0) {
        guint32 ip = GUINT32_FROM_BE(a->address.s_addr);
        snprintf(address, sizeof address, "%u.%u.%u.%u", ip >> 24, ip >> 16 & 255, ip >> 8 & 255,
                 ip & 255);
    }
    g_variant_builder_open(b, G_VARIANT_TYPE("a{sv}"));
    g_variant_builder_add(b, "{sv}", "id", g_variant_new_string(a->id));
    g_variant_builder_add(b, "{sv}", "mac", g_variant_new_string(mac));
    g_variant_builder_add(b, "{sv}", "switch", g_variant_new_string(a->settings.where));
    g_variant_builder_add(b, "{sv}", "connected", g_variant_new_boolean(a->settings.connected));
    g_variant_builder_add(b, "{sv}", "vlan", g_variant_new_uint32(a->settings.vlan));
    g_variant_builder_add(b, "{sv}", "address", g_variant_new_string(address));
    g_variant_builder_add(b, "{sv}", "bandwidth", g_variant_new_uint64(a->settings.bandwidth));
    g_variant_builder_add(b, "{sv}", "spoofing", g_variant_new_boolean(a->settings.spoofing));
    g_variant_builder_add(b, "{sv}", "loopback", g_variant_new_boolean(a->settings.host_loopback));
    g_variant_builder_add(b, "{sv}", "forwards", forwards_of(&a->settings));
    g_variant_builder_close(b);
}

GVariant *worker_adapters(struct worker *w)
{
    struct vm_adapter_info list[VM_MAX_ADAPTERS];
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("aa{sv}"));
    unsigned n = vm_list_adapters(w->vm, list, VM_MAX_ADAPTERS);
    for (unsigned i = 0; i < n; i++)
        add_adapter(&b, &list[i]);
    return g_variant_builder_end(&b);
}

static void add_fact(void *ctx, const char *key, const char *value)
{
    g_autofree char *k = g_utf8_make_valid(key, -1), *v = g_utf8_make_valid(value, -1);
    g_variant_builder_add(ctx, "{sv}", k, g_variant_new_string(v));
}

GVariant *worker_facts(struct worker *w)
{
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a{sv}"));
    vm_each_fact(w->vm, add_fact, &b);
    return g_variant_builder_end(&b);
}

/* ---- life ---- */

static void read_extra(struct worker *w, GVariant *options, GDBusMethodInvocation *call)
{
    w->extra = (struct vm_extra){.pc = call_option(options, "pc"),
                                 .multiboot = call_option(options, "multiboot"),
                                 .debug_exit = call_option(options, "debug-exit"),
                                 .test_devices = call_option(options, "test-devices"),
                                 .stop_on_reset = call_option(options, "stop-on-reset"),
                                 .stop_on_crash = call_option(options, "stop-on-crash")};
    w->self_restore = 0;
    g_variant_lookup(options, "self-restore", "u", &w->self_restore);
    if (call_option(options, "owned"))
        w->owner = g_dbus_method_invocation_get_connection(call);
}

static gboolean on_configure(VireoMachine1 *m, GDBusMethodInvocation *call, GUnixFDList *fds,
                             const char *config, GVariant *files, GVariant *options,
                             struct worker *w)
{
    static const char *const known[] = {"pc",           "multiboot",     "debug-exit",
                                        "test-devices", "stop-on-reset", "stop-on-crash",
                                        "self-restore", "owned",         NULL};
    err e = ERR_INIT;
    if (!worker_is(w, "new") && !worker_is(w, "off"))
        return call_fail(call, ERR_STATE, "The machine has its configuration already.");
    if (!call_keys_known(options, known, call))
        return TRUE;
    struct vm_config *c = vm_config_parse(config, strlen(config), &e);
    if (!c || !worker_files_add(w->files, files, fds, &e)) {
        vm_config_free(c);
        worker_fail(call, &e);
        return TRUE;
    }
    vm_config_free(w->config);
    w->config = c;
    read_extra(w, options, call);
    vireo_machine1_set_name(m, c->name ? c->name : "");
    vireo_display_vm_set_name(w->display, c->name ? c->name : "");
    worker_set_state(w, "off", "");
    vireo_machine1_complete_configure(m, call, NULL);
    return TRUE;
}

static bool run_start(struct call *j, err *e)
{
    gboolean resumed = FALSE;
    bool ok = worker_begin(j->w, j->flag2, j->flag, &resumed, e);
    j->kind = resumed;
    return ok;
}

static void start_done(struct call *j)
{
    struct worker *w = j->w;
    vireo_machine1_set_started_at(w->machine, g_get_real_time());
    if (!w->ended)
        worker_set_state(w, j->flag ? "paused" : "running", "");
    log_line(LOG_INFO, "machine", "started on the %s backend",
             vireo_machine1_get_backend(w->machine));
    vireo_machine1_complete_start(w->machine, j->call, NULL);
    worker_started(w, j->kind);
}

static gboolean uses_nat(const struct vm_config *c)
{
    for (uint32_t i = 0; i < c->n_adapters; i++)
        if (c->adapters[i].kind == VM_SWITCH_NAT)
            return TRUE;
    return FALSE;
}

static bool enter_sandbox(struct worker *w, err *e)
{
    w->inet = !w->sandbox || uses_nat(w->config);
    if (!w->sandbox)
        return true;
    w->sandboxed = sandbox_calls(w->inet, e);
    return w->sandboxed;
}

static gboolean on_start(VireoMachine1 *m, GDBusMethodInvocation *call, GUnixFDList *fds,
                         GVariant *files, GVariant *options, struct worker *w)
{
    static const char *const known[] = {"paused", "discard", NULL};
    err e = ERR_INIT;
    gboolean paused = FALSE, discard = FALSE;
    if (!w->config || !worker_is(w, "off") || w->ended)
        return call_fail(call, ERR_STATE,
                         w->config ? "The machine was started already."
                                   : "The machine has no configuration yet.");
    if (!call_keys_known(options, known, call))
        return TRUE;
    g_variant_lookup(options, "paused", "b", &paused);
    g_variant_lookup(options, "discard", "b", &discard);
    worker_set_state(w, "starting", "");
    if (!worker_files_add(w->files, files, fds, &e) || !worker_make_vm(w, &e) ||
        !enter_sandbox(w, &e))
        return call_start_failed(w, call, &e);
    struct call *j = call_new(w, call);
    j->done = start_done;
    j->flag = paused;
    j->flag2 = discard;
    j->ends = TRUE;
    return call_start(j, run_start);
}

static gboolean on_pause(VireoMachine1 *m, GDBusMethodInvocation *call, struct worker *w)
{
    if (!call_need_live(w, call))
        return TRUE;
    vm_pause(w->vm);
    worker_set_state(w, "paused", "");
    vireo_machine1_complete_pause(m, call);
    return TRUE;
}

static gboolean on_resume(VireoMachine1 *m, GDBusMethodInvocation *call, struct worker *w)
{
    if (!call_need_live(w, call))
        return TRUE;
    vm_resume(w->vm);
    worker_set_state(w, "running", "");
    vireo_machine1_complete_resume(m, call);
    return TRUE;
}

static gboolean on_turn_off(VireoMachine1 *m, GDBusMethodInvocation *call, struct worker *w)
{
    if (!w->vm || w->ended) {
        vireo_machine1_complete_turn_off(m, call);
        worker_end(w, "off", "");
        return TRUE;
    }
    vm_power_off(w->vm);
    g_atomic_int_set(&w->cancel, 1);
    worker_depart(w, "off", "", call, vireo_machine1_complete_turn_off);
    return TRUE;
}

static bool run_reset(struct call *j, err *e)
{
    return vm_reset(j->w->vm, e);
}

static void reset_done(struct call *j)
{
    worker_set_state(j->w, "running", "");
    vireo_machine1_complete_reset(j->w->machine, j->call);
}

static gboolean on_reset(VireoMachine1 *m, GDBusMethodInvocation *call, struct worker *w)
{
    if (!call_need_live(w, call))
        return TRUE;
    struct call *j = call_new(w, call);
    j->done = reset_done;
    return call_start(j, run_reset);
}

static bool run_shutdown(struct call *j, err *e)
{
    return vm_shutdown(j->w->vm, (enum shutdown_kind)j->kind, j->flag, e);
}

static gboolean on_shutdown(VireoMachine1 *m, GDBusMethodInvocation *call, const char *action,
                            gboolean force, struct worker *w)
{
    static const char *const actions[] = {"shutdown", "reboot", "hibernate"};
    if (!call_need_live(w, call))
        return TRUE;
    for (int i = 0; i < 3; i++)
        if (strcmp(actions[i], action) == 0) {
            struct call *j = call_new(w, call);
            j->kind = i;
            j->flag = force;
            return call_start(j, run_shutdown);
        }
    return call_fail(call, ERR_INVALID, "The action is one of shutdown, reboot, hibernate.");
}

static gboolean on_nmi(VireoMachine1 *m, GDBusMethodInvocation *call, struct worker *w)
{
    if (!call_need_live(w, call))
        return TRUE;
    hv_partition_nmi(machine_partition(vm_machine(w->vm)), 0);
    vireo_machine1_complete_inject_nmi(m, call);
    return TRUE;
}

static gboolean on_power_button(VireoMachine1 *m, GDBusMethodInvocation *call, struct worker *w)
{
    if (!call_need_live(w, call))
        return TRUE;
    machine_press_power_button(vm_machine(w->vm));
    vireo_machine1_complete_press_power_button(m, call);
    return TRUE;
}

static gboolean on_serial_break(VireoMachine1 *m, GDBusMethodInvocation *call, guint port,
                                struct worker *w)
{
    if (!call_need_live(w, call))
        return TRUE;
    if (port < 1 || port > MACHINE_SERIALS)
        return call_fail(call, ERR_INVALID, "There is no such serial port.");
    machine_serial_break(vm_machine(w->vm), port - 1);
    vireo_machine1_complete_serial_break(m, call);
    return TRUE;
}

/* ---- the rest ---- */

static gboolean on_serial(VireoMachine1 *m, GDBusMethodInvocation *call, GUnixFDList *in,
                          guint port, struct worker *w)
{
    err e = ERR_INIT;
    size_t len = 0;
    uint8_t *history = NULL;
    int fd = port ? worker_serial_open(w->serial, port - 1, &history, &len, &e) : -1;
    if (fd < 0) {
        if (!port)
            err_set(&e, ERR_INVALID, "Serial ports are numbered from 1.");
        worker_fail(call, &e);
        return TRUE;
    }
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new_from_array(&fd, 1);
    GVariant *bytes =
        g_variant_new_from_data(G_VARIANT_TYPE_BYTESTRING, history, len, TRUE, free, history);
    vireo_machine1_complete_open_serial(m, call, fds, bytes, g_variant_new_handle(0));
    return TRUE;
}

static bool run_copy(struct call *j, err *e)
{
    return vm_copy_file(j->w->vm, j->fd, j->text, j->flag, j->flag2, e);
}

static void copy_done(struct call *j)
{
    vireo_machine1_complete_copy_file(j->w->machine, j->call, NULL);
}

static gboolean on_copy(VireoMachine1 *m, GDBusMethodInvocation *call, GUnixFDList *fds,
                        GVariant *file, const char *path, GVariant *options, struct worker *w)
{
    static const char *const known[] = {"overwrite", "create-path", NULL};
    gboolean overwrite = FALSE, create = FALSE;
    if (!call_need_live(w, call) || !call_keys_known(options, known, call))
        return TRUE;
    g_variant_lookup(options, "overwrite", "b", &overwrite);
    g_variant_lookup(options, "create-path", "b", &create);
    struct call *j = call_new(w, call);
    j->fd = fds ? g_unix_fd_list_get(fds, g_variant_get_handle(file), NULL) : -1;
    j->text = g_strdup(path);
    j->flag = overwrite;
    j->flag2 = create;
    j->done = copy_done;
    return call_start(j, run_copy);
}

static bool run_guest_data(struct call *j, err *e)
{
    return vm_set_guest_data(j->w->vm, j->text, j->text2, e);
}

static gboolean on_guest_data(VireoMachine1 *m, GDBusMethodInvocation *call, const char *key,
                              const char *value, struct worker *w)
{
    if (!call_need_live(w, call))
        return TRUE;
    struct call *j = call_new(w, call);
    j->text = g_strdup(key);
    j->text2 = g_strdup(value);
    return call_start(j, run_guest_data);
}

static gboolean on_set_memory(VireoMachine1 *m, GDBusMethodInvocation *call, guint64 bytes,
                              struct worker *w)
{
    err e = ERR_INIT;
    if (!call_need_live(w, call))
        return TRUE;
    if (vm_set_memory(w->vm, bytes, &e))
        vireo_machine1_complete_set_memory(m, call);
    else
        worker_fail(call, &e);
    return TRUE;
}

enum { VSOCK_WAIT_MS = 5000 };

static bool run_connect(struct call *j, err *e)
{
    j->fd = vm_connect_guest(j->w->vm, j->number, VSOCK_WAIT_MS, e);
    return j->fd >= 0;
}

static void connect_done(struct call *j)
{
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new_from_array(&j->fd, 1);
    j->fd = -1;
    vireo_machine1_complete_connect_vsock(j->w->machine, j->call, fds, g_variant_new_handle(0));
}

static gboolean on_connect_vsock(VireoMachine1 *m, GDBusMethodInvocation *call, GUnixFDList *in,
                                 guint port, struct worker *w)
{
    if (!call_need_live(w, call))
        return TRUE;
    struct call *j = call_new(w, call);
    j->number = port;
    j->done = connect_done;
    return call_start(j, run_connect);
}

static gboolean on_listen_vsock(VireoMachine1 *m, GDBusMethodInvocation *call, GUnixFDList *fds,
                                guint port, GVariant *listener, struct worker *w)
{
    err e = ERR_INIT;
    if (!call_need_live(w, call))
        return TRUE;
    int fd = fds ? g_unix_fd_list_get(fds, g_variant_get_handle(listener), NULL) : -1;
    if (fd < 0)
        err_set(&e, ERR_INVALID, "No listening socket came with the request.");
    if (fd >= 0 && vm_listen_guest(w->vm, port, fd, &e))
        vireo_machine1_complete_listen_vsock(m, call, NULL);
    else
        worker_fail(call, &e);
    if (fd >= 0)
        close(fd);
    return TRUE;
}

static gboolean on_info(VireoMachine1 *m, GDBusMethodInvocation *call, const char *topic,
                        struct worker *w)
{
    err e = ERR_INIT;
    GVariant *rows = worker_info(w, topic, &e);
    if (rows)
        vireo_machine1_complete_info(m, call, rows);
    else
        worker_fail(call, &e);
    return TRUE;
}

static void set_first_values(struct worker *w)
{
    VireoMachine1 *m = w->machine;
    vireo_machine1_set_state(m, "new");
    vireo_machine1_set_state_reason(m, "");
    vireo_machine1_set_id(m, w->id);
    vireo_machine1_set_name(m, "");
    vireo_machine1_set_version(m, VIREO_VERSION);
    vireo_machine1_set_process_id(m, (guint)getpid());
    vireo_machine1_set_backend(m, "");
    vireo_machine1_set_backend_note(m, "");
    vireo_machine1_set_heartbeat(m, "none");
    vireo_machine1_set_guest(m, g_variant_new("a{sv}", NULL));
    vireo_machine1_set_ending(m, g_variant_new("a{sv}", NULL));
    vireo_machine1_set_services(m, g_variant_new("a{ss}", NULL));
    vireo_machine1_set_disks(m, g_variant_new("aa{sv}", NULL));
    vireo_machine1_set_adapters(m, g_variant_new("aa{sv}", NULL));
    vireo_machine1_set_checkpoints(m, g_variant_new("aa{sv}", NULL));
}

void worker_export_machine(struct worker *w)
{
    static const struct {
        const char *signal;
        GCallback fn;
    } handlers[] = {
        {"handle-configure", G_CALLBACK(on_configure)},
        {"handle-start", G_CALLBACK(on_start)},
        {"handle-pause", G_CALLBACK(on_pause)},
        {"handle-resume", G_CALLBACK(on_resume)},
        {"handle-turn-off", G_CALLBACK(on_turn_off)},
        {"handle-reset", G_CALLBACK(on_reset)},
        {"handle-shutdown", G_CALLBACK(on_shutdown)},
        {"handle-inject-nmi", G_CALLBACK(on_nmi)},
        {"handle-press-power-button", G_CALLBACK(on_power_button)},
        {"handle-serial-break", G_CALLBACK(on_serial_break)},
        {"handle-open-serial", G_CALLBACK(on_serial)},
        {"handle-copy-file", G_CALLBACK(on_copy)},
        {"handle-set-guest-data", G_CALLBACK(on_guest_data)},
        {"handle-set-memory", G_CALLBACK(on_set_memory)},
        {"handle-connect-vsock", G_CALLBACK(on_connect_vsock)},
        {"handle-listen-vsock", G_CALLBACK(on_listen_vsock)},
        {"handle-info", G_CALLBACK(on_info)},
    };
    w->machine = vireo_machine1_skeleton_new();
    set_first_values(w);
    worker_export_checkpoints(w);
    worker_export_devices(w);
    for (size_t i = 0; i < G_N_ELEMENTS(handlers); i++)
        g_signal_connect(w->machine, handlers[i].signal, handlers[i].fn, w);
}
