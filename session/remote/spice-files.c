/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Files that SPICE clients drop on the machine. They are taken whole first, into a file without a
 * name in the machine's folder (the worker's working directory), and then handed to the session,
 * which sends them as it sends those of a window.
 */
#include <errno.h>
#include <fcntl.h>
#include <spice/vd_agent.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "session/remote/spice-int.h"

enum { FILES_MAX = 16, START_MAX_BYTES = 4096 };
/* What stays free on the machine's file system. */
#define SPARE_BYTES (UINT64_C(256) << 20)
#define FILE_MAX_BYTES (UINT64_C(16) << 30)

struct file {
    guint32 id; /* the client's */
    guint token;
    int fd;
    guint64 size, have;
    char *name;
    guint sent; /* the session's number; 0: not yet */
    gboolean handed;
};

struct spice_files {
    struct spice_agent *agent;
    struct remote_shared *shared;
    GPtrArray *files;
    guint last_token;
};

static void file_free(gpointer data)
{
    struct file *f = data;
    if (f->fd >= 0)
        close(f->fd);
    g_free(f->name);
    g_free(f);
}

static void tell(struct spice_files *s, guint32 id, guint32 status)
{
    const guint32 message[2] = {GUINT32_TO_LE(id), GUINT32_TO_LE(status)};
    spice_agent_send(s->agent, VD_AGENT_FILE_XFER_STATUS, message, sizeof message);
}

static struct file *find(struct spice_files *s, guint32 id)
{
    for (guint i = 0; i < s->files->len; i++) {
        struct file *f = g_ptr_array_index(s->files, i);
        if (f->id == id)
            return f;
    }
    return NULL;
}

static void end(struct spice_files *s, struct file *f, guint32 status)
{
    if (f->sent)
        remote_shared_cancel_file(s->shared, f->sent); /* no more than a no-op when it is done */
    tell(s, f->id, status);
    g_ptr_array_remove(s->files, f);
}

/* ---- handing over ---- */

static void on_sent(void *ctx, guint token, guint id)
{
    struct spice_files *s = spice_agent_files(ctx);
    for (guint i = 0; i < s->files->len; i++) {
        struct file *f = g_ptr_array_index(s->files, i);
        if (f->token != token)
            continue;
        f->sent = id;
        if (!id)
            end(s, f, VD_AGENT_FILE_XFER_STATUS_VDAGENT_NOT_CONNECTED);
        return;
    }
    if (id)
        remote_shared_cancel_file(s->shared, id); /* its client has gone meanwhile */
}

static void hand_over(struct spice_files *s, struct file *f)
{
    f->handed = TRUE;
    lseek(f->fd, 0, SEEK_SET);
    remote_shared_send_file(s->shared, f->fd, f->name, f->token, on_sent, s->agent);
}

void spice_files_transfer(struct spice_files *s, guint id, const char *state)
{
    for (guint i = 0; i < s->files->len; i++) {
        struct file *f = g_ptr_array_index(s->files, i);
        if (!f->sent || f->sent != id || strcmp(state, "going") == 0)
            continue;
        f->sent = 0;
        end(s, f,
            strcmp(state, "done") == 0        ? VD_AGENT_FILE_XFER_STATUS_SUCCESS
            : strcmp(state, "cancelled") == 0 ? VD_AGENT_FILE_XFER_STATUS_CANCELLED
                                              : VD_AGENT_FILE_XFER_STATUS_ERROR);
        return;
    }
}

/* ---- from the client ---- */

/* The start message's key file; a name of one component. */
static gboolean read_start(const guint8 *data, gsize len, char **name, guint64 *size)
{
    g_autoptr(GKeyFile) key = g_key_file_new();
    g_autofree char *text = g_strndup((const char *)data, len);
    if (len > START_MAX_BYTES || !g_utf8_validate(text, -1, NULL) ||
        !g_key_file_load_from_data(key, text, strlen(text), G_KEY_FILE_NONE, NULL))
        return FALSE;
    g_autofree char *path = g_key_file_get_string(key, "vdagent-file-xfer", "name", NULL);
    *size = g_key_file_get_uint64(key, "vdagent-file-xfer", "size", NULL);
    *name = path ? g_path_get_basename(path) : NULL;
    return *name && strcmp(*name, ".") != 0 && strcmp(*name, "..") != 0 && (*name)[0] != '/';
}

static gboolean has_room(struct spice_files *s, guint64 size)
{
    struct statvfs v;
    guint64 promised = 0;
    for (guint i = 0; i < s->files->len; i++) {
        const struct file *f = g_ptr_array_index(s->files, i);
        promised += f->size - f->have;
    }
    return size <= FILE_MAX_BYTES && statvfs(".", &v) == 0 &&
           (guint64)v.f_bavail * v.f_frsize >= size + promised + SPARE_BYTES;
}

static void start(struct spice_files *s, guint32 id, const guint8 *data, gsize len)
{
    g_autofree char *name = NULL;
    guint64 size;
    if (find(s, id) || s->files->len >= FILES_MAX || !read_start(data, len, &name, &size)) {
        tell(s, id, VD_AGENT_FILE_XFER_STATUS_ERROR);
        return;
    }
    if (!has_room(s, size)) {
        tell(s, id, VD_AGENT_FILE_XFER_STATUS_NOT_ENOUGH_SPACE);
        return;
    }
    int fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) {
        tell(s, id, VD_AGENT_FILE_XFER_STATUS_ERROR);
        return;
    }
    struct file *f = g_new0(struct file, 1);
    *f = (struct file){
        .id = id, .token = ++s->last_token, .fd = fd, .size = size, .name = g_steal_pointer(&name)};
    g_ptr_array_add(s->files, f);
    tell(s, id, VD_AGENT_FILE_XFER_STATUS_CAN_SEND_DATA);
    if (!size)
        hand_over(s, f);
}

static void take(struct spice_files *s, struct file *f, const guint8 *data, gsize len)
{
    VDAgentFileXferDataMessage head;
    if (len < sizeof head)
        return;
    memcpy(&head, data, sizeof head);
    gsize n = len - sizeof head;
    if (f->handed || GUINT64_FROM_LE(head.size) != n || n > f->size - f->have ||
        pwrite(f->fd, data + sizeof head, n, (off_t)f->have) != (ssize_t)n) {
        end(s, f, VD_AGENT_FILE_XFER_STATUS_ERROR);
        return;
    }
    f->have += n;
    if (f->have == f->size)
        hand_over(s, f);
}

void spice_files_message(struct spice_files *s, guint32 type, const guint8 *data, gsize len)
{
    guint32 id;
    if (len < sizeof id)
        return;
    memcpy(&id, data, sizeof id);
    id = GUINT32_FROM_LE(id);
    struct file *f = find(s, id);
    if (type == VD_AGENT_FILE_XFER_START)
        start(s, id, data + sizeof id, len - sizeof id);
    else if (f && type == VD_AGENT_FILE_XFER_DATA)
        take(s, f, data, len);
    else if (f) /* the client's status: it gave up */
        end(s, f, VD_AGENT_FILE_XFER_STATUS_CANCELLED);
}

void spice_files_cancel_all(struct spice_files *s)
{
    for (guint i = s->files->len; i-- > 0;) {
        const struct file *f = g_ptr_array_index(s->files, i);
        if (f->sent)
            remote_shared_cancel_file(s->shared, f->sent);
        g_ptr_array_remove_index(s->files, i);
    }
}

struct spice_files *spice_files_new(struct spice_agent *agent, struct remote_shared *shared)
{
    struct spice_files *s = g_new0(struct spice_files, 1);
    s->agent = agent;
    s->shared = shared;
    s->files = g_ptr_array_new_with_free_func(file_free);
    return s;
}

void spice_files_free(struct spice_files *s)
{
    spice_files_cancel_all(s);
    g_ptr_array_unref(s->files);
    g_free(s);
}
