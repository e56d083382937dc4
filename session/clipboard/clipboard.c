/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/clipboard/clipboard-int.h"

#include <string.h>

#include "core/base/log.h"
#include "session/agent-proto.h"

enum {
    GUEST_ANSWER_S = 20, /* without a byte */
    MAX_REQUESTS = 32,   /* of viewers, waiting for the guest */
    MAX_ASKING = 8,      /* of the guest, waiting for a viewer */
};

struct request {
    GDBusMethodInvocation *call;
    guint32 type;
};

/* ---- requests of viewers to the guest ---- */

static void end_request(struct request *r, const char *mime, const guint8 *data, gsize len)
{
    if (mime)
        g_dbus_method_invocation_return_value(
            r->call, g_variant_new("(s@ay)", mime,
                                   g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, data, len, 1)));
    else
        vireo_clipboard_refuse(r->call, "NotFound",
                               "The guest did not give what was copied there.");
    g_free(r);
}

static void end_requests(struct selection *s)
{
    struct request *r;
    g_clear_handle_id(&s->timeout_id, g_source_remove);
    while ((r = g_queue_pop_head(&s->requests)))
        end_request(r, NULL, NULL, 0);
}

static gboolean on_silent(gpointer data)
{
    struct selection *s = data;
    s->timeout_id = 0;
    end_requests(s);
    return G_SOURCE_REMOVE;
}

static void watch_answer(struct selection *s)
{
    g_clear_handle_id(&s->timeout_id, g_source_remove);
    if (!g_queue_is_empty(&s->requests))
        s->timeout_id = g_timeout_add_seconds(GUEST_ANSWER_S, on_silent, s);
}

void vireo_clipboard_ask_guest(struct vireo_clipboard *c, guint selection, guint32 type,
                               GDBusMethodInvocation *call)
{
    struct selection *s = &c->selections[selection];
    if (g_queue_get_length(&s->requests) >= MAX_REQUESTS) {
        vireo_clipboard_refuse(call, "Busy", "The guest is being asked for its clipboard already.");
        return;
    }
    struct request *r = g_new0(struct request, 1);
    r->call = call;
    r->type = type;
    gboolean asked = FALSE;
    for (GList *l = s->requests.head; l; l = l->next)
        asked |= ((struct request *)l->data)->type == type;
    g_queue_push_tail(&s->requests, r);
    if (!asked)
        vireo_clipboard_tell_guest(c, VD_AGENT_CLIPBOARD_REQUEST, selection, &type, 1);
    if (!s->timeout_id)
        watch_answer(s);
}

/* Files are content of the guest's, and files. */
static gboolean may_come(const struct vireo_clipboard *c, guint32 type)
{
    return c->policy.from_guest && (c->policy.files || type != AGENT_CLIPBOARD_FILES);
}

/* Content came: everybody who waits for that type gets it. NONE: there is nothing. */
static void on_content(struct vireo_clipboard *c, const guint8 *data, gsize len)
{
    guint8 selection;
    guint32 type;
    gsize at;
    if (!vdagent_read_content(data, len, vireo_peer_selections(vireo_clipboard_active(c)),
                              &selection, &type, &at))
        return;
    struct selection *s = &c->selections[selection];
    const char *mime = may_come(c, type) ? vireo_mime_of(type) : NULL;
    for (GList *l = s->requests.head, *next; l; l = next) {
        struct request *r = l->data;
        next = l->next;
        if (r->type != type && type != VD_AGENT_CLIPBOARD_NONE)
            continue;
        g_queue_delete_link(&s->requests, l);
        end_request(r, mime, data + at, len - at);
    }
    watch_answer(s);
}

/* ---- owners ---- */

/* Nothing that viewers were asked for is given to the guest any more. */
static void forget_asking(struct selection *s)
{
    g_cancellable_cancel(s->answers);
    g_clear_object(&s->answers);
    s->asking = 0;
}

void vireo_clipboard_disown(struct vireo_clipboard *c, guint selection)
{
    struct selection *s = &c->selections[selection];
    end_requests(s);
    forget_asking(s);
    g_clear_object(&s->viewer);
    g_clear_pointer(&s->mimes, g_strfreev);
    s->owner = OWNER_NONE;
}

static void own_by_guest(struct vireo_clipboard *c, guint selection, GStrv mimes)
{
    struct selection *s = &c->selections[selection];
    vireo_clipboard_disown(c, selection);
    s->owner = OWNER_GUEST;
    s->mimes = mimes;
    vireo_clipboard_tell_grab(c, selection, NULL);
}

void vireo_clipboard_release(struct vireo_clipboard *c, guint selection)
{
    struct selection *s = &c->selections[selection];
    GDBusConnection *from = s->viewer ? g_object_ref(s->viewer) : NULL;
    if (s->owner == OWNER_VIEWER)
        vireo_clipboard_tell_guest(c, VD_AGENT_CLIPBOARD_RELEASE, selection, NULL, 0);
    if (s->owner != OWNER_NONE)
        vireo_clipboard_tell_viewers(c, from, "Release", g_variant_new("(u)", selection));
    vireo_clipboard_disown(c, selection);
    g_clear_object(&from);
}

/* ---- what the guest says ---- */

static void on_grab(struct vireo_clipboard *c, const guint8 *data, gsize len)
{
    struct vdagent_grab g;
    gboolean serials =
        vireo_peer_can(vireo_clipboard_active(c), VD_AGENT_CAP_CLIPBOARD_GRAB_SERIAL);
    if (!vdagent_read_grab(data, len, vireo_peer_selections(vireo_clipboard_active(c)), serials,
                           &g))
        return;
    struct selection *s = &c->selections[g.selection];
    /* Both sides grabbed at once: what the person did last on the host counts. Serials go round. */
    if (serials && (gint32)(g.serial - s->serial) < 0)
        return;
    s->serial = serials ? g.serial + 1 : s->serial + 1;
    guint n = 0;
    for (guint i = 0; i < g.n; i++)
        if (may_come(c, g.types[i]))
            g.types[n++] = g.types[i];
    g_auto(GStrv) mimes = vireo_mimes_of(g.types, n);
    if (*mimes)
        own_by_guest(c, g.selection, g_steal_pointer(&mimes));
    else if (s->owner == OWNER_GUEST)
        vireo_clipboard_release(c, g.selection); /* that is no more what is pasted there */
}

static void on_release(struct vireo_clipboard *c, const guint8 *data, gsize len)
{
    guint selection = vireo_peer_selections(vireo_clipboard_active(c)) && len ? data[0] : 0;
    if (selection < SELECTIONS && c->selections[selection].owner == OWNER_GUEST)
        vireo_clipboard_release(c, selection);
}

/* spice-vdagent finds who waits by the type of what comes: with VD_AGENT_CLIPBOARD_NONE they would
 * wait on. */
static void answer_nothing(struct vireo_clipboard *c, guint selection, guint32 type)
{
    vireo_clipboard_answer_guest(c, selection, type, NULL, 0);
}

struct answer {
    struct vireo_clipboard *c;
    GCancellable *cancellable;
    guint selection;
    guint32 type;
};

static void on_viewer_content(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autofree struct answer *a = data;
    g_autoptr(GCancellable) cancellable = a->cancellable;
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) reply =
        g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);
    if (g_cancellable_is_cancelled(cancellable))
        return; /* the clipboard may be gone */
    gsize len = 0;
    const void *bytes = NULL;
    const char *mime = "";
    g_autoptr(GVariant) content = NULL;
    if (reply) {
        g_variant_get(reply, "(&s@ay)", &mime, &content);
        bytes = g_variant_get_fixed_array(content, &len, 1);
    }
    a->c->selections[a->selection].asking--;
    if (len > VDAGENT_MAX_DATA)
        a->c->ops->message(a->c->ctx, "What was copied is too large to be pasted into the guest. "
                                      "Send it as a file.");
    if (!reply || len > VDAGENT_MAX_DATA || vireo_type_of(mime) != a->type)
        answer_nothing(a->c, a->selection, a->type);
    else
        vireo_clipboard_answer_guest(a->c, a->selection, a->type, bytes, len);
}

/* Somebody in the guest pastes. */
static void on_request(struct vireo_clipboard *c, const guint8 *data, gsize len)
{
    guint8 selection;
    guint32 type;
    gsize at;
    if (!vdagent_read_content(data, len, vireo_peer_selections(vireo_clipboard_active(c)),
                              &selection, &type, &at))
        return;
    struct selection *s = &c->selections[selection];
    const char *mime = vireo_mime_of(type);
    if (!mime || type == AGENT_CLIPBOARD_FILES || s->owner != OWNER_VIEWER ||
        s->asking >= MAX_ASKING || !c->policy.to_guest) {
        answer_nothing(c, selection, type);
        return;
    }
    struct answer *a = g_new0(struct answer, 1);
    if (!s->answers)
        s->answers = g_cancellable_new();
    s->asking++;
    *a = (struct answer){c, g_object_ref(s->answers), selection, type};
    const char *const mimes[] = {mime, NULL};
    g_dbus_connection_call(s->viewer, NULL, CLIPBOARD_PATH, CLIPBOARD_INTERFACE, "Request",
                           g_variant_new("(u^as)", (guint)selection, mimes),
                           G_VARIANT_TYPE("(say)"), G_DBUS_CALL_FLAGS_NONE, VIEWER_ANSWER_MS,
                           s->answers, on_viewer_content, a);
}

/* The agent hears who owns what. */
static void tell_all_grabs(struct vireo_clipboard *c)
{
    gint32 max = GINT32_TO_LE(VDAGENT_MAX_DATA);
    if (vireo_peer_can(vireo_clipboard_active(c), VD_AGENT_CAP_MAX_CLIPBOARD))
        vireo_peer_send(vireo_clipboard_active(c), VD_AGENT_MAX_CLIPBOARD, &max, sizeof max, NULL,
                        0);
    for (guint i = 0; i < SELECTIONS; i++)
        if (c->selections[i].owner == OWNER_VIEWER && c->policy.to_guest)
            vireo_clipboard_grab_guest(c, i);
}

/* Another agent has the clipboard now: what the guest owned is told anew. */
static void begin_clipboard(struct vireo_clipboard *c)
{
    for (guint i = 0; i < SELECTIONS; i++) {
        c->selections[i].serial = 0;
        forget_asking(&c->selections[i]);
        if (c->selections[i].owner == OWNER_GUEST)
            vireo_clipboard_release(c, i);
    }
}

/* Ours is there: SPICE's shares no clipboard any more. */
static void take_from_spice(struct vireo_clipboard *c)
{
    struct peer *own = &c->peers[VIREO_AGENT_OWN], *spice = &c->peers[VIREO_AGENT_SPICE];
    own->announced = FALSE; /* for a moment the active one is still the other */
    for (guint i = 0; i < SELECTIONS; i++)
        if (c->selections[i].owner == OWNER_VIEWER)
            vireo_clipboard_tell_guest(c, VD_AGENT_CLIPBOARD_RELEASE, i, NULL, 0);
    own->announced = TRUE;
    vireo_peer_send_caps(spice, FALSE, FALSE);
    begin_clipboard(c);
}

/* An agent of a session is there, perhaps a new one. */
static void on_caps(struct peer *p, const guint8 *data, gsize len)
{
    struct vireo_clipboard *c = p->c;
    gboolean own = p == &c->peers[VIREO_AGENT_OWN], first = !p->announced;
    bool request;
    guint32 caps;
    if (!vdagent_read_caps(data, len, &request, &caps))
        return;
    p->caps = caps;
    p->announced = TRUE;
    if (own && first)
        take_from_spice(c);
    if (request)
        vireo_peer_send_caps(p, FALSE, p == vireo_clipboard_active(c));
    if (p == vireo_clipboard_active(c))
        tell_all_grabs(c);
    vireo_clipboard_send_size(c);
    c->ops->changed(c->ctx);
}

static void on_clipboard(struct vireo_clipboard *c, guint32 type, const guint8 *data, gsize len)
{
    switch (type) {
    case VD_AGENT_CLIPBOARD_GRAB: on_grab(c, data, len); break;
    case VD_AGENT_CLIPBOARD_RELEASE: on_release(c, data, len); break;
    case VD_AGENT_CLIPBOARD_REQUEST: on_request(c, data, len); break;
    case VD_AGENT_CLIPBOARD: on_content(c, data, len); break;
    default: break;
    }
}

static void on_message(void *ctx, uint32_t type, const uint8_t *data, size_t len)
{
    struct peer *p = ctx;
    struct vireo_clipboard *c = p->c;
    guint32 id, result;
    guint64 space;
    if (type == VD_AGENT_ANNOUNCE_CAPABILITIES)
        on_caps(p, data, len);
    else if (type == VD_AGENT_FILE_XFER_STATUS &&
             vdagent_read_status(data, len, &id, &result, &space))
        vireo_transfers_status(c->files, p, id, result, space);
    else if (p == vireo_clipboard_active(c))
        on_clipboard(c, type, data, len);
}

static void on_progress(void *ctx, size_t have, size_t total)
{
    struct vireo_clipboard *c = ((struct peer *)ctx)->c;
    /* It moves: patience with whom waits for it. Which selection it is, is not looked at. */
    for (guint i = 0; i < SELECTIONS; i++)
        if (c->selections[i].timeout_id)
            watch_answer(&c->selections[i]);
}

static void on_too_long(void *ctx, uint32_t type, const uint8_t *data, size_t have, uint32_t len)
{
    struct peer *p = ctx;
    struct vireo_clipboard *c = p->c;
    guint8 selection;
    guint32 what;
    gsize at;
    if (type != VD_AGENT_CLIPBOARD || p != vireo_clipboard_active(c) ||
        !vdagent_read_content(data, have, vireo_peer_selections(p), &selection, &what, &at))
        return;
    end_requests(&c->selections[selection]);
    c->ops->message(c->ctx, "What was copied in the guest is too large to be pasted.");
}

static const struct vdagent_wire_ops wire_ops = {on_message, on_progress, on_too_long};

/* ---- the stream ---- */

static gboolean on_data(gpointer ctx, const guint8 *bytes, gsize len)
{
    struct peer *p = ctx;
    if (vdagent_wire_feed(p->wire, bytes, len))
        return TRUE;
    LOG_GUEST("clipboard", "the guest's agent broke its protocol; it is disconnected");
    return FALSE;
}

static void on_drained(gpointer ctx)
{
    struct peer *p = ctx;
    vireo_transfers_pump(p->c->files);
}

static void on_closed(gpointer ctx)
{
    struct peer *p = ctx;
    struct vireo_clipboard *c = p->c;
    enum vireo_agent agent = p == &c->peers[VIREO_AGENT_OWN] ? VIREO_AGENT_OWN : VIREO_AGENT_SPICE;
    vireo_clipboard_detach(c, agent);
    c->ops->closed(c->ctx, agent);
}

static const struct vireo_stream_ops stream_ops = {on_data, on_drained, on_closed};

void vireo_clipboard_attach(struct vireo_clipboard *c, enum vireo_agent agent, int fd)
{
    struct peer *p = &c->peers[agent];
    vireo_clipboard_detach(c, agent);
    p->c = c;
    p->wire = vdagent_wire_new(&wire_ops, p);
    p->stream = vireo_stream_new(fd, &stream_ops, p);
    if (p == vireo_clipboard_active(c))
        begin_clipboard(c);
    /* also what makes vdagentd begin anew */
    vireo_peer_send_caps(p, TRUE, agent == VIREO_AGENT_OWN || p == vireo_clipboard_active(c));
}

void vireo_clipboard_detach(struct vireo_clipboard *c, enum vireo_agent agent)
{
    struct peer *p = &c->peers[agent];
    if (!p->stream)
        return;
    gboolean had = p == vireo_clipboard_active(c);
    g_clear_pointer(&p->stream, vireo_stream_free);
    g_clear_pointer(&p->wire, vdagent_wire_free);
    p->announced = FALSE;
    p->caps = 0;
    if (had)
        begin_clipboard(c);
    if (had && agent == VIREO_AGENT_OWN)
        vireo_peer_send_caps(vireo_clipboard_active(c), TRUE, TRUE);
    vireo_transfers_gone(c->files, p);
    c->ops->changed(c->ctx);
}

gboolean vireo_clipboard_ready(struct vireo_clipboard *c, enum vireo_agent agent)
{
    return c->peers[agent].announced;
}

/* ---- for the session ---- */

GDBusInterfaceSkeleton *vireo_clipboard_skeleton(struct vireo_clipboard *c)
{
    return G_DBUS_INTERFACE_SKELETON(c->skeleton);
}

void vireo_clipboard_drop(struct vireo_clipboard *c, GDBusConnection *connection)
{
    for (guint i = 0; i < SELECTIONS; i++)
        if (c->selections[i].viewer == connection)
            vireo_clipboard_release(c, i);
    g_ptr_array_remove(c->viewers, connection);
}

void vireo_clipboard_set_policy(struct vireo_clipboard *c, struct vireo_clipboard_policy policy)
{
    c->policy = policy;
    for (guint i = 0; i < SELECTIONS; i++) {
        enum owner o = c->selections[i].owner;
        if ((o == OWNER_GUEST && !policy.from_guest) || (o == OWNER_VIEWER && !policy.to_guest))
            vireo_clipboard_release(c, i);
    }
    if (!policy.files)
        vireo_transfers_fail_all(c->files, "This machine's settings keep files from the guest.");
}

guint vireo_clipboard_send_file(struct vireo_clipboard *c, int fd, const char *name, GError **error)
{
    return vireo_transfers_send(c->files, fd, name, error);
}

void vireo_clipboard_cancel_file(struct vireo_clipboard *c, guint id)
{
    vireo_transfers_cancel(c->files, id);
}

/* ---- begin and end ---- */

struct vireo_clipboard *vireo_clipboard_new(const struct vireo_clipboard_ops *ops, gpointer ctx)
{
    struct vireo_clipboard *c = g_new0(struct vireo_clipboard, 1);
    c->ops = ops;
    c->ctx = ctx;
    c->viewers = g_ptr_array_new_with_free_func(g_object_unref);
    c->files = vireo_transfers_new(c);
    vireo_clipboard_serve(c);
    return c;
}

void vireo_clipboard_free(struct vireo_clipboard *c)
{
    g_ptr_array_set_size(c->viewers, 0);
    for (guint i = 0; i < VIREO_AGENTS; i++)
        vireo_clipboard_detach(c, i);
    for (guint i = 0; i < SELECTIONS; i++)
        vireo_clipboard_disown(c, i);
    g_clear_handle_id(&c->size_id, g_source_remove);
    vireo_transfers_free(c->files);
    g_signal_handlers_disconnect_by_data(c->skeleton, c);
    g_object_unref(c->skeleton);
    g_ptr_array_unref(c->viewers);
    g_free(c);
}
