/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A stream socket on GLib's main loop: what comes is given to `data` at once, what is written waits
 * in a queue until the other side takes it. Thread: the main loop's.
 */
#pragma once

#include <glib.h>

struct vireo_stream;

struct vireo_stream_ops {
    /* FALSE: the other side broke its protocol; closed() follows. May free the stream if it returns
     * TRUE. */
    gboolean (*data)(gpointer ctx, const guint8 *bytes, gsize len);
    void (*drained)(gpointer ctx); /* the queue is empty again; may be NULL */
    /* The other side is gone; the last call. The callee frees the stream. */
    void (*closed)(gpointer ctx);
};

/* Takes fd; ops are borrowed. */
struct vireo_stream *vireo_stream_new(int fd, const struct vireo_stream_ops *ops, gpointer ctx);
void vireo_stream_free(struct vireo_stream *s);
void vireo_stream_write(struct vireo_stream *s, gconstpointer bytes, gsize len);
/* Bytes that wait: who produces without end stops while this is large. */
gsize vireo_stream_queued(struct vireo_stream *s);
/* While held nothing is read: the other side has to wait. */
void vireo_stream_hold(struct vireo_stream *s, gboolean hold);
