/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The certificate with which a machine's SPICE server shows itself. Thread: any; making one takes a
 * while (a key). */
#ifndef VIREO_SESSION_REMOTE_CERTIFICATE_H
#define VIREO_SESSION_REMOTE_CERTIFICATE_H

#include <gio/gio.h>

/* Sees to ca-cert.pem, server-cert.pem and server-key.pem in `folder` (made, mode 0700, if
 * missing): keeps what is there and still valid for a month, else makes a new key and a certificate
 * that vouches for itself, named `name`, good for ten years. */
gboolean certificate_ensure(const char *folder, const char *name, GError **error);

/* Its subject as connection files want it ("CN=..."); NULL: there is none. */
char *certificate_subject(const char *folder);

#endif
