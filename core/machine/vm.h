/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A whole virtual machine of a configuration: the machine (core/machine/machine.h) with VMBus and
 * every provider on it, disks and adapters that come and go, the console. What the worker serves
 * and what tests run.
 *
 *     vm_new -> vm_start <-> vm_pause / vm_resume -> (ended) -> vm_start again, or vm_free
 *
 * Files are opened through the opener alone, by the names that the configuration has.
 * Thread: functions from any thread but a processor's (they go to the I/O thread and wait), unless
 * said; upcalls come on the I/O thread and must not call functions that wait.
 */
#ifndef VIREO_MACHINE_VM_H
#define VIREO_MACHINE_VM_H

#include "core/machine/config.h"
#include "core/machine/machine.h"
#include "core/net/port.h"
#include "core/storage/disk.h"
#include "core/vsp/balloon.h"
#include "core/vsp/console.h"
#include "core/vsp/integration.h"

enum { VM_ID_LEN = 24, VM_LUNS = 64, VM_IDE = 4, VM_FLOPPY = VM_LUNS + VM_IDE, VM_PLACES };

/* What a machine of generation 1 needs beside its disks: the opener is asked for these paths. */
#define VM_FIRMWARE_BIOS "/usr/share/seabios/bios-256k.bin"
#define VM_FIRMWARE_VGA "/usr/share/seabios/vgabios-stdvga.bin"
/* May be missing: then legacy adapters boot nothing. */
#define VM_FIRMWARE_NETWORK "/usr/lib/ipxe/ipxe.lkrn"

enum vm_changes {
    VM_CHANGED_DISKS = 1,
    VM_CHANGED_ADAPTERS = 2,
    VM_CHANGED_HEARTBEAT = 4,
    VM_CHANGED_FACTS = 8,
    VM_CHANGED_MEMORY = 16,
};

struct vm_ops {
    void (*ended)(void *ctx, const struct machine_report *r);
    size_t (*serial_out)(void *ctx, unsigned port, const uint8_t *data, size_t len);
    void (*changed)(void *ctx, unsigned what); /* enum vm_changes */
};

/* What `vireoctl run` and tests ask for beside the configuration; all zero for a machine of the
 * store. */
struct vm_extra {
    bool pc;           /* a bare PC, for kernels that look for PIC and PIT */
    bool multiboot;    /* the kernel is a Multiboot 1 file */
    bool debug_exit;   /* a write to port 0xf4 ends the machine */
    bool test_devices; /* those of kvm-unit-tests, which take VMBus's place */
    bool stop_on_reset, stop_on_crash;
};

struct vm_params {
    const struct vm_config *config; /* read while vm_new runs */
    struct vm_extra extra;
    const struct disk_opener *opener; /* borrowed; disks with their parents, kernel, initrd,
                                         "tap:DEV" */
    const char *switch_folder;        /* private switches are folders in it */
    const struct vm_ops *ops;         /* borrowed */
    void *ctx;
};

struct vm;

struct vm *vm_new(const struct vm_params *p, err *e);
void vm_free(struct vm *v); /* in any state; not on the I/O thread */

bool vm_start(struct vm *v, err *e);
void vm_pause(struct vm *v);
void vm_resume(struct vm *v);
bool vm_reset(struct vm *v, err *e);
void vm_power_off(struct vm *v);

/* State of everything but RAM; paused. */
bool vm_save(struct vm *v, struct state_writer *w, err *e);
bool vm_restore(struct vm *v, const struct state_reader *r, err *e);

/* ---- disks ---- */

struct vm_disk_info {
    char id[VM_ID_LEN]; /* "scsi0:3", "ide1:0", "floppy0" */
    unsigned lun;
    bool dvd, floppy, read_only, medium;
    uint64_t size;
    uint64_t requests; /* of the medium, ever */
    /* IDE, floppy: what went through the emulated controller, in commands and bytes */
    uint64_t emulated_commands, emulated_read, emulated_written;
    char path[512];
};
struct vm_disk_request {
    const char *path; /* NULL: an empty drive (DVD and floppy) */
    bool dvd, floppy, read_only;
    int lun; /* -1: the first that is free */
};
bool vm_add_disk(struct vm *v, const struct vm_disk_request *d, char id[VM_ID_LEN], err *e);
/* Returns when the guest's requests to it have ended and its file is closed. */
bool vm_remove_disk(struct vm *v, const char *id, err *e);
/* id "": the first DVD drive. path NULL takes the medium out. `ask`: the guest is asked to let it
 * go (it may not). */
bool vm_set_medium(struct vm *v, const char *id, const char *path, bool ask, err *e);
/* Gives a disk in use another size; the guest is told by a unit attention. Refused if there is data
 * beyond. */
bool vm_resize_disk(struct vm *v, const char *id, uint64_t size, err *e);
unsigned vm_list_disks(struct vm *v, struct vm_disk_info *out, unsigned max);

/* ---- adapters ---- */

enum { VM_FORWARDS = 16 };
struct vm_adapter_settings {
    char where[128]; /* "nat", "private:NAME", "tap:DEV", "none" */
    bool connected, spoofing, host_loopback;
    uint32_t vlan;      /* 0: none */
    uint64_t bandwidth; /* bit/s, 0: no limit */
    struct net_forward forwards[VM_FORWARDS];
    unsigned nforwards;
};
struct vm_adapter_info {
    char id[VM_ID_LEN]; /* "net0" */
    uint8_t mac[6];
    struct vm_adapter_settings settings;
    struct in_addr address; /* on the NAT */
    struct net_port_stats stats;
    bool legacy;      /* emulated: it goes and comes only while the machine is off */
    uint32_t version; /* NVSP, 0: no driver; of a legacy one 1 if its receiver is on */
    uint32_t mtu;
    unsigned queues;
};
/* "tcp:2222:22 udp:127.0.0.1:53:5353"; '-' may stand for the last ':'. */
bool vm_parse_forwards(const char *text, struct vm_adapter_settings *s, err *e);
/* mac NULL: a random one. */
bool vm_add_adapter(struct vm *v, const struct vm_adapter_settings *s, const uint8_t *mac,
                    char id[VM_ID_LEN], err *e);
bool vm_get_adapter(struct vm *v, const char *id, struct vm_adapter_info *out, err *e);
bool vm_set_adapter(struct vm *v, const char *id, const struct vm_adapter_settings *s, err *e);
bool vm_remove_adapter(struct vm *v, const char *id, err *e);
unsigned vm_list_adapters(struct vm *v, struct vm_adapter_info *out, unsigned max);

/* ---- integration services ---- */

/* Waits for the guest's answer, 10 s at most. */
bool vm_shutdown(struct vm *v, enum shutdown_kind kind, bool force, err *e);
/* The guest's file systems: frozen until thaw, or for 60 s at most. */
bool vm_freeze(struct vm *v, err *e);
bool vm_thaw(struct vm *v, err *e);
enum heartbeat_state vm_heartbeat(struct vm *v);
/* enum integration_services bits: which the machine offers, which the guest's side is there for. */
void vm_services(struct vm *v, unsigned *offered, unsigned *ready);
void vm_each_fact(struct vm *v, kvp_item_fn *fn, void *ctx);
bool vm_set_guest_data(struct vm *v, const char *key, const char *value, err *e);
/* Waits until the whole file is there. */
bool vm_copy_file(struct vm *v, int fd, const char *path, bool overwrite, bool create_path, err *e);

/* ---- dynamic memory and guest sockets ---- */

/* Asks for an amount; VM_CHANGED_MEMORY follows as the guest goes along. */
bool vm_set_memory(struct vm *v, uint64_t bytes, err *e);
void vm_memory(struct vm *v, struct balloon_status *out);
/* A stream to a program in the guest; waits for it. -1 on failure. */
int vm_connect_guest(struct vm *v, uint32_t port, unsigned timeout_ms, err *e);
/* The guest's connections to `port` of the host go to this listening Unix socket (borrowed); -1: no
 * more. */
bool vm_listen_guest(struct vm *v, uint32_t port, int listener, err *e);

/* The same as descriptors, with the port that the guest connected from: `accept` on the I/O thread
 * takes fd. NULL: no more. */
typedef void vm_guest_accept_fn(void *ctx, int fd, uint32_t guest_port);
bool vm_accept_guest(struct vm *v, uint32_t port, vm_guest_accept_fn *accept, void *ctx, err *e);
/* The Unix socket `path` for programs of the host (hvsock.h: "CONNECT <port>\n", and `path`_<port>
 * for what the guest begins), until the machine goes. At most once. */
bool vm_bridge_guest(struct vm *v, const char *path, err *e);

/* ---- parts ---- */
struct machine *vm_machine(struct vm *v);
struct console *vm_console(struct vm *v);
struct vmbus *vm_bus(struct vm *v); /* the I/O thread's */
struct loop *vm_loop(struct vm *v);
uint64_t vm_ram(struct vm *v);

#endif
