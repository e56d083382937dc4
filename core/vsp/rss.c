/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Receive side scaling: the Toeplitz hash (MS-NDIS "RSS hashing functions"). */
#include <string.h>

#include "core/base/bytes.h"
#include "core/vsp/netvsp-priv.h"

uint32_t rss_toeplitz(const uint8_t key[NETVSP_RSS_KEY], const uint8_t *data, size_t len)
{
    uint32_t hash = 0, window = get_be32(key);
    for (size_t i = 0; i < len && i + 4 < NETVSP_RSS_KEY; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            if (data[i] & 0x80 >> bit)
                hash ^= window;
            window = window << 1 | (key[i + 4] >> (7 - bit) & 1);
        }
    return hash;
}

bool rss_hash(const struct netvsp_rss *rss, const uint8_t *frame, size_t len, uint32_t *hash)
{
    struct net_headers h;
    uint8_t in[36];
    if (!net_parse(frame, len, &h) || !h.family)
        return false;
    bool v4 = h.family == 4;
    size_t n = v4 ? 8 : 32;
    memcpy(in, frame + h.l3 + (v4 ? 12 : 8), n);
    if (h.tcp && rss->hash_info & (v4 ? NDIS_HASH_TCP_IPV4 : NDIS_HASH_TCP_IPV6)) {
        memcpy(in + n, frame + h.l4, 4);
        n += 4;
    } else if (!(rss->hash_info & (v4 ? NDIS_HASH_IPV4 : NDIS_HASH_IPV6))) {
        return false;
    }
    *hash = rss_toeplitz(rss->key, in, n);
    return true;
}
