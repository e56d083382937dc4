/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/session-int.h"

#include <gio/gunixfdlist.h>
#include <string.h>
#include <unistd.h>

#include "session/skeleton.h"

#define SESSION_PATH "/org/vireo/Session1"
#define CLIPBOARD_PATH "/org/qemu/Display1/Clipboard"
#define AUDIO_PATH "/org/qemu/Display1/Audio"

enum { UPDATE_MS = 20, LOOK_AGAIN_MS = 1000 };

G_DEFINE_FINAL_TYPE(VireoSession, vireo_session, G_TYPE_OBJECT)

static const char *const policy_names[VIREO_POLICIES] = {
    "clipboard-to-guest", "clipboard-from-guest", "files", "sound", "microphone", "usb"};

/* ---- what there is ---- */

static gboolean has_viewer(VireoSession *self)
{
    return g_hash_table_size(self->viewers) > 0;
}

static gboolean offers(VireoSession *self, guint32 service)
{
    return self->hello && (self->offered & 1u << service);
}

static const char *state_of(gboolean offered, gboolean allowed, gboolean on)
{
    return !offered ? "missing" : !allowed ? "denied" : on ? "on" : "ready";
}

static GVariant *services_now(VireoSession *self)
{
    const gboolean *p = self->policy;
    gboolean agent = offers(self, AGENT_VDAGENT), own = offers(self, AGENT_CLIPBOARD);
    gboolean on = has_viewer(self) && vireo_clipboard_ready(self->clipboard, VIREO_AGENT_SPICE);
    gboolean own_on = has_viewer(self) && vireo_clipboard_ready(self->clipboard, VIREO_AGENT_OWN);
    gboolean clipboard = p[VIREO_POLICY_CLIPBOARD_TO_GUEST] || p[VIREO_POLICY_CLIPBOARD_FROM_GUEST];
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a{ss}"));
    g_variant_builder_add(&b, "{ss}", "clipboard", state_of(agent || own, clipboard, on || own_on));
    g_variant_builder_add(&b, "{ss}", "files",
                          state_of(agent || vireo_clipboard_takes_files(self->clipboard),
                                   p[VIREO_POLICY_FILES], on || own_on));
    g_variant_builder_add(&b, "{ss}", "display",
                          state_of(agent || vireo_clipboard_takes_size(self->clipboard), TRUE,
                                   (on || own_on) && vireo_clipboard_takes_size(self->clipboard)));
    g_variant_builder_add(&b, "{ss}", "sound",
                          state_of(offers(self, AGENT_PLAYBACK), p[VIREO_POLICY_SOUND],
                                   self->services[AGENT_PLAYBACK].state == SERVICE_OPEN));
    g_variant_builder_add(&b, "{ss}", "microphone",
                          state_of(offers(self, AGENT_RECORD), p[VIREO_POLICY_MICROPHONE],
                                   self->services[AGENT_RECORD].state == SERVICE_OPEN));
    g_variant_builder_add(&b, "{ss}", "usb",
                          state_of(offers(self, AGENT_USB), p[VIREO_POLICY_USB], FALSE));
    return g_variant_builder_end(&b);
}

static GVariant *policy_now(VireoSession *self)
{
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a{sb}"));
    for (guint i = 0; i < VIREO_POLICIES; i++)
        g_variant_builder_add(&b, "{sb}", policy_names[i], self->policy[i]);
    return g_variant_builder_end(&b);
}

/* Why there is no enhanced session; NULL: there is one. */
static const char *why_not(VireoSession *self)
{
    if (!self->enabled)
        return "This machine's settings switch the enhanced session off.";
    if (!self->hello)
        return "No agent answers in the guest. Install vireo-agent in it; the console's menu "
               "inserts "
               "a disc with it.";
    if (!(self->offered & ~(1u << AGENT_CONTROL)))
        return "The guest's agent runs, but nobody is logged in to a desktop.";
    return NULL;
}

static void tell_state(VireoSession *self)
{
    const char *why = why_not(self);
    vireo_session1_set_state(self->skeleton, why                ? "unavailable"
                                             : has_viewer(self) ? "on"
                                                                : "available");
    vireo_session1_set_reason(self->skeleton, why ? why : "");
    if (!self->hello)
        vireo_session1_set_agent(self->skeleton, g_variant_new("a{sv}", NULL));
    vireo_session1_set_services(self->skeleton, services_now(self));
    vireo_session1_set_policy(self->skeleton, policy_now(self));
    vireo_session1_set_viewers(self->skeleton, g_hash_table_size(self->viewers));
    vireo_session1_set_recording(self->skeleton, vireo_audio_recording(self->audio));
}

/* ---- making it so ---- */

static void want(VireoSession *self, guint32 service, gboolean wanted)
{
    if (wanted && offers(self, service))
        vireo_agent_start(self, service);
    else
        vireo_agent_stop(self, service);
}

static void apply(VireoSession *self)
{
    gboolean anybody = self->enabled && has_viewer(self);
    struct vireo_clipboard_policy p = {self->policy[VIREO_POLICY_CLIPBOARD_TO_GUEST],
                                       self->policy[VIREO_POLICY_CLIPBOARD_FROM_GUEST],
                                       self->policy[VIREO_POLICY_FILES]};
    vireo_clipboard_set_policy(self->clipboard, p);
    /* Open also while nobody looks: the guest tells only once what it has copied, and a viewer that
     * comes later shall find it. What it is goes to viewers alone. */
    want(self, AGENT_VDAGENT, self->enabled);
    want(self, AGENT_CLIPBOARD, self->enabled);
    want(self, AGENT_PLAYBACK,
         anybody && self->policy[VIREO_POLICY_SOUND] && vireo_audio_wanted(self->audio, FALSE));
    want(self, AGENT_RECORD,
         anybody && self->policy[VIREO_POLICY_MICROPHONE] && vireo_audio_wanted(self->audio, TRUE));
}

static gboolean on_update(gpointer data)
{
    VireoSession *self = data;
    self->update_id = 0;
    if (self->closed)
        return G_SOURCE_REMOVE;
    vireo_agent_check_times(self);
    apply(self);
    tell_state(self);
    /* What failed is tried again, what was asked for long ago given up. */
    if (self->hello)
        self->update_id = g_timeout_add(LOOK_AGAIN_MS, on_update, self);
    return G_SOURCE_REMOVE;
}

void vireo_session_update(VireoSession *self)
{
    g_clear_handle_id(&self->update_id, g_source_remove);
    if (!self->closed)
        self->update_id = g_timeout_add(UPDATE_MS, on_update, self);
}

void vireo_session_set_enabled(VireoSession *self, gboolean enabled)
{
    self->enabled = enabled;
    if (!enabled) {
        vireo_agent_forget_incoming(self);
        vireo_agent_drop(self);
    }
    vireo_session_update(self);
}

void vireo_session_set_policy(VireoSession *self, VireoPolicy policy, gboolean allowed)
{
    self->policy[policy] = allowed;
    apply(self);
    vireo_session_update(self);
}

gboolean vireo_session_get_policy(VireoSession *self, VireoPolicy policy)
{
    return self->policy[policy];
}

gboolean vireo_session_is_viewer(VireoSession *self, GDBusConnection *connection)
{
    return g_hash_table_contains(self->viewers, connection);
}

void vireo_session_set_size(VireoSession *self, guint width, guint height, guint width_mm,
                            guint height_mm)
{
    if (width <= 16384 && height <= 16384)
        vireo_clipboard_set_size(self->clipboard, width, height);
}

/* ---- viewers ---- */

static void remove_viewer(VireoSession *self, GDBusConnection *c)
{
    if (!g_hash_table_remove(self->viewers, c))
        return;
    vireo_clipboard_drop(self->clipboard, c);
    vireo_audio_drop(self->audio, c);
    apply(self);
    vireo_session_update(self);
}

static void unexport(VireoSession *self, GDBusConnection *connection)
{
    GDBusInterfaceSkeleton *const all[] = {G_DBUS_INTERFACE_SKELETON(self->skeleton),
                                           vireo_clipboard_skeleton(self->clipboard),
                                           vireo_audio_skeleton(self->audio)};
    for (guint i = 0; i < G_N_ELEMENTS(all); i++)
        vireo_skeleton_unexport(all[i], connection);
}

static void on_connection_closed(GDBusConnection *c, gboolean remote, GError *error,
                                 VireoSession *self)
{
    g_signal_handlers_disconnect_by_data(c, self);
    remove_viewer(self, c);
    unexport(self, c);
    g_hash_table_remove(self->connections, c);
}

gboolean vireo_session_export(VireoSession *self, GDBusConnection *connection, GError **error)
{
    if (!g_dbus_interface_skeleton_export(G_DBUS_INTERFACE_SKELETON(self->skeleton), connection,
                                          SESSION_PATH, error) ||
        !g_dbus_interface_skeleton_export(vireo_clipboard_skeleton(self->clipboard), connection,
                                          CLIPBOARD_PATH, error) ||
        !g_dbus_interface_skeleton_export(vireo_audio_skeleton(self->audio), connection, AUDIO_PATH,
                                          error))
        return FALSE;
    g_hash_table_add(self->connections, g_object_ref(connection));
    g_signal_connect(connection, "closed", G_CALLBACK(on_connection_closed), self);
    return TRUE;
}

static gboolean refuse(GDBusMethodInvocation *call, const char *code, const char *text)
{
    g_autofree char *name = g_strconcat("org.vireo.Error.", code, NULL);
    g_dbus_method_invocation_return_dbus_error(call, name, text);
    return TRUE;
}

static gboolean handle_connect(VireoSession1 *skeleton, GDBusMethodInvocation *call,
                               VireoSession *self)
{
    GDBusConnection *c = g_dbus_method_invocation_get_connection(call);
    if (!self->enabled)
        return refuse(call, "Denied", why_not(self));
    if (!g_hash_table_contains(self->viewers, c))
        g_hash_table_add(self->viewers, g_object_ref(c));
    apply(self);
    tell_state(self);
    vireo_session_update(self);
    vireo_session1_complete_connect(skeleton, call);
    return TRUE;
}

static gboolean handle_disconnect(VireoSession1 *skeleton, GDBusMethodInvocation *call,
                                  VireoSession *self)
{
    remove_viewer(self, g_dbus_method_invocation_get_connection(call));
    vireo_session1_complete_disconnect(skeleton, call);
    return TRUE;
}

static gint policy_index(const char *name)
{
    for (gint i = 0; i < VIREO_POLICIES; i++)
        if (strcmp(policy_names[i], name) == 0)
            return i;
    return -1;
}

static gboolean handle_set_policy(VireoSession1 *skeleton, GDBusMethodInvocation *call,
                                  GVariant *policy, VireoSession *self)
{
    GVariantIter iter;
    const char *name;
    gboolean allowed;
    g_variant_iter_init(&iter, policy);
    while (g_variant_iter_next(&iter, "{&sb}", &name, NULL))
        if (policy_index(name) < 0)
            return refuse(call, "Invalid", "There is no such permission.");
    g_variant_iter_init(&iter, policy);
    while (g_variant_iter_next(&iter, "{&sb}", &name, &allowed))
        self->policy[policy_index(name)] = allowed;
    apply(self);
    tell_state(self);
    vireo_session_update(self);
    vireo_session1_complete_set_policy(skeleton, call);
    return TRUE;
}

static gboolean handle_set_size(VireoSession1 *skeleton, GDBusMethodInvocation *call, guint width,
                                guint height, guint width_mm, guint height_mm, VireoSession *self)
{
    if (!vireo_session_is_viewer(self, g_dbus_method_invocation_get_connection(call)))
        return refuse(call, "State", "The enhanced session is not connected.");
    vireo_session_set_size(self, width, height, width_mm, height_mm);
    vireo_session1_complete_set_size(skeleton, call);
    return TRUE;
}

static gboolean handle_send_file(VireoSession1 *skeleton, GDBusMethodInvocation *call,
                                 GUnixFDList *fds, GVariant *file, const char *name,
                                 VireoSession *self)
{
    g_autoptr(GError) error = NULL;
    if (!vireo_session_is_viewer(self, g_dbus_method_invocation_get_connection(call)))
        return refuse(call, "State", "The enhanced session is not connected.");
    int fd = fds ? g_unix_fd_list_get(fds, g_variant_get_handle(file), NULL) : -1;
    if (fd < 0)
        return refuse(call, "Invalid", "No open file came with the request.");
    guint id = vireo_clipboard_send_file(self->clipboard, fd, name, &error);
    if (!id)
        return refuse(call, "Denied", error->message);
    vireo_session1_complete_send_file(skeleton, call, NULL, id);
    return TRUE;
}

static gboolean handle_cancel_file(VireoSession1 *skeleton, GDBusMethodInvocation *call, guint id,
                                   VireoSession *self)
{
    vireo_clipboard_cancel_file(self->clipboard, id);
    vireo_session1_complete_cancel_file(skeleton, call);
    return TRUE;
}

/* ---- what the services say ---- */

static gboolean up_is_viewer(gpointer ctx, GDBusConnection *c)
{
    return vireo_session_is_viewer(ctx, c);
}

static void up_changed(gpointer ctx)
{
    vireo_session_update(ctx);
}

static void up_clipboard_closed(gpointer ctx, enum vireo_agent agent)
{
    VireoSession *self = ctx;
    self->services[agent == VIREO_AGENT_OWN ? AGENT_CLIPBOARD : AGENT_VDAGENT].state =
        SERVICE_CLOSED;
    vireo_session_update(self);
}

static void up_message(gpointer ctx, const char *text)
{
    vireo_session1_emit_message(VIREO_SESSION(ctx)->skeleton, text);
}

static void up_transfer(gpointer ctx, guint id, guint64 done, guint64 total, const char *state,
                        const char *text)
{
    vireo_session1_emit_transfer(VIREO_SESSION(ctx)->skeleton, id, done, total, state, text);
}

static void up_audio_closed(gpointer ctx, gboolean record)
{
    VireoSession *self = ctx;
    self->services[record ? AGENT_RECORD : AGENT_PLAYBACK].state = SERVICE_CLOSED;
    vireo_session_update(self);
}

static const struct vireo_clipboard_ops clipboard_ops = {up_is_viewer, up_clipboard_closed,
                                                         up_changed, up_message, up_transfer};
static const struct vireo_audio_ops audio_ops = {up_is_viewer, up_audio_closed, up_changed};

/* ---- the object ---- */

VireoSession *vireo_session_new(void)
{
    return g_object_new(VIREO_TYPE_SESSION, NULL);
}

void vireo_session_close(VireoSession *self)
{
    GHashTableIter iter;
    gpointer c;
    self->closed = TRUE;
    g_clear_handle_id(&self->update_id, g_source_remove);
    g_hash_table_iter_init(&iter, self->connections);
    while (g_hash_table_iter_next(&iter, &c, NULL))
        g_signal_handlers_disconnect_by_data(c, self);
    g_hash_table_remove_all(self->viewers);
    g_hash_table_remove_all(self->connections);
    vireo_agent_forget_incoming(self);
    vireo_agent_drop(self);
}

static void vireo_session_finalize(GObject *object)
{
    VireoSession *self = VIREO_SESSION(object);
    vireo_session_close(self);
    vireo_clipboard_free(self->clipboard);
    vireo_audio_free(self->audio);
    g_hash_table_unref(self->viewers);
    g_hash_table_unref(self->connections);
    g_signal_handlers_disconnect_by_data(self->skeleton, self);
    g_object_unref(self->skeleton);
    G_OBJECT_CLASS(vireo_session_parent_class)->finalize(object);
}

static void vireo_session_class_init(VireoSessionClass *klass)
{
    G_OBJECT_CLASS(klass)->finalize = vireo_session_finalize;
}

static void vireo_session_init(VireoSession *self)
{
    self->connections = g_hash_table_new_full(g_direct_hash, g_direct_equal, g_object_unref, NULL);
    self->viewers = g_hash_table_new_full(g_direct_hash, g_direct_equal, g_object_unref, NULL);
    self->clipboard = vireo_clipboard_new(&clipboard_ops, self);
    self->audio = vireo_audio_new(&audio_ops, self);
    self->skeleton = vireo_session1_skeleton_new();
    g_signal_connect(self->skeleton, "handle-connect", G_CALLBACK(handle_connect), self);
    g_signal_connect(self->skeleton, "handle-disconnect", G_CALLBACK(handle_disconnect), self);
    g_signal_connect(self->skeleton, "handle-set-policy", G_CALLBACK(handle_set_policy), self);
    g_signal_connect(self->skeleton, "handle-set-size", G_CALLBACK(handle_set_size), self);
    g_signal_connect(self->skeleton, "handle-send-file", G_CALLBACK(handle_send_file), self);
    g_signal_connect(self->skeleton, "handle-cancel-file", G_CALLBACK(handle_cancel_file), self);
    tell_state(self);
}
