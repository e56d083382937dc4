/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Private to the integration services: each service's part of the whole. */
#ifndef VIREO_VSP_INTEGRATION_INTERNAL_H
#define VIREO_VSP_INTEGRATION_INTERNAL_H

#include "core/vsp/ic.h"
#include "core/vsp/integration.h"

enum { KVP_MAX_JOBS = 64, KVP_MAX_FACTS = 64, KVP_KEY_TEXT = 257, KVP_VALUE_TEXT = 1024 };
enum { FCOPY_TIMEOUT_S = 35, KVP_TIMEOUT_S = 35, VSS_TIMEOUT_S = 35, VSS_FREEZE_TIMEOUT_S = 905 };

struct kvp_job {
    struct kvp_job *next;
    uint8_t op, pool;
    uint32_t index; /* ENUMERATE: the next */
    bool own;       /* reads the facts */
    kvp_item_fn *item;
    integration_done_fn *done;
    void *ctx;
    char key[KVP_KEY_TEXT];
    char *value; /* SET */
};
struct kvp_fact {
    char key[KVP_KEY_TEXT], value[KVP_VALUE_TEXT];
};

struct integration {
    struct integration_params p;
    struct loop *loop;

    struct ic heartbeat;
    struct loop_timer heartbeat_timer;
    enum heartbeat_state heartbeat_state;
    uint64_t heartbeat_sequence;

    struct ic shutdown;
    integration_done_fn *shutdown_done;
    void *shutdown_ctx;

    struct ic timesync;
    struct loop_timer timesync_timer;
    bool timesync_step; /* the next message sets the clock */

    struct ic kvp;
    struct loop_timer kvp_timer;
    struct kvp_job *jobs, **jobs_end; /* the first is in the guest's hands if `kvp_busy` */
    unsigned job_count;
    bool kvp_busy;
    struct kvp_fact *facts, *facts_new; /* KVP_MAX_FACTS each; what is being read */
    unsigned fact_count, fact_new_count;

    struct ic vss;
    struct loop_timer vss_timer; /* thaws a guest that nobody thaws */
    unsigned vss_limit_s;
    uint8_t vss_op;
    bool vss_usable, frozen;
    integration_done_fn *vss_done;
    void *vss_ctx;

    struct ic fcopy;
    struct integration_copy copy;
    bool copying, copy_cancelled;
    uint8_t copy_op;
    uint64_t copy_offset;
    uint32_t copy_status;
};

/* Each: init adds the device, finish takes it away; start and stop as devices do. */
struct integration_service {
    unsigned bit;
    bool (*init)(struct integration *i, err *e);
    void (*finish)(struct integration *i);
    void (*start)(struct integration *i);
    void (*stop)(struct integration *i);
    void (*restored)(struct integration *i);
};
extern const struct integration_service integration_heartbeat_service;
extern const struct integration_service integration_shutdown_service;
extern const struct integration_service integration_timesync_service;
extern const struct integration_service integration_kvp_service;
extern const struct integration_service integration_vss_service;
extern const struct integration_service integration_fcopy_service;

#endif
