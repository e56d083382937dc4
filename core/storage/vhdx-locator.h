/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VHDX parent locators ([MS-VHDX] 2.6.2.6). */
#ifndef VIREO_STORAGE_VHDX_LOCATOR_H
#define VIREO_STORAGE_VHDX_LOCATOR_H

#include "core/storage/format.h"

/* malloc'ed; `absolute` and `id2` may be NULL. */
uint8_t *vhdx_locator_build(const char *path, const char *absolute, const struct guid *id,
                            const struct guid *id2, size_t *len, err *e);
/* `p` is hostile. */
bool vhdx_locator_parse(const uint8_t *p, size_t len, struct parent_ref *out, const char *name,
                        err *e);
void vhdx_build_regions(uint8_t *buf, uint64_t bat_off, uint32_t bat_len, uint64_t meta_off,
                        uint32_t meta_len);

#endif
