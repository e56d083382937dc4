/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * QEMU's firmware configuration device at ports 0x510 (selector) and 0x511 (data), without DMA:
 * signature, interface version, RAM size, processor counts, and files by name. Bare-metal test
 * kernels read the former, SeaBIOS all of it.
 * Source: QEMU docs/specs/fw_cfg.
 */
#ifndef VIREO_CHIPSET_FWCFG_H
#define VIREO_CHIPSET_FWCFG_H

#include "core/chipset/chip.h"

struct fwcfg;

struct fwcfg *fwcfg_new(const struct chip_env *env, uint64_t ram_bytes, unsigned vps, err *e);
struct device fwcfg_device(struct fwcfg *f);

enum { FWCFG_FILES = 32, FWCFG_NAME = 56, FWCFG_MAX_FILE = 4 << 20 };
/* Adds a file, or replaces it; copies. The processors do not run. ERR_NO_SPACE, ERR_NO_MEMORY. */
bool fwcfg_set_file(struct fwcfg *f, const char *name, const void *data, size_t len, err *e);

#endif
