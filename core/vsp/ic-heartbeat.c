/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Heartbeat: a number every two seconds, which a living guest gives back plus one. */
#include "core/base/bytes.h"
#include "core/vsp/integration-internal.h"

enum { PERIOD_S = 2, PATIENCE_S = 6 };
#define PERIOD_NS (PERIOD_S * UINT64_C(1000000000))

static void set_state(struct integration *i, enum heartbeat_state s)
{
    if (i->heartbeat_state == s)
        return;
    i->heartbeat_state = s;
    if (i->p.heartbeat_changed)
        i->p.heartbeat_changed(i->p.ctx, s);
}

static void beat(void *ctx)
{
    struct integration *i = ctx;
    struct ic_heartbeat m = {.sequence = ++i->heartbeat_sequence};
    ic_request(&i->heartbeat, &m, sizeof m, PATIENCE_S);
    if (i->heartbeat.phase == IC_READY)
        loop_timer_arm_in(&i->heartbeat_timer, PERIOD_NS);
}

static void on_ready(void *ctx, struct ic_version v)
{
    beat(ctx);
}

static void on_answer(void *ctx, uint32_t status, const void *body, size_t len)
{
    struct integration *i = ctx;
    struct ic_heartbeat m;
    if (!body || len < sizeof m.sequence)
        set_state(i, HEARTBEAT_LOST);
    else if (get_le64(body) == i->heartbeat_sequence + 1)
        set_state(i, HEARTBEAT_OK);
}

static void on_closed(void *ctx)
{
    struct integration *i = ctx;
    loop_timer_disarm(&i->heartbeat_timer);
    set_state(i, HEARTBEAT_NONE);
}

static bool init(struct integration *i, err *e)
{
    static const struct ic_version versions[] = {{1, 0}, {3, 0}};
    static const struct ic_ops ops = {.ready = on_ready, .answer = on_answer, .closed = on_closed};
    loop_timer_init(&i->heartbeat_timer, i->loop, beat, i);
    return ic_init(
        &i->heartbeat,
        &(struct ic_params){.bus = i->p.bus,
                            .name = "heartbeat",
                            .class_id = GUID(0x57164f39, 0x9115, 0x4e78, 0xab55, 0x382f3bd5422d),
                            .instance = GUID(0xfd149e91, 0x82e0, 0x4a7d, 0xafa6, 0x2a4166cbd7c0),
                            .type = IC_HEARTBEAT,
                            .versions = versions,
                            .nversions = ARRAY_LEN(versions),
                            .max_packet = 4096,
                            .ops = &ops,
                            .ctx = i},
        e);
}

static void finish(struct integration *i)
{
    ic_finish(&i->heartbeat);
    loop_timer_disarm(&i->heartbeat_timer);
}

static void start(struct integration *i)
{
    ic_start(&i->heartbeat);
    if (i->heartbeat.phase == IC_READY)
        loop_timer_arm_in(&i->heartbeat_timer, PERIOD_NS);
}

static void stop(struct integration *i)
{
    ic_stop(&i->heartbeat);
    loop_timer_disarm(&i->heartbeat_timer);
}

static void restored(struct integration *i)
{
    ic_restored(&i->heartbeat);
}

const struct integration_service integration_heartbeat_service = {
    INTEGRATION_HEARTBEAT, init, finish, start, stop, restored};

enum heartbeat_state integration_heartbeat(const struct integration *i)
{
    return i->heartbeat_state;
}
