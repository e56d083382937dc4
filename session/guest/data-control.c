/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/guest/data-control.h"

#include <wayland-client-protocol.h>

/* What a scanner would make of each of the two protocols. VERSION: of wl_interface; since the
 * primary selection's is in both, requests of version 2 of wlr's are marked so. */
#define TABLES(P, NAME, VERSION, SINCE)                                                        \
    static const struct wl_interface P##_source, P##_device, P##_offer;                        \
    static const struct wl_interface *P##_new_source[] = {&P##_source};                        \
    static const struct wl_interface *P##_new_device[] = {&P##_device, &wl_seat_interface};    \
    static const struct wl_interface *P##_a_source[] = {&P##_source};                          \
    static const struct wl_interface *P##_an_offer[] = {&P##_offer};                           \
    static const struct wl_interface *P##_no_types[] = {NULL, NULL};                           \
    static const struct wl_message P##_manager_requests[] = {                                  \
        {"create_data_source", "n", P##_new_source},                                           \
        {"get_data_device", "no", P##_new_device},                                             \
        {"destroy", "", P##_no_types},                                                         \
    };                                                                                         \
    static const struct wl_message P##_device_requests[] = {                                   \
        {"set_selection", "?o", P##_a_source},                                                 \
        {"destroy", "", P##_no_types},                                                         \
        {"set_primary_selection", SINCE "?o", P##_a_source},                                   \
    };                                                                                         \
    static const struct wl_message P##_device_events[] = {                                     \
        {"data_offer", "n", P##_an_offer},                                                     \
        {"selection", "?o", P##_an_offer},                                                     \
        {"finished", "", P##_no_types},                                                        \
        {"primary_selection", SINCE "?o", P##_an_offer},                                       \
    };                                                                                         \
    static const struct wl_message P##_source_requests[] = {                                   \
        {"offer", "s", P##_no_types},                                                          \
        {"destroy", "", P##_no_types},                                                         \
    };                                                                                         \
    static const struct wl_message P##_source_events[] = {                                     \
        {"send", "sh", P##_no_types},                                                          \
        {"cancelled", "", P##_no_types},                                                       \
    };                                                                                         \
    static const struct wl_message P##_offer_requests[] = {                                    \
        {"receive", "sh", P##_no_types},                                                       \
        {"destroy", "", P##_no_types},                                                         \
    };                                                                                         \
    static const struct wl_message P##_offer_events[] = {{"offer", "s", P##_no_types}};        \
    static const struct wl_interface P##_manager = {NAME "_manager_v1",   VERSION, 3,          \
                                                    P##_manager_requests, 0,       NULL};      \
    static const struct wl_interface P##_device = {                                            \
        NAME "_device_v1", VERSION, 3, P##_device_requests, 4, P##_device_events};             \
    static const struct wl_interface P##_source = {NAME "_source_v1",   1, 2,                  \
                                                   P##_source_requests, 2, P##_source_events}; \
    static const struct wl_interface P##_offer = {NAME "_offer_v1",   1, 2,                    \
                                                  P##_offer_requests, 1, P##_offer_events}

TABLES(ext, "ext_data_control", 1, "");
TABLES(wlr, "zwlr_data_control", 2, "2");

const struct dc_protocol dc_protocols[2] = {
    {&ext_manager, &ext_device, &ext_source, 1},
    {&wlr_manager, &wlr_device, &wlr_source, 2},
};
