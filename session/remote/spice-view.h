/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The console for SPICE clients, through spice-server. It listens nowhere: connections are handed
 * to it. Thread: the main loop's; spice-server's own display thread takes drawing commands only.
 */
#ifndef VIREO_SESSION_REMOTE_SPICE_VIEW_H
#define VIREO_SESSION_REMOTE_SPICE_VIEW_H

#include <gio/gio.h>

#include "core/vsp/console.h"
#include "session/remote/remote.h"

struct spice_server;
struct remote_shared;

struct spice_ops {
    /* number: the client's, for the two below. */
    void (*came)(void *ctx, guint64 number, const char *address);
    void (*went)(void *ctx, guint64 number);
    /* A connection that was handed over knew the password. */
    void (*passed)(void *ctx);
};

struct spice_params {
    struct console *console;
    struct remote_shared *shared;
    const VireoRemoteUsb *usb; /* NULL: no devices of clients */
    gpointer usb_ctx;
    const char *name;
    const char *password; /* NULL: none */
    const char
        *tls_folder; /* NULL: no TLS; else it holds ca-cert.pem, server-cert.pem, server-key.pem */
    gboolean view_only;
    const struct spice_ops *ops; /* static */
    void *ctx;
};

struct spice_server *spice_server_start(const struct spice_params *p, GError **error);
/* A client's connection; fd is taken. There is a limit; beyond it, and when a greeting takes too
 * long, it is closed. */
void spice_server_accept(struct spice_server *s, int fd);
void spice_server_disconnect(struct spice_server *s, guint64 number);
void spice_server_set_view_only(struct spice_server *s, gboolean on);
/* Ends all connections (without `went`). */
void spice_server_stop(struct spice_server *s);

#endif
