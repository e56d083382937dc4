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
    GPid child; /* a worker that goes with us; 0: one that does not */
};

/* With a worker that goes with us, it has ended and let its files go when this returns. */
void client_close(struct client *c);
AUTO_DEFINE(client, struct client *, client_close)

/* Where workers' sockets are, if not in the session's runtime folder; before all else. */
void client_set_runtime(const char *path);
/* A machine that runs, by name or id; NULL with the message out. */
struct client *client_connect(const char *name_or_id);
/* The same without a message where the machine does not run. */
struct client *client_find(const struct guid *id);
/* The machine that has this file as a disk, and which; NULL without a message where none has. */
struct client *client_find_disk(const char *path, char **id);
/* A method of org.vireo.Machine1, its progress on the terminal meanwhile. Takes a floating
 * `parameters`; NULL with the message out. */
GVariant *client_call(struct client *c, const char *method, GVariant *parameters);
/* A new worker (in state "new"); `folder` may be NULL: then what it says goes to standard error,
 * or, quiet, nowhere but into the message if it does not start. */
struct client *client_launch(const char *id, const char *folder, bool quiet);
/* Takes away what a worker of no folder leaves: its socket, its lock, its runtime folder. After the
 * last use. */
void client_forget(const char *id);
/* The same with a folder that is ours as the worker is: it ends with us. */
struct client *client_launch_own(const char *id, const char *folder, bool quiet);
/* Hands it a configuration with the files that it names, and starts it. `folder`: what relative
 * names are relative to. */
struct client_more {
    GVariant *options; /* of Configure, floating; NULL: none */
    int port0;         /* what the first COM port is joined to (borrowed); -1: nothing */
};
bool client_start(struct client *c, const struct vm_config *config, const char *folder,
                  const struct client_more *more);
/* remote.c: SPICE and VNC of a running machine as its configuration has them. False: the message is
 * out. */
bool client_apply_remote(struct client *c, const struct vm_config *config, const char *folder);
/* The machine's screen, as PNG or, where path ends in .ppm, PPM. False: the message is out. */
bool client_screenshot(struct client *c, const char *path);

/* a(sh), floating, of one disk with its parents; of what a switch needs ("tap:DEV"). NULL with the
 * message out. */
GVariant *client_disk(const char *path, bool read_only, enum vm_media media, GUnixFDList *fds);
GVariant *client_switch(const char *where, GUnixFDList *fds);
/* "vireoctl: <text>" without the D-Bus error's name; returns CLI_FAILED. */
int client_fail(GError *error);

#endif
