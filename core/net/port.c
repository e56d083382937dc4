/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/net/port.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/net/uplink.h"

enum {
    QUEUE_FRAMES = 1024,
    QUEUE_BYTES = 4 << 20,
    VLAN_ID_MAX = 4094,
    VLAN_ID_MASK = 0xfff,
};
#define NS_PER_S 1000000000ull
#define BURST_NS (50 * 1000000ull) /* a bucket holds what its rate gives in 50 ms */

struct queued {
    struct queued *next;
    struct net_packet p;
    uint8_t bytes[];
};

/* A token bucket, kept as the time up to which what was sent is paid for. */
struct bucket {
    uint64_t rate; /* bit/s, 0: none */
    uint64_t paid_ns;
};

struct net_port {
    struct loop *loop;
    const struct net_adapter_ops *ops;
    void *ctx;
    struct net_uplink uplink;
    struct net_policy policy;
    struct net_port_stats stats;
    struct bucket tx, rx;
    struct loop_timer tx_timer, rx_timer;
    uint8_t mac[6], own_mac[6];
    uint32_t mtu;
    bool large, cable, running, link_told, held_back;
    struct queued *head, **tail;
    uint32_t queued_frames;
    uint64_t queued_bytes;
    uint8_t cut[NET_FRAME_MAX + 4];
    uint8_t strip[NET_FRAME_MAX];
};

/* ---- bandwidth ---- */

/* Time to wait before a frame may pass; 0: now, and it is charged. */
static uint64_t bucket_take(struct bucket *b, uint32_t len)
{
    if (!b->rate)
        return 0;
    uint64_t now = clock_ns(), floor = now > BURST_NS ? now - BURST_NS : 0;
    if (b->paid_ns < floor)
        b->paid_ns = floor;
    if (b->paid_ns > now)
        return b->paid_ns - now;
    b->paid_ns += (uint64_t)((unsigned __int128)len * 8 * NS_PER_S / b->rate);
    return 0;
}

/* ---- the queue toward the guest ---- */

static void queue_clear(struct net_port *port)
{
    while (port->head) {
        struct queued *q = port->head;
        port->head = q->next;
        free(q);
    }
    port->tail = &port->head;
    port->queued_frames = 0;
    port->queued_bytes = 0;
}

static void queue_push(struct net_port *port, const struct net_packet *p)
{
    struct queued *q = NULL;
    if (port->queued_frames < QUEUE_FRAMES && port->queued_bytes < QUEUE_BYTES)
        q = malloc(sizeof *q + p->len);
    if (!q) {
        port->stats.rx_dropped++;
        return;
    }
    memcpy(q->bytes, p->data, p->len);
    q->next = NULL;
    q->p = *p;
    q->p.data = q->bytes;
    *port->tail = q;
    port->tail = &q->next;
    port->queued_frames++;
    port->queued_bytes += p->len;
}

static struct queued *queue_pop(struct net_port *port)
{
    struct queued *q = port->head;
    port->head = q->next;
    if (!port->head)
        port->tail = &port->head;
    port->queued_frames--;
    port->queued_bytes -= q->p.len;
    return q;
}

bool net_port_full(const struct net_port *port)
{
    return port->queued_frames >= QUEUE_FRAMES / 4 || port->queued_bytes >= QUEUE_BYTES / 4;
}

/* Tells the uplink to go on once the queue that held it back is nearly empty. */
static void release_uplink(struct net_port *port)
{
    if (!port->held_back || port->queued_frames > QUEUE_FRAMES / 16)
        return;
    port->held_back = false;
    if (port->running && port->uplink.ops)
        port->uplink.ops->run(port->uplink.self, true);
}

static bool hand_over(struct net_port *port, const struct net_packet *p)
{
    if (!port->ops || !port->ops->deliver(port->ctx, p))
        return false;
    port->stats.rx_frames++;
    port->stats.rx_bytes += p->len;
    return true;
}

static void queue_run(struct net_port *port)
{
    while (port->head && port->running) {
        uint64_t wait = bucket_take(&port->rx, port->head->p.len);
        if (wait) {
            loop_timer_arm_in(&port->rx_timer, wait);
            return;
        }
        if (!hand_over(port, &port->head->p))
            return;
        free(queue_pop(port));
    }
    release_uplink(port);
}

static void rx_timer_fired(void *ctx)
{
    queue_run(ctx);
}

static void deliver_whole(struct net_port *port, const struct net_packet *p)
{
    if (!port->ops) {
        port->stats.rx_dropped++;
        return;
    }
    bool direct = !port->head && !port->rx.rate && port->running;
    if (direct && hand_over(port, p))
        return;
    queue_push(port, p);
    if (port->rx.rate)
        queue_run(port);
    if (net_port_full(port) && !port->held_back && port->uplink.ops) {
        port->held_back = true;
        port->uplink.ops->run(port->uplink.self, false);
    }
}

/* ---- from outside to the adapter ---- */

static void deliver_cut(struct net_port *port, const struct net_packet *p)
{
    struct net_cut c;
    struct net_packet out = *p;
    if (!net_cut_begin(&c, p)) {
        port->stats.rx_dropped++;
        return;
    }
    out.mss = 0;
    out.data = port->cut;
    out.flags = NET_SUMS_OK;
    while ((out.len = (uint32_t)net_cut_next(&c, port->cut, sizeof port->cut)))
        deliver_whole(port, &out);
}

static void deliver_fragments(struct net_port *port, const struct net_packet *p)
{
    struct net_fragment f;
    struct net_packet out = *p;
    if (!net_fragment_begin(&f, p->data, p->len, port->mtu)) {
        port->stats.rx_dropped++;
        return;
    }
    out.data = port->cut;
    while ((out.len = (uint32_t)net_fragment_next(&f, port->cut, sizeof port->cut)))
        deliver_whole(port, &out);
}

/* Sums first, then whatever makes it fit the adapter. */
static void deliver(struct net_port *port, const struct net_packet *p)
{
    struct net_packet q = *p;
    if (q.mss && q.len <= NET_ETH_HEADER + port->mtu)
        q.mss = 0;
    if (q.mss && !port->large) {
        deliver_cut(port, &q);
        return;
    }
    if (p->flags & (NET_FILL_IP | NET_FILL_L4) || p->mss) {
        memmove(port->cut, q.data, q.len);
        q.data = port->cut;
        q.flags = NET_SUMS_OK;
        if (p->mss ? !net_fix_large(port->cut, q.len) : false) {
            port->stats.rx_dropped++;
            return;
        }
        net_fill_sums(port->cut, q.len, p->flags);
    }
    if (q.mss || q.len <= NET_ETH_HEADER + port->mtu)
        deliver_whole(port, &q);
    else if (q.data != port->cut)
        deliver_fragments(port, &q);
    else {
        memcpy(port->strip, q.data, q.len);
        q.data = port->strip;
        deliver_fragments(port, &q);
    }
}

/* Whether the frame is for this port's VLAN; takes the tag off where the guest must not see it. */
static bool vlan_in(const struct net_port *port, struct net_packet *p)
{
    const struct net_policy *v = &port->policy;
    uint16_t id = p->tagged ? p->vlan_tci & VLAN_ID_MASK : 0;
    switch (v->vlan_mode) {
    case NET_VLAN_UNTAGGED: p->tagged = false; return id == 0;
    case NET_VLAN_ACCESS: p->tagged = false; return id == v->vlan;
    default:
        if (id == v->vlan || !id) {
            p->tagged = false;
            return id == v->vlan;
        }
        return id >= v->trunk_first && id <= v->trunk_last;
    }
}

void net_port_receive(struct net_port *port, const struct net_packet *p)
{
    struct net_packet q = *p;
    uint16_t tci;
    if (q.len < NET_ETH_HEADER || q.len > NET_FRAME_MAX || !port->running) {
        port->stats.rx_dropped++;
        return;
    }
    if (!q.tagged && net_tag_inside(q.data, q.len, &tci)) {
        q.len = (uint32_t)net_tag_strip(q.data, q.len, port->strip);
        q.data = port->strip;
        q.tagged = true;
        q.vlan_tci = tci;
    }
    if (!port->cable || !vlan_in(port, &q))
        return;
    deliver(port, &q);
}

/* ---- from the adapter to outside ---- */

static bool vlan_out(const struct net_port *port, struct net_packet *p)
{
    const struct net_policy *v = &port->policy;
    uint16_t id = p->tagged ? p->vlan_tci & VLAN_ID_MASK : 0;
    uint16_t prio = p->tagged ? p->vlan_tci & 0xf000 : 0;
    if (v->vlan_mode == NET_VLAN_TRUNK) {
        if (!id)
            id = v->vlan;
        else if (id != v->vlan && (id < v->trunk_first || id > v->trunk_last))
            return false;
    } else {
        if (id)
            return false;
        id = v->vlan_mode == NET_VLAN_ACCESS ? v->vlan : 0;
    }
    p->tagged = id != 0;
    p->vlan_tci = prio | id;
    return true;
}

static bool allowed_out(struct net_port *port, struct net_packet *p)
{
    const uint8_t *source = p->data + 6;
    if (!port->policy.spoofing && memcmp(source, port->mac, 6) != 0)
        return false;
    return !net_mac_is_multicast(source) && vlan_out(port, p);
}

static enum net_send send_out(struct net_port *port, struct net_packet *p)
{
    uint64_t paid = port->tx.paid_ns;
    uint64_t wait = bucket_take(&port->tx, p->len);
    if (wait) {
        loop_timer_arm_in(&port->tx_timer, wait);
        return NET_SEND_LATER;
    }
    enum net_send r = port->uplink.ops->send(port->uplink.self, p);
    if (r == NET_SENT) {
        port->stats.tx_frames++;
        port->stats.tx_bytes += p->len;
    } else {
        port->tx.paid_ns = paid;
        port->stats.tx_dropped += r == NET_DROPPED;
    }
    return r;
}

enum net_send net_port_send(struct net_port *port, const struct net_packet *p)
{
    struct net_packet q = *p;
    uint16_t tci;
    if (q.len < NET_ETH_HEADER || q.len > NET_FRAME_MAX || !net_port_link(port)) {
        port->stats.tx_dropped++;
        return NET_DROPPED;
    }
    uint8_t *plain = NULL;
    AUTO(buf) hold = NULL;
    if (!q.tagged && net_tag_inside(q.data, q.len, &tci)) {
        hold = plain = malloc(q.len);
        if (!plain)
            return NET_DROPPED;
        q.len = (uint32_t)net_tag_strip(q.data, q.len, plain);
        q.data = plain;
        q.tagged = true;
        q.vlan_tci = tci;
    }
    if (!allowed_out(port, &q)) {
        LOG_GUEST("net", "the guest sent a frame that the port's policy does not let pass");
        port->stats.tx_refused++;
        return NET_DROPPED;
    }
    return send_out(port, &q);
}

static void tx_timer_fired(void *ctx)
{
    struct net_port *port = ctx;
    if (port->ops)
        port->ops->send_again(port->ctx);
}

void net_port_uplink_ready(struct net_port *port)
{
    tx_timer_fired(port);
}

/* ---- life and settings ---- */

struct net_port *net_port_new(const struct net_port_params *p, err *e)
{
    struct net_port *port = calloc(1, sizeof *port);
    if (!port) {
        err_set(e, ERR_NO_MEMORY, "there is no memory for a switch port");
        return NULL;
    }
    port->loop = p->loop;
    port->tail = &port->head;
    port->cable = true;
    port->mtu = NET_MTU_DEFAULT;
    memcpy(port->mac, p->mac, 6);
    memcpy(port->own_mac, p->mac, 6);
    loop_timer_init(&port->tx_timer, p->loop, tx_timer_fired, port);
    loop_timer_init(&port->rx_timer, p->loop, rx_timer_fired, port);
    if (!net_port_set_policy(port, &p->policy, e)) {
        free(port);
        return NULL;
    }
    net_port_attach(port, p->ops, p->ctx);
    return port;
}

void net_port_free(struct net_port *port)
{
    if (!port)
        return;
    port->ops = NULL;
    net_port_plug_none(port);
    loop_timer_disarm(&port->tx_timer);
    loop_timer_disarm(&port->rx_timer);
    queue_clear(port);
    free(port);
}

void net_port_attach(struct net_port *port, const struct net_adapter_ops *ops, void *ctx)
{
    port->ops = ops;
    port->ctx = ctx;
    port->link_told = net_port_link(port);
}

void net_port_room(struct net_port *port)
{
    if (port->head)
        queue_run(port);
}

void net_port_set_limits(struct net_port *port, uint32_t mtu, bool large)
{
    port->mtu = mtu < NET_MTU_MIN ? NET_MTU_MIN : MIN(mtu, (uint32_t)NET_MTU_MAX);
    port->large = large;
}

bool net_port_set_mac(struct net_port *port, const uint8_t mac[6])
{
    if (net_mac_is_multicast(mac))
        return false;
    if (!port->policy.spoofing && memcmp(mac, port->own_mac, 6) != 0)
        return false;
    memcpy(port->mac, mac, 6);
    return true;
}

static void set_running(struct net_port *port, bool on)
{
    if (port->running == on)
        return;
    port->running = on;
    if (port->uplink.ops && !(on && port->held_back))
        port->uplink.ops->run(port->uplink.self, on);
    if (on)
        queue_run(port);
    else {
        loop_timer_disarm(&port->tx_timer);
        loop_timer_disarm(&port->rx_timer);
    }
}

void net_port_start(struct net_port *port)
{
    set_running(port, true);
    if (port->ops)
        port->ops->send_again(port->ctx);
}

void net_port_stop(struct net_port *port)
{
    set_running(port, false);
}

static bool vlan_ok(const struct net_policy *v)
{
    if (v->vlan_mode == NET_VLAN_UNTAGGED)
        return true;
    if (v->vlan_mode == NET_VLAN_ACCESS)
        return v->vlan >= 1 && v->vlan <= VLAN_ID_MAX;
    return v->vlan_mode == NET_VLAN_TRUNK && v->vlan <= VLAN_ID_MAX && v->trunk_first >= 1 &&
           v->trunk_first <= v->trunk_last && v->trunk_last <= VLAN_ID_MAX;
}

bool net_port_set_policy(struct net_port *port, const struct net_policy *policy, err *e)
{
    if (!vlan_ok(policy))
        return err_set(e, ERR_INVALID, "a VLAN id must lie between 1 and %d", VLAN_ID_MAX);
    if (policy->vlan_mode != NET_VLAN_UNTAGGED && port->uplink.ops && !port->uplink.ops->vlans)
        return err_set(e, ERR_UNSUPPORTED, "%s carries no VLANs", port->uplink.ops->name);
    port->policy = *policy;
    port->tx = (struct bucket){.rate = policy->bandwidth};
    port->rx = port->tx;
    if (!policy->spoofing)
        memcpy(port->mac, port->own_mac, 6);
    if (!policy->bandwidth && port->running)
        queue_run(port);
    return true;
}

const struct net_policy *net_port_policy(const struct net_port *port)
{
    return &port->policy;
}

bool net_port_link(const struct net_port *port)
{
    return port->cable && port->uplink.ops;
}

static void tell_link(struct net_port *port)
{
    bool up = net_port_link(port);
    if (up == port->link_told)
        return;
    port->link_told = up;
    if (port->ops)
        port->ops->link(port->ctx, up);
}

void net_port_set_cable(struct net_port *port, bool in)
{
    port->cable = in;
    if (!in)
        queue_clear(port);
    tell_link(port);
}

uint64_t net_port_speed(const struct net_port *port)
{
    uint64_t speed = port->uplink.ops ? port->uplink.ops->speed : 10000;
    uint64_t limit = port->policy.bandwidth / 1000000;
    if (!port->policy.bandwidth)
        return speed;
    return limit ? MIN(limit, speed) : 1;
}

const uint8_t *net_port_mac(const struct net_port *port)
{
    return port->mac;
}

void net_port_get_stats(const struct net_port *port, struct net_port_stats *out)
{
    *out = port->stats;
}

/* ---- uplinks ---- */

struct loop *net_port_loop(struct net_port *port)
{
    return port->loop;
}

const struct net_uplink *net_port_uplink(const struct net_port *port)
{
    return &port->uplink;
}

uint32_t net_port_mtu(const struct net_port *port)
{
    return port->mtu;
}

void net_port_plug(struct net_port *port, const struct net_uplink *u)
{
    if (port->uplink.ops)
        port->uplink.ops->destroy(port->uplink.self);
    port->uplink = *u;
    port->held_back = false;
    queue_clear(port);
    if (u->ops && port->running)
        u->ops->run(u->self, true);
    tell_link(port);
    if (u->ops && port->ops && port->running)
        port->ops->send_again(port->ctx);
}

void net_port_plug_none(struct net_port *port)
{
    net_port_plug(port, &(struct net_uplink){0});
}
