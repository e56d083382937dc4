/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The adapter as a VMBus device: NVSP's own messages, channels, the port's callbacks, life. */
#include "core/vsp/netvsp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/log.h"
#include "core/vsp/netvsp-priv.h"

/* ---- completions ---- */

static void complete_with(struct netvsp_queue *q, uint64_t id, const struct nvsp_message *m)
{
    if (vmbus_send_completion(q->channel, id, m, sizeof *m) || m->type != NVSP_RNDIS_COMPLETE)
        return;
    /* No room: this one is kept, and nothing more is read until it has gone. */
    q->completion_due = true;
    q->completion_id = id;
    vmbus_channel_pause(q->channel, true);
}

void netvsp_complete(struct netvsp_queue *q, uint64_t id)
{
    struct nvsp_message m = {.type = NVSP_RNDIS_COMPLETE};
    m.rndis_complete.status = NVSP_OK;
    complete_with(q, id, &m);
}

static bool send_due_completion(struct netvsp_queue *q)
{
    struct nvsp_message m = {.type = NVSP_RNDIS_COMPLETE};
    m.rndis_complete.status = NVSP_OK;
    if (q->completion_due && !vmbus_send_completion(q->channel, q->completion_id, &m, sizeof m))
        return false;
    q->completion_due = false;
    return true;
}

void netvsp_resume_reading(struct netvsp *n)
{
    for (unsigned i = 0; i < NETVSP_QUEUES; i++) {
        struct netvsp_queue *q = &n->queues[i];
        if (q->channel && !q->held && !q->completion_due && !(i == 0 && n->control_len))
            vmbus_channel_pause(q->channel, false);
    }
}

/* ---- NVSP messages ---- */

static void forget_buffers(struct netvsp *n)
{
    n->recv = n->send = NULL;
    n->recv_id = n->send_id = 0;
    n->subs = n->sections = 0;
    netvsp_rx_reset(n);
}

/* As when the driver is not there. */
static void forget(struct netvsp *n)
{
    for (unsigned i = 0; i < NETVSP_QUEUES; i++) {
        struct netvsp_queue *q = &n->queues[i];
        free(q->held);
        q->held = NULL;
        q->held_completion = q->completion_due = false;
    }
    forget_buffers(n);
    n->version = 0;
    n->mtu = NET_MTU_DEFAULT;
    n->subchannels = 0;
    n->rndis_up = false;
    n->filter = 0;
    n->rx_csum4 = n->rx_csum6 = n->rsc4 = n->rsc6 = false;
    memset(&n->rss, 0, sizeof n->rss);
    n->link_due = n->change_due = false;
    netvsp_rx_limits(n);
}

static bool version_known(uint32_t v)
{
    return v == NVSP_1_0 || v == NVSP_2_0 || v == NVSP_4_0 || v == NVSP_5_0 || v == NVSP_6_0 ||
           v == NVSP_6_1;
}

static void on_init(struct netvsp *n, const struct nvsp_message *m, struct nvsp_message *reply)
{
    reply->type = NVSP_INIT_COMPLETE;
    reply->init_complete.version = UINT32_MAX;
    reply->init_complete.status = NVSP_TOO_NEW;
    if (n->version || !version_known(m->init.max))
        return;
    n->version = m->init.max;
    reply->init_complete.status = NVSP_OK;
}

static void on_config(struct netvsp *n, const struct nvsp_message *m)
{
    uint32_t mtu = m->ndis_config.mtu;
    if (mtu < NET_ETH_HEADER + NET_MTU_MIN)
        return;
    n->mtu = MIN(mtu - NET_ETH_HEADER, (uint32_t)NET_MTU_MAX);
    netvsp_rx_limits(n);
}

static struct vmbus_gpadl *buffer_of(struct netvsp *n, uint32_t id)
{
    struct vmbus_gpadl *g = vmbus_gpadl_find(n->queues[0].channel, id);
    if (!g || !vmbus_gpadl_pin(g)) {
        LOG_GUEST("netvsp", "the guest named a buffer that is not there");
        return NULL;
    }
    return g;
}

static void on_recv_buf(struct netvsp *n, const struct nvsp_message *m, struct nvsp_message *reply)
{
    struct vmbus_gpadl *g = buffer_of(n, m->buf.gpadl);
    reply->type = NVSP_RECV_BUF_COMPLETE;
    reply->recv_complete.status = NVSP_FAIL;
    uint32_t size = (uint32_t)align_up(MAX((uint32_t)NETVSP_SUB_SIZE, n->mtu + 256), 64);
    if (!g || n->recv || vmbus_gpadl_bytes(g) < size || vmbus_gpadl_bytes(g) > UINT32_MAX)
        return;
    n->recv = g;
    n->recv_id = m->buf.gpadl;
    n->sub_size = size;
    n->subs = (uint32_t)MIN(vmbus_gpadl_bytes(g) / size, (uint64_t)NETVSP_SUBS);
    netvsp_rx_reset(n);
    reply->recv_complete.status = NVSP_OK;
    reply->recv_complete.sections = 1;
    reply->recv_complete.size = size;
    reply->recv_complete.count = n->subs;
    reply->recv_complete.end = n->subs * size;
}

static void on_send_buf(struct netvsp *n, const struct nvsp_message *m, struct nvsp_message *reply)
{
    struct vmbus_gpadl *g = buffer_of(n, m->buf.gpadl);
    reply->type = NVSP_SEND_BUF_COMPLETE;
    reply->send_complete.status = NVSP_FAIL;
    if (!g || n->send || vmbus_gpadl_bytes(g) < NETVSP_SECTION)
        return;
    n->send = g;
    n->send_id = m->buf.gpadl;
    n->sections = (uint32_t)MIN(vmbus_gpadl_bytes(g) / NETVSP_SECTION, (uint64_t)UINT32_MAX - 1);
    reply->send_complete.status = NVSP_OK;
    reply->send_complete.section_size = NETVSP_SECTION;
}

static void on_revoke(struct netvsp *n, uint32_t type)
{
    if (type == NVSP_REVOKE_SEND_BUF) {
        n->send = NULL;
        n->send_id = n->sections = 0;
    } else {
        n->recv = NULL;
        n->recv_id = n->subs = 0;
        netvsp_rx_reset(n);
    }
}

static uint32_t on_subchannels(struct netvsp *n, const struct nvsp_message *m,
                               struct nvsp_message *reply)
{
    reply->type = NVSP_SUBCHANNEL;
    reply->subchannel.op_or_status = NVSP_FAIL;
    if (n->version < NVSP_5_0 || m->subchannel.op_or_status != NVSP_SUBCHANNEL_ALLOCATE)
        return 0;
    uint32_t left = n->max_queues - 1 - MIN(n->subchannels, n->max_queues - 1);
    reply->subchannel.count = MIN(m->subchannel.count, left);
    reply->subchannel.op_or_status = NVSP_OK;
    return reply->subchannel.count;
}

static void on_message(struct netvsp_queue *q, const struct vmbus_packet *p,
                       const struct nvsp_message *m)
{
    struct netvsp *n = q->n;
    struct nvsp_message reply = {0};
    uint32_t offer = 0;
    switch (m->type) {
    case NVSP_INIT: on_init(n, m, &reply); break;
    case NVSP_NDIS_CONFIG: on_config(n, m); break;
    case NVSP_NDIS_VERSION: break;
    case NVSP_RECV_BUF: on_recv_buf(n, m, &reply); break;
    case NVSP_SEND_BUF: on_send_buf(n, m, &reply); break;
    case NVSP_REVOKE_RECV_BUF:
    case NVSP_REVOKE_SEND_BUF: on_revoke(n, m->type); break;
    case NVSP_SWITCH_DATA_PATH: break;
    case NVSP_SUBCHANNEL: offer = on_subchannels(n, m, &reply); break;
    default:
        LOG_GUEST("netvsp", "the guest sent a message of unknown type %u", m->type);
        reply.type = NVSP_RNDIS_COMPLETE;
        reply.rndis_complete.status = NVSP_UNSUPPORTED;
        break;
    }
    if (p->completion_requested)
        complete_with(q, p->transaction_id, &reply);
    if (offer)
        n->subchannels += vmbus_device_offer_subchannels(n->device, offer);
}

static void on_packet(struct netvsp_queue *q, const struct vmbus_packet *p)
{
    struct nvsp_message m = {0};
    if (p->type == VMBUS_PACKET_COMPLETION) {
        netvsp_rx_completed(q, p->transaction_id);
        return;
    }
    memcpy(&m, p->payload, MIN(p->len, (uint32_t)sizeof m));
    if (p->len < 8 || (p->type != VMBUS_PACKET_INBAND && p->type != VMBUS_PACKET_GPA_DIRECT)) {
        LOG_GUEST("netvsp", "the guest sent a packet of a kind that adapters do not take");
        return;
    }
    if (m.type == NVSP_RNDIS)
        netvsp_tx_packet(q, p, &m);
    else if (q->index == 0)
        on_message(q, p, &m);
    else
        LOG_GUEST("netvsp", "the guest sent a control message on a subchannel");
}

/* ---- channels ---- */

static bool opened(void *ctx, struct vmbus_channel *ch, const uint8_t *user)
{
    struct netvsp *n = ctx;
    unsigned i = vmbus_channel_index(ch);
    if (i >= n->max_queues)
        return false;
    if (i == 0)
        forget(n);
    n->queues[i].channel = ch;
    n->queues[i].nbatch = 0;
    return true;
}

/* What was on its way on a subchannel that goes is never completed: it is free again. */
static void free_transfers(struct netvsp_queue *q)
{
    struct netvsp *n = q->n;
    for (unsigned t = 0; t < NETVSP_TRANSFERS; t++)
        if (n->transfers[t].used && n->transfers[t].queue == q->index)
            netvsp_rx_completed(q, t + 1);
    for (unsigned i = 0; i < q->nbatch; i++) {
        n->next[q->batch_subs[i] - 1] = n->free_head;
        n->free_head = q->batch_subs[i];
        n->nfree++;
    }
    q->nbatch = 0;
}

static void closed(void *ctx, struct vmbus_channel *ch)
{
    struct netvsp *n = ctx;
    struct netvsp_queue *q = &n->queues[vmbus_channel_index(ch) % NETVSP_QUEUES];
    q->channel = NULL;
    free_transfers(q);
    free(q->held);
    q->held = NULL;
    q->held_completion = q->completion_due = false;
    if (q->index == 0)
        forget(n);
}

static void tell_room(struct netvsp *n)
{
    if (!n->blocked)
        return;
    n->blocked = false;
    net_port_room(n->port);
}

static void readable(void *ctx, struct vmbus_channel *ch)
{
    struct netvsp *n = ctx;
    struct netvsp_queue *q = &n->queues[vmbus_channel_index(ch)];
    struct vmbus_packet p;
    while (q->channel && !q->held && !q->completion_due && !(q->index == 0 && n->control_len) &&
           vmbus_channel_next(ch, &p))
        on_packet(q, &p);
    netvsp_rx_due(n);
    netvsp_resume_reading(n);
    tell_room(n);
}

static void writable(void *ctx, struct vmbus_channel *ch)
{
    struct netvsp *n = ctx;
    if (!send_due_completion(&n->queues[vmbus_channel_index(ch)]))
        return;
    netvsp_rx_due(n);
    netvsp_rx_flush(n);
    netvsp_resume_reading(n);
    tell_room(n);
}

static void gpadl_gone(void *ctx, struct vmbus_channel *ch, struct vmbus_gpadl *g)
{
    struct netvsp *n = ctx;
    if (g == n->recv)
        on_revoke(n, NVSP_REVOKE_RECV_BUF);
    if (g == n->send)
        on_revoke(n, NVSP_REVOKE_SEND_BUF);
}

static const struct vmbus_provider_ops provider = {
    .name = "netvsp",
    .opened = opened,
    .closed = closed,
    .readable = readable,
    .writable = writable,
    .gpadl_gone = gpadl_gone,
};

/* ---- the port ---- */

static bool port_deliver(void *ctx, const struct net_packet *p)
{
    return netvsp_rx_deliver(ctx, p);
}

static void port_send_again(void *ctx)
{
    struct netvsp *n = ctx;
    for (unsigned i = 0; i < NETVSP_QUEUES; i++)
        netvsp_tx_again(&n->queues[i]);
}

static void port_link(void *ctx, bool up)
{
    struct netvsp *n = ctx;
    n->link_due = true;
    if (n->started)
        netvsp_rx_due(n);
}

static const struct net_adapter_ops adapter = {port_deliver, port_send_again, port_link};

static void flush_now(void *ctx)
{
    struct netvsp *n = ctx;
    netvsp_rx_flush(n);
}

void netvsp_network_changed(struct netvsp *n)
{
    n->link_due = n->change_due = true;
    netvsp_rx_due(n);
}

struct net_port *netvsp_port(struct netvsp *n)
{
    return n->port;
}

void netvsp_get_info(const struct netvsp *n, struct netvsp_info *out)
{
    *out = (struct netvsp_info){.version = n->version,
                                .mtu = n->mtu,
                                .filter = n->filter,
                                .up = n->rndis_up,
                                .rsc = n->rsc4 && n->rsc6,
                                .rss = n->rss.on};
    for (unsigned i = 0; i < NETVSP_QUEUES; i++)
        out->queues += n->queues[i].channel != NULL;
}

/* ---- life ---- */

static void netvsp_end(void *ctx)
{
    free(ctx);
}

static void netvsp_free(struct netvsp *n)
{
    for (unsigned i = 0; i < NETVSP_QUEUES; i++)
        free(n->queues[i].held);
    net_port_free(n->port);
    /* A flush may still be posted. */
    if (!loop_call(vmbus_loop(n->bus), netvsp_end, n))
        log_line(LOG_ERROR, "netvsp", "there was no memory to end an adapter properly");
}

static unsigned queue_count(const struct netvsp_params *p)
{
    unsigned q = p->queues ? p->queues : vmbus_vp_count(p->bus);
    return MAX(1u, MIN(q, (unsigned)NETVSP_QUEUES));
}

struct netvsp *netvsp_new(const struct netvsp_params *p, err *e)
{
    struct netvsp *n = calloc(1, sizeof *n);
    if (!n) {
        net_port_free(p->port);
        err_set(e, ERR_NO_MEMORY, "there is no memory for a network adapter");
        return NULL;
    }
    n->bus = p->bus;
    n->port = p->port;
    n->state_instance = p->state_instance;
    n->max_queues = queue_count(p);
    snprintf(n->name, sizeof n->name, "%s", p->name ? p->name : "");
    loop_post_init(&n->flush_post, flush_now, n);
    for (unsigned i = 0; i < NETVSP_QUEUES; i++)
        n->queues[i] = (struct netvsp_queue){.n = n, .index = i};
    forget(n);
    struct vmbus_device_params d = {.class_id = NETVSP_CLASS,
                                    .instance = p->instance,
                                    .max_subchannels = n->max_queues - 1,
                                    .max_packet = 32 * 1024,
                                    .ops = &provider,
                                    .ctx = n};
    n->device = vmbus_device_add(p->bus, &d, e);
    if (!n->device) {
        netvsp_free(n);
        return NULL;
    }
    net_port_attach(n->port, &adapter, n);
    n->link_told = net_port_link(n->port);
    return n;
}

static void netvsp_start(void *self)
{
    struct netvsp *n = self;
    n->started = true;
    net_port_start(n->port);
    netvsp_rx_due(n);
    netvsp_rx_flush(n);
    netvsp_resume_reading(n);
}

static void netvsp_stop(void *self, void (*done)(void *ctx), void *ctx)
{
    struct netvsp *n = self;
    n->started = false;
    net_port_stop(n->port);
    for (unsigned i = 0; i < NETVSP_QUEUES; i++)
        netvsp_tx_drop(&n->queues[i]); /* as a switch may */
    netvsp_rx_flush(n);
    done(ctx);
}

static void netvsp_reset(void *self)
{
    forget(self);
}

static void device_save(void *self, struct state_writer *w)
{
    netvsp_save(self, w);
}

static bool device_restore(void *self, const struct state_reader *r, err *e)
{
    return netvsp_restore(self, r, e);
}

static void netvsp_destroy(void *self)
{
    struct netvsp *n = self;
    net_port_attach(n->port, NULL, NULL);
    vmbus_device_remove(n->device);
    netvsp_free(n);
}

static const struct device_ops ops = {
    .name = "network adapter",
    .start = netvsp_start,
    .stop = netvsp_stop,
    .reset = netvsp_reset,
    .save = device_save,
    .restore = device_restore,
    .destroy = netvsp_destroy,
};

struct device netvsp_as_device(struct netvsp *n)
{
    return (struct device){&ops, n};
}
