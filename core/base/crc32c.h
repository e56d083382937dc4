/* SPDX-License-Identifier: GPL-3.0-or-later */
/* CRC-32C (Castagnoli, reflected, initial and final inversion), as VHDX and saved states use it. */
#ifndef VIREO_BASE_CRC32C_H
#define VIREO_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* `crc` is 0 to begin, or the result over the bytes before. Uses the SSE4.2 instruction if there.
 */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

#endif
