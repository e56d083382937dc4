/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What all integration services share: the VMBus device, version negotiation, and one request in
 * the guest's hands at a time, because that is what guests can take.
 *
 * After a restore a service negotiates anew; a request that the saved machine had in hand gets no
 * answer any more.
 * Thread: the bus's loop.
 */
#ifndef VIREO_VSP_IC_H
#define VIREO_VSP_IC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/device.h"
#include "core/vmbus/vmbus.h"
#include "core/vsp/ic-proto.h"

struct ic_ops {
    /* Versions are agreed on: requests may be made. Also after a reopening or a restore. */
    void (*ready)(void *ctx, struct ic_version message);
    /* The answer to the request. `status` is the guest's, or IC_STATUS_TIMEOUT or IC_STATUS_GONE
     * (then body is NULL). The next request may be made from within, unless the status is GONE. */
    void (*answer)(void *ctx, uint32_t status, const void *body, size_t len);
    /* The guest closed the service, after the answer (GONE) of a pending request. May be NULL. */
    void (*closed)(void *ctx);
};

struct ic_params {
    struct vmbus *bus;
    const char *name; /* "heartbeat" */
    struct guid class_id, instance;
    enum ic_type type;
    const struct ic_version *versions; /* the newest last, as guests pick by their own preference */
    unsigned nversions;
    uint32_t max_packet;
    const struct ic_ops *ops;
    void *ctx;
};

enum ic_phase { IC_CLOSED, IC_OPENED, IC_NEGOTIATING, IC_READY, IC_NO_MATCH };

struct ic {
    struct ic_params p;
    struct vmbus_provider_ops provider;
    struct vmbus_device *dev;
    struct vmbus_channel *ch;
    enum ic_phase phase;
    struct ic_version framework, message;
    bool pending; /* a request of the service's, not answered */
    uint64_t id;
    struct loop_timer timeout;
};

bool ic_init(struct ic *ic, const struct ic_params *p, err *e);
void ic_finish(struct ic *ic);
/* Whether a request can be made now. */
bool ic_is_free(const struct ic *ic);
/* Makes a request; false if one is pending, the guest is not ready, or there is no room. */
bool ic_request(struct ic *ic, const void *body, size_t len, unsigned timeout_s);
/* The device life of a service that has no state of its own. */
void ic_start(struct ic *ic);
void ic_stop(struct ic *ic);
void ic_restored(struct ic *ic);

#endif
