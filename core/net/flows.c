/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/net/flows.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"

enum { WAYS = 4, TCP_RST = 4, TCP_ACK = 0x10, TTL = 64 };

static unsigned hash(const struct net_flow *f)
{
    uint32_t h = 2166136261u;
    const uint8_t *b = f->peer;
    for (unsigned i = 0; i < sizeof f->peer; i++)
        h = (h ^ b[i]) * 16777619u;
    h = (h ^ f->guest_port) * 16777619u;
    h = (h ^ f->peer_port) * 16777619u;
    return (h >> 8) % (NET_FLOWS / WAYS) * WAYS;
}

static bool same(const struct net_flow *a, const struct net_flow *b)
{
    return a->family == b->family && a->guest_port == b->guest_port &&
           a->peer_port == b->peer_port && !memcmp(a->guest, b->guest, sizeof a->guest) &&
           !memcmp(a->peer, b->peer, sizeof a->peer);
}

static void read_frame(const uint8_t *frame, const struct net_headers *h, struct net_flow *out)
{
    size_t len = h->family == 4 ? 4 : 16;
    const uint8_t *from = frame + h->l3 + (h->family == 4 ? 12 : 8);
    *out = (struct net_flow){.family = h->family,
                             .guest_port = get_be16(frame + h->l4),
                             .peer_port = get_be16(frame + h->l4 + 2),
                             .expected = get_be32(frame + h->l4 + 8)};
    memcpy(out->peer_mac, frame, 6);
    memcpy(out->guest_mac, frame + 6, 6);
    memcpy(out->guest, from, len);
    memcpy(out->peer, from + len, len);
}

/* The flow's place, or the one in its set that was silent for longest. */
static struct net_flow *place(struct net_flows *f, const struct net_flow *k)
{
    struct net_flow *set = &f->set[hash(k)], *best = set;
    for (unsigned i = 0; i < WAYS; i++) {
        if (set[i].family && same(&set[i], k))
            return &set[i];
        if (best->family && (!set[i].family || f->now - set[i].used > f->now - best->used))
            best = &set[i];
    }
    return best;
}

void net_flows_note(struct net_flows *f, const uint8_t *frame, const struct net_headers *h)
{
    struct net_flow k;
    uint8_t flags = frame[h->l4 + 13];
    if (!h->tcp || h->l3 != NET_ETH_HEADER || (!(flags & TCP_ACK) && !(flags & TCP_RST)))
        return; /* a SYN is tried again by itself */
    read_frame(frame, h, &k);
    struct net_flow *at = place(f, &k);
    if (flags & TCP_RST) {
        if (at->family && same(at, &k))
            at->family = 0;
        return;
    }
    *at = k;
    at->used = ++f->now;
}

static int by_use(const void *a, const void *b)
{
    const struct net_flow *const *x = a, *const *y = b;
    return (*x)->used < (*y)->used ? 1 : -1;
}

static void put(const struct net_flow *f, uint8_t out[NET_FLOW_SIZE])
{
    memset(out, 0, NET_FLOW_SIZE);
    out[0] = f->family;
    memcpy(out + 2, f->guest_mac, 6);
    memcpy(out + 8, f->peer_mac, 6);
    memcpy(out + 14, f->guest, 16);
    memcpy(out + 30, f->peer, 16);
    put_le16(out + 46, f->guest_port);
    put_le16(out + 48, f->peer_port);
    put_le32(out + 50, f->expected);
}

size_t net_flows_save(const struct net_flows *f, uint8_t *out, size_t room)
{
    const struct net_flow *list[NET_FLOWS];
    size_t n = 0, done = 0;
    for (unsigned i = 0; i < NET_FLOWS; i++)
        if (f->set[i].family)
            list[n++] = &f->set[i];
    qsort(list, n, sizeof list[0], by_use);
    for (; done < n && (done + 1) * NET_FLOW_SIZE <= room; done++)
        put(list[done], out + done * NET_FLOW_SIZE);
    return done * NET_FLOW_SIZE;
}

bool net_flow_load(const uint8_t in[NET_FLOW_SIZE], struct net_flow *out)
{
    *out = (struct net_flow){.family = in[0],
                             .guest_port = get_le16(in + 46),
                             .peer_port = get_le16(in + 48),
                             .expected = get_le32(in + 50)};
    memcpy(out->guest_mac, in + 2, 6);
    memcpy(out->peer_mac, in + 8, 6);
    memcpy(out->guest, in + 14, 16);
    memcpy(out->peer, in + 30, 16);
    return out->family == 4 || out->family == 6;
}

/* Headers of a TCP segment without data; the sums are filled. */
size_t net_flow_probe(const struct net_flow *f, uint8_t out[NET_FLOW_PROBE])
{
    size_t l3 = f->family == 4 ? 20 : 40, len = NET_ETH_HEADER + l3 + 20;
    uint8_t *ip = out + NET_ETH_HEADER, *tcp = ip + l3;
    memset(out, 0, NET_FLOW_PROBE);
    memcpy(out, f->guest_mac, 6);
    memcpy(out + 6, f->peer_mac, 6);
    put_be16(out + 12, f->family == 4 ? 0x0800 : 0x86dd);
    if (f->family == 4) {
        ip[0] = 0x45;
        put_be16(ip + 2, 40);
        ip[8] = TTL;
        ip[9] = 6;
        memcpy(ip + 12, f->peer, 4);
        memcpy(ip + 16, f->guest, 4);
    } else {
        ip[0] = 0x60;
        put_be16(ip + 4, 20);
        ip[6] = 6;
        ip[7] = TTL;
        memcpy(ip + 8, f->peer, 16);
        memcpy(ip + 24, f->guest, 16);
    }
    put_be16(tcp, f->peer_port);
    put_be16(tcp + 2, f->guest_port);
    put_be32(tcp + 4, f->expected - 1);
    tcp[12] = 0x50;
    tcp[13] = TCP_ACK;
    net_fill_sums(out, len, NET_FILL_IP | NET_FILL_L4);
    return len;
}
