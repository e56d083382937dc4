/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A whole session of the worker against a hostile guest. The input is a script: a byte with the
 * stream (0..3) and what to do (open, close, write), then length and bytes. The control channel is
 * opened properly at first, so that a mutation need not invent it. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/log.h"
#include "session/agent-wire.h"
#include "session/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int streams[4];

static void quiet(void *ctx, enum log_level level, const char *subsystem, const char *text)
{
}

/* A policy that is set is looked at at once, and with it what is to be asked of the guest. */
static void settle(VireoSession *session)
{
    for (int i = 0; i < 20 && g_main_context_iteration(NULL, FALSE); i++)
        ;
    vireo_session_set_policy(session, VIREO_POLICY_USB, TRUE);
    for (int i = 0; i < 20 && g_main_context_iteration(NULL, FALSE); i++)
        ;
}

static void write_all(int fd, const void *p, size_t len)
{
    if (fd >= 0 && send(fd, p, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return;
}

static void begin(VireoSession *s, unsigned i, bool control)
{
    int pair[2];
    if (streams[i] >= 0)
        close(streams[i]);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        abort();
    streams[i] = pair[0];
    vireo_session_accept(s, pair[1], 1000);
    if (!control)
        return;
    struct agent_open o = {.magic = AGENT_MAGIC, .major = AGENT_MAJOR};
    struct agent_hello h = {.now = {~0u, ~0u}};
    uint8_t out[sizeof(struct agent_head) + sizeof h];
    memcpy(o.magic, AGENT_MAGIC, sizeof o.magic);
    write_all(streams[i], &o, sizeof o);
    write_all(streams[i], out, agent_wire_put(out, AGENT_HELLO, &h, sizeof h));
}

/* What the host said on the control channel lets the next stream begin rightly: its token, and the
 * last start's service and id. */
static void follow(unsigned i)
{
    static uint8_t token[AGENT_TOKEN];
    uint8_t buf[512];
    struct agent_head h;
    struct agent_start start;
    struct agent_open o = {.major = AGENT_MAJOR};
    ssize_t n = recv(streams[0], buf, sizeof buf, MSG_DONTWAIT);
    for (ssize_t at = 0; at + (ssize_t)sizeof h <= n; at += (ssize_t)(sizeof h + h.size)) {
        memcpy(&h, buf + at, sizeof h);
        if (h.type == AGENT_WELCOME && at + 28 <= n)
            memcpy(token, buf + at + sizeof h + 4, sizeof token);
        if (h.type == AGENT_START && at + (ssize_t)(sizeof h + sizeof start) <= n) {
            memcpy(&start, buf + at + sizeof h, sizeof start);
            o.service = start.service;
            o.id = start.id;
        }
    }
    memcpy(o.magic, AGENT_MAGIC, sizeof o.magic);
    memcpy(o.token, token, sizeof o.token);
    write_all(streams[i], &o, sizeof o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    log_set_sink(quiet, NULL);
    g_autoptr(VireoSession) s = vireo_session_new();
    for (unsigned i = 0; i < 4; i++)
        streams[i] = -1;
    for (unsigned i = 0; i < VIREO_POLICIES; i++)
        vireo_session_set_policy(s, i, TRUE);
    vireo_session_set_enabled(s, TRUE);
    begin(s, 0, true);
    settle(s);
    for (size_t at = 0; at + 2 <= size;) {
        unsigned i = data[at] & 3, what = data[at] >> 2 & 3;
        size_t n = data[at + 1];
        at += 2;
        if (n > size - at)
            n = size - at;
        if (what == 0) {
            begin(s, i, i == 0);
        } else if (what == 1 && i) {
            begin(s, i, false);
            follow(i);
        } else if (what == 2 && streams[i] >= 0) {
            close(streams[i]);
            streams[i] = -1;
        } else {
            write_all(streams[i], data + at, n);
            at += n;
        }
        settle(s);
    }
    vireo_session_close(s);
    for (unsigned i = 0; i < 4; i++)
        if (streams[i] >= 0)
            close(streams[i]);
    for (int i = 0; i < 20 && g_main_context_iteration(NULL, FALSE); i++)
        ;
    return 0;
}
