/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The machine's physical address map, its ports and its interrupt lines. All of it lies below 2^39
 * (the processor baseline's 39 physical address bits).
 *
 *     0000_0000 .. 0009_FFFF   RAM; boot structures of direct boot below 0009_0000
 *     000A_0000 .. 000B_FFFF   reserved (VGA on machines that have one)
 *     000C_0000 .. 000F_FFFF   reserved: ACPI tables, generation counter, SMBIOS
 *     0010_0000 .. DFFF_FFFF   RAM, as far as there is
 *     E000_0000 .. FDFF_FFFF   low MMIO window: VMBus (video memory, vPCI); PCI on generation 1
 *     FEC0_0000, FEE0_0000     IOAPIC, local APICs
 *   1_0000_0000 .. 6F_FFFF_FFFF   RAM above 4 GiB, then hot-added memory
 *  70_0000_0000 .. 7F_FFFF_FFFF   high MMIO window
 */
#ifndef VIREO_CHIPSET_LAYOUT_H
#define VIREO_CHIPSET_LAYOUT_H

#include <stdint.h>

#define LAYOUT_PHYS_BITS 39u

#define LAYOUT_LOW_RAM_END 0xa0000ull /* first byte after conventional memory */
#define LAYOUT_EBDA 0x9fc00ull        /* reported as reserved from here to 1 MiB */
#define LAYOUT_ACPI_BASE 0xe0000ull   /* RSDP first, then the other tables */
#define LAYOUT_ACPI_SIZE 0xf000ull
#define LAYOUT_GENERATION 0xef000ull  /* the page that holds the VM generation id */
#define LAYOUT_SMBIOS_BASE 0xf0000ull /* entry point first */
#define LAYOUT_SMBIOS_SIZE 0x10000ull
#define LAYOUT_HIGH_RAM_BASE 0x100000ull

#define LAYOUT_RAM_HOLE 0xe0000000ull /* RAM below 4 GiB ends here at the latest */
#define LAYOUT_MMIO_LOW_BASE 0xe0000000ull
#define LAYOUT_MMIO_LOW_SIZE 0x1e000000ull
/* The boot framebuffer, at the window's start: room for 8 MiB (1920x1080x32). */
#define LAYOUT_FRAMEBUFFER LAYOUT_MMIO_LOW_BASE
/* Generation 1: where PCI devices' memory and ports may be, the BIOS at the end of 4 GiB and its
 * shadow, and tables at the end of low RAM: ACPI, then the generation counter's page. */
#define LAYOUT_PCI_MMIO_SIZE 0x1ec00000ull
#define LAYOUT_PCI_PORTS 0xc000u
#define LAYOUT_VGA_MEMORY 0xa0000ull
#define LAYOUT_VGA_MEMORY_END 0xc0000ull
#define LAYOUT_BIOS_SHADOW 0xe0000ull
#define LAYOUT_TABLES_SIZE 0x10000ull
#define LAYOUT_IOAPIC 0xfec00000ull
#define LAYOUT_LAPIC 0xfee00000ull
#define LAYOUT_TEST_MEMORY 0xff000000ull /* test devices alone: 64 KiB */
#define LAYOUT_RAM_ABOVE_4G 0x100000000ull
#define LAYOUT_MMIO_HIGH_BASE 0x7000000000ull
#define LAYOUT_MMIO_HIGH_SIZE 0x1000000000ull
/* The largest RAM a machine can have: below the hole and between 4 GiB and the high window. */
#define LAYOUT_MAX_RAM (LAYOUT_RAM_HOLE + (LAYOUT_MMIO_HIGH_BASE - LAYOUT_RAM_ABOVE_4G))

/* Ports. */
enum layout_port {
    LAYOUT_PORT_PIC_MASTER = 0x20,
    LAYOUT_PORT_PIT = 0x40,
    LAYOUT_PORT_SPEAKER = 0x61,
    LAYOUT_PORT_I8042_DATA = 0x60,
    LAYOUT_PORT_I8042_COMMAND = 0x64,
    LAYOUT_PORT_RTC = 0x70,
    LAYOUT_PORT_PIC_SLAVE = 0xa0,
    LAYOUT_PORT_DEBUG_EXIT = 0xf4,
    LAYOUT_PORT_FLOPPY = 0x3f0,
    LAYOUT_PORT_COM1 = 0x3f8,
    LAYOUT_PORT_COM2 = 0x2f8,
    LAYOUT_PORT_PM = 0x400,
    LAYOUT_PORT_DEBUG = 0x402, /* generation 1: SeaBIOS's log */
    LAYOUT_PORT_PM_PIIX4 = 0x600,
    LAYOUT_PORT_ELCR = 0x4d0,
    LAYOUT_PORT_FW_CFG = 0x510,
    LAYOUT_PORT_TEST_REGISTER = 0xe0, /* test devices alone */
    LAYOUT_PORT_TEST_LINES = 0x2000,
    LAYOUT_PORT_TEST_SYNIC = 0x3000,
};

/* Interrupt lines: IOAPIC pins, and PIC inputs of the same number below 16 (but for the timer). */
enum layout_irq {
    LAYOUT_IRQ_TIMER = 0, /* PIC input 0, IOAPIC pin 2 */
    LAYOUT_IRQ_KEYBOARD = 1,
    LAYOUT_IRQ_COM2 = 3,
    LAYOUT_IRQ_COM1 = 4,
    LAYOUT_IRQ_FLOPPY = 6,
    LAYOUT_IRQ_RTC = 8,
    LAYOUT_IRQ_SCI = 9, /* level */
    LAYOUT_IRQ_PCI_AB = 10,
    LAYOUT_IRQ_PCI_CD = 11,
    LAYOUT_IRQ_MOUSE = 12,
    LAYOUT_IRQ_IDE1 = 14,
    LAYOUT_IRQ_IDE2 = 15,
    LAYOUT_GSI_TIMER = 2,
};
/* Generation 1's PCI slots, as on Hyper-V. */
enum { LAYOUT_PCI_ISA = 7, LAYOUT_PCI_VGA = 8, LAYOUT_PCI_TULIP = 10 };
#define LAYOUT_IOAPIC_PINS 24u

#endif
