/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/gallery.h"

#include <glib/gi18n.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "app/error.h"

struct _VireoGalleryEntry {
    GObject parent;
    char *id, *title, *description, *cmdline, *path;
    guint memory, generation;
};

G_DEFINE_FINAL_TYPE(VireoGalleryEntry, vireo_gallery_entry, G_TYPE_OBJECT)

static void vireo_gallery_entry_finalize(GObject *object)
{
    VireoGalleryEntry *self = VIREO_GALLERY_ENTRY(object);
    g_free(self->id);
    g_free(self->title);
    g_free(self->description);
    g_free(self->cmdline);
    g_free(self->path);
    G_OBJECT_CLASS(vireo_gallery_entry_parent_class)->finalize(object);
}

static void vireo_gallery_entry_class_init(VireoGalleryEntryClass *klass)
{
    G_OBJECT_CLASS(klass)->finalize = vireo_gallery_entry_finalize;
}

static void vireo_gallery_entry_init(VireoGalleryEntry *self)
{
}

/* ---- the entries ---- */

static char *gallery_folder(void)
{
    const char *given = g_getenv("VIREO_GALLERY");
    return g_strdup(given ? given : VIREO_PKGDATADIR "/gallery");
}

static VireoGalleryEntry *load_entry(const char *folder, const char *file)
{
    g_autoptr(GKeyFile) k = g_key_file_new();
    g_autoptr(VireoGalleryEntry) e = g_object_new(VIREO_TYPE_GALLERY_ENTRY, NULL);
    g_autoptr(GError) error = NULL;
    e->path = g_build_filename(folder, file, NULL);
    if (!g_key_file_load_from_file(k, e->path, G_KEY_FILE_NONE, &error)) {
        g_message("%s: %s", e->path, error->message);
        return NULL;
    }
    e->id = g_strndup(file, strlen(file) - strlen(".ini"));
    e->title = g_key_file_get_locale_string(k, "system", "title", NULL, NULL);
    e->description = g_key_file_get_locale_string(k, "system", "description", NULL, NULL);
    e->cmdline = g_key_file_get_string(k, "system", "cmdline", NULL);
    e->memory = (guint)MAX(0, g_key_file_get_integer(k, "system", "memory", NULL));
    e->generation = g_key_file_get_integer(k, "system", "generation", NULL) == 1 ? 1 : 2;
    return e->title && e->description && e->cmdline ? g_steal_pointer(&e) : NULL;
}

static int by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

GPtrArray *vireo_gallery_load(void)
{
    g_autofree char *folder = gallery_folder();
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    GPtrArray *entries = g_ptr_array_new_with_free_func(g_object_unref);
    const char *name;
    while (dir && (name = g_dir_read_name(dir)))
        if (g_str_has_suffix(name, ".ini"))
            g_ptr_array_add(names, g_strdup(name));
    g_ptr_array_sort(names, by_name);
    for (guint i = 0; i < names->len; i++) {
        VireoGalleryEntry *e = load_entry(folder, names->pdata[i]);
        if (e)
            g_ptr_array_add(entries, e);
    }
    return entries;
}

const char *vireo_gallery_entry_get_id(VireoGalleryEntry *self)
{
    return self->id;
}

const char *vireo_gallery_entry_get_title(VireoGalleryEntry *self)
{
    return self->title;
}

const char *vireo_gallery_entry_get_description(VireoGalleryEntry *self)
{
    return self->description;
}

guint vireo_gallery_entry_get_memory(VireoGalleryEntry *self)
{
    return self->memory;
}

guint vireo_gallery_entry_get_generation(VireoGalleryEntry *self)
{
    return self->generation;
}

const char *vireo_gallery_entry_get_cmdline(VireoGalleryEntry *self)
{
    return self->cmdline;
}

/* ---- the builder ---- */

typedef struct {
    GSubprocess *process;
    GDataInputStream *lines;
    VireoProgress progress;
    gpointer progress_data;
    gulong cancelled_id;
    char *last; /* the builder's message when it fails */
} Build;

static void free_build(gpointer data)
{
    Build *b = data;
    g_clear_object(&b->process);
    g_clear_object(&b->lines);
    g_free(b->last);
    g_free(b);
}

static void on_cancelled(GCancellable *cancellable, GSubprocess *process)
{
    g_subprocess_send_signal(process, SIGTERM);
}

/* What the builder (data/gallery/build-debian) says, for translators. */
static const char *const builder_texts[] G_GNUC_UNUSED = {
    N_("Looking for packages"),
    N_("Fetching packages"),
    N_("Unpacking packages"),
    N_("Installing packages"),
    N_("Packing the system"),
    N_("Setting up the system"),
    N_("Writing the disk"),
    N_("Writing the boot loader"),
    N_("Done"),
    N_("A program is missing. Install mmdebstrap, e2fsprogs, dosfstools, mtools and fdisk."),
    N_("Your account may not build systems yet. Ask the administrator to install the package "
       "uidmap and to give it subordinate ids (usermod --add-subuids and --add-subgids)."),
    N_("The packages could not be fetched: Debian's server cannot be reached. Check the network "
       "and try again."),
    N_("There is not enough room on the disk."),
    N_("The packages could not be installed."),
    N_("The disk is too small for this system."),
    N_("The system could not be set up."),
    N_("The disk could not be written."),
    N_("The boot loader could not be written."),
};

/* Lines "PERCENT text" are progress, "error text" is for the person. */
static void take_line(Build *b, const char *line)
{
    char *end = NULL;
    if (g_str_has_prefix(line, "error ")) {
        g_free(b->last);
        b->last = g_strdup(line + strlen("error "));
        return;
    }
    double percent = g_ascii_strtod(line, &end);
    if (end != line && *end == ' ' && b->progress)
        b->progress(percent / 100, _(end + 1), b->progress_data);
}

static void on_ended(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    Build *b = g_task_get_task_data(task);
    g_autoptr(GError) error = NULL;
    GCancellable *cancellable = g_task_get_cancellable(task);
    gboolean ok = g_subprocess_wait_check_finish(G_SUBPROCESS(source), result, &error);
    if (cancellable)
        g_cancellable_disconnect(cancellable, b->cancelled_id);
    if (g_task_return_error_if_cancelled(task))
        return;
    if (ok)
        g_task_return_boolean(task, TRUE);
    else
        g_task_return_new_error(task, VIREO_ERROR, ERR_IO, "%s",
                                b->last ? _(b->last) : _("The system could not be built."));
}

static void on_line(GObject *source, GAsyncResult *result, gpointer data)
{
    GTask *task = data;
    Build *b = g_task_get_task_data(task);
    g_autofree char *line = g_data_input_stream_read_line_finish_utf8(b->lines, result, NULL, NULL);
    if (!line) { /* its end; cancelled or not, the process is waited for */
        g_subprocess_wait_check_async(b->process, NULL, on_ended, task);
        return;
    }
    take_line(b, line);
    g_data_input_stream_read_line_async(b->lines, G_PRIORITY_DEFAULT, NULL, on_line, task);
}

static GSubprocess *spawn(const VireoGalleryBuild *build, GError **error)
{
    g_autofree char *folder = gallery_folder();
    g_autofree char *script = g_build_filename(folder, "build-debian", NULL);
    g_autofree char *size = g_strdup_printf("%u", build->disk_gib);
    g_autofree char *cache = g_build_filename(g_get_user_cache_dir(), "vireo", "gallery", NULL);
    g_autoptr(GSubprocessLauncher) launcher =
        g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDIN_PIPE |
                                  G_SUBPROCESS_FLAGS_STDERR_SILENCE);
    return g_subprocess_launcher_spawn(launcher, error, script, "--entry", build->entry->path,
                                       "--out", build->folder, "--cache", cache, "--size", size,
                                       "--user", build->user, "--host", build->host, "--locale",
                                       build->locale, "--timezone", build->zone, NULL);
}

/* The password goes by the pipe: arguments are for everyone to see. */
static gboolean send_secrets(GSubprocess *process, const VireoGalleryBuild *build, GError **error)
{
    g_autofree char *lines = g_strdup_printf("%s\n%s\n", build->password, build->key);
    GOutputStream *in = g_subprocess_get_stdin_pipe(process);
    return g_output_stream_write_all(in, lines, strlen(lines), NULL, NULL, error) &&
           g_output_stream_close(in, NULL, error);
}

void vireo_gallery_build_async(const VireoGalleryBuild *build, VireoProgress progress,
                               gpointer progress_data, GCancellable *cancellable,
                               GAsyncReadyCallback callback, gpointer data)
{
    GTask *task = g_task_new(NULL, cancellable, callback, data);
    Build *b = g_new0(Build, 1);
    GError *error = NULL;
    g_task_set_task_data(task, b, free_build);
    b->progress = progress;
    b->progress_data = progress_data;
    b->process = spawn(build, &error);
    if (!b->process || !send_secrets(b->process, build, &error)) {
        g_task_return_error(task, error);
        g_object_unref(task);
        return;
    }
    if (cancellable)
        b->cancelled_id =
            g_cancellable_connect(cancellable, G_CALLBACK(on_cancelled), b->process, NULL);
    b->lines = g_data_input_stream_new(g_subprocess_get_stdout_pipe(b->process));
    g_data_input_stream_read_line_async(b->lines, G_PRIORITY_DEFAULT, NULL, on_line, task);
}

gboolean vireo_gallery_build_finish(GAsyncResult *result, GError **error)
{
    return g_task_propagate_boolean(G_TASK(result), error);
}
