/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/vmbus/transport.h"

static bool post_message(void *ctx, unsigned vp, const void *payload, uint8_t len)
{
    return hv_synic_post(ctx, vp, VMBUS_SINT, VMBUS_MESSAGE_TYPE, payload, len);
}

static void signal_event(void *ctx, unsigned vp, uint16_t relid)
{
    hv_synic_signal(ctx, vp, VMBUS_SINT, relid); /* false: the guest has its event page off */
}

static void drop_messages(void *ctx)
{
    hv_synic_drop(ctx, VMBUS_SINT);
}

static bool bind_event(void *ctx, uint32_t connection, int fd, err *e)
{
    return hv_partition_bind_event(ctx, connection, fd, e);
}

static void unbind_event(void *ctx, uint32_t connection)
{
    hv_partition_unbind_event(ctx, connection);
}

void vmbus_transport_partition(struct hv_partition *p, struct vmbus_transport *out)
{
    *out = (struct vmbus_transport){.post_message = post_message,
                                    .signal = signal_event,
                                    .drop_messages = drop_messages,
                                    .bind_event = bind_event,
                                    .unbind_event = unbind_event,
                                    .ctx = p,
                                    .vp_count = hv_partition_vp_count(p)};
}
