/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What `vireoctl run` tells about a run. */
#ifndef VIREO_CLI_RUN_INT_H
#define VIREO_CLI_RUN_INT_H

#include <stdio.h>

#include "core/machine/machine.h"

/* One screen: why it ended, the processor's registers, the guest's own words. */
void run_report(FILE *f, const struct machine_report *r);
/* JSON: how it ended, exits by kind, guest instructions, CPU seconds, memory. */
bool run_write_stats(const char *path, struct machine *m, const struct machine_report *r, bool quit,
                     err *e);

#endif
