/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A virtual machine's configuration: every hardware setting, its range, its default and its name in
 * the configuration file and on the command line ("memory.startup", "disk0.path"). One table in
 * config.c is the single place that knows them. Sizes of memory are MiB.
 *
 * The file is versioned: a reader refuses a newer version, keeps keys that it does not know, and
 * names section and key of what is wrong. Strings are owned by the struct; NULL is "not set".
 * Thread: one struct belongs to one thread.
 */
#ifndef VIREO_MACHINE_CONFIG_H
#define VIREO_MACHINE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "core/base/guid.h"

enum {
    VM_CONFIG_VERSION = 1,
    VM_MAX_CPUS = 64,
    VM_MAX_MEMORY_MIB = 256 * 1024,
    VM_MAX_DISKS = 64,
    VM_MAX_ADAPTERS = 8,
    VM_MAX_PORTS = 2,
    VM_MAX_NAME = 100, /* bytes */
    VM_MAX_NOTES = 8192,
};

enum vm_cpu { VM_CPU_BASELINE, VM_CPU_HOST };
enum vm_vendor { VM_VENDOR_INTEL, VM_VENDOR_AMD };
enum vm_accel { VM_ACCEL_AUTO, VM_ACCEL_KVM, VM_ACCEL_SOFT };
enum vm_boot { VM_BOOT_FIRMWARE, VM_BOOT_LINUX };
enum vm_bus { VM_BUS_SCSI, VM_BUS_IDE, VM_BUS_FLOPPY };
enum vm_media { VM_MEDIA_DISK, VM_MEDIA_DVD, VM_MEDIA_FLOPPY };
enum vm_switch { VM_SWITCH_NONE, VM_SWITCH_NAT, VM_SWITCH_PRIVATE, VM_SWITCH_DEVICE };
enum vm_port { VM_PORT_NONE, VM_PORT_FILE, VM_PORT_PTY, VM_PORT_SOCKET };
enum vm_checkpoints { VM_CHECKPOINTS_OFF, VM_CHECKPOINTS_STANDARD, VM_CHECKPOINTS_PRODUCTION };
enum vm_autostart { VM_AUTOSTART_NEVER, VM_AUTOSTART_IF_RUNNING, VM_AUTOSTART_ALWAYS };
enum vm_autostop { VM_AUTOSTOP_SAVE, VM_AUTOSTOP_SHUTDOWN, VM_AUTOSTOP_OFF };

struct vm_mac {
    uint8_t b[6]; /* all zero: none yet; the store gives one at creation */
};

struct vm_disk {
    uint32_t bus;   /* enum vm_bus */
    uint32_t slot;  /* SCSI LUN, or IDE 0..3 (controller * 2 + unit), or floppy 0 */
    uint32_t media; /* enum vm_media */
    char *path;     /* absolute, or relative to the VM's folder; NULL: an empty drive */
    bool read_only;
    uint32_t iops; /* limit in 8 KiB operations a second, 0: none */
};

struct vm_adapter {
    uint32_t kind; /* enum vm_switch */
    char *name;    /* private: the switch; device: the TAP or macvtap device */
    struct vm_mac mac;
    bool mac_spoofing;
    uint32_t vlan;      /* 0: none */
    uint32_t bandwidth; /* Mbit/s, 0: no limit */
    bool host_access;   /* NAT: the guest may reach the host's own loopback */
    bool legacy;        /* generation 1: the emulated adapter */
    char *forwards;     /* NAT: "tcp:127.0.0.1:2222-22 udp:..." */
};

struct vm_port_config {
    uint32_t kind; /* enum vm_port */
    char *path;
};

struct vm_config {
    struct guid id;
    char *name;
    char *notes;
    uint64_t created;    /* seconds since 1970, 0: not known */
    uint32_t generation; /* 1 or 2 */
    bool hibernation;    /* ACPI S4 is offered; no dynamic memory then */
    char *os;            /* gallery entry or detected system, for the icon and defaults */

    uint32_t accel; /* enum vm_accel */
    uint32_t cpus;
    uint32_t cpu;    /* enum vm_cpu */
    uint32_t vendor; /* enum vm_vendor; fixed at creation */

    uint32_t memory; /* startup, MiB */
    bool memory_dynamic;
    uint32_t memory_min, memory_max; /* MiB, with dynamic memory */
    uint32_t memory_buffer;          /* per cent */

    uint32_t boot; /* enum vm_boot */
    char *kernel, *initrd, *cmdline;
    char *boot_order; /* of a BIOS: "disk dvd network floppy"; NULL: disk, DVD, floppy, network */
    bool num_lock;

    uint32_t video_memory;  /* MiB */
    uint32_t width, height; /* at start */

    bool ic_shutdown, ic_time, ic_heartbeat, ic_kvp, ic_vss, ic_fcopy;

    uint32_t checkpoints;      /* enum vm_checkpoints */
    bool checkpoint_fallback;  /* production: standard where the guest cannot */
    bool checkpoint_automatic; /* at start */

    uint32_t autostart, autostart_delay, autostop; /* delay in seconds */

    bool enhanced, clipboard_to, clipboard_from, files, sound, microphone, usb;

    bool spice, vnc;
    char *remote_listen; /* address or socket path; NULL: a socket in the runtime folder */
    uint32_t spice_port, vnc_port;

    /* Kept by core/machine/checkpoint.h; vm_config_set refuses them. Zero: none. */
    struct guid saved;      /* the state that Start resumes: a saved one's or a checkpoint's */
    struct guid checkpoint; /* the checkpoint that the present goes on from */
    struct guid pending;    /* the checkpoint being made: it counts when it is complete */

    struct vm_disk disks[VM_MAX_DISKS];
    uint32_t n_disks;
    struct vm_adapter adapters[VM_MAX_ADAPTERS];
    uint32_t n_adapters;
    struct vm_port_config ports[VM_MAX_PORTS];

    struct keyfile *file; /* what it was read from: comments and unknown keys */
};

/* A new configuration with every default, no id, no name, no disk, no adapter. malloc'ed; NULL: no
 * memory. */
struct vm_config *vm_config_new(err *e);
struct vm_config *vm_config_copy(const struct vm_config *c, err *e);
void vm_config_free(struct vm_config *c);
AUTO_DEFINE(vm_config, struct vm_config *, vm_config_free)

/* Reads the text of a configuration file. NULL on error; what it returns has passed
 * vm_config_check. */
struct vm_config *vm_config_parse(const char *text, size_t len, err *e);
/* The text of the file, malloc'ed. */
char *vm_config_format(const struct vm_config *c, err *e);
/* What no single range can say: memory limits in order, disk places free, names there, ... */
bool vm_config_check(const struct vm_config *c, err *e);

/*
 * Settings by name. "memory.startup", "disk0.path", "adapter1.vlan", "port0.kind". Setting a key of
 * the disk or adapter after the last one adds it. The result is not checked as a whole:
 * vm_config_check does.
 */
bool vm_config_set(struct vm_config *c, const char *key, const char *value, err *e);
/* malloc'ed; "" for a string that is not set. NULL: no such setting. */
char *vm_config_get(const struct vm_config *c, const char *key, err *e);
typedef void vm_config_each_fn(void *ctx, const char *key, const char *value, const char *help);
void vm_config_each(const struct vm_config *c, vm_config_each_fn *fn, void *ctx);
/* Whether the setting may be changed while the machine runs. */
bool vm_config_is_live(const char *key);

/* Sets a string member (dup'ed; NULL or "" unsets). */
bool vm_config_string(char **member, const char *value, err *e);

/* Adds a disk or drive at the first free place of its bus; path may be NULL. NULL: no place. */
struct vm_disk *vm_config_add_disk(struct vm_config *c, enum vm_bus bus, enum vm_media media,
                                   const char *path, err *e);
void vm_config_remove_disk(struct vm_config *c, uint32_t index);
struct vm_adapter *vm_config_add_adapter(struct vm_config *c, enum vm_switch kind, err *e);
void vm_config_remove_adapter(struct vm_config *c, uint32_t index);

/* A locally administered unicast address in Hyper-V's own prefix (00-15-5D), from getrandom. */
void vm_mac_random(struct vm_mac *out);

/* The permanent name of an enumeration's value in the file ("standard"); NULL: not a value. */
const char *vm_config_choice(const char *key, uint32_t value);

#endif
