/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Writing a screen to a file: PNG, or PPM where the name ends so. */
#ifndef VIREO_CLI_PNG_H
#define VIREO_CLI_PNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

/* `pixels`: B, G, R, x each, `stride` bytes a row. */
bool png_write(const char *path, const uint8_t *pixels, uint32_t width, uint32_t height,
               size_t stride, err *e);

#endif
