/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a machine's worker, which opens nothing by path, has to be handed: every file and device
 * that a configuration names, opened with the caller's rights, under the name that the worker asks
 * for. Thread: any; functions block on files.
 */
#ifndef VIREO_MACHINE_HANDOVER_H
#define VIREO_MACHINE_HANDOVER_H

#include "core/machine/config.h"

/* Takes fd, also when it fails. A name may come twice; either descriptor will do. */
typedef bool handover_fn(void *ctx, const char *name, int fd, err *e);

/* Kernel, initrd, disks with every parent of their chains, ISO images, TAP devices ("tap:DEV"), COM
 * ports ("port0"). `folder`: what relative names are relative to; NULL: the current one. */
bool handover_all(const struct vm_config *c, const char *folder, handover_fn *fn, void *ctx,
                  err *e);
/* One disk with its parents; a DVD's or a floppy's image has none. */
bool handover_disk(const char *name, const char *folder, bool read_only, enum vm_media media,
                   handover_fn *fn, void *ctx, err *e);
/* `where` of an adapter: a TAP or macvtap device for "tap:DEV", nothing for other switches. */
bool handover_switch(const char *where, handover_fn *fn, void *ctx, err *e);

#endif
