/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/clipboard/clipboard-int.h"

#include <string.h>

#include "core/base/log.h"
#include "session/agent-proto.h"

#define CLIPBOARD_PATH "/org/qemu/Display1/Clipboard"
#define CLIPBOARD_INTERFACE "org.qemu.Display1.Clipboard"

enum {
    GUEST_ANSWER_S = 20, /* without a byte */
    VIEWER_ANSWER_MS = 60000,
    MAX_REQUESTS = 32, /* of viewers, waiting for the guest */
    MAX_ASKING = 8,    /* of the guest, waiting for a viewer */
    SIZE_MS = 150,     /* a window that is being resized settles */
};

struct request {
    GDBusMethodInvocation *call;
    guint32 type;
};

/* ---- to the guest ---- */

gboolean vireo_peer_can(const struct peer *p, guint cap)
{
    return p->stream && p->announced && (p->caps & 1u << cap);
}

static void put(void *ctx, const void *bytes, size_t len)
{
    vireo_stream_write(ctx, bytes, len);
}

void vireo_peer_send(struct peer *p, guint32 type, gconstpointer head, gsize nhead,
                     gconstpointer data, gsize len)
{
    if (p->stream)
        vdagent_wire_pack(type, head, nhead, data, len, put, p->stream);
}

/* Who has the guest's clipboard. */
static struct peer *active(struct vireo_clipboard *c)
{
    struct peer *own = &c->peers[VIREO_AGENT_OWN];
    return own->announced ? own : &c->peers[VIREO_AGENT_SPICE];
}

/* An agent that is told no clipboard's capability keeps its own to itself. A request makes it begin
 * anew. */
static void send_caps(struct peer *p, gboolean request, gboolean clipboard)
{
    guint32 caps = 1u << VD_AGENT_CAP_MONITORS_CONFIG | 1u << VD_AGENT_CAP_REPLY |
                   1u << VD_AGENT_CAP_SPARSE_MONITORS_CONFIG |
                   1u << VD_AGENT_CAP_FILE_XFER_DETAILED_ERRORS;
    if (clipboard)
        caps |= 1u << VD_AGENT_CAP_CLIPBOARD_BY_DEMAND | 1u << VD_AGENT_CAP_CLIPBOARD_SELECTION |
                1u << VD_AGENT_CAP_MAX_CLIPBOARD |
                1u << VD_AGENT_CAP_CLIPBOARD_NO_RELEASE_ON_REGRAB |
                1u << VD_AGENT_CAP_CLIPBOARD_GRAB_SERIAL;
    guint32 message[2] = {GUINT32_TO_LE(request ? 1u : 0u), GUINT32_TO_LE(caps)};
    vireo_peer_send(p, VD_AGENT_ANNOUNCE_CAPABILITIES, message, sizeof message, NULL, 0);
}

static gboolean selections(const struct peer *p)
{
    return vireo_peer_can(p, VD_AGENT_CAP_CLIPBOARD_SELECTION);
}

/* Selection, if the agent knows them, and then `n` words. */
static gsize put_head(const struct peer *p, guint8 *out, guint selection, const guint32 *words,
                      guint n)
{
    gsize len = 0;
    if (selections(p)) {
        memset(out, 0, 4);
        out[0] = (guint8)selection;
        len = 4;
    }
    for (guint i = 0; i < n; i++, len += 4) {
        guint32 v = GUINT32_TO_LE(words[i]);
        memcpy(out + len, &v, 4);
    }
    return len;
}

static void tell_guest(struct vireo_clipboard *c, guint32 type, guint selection,
                       const guint32 *words, guint n)
{
    guint8 message[4 + 4 * 40];
    struct peer *p = active(c);
    if (!vireo_peer_can(p, VD_AGENT_CAP_CLIPBOARD_BY_DEMAND) || (selection && !selections(p)))
        return;
    gsize len = put_head(p, message, selection, words, MIN(n, 40u));
    vireo_peer_send(p, type, message, len, NULL, 0);
}

/* The guest hears that a viewer owns the selection. */
static void grab_guest(struct vireo_clipboard *c, guint selection)
{
    struct selection *s = &c->selections[selection];
    guint32 words[32], n = 0;
    struct peer *p = active(c);
    gboolean serials = vireo_peer_can(p, VD_AGENT_CAP_CLIPBOARD_GRAB_SERIAL);
    if (serials)
        words[n++] = s->serial;
    guint first = n;
    for (guint i = 0; s->mimes[i] && n < G_N_ELEMENTS(words); i++) {
        guint32 type = vireo_type_of(s->mimes[i]);
        gboolean known = type == VD_AGENT_CLIPBOARD_NONE ||
                         (p == &c->peers[VIREO_AGENT_SPICE] && !vireo_type_is_spice(type));
        for (guint k = first; k < n; k++)
            known |= words[k] == type;
        if (!known)
            words[n++] = type;
    }
    if (n == first || !p->announced)
        return;
    s->serial++;
    tell_guest(c, VD_AGENT_CLIPBOARD_GRAB, selection, words, n);
}

static void answer_guest(struct vireo_clipboard *c, guint selection, guint32 type, const void *data,
                         gsize len)
{
    guint8 head[8];
    struct peer *p = active(c);
    if (!vireo_peer_can(p, VD_AGENT_CAP_CLIPBOARD_BY_DEMAND))
        return;
    gsize n = put_head(p, head, selection, &type, 1);
    vireo_peer_send(p, VD_AGENT_CLIPBOARD, head, n, data, len);
}

/* ---- to viewers ---- */

static void tell_viewers(struct vireo_clipboard *c, GDBusConnection *but, const char *method,
                         GVariant *args)
{
    g_autoptr(GVariant) keep = g_variant_ref_sink(args);
    for (guint i = 0; i < c->viewers->len; i++) {
        GDBusConnection *v = g_ptr_array_index(c->viewers, i);
        if (v != but && c->ops->is_viewer(c->ctx, v))
            g_dbus_connection_call(v, NULL, CLIPBOARD_PATH, CLIPBOARD_INTERFACE, method, keep, NULL,
                                   G_DBUS_CALL_FLAGS_NONE, VIEWER_ANSWER_MS, NULL, NULL, NULL);
    }
}

static void tell_grab(struct vireo_clipboard *c, guint selection, GDBusConnection *but)
{
    struct selection *s = &c->selections[selection];
    tell_viewers(c, but, "Grab",
                 g_variant_new("(uu^as)", selection, s->serial, (const char *const *)s->mimes));
}

static void refuse(GDBusMethodInvocation *call, const char *code, const char *text)
{
    g_autofree char *name = g_strconcat("org.vireo.Error.", code, NULL);
    g_dbus_method_invocation_return_dbus_error(call, name, text);
}

/* ---- requests of viewers to the guest ---- */

static void end_request(struct request *r, const char *mime, const guint8 *data, gsize len)
{
    if (mime)
        g_dbus_method_invocation_return_value(
            r->call, g_variant_new("(s@ay)", mime,
                                   g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, data, len, 1)));
    else
        refuse(r->call, "NotFound", "The guest did not give what was copied there.");
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

static void ask_guest(struct vireo_clipboard *c, guint selection, guint32 type,
                      GDBusMethodInvocation *call)
{
    struct selection *s = &c->selections[selection];
    if (g_queue_get_length(&s->requests) >= MAX_REQUESTS) {
        refuse(call, "Busy", "The guest is being asked for its clipboard already.");
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
        tell_guest(c, VD_AGENT_CLIPBOARD_REQUEST, selection, &type, 1);
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
    if (!vdagent_read_content(data, len, selections(active(c)), &selection, &type, &at))
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

static void disown(struct vireo_clipboard *c, guint selection)
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
    disown(c, selection);
    s->owner = OWNER_GUEST;
    s->mimes = mimes;
    tell_grab(c, selection, NULL);
}

static void release(struct vireo_clipboard *c, guint selection)
{
    struct selection *s = &c->selections[selection];
    GDBusConnection *from = s->viewer ? g_object_ref(s->viewer) : NULL;
    if (s->owner == OWNER_VIEWER)
        tell_guest(c, VD_AGENT_CLIPBOARD_RELEASE, selection, NULL, 0);
    if (s->owner != OWNER_NONE)
        tell_viewers(c, from, "Release", g_variant_new("(u)", selection));
    disown(c, selection);
    g_clear_object(&from);
}

/* ---- what the guest says ---- */

static void on_grab(struct vireo_clipboard *c, const guint8 *data, gsize len)
{
    struct vdagent_grab g;
    gboolean serials = vireo_peer_can(active(c), VD_AGENT_CAP_CLIPBOARD_GRAB_SERIAL);
    if (!vdagent_read_grab(data, len, selections(active(c)), serials, &g))
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
        release(c, g.selection); /* that is no more what is pasted there */
}

static void on_release(struct vireo_clipboard *c, const guint8 *data, gsize len)
{
    guint selection = selections(active(c)) && len ? data[0] : 0;
    if (selection < SELECTIONS && c->selections[selection].owner == OWNER_GUEST)
        release(c, selection);
}

/* spice-vdagent finds who waits by the type of what comes: with VD_AGENT_CLIPBOARD_NONE they would
 * wait on. */
static void answer_nothing(struct vireo_clipboard *c, guint selection, guint32 type)
{
    answer_guest(c, selection, type, NULL, 0);
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
        answer_guest(a->c, a->selection, a->type, bytes, len);
}

/* Somebody in the guest pastes. */
static void on_request(struct vireo_clipboard *c, const guint8 *data, gsize len)
{
    guint8 selection;
    guint32 type;
    gsize at;
    if (!vdagent_read_content(data, len, selections(active(c)), &selection, &type, &at))
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

static void send_size(struct vireo_clipboard *c);

/* The agent hears who owns what. */
static void tell_all_grabs(struct vireo_clipboard *c)
{
    gint32 max = GINT32_TO_LE(VDAGENT_MAX_DATA);
    if (vireo_peer_can(active(c), VD_AGENT_CAP_MAX_CLIPBOARD))
        vireo_peer_send(active(c), VD_AGENT_MAX_CLIPBOARD, &max, sizeof max, NULL, 0);
    for (guint i = 0; i < SELECTIONS; i++)
        if (c->selections[i].owner == OWNER_VIEWER && c->policy.to_guest)
            grab_guest(c, i);
}

/* Another agent has the clipboard now: what the guest owned is told anew. */
static void begin_clipboard(struct vireo_clipboard *c)
{
    for (guint i = 0; i < SELECTIONS; i++) {
        c->selections[i].serial = 0;
        forget_asking(&c->selections[i]);
        if (c->selections[i].owner == OWNER_GUEST)
            release(c, i);
    }
}

/* Ours is there: SPICE's shares no clipboard any more. */
static void take_from_spice(struct vireo_clipboard *c)
{
    struct peer *own = &c->peers[VIREO_AGENT_OWN], *spice = &c->peers[VIREO_AGENT_SPICE];
    own->announced = FALSE; /* for a moment the active one is still the other */
    for (guint i = 0; i < SELECTIONS; i++)
        if (c->selections[i].owner == OWNER_VIEWER)
            tell_guest(c, VD_AGENT_CLIPBOARD_RELEASE, i, NULL, 0);
    own->announced = TRUE;
    send_caps(spice, FALSE, FALSE);
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
        send_caps(p, FALSE, p == active(c));
    if (p == active(c))
        tell_all_grabs(c);
    send_size(c);
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
    else if (p == active(c))
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
    if (type != VD_AGENT_CLIPBOARD || p != active(c) ||
        !vdagent_read_content(data, have, selections(p), &selection, &what, &at))
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
    if (p == active(c))
        begin_clipboard(c);
    /* also what makes vdagentd begin anew */
    send_caps(p, TRUE, agent == VIREO_AGENT_OWN || p == active(c));
}

void vireo_clipboard_detach(struct vireo_clipboard *c, enum vireo_agent agent)
{
    struct peer *p = &c->peers[agent];
    if (!p->stream)
        return;
    gboolean had = p == active(c);
    g_clear_pointer(&p->stream, vireo_stream_free);
    g_clear_pointer(&p->wire, vdagent_wire_free);
    p->announced = FALSE;
    p->caps = 0;
    if (had)
        begin_clipboard(c);
    if (had && agent == VIREO_AGENT_OWN)
        send_caps(active(c), TRUE, TRUE);
    vireo_transfers_gone(c->files, p);
    c->ops->changed(c->ctx);
}

gboolean vireo_clipboard_ready(struct vireo_clipboard *c, enum vireo_agent agent)
{
    return c->peers[agent].announced;
}

/* ---- the screen ---- */

/* Who makes the guest's screen larger and smaller; NULL: nobody. */
static struct peer *sizes(struct vireo_clipboard *c)
{
    for (guint i = VIREO_AGENTS; i-- > 0;)
        if (vireo_peer_can(&c->peers[i], VD_AGENT_CAP_MONITORS_CONFIG))
            return &c->peers[i];
    return NULL;
}

gboolean vireo_clipboard_takes_size(struct vireo_clipboard *c)
{
    return sizes(c) != NULL;
}

/* Without the size in millimetres: vdagentd 0.22 takes a message of one length only. */
static void send_size(struct vireo_clipboard *c)
{
    struct {
        VDAgentMonitorsConfig head;
        VDAgentMonConfig monitor;
    } __attribute__((packed)) m = {0};
    struct peer *p = sizes(c);
    if (!c->width || !c->height || !p)
        return;
    m.head.num_of_monitors = GUINT32_TO_LE(1u);
    m.monitor.width = GUINT32_TO_LE(c->width);
    m.monitor.height = GUINT32_TO_LE(c->height);
    m.monitor.depth = GUINT32_TO_LE(32u);
    vireo_peer_send(p, VD_AGENT_MONITORS_CONFIG, &m, sizeof m, NULL, 0);
}

static gboolean on_size_time(gpointer data)
{
    struct vireo_clipboard *c = data;
    c->size_id = 0;
    send_size(c);
    return G_SOURCE_REMOVE;
}

void vireo_clipboard_set_size(struct vireo_clipboard *c, guint width, guint height)
{
    c->width = width;
    c->height = height;
    g_clear_handle_id(&c->size_id, g_source_remove);
    c->size_id = g_timeout_add(SIZE_MS, on_size_time, c);
}

/* ---- D-Bus ---- */

/* FALSE: answered with an error. */
static gboolean check(struct vireo_clipboard *c, GDBusMethodInvocation *call, guint selection)
{
    if (selection >= SELECTIONS) {
        refuse(call, "Invalid", "There is no such selection.");
        return FALSE;
    }
    if (!c->ops->is_viewer(c->ctx, g_dbus_method_invocation_get_connection(call))) {
        refuse(call, "State", "The enhanced session is not connected.");
        return FALSE;
    }
    return TRUE;
}

static gboolean handle_register(VireoDisplayClipboard *skeleton, GDBusMethodInvocation *call,
                                struct vireo_clipboard *c)
{
    GDBusConnection *v = g_dbus_method_invocation_get_connection(call);
    if (!check(c, call, 0))
        return TRUE;
    if (!g_ptr_array_find(c->viewers, v, NULL))
        g_ptr_array_add(c->viewers, g_object_ref(v));
    vireo_display_clipboard_complete_register(skeleton, call);
    for (guint i = 0; i < SELECTIONS; i++)
        if (c->selections[i].owner != OWNER_NONE && c->selections[i].viewer != v)
            g_dbus_connection_call(v, NULL, CLIPBOARD_PATH, CLIPBOARD_INTERFACE, "Grab",
                                   g_variant_new("(uu^as)", i, c->selections[i].serial,
                                                 (const char *const *)c->selections[i].mimes),
                                   NULL, G_DBUS_CALL_FLAGS_NONE, VIEWER_ANSWER_MS, NULL, NULL,
                                   NULL);
    return TRUE;
}

static gboolean handle_unregister(VireoDisplayClipboard *skeleton, GDBusMethodInvocation *call,
                                  struct vireo_clipboard *c)
{
    vireo_clipboard_drop(c, g_dbus_method_invocation_get_connection(call));
    vireo_display_clipboard_complete_unregister(skeleton, call);
    return TRUE;
}

/* That type is the guest's alone. */
static GStrv without_files(const char *const *mimes)
{
    g_autoptr(GStrvBuilder) b = g_strv_builder_new();
    for (guint i = 0; mimes[i]; i++)
        if (vireo_type_of(mimes[i]) != AGENT_CLIPBOARD_FILES)
            g_strv_builder_add(b, mimes[i]);
    return g_strv_builder_end(b);
}

static gboolean handle_grab(VireoDisplayClipboard *skeleton, GDBusMethodInvocation *call,
                            guint selection, guint serial, const char *const *mimes,
                            struct vireo_clipboard *c)
{
    GDBusConnection *v = g_dbus_method_invocation_get_connection(call);
    if (!check(c, call, selection))
        return TRUE;
    if (!c->policy.to_guest) {
        refuse(call, "Denied", "This machine's settings keep the clipboard from the guest.");
        return TRUE;
    }
    struct selection *s = &c->selections[selection];
    disown(c, selection);
    s->owner = OWNER_VIEWER;
    s->viewer = g_object_ref(v);
    s->mimes = without_files(mimes);
    vireo_display_clipboard_complete_grab(skeleton, call);
    grab_guest(c, selection);
    tell_grab(c, selection, v);
    return TRUE;
}

static gboolean handle_release(VireoDisplayClipboard *skeleton, GDBusMethodInvocation *call,
                               guint selection, struct vireo_clipboard *c)
{
    if (!check(c, call, selection))
        return TRUE;
    if (c->selections[selection].viewer == g_dbus_method_invocation_get_connection(call))
        release(c, selection);
    vireo_display_clipboard_complete_release(skeleton, call);
    return TRUE;
}

static void on_forwarded(GObject *source, GAsyncResult *result, gpointer data)
{
    GDBusMethodInvocation *call = data;
    g_autoptr(GError) error = NULL;
    GVariant *reply = g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);
    if (reply) {
        g_dbus_method_invocation_return_value(call, reply);
        g_variant_unref(reply);
    } else {
        refuse(call, "NotFound", "What was copied is not there any more.");
    }
}

static gboolean handle_request(VireoDisplayClipboard *skeleton, GDBusMethodInvocation *call,
                               guint selection, const char *const *mimes, struct vireo_clipboard *c)
{
    if (!check(c, call, selection))
        return TRUE;
    struct selection *s = &c->selections[selection];
    const char *mime = NULL;
    for (guint i = 0; mimes[i] && s->mimes && !mime; i++) {
        guint32 type = vireo_type_of(mimes[i]);
        for (guint k = 0; s->mimes[k] && !mime && type != VD_AGENT_CLIPBOARD_NONE; k++)
            if (vireo_type_of(s->mimes[k]) == type)
                mime = s->mimes[k];
    }
    if (!mime)
        refuse(call, "NotFound", "Nothing of that kind was copied.");
    else if (s->owner == OWNER_GUEST)
        ask_guest(c, selection, vireo_type_of(mime), call);
    else
        g_dbus_connection_call(
            s->viewer, NULL, CLIPBOARD_PATH, CLIPBOARD_INTERFACE, "Request",
            g_variant_new("(u^as)", selection, ((const char *const[]){mime, NULL})),
            G_VARIANT_TYPE("(say)"), G_DBUS_CALL_FLAGS_NONE, VIEWER_ANSWER_MS, NULL, on_forwarded,
            call);
    return TRUE;
}

GDBusInterfaceSkeleton *vireo_clipboard_skeleton(struct vireo_clipboard *c)
{
    return G_DBUS_INTERFACE_SKELETON(c->skeleton);
}

void vireo_clipboard_drop(struct vireo_clipboard *c, GDBusConnection *connection)
{
    for (guint i = 0; i < SELECTIONS; i++)
        if (c->selections[i].viewer == connection)
            release(c, i);
    g_ptr_array_remove(c->viewers, connection);
}

void vireo_clipboard_set_policy(struct vireo_clipboard *c, struct vireo_clipboard_policy policy)
{
    c->policy = policy;
    for (guint i = 0; i < SELECTIONS; i++) {
        enum owner o = c->selections[i].owner;
        if ((o == OWNER_GUEST && !policy.from_guest) || (o == OWNER_VIEWER && !policy.to_guest))
            release(c, i);
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
    static const char *const interfaces[] = {NULL};
    struct vireo_clipboard *c = g_new0(struct vireo_clipboard, 1);
    c->ops = ops;
    c->ctx = ctx;
    c->viewers = g_ptr_array_new_with_free_func(g_object_unref);
    c->files = vireo_transfers_new(c);
    c->skeleton = vireo_display_clipboard_skeleton_new();
    vireo_display_clipboard_set_interfaces(c->skeleton, interfaces);
    g_signal_connect(c->skeleton, "handle-register", G_CALLBACK(handle_register), c);
    g_signal_connect(c->skeleton, "handle-unregister", G_CALLBACK(handle_unregister), c);
    g_signal_connect(c->skeleton, "handle-grab", G_CALLBACK(handle_grab), c);
    g_signal_connect(c->skeleton, "handle-release", G_CALLBACK(handle_release), c);
    g_signal_connect(c->skeleton, "handle-request", G_CALLBACK(handle_request), c);
    return c;
}

void vireo_clipboard_free(struct vireo_clipboard *c)
{
    g_ptr_array_set_size(c->viewers, 0);
    for (guint i = 0; i < VIREO_AGENTS; i++)
        vireo_clipboard_detach(c, i);
    for (guint i = 0; i < SELECTIONS; i++)
        disown(c, i);
    g_clear_handle_id(&c->size_id, g_source_remove);
    vireo_transfers_free(c->files);
    g_signal_handlers_disconnect_by_data(c->skeleton, c);
    g_object_unref(c->skeleton);
    g_ptr_array_unref(c->viewers);
    g_free(c);
}
