/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A VGA on the PCI bus (1414:5353, as Hyper-V's, which hands over to the synthetic screen): text,
 * planar, 256-colour and CGA modes, and VBE modes by the "dispi" ports 0x1CE/0x1CF, for which
 * SeaBIOS's vgabios-stdvga is. Its memory is a sealed memfd, mapped for the guest at base address
 * 0; 32-bit modes are shown right from it, all others are drawn into a surface of their own.
 * Sources: IBM VGA as described by the FreeVGA project; QEMU docs/specs/standard-vga.
 */
#ifndef VIREO_CHIPSET_VGA_H
#define VIREO_CHIPSET_VGA_H

#include "core/chipset/pci.h"
#include "core/hv/memory.h"
#include "core/vsp/console.h"

enum { VGA_LEAST_MIB = 16, VGA_MOST_MIB = 128 };

struct vga_params {
    const struct chip_env *env; /* borrowed, as the next three */
    struct pci *bus;
    struct hv_memory *memory;
    struct console *console;
    unsigned memory_mib; /* rounded up to a power of two */
};

struct vga;
struct vga *vga_new(const struct vga_params *p, err *e);
struct device vga_device(struct vga *v);
/* Another device shows its picture (true) or the VGA does again; then its memory is not mapped for
 * the guest, who may have given its place to that device. I/O thread. */
void vga_yield(struct vga *v, bool yields);

#endif
