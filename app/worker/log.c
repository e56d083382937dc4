/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The VM's event log: every line to <folder>/events.log (kept below 1 MiB) and, as the Event
 * signal, to whoever is connected. Standard error gets warnings and errors too, for the unit's
 * journal. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/worker/worker.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"

enum { LOG_MAX = 1 << 20 };

static struct {
    GMutex lock;
    struct worker *w;
    int fd, dir;
} logger = {.fd = -1, .dir = -1};

struct line {
    gint64 time;
    enum log_level level;
    char *subsystem, *text;
};

static const char *level_name(enum log_level level)
{
    switch (level) {
    case LOG_ERROR: return "error";
    case LOG_WARNING: return "warning";
    default: return "info";
    }
}

static gboolean emit(gpointer data)
{
    struct line *l = data;
    if (logger.w)
        vireo_machine1_emit_event(logger.w->machine, l->time, level_name(l->level), l->subsystem,
                                  l->text);
    g_free(l->subsystem);
    g_free(l->text);
    g_free(l);
    return G_SOURCE_REMOVE;
}

static int open_log(int dir)
{
    return openat(dir, "events.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
}

/* A log that has grown becomes events.log.1. */
static void rotate(void)
{
    struct stat st;
    if (logger.fd < 0 || fstat(logger.fd, &st) != 0 || st.st_size < LOG_MAX)
        return;
    if (renameat(logger.dir, "events.log", logger.dir, "events.log.1") != 0)
        return;
    close(logger.fd);
    logger.fd = open_log(logger.dir);
}

static void write_file(const struct line *l)
{
    g_autoptr(GDateTime) t = g_date_time_new_from_unix_local(l->time / G_USEC_PER_SEC);
    g_autofree char *when = g_date_time_format_iso8601(t);
    g_autofree char *s =
        g_strdup_printf("%s %s %s: %s\n", when, level_name(l->level), l->subsystem, l->text);
    g_mutex_lock(&logger.lock);
    if (logger.fd >= 0 && write(logger.fd, s, strlen(s)) < 0 && errno == ENOSPC)
        fputs("vireo-vm: the disk with the event log is full\n", stderr);
    rotate();
    g_mutex_unlock(&logger.lock);
}

static void sink(void *ctx, enum log_level level, const char *subsystem, const char *text)
{
    struct line *l = g_new0(struct line, 1);
    l->time = g_get_real_time();
    l->level = level;
    l->subsystem = g_strdup(subsystem);
    l->text = g_utf8_make_valid(text, -1);
    if (level <= LOG_WARNING)
        fprintf(stderr, "vireo-vm: %s: %s\n", subsystem, l->text);
    write_file(l);
    g_idle_add(emit, l);
}

void worker_log_start(struct worker *w)
{
    logger.w = w;
    if (w->folder) {
        logger.dir = open(w->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        logger.fd = logger.dir < 0 ? -1 : open_log(logger.dir);
    }
    log_set_sink(sink, NULL);
}

void worker_log_stop(struct worker *w)
{
    log_set_sink(NULL, NULL);
    logger.w = NULL;
    auto_close(logger.fd);
    auto_close(logger.dir);
    logger.fd = logger.dir = -1;
}
