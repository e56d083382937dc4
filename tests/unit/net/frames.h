/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Frames made for tests: Ethernet, IPv4 or IPv6, TCP or UDP. */
#ifndef VIREO_TESTS_NET_FRAMES_H
#define VIREO_TESTS_NET_FRAMES_H

#include <arpa/inet.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/net/packet.h"

static const uint8_t guest_mac[6] = {0x00, 0x15, 0x5d, 1, 2, 3};
static const uint8_t other_mac[6] = {0x00, 0x15, 0x5d, 9, 8, 7};

static inline void put_eth(uint8_t *f, const uint8_t *to, const uint8_t *from, uint16_t type)
{
    memcpy(f, to, 6);
    memcpy(f + 6, from, 6);
    put_be16(f + 12, type);
}

/* IPv4 header without sum; returns the offset behind it. */
static inline size_t put_ipv4(uint8_t *f, uint8_t proto, const char *from, const char *to,
                              size_t payload)
{
    uint8_t *ip = f + 14;
    memset(ip, 0, 20);
    ip[0] = 0x45;
    put_be16(ip + 2, (uint16_t)(20 + payload));
    put_be16(ip + 4, 0x1234);
    ip[8] = 64;
    ip[9] = proto;
    inet_pton(AF_INET, from, ip + 12);
    inet_pton(AF_INET, to, ip + 16);
    return 34;
}

static inline size_t put_ipv6(uint8_t *f, uint8_t proto, const char *from, const char *to,
                              size_t payload)
{
    uint8_t *ip = f + 14;
    memset(ip, 0, 40);
    ip[0] = 0x60;
    put_be16(ip + 4, (uint16_t)payload);
    ip[6] = proto;
    ip[7] = 64;
    inet_pton(AF_INET6, from, ip + 8);
    inet_pton(AF_INET6, to, ip + 24);
    return 54;
}

static inline size_t put_tcp(uint8_t *f, size_t at, uint16_t from, uint16_t to, uint32_t seq,
                             uint8_t flags, const void *data, size_t len)
{
    uint8_t *t = f + at;
    memset(t, 0, 20);
    put_be16(t, from);
    put_be16(t + 2, to);
    put_be32(t + 4, seq);
    t[12] = 5 << 4;
    t[13] = flags;
    put_be16(t + 14, 65535);
    if (len)
        memcpy(t + 20, data, len);
    return at + 20 + len;
}

static inline size_t put_udp(uint8_t *f, size_t at, uint16_t from, uint16_t to, const void *data,
                             size_t len)
{
    uint8_t *u = f + at;
    put_be16(u, from);
    put_be16(u + 2, to);
    put_be16(u + 4, (uint16_t)(8 + len));
    put_be16(u + 6, 0);
    memcpy(u + 8, data, len);
    return at + 8 + len;
}

#endif
