/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Multiboot 1: ELF kernels and those that say in the header where they go. */
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/chipset/layout.h"
#include "core/machine/boot.h"

enum { SEARCH = 8192, MAGIC = 0x1badb002, LOADED_MAGIC = 0x2badb002 };
enum { WANT_PAGE_ALIGNED = 1, WANT_MEMORY = 2, WANT_VIDEO = 4, HAS_ADDRESSES = 1 << 16 };
enum { REQUIRED_KNOWN = WANT_PAGE_ALIGNED | WANT_MEMORY };
enum { INFO = 116, MODULE = 16, RANGE = 24 };
enum { INFO_MEMORY = 1, INFO_CMDLINE = 4, INFO_MODULES = 8, INFO_MAP = 0x40, INFO_LOADER = 0x200 };

struct header {
    uint64_t at; /* in the file */
    uint32_t flags, header_addr, load_addr, load_end, bss_end, entry;
};

static bool find_header(const struct boot_file *f, struct header *h, err *e)
{
    uint8_t buf[SEARCH];
    size_t len = (size_t)MIN(f->size, sizeof buf);
    if (!boot_file_read(f, 0, buf, len, e))
        return false;
    for (size_t i = 0; i + 12 <= len; i += 4) {
        const uint8_t *p = buf + i;
        if (get_le32(p) != MAGIC || get_le32(p) + get_le32(p + 4) + get_le32(p + 8) != 0)
            continue;
        *h = (struct header){.at = i, .flags = get_le32(p + 4)};
        if (h->flags & HAS_ADDRESSES) {
            if (i + 32 > len)
                break;
            h->header_addr = get_le32(p + 12);
            h->load_addr = get_le32(p + 16);
            h->load_end = get_le32(p + 20);
            h->bss_end = get_le32(p + 24);
            h->entry = get_le32(p + 28);
        }
        return true;
    }
    return err_set(e, ERR_INVALID, "%s is not a multiboot kernel", f->name);
}

/* The a.out kludge: load_addr corresponds to a place in the file before the header. */
static bool load_by_header(const struct boot_params *p, const struct header *h,
                           struct hv_memory *mem, struct boot_elf *out, err *e)
{
    const struct boot_file *f = &p->kernel;
    uint64_t before = (uint64_t)h->header_addr - h->load_addr;
    if (h->load_addr > h->header_addr || before > h->at)
        return err_set(e, ERR_CORRUPT, "%s has a broken multiboot header", f->name);
    uint64_t off = h->at - before, len = f->size - off;
    if (h->load_end) {
        if (h->load_end < h->load_addr || h->load_end - h->load_addr > len)
            return err_set(e, ERR_CORRUPT, "%s is cut short", f->name);
        len = h->load_end - h->load_addr;
    }
    uint64_t end = MAX((uint64_t)h->load_addr + len, h->bss_end);
    if (h->load_addr < LAYOUT_HIGH_RAM_BASE || end > p->map->low_end)
        return err_set(e, ERR_INVALID,
                       "%s wants to be loaded where the machine has no memory for it", f->name);
    *out = (struct boot_elf){.entry = h->entry, .lowest = h->load_addr, .highest = end};
    uint64_t bss = h->load_addr + len;
    for (uint64_t at = bss; at < end; at += MIN(end - at, HV_PAGE_SIZE)) {
        static const uint8_t none[HV_PAGE_SIZE];
        if (!hv_memory_write(mem, at, none, (size_t)MIN(end - at, HV_PAGE_SIZE)))
            return err_set(e, ERR_INVALID, "%s does not fit into the machine's memory", f->name);
    }
    return boot_file_load(f, off, len, mem, h->load_addr, e);
}

static size_t put_map(uint8_t *out, const struct memmap *map)
{
    for (size_t i = 0; i < map->n; i++) {
        uint8_t *r = out + i * RANGE;
        put_le32(r, RANGE - 4);
        put_le64(r + 4, map->range[i].base);
        put_le64(r + 12, map->range[i].size);
        put_le32(r + 20, (uint32_t)map->range[i].kind);
    }
    return map->n * RANGE;
}

static bool put_info(const struct boot_params *p, struct hv_memory *mem, uint64_t module, err *e)
{
    uint8_t info[INFO] = {0}, rest[MODULE + 16 + MEMMAP_MAX * RANGE] = {0};
    uint32_t flags = INFO_MEMORY | INFO_CMDLINE | INFO_MAP | INFO_LOADER;
    put_le32(rest, (uint32_t)module);
    put_le32(rest + 4, (uint32_t)(module + p->initrd.size));
    put_le32(rest + 8, BOOT_INFO_2 + MODULE); /* the module's string is our name, too */
    memcpy(rest + MODULE, "Vireo", 6);
    size_t map_len = put_map(rest + MODULE + 16, p->map);
    if (module)
        flags |= INFO_MODULES;
    put_le32(info, flags);
    put_le32(info + 4, LAYOUT_EBDA >> 10);
    put_le32(info + 8, (uint32_t)((p->map->low_end - LAYOUT_HIGH_RAM_BASE) >> 10));
    put_le32(info + 16, BOOT_CMDLINE);
    put_le32(info + 20, module ? 1 : 0);
    put_le32(info + 24, BOOT_INFO_2);
    put_le32(info + 44, (uint32_t)map_len);
    put_le32(info + 48, BOOT_INFO_2 + MODULE + 16);
    put_le32(info + 64, BOOT_INFO_2 + MODULE);
    if (!hv_memory_write(mem, BOOT_INFO, info, sizeof info) ||
        !hv_memory_write(mem, BOOT_INFO_2, rest, sizeof rest))
        return err_set(e, ERR_INVALID, "The machine has too little memory to start a kernel");
    return true;
}

bool boot_load_multiboot(const struct boot_params *p, struct hv_memory *mem, struct hv_vp_state *s,
                         err *e)
{
    struct header h = {0};
    struct boot_elf image;
    uint64_t module;
    if (!find_header(&p->kernel, &h, e))
        return false;
    if (h.flags & 0xffff & ~(unsigned)(REQUIRED_KNOWN | WANT_VIDEO))
        return err_set(e, ERR_UNSUPPORTED, "%s asks for multiboot features that are not known",
                       p->kernel.name);
    bool ok = h.flags & HAS_ADDRESSES ? load_by_header(p, &h, mem, &image, e)
                                      : boot_elf_load(&p->kernel, p->map, mem, &image, e);
    if (!ok || !boot_put_initrd(p, mem, image.lowest, image.highest, LAYOUT_RAM_HOLE, &module, e) ||
        !boot_put_cmdline(p, mem, BOOT_CMDLINE_MAX - 1, e) || !put_info(p, mem, module, e))
        return false;
    s->gpr[HV_RAX] = LOADED_MAGIC;
    s->gpr[HV_RBX] = BOOT_INFO;
    return boot_enter_32(mem, s, image.entry, e);
}
