/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a worker may still do. See sandbox.c for why in two steps. */
#ifndef VIREO_WORKER_SANDBOX_H
#define VIREO_WORKER_SANDBOX_H

#include <stdbool.h>

#include "core/base/err.h"

/* Before any other thread. `own`: folders that are the worker's (NULL ends the list).
 * ERR_UNSUPPORTED where the kernel has no Landlock; privileges are given up all the same. */
bool sandbox_files(const char *const *own, err *e);
/* For all threads. inet: sockets for the NAT. */
bool sandbox_calls(bool inet, err *e);

#endif
