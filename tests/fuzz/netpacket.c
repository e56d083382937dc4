/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Frames: headers, sums, cutting, fragments, tags. Byte 0: what the sender left to do, 1-2: segment
 * size, the rest: the frame. */
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/net/packet.h"
#include "core/net/reassembly.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t out[NET_FRAME_MAX + 4];
    struct net_headers h;
    struct net_cut c;
    struct net_fragment f;
    uint16_t tci;
    if (size < 3 + NET_ETH_HEADER || size > NET_FRAME_MAX)
        return 0;
    size_t len = size - 3, n;
    uint8_t *frame = malloc(len); /* its own, so that reading past it is seen */
    if (!frame)
        return 0;
    memcpy(frame, data + 3, len);
    struct net_packet p = {.data = frame, .len = (uint32_t)len, .mss = get_le16(data + 1)};
    net_parse(frame, len, &h);
    net_sums_valid(frame, len);
    if (net_cut_begin(&c, &p))
        while ((n = net_cut_next(&c, out, sizeof out)))
            if (!net_sums_valid(out, n) && n == len)
                abort();
    if (net_fragment_begin(&f, frame, len, NET_MTU_MIN + data[0]))
        while (net_fragment_next(&f, out, sizeof out))
            ;
    if (net_parse(frame, len, &h) && h.family == 4 && h.l3 == NET_ETH_HEADER) {
        /* parts of it, as the input says */
        struct net_reassembly *r = net_reassembly_new();
        for (size_t i = 0; r && i + 1 < size && i < 64; i += 2) {
            put_be16(frame + NET_ETH_HEADER + 6, get_be16(data + i));
            const uint8_t *whole = net_reassembly_add(r, frame, len, i, &n);
            if (whole && !net_parse(whole, n, &h))
                abort();
        }
        net_reassembly_free(r);
    }
    if (net_tag_inside(frame, len, &tci))
        net_tag_strip(frame, len, out);
    net_tag_insert(frame, len, 5, out);
    net_fill_sums(frame, len, data[0]);
    net_fix_large(frame, len);
    free(frame);
    return 0;
}
