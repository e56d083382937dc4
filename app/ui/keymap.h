/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Key codes: the host's (evdev) to the guest's ("qnum": PC set 1, bit 7 for the E0 prefix). */
#pragma once

#include <glib.h>

enum {
    QNUM_ESC = 0x01,
    QNUM_TAB = 0x0f,
    QNUM_ENTER = 0x1c,
    QNUM_CTRL = 0x1d,
    QNUM_SHIFT = 0x2a,
    QNUM_ALT = 0x38,
    QNUM_SPACE = 0x39,
    QNUM_F1 = 0x3b,
    QNUM_SYSRQ = 0x54,
    QNUM_PRINT = 0xb7,
    QNUM_DELETE = 0xd3,
    QNUM_META = 0xdb,
};

/* `evdev`: as in linux/input-event-codes.h. 0: a key that a PC keyboard does not have. */
guint vireo_keymap_qnum(guint evdev);

/*
 * A character typed on a keyboard of US layout: its key and whether Shift is held. FALSE: no such
 * character there.
 */
gboolean vireo_keymap_for_char(gunichar c, guint *qnum, gboolean *shift);
