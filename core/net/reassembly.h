/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Putting fragments of IPv4 datagrams together (RFC 791 3.2, RFC 815), for an uplink that cannot.
 * Fragments come from a guest: at most eight datagrams are held, the oldest gives way; one whose
 * parts overlap, or disagree about the end, is dropped whole (as RFC 5722 has it for IPv6). Thread:
 * one object belongs to one thread.
 */
#ifndef VIREO_NET_REASSEMBLY_H
#define VIREO_NET_REASSEMBLY_H

#include <stddef.h>
#include <stdint.h>

struct net_reassembly;
struct net_reassembly *net_reassembly_new(void); /* NULL: no memory */
void net_reassembly_free(struct net_reassembly *r);

/* Takes a frame without a tag that holds a fragment of an IPv4 datagram (net_parse said so). The
 * whole frame, its IP header's sum filled, when this was the last part: valid until the next call;
 * else NULL. `now_ns`: parts that wait for longer than 15 s are forgotten. */
const uint8_t *net_reassembly_add(struct net_reassembly *r, const uint8_t *data, size_t len,
                                  uint64_t now_ns, size_t *out_len);

#endif
