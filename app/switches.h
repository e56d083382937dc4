/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The virtual switches that machines can be connected to: the shared connection (NAT), which is
 * always there; private switches, which the person makes and which join machines with one another
 * alone; and network devices that an administrator has prepared (TAP and macvtap, internal and
 * external switches). Names of private switches are kept in $XDG_CONFIG_HOME/vireo/switches; those
 * that a machine names exist as well.
 */
#pragma once

#include <gio/gio.h>

#include "core/machine/store.h"

typedef struct {
    enum vm_switch kind;
    char *name;   /* "" for the NAT */
    char **users; /* names of the machines that are connected */
} VireoSwitch;

/* VireoSwitch: the NAT, private switches, devices, each by name. Owned by the caller. */
GPtrArray *vireo_switches_load(struct store *store);
/* Makes a private switch. */
gboolean vireo_switches_add(struct store *store, const char *name, GError **error);
/* Refused while a machine is connected to it. */
gboolean vireo_switches_remove(struct store *store, const char *name, GError **error);
/* What of an adapter's settings a running machine takes at once, for SetAdapter; floating. */
GVariant *vireo_switches_adapter(const struct vm_adapter *a);
/* As the worker names it ("nat", "private:NAME", "tap:DEV", "none"). Owned by the caller. */
char *vireo_switches_where(const struct vm_adapter *a);
