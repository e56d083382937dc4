/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Linux's own boot protocol: bzImage and the zero page. */
#include <inttypes.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/chipset/layout.h"
#include "core/machine/boot.h"

enum { ZERO_PAGE = 4096, SECTOR = 512, HEADER = 0x1f1, HEADER_LEAST = 0x268, E820_MAX = 128 };
enum { /* offsets in the zero page; from 0x1f1 on the setup header */
       Z_LFB = 0x00,
       Z_RSDP = 0x70,
       Z_EXT_INITRD = 0xc0,
       Z_EXT_INITRD_SIZE = 0xc4,
       Z_E820_ENTRIES = 0x1e8,
       Z_SETUP_SECTS = 0x1f1,
       Z_SYSSIZE = 0x1f4,
       Z_VID_MODE = 0x1fa,
       Z_BOOT_FLAG = 0x1fe,
       Z_JUMP = 0x201,
       Z_MAGIC = 0x202,
       Z_VERSION = 0x206,
       Z_LOADER = 0x210,
       Z_LOADFLAGS = 0x211,
       Z_INITRD = 0x218,
       Z_INITRD_SIZE = 0x21c,
       Z_CMDLINE = 0x228,
       Z_INITRD_MAX = 0x22c,
       Z_XLOADFLAGS = 0x236,
       Z_CMDLINE_SIZE = 0x238,
       Z_PREFERRED = 0x258,
       Z_INIT_SIZE = 0x260,
       Z_E820 = 0x2d0,
};
enum { LOADED_HIGH = 1, XLF_KERNEL_64 = 1, XLF_ABOVE_4G = 2, LOADER_UNDEFINED = 0xff };
enum { VIDEO_LFB = 0x23, VIDEO_NORMAL = 0xffff };

/* What matters of a setup header, checked. */
struct image {
    uint8_t setup[0x300];          /* the file's first bytes */
    size_t header_end;             /* of the setup header */
    uint64_t payload, payload_len; /* of the protected-mode kernel in the file */
    uint64_t load, init_size;
    uint64_t initrd_limit;
    uint32_t cmdline_size;
    bool is64;
};

static bool not_linux(const struct boot_params *p, err *e)
{
    return err_set(e, ERR_INVALID, "%s is not a Linux kernel (bzImage or ELF)", p->kernel.name);
}

static bool parse_header(const struct boot_params *p, struct image *im, err *e)
{
    uint8_t *h = im->setup;
    if (p->kernel.size < HEADER_LEAST)
        return not_linux(p, e);
    if (!boot_file_read(&p->kernel, 0, h, (size_t)MIN(p->kernel.size, sizeof im->setup), e))
        return false;
    if (get_le16(h + Z_BOOT_FLAG) != 0xaa55 || memcmp(h + Z_MAGIC, "HdrS", 4))
        return not_linux(p, e);
    if (get_le16(h + Z_VERSION) < 0x206 || !(h[Z_LOADFLAGS] & LOADED_HIGH))
        return err_set(e, ERR_UNSUPPORTED, "%s is a Linux kernel too old to be started directly",
                       p->kernel.name);
    im->header_end = MIN((size_t)Z_MAGIC + h[Z_JUMP], sizeof im->setup);
    unsigned sects = h[Z_SETUP_SECTS] ? h[Z_SETUP_SECTS] : 4;
    im->payload = (uint64_t)(sects + 1) * SECTOR;
    uint64_t said = (uint64_t)get_le32(h + Z_SYSSIZE) * 16;
    if (p->kernel.size <= im->payload || p->kernel.size - im->payload + 15 < said) /* rounded up */
        return err_set(e, ERR_CORRUPT, "%s is cut short", p->kernel.name);
    im->payload_len = p->kernel.size - im->payload;
    im->is64 = get_le16(h + Z_VERSION) >= 0x20c && (get_le16(h + Z_XLOADFLAGS) & XLF_KERNEL_64);
    im->cmdline_size = get_le32(h + Z_CMDLINE_SIZE);
    return true;
}

bool boot_is_linux32(const struct boot_file *f)
{
    struct image im;
    const struct boot_params p = {.kernel = *f};
    return parse_header(&p, &im, NULL) && !im.is64;
}

/* Where the kernel goes: where it prefers. One that is loaded lower unpacks itself there all the
 * same. */
static bool place(const struct boot_params *p, struct image *im, err *e)
{
    const uint8_t *h = im->setup;
    uint16_t version = get_le16(h + Z_VERSION);
    im->init_size = im->payload_len;
    im->load = LAYOUT_HIGH_RAM_BASE;
    if (version >= 0x20a) {
        im->init_size = MAX(im->init_size, get_le32(h + Z_INIT_SIZE));
        im->load = get_le64(h + Z_PREFERRED);
    }
    if (im->load < LAYOUT_HIGH_RAM_BASE || !range_within(im->load, im->init_size, p->map->low_end))
        return err_set(e, ERR_INVALID,
                       "%s needs more memory than the machine has (it unpacks to %" PRIu64
                       " MiB from %" PRIu64 " MiB on)",
                       p->kernel.name, (im->init_size >> 20) + 1, im->load >> 20);
    im->initrd_limit = (uint64_t)get_le32(h + Z_INITRD_MAX) + 1;
    if (im->is64 && (get_le16(h + Z_XLOADFLAGS) & XLF_ABOVE_4G))
        im->initrd_limit = UINT64_MAX;
    return true;
}

static void put_e820(uint8_t *zero, const struct memmap *map)
{
    zero[Z_E820_ENTRIES] = (uint8_t)map->n;
    for (size_t i = 0; i < map->n; i++) {
        uint8_t *entry = zero + Z_E820 + 20 * i;
        put_le64(entry, map->range[i].base);
        put_le64(entry + 8, map->range[i].size);
        put_le32(entry + 16, (uint32_t)map->range[i].kind);
    }
}

/* struct screen_info, as a VESA BIOS' linear mode would be described. */
static void put_screen(uint8_t *zero, const struct boot_framebuffer *fb)
{
    uint8_t *s = zero + Z_LFB;
    if (!fb->width)
        return;
    uint64_t size = (uint64_t)fb->stride * fb->height;
    s[0x0f] = VIDEO_LFB;
    put_le16(s + 0x12, (uint16_t)fb->width);
    put_le16(s + 0x14, (uint16_t)fb->height);
    put_le16(s + 0x16, 32);
    put_le32(s + 0x18, (uint32_t)fb->base);
    put_le32(s + 0x1c, (uint32_t)div_round_up(size, 65536)); /* in 64 KiB */
    put_le16(s + 0x24, (uint16_t)fb->stride);
    static const uint8_t places[] = {8, 16, 8, 8, 8, 0, 8, 24}; /* size and position: r, g, b, x */
    memcpy(s + 0x26, places, sizeof places);
    put_le32(s + 0x3a, (uint32_t)(fb->base >> 32));
    put_le32(s + 0x36, fb->base >> 32 ? 2 : 0); /* capabilities: 64-bit base */
}

bool boot_put_zero_page(const struct boot_params *p, struct hv_memory *mem, const uint8_t *header,
                        size_t header_len, uint64_t initrd, err *e)
{
    uint8_t z[ZERO_PAGE] = {0};
    if (header) {
        memcpy(z + HEADER, header, MIN(header_len, (size_t)(Z_E820 - HEADER)));
    } else {
        put_le16(z + Z_BOOT_FLAG, 0xaa55);
        memcpy(z + Z_MAGIC, "HdrS", 4);
        put_le16(z + Z_VERSION, 0x20f);
    }
    put_screen(z, &p->fb);
    put_e820(z, p->map);
    put_le64(z + Z_RSDP, LAYOUT_ACPI_BASE);
    put_le16(z + Z_VID_MODE, VIDEO_NORMAL);
    z[Z_LOADER] = LOADER_UNDEFINED;
    z[Z_LOADFLAGS] |= LOADED_HIGH;
    put_le32(z + Z_CMDLINE, BOOT_CMDLINE);
    if (initrd) {
        put_le32(z + Z_INITRD, (uint32_t)initrd);
        put_le32(z + Z_EXT_INITRD, (uint32_t)(initrd >> 32));
        put_le32(z + Z_INITRD_SIZE, (uint32_t)p->initrd.size);
        put_le32(z + Z_EXT_INITRD_SIZE, (uint32_t)(p->initrd.size >> 32));
    }
    return hv_memory_write(mem, BOOT_INFO, z, sizeof z) ||
           err_set(e, ERR_INVALID, "The machine has too little memory to start a kernel");
}

bool boot_load_bzimage(const struct boot_params *p, struct hv_memory *mem, struct hv_vp_state *s,
                       err *e)
{
    struct image im;
    uint64_t initrd;
    memset(&im, 0, sizeof im);
    if (!parse_header(p, &im, e) || !place(p, &im, e))
        return false;
    if (!boot_file_load(&p->kernel, im.payload, im.payload_len, mem, im.load, e) ||
        !boot_put_initrd(p, mem, im.load, im.load + im.init_size, im.initrd_limit, &initrd, e) ||
        !boot_put_cmdline(p, mem, im.cmdline_size, e) ||
        !boot_put_zero_page(p, mem, im.setup + HEADER,
                            im.header_end > HEADER ? im.header_end - HEADER : 0, initrd, e))
        return false;
    s->gpr[HV_RSI] = BOOT_INFO;
    return im.is64 ? boot_enter_64(mem, s, im.load + 0x200, e) : boot_enter_32(mem, s, im.load, e);
}
