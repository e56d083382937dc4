/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/vsp/integration.h"

#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/vsp/integration-internal.h"

static const struct integration_service *const services[] = {
    &integration_heartbeat_service, &integration_shutdown_service, &integration_timesync_service,
    &integration_kvp_service,       &integration_vss_service,      &integration_fcopy_service,
};

static void finish(struct integration *i, size_t n)
{
    while (n--)
        if (i->p.services & services[n]->bit)
            services[n]->finish(i);
    free(i->facts);
    free(i->facts_new);
    free(i);
}

struct integration *integration_new(const struct integration_params *p, err *e)
{
    struct integration *i = calloc(1, sizeof *i);
    if (i) {
        i->facts = calloc(KVP_MAX_FACTS, sizeof *i->facts);
        i->facts_new = calloc(KVP_MAX_FACTS, sizeof *i->facts_new);
    }
    if (!i || !i->facts || !i->facts_new) {
        if (i)
            finish(i, 0);
        err_set(e, ERR_NO_MEMORY, "There is no memory for the integration services");
        return NULL;
    }
    i->p = *p;
    i->loop = vmbus_loop(p->bus);
    for (size_t n = 0; n < ARRAY_LEN(services); n++)
        if ((p->services & services[n]->bit) && !services[n]->init(i, e)) {
            finish(i, n + 1);
            return NULL;
        }
    return i;
}

bool integration_ready(const struct integration *i, unsigned service)
{
    const struct {
        unsigned bit;
        const struct ic *ic;
    } all[] = {{INTEGRATION_HEARTBEAT, &i->heartbeat},
               {INTEGRATION_SHUTDOWN, &i->shutdown},
               {INTEGRATION_TIMESYNC, &i->timesync},
               {INTEGRATION_KVP, &i->kvp},
               {INTEGRATION_VSS, &i->vss},
               {INTEGRATION_FCOPY, &i->fcopy}};
    for (size_t n = 0; n < ARRAY_LEN(all); n++)
        if (all[n].bit == service)
            return (i->p.services & service) && all[n].ic->phase == IC_READY;
    return false;
}

static void integration_start(void *self)
{
    struct integration *i = self;
    for (size_t n = 0; n < ARRAY_LEN(services); n++)
        if (i->p.services & services[n]->bit)
            services[n]->start(i);
}

static void integration_stop(void *self, void (*done)(void *ctx), void *ctx)
{
    struct integration *i = self;
    for (size_t n = 0; n < ARRAY_LEN(services); n++)
        if (i->p.services & services[n]->bit)
            services[n]->stop(i);
    done(ctx);
}

/* The bus has closed the channels, and with them every request. */
static void integration_reset(void *self)
{
}

/* Every service negotiates anew: nothing of theirs is kept. */
static void integration_save(void *self, struct state_writer *w)
{
}

static bool integration_restore(void *self, const struct state_reader *r, err *e)
{
    struct integration *i = self;
    for (size_t n = 0; n < ARRAY_LEN(services); n++)
        if (i->p.services & services[n]->bit)
            services[n]->restored(i);
    return true;
}

static void integration_destroy(void *self)
{
    finish(self, ARRAY_LEN(services));
}

static const struct device_ops ops = {
    .name = "integration services",
    .start = integration_start,
    .stop = integration_stop,
    .reset = integration_reset,
    .save = integration_save,
    .restore = integration_restore,
    .destroy = integration_destroy,
};

struct device integration_as_device(struct integration *i)
{
    return (struct device){.ops = &ops, .self = i};
}
