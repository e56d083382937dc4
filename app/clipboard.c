/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/clipboard.h"

#include "session/clipboard/file-list.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

#include "vireo-display1.h"

#define CLIPBOARD_PATH "/org/qemu/Display1/Clipboard"
#define TEXT_MIME "text/plain;charset=utf-8"

enum { SELECTIONS = 2 };

struct _VireoClipboard {
    GObject parent;
    GDBusConnection *connection;
    VireoDisplayClipboard *worker, *skeleton;
    GdkClipboard *clipboards[SELECTIONS];
    GdkContentProvider *ours[SELECTIONS]; /* what the machine offers, on the clipboard */
    guint serials[SELECTIONS];
    GCancellable *cancellable;
    gboolean bound;
};

G_DEFINE_FINAL_TYPE(VireoClipboard, vireo_clipboard, G_TYPE_OBJECT)

/* ---- what the machine has, for this desktop ---- */

#define VIREO_TYPE_GUEST_CONTENT (vireo_guest_content_get_type())
G_DECLARE_FINAL_TYPE(VireoGuestContent, vireo_guest_content, VIREO, GUEST_CONTENT,
                     GdkContentProvider)

struct _VireoGuestContent {
    GdkContentProvider parent;
    VireoDisplayClipboard *worker;
    guint selection;
    GStrv mimes; /* as this desktop's programs name them */
    GStrv files; /* that were fetched; NULL: none yet */
};

G_DEFINE_FINAL_TYPE(VireoGuestContent, vireo_guest_content, GDK_TYPE_CONTENT_PROVIDER)

static GdkContentFormats *guest_formats(GdkContentProvider *provider)
{
    VireoGuestContent *self = VIREO_GUEST_CONTENT(provider);
    return gdk_content_formats_new((const char **)self->mimes, g_strv_length(self->mimes));
}

static void on_written(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    g_autoptr(GError) error = NULL;
    if (g_output_stream_write_all_finish(G_OUTPUT_STREAM(source), result, NULL, &error))
        g_task_return_boolean(task, TRUE);
    else
        g_task_return_error(task, g_steal_pointer(&error));
}

static void on_content(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    g_autoptr(GError) error = NULL;
    g_autofree char *mime = NULL;
    g_autoptr(GVariant) content = NULL;
    if (!vireo_display_clipboard_call_request_finish(VIREO_DISPLAY_CLIPBOARD(source), &mime,
                                                     &content, result, &error)) {
        g_dbus_error_strip_remote_error(error);
        g_task_return_error(task, g_steal_pointer(&error));
        return;
    }
    gsize len = 0;
    const void *bytes = g_variant_get_fixed_array(content, &len, 1);
    GOutputStream *out = g_task_get_task_data(task);
    int priority = g_task_get_priority(task);
    GCancellable *cancellable = g_task_get_cancellable(task);
    g_object_set_data_full(G_OBJECT(task), "content", g_steal_pointer(&content),
                           (GDestroyNotify)g_variant_unref);
    g_output_stream_write_all_async(out, bytes, len, priority, cancellable, on_written,
                                    g_steal_pointer(&task));
}

/* ---- files, which programs here want the names of ---- */

#define URI_LIST "text/uri-list"
#define COPIED_FILES "x-special/gnome-copied-files" /* of several file managers */

static gboolean is_files(const char *mime)
{
    return strcmp(mime, URI_LIST) == 0 || strcmp(mime, COPIED_FILES) == 0;
}

/* As the guest's types are offered here. */
static GStrv offered_here(const char *const *mimes)
{
    g_autoptr(GStrvBuilder) b = g_strv_builder_new();
    for (guint i = 0; mimes[i]; i++)
        if (strcmp(mimes[i], VIREO_MIME_FILES) == 0)
            g_strv_builder_add_many(b, URI_LIST, COPIED_FILES, NULL);
        else if (!is_files(mimes[i]))
            g_strv_builder_add(b, mimes[i]);
    return g_strv_builder_end(b);
}

static void give_text(GTask *task, char *text)
{
    GOutputStream *out = g_task_get_task_data(task);
    g_object_set_data_full(G_OBJECT(task), "content", text, g_free);
    g_output_stream_write_all_async(out, text, strlen(text), g_task_get_priority(task),
                                    g_task_get_cancellable(task), on_written, task);
}

static void give_names(GTask *task, GStrv paths)
{
    gboolean list = strcmp(g_object_get_data(G_OBJECT(task), "mime"), URI_LIST) == 0;
    GString *text = g_string_new(list ? "" : "copy");
    for (guint i = 0; paths[i]; i++) {
        g_autofree char *uri = g_filename_to_uri(paths[i], NULL, NULL);
        g_string_append_printf(text, list ? "%s\r\n" : "\n%s", uri);
    }
    give_text(task, g_string_free(text, FALSE));
}

/* What was pasted earlier and nobody can be copying any more is removed. */
static void sweep(const char *folder)
{
    enum { KEPT_S = 3600 };
    g_autoptr(GDir) all = g_dir_open(folder, 0, NULL);
    gint64 now = g_get_real_time() / G_USEC_PER_SEC;
    for (const char *name; all && (name = g_dir_read_name(all));) {
        g_autofree char *one = g_build_filename(folder, name, NULL);
        GStatBuf st;
        g_autoptr(GDir) in = NULL;
        if (g_lstat(one, &st) != 0 || !S_ISDIR(st.st_mode) || st.st_mtime > now - KEPT_S ||
            !(in = g_dir_open(one, 0, NULL)))
            continue;
        for (const char *file; (file = g_dir_read_name(in));) {
            g_autofree char *path = g_build_filename(one, file, NULL);
            g_unlink(path);
        }
        g_rmdir(one);
    }
}

static void unpack(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *all = g_build_filename(g_get_user_cache_dir(), "vireo", "pasted", NULL);
    g_autofree char *folder = g_build_filename(all, "XXXXXX", NULL);
    gsize len = 0;
    const void *bytes = g_variant_get_fixed_array(data, &len, 1);
    sweep(all);
    if (g_mkdir_with_parents(all, 0700) != 0 || !g_mkdtemp(folder)) {
        g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_FAILED, "%s: %s", all,
                                g_strerror(errno));
        return;
    }
    GStrv paths = vireo_file_list_unpack(bytes, len, folder, &error);
    if (paths) {
        g_task_return_pointer(task, paths, (GDestroyNotify)g_strfreev);
    } else {
        g_rmdir(folder);
        g_task_return_error(task, g_steal_pointer(&error));
    }
}

static void on_unpacked(GObject *source, GAsyncResult *result, gpointer data)
{
    VireoGuestContent *self = VIREO_GUEST_CONTENT(source);
    g_autoptr(GTask) task = data;
    g_autoptr(GError) error = NULL;
    GStrv paths = g_task_propagate_pointer(G_TASK(result), &error);
    if (!paths) {
        g_task_return_error(task, g_steal_pointer(&error));
        return;
    }
    g_strfreev(self->files);
    self->files = paths;
    give_names(g_steal_pointer(&task), paths);
}

static void on_files(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    g_autoptr(GError) error = NULL;
    g_autofree char *mime = NULL;
    GVariant *content = NULL;
    if (!vireo_display_clipboard_call_request_finish(VIREO_DISPLAY_CLIPBOARD(source), &mime,
                                                     &content, result, &error)) {
        g_dbus_error_strip_remote_error(error);
        g_task_return_error(task, g_steal_pointer(&error));
        return;
    }
    g_autoptr(GTask) work = g_task_new(g_task_get_source_object(task), NULL, on_unpacked, task);
    g_task_set_task_data(work, content, (GDestroyNotify)g_variant_unref);
    g_steal_pointer(&task);
    g_task_run_in_thread(work, unpack);
}

static void write_files(VireoGuestContent *self, const char *mime, GTask *task)
{
    static const char *const mimes[] = {VIREO_MIME_FILES, NULL};
    g_object_set_data_full(G_OBJECT(task), "mime", g_strdup(mime), g_free);
    if (self->files && g_file_test(self->files[0], G_FILE_TEST_EXISTS))
        give_names(task, self->files);
    else
        vireo_display_clipboard_call_request(self->worker, self->selection, mimes,
                                             g_task_get_cancellable(task), on_files, task);
}

static void guest_write(GdkContentProvider *provider, const char *mime, GOutputStream *stream,
                        int priority, GCancellable *cancellable, GAsyncReadyCallback callback,
                        gpointer data)
{
    VireoGuestContent *self = VIREO_GUEST_CONTENT(provider);
    const char *const mimes[] = {mime, NULL};
    GTask *task = g_task_new(self, cancellable, callback, data);
    g_task_set_priority(task, priority);
    g_task_set_task_data(task, g_object_ref(stream), g_object_unref);
    if (is_files(mime))
        write_files(self, mime, task);
    else
        vireo_display_clipboard_call_request(self->worker, self->selection, mimes, cancellable,
                                             on_content, task);
}

static gboolean guest_write_finish(GdkContentProvider *provider, GAsyncResult *result,
                                   GError **error)
{
    return g_task_propagate_boolean(G_TASK(result), error);
}

static void vireo_guest_content_finalize(GObject *object)
{
    VireoGuestContent *self = VIREO_GUEST_CONTENT(object);
    g_clear_object(&self->worker);
    g_strfreev(self->mimes);
    g_strfreev(self->files);
    G_OBJECT_CLASS(vireo_guest_content_parent_class)->finalize(object);
}

static void vireo_guest_content_class_init(VireoGuestContentClass *klass)
{
    GdkContentProviderClass *provider = GDK_CONTENT_PROVIDER_CLASS(klass);
    G_OBJECT_CLASS(klass)->finalize = vireo_guest_content_finalize;
    provider->ref_formats = guest_formats;
    provider->write_mime_type_async = guest_write;
    provider->write_mime_type_finish = guest_write_finish;
}

static void vireo_guest_content_init(VireoGuestContent *self)
{
}

static void withdraw(VireoClipboard *self, guint selection)
{
    GdkContentProvider *ours = self->ours[selection];
    if (ours && gdk_clipboard_get_content(self->clipboards[selection]) == ours)
        gdk_clipboard_set_content(self->clipboards[selection], NULL);
    g_clear_object(&self->ours[selection]);
}

static gboolean on_grab(VireoDisplayClipboard *skeleton, GDBusMethodInvocation *call,
                        guint selection, guint serial, const char *const *mimes,
                        VireoClipboard *self)
{
    vireo_display_clipboard_complete_grab(skeleton, call);
    if (selection >= SELECTIONS)
        return TRUE;
    VireoGuestContent *content = g_object_new(VIREO_TYPE_GUEST_CONTENT, NULL);
    content->worker = g_object_ref(self->worker);
    content->selection = selection;
    content->mimes = offered_here(mimes);
    g_clear_object(&self->ours[selection]);
    self->ours[selection] = GDK_CONTENT_PROVIDER(content);
    gdk_clipboard_set_content(self->clipboards[selection], self->ours[selection]);
    return TRUE;
}

static gboolean on_release(VireoDisplayClipboard *skeleton, GDBusMethodInvocation *call,
                           guint selection, VireoClipboard *self)
{
    vireo_display_clipboard_complete_release(skeleton, call);
    if (selection < SELECTIONS)
        withdraw(self, selection);
    return TRUE;
}

/* ---- what this desktop has, for the machine ---- */

/* What the guest's agents can carry, as this desktop offers it. */
static GStrv offered(GdkContentFormats *formats)
{
    static const char *const others[] = {"text/html", "image/png", "image/bmp", "image/tiff",
                                         "image/jpeg"};
    g_autoptr(GStrvBuilder) b = g_strv_builder_new();
    if (gdk_content_formats_contain_gtype(formats, G_TYPE_STRING) ||
        gdk_content_formats_contain_mime_type(formats, TEXT_MIME) ||
        gdk_content_formats_contain_mime_type(formats, "text/plain"))
        g_strv_builder_add(b, TEXT_MIME);
    for (gsize i = 0; i < G_N_ELEMENTS(others); i++)
        if (gdk_content_formats_contain_mime_type(formats, others[i]))
            g_strv_builder_add(b, others[i]);
    if (gdk_content_formats_contain_gtype(formats, GDK_TYPE_TEXTURE) &&
        !gdk_content_formats_contain_mime_type(formats, "image/png"))
        g_strv_builder_add(b, "image/png");
    return g_strv_builder_end(b);
}

static void on_changed(GdkClipboard *clipboard, VireoClipboard *self)
{
    guint selection = clipboard == self->clipboards[0] ? 0 : 1;
    GdkContentProvider *content = gdk_clipboard_get_content(clipboard);
    if (content && content == self->ours[selection])
        return;
    g_clear_object(&self->ours[selection]);
    /* union: what can be made of what is there, a texture of a PNG and so on */
    g_autoptr(GdkContentFormats) formats = gdk_content_formats_union_serialize_mime_types(
        gdk_content_formats_ref(gdk_clipboard_get_formats(clipboard)));
    g_auto(GStrv) mimes = offered(formats);
    if (*mimes)
        vireo_display_clipboard_call_grab(self->worker, selection, self->serials[selection]++,
                                          (const char *const *)mimes, self->cancellable, NULL,
                                          NULL);
    else
        vireo_display_clipboard_call_release(self->worker, selection, self->cancellable, NULL,
                                             NULL);
}

struct reading {
    VireoDisplayClipboard *skeleton;
    GDBusMethodInvocation *call;
    char *mime;
};

static void end_reading(struct reading *r, GOutputStream *out, const GError *error)
{
    if (error) {
        g_dbus_method_invocation_return_dbus_error(r->call, "org.vireo.Error.NotFound",
                                                   error->message);
    } else {
        g_autoptr(GBytes) bytes =
            g_memory_output_stream_steal_as_bytes(G_MEMORY_OUTPUT_STREAM(out));
        vireo_display_clipboard_complete_request(
            r->skeleton, r->call, r->mime,
            g_variant_new_from_bytes(G_VARIANT_TYPE_BYTESTRING, bytes, TRUE));
    }
    g_object_unref(r->skeleton);
    g_free(r->mime);
    g_free(r);
}

static void on_spliced(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GError) error = NULL;
    g_output_stream_splice_finish(G_OUTPUT_STREAM(source), result, &error);
    end_reading(data, G_OUTPUT_STREAM(source), error);
}

static void on_read(GObject *source, GAsyncResult *result, gpointer data)
{
    struct reading *r = data;
    g_autoptr(GError) error = NULL;
    const char *mime = NULL;
    g_autoptr(GInputStream) in =
        gdk_clipboard_read_finish(GDK_CLIPBOARD(source), result, &mime, &error);
    if (!in) {
        end_reading(r, NULL, error);
        return;
    }
    g_autoptr(GOutputStream) out = g_memory_output_stream_new_resizable();
    g_output_stream_splice_async(
        out, in, G_OUTPUT_STREAM_SPLICE_CLOSE_SOURCE | G_OUTPUT_STREAM_SPLICE_CLOSE_TARGET,
        G_PRIORITY_DEFAULT, NULL, on_spliced, r);
}

static gboolean on_request(VireoDisplayClipboard *skeleton, GDBusMethodInvocation *call,
                           guint selection, const char *const *mimes, VireoClipboard *self)
{
    GdkClipboard *clipboard = selection < SELECTIONS ? self->clipboards[selection] : NULL;
    GdkContentProvider *content = clipboard ? gdk_clipboard_get_content(clipboard) : NULL;
    if (!clipboard || !mimes[0] || (content && content == self->ours[selection])) {
        g_dbus_method_invocation_return_dbus_error(call, "org.vireo.Error.NotFound",
                                                   "Nothing was copied here.");
        return TRUE;
    }
    struct reading *r = g_new0(struct reading, 1);
    *r = (struct reading){g_object_ref(skeleton), call, g_strdup(mimes[0])};
    gdk_clipboard_read_async(clipboard, (const char **)mimes, G_PRIORITY_DEFAULT, self->cancellable,
                             on_read, r);
    return TRUE;
}

/* ---- binding ---- */

static void on_registered(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(VireoClipboard) self = data;
    if (!vireo_display_clipboard_call_register_finish(VIREO_DISPLAY_CLIPBOARD(source), result,
                                                      NULL) ||
        !self->bound)
        return;
    /* What was copied here before; unless the machine has something, which then came first. */
    for (guint i = 0; i < SELECTIONS; i++)
        if (!self->ours[i] && !gdk_clipboard_is_local(self->clipboards[i]))
            on_changed(self->clipboards[i], self);
}

static void on_proxy(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(VireoClipboard) self = data;
    self->worker = vireo_display_clipboard_proxy_new_finish(result, NULL);
    if (!self->worker || !self->bound ||
        !g_dbus_interface_skeleton_export(G_DBUS_INTERFACE_SKELETON(self->skeleton),
                                          self->connection, CLIPBOARD_PATH, NULL))
        return;
    g_dbus_proxy_set_default_timeout(G_DBUS_PROXY(self->worker), 120000);
    for (guint i = 0; i < SELECTIONS; i++)
        g_signal_connect(self->clipboards[i], "changed", G_CALLBACK(on_changed), self);
    vireo_display_clipboard_call_register(self->worker, self->cancellable, on_registered,
                                          g_object_ref(self));
}

VireoClipboard *vireo_clipboard_bind(GDBusConnection *connection, GdkDisplay *display)
{
    VireoClipboard *self = g_object_new(VIREO_TYPE_CLIPBOARD, NULL);
    self->connection = g_object_ref(connection);
    self->clipboards[0] = gdk_display_get_clipboard(display);
    self->clipboards[1] = gdk_display_get_primary_clipboard(display);
    self->bound = TRUE;
    vireo_display_clipboard_proxy_new(connection, G_DBUS_PROXY_FLAGS_NONE, NULL, CLIPBOARD_PATH,
                                      self->cancellable, on_proxy, g_object_ref(self));
    return self;
}

void vireo_clipboard_unbind(VireoClipboard *self)
{
    if (!self->bound)
        return;
    self->bound = FALSE;
    g_cancellable_cancel(self->cancellable);
    for (guint i = 0; i < SELECTIONS; i++) {
        g_signal_handlers_disconnect_by_data(self->clipboards[i], self);
        withdraw(self, i);
    }
    g_dbus_interface_skeleton_unexport(G_DBUS_INTERFACE_SKELETON(self->skeleton));
    if (self->worker)
        vireo_display_clipboard_call_unregister(self->worker, NULL, NULL, NULL);
}

static void vireo_clipboard_dispose(GObject *object)
{
    VireoClipboard *self = VIREO_CLIPBOARD(object);
    vireo_clipboard_unbind(self);
    g_signal_handlers_disconnect_by_data(self->skeleton, self);
    G_OBJECT_CLASS(vireo_clipboard_parent_class)->dispose(object);
}

static void vireo_clipboard_finalize(GObject *object)
{
    VireoClipboard *self = VIREO_CLIPBOARD(object);
    g_clear_object(&self->worker);
    g_clear_object(&self->skeleton);
    g_clear_object(&self->connection);
    g_clear_object(&self->cancellable);
    G_OBJECT_CLASS(vireo_clipboard_parent_class)->finalize(object);
}

static void vireo_clipboard_class_init(VireoClipboardClass *klass)
{
    G_OBJECT_CLASS(klass)->dispose = vireo_clipboard_dispose;
    G_OBJECT_CLASS(klass)->finalize = vireo_clipboard_finalize;
}

static void vireo_clipboard_init(VireoClipboard *self)
{
    self->cancellable = g_cancellable_new();
    self->skeleton = vireo_display_clipboard_skeleton_new();
    g_signal_connect(self->skeleton, "handle-grab", G_CALLBACK(on_grab), self);
    g_signal_connect(self->skeleton, "handle-release", G_CALLBACK(on_release), self);
    g_signal_connect(self->skeleton, "handle-request", G_CALLBACK(on_request), self);
}
