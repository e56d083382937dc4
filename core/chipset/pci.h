/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * PCI bus 0: configuration mechanism 1 at ports 0xCF8 and 0xCFC, and the windows in which the
 * functions' base addresses may lie (ports from LAYOUT_PCI_PORTS, memory from
 * LAYOUT_MMIO_LOW_BASE). An access there goes to the function whose enabled base address covers it;
 * base addresses may move at any time.
 *
 * A function is embedded in its device, which fills it in before pci_add. Configuration bytes
 * change only under the bus's lock; handlers of base addresses are called without it.
 * Source: PCI Local Bus Specification 2.1.
 */
#ifndef VIREO_CHIPSET_PCI_H
#define VIREO_CHIPSET_PCI_H

#include "core/chipset/chip.h"

enum pci_register {
    PCI_VENDOR = 0x00,
    PCI_DEVICE = 0x02,
    PCI_COMMAND = 0x04,
    PCI_STATUS = 0x06,
    PCI_REVISION = 0x08,
    PCI_CLASS = 0x09, /* programming interface, subclass, class */
    PCI_HEADER = 0x0e,
    PCI_BAR = 0x10,
    PCI_SUBSYSTEM = 0x2c, /* vendor, device */
    PCI_ROM = 0x30,
    PCI_IRQ_LINE = 0x3c,
    PCI_IRQ_PIN = 0x3d,
};
enum { PCI_COMMAND_IO = 1, PCI_COMMAND_MEMORY = 2, PCI_COMMAND_MASTER = 4 };
enum { PCI_BARS = 6, PCI_FUNCTIONS = 16, PCI_PIRQS = 4 };

struct pci_bar {
    uint32_t size; /* a power of two, at least 4 (ports) or 16; 0: none */
    bool port;
    const struct hv_io_ops *ops; /* offsets within the base address */
    void *ctx;
};

struct pci;
struct pci_function {
    const char *name;
    uint8_t devfn; /* slot << 3 | function */
    uint8_t config[256];
    uint8_t writable[256]; /* bits that software may change */
    uint8_t clears[256];   /* bits that writing 1 clears */
    uint8_t initial[256];  /* set by pci_add: config at power-on */
    struct pci_bar bar[PCI_BARS];
    /* After a write to configuration; bus lock held, on the processor's thread. May be NULL. */
    void (*written)(void *ctx, unsigned reg, unsigned len);
    void *ctx;
    struct pci *bus;
    bool intx;
};

struct pci_ids {
    uint16_t vendor, device, subsystem_vendor, subsystem;
    uint32_t class_code;   /* class, subclass, interface in the low 24 bits */
    uint8_t revision, pin; /* pin: 0 none, 1 INTA */
};
/* Fills in what every function has: ids, command register, interrupt line. */
void pci_function_init(struct pci_function *f, const char *name, uint8_t devfn,
                       const struct pci_ids *ids);
static inline void pci_put16(struct pci_function *f, unsigned reg, uint16_t v)
{
    f->config[reg] = (uint8_t)v;
    f->config[reg + 1] = (uint8_t)(v >> 8);
}

struct pci_params {
    const struct chip_env *env; /* borrowed */
    /* The interrupt line of PIRQ n (0 to 3) changed; bus lock held. */
    void (*pirq)(void *ctx, unsigned n, bool asserted);
    /* Port 0xCF9 was written; no lock held. */
    void (*reset_control)(void *ctx, uint8_t value);
    void *ctx;
};
struct pci *pci_new(const struct pci_params *p, err *e);
struct device pci_device(struct pci *b);

/* Borrows the function. Before start. */
bool pci_add(struct pci *b, struct pci_function *f, err *e);
void pci_remove(struct pci *b, struct pci_function *f);

/* Any thread. */
void pci_set_intx(struct pci_function *f, bool asserted);
/* Where the base address is decoded now, 0 if it is not; any thread but from `written`. */
uint64_t pci_bar_address(struct pci_function *f, unsigned bar);
bool pci_is_master(struct pci_function *f);

/* Every configuration register that may change. */
void pci_function_reset(struct pci_function *f);
extern const struct state_table pci_function_table; /* for STATE_SUB */

#endif
