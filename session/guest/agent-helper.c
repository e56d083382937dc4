/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Helpers in the sessions of users: vireo-agent-session and vireo-agent-clipboard connect to a
 * socket of ours, say which services they have, and get the streams that the host asks for as
 * descriptors. Only helpers of the user at the seat get any, the newest of those that have the
 * service; when another user comes to the seat the streams go with him.
 */
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-login.h>
#include <unistd.h>

#include "session/guest/agent.h"
#include "session/guest/helper-proto.h"

enum { HELPERS = 16, HELPERS_OF_USER = 4, SEATS_MS = 1000 };

const char *helper_path = "/run/vireo-agent/session";
long helper_user = -1;

static struct helper {
    int fd; /* -1: free */
    uid_t uid;
    uint32_t services;
    uint64_t age; /* the greater the newer */
    struct watch *watch;
} helpers[HELPERS];
static int listener = -1;
static uid_t at_seat = (uid_t)-1;

static void look_at_seats(void);

static bool is_present(const struct helper *h)
{
    return h->fd >= 0 && h->uid == at_seat;
}

static struct helper *serving(uint32_t service)
{
    struct helper *newest = NULL;
    for (unsigned i = 0; i < HELPERS; i++)
        if (is_present(&helpers[i]) && (helpers[i].services & 1u << service) &&
            (!newest || helpers[i].age > newest->age))
            newest = &helpers[i];
    return newest;
}

static unsigned count(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < HELPERS; i++)
        n += helpers[i].fd >= 0;
    return n;
}

static void send_to(struct helper *h, const struct helper_message *m, int fd)
{
    char room[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec io = {(void *)m, sizeof *m};
    struct msghdr msg = {.msg_iov = &io, .msg_iovlen = 1};
    if (fd >= 0) {
        msg.msg_control = room;
        msg.msg_controllen = sizeof room;
        struct cmsghdr *cm = CMSG_FIRSTHDR(&msg);
        cm->cmsg_level = SOL_SOCKET;
        cm->cmsg_type = SCM_RIGHTS;
        cm->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(cm), &fd, sizeof fd);
    }
    if (sendmsg(h->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)sizeof *m)
        shutdown(h->fd, SHUT_RDWR);
}

/* 0: all */
void helper_stop(uint32_t service)
{
    struct helper_message m = {HELPER_STOP, service};
    for (unsigned i = 0; i < HELPERS; i++)
        if (is_present(&helpers[i]))
            send_to(&helpers[i], &m, -1);
}

static void look_at_seats(void)
{
    uid_t uid = (uid_t)-1;
    if (helper_user >= 0)
        uid = (uid_t)helper_user;
    else if (sd_seat_get_active("seat0", NULL, &uid) < 0)
        uid = (uid_t)-1;
    if (uid != at_seat) {
        helper_stop(0);
        at_seat = uid;
        control_changed();
    }
    if (count())
        timer_set(TIMER_SEATS, now_ms() + SEATS_MS, look_at_seats);
}

static void drop(struct helper *h)
{
    watch_remove(h->watch);
    close(h->fd);
    h->fd = -1;
    h->services = 0;
    control_changed();
}

static void on_helper(void *ctx, short revents)
{
    struct helper *h = ctx;
    struct helper_message m;
    ssize_t n = recv(h->fd, &m, sizeof m, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n != (ssize_t)sizeof m || m.type != HELPER_SERVICES) {
        drop(h);
        return;
    }
    h->services = m.value & (1u << AGENT_CLIPBOARD | 1u << AGENT_PLAYBACK | 1u << AGENT_RECORD);
    look_at_seats();
    control_changed();
}

/* If the user has too many. */
static void drop_oldest(uid_t uid)
{
    struct helper *oldest = NULL;
    unsigned n = 0;
    for (unsigned i = 0; i < HELPERS; i++)
        if (helpers[i].fd >= 0 && helpers[i].uid == uid) {
            n++;
            if (!oldest || helpers[i].age < oldest->age)
                oldest = &helpers[i];
        }
    if (n > HELPERS_OF_USER)
        drop(oldest);
}

static void on_connection(void *ctx, short revents)
{
    struct ucred who;
    socklen_t len = sizeof who;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    struct helper *h = NULL;
    for (unsigned i = 0; i < HELPERS && !h; i++)
        if (helpers[i].fd < 0)
            h = &helpers[i];
    if (!h || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) != 0 ||
        !(h->watch = watch_add(fd, POLLIN, on_helper, h))) {
        close(fd);
        return;
    }
    static uint64_t age;
    h->fd = fd;
    h->uid = who.uid;
    h->services = 0;
    h->age = ++age;
    drop_oldest(who.uid);
}

bool helper_begin(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    for (unsigned i = 0; i < HELPERS; i++)
        helpers[i].fd = -1;
    if (strlen(helper_path) >= sizeof a.sun_path)
        return false;
    strcpy(a.sun_path, helper_path);
    unlink(helper_path);
    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t old = umask(0);
    bool ok = listener >= 0 && bind(listener, (struct sockaddr *)&a, sizeof a) == 0 &&
              listen(listener, 8) == 0 && watch_add(listener, POLLIN, on_connection, NULL);
    umask(old);
    if (!ok)
        say("%s cannot be made: %s", helper_path, strerror(errno));
    return ok;
}

uint32_t helper_services(void)
{
    uint32_t all = 0;
    for (unsigned i = 0; i < HELPERS; i++)
        if (is_present(&helpers[i]))
            all |= helpers[i].services;
    return all;
}

void helper_start(uint32_t service, uint32_t id)
{
    struct helper *h = serving(service);
    if (!h) {
        control_failed(service, id, AGENT_FAILURE_MISSING);
        return;
    }
    int fd = control_open(service, id);
    if (fd < 0) {
        control_failed(service, id, AGENT_FAILURE_DENIED);
        return;
    }
    struct helper_message m = {HELPER_STREAM, service};
    send_to(h, &m, fd);
    close(fd);
}
