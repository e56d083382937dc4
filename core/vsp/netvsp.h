/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The synthetic network adapter: NVSP 1.0 to 6.1 with RNDIS inside, between a VMBus device and a
 * port of the virtual switch. Checksum and large-send offloads both ways, receive side scaling over
 * subchannels, receive segment coalescing where the guest turns it on, link events.
 * Thread: the I/O loop's.
 */
#ifndef VIREO_VSP_NETVSP_H
#define VIREO_VSP_NETVSP_H

#include "core/base/device.h"
#include "core/base/err.h"
#include "core/net/port.h"
#include "core/vmbus/vmbus.h"

struct netvsp;

struct netvsp_params {
    struct vmbus *bus;
    struct net_port *port;   /* taken (freed with the device), also on failure */
    struct guid instance;    /* the same at every start; the guest names the interface by it */
    uint32_t state_instance; /* number in saved states: stable and unique among adapters */
    unsigned queues;         /* at most this many; 0: one a virtual processor, up to 8 */
    const char *name;        /* what the guest shows as the interface's alias, UTF-8; may be NULL */
};

struct netvsp *netvsp_new(const struct netvsp_params *p, err *e);
/* destroy frees it and its port, and takes its offer away. */
struct device netvsp_as_device(struct netvsp *n);
struct net_port *netvsp_port(struct netvsp *n);
/* After another switch was plugged in behind a link that stayed up: the guest asks for an address
 * again. */
void netvsp_network_changed(struct netvsp *n);

struct netvsp_info {
    uint32_t version; /* NVSP; 0: no driver */
    unsigned queues;  /* open */
    uint32_t mtu, filter;
    bool up, rsc, rss;
};
void netvsp_get_info(const struct netvsp *n, struct netvsp_info *out);

#endif
