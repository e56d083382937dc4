/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The control plane: what the guest's messages do. Each was copied to the host before it is read.
 */
#include "core/base/bytes.h"
#include "core/base/log.h"
#include "core/vmbus/bus.h"

static struct vmbus_channel *channel_of(struct vmbus *b, uint32_t relid)
{
    return relid <= VMBUS_MAX_RELID ? b->by_relid[relid] : NULL;
}

/* ---- contact and its end ---- */

bool vmbus_version_known(const struct vmbus *b, uint32_t v)
{
    static const uint32_t known[] = {VMBUS_VERSION(2, 4), VMBUS_VERSION(3, 0), VMBUS_VERSION(4, 0),
                                     VMBUS_VERSION(4, 1), VMBUS_VERSION(5, 0), VMBUS_VERSION(5, 1),
                                     VMBUS_VERSION(5, 2), VMBUS_VERSION(5, 3)};
    for (unsigned i = 0; i < ARRAY_LEN(known); i++)
        if (v == known[i])
            return v <= b->max_version;
    return false;
}

void vmbus_disconnect(struct vmbus *b)
{
    bool was = b->version != 0;
    for (unsigned i = 1; i <= VMBUS_MAX_RELID; i++)
        if (b->by_relid[i] && b->by_relid[i]->state == VMBUS_CHANNEL_OPEN)
            vmbus_channel_close(b->by_relid[i]);
    b->version = 0;
    b->offers_requested = false;
    b->ending = ENDING_NOT;
    vmbus_gpadl_free_of(b, NULL);
    for (unsigned i = 1; i <= VMBUS_MAX_RELID; i++)
        if (b->by_relid[i])
            vmbus_channel_release(b->by_relid[i]);
    for (struct vmbus_device *d = b->devices, *next; d; d = next) {
        next = d->next;
        if (d->p.transient)
            vmbus_device_remove(d);
    }
    if (was)
        vmbus_watch_tell(b);
}

static void answer_contact(struct vmbus *b)
{
    struct vmbus_msg_contact m = b->contact;
    bool ok = vmbus_version_known(b, m.version) &&
              (m.version < VMBUS_VERSION(5, 0) || m.sint == VMBUS_SINT);
    b->target_vp = m.target_vp < b->t.vp_count ? m.target_vp : 0;
    b->version = ok ? m.version : 0;
    struct vmbus_msg_version_response r = {
        .h.type = VMBUS_MSG_VERSION_RESPONSE,
        .supported = ok,
        .connection = m.version >= VMBUS_VERSION(5, 0) ? VMBUS_CONNECTION_MESSAGES : m.version};
    vmbus_post(b, &r, sizeof r);
    if (ok)
        vmbus_watch_tell(b);
}

static void answer_unload(struct vmbus *b)
{
    struct vmbus_msg_header r = {.type = VMBUS_MSG_UNLOAD_RESPONSE};
    vmbus_post(b, &r, sizeof r);
}

/* Every request of the old connection has left guest memory. */
static void finish_ending(struct vmbus *b)
{
    enum vmbus_ending was = b->ending;
    vmbus_disconnect(b);
    if (was == ENDING_UNLOAD)
        answer_unload(b);
    else if (was == ENDING_CONTACT)
        answer_contact(b);
}

static void end_connection(struct vmbus *b, enum vmbus_ending how)
{
    b->ending = how;
    b->busy_channels++; /* the end does not come before all are closed */
    for (unsigned i = 1; i <= VMBUS_MAX_RELID; i++)
        if (b->by_relid[i] && b->by_relid[i]->state == VMBUS_CHANNEL_OPEN)
            vmbus_channel_close(b->by_relid[i]);
    if (!--b->busy_channels)
        finish_ending(b);
}

static void torn_down(struct vmbus *b, struct vmbus_gpadl *g)
{
    struct vmbus_msg_gpadl_torndown r = {.h.type = VMBUS_MSG_GPADL_TORNDOWN, .gpadl = g->id};
    vmbus_gpadl_free(b, g);
    vmbus_post(b, &r, sizeof r);
}

static void answer_teardowns(struct vmbus_channel *ch)
{
    struct vmbus *b = ch->bus;
    for (unsigned i = 0; i < GPADL_BUCKETS; i++)
        for (struct vmbus_gpadl *g = b->gpadls[i], *next; g; g = next) {
            next = g->next;
            if (g->ch == ch && g->tearing)
                torn_down(b, g);
        }
}

void vmbus_no_longer_busy(struct vmbus_channel *ch)
{
    struct vmbus *b = ch->bus;
    if (ch->state == VMBUS_CHANNEL_FREE)
        vmbus_channel_free(ch);
    else if (ch->state == VMBUS_CHANNEL_RESCINDED)
        vmbus_gpadl_free_of(b, ch);
    else if (b->ending == ENDING_NOT)
        answer_teardowns(ch);
    if (b->ending != ENDING_NOT && !b->busy_channels)
        finish_ending(b);
}

static void on_contact(struct vmbus *b, const void *msg, size_t len)
{
    memcpy(&b->contact, msg, sizeof b->contact);
    b->t.drop_messages(b->t.ctx);
    end_connection(b, ENDING_CONTACT);
}

static void on_unload(struct vmbus *b, const void *msg, size_t len)
{
    end_connection(b, ENDING_UNLOAD);
}

static void on_request_offers(struct vmbus *b, const void *msg, size_t len)
{
    b->offers_requested = true;
    vmbus_offer_all(b);
    struct vmbus_msg_header r = {.type = VMBUS_MSG_ALL_OFFERS_DELIVERED};
    vmbus_post(b, &r, sizeof r);
}

/* ---- GPADLs ---- */

static void gpadl_created(struct vmbus *b, uint32_t relid, uint32_t id, uint32_t status)
{
    struct vmbus_msg_gpadl_created r = {
        .h.type = VMBUS_MSG_GPADL_CREATED, .relid = relid, .gpadl = id, .status = status};
    if (status)
        LOG_GUEST("vmbus", "GPADL 0x%x of channel %u refused (0x%x)", id, relid, status);
    vmbus_post(b, &r, sizeof r);
}

static void gpadl_pfns(struct vmbus *b, struct vmbus_gpadl *g, const uint8_t *pfn, size_t bytes)
{
    uint64_t page[VMBUS_MESSAGE_MAX / 8];
    uint32_t n = (uint32_t)MIN(bytes / 8, ARRAY_LEN(page));
    uint32_t relid = g->ch->relid, id = g->id;
    memcpy(page, pfn, n * 8);
    if (!vmbus_gpadl_append(g, page, n)) {
        vmbus_gpadl_free(b, g);
        gpadl_created(b, relid, id, VMBUS_STATUS_NO_MEMORY);
    } else if (vmbus_gpadl_complete(g)) {
        gpadl_created(b, relid, id, VMBUS_STATUS_OK);
    }
}

static void on_gpadl_header(struct vmbus *b, const void *msg, size_t len)
{
    struct vmbus_msg_gpadl_header m;
    memcpy(&m, msg, sizeof m);
    struct vmbus_channel *ch = channel_of(b, m.relid);
    uint32_t status = VMBUS_STATUS_INVALID_PARAMETER;
    struct vmbus_gpadl *g = NULL;
    if (ch && ch->state != VMBUS_CHANNEL_UNOFFERED && ch->state != VMBUS_CHANNEL_RESCINDED &&
        m.range_count == 1)
        status = vmbus_gpadl_create(ch, m.gpadl, m.byte_count, m.byte_offset, &g);
    if (g)
        gpadl_pfns(b, g, (const uint8_t *)msg + sizeof m, len - sizeof m);
    else if (!ch || ch->state != VMBUS_CHANNEL_RESCINDED) /* that wait has ended by the rescind */
        gpadl_created(b, m.relid, m.gpadl, status);
}

static void on_gpadl_body(struct vmbus *b, const void *msg, size_t len)
{
    struct vmbus_msg_gpadl_body m;
    memcpy(&m, msg, sizeof m);
    struct vmbus_gpadl *g = vmbus_gpadl_get(b, m.gpadl);
    if (g && !vmbus_gpadl_complete(g))
        gpadl_pfns(b, g, (const uint8_t *)msg + sizeof m, len - sizeof m);
    else
        LOG_GUEST("vmbus", "pages for the unknown GPADL 0x%x", m.gpadl);
}

static void on_gpadl_teardown(struct vmbus *b, const void *msg, size_t len)
{
    struct vmbus_msg_gpadl_teardown m;
    memcpy(&m, msg, sizeof m);
    struct vmbus_gpadl *g = vmbus_gpadl_get(b, m.gpadl);
    if (!g || g->ch->relid != m.relid) {
        struct vmbus_msg_gpadl_torndown r = {.h.type = VMBUS_MSG_GPADL_TORNDOWN, .gpadl = m.gpadl};
        vmbus_post(b, &r, sizeof r);
        return;
    }
    struct vmbus_channel *ch = g->ch;
    if (g == ch->ring_gpadl) {
        LOG_GUEST("vmbus", "channel %u: the ring is taken away while open", ch->relid);
        vmbus_channel_close(ch);
    } else if (ch->state == VMBUS_CHANNEL_OPEN && vmbus_gpadl_complete(g) && !g->tearing &&
               ch->dev->p.ops->gpadl_gone) {
        ch->dev->p.ops->gpadl_gone(ch->dev->p.ctx, ch, g);
    }
    g->tearing = true;
    if (!ch->busy)
        torn_down(b, g);
}

/* ---- channels ---- */

static void open_result(struct vmbus *b, const struct vmbus_msg_open *m, uint32_t status)
{
    struct vmbus_msg_open_result r = {.h.type = VMBUS_MSG_OPEN_RESULT,
                                      .relid = m->relid,
                                      .open_id = m->open_id,
                                      .status = status};
    if (status)
        LOG_GUEST("vmbus", "opening channel %u refused (0x%x)", m->relid, status);
    vmbus_post(b, &r, sizeof r);
}

static uint32_t open_channel(struct vmbus_channel *ch, const struct vmbus_msg_open *m)
{
    struct vmbus_gpadl *g = vmbus_gpadl_find(ch, m->gpadl);
    struct vmbus_device *dev = ch->dev;
    if (ch->state != VMBUS_CHANNEL_OFFERED || ch->busy || !g || m->target_vp >= ch->bus->t.vp_count)
        return VMBUS_STATUS_INVALID_PARAMETER;
    if (!vmbus_channel_attach(ch, g, m->out_page))
        return VMBUS_STATUS_INVALID_PARAMETER;
    ch->target_vp = m->target_vp;
    memcpy(ch->user, m->user, sizeof ch->user);
    ch->stats = (struct vmbus_channel_stats){0};
    ch->state = VMBUS_CHANNEL_OPEN;
    ch->in_turn = true; /* signals wait until the guest knows that the channel is open */
    bool ok = dev->p.ops->opened(dev->p.ctx, ch, ch->user);
    ch->in_turn = false;
    if (ok)
        return VMBUS_STATUS_OK;
    ch->state = VMBUS_CHANNEL_OFFERED;
    vmbus_channel_detach(ch);
    ch->data = NULL;
    return VMBUS_STATUS_UNSUCCESSFUL;
}

static void on_open(struct vmbus *b, const void *msg, size_t len)
{
    struct vmbus_msg_open m;
    memcpy(&m, msg, sizeof m);
    struct vmbus_channel *ch = channel_of(b, m.relid);
    if (ch && ch->state == VMBUS_CHANNEL_RESCINDED)
        return;
    uint32_t status = ch ? open_channel(ch, &m) : VMBUS_STATUS_INVALID_PARAMETER;
    open_result(b, &m, status);
    if (status != VMBUS_STATUS_OK)
        return;
    if (ch->signal_due)
        vmbus_channel_signal(ch);
    ch->signal_due = false;
    vmbus_schedule(ch);
}

static void on_close(struct vmbus *b, const void *msg, size_t len)
{
    struct vmbus_msg_relid m;
    memcpy(&m, msg, sizeof m);
    struct vmbus_channel *ch = channel_of(b, m.relid);
    if (ch && ch->state == VMBUS_CHANNEL_OPEN)
        vmbus_channel_close(ch);
}

static void on_released(struct vmbus *b, const void *msg, size_t len)
{
    struct vmbus_msg_relid m;
    memcpy(&m, msg, sizeof m);
    struct vmbus_channel *ch = channel_of(b, m.relid);
    if (ch && ch->state == VMBUS_CHANNEL_RESCINDED)
        vmbus_channel_release(ch);
    else
        LOG_GUEST("vmbus", "channel %u released, but it was not rescinded", m.relid);
}

static void on_modify(struct vmbus *b, const void *msg, size_t len)
{
    struct vmbus_msg_modify m;
    memcpy(&m, msg, sizeof m);
    struct vmbus_channel *ch = channel_of(b, m.relid);
    bool ok = ch && ch->state == VMBUS_CHANNEL_OPEN && m.target_vp < b->t.vp_count;
    if (ok) {
        ch->target_vp = m.target_vp;
        vmbus_channel_signal(ch); /* nothing is lost between the old and the new processor */
    }
    struct vmbus_msg_modify_response r = {.h.type = VMBUS_MSG_MODIFY_CHANNEL_RESPONSE,
                                          .relid = m.relid,
                                          .status = ok ? 0 : VMBUS_STATUS_INVALID_PARAMETER};
    if (b->version >= VMBUS_VERSION(5, 3))
        vmbus_post(b, &r, sizeof r);
}

static void on_tl_connect(struct vmbus *b, const void *msg, size_t len)
{
    struct vmbus_msg_tl_connect m;
    memcpy(&m, msg, sizeof m);
    if (b->tl_connect)
        b->tl_connect(b->tl_ctx, &m.endpoint, &m.service);
    else
        vmbus_tl_result(b, &m.endpoint, &m.service, VMBUS_STATUS_CONNECTION_REFUSED);
}

void vmbus_tl_result(struct vmbus *b, const struct guid *endpoint, const struct guid *service,
                     uint32_t status)
{
    struct vmbus_msg_tl_result r = {.h.type = VMBUS_MSG_TL_RESULT,
                                    .endpoint = *endpoint,
                                    .service = *service,
                                    .status = status};
    if (b->version >= VMBUS_VERSION(4, 1))
        vmbus_post(b, &r, sizeof r);
}

/* ---- dispatch ---- */

struct message_kind {
    size_t least; /* bytes */
    uint32_t since;
    void (*handle)(struct vmbus *b, const void *msg, size_t len);
};
static const struct message_kind kinds[] = {
    [VMBUS_MSG_REQUEST_OFFERS] = {sizeof(struct vmbus_msg_header), 1, on_request_offers},
    [VMBUS_MSG_OPEN] = {sizeof(struct vmbus_msg_open), 1, on_open},
    [VMBUS_MSG_CLOSE] = {sizeof(struct vmbus_msg_relid), 1, on_close},
    [VMBUS_MSG_GPADL_HEADER] = {sizeof(struct vmbus_msg_gpadl_header), 1, on_gpadl_header},
    [VMBUS_MSG_GPADL_BODY] = {sizeof(struct vmbus_msg_gpadl_body), 1, on_gpadl_body},
    [VMBUS_MSG_GPADL_TEARDOWN] = {sizeof(struct vmbus_msg_gpadl_teardown), 1, on_gpadl_teardown},
    [VMBUS_MSG_RELID_RELEASED] = {sizeof(struct vmbus_msg_relid), 1, on_released},
    [VMBUS_MSG_INITIATE_CONTACT] = {sizeof(struct vmbus_msg_contact), 0, on_contact},
    [VMBUS_MSG_UNLOAD] = {sizeof(struct vmbus_msg_header), VMBUS_VERSION(3, 0), on_unload},
    [VMBUS_MSG_TL_CONNECT] = {sizeof(struct vmbus_msg_tl_connect), VMBUS_VERSION(4, 0),
                              on_tl_connect},
    [VMBUS_MSG_MODIFY_CHANNEL] = {sizeof(struct vmbus_msg_modify), VMBUS_VERSION(4, 1), on_modify},
};

void vmbus_control(struct vmbus *b, const struct inbox_message *m)
{
    uint32_t type = m->len >= sizeof(struct vmbus_msg_header) ? get_le32(m->payload) : 0;
    const struct message_kind *k =
        type < ARRAY_LEN(kinds) && kinds[type].handle ? &kinds[type] : NULL;
    if (!k || m->len < k->least)
        LOG_GUEST("vmbus", "message of type %u and %u bytes ignored", type, m->len);
    else if (k->since && (b->version < k->since || b->ending != ENDING_NOT))
        LOG_GUEST("vmbus", "message of type %u has no place here", type);
    else
        k->handle(b, m->payload, m->len);
}
