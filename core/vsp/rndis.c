/* SPDX-License-Identifier: GPL-3.0-or-later */
/* RNDIS control messages: initialisation, queries and settings by object identifier. */
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/log.h"
#include "core/vsp/netvsp-priv.h"

enum { LSO_MAX = 62 * 1024, MULTICAST_LIST = 64, VENDOR_ID = 0x00155d };

/* ---- queries ---- */

static void offload_capabilities(struct netvsp *n, struct ndis_offload *o)
{
    memset(o, 0, sizeof *o);
    o->csum.ip4_tx_encap = o->csum.ip4_rx_encap = NDIS_ENCAP_8023;
    o->csum.ip6_tx_encap = o->csum.ip6_rx_encap = NDIS_ENCAP_8023;
    o->csum.ip4_tx = o->csum.ip4_rx = NDIS_CSUM4_IP_OPTIONS | NDIS_CSUM4_TCP_OPTIONS |
                                      NDIS_CSUM4_TCP | NDIS_CSUM4_UDP | NDIS_CSUM4_IP;
    o->csum.ip6_tx = o->csum.ip6_rx =
        NDIS_CSUM6_EXTENSIONS | NDIS_CSUM6_TCP_OPTIONS | NDIS_CSUM6_TCP | NDIS_CSUM6_UDP;
    o->lso2.ip4_encap = o->lso2.ip6_encap = NDIS_ENCAP_8023;
    o->lso2.ip4_max = o->lso2.ip6_max = LSO_MAX;
    o->lso2.ip4_min_segments = o->lso2.ip6_min_segments = 2;
    o->lso2.ip6_options = NDIS_LSO6_EXTENSIONS | NDIS_LSO6_TCP_OPTIONS;
    o->rsc4 = o->rsc6 = n->version >= NVSP_6_1;
}

/* The guest's buffer says how much it understands: its size becomes the structure's. */
static size_t query_offload(struct netvsp *n, const uint8_t *in, size_t in_len, uint8_t *out)
{
    struct ndis_offload o;
    struct ndis_header asked = {NDIS_TYPE_OFFLOAD, 3, sizeof o};
    if (in_len >= sizeof asked)
        memcpy(&asked, in, sizeof asked);
    offload_capabilities(n, &o);
    size_t size = MIN(in_len ? in_len : sizeof o, sizeof o);
    o.head =
        (struct ndis_header){NDIS_TYPE_OFFLOAD, MAX(asked.revision, (uint8_t)1), (uint16_t)size};
    memcpy(out, &o, size);
    return size;
}

static size_t query_rss(struct netvsp *n, uint8_t *out)
{
    struct ndis_rss_capabilities c = {
        .head = {NDIS_TYPE_RSS_CAPABILITIES, 2, sizeof c},
        .flags = NDIS_HASH_TOEPLITZ | NDIS_HASH_IPV4 | NDIS_HASH_TCP_IPV4 | NDIS_HASH_IPV6 |
                 NDIS_HASH_TCP_IPV6,
        .messages = n->max_queues,
        .queues = n->max_queues,
        .table_entries = NETVSP_RSS_TABLE,
    };
    memcpy(out, &c, sizeof c);
    return sizeof c;
}

/* UTF-8 to UTF-16; what is not UTF-8 ends it. */
static size_t put_utf16(const char *s, uint8_t *out, size_t cap)
{
    size_t at = 0;
    while (*s && at + 4 <= cap) {
        uint8_t c = (uint8_t)*s++;
        uint32_t v = c;
        unsigned more = c < 0x80   ? 0
                        : c < 0xc2 ? 4
                        : c < 0xe0 ? 1
                        : c < 0xf0 ? 2
                        : c < 0xf5 ? 3
                                   : 4;
        if (more == 4)
            break;
        if (more)
            v = c & (0x3fu >> more);
        for (; more; more--, s++) {
            if (((uint8_t)*s & 0xc0) != 0x80)
                return at;
            v = v << 6 | ((uint8_t)*s & 0x3f);
        }
        if (v >= 0x10000) {
            put_le16(out + at, (uint16_t)(0xd800 + ((v - 0x10000) >> 10)));
            at += 2;
            v = 0xdc00 + ((v - 0x10000) & 0x3ff);
        }
        put_le16(out + at, (uint16_t)v);
        at += 2;
    }
    return at;
}

static const uint32_t supported[] = {
    OID_SUPPORTED_LIST,
    OID_HARDWARE_STATUS,
    OID_MEDIA_SUPPORTED,
    OID_MEDIA_IN_USE,
    OID_MAXIMUM_LOOKAHEAD,
    OID_MAXIMUM_FRAME_SIZE,
    OID_LINK_SPEED,
    OID_TRANSMIT_BUFFER_SPACE,
    OID_RECEIVE_BUFFER_SPACE,
    OID_TRANSMIT_BLOCK_SIZE,
    OID_RECEIVE_BLOCK_SIZE,
    OID_VENDOR_ID,
    OID_VENDOR_DESCRIPTION,
    OID_CURRENT_PACKET_FILTER,
    OID_CURRENT_LOOKAHEAD,
    OID_DRIVER_VERSION,
    OID_MAXIMUM_TOTAL_SIZE,
    OID_MAC_OPTIONS,
    OID_MEDIA_CONNECT_STATUS,
    OID_MAXIMUM_SEND_PACKETS,
    OID_VENDOR_DRIVER_VERSION,
    OID_PHYSICAL_MEDIUM,
    OID_RECEIVE_SCALE_CAPABILITIES,
    OID_RECEIVE_SCALE_PARAMETERS,
    OID_CONFIG_PARAMETER,
    OID_XMIT_OK,
    OID_RCV_OK,
    OID_XMIT_ERROR,
    OID_RCV_ERROR,
    OID_RCV_NO_BUFFER,
    OID_FRIENDLY_NAME,
    OID_PERMANENT_ADDRESS,
    OID_CURRENT_ADDRESS,
    OID_MULTICAST_LIST,
    OID_MAXIMUM_LIST_SIZE,
    OID_OFFLOAD_PARAMETERS,
    OID_OFFLOAD_CAPABILITIES,
};

static bool query_counter(struct netvsp *n, uint32_t oid, uint32_t *v)
{
    struct net_port_stats s;
    net_port_get_stats(n->port, &s);
    switch (oid) {
    case OID_XMIT_OK: *v = (uint32_t)s.tx_frames; return true;
    case OID_RCV_OK: *v = (uint32_t)s.rx_frames; return true;
    case OID_XMIT_ERROR: *v = (uint32_t)(s.tx_dropped + s.tx_refused); return true;
    case OID_RCV_ERROR: *v = 0; return true;
    case OID_RCV_NO_BUFFER: *v = (uint32_t)s.rx_dropped; return true;
    default: return false;
    }
}

static bool query_number(struct netvsp *n, uint32_t oid, uint32_t *v)
{
    switch (oid) {
    case OID_HARDWARE_STATUS:
    case OID_MEDIA_SUPPORTED:
    case OID_MEDIA_IN_USE:
    case OID_PHYSICAL_MEDIUM: *v = 0; return true; /* ready; Ethernet; not said */
    case OID_MAXIMUM_FRAME_SIZE: *v = NET_MTU_MAX; return true;
    case OID_MAXIMUM_LOOKAHEAD:
    case OID_CURRENT_LOOKAHEAD:
    case OID_TRANSMIT_BLOCK_SIZE:
    case OID_RECEIVE_BLOCK_SIZE:
    case OID_MAXIMUM_TOTAL_SIZE: *v = n->mtu + NET_ETH_HEADER; return true;
    case OID_LINK_SPEED: *v = (uint32_t)(net_port_speed(n->port) * 10000); return true;
    case OID_TRANSMIT_BUFFER_SPACE: *v = n->sections * NETVSP_SECTION; return true;
    case OID_RECEIVE_BUFFER_SPACE: *v = n->subs * n->sub_size; return true;
    case OID_VENDOR_ID: *v = VENDOR_ID; return true;
    case OID_CURRENT_PACKET_FILTER: *v = n->filter; return true;
    case OID_VENDOR_DRIVER_VERSION: *v = 0x00010000; return true;
    case OID_MAC_OPTIONS: *v = 0; return true;
    case OID_MEDIA_CONNECT_STATUS: *v = net_port_link(n->port) ? 0 : 1; return true;
    case OID_MAXIMUM_SEND_PACKETS: *v = NETVSP_PACKETS_PER_MESSAGE; return true;
    case OID_MAXIMUM_LIST_SIZE: *v = MULTICAST_LIST; return true;
    default: return query_counter(n, oid, v);
    }
}

/* The answer's bytes into `out` (which holds 512); -1: no such identifier. */
static long query(struct netvsp *n, uint32_t oid, const uint8_t *in, size_t in_len, uint8_t *out)
{
    uint32_t v;
    switch (oid) {
    case OID_SUPPORTED_LIST: memcpy(out, supported, sizeof supported); return sizeof supported;
    case OID_DRIVER_VERSION: put_le16(out, 0x061e); return 2;
    case OID_VENDOR_DESCRIPTION: memcpy(out, "Vireo", 6); return 6;
    case OID_PERMANENT_ADDRESS:
    case OID_CURRENT_ADDRESS: memcpy(out, net_port_mac(n->port), 6); return 6;
    case OID_FRIENDLY_NAME: return (long)put_utf16(n->name, out, 256);
    case OID_OFFLOAD_CAPABILITIES: return (long)query_offload(n, in, in_len, out);
    case OID_RECEIVE_SCALE_CAPABILITIES: return (long)query_rss(n, out);
    default: break;
    }
    if (!query_number(n, oid, &v))
        return -1;
    put_le32(out, v);
    return 4;
}

/* ---- settings ---- */

static void set_csum(uint8_t v, bool *rx)
{
    if (v != NDIS_NO_CHANGE)
        *rx = v == NDIS_RX || v == NDIS_TX_RX;
}

static uint32_t set_offload(struct netvsp *n, const uint8_t *in, size_t len)
{
    struct ndis_offload_parameters p = {0};
    if (len < 22)
        return RNDIS_STATUS_INVALID_DATA;
    memcpy(&p, in, MIN(len, sizeof p));
    if (p.head.type != NDIS_TYPE_DEFAULT)
        return RNDIS_STATUS_INVALID_DATA;
    set_csum(p.tcp4_csum, &n->rx_csum4);
    set_csum(p.tcp6_csum, &n->rx_csum6);
    if (p.rsc4)
        n->rsc4 = p.rsc4 == NDIS_LSO_ON;
    if (p.rsc6)
        n->rsc6 = p.rsc6 == NDIS_LSO_ON;
    netvsp_rx_limits(n);
    return RNDIS_STATUS_SUCCESS;
}

static bool read_table(const struct netvsp *n, struct netvsp_rss *rss,
                       const struct ndis_rss_parameters *p, const uint8_t *in, size_t len)
{
    if (p->table_bytes % 4 || p->table_bytes > NETVSP_RSS_TABLE * 4 || !p->table_bytes ||
        !range_within(p->table_offset, p->table_bytes, len))
        return false;
    rss->table_len = p->table_bytes / 4;
    for (uint32_t i = 0; i < rss->table_len; i++) {
        uint32_t q = get_le32(in + p->table_offset + i * 4);
        if (q >= n->max_queues)
            return false;
        rss->table[i] = (uint8_t)q;
    }
    return true;
}

static uint32_t set_rss(struct netvsp *n, const uint8_t *in, size_t len)
{
    struct ndis_rss_parameters p;
    struct netvsp_rss rss = n->rss;
    if (len < sizeof p)
        return RNDIS_STATUS_INVALID_DATA;
    memcpy(&p, in, sizeof p);
    if (p.head.type != NDIS_TYPE_RSS_PARAMETERS)
        return RNDIS_STATUS_INVALID_DATA;
    rss.on = !(p.flags & NDIS_RSS_DISABLE);
    if (!rss.on) {
        n->rss.on = false;
        return RNDIS_STATUS_SUCCESS;
    }
    if (!(p.flags & NDIS_RSS_HASH_UNCHANGED))
        rss.hash_info = p.hash_info;
    if (!(p.flags & NDIS_RSS_KEY_UNCHANGED)) {
        if (p.key_bytes != NETVSP_RSS_KEY || !range_within(p.key_offset, p.key_bytes, len))
            return RNDIS_STATUS_INVALID_DATA;
        memcpy(rss.key, in + p.key_offset, NETVSP_RSS_KEY);
    }
    if (!(p.flags & NDIS_RSS_TABLE_UNCHANGED) && !read_table(n, &rss, &p, in, len))
        return RNDIS_STATUS_INVALID_DATA;
    n->rss = rss;
    return RNDIS_STATUS_SUCCESS;
}

static int hex(uint16_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "NetworkAddress" and twelve hexadecimal digits, both UTF-16. */
static uint32_t set_config(struct netvsp *n, const uint8_t *in, size_t len)
{
    static const char name[] = "NetworkAddress";
    struct rndis_config_parameter p;
    uint8_t mac[6] = {0};
    if (len < sizeof p)
        return RNDIS_STATUS_INVALID_DATA;
    memcpy(&p, in, sizeof p);
    if (!range_within(p.name_offset, p.name_len, len) ||
        !range_within(p.value_offset, p.value_len, len))
        return RNDIS_STATUS_INVALID_DATA;
    if (p.type != 2 || p.value_len != 24 || p.name_len != 2 * strlen(name))
        return RNDIS_STATUS_NOT_SUPPORTED;
    for (unsigned i = 0; i < strlen(name); i++)
        if (get_le16(in + p.name_offset + i * 2) != name[i])
            return RNDIS_STATUS_NOT_SUPPORTED;
    for (unsigned i = 0; i < 12; i++) {
        int d = hex(get_le16(in + p.value_offset + i * 2));
        if (d < 0)
            return RNDIS_STATUS_INVALID_DATA;
        mac[i / 2] = (uint8_t)(mac[i / 2] << 4 | d);
    }
    return net_port_set_mac(n->port, mac) ? RNDIS_STATUS_SUCCESS : RNDIS_STATUS_FAILURE;
}

static uint32_t set(struct netvsp *n, uint32_t oid, const uint8_t *in, size_t len)
{
    switch (oid) {
    case OID_CURRENT_PACKET_FILTER:
        if (len < 4)
            return RNDIS_STATUS_INVALID_DATA;
        n->filter = get_le32(in);
        return RNDIS_STATUS_SUCCESS;
    case OID_OFFLOAD_PARAMETERS: return set_offload(n, in, len);
    case OID_RECEIVE_SCALE_PARAMETERS: return set_rss(n, in, len);
    case OID_CONFIG_PARAMETER: return set_config(n, in, len);
    case OID_CURRENT_LOOKAHEAD:
    case OID_MULTICAST_LIST: return RNDIS_STATUS_SUCCESS; /* all multicast is let through */
    default: return RNDIS_STATUS_NOT_SUPPORTED;
    }
}

/* ---- messages ---- */

static size_t on_init(struct netvsp *n, const uint8_t *msg, size_t len, uint8_t *out)
{
    if (len < 12)
        return 0;
    struct rndis_init_complete r = {
        .head = {RNDIS_INIT | RNDIS_COMPLETE, sizeof r},
        .id = get_le32(msg + 8),
        .major = 1,
        .flags = 1, /* connectionless */
        .max_packets = NETVSP_PACKETS_PER_MESSAGE,
        .max_bytes = 0xEFFFFFFF,
        .alignment = NETVSP_ALIGN_SHIFT,
    };
    n->rndis_up = true;
    n->link_told = true; /* what a driver believes after opening */
    n->link_due = true;
    memcpy(out, &r, sizeof r);
    return sizeof r;
}

/* Where the request's data lies; false if it reaches out of the message. */
static bool request_data(const uint8_t *msg, size_t len, struct rndis_query *q,
                         const uint8_t **data)
{
    if (len < sizeof *q)
        return false;
    memcpy(q, msg, sizeof *q);
    *data = msg + sizeof q->head + q->offset;
    return !q->length || range_within((uint64_t)sizeof q->head + q->offset, q->length, len);
}

static size_t on_query(struct netvsp *n, const uint8_t *msg, size_t len, uint8_t *out)
{
    struct rndis_query q;
    const uint8_t *in;
    uint8_t data[512];
    if (!request_data(msg, len, &q, &in)) {
        if (len < 12)
            return 0;
        q = (struct rndis_query){.id = get_le32(msg + 8)};
    }
    long k = query(n, q.oid, in, q.length, data);
    struct rndis_query_complete r = {.head = {RNDIS_QUERY | RNDIS_COMPLETE, sizeof r},
                                     .id = q.id,
                                     .status = RNDIS_STATUS_NOT_SUPPORTED};
    if (k > 0) {
        r.status = RNDIS_STATUS_SUCCESS;
        r.length = (uint32_t)k;
        r.offset = sizeof r - sizeof r.head;
        r.head.length += (uint32_t)k;
        memcpy(out + sizeof r, data, (size_t)k);
    }
    memcpy(out, &r, sizeof r);
    return r.head.length;
}

static size_t on_set(struct netvsp *n, const uint8_t *msg, size_t len, uint8_t *out)
{
    struct rndis_query q;
    const uint8_t *in;
    uint32_t status = RNDIS_STATUS_INVALID_DATA;
    if (request_data(msg, len, &q, &in))
        status = set(n, q.oid, in, q.length);
    else if (len < 12)
        return 0;
    struct rndis_complete r = {
        .head = {RNDIS_SET | RNDIS_COMPLETE, sizeof r}, .id = get_le32(msg + 8), .status = status};
    memcpy(out, &r, sizeof r);
    return sizeof r;
}

static size_t on_simple(uint32_t type, const uint8_t *msg, size_t len, uint8_t *out)
{
    struct rndis_complete r = {.head = {type | RNDIS_COMPLETE, sizeof r}};
    if (type == RNDIS_KEEPALIVE && len >= 12)
        r.id = get_le32(msg + 8);
    memcpy(out, &r, sizeof r);
    return sizeof r;
}

size_t rndis_control(struct netvsp *n, const uint8_t *msg, size_t len, uint8_t *out, size_t cap)
{
    struct rndis_header h;
    if (len < sizeof h || cap < NETVSP_CONTROL_MAX)
        return 0;
    memcpy(&h, msg, sizeof h);
    if (h.length < sizeof h || h.length > len) {
        LOG_GUEST("netvsp", "the guest sent an RNDIS message that is longer than its packet");
        return 0;
    }
    len = h.length;
    switch (h.type) {
    case RNDIS_INIT: return on_init(n, msg, len, out);
    case RNDIS_QUERY: return on_query(n, msg, len, out);
    case RNDIS_SET: return on_set(n, msg, len, out);
    case RNDIS_RESET:
    case RNDIS_KEEPALIVE: return on_simple(h.type, msg, len, out);
    case RNDIS_HALT:
        n->rndis_up = false;
        n->filter = 0;
        return 0;
    default: LOG_GUEST("netvsp", "the guest sent an RNDIS message of type %u", h.type); return 0;
    }
}
