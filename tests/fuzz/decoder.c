/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The software processor's instruction decoder: any bytes, any code size. It must not read past
 * what it was given, must say how long an instruction is, must not need more than 15 bytes, and
 * must give every instruction a handler. The first byte of the input chooses the mode.
 */
#include <stdlib.h>
#include <string.h>

#include "core/hv/soft/block.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

/* Offsets that an instruction carries must lie in struct soft_vp. */
static void check(const struct insn *i, unsigned left)
{
    require(i->fn != NULL);
    require(i->len >= 1 && i->len <= 15 && i->len <= left);
    if (!(i->flags & INSN_MEM))
        return;
    require(i->base <= offsetof(struct soft_vp, block_rip));
    require(i->index <= offsetof(struct soft_vp, zero));
    require(i->seg < HV_LDTR);
}

static void one(const uint8_t *p, unsigned left, unsigned mode)
{
    /* An allocation of its own, so that a sanitizer sees reads past the end. */
    uint8_t *copy = malloc(left ? left : 1);
    struct insn insn = {.fn = NULL}, again = {.fn = NULL};
    if (!copy)
        return;
    memcpy(copy, p, left);
    enum decode_result r = soft_decode(&insn, copy, left, mode, 0);
    if (r == DECODE_SHORT)
        require(left < 15);
    else if (r == DECODE_OK || r == DECODE_END)
        check(&insn, left);
    /* The same bytes with any following decode the same. */
    uint8_t wide[32];
    if (left <= 15 && (r == DECODE_OK || r == DECODE_END)) {
        memset(wide, 0x66, sizeof(wide));
        memcpy(wide, copy, left);
        require(soft_decode(&again, wide, sizeof(wide), mode, 0) == r);
        require(again.len == insn.len && again.fn == insn.fn);
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned modes[] = {SOFT_MODE16, SOFT_MODE32, SOFT_MODE64};
    if (size < 2)
        return 0;
    unsigned mode = modes[data[0] % 3];
    for (size_t at = 1; at < size && at < 256; at++)
        one(data + at, (unsigned)(size - at > 24 ? 24 : size - at), mode);
    return 0;
}
