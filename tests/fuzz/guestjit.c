/* SPDX-License-Identifier: GPL-3.0-or-later */
/* guestcode.c with every block translated before its first run. */
#define GUESTCODE_TRANSLATE "1,beyond"
#include "tests/fuzz/guestcode.c"
