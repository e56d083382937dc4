/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The agent that SPICE clients see. It is not the guest's own stream, which belongs to the session:
 * it is one more viewer of the session that speaks the agent's protocol to the clients, so that a
 * window and SPICE clients share one clipboard, whoever copied last owns it, and the same policy
 * holds for all.
 */
#include <spice/vd_agent.h>
#include <string.h>

#include "session/clipboard/mime.h"
#include "session/clipboard/vdagent-wire.h"
#include "session/remote/spice-int.h"

enum {
    SELECTIONS = 3,
    WISHES_MAX = 32,            /* of a selection */
    QUEUE_MAX_BYTES = 96 << 20, /* to clients; what does not fit is answered as not there */
    ANSWER_S = 30,              /* a client's, without content */
    SIZE_MAX_PIXELS = 16384,
};

/* What a client was asked for. */
struct wish {
    GDBusMethodInvocation *call;
    guint32 type;
};

struct spice_agent {
    SpiceCharDeviceInstance instance; /* first: spice-server hands it back */
    SpiceServer *server;
    struct remote_shared *shared;
    struct spice_files *files;
    gboolean plugged;

    /* from clients; port 1 and 2 interleave by chunks */
    guint8 chunk_head[sizeof(VDIChunkHeader)];
    gsize chunk_have, chunk_left;
    guint port;
    struct vdagent_wire *wire[2];
    gboolean broken, view_only;

    /* to clients */
    GByteArray *queue;
    gsize sent;

    guint32 caps; /* of the client that spoke last */
    gboolean owned[SELECTIONS];
    GQueue wishes[SELECTIONS]; /* of wish */
    guint timeout[SELECTIONS];
};

/* ---- to the clients ---- */

static void put(void *ctx, const void *bytes, size_t len)
{
    struct spice_agent *a = ctx;
    g_byte_array_append(a->queue, bytes, (guint)len);
}

static void send_message(struct spice_agent *a, guint32 type, gconstpointer head, gsize nhead,
                         gconstpointer data, gsize len)
{
    if (!a->plugged || a->queue->len - a->sent + nhead + len > QUEUE_MAX_BYTES)
        return;
    vdagent_wire_pack(type, head, nhead, data, len, put, a);
    spice_server_char_device_wakeup(&a->instance);
}

void spice_agent_send(struct spice_agent *a, guint32 type, gconstpointer data, gsize len)
{
    send_message(a, type, data, len, NULL, 0);
}

static int read_queue(SpiceCharDeviceInstance *sin, uint8_t *buf, int len)
{
    struct spice_agent *a = (struct spice_agent *)sin;
    gsize n = MIN(a->queue->len - a->sent, (gsize)MAX(len, 0));
    memcpy(buf, a->queue->data + a->sent, n);
    a->sent += n;
    if (a->sent == a->queue->len) {
        g_byte_array_unref(a->queue);
        a->queue = g_byte_array_new();
        a->sent = 0;
    }
    return (int)n;
}

static void send_caps(struct spice_agent *a, gboolean request)
{
    const guint32 message[2] = {GUINT32_TO_LE(request ? 1u : 0u),
                                GUINT32_TO_LE(1u << VD_AGENT_CAP_MONITORS_CONFIG |
                                              1u << VD_AGENT_CAP_REPLY |
                                              1u << VD_AGENT_CAP_CLIPBOARD_BY_DEMAND |
                                              1u << VD_AGENT_CAP_CLIPBOARD_SELECTION |
                                              1u << VD_AGENT_CAP_SPARSE_MONITORS_CONFIG |
                                              1u << VD_AGENT_CAP_CLIPBOARD_NO_RELEASE_ON_REGRAB |
                                              1u << VD_AGENT_CAP_FILE_XFER_DETAILED_ERRORS)};
    send_message(a, VD_AGENT_ANNOUNCE_CAPABILITIES, message, sizeof message, NULL, 0);
}

static gboolean selections(const struct spice_agent *a)
{
    return a->caps & 1u << VD_AGENT_CAP_CLIPBOARD_SELECTION;
}

/* Selection, if the client knows them, and then words; then data. */
static void tell(struct spice_agent *a, guint32 message, guint selection, const guint32 *words,
                 guint n, gconstpointer data, gsize len)
{
    guint32 out[1 + 32];
    guint at = 0;
    if (!(a->caps & 1u << VD_AGENT_CAP_CLIPBOARD_BY_DEMAND) || (selection && !selections(a)))
        return;
    if (selections(a))
        out[at++] = GUINT32_TO_LE(selection); /* a byte, and three that are 0 */
    for (guint i = 0; i < n && at < G_N_ELEMENTS(out); i++)
        out[at++] = GUINT32_TO_LE(words[i]);
    send_message(a, message, out, at * sizeof *out, data, len);
}

static void tell_content(void *ctx, guint selection, guint32 type, const char *mime,
                         const guint8 *data, gsize len)
{
    struct spice_agent *a = ctx;
    gboolean fits = mime && a->queue->len - a->sent + len + 64 <= QUEUE_MAX_BYTES;
    guint32 answer = fits ? type : (guint32)VD_AGENT_CLIPBOARD_NONE;
    tell(a, VD_AGENT_CLIPBOARD, selection, &answer, 1, fits ? data : NULL, fits ? len : 0);
}

/* ---- what clients were asked for ---- */

static void end_wish(struct wish *w, const char *mime, const guint8 *data, gsize len)
{
    if (mime)
        g_dbus_method_invocation_return_value(
            w->call, g_variant_new("(s@ay)", mime,
                                   g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, data, len, 1)));
    else
        g_dbus_method_invocation_return_dbus_error(w->call, "org.vireo.Error.NotFound",
                                                   "The SPICE client did not give what it copied.");
    g_free(w);
}

static void end_wishes(struct spice_agent *a, guint selection)
{
    struct wish *w;
    g_clear_handle_id(&a->timeout[selection], g_source_remove);
    while ((w = g_queue_pop_head(&a->wishes[selection])))
        end_wish(w, NULL, NULL, 0);
}

static gboolean on_silent(gpointer data)
{
    struct spice_agent *a = data;
    GSource *source = g_main_current_source();
    for (guint i = 0; i < SELECTIONS; i++)
        if (a->timeout[i] && a->timeout[i] == g_source_get_id(source)) {
            a->timeout[i] = 0;
            end_wishes(a, i);
            break;
        }
    return G_SOURCE_REMOVE;
}

static void on_content(struct spice_agent *a, const guint8 *data, gsize len)
{
    guint8 selection;
    guint32 type;
    gsize at;
    if (!vdagent_read_content(data, len, selections(a), &selection, &type, &at))
        return;
    const char *mime = vireo_mime_of(type);
    for (GList *l = a->wishes[selection].head, *next; l; l = next) {
        struct wish *w = l->data;
        next = l->next;
        if (w->type != type && type != VD_AGENT_CLIPBOARD_NONE)
            continue;
        g_queue_delete_link(&a->wishes[selection], l);
        end_wish(w, type == VD_AGENT_CLIPBOARD_NONE ? NULL : mime, data + at, len - at);
    }
    if (g_queue_is_empty(&a->wishes[selection]))
        g_clear_handle_id(&a->timeout[selection], g_source_remove);
}

/* ---- what clients say ---- */

static void disown(struct spice_agent *a, guint selection)
{
    end_wishes(a, selection);
    a->owned[selection] = FALSE;
}

static void on_grab(struct spice_agent *a, const guint8 *data, gsize len)
{
    struct vdagent_grab g;
    if (!vdagent_read_grab(data, len, selections(a), false /* ours has none */, &g))
        return;
    g_auto(GStrv) mimes = vireo_mimes_of(g.types, g.n);
    end_wishes(a, g.selection);
    a->owned[g.selection] = mimes[0] != NULL;
    if (mimes[0])
        remote_shared_grab(a->shared, g.selection, (const char *const *)mimes);
}

static void on_release(struct spice_agent *a, const guint8 *data, gsize len)
{
    guint selection = selections(a) && len ? data[0] : 0;
    if (selection >= SELECTIONS || !a->owned[selection])
        return;
    disown(a, selection);
    remote_shared_release(a->shared, selection);
}

static void on_request(struct spice_agent *a, const guint8 *data, gsize len)
{
    guint8 selection;
    guint32 type;
    gsize at;
    if (!vdagent_read_content(data, len, selections(a), &selection, &type, &at))
        return;
    const char *mime = vireo_mime_of(type);
    if (mime && !a->owned[selection])
        remote_shared_request(a->shared, selection, type, mime, tell_content, a);
    else
        tell_content(a, selection, type, NULL, NULL, 0);
}

static void on_monitors(struct spice_agent *a, const guint8 *data, gsize len)
{
    VDAgentMonitorsConfig head;
    VDAgentMonConfig m;
    const guint32 reply[2] = {GUINT32_TO_LE((guint32)VD_AGENT_MONITORS_CONFIG),
                              GUINT32_TO_LE((guint32)VD_AGENT_SUCCESS)};
    if (len < sizeof head + sizeof m)
        return;
    memcpy(&head, data, sizeof head);
    memcpy(&m, data + sizeof head, sizeof m);
    guint32 width = GUINT32_FROM_LE(m.width), height = GUINT32_FROM_LE(m.height);
    if (head.num_of_monitors && width && height && width <= SIZE_MAX_PIXELS &&
        height <= SIZE_MAX_PIXELS && !a->view_only)
        remote_shared_resize(a->shared, width, height);
    spice_agent_send(a, VD_AGENT_REPLY, reply, sizeof reply);
}

static void client_gone(struct spice_agent *a)
{
    for (guint i = 0; i < SELECTIONS; i++)
        if (a->owned[i]) {
            disown(a, i);
            remote_shared_release(a->shared, i);
        }
    spice_files_cancel_all(a->files);
}

static void on_caps(struct spice_agent *a, const guint8 *data, gsize len)
{
    bool request;
    guint32 caps;
    if (!vdagent_read_caps(data, len, &request, &caps))
        return;
    a->caps = caps;
    if (request)
        send_caps(a, FALSE);
    remote_shared_tell_spice(a->shared); /* what was copied before it came */
}

static void on_message(void *ctx, uint32_t type, const uint8_t *data, size_t len)
{
    struct spice_agent *a = ctx;
    switch (type) {
    case VD_AGENT_ANNOUNCE_CAPABILITIES: on_caps(a, data, len); break;
    case VD_AGENT_MONITORS_CONFIG: on_monitors(a, data, len); break;
    case VD_AGENT_CLIPBOARD_GRAB:
        if (!a->view_only)
            on_grab(a, data, len);
        break;
    case VD_AGENT_CLIPBOARD_RELEASE: on_release(a, data, len); break;
    case VD_AGENT_CLIPBOARD_REQUEST: on_request(a, data, len); break;
    case VD_AGENT_CLIPBOARD: on_content(a, data, len); break;
    case VD_AGENT_CLIENT_DISCONNECTED: client_gone(a); break;
    case VD_AGENT_FILE_XFER_START:
    case VD_AGENT_FILE_XFER_DATA:
    case VD_AGENT_FILE_XFER_STATUS:
        if (!a->view_only)
            spice_files_message(a->files, type, data, len);
        break;
    default: break;
    }
}

static void on_progress(void *ctx, size_t have, size_t total)
{
}

static void on_too_long(void *ctx, uint32_t type, const uint8_t *data, size_t have, uint32_t len)
{
    struct spice_agent *a = ctx;
    for (guint i = 0; i < SELECTIONS && type == VD_AGENT_CLIPBOARD; i++)
        end_wishes(a, i);
}

static const struct vdagent_wire_ops wire_ops = {on_message, on_progress, on_too_long};

/* FALSE: the clients broke the protocol. */
static gboolean take(struct spice_agent *a, const guint8 *bytes, gsize len)
{
    while (len) {
        gsize n;
        if (a->chunk_have < sizeof a->chunk_head) {
            VDIChunkHeader h;
            n = MIN(sizeof a->chunk_head - a->chunk_have, len);
            memcpy(a->chunk_head + a->chunk_have, bytes, n);
            a->chunk_have += n;
            bytes += n;
            len -= n;
            if (a->chunk_have < sizeof a->chunk_head)
                return TRUE;
            memcpy(&h, a->chunk_head, sizeof h);
            a->port = GUINT32_FROM_LE(h.port) == VDP_SERVER_PORT;
            a->chunk_left = GUINT32_FROM_LE(h.size);
            if (!vdagent_wire_feed(a->wire[a->port], a->chunk_head, sizeof a->chunk_head))
                return FALSE;
        } else {
            n = MIN(a->chunk_left, len);
            a->chunk_left -= n;
            if (!vdagent_wire_feed(a->wire[a->port], bytes, n))
                return FALSE;
            bytes += n;
            len -= n;
        }
        if (!a->chunk_left)
            a->chunk_have = 0;
    }
    return TRUE;
}

static int write_bytes(SpiceCharDeviceInstance *sin, const uint8_t *buf, int len)
{
    struct spice_agent *a = (struct spice_agent *)sin;
    if (!a->broken && len > 0 && !take(a, buf, (gsize)len))
        a->broken = TRUE; /* what they say is not heard any more, until the agent is plugged anew */
    return len;
}

static void set_state(SpiceCharDeviceInstance *sin, int connected)
{
}

static const SpiceCharDeviceInterface interface = {
    .base = {SPICE_INTERFACE_CHAR_DEVICE, "vireo agent", SPICE_INTERFACE_CHAR_DEVICE_MAJOR,
             SPICE_INTERFACE_CHAR_DEVICE_MINOR},
    .state = set_state,
    .write = write_bytes,
    .read = read_queue,
};

/* ---- the session ---- */

static void begin_wires(struct spice_agent *a)
{
    for (guint i = 0; i < 2; i++) {
        vdagent_wire_free(a->wire[i]);
        a->wire[i] = vdagent_wire_new(&wire_ops, a);
    }
    a->chunk_have = a->chunk_left = 0;
    a->broken = FALSE;
    a->caps = 0;
    g_byte_array_set_size(a->queue, 0);
    a->sent = 0;
}

static void unplug(struct spice_agent *a)
{
    if (!a->plugged)
        return;
    client_gone(a);
    a->plugged = FALSE;
    spice_server_remove_interface(&a->instance.base);
}

void spice_agent_set_plugged(struct spice_agent *a, gboolean on)
{
    if (on == a->plugged)
        return;
    if (!on) {
        unplug(a);
        return;
    }
    begin_wires(a);
    if (!a->wire[0] || !a->wire[1] || spice_server_add_interface(a->server, &a->instance.base) != 0)
        return;
    a->plugged = TRUE;
    send_caps(a, TRUE);
}

void spice_agent_set_view_only(struct spice_agent *a, gboolean on)
{
    a->view_only = on;
}

void spice_agent_grab(struct spice_agent *a, guint selection, const char *const *mimes)
{
    guint32 types[32], n = 0;
    if (selection >= SELECTIONS)
        return;
    disown(a, selection);
    for (guint i = 0; mimes[i] && n < G_N_ELEMENTS(types); i++) {
        guint32 type = vireo_type_of(mimes[i]);
        gboolean skip = type == VD_AGENT_CLIPBOARD_NONE || !vireo_type_is_spice(type);
        for (guint k = 0; k < n; k++)
            skip |= types[k] == type;
        if (!skip)
            types[n++] = type;
    }
    if (n)
        tell(a, VD_AGENT_CLIPBOARD_GRAB, selection, types, n, NULL, 0);
}

void spice_agent_release(struct spice_agent *a, guint selection)
{
    if (selection >= SELECTIONS)
        return;
    disown(a, selection);
    tell(a, VD_AGENT_CLIPBOARD_RELEASE, selection, NULL, 0, NULL, 0);
}

void spice_agent_request(struct spice_agent *a, GDBusMethodInvocation *call, guint selection,
                         const char *const *mimes)
{
    guint32 type = VD_AGENT_CLIPBOARD_NONE;
    for (guint i = 0; mimes[i] && type == VD_AGENT_CLIPBOARD_NONE; i++)
        type = vireo_type_of(mimes[i]);
    struct wish *w = g_new(struct wish, 1);
    *w = (struct wish){call, type};
    if (selection >= SELECTIONS || !a->owned[selection] || type == VD_AGENT_CLIPBOARD_NONE ||
        g_queue_get_length(&a->wishes[selection]) >= WISHES_MAX) {
        end_wish(w, NULL, NULL, 0);
        return;
    }
    g_queue_push_tail(&a->wishes[selection], w);
    if (!a->timeout[selection])
        a->timeout[selection] = g_timeout_add_seconds(ANSWER_S, on_silent, a);
    tell(a, VD_AGENT_CLIPBOARD_REQUEST, selection, &type, 1, NULL, 0);
}

struct spice_files *spice_agent_files(struct spice_agent *a)
{
    return a->files;
}

struct spice_agent *spice_agent_new(SpiceServer *server, struct remote_shared *shared)
{
    struct spice_agent *a = g_new0(struct spice_agent, 1);
    a->instance.base.sif = &interface.base;
    a->instance.subtype = "vdagent";
    a->server = server;
    a->shared = shared;
    a->queue = g_byte_array_new();
    a->files = spice_files_new(a, shared);
    spice_server_set_agent_mouse(server, FALSE); /* there is a tablet */
    return a;
}

void spice_agent_free(struct spice_agent *a)
{
    unplug(a);
    for (guint i = 0; i < SELECTIONS; i++)
        disown(a, i);
    spice_files_free(a->files);
    for (guint i = 0; i < 2; i++)
        vdagent_wire_free(a->wire[i]);
    g_byte_array_unref(a->queue);
    g_free(a);
}
