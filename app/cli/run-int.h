/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Between the files of `vireoctl run`. */
#ifndef VIREO_CLI_RUN_INT_H
#define VIREO_CLI_RUN_INT_H

#include "app/cli/client.h"

struct run_options {
    const char *kernel, *initrd, *append, *multiboot, *memory, *cpus, *cpu, *accel, *serial,
        *machine, *stats, *self_restore, *restore_when, *vendor, *name, *floppy;
    bool debug_exit, no_reboot, test_devices;
    struct cli_list disks, isos, nets, shots, sets;
};

/* The configuration that the arguments say; NULL with *e. */
struct vm_config *run_config(const struct run_options *o, err *e);
/* Options of Configure (org.vireo.Machine1), floating; NULL with *e. */
GVariant *run_extra(const struct run_options *o, err *e);
/* "S,FILE": after so many seconds. */
bool run_parse_shot(const char *text, unsigned *ms, const char **path, err *e);

/* JSON: how it ended ("quit": by us), exits by kind, guest instructions, CPU seconds, memory. */
bool run_write_stats(const char *path, struct client *c, const char *end, err *e);

#endif
