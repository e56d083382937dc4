/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A fake agent that lies, floods, stalls and comes a thousand times: it costs a bounded amount of
 * memory and descriptors, and only its own session. */
#include <dirent.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "core/base/log.h"
#include "session/agent-wire.h"
#include "session/session.h"

static void quiet(void *ctx, enum log_level level, const char *subsystem, const char *text)
{
}

static void settle(unsigned ms)
{
    gint64 end = g_get_monotonic_time() + (gint64)ms * 1000;
    do {
        while (g_main_context_iteration(NULL, FALSE))
            ;
        if (g_get_monotonic_time() < end)
            g_usleep(1000);
    } while (g_get_monotonic_time() < end);
}

/* Turns the main loop until what is asked holds; a minute is for a machine that is very busy. */
#define UNTIL(cond)                                                \
    do {                                                           \
        for (unsigned turn_ = 0; turn_ < 6000 && !(cond); turn_++) \
            settle(10);                                            \
    } while (0)

static unsigned descriptors(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

static unsigned long resident_kib(void)
{
    unsigned long all = 0, rss = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%lu %lu", &all, &rss) != 2)
        rss = 0;
    if (f)
        fclose(f);
    return rss * 4;
}

static VireoSession *make(void)
{
    VireoSession *s = vireo_session_new();
    log_set_sink(quiet, NULL);
    for (unsigned i = 0; i < VIREO_POLICIES; i++)
        vireo_session_set_policy(s, i, TRUE);
    vireo_session_set_enabled(s, TRUE);
    return s;
}

static int connect_from(VireoSession *s, uint32_t port)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        abort();
    vireo_session_accept(s, pair[1], port);
    return pair[0];
}

static void put(int fd, const void *p, size_t len)
{
    if (send(fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return;
}

static int begin(VireoSession *s, uint32_t services)
{
    int fd = connect_from(s, 1000);
    struct agent_open o = {.major = AGENT_MAJOR};
    struct agent_hello h = {.now = {services, 0}};
    uint8_t out[sizeof(struct agent_head) + sizeof h];
    memcpy(o.magic, AGENT_MAGIC, sizeof o.magic);
    put(fd, &o, sizeof o);
    put(fd, out, agent_wire_put(out, AGENT_HELLO, &h, sizeof h));
    return fd;
}

static bool ended(int fd)
{
    char c;
    return recv(fd, &c, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

/* Something can be read, or never will be. */
static bool answered(int fd)
{
    char c;
    return recv(fd, &c, 1, MSG_DONTWAIT | MSG_PEEK) >= 0;
}

/* The end, or a message's type, which is waited for. */
static int next(int fd, uint8_t *payload, size_t room)
{
    UNTIL(answered(fd));
    struct agent_head h;
    if (recv(fd, &h, sizeof h, MSG_DONTWAIT) != (ssize_t)sizeof h || h.size > room ||
        recv(fd, payload, h.size, MSG_DONTWAIT) != (ssize_t)h.size)
        return -1;
    return (int)h.type;
}

static void welcome(void)
{
    g_autoptr(VireoSession) s = make();
    uint8_t m[64];
    struct agent_start start;
    int fd = begin(s, 1u << AGENT_VDAGENT);
    CHECK_EQ(next(fd, m, sizeof m), AGENT_WELCOME);
    CHECK_EQ(next(fd, m, sizeof m), AGENT_START);
    memcpy(&start, m, sizeof start);
    CHECK_EQ(start.service, AGENT_VDAGENT);
    close(fd);
    vireo_session_close(s);
}

static void impostors(void)
{
    g_autoptr(VireoSession) s = make();
    uint8_t m[64];
    int low = connect_from(s, 1024); /* a program without rights */
    UNTIL(ended(low));
    CHECK(ended(low));
    int fd = begin(s, 1u << AGENT_VDAGENT);
    UNTIL(answered(fd));
    struct agent_open o = {.major = AGENT_MAJOR, .service = AGENT_VDAGENT, .id = 1};
    memcpy(o.magic, AGENT_MAGIC, sizeof o.magic);
    int other = connect_from(s, 1001); /* with a token of zeros */
    put(other, &o, sizeof o);
    UNTIL(ended(other));
    CHECK(ended(other));
    int old = connect_from(s, 1002);
    o.major = AGENT_MAJOR + 1;
    put(old, &o, sizeof o);
    CHECK_EQ(next(old, m, sizeof m), AGENT_REFUSED);
    UNTIL(ended(old));
    CHECK(ended(old));
    CHECK(!ended(fd));
    close(low);
    close(other);
    close(old);
    close(fd);
    vireo_session_close(s);
}

static void thousand_times(void)
{
    g_autoptr(VireoSession) s = make();
    close(begin(s, ~0u));
    settle(30);
    unsigned before = descriptors();
    unsigned long memory = resident_kib();
    int last = -1;
    for (unsigned i = 0; i < 1000; i++) {
        int fd = begin(s, ~0u);
        if (last >= 0)
            close(last);
        last = fd;
        if (i % 10 == 0)
            settle(1);
    }
    settle(50);
    close(last);
    UNTIL(descriptors() <= before);
    CHECK(descriptors() <= before);
    CHECK(resident_kib() < memory + 4096);
    vireo_session_close(s);
}

/* The address sanitizer keeps what was freed. */
#if defined(__SANITIZE_ADDRESS__)
#define KEEPS_FREED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KEEPS_FREED true
#endif
#endif
#ifndef KEEPS_FREED
#define KEEPS_FREED false
#endif

static void flood(void)
{
    g_autoptr(VireoSession) s = make();
    int fd = begin(s, 0);
    static uint8_t messages[65536];
    struct agent_changed c = {0, 0};
    size_t n = 0;
    settle(30);
    while (n + sizeof(struct agent_head) + sizeof c <= sizeof messages) {
        c.services = (uint32_t)n << 1;
        n += agent_wire_put(messages + n, AGENT_CHANGED, &c, sizeof c);
    }
    unsigned long memory = resident_kib();
    for (unsigned i = 0; i < 1000; i++) { /* 64 MiB, and nothing of what comes back is read */
        put(fd, messages, n);
        while (g_main_context_iteration(NULL, FALSE))
            ;
    }
    CHECK(KEEPS_FREED || resident_kib() < memory + 8192);
    close(fd);
    settle(50);
    /* another one is served as if nothing had been */
    uint8_t m[64];
    fd = begin(s, 1u << AGENT_VDAGENT);
    CHECK_EQ(next(fd, m, sizeof m), AGENT_WELCOME);
    close(fd);
    vireo_session_close(s);
}

static void stall(void)
{
    g_autoptr(VireoSession) s = make();
    unsigned before = descriptors();
    int fds[64];
    for (unsigned i = 0; i < 64; i++)
        fds[i] = connect_from(s, 1000); /* and nothing more */
    CHECK(descriptors() <= before + 64 + 16);
    UNTIL(descriptors() <= before + 64);
    CHECK(descriptors() <= before + 64);
    for (unsigned i = 0; i < 64; i++)
        close(fds[i]);
    int fd = begin(s, 0);
    uint8_t m[64];
    CHECK_EQ(next(fd, m, sizeof m), AGENT_WELCOME);
    close(fd);
    vireo_session_close(s);
}

static const struct check_test tests[] = {
    CHECK_TEST(welcome), CHECK_TEST(impostors), CHECK_TEST(thousand_times),
    CHECK_TEST(flood),   CHECK_TEST(stall),
};
CHECK_MAIN(tests)
