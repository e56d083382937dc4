/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The few keys of QEMU's firmware configuration device that bare-metal test kernels read, at ports
 * 0x510 (selector) and 0x511 (data): signature, interface version (no DMA), RAM size, processor
 * counts, and an empty file directory.
 * Source: QEMU docs/specs/fw_cfg.
 */
#ifndef VIREO_CHIPSET_FWCFG_H
#define VIREO_CHIPSET_FWCFG_H

#include "core/chipset/chip.h"

struct fwcfg;

struct fwcfg *fwcfg_new(const struct chip_env *env, uint64_t ram_bytes, unsigned vps, err *e);
struct device fwcfg_device(struct fwcfg *f);

#endif
