/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/net/packet.h"

#include <string.h>

#include "core/base/bytes.h"

enum { ETHERTYPE_IPV4 = 0x0800, ETHERTYPE_IPV6 = 0x86dd, ETHERTYPE_VLAN = 0x8100 };
enum {
    PROTO_TCP = 6,
    PROTO_UDP = 17,
    IPV6_HOP = 0,
    IPV6_ROUTE = 43,
    IPV6_FRAGMENT = 44,
    IPV6_DEST = 60
};
enum { TCP_FIN = 1, TCP_PSH = 8, TCP_CWR = 0x80 };
enum { IPV4_DF = 0x4000, IPV4_MF = 0x2000, IPV4_OFFSET = 0x1fff };

static bool parse_ipv4(const uint8_t *data, size_t len, struct net_headers *h)
{
    if (len < h->l3 + 20u || data[h->l3] >> 4 != 4)
        return false;
    unsigned header = (data[h->l3] & 15) * 4u;
    if (header < 20 || len < h->l3 + header)
        return false;
    h->family = 4;
    h->proto = data[h->l3 + 9];
    h->fragment = get_be16(data + h->l3 + 6) & (IPV4_MF | IPV4_OFFSET);
    h->l4 = (uint16_t)(h->l3 + header);
    return true;
}

static bool parse_ipv6(const uint8_t *data, size_t len, struct net_headers *h)
{
    if (len < h->l3 + 40u || data[h->l3] >> 4 != 6)
        return false;
    h->family = 6;
    h->proto = data[h->l3 + 6];
    size_t at = h->l3 + 40u;
    for (unsigned n = 0; n < 8; n++) {
        if (h->proto == IPV6_FRAGMENT)
            h->fragment = true;
        else if (h->proto != IPV6_HOP && h->proto != IPV6_ROUTE && h->proto != IPV6_DEST)
            break;
        if (len < at + 8)
            return false;
        size_t step = h->proto == IPV6_FRAGMENT ? 8 : (data[at + 1] + 1u) * 8;
        h->proto = data[at];
        if (len - at < step)
            return false;
        at += step;
    }
    if (at > UINT16_MAX)
        return false;
    h->l4 = (uint16_t)at;
    return true;
}

static void parse_l4(const uint8_t *data, size_t len, struct net_headers *h)
{
    if (h->fragment)
        return;
    size_t room = len - h->l4;
    if (h->proto == PROTO_UDP && room >= 8) {
        h->udp = true;
        h->payload = (uint16_t)(h->l4 + 8);
    } else if (h->proto == PROTO_TCP && room >= 20) {
        unsigned header = (data[h->l4 + 12] >> 4) * 4u;
        if (header < 20 || header > room)
            return;
        h->tcp = true;
        h->payload = (uint16_t)(h->l4 + header);
    }
}

bool net_parse(const uint8_t *data, size_t len, struct net_headers *h)
{
    *h = (struct net_headers){.l3 = NET_ETH_HEADER};
    if (len < NET_ETH_HEADER)
        return false;
    uint16_t type = get_be16(data + 12);
    if (type == ETHERTYPE_VLAN) {
        if (len < NET_ETH_HEADER + 4)
            return false;
        type = get_be16(data + 16);
        h->l3 += 4;
    }
    if (type == ETHERTYPE_IPV4 ? !parse_ipv4(data, len, h)
                               : type == ETHERTYPE_IPV6 && !parse_ipv6(data, len, h))
        return false;
    if (h->family)
        parse_l4(data, len, h);
    return true;
}

uint64_t net_sum(const void *data, size_t len, uint64_t sum)
{
    const uint8_t *p = data;
    /* 32-bit words into a 64-bit sum: no carries to chase, and the compiler can vectorise it. */
    while (len >= 4096) {
        for (unsigned i = 0; i < 4096; i += 4)
            sum += get_le32(p + i);
        p += 4096;
        len -= 4096;
    }
    for (; len >= 4; p += 4, len -= 4)
        sum += get_le32(p);
    if (len >= 2) {
        sum += get_le16(p);
        p += 2;
        len -= 2;
    }
    return len ? sum + *p : sum;
}

static uint16_t fold(uint64_t sum)
{
    sum = (sum >> 32) + (sum & 0xffffffff);
    sum = (sum >> 32) + (sum & 0xffffffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    return (uint16_t)sum;
}

uint16_t net_sum_fold(uint64_t sum)
{
    return (uint16_t)~fold(sum);
}

/* Addresses, protocol and length (RFC 793, RFC 8200 8.1). */
static uint64_t pseudo_sum(const uint8_t *data, const struct net_headers *h, uint32_t l4_len)
{
    uint64_t sum =
        h->family == 4 ? net_sum(data + h->l3 + 12, 8, 0) : net_sum(data + h->l3 + 8, 32, 0);
    uint8_t tail[8] = {0, 0, 0, h->proto};
    put_be32(tail + 4, l4_len);
    return net_sum(tail, sizeof tail, sum);
}

/* Bytes from the L4 header on: as IP says where that fits, else all. */
static uint32_t l4_length(const uint8_t *data, size_t len, const struct net_headers *h)
{
    size_t there = len - h->l4, said;
    if (h->family == 4)
        said = get_be16(data + h->l3 + 2);
    else
        said = get_be16(data + h->l3 + 4) + 40u;
    size_t headers = (size_t)h->l4 - h->l3;
    size_t least = (size_t)h->payload - h->l4;
    if (said < headers + least || said - headers > there)
        return (uint32_t)there;
    return (uint32_t)(said - headers);
}

static void fill_ip(uint8_t *data, const struct net_headers *h)
{
    put_le16(data + h->l3 + 10, 0);
    put_le16(data + h->l3 + 10, net_sum_fold(net_sum(data + h->l3, (data[h->l3] & 15) * 4u, 0)));
}

static void fill_l4(uint8_t *data, size_t len, const struct net_headers *h)
{
    uint32_t n = l4_length(data, len, h);
    uint8_t *field = data + h->l4 + (h->tcp ? 16 : 6);
    put_le16(field, 0);
    uint16_t sum = net_sum_fold(net_sum(data + h->l4, n, pseudo_sum(data, h, n)));
    put_le16(field, h->udp && !sum ? 0xffff : sum);
}

void net_fill_sums(uint8_t *data, size_t len, unsigned flags)
{
    struct net_headers h;
    if (!net_parse(data, len, &h) || !h.family)
        return;
    if (flags & NET_FILL_IP && h.family == 4)
        fill_ip(data, &h);
    if (flags & NET_FILL_L4 && (h.tcp || h.udp))
        fill_l4(data, len, &h);
}

static void put_ip_length(uint8_t *data, const struct net_headers *h, size_t len)
{
    if (h->family == 4)
        put_be16(data + h->l3 + 2, (uint16_t)(len - h->l3));
    else
        put_be16(data + h->l3 + 4, (uint16_t)(len - h->l3 - 40));
}

bool net_fix_large(uint8_t *data, size_t len)
{
    struct net_headers h;
    if (!net_parse(data, len, &h) || !h.tcp || len - h.l3 > UINT16_MAX)
        return false;
    put_ip_length(data, &h, len);
    net_fill_sums(data, len, NET_FILL_IP | NET_FILL_L4);
    return true;
}

bool net_sums_valid(const uint8_t *data, size_t len)
{
    struct net_headers h;
    if (!net_parse(data, len, &h) || !h.family)
        return false;
    if (h.family == 4 && fold(net_sum(data + h.l3, (data[h.l3] & 15) * 4u, 0)) != 0xffff)
        return false;
    if (!h.tcp && !h.udp)
        return true;
    if (h.udp && h.family == 4 && !get_le16(data + h.l4 + 6))
        return true;
    uint32_t n = l4_length(data, len, &h);
    return fold(net_sum(data + h.l4, n, pseudo_sum(data, &h, n))) == 0xffff;
}

bool net_cut_begin(struct net_cut *c, const struct net_packet *p)
{
    *c = (struct net_cut){.data = p->data, .len = p->len, .mss = p->mss};
    if (!p->mss || !net_parse(p->data, p->len, &c->h) || !c->h.tcp)
        return false;
    return (p->len - c->h.payload) / p->mss < UINT16_MAX;
}

/* Header fields that differ from segment to segment (RFC 793; MS-NDIS LSOv2). */
static void cut_header(const struct net_cut *c, uint8_t *out, size_t len, bool last)
{
    put_ip_length(out, &c->h, len);
    if (c->h.family == 4)
        put_be16(out + c->h.l3 + 4, (uint16_t)(get_be16(c->data + c->h.l3 + 4) + c->index));
    uint8_t *tcp = out + c->h.l4;
    put_be32(tcp + 4, get_be32(c->data + c->h.l4 + 4) + c->at);
    if (!last)
        tcp[13] &= (uint8_t) ~(TCP_FIN | TCP_PSH);
    if (c->index)
        tcp[13] &= (uint8_t)~TCP_CWR;
}

size_t net_cut_next(struct net_cut *c, uint8_t *out, size_t cap)
{
    uint32_t total = c->len - c->h.payload;
    if (c->index && c->at >= total)
        return 0;
    uint32_t n = MIN((uint32_t)c->mss, total - c->at);
    size_t len = c->h.payload + n;
    if (len > cap)
        return 0;
    memcpy(out, c->data, c->h.payload);
    memcpy(out + c->h.payload, c->data + c->h.payload + c->at, n);
    cut_header(c, out, len, c->at + n >= total);
    net_fill_sums(out, len, NET_FILL_IP | NET_FILL_L4);
    c->at += n;
    c->index++;
    return len;
}

bool net_fragment_begin(struct net_fragment *f, const uint8_t *data, size_t len, uint32_t mtu)
{
    struct net_headers h;
    if (!net_parse(data, len, &h) || h.family != 4 || mtu < NET_MTU_MIN)
        return false;
    uint16_t total = get_be16(data + h.l3 + 2), header = (uint16_t)((data[h.l3] & 15) * 4);
    if (total <= mtu || total > len - h.l3 || total < header)
        return false;
    uint16_t frag = get_be16(data + h.l3 + 6);
    if (frag & IPV4_DF || (frag & IPV4_OFFSET) * 8u + total > UINT16_MAX)
        return false;
    *f = (struct net_fragment){
        .data = data, .len = h.l3 + total, .mtu = mtu, .l3 = h.l3, .header = header};
    return true;
}

size_t net_fragment_next(struct net_fragment *f, uint8_t *out, size_t cap)
{
    uint32_t start = (uint32_t)f->l3 + f->header, total = f->len - start;
    if (f->at >= total)
        return 0;
    uint32_t n = MIN((f->mtu - f->header) & ~7u, total - f->at);
    size_t len = start + n;
    if (!n || len > cap)
        return 0;
    memcpy(out, f->data, start);
    memcpy(out + start, f->data + start + f->at, n);
    uint16_t was = get_be16(f->data + f->l3 + 6);
    bool more = f->at + n < total || was & IPV4_MF;
    put_be16(out + f->l3 + 2, (uint16_t)(f->header + n));
    put_be16(out + f->l3 + 6, (uint16_t)((was & IPV4_OFFSET) + f->at / 8) | (more ? IPV4_MF : 0));
    net_fill_sums(out, len, NET_FILL_IP);
    f->at += n;
    return len;
}

size_t net_tag_insert(const uint8_t *data, size_t len, uint16_t tci, uint8_t *out)
{
    memcpy(out, data, 12);
    put_be16(out + 12, ETHERTYPE_VLAN);
    put_be16(out + 14, tci);
    memcpy(out + 16, data + 12, len - 12);
    return len + 4;
}

bool net_tag_inside(const uint8_t *data, size_t len, uint16_t *tci)
{
    if (len < NET_ETH_HEADER + 4 || get_be16(data + 12) != ETHERTYPE_VLAN)
        return false;
    *tci = get_be16(data + 14);
    return true;
}

size_t net_tag_strip(const uint8_t *data, size_t len, uint8_t *out)
{
    memmove(out, data, 12);
    memmove(out + 12, data + 16, len - 16);
    return len - 4;
}
