/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/live.h"

#include <gio/gunixfdlist.h>
#include <glib/gi18n.h>

#include "app/files.h"
#include "app/switches.h"

void vireo_live_adapter(VireoVm *vm, guint index)
{
    const struct vm_config *c = vireo_vm_get_config(vm);
    g_autoptr(GError) error = NULL;
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
    if (!vireo_vm_get_machine(vm) || !c || index >= c->n_adapters)
        return;
    const struct vm_adapter *a = &c->adapters[index];
    g_autofree char *where = vireo_switches_where(a);
    g_autofree char *id = g_strdup_printf("net%u", index);
    GVariant *files = vireo_files_collect_switch(where, fds, &error);
    if (!files) {
        vireo_vm_fail(vm, _("The adapter was not connected"), error);
        return;
    }
    vireo_vm_call_with_files(vm, "SetAdapter",
                             g_variant_new("(s@a{sv}@a(sh))", id, vireo_switches_adapter(a), files),
                             fds, _("The adapter was not connected"));
}

void vireo_live_add_adapter(VireoVm *vm, const struct vm_adapter *a)
{
    GVariantDict d;
    g_autoptr(GError) error = NULL;
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
    if (!vireo_vm_get_machine(vm))
        return;
    g_autofree char *where = vireo_switches_where(a);
    GVariant *files = vireo_files_collect_switch(where, fds, &error);
    if (!files) {
        vireo_vm_fail(vm, _("The adapter was not added"), error);
        return;
    }
    g_autoptr(GVariant) settings = g_variant_ref_sink(vireo_switches_adapter(a));
    g_autofree char *mac =
        g_strdup_printf("%02x:%02x:%02x:%02x:%02x:%02x", a->mac.b[0], a->mac.b[1], a->mac.b[2],
                        a->mac.b[3], a->mac.b[4], a->mac.b[5]);
    g_variant_dict_init(&d, settings);
    if (strcmp(mac, "00:00:00:00:00:00") != 0) /* else the worker gives one */
        g_variant_dict_insert(&d, "mac", "s", mac);
    vireo_vm_call_with_files(vm, "AddAdapter",
                             g_variant_new("(@a{sv}@a(sh))", g_variant_dict_end(&d), files), fds,
                             _("The adapter was not added"));
}

gboolean vireo_live_may_change_disk(VireoVm *vm, enum vm_bus bus)
{
    return !vireo_vm_is_active(vm) || (vireo_vm_get_machine(vm) && bus == VM_BUS_SCSI);
}

/* As the worker names it. */
static char *disk_id(const struct vm_disk *disk)
{
    if (disk->bus == VM_BUS_FLOPPY)
        return g_strdup("floppy0");
    return disk->bus == VM_BUS_IDE ? g_strdup_printf("ide%u:%u", disk->slot / 2, disk->slot % 2)
                                   : g_strdup_printf("scsi0:%u", disk->slot);
}

void vireo_live_add_disk(VireoVm *vm, const struct vm_disk *disk)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
    GVariantBuilder b;
    if (!vireo_vm_get_machine(vm))
        return;
    GVariant *files = vireo_files_collect_disk(disk->path, vireo_vm_get_folder(vm), disk->read_only,
                                               (enum vm_media)disk->media, fds, &error);
    if (!files) {
        vireo_vm_fail(vm, _("The disk was not added"), error);
        return;
    }
    g_variant_builder_init(&b, G_VARIANT_TYPE("a{sv}"));
    g_variant_builder_add(&b, "{sv}", "kind",
                          g_variant_new_string(disk->media == VM_MEDIA_DVD ? "dvd" : "disk"));
    if (disk->path)
        g_variant_builder_add(&b, "{sv}", "path", g_variant_new_string(disk->path));
    g_variant_builder_add(&b, "{sv}", "lun", g_variant_new_uint32(disk->slot));
    g_variant_builder_add(&b, "{sv}", "read-only", g_variant_new_boolean(disk->read_only));
    vireo_vm_call_with_files(vm, "AddDisk", g_variant_new("(a{sv}@a(sh))", &b, files), fds,
                             _("The disk was not added"));
}

void vireo_live_remove_disk(VireoVm *vm, const struct vm_disk *disk)
{
    g_autofree char *id = vireo_vm_get_machine(vm) ? disk_id(disk) : NULL;
    if (id)
        vireo_vm_call(vm, "RemoveDisk", g_variant_new("(s)", id), _("The disk was not removed"));
}

void vireo_live_resize_disk(VireoVm *vm, const struct vm_disk *disk, guint64 bytes)
{
    g_autofree char *id = disk_id(disk);
    vireo_vm_call(vm, "ResizeDisk", g_variant_new("(st)", id, bytes),
                  _("The disk was not resized"));
}

void vireo_live_insert(VireoVm *vm, const struct vm_disk *drive)
{
    g_autofree char *id = vireo_vm_get_machine(vm) ? disk_id(drive) : NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
    if (!id)
        return;
    if (!drive->path) {
        vireo_vm_call(vm, "EjectMedia", g_variant_new("(sb)", id, FALSE),
                      _("The disc was not ejected"));
        return;
    }
    GVariant *files =
        vireo_files_collect_disk(drive->path, vireo_vm_get_folder(vm), drive->read_only,
                                 (enum vm_media)drive->media, fds, &error);
    if (!files) {
        vireo_vm_fail(vm, _("The disc was not inserted"), error);
        return;
    }
    vireo_vm_call_with_files(vm, "InsertMedia", g_variant_new("(ss@a(sh))", id, drive->path, files),
                             fds, _("The disc was not inserted"));
}
