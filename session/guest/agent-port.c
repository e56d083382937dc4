/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The SPICE agent's port: a Unix socket where spice-vdagentd looks for its virtio port (it connects
 * where opening fails). Its bytes go to the host as they are. It is one connection at a time; when
 * the host's stream ends so does it, and vdagentd, which connects again, begins anew.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "session/guest/agent.h"

const char *port_path = "/dev/virtio-ports/com.redhat.spice.0";

static int listener = -1, waiting = -1;
static struct watch *gone; /* of the waiting one */
static struct pump *pump;

static void forget_waiting(void)
{
    if (waiting < 0)
        return;
    watch_remove(gone);
    gone = NULL;
    close(waiting);
    waiting = -1;
}

/* vdagentd speaks first only when an agent of a session is there: what it says is left in the
 * socket for the host; its end is noticed. */
static void on_waiting(void *ctx, short revents)
{
    if (revents & (POLLRDHUP | POLLHUP | POLLERR)) {
        forget_waiting();
        control_changed();
    }
}

static void on_connection(void *ctx, short revents)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    forget_waiting();
    pump_free(pump); /* a daemon that was started again */
    pump = NULL;
    gone = watch_add(fd, POLLRDHUP, on_waiting, NULL);
    if (!gone) {
        close(fd);
        return;
    }
    waiting = fd;
    control_changed();
}

static void make_folder(void)
{
    char folder[sizeof(((struct sockaddr_un *)0)->sun_path)];
    snprintf(folder, sizeof folder, "%s", port_path);
    char *slash = strrchr(folder, '/');
    if (slash && slash != folder) {
        *slash = 0;
        /* spice-vdagent, as its user, looks whether the port is there. */
        if (mkdir(folder, 0755) == 0)
            chmod(folder, 0755);
    }
}

bool port_begin(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct stat st;
    if (strlen(port_path) >= sizeof a.sun_path)
        return false;
    strcpy(a.sun_path, port_path);
    make_folder();
    if (lstat(port_path, &st) == 0) {
        if (!S_ISSOCK(st.st_mode)) {
            say("%s is there: a real SPICE port serves the clipboard", port_path);
            return false;
        }
        unlink(port_path);
    }
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t old = umask(0177);
    bool ok = listener >= 0 && bind(listener, (struct sockaddr *)&a, sizeof a) == 0 &&
              listen(listener, 4) == 0 && watch_add(listener, POLLIN, on_connection, NULL);
    umask(old);
    if (!ok)
        say("%s cannot be made: %s", port_path, strerror(errno));
    return ok;
}

bool port_connected(void)
{
    return waiting >= 0 || pump;
}

static void on_done(void *ctx)
{
    pump = NULL;
    control_changed();
}

void port_start(uint32_t id)
{
    pump_free(pump);
    pump = NULL;
    if (waiting < 0) {
        control_failed(AGENT_VDAGENT, id, AGENT_FAILURE_MISSING);
        return;
    }
    int host = control_open(AGENT_VDAGENT, id);
    if (host < 0) {
        control_failed(AGENT_VDAGENT, id, AGENT_FAILURE_DENIED);
        return;
    }
    watch_remove(gone);
    gone = NULL;
    pump = pump_new(host, waiting, on_done, NULL);
    waiting = -1;
}

void port_stop(void)
{
    pump_free(pump);
    pump = NULL;
}
