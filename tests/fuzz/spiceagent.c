/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What SPICE clients write to the agent's channel. The input is that stream; a byte before it says
 * in which pieces it comes. */
#include "session/remote/spice-int.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void quiet(void *ctx, enum log_level level, const char *subsystem, const char *text)
{
}

static void nothing(void *ctx, GDBusConnection *connection)
{
}

static void gone(void *ctx)
{
}

static void clipboard(void *ctx, gboolean on)
{
}

static void grab(void *ctx, guint selection, const char *const *mimes)
{
    spice_agent_grab(*(struct spice_agent **)ctx, selection, mimes);
}

static void release(void *ctx, guint selection)
{
    spice_agent_release(*(struct spice_agent **)ctx, selection);
}

static void transfer(void *ctx, guint id, const char *state)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct remote_spice_ops ops = {.connected = nothing,
                                                .disconnected = gone,
                                                .clipboard = clipboard,
                                                .grab = grab,
                                                .release = release,
                                                .transfer = transfer};
    static SpiceServer *server;
    static SpiceCoreInterface core;
    if (!server) { /* one for all, on which nobody listens */
        log_set_sink(quiet, NULL);
        if (chdir(g_get_tmp_dir()) < 0) /* files without a name are made there */
            abort();
        spice_core_fill(&core);
        server = spice_server_new();
        spice_server_set_noauth(server);
        if (spice_server_init(server, &core) != 0)
            abort();
    }
    struct spice_agent *agent = NULL;
    struct remote_shared *shared = remote_shared_new(NULL, NULL, NULL);
    remote_shared_set_spice(shared, &ops, &agent);
    agent = spice_agent_new(server, shared);
    spice_agent_set_plugged(agent, TRUE);
    SpiceCharDeviceInstance *instance = (SpiceCharDeviceInstance *)agent;
    const SpiceCharDeviceInterface *i =
        SPICE_CONTAINEROF(instance->base.sif, SpiceCharDeviceInterface, base);
    size_t piece = size ? data[0] % 64 + 1u : 1;
    for (size_t at = 1; at < size; at += piece)
        i->write(instance, data + at, (int)MIN(piece, size - at));
    remote_shared_set_spice(shared, NULL, NULL);
    spice_agent_free(agent);
    remote_shared_free(shared);
    return 0;
}
