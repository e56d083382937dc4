/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Between vm.c, vmdisk.c and vmnet.c. Thread: the I/O thread's unless said. */
#ifndef VIREO_MACHINE_VM_INT_H
#define VIREO_MACHINE_VM_INT_H

#include "core/machine/vm.h"
#include "core/vmbus/vmbus.h"
#include "core/vsp/balloon.h"
#include "core/vsp/hvsock.h"
#include "core/vsp/netvsp.h"
#include "core/vsp/storvsp.h"

enum { VM_PROVIDERS = 40, VM_NETS = VM_MAX_ADAPTERS };

struct vm_lun {
    bool used, dvd, floppy, read_only;
    struct disk *disk; /* NULL: an empty drive */
    char *path;
    struct scsi_lun *unit; /* storvsp's */
    bool leaving;
};

struct vm_net {
    struct netvsp *adapter; /* NULL: free place, or the next */
    struct tulip *legacy;   /* generation 1: the emulated adapter; the machine's device */
    struct vm_adapter_settings settings;
    uint8_t mac[6];
    struct in_addr address;
};

struct vm {
    struct machine *machine;
    struct vmbus *bus;
    struct vmbus_transport transport;
    struct console *console;
    struct storvsp *scsi;
    struct integration *services;
    unsigned service_bits; /* offered */
    struct balloon *balloon;
    struct hvsock *sockets;
    struct hvsock_bridge *bridge; /* or NULL */
    struct disk_opener opener;
    char *switch_folder;
    struct guid id;
    const struct vm_ops *ops;
    void *ctx;
    uint64_t ram;
    uint64_t hot_add_base; /* where memory is added */
    unsigned vps;

    /* the bus and what is on it, as one device of the machine */
    struct device providers[VM_PROVIDERS];
    unsigned nproviders;
    bool running;
    unsigned stopping;
    void (*stopped)(void *ctx);
    void *stopped_ctx;

    struct vga *vga; /* generation 1 with a BIOS, else NULL, as the next */
    struct ide *ide;
    struct floppy *floppy; /* NULL: no drive */
    struct piix4 *board;
    struct pci *pci;
    unsigned nlegacy; /* emulated adapters */

    /* SCSI units, IDE places (the same disks on VMBus and on the emulated controller), floppy. */
    struct vm_lun luns[VM_PLACES];
    struct vm_net nets[VM_NETS];
};

/* While the guest runs: nothing more is taken from rings, and waits until nothing is in flight.
 * What the guest asks for meanwhile waits in its rings until the machine was paused and resumed. */
void vm_quiet(struct vm *v);
/* Adds a provider to the running or standing machine. */
bool vm_provider_add(struct vm *v, struct device d, err *e);
/* Forgets it, without destroying. */
void vm_provider_forget(struct vm *v, const void *self);
void vm_changed(struct vm *v, unsigned what);

/* Runs fn on the I/O thread and waits. */
struct vm_call {
    struct vm *v;
    void *arg;
    err *e;
    bool ok;
};
bool vm_call(struct vm *v, void (*fn)(struct vm_call *c), void *arg, err *e);

/* vmdisk.c */
bool vm_disks_make(struct vm *v, const struct vm_config *c, err *e);
void vm_disks_close(struct vm *v); /* the controller is gone */
/* vmguest.c */
void vm_unbridge(struct vm *v);
bool vm_guest_make(struct vm *v, const struct vm_config *c, err *e);
/* vmpc.c */
struct vm_firmware {
    uint8_t *bios;
    size_t len;
};
/* Whether the configuration is one of a PC with a BIOS. */
bool vm_is_pc(const struct vm_config *c);
bool vm_has_floppy(const struct vm_config *c);
bool vm_read_bios(struct vm *v, struct vm_firmware *out, err *e);
/* What is on the PCI bus and the ISA bus; the console is there. */
bool vm_pc_make(struct vm *v, const struct vm_config *c, err *e);
/* vmnet.c */
bool vm_nets_make(struct vm *v, const struct vm_config *c, err *e);

#endif
