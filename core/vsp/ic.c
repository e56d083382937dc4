/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/vsp/ic.h"

#include <string.h>

#include "core/base/bytes.h"
#include "core/base/log.h"

#define SECONDS UINT64_C(1000000000)
static const struct ic_version frameworks[] = {{1, 0}, {3, 0}};

static bool send(struct ic *ic, uint16_t type, uint8_t flags, const void *body, size_t len)
{
    struct ic_header h = {.pipe_type = 1,
                          .pipe_bytes = (uint32_t)(sizeof h - 8 + len),
                          .framework = ic->framework,
                          .type = type,
                          .message = ic->message,
                          .body_bytes = (uint16_t)len,
                          .transaction = (uint8_t)++ic->id,
                          .flags = flags};
    struct iovec iov[2] = {{&h, sizeof h}, {(void *)(uintptr_t)body, len}};
    return vmbus_sendv(ic->ch, ic->id, false, iov, 2);
}

/* ---- negotiation ---- */

static void negotiate(struct ic *ic)
{
    uint8_t body[sizeof(struct ic_negotiate) + 16 * sizeof(struct ic_version)];
    unsigned n = MIN(ic->p.nversions, 16 - (unsigned)ARRAY_LEN(frameworks));
    struct ic_negotiate h = {.framework_count = ARRAY_LEN(frameworks),
                             .message_count = (uint16_t)n};
    memcpy(body, &h, sizeof h);
    memcpy(body + sizeof h, frameworks, sizeof frameworks);
    memcpy(body + sizeof h + sizeof frameworks, ic->p.versions, n * sizeof *ic->p.versions);
    ic->framework = ic->message = (struct ic_version){1, 0}; /* until there are better ones */
    if (send(ic, IC_NEGOTIATE, IC_FLAG_TRANSACTION | IC_FLAG_REQUEST, body,
             sizeof h + sizeof frameworks + n * sizeof *ic->p.versions))
        ic->phase = IC_NEGOTIATING;
}

static bool offered(const struct ic_version *list, unsigned n, struct ic_version v)
{
    for (unsigned i = 0; i < n; i++)
        if (list[i].major == v.major && list[i].minor == v.minor)
            return true;
    return false;
}

static void negotiated(struct ic *ic, const uint8_t *body, size_t len)
{
    struct ic_negotiate h;
    struct ic_version v[2];
    if (ic->phase != IC_NEGOTIATING || len < sizeof h)
        return;
    memcpy(&h, body, sizeof h);
    if (h.framework_count != 1 || h.message_count != 1 || len < sizeof h + sizeof v) {
        ic->phase = IC_NO_MATCH;
        log_line(LOG_INFO, ic->p.name, "the guest's version of the service is not known");
        return;
    }
    memcpy(v, body + sizeof h, sizeof v);
    if (!offered(frameworks, ARRAY_LEN(frameworks), v[0]) ||
        !offered(ic->p.versions, ic->p.nversions, v[1])) {
        LOG_GUEST(ic->p.name, "the guest took a version that was not offered");
        ic->phase = IC_NO_MATCH;
        return;
    }
    ic->framework = v[0];
    ic->message = v[1];
    ic->phase = IC_READY;
    if (ic->p.ops->ready)
        ic->p.ops->ready(ic->p.ctx, ic->message);
}

/* ---- requests ---- */

static void answer(struct ic *ic, uint32_t status, const void *body, size_t len)
{
    if (!ic->pending)
        return;
    ic->pending = false;
    loop_timer_disarm(&ic->timeout);
    ic->p.ops->answer(ic->p.ctx, status, body, len);
}

static void on_timeout(void *ctx)
{
    struct ic *ic = ctx;
    LOG_GUEST(ic->p.name, "the guest does not answer");
    answer(ic, IC_STATUS_TIMEOUT, NULL, 0);
}

bool ic_is_free(const struct ic *ic)
{
    return ic->phase == IC_READY && !ic->pending;
}

bool ic_request(struct ic *ic, const void *body, size_t len, unsigned timeout_s)
{
    if (!ic_is_free(ic) ||
        !send(ic, (uint16_t)ic->p.type, IC_FLAG_TRANSACTION | IC_FLAG_REQUEST, body, len))
        return false;
    ic->pending = true;
    loop_timer_arm_in(&ic->timeout, timeout_s * SECONDS);
    return true;
}

static void handle(struct ic *ic, const struct vmbus_packet *p)
{
    struct ic_header h;
    if (p->type != VMBUS_PACKET_INBAND || p->len < sizeof h) {
        LOG_GUEST(ic->p.name, "malformed message ignored");
        return;
    }
    memcpy(&h, p->payload, sizeof h);
    const uint8_t *body = p->payload + sizeof h;
    size_t len = MIN(p->len - sizeof h, (size_t)h.body_bytes);
    if (h.type == IC_NEGOTIATE)
        negotiated(ic, body, p->len - sizeof h);
    else if (h.type == ic->p.type && p->transaction_id == ic->id)
        answer(ic, h.status, body, len);
}

/* ---- the bus's callbacks ---- */

static bool on_opened(void *ctx, struct vmbus_channel *ch, const uint8_t *user)
{
    struct ic *ic = ctx;
    ic->ch = ch;
    ic->phase = IC_OPENED;
    vmbus_channel_signal_always(ch, true);
    return true;
}

static void on_closed(void *ctx, struct vmbus_channel *ch)
{
    struct ic *ic = ctx;
    ic->phase = IC_CLOSED;
    ic->ch = NULL;
    answer(ic, IC_STATUS_GONE, NULL, 0);
    if (ic->p.ops->closed)
        ic->p.ops->closed(ic->p.ctx);
}

static void on_readable(void *ctx, struct vmbus_channel *ch)
{
    struct ic *ic = ctx;
    struct vmbus_packet p;
    if (ic->phase == IC_OPENED)
        negotiate(ic);
    while (vmbus_channel_next(ch, &p))
        handle(ic, &p);
}

static void on_writable(void *ctx, struct vmbus_channel *ch)
{
    struct ic *ic = ctx;
    if (ic->phase == IC_OPENED)
        negotiate(ic);
    else if (ic_is_free(ic) && ic->p.ops->ready)
        ic->p.ops->ready(ic->p.ctx, ic->message);
}

bool ic_init(struct ic *ic, const struct ic_params *p, err *e)
{
    *ic = (struct ic){.p = *p,
                      .provider = {.name = p->name,
                                   .opened = on_opened,
                                   .closed = on_closed,
                                   .readable = on_readable,
                                   .writable = on_writable}};
    struct vmbus_device_params d = {.class_id = p->class_id,
                                    .instance = p->instance,
                                    .flags = VMBUS_OFFER_ENUMERATE | VMBUS_OFFER_NAMED_PIPE,
                                    .user = {VMBUS_PIPE_MESSAGE},
                                    .max_packet = p->max_packet,
                                    .ops = &ic->provider,
                                    .ctx = ic};
    loop_timer_init(&ic->timeout, vmbus_loop(p->bus), on_timeout, ic);
    ic->dev = vmbus_device_add(p->bus, &d, e);
    return ic->dev != NULL;
}

void ic_finish(struct ic *ic)
{
    if (ic->dev)
        vmbus_device_remove(ic->dev);
    loop_timer_disarm(&ic->timeout);
    ic->dev = NULL;
}

void ic_start(struct ic *ic)
{
    if (ic->phase == IC_OPENED && ic->ch)
        negotiate(ic);
    if (ic->pending)
        loop_timer_arm_in(&ic->timeout, 60 * SECONDS);
}

void ic_stop(struct ic *ic)
{
    loop_timer_disarm(&ic->timeout);
}

void ic_restored(struct ic *ic)
{
    ic->ch = vmbus_device_channel(ic->dev, 0);
    ic->phase = ic->ch ? IC_OPENED : IC_CLOSED;
}
