/* SPDX-License-Identifier: GPL-3.0-or-later */
/* org.vireo.Machine1: disks and adapters that come, change and go while the machine runs. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/worker/call.h"
#include "core/base/cleanup.h"

/* ---- disks ---- */

static bool run_add_disk(struct call *j, err *e)
{
    j->disk.path = j->text;
    return vm_add_disk(j->w->vm, &j->disk, j->id, e);
}

static void add_disk_done(struct call *j)
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
    if (!call_need_live(w, call) || !call_keys_known(disk, known, call))
        return TRUE;
    g_variant_lookup(disk, "path", "&s", &path);
    g_variant_lookup(disk, "kind", "&s", &kind);
    g_variant_lookup(disk, "lun", "u", &lun);
    g_variant_lookup(disk, "controller", "u", &controller);
    g_variant_lookup(disk, "read-only", "b", &read_only);
    gboolean dvd = strcmp(kind, "dvd") == 0;
    if ((!dvd && strcmp(kind, "disk") != 0) || controller || (lun != UINT32_MAX && lun >= VM_LUNS))
        return call_fail(call, ERR_INVALID, "There is no such place for a disk.");
    if (!worker_files_add(w->files, files, fds, &e)) {
        worker_fail(call, &e);
        return TRUE;
    }
    struct call *j = call_new(w, call);
    j->text = path && *path ? g_strdup(path) : NULL;
    j->disk = (struct vm_disk_request){
        .dvd = dvd, .read_only = read_only, .lun = lun == UINT32_MAX ? -1 : (int)lun};
    j->done = add_disk_done;
    return call_start(j, run_add_disk);
}

static bool run_remove_disk(struct call *j, err *e)
{
    return vm_remove_disk(j->w->vm, j->text, e);
}

static gboolean on_remove_disk(VireoMachine1 *m, GDBusMethodInvocation *call, const char *id,
                               struct worker *w)
{
    if (!call_need_live(w, call))
        return TRUE;
    struct call *j = call_new(w, call);
    j->text = g_strdup(id);
    return call_start(j, run_remove_disk);
}

static bool run_resize_disk(struct call *j, err *e)
{
    return vm_resize_disk(j->w->vm, j->text, j->size, e);
}

static gboolean on_resize_disk(VireoMachine1 *m, GDBusMethodInvocation *call, const char *id,
                               guint64 size, struct worker *w)
{
    if (!call_need_live(w, call))
        return TRUE;
    struct call *j = call_new(w, call);
    j->text = g_strdup(id);
    j->size = size;
    return call_start(j, run_resize_disk);
}

static bool run_medium(struct call *j, err *e)
{
    return vm_set_medium(j->w->vm, j->text, j->text2, j->flag, e);
}

static void medium_done(struct call *j)
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
    if (!call_need_live(w, call))
        return TRUE;
    if (!worker_files_add(w->files, files, fds, &e)) {
        worker_fail(call, &e);
        return TRUE;
    }
    struct call *j = call_new(w, call);
    j->text = g_strdup(id);
    j->text2 = g_strdup(path);
    j->done = medium_done;
    return call_start(j, run_medium);
}

static gboolean on_eject(VireoMachine1 *m, GDBusMethodInvocation *call, const char *id,
                         gboolean force, struct worker *w)
{
    if (!call_need_live(w, call))
        return TRUE;
    struct call *j = call_new(w, call);
    j->text = g_strdup(id);
    j->flag = !force;
    j->done = medium_done;
    return call_start(j, run_medium);
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

static bool run_add_adapter(struct call *j, err *e)
{
    return vm_add_adapter(j->w->vm, &j->adapter, j->flag ? j->mac : NULL, j->id, e);
}

static void add_adapter_done(struct call *j)
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
    if (!call_need_live(w, call) || !call_keys_known(adapter, known, call))
        return TRUE;
    struct call *j = call_new(w, call);
    j->adapter = (struct vm_adapter_settings){.where = "nat", .connected = true};
    g_variant_lookup(adapter, "mac", "&s", &mac);
    j->flag = mac && *mac;
    if (j->flag && !read_mac(mac, j->mac))
        err_set(&e, ERR_INVALID, "“%s” is no address of one adapter.", mac);
    if (e.code || !read_settings(adapter, &j->adapter, &e) || !check_inet(w, &j->adapter, &e) ||
        !worker_files_add(w->files, files, fds, &e)) {
        worker_fail(call, &e);
        call_free(j);
        return TRUE;
    }
    j->done = add_adapter_done;
    return call_start(j, run_add_adapter);
}

static gboolean on_set_adapter(VireoMachine1 *m, GDBusMethodInvocation *call, GUnixFDList *fds,
                               const char *id, GVariant *changes, GVariant *files, struct worker *w)
{
    static const char *const known[] = {"switch",   "connected", "vlan",     "bandwidth",
                                        "spoofing", "loopback",  "forwards", NULL};
    err e = ERR_INIT;
    struct vm_adapter_info info;
    if (!call_need_live(w, call) || !call_keys_known(changes, known, call))
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
    if (!call_need_live(w, call))
        return TRUE;
    if (vm_remove_adapter(w->vm, id, &e))
        vireo_machine1_complete_remove_adapter(m, call);
    else
        worker_fail(call, &e);
    return TRUE;
}

void worker_export_devices(struct worker *w)
{
    static const struct {
        const char *signal;
        GCallback fn;
    } handlers[] = {
        {"handle-add-disk", G_CALLBACK(on_add_disk)},
        {"handle-remove-disk", G_CALLBACK(on_remove_disk)},
        {"handle-resize-disk", G_CALLBACK(on_resize_disk)},
        {"handle-insert-media", G_CALLBACK(on_insert)},
        {"handle-eject-media", G_CALLBACK(on_eject)},
        {"handle-add-adapter", G_CALLBACK(on_add_adapter)},
        {"handle-set-adapter", G_CALLBACK(on_set_adapter)},
        {"handle-remove-adapter", G_CALLBACK(on_remove_adapter)},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(handlers); i++)
        g_signal_connect(w->machine, handlers[i].signal, handlers[i].fn, w);
}
