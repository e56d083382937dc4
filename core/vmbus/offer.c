/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Devices and their channels as offers: relids, OFFERCHANNEL, RESCIND, hot add and remove. */
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/vmbus/bus.h"

/* ---- channels come and go ---- */

static unsigned free_relid(const struct vmbus *b)
{
    unsigned relid = 1;
    while (relid <= VMBUS_MAX_RELID && b->by_relid[relid])
        relid++;
    return relid <= VMBUS_MAX_RELID ? relid : 0;
}

struct vmbus_channel *vmbus_channel_new(struct vmbus_device *dev, unsigned index, unsigned relid)
{
    struct vmbus *b = dev->bus;
    if (!relid)
        relid = free_relid(b);
    struct vmbus_channel *ch = relid ? calloc(1, sizeof *ch) : NULL;
    if (!ch)
        return NULL;
    *ch = (struct vmbus_channel){.bus = b,
                                 .dev = dev,
                                 .index = index,
                                 .relid = relid,
                                 .connection = VMBUS_SINT << 12 | relid,
                                 .state = VMBUS_CHANNEL_UNOFFERED,
                                 .event_fd = -1};
    b->by_relid[relid] = ch;
    dev->channels[index] = ch;
    dev->refs++;
    return ch;
}

void vmbus_channel_offer(struct vmbus_channel *ch)
{
    const struct vmbus_device_params *p = &ch->dev->p;
    struct vmbus_msg_offer m = {.h.type = VMBUS_MSG_OFFER,
                                .class_id = p->class_id,
                                .instance = p->instance,
                                .flags = p->flags,
                                .mmio_mib = p->mmio_mib,
                                .sub_index = (uint16_t)ch->index,
                                .relid = ch->relid,
                                .dedicated_interrupt = 1,
                                .connection = ch->connection};
    memcpy(m.user, p->user, sizeof m.user);
    ch->state = VMBUS_CHANNEL_OFFERED;
    vmbus_post(ch->bus, &m, sizeof m);
}

void vmbus_channel_free(struct vmbus_channel *ch)
{
    struct vmbus *b = ch->bus;
    struct vmbus_device *dev = ch->dev;
    vmbus_gpadl_free_of(b, ch);
    if (dev->channels[ch->index] == ch)
        dev->channels[ch->index] = NULL;
    free(ch);
    vmbus_device_unref(dev);
}

void vmbus_channel_rescind(struct vmbus_channel *ch)
{
    struct vmbus *b = ch->bus;
    if (ch->state == VMBUS_CHANNEL_RESCINDED)
        return;
    if (ch->state == VMBUS_CHANNEL_OPEN)
        vmbus_channel_close(ch);
    if (ch->state == VMBUS_CHANNEL_RESCINDED)
        return; /* the provider removed its device because of the closing */
    bool told = ch->state != VMBUS_CHANNEL_UNOFFERED;
    ch->state = VMBUS_CHANNEL_RESCINDED;
    if (ch->dev->channels[ch->index] == ch)
        ch->dev->channels[ch->index] = NULL;
    if (!ch->busy)
        vmbus_gpadl_free_of(b, ch); /* no teardown will come */
    if (!told) {
        vmbus_channel_release(ch);
        return;
    }
    struct vmbus_msg_relid m = {.h.type = VMBUS_MSG_RESCIND, .relid = ch->relid};
    if (b->ending != ENDING_NOT)
        return; /* everything goes at the end, and that kernel does not listen any more */
    vmbus_post(b, &m, sizeof m);
}

void vmbus_channel_release(struct vmbus_channel *ch)
{
    ch->bus->by_relid[ch->relid] = NULL;
    ch->state = VMBUS_CHANNEL_FREE;
    if (!ch->busy)
        vmbus_channel_free(ch);
}

/* Whether an earlier device with that instance is still to be released by the guest. Offered anew
 * before that, Linux takes it for the earlier one, come back from hibernation
 * (find_primary_channel_by_offer in drivers/hv/channel_mgmt.c), and falls over its remains. */
static bool is_leaving(const struct vmbus *b, const struct guid *instance)
{
    for (const struct vmbus_device *d = b->devices; d; d = d->next)
        if (d->removing && guid_equal(&d->p.instance, instance))
            return true;
    return false;
}

void vmbus_offer_all(struct vmbus *b)
{
    /* Devices are kept newest first; guests name disks and adapters in the order of offers. */
    struct vmbus_device *order[VMBUS_MAX_RELID];
    unsigned n = 0;
    for (struct vmbus_device *d = b->devices; d && n < ARRAY_LEN(order); d = d->next)
        if (!d->removing && !d->channels[0] && !is_leaving(b, &d->p.instance))
            order[n++] = d;
    while (n) {
        struct vmbus_channel *ch = vmbus_channel_new(order[--n], 0, 0);
        if (ch)
            vmbus_channel_offer(ch);
    }
}

/* ---- devices ---- */

/* Offers the device that waited for that. */
static void offer_waiting(struct vmbus *b, const struct guid *instance)
{
    if (!b->offers_requested || b->ending != ENDING_NOT || is_leaving(b, instance))
        return;
    for (struct vmbus_device *d = b->devices; d; d = d->next)
        if (!d->removing && !d->channels[0] && guid_equal(&d->p.instance, instance)) {
            struct vmbus_channel *ch = vmbus_channel_new(d, 0, 0);
            if (ch)
                vmbus_channel_offer(ch);
            return;
        }
}

void vmbus_device_unref(struct vmbus_device *dev)
{
    if (--dev->refs)
        return;
    struct vmbus *b = dev->bus;
    struct guid instance = dev->p.instance;
    struct vmbus_device **at = &b->devices;
    while (*at != dev)
        at = &(*at)->next;
    *at = dev->next;
    if (dev->p.ops->removed)
        dev->p.ops->removed(dev->p.ctx);
    free(dev);
    offer_waiting(b, &instance);
}

static bool instance_in_use(const struct vmbus *b, const struct guid *instance)
{
    for (const struct vmbus_device *d = b->devices; d; d = d->next)
        if (!d->removing && guid_equal(&d->p.instance, instance))
            return true;
    return false;
}

struct vmbus_device *vmbus_device_add(struct vmbus *b, const struct vmbus_device_params *p, err *e)
{
    char name[GUID_STR_LEN + 1];
    guid_format(&p->instance, name);
    if (instance_in_use(b, &p->instance)) {
        err_set(e, ERR_EXISTS, "The machine has a device with the instance %s already", name);
        return NULL;
    }
    struct vmbus_device *dev = calloc(1, sizeof *dev);
    if (!dev) {
        err_set(e, ERR_NO_MEMORY, "There is no memory for the device %s", name);
        return NULL;
    }
    *dev = (struct vmbus_device){.bus = b, .p = *p, .refs = 1, .next = b->devices};
    dev->p.max_subchannels = MIN(p->max_subchannels, MAX_SUBCHANNELS);
    b->devices = dev;
    if (!b->offers_requested || is_leaving(b, &p->instance))
        return dev;
    struct vmbus_channel *ch = vmbus_channel_new(dev, 0, 0);
    if (!ch) {
        b->devices = dev->next;
        free(dev);
        err_set(e, ERR_NO_SPACE, "The machine has no room for the device %s", name);
        return NULL;
    }
    vmbus_channel_offer(ch);
    return dev;
}

/* Stands in when the provider has gone and its offer has not. */
static void nobody_closed(void *ctx, struct vmbus_channel *ch)
{
}
const struct vmbus_provider_ops vmbus_nobody = {.name = "(removed)", .closed = nobody_closed};

void vmbus_device_remove(struct vmbus_device *dev)
{
    if (dev->removing)
        return;
    dev->removing = true;
    for (unsigned i = MAX_SUBCHANNELS + 1; i--;)
        if (dev->channels[i])
            vmbus_channel_rescind(dev->channels[i]);
    if (!dev->p.ops->removed)
        dev->p.ops = &vmbus_nobody;
    vmbus_device_unref(dev);
}

unsigned vmbus_device_offer_subchannels(struct vmbus_device *dev, unsigned count)
{
    unsigned made = 0;
    if (!vmbus_device_channel(dev, 0))
        return 0;
    for (unsigned i = 1; i <= dev->p.max_subchannels && made < count; i++) {
        if (dev->channels[i])
            continue;
        struct vmbus_channel *ch = vmbus_channel_new(dev, i, 0);
        if (!ch)
            break;
        vmbus_channel_offer(ch);
        made++;
    }
    return made;
}

struct vmbus_channel *vmbus_device_channel(struct vmbus_device *dev, unsigned index)
{
    struct vmbus_channel *ch = index <= MAX_SUBCHANNELS ? dev->channels[index] : NULL;
    return ch && ch->state == VMBUS_CHANNEL_OPEN ? ch : NULL;
}
