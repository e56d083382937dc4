/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hv_sock on the wire. Source: net/vmw_vsock/hyperv_transport.c of Linux 6.1. */
#ifndef VIREO_VSP_HVSOCK_PROTO_H
#define VIREO_VSP_HVSOCK_PROTO_H

#include <stdint.h>

#include "core/base/guid.h"

struct hvsock_header {
    uint32_t type;  /* 1: data */
    uint32_t bytes; /* 0: the sender's end */
};
enum { HVSOCK_DATA = 1, HVSOCK_MAX_SEND = 16384, HVSOCK_MAX_PACKET = 65536 };

/* In the offer's user data, after the pipe mode. */
enum { HVSOCK_USER_FROM_HOST = 4, HVSOCK_USER_VERSION = 6 };

/* Service <port>-facb-11e6-bd58-64006a7986d3 */
static const struct guid hvsock_template = GUID(0, 0xfacb, 0x11e6, 0xbd58, 0x64006a7986d3);

#endif
