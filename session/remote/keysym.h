/* SPDX-License-Identifier: GPL-3.0-or-later */
/* X keysyms to the keys of a US keyboard, for clients that do not say which key it was. Thread:
 * any. */
#ifndef VIREO_SESSION_REMOTE_KEYSYM_H
#define VIREO_SESSION_REMOTE_KEYSYM_H

#include <stdint.h>

/* The "qnum" (core/vsp/console.h) of the key that makes `keysym`, with or without Shift; 0: none
 * does. */
uint8_t keysym_to_qnum(uint32_t keysym);

#endif
