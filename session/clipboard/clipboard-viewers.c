/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The clipboard's face for viewers: org.qemu.Display1.Clipboard. */
#include "session/agent-proto.h"
#include "session/clipboard/clipboard-int.h"

void vireo_clipboard_tell_viewers(struct vireo_clipboard *c, GDBusConnection *but,
                                  const char *method, GVariant *args)
{
    g_autoptr(GVariant) keep = g_variant_ref_sink(args);
    for (guint i = 0; i < c->viewers->len; i++) {
        GDBusConnection *v = g_ptr_array_index(c->viewers, i);
        if (v != but && c->ops->is_viewer(c->ctx, v))
            g_dbus_connection_call(v, NULL, CLIPBOARD_PATH, CLIPBOARD_INTERFACE, method, keep, NULL,
                                   G_DBUS_CALL_FLAGS_NONE, VIEWER_ANSWER_MS, NULL, NULL, NULL);
    }
}

void vireo_clipboard_tell_grab(struct vireo_clipboard *c, guint selection, GDBusConnection *but)
{
    struct selection *s = &c->selections[selection];
    vireo_clipboard_tell_viewers(
        c, but, "Grab",
        g_variant_new("(uu^as)", selection, s->serial, (const char *const *)s->mimes));
}

void vireo_clipboard_refuse(GDBusMethodInvocation *call, const char *code, const char *text)
{
    g_autofree char *name = g_strconcat("org.vireo.Error.", code, NULL);
    g_dbus_method_invocation_return_dbus_error(call, name, text);
}

/* ---- what they ask for ---- */

/* FALSE: answered with an error. */
static gboolean check(struct vireo_clipboard *c, GDBusMethodInvocation *call, guint selection)
{
    if (selection >= SELECTIONS) {
        vireo_clipboard_refuse(call, "Invalid", "There is no such selection.");
        return FALSE;
    }
    if (!c->ops->is_viewer(c->ctx, g_dbus_method_invocation_get_connection(call))) {
        vireo_clipboard_refuse(call, "State", "The enhanced session is not connected.");
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
        vireo_clipboard_refuse(call, "Denied",
                               "This machine's settings keep the clipboard from the guest.");
        return TRUE;
    }
    struct selection *s = &c->selections[selection];
    vireo_clipboard_disown(c, selection);
    s->owner = OWNER_VIEWER;
    s->viewer = g_object_ref(v);
    s->mimes = without_files(mimes);
    vireo_display_clipboard_complete_grab(skeleton, call);
    vireo_clipboard_grab_guest(c, selection);
    vireo_clipboard_tell_grab(c, selection, v);
    return TRUE;
}

static gboolean handle_release(VireoDisplayClipboard *skeleton, GDBusMethodInvocation *call,
                               guint selection, struct vireo_clipboard *c)
{
    if (!check(c, call, selection))
        return TRUE;
    if (c->selections[selection].viewer == g_dbus_method_invocation_get_connection(call))
        vireo_clipboard_release(c, selection);
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
        vireo_clipboard_refuse(call, "NotFound", "What was copied is not there any more.");
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
        vireo_clipboard_refuse(call, "NotFound", "Nothing of that kind was copied.");
    else if (s->owner == OWNER_GUEST)
        vireo_clipboard_ask_guest(c, selection, vireo_type_of(mime), call);
    else
        g_dbus_connection_call(
            s->viewer, NULL, CLIPBOARD_PATH, CLIPBOARD_INTERFACE, "Request",
            g_variant_new("(u^as)", selection, ((const char *const[]){mime, NULL})),
            G_VARIANT_TYPE("(say)"), G_DBUS_CALL_FLAGS_NONE, VIEWER_ANSWER_MS, NULL, on_forwarded,
            call);
    return TRUE;
}

void vireo_clipboard_serve(struct vireo_clipboard *c)
{
    static const char *const interfaces[] = {NULL};
    c->skeleton = vireo_display_clipboard_skeleton_new();
    vireo_display_clipboard_set_interfaces(c->skeleton, interfaces);
    g_signal_connect(c->skeleton, "handle-register", G_CALLBACK(handle_register), c);
    g_signal_connect(c->skeleton, "handle-unregister", G_CALLBACK(handle_unregister), c);
    g_signal_connect(c->skeleton, "handle-grab", G_CALLBACK(handle_grab), c);
    g_signal_connect(c->skeleton, "handle-release", G_CALLBACK(handle_release), c);
    g_signal_connect(c->skeleton, "handle-request", G_CALLBACK(handle_request), c);
}
