/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One VNC client: a thread with a libvncserver screen of its own, so that a client that stops
 * reading, or lies, costs nobody but itself. Keys come as scan codes from clients that know QEMU's
 * extended key event, as keysyms of a US keyboard from others. Source: RFC 6143; the community's
 * rfbproto for the extensions (libvncserver speaks those).
 */
#ifndef VIREO_SESSION_REMOTE_VNC_H
#define VIREO_SESSION_REMOTE_VNC_H

#include "core/vsp/console.h"

#include <glib.h>

struct vnc_client;

/* All are called on the client's thread. */
struct vnc_ops {
    void (*passed)(void *ctx); /* it may look: it knows the password, or there is none */
    void (*text)(void *ctx, const char *text, gsize len); /* it copied; UTF-8, not terminated */
    gboolean (*resize)(void *ctx, unsigned width,
                       unsigned height); /* it asks for that size; FALSE: it cannot be */
    void (*ended)(void *ctx);            /* the last call: then vnc_client_free does not wait */
};

struct vnc_params {
    struct console *console; /* borrowed, outlives the client */
    int fd;                  /* connected; taken */
    const char *name;        /* of the machine; copied */
    const char *password;    /* copied; NULL: none. VNC looks at its first eight characters. */
    gboolean view_only;
    const struct vnc_ops *ops; /* static */
    void *ctx;
};

/* NULL: no thread to be had; the descriptor is closed all the same. */
struct vnc_client *vnc_client_new(const struct vnc_params *p);
/* Any thread: */
void vnc_client_set_view_only(struct vnc_client *c, gboolean on);
void vnc_client_send_text(struct vnc_client *c, const char *text, gsize len);
void vnc_client_stop(struct vnc_client *c); /* `ended` follows */
/* Waits for the thread. */
void vnc_client_free(struct vnc_client *c);

#endif
