/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The NAT uplink: libslirp, one instance a port, run by the I/O loop. The only file that knows
 * libslirp (and through it GLib).
 *
 * Libslirp speaks large TCP packets both ways when told of a large MTU: the guest's offered segment
 * size is raised on its way in, what comes back is cut (or not) by the port. What must not be
 * reached from a guest is refused here, before libslirp sees the frame: addresses that the host
 * would take for itself (127/8, 0/8, ::1, ::, v4-mapped), and ports but DNS at the name server's
 * address, which libslirp would connect to the host's own resolver.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <slirp/libslirp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/net/flows.h"
#include "core/net/reassembly.h"
#include "core/net/uplink.h"

enum {
    NAT_NETWORK = 0x0acb0000, /* 10.203.0.0/16 */
    NAT_MASK = 0xffff0000,
    NAT_HOST = NAT_NETWORK | 2,
    NAT_DNS = NAT_NETWORK | 3,
    NAT_LARGE_MTU = 65520,
    NAT_LARGE_MSS = 65520 - 80,
    NAT_MAX_FD = 65536,
    PORT_DNS = 53,
    PROBE_ROUNDS = 3, /* of keep-alives for the connections of a restored guest */
    PROBE_MS = 20,    /* between some of them */
    ROUND_MS = 1500,
};
#define NS_PER_MS 1000000ull

/* What libslirp wants to know of a descriptor; the table's index is the descriptor. */
struct watch {
    struct nat *nat;
    struct loop_source *source;
    uint32_t events;
    int ready; /* SLIRP_POLL_* */
    uint32_t round;
};

struct nat_timer {
    struct nat *nat;
    struct loop_timer timer;
    SlirpTimerId id;
    void *cb_opaque;
};

struct nat {
    struct net_port *port; /* NULL: unplugged, about to be freed */
    struct loop *loop;
    Slirp *slirp;
    struct in_addr address;
    struct watch **watches; /* by descriptor; a slot is allocated once and stays */
    int nwatches;
    int *wanted; /* descriptor by the index given to libslirp */
    int nwanted, cap_wanted;
    uint32_t round;
    struct loop_post post;
    struct loop_timer timer;
    bool on;
    struct net_reassembly *parts;
    struct net_flows *flows;
    struct loop_timer probe_timer;
    uint8_t *lost; /* flows of before the restore, NET_FLOW_SIZE each */
    size_t nlost, probed;
    unsigned rounds;
    uint8_t frame[NET_FRAME_MAX];
};

/* ---- descriptors ---- */

static uint32_t to_epoll(int events)
{
    uint32_t r = 0;
    if (events & SLIRP_POLL_IN)
        r |= EPOLLIN;
    if (events & SLIRP_POLL_OUT)
        r |= EPOLLOUT;
    if (events & SLIRP_POLL_PRI)
        r |= EPOLLPRI;
    return r;
}

static int from_epoll(uint32_t events)
{
    int r = 0;
    if (events & EPOLLIN)
        r |= SLIRP_POLL_IN;
    if (events & EPOLLOUT)
        r |= SLIRP_POLL_OUT;
    if (events & EPOLLPRI)
        r |= SLIRP_POLL_PRI;
    if (events & EPOLLERR)
        r |= SLIRP_POLL_ERR;
    if (events & EPOLLHUP)
        r |= SLIRP_POLL_HUP;
    return r;
}

static void fd_ready(void *ctx, uint32_t events)
{
    struct watch *w = ctx;
    w->ready |= from_epoll(events);
    loop_post(w->nat->loop, &w->nat->post);
}

static struct watch *watch_at(struct nat *n, int fd)
{
    if (fd < 0 || fd >= NAT_MAX_FD)
        return NULL;
    if (fd >= n->nwatches) {
        int cap = fd + 64;
        struct watch **grown = realloc(n->watches, (size_t)cap * sizeof(struct watch *));
        if (!grown)
            return NULL;
        memset(grown + n->nwatches, 0, (size_t)(cap - n->nwatches) * sizeof(struct watch *));
        n->watches = grown;
        n->nwatches = cap;
    }
    if (!n->watches[fd]) {
        n->watches[fd] = calloc(1, sizeof(struct watch));
        if (n->watches[fd])
            n->watches[fd]->nat = n;
    }
    return n->watches[fd];
}

static void watch_drop(struct watch *w)
{
    loop_source_remove(w->source);
    w->source = NULL;
    w->events = 0;
    w->ready = 0;
}

static int add_poll(int fd, int events, void *opaque)
{
    struct nat *n = opaque;
    struct watch *w = watch_at(n, fd);
    if (!w)
        return -1;
    if (n->nwanted == n->cap_wanted) {
        int cap = n->cap_wanted * 2 + 16;
        int *grown = realloc(n->wanted, (size_t)cap * sizeof(int));
        if (!grown)
            return -1;
        n->wanted = grown;
        n->cap_wanted = cap;
    }
    uint32_t want = to_epoll(events);
    if (!w->source)
        w->source = loop_add_fd(n->loop, fd, want, fd_ready, w, NULL);
    else if (w->events != want)
        loop_source_set_events(w->source, want);
    w->events = want;
    w->round = n->round;
    n->wanted[n->nwanted] = fd;
    return n->nwanted++;
}

static int get_ready(int idx, void *opaque)
{
    struct nat *n = opaque;
    if (idx < 0 || idx >= n->nwanted)
        return 0;
    struct watch *w = n->watches[n->wanted[idx]];
    return w ? w->ready : 0;
}

static void drop_unwanted(struct nat *n)
{
    for (int fd = 0; fd < n->nwatches; fd++)
        if (n->watches[fd] && n->watches[fd]->source && n->watches[fd]->round != n->round)
            watch_drop(n->watches[fd]);
}

/* Asks libslirp what to wait for. */
static void refill(struct nat *n)
{
    uint32_t timeout = UINT32_MAX;
    n->round++;
    n->nwanted = 0;
    slirp_pollfds_fill(n->slirp, &timeout, add_poll, n);
    drop_unwanted(n);
    uint64_t due = clock_ns() + (timeout ? timeout : 1) * NS_PER_MS;
    if (timeout == UINT32_MAX)
        loop_timer_disarm(&n->timer);
    else if (!loop_timer_armed(&n->timer) || n->timer.due_ns > due)
        loop_timer_arm(&n->timer, due); /* else it fires before, which does no harm */
}

static void turn(void *ctx)
{
    struct nat *n = ctx;
    if (!n->on)
        return;
    slirp_pollfds_poll(n->slirp, 0, get_ready, n);
    for (int i = 0; i < n->nwanted; i++)
        if (n->watches[n->wanted[i]])
            n->watches[n->wanted[i]]->ready = 0;
    if (n->on)
        refill(n);
}

/* ---- libslirp's callbacks ---- */

static ssize_t send_packet(const void *buf, size_t len, void *opaque)
{
    struct nat *n = opaque;
    struct net_headers h;
    struct net_packet p = {.data = buf, .len = (uint32_t)len, .flags = NET_SUMS_OK};
    if (!n->port || len > NET_FRAME_MAX)
        return (ssize_t)len;
    uint32_t mtu = net_port_mtu(n->port);
    if (len > NET_ETH_HEADER + mtu && net_parse(buf, len, &h) && h.tcp)
        p.mss = (uint16_t)(mtu - (h.payload - h.l3));
    net_port_receive(n->port, &p);
    return (ssize_t)len;
}

static void guest_error(const char *msg, void *opaque)
{
    LOG_GUEST("net", "NAT: %s", msg);
}

static int64_t clock_get(void *opaque)
{
    return (int64_t)clock_ns();
}

static void timer_fired(void *ctx)
{
    struct nat_timer *t = ctx;
    slirp_handle_timer(t->nat->slirp, t->id, t->cb_opaque);
}

static void *timer_new(SlirpTimerId id, void *cb_opaque, void *opaque)
{
    struct nat *n = opaque;
    struct nat_timer *t = calloc(1, sizeof *t);
    if (!t)
        abort(); /* libslirp itself ends here when memory is refused */
    *t = (struct nat_timer){.nat = n, .id = id, .cb_opaque = cb_opaque};
    loop_timer_init(&t->timer, n->loop, timer_fired, t);
    return t;
}

static void timer_free(void *timer, void *opaque)
{
    struct nat_timer *t = timer;
    loop_timer_disarm(&t->timer);
    free(t);
}

static void timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
    struct nat_timer *t = timer;
    loop_timer_arm(&t->timer, expire_ms > 0 ? (uint64_t)expire_ms * NS_PER_MS : 1);
}

static void register_fd(int fd, void *opaque)
{
}

static void unregister_fd(int fd, void *opaque)
{
    struct nat *n = opaque;
    if (fd >= 0 && fd < n->nwatches && n->watches[fd] && n->watches[fd]->source)
        watch_drop(n->watches[fd]);
}

static void notify(void *opaque)
{
    struct nat *n = opaque;
    loop_post(n->loop, &n->post);
}

static const SlirpCb callbacks = {
    .send_packet = send_packet,
    .guest_error = guest_error,
    .clock_get_ns = clock_get,
    .timer_new_opaque = timer_new,
    .timer_free = timer_free,
    .timer_mod = timer_mod,
    .register_poll_fd = register_fd,
    .unregister_poll_fd = unregister_fd,
    .notify = notify,
};

/* ---- from the guest ---- */

static bool ipv4_reachable(const uint8_t *data, const struct net_headers *h)
{
    uint32_t to = get_be32(data + h->l3 + 16);
    if (to >> 24 == 127 || to >> 24 == 0)
        return false;
    if (to != NAT_DNS || h->fragment)
        return true; /* a fragment is looked at again when it is whole */
    return !(h->tcp || h->udp) || get_be16(data + h->l4 + 2) == PORT_DNS;
}

static bool ipv6_reachable(const uint8_t *data, const struct net_headers *h)
{
    static const uint8_t zero[12];
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    const uint8_t *to = data + h->l3 + 24;
    if (memcmp(to, zero, 12) == 0 || memcmp(to, mapped, 12) == 0)
        return false;
    bool dns = to[0] == 0xfd && get_be32(to + 8) == 0 && get_be32(to + 12) == 3;
    if (dns && (h->tcp || h->udp))
        return get_be16(data + h->l4 + 2) == PORT_DNS;
    return !(dns && h->fragment);
}

/* Raises the segment size offered in a SYN (RFC 9293 3.7.1), so that libslirp sends large packets.
 */
static bool raise_mss(uint8_t *data, const struct net_headers *h)
{
    if (!h->tcp || !(data[h->l4 + 13] & 2))
        return false;
    for (unsigned at = h->l4 + 20u; at + 4 <= h->payload;) {
        if (data[at] == 0)
            return false;
        if (data[at] == 1) {
            at++;
            continue;
        }
        if (data[at] == 2 && data[at + 1] == 4) {
            put_be16(data + at + 2, NAT_LARGE_MSS);
            return true;
        }
        if (data[at + 1] < 2)
            return false;
        at += data[at + 1];
    }
    return false;
}

static bool is_syn(const uint8_t *data, const struct net_headers *h)
{
    return h->tcp && data[h->l4 + 13] & 2;
}

static enum net_send nat_send(void *self, const struct net_packet *p);

/* Libslirp's own reassembly (4.7) follows a wild pointer on some fragments: it sees whole datagrams
 * alone. Of IPv6 it takes none. */
static enum net_send send_fragment(struct nat *n, const struct net_packet *p,
                                   const struct net_headers *h)
{
    size_t len;
    if (h->family != 4 || h->l3 != NET_ETH_HEADER)
        return NET_DROPPED;
    if (!n->parts && !(n->parts = net_reassembly_new()))
        return NET_DROPPED;
    const uint8_t *whole = net_reassembly_add(n->parts, p->data, p->len, clock_ns(), &len);
    if (!whole)
        return NET_SENT; /* as far as the guest can tell */
    return nat_send(n, &(struct net_packet){.data = whole, .len = (uint32_t)len});
}

static enum net_send nat_send(void *self, const struct net_packet *p)
{
    struct nat *n = self;
    struct net_headers h;
    const uint8_t *data = p->data;
    if (!net_parse(p->data, p->len, &h) || (h.family == 4 && !ipv4_reachable(p->data, &h)) ||
        (h.family == 6 && !ipv6_reachable(p->data, &h)))
        return NET_DROPPED;
    if (h.fragment)
        return send_fragment(n, p, &h);
    unsigned fill = p->flags & (NET_FILL_IP | NET_FILL_L4);
    if (p->mss || fill || is_syn(p->data, &h)) {
        memcpy(n->frame, p->data, p->len);
        data = n->frame;
        if (raise_mss(n->frame, &h))
            fill |= NET_FILL_L4;
        if (p->mss) {
            if (!net_fix_large(n->frame, p->len))
                return NET_DROPPED;
        } else {
            net_fill_sums(n->frame, p->len, fill);
        }
    }
    if (h.tcp)
        net_flows_note(n->flows, data, &h);
    slirp_input(n->slirp, data, (int)p->len);
    loop_post(n->loop, &n->post);
    return NET_SENT;
}

/* ---- connections that libslirp does not know ---- */

static void forget_lost(struct nat *n)
{
    free(n->lost);
    n->lost = NULL;
    n->nlost = n->probed = 0;
}

/* As many as the port takes; then the others, and all again. */
static void probe(void *ctx)
{
    struct nat *n = ctx;
    uint8_t frame[NET_FLOW_PROBE];
    struct net_flow f;
    while (n->on && n->port && n->probed < n->nlost && !net_port_full(n->port)) {
        struct net_packet p = {.data = frame, .flags = NET_SUMS_OK};
        if (net_flow_load(n->lost + n->probed++ * NET_FLOW_SIZE, &f)) {
            p.len = (uint32_t)net_flow_probe(&f, frame);
            net_port_receive(n->port, &p);
        }
    }
    bool all = n->probed == n->nlost;
    if (all) {
        n->probed = 0;
        n->rounds++;
    }
    if (n->rounds == PROBE_ROUNDS)
        forget_lost(n);
    else if (n->on)
        loop_timer_arm_in(&n->probe_timer, (all ? ROUND_MS : PROBE_MS) * NS_PER_MS);
}

static struct nat *nat_of_port(const struct net_port *port)
{
    const struct net_uplink *u = net_port_uplink(port);
    return u->ops == &net_nat_ops ? u->self : NULL;
}

size_t net_port_save_flows(const struct net_port *port, uint8_t *out, size_t room)
{
    const struct nat *n = nat_of_port(port);
    return n ? net_flows_save(n->flows, out, room) : 0;
}

void net_port_lost_flows(struct net_port *port, const uint8_t *flows, size_t len)
{
    struct nat *n = nat_of_port(port);
    if (!n || len % NET_FLOW_SIZE || len > NET_FLOWS * (size_t)NET_FLOW_SIZE)
        return;
    forget_lost(n);
    memset(n->flows, 0, sizeof *n->flows);
    n->rounds = 0;
    n->lost = len ? malloc(len) : NULL;
    if (!n->lost)
        return;
    memcpy(n->lost, flows, len);
    n->nlost = len / NET_FLOW_SIZE;
}

/* ---- life ---- */

static void nat_run(void *self, bool on)
{
    struct nat *n = self;
    n->on = on;
    if (on) {
        loop_post(n->loop, &n->post);
        if (n->lost)
            loop_timer_arm_in(&n->probe_timer, PROBE_MS * NS_PER_MS);
        return;
    }
    loop_timer_disarm(&n->timer);
    loop_timer_disarm(&n->probe_timer);
    n->round++;
    drop_unwanted(n);
}

static void nat_free(struct nat *n)
{
    if (n->slirp)
        slirp_cleanup(n->slirp);
    loop_timer_disarm(&n->timer);
    loop_timer_disarm(&n->probe_timer);
    for (int i = 0; i < n->nwatches; i++) {
        if (n->watches[i])
            loop_source_remove(n->watches[i]->source);
        free(n->watches[i]);
    }
    net_reassembly_free(n->parts);
    free(n->flows);
    free(n->lost);
    free(n->watches);
    free(n->wanted);
    free(n);
}

static void nat_last_call(void *ctx)
{
    nat_free(ctx);
}

/* May be called from inside a callback of the port, and with the post still queued: the rest
 * happens on the loop. */
static void nat_destroy(void *self)
{
    struct nat *n = self;
    nat_run(n, false);
    n->port = NULL;
    if (!loop_call(n->loop, nat_last_call, n))
        log_line(LOG_ERROR, "net", "there was no memory to end a NAT properly");
}

const struct net_uplink_ops net_nat_ops = {
    .name = "the NAT",
    .speed = 10000,
    .send = nat_send,
    .run = nat_run,
    .destroy = nat_destroy,
};

/* fdcb:<16 bits of the IPv4 address>::/64, so that it is stable and differs from VM to VM. */
static void set_ipv6(SlirpConfig *c, struct in_addr address)
{
    uint32_t a = ntohl(address.s_addr);
    c->in6_enabled = true;
    c->vprefix_len = 64;
    c->vprefix_addr6.s6_addr[0] = 0xfd;
    c->vprefix_addr6.s6_addr[1] = 0xcb;
    put_be16(c->vprefix_addr6.s6_addr + 2, (uint16_t)a);
    c->vhost6 = c->vprefix_addr6;
    c->vhost6.s6_addr[15] = 2;
    c->vnameserver6 = c->vprefix_addr6;
    c->vnameserver6.s6_addr[15] = 3;
}

static SlirpConfig nat_config(const struct net_nat_params *p)
{
    SlirpConfig c = {
        .version = 4,
        .in_enabled = true,
        .vnetwork.s_addr = htonl(NAT_NETWORK),
        .vnetmask.s_addr = htonl(NAT_MASK),
        .vhost.s_addr = htonl(NAT_HOST),
        .vnameserver.s_addr = htonl(NAT_DNS),
        .vdhcp_start = p->address,
        .vhostname = p->host_name,
        .if_mtu = NAT_LARGE_MTU,
        .if_mru = NAT_LARGE_MTU,
        .disable_host_loopback = !p->host_loopback,
    };
    set_ipv6(&c, p->address);
    return c;
}

static bool add_forwards(struct nat *n, const struct net_nat_params *p, err *e)
{
    for (size_t i = 0; i < p->nforwards; i++)
        if (!net_port_add_forward(n->port, &p->forwards[i], e))
            return false;
    return true;
}

bool net_port_plug_nat(struct net_port *port, const struct net_nat_params *p, err *e)
{
    uint32_t a = ntohl(p->address.s_addr);
    if ((a & NAT_MASK) != NAT_NETWORK || (a & 0xffff) < 16 || (a & 0xffff) > 0xffef)
        return err_set(e, ERR_INVALID,
                       "a NAT address must lie between 10.203.0.16 and 10.203.255.239");
    if (net_port_policy(port)->vlan_mode != NET_VLAN_UNTAGGED)
        return err_set(e, ERR_UNSUPPORTED, "the NAT carries no VLANs");
    struct nat *n = calloc(1, sizeof *n);
    struct net_flows *flows = n ? calloc(1, sizeof *flows) : NULL;
    if (!flows) {
        free(n);
        return err_set(e, ERR_NO_MEMORY, "there is no memory for the NAT");
    }
    n->flows = flows;
    n->port = port;
    n->loop = net_port_loop(port);
    n->address = p->address;
    loop_post_init(&n->post, turn, n);
    loop_timer_init(&n->timer, n->loop, turn, n);
    loop_timer_init(&n->probe_timer, n->loop, probe, n);
    SlirpConfig c = nat_config(p);
    n->slirp = slirp_new(&c, &callbacks, n);
    if (!n->slirp) {
        nat_free(n);
        return err_set(e, ERR_IO, "libslirp did not start");
    }
    net_port_plug(port, &(struct net_uplink){&net_nat_ops, n});
    if (add_forwards(n, p, e))
        return true;
    net_port_plug_none(port);
    return false;
}

static struct nat *nat_of(struct net_port *port, err *e)
{
    const struct net_uplink *u = net_port_uplink(port);
    if (u->ops == &net_nat_ops)
        return u->self;
    err_set(e, ERR_STATE, "ports are forwarded by the NAT only, and the adapter is not on it");
    return NULL;
}

static struct in_addr forward_host(const struct net_forward *f)
{
    struct in_addr a = f->host_addr;
    if (!a.s_addr)
        a.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

bool net_port_add_forward(struct net_port *port, const struct net_forward *f, err *e)
{
    struct nat *n = nat_of(port, e);
    if (!n)
        return false;
    if (slirp_add_hostfwd(n->slirp, f->udp, forward_host(f), f->host_port, n->address,
                          f->guest_port) < 0)
        return err_errno(e, errno, "port %u of the host cannot be forwarded", f->host_port);
    loop_post(n->loop, &n->post);
    return true;
}

bool net_port_remove_forward(struct net_port *port, const struct net_forward *f, err *e)
{
    struct nat *n = nat_of(port, e);
    if (!n)
        return false;
    if (slirp_remove_hostfwd(n->slirp, f->udp, forward_host(f), f->host_port) < 0)
        return err_set(e, ERR_NOT_FOUND, "port %u of the host is not forwarded", f->host_port);
    loop_post(n->loop, &n->post);
    return true;
}
