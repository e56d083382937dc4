/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/net/reassembly.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/net/packet.h"

enum {
    DATAGRAMS = 8,
    PARTS = 8192, /* of eight bytes, of a datagram's payload */
    PAYLOAD_MAX = 65535 - 20,
    HEADER_MAX = NET_ETH_HEADER + 60,
    L3 = NET_ETH_HEADER,
    MORE = 0x2000,
    OFFSET = 0x1fff,
};
#define LIFE_NS (15 * UINT64_C(1000000000))

struct datagram {
    bool used;
    uint8_t key[11]; /* source, destination, id, protocol */
    uint64_t since;
    uint32_t header; /* with the Ethernet header; 0: the first part is not there */
    uint32_t got;    /* bytes of payload */
    uint32_t end;    /* of the farthest part */
    uint32_t total;  /* of payload; 0: the last part is not there */
    uint64_t have[PARTS / 64];
    uint8_t head[HEADER_MAX];
    uint8_t *payload; /* PAYLOAD_MAX; allocated once */
};

struct net_reassembly {
    struct datagram d[DATAGRAMS];
    uint8_t whole[HEADER_MAX + PAYLOAD_MAX];
};

struct net_reassembly *net_reassembly_new(void)
{
    return calloc(1, sizeof(struct net_reassembly));
}

void net_reassembly_free(struct net_reassembly *r)
{
    for (unsigned i = 0; r && i < DATAGRAMS; i++)
        free(r->d[i].payload);
    free(r);
}

static struct datagram *find(struct net_reassembly *r, const uint8_t key[11], uint64_t now)
{
    struct datagram *oldest = &r->d[0];
    for (unsigned i = 0; i < DATAGRAMS; i++) {
        struct datagram *d = &r->d[i];
        if (d->used && now - d->since > LIFE_NS)
            d->used = false;
        if (d->used && memcmp(d->key, key, sizeof d->key) == 0)
            return d;
        if (oldest->used && (!d->used || d->since < oldest->since))
            oldest = d;
    }
    uint8_t *payload = oldest->payload ? oldest->payload : malloc(PAYLOAD_MAX);
    if (!payload)
        return NULL;
    *oldest = (struct datagram){.used = true, .since = now, .payload = payload};
    memcpy(oldest->key, key, sizeof oldest->key);
    return oldest;
}

/* False: some of it was there before. */
static bool note_parts(struct datagram *d, uint32_t at, uint32_t len)
{
    uint32_t first = at / 8, end = (at + len + 7) / 8;
    for (uint32_t i = first; i < end; i++) {
        uint64_t bit = UINT64_C(1) << (i % 64);
        if (d->have[i / 64] & bit)
            return false;
        d->have[i / 64] |= bit;
    }
    return true;
}

static bool take_part(struct datagram *d, const uint8_t *data, uint32_t header, uint32_t at,
                      uint32_t len, bool more)
{
    if (!len || (more && len % 8) || at + len > PAYLOAD_MAX || (d->total && at + len > d->total) ||
        !note_parts(d, at, len))
        return false;
    if (!more) {
        if (d->total || d->end > at + len)
            return false;
        d->total = at + len;
    }
    d->end = MAX(d->end, at + len);
    if (at == 0) {
        d->header = header;
        memcpy(d->head, data, header);
    }
    memcpy(d->payload + at, data + header, len);
    d->got += len;
    return true;
}

static const uint8_t *give_whole(struct net_reassembly *r, struct datagram *d, size_t *out_len)
{
    uint32_t ip_len = d->header - L3 + d->total;
    d->used = false;
    if (ip_len > UINT16_MAX)
        return NULL;
    memcpy(r->whole, d->head, d->header);
    memcpy(r->whole + d->header, d->payload, d->total);
    put_be16(r->whole + L3 + 2, (uint16_t)ip_len);
    put_be16(r->whole + L3 + 6, 0);
    *out_len = d->header + d->total;
    net_fill_sums(r->whole, *out_len, NET_FILL_IP);
    return r->whole;
}

const uint8_t *net_reassembly_add(struct net_reassembly *r, const uint8_t *data, size_t len,
                                  uint64_t now_ns, size_t *out_len)
{
    uint8_t key[11];
    uint32_t ip_header = (data[L3] & 15) * 4u, ip_len = get_be16(data + L3 + 2);
    uint16_t word = get_be16(data + L3 + 6);
    if (ip_len < ip_header || ip_len > len - L3)
        return NULL;
    memcpy(key, data + L3 + 12, 8);
    memcpy(key + 8, data + L3 + 4, 2);
    key[10] = data[L3 + 9];
    struct datagram *d = find(r, key, now_ns);
    if (!d)
        return NULL;
    if (!take_part(d, data, L3 + ip_header, (word & OFFSET) * 8u, ip_len - ip_header,
                   word & MORE)) {
        d->used = false;
        return NULL;
    }
    return d->total && d->header && d->got == d->total ? give_whole(r, d, out_len) : NULL;
}
