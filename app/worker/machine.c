/* SPDX-License-Identifier: GPL-3.0-or-later */
/* org.vireo.Machine1: each method checks its arguments, does what it says by core/machine/vm.h, and
 * answers. What may take long runs in a thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/worker/sandbox.h"
#include "app/worker/worker.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"

enum { MAX_LISTED = 64 };

/* ---- calls in threads ---- */

struct job {
    struct worker *w;
    GDBusMethodInvocation *call;
    bool (*run)(struct job *j, err *e); /* in a thread */
    void (*done)(struct job *j);        /* on the main thread: answers; NULL: an empty answer */
    err error;
    bool ok;
    /* arguments and results */
    char *text, *text2;
    int fd, kind;
    uint32_t number;
    uint64_t size;
    bool flag, flag2, ends; /* ends: the worker is of no use if it fails */
    struct vm_disk_request disk;
    struct vm_adapter_settings adapter;
    uint8_t mac[6];
    char id[VM_ID_LEN];
};

static void job_free(struct job *j)
{
    auto_close(j->fd);
    g_free(j->text);
    g_free(j->text2);
    g_free(j);
}

/* A worker whose machine cannot be made is of no use: it goes. */
static gboolean start_failed(struct worker *w, GDBusMethodInvocation *call, const err *e)
{
    g_autofree char *text = g_utf8_make_valid(e->text, -1);
    worker_fail(call, e);
    worker_end(w, "off", text);
    return TRUE;
}

static gboolean job_finish(gpointer data)
{
    struct job *j = data;
    j->w->busy--;
    if (!j->ok && j->ends)
        start_failed(j->w, j->call, &j->error);
    else if (!j->ok)
        worker_fail(j->call, &j->error);
    else if (j->done)
        j->done(j);
    else
        g_dbus_method_invocation_return_value(j->call, NULL);
    job_free(j);
    return G_SOURCE_REMOVE;
}

static void job_thread(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
    struct job *j = data;
    j->ok = j->run(j, &j->error);
    g_idle_add(job_finish, j);
}

static struct job *job_new(struct worker *w, GDBusMethodInvocation *call)
{
    struct job *j = g_new0(struct job, 1);
    j->w = w;
    j->call = call;
    j->fd = -1;
    return j;
}

static gboolean job_start(struct job *j, bool (*run)(struct job *j, err *e))
{
    g_autoptr(GTask) task = g_task_new(NULL, NULL, NULL, NULL);
    j->run = run;
    j->w->busy++;
    g_task_set_task_data(task, j, NULL);
    g_task_run_in_thread(task, job_thread);
    return TRUE;
}

static gboolean fail(GDBusMethodInvocation *call, enum err_code code, const char *text)
{
    err e = ERR_INIT;
    err_set(&e, code, "%s", text);
    worker_fail(call, &e);
    return TRUE;
}

static gboolean is_live(struct worker *w)
{
    return w->vm && !w->ended && (worker_is(w, "running") || worker_is(w, "paused"));
}

/* Answers with an error unless the machine runs or is paused. */
static gboolean need_live(struct worker *w, GDBusMethodInvocation *call)
{
    if (is_live(w))
        return TRUE;
    fail(call, ERR_STATE, "The machine is not running.");
    return FALSE;
}

/* Only these keys may be there. */
static gboolean keys_known(GVariant *dict, const char *const *keys, GDBusMethodInvocation *call)
{
    GVariantIter iter;
    const char *key;
    g_variant_iter_init(&iter, dict);
    while (g_variant_iter_next(&iter, "{&sv}", &key, NULL)) {
        if (g_strv_contains(keys, key))
            continue;
        g_autofree char *text = g_strdup_printf("There is no option “%s”.", key);
        fail(call, ERR_INVALID, text);
        return FALSE;
    }
    return TRUE;
}

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

static bool option(GVariant *options, const char *key)
{
    gboolean b = FALSE;
    return g_variant_lookup(options, key, "b", &b) && b;
}

static void read_extra(struct worker *w, GVariant *options, GDBusMethodInvocation *call)
{
    w->extra = (struct vm_extra){.pc = option(options, "pc"),
                                 .multiboot = option(options, "multiboot"),
                                 .debug_exit = option(options, "debug-exit"),
                                 .test_devices = option(options, "test-devices"),
                                 .stop_on_reset = option(options, "stop-on-reset"),
                                 .stop_on_crash = option(options, "stop-on-crash")};
    w->self_restore = 0;
    g_variant_lookup(options, "self-restore", "u", &w->self_restore);
    if (option(options, "owned"))
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
        return fail(call, ERR_STATE, "The machine has its configuration already.");
    if (!keys_known(options, known, call))
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

static bool run_start(struct job *j, err *e)
{
    gboolean resumed = FALSE;
    bool ok = worker_begin(j->w, j->flag2, j->flag, &resumed, e);
    j->kind = resumed;
    return ok;
}

static void start_done(struct job *j)
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
        return fail(call, ERR_STATE,
                    w->config ? "The machine was started already."
                              : "The machine has no configuration yet.");
    if (!keys_known(options, known, call))
        return TRUE;
    g_variant_lookup(options, "paused", "b", &paused);
    g_variant_lookup(options, "discard", "b", &discard);
    worker_set_state(w, "starting", "");
    if (!worker_files_add(w->files, files, fds, &e) || !worker_make_vm(w, &e) ||
        !enter_sandbox(w, &e))
        return start_failed(w, call, &e);
    struct job *j = job_new(w, call);
    j->done = start_done;
    j->flag = paused;
    j->flag2 = discard;
    j->ends = TRUE;
    return job_start(j, run_start);
}

static gboolean on_pause(VireoMachine1 *m, GDBusMethodInvocation *call, struct worker *w)
{
    if (!need_live(w, call))
        return TRUE;
    vm_pause(w->vm);
    worker_set_state(w, "paused", "");
    vireo_machine1_complete_pause(m, call);
    return TRUE;
}

static gboolean on_resume(VireoMachine1 *m, GDBusMethodInvocation *call, struct worker *w)
{
    if (!need_live(w, call))
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

static bool run_reset(struct job *j, err *e)
{
    return vm_reset(j->w->vm, e);
}

static void reset_done(struct job *j)
{
    worker_set_state(j->w, "running", "");
    vireo_machine1_complete_reset(j->w->machine, j->call);
}

static gboolean on_reset(VireoMachine1 *m, GDBusMethodInvocation *call, struct worker *w)
{
    if (!need_live(w, call))
        return TRUE;
    struct job *j = job_new(w, call);
    j->done = reset_done;
    return job_start(j, run_reset);
}

static bool run_shutdown(struct job *j, err *e)
{
    return vm_shutdown(j->w->vm, (enum shutdown_kind)j->kind, j->flag, e);
}

static gboolean on_shutdown(VireoMachine1 *m, GDBusMethodInvocation *call, const char *action,
                            gboolean force, struct worker *w)
{
    static const char *const actions[] = {"shutdown", "reboot", "hibernate"};
    if (!need_live(w, call))
        return TRUE;
    for (int i = 0; i < 3; i++)
        if (strcmp(actions[i], action) == 0) {
            struct job *j = job_new(w, call);
            j->kind = i;
            j->flag = force;
            return job_start(j, run_shutdown);
        }
    return fail(call, ERR_INVALID, "The action is one of shutdown, reboot, hibernate.");
}

static gboolean on_nmi(VireoMachine1 *m, GDBusMethodInvocation *call, struct worker *w)
{
    if (!need_live(w, call))
        return TRUE;
    hv_partition_nmi(machine_partition(vm_machine(w->vm)), 0);
    vireo_machine1_complete_inject_nmi(m, call);
    return TRUE;
}

static gboolean on_power_button(VireoMachine1 *m, GDBusMethodInvocation *call, struct worker *w)
{
    if (!need_live(w, call))
        return TRUE;
    machine_press_power_button(vm_machine(w->vm));
    vireo_machine1_complete_press_power_button(m, call);
    return TRUE;
}

static gboolean on_serial_break(VireoMachine1 *m, GDBusMethodInvocation *call, guint port,
                                struct worker *w)
{
    if (!need_live(w, call))
        return TRUE;
    if (port < 1 || port > MACHINE_SERIALS)
        return fail(call, ERR_INVALID, "There is no such serial port.");
    machine_serial_break(vm_machine(w->vm), port - 1);
    vireo_machine1_complete_serial_break(m, call);
    return TRUE;
}

/* ---- disks ---- */

static bool run_add_disk(struct job *j, err *e)
{
    j->disk.path = j->text;
    return vm_add_disk(j->w->vm, &j->disk, j->id, e);
}

static void add_disk_done(struct job *j)
{
    vireo_machine1_complete_add_disk(j->w->machine, j->call, NULL, j->id);
}

static gboolean on_add_disk(VireoMachine1 *m, GDBusMethodInvocation *call, GUnixFDList *fds,
                            GVariant *disk, GVariant *files, struct worker *w)
{
    static const char *const known[] = {"path", "kind", "controller", "lun", "read-only", NULL};
    err e = ERR_INIT;
    const char *kind = "disk", *path = NULL;
    guint32 lun = UINT32_MAX, controller = 0;
    gboolean read_only = FALSE;
    if (!need_live(w, call) || !keys_known(disk, known, call))
        return TRUE;
    g_variant_lookup(disk, "path", "&s", &path);
    g_variant_lookup(disk, "kind", "&s", &kind);
    g_variant_lookup(disk, "lun", "u", &lun);
    g_variant_lookup(disk, "controller", "u", &controller);
    g_variant_lookup(disk, "read-only", "b", &read_only);
    gboolean dvd = strcmp(kind, "dvd") == 0;
    if ((!dvd && strcmp(kind, "disk") != 0) || controller || (lun != UINT32_MAX && lun >= VM_LUNS))
        return fail(call, ERR_INVALID, "There is no such place for a disk.");
    if (!worker_files_add(w->files, files, fds, &e)) {
        worker_fail(call, &e);
        return TRUE;
    }
    struct job *j = job_new(w, call);
    j->text = path && *path ? g_strdup(path) : NULL;
    j->disk = (struct vm_disk_request){
        .dvd = dvd, .read_only = read_only, .lun = lun == UINT32_MAX ? -1 : (int)lun};
    j->done = add_disk_done;
    return job_start(j, run_add_disk);
}

static bool run_remove_disk(struct job *j, err *e)
{
    return vm_remove_disk(j->w->vm, j->text, e);
}

static gboolean on_remove_disk(VireoMachine1 *m, GDBusMethodInvocation *call, const char *id,
                               struct worker *w)
{
    if (!need_live(w, call))
        return TRUE;
    struct job *j = job_new(w, call);
    j->text = g_strdup(id);
    return job_start(j, run_remove_disk);
}

static bool run_resize_disk(struct job *j, err *e)
{
    return vm_resize_disk(j->w->vm, j->text, j->size, e);
}

static gboolean on_resize_disk(VireoMachine1 *m, GDBusMethodInvocation *call, const char *id,
                               guint64 size, struct worker *w)
{
    if (!need_live(w, call))
        return TRUE;
    struct job *j = job_new(w, call);
    j->text = g_strdup(id);
    j->size = size;
    return job_start(j, run_resize_disk);
}

static bool run_medium(struct job *j, err *e)
{
    return vm_set_medium(j->w->vm, j->text, j->text2, j->flag, e);
}

static void medium_done(struct job *j)
{
    if (j->text2)
        vireo_machine1_complete_insert_media(j->w->machine, j->call, NULL);
    else
        vireo_machine1_complete_eject_media(j->w->machine, j->call);
}

static gboolean on_insert(VireoMachine1 *m, GDBusMethodInvocation *call, GUnixFDList *fds,
                          const char *id, const char *path, GVariant *files, struct worker *w)
{
    err e = ERR_INIT;
    if (!need_live(w, call))
        return TRUE;
    if (!worker_files_add(w->files, files, fds, &e)) {
        worker_fail(call, &e);
        return TRUE;
    }
    struct job *j = job_new(w, call);
    j->text = g_strdup(id);
    j->text2 = g_strdup(path);
    j->done = medium_done;
    return job_start(j, run_medium);
}

static gboolean on_eject(VireoMachine1 *m, GDBusMethodInvocation *call, const char *id,
                         gboolean force, struct worker *w)
{
    if (!need_live(w, call))
        return TRUE;
    struct job *j = job_new(w, call);
    j->text = g_strdup(id);
    j->flag = !force;
    j->done = medium_done;
    return job_start(j, run_medium);
}

/* ---- adapters ---- */

static bool read_mac(const char *s, uint8_t mac[6])
{
    unsigned v[6];
    char end;
    if (sscanf(s, "%2x%*1[:-]%2x%*1[:-]%2x%*1[:-]%2x%*1[:-]%2x%*1[:-]%2x%c", &v[0], &v[1], &v[2],
               &v[3], &v[4], &v[5], &end) != 6 ||
        v[0] & 1)
        return false;
    for (unsigned i = 0; i < 6; i++)
        mac[i] = (uint8_t)v[i];
    return true;
}

static bool read_forwards(GVariant *d, struct vm_adapter_settings *s, err *e)
{
    g_autofree const char **list = NULL;
    if (!g_variant_lookup(d, "forwards", "^a&s", &list))
        return true;
    g_autofree char *joined = g_strjoinv(" ", (char **)list);
    return vm_parse_forwards(joined, s, e);
}

/* Overrides what is named. */
static bool read_settings(GVariant *d, struct vm_adapter_settings *s, err *e)
{
    const char *where = NULL;
    gboolean b;
    g_variant_lookup(d, "switch", "&s", &where);
    if (where && g_strlcpy(s->where, where, sizeof s->where) >= sizeof s->where)
        return err_set(e, ERR_INVALID, "The switch's name is too long.");
    if (g_variant_lookup(d, "connected", "b", &b))
        s->connected = b;
    if (g_variant_lookup(d, "spoofing", "b", &b))
        s->spoofing = b;
    if (g_variant_lookup(d, "loopback", "b", &b))
        s->host_loopback = b;
    g_variant_lookup(d, "vlan", "u", &s->vlan);
    g_variant_lookup(d, "bandwidth", "t", &s->bandwidth);
    return read_forwards(d, s, e);
}

/* A process that was started without inet sockets never gets them. */
static bool check_inet(struct worker *w, const struct vm_adapter_settings *s, err *e)
{
    if (w->inet || strcmp(s->where, "nat") != 0)
        return true;
    return err_set(e, ERR_DENIED,
                   "The machine was started without access to the network. Turn it off, connect an "
                   "adapter to the NAT, and start it again.");
}

static bool run_add_adapter(struct job *j, err *e)
{
    return vm_add_adapter(j->w->vm, &j->adapter, j->flag ? j->mac : NULL, j->id, e);
}

static void add_adapter_done(struct job *j)
{
    vireo_machine1_complete_add_adapter(j->w->machine, j->call, NULL, j->id);
}

static gboolean on_add_adapter(VireoMachine1 *m, GDBusMethodInvocation *call, GUnixFDList *fds,
                               GVariant *adapter, GVariant *files, struct worker *w)
{
    static const char *const known[] = {"mac",      "switch",   "connected", "vlan", "bandwidth",
                                        "spoofing", "loopback", "forwards",  NULL};
    err e = ERR_INIT;
    const char *mac = NULL;
    if (!need_live(w, call) || !keys_known(adapter, known, call))
        return TRUE;
    struct job *j = job_new(w, call);
    j->adapter = (struct vm_adapter_settings){.where = "nat", .connected = true};
    g_variant_lookup(adapter, "mac", "&s", &mac);
    j->flag = mac && *mac;
    if (j->flag && !read_mac(mac, j->mac))
        err_set(&e, ERR_INVALID, "“%s” is no address of one adapter.", mac);
    if (e.code || !read_settings(adapter, &j->adapter, &e) || !check_inet(w, &j->adapter, &e) ||
        !worker_files_add(w->files, files, fds, &e)) {
        worker_fail(call, &e);
        job_free(j);
        return TRUE;
    }
    j->done = add_adapter_done;
    return job_start(j, run_add_adapter);
}

static gboolean on_set_adapter(VireoMachine1 *m, GDBusMethodInvocation *call, GUnixFDList *fds,
                               const char *id, GVariant *changes, GVariant *files, struct worker *w)
{
    static const char *const known[] = {"switch",   "connected", "vlan",     "bandwidth",
                                        "spoofing", "loopback",  "forwards", NULL};
    err e = ERR_INIT;
    struct vm_adapter_info info;
    if (!need_live(w, call) || !keys_known(changes, known, call))
        return TRUE;
    if (!worker_files_add(w->files, files, fds, &e) || !vm_get_adapter(w->vm, id, &info, &e) ||
        !read_settings(changes, &info.settings, &e) || !check_inet(w, &info.settings, &e) ||
        !vm_set_adapter(w->vm, id, &info.settings, &e))
        worker_fail(call, &e);
    else
        vireo_machine1_complete_set_adapter(m, call, NULL);
    return TRUE;
}

static gboolean on_remove_adapter(VireoMachine1 *m, GDBusMethodInvocation *call, const char *id,
                                  struct worker *w)
{
    err e = ERR_INIT;
    if (!need_live(w, call))
        return TRUE;
    if (vm_remove_adapter(w->vm, id, &e))
        vireo_machine1_complete_remove_adapter(m, call);
    else
        worker_fail(call, &e);
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

static bool run_copy(struct job *j, err *e)
{
    return vm_copy_file(j->w->vm, j->fd, j->text, j->flag, j->flag2, e);
}

static void copy_done(struct job *j)
{
    vireo_machine1_complete_copy_file(j->w->machine, j->call, NULL);
}

static gboolean on_copy(VireoMachine1 *m, GDBusMethodInvocation *call, GUnixFDList *fds,
                        GVariant *file, const char *path, GVariant *options, struct worker *w)
{
    static const char *const known[] = {"overwrite", "create-path", NULL};
    gboolean overwrite = FALSE, create = FALSE;
    if (!need_live(w, call) || !keys_known(options, known, call))
        return TRUE;
    g_variant_lookup(options, "overwrite", "b", &overwrite);
    g_variant_lookup(options, "create-path", "b", &create);
    struct job *j = job_new(w, call);
    j->fd = fds ? g_unix_fd_list_get(fds, g_variant_get_handle(file), NULL) : -1;
    j->text = g_strdup(path);
    j->flag = overwrite;
    j->flag2 = create;
    j->done = copy_done;
    return job_start(j, run_copy);
}

static bool run_guest_data(struct job *j, err *e)
{
    return vm_set_guest_data(j->w->vm, j->text, j->text2, e);
}

static gboolean on_guest_data(VireoMachine1 *m, GDBusMethodInvocation *call, const char *key,
                              const char *value, struct worker *w)
{
    if (!need_live(w, call))
        return TRUE;
    struct job *j = job_new(w, call);
    j->text = g_strdup(key);
    j->text2 = g_strdup(value);
    return job_start(j, run_guest_data);
}

static gboolean on_set_memory(VireoMachine1 *m, GDBusMethodInvocation *call, guint64 bytes,
                              struct worker *w)
{
    err e = ERR_INIT;
    if (!need_live(w, call))
        return TRUE;
    if (vm_set_memory(w->vm, bytes, &e))
        vireo_machine1_complete_set_memory(m, call);
    else
        worker_fail(call, &e);
    return TRUE;
}

enum { VSOCK_WAIT_MS = 5000 };

static bool run_connect(struct job *j, err *e)
{
    j->fd = vm_connect_guest(j->w->vm, j->number, VSOCK_WAIT_MS, e);
    return j->fd >= 0;
}

static void connect_done(struct job *j)
{
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new_from_array(&j->fd, 1);
    j->fd = -1;
    vireo_machine1_complete_connect_vsock(j->w->machine, j->call, fds, g_variant_new_handle(0));
}

static gboolean on_connect_vsock(VireoMachine1 *m, GDBusMethodInvocation *call, GUnixFDList *in,
                                 guint port, struct worker *w)
{
    if (!need_live(w, call))
        return TRUE;
    struct job *j = job_new(w, call);
    j->number = port;
    j->done = connect_done;
    return job_start(j, run_connect);
}

static gboolean on_listen_vsock(VireoMachine1 *m, GDBusMethodInvocation *call, GUnixFDList *fds,
                                guint port, GVariant *listener, struct worker *w)
{
    err e = ERR_INIT;
    if (!need_live(w, call))
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
        {"handle-add-disk", G_CALLBACK(on_add_disk)},
        {"handle-remove-disk", G_CALLBACK(on_remove_disk)},
        {"handle-resize-disk", G_CALLBACK(on_resize_disk)},
        {"handle-insert-media", G_CALLBACK(on_insert)},
        {"handle-eject-media", G_CALLBACK(on_eject)},
        {"handle-add-adapter", G_CALLBACK(on_add_adapter)},
        {"handle-set-adapter", G_CALLBACK(on_set_adapter)},
        {"handle-remove-adapter", G_CALLBACK(on_remove_adapter)},
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
    for (size_t i = 0; i < G_N_ELEMENTS(handlers); i++)
        g_signal_connect(w->machine, handlers[i].signal, handlers[i].fn, w);
}
