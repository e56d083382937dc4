/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The instruction decoder: first byte the mode, the rest guest code. Whatever the bytes, the
 * decoder reads none beyond what it was given, agrees with itself when it is given just the
 * instruction, and names registers by offsets inside the VP.
 */
#include <stdlib.h>
#include <string.h>

#include "core/hv/soft/block.h"
#include "core/hv/soft/ops.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_offset(uint8_t o)
{
    return o <= offsetof(struct soft_vp, seg[HV_GS].base);
}

static void one(const uint8_t *code, unsigned left, unsigned mode)
{
    struct insn i, again;
    uint8_t *copy = malloc(left ? left : 1); /* so that ASan sees the end */
    if (!copy)
        return;
    memcpy(copy, code, left);
    enum decode_result r = soft_decode(&i, copy, left, mode, 0x100);
    if (r == DECODE_OK || r == DECODE_END) {
        if (!i.len || i.len > 15 || i.len > left || !i.fn || !is_offset(i.base) ||
            !is_offset(i.index) || !is_offset(i.segbase) || i.off != 0x100)
            abort();
        if (soft_decode(&again, copy, i.len, mode, 0x100) != r || memcmp(&i, &again, sizeof i))
            abort();
        if (soft_decode(&again, copy, i.len - 1u, mode, 0x100) != DECODE_SHORT)
            abort();
    } else if (r == DECODE_SHORT && left >= 16) {
        abort();
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    for (size_t at = 1; at < size; at++) {
        size_t left = size - at < 20 ? size - at : 20;
        one(data + at, (unsigned)left, data[0] % 3);
    }
    return 0;
}
