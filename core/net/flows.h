/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * TCP connections that a guest has through the NAT, as its own segments tell. They are saved with
 * the machine: after a restore the NAT knows nothing of them, and a guest that only waits for data
 * would wait for ever. Each connection is sent a keep-alive (RFC 9293 3.8.4) in the peer's name;
 * the guest acknowledges, and the NAT answers a segment of no connection with a reset that fits.
 * What a guest sends decides what is remembered; the table has its size. Saved flows are hostile.
 * Thread: the I/O loop's.
 */
#ifndef VIREO_NET_FLOWS_H
#define VIREO_NET_FLOWS_H

#include "core/net/packet.h"

enum { NET_FLOWS = 1024, NET_FLOW_SIZE = 56, NET_FLOW_PROBE = 14 + 40 + 20 };

struct net_flow {
    uint8_t family; /* 4, 6; 0: none */
    uint8_t guest_mac[6], peer_mac[6];
    uint8_t guest[16], peer[16]; /* the first 4 bytes for IPv4 */
    uint16_t guest_port, peer_port;
    uint32_t expected; /* the sequence number that the guest waits for */
    uint32_t used;     /* order of the last segment */
};

struct net_flows {
    struct net_flow set[NET_FLOWS];
    uint32_t now;
};

/* A frame from the guest with a whole TCP header. */
void net_flows_note(struct net_flows *f, const uint8_t *frame, const struct net_headers *h);
/* The most recent first; bytes written, a multiple of NET_FLOW_SIZE. */
size_t net_flows_save(const struct net_flows *f, uint8_t *out, size_t room);
/* One flow; false: not one. */
bool net_flow_load(const uint8_t in[NET_FLOW_SIZE], struct net_flow *out);
/* The keep-alive as a frame to the guest; its length. */
size_t net_flow_probe(const struct net_flow *f, uint8_t out[NET_FLOW_PROBE]);

#endif
