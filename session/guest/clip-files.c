/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Files from the host, by the SPICE agent's messages, where spice-vdagent does not serve: into the
 * user's folder of downloads, under a name that is free there. What is cancelled or fails is
 * removed again.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spice/vd_agent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "session/guest/clip.h"

enum { TRANSFERS = 64, MAX_NAME = 255, TRIES = 1000 };

static struct transfer {
    bool used;
    uint32_t id;
    int folder, fd;
    char name[MAX_NAME + 1];
    uint64_t done, total;
} transfers[TRANSFERS];

static struct transfer *find(uint32_t id)
{
    for (unsigned i = 0; i < TRANSFERS; i++)
        if (transfers[i].used && transfers[i].id == id)
            return &transfers[i];
    return NULL;
}

static void answer(uint32_t id, uint32_t result, const uint64_t *space)
{
    struct {
        uint32_t id, result;
        uint64_t space;
    } __attribute__((packed)) m = {htole32(id), htole32(result), space ? htole64(*space) : 0};
    clip_tell(VD_AGENT_FILE_XFER_STATUS, &m, space ? sizeof m : 8);
}

static void end(struct transfer *t, bool keep)
{
    if (!keep)
        unlinkat(t->folder, t->name, 0);
    close(t->fd);
    close(t->folder);
    *t = (struct transfer){0};
}

/* ---- where to ---- */

/* Of a line XDG_DOWNLOAD_DIR="$HOME/..." or "/..."; false: it says nothing. */
static bool told_folder(const char *home, char *out, size_t size)
{
    static const char key[] = "XDG_DOWNLOAD_DIR=\"";
    char path[PATH_MAX], line[PATH_MAX];
    const char *config = getenv("XDG_CONFIG_HOME");
    bool found = false;
    snprintf(path, sizeof path, "%s%s/user-dirs.dirs", config ? config : home,
             config ? "" : "/.config");
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
        char *at = line + sizeof key - 1, *quote;
        if (strncmp(line, key, sizeof key - 1) != 0 || !(quote = strrchr(at, '"')))
            continue;
        *quote = 0;
        bool below = strncmp(at, "$HOME", 5) == 0;
        found = below || *at == '/';
        snprintf(out, size, "%s%s", below ? home : "", below ? at + 5 : at);
    }
    if (f)
        fclose(f);
    return found;
}

static int open_folder(void)
{
    char path[2 * PATH_MAX];
    const char *home = getenv("HOME");
    if (!home)
        return -1;
    if (!told_folder(home, path, sizeof path))
        snprintf(path, sizeof path, "%s/Downloads", home);
    if (mkdir(path, 0755) != 0 && errno != EEXIST)
        snprintf(path, sizeof path, "%s", home);
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* A new file of that name, or with a number before its ending. */
static int create(int folder, const char *wanted, char *name)
{
    const char *dot = strrchr(wanted, '.');
    int stem = dot && dot != wanted ? (int)(dot - wanted) : (int)strlen(wanted);
    for (unsigned i = 0; i < TRIES; i++) {
        int n = i ? snprintf(name, MAX_NAME + 1, "%.*s (%u)%s", stem, wanted, i, wanted + stem)
                  : snprintf(name, MAX_NAME + 1, "%s", wanted);
        if (n > MAX_NAME)
            return -1;
        int fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    return -1;
}

/* ---- what the host says ---- */

/* A value of a key file, without its escapes; false: there is none, or it is too long. */
static bool value_of(const char *text, const char *key, char *out, size_t size)
{
    size_t n = strlen(key), have = 0;
    const char *line = text;
    while (strncmp(line, key, n) != 0 || line[n] != '=') {
        line = strchr(line, '\n');
        if (!line)
            return false;
        line++;
    }
    for (const char *p = line + n + 1; *p && *p != '\n'; p++) {
        char c = *p;
        if (c == '\\' && p[1]) {
            p++;
            c = *p == 's' ? ' ' : *p == 'n' ? '\n' : *p == 't' ? '\t' : *p == 'r' ? '\r' : *p;
        }
        if (have + 1 >= size)
            return false;
        out[have++] = c;
    }
    out[have] = 0;
    return have > 0;
}

/* The name alone, without a path. */
static bool read_start(const char *text, char *name, uint64_t *size)
{
    char number[32], given[PATH_MAX], *end_of_number;
    if (!value_of(text, "name", given, sizeof given) ||
        !value_of(text, "size", number, sizeof number))
        return false;
    const char *base = strrchr(given, '/');
    base = base ? base + 1 : given;
    if (!*base || strlen(base) > MAX_NAME || strcmp(base, ".") == 0 || strcmp(base, "..") == 0)
        return false;
    strcpy(name, base);
    errno = 0;
    *size = strtoull(number, &end_of_number, 10);
    return !errno && !*end_of_number && number[0] != '-';
}

static bool room_for(int folder, uint64_t size, uint64_t *space)
{
    struct statvfs v;
    *space = UINT64_MAX;
    if (fstatvfs(folder, &v) == 0)
        *space = (uint64_t)v.f_bavail * v.f_frsize;
    return size <= *space;
}

static void start(uint32_t id, const char *text)
{
    struct transfer *t = NULL;
    char wanted[MAX_NAME + 1];
    uint64_t size, space;
    for (unsigned i = 0; i < TRANSFERS && !t; i++)
        if (!transfers[i].used)
            t = &transfers[i];
    int folder = t && !find(id) && read_start(text, wanted, &size) ? open_folder() : -1;
    if (folder < 0) {
        answer(id, VD_AGENT_FILE_XFER_STATUS_ERROR, NULL);
        return;
    }
    if (!room_for(folder, size, &space)) {
        answer(id, VD_AGENT_FILE_XFER_STATUS_NOT_ENOUGH_SPACE, &space);
        close(folder);
        return;
    }
    *t = (struct transfer){true, id, folder, -1, "", 0, size};
    t->fd = create(folder, wanted, t->name);
    if (t->fd < 0) {
        close(folder);
        *t = (struct transfer){0};
        answer(id, VD_AGENT_FILE_XFER_STATUS_ERROR, NULL);
        return;
    }
    answer(id, VD_AGENT_FILE_XFER_STATUS_CAN_SEND_DATA, NULL);
}

static bool write_all(int fd, const uint8_t *data, size_t len)
{
    while (len) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

static void take(struct transfer *t, const uint8_t *data, size_t len)
{
    uint32_t id = t->id;
    if (len > t->total - t->done || !write_all(t->fd, data, len)) {
        end(t, false);
        answer(id, VD_AGENT_FILE_XFER_STATUS_ERROR, NULL);
        return;
    }
    t->done += len;
    if (t->done == t->total) {
        end(t, true);
        answer(id, VD_AGENT_FILE_XFER_STATUS_SUCCESS, NULL);
    }
}

void files_message(uint32_t type, const uint8_t *data, size_t len)
{
    VDAgentFileXferDataMessage head;
    uint32_t id, result;
    if (len < sizeof id)
        return;
    memcpy(&id, data, sizeof id);
    id = le32toh(id);
    if (type == VD_AGENT_FILE_XFER_START) {
        char text[2 * PATH_MAX];
        size_t n = len - sizeof id < sizeof text - 1 ? len - sizeof id : sizeof text - 1;
        memcpy(text, data + sizeof id, n);
        text[n] = 0;
        start(id, text);
        return;
    }
    struct transfer *t = find(id);
    if (!t)
        return;
    if (type == VD_AGENT_FILE_XFER_DATA && len >= sizeof head) {
        memcpy(&head, data, sizeof head);
        if (le64toh(head.size) == len - sizeof head)
            take(t, data + sizeof head, len - sizeof head);
    } else if (type == VD_AGENT_FILE_XFER_STATUS && len >= 8) {
        memcpy(&result, data + 4, sizeof result);
        if (le32toh(result) == VD_AGENT_FILE_XFER_STATUS_CANCELLED)
            end(t, false);
    }
}

void files_end(void)
{
    for (unsigned i = 0; i < TRANSFERS; i++)
        if (transfers[i].used)
            end(&transfers[i], false);
}
