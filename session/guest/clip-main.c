/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * vireo-agent-clipboard [--agent PATH]
 * Waits for a desktop of its user, and while there is one offers its clipboard to vireo-agent.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "session/agent-proto.h"
#include "session/guest/agent.h"
#include "session/guest/clip.h"
#include "session/guest/helper-proto.h"

enum { AGAIN_MS = 1000, SELDOM_MS = 5000, OFTEN = 120, DISPLAYS = 10 };

static const char *agent_path = "/run/vireo-agent/session";
static int agent = -1;
static struct watch *agent_watch;
static bool desktop, told;

static void connect_agent(void);
static void look_for_desktop(void);

/* ---- vireo-agent ---- */

static void lost_agent(void)
{
    watch_remove(agent_watch);
    close(agent);
    agent = -1;
    clip_close();
    timer_set(TIMER_AGENT, now_ms() + AGAIN_MS, connect_agent);
}

static void tell(void)
{
    struct helper_message m = {HELPER_SERVICES, desktop ? 1u << AGENT_CLIPBOARD : 0};
    if (agent < 0 || told == desktop)
        return;
    told = desktop;
    if (send(agent, &m, sizeof m, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)sizeof m)
        shutdown(agent, SHUT_RDWR);
}

static void on_agent(void *ctx, short revents)
{
    struct helper_message m;
    int stream = -1;
    char room[CMSG_SPACE(sizeof(int))];
    struct iovec io = {&m, sizeof m};
    struct msghdr msg = {
        .msg_iov = &io, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    ssize_t n = recvmsg(agent, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
        memcpy(&stream, CMSG_DATA(c), sizeof stream);
    if (n != (ssize_t)sizeof m) {
        lost_agent();
        return;
    }
    if (m.type == HELPER_STREAM && m.value == AGENT_CLIPBOARD && stream >= 0 && desktop)
        clip_open(stream);
    else if (stream >= 0)
        close(stream);
    else if (m.type == HELPER_STOP && (!m.value || m.value == AGENT_CLIPBOARD))
        clip_close();
}

static void connect_agent(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", agent_path);
    agent = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    agent_watch = agent >= 0 && connect(agent, (struct sockaddr *)&a, sizeof a) == 0
                      ? watch_add(agent, POLLIN, on_agent, NULL)
                      : NULL;
    if (!agent_watch) {
        if (agent >= 0)
            close(agent);
        agent = -1;
        timer_set(TIMER_AGENT, now_ms() + AGAIN_MS, connect_agent);
        return;
    }
    told = false;
    tell();
}

/* ---- the desktop ---- */

/* A service of the user's is started before the desktop, which tells the manager where it is. */
static void take_environment(void)
{
    static const char *const names[] = {"WAYLAND_DISPLAY=", "DISPLAY=", "XAUTHORITY="};
    sd_bus *bus = NULL;
    char **all = NULL;
    if (sd_bus_open_user(&bus) >= 0)
        sd_bus_get_property_strv(bus, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                                 "org.freedesktop.systemd1.Manager", "Environment", NULL, &all);
    for (unsigned i = 0; i < 3; i++) {
        size_t n = strlen(names[i]);
        for (char **e = all; e && *e; e++)
            if (strncmp(*e, names[i], n) == 0) {
                char name[32];
                snprintf(name, sizeof name, "%.*s", (int)n - 1, names[i]);
                setenv(name, *e + n, 1);
            }
    }
    for (char **e = all; e && *e; e++)
        free(*e);
    free(all);
    sd_bus_flush_close_unref(bus);
}

static bool begin(const struct clip_backend *b, const char *what)
{
    if (!b->begin())
        return false;
    say("sharing the clipboard of %s", what);
    desktop = true;
    clip_use(b);
    tell();
    return true;
}

/* By the variable, or where nobody told it, by the sockets that are there. */
static bool begin_wayland(const char *runtime)
{
    if (getenv("WAYLAND_DISPLAY"))
        return begin(&clip_wayland, "Wayland");
    for (unsigned i = 0; runtime && i < DISPLAYS; i++) {
        char path[256], name[32];
        snprintf(name, sizeof name, "wayland-%u", i);
        snprintf(path, sizeof path, "%s/%s", runtime, name);
        if (access(path, R_OK | W_OK) != 0)
            continue;
        setenv("WAYLAND_DISPLAY", name, 1);
        bool ok = begin(&clip_wayland, "Wayland");
        unsetenv("WAYLAND_DISPLAY");
        if (ok)
            return true;
    }
    return false;
}

static void look_for_desktop(void)
{
    static unsigned looked;
    take_environment();
    /* Xwayland has the same clipboard, if the compositor cannot be asked. */
    if (!begin_wayland(getenv("XDG_RUNTIME_DIR")) &&
        !(getenv("DISPLAY") && begin(&clip_x11, "X11")))
        timer_set(TIMER_DESKTOP, now_ms() + (++looked < OFTEN ? AGAIN_MS : SELDOM_MS),
                  look_for_desktop);
    else
        looked = 0;
}

/* Perhaps from within the backend: it is ended when that is out of its calls. */
static void desktop_gone(void)
{
    desktop = false;
    clip_use(NULL);
    clip_close();
    tell();
    look_for_desktop();
}

void clip_lost(void)
{
    timer_set(TIMER_DESKTOP, now_ms(), desktop_gone);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"agent", required_argument, NULL, 'a'}, {NULL}};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) >= 0;) {
        if (o != 'a')
            return 2;
        agent_path = optarg;
    }
    signal(SIGPIPE, SIG_IGN);
    connect_agent();
    look_for_desktop();
    loop_run();
    return 0;
}
