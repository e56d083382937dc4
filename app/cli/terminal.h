/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The terminal in raw mode, and back whatever happens: at exit, on a fatal signal, and when the
 * process is killed outright (a small child process waits for that).
 * Thread: the main one; terminal_raw before other threads are many matters not, as its child
 * calls only what is safe after fork.
 */
#ifndef VIREO_CLI_TERMINAL_H
#define VIREO_CLI_TERMINAL_H

#include <stdbool.h>

#include "core/base/err.h"

bool terminal_raw(err *e);   /* standard input, which is a terminal */
void terminal_restore(void); /* may be called at any time, any number of times */
void terminal_suspend(void); /* restores, stops the process, and is raw again when it goes on */

#endif
