/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Kernel files: bzImage, ELF, multiboot. The first byte chooses the protocol and whether there is
 * an initrd (then the file itself is that, too); the rest is the file.
 */
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/machine/boot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct memmap map;
    static struct hv_memory *mem;
    struct hv_vp_state s;
    err e = ERR_INIT;
    if (size < 1)
        return 0;
    if (!mem) {
        mem = hv_memory_new(NULL);
        if (!mem || !memmap_init(&map, MIB(48), NULL) || !memmap_add_ram(&map, mem, NULL))
            abort();
    }
    struct boot_file file = {.name = "kernel", .fd = -1, .data = data + 1, .size = size - 1};
    struct boot_params p = {.protocol = data[0] & 1 ? BOOT_MULTIBOOT : BOOT_LINUX,
                            .kernel = file,
                            .cmdline = "quiet",
                            .map = &map};
    if (data[0] & 2)
        p.initrd = file;
    bool ok = boot_load(&p, mem, &s, &e);
    if (!ok && !e.text[0])
        abort();
    return 0;
}
