/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A port of the virtual switch: what one network adapter is plugged into. The port holds the
 * policy (link, MAC spoofing, VLAN, bandwidth) and a short queue toward the guest; behind it is one
 * uplink: NAT (libslirp), a private switch (datagram sockets) or a TAP or macvtap descriptor.
 *
 * What adapters see has no VLAN tag inside: tags travel beside the frame. Frames toward the guest
 * come with all sums filled, and cut to the adapter's MTU unless it takes large packets.
 * Thread: all on the I/O loop's thread.
 */
#ifndef VIREO_NET_PORT_H
#define VIREO_NET_PORT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/base/loop.h"
#include "core/net/packet.h"

enum net_vlan_mode { NET_VLAN_UNTAGGED, NET_VLAN_ACCESS, NET_VLAN_TRUNK };

struct net_policy {
    bool spoofing;     /* the guest may send from other addresses than its own */
    uint8_t vlan_mode; /* enum net_vlan_mode */
    uint16_t vlan;     /* ACCESS: the id; TRUNK: the native id (0: untagged frames stay so) */
    uint16_t trunk_first, trunk_last; /* TRUNK: ids that pass */
    uint64_t bandwidth;               /* bit/s each way; 0: no limit */
};

struct net_port_stats {
    uint64_t tx_frames, tx_bytes, tx_dropped; /* from the guest; a large packet counts once */
    uint64_t rx_frames, rx_bytes, rx_dropped;
    uint64_t tx_refused; /* by policy: foreign address, wrong VLAN */
};

/* The adapter's side. */
struct net_adapter_ops {
    /* Takes a frame toward the guest, or false when there is no room: it is offered again after
     * net_port_room. The frame is borrowed for the call. */
    bool (*deliver)(void *ctx, const struct net_packet *p);
    /* A port that answered NET_SEND_LATER has room again. */
    void (*send_again)(void *ctx);
    void (*link)(void *ctx, bool up);
};

enum net_send { NET_SENT, NET_DROPPED, NET_SEND_LATER };

struct net_port_params {
    struct loop *loop;
    uint8_t mac[6];
    struct net_policy policy;
    const struct net_adapter_ops *ops; /* borrowed */
    void *ctx;
};

struct net_port;

struct net_port *net_port_new(const struct net_port_params *p, err *e);
/* Drops the uplink too. No callback after. NULL is allowed. */
void net_port_free(struct net_port *port);
/* The adapter's, when it is attached later than the port is made; NULL ops detaches. */
void net_port_attach(struct net_port *port, const struct net_adapter_ops *ops, void *ctx);

/* From the guest. LATER: nothing was taken; offer it again after send_again. */
enum net_send net_port_send(struct net_port *port, const struct net_packet *p);
/* The adapter has room again: queued frames are delivered now. */
void net_port_room(struct net_port *port);
/* What the adapter takes: largest IP packet without Ethernet header; whether large TCP packets. */
void net_port_set_limits(struct net_port *port, uint32_t mtu, bool large);
/* The guest set another address; false (policy) if it may not. */
bool net_port_set_mac(struct net_port *port, const uint8_t mac[6]);
/* Stopped: nothing is taken from the uplink and nothing delivered. A new port is stopped. */
void net_port_start(struct net_port *port);
void net_port_stop(struct net_port *port);

/* Policy and cable; both may change at any time. A port has link when its cable is in and it has
 * an uplink. */
bool net_port_set_policy(struct net_port *port, const struct net_policy *policy, err *e);
const struct net_policy *net_port_policy(const struct net_port *port);
void net_port_set_cable(struct net_port *port, bool in);
bool net_port_link(const struct net_port *port);
/* Mbit/s, as the guest is told. */
uint64_t net_port_speed(const struct net_port *port);
const uint8_t *net_port_mac(const struct net_port *port);
void net_port_get_stats(const struct net_port *port, struct net_port_stats *out);

/* ---- uplinks: each call replaces the one before; on failure the old one stays ---- */

void net_port_plug_none(struct net_port *port);

struct net_forward {
    bool udp;
    struct in_addr host_addr; /* network order; 0: 127.0.0.1 */
    uint16_t host_port, guest_port;
};
struct net_nat_params {
    struct in_addr address; /* the guest's, network order, within 10.203.0.0/16 */
    bool host_loopback;     /* 10.203.0.2 reaches the host's 127.0.0.1 */
    const struct net_forward *forwards;
    size_t nforwards;
    const char *host_name; /* what DHCP names the guest; may be NULL */
};
/* ERR_EXISTS names the forward whose host port is taken. */
bool net_port_plug_nat(struct net_port *port, const struct net_nat_params *p, err *e);
bool net_port_add_forward(struct net_port *port, const struct net_forward *f, err *e);
bool net_port_remove_forward(struct net_port *port, const struct net_forward *f, err *e);
/* The guest's TCP connections through the NAT, for a saved state; and the guest of such a state is
 * made to notice that they are gone, once the port is started. Bytes; nothing for other uplinks. */
enum { NET_PORT_FLOWS_MAX = 56 * 1024 };
size_t net_port_save_flows(const struct net_port *port, uint8_t *out, size_t room);
void net_port_lost_flows(struct net_port *port, const uint8_t *flows, size_t len);
/* An address that depends on nothing but `id` (the VM's and the adapter's 16 + 4 bytes or so). */
struct in_addr net_nat_address(const void *id, size_t len);
/* "tcp:HOST:GUEST", "udp:ADDR:HOST:GUEST". */
bool net_forward_parse(const char *s, struct net_forward *out, err *e);
void net_forward_format(const struct net_forward *f, char *out, size_t size);

/* `folder` is the switch's own folder: whoever shares it is on the same switch. Made if missing,
 * mode 0700; its parent must exist. */
bool net_port_plug_private(struct net_port *port, const char *folder, err *e);

/* A TAP or macvtap descriptor, prepared by an administrator and opened by the caller. Takes fd. */
bool net_port_plug_tap(struct net_port *port, int fd, err *e);

#endif
