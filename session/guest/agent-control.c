/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The control channel: connects, says what there is, does what the host asks, and connects again
 * when it ends: after the worker's death, a restored state, a reverted checkpoint. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <unistd.h>
/* after sys/socket.h */
#include <linux/vm_sockets.h>

#include "session/guest/agent.h"

enum {
    BACKOFF_FIRST_MS = 100,
    BACKOFF_MOST_MS = 1000,
    CONNECT_MS = 5000, /* busy hosts */
    WELCOME_MS = 5000,
    PORT_FIRST = 512,
    PORT_LAST = 1023,
    OUT_ROOM = 16384,
};

const char *agent_socket;

static struct {
    int fd;
    bool connecting, welcome;
    struct watch *watch;
    struct agent_wire in;
    uint8_t out[OUT_ROOM];
    size_t have;
    uint8_t token[AGENT_TOKEN];
    unsigned backoff;
    struct agent_changed told;
} c = {.fd = -1};

static void try_connect(void);

/* ---- sockets ---- */

/* Another port each time: one that was used just now is free here before it is on the host. */
static bool bind_reserved(int fd)
{
    static unsigned last;
    struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY};
    if (!last)
        last = (unsigned)getpid() * 37;
    for (unsigned i = PORT_FIRST; i <= PORT_LAST; i++) {
        a.svm_port = PORT_FIRST + ++last % (PORT_LAST - PORT_FIRST + 1);
        if (bind(fd, (struct sockaddr *)&a, sizeof a) == 0)
            return true;
        if (errno != EADDRINUSE)
            return false;
    }
    return false;
}

static int start_connect(void)
{
    if (agent_socket) {
        struct sockaddr_un u = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        snprintf(u.sun_path, sizeof u.sun_path, "%s", agent_socket);
        if (fd >= 0 && connect(fd, (struct sockaddr *)&u, sizeof u) == 0)
            return fd;
        if (fd >= 0)
            close(fd);
        return -1;
    }
    struct sockaddr_vm a = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = AGENT_PORT};
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (bind_reserved(fd) &&
        (connect(fd, (struct sockaddr *)&a, sizeof a) == 0 || errno == EINPROGRESS))
        return fd;
    close(fd);
    return -1;
}

static bool connected(int fd)
{
    int error = 0;
    socklen_t len = sizeof error;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == 0;
}

static void fill_open(struct agent_open *o, uint32_t service, uint32_t id)
{
    *o = (struct agent_open){.major = htole16(AGENT_MAJOR),
                             .minor = htole16(AGENT_MINOR),
                             .service = htole32(service),
                             .id = htole32(id)};
    memcpy(o->magic, AGENT_MAGIC, sizeof o->magic);
    if (service != AGENT_CONTROL)
        memcpy(o->token, c.token, sizeof o->token);
}

int control_open(uint32_t service, uint32_t id)
{
    struct agent_open o;
    int fd = start_connect();
    if (fd < 0)
        return -1;
    struct pollfd p = {fd, POLLOUT, 0};
    fill_open(&o, service, id);
    if (poll(&p, 1, CONNECT_MS) == 1 && connected(fd) &&
        send(fd, &o, sizeof o, MSG_NOSIGNAL) == (ssize_t)sizeof o)
        return fd;
    close(fd);
    return -1;
}

/* ---- sending ---- */

static void lost(void)
{
    if (c.fd < 0)
        return;
    if (c.welcome)
        say("the host is gone; looking for it");
    watch_remove(c.watch);
    close(c.fd);
    c.fd = -1;
    c.welcome = false;
    c.have = 0;
    c.in.have = 0;
    port_stop();
    helper_stop(0);
    timer_set(TIMER_CONNECT, now_ms() + c.backoff, try_connect);
    c.backoff = c.backoff * 2 > BACKOFF_MOST_MS ? BACKOFF_MOST_MS : c.backoff * 2;
}

static bool flush(void)
{
    while (c.have) {
        ssize_t n = send(c.fd, c.out, c.have, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (n <= 0)
            return false;
        memmove(c.out, c.out + n, c.have - (size_t)n);
        c.have -= (size_t)n;
    }
    watch_events(c.watch, (short)(POLLIN | (c.have ? POLLOUT : 0)));
    return true;
}

/* Queues; what does not fit says that the host does not read, and the connection is given up at the
 * next event. */
static void put(uint32_t type, const void *data, size_t len)
{
    if (c.fd < 0 || c.connecting)
        return;
    if (c.have + sizeof(struct agent_head) + len > sizeof c.out) {
        shutdown(c.fd, SHUT_RDWR);
        return;
    }
    c.have += agent_wire_put(c.out + c.have, type, data, len);
    if (!flush())
        shutdown(c.fd, SHUT_RDWR);
}

static struct agent_changed state_now(void)
{
    uint32_t services = helper_services(), facts = 0;
    if (port_connected()) {
        services |= 1u << AGENT_VDAGENT;
        facts |= AGENT_FACT_VDAGENTD;
    }
    if (usb_there()) {
        services |= 1u << AGENT_USB;
        facts |= AGENT_FACT_VHCI;
    }
    return (struct agent_changed){htole32(services), htole32(facts)};
}

void control_changed(void)
{
    struct agent_changed now = state_now();
    if (c.welcome && memcmp(&now, &c.told, sizeof now) != 0) {
        c.told = now;
        put(AGENT_CHANGED, &now, sizeof now);
    }
}

void control_failed(uint32_t service, uint32_t id, enum agent_failure why)
{
    struct agent_failed f = {htole32(service), htole32(id), htole32(why)};
    put(AGENT_FAILED, &f, sizeof f);
}

/* PRETTY_NAME of os-release. */
static void system_name(char *out, size_t size)
{
    char line[256];
    FILE *f = fopen("/etc/os-release", "re");
    out[0] = 0;
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "PRETTY_NAME=", 12) != 0)
            continue;
        char *from = line + 12;
        from += *from == '"';
        snprintf(out, size, "%.*s", (int)strcspn(from, "\"\n"), from);
    }
    if (f)
        fclose(f);
}

static void say_hello(void)
{
    struct agent_hello h = {.now = state_now()};
    struct utsname u;
    snprintf(h.version, sizeof h.version, "%s", VIREO_VERSION);
    if (uname(&u) == 0)
        snprintf(h.kernel, sizeof h.kernel, "%.63s", u.release);
    system_name(h.system, sizeof h.system);
    c.told = h.now;
    put(AGENT_HELLO, &h, sizeof h);
}

/* ---- what the host says ---- */

static void start_service(const struct agent_start *s)
{
    uint32_t service = le32toh(s->service), id = le32toh(s->id);
    switch (service) {
    case AGENT_VDAGENT: port_start(id); break;
    case AGENT_CLIPBOARD:
    case AGENT_PLAYBACK:
    case AGENT_RECORD: helper_start(service, id); break;
    case AGENT_USB: usb_start(id, le32toh(s->args[0]), le32toh(s->args[1])); break;
    default: control_failed(service, id, AGENT_FAILURE_MISSING);
    }
}

static void stop_service(const struct agent_start *s)
{
    uint32_t service = le32toh(s->service);
    if (service == AGENT_VDAGENT)
        port_stop();
    else if (service == AGENT_CLIPBOARD || service == AGENT_PLAYBACK || service == AGENT_RECORD)
        helper_stop(service);
}

static bool on_welcome(const uint8_t *data, size_t len)
{
    struct agent_welcome w;
    if (!agent_wire_take(&w, sizeof w, sizeof w, data, len) || le16toh(w.major) != AGENT_MAJOR)
        return false;
    memcpy(c.token, w.token, sizeof c.token);
    c.welcome = true;
    c.backoff = BACKOFF_FIRST_MS;
    say("connected to the host");
    control_changed();
    return true;
}

static bool on_message(void *ctx, uint32_t type, const uint8_t *data, size_t len)
{
    struct agent_start s;
    if (type == AGENT_WELCOME)
        return on_welcome(data, len);
    if (type == AGENT_REFUSED) {
        say("the host does not speak this agent's version; another one is needed");
        c.backoff = BACKOFF_MOST_MS;
        return false;
    }
    if (!c.welcome)
        return false;
    if (type == AGENT_START || type == AGENT_STOP) {
        if (!agent_wire_take(&s, sizeof s, 8, data, len))
            return false;
        if (type == AGENT_START)
            start_service(&s);
        else
            stop_service(&s);
    }
    return true;
}

static void on_slow(void)
{
    if (!c.welcome)
        lost();
}

static bool now_connected(void)
{
    struct agent_open o;
    if (!connected(c.fd))
        return false;
    c.connecting = false;
    timer_set(TIMER_CONNECT, now_ms() + WELCOME_MS, on_slow);
    fill_open(&o, AGENT_CONTROL, 0);
    memcpy(c.out, &o, sizeof o);
    c.have = sizeof o;
    say_hello();
    return true;
}

static bool read_messages(void)
{
    uint8_t buf[4096];
    ssize_t n = recv(c.fd, buf, sizeof buf, MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    return n > 0 && agent_wire_feed(&c.in, buf, (size_t)n, on_message, NULL);
}

static void on_control(void *ctx, short revents)
{
    bool ok = true;
    if (c.connecting)
        ok = now_connected();
    else if (revents & (POLLIN | POLLHUP | POLLERR))
        ok = read_messages();
    if (!ok || !flush())
        lost();
}

static void try_connect(void)
{
    if (c.fd >= 0)
        return;
    c.fd = start_connect();
    c.watch = c.fd >= 0 ? watch_add(c.fd, POLLOUT, on_control, NULL) : NULL;
    if (!c.watch) {
        if (c.fd >= 0)
            close(c.fd);
        c.fd = -1;
        timer_set(TIMER_CONNECT, now_ms() + c.backoff, try_connect);
        c.backoff = c.backoff * 2 > BACKOFF_MOST_MS ? BACKOFF_MOST_MS : c.backoff * 2;
        return;
    }
    c.connecting = true;
    timer_set(TIMER_CONNECT, now_ms() + CONNECT_MS, on_slow);
}

void control_begin(void)
{
    c.backoff = BACKOFF_FIRST_MS;
    try_connect();
}
