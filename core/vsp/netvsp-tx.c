/* SPDX-License-Identifier: GPL-3.0-or-later */
/* From the guest: RNDIS messages gathered from the send buffer and guest pages, copied once, taken
 * apart, and sent to the switch. */
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/log.h"
#include "core/vsp/netvsp-priv.h"

/* ---- gathering ---- */

/* Section and ranges into the scratch buffer; false: the guest named what is not there. */
static bool gather(struct netvsp *n, const struct vmbus_packet *p, const struct nvsp_message *m,
                   size_t *len)
{
    size_t at = 0;
    if (m->rndis.section != NVSP_NO_SECTION && m->rndis.bytes) {
        uint64_t offset = (uint64_t)m->rndis.section * NETVSP_SECTION;
        if (!n->send || m->rndis.section >= n->sections || m->rndis.bytes > NETVSP_SECTION ||
            !vmbus_gpadl_read(n->send, offset, n->scratch, m->rndis.bytes))
            return false;
        at = m->rndis.bytes;
    }
    if (p->type == VMBUS_PACKET_GPA_DIRECT) {
        if (p->range_bytes > sizeof n->scratch - at ||
            !vmbus_ranges_read(n->bus, p->ranges, p->nranges, 0, n->scratch + at, p->range_bytes))
            return false;
        at += p->range_bytes;
    }
    *len = at;
    return true;
}

/* ---- one message ---- */

static void apply_ppi(uint32_t type, uint32_t value, struct net_packet *out)
{
    switch (type) {
    case PPI_CHECKSUM:
        if (value & (CSUM_TX_TCP | CSUM_TX_UDP))
            out->flags |= NET_FILL_L4;
        if (value & CSUM_TX_IP)
            out->flags |= NET_FILL_IP;
        break;
    case PPI_LSO: out->mss = (uint16_t)MIN(value & 0xfffff, (uint32_t)UINT16_MAX); break;
    case PPI_VLAN:
        out->tagged = true;
        out->vlan_tci =
            (uint16_t)((value & 7) << 13 | (value >> 3 & 1) << 12 | (value >> 4 & 0xfff));
        break;
    default: break;
    }
}

static bool read_ppis(const uint8_t *list, uint32_t len, struct net_packet *out)
{
    while (len >= sizeof(struct rndis_ppi)) {
        struct rndis_ppi p;
        memcpy(&p, list, sizeof p);
        if (p.size < sizeof p || p.size > len || p.offset > p.size || p.size - p.offset < 4)
            return false;
        apply_ppi(p.type, get_le32(list + p.offset), out);
        list += p.size;
        len -= p.size;
    }
    return true;
}

/* The frame in a message of `len` bytes. */
static bool parse_message(const uint8_t *msg, uint32_t len, struct net_packet *out)
{
    struct rndis_packet r;
    if (len < sizeof r)
        return false;
    memcpy(&r, msg, sizeof r);
    const uint32_t base = sizeof r.head;
    if (!range_within((uint64_t)base + r.data_offset, r.data_len, len) ||
        r.data_len < NET_ETH_HEADER || r.data_len > NET_FRAME_MAX)
        return false;
    *out = (struct net_packet){.data = msg + base + r.data_offset, .len = r.data_len};
    if (!r.ppi_len)
        return true;
    if (!range_within((uint64_t)base + r.ppi_offset, r.ppi_len, len))
        return false;
    return read_ppis(msg + base + r.ppi_offset, r.ppi_len, out) &&
           (!out->mss || out->mss >= NETVSP_MSS_MIN);
}

/* Sends the messages from *at on; false: the switch has no room for the one at *at. */
static bool send_messages(struct netvsp *n, const uint8_t *data, size_t len, size_t *at)
{
    while (len - *at >= sizeof(struct rndis_header)) {
        struct rndis_header h;
        struct net_packet p;
        memcpy(&h, data + *at, sizeof h);
        if (h.length < sizeof h || h.length > len - *at) {
            LOG_GUEST("netvsp", "the guest sent an RNDIS message that is longer than its packet");
            break;
        }
        if (h.type != RNDIS_PACKET || !parse_message(data + *at, h.length, &p))
            LOG_GUEST("netvsp", "the guest sent a damaged RNDIS packet");
        else if (net_port_send(n->port, &p) == NET_SEND_LATER)
            return false;
        *at += h.length;
    }
    *at = len;
    return true;
}

/* ---- holding what the switch has no room for ---- */

static void hold(struct netvsp_queue *q, const uint8_t *data, size_t len, uint64_t id,
                 bool completion)
{
    q->held = malloc(len);
    if (!q->held) { /* dropped, as by a switch */
        if (completion)
            netvsp_complete(q, id);
        return;
    }
    memcpy(q->held, data, len);
    q->held_len = len;
    q->held_at = 0;
    q->held_id = id;
    q->held_completion = completion;
    vmbus_channel_pause(q->channel, true);
}

static void let_go(struct netvsp_queue *q)
{
    free(q->held);
    q->held = NULL;
    if (q->held_completion && q->channel)
        netvsp_complete(q, q->held_id);
    q->held_completion = false;
}

void netvsp_tx_again(struct netvsp_queue *q)
{
    if (!q->held || !send_messages(q->n, q->held, q->held_len, &q->held_at))
        return;
    let_go(q);
    netvsp_resume_reading(q->n);
}

void netvsp_tx_drop(struct netvsp_queue *q)
{
    if (q->held)
        let_go(q);
}

/* ---- a packet ---- */

static void control(struct netvsp *n, size_t len)
{
    size_t k = rndis_control(n, n->scratch, len, n->control, sizeof n->control);
    n->control_len = k;
    netvsp_rx_due(n);
    if (n->control_len && n->queues[0].channel)
        vmbus_channel_pause(n->queues[0].channel, true);
}

void netvsp_tx_packet(struct netvsp_queue *q, const struct vmbus_packet *p,
                      const struct nvsp_message *m)
{
    struct netvsp *n = q->n;
    size_t len, at = 0;
    bool ok = gather(n, p, m, &len);
    if (!ok) {
        LOG_GUEST("netvsp", "the guest sent from memory that is not there");
    } else if (m->rndis.channel == NVSP_CONTROL) {
        if (p->completion_requested)
            netvsp_complete(q, p->transaction_id);
        if (q->index == 0)
            control(n, len);
        return;
    } else if (n->rndis_up && !send_messages(n, n->scratch, len, &at)) {
        hold(q, n->scratch + at, len - at, p->transaction_id, p->completion_requested);
        return;
    }
    if (p->completion_requested)
        netvsp_complete(q, p->transaction_id);
}
