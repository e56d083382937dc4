/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A TAP or macvtap device that an administrator prepared. With the virtio header (IFF_VNET_HDR)
 * sums and segmentation are left to the host's kernel both ways; without it the port does them.
 * Source: Linux Documentation/networking/tuntap; virtio 1.2 section 5.1.6 for the header.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/net/uplink.h"

enum { BATCH = 64, HEADER = sizeof(struct virtio_net_hdr) };
_Static_assert(HEADER == 10, "the legacy virtio header");

struct tap {
    struct net_port *port;
    struct loop *loop;
    int fd;
    bool vnet;
    struct loop_source *in, *out;
    uint8_t buf[HEADER + NET_FRAME_MAX];
    uint8_t frame[NET_FRAME_MAX + 4];
};

static bool put_frame(struct tap *t, const struct virtio_net_hdr *h, const uint8_t *data,
                      size_t len)
{
    struct iovec iov[2] = {{(void *)(uintptr_t)h, HEADER}, {(void *)(uintptr_t)data, len}};
    const struct iovec *v = t->vnet ? iov : iov + 1;
    return writev(t->fd, v, t->vnet ? 2 : 1) >= 0;
}

/* The kernel wants the IP lengths set and the pseudo-header sum in the TCP sum's place. */
static bool describe_large(uint8_t *data, size_t len, uint16_t mss, struct virtio_net_hdr *v)
{
    struct net_headers h;
    if (!net_fix_large(data, len) || !net_parse(data, len, &h))
        return false;
    uint32_t l4 = (uint32_t)(len - h.l4);
    uint8_t tail[8] = {0, 0, 0, h.proto};
    put_be32(tail + 4, l4);
    uint64_t sum =
        h.family == 4 ? net_sum(data + h.l3 + 12, 8, 0) : net_sum(data + h.l3 + 8, 32, 0);
    put_le16(data + h.l4 + 16, (uint16_t)~net_sum_fold(net_sum(tail, sizeof tail, sum)));
    *v = (struct virtio_net_hdr){
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = h.family == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6,
        .hdr_len = h.payload,
        .gso_size = mss,
        .csum_start = h.l4,
        .csum_offset = 16,
    };
    return true;
}

static enum net_send send_cut(struct tap *t, const struct net_packet *p)
{
    const struct virtio_net_hdr none = {0};
    struct net_cut c;
    size_t len;
    if (!net_cut_begin(&c, p))
        return NET_DROPPED;
    while ((len = net_cut_next(&c, t->frame, sizeof t->frame)))
        put_frame(t, &none, t->frame, len);
    return NET_SENT;
}

static enum net_send tap_send(void *self, const struct net_packet *p)
{
    struct tap *t = self;
    struct virtio_net_hdr v = {0};
    struct net_packet q = *p;
    if (q.tagged) {
        q.len = (uint32_t)net_tag_insert(p->data, p->len, p->vlan_tci, t->buf);
        q.data = t->buf;
    }
    if (q.mss && !t->vnet)
        return send_cut(t, &q);
    if (q.mss || q.flags & (NET_FILL_IP | NET_FILL_L4)) {
        memcpy(t->frame, q.data, q.len);
        q.data = t->frame;
        if (!q.mss)
            net_fill_sums(t->frame, q.len, q.flags);
        else if (!describe_large(t->frame, q.len, q.mss, &v))
            return NET_DROPPED;
    }
    return put_frame(t, &v, q.data, q.len) ? NET_SENT : NET_DROPPED;
}

static void receive_one(struct tap *t, const uint8_t *buf, size_t n)
{
    struct net_packet p = {.data = buf, .len = (uint32_t)n};
    if (t->vnet) {
        struct virtio_net_hdr v;
        if (n < HEADER)
            return;
        memcpy(&v, buf, HEADER);
        p.data += HEADER;
        p.len -= HEADER;
        if (v.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
            p.flags |= NET_FILL_L4;
        else if (v.flags & VIRTIO_NET_HDR_F_DATA_VALID)
            p.flags |= NET_SUMS_OK;
        if ((v.gso_type & ~VIRTIO_NET_HDR_GSO_ECN) != VIRTIO_NET_HDR_GSO_NONE)
            p.mss = v.gso_size;
    }
    net_port_receive(t->port, &p);
}

static void arrived(void *ctx, uint32_t events)
{
    struct tap *t = ctx;
    for (unsigned i = 0; i < BATCH && t->in; i++) {
        ssize_t n = read(t->fd, t->buf, sizeof t->buf);
        if (n <= 0)
            return;
        receive_one(t, t->buf, (size_t)n);
    }
}

static void tap_run(void *self, bool on)
{
    struct tap *t = self;
    if (on && !t->in)
        t->in = loop_add_fd(t->loop, t->fd, EPOLLIN, arrived, t, NULL);
    if (!on) {
        loop_source_remove(t->in);
        t->in = NULL;
    }
}

static void tap_destroy(void *self)
{
    struct tap *t = self;
    loop_source_remove(t->in);
    close(t->fd);
    free(t);
}

static const struct net_uplink_ops tap_ops = {
    .name = "the TAP device",
    .speed = 10000,
    .vlans = true,
    .send = tap_send,
    .run = tap_run,
    .destroy = tap_destroy,
};

static bool set_up(struct tap *t, err *e)
{
    struct ifreq ifr = {0};
    if (ioctl(t->fd, TUNGETIFF, &ifr) != 0)
        return err_errno(e, errno, "the descriptor is no TAP or macvtap device");
    if (!(ifr.ifr_flags & IFF_TAP))
        return err_set(e, ERR_INVALID, "the device is a TUN device: it carries no Ethernet frames");
    int flags = fcntl(t->fd, F_GETFL);
    if (flags < 0 || fcntl(t->fd, F_SETFL, flags | O_NONBLOCK) != 0)
        return err_errno(e, errno, "the TAP device cannot be set up");
    t->vnet = ifr.ifr_flags & IFF_VNET_HDR;
    if (!t->vnet)
        return true;
    int size = HEADER;
    if (ioctl(t->fd, TUNSETVNETHDRSZ, &size) != 0)
        return err_errno(e, errno, "the TAP device cannot be set up");
    /* Without these the kernel merely does the work itself. */
    ioctl(t->fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6);
    return true;
}

bool net_port_plug_tap(struct net_port *port, int fd, err *e)
{
    struct tap *t = calloc(1, sizeof *t);
    if (!t) {
        close(fd);
        return err_set(e, ERR_NO_MEMORY, "there is no memory for a TAP device");
    }
    t->port = port;
    t->loop = net_port_loop(port);
    t->fd = fd;
    if (!set_up(t, e)) {
        close(fd);
        free(t);
        return false;
    }
    net_port_plug(port, &(struct net_uplink){&tap_ops, t});
    return true;
}
