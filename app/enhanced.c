/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/enhanced.h"

#include <fcntl.h>
#include <gio/gunixfdlist.h>
#include <glib/gi18n.h>
#include <unistd.h>

#include "app/clipboard.h"
#include "session/audio/sound.h"
#include "vireo-session1.h"

#define SESSION_PATH "/org/vireo/Session1"

struct _VireoEnhanced {
    GObject parent;
    VireoVm *vm;
    GdkDisplay *display;
    VireoMachine1 *machine; /* whose session it is; compared only */
    VireoSession1 *session;
    GCancellable *cancellable;
    gboolean wanted, connecting, on;
    VireoClipboard *clipboard;
    VireoSound *sound;
    GHashTable *files; /* id -> struct file that is being sent */
    guint size[4];
    guint policy; /* bits of what the settings allowed when last looked at; 0: not yet */
};

G_DEFINE_FINAL_TYPE(VireoEnhanced, vireo_enhanced, G_TYPE_OBJECT)

struct file {
    char *name;
    guint64 done, total;
};

static void file_free(gpointer data)
{
    struct file *f = data;
    g_free(f->name);
    g_free(f);
}

enum { CHANGED, MESSAGE, TRANSFER, N_SIGNALS };
static guint signals[N_SIGNALS];

static void changed(VireoEnhanced *self)
{
    g_signal_emit(self, signals[CHANGED], 0);
}

static void say(VireoEnhanced *self, const char *text)
{
    g_signal_emit(self, signals[MESSAGE], 0, text);
}

static GDBusConnection *bus(VireoEnhanced *self)
{
    return g_dbus_proxy_get_connection(G_DBUS_PROXY(self->session));
}

/* ---- on and off ---- */

static void stop(VireoEnhanced *self)
{
    if (self->clipboard)
        vireo_clipboard_unbind(self->clipboard);
    g_clear_object(&self->clipboard);
    if (self->sound) {
        g_signal_handlers_disconnect_by_data(self->sound, self);
        vireo_sound_close(self->sound);
    }
    g_clear_object(&self->sound);
    self->on = FALSE;
}

static void send_size(VireoEnhanced *self)
{
    if (self->on && self->size[0])
        vireo_session1_call_set_size(self->session, self->size[0], self->size[1], self->size[2],
                                     self->size[3], self->cancellable, NULL, NULL);
}

static void on_connected(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(VireoEnhanced) self = data;
    g_autoptr(GError) error = NULL;
    gboolean ok = vireo_session1_call_connect_finish(VIREO_SESSION1(source), result, &error);
    self->connecting = FALSE;
    if (!ok || self->session != VIREO_SESSION1(source) || !self->wanted)
        return;
    self->on = TRUE;
    self->clipboard = vireo_clipboard_bind(bus(self), self->display);
    self->sound = vireo_sound_new(bus(self), vireo_vm_get_name(self->vm), TRUE);
    g_signal_connect_swapped(self->sound, "changed", G_CALLBACK(changed), self);
    send_size(self);
    changed(self);
}

static void update(VireoEnhanced *self)
{
    gboolean available = vireo_enhanced_is_available(self);
    if (self->on && (!self->wanted || !self->session)) {
        stop(self);
        if (self->session)
            vireo_session1_call_disconnect(self->session, NULL, NULL, NULL);
    } else if (!self->on && !self->connecting && self->wanted && available) {
        self->connecting = TRUE;
        vireo_session1_call_connect(self->session, self->cancellable, on_connected,
                                    g_object_ref(self));
    }
    changed(self);
}

void vireo_enhanced_set_wanted(VireoEnhanced *self, gboolean wanted)
{
    if (self->wanted == wanted)
        return;
    self->wanted = wanted;
    update(self);
}

/* ---- the worker's side ---- */

static char *transfer_text(const char *name, const char *state, const char *text)
{
    if (g_str_equal(state, "done"))
        return g_strdup_printf(_("“%s” is in the machine"), name);
    if (g_str_equal(state, "cancelled"))
        return g_strdup_printf(_("“%s” was not sent"), name);
    return g_strdup_printf(_("“%s” was not sent. %s"), name, text);
}

static void on_transfer(VireoSession1 *session, guint id, guint64 done, guint64 total,
                        const char *state, const char *text, VireoEnhanced *self)
{
    struct file *f = g_hash_table_lookup(self->files, GUINT_TO_POINTER(id));
    if (!f)
        return;
    f->done = done;
    f->total = total;
    if (!g_str_equal(state, "going")) {
        g_autofree char *line = transfer_text(f->name, state, text);
        g_hash_table_remove(self->files, GUINT_TO_POINTER(id));
        say(self, line);
    }
    g_signal_emit(self, signals[TRANSFER], 0);
}

static void on_message(VireoSession1 *session, const char *text, VireoEnhanced *self)
{
    say(self, text);
}

/* What the person changes in the settings holds for the running machine at once. */
static void follow_settings(VireoEnhanced *self)
{
    static const char *const names[] = {
        "clipboard-to-guest", "clipboard-from-guest", "files", "sound", "microphone", "usb"};
    const struct vm_config *c = vireo_vm_get_config(self->vm);
    if (!c || !self->session)
        return;
    const bool now[] = {c->clipboard_to, c->clipboard_from, c->files,
                        c->sound,        c->microphone,     c->usb};
    guint bits = 1u << G_N_ELEMENTS(names);
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a{sb}"));
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        bits |= (guint)now[i] << i;
        if (self->policy && (bits ^ self->policy) & 1u << i)
            g_variant_builder_add(&b, "{sb}", names[i], (gboolean)now[i]);
    }
    GVariant *changes = g_variant_ref_sink(g_variant_builder_end(&b));
    if (g_variant_n_children(changes))
        vireo_session1_call_set_policy(self->session, changes, self->cancellable, NULL, NULL);
    g_variant_unref(changes);
    self->policy = bits;
}

static void on_proxy(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(VireoEnhanced) self = data;
    VireoSession1 *session = vireo_session1_proxy_new_finish(result, NULL);
    if (!session || self->session || g_cancellable_is_cancelled(self->cancellable) ||
        !self->machine) {
        g_clear_object(&session);
        return;
    }
    self->session = session;
    g_signal_connect_swapped(session, "g-properties-changed", G_CALLBACK(update), self);
    g_signal_connect(session, "transfer", G_CALLBACK(on_transfer), self);
    g_signal_connect(session, "message", G_CALLBACK(on_message), self);
    follow_settings(self);
    update(self);
}

static void drop_session(VireoEnhanced *self)
{
    stop(self);
    g_cancellable_cancel(self->cancellable);
    g_clear_object(&self->cancellable);
    self->cancellable = g_cancellable_new();
    self->connecting = FALSE;
    if (g_hash_table_size(self->files)) {
        g_hash_table_remove_all(self->files);
        g_signal_emit(self, signals[TRANSFER], 0);
    }
    self->policy = 0;
    if (self->session)
        g_signal_handlers_disconnect_by_data(self->session, self);
    g_clear_object(&self->session);
}

static void on_vm_changed(VireoEnhanced *self)
{
    VireoMachine1 *machine = vireo_vm_get_machine(self->vm);
    follow_settings(self);
    if (machine == self->machine)
        return;
    drop_session(self);
    self->machine = machine;
    if (machine)
        vireo_session1_proxy_new(g_dbus_proxy_get_connection(G_DBUS_PROXY(machine)),
                                 G_DBUS_PROXY_FLAGS_NONE, NULL, SESSION_PATH, self->cancellable,
                                 on_proxy, g_object_ref(self));
    changed(self);
}

/* ---- telling ---- */

gboolean vireo_enhanced_is_on(VireoEnhanced *self)
{
    return self->on && vireo_enhanced_is_available(self);
}

gboolean vireo_enhanced_is_available(VireoEnhanced *self)
{
    const char *state = self->session ? vireo_session1_get_state(self->session) : NULL;
    return state && !g_str_equal(state, "unavailable");
}

const char *vireo_enhanced_get_reason(VireoEnhanced *self)
{
    const char *reason = self->session ? vireo_session1_get_reason(self->session) : NULL;
    return reason ? reason : "";
}

const char *vireo_enhanced_get_service(VireoEnhanced *self, const char *name)
{
    const char *state = NULL;
    GVariant *services = self->session ? vireo_session1_get_services(self->session) : NULL;
    if (services)
        g_variant_lookup(services, name, "&s", &state);
    return state ? state : "missing";
}

gboolean vireo_enhanced_is_recording(VireoEnhanced *self)
{
    return self->sound && vireo_sound_is_recording(self->sound);
}

gboolean vireo_enhanced_is_playing(VireoEnhanced *self)
{
    return self->sound && vireo_sound_is_playing(self->sound);
}

void vireo_enhanced_set_size(VireoEnhanced *self, guint width, guint height, guint width_mm,
                             guint height_mm)
{
    const guint size[4] = {width, height, width_mm, height_mm};
    if (memcmp(size, self->size, sizeof size) == 0)
        return;
    memcpy(self->size, size, sizeof size);
    send_size(self);
}

/* ---- files ---- */

struct sending {
    VireoEnhanced *self;
    char *name;
};

static void on_sent(GObject *source, GAsyncResult *result, gpointer data)
{
    struct sending *s = data;
    g_autoptr(GError) error = NULL;
    guint id = 0;
    if (vireo_session1_call_send_file_finish(VIREO_SESSION1(source), &id, NULL, result, &error)) {
        struct file *f = g_new0(struct file, 1);
        f->name = g_strdup(s->name);
        g_hash_table_insert(s->self->files, GUINT_TO_POINTER(id), f);
        g_signal_emit(s->self, signals[TRANSFER], 0);
    } else {
        g_dbus_error_strip_remote_error(error);
        g_autofree char *line = transfer_text(s->name, "failed", error->message);
        say(s->self, line);
    }
    g_object_unref(s->self);
    g_free(s->name);
    g_free(s);
}

static void send_file(VireoEnhanced *self, GFile *file)
{
    g_autofree char *path = g_file_get_path(file), *name = g_file_get_basename(file);
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0 || g_unix_fd_list_append(fds, fd, NULL) < 0) {
        g_autofree char *line = transfer_text(name ? name : "?", "failed", _("It cannot be read."));
        say(self, line);
    } else {
        struct sending *s = g_new0(struct sending, 1);
        *s = (struct sending){g_object_ref(self), g_strdup(name)};
        vireo_session1_call_send_file(self->session, g_variant_new_handle(0), name, fds,
                                      self->cancellable, on_sent, s);
    }
    if (fd >= 0)
        close(fd);
}

void vireo_enhanced_send_files(VireoEnhanced *self, GSList *files)
{
    if (!self->on) {
        say(self, _("Files can be sent in the enhanced session only"));
        return;
    }
    for (; files; files = files->next)
        send_file(self, files->data);
}

char *vireo_enhanced_describe_transfer(VireoEnhanced *self, double *fraction)
{
    GHashTableIter iter;
    gpointer value;
    guint64 done = 0, total = 0;
    guint n = g_hash_table_size(self->files);
    const char *name = NULL;
    g_hash_table_iter_init(&iter, self->files);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct file *f = value;
        name = f->name;
        done += f->done;
        total += f->total;
    }
    *fraction = total ? (double)done / (double)total : 0;
    if (n == 1)
        return g_strdup_printf(_("Sending “%s”"), name);
    return n ? g_strdup_printf(_("Sending files: %u"), n) : NULL;
}

void vireo_enhanced_cancel_files(VireoEnhanced *self)
{
    GHashTableIter iter;
    gpointer id;
    g_hash_table_iter_init(&iter, self->files);
    while (self->session && g_hash_table_iter_next(&iter, &id, NULL))
        vireo_session1_call_cancel_file(self->session, GPOINTER_TO_UINT(id), self->cancellable,
                                        NULL, NULL);
}

/* ---- the object ---- */

VireoEnhanced *vireo_enhanced_new(VireoVm *vm, GdkDisplay *display)
{
    VireoEnhanced *self = g_object_new(VIREO_TYPE_ENHANCED, NULL);
    self->vm = g_object_ref(vm);
    self->display = display;
    g_signal_connect_swapped(vm, "changed", G_CALLBACK(on_vm_changed), self);
    on_vm_changed(self);
    return self;
}

void vireo_enhanced_close(VireoEnhanced *self)
{
    if (self->vm)
        g_signal_handlers_disconnect_by_data(self->vm, self);
    if (self->on && self->session)
        vireo_session1_call_disconnect(self->session, NULL, NULL, NULL);
    self->machine = NULL;
    drop_session(self);
}

static void vireo_enhanced_dispose(GObject *object)
{
    VireoEnhanced *self = VIREO_ENHANCED(object);
    vireo_enhanced_close(self);
    g_clear_object(&self->vm);
    G_OBJECT_CLASS(vireo_enhanced_parent_class)->dispose(object);
}

static void vireo_enhanced_finalize(GObject *object)
{
    VireoEnhanced *self = VIREO_ENHANCED(object);
    g_clear_object(&self->cancellable);
    g_hash_table_unref(self->files);
    G_OBJECT_CLASS(vireo_enhanced_parent_class)->finalize(object);
}

static void vireo_enhanced_class_init(VireoEnhancedClass *klass)
{
    GType type = G_TYPE_FROM_CLASS(klass);
    G_OBJECT_CLASS(klass)->dispose = vireo_enhanced_dispose;
    G_OBJECT_CLASS(klass)->finalize = vireo_enhanced_finalize;
    signals[CHANGED] =
        g_signal_new("changed", type, G_SIGNAL_RUN_LAST, 0, NULL, NULL, NULL, G_TYPE_NONE, 0);
    signals[TRANSFER] =
        g_signal_new("transfer", type, G_SIGNAL_RUN_LAST, 0, NULL, NULL, NULL, G_TYPE_NONE, 0);
    signals[MESSAGE] = g_signal_new("message", type, G_SIGNAL_RUN_LAST, 0, NULL, NULL, NULL,
                                    G_TYPE_NONE, 1, G_TYPE_STRING);
}

static void vireo_enhanced_init(VireoEnhanced *self)
{
    self->wanted = TRUE;
    self->cancellable = g_cancellable_new();
    self->files = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, file_free);
}
