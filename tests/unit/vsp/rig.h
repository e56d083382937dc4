/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A fake guest with a console, and what tests of providers do with devices again and again. */
#ifndef VIREO_TESTS_VSP_RIG_H
#define VIREO_TESTS_VSP_RIG_H

#include <stdlib.h>

#include "check.h"
#include "core/base/bytes.h"
#include "core/base/state.h"
#include "core/vsp/console.h"
#include "fake-guest.h"

struct rig {
    struct fake_guest *g;
    struct console *console;
};

static inline void rig_begin(struct rig *r)
{
    err e = ERR_INIT;
    r->g = fake_guest_new(NULL);
    r->console = console_new(r->g->loop, &e);
}

static inline void rig_end(struct rig *r)
{
    console_free(r->console);
    fake_settle(r->g);
    fake_guest_free(r->g);
}

static inline struct fake_channel *rig_open(struct rig *r, const struct guid *class_id,
                                            unsigned pages)
{
    const struct vmbus_msg_offer *o = fake_offer_of(r->g, class_id, 0);
    CHECK(o != NULL);
    return o ? fake_open(r->g, o, pages, NULL) : NULL;
}

/* Saves the bus and a device; restores both into another rig whose guest memory is made the same.
 * The rings live in guest memory: the channel goes on there. */
static inline bool rig_move(struct rig *from, struct device old, struct rig *to,
                            struct device fresh, struct fake_channel *ch)
{
    size_t len;
    err e = ERR_INIT;
    struct state_writer *w = state_writer_new();
    struct device a = vmbus_as_device(from->g->bus), b = vmbus_as_device(to->g->bus);
    a.ops->save(a.self, w);
    old.ops->save(old.self, w);
    const uint8_t *data = state_writer_data(w, &len, &e);
    struct state_reader r = {.data = data, .len = len};
    memcpy(to->g->host, from->g->host, from->g->ram_size);
    bool ok = data && b.ops->restore(b.self, &r, &e) && fresh.ops->restore(fresh.self, &r, &e);
    if (!ok)
        fprintf(stderr, "%s\n", e.text);
    b.ops->start(b.self);
    fresh.ops->start(fresh.self);
    state_writer_free(w);
    if (!ch)
        return ok;
    /* The guest's end looks at the other memory now. */
    for (unsigned i = 0; i < ch->out.size / 4096; i++)
        ch->out.pages[i] = to->g->host + (ch->out.pages[i] - from->g->host);
    for (unsigned i = 0; i < ch->in.size / 4096; i++)
        ch->in.pages[i] = to->g->host + (ch->in.pages[i] - from->g->host);
    ch->out.control = (void *)(to->g->host + ((uint8_t *)ch->out.control - from->g->host));
    ch->in.control = (void *)(to->g->host + ((uint8_t *)ch->in.control - from->g->host));
    ch->g = to->g;
    return ok;
}

#endif
