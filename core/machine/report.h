/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Why a machine ended, for people. */
#ifndef VIREO_MACHINE_REPORT_H
#define VIREO_MACHINE_REPORT_H

#include "core/machine/machine.h"

/* One screen: why, the processor's registers, the guest's own words; "" where there is nothing to
 * tell (it powered off, it reset). ASCII. malloc'ed; NULL: no memory. */
char *machine_report_text(const struct machine_report *r);

#endif
