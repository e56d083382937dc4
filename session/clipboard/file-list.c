/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/clipboard/file-list.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "session/agent-proto.h"

enum { MAX_FILES = 4096, TRIES = 1000 };

/* A name for a file here: no path, not hidden, nothing that a terminal or a file manager would show
 * as other than it is. NULL: it cannot be one. */
static char *safe_name(const guint8 *name, gsize len)
{
    if (!len || len > AGENT_MAX_NAME || memchr(name, '/', len) ||
        !g_utf8_validate((const char *)name, (gssize)len, NULL))
        return NULL;
    g_autoptr(GString) s = g_string_new(NULL);
    g_autofree char *text = g_strndup((const char *)name, len);
    for (const char *p = text; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);
        GUnicodeType type = g_unichar_type(c);
        gboolean odd = type == G_UNICODE_CONTROL || type == G_UNICODE_FORMAT ||
                       type == G_UNICODE_LINE_SEPARATOR || type == G_UNICODE_PARAGRAPH_SEPARATOR;
        g_string_append_unichar(s, odd || (p == text && c == '.') ? '_' : c);
    }
    return g_string_free(g_steal_pointer(&s), FALSE);
}

/* A new file of that name, or with a number before its ending. */
static int create(const char *folder, const char *name, char **path)
{
    const char *dot = strrchr(name, '.');
    int stem = dot && dot != name ? (int)(dot - name) : (int)strlen(name);
    for (guint i = 0; i < TRIES; i++) {
        g_autofree char *free_name =
            i ? g_strdup_printf("%.*s (%u)%s", stem, name, i, name + stem) : g_strdup(name);
        *path = g_build_filename(folder, free_name, NULL);
        int fd = open(*path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (fd >= 0 || errno != EEXIST)
            return fd;
        g_clear_pointer(path, g_free);
    }
    errno = EEXIST;
    return -1;
}

static gboolean write_whole(int fd, const guint8 *data, guint64 len)
{
    while (len) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return FALSE;
        data += n;
        len -= (guint64)n;
    }
    return TRUE;
}

/* One file; its path joins the others once it exists. */
static gboolean put(const char *folder, const char *name, const guint8 *data, guint64 len,
                    GPtrArray *paths, GError **error)
{
    char *path = NULL;
    int fd = create(folder, name, &path);
    gboolean ok = fd >= 0 && write_whole(fd, data, len);
    int code = errno;
    if (fd >= 0 && close(fd) != 0 && ok) {
        ok = FALSE;
        code = errno;
    }
    if (!ok)
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(code), "%s: %s", path ? path : name,
                    g_strerror(code));
    if (fd >= 0)
        g_ptr_array_add(paths, path);
    else
        g_free(path);
    return ok;
}

static gboolean bad(GError **error)
{
    g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                        "The guest sent files that cannot be understood.");
    return FALSE;
}

static gboolean unpack(const guint8 *data, gsize len, const char *folder, GPtrArray *paths,
                       GError **error)
{
    while (len) {
        struct agent_file head;
        if (len < sizeof head || paths->len >= MAX_FILES)
            return bad(error);
        memcpy(&head, data, sizeof head);
        data += sizeof head;
        len -= sizeof head;
        gsize n = GUINT32_FROM_LE(head.name);
        guint64 size = GUINT64_FROM_LE(head.size);
        g_autofree char *name = n <= len ? safe_name(data, n) : NULL;
        if (!name || size > len - n)
            return bad(error);
        if (!put(folder, name, data + n, size, paths, error))
            return FALSE;
        data += n + size;
        len -= n + size;
    }
    return paths->len || bad(error);
}

GStrv vireo_file_list_unpack(gconstpointer data, gsize len, const char *folder, GError **error)
{
    g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
    if (!unpack(data, len, folder, paths, error)) {
        for (guint i = 0; i < paths->len; i++)
            unlink(g_ptr_array_index(paths, i));
        return NULL;
    }
    g_ptr_array_add(paths, NULL);
    return (GStrv)g_ptr_array_free(g_steal_pointer(&paths), FALSE);
}
