/* SPDX-License-Identifier: GPL-3.0-or-later */
/* UTF-16LE on the wire, UTF-8 inside. Thread: any. */
#ifndef VIREO_VSP_UTF16_H
#define VIREO_VSP_UTF16_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Encodes with a terminating NUL into `room` bytes; the rest is zeroed. Returns the bytes used, NUL
 * included; 0 if it does not fit or `s` is not UTF-8. */
size_t utf16_encode(const char *s, uint8_t *out, size_t room);
/* Decodes up to `len` bytes or the first NUL into `out` (room > 0), always terminated, cut between
 * characters if short. Unpaired surrogates and control characters become U+FFFD. */
void utf16_decode(const uint8_t *in, size_t len, char *out, size_t room);

#endif
