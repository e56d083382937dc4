/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Ethernet frames on their way through a switch, with the work that their sender left to whoever
 * puts them on a wire: checksums (RFC 1071) and segmentation of large TCP packets. Frames come from
 * guests and peers: nothing in them is believed beyond the bytes that are there.
 * Thread: any; no state.
 */
#ifndef VIREO_NET_PACKET_H
#define VIREO_NET_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    NET_ETH_HEADER = 14,
    NET_FRAME_MAX = 65536 + 256, /* a large packet with its headers */
    NET_MTU_DEFAULT = 1500,
    NET_MTU_MIN = 68,
    NET_MTU_MAX = 9000,
};

enum net_packet_flags {
    NET_FILL_IP = 1, /* the IPv4 header checksum is to be computed */
    NET_FILL_L4 = 2, /* the TCP or UDP checksum is to be computed */
    NET_SUMS_OK = 4, /* the sums are known to be right (receive side) */
};

/* A frame, borrowed for the length of a call. Without FCS, with no VLAN tag inside. */
struct net_packet {
    const uint8_t *data;
    uint32_t len;
    uint16_t mss;  /* nonzero: one large TCP packet, to be cut into segments of this payload */
    uint8_t flags; /* enum net_packet_flags */
    bool tagged;   /* vlan_tci counts: priority 15:13, drop eligible 12, id 11:0 */
    uint16_t vlan_tci;
};

struct net_headers {
    uint16_t l3, l4, payload; /* offsets; payload only for TCP and UDP */
    uint8_t family;           /* 4, 6; 0: not IP */
    uint8_t proto;            /* 6, 17, ...; of the last header reached */
    bool fragment;            /* a part of a datagram: has no usable L4 header */
    bool tcp, udp;            /* the L4 header is whole and inside */
};

/* Finds the headers; false if the frame is shorter than its own Ethernet or IP header says. The IP
 * total length is not looked at (a large packet's is zero). An 802.1Q tag is stepped over. */
bool net_parse(const uint8_t *data, size_t len, struct net_headers *h);

/* One's complement sum of bytes, not folded nor inverted; chunks but the last are of even length.
 */
uint64_t net_sum(const void *data, size_t len, uint64_t sum);
uint16_t net_sum_fold(
    uint64_t sum); /* folded and inverted, ready to store as it is (network order) */

/*
 * Computes the sums that `flags` ask for, in place. The L4 length is what the IP length field says
 * where it fits the frame, else all that is there. Frames without such a header stay as they are.
 */
void net_fill_sums(uint8_t *data, size_t len, unsigned flags);
/* Writes the IP length fields of a large packet (zero as LSOv2 sends it), then fills all sums.
 * False if it is no TCP packet or longer than IP can say. */
bool net_fix_large(uint8_t *data, size_t len);
/* Whether the IPv4 header's and the TCP or UDP checksum are right (UDP over IPv4 may have none). */
bool net_sums_valid(const uint8_t *data, size_t len);

/* Cutting a large TCP packet into segments, each a whole frame with all its sums. */
struct net_cut {
    const uint8_t *data;
    struct net_headers h;
    uint32_t len, at; /* at: payload bytes already out */
    uint16_t mss, index;
};
/* False: no TCP packet, or mss 0, or it would be more than 65535 segments. */
bool net_cut_begin(struct net_cut *c, const struct net_packet *p);
/* Writes the next segment to `out`; its length, 0 at the end or if `cap` is too small. */
size_t net_cut_next(struct net_cut *c, uint8_t *out, size_t cap);

/* Cutting an IPv4 datagram that is larger than `mtu` into fragments (RFC 791). */
struct net_fragment {
    const uint8_t *data;
    uint32_t len, at, mtu;
    uint16_t l3, header;
};
/* False: not IPv4, may not be fragmented, or needs no cutting. Sums must be filled before. */
bool net_fragment_begin(struct net_fragment *f, const uint8_t *data, size_t len, uint32_t mtu);
size_t net_fragment_next(struct net_fragment *f, uint8_t *out, size_t cap);

/* 802.1Q: `out` holds len + 4 bytes. */
size_t net_tag_insert(const uint8_t *data, size_t len, uint16_t tci, uint8_t *out);
/* Whether the frame has a tag inside, and its TCI. */
bool net_tag_inside(const uint8_t *data, size_t len, uint16_t *tci);
/* Copies without the tag; returns len - 4. */
size_t net_tag_strip(const uint8_t *data, size_t len, uint8_t *out);

static inline bool net_mac_is_multicast(const uint8_t *mac)
{
    return mac[0] & 1;
}
static inline bool net_mac_is_broadcast(const uint8_t *mac)
{
    return (mac[0] & mac[1] & mac[2] & mac[3] & mac[4] & mac[5]) == 0xff;
}

#endif
