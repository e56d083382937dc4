/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/stream.h"

#include <errno.h>
#include <glib-unix.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_ROOM = 65536 };

struct vireo_stream {
    int fd;
    const struct vireo_stream_ops *ops;
    gpointer ctx;
    guint in_id, out_id, closed_id;
    GByteArray *out;
    gsize sent;             /* of out */
    gboolean calling, dead; /* freed within a call: after it */
};

static gboolean on_closed(gpointer data)
{
    struct vireo_stream *s = data;
    s->closed_id = 0;
    s->ops->closed(s->ctx);
    return G_SOURCE_REMOVE;
}

/* Never from within the caller's call. */
static void broken(struct vireo_stream *s)
{
    g_clear_handle_id(&s->in_id, g_source_remove);
    g_clear_handle_id(&s->out_id, g_source_remove);
    if (!s->closed_id)
        s->closed_id = g_idle_add_full(G_PRIORITY_DEFAULT, on_closed, s, NULL);
}

static gboolean on_in(gint fd, GIOCondition condition, gpointer data)
{
    struct vireo_stream *s = data;
    static guint8 buf[READ_ROOM]; /* the main loop's alone */
    ssize_t n = recv(s->fd, buf, sizeof buf, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return G_SOURCE_CONTINUE;
    s->calling = TRUE;
    gboolean ok = n > 0 && s->ops->data(s->ctx, buf, (gsize)n);
    s->calling = FALSE;
    if (s->dead) {
        g_free(s);
        return G_SOURCE_CONTINUE; /* the source is gone already */
    }
    if (ok)
        return G_SOURCE_CONTINUE;
    s->in_id = 0;
    broken(s);
    return G_SOURCE_REMOVE;
}

/* FALSE: broken. */
static gboolean push(struct vireo_stream *s)
{
    while (s->sent < s->out->len) {
        ssize_t n =
            send(s->fd, s->out->data + s->sent, s->out->len - s->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return TRUE;
        if (n <= 0)
            return FALSE;
        s->sent += (gsize)n;
    }
    g_byte_array_set_size(s->out, 0);
    s->sent = 0;
    return TRUE;
}

static gboolean on_out(gint fd, GIOCondition condition, gpointer data)
{
    struct vireo_stream *s = data;
    gboolean ok = push(s);
    if (ok && s->out->len)
        return G_SOURCE_CONTINUE;
    s->out_id = 0;
    if (!ok)
        broken(s);
    else if (s->ops->drained)
        s->ops->drained(s->ctx);
    return G_SOURCE_REMOVE;
}

struct vireo_stream *vireo_stream_new(int fd, const struct vireo_stream_ops *ops, gpointer ctx)
{
    struct vireo_stream *s = g_new0(struct vireo_stream, 1);
    s->fd = fd;
    s->ops = ops;
    s->ctx = ctx;
    s->out = g_byte_array_new();
    g_unix_set_fd_nonblocking(fd, TRUE, NULL);
    s->in_id = g_unix_fd_add(fd, G_IO_IN | G_IO_HUP | G_IO_ERR, on_in, s);
    return s;
}

void vireo_stream_free(struct vireo_stream *s)
{
    if (!s)
        return;
    g_clear_handle_id(&s->in_id, g_source_remove);
    g_clear_handle_id(&s->out_id, g_source_remove);
    g_clear_handle_id(&s->closed_id, g_source_remove);
    close(s->fd);
    g_byte_array_unref(s->out);
    s->dead = TRUE;
    if (!s->calling)
        g_free(s);
}

void vireo_stream_write(struct vireo_stream *s, gconstpointer bytes, gsize len)
{
    if (s->closed_id)
        return;
    if (s->sent > 65536 && s->sent * 2 > s->out->len) {
        g_byte_array_remove_range(s->out, 0, (guint)s->sent);
        s->sent = 0;
    }
    g_byte_array_append(s->out, bytes, (guint)len);
    if (!s->out_id)
        s->out_id = g_unix_fd_add(s->fd, G_IO_OUT | G_IO_HUP | G_IO_ERR, on_out, s);
}

gsize vireo_stream_queued(struct vireo_stream *s)
{
    return s->out->len - s->sent;
}

void vireo_stream_hold(struct vireo_stream *s, gboolean hold)
{
    if (s->closed_id)
        return;
    if (hold)
        g_clear_handle_id(&s->in_id, g_source_remove);
    else if (!s->in_id)
        s->in_id = g_unix_fd_add(s->fd, G_IO_IN | G_IO_HUP | G_IO_ERR, on_in, s);
}
