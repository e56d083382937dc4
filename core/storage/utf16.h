/* SPDX-License-Identifier: GPL-3.0-or-later */
/* UTF-16 names in images. Both directions replace what is malformed by U+FFFD. */
#ifndef VIREO_STORAGE_UTF16_H
#define VIREO_STORAGE_UTF16_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* `len` bytes of UTF-16 (up to a NUL, if there is one) as UTF-8, malloc'ed; NULL: no memory. */
char *utf16_to_utf8(const uint8_t *p, size_t len, bool big_endian);
/* UTF-16LE without a NUL, malloc'ed; *len in bytes. */
uint8_t *utf16_from_utf8(const char *s, size_t *len);

#endif
