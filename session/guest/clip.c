/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The clipboard's stream to the host: messages of the SPICE agent protocol in chunks of the same,
 * with two types of content more (enum agent_content). Both sides count grabs, so that they agree
 * who owns a selection that both took at once: the host.
 */
#include "session/guest/clip.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <spice/vd_agent.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "session/agent-proto.h"
#include "session/clipboard/vdagent-wire.h"
#include "session/guest/agent.h"

enum { MAX_QUEUED = 2 * CLIP_MAX_BYTES, MAX_SIDE = 16384 };

const char *const clip_names[CLIP_TYPES][4] = {
    [CLIP_TEXT] = {"text/plain;charset=utf-8", "text/plain"},
    [CLIP_HTML] = {"text/html"},
    [CLIP_PNG] = {"image/png"},
    [CLIP_BMP] = {"image/bmp", "image/x-bmp", "image/x-MS-bmp"},
    [CLIP_TIFF] = {"image/tiff"},
    [CLIP_JPEG] = {"image/jpeg"},
    [CLIP_FILES] = {"text/uri-list"},
};

static const uint32_t wire_types[CLIP_TYPES] = {
    [CLIP_TEXT] = VD_AGENT_CLIPBOARD_UTF8_TEXT,  [CLIP_HTML] = AGENT_CLIPBOARD_HTML,
    [CLIP_PNG] = VD_AGENT_CLIPBOARD_IMAGE_PNG,   [CLIP_BMP] = VD_AGENT_CLIPBOARD_IMAGE_BMP,
    [CLIP_TIFF] = VD_AGENT_CLIPBOARD_IMAGE_TIFF, [CLIP_JPEG] = VD_AGENT_CLIPBOARD_IMAGE_JPG,
    [CLIP_FILES] = AGENT_CLIPBOARD_FILES,
};

static const struct clip_backend *backend;
static struct {
    int fd;
    struct watch *watch;
    struct vdagent_wire *wire;
    uint8_t *out;
    size_t have, sent, room;
    bool broken;
} s = {.fd = -1};

static struct {
    uint32_t theirs; /* types that the host has */
    uint32_t ours;   /* that a program here has */
    uint32_t asked;  /* of the host, not answered yet */
    uint32_t serial; /* of the next grab, on either side */
} selections[CLIP_SELECTIONS];

enum clip_type clip_type_of(const char *name)
{
    for (unsigned t = 0; t < CLIP_TYPES; t++)
        for (unsigned i = 0; clip_names[t][i]; i++)
            if (strcasecmp(clip_names[t][i], name) == 0)
                return (enum clip_type)t;
    return CLIP_TYPES;
}

static enum clip_type type_of_wire(uint32_t wire)
{
    unsigned t = 0;
    while (t < CLIP_TYPES && wire_types[t] != wire)
        t++;
    return (enum clip_type)t;
}

/* ---- to the host ---- */

static void push(void)
{
    while (s.sent < s.have) {
        ssize_t n = send(s.fd, s.out + s.sent, s.have - s.sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (n <= 0) {
            s.broken = true;
            return;
        }
        s.sent += (size_t)n;
    }
    if (s.sent == s.have) {
        free(s.out);
        s.out = NULL;
        s.have = s.sent = s.room = 0;
    }
    watch_events(s.watch, (short)(POLLIN | (s.have ? POLLOUT : 0)));
}

static void put(void *ctx, const void *bytes, size_t len)
{
    if (s.have + len > s.room) {
        size_t room = s.room ? s.room : 4096;
        while (room < s.have + len)
            room *= 2;
        uint8_t *out = realloc(s.out, room);
        if (!out) {
            s.broken = true;
            return;
        }
        s.out = out;
        s.room = room;
    }
    memcpy(s.out + s.have, bytes, len);
    s.have += len;
}

/* The message's head is selection and words. */
static void tell(uint32_t type, unsigned selection, const uint32_t *words, unsigned n,
                 const uint8_t *data, size_t len)
{
    uint8_t head[4 + 4 * (CLIP_TYPES + 1)] = {(uint8_t)selection};
    if (s.fd < 0 || s.broken)
        return;
    for (unsigned i = 0; i < n; i++) {
        uint32_t v = htole32(words[i]);
        memcpy(head + 4 + 4 * i, &v, 4);
    }
    vdagent_wire_pack(type, head, 4 + 4 * (size_t)n, data, len, put, NULL);
    if (!s.broken)
        push();
}

void clip_tell(uint32_t type, const void *data, size_t len)
{
    if (s.fd < 0 || s.broken)
        return;
    vdagent_wire_pack(type, data, len, NULL, 0, put, NULL);
    if (!s.broken)
        push();
}

static void tell_caps(void)
{
    bool sizes = backend && backend->can_resize && backend->can_resize();
    uint32_t all = 1u << VD_AGENT_CAP_CLIPBOARD_BY_DEMAND | 1u << VD_AGENT_CAP_CLIPBOARD_SELECTION |
                   1u << VD_AGENT_CAP_CLIPBOARD_NO_RELEASE_ON_REGRAB |
                   1u << VD_AGENT_CAP_CLIPBOARD_GRAB_SERIAL |
                   1u << VD_AGENT_CAP_FILE_XFER_DETAILED_ERRORS |
                   (sizes ? 1u << VD_AGENT_CAP_MONITORS_CONFIG : 0);
    const uint32_t caps[2] = {0, htole32(all)};
    clip_tell(VD_AGENT_ANNOUNCE_CAPABILITIES, caps, sizeof caps);
}

static void tell_grab(unsigned selection)
{
    uint32_t words[CLIP_TYPES + 1] = {selections[selection].serial++};
    unsigned n = 1;
    for (unsigned t = 0; t < CLIP_TYPES; t++)
        if (selections[selection].ours & 1u << t)
            words[n++] = wire_types[t];
    tell(VD_AGENT_CLIPBOARD_GRAB, selection, words, n, NULL, 0);
}

void clip_copied(unsigned selection, uint32_t types)
{
    uint32_t before = selections[selection].ours;
    selections[selection].ours = types;
    if (types) {
        selections[selection].theirs = 0;
        tell_grab(selection);
    } else if (before) {
        tell(VD_AGENT_CLIPBOARD_RELEASE, selection, NULL, 0, NULL, 0);
    }
}

static void give(unsigned selection, enum clip_type type, const uint8_t *data, size_t len)
{
    const uint32_t nothing = VD_AGENT_CLIPBOARD_NONE;
    bool ok = data && len <= CLIP_MAX_BYTES && s.have - s.sent < MAX_QUEUED - len;
    tell(VD_AGENT_CLIPBOARD, selection, ok ? &wire_types[type] : &nothing, 1, data, ok ? len : 0);
}

void clip_give(unsigned selection, enum clip_type type, const uint8_t *data, size_t len)
{
    uint8_t *files = type == CLIP_FILES && data ? copied_pack(data, len, &len) : NULL;
    give(selection, type, type == CLIP_FILES ? files : data, len);
    free(files);
}

static void answer(unsigned selection, enum clip_type type, const uint8_t *data, size_t len)
{
    selections[selection].asked &= ~(1u << type);
    if (backend)
        backend->got(selection, type, data, len);
}

void clip_ask(unsigned selection, enum clip_type type)
{
    if (s.fd < 0 || s.broken || !(selections[selection].theirs & 1u << type)) {
        answer(selection, type, NULL, 0);
    } else if (!(selections[selection].asked & 1u << type)) {
        selections[selection].asked |= 1u << type;
        tell(VD_AGENT_CLIPBOARD_REQUEST, selection, &wire_types[type], 1, NULL, 0);
    }
}

static void answer_all(unsigned selection)
{
    for (unsigned t = 0; t < CLIP_TYPES; t++)
        if (selections[selection].asked & 1u << t)
            answer(selection, (enum clip_type)t, NULL, 0);
}

/* ---- what the host says ---- */

static void theirs(unsigned selection, uint32_t types)
{
    answer_all(selection);
    selections[selection].theirs = types;
    if (types)
        selections[selection].ours = 0;
    if (backend)
        backend->own(selection, types);
}

static void on_grab(const uint8_t *data, size_t len)
{
    struct vdagent_grab g;
    if (!vdagent_read_grab(data, len, true, true, &g) || g.selection >= CLIP_SELECTIONS)
        return;
    uint32_t *serial = &selections[g.selection].serial, types = 0;
    /* A grab of ours with the same number was lost on the way; of two, the host knows the later. */
    if ((int32_t)(g.serial - (*serial - 1)) < 0)
        return;
    if ((int32_t)(g.serial + 1 - *serial) > 0)
        *serial = g.serial + 1;
    for (unsigned i = 0; i < g.n; i++) {
        enum clip_type t = type_of_wire(g.types[i]);
        types |= t < CLIP_TYPES && t != CLIP_FILES ? 1u << t : 0; /* its files come otherwise */
    }
    theirs(g.selection, types);
}

/* Of the first monitor. */
static void on_monitors(const uint8_t *data, size_t len)
{
    VDAgentMonitorsConfig head;
    VDAgentMonConfig m;
    if (len < sizeof head + sizeof m || !backend || !backend->resize)
        return;
    memcpy(&head, data, sizeof head);
    memcpy(&m, data + sizeof head, sizeof m);
    uint32_t width = le32toh(m.width), height = le32toh(m.height);
    if (head.num_of_monitors && width && height && width <= MAX_SIDE && height <= MAX_SIDE)
        backend->resize(width, height);
}

static void on_message(void *ctx, uint32_t type, const uint8_t *data, size_t len)
{
    uint8_t selection;
    uint32_t wire;
    size_t at;
    if (type == VD_AGENT_CLIPBOARD_GRAB) {
        on_grab(data, len);
        return;
    }
    if (type == VD_AGENT_MONITORS_CONFIG) {
        on_monitors(data, len);
        return;
    }
    if (type == VD_AGENT_FILE_XFER_START || type == VD_AGENT_FILE_XFER_DATA ||
        type == VD_AGENT_FILE_XFER_STATUS) {
        files_message(type, data, len);
        return;
    }
    if (type == VD_AGENT_CLIPBOARD_RELEASE) {
        if (len && data[0] < CLIP_SELECTIONS && selections[data[0]].theirs)
            theirs(data[0], 0);
        return;
    }
    if ((type != VD_AGENT_CLIPBOARD && type != VD_AGENT_CLIPBOARD_REQUEST) ||
        !vdagent_read_content(data, len, true, &selection, &wire, &at) ||
        selection >= CLIP_SELECTIONS)
        return;
    enum clip_type t = type_of_wire(wire);
    if (type == VD_AGENT_CLIPBOARD) {
        if (t < CLIP_TYPES && (selections[selection].asked & 1u << t))
            answer(selection, t, data + at, len - at);
        else if (wire == VD_AGENT_CLIPBOARD_NONE)
            answer_all(selection);
    } else if (t < CLIP_TYPES && backend && (selections[selection].ours & 1u << t)) {
        backend->want(selection, t);
    } else {
        clip_give(selection, CLIP_TEXT, NULL, 0);
    }
}

static void on_progress(void *ctx, size_t have, size_t total)
{
}
static void on_too_long(void *ctx, uint32_t type, const uint8_t *data, size_t have, uint32_t len)
{
    for (unsigned i = 0; type == VD_AGENT_CLIPBOARD && i < CLIP_SELECTIONS; i++)
        answer_all(i);
}
static const struct vdagent_wire_ops ops = {on_message, on_progress, on_too_long};

static void on_stream(void *ctx, short revents)
{
    uint8_t buf[65536];
    if (revents & POLLOUT)
        push();
    ssize_t n = recv(s.fd, buf, sizeof buf, MSG_DONTWAIT);
    bool ok = n < 0 ? errno == EAGAIN || errno == EINTR
                    : n > 0 && vdagent_wire_feed(s.wire, buf, (size_t)n);
    if (!ok || s.broken)
        clip_close();
}

void clip_close(void)
{
    if (s.fd < 0)
        return;
    watch_remove(s.watch);
    close(s.fd);
    s.fd = -1;
    vdagent_wire_free(s.wire);
    s.wire = NULL;
    free(s.out);
    s.out = NULL;
    s.have = s.sent = s.room = 0;
    files_end();
    for (unsigned i = 0; i < CLIP_SELECTIONS; i++)
        theirs(i, 0);
}

void clip_open(int fd)
{
    clip_close();
    s.fd = fd;
    s.broken = false;
    s.wire = vdagent_wire_new(&ops, NULL);
    s.watch = watch_add(fd, POLLIN, on_stream, NULL);
    if (!s.wire || !s.watch) {
        clip_close();
        return;
    }
    tell_caps();
    for (unsigned i = 0; i < CLIP_SELECTIONS; i++) {
        selections[i].serial = 0;
        if (selections[i].ours)
            tell_grab(i);
    }
}

bool clip_is_open(void)
{
    return s.fd >= 0;
}

void clip_use(const struct clip_backend *b)
{
    const struct clip_backend *before = backend;
    backend = NULL;
    for (unsigned i = 0; i < CLIP_SELECTIONS; i++) {
        answer_all(i);
        if (!b)
            clip_copied(i, 0);
    }
    if (before && before != b)
        before->end();
    backend = b;
    for (unsigned i = 0; b && i < CLIP_SELECTIONS; i++)
        if (selections[i].theirs)
            b->own(i, selections[i].theirs);
}
