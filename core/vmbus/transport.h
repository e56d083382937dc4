/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The bus of a virtual machine: SynIC messages, event flags and event descriptors of a partition.
 * In the other direction the machine passes hv_partition_ops.post_message and signal_event on to
 * vmbus_post_message and vmbus_signal_event. */
#ifndef VIREO_VMBUS_TRANSPORT_H
#define VIREO_VMBUS_TRANSPORT_H

#include "core/hv/partition.h"
#include "core/vmbus/vmbus.h"

/* Fills *out; it borrows the partition. */
void vmbus_transport_partition(struct hv_partition *p, struct vmbus_transport *out);

#endif
