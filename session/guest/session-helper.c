/* SPDX-License-Identifier: GPL-3.0-or-later */
/* vireo-agent-session [--agent PATH] */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "session/agent-proto.h"
#include "session/guest/helper-proto.h"
#include "session/guest/session-helper.h"

enum { AGAIN_MS = 1000 };

pa_mainloop_api *helper_api;
static const char *agent_path = "/run/vireo-agent/session";
static int agent = -1;
static pa_io_event *agent_event;
static uint32_t offered;

static void connect_agent(void *ctx);

/* ---- timers ---- */

struct later {
    void (*fn)(void *ctx);
    void *ctx;
};

static void on_time(pa_mainloop_api *api, pa_time_event *e, const struct timeval *t, void *data)
{
    struct later l = *(struct later *)data;
    api->time_free(e);
    free(data);
    l.fn(l.ctx);
}

void helper_after(unsigned ms, void (*fn)(void *ctx), void *ctx)
{
    struct timeval t;
    struct later *l = malloc(sizeof *l);
    if (!l)
        abort();
    *l = (struct later){fn, ctx};
    gettimeofday(&t, NULL);
    pa_timeval_add(&t, (pa_usec_t)ms * 1000);
    helper_api->time_new(helper_api, &t, on_time, l);
}

/* ---- vireo-agent ---- */

static void lost(void)
{
    helper_api->io_free(agent_event);
    close(agent);
    agent = -1;
    audio_stop(true, true);
    helper_after(AGAIN_MS, connect_agent, NULL);
}

static void tell(void)
{
    struct helper_message m = {HELPER_SERVICES, offered};
    if (agent >= 0 && send(agent, &m, sizeof m, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)sizeof m)
        shutdown(agent, SHUT_RDWR);
}

void helper_offer(uint32_t services)
{
    if (services == offered)
        return;
    offered = services;
    tell();
}

static int receive(struct helper_message *m, int *fd)
{
    char room[CMSG_SPACE(sizeof(int))];
    struct iovec io = {m, sizeof *m};
    struct msghdr msg = {
        .msg_iov = &io, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    ssize_t n = recvmsg(agent, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    *fd = -1;
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
        memcpy(fd, CMSG_DATA(c), sizeof *fd);
    return (int)n;
}

static void on_agent(pa_mainloop_api *api, pa_io_event *e, int fd, pa_io_event_flags_t f,
                     void *data)
{
    struct helper_message m;
    int stream;
    int n = receive(&m, &stream);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n != (int)sizeof m) {
        lost();
        return;
    }
    if (m.type == HELPER_STREAM && m.value == AGENT_PLAYBACK && stream >= 0) {
        audio_play_stream(stream);
    } else if (m.type == HELPER_STREAM && m.value == AGENT_RECORD && stream >= 0) {
        audio_record_stream(stream);
    } else {
        if (stream >= 0)
            close(stream);
        if (m.type == HELPER_STOP)
            audio_stop(!m.value || m.value == AGENT_PLAYBACK, !m.value || m.value == AGENT_RECORD);
    }
}

static void connect_agent(void *ctx)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", agent_path);
    agent = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (agent < 0 || connect(agent, (struct sockaddr *)&a, sizeof a) != 0) {
        if (agent >= 0)
            close(agent);
        agent = -1;
        helper_after(AGAIN_MS, connect_agent, NULL);
        return;
    }
    agent_event = helper_api->io_new(helper_api, agent, PA_IO_EVENT_INPUT, on_agent, NULL);
    tell();
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"agent", required_argument, NULL, 'a'}, {NULL}};
    int status = 0;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) >= 0;) {
        if (o != 'a')
            return 2;
        agent_path = optarg;
    }
    pa_mainloop *loop = pa_mainloop_new();
    if (!loop)
        return 1;
    helper_api = pa_mainloop_get_api(loop);
    signal(SIGPIPE, SIG_IGN);
    connect_agent(NULL);
    audio_begin();
    pa_mainloop_run(loop, &status);
    return status;
}
