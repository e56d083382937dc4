/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Shutdown: asks the guest to power off, to start anew, or to hibernate. */
#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/vsp/integration-internal.h"

enum { TIMEOUT_S = 30, REASON_PLANNED = 0x80000000 | 0x00070000 };

static void on_answer(void *ctx, uint32_t status, const void *body, size_t len)
{
    struct integration *i = ctx;
    integration_done_fn *done = TAKE(i->shutdown_done);
    if (done)
        done(i->shutdown_ctx, status);
}

bool integration_shutdown(struct integration *i, enum shutdown_kind kind, bool force,
                          integration_done_fn *done, void *ctx, err *e)
{
    static const uint8_t flags[] = {IC_SHUTDOWN_POWER_OFF, IC_SHUTDOWN_REBOOT,
                                    IC_SHUTDOWN_HIBERNATE};
    struct ic_shutdown m = {.reason = REASON_PLANNED,
                            .timeout = TIMEOUT_S,
                            .flags = flags[kind] | (force ? IC_SHUTDOWN_FORCE : 0u)};
    if (!(i->p.services & INTEGRATION_SHUTDOWN) || i->shutdown.phase != IC_READY)
        return err_set(e, ERR_STATE, "The guest does not listen for a shutdown request");
    if (!ic_is_free(&i->shutdown))
        return err_set(e, ERR_BUSY, "The guest has not answered the last shutdown request yet");
    i->shutdown_done = done;
    i->shutdown_ctx = ctx;
    if (ic_request(&i->shutdown, &m, sizeof m, TIMEOUT_S))
        return true;
    i->shutdown_done = NULL;
    return err_set(e, ERR_BUSY, "The guest takes no shutdown request at the moment");
}

static bool init(struct integration *i, err *e)
{
    static const struct ic_version versions[] = {{1, 0}, {3, 0}, {3, 1}, {3, 2}};
    static const struct ic_ops ops = {.answer = on_answer};
    return ic_init(
        &i->shutdown,
        &(struct ic_params){.bus = i->p.bus,
                            .name = "shutdown",
                            .class_id = GUID(0x0e0b6031, 0x5213, 0x4934, 0x818b, 0x38d90ced39db),
                            .instance = GUID(0xb6650ff7, 0x33bc, 0x4840, 0x8048, 0xe0676786f393),
                            .type = IC_SHUTDOWN,
                            .versions = versions,
                            .nversions = ARRAY_LEN(versions),
                            .max_packet = 4096,
                            .ops = &ops,
                            .ctx = i},
        e);
}

static void finish(struct integration *i)
{
    ic_finish(&i->shutdown);
}

static void start(struct integration *i)
{
    ic_start(&i->shutdown);
}

static void stop(struct integration *i)
{
    ic_stop(&i->shutdown);
}

static void restored(struct integration *i)
{
    ic_restored(&i->shutdown);
}

const struct integration_service integration_shutdown_service = {
    INTEGRATION_SHUTDOWN, init, finish, start, stop, restored};
