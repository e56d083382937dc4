/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Files into the guest by the SPICE agent's messages: announced, then sent as fast as the agent
 * takes them, one after the other's piece. */
#include "session/clipboard/clipboard-int.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 65536 - 12 - 64, MAX_QUEUED = 256 << 10, MAX_TRANSFERS = 64, TELL_MS = 100 };

struct transfer {
    guint id;
    int fd;
    guint64 done, total;
    gboolean going; /* the agent takes data */
    gint64 told;    /* when progress was, monotonic us */
};

struct vireo_transfers {
    struct vireo_clipboard *c;
    struct peer *peer; /* who takes them; NULL: nobody */
    GQueue transfers;  /* struct transfer */
    guint last_id;
};

struct vireo_transfers *vireo_transfers_new(struct vireo_clipboard *c)
{
    struct vireo_transfers *f = g_new0(struct vireo_transfers, 1);
    f->c = c;
    return f;
}

/* Our own agent's helper, where it is there, else SPICE's. NULL: nobody. */
static struct peer *taker(struct vireo_clipboard *c)
{
    struct peer *own = &c->peers[VIREO_AGENT_OWN], *spice = &c->peers[VIREO_AGENT_SPICE];
    if (vireo_peer_can(own, VD_AGENT_CAP_FILE_XFER_DETAILED_ERRORS))
        return own;
    return spice->announced ? spice : NULL;
}

gboolean vireo_clipboard_takes_files(struct vireo_clipboard *c)
{
    return taker(c) != NULL;
}

static void tell(struct vireo_transfers *f, struct transfer *t, const char *state, const char *text)
{
    f->c->ops->transfer(f->c->ctx, t->id, t->done, t->total, state, text);
}

static void end(struct vireo_transfers *f, struct transfer *t, const char *state, const char *text)
{
    tell(f, t, state, text);
    g_queue_remove(&f->transfers, t);
    close(t->fd);
    g_free(t);
}

void vireo_transfers_fail_all(struct vireo_transfers *f, const char *text)
{
    while (!g_queue_is_empty(&f->transfers))
        end(f, g_queue_peek_head(&f->transfers), "failed", text);
}

void vireo_transfers_free(struct vireo_transfers *f)
{
    vireo_transfers_fail_all(f, "");
    g_free(f);
}

static struct transfer *find(struct vireo_transfers *f, guint id)
{
    for (GList *l = f->transfers.head; l; l = l->next)
        if (((struct transfer *)l->data)->id == id)
            return l->data;
    return NULL;
}

static void send_status(struct vireo_transfers *f, guint id, guint32 result)
{
    guint32 m[2] = {GUINT32_TO_LE(id), GUINT32_TO_LE(result)};
    vireo_peer_send(f->peer, VD_AGENT_FILE_XFER_STATUS, m, sizeof m, NULL, 0);
}

static void send_data(struct vireo_transfers *f, struct transfer *t, const guint8 *data, gsize n)
{
    VDAgentFileXferDataMessage m = {.id = GUINT32_TO_LE(t->id), .size = GUINT64_TO_LE((guint64)n)};
    vireo_peer_send(f->peer, VD_AGENT_FILE_XFER_DATA, &m, sizeof m, data, n);
    t->done += n;
}

/* One piece. FALSE: the file could not be read on, and the transfer has ended. */
static gboolean send_piece(struct vireo_transfers *f, struct transfer *t)
{
    static guint8 buf[PIECE];
    guint64 left = t->total - t->done;
    ssize_t n = pread(t->fd, buf, (size_t)MIN(left, (guint64)PIECE), (off_t)t->done);
    if (n <= 0) {
        send_status(f, t->id, VD_AGENT_FILE_XFER_STATUS_CANCELLED);
        end(f, t, "failed", n < 0 ? g_strerror(errno) : "The file became shorter meanwhile.");
        return FALSE;
    }
    send_data(f, t, buf, (gsize)n);
    gint64 now = g_get_monotonic_time();
    if (now - t->told > TELL_MS * 1000) {
        t->told = now;
        tell(f, t, "going", "");
    }
    return TRUE;
}

static struct transfer *next_going(struct vireo_transfers *f)
{
    for (GList *l = f->transfers.head; l; l = l->next) {
        struct transfer *t = l->data;
        if (t->going && t->done < t->total)
            return t;
    }
    return NULL;
}

void vireo_transfers_pump(struct vireo_transfers *f)
{
    struct transfer *t;
    while (f->peer && f->peer->stream && vireo_stream_queued(f->peer->stream) < MAX_QUEUED &&
           (t = next_going(f)))
        if (send_piece(f, t)) {
            /* the next one's turn */
            g_queue_remove(&f->transfers, t);
            g_queue_push_tail(&f->transfers, t);
        }
}

static char *no_space(guint64 space)
{
    g_autofree char *size = g_format_size(space);
    return space ? g_strdup_printf("There is not enough room in the guest: %s are free.", size)
                 : g_strdup("There is not enough room in the guest.");
}

void vireo_transfers_gone(struct vireo_transfers *f, const struct peer *peer)
{
    if (f->peer != peer)
        return;
    vireo_transfers_fail_all(f, "The guest's agent is gone.");
    f->peer = NULL;
}

void vireo_transfers_status(struct vireo_transfers *f, const struct peer *from, guint32 id,
                            guint32 result, guint64 space)
{
    struct transfer *t = from == f->peer ? find(f, id) : NULL;
    g_autofree char *text = NULL;
    if (!t)
        return;
    switch (result) {
    case VD_AGENT_FILE_XFER_STATUS_CAN_SEND_DATA:
        t->going = TRUE;
        if (!t->total)
            send_data(f, t, NULL, 0); /* the agent looks whether all is there when data comes */
        vireo_transfers_pump(f);
        return;
    case VD_AGENT_FILE_XFER_STATUS_SUCCESS:
        t->done = t->total;
        end(f, t, "done", "");
        return;
    case VD_AGENT_FILE_XFER_STATUS_CANCELLED:
        end(f, t, "cancelled", "The guest did not take the file.");
        return;
    case VD_AGENT_FILE_XFER_STATUS_NOT_ENOUGH_SPACE:
        text = no_space(space);
        end(f, t, "failed", text);
        return;
    case VD_AGENT_FILE_XFER_STATUS_SESSION_LOCKED:
        end(f, t, "failed", "The guest's session is locked. Unlock it and send the file again.");
        return;
    case VD_AGENT_FILE_XFER_STATUS_VDAGENT_NOT_CONNECTED:
        end(f, t, "failed", "Nobody is logged in to the guest's desktop.");
        return;
    case VD_AGENT_FILE_XFER_STATUS_DISABLED:
        end(f, t, "failed", "The guest is set up not to take files.");
        return;
    default: end(f, t, "failed", "The guest could not write the file."); return;
    }
}

/* A name without a path; what a key file's value cannot hold is escaped by GKeyFile. */
static char *announcement(const char *name, guint64 size, gsize *len)
{
    g_autoptr(GKeyFile) k = g_key_file_new();
    g_autofree char *base = g_path_get_basename(name);
    g_autofree char *valid = g_utf8_make_valid(base, -1);
    g_key_file_set_string(k, "vdagent-file-xfer", "name", valid);
    g_key_file_set_uint64(k, "vdagent-file-xfer", "size", size);
    return g_key_file_to_data(k, len, NULL);
}

static gboolean check(struct vireo_transfers *f, int fd, struct stat *st, GError **error)
{
    const char *why = NULL;
    if (!f->c->policy.files)
        why = "This machine's settings keep files from the guest.";
    else if (!f->peer)
        why = "The guest's desktop has no agent that takes files.";
    else if (vireo_peer_can(f->peer, VD_AGENT_CAP_FILE_XFER_DISABLED))
        why = "The guest is set up not to take files.";
    else if (g_queue_get_length(&f->transfers) >= MAX_TRANSFERS)
        why = "Too many files are on their way already.";
    else if (fstat(fd, st) != 0 || !S_ISREG(st->st_mode))
        why = "Only files can be sent, no folders.";
    if (why)
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_FAILED, why);
    return !why;
}

guint vireo_transfers_send(struct vireo_transfers *f, int fd, const char *name, GError **error)
{
    struct stat st;
    gsize len = 0;
    if (g_queue_is_empty(&f->transfers))
        f->peer = taker(f->c);
    if (!check(f, fd, &st, error)) {
        close(fd);
        return 0;
    }
    struct transfer *t = g_new0(struct transfer, 1);
    t->id = ++f->last_id ? f->last_id : ++f->last_id;
    t->fd = fd;
    t->total = (guint64)st.st_size;
    g_queue_push_tail(&f->transfers, t);
    g_autofree char *text = announcement(name, t->total, &len);
    guint32 id = GUINT32_TO_LE(t->id);
    vireo_peer_send(f->peer, VD_AGENT_FILE_XFER_START, &id, sizeof id, text, len + 1);
    return t->id;
}

void vireo_transfers_cancel(struct vireo_transfers *f, guint id)
{
    struct transfer *t = find(f, id);
    if (!t)
        return;
    send_status(f, id, VD_AGENT_FILE_XFER_STATUS_CANCELLED);
    end(f, t, "cancelled", "");
}
