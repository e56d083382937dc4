/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Between the files of the machine. */
#ifndef VIREO_MACHINE_MACHINE_INT_H
#define VIREO_MACHINE_MACHINE_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/chipset/acpi.h"
#include "core/chipset/fwcfg.h"
#include "core/chipset/ioapic.h"
#include "core/chipset/layout.h"
#include "core/chipset/pic.h"
#include "core/chipset/pm.h"
#include "core/chipset/rtc.h"
#include "core/chipset/uart.h"
#include "core/machine/machine.h"

enum { MACHINE_DEVICES = 64, MACHINE_LINES = 16 };

/* An ISA interrupt: to the IOAPIC and, on a PC, to the PIC. */
struct machine_wire {
    struct chip_line ioapic, pic;
};

struct machine_serial {
    struct machine *m;
    unsigned port;
    struct uart *uart;
};

struct machine {
    struct machine_params p; /* boot's descriptors and strings are our own */
    char *cmdline, *kernel_name, *initrd_name;
    struct memmap map;
    struct hv_partition *partition;
    struct hv_partition_ops partition_ops;
    struct loop *loop;
    struct chip_env env;
    pthread_t thread;
    bool has_thread;
    struct machine_bus_ops bus;
    void *bus_ctx;

    /* the board */
    struct ioapic *ioapic;
    struct pic *pic; /* NULL on GEN2 */
    struct fwcfg *fwcfg;
    struct rtc *rtc;
    uint8_t *bios; /* GEN1 */
    struct pm *pm;
    struct machine_wire wire[MACHINE_LINES];
    struct machine_serial serial[MACHINE_SERIALS];
    struct device device[MACHINE_DEVICES];
    unsigned ndevices;

    /* I/O thread's */
    enum { MACHINE_NEW, MACHINE_RUNNING, MACHINE_PAUSED, MACHINE_ENDED } state;
    unsigned stopping; /* devices that have not said they are quiet */
    uint64_t resets;

    /* what the guest asked for, from VP threads */
    pthread_mutex_t lock;
    struct loop_post post;
    bool asked;
    struct machine_report report;
};

/* board.c */
bool machine_make_board(struct machine *m, err *e);
static inline bool machine_has_legacy(const struct machine *m)
{
    return m->p.kind != MACHINE_GEN2;
}
/* Writes ACPI and SMBIOS tables into memory. */
bool machine_put_tables(struct machine *m, err *e);
/* post.c: for multiboot kernels on a PC; before the kernel is loaded. */
bool machine_leave_post(struct machine *m, err *e);

/* Built for the address where machine_put_tables puts them; freed by acpi_free. */
bool machine_acpi(struct machine *m, struct acpi_tables *out, err *e);
/* Entry point and tables into buf (LAYOUT_SMBIOS_SIZE); 0 if they do not fit. */
size_t machine_smbios(struct machine *m, uint8_t *buf);
/* GEN1: where ACPI tables and the generation counter are. */
static inline uint64_t machine_tables(const struct machine *m)
{
    return m->map.low_end - LAYOUT_TABLES_SIZE;
}

/* The page that holds the generation counter. */
static inline uint64_t machine_generation(const struct machine *m)
{
    return m->p.kind == MACHINE_GEN1 ? m->map.low_end - HV_PAGE_SIZE : LAYOUT_GENERATION;
}

/* bios.c: GEN1. The BIOS as ROM and the files that it reads by fw_cfg. */
bool machine_add_bios(struct machine *m, err *e);

/* testdev.c */
bool machine_add_test_devices(struct machine *m, err *e);

/* Any thread: the guest ended; the first to say so until the next start is heard. */
void machine_ask_end(struct machine *m, enum machine_end end, unsigned vp, uint32_t code);

#endif
