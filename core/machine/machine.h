/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A machine: partition, memory, chipset and whatever devices are added, wired together, with the
 * I/O thread that owns them. Used by the worker, by `vireoctl run` and by tests.
 *
 *     machine_new -> [machine_add_device] -> machine_start <-> machine_pause / machine_resume
 *                                          -> ended (the guest did, or failed) -> machine_start
 * again
 *
 * Thread: functions may be called from any thread unless said (they go over to the I/O thread and
 * wait for it), but not from a VP's. Upcalls come on the I/O thread; they may call machine
 * functions.
 */
#ifndef VIREO_MACHINE_MACHINE_H
#define VIREO_MACHINE_MACHINE_H

#include "core/base/device.h"
#include "core/base/guid.h"
#include "core/base/loop.h"
#include "core/chipset/chip.h"
#include "core/hv/partition.h"
#include "core/machine/boot.h"

enum machine_kind {
    MACHINE_GEN2, /* synthetic devices, IOAPIC, RTC, PM, COM ports */
    MACHINE_PC,   /* and PIC, PIT, fw_cfg, legacy reset ports: for bare-metal test kernels */
    MACHINE_GEN1, /* a BIOS; PIC, PIT, fw_cfg; PCI and what is on it are added by vmpc.c */
};

enum machine_end {
    MACHINE_POWERED_OFF,
    MACHINE_HIBERNATED,
    MACHINE_RESET, /* only with stop_on_reset */
    MACHINE_TRIPLE_FAULT,
    MACHINE_CRASHED, /* the guest reported it; only with stop_on_crash */
    MACHINE_DEBUG_EXIT,
    MACHINE_FAILED, /* Vireo could not go on */
};
const char *machine_end_name(enum machine_end end); /* "power-off", ... permanent */

struct machine_report {
    enum machine_end end;
    uint32_t code; /* DEBUG_EXIT: what was written */
    unsigned vp;   /* which processor; its registers follow if has_state */
    bool has_state;
    struct hv_vp_state state;
    uint64_t crash_param[5];
    char text[4097]; /* the guest's or our own words, or "" */
};

struct machine_ops {
    /* The machine stands still: processors paused, devices stopped, output flushed. */
    void (*ended)(void *ctx, const struct machine_report *r);
    /* Serial output: takes up to len bytes, returns how many; fewer: machine_serial_ready follows.
     */
    size_t (*serial_out)(void *ctx, unsigned port, const uint8_t *data, size_t len);
};

enum { MACHINE_SERIALS = 2 };

struct machine_params {
    enum machine_kind kind;
    uint64_t memory; /* bytes */
    unsigned vps;
    enum hv_accel accel;
    enum hv_cpu_model cpu;
    enum hv_vendor vendor;
    struct guid uuid;
    unsigned serials; /* COM ports, at most MACHINE_SERIALS */
    bool vmbus;       /* the DSDT offers the bus */
    bool s4;
    bool floppy;       /* GEN1: the tables name a floppy controller */
    bool debug_exit;   /* port 0xf4 ends the machine */
    bool test_devices; /* those of kvm-unit-tests; they take the place of the bus */
    bool stop_on_reset, stop_on_crash;
    int32_t rtc_offset_s;
    /* What is started: descriptors are duplicated, strings copied; `map` is the machine's. */
    struct boot_params boot;
    /* GEN1: the BIOS, which ends at 4 GiB; whole pages, at most 16 MiB. Copied. */
    const uint8_t *bios;
    size_t bios_len;
    const struct machine_ops *ops; /* borrowed */
    void *ctx;
    const struct hv_backend_ops *backend; /* tests; else NULL */
};

struct machine;

struct machine *machine_new(const struct machine_params *p, err *e);
void machine_free(struct machine *m); /* in any state; not from an upcall */

/* Loads the boot image into cleared memory and runs. ERR_STATE unless new or ended. */
bool machine_start(struct machine *m, err *e);
bool machine_pause(struct machine *m); /* false if it was not running */
void machine_resume(struct machine *m);
/* Power-on state and start again; only while running or paused. */
bool machine_reset(struct machine *m, err *e);
/* Ends it at once, as pulling the plug; `ended` is not called. */
void machine_power_off(struct machine *m);
void machine_press_power_button(struct machine *m);

size_t machine_serial_input(struct machine *m, unsigned port, const uint8_t *data, size_t len);
void machine_serial_break(struct machine *m, unsigned port);
void machine_serial_ready(struct machine *m, unsigned port);

/*
 * State of processors, chipset and devices; memory is the caller's to keep. Paused. restore needs a
 * machine of the same parameters that was not started, or is paused; on false it is to be freed.
 */
bool machine_save(struct machine *m, struct state_writer *w, err *e);
bool machine_restore(struct machine *m, const struct state_reader *r, err *e);

bool machine_is_paused(struct machine *m);
/* A restored machine is a copy of the past: a new generation id, of which the guest is told when it
 * runs. Not running. */
bool machine_new_generation(struct machine *m, err *e);

struct machine_stats {
    struct hv_vp_stats vp; /* sums over all processors */
    uint64_t resets;
    double guest_seconds; /* guest time since power-on */
};
void machine_stats(struct machine *m, struct machine_stats *out);

/* For those who add devices (VMBus, VSPs): before machine_start or paused, any thread. Devices
 * start in the order of adding, after the chipset, and stop the other way round. The machine takes
 * the device: it is destroyed with it. */
bool machine_add_device(struct machine *m, struct device d, err *e);
/* An ISA interrupt line, 0 to 15. */
struct chip_line machine_line(struct machine *m, unsigned irq);
/* What CMOS says of the floppy drives. Before start. */
void machine_set_floppy(struct machine *m, uint8_t cmos);
/* NULL on GEN2. */
struct fwcfg *machine_fwcfg(struct machine *m);
/* Asks for a reset as the guest's own; any thread. */
void machine_ask_reset(struct machine *m);
struct hv_partition *machine_partition(struct machine *m);
struct loop *machine_loop(struct machine *m);
const struct chip_env *machine_env(struct machine *m);
/* Who hears of the guest's messages and signals; before start. */
struct machine_bus_ops {
    enum hv_status (*post_message)(void *ctx, unsigned vp, uint32_t id, uint32_t type,
                                   const void *payload, uint32_t len);
    enum hv_status (*signal_event)(void *ctx, unsigned vp, uint32_t id, uint16_t flag);
};
void machine_set_bus(struct machine *m, const struct machine_bus_ops *ops, void *ctx);

#endif
