/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The private switch: a folder with a datagram socket for each port on it. Ports learn which peer
 * has which address from what arrives and send straight to it; what is for all, or for an address
 * not yet seen, goes to every peer. A peer that died leaves a socket that refuses: whoever finds it
 * removes it. Frames keep their large packets and missing sums: the receiving port does that work
 * once, or not at all.
 *
 * Every member belongs to one person (the folder is mode 0700); what arrives is hostile all the
 * same.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/net/private-proto.h"
#include "core/net/uplink.h"

enum {
    MAX_PEERS = 256,
    LEARNED = 1024, /* a power of two */
    BATCH = 64,
    STUCK_MS = 20, /* a peer that takes nothing this long gets nothing until it does */
    NAME_LEN = 17, /* "p" and 16 hex digits */
};
#define NS_PER_MS 1000000ull

struct peer {
    struct private *sw;
    struct loop_source *wait; /* for room */
    struct loop_timer patience;
    uint64_t tag;
    int fd;
    bool stuck, seen;
};

struct learned {
    uint8_t mac[6];
    uint16_t vlan;
    uint64_t tag; /* 0: empty */
};

struct private
{
    struct net_port *port;
    struct loop *loop;
    char *folder;
    int dir, fd, watch;
    struct loop_source *in, *changes;
    struct peer *peers[MAX_PEERS];
    unsigned npeers;
    uint64_t tag;
    struct learned learned[LEARNED];
    uint8_t buf[sizeof(struct private_header) + NET_FRAME_MAX];
};

static void port_name(uint64_t tag, char out[NAME_LEN + 1])
{
    snprintf(out, NAME_LEN + 1, "p%016llx", (unsigned long long)tag);
}

/* A short path to a socket in the folder, however deep that lies (sun_path has 108 bytes). */
static void address_of(const struct private *s, uint64_t tag, struct sockaddr_un *a)
{
    char name[NAME_LEN + 1];
    port_name(tag, name);
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(a->sun_path, sizeof a->sun_path, "/proc/self/fd/%d/%s", s->dir, name);
}

/* ---- peers ---- */

static void forget(struct private *s, uint64_t tag)
{
    for (unsigned i = 0; i < LEARNED; i++)
        if (s->learned[i].tag == tag)
            s->learned[i].tag = 0;
}

static void peer_free(struct peer *p)
{
    loop_source_remove(p->wait);
    loop_timer_disarm(&p->patience);
    close(p->fd);
    free(p);
}

static void peer_drop(struct private *s, unsigned i, bool dead)
{
    struct peer *p = s->peers[i];
    char name[NAME_LEN + 1];
    port_name(p->tag, name);
    if (dead)
        unlinkat(s->dir, name, 0);
    forget(s, p->tag);
    peer_free(p);
    s->peers[i] = s->peers[--s->npeers];
}

static void patience_over(void *ctx)
{
    struct peer *p = ctx;
    p->stuck = true;
    net_port_uplink_ready(p->sw->port);
}

static void peer_has_room(void *ctx, uint32_t events)
{
    struct peer *p = ctx;
    loop_source_remove(p->wait);
    p->wait = NULL;
    p->stuck = false;
    loop_timer_disarm(&p->patience);
    net_port_uplink_ready(p->sw->port);
}

static struct peer *peer_find(struct private *s, uint64_t tag)
{
    for (unsigned i = 0; i < s->npeers; i++)
        if (s->peers[i]->tag == tag)
            return s->peers[i];
    return NULL;
}

static struct peer *peer_add(struct private *s, uint64_t tag)
{
    struct sockaddr_un a;
    struct peer *p = peer_find(s, tag);
    if (p || tag == s->tag || s->npeers == MAX_PEERS)
        return p;
    AUTO(fd) fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    address_of(s, tag, &a);
    if (fd < 0)
        return NULL;
    if (connect(fd, (struct sockaddr *)&a, sizeof a) != 0) {
        char name[NAME_LEN + 1];
        port_name(tag, name);
        if (errno == ECONNREFUSED)
            unlinkat(s->dir, name, 0);
        return NULL;
    }
    int size = 1 << 20;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    *p = (struct peer){.sw = s, .tag = tag, .fd = TAKE_FD(fd)};
    loop_timer_init(&p->patience, s->loop, patience_over, p);
    s->peers[s->npeers++] = p;
    return p;
}

static bool parse_name(const char *name, uint64_t *tag)
{
    char again[NAME_LEN + 1], *end;
    if (strlen(name) != NAME_LEN || name[0] != 'p')
        return false;
    *tag = strtoull(name + 1, &end, 16);
    port_name(*tag, again);
    return *tag && strcmp(name, again) == 0;
}

/* Makes the list of peers what the folder says. */
static void scan(struct private *s)
{
    int fd = openat(s->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        auto_close(fd);
        return;
    }
    for (unsigned i = 0; i < s->npeers; i++)
        s->peers[i]->seen = false;
    uint64_t tag;
    for (struct dirent *entry; (entry = readdir(d));) {
        struct peer *p = parse_name(entry->d_name, &tag) ? peer_add(s, tag) : NULL;
        if (p)
            p->seen = true;
    }
    closedir(d);
    for (unsigned i = s->npeers; i-- > 0;)
        if (!s->peers[i]->seen)
            peer_drop(s, i, false);
}

static void folder_changed(void *ctx, uint32_t events)
{
    struct private *s = ctx;
    char buf[4096] __attribute__((aligned(8)));
    while (read(s->watch, buf, sizeof buf) > 0)
        ;
    scan(s);
}

/* ---- learning ---- */

static struct learned *slot_of(struct private *s, const uint8_t *mac, uint16_t vlan)
{
    uint32_t h = get_le32(mac + 2) * 2654435761u ^ get_le16(mac) * 40503u ^ vlan * 97u;
    return &s->learned[(h >> 16 ^ h) % LEARNED];
}

static void learn(struct private *s, const uint8_t *mac, uint16_t vlan, uint64_t tag)
{
    struct learned *l = slot_of(s, mac, vlan);
    if (net_mac_is_multicast(mac))
        return;
    if (l->tag == tag && l->vlan == vlan && memcmp(l->mac, mac, 6) == 0)
        return;
    if (!peer_add(s, tag))
        return;
    memcpy(l->mac, mac, 6);
    l->vlan = vlan;
    l->tag = tag;
}

static struct peer *lookup(struct private *s, const uint8_t *mac, uint16_t vlan)
{
    struct learned *l = slot_of(s, mac, vlan);
    if (!l->tag || l->vlan != vlan || memcmp(l->mac, mac, 6) != 0)
        return NULL;
    return peer_find(s, l->tag);
}

/* ---- out ---- */

static int send_to(struct private *s, struct peer *p, const struct net_packet *packet)
{
    struct private_header h = {
        .magic = PRIVATE_MAGIC,
        .version = PRIVATE_VERSION,
        .flags = packet->flags & (NET_FILL_IP | NET_FILL_L4 | NET_SUMS_OK),
        .mss = packet->mss,
        .tagged = packet->tagged,
        .vlan_tci = packet->vlan_tci,
        .sender = s->tag,
    };
    struct iovec iov[2] = {{&h, sizeof h}, {(void *)(uintptr_t)packet->data, packet->len}};
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
    return sendmsg(p->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? errno : 0;
}

static bool is_gone(int error)
{
    return error == ECONNREFUSED || error == ECONNRESET || error == ENOTCONN || error == EPIPE ||
           error == ENOENT;
}

static void flood(struct private *s, const struct net_packet *p)
{
    for (unsigned i = s->npeers; i-- > 0;)
        if (!s->peers[i]->stuck && is_gone(send_to(s, s->peers[i], p)))
            peer_drop(s, i, true);
}

static bool wait_for_room(struct peer *p)
{
    if (!p->wait)
        p->wait = loop_add_fd(p->sw->loop, p->fd, EPOLLOUT, peer_has_room, p, NULL);
    if (!p->wait)
        return false;
    if (!loop_timer_armed(&p->patience))
        loop_timer_arm_in(&p->patience, STUCK_MS * NS_PER_MS);
    return true;
}

static enum net_send send_one(struct private *s, struct peer *p, const struct net_packet *packet)
{
    if (p->stuck)
        return NET_DROPPED;
    int error = send_to(s, p, packet);
    if (!error)
        return NET_SENT;
    if (error == EAGAIN || error == ENOBUFS)
        return wait_for_room(p) ? NET_SEND_LATER : NET_DROPPED;
    if (!is_gone(error))
        return NET_DROPPED;
    for (unsigned i = 0; i < s->npeers; i++)
        if (s->peers[i] == p) {
            peer_drop(s, i, true);
            break;
        }
    flood(s, packet);
    return NET_SENT;
}

static enum net_send private_send(void *self, const struct net_packet *p)
{
    struct private *s = self;
    struct peer *to = NULL;
    if (!net_mac_is_multicast(p->data))
        to = lookup(s, p->data, p->tagged ? p->vlan_tci & 0xfff : 0);
    if (to)
        return send_one(s, to, p);
    flood(s, p);
    return NET_SENT;
}

/* ---- in ---- */

static void receive_one(struct private *s, size_t n)
{
    struct private_header h;
    if (n < sizeof h + NET_ETH_HEADER)
        return;
    memcpy(&h, s->buf, sizeof h);
    if (h.magic != PRIVATE_MAGIC || h.version != PRIVATE_VERSION || !h.sender || h.sender == s->tag)
        return;
    struct net_packet p = {
        .data = s->buf + sizeof h,
        .len = (uint32_t)(n - sizeof h),
        .mss = h.mss,
        .flags = h.flags & (NET_FILL_IP | NET_FILL_L4 | NET_SUMS_OK),
        .tagged = h.tagged,
        .vlan_tci = h.vlan_tci,
    };
    learn(s, p.data + 6, p.tagged ? p.vlan_tci & 0xfff : 0, h.sender);
    net_port_receive(s->port, &p);
}

static void arrived(void *ctx, uint32_t events)
{
    struct private *s = ctx;
    for (unsigned i = 0; i < BATCH && s->in; i++) {
        ssize_t n = recv(s->fd, s->buf, sizeof s->buf, MSG_DONTWAIT | MSG_TRUNC);
        if (n < 0)
            return;
        if ((size_t)n <= sizeof s->buf)
            receive_one(s, (size_t)n);
    }
}

static void private_run(void *self, bool on)
{
    struct private *s = self;
    if (on && !s->in)
        s->in = loop_add_fd(s->loop, s->fd, EPOLLIN, arrived, s, NULL);
    if (!on) {
        loop_source_remove(s->in);
        s->in = NULL;
    }
}

/* ---- life ---- */

static void private_free(struct private *s)
{
    char name[NAME_LEN + 1];
    port_name(s->tag, name);
    loop_source_remove(s->in);
    loop_source_remove(s->changes);
    while (s->npeers)
        peer_free(s->peers[--s->npeers]);
    if (s->dir >= 0 && s->fd >= 0)
        unlinkat(s->dir, name, 0);
    auto_close(s->watch);
    auto_close(s->fd);
    auto_close(s->dir);
    if (s->folder)
        rmdir(s->folder); /* succeeds only for the last one out */
    free(s->folder);
    free(s);
}

static void private_destroy(void *self)
{
    private_free(self);
}

static const struct net_uplink_ops private_ops = {
    .name = "the private switch",
    .speed = 40000,
    .vlans = true,
    .send = private_send,
    .run = private_run,
    .destroy = private_destroy,
};

static bool open_socket(struct private *s, err *e)
{
    struct sockaddr_un a;
    do {
        if (getrandom(&s->tag, sizeof s->tag, 0) != sizeof s->tag)
            return err_errno(e, errno, "no random number could be had");
    } while (!s->tag);
    s->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    address_of(s, s->tag, &a);
    if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&a, sizeof a) != 0)
        return err_errno(e, errno, "a port could not be made on the private switch in \"%s\"",
                         s->folder);
    int size = 4 << 20;
    setsockopt(s->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    return true;
}

static bool open_folder(struct private *s, const char *folder, err *e)
{
    s->folder = strdup(folder);
    if (!s->folder)
        return err_set(e, ERR_NO_MEMORY, "there is no memory for a private switch");
    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        return err_errno(e, errno, "the private switch's folder \"%s\" could not be made", folder);
    s->dir = open(folder, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (s->dir < 0 || fstat(s->dir, &st) != 0)
        return err_errno(e, errno, "the private switch's folder \"%s\" could not be opened",
                         folder);
    if (st.st_uid != geteuid() || st.st_mode & 077)
        return err_set(e, ERR_DENIED, "the private switch's folder \"%s\" is not yours alone",
                       folder);
    s->watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (s->watch < 0 || inotify_add_watch(s->watch, folder, IN_CREATE | IN_DELETE) < 0)
        return err_errno(e, errno, "the private switch's folder \"%s\" cannot be watched", folder);
    s->changes = loop_add_fd(s->loop, s->watch, EPOLLIN, folder_changed, s, e);
    return s->changes != NULL;
}

bool net_port_plug_private(struct net_port *port, const char *folder, err *e)
{
    struct private *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, ERR_NO_MEMORY, "there is no memory for a private switch");
    s->port = port;
    s->loop = net_port_loop(port);
    s->dir = s->fd = s->watch = -1;
    if (!open_folder(s, folder, e) || !open_socket(s, e)) {
        private_free(s);
        return false;
    }
    scan(s);
    net_port_plug(port, &(struct net_uplink){&private_ops, s});
    return true;
}
