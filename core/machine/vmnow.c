/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The configuration of a machine as it is now. */
#include "core/machine/vmsave.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/cleanup.h"
#include "core/machine/vm-int.h"

static enum vm_bus bus_of(const struct vm_disk_info *d)
{
    if (d->floppy)
        return VM_BUS_FLOPPY;
    return strncmp(d->id, "ide", 3) == 0 ? VM_BUS_IDE : VM_BUS_SCSI;
}

static enum vm_media media_of(const struct vm_disk_info *d)
{
    return d->floppy ? VM_MEDIA_FLOPPY : d->dvd ? VM_MEDIA_DVD : VM_MEDIA_DISK;
}

static bool now_disk(struct vm_config *c, const struct vm_disk_info *d, err *e)
{
    struct vm_disk *to = NULL;
    for (uint32_t i = 0; i < c->n_disks && !to; i++)
        if (c->disks[i].bus == bus_of(d) && c->disks[i].slot == d->lun)
            to = &c->disks[i];
    if (!to && !(to = vm_config_add_disk(c, bus_of(d), media_of(d), NULL, e)))
        return false;
    to->slot = d->lun;
    to->media = media_of(d);
    to->read_only = d->read_only && !d->dvd;
    return vm_config_string(&to->path, d->path, e);
}

static bool now_disks(struct vm *v, struct vm_config *c, err *e)
{
    struct vm_disk_info *list = calloc(VM_PLACES, sizeof *list);
    if (!list)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory");
    unsigned n = vm_list_disks(v, list, VM_PLACES);
    bool ok = true;
    for (uint32_t i = c->n_disks; i-- > 0;) {
        bool there = false;
        for (unsigned k = 0; k < n; k++)
            there |= c->disks[i].bus == bus_of(&list[k]) && c->disks[i].slot == list[k].lun;
        if (!there)
            vm_config_remove_disk(c, i);
    }
    for (unsigned k = 0; ok && k < n; k++)
        ok = now_disk(c, &list[k], e);
    free(list);
    return ok;
}

static bool now_adapter(struct vm_config *c, const struct vm_adapter_info *a, err *e)
{
    struct vm_adapter *to = NULL;
    const struct vm_adapter_settings *s = &a->settings;
    char forwards[VM_FORWARDS * 48] = "";
    for (uint32_t i = 0; i < c->n_adapters && !to; i++)
        if (!memcmp(c->adapters[i].mac.b, a->mac, 6))
            to = &c->adapters[i];
    if (!to && !(to = vm_config_add_adapter(c, VM_SWITCH_NONE, e)))
        return false;
    memcpy(to->mac.b, a->mac, 6);
    const char *colon = strchr(s->where, ':');
    to->kind = !strcmp(s->where, "nat")            ? VM_SWITCH_NAT
               : !strncmp(s->where, "private:", 8) ? VM_SWITCH_PRIVATE
               : !strncmp(s->where, "tap:", 4)     ? VM_SWITCH_DEVICE
                                                   : VM_SWITCH_NONE;
    for (unsigned i = 0; i < s->nforwards; i++) {
        size_t n = strlen(forwards);
        char one[48];
        net_forward_format(&s->forwards[i], one, sizeof one);
        snprintf(forwards + n, sizeof forwards - n, "%s%s", n ? " " : "", one);
    }
    to->mac_spoofing = s->spoofing;
    to->host_access = s->host_loopback;
    to->vlan = s->vlan;
    to->bandwidth = (uint32_t)(s->bandwidth / 1000000);
    return vm_config_string(&to->name, colon ? colon + 1 : NULL, e) &&
           vm_config_string(&to->forwards, forwards, e);
}

static bool now_adapters(struct vm *v, struct vm_config *c, err *e)
{
    struct vm_adapter_info list[VM_NETS];
    unsigned n = vm_list_adapters(v, list, VM_NETS);
    for (uint32_t i = c->n_adapters; i-- > 0;) {
        bool there = c->adapters[i].legacy;
        for (unsigned k = 0; k < n; k++)
            there |= !memcmp(c->adapters[i].mac.b, list[k].mac, 6);
        if (!there)
            vm_config_remove_adapter(c, i);
    }
    for (unsigned k = 0; k < n; k++)
        if (!now_adapter(c, &list[k], e))
            return false;
    return true;
}

struct vm_config *vm_config_now(struct vm *v, const struct vm_config *base, err *e)
{
    AUTO(vm_config) c = vm_config_copy(base, e);
    return c && now_disks(v, c, e) && now_adapters(v, c, e) ? TAKE(c) : NULL;
}
