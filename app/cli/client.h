/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Speaking with workers: starting one for a machine of the store, connecting to one that runs. */
#ifndef VIREO_CLI_CLIENT_H
#define VIREO_CLI_CLIENT_H

#include <gio/gio.h>
#include <gio/gunixfdlist.h>

#include "app/cli/cli.h"
#include "core/machine/config.h"
#include "vireo-display1.h"
#include "vireo-machine1.h"

#define CLIENT_MACHINE "/org/vireo/Machine1"
#define CLIENT_CONSOLE "/org/qemu/Display1/Console_0"

struct client {
    GDBusConnection *bus;
    VireoMachine1 *machine;
};

void client_close(struct client *c);
AUTO_DEFINE(client, struct client *, client_close)

/* A machine that runs, by name or id; NULL with the message out. */
struct client *client_connect(const char *name_or_id);
/* A new worker (in state "new"); `folder` may be NULL. */
struct client *client_launch(const char *id, const char *folder);
/* Hands it a configuration with the files that it names, and starts it. `folder`: what relative
 * names are relative to. */
bool client_start(struct client *c, const struct vm_config *config, const char *folder);

/* a(sh) of one file, floating; NULL with the message out. */
GVariant *client_file(const char *name, const char *path, bool read_only, GUnixFDList *fds);
/* "vireoctl: <text>" without the D-Bus error's name; returns CLI_FAILED. */
int client_fail(GError *error);

#endif
