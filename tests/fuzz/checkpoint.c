/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a machine's folder says of checkpoints and saved memory: the first byte chooses which. */
#include <stdint.h>
#include <stdlib.h>

#include "core/machine/checkpoint-int.h"
#include "core/machine/memfile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    err e = ERR_INIT;
    struct checkpoint c;
    struct memfile_region regions[MEMFILE_REGIONS];
    if (!size)
        return 0;
    if (data[0] & 1) {
        if (checkpoint_parse((const char *)data + 1, size - 1, &c, &e)) {
            if (!c.name || guid_is_zero(&c.id))
                abort();
            checkpoint_clear(&c);
        }
        return 0;
    }
    AUTO(memfile) m = memfile_parse(data + 1, size - 1, &e);
    if (m && (!memfile_regions(m, regions) || memfile_stored(m) > UINT64_C(1) << 28))
        abort();
    return 0;
}
