/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Generation 1: the emulated PC around a BIOS. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/chipset/floppy.h"
#include "core/chipset/fwcfg.h"
#include "core/chipset/i8042.h"
#include "core/chipset/ide.h"
#include "core/chipset/layout.h"
#include "core/chipset/piix4.h"
#include "core/chipset/tulip-rom.h"
#include "core/chipset/vga.h"
#include "core/machine/vm-int.h"

enum { FIRMWARE_MOST = 4 << 20, MENU_WAIT_MS = 1000 };

bool vm_is_pc(const struct vm_config *c)
{
    return c->generation == 1 && c->boot == VM_BOOT_FIRMWARE;
}

bool vm_has_floppy(const struct vm_config *c)
{
    for (uint32_t i = 0; i < c->n_disks; i++)
        if (c->disks[i].bus == VM_BUS_FLOPPY)
            return true;
    return false;
}

/* ---- firmware: files of the host, through the opener as every file ---- */

static bool read_file(int fd, const char *name, uint8_t **data, size_t *len, err *e)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return err_errno(e, errno, "The firmware \"%s\" cannot be read", name);
    if (!S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > FIRMWARE_MOST)
        return err_set(e, ERR_INVALID, "\"%s\" is no firmware", name);
    *len = (size_t)st.st_size;
    *data = malloc(*len);
    if (!*data)
        return err_set(e, ERR_NO_MEMORY, "There is no memory for the firmware");
    ssize_t n = pread(fd, *data, *len, 0);
    if (n == (ssize_t)*len)
        return true;
    free(*data);
    return err_errno(e, n < 0 ? errno : EIO, "The firmware \"%s\" cannot be read", name);
}

static bool read_firmware(struct vm *v, const char *path, uint8_t **data, size_t *len, err *e)
{
    AUTO(str) resolved = NULL;
    AUTO(fd)
    fd = v->opener.open(v->opener.ctx, path, NULL, DISK_OPEN_READ_ONLY | DISK_OPEN_NO_LOCK,
                        &resolved, e);
    if (fd < 0)
        return err_prefix(e, "a machine of generation 1 starts by SeaBIOS, which comes with the "
                             "package \"seabios\"");
    return read_file(fd, path, data, len, e);
}

bool vm_read_bios(struct vm *v, struct vm_firmware *out, err *e)
{
    return read_firmware(v, VM_FIRMWARE_BIOS, &out->bios, &out->len, e);
}

/* The VGA BIOS asks a function where its linear framebuffer is only if it has the ids of the ROM's
 * own header: they become those of our VGA. */
static void adopt_ids(uint8_t *rom, size_t len)
{
    enum { CHECKSUM = 6, HEADER = 0x18, HEADER_LEN = 24, IDS = 4 };
    static const uint8_t ids[4] = {0x14, 0x14, 0x53, 0x53};
    size_t at = len > HEADER + 2 ? get_le16(rom + HEADER) : len;
    if (at + HEADER_LEN > len || memcmp(rom + at, "PCIR", 4) != 0)
        return;
    for (unsigned i = 0; i < sizeof ids; i++) {
        rom[CHECKSUM] = (uint8_t)(rom[CHECKSUM] + rom[at + IDS + i] - ids[i]);
        rom[at + IDS + i] = ids[i];
    }
}

static bool add_vga_bios(struct vm *v, err *e)
{
    uint8_t *data;
    size_t len;
    if (!read_firmware(v, VM_FIRMWARE_VGA, &data, &len, e))
        return false;
    adopt_ids(data, len);
    bool ok = fwcfg_set_file(machine_fwcfg(v->machine), "pci1414,5353.rom", data, len, e);
    free(data);
    return ok;
}

/* What a legacy adapter boots: its ROM, and iPXE if the host has it. */
static bool add_network_boot(struct vm *v, const struct vm_config *c, err *e)
{
    bool wanted = false;
    for (uint32_t i = 0; i < c->n_adapters; i++)
        wanted = wanted || c->adapters[i].legacy;
    if (!wanted)
        return true;
    size_t rom_len, len;
    uint8_t *rom = tulip_rom(&rom_len), *ipxe;
    if (!rom)
        return err_set(e, ERR_NO_MEMORY, "There is no memory for the firmware");
    bool ok = fwcfg_set_file(machine_fwcfg(v->machine), TULIP_ROM_NAME, rom, rom_len, e);
    free(rom);
    if (!ok || !read_firmware(v, VM_FIRMWARE_NETWORK, &ipxe, &len, NULL))
        return ok;
    ok = fwcfg_set_file(machine_fwcfg(v->machine), TULIP_ROM_PAYLOAD, ipxe, len, e);
    free(ipxe);
    return ok;
}

/* ---- the boot order, as SeaBIOS names devices: a line each ---- */

struct order {
    char text[512];
    size_t len;
};

static void add_line(struct order *o, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(o->text + o->len, sizeof o->text - o->len, format, ap);
    va_end(ap);
    if (n > 0)
        o->len = MIN(o->len + (size_t)n, sizeof o->text - 1);
}

static void add_drives(struct order *o, const struct vm_config *c, enum vm_media media)
{
    for (unsigned place = 0; place < VM_IDE; place++)
        for (uint32_t i = 0; i < c->n_disks; i++) {
            const struct vm_disk *d = &c->disks[i];
            if (d->bus == VM_BUS_IDE && d->slot == place && d->media == media)
                add_line(o, "/pci@i0cf8/ide@%x,1/drive@%u/disk@%u\n", LAYOUT_PCI_ISA, place / 2,
                         place % 2);
        }
}

static bool add_order(struct vm *v, const struct vm_config *c, err *e)
{
    struct order o = {.len = 0};
    const char *p = c->boot_order ? c->boot_order : "disk dvd floppy network";
    for (p += strspn(p, " "); *p; p += strcspn(p, " "), p += strspn(p, " ")) {
        if (!strncmp(p, "disk", 4))
            add_drives(&o, c, VM_MEDIA_DISK);
        else if (!strncmp(p, "dvd", 3))
            add_drives(&o, c, VM_MEDIA_DVD);
        else if (!strncmp(p, "floppy", 6))
            add_line(&o, "/pci@i0cf8/isa@%x/fdc@%04x/floppy@0\n", LAYOUT_PCI_ISA,
                     LAYOUT_PORT_FLOPPY);
        else
            for (unsigned i = 0; i < VM_MAX_ADAPTERS; i++)
                add_line(&o, "/pci@i0cf8/ethernet@%x\n", LAYOUT_PCI_TULIP + i);
    }
    return fwcfg_set_file(machine_fwcfg(v->machine), "bootorder", o.text, o.len + 1, e);
}

static bool add_settings(struct vm *v, const struct vm_config *c, err *e)
{
    uint8_t wait[8];
    put_le64(wait, MENU_WAIT_MS);
    return fwcfg_set_file(machine_fwcfg(v->machine), "etc/boot-menu-wait", wait, sizeof wait, e) &&
           add_order(v, c, e);
}

/* ---- the board ---- */

static void on_reset(void *ctx)
{
    machine_ask_reset(((struct vm *)ctx)->machine);
}

static void on_a20(void *ctx, bool on)
{
    struct vm *v = ctx;
    if (!hv_partition_set_a20(machine_partition(v->machine), on) && !on)
        LOG_GUEST("machine", "address line 20 stays on");
}

static bool a20(void *ctx)
{
    return piix4_a20(((struct vm *)ctx)->board);
}

static void set_a20(void *ctx, bool on)
{
    piix4_set_a20(((struct vm *)ctx)->board, on);
}

static struct pci *make_bus(struct vm *v, err *e)
{
    struct piix4_params p = {.env = machine_env(v->machine),
                             .memory = hv_partition_memory(machine_partition(v->machine)),
                             .reset = on_reset,
                             .set_a20 = on_a20,
                             .ctx = v};
    for (unsigned i = 0; i < ARRAY_LEN(p.irq); i++)
        p.irq[i] = machine_line(v->machine, i);
    struct piix4 *board = piix4_new(&p, e);
    if (!board || !machine_add_device(v->machine, piix4_device(board), e))
        return NULL;
    v->board = board;
    return piix4_bus(board);
}

static bool make_vga(struct vm *v, struct pci *bus, const struct vm_config *c, err *e)
{
    const struct vga_params p = {.env = machine_env(v->machine),
                                 .bus = bus,
                                 .memory = hv_partition_memory(machine_partition(v->machine)),
                                 .console = v->console,
                                 .memory_mib = c->video_memory};
    v->vga = vga_new(&p, e);
    return v->vga && machine_add_device(v->machine, vga_device(v->vga), e) && add_vga_bios(v, e);
}

static bool make_keyboard(struct vm *v, err *e)
{
    struct i8042 *k =
        i8042_new(&(struct i8042_params){.env = machine_env(v->machine),
                                         .console = v->console,
                                         .keyboard = machine_line(v->machine, LAYOUT_IRQ_KEYBOARD),
                                         .mouse = machine_line(v->machine, LAYOUT_IRQ_MOUSE),
                                         .reset = on_reset,
                                         .a20 = a20,
                                         .set_a20 = set_a20,
                                         .ctx = v},
                  e);
    return k && machine_add_device(v->machine, i8042_device(k), e);
}

static bool make_ide(struct vm *v, struct pci *bus, err *e)
{
    v->ide =
        ide_new(&(struct ide_params){.env = machine_env(v->machine),
                                     .bus = bus,
                                     .memory = hv_partition_memory(machine_partition(v->machine)),
                                     .irq = {machine_line(v->machine, LAYOUT_IRQ_IDE1),
                                             machine_line(v->machine, LAYOUT_IRQ_IDE2)}},
                e);
    return v->ide && machine_add_device(v->machine, ide_device(v->ide), e);
}

static bool make_dma(struct vm *v, const struct vm_config *c, err *e)
{
    const struct chip_env *env = machine_env(v->machine);
    struct dma *dma = dma_new(env, hv_partition_memory(machine_partition(v->machine)), e);
    if (!dma || !machine_add_device(v->machine, dma_device(dma), e))
        return false;
    if (!vm_has_floppy(c))
        return true;
    v->floppy = floppy_new(
        &(struct floppy_params){
            .env = env, .dma = dma, .irq = machine_line(v->machine, LAYOUT_IRQ_FLOPPY)},
        e);
    return v->floppy && machine_add_device(v->machine, floppy_device(v->floppy), e);
}

bool vm_pc_make(struct vm *v, const struct vm_config *c, err *e)
{
    struct pci *bus = v->pci = make_bus(v, e);
    return bus && make_vga(v, bus, c, e) && make_keyboard(v, e) && make_ide(v, bus, e) &&
           make_dma(v, c, e) && add_network_boot(v, c, e) && add_settings(v, c, e);
}
