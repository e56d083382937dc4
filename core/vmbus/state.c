/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The bus in a saved state: one section "VMBS" with the connection, then a field for each channel,
 * then two for each GPADL (header, page numbers). Rings need nothing: their indices are in guest
 * memory, which is restored first.
 */
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/vmbus/bus.h"

#define SECTION STATE_ID('V', 'M', 'B', 'S')
enum { TAG_CONNECTION = 1, TAG_CHANNEL = 10, TAG_GPADL = 20, TAG_GPADL_PAGES = 21 };

struct saved_connection {
    uint32_t version, target_vp, offers_requested, zero;
};
enum { CHANNEL_ORPHAN = 1, CHANNEL_SIGNAL_ALWAYS = 2, CHANNEL_PAUSED = 4 };
struct saved_channel {
    struct guid class_id, instance;
    uint32_t index, relid, state, target_vp, gpadl, out_page, flags, zero;
    uint8_t user[VMBUS_USER_BYTES];
};
struct saved_gpadl {
    uint32_t relid, id, byte_count, byte_offset;
};
_Static_assert(sizeof(struct saved_channel) == 184, "no padding in saved channels");

/* ---- save ---- */

static void save_channel(struct state_writer *w, const struct vmbus_channel *ch)
{
    const struct vmbus_device *dev = ch->dev;
    struct saved_channel s = {
        .class_id = dev->p.class_id,
        .instance = dev->p.instance,
        .index = ch->index,
        .relid = ch->relid,
        .state = ch->state,
        .target_vp = ch->target_vp,
        .gpadl = ch->ring_gpadl ? ch->ring_gpadl->id : 0,
        .out_page = ch->out_page,
        .flags = (dev->p.transient || dev->removing ? CHANNEL_ORPHAN : 0) |
                 (ch->signal_always ? CHANNEL_SIGNAL_ALWAYS : 0) |
                 (ch->paused ? CHANNEL_PAUSED : 0),
    };
    memcpy(s.user, ch->user, sizeof s.user);
    state_put(w, TAG_CHANNEL, &s, sizeof s);
}

static void save_gpadl(struct state_writer *w, const struct vmbus_gpadl *g)
{
    struct saved_gpadl s = {.relid = g->ch->relid,
                            .id = g->id,
                            .byte_count = g->byte_count,
                            .byte_offset = g->byte_offset};
    state_put(w, TAG_GPADL, &s, sizeof s);
    state_put(w, TAG_GPADL_PAGES, g->pfn, g->have * sizeof *g->pfn);
}

void vmbus_save(void *self, struct state_writer *w)
{
    struct vmbus *b = self;
    struct saved_connection c = {
        .version = b->version, .target_vp = b->target_vp, .offers_requested = b->offers_requested};
    state_begin(w, SECTION, 0, 1, 1);
    state_put(w, TAG_CONNECTION, &c, sizeof c);
    for (unsigned i = 1; i <= VMBUS_MAX_RELID; i++)
        if (b->by_relid[i])
            save_channel(w, b->by_relid[i]);
    for (unsigned i = 0; i < GPADL_BUCKETS; i++)
        for (const struct vmbus_gpadl *g = b->gpadls[i]; g; g = g->next)
            save_gpadl(w, g);
    state_end(w);
}

/* ---- restore ---- */

static bool damaged(err *e, const char *what)
{
    return err_set(e, ERR_CORRUPT, "The saved state of the virtual machine bus is damaged: %s",
                   what);
}

static bool restore_connection(struct vmbus *b, const struct state_field_view *f, err *e)
{
    struct saved_connection c;
    if (f->len != sizeof c)
        return damaged(e, "connection");
    memcpy(&c, f->data, sizeof c);
    if ((c.version && !vmbus_version_known(b, c.version)) || c.target_vp >= b->t.vp_count ||
        c.offers_requested > 1)
        return damaged(e, "connection");
    b->version = c.version;
    b->target_vp = c.target_vp;
    b->offers_requested = c.offers_requested;
    return true;
}

/* Stands for a device that the machine no longer has. */
static struct vmbus_device *orphan_device(struct vmbus *b, const struct saved_channel *s)
{
    struct vmbus_device *dev = calloc(1, sizeof *dev);
    if (!dev)
        return NULL;
    *dev = (struct vmbus_device){.bus = b, .removing = true, .next = b->devices};
    dev->p.class_id = s->class_id;
    dev->p.instance = s->instance;
    dev->p.ops = &vmbus_nobody;
    b->devices = dev;
    return dev;
}

static struct vmbus_device *device_for(struct vmbus *b, const struct saved_channel *s)
{
    for (struct vmbus_device *d = b->devices; d; d = d->next)
        if (!d->removing && !d->p.transient && guid_equal(&d->p.class_id, &s->class_id) &&
            guid_equal(&d->p.instance, &s->instance))
            return s->index <= d->p.max_subchannels && !d->channels[s->index] ? d : NULL;
    return NULL;
}

static bool restore_channel(struct vmbus *b, const struct state_field_view *f, err *e)
{
    struct saved_channel s;
    if (f->len != sizeof s)
        return damaged(e, "channel");
    memcpy(&s, f->data, sizeof s);
    if (!s.relid || s.relid > VMBUS_MAX_RELID || b->by_relid[s.relid] ||
        s.index > MAX_SUBCHANNELS || s.target_vp >= b->t.vp_count ||
        s.state < VMBUS_CHANNEL_OFFERED || s.state > VMBUS_CHANNEL_RESCINDED)
        return damaged(e, "channel");
    bool gone = (s.flags & CHANNEL_ORPHAN) || s.state == VMBUS_CHANNEL_RESCINDED;
    struct vmbus_device *dev = gone ? NULL : device_for(b, &s);
    gone = !dev;
    if (!dev)
        dev = orphan_device(b, &s);
    struct vmbus_channel *ch = dev ? vmbus_channel_new(dev, s.index, s.relid) : NULL;
    if (!ch)
        return err_set(e, ERR_NO_MEMORY, "There is no memory to restore a channel");
    ch->target_vp = s.target_vp;
    ch->state =
        s.state == VMBUS_CHANNEL_RESCINDED ? VMBUS_CHANNEL_RESCINDED : VMBUS_CHANNEL_OFFERED;
    ch->rescind_at_start = gone && s.state != VMBUS_CHANNEL_RESCINDED;
    if (ch->state == VMBUS_CHANNEL_RESCINDED)
        dev->channels[s.index] = NULL;
    return true;
}

static bool restore_open(struct vmbus *b, const struct state_field_view *f, err *e)
{
    struct saved_channel s;
    memcpy(&s, f->data, sizeof s); /* the length was checked in the first pass */
    struct vmbus_channel *ch = b->by_relid[s.relid];
    if (s.state != VMBUS_CHANNEL_OPEN || ch->rescind_at_start)
        return true;
    struct vmbus_gpadl *g = vmbus_gpadl_find(ch, s.gpadl);
    if (!g || !vmbus_channel_attach(ch, g, s.out_page))
        return damaged(e, "rings");
    memcpy(ch->user, s.user, sizeof ch->user);
    ch->state = VMBUS_CHANNEL_OPEN;
    ch->signal_always = s.flags & CHANNEL_SIGNAL_ALWAYS;
    ch->paused = s.flags & CHANNEL_PAUSED;
    return true;
}

static bool restore_gpadl(struct vmbus *b, const struct state_field_view *f,
                          struct vmbus_gpadl **out, err *e)
{
    struct saved_gpadl s;
    if (f->len != sizeof s)
        return damaged(e, "page list");
    memcpy(&s, f->data, sizeof s);
    struct vmbus_channel *ch = s.relid <= VMBUS_MAX_RELID ? b->by_relid[s.relid] : NULL;
    if (!ch || vmbus_gpadl_create(ch, s.id, s.byte_count, s.byte_offset, out))
        return damaged(e, "page list");
    return true;
}

static bool restore_pages(struct vmbus_gpadl *g, const struct state_field_view *f, err *e)
{
    if (!g || f->len % 8 || f->len / 8 > g->npfn)
        return damaged(e, "page list");
    for (uint32_t i = 0; i < f->len; i += 8) {
        uint64_t pfn = get_le64(f->data + i);
        if (!vmbus_gpadl_append(g, &pfn, 1))
            return err_set(e, ERR_NO_MEMORY, "There is no memory to restore a page list");
    }
    return true;
}

static bool restore_pass(struct vmbus *b, const struct state_section *s, unsigned pass, err *e)
{
    struct state_field_view f;
    struct vmbus_gpadl *g = NULL;
    size_t pos = 0;
    while (state_field_next(s, &pos, &f, e)) {
        bool ok = true;
        if (pass == 0 && f.tag == TAG_CONNECTION)
            ok = restore_connection(b, &f, e);
        else if (pass == 0 && f.tag == TAG_CHANNEL)
            ok = restore_channel(b, &f, e);
        else if (pass == 1 && f.tag == TAG_GPADL)
            ok = restore_gpadl(b, &f, &g, e);
        else if (pass == 1 && f.tag == TAG_GPADL_PAGES)
            ok = restore_pages(g, &f, e);
        else if (pass == 2 && f.tag == TAG_CHANNEL)
            ok = restore_open(b, &f, e);
        if (!ok)
            return false;
    }
    return e->code == ERR_NONE;
}

bool vmbus_restore(void *self, const struct state_reader *r, err *e)
{
    struct vmbus *b = self;
    struct state_section s;
    err mine = ERR_INIT;
    bool ok = state_find(r, SECTION, 0, &s, &mine);
    if (ok && s.least_reader > 1)
        ok = err_set(&mine, ERR_UNSUPPORTED, "The state was saved by a newer version of Vireo");
    for (unsigned pass = 0; ok && pass < 3; pass++)
        ok = restore_pass(b, &s, pass, &mine);
    if (!ok && e)
        *e = mine;
    return ok;
}
