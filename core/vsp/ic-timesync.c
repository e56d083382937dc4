/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Time synchronisation: the guest's clock is set once when it opens the service, after a restore
 * and after a pause; every five seconds it gets a sample that its time daemon may use.
 */
#include <time.h>

#include "core/base/bytes.h"
#include "core/vsp/integration-internal.h"

enum { PERIOD_S = 5, PATIENCE_S = 20 };
#define PERIOD_NS (PERIOD_S * UINT64_C(1000000000))
#define EPOCH_1601 UINT64_C(116444736000000000) /* 1601 to 1970 in 100 ns */

static uint64_t host_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return EPOCH_1601 + (uint64_t)t.tv_sec * 10000000 + (uint64_t)t.tv_nsec / 100;
}

static bool send_4(struct integration *i, uint8_t flags)
{
    struct ic_timesync_4 m = {.flags = flags, .stratum = 1};
    m.reference_time = i->p.reference_time ? i->p.reference_time(i->p.ctx) : 0;
    m.host_time = host_time();
    return ic_request(&i->timesync, &m, sizeof m, PATIENCE_S);
}

static bool send_1(struct integration *i, uint8_t flags)
{
    struct ic_timesync_1 m = {.host_time = host_time(), .flags = flags};
    return ic_request(&i->timesync, &m, sizeof m, PATIENCE_S);
}

static void tick(void *ctx)
{
    struct integration *i = ctx;
    uint8_t flags = i->timesync_step ? IC_TIME_SYNC : IC_TIME_SAMPLE;
    bool sent = i->timesync.message.major >= 4 ? send_4(i, flags) : send_1(i, flags);
    if (sent)
        i->timesync_step = false;
    if (i->timesync.phase == IC_READY)
        loop_timer_arm_in(&i->timesync_timer, PERIOD_NS);
}

static void on_ready(void *ctx, struct ic_version v)
{
    struct integration *i = ctx;
    i->timesync_step = true;
    tick(i);
}

static void on_answer(void *ctx, uint32_t status, const void *body, size_t len)
{
    struct integration *i = ctx;
    if (i->timesync_step && status != IC_STATUS_GONE)
        tick(i);
}

static void on_closed(void *ctx)
{
    struct integration *i = ctx;
    loop_timer_disarm(&i->timesync_timer);
}

void integration_sync_time(struct integration *i)
{
    if (!(i->p.services & INTEGRATION_TIMESYNC))
        return;
    i->timesync_step = true;
    if (ic_is_free(&i->timesync))
        tick(i);
}

static bool init(struct integration *i, err *e)
{
    static const struct ic_version versions[] = {{1, 0}, {3, 0}, {4, 0}};
    static const struct ic_ops ops = {.ready = on_ready, .answer = on_answer, .closed = on_closed};
    loop_timer_init(&i->timesync_timer, i->loop, tick, i);
    return ic_init(
        &i->timesync,
        &(struct ic_params){.bus = i->p.bus,
                            .name = "timesync",
                            .class_id = GUID(0x9527e630, 0xd0ae, 0x497b, 0xadce, 0xe80ab0175caf),
                            .instance = GUID(0x2dd1ce17, 0x079e, 0x403c, 0xb352, 0xa1921ee207ee),
                            .type = IC_TIMESYNC,
                            .versions = versions,
                            .nversions = ARRAY_LEN(versions),
                            .max_packet = 4096,
                            .ops = &ops,
                            .ctx = i},
        e);
}

static void finish(struct integration *i)
{
    ic_finish(&i->timesync);
    loop_timer_disarm(&i->timesync_timer);
}

static void start(struct integration *i)
{
    ic_start(&i->timesync);
    i->timesync_step = true; /* the host's clock went on while the machine stood */
    if (i->timesync.phase == IC_READY)
        tick(i);
}

static void stop(struct integration *i)
{
    ic_stop(&i->timesync);
    loop_timer_disarm(&i->timesync_timer);
}

static void restored(struct integration *i)
{
    ic_restored(&i->timesync);
}

const struct integration_service integration_timesync_service = {
    INTEGRATION_TIMESYNC, init, finish, start, stop, restored};
