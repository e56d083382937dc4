/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/create.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <glib/gstdio.h>
#include <unistd.h>

#include "app/disk-job.h"
#include "app/error.h"
#include "core/machine/iso.h"
#include "core/machine/vm.h"
#include "core/storage/disk-tool.h"

typedef struct {
    VireoCreateRequest *request;
    struct store *store;
    struct vm_config *config;
    char *folder; /* the machine's own */
    VireoProgress progress;
    gpointer progress_data;
} Job;

static void free_request(VireoCreateRequest *r)
{
    g_free(r->name);
    g_free(r->place);
    g_free(r->image);
    g_free(r->kernel);
    g_free(r->initrd);
    g_free(r->cmdline);
    g_free(r->kernel_disk);
    g_clear_object(&r->entry);
    g_free(r->user);
    g_free(r->password);
    g_free(r->key);
    g_free(r->host);
    g_free(r->locale);
    g_free(r->zone);
    g_free(r);
}

static void free_job(gpointer data)
{
    Job *j = data;
    free_request(j->request);
    vm_config_free(j->config);
    g_free(j->folder);
    g_free(j);
}

/* ---- the configuration ---- */

static bool set_kernel(struct vm_config *c, const char *kernel, const char *initrd,
                       const char *cmdline, err *e)
{
    c->boot = VM_BOOT_LINUX;
    return vm_config_string(&c->kernel, kernel, e) && vm_config_string(&c->initrd, initrd, e) &&
           vm_config_string(&c->cmdline, cmdline, e);
}

/* Generation 1 has a BIOS that boots the image; until generation 2 has firmware, an installer's
 * kernel is started directly there. */
static bool set_installer(struct vm_config *c, const VireoCreateRequest *r, err *e)
{
    struct iso_linux l;
    AUTO(fd) fd = open(r->image, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, errno, "%s cannot be opened", r->image);
    return iso_find_linux(fd, &l, e) && set_kernel(c, "vmlinuz", "initrd.img", l.cmdline, e);
}

/* Whether the gallery's machine starts by its own boot loader, so that a new kernel inside is
 * honoured. */
static bool has_loader(const VireoCreateRequest *r)
{
    return vireo_gallery_entry_get_generation(r->entry) == 1 &&
           access(VM_FIRMWARE_BIOS, R_OK) == 0 && access(VM_FIRMWARE_VGA, R_OK) == 0;
}

static unsigned generation(const VireoCreateRequest *r)
{
    if (r->source == VIREO_SOURCE_GALLERY)
        return has_loader(r) ? 1 : 2;
    return r->source == VIREO_SOURCE_KERNEL ? 2 : r->generation;
}

static bool add_sources(struct vm_config *c, const VireoCreateRequest *r, err *e)
{
    enum vm_bus bus = c->generation == 1 ? VM_BUS_IDE : VM_BUS_SCSI;
    switch (r->source) {
    case VIREO_SOURCE_GALLERY:
        return vm_config_add_disk(c, bus, VM_MEDIA_DISK, "disk.vhdx", e) &&
               (c->generation == 1 || set_kernel(c, "vmlinuz", "initrd.img",
                                                 vireo_gallery_entry_get_cmdline(r->entry), e));
    case VIREO_SOURCE_ISO:
        return vm_config_add_disk(c, bus, VM_MEDIA_DISK, "disk.vhdx", e) &&
               vm_config_add_disk(c, bus, VM_MEDIA_DVD, r->image, e) &&
               (c->generation == 1 || set_installer(c, r, e));
    case VIREO_SOURCE_DISK: return vm_config_add_disk(c, bus, VM_MEDIA_DISK, r->image, e);
    case VIREO_SOURCE_KERNEL:
        if (*r->kernel_disk && !vm_config_add_disk(c, bus, VM_MEDIA_DISK, r->kernel_disk, e))
            return false;
        return set_kernel(c, r->kernel, r->initrd, r->cmdline, e);
    }
    return false;
}

static struct vm_config *make_config(const VireoCreateRequest *r, err *e)
{
    AUTO(vm_config) c = vm_config_new(e);
    if (!c)
        return NULL;
    c->generation = generation(r);
    c->memory = r->memory;
    c->cpus = r->cpus;
    c->memory_dynamic = r->dynamic;
    c->memory_min = MIN(c->memory_min, r->memory);
    c->memory_max = MAX(c->memory_max, r->memory);
    if (!vm_config_string(&c->name, r->name, e) || !add_sources(c, r, e) ||
        !vm_config_add_adapter(c, r->connected ? VM_SWITCH_NAT : VM_SWITCH_NONE, e))
        return NULL;
    if (r->entry && !vm_config_string(&c->os, vireo_gallery_entry_get_id(r->entry), e))
        return NULL;
    return TAKE(c);
}

/* ---- the disk and the installer, on a thread of their own ---- */

static bool make_disk(const Job *j, err *e)
{
    g_autofree char *path = g_build_filename(j->folder, "disk.vhdx", NULL);
    struct loop *loop = loop_new(e);
    const struct disk_create_params p = {
        .path = path,
        .format = DISK_FORMAT_VHDX,
        .type = DISK_DYNAMIC,
        .size = (uint64_t)j->request->disk_gib << 30,
    };
    bool ok = loop && disk_create(&p, loop, e);
    if (loop)
        loop_free(loop);
    return ok;
}

static bool extract_installer(const Job *j, err *e)
{
    struct iso_linux l;
    g_autofree char *kernel = g_build_filename(j->folder, "vmlinuz", NULL);
    g_autofree char *initrd = g_build_filename(j->folder, "initrd.img", NULL);
    AUTO(fd) fd = open(j->request->image, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, errno, "%s cannot be opened", j->request->image);
    return iso_find_linux(fd, &l, e) && iso_extract(fd, &l.kernel, kernel, e) &&
           iso_extract(fd, &l.initrd, initrd, e);
}

static void prepare_installer(GTask *task, gpointer source, gpointer data, GCancellable *c)
{
    const Job *j = data;
    err e = ERR_INIT;
    GError *error = NULL;
    bool direct = j->config->boot == VM_BOOT_LINUX;
    if (make_disk(j, &e) && (!direct || extract_installer(j, &e))) {
        g_task_return_boolean(task, TRUE);
        return;
    }
    vireo_error_set(&error, &e);
    g_task_return_error(task, error);
}

/* ---- step by step ---- */

static void undo(Job *j)
{
    g_autofree char *base = g_path_get_basename(j->folder);
    store_delete(j->store, base, 0, NULL);
}

/* Takes the task. */
static void done(GTask *task)
{
    Job *j = g_task_get_task_data(task);
    char id[GUID_STR_LEN + 1];
    guid_format(&j->config->id, id);
    g_task_return_pointer(task, g_strdup(id), g_free);
    g_object_unref(task);
}

static void failed(GTask *task, GError *error)
{
    undo(g_task_get_task_data(task));
    g_task_return_error(task, error);
    g_object_unref(task);
}

static void on_converted(GObject *source, GAsyncResult *result, gpointer data)
{
    GTask *task = data;
    Job *j = g_task_get_task_data(task);
    g_autofree char *raw = g_build_filename(j->folder, "disk.raw", NULL);
    GError *error = NULL;
    gboolean ok = vireo_disk_job_finish(result, NULL, &error);
    g_unlink(raw);
    if (ok)
        done(task);
    else
        failed(task, error);
}

static void on_converting(double fraction, gpointer data)
{
    Job *j = data;
    if (j->progress)
        j->progress(fraction, _("Packing the disk"), j->progress_data);
}

/* What is on the disk anyway. */
static void remove_kernel(const Job *j)
{
    g_autofree char *kernel = g_build_filename(j->folder, "vmlinuz", NULL);
    g_autofree char *initrd = g_build_filename(j->folder, "initrd.img", NULL);
    g_unlink(kernel);
    g_unlink(initrd);
}

/* The builder makes a raw disk; checkpoints want a VHDX. */
static void on_built(GObject *source, GAsyncResult *result, gpointer data)
{
    GTask *task = data;
    Job *j = g_task_get_task_data(task);
    GError *error = NULL;
    if (!vireo_gallery_build_finish(result, &error)) {
        failed(task, error);
        return;
    }
    g_autofree char *raw = g_build_filename(j->folder, "disk.raw", NULL);
    g_autofree char *vhdx = g_build_filename(j->folder, "disk.vhdx", NULL);
    if (j->config->boot != VM_BOOT_LINUX)
        remove_kernel(j);
    vireo_disk_job_async(VIREO_DISK_CONVERT, raw, vhdx, 0, on_converting, j,
                         g_task_get_cancellable(task), on_converted, task);
}

static void on_prepared(GObject *source, GAsyncResult *result, gpointer data)
{
    GTask *task = data;
    GError *error = NULL;
    if (g_task_propagate_boolean(G_TASK(result), &error))
        done(task);
    else
        failed(task, error);
}

/* The outer task holds the job for as long as the thread needs it. */
static void prepare(GTask *task)
{
    GTask *inner = g_task_new(NULL, NULL, on_prepared, task);
    g_task_set_task_data(inner, g_task_get_task_data(task), NULL);
    g_task_run_in_thread(inner, prepare_installer);
    g_object_unref(inner);
}

static void build(GTask *task)
{
    Job *j = g_task_get_task_data(task);
    const VireoGalleryBuild b = {
        .entry = j->request->entry,
        .folder = j->folder,
        .user = j->request->user,
        .password = j->request->password,
        .key = j->request->key,
        .host = j->request->host,
        .locale = j->request->locale,
        .zone = j->request->zone,
        .disk_gib = j->request->disk_gib,
    };
    vireo_gallery_build_async(&b, j->progress, j->progress_data, g_task_get_cancellable(task),
                              on_built, task);
}

void vireo_create_async(struct store *store, VireoCreateRequest *request, VireoProgress progress,
                        gpointer progress_data, GCancellable *cancellable,
                        GAsyncReadyCallback callback, gpointer data)
{
    GTask *task = g_task_new(NULL, cancellable, callback, data);
    Job *j = g_new0(Job, 1);
    err e = ERR_INIT;
    j->request = request;
    j->store = store;
    j->progress = progress;
    j->progress_data = progress_data;
    g_task_set_task_data(task, j, free_job);
    j->config = make_config(request, &e);
    GError *error = NULL;
    if (!j->config || !store_create(store, j->config, request->place, &e)) {
        vireo_error_set(&error, &e);
        g_task_return_error(task, error);
        g_object_unref(task);
        return;
    }
    char id[GUID_STR_LEN + 1];
    guid_format(&j->config->id, id);
    j->folder = g_build_filename(store_root(store), id, NULL);
    if (request->source == VIREO_SOURCE_GALLERY)
        build(task);
    else if (request->source == VIREO_SOURCE_ISO)
        prepare(task);
    else
        done(task);
}

char *vireo_create_finish(GAsyncResult *result, GError **error)
{
    return g_task_propagate_pointer(G_TASK(result), error);
}
