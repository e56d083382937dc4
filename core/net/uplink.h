/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a port and its uplink are to each other. Private to core/net. Thread: the I/O loop's. */
#ifndef VIREO_NET_UPLINK_H
#define VIREO_NET_UPLINK_H

#include "core/net/port.h"

struct net_uplink_ops {
    const char *name;
    uint64_t speed; /* Mbit/s */
    bool vlans;     /* carries VLAN ids */
    /* A frame from the guest that passed the port's policy; p->tagged says its VLAN. */
    enum net_send (*send)(void *self, const struct net_packet *p);
    /* Begin or cease to take frames from outside. */
    void (*run)(void *self, bool on);
    void (*destroy)(void *self);
};
struct net_uplink {
    const struct net_uplink_ops *ops; /* NULL: none */
    void *self;
};

struct loop *net_port_loop(struct net_port *port);
/* Gives the port its uplink (owned from here) and tells the adapter of the link. */
void net_port_plug(struct net_port *port, const struct net_uplink *u);
const struct net_uplink *net_port_uplink(const struct net_port *port);
/* A frame from outside. */
void net_port_receive(struct net_port *port, const struct net_packet *p);
/* Whether the uplink should hold back: the queue toward the guest is filling. When it has drained,
 * ops->run(true) is called again. */
bool net_port_full(const struct net_port *port);
/* An uplink that answered NET_SEND_LATER has room. */
void net_port_uplink_ready(struct net_port *port);
uint32_t net_port_mtu(const struct net_port *port);

/* nat.c, for port.c's forward functions. */
extern const struct net_uplink_ops net_nat_ops;

#endif
