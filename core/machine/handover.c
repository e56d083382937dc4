/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/machine/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/storage/disk.h"

struct to {
    const char *folder;
    handover_fn *fn;
    void *ctx;
};

static char *full_path(const struct to *t, const char *name, err *e)
{
    char *path = NULL;
    if (name[0] == '/' || !t->folder)
        path = strdup(name);
    else if (asprintf(&path, "%s/%s", t->folder, name) < 0)
        path = NULL;
    if (!path)
        err_set(e, ERR_NO_MEMORY, "There is no memory to open files");
    return path;
}

static bool give_file(const struct to *t, const char *name, int flags, err *e)
{
    AUTO(str) path = full_path(t, name, e);
    if (!path)
        return false;
    int fd = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
    if (fd < 0)
        return err_errno(e, errno, "\"%s\" cannot be opened", path);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    return t->fn(t->ctx, name, fd, e);
}

/* ---- a disk and its parents: notes what opening the chain opens ---- */

struct recorder {
    const struct to *to;
    const char *name; /* the leaf's, as the configuration has it */
    bool read_only;
};

static bool record(struct recorder *r, const char *name, int fd, err *e)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0)
        return err_errno(e, errno, "%s", name);
    return r->to->fn(r->to->ctx, name, copy, e);
}

static int record_open(void *ctx, const char *path, const char *referrer, unsigned flags,
                       char **resolved, err *e)
{
    struct recorder *r = ctx;
    flags |= DISK_OPEN_READ_ONLY;
    /* Parents, too, for merging into them; where they may not be written it must do without. */
    unsigned writable = flags & ~(unsigned)DISK_OPEN_READ_ONLY;
    int fd = r->read_only ? -1
                          : disk_opener_paths.open(NULL, path, referrer, writable, resolved,
                                                   referrer ? NULL : e);
    if (fd < 0 && (referrer || r->read_only))
        fd = disk_opener_paths.open(NULL, path, referrer, flags, resolved, e);
    if (fd < 0)
        return -1;
    bool ok = record(r, referrer ? path : r->name, fd, e);
    if (ok && referrer && strcmp(path, *resolved))
        ok = record(r, *resolved, fd, e);
    if (ok)
        return fd;
    close(fd);
    return -1;
}

static bool give_chain(const struct to *t, const char *name, bool read_only, err *e)
{
    struct recorder r = {t, name, read_only};
    const struct disk_opener opener = {record_open, &r};
    AUTO(str) path = full_path(t, name, e);
    struct loop *loop = path ? loop_new(e) : NULL;
    if (!loop)
        return false;
    struct disk *d =
        disk_open(&(struct disk_open_params){.path = path,
                                             .flags = DISK_OPEN_READ_ONLY | DISK_OPEN_NO_LOCK,
                                             .opener = &opener,
                                             .loop = loop},
                  e);
    if (d)
        disk_close(d);
    loop_free(loop);
    return d != NULL;
}

/* A floppy that may not be written is write-protected. */
static bool give_floppy(const struct to *t, const char *name, bool read_only, err *e)
{
    AUTO(str) path = full_path(t, name, e);
    bool writes = path && !read_only && access(path, W_OK) == 0;
    return path && give_file(t, name, writes ? O_RDWR : O_RDONLY, e);
}

bool handover_disk(const char *name, const char *folder, bool read_only, enum vm_media media,
                   handover_fn *fn, void *ctx, err *e)
{
    struct to t = {folder, fn, ctx};
    switch (media) {
    case VM_MEDIA_DVD: return give_file(&t, name, O_RDONLY, e);
    case VM_MEDIA_FLOPPY: return give_floppy(&t, name, read_only, e);
    default: return give_chain(&t, name, read_only, e);
    }
}

/* ---- network devices ---- */

/* A macvtap is a character device of its own, /dev/tapN by its interface's index. */
static int open_macvtap(const char *device)
{
    char path[128];
    int index = 0;
    snprintf(path, sizeof path, "/sys/class/net/%.64s/macvtap", device);
    if (access(path, F_OK) != 0)
        return -1;
    snprintf(path, sizeof path, "/sys/class/net/%.64s/ifindex", device);
    FILE *f = fopen(path, "re");
    if (!f || fscanf(f, "%d", &index) != 1)
        index = 0;
    if (f)
        fclose(f);
    snprintf(path, sizeof path, "/dev/tap%d", index);
    return open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
}

static int open_tap(const char *device, err *e)
{
    struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    if (strlen(device) >= sizeof r.ifr_name || strchr(device, '/') || !device[0]) {
        err_set(e, ERR_INVALID, "\"%s\" is no name of a network device", device);
        return -1;
    }
    int fd = open_macvtap(device);
    if (fd >= 0)
        return fd;
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", device);
    fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && ioctl(fd, TUNSETIFF, &r) == 0)
        return fd;
    err_errno(
        e, errno,
        "The network device \"%s\" cannot be used: an administrator has to make it (ip tuntap add "
        "dev %s mode tap user NAME)",
        device, device);
    auto_close(fd);
    return -1;
}

bool handover_switch(const char *where, handover_fn *fn, void *ctx, err *e)
{
    if (strncmp(where, "tap:", 4) != 0)
        return true;
    int fd = open_tap(where + 4, e);
    return fd >= 0 && fn(ctx, where, fd, e);
}

/* ---- COM ports ---- */

static int listen_at(const char *path, err *e)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct stat st;
    if (strlen(path) >= sizeof a.sun_path) {
        err_set(e, ERR_INVALID, "\"%s\" is too long a name for a socket", path);
        return -1;
    }
    strcpy(a.sun_path, path);
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(path); /* of a run before */
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && chmod(path, 0600) == 0 &&
        listen(fd, 4) == 0)
        return fd;
    err_errno(e, errno, "The socket \"%s\" cannot be made", path);
    auto_close(fd);
    return -1;
}

/* A pseudo-terminal; `path`, if any, becomes a link to it. */
static int open_pty(const char *path, err *e)
{
    char name[64];
    struct stat st;
    int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || grantpt(fd) != 0 || unlockpt(fd) != 0 || ptsname_r(fd, name, sizeof name) != 0) {
        err_errno(e, errno, "A terminal for the serial port");
        auto_close(fd);
        return -1;
    }
    if (path && lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
        unlink(path);
    if (!path || symlink(name, path) == 0)
        return fd;
    err_errno(e, errno, "The link \"%s\" to the serial port's terminal", path);
    close(fd);
    return -1;
}

static bool give_port(const struct to *t, unsigned i, const struct vm_port_config *p, err *e)
{
    char name[16];
    int fd;
    if (p->kind == VM_PORT_NONE)
        return true;
    if (!p->path && p->kind != VM_PORT_PTY)
        return err_set(e, ERR_INVALID, "Serial port %u leads to no file", i + 1);
    AUTO(str) path = p->path ? full_path(t, p->path, e) : NULL;
    if (p->path && !path)
        return false;
    snprintf(name, sizeof name, "port%u", i);
    if (p->kind == VM_PORT_SOCKET)
        fd = listen_at(path, e);
    else if (p->kind == VM_PORT_PTY)
        fd = open_pty(path, e);
    else if ((fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600)) < 0)
        err_errno(e, errno, "\"%s\" cannot be opened", path);
    return fd >= 0 && t->fn(t->ctx, name, fd, e);
}

/* ---- all ---- */

static bool give_adapters(const struct vm_config *c, const struct to *t, err *e)
{
    for (uint32_t i = 0; i < c->n_adapters; i++) {
        char where[128];
        const struct vm_adapter *a = &c->adapters[i];
        snprintf(where, sizeof where, "tap:%s", a->name ? a->name : "");
        if (a->kind == VM_SWITCH_DEVICE && !handover_switch(where, t->fn, t->ctx, e))
            return false;
    }
    return true;
}

bool handover_all(const struct vm_config *c, const char *folder, handover_fn *fn, void *ctx, err *e)
{
    struct to t = {folder, fn, ctx};
    bool direct = c->boot == VM_BOOT_LINUX;
    if ((direct && c->kernel && !give_file(&t, c->kernel, O_RDONLY, e)) ||
        (direct && c->initrd && !give_file(&t, c->initrd, O_RDONLY, e)))
        return false;
    for (uint32_t i = 0; i < c->n_disks; i++) {
        const struct vm_disk *d = &c->disks[i];
        if (d->path &&
            !handover_disk(d->path, folder, d->read_only, (enum vm_media)d->media, fn, ctx, e))
            return false;
    }
    for (unsigned i = 0; i < VM_MAX_PORTS; i++)
        if (!give_port(&t, i, &c->ports[i], e))
            return false;
    return give_adapters(c, &t, e);
}
