/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Converting: from any chain, or from what qemu-img can read, into a new file. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/storage/copy.h"
#include "core/storage/tool.h"

extern char **environ;

/* ---- formats that are only imported ---- */

static const char *foreign_format(const char *path)
{
    const char *foreign = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char *name = fd < 0 ? NULL : strdup(path);
    struct sfile *f = name ? hostfile_new(fd, name, true, NULL, NULL) : NULL;
    if (f)
        image_probe(f, &foreign);
    else if (!name)
        auto_close(fd);
    sfile_close(f);
    return foreign;
}

static bool run_tool(char *const argv[], err *e)
{
    pid_t pid;
    int status, rc = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
    if (rc == ENOENT)
        return err_set(e, ERR_UNSUPPORTED,
                       "Reading a %s image needs the program qemu-img, which is not installed",
                       argv[3]);
    if (rc)
        return err_errno(e, rc, "Could not start %s", argv[0]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return (WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
           err_set(e, ERR_IO, "%s could not read %s", argv[0], argv[6]);
}

/* A raw copy of a foreign image beside the target, to be removed by the caller. */
static char *import_raw(const char *format, const char *source, const char *target, err *e)
{
    const char *slash = strrchr(target, '/');
    AUTO(str) temp = NULL;
    if (asprintf(&temp, "%.*s.import.XXXXXX", slash ? (int)(slash - target + 1) : 0, target) < 0) {
        temp = NULL;
        err_set(e, ERR_NO_MEMORY, "Not enough memory to convert");
        return NULL;
    }
    AUTO(fd) fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0) {
        err_errno(e, errno, "Could not create a file beside %s", target);
        return NULL;
    }
    char *const argv[] = {(char *)"qemu-img",
                          (char *)"convert",
                          (char *)"-f",
                          (char *)format,
                          (char *)"-O",
                          (char *)"raw",
                          (char *)source,
                          temp,
                          NULL};
    if (run_tool(argv, e))
        return TAKE(temp);
    unlink(temp);
    return NULL;
}

/* ---- the target ---- */

/* A source of exactly one file: a new one, already open. */
struct one_file {
    int fd;
    char *name;
    struct aio *aio;
};

static struct sfile *one_open(void *ctx, const char *path, const char *referrer, unsigned flags,
                              err *e)
{
    struct one_file *o = ctx;
    int fd = fcntl(o->fd, F_DUPFD_CLOEXEC, 3);
    char *name = strdup(path);
    if (fd < 0 || !name) {
        err_errno(e, fd < 0 ? errno : ENOMEM, "Could not write %s", path);
        free(name);
        auto_close(fd);
        return NULL;
    }
    return hostfile_new(fd, name, false, o->aio, e);
}
static void one_plug(void *ctx)
{
    aio_plug(((struct one_file *)ctx)->aio);
}
static void one_unplug(void *ctx)
{
    aio_unplug(((struct one_file *)ctx)->aio);
}
static void one_free(void *ctx)
{
    aio_free(((struct one_file *)ctx)->aio);
    free(ctx);
}

static struct disk *open_new(struct newfile *n, enum disk_format format, struct loop *loop, err *e)
{
    struct one_file *o = calloc(1, sizeof *o);
    if (!o) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory to create %s", n->path);
        return NULL;
    }
    o->fd = n->fd;
    o->aio = aio_new(loop, false, e);
    if (!o->aio) {
        free(o);
        return NULL;
    }
    struct sfile_source s = {
        .open = one_open, .plug = one_plug, .unplug = one_unplug, .free = one_free, .ctx = o};
    struct disk_open_params p = {.path = n->path, .format = format, .loop = loop};
    return disk_open_source(&p, &s, e);
}

static bool write_format(struct newfile *n, const struct format_params *f, err *e)
{
    int fd = fcntl(n->fd, F_DUPFD_CLOEXEC, 3);
    char *name = strdup(n->path);
    if (fd < 0 || !name) {
        free(name);
        auto_close(fd);
        return err_set(e, ERR_NO_MEMORY, "Could not create %s", n->path);
    }
    struct sfile *file = hostfile_new(fd, name, false, NULL, e);
    bool ok = file && format_write(file, f, e);
    sfile_close(file);
    return ok;
}

static bool fill(struct disk *from, struct newfile *n, const struct format_params *f,
                 struct loop *loop, const struct disk_progress *progress, err *e)
{
    struct disk *to = open_new(n, f->format, loop, e);
    if (!to)
        return false;
    struct copy_params cp = {
        .from = from, .to = to, .target_is_zero = true, .length = from->top->size};
    bool ok = copy_run(&cp, progress, e);
    disk_close(to);
    return ok;
}

static bool convert_from(struct disk *from, const struct disk_convert_params *p, struct loop *loop,
                         const struct disk_progress *progress, err *e)
{
    struct format_params f = {
        .format = p->format == DISK_FORMAT_AUTO ? format_by_name(p->target) : p->format,
        .type = p->type,
        .size = from->top->size,
        .block_size = p->block_size,
        .logical_sector = p->logical_sector,
        .physical_sector = p->physical_sector,
        .disk_id = from->top->disk_id,
    };
    if (f.type == DISK_DIFFERENCING)
        return err_set(e, ERR_INVALID, "A disk is converted to a fixed or a dynamic one");
    if (f.format == DISK_FORMAT_RAW)
        f.type = DISK_FIXED;
    if (!f.logical_sector && f.format == DISK_FORMAT_VHDX)
        f.logical_sector = from->top->logical_sector;
    struct newfile n;
    bool ok = format_check(&f, e) && newfile_begin(&n, p->target, p->force, e);
    if (!ok)
        return false;
    ok = write_format(&n, &f, e) && fill(from, &n, &f, loop, progress, e) && newfile_commit(&n, e);
    newfile_end(&n);
    return ok;
}

bool disk_convert(const struct disk_convert_params *p, struct loop *loop,
                  const struct disk_progress *progress, err *e)
{
    const char *foreign = p->source_format == DISK_FORMAT_AUTO ? foreign_format(p->source) : NULL;
    if (!p->force && access(p->target, F_OK) == 0)
        return err_set(e, ERR_EXISTS, "%s is already there", p->target);
    AUTO(str) imported = foreign ? import_raw(foreign, p->source, p->target, e) : NULL;
    if (foreign && !imported)
        return false;
    struct disk_open_params op = {.path = imported ? imported : p->source,
                                  .format = imported ? DISK_FORMAT_RAW : p->source_format,
                                  .flags = DISK_OPEN_READ_ONLY,
                                  .opener = &disk_opener_paths,
                                  .loop = loop};
    struct disk *from = disk_open(&op, e);
    if (imported)
        unlink(imported);
    bool ok = from && convert_from(from, p, loop, progress, e);
    disk_close(from);
    return ok;
}
