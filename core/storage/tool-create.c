/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Creating disks. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/storage/tool.h"
#include "core/storage/vhd.h"

const char *disk_format_name(enum disk_format f)
{
    static const char *const names[] = {"auto", "raw", "vhd", "vhdx"};
    return (unsigned)f < ARRAY_LEN(names) ? names[f] : "unknown";
}
const char *disk_type_name(enum disk_type t)
{
    static const char *const names[] = {"fixed", "dynamic", "differencing"};
    return (unsigned)t < ARRAY_LEN(names) ? names[t] : "unknown";
}

enum disk_format format_by_name(const char *path)
{
    static const struct {
        const char *ending;
        enum disk_format format;
    } known[] = {{".vhd", DISK_FORMAT_VHD},   {".avhd", DISK_FORMAT_VHD},
                 {".vhdx", DISK_FORMAT_VHDX}, {".avhdx", DISK_FORMAT_VHDX},
                 {".raw", DISK_FORMAT_RAW},   {".img", DISK_FORMAT_RAW},
                 {".iso", DISK_FORMAT_RAW}};
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < ARRAY_LEN(known); i++)
        if (!strcasecmp(dot, known[i].ending))
            return known[i].format;
    return DISK_FORMAT_VHDX;
}

bool format_from_parent(struct format_params *f, struct image *parent, const char *child_path,
                        const char *parent_path, struct parent_names *names, err *e)
{
    names->relative = path_relative(child_path, parent_path);
    names->absolute = realpath(parent_path, NULL);
    if (!names->relative)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory to create %s", child_path);
    if (!image_identity(parent, &f->parent_id))
        return err_set(e, ERR_UNSUPPORTED,
                       "%s is %s: only VHD and VHDX disks can be parents. Convert it first",
                       parent_path, disk_format_name(parent->format));
    if (parent->format != f->format)
        return err_set(e, ERR_UNSUPPORTED, "A %s disk needs a parent of its own format, %s is %s",
                       disk_format_name(f->format), parent_path, disk_format_name(parent->format));
    if (!f->size)
        f->size = parent->size;
    if (f->size < parent->size)
        return err_set(e, ERR_INVALID, "A differencing disk cannot be smaller than its parent");
    if (f->logical_sector && f->logical_sector != parent->logical_sector)
        return err_set(e, ERR_INVALID, "A differencing disk has its parent's sector size, %u",
                       parent->logical_sector);
    f->logical_sector = parent->logical_sector;
    if (!f->physical_sector)
        f->physical_sector = parent->physical_sector;
    f->parent_path = names->relative;
    f->parent_absolute = names->absolute;
    f->parent_timestamp = vhd_time_of(parent_path);
    f->disk_id = (struct guid){0};
    if (f->format == DISK_FORMAT_VHDX) /* the same disk to the guest */
        f->disk_id = parent->disk_id;
    return true;
}

void parent_names_clear(struct parent_names *n)
{
    free(n->relative);
    free(n->absolute);
}

bool tool_write_new(const char *path, bool force, const struct format_params *f, err *e)
{
    struct newfile n;
    bool ok = newfile_begin(&n, path, force, e);
    struct sfile *file = NULL;
    if (ok) {
        int fd = dup(n.fd);
        char *name = strdup(path);
        file = fd >= 0 && name ? hostfile_new(fd, name, false, NULL, e) : NULL;
        ok = file || err_set(e, ERR_NO_MEMORY, "Could not create %s", path);
    }
    ok = ok && format_write(file, f, e) && newfile_commit(&n, e);
    sfile_close(file);
    newfile_end(&n);
    return ok;
}

bool disk_create(const struct disk_create_params *p, struct loop *loop, err *e)
{
    struct format_params f = {
        .format = p->format == DISK_FORMAT_AUTO ? format_by_name(p->path) : p->format,
        .type = p->type,
        .size = p->size,
        .block_size = p->block_size,
        .logical_sector = p->logical_sector,
        .physical_sector = p->physical_sector,
    };
    if (f.type == DISK_DIFFERENCING && !p->parent)
        return err_set(e, ERR_INVALID, "A differencing disk needs a parent");
    if (f.type != DISK_DIFFERENCING && p->parent)
        return err_set(e, ERR_INVALID, "Only a differencing disk has a parent");
    struct disk *parent = NULL;
    struct parent_names names = {0};
    bool ok = true;
    if (p->parent) {
        parent = disk_open(&(struct disk_open_params){.path = p->parent,
                                                      .flags = DISK_OPEN_READ_ONLY,
                                                      .opener = &disk_opener_paths,
                                                      .loop = loop},
                           e);
        ok = parent && format_from_parent(&f, parent->top, p->path, p->parent, &names, e);
    }
    ok = ok && format_check(&f, e) && tool_write_new(p->path, p->force, &f, e);
    parent_names_clear(&names);
    disk_close(parent);
    return ok;
}
