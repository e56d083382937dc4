/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Keys by name and by what they type on a US keyboard, as "qnum" codes (data/dbus). */
#ifndef VIREO_CLI_KEYS_H
#define VIREO_CLI_KEYS_H

#include <stdbool.h>
#include <stdint.h>

enum { KEYS_SHIFT = 0x2a };

/* The key that types an ASCII character, with shift or without; false if there is none. */
bool keys_for_char(char c, uint8_t *key, bool *shift);
/* "a", "f5", "enter", "delete", "ctrl"; case does not count. 0: no such key. */
uint8_t keys_by_name(const char *name);

#endif
