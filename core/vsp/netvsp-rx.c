/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Toward the guest: frames and control responses into the receive buffer's sub-allocations,
 * gathered into transfer-page packets. */
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/log.h"
#include "core/vsp/netvsp-priv.h"

enum { HEAD_MAX = 128 };

/* ---- sub-allocations ---- */

void netvsp_rx_reset(struct netvsp *n)
{
    n->free_head = 0;
    n->nfree = n->subs;
    for (uint32_t i = n->subs; i-- > 0;) {
        n->next[i] = n->free_head;
        n->free_head = (uint16_t)(i + 1);
    }
    memset(n->transfers, 0, sizeof n->transfers);
    for (unsigned i = 0; i < NETVSP_QUEUES; i++)
        n->queues[i].nbatch = 0;
    n->blocked = false;
    n->control_len = 0;
}

static uint16_t sub_take(struct netvsp *n)
{
    uint16_t s = n->free_head;
    n->free_head = n->next[s - 1];
    n->next[s - 1] = 0;
    n->nfree--;
    return s;
}

static void sub_put(struct netvsp *n, uint16_t s)
{
    n->next[s - 1] = n->free_head;
    n->free_head = s;
    n->nfree++;
}

static unsigned transfer_find(struct netvsp *n)
{
    for (unsigned i = 0; i < NETVSP_TRANSFERS; i++) {
        unsigned t = (n->transfer_hint + i) % NETVSP_TRANSFERS;
        if (!n->transfers[t].used) {
            n->transfer_hint = t + 1;
            return t;
        }
    }
    return NETVSP_TRANSFERS;
}

void netvsp_rx_completed(struct netvsp_queue *q, uint64_t id)
{
    struct netvsp *n = q->n;
    if (!id || id > NETVSP_TRANSFERS || !n->transfers[id - 1].used ||
        n->transfers[id - 1].queue != q->index) {
        LOG_GUEST("netvsp", "the guest completed a packet that it did not get");
        return;
    }
    struct netvsp_transfer *t = &n->transfers[id - 1];
    for (uint16_t s = t->first, next; s; s = next) {
        next = n->next[s - 1];
        sub_put(n, s);
    }
    *t = (struct netvsp_transfer){0};
}

/* ---- packets ---- */

static bool send_ranges(struct netvsp_queue *q, uint32_t channel,
                        const struct vmbus_transfer_range *ranges, const uint16_t *subs,
                        unsigned count)
{
    struct netvsp *n = q->n;
    struct nvsp_message m = {.type = NVSP_RNDIS};
    unsigned t = transfer_find(n);
    if (t == NETVSP_TRANSFERS)
        return false;
    m.rndis.channel = channel;
    m.rndis.section = NVSP_NO_SECTION;
    if (!vmbus_send_transfer(q->channel, t + 1, NVSP_RECV_PAGESET, ranges, count, &m, sizeof m))
        return false;
    n->transfers[t] =
        (struct netvsp_transfer){.first = subs[0], .used = 1, .queue = (uint8_t)q->index};
    for (unsigned i = 0; i + 1 < count; i++)
        n->next[subs[i] - 1] = subs[i + 1];
    n->next[subs[count - 1] - 1] = 0;
    return true;
}

static bool flush_queue(struct netvsp_queue *q)
{
    if (!q->nbatch || !q->channel)
        return true;
    if (!send_ranges(q, NVSP_DATA, q->batch, q->batch_subs, q->nbatch))
        return false;
    q->nbatch = 0;
    return true;
}

void netvsp_rx_flush(struct netvsp *n)
{
    for (unsigned i = 0; i < NETVSP_QUEUES; i++)
        flush_queue(&n->queues[i]);
}

/* ---- frames ---- */

struct info {
    uint8_t bytes[HEAD_MAX];
    uint32_t len; /* of header and per-packet information */
};

static void add_ppi(struct info *h, uint32_t type, uint32_t value)
{
    struct rndis_ppi p = {sizeof p + 4, type, sizeof p};
    memcpy(h->bytes + h->len, &p, sizeof p);
    put_le32(h->bytes + h->len + sizeof p, value);
    h->len += sizeof p + 4;
}

static uint32_t checksum_info(const struct netvsp *n, const struct net_packet *p)
{
    struct net_headers h;
    if (!(p->flags & NET_SUMS_OK) || !net_parse(p->data, p->len, &h) || !h.family)
        return 0;
    if (h.family == 4 ? !n->rx_csum4 : !n->rx_csum6)
        return 0;
    return (h.family == 4 ? CSUM_RX_IP_OK : 0) | (h.tcp ? CSUM_RX_TCP_OK : 0) |
           (h.udp ? CSUM_RX_UDP_OK : 0);
}

static void make_head(const struct netvsp *n, const struct net_packet *p, const uint32_t *hash,
                      struct info *h)
{
    uint32_t csum = checksum_info(n, p);
    h->len = sizeof(struct rndis_packet);
    if (csum)
        add_ppi(h, PPI_CHECKSUM, csum);
    if (p->tagged)
        add_ppi(h, PPI_VLAN,
                (uint32_t)p->vlan_tci >> 13 | (p->vlan_tci >> 12 & 1) << 3 |
                    (uint32_t)(p->vlan_tci & 0xfff) << 4);
    if (hash)
        add_ppi(h, PPI_HASH, *hash);
}

static void finish_head(struct info *h, uint32_t data_len)
{
    uint32_t ppi = h->len - (uint32_t)sizeof(struct rndis_packet);
    struct rndis_packet r = {
        .head = {RNDIS_PACKET, h->len + data_len},
        .data_offset = h->len - (uint32_t)sizeof r.head,
        .data_len = data_len,
        .ppi_offset = ppi ? (uint32_t)(sizeof r - sizeof r.head) : 0,
        .ppi_len = ppi,
    };
    memcpy(h->bytes, &r, sizeof r);
}

/* One RNDIS message into one sub-allocation, added to the queue's batch, which has room. */
static void put_message(struct netvsp_queue *q, struct info *h, const uint8_t *data, uint32_t len)
{
    struct netvsp *n = q->n;
    uint16_t s = sub_take(n);
    uint64_t at = (uint64_t)(s - 1) * n->sub_size;
    finish_head(h, len);
    vmbus_gpadl_write(n->recv, at, h->bytes, h->len);
    vmbus_gpadl_write(n->recv, at + h->len, data, len);
    q->batch[q->nbatch] = (struct vmbus_transfer_range){h->len + len, (uint32_t)at};
    q->batch_subs[q->nbatch++] = s;
}

/* A large packet as messages that the guest joins again (receive segment coalescing). */
static void put_fragments(struct netvsp_queue *q, const struct info *head,
                          const struct net_packet *p, uint32_t room)
{
    for (uint32_t at = 0; at < p->len;) {
        struct info h = *head;
        uint32_t k = MIN(room, p->len - at);
        uint32_t flags = PACKET_ID_SUBALLOC | (at ? 0 : PACKET_ID_FIRST) |
                         (at + k == p->len ? PACKET_ID_LAST : 0);
        add_ppi(&h, PPI_PACKET_ID, 1 | flags << 8);
        put_message(q, &h, p->data + at, k);
        at += k;
    }
}

static bool wanted(const struct netvsp *n, const uint8_t *to)
{
    if (n->filter & FILTER_PROMISCUOUS)
        return true;
    if (net_mac_is_broadcast(to))
        return n->filter & FILTER_BROADCAST;
    if (net_mac_is_multicast(to))
        return n->filter & (FILTER_MULTICAST | FILTER_ALL_MULTICAST);
    return n->filter & FILTER_DIRECTED && memcmp(to, net_port_mac(n->port), 6) == 0;
}

static struct netvsp_queue *pick_queue(struct netvsp *n, const struct net_packet *p, uint32_t *hash,
                                       bool *hashed)
{
    *hashed = n->rss.on && rss_hash(&n->rss, p->data, p->len, hash);
    if (!*hashed || !n->rss.table_len)
        return &n->queues[0];
    struct netvsp_queue *q = &n->queues[n->rss.table[*hash % n->rss.table_len]];
    return q->channel ? q : &n->queues[0];
}

static bool refuse(struct netvsp *n)
{
    n->blocked = true;
    return false;
}

/* Whether `count` messages can be added: room in the batch (after sending it) and in the buffer. */
static bool make_room(struct netvsp_queue *q, unsigned count)
{
    if (q->nbatch + count > NETVSP_BATCH && !flush_queue(q))
        return false;
    return q->n->nfree >= count;
}

bool netvsp_rx_deliver(struct netvsp *n, const struct net_packet *p)
{
    uint32_t hash;
    bool hashed;
    struct info h;
    if (!n->rndis_up || !n->recv || !wanted(n, p->data))
        return true;
    struct netvsp_queue *q = pick_queue(n, p, &hash, &hashed);
    if (!q->channel)
        return true;
    make_head(n, p, hashed ? &hash : NULL, &h);
    uint32_t room = n->sub_size - h.len;
    bool whole = p->len <= room;
    if (!whole) {
        room = (room - 16) & ~7u; /* the fragments' own information */
        if (!p->mss || p->len > room * NETVSP_FRAGMENTS)
            return true;
    }
    if (!make_room(q, whole ? 1 : (p->len + room - 1) / room))
        return refuse(n);
    if (whole)
        put_message(q, &h, p->data, p->len);
    else
        put_fragments(q, &h, p, room);
    loop_post(vmbus_loop(n->bus), &n->flush_post);
    return true;
}

void netvsp_rx_limits(struct netvsp *n)
{
    net_port_set_limits(n->port, n->mtu, n->version >= NVSP_6_1 && n->rsc4 && n->rsc6);
}

/* ---- control ---- */

bool netvsp_rx_control(struct netvsp *n, const void *message, size_t len)
{
    struct netvsp_queue *q = &n->queues[0];
    if (!q->channel || !n->recv)
        return true;
    if (len > n->sub_size || !n->nfree)
        return len > n->sub_size;
    uint16_t s = sub_take(n);
    struct vmbus_transfer_range r = {(uint32_t)len, (uint32_t)(s - 1) * n->sub_size};
    vmbus_gpadl_write(n->recv, r.offset, message, len);
    if (send_ranges(q, NVSP_CONTROL, &r, &s, 1))
        return true;
    sub_put(n, s);
    return false;
}

static bool indicate(struct netvsp *n, uint32_t status)
{
    struct rndis_indicate m = {.head = {RNDIS_INDICATE, sizeof m}, .status = status};
    return netvsp_rx_control(n, &m, sizeof m);
}

void netvsp_rx_due(struct netvsp *n)
{
    if (!n->queues[0].channel || !n->recv)
        return;
    if (n->control_len) {
        if (!netvsp_rx_control(n, n->control, n->control_len))
            return;
        n->control_len = 0;
    }
    if (!n->rndis_up || !n->link_due)
        return;
    bool up = net_port_link(n->port);
    uint32_t status = up ? RNDIS_STATUS_CONNECT : RNDIS_STATUS_DISCONNECT;
    if (up == n->link_told && n->change_due && up)
        status = RNDIS_STATUS_NETWORK_CHANGE;
    if ((up != n->link_told || n->change_due) && !indicate(n, status))
        return;
    n->link_told = up;
    n->link_due = n->change_due = false;
}
