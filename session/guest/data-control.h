/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Wayland's data control, as far as a clipboard needs it. Two protocols are the same but for their
 * names: ext-data-control-v1 and the older wlr-data-control-unstable-v1 (version 2, with the
 * primary selection). Requests and events by number, in the protocols' order.
 */
#ifndef VIREO_GUEST_DATA_CONTROL_H
#define VIREO_GUEST_DATA_CONTROL_H

#include <wayland-client-core.h>
#include <wayland-util.h>

enum dc_request {
    DC_MANAGER_CREATE_SOURCE = 0,
    DC_MANAGER_GET_DEVICE = 1,
    DC_DEVICE_SET_SELECTION = 0,
    DC_DEVICE_DESTROY = 1,
    DC_DEVICE_SET_PRIMARY = 2,
    DC_SOURCE_OFFER = 0,
    DC_SOURCE_DESTROY = 1,
    DC_OFFER_RECEIVE = 0,
    DC_OFFER_DESTROY = 1,
};

/* Listeners: the events' functions in order. */
struct dc_device_events {
    void (*data_offer)(void *ctx, struct wl_proxy *device, struct wl_proxy *offer);
    void (*selection)(void *ctx, struct wl_proxy *device, struct wl_proxy *offer);
    void (*finished)(void *ctx, struct wl_proxy *device);
    void (*primary_selection)(void *ctx, struct wl_proxy *device, struct wl_proxy *offer);
};
struct dc_source_events {
    void (*send)(void *ctx, struct wl_proxy *source, const char *mime, int fd);
    void (*cancelled)(void *ctx, struct wl_proxy *source);
};
struct dc_offer_events {
    void (*offer)(void *ctx, struct wl_proxy *offer, const char *mime);
};

struct dc_protocol {
    const struct wl_interface *manager, *device, *source;
    unsigned version;
};
/* Best first. */
extern const struct dc_protocol dc_protocols[2];

#endif
