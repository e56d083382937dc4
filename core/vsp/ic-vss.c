/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Volume shadow copy: the guest's file systems are frozen while disks are snapshot. */
#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/vsp/integration-internal.h"

#define ASK_AGAIN_NS (2 * UINT64_C(1000000000))

static void end(struct integration *i, uint32_t status)
{
    integration_done_fn *done = TAKE(i->vss_done);
    if (done)
        done(i->vss_ctx, status);
}

static bool ask(struct integration *i, uint8_t op, unsigned timeout_s)
{
    struct ic_vss m = {.op = op};
    if (!ic_request(&i->vss, &m, sizeof m, timeout_s))
        return false;
    i->vss_op = op;
    return true;
}

/* Nobody thawed the guest in time, or a freeze timed out: it must not stay frozen. Or its daemon
 * was not there yet when it was asked whether it can. */
static void on_timer(void *ctx)
{
    struct integration *i = ctx;
    if (!i->frozen) {
        if (!i->vss_usable && i->vss.phase == IC_READY && !ask(i, VSS_HOT_BACKUP, VSS_TIMEOUT_S))
            loop_timer_arm_in(&i->vss_timer, ASK_AGAIN_NS);
        return;
    }
    log_line(LOG_WARNING, "vss", "the guest's file systems were thawed after the time limit");
    if (!ask(i, VSS_THAW, VSS_TIMEOUT_S))
        loop_timer_arm_in(&i->vss_timer, UINT64_C(1000000000));
}

static void on_ready(void *ctx, struct ic_version v)
{
    struct integration *i = ctx;
    ask(i, VSS_HOT_BACKUP, VSS_TIMEOUT_S);
}

static void on_answer(void *ctx, uint32_t status, const void *body, size_t len)
{
    struct integration *i = ctx;
    if (i->vss_op == VSS_HOT_BACKUP) {
        i->vss_usable = status == IC_STATUS_OK;
        if (!i->vss_usable && status != IC_STATUS_GONE)
            loop_timer_arm_in(&i->vss_timer, ASK_AGAIN_NS);
        return;
    } else if (i->vss_op == VSS_FREEZE && status == IC_STATUS_TIMEOUT) {
        i->frozen = true; /* it may freeze yet */
        loop_timer_arm_in(&i->vss_timer, UINT64_C(1000000000));
    } else if (i->vss_op == VSS_FREEZE && status == IC_STATUS_OK) {
        i->frozen = true;
        loop_timer_arm_in(&i->vss_timer, i->vss_limit_s * UINT64_C(1000000000));
    } else if (i->vss_op == VSS_THAW) {
        i->frozen = false;
        loop_timer_disarm(&i->vss_timer);
    }
    end(i, status);
}

static void on_closed(void *ctx)
{
    struct integration *i = ctx;
    i->frozen = i->vss_usable = false;
    loop_timer_disarm(&i->vss_timer);
}

static bool usable(struct integration *i, err *e)
{
    if (!(i->p.services & INTEGRATION_VSS) || i->vss.phase != IC_READY)
        return err_set(e, ERR_STATE, "The guest's backup daemon is not there");
    if (!ic_is_free(&i->vss) || i->vss_done)
        return err_set(e, ERR_BUSY, "The guest is still busy with the last backup request");
    return true;
}

static bool request(struct integration *i, uint8_t op, unsigned timeout_s,
                    integration_done_fn *done, void *ctx, err *e)
{
    if (!usable(i, e))
        return false;
    i->vss_done = done;
    i->vss_ctx = ctx;
    if (ask(i, op, timeout_s))
        return true;
    i->vss_done = NULL;
    return err_set(e, ERR_BUSY, "The guest takes no backup request at the moment");
}

bool integration_freeze(struct integration *i, unsigned limit_s, integration_done_fn *done,
                        void *ctx, err *e)
{
    if (i->frozen)
        return err_set(e, ERR_STATE, "The guest's file systems are frozen already");
    i->vss_limit_s = MAX(limit_s, 1u);
    return request(i, VSS_FREEZE, VSS_FREEZE_TIMEOUT_S, done, ctx, e);
}

bool integration_thaw(struct integration *i, integration_done_fn *done, void *ctx, err *e)
{
    return request(i, VSS_THAW, VSS_TIMEOUT_S, done, ctx, e);
}

bool integration_can_freeze(const struct integration *i)
{
    return i->vss_usable && i->vss.phase == IC_READY;
}

static bool init(struct integration *i, err *e)
{
    static const struct ic_version versions[] = {{5, 0}};
    static const struct ic_ops ops = {.ready = on_ready, .answer = on_answer, .closed = on_closed};
    loop_timer_init(&i->vss_timer, i->loop, on_timer, i);
    return ic_init(
        &i->vss,
        &(struct ic_params){.bus = i->p.bus,
                            .name = "vss",
                            .class_id = GUID(0x35fa2e29, 0xea23, 0x4236, 0x96ae, 0x3a6ebacba440),
                            .instance = GUID(0x2450ee40, 0x33bf, 0x4fbd, 0x892e, 0x9fb06e9214cf),
                            .type = IC_VSS,
                            .versions = versions,
                            .nversions = ARRAY_LEN(versions),
                            .max_packet = 8192,
                            .ops = &ops,
                            .ctx = i},
        e);
}

static void finish(struct integration *i)
{
    ic_finish(&i->vss);
    loop_timer_disarm(&i->vss_timer);
    end(i, IC_STATUS_GONE);
}

static void start(struct integration *i)
{
    ic_start(&i->vss);
    if (i->frozen)
        loop_timer_arm_in(&i->vss_timer, i->vss_limit_s * UINT64_C(1000000000));
    else if (!i->vss_usable)
        loop_timer_arm_in(&i->vss_timer, ASK_AGAIN_NS);
}

static void stop(struct integration *i)
{
    ic_stop(&i->vss);
    loop_timer_disarm(&i->vss_timer);
}

static void restored(struct integration *i)
{
    ic_restored(&i->vss);
}

const struct integration_service integration_vss_service = {INTEGRATION_VSS, init, finish,
                                                            start,           stop, restored};
