/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The integration services of a machine: heartbeat, shutdown, time synchronisation, key-value
 * exchange, volume shadow copy, file copy. Each is a VMBus device; a machine may leave some out.
 *
 * Callbacks come on the bus's loop. Requests whose function returns true end with exactly one call
 * of their callback; `status` is 0 or an IC_STATUS (core/vsp/ic-proto.h). Thread: the bus's loop.
 */
#ifndef VIREO_VSP_INTEGRATION_H
#define VIREO_VSP_INTEGRATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/device.h"
#include "core/vmbus/vmbus.h"

enum integration_services {
    INTEGRATION_HEARTBEAT = 1,
    INTEGRATION_SHUTDOWN = 2,
    INTEGRATION_TIMESYNC = 4,
    INTEGRATION_KVP = 8,
    INTEGRATION_VSS = 16,
    INTEGRATION_FCOPY = 32,
    INTEGRATION_ALL = 63,
};

enum heartbeat_state { HEARTBEAT_NONE, HEARTBEAT_OK, HEARTBEAT_LOST };

struct integration_params {
    struct vmbus *bus;
    unsigned services; /* enum integration_services */
    /* The partition's reference time, 100 ns. */
    uint64_t (*reference_time)(void *ctx);
    /* Heartbeat lost and found; facts read from the guest changed. May be NULL. */
    void (*heartbeat_changed)(void *ctx, enum heartbeat_state s);
    void (*facts_changed)(void *ctx);
    void *ctx;
};

struct integration;
struct integration *integration_new(const struct integration_params *p, err *e);
struct device integration_as_device(struct integration *i);
/* Sets the guest's clock by the host's: after a pause. (Done by itself at open and restore.) */
void integration_sync_time(struct integration *i);

/* Whether the guest has the service and agreed on its version. `service`: one of the bits. */
bool integration_ready(const struct integration *i, unsigned service);

/* ---- heartbeat ---- */
enum heartbeat_state integration_heartbeat(const struct integration *i);

/* ---- shutdown ---- */
enum shutdown_kind { SHUTDOWN_POWER_OFF, SHUTDOWN_REBOOT, SHUTDOWN_HIBERNATE };
typedef void integration_done_fn(void *ctx, uint32_t status);
/* The guest said that it will (or not); it goes down afterwards. ERR_STATE if no guest listens. */
bool integration_shutdown(struct integration *i, enum shutdown_kind kind, bool force,
                          integration_done_fn *done, void *ctx, err *e);

/* ---- key-value exchange ---- */
enum kvp_pool { KVP_EXTERNAL, KVP_GUEST, KVP_AUTO, KVP_AUTO_EXTERNAL };
typedef void kvp_item_fn(void *ctx, const char *key, const char *value);
/* What the guest says of itself (KVP_AUTO), read when its daemon appears and then every half
 * minute: OSName, OSVersion, FullyQualifiedDomainName, NetworkAddressIPv4, ... NULL if unknown. */
const char *integration_fact(const struct integration *i, const char *key);
void integration_each_fact(const struct integration *i, kvp_item_fn *fn, void *ctx);
/* Queued (at most 64). Texts are copied. Linux guests answer GET without the value's first four
 * characters (hv_kvp.c takes it from where ENUMERATE has it, behind an index): read by ENUMERATE.
 */
bool integration_kvp_get(struct integration *i, enum kvp_pool pool, const char *key,
                         kvp_item_fn *item, integration_done_fn *done, void *ctx, err *e);
bool integration_kvp_set(struct integration *i, enum kvp_pool pool, const char *key,
                         const char *value, integration_done_fn *done, void *ctx, err *e);
bool integration_kvp_delete(struct integration *i, enum kvp_pool pool, const char *key,
                            integration_done_fn *done, void *ctx, err *e);
bool integration_kvp_enumerate(struct integration *i, enum kvp_pool pool, kvp_item_fn *item,
                               integration_done_fn *done, void *ctx, err *e);

/* ---- volume shadow copy ---- */
/* Freezes the guest's file systems; it stays so until thaw, or for at most `limit_s` seconds. */
bool integration_freeze(struct integration *i, unsigned limit_s, integration_done_fn *done,
                        void *ctx, err *e);
bool integration_thaw(struct integration *i, integration_done_fn *done, void *ctx, err *e);
/* Whether the guest's daemon answered that it can. */
bool integration_can_freeze(const struct integration *i);

/* ---- file copy ---- */
struct integration_copy {
    int fd;             /* borrowed until done; read with pread from 0 */
    uint64_t size;      /* bytes to copy */
    const char *name;   /* in the guest */
    const char *folder; /* in the guest, absolute */
    bool overwrite, create_path;
    void (*progress)(void *ctx, uint64_t copied); /* may be NULL */
    integration_done_fn *done;
    void *ctx;
};
bool integration_copy_file(struct integration *i, const struct integration_copy *c, err *e);
/* Ends the copy; done is called with IC_STATUS_FAIL. */
void integration_copy_cancel(struct integration *i);

#endif
