/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Files that a program here copied, for the host: the list of their names (text/uri-list, RFC 2483)
 * becomes their content, in AGENT_CLIPBOARD_FILES's form. Regular files alone; all of them or none.
 */
#include <endian.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "session/agent-proto.h"
#include "session/guest/clip.h"

struct pack {
    uint8_t *data;
    size_t len;
};

static int digit(char c)
{
    return c >= '0' && c <= '9'                 ? c - '0'
           : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                : -1;
}

/* The path of a file: URI of this system; false: it is none. */
static bool path_of(const char *uri, size_t len, char *path, size_t size)
{
    static const char scheme[] = "file://";
    const size_t head = sizeof scheme - 1;
    size_t n = 0;
    if (len < head || memcmp(uri, scheme, head) != 0)
        return false;
    const char *end = uri + len, *p = memchr(uri + head, '/', len - head);
    if (!p || (p != uri + head &&
               (p - uri != (ptrdiff_t)(head + 9) || memcmp(uri + head, "localhost", 9) != 0)))
        return false;
    for (; p < end; p++) {
        int c = (unsigned char)*p;
        if (c == '%') {
            int high = end - p > 2 ? digit(p[1]) : -1, low = end - p > 2 ? digit(p[2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = high << 4 | low;
            p += 2;
        }
        if (!c || n + 1 >= size)
            return false;
        path[n++] = (char)c;
    }
    path[n] = 0;
    return true;
}

/* Room for `more` bytes at the end, which are counted; NULL: too much. */
static uint8_t *grow(struct pack *p, uint64_t more)
{
    if (more > CLIP_MAX_BYTES - p->len)
        return NULL;
    uint8_t *data = realloc(p->data, p->len + more + 1);
    if (!data)
        return NULL;
    p->data = data;
    data += p->len;
    p->len += more;
    return data;
}

static bool read_whole(int fd, uint8_t *to, size_t len)
{
    while (len) {
        ssize_t n = read(fd, to, len);
        if (n <= 0)
            return false;
        to += n;
        len -= (size_t)n;
    }
    return true;
}

static bool add_open(struct pack *p, const char *name, int fd)
{
    struct stat st;
    size_t n = strlen(name);
    struct agent_file head = {.name = htole32((uint32_t)n)};
    if (!n || n > AGENT_MAX_NAME || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return false;
    head.size = htole64((uint64_t)st.st_size);
    uint8_t *to = grow(p, sizeof head + n);
    if (!to)
        return false;
    memcpy(to, &head, sizeof head);
    memcpy(to + sizeof head, name, n);
    to = grow(p, (uint64_t)st.st_size);
    return to && read_whole(fd, to, (size_t)st.st_size);
}

static bool add(struct pack *p, const char *path)
{
    /* a FIFO does not make us wait */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    bool ok = fd >= 0 && add_open(p, strrchr(path, '/') + 1, fd);
    if (fd >= 0)
        close(fd);
    return ok;
}

uint8_t *copied_pack(const uint8_t *list, size_t len, size_t *out)
{
    const char *at = (const char *)list, *end = at + len;
    struct pack p = {0};
    char path[PATH_MAX];
    bool ok = true;
    while (ok && at < end) {
        const char *line = at, *stop = memchr(at, '\n', (size_t)(end - at));
        at = stop ? stop + 1 : end;
        stop = stop ? stop : end;
        /* some end it with a zero */
        while (stop > line && (stop[-1] == '\r' || !stop[-1]))
            stop--;
        if (stop > line && *line != '#')
            ok = path_of(line, (size_t)(stop - line), path, sizeof path) && add(&p, path);
    }
    if (!ok || !p.len) {
        free(p.data);
        return NULL;
    }
    *out = p.len;
    return p.data;
}
