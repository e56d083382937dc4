/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/disk-tool.h"

#include <glib/gi18n.h>

#include "app/disk-job.h"
#include "app/error.h"
#include "app/ui/choose-file.h"
#include "app/ui/names.h"
#include "app/ui/vm-actions.h"

enum { DEFAULT_GIB = 32, MAX_GIB = 64 * 1024 };

struct _VireoDiskTool {
    AdwWindow parent;
    AdwToastOverlay *toasts;
    GtkStack *stack;
    GtkWidget *open, *create, *check, *repair, *compact, *convert, *cancel;
    GtkWidget *open_first, *create_first; /* the same, on the empty page */
    AdwActionRow *file, *format, *sizes, *parent_row, *problem;
    GtkWidget *working, *found;
    GtkProgressBar *progress;
    GtkLabel *findings;
    char *path;
    VireoDiskWork work;
    GCancellable *cancellable; /* set while something runs */
};

G_DEFINE_FINAL_TYPE(VireoDiskTool, vireo_disk_tool, ADW_TYPE_WINDOW)

static void toast(VireoDiskTool *self, const char *text)
{
    g_autofree char *escaped = g_markup_escape_text(text, -1);
    adw_toast_overlay_add_toast(self->toasts, adw_toast_new(escaped));
}

/* ---- what it is ---- */

static void show_description(VireoDiskTool *self, const struct disk_description *d)
{
    static const char *const types[] = {N_("fixed"), N_("dynamic"), N_("differencing")};
    g_autofree char *format =
        g_strdup_printf("%s, %s", disk_format_name(d->info.format), _(types[d->info.type]));
    g_autofree char *size = g_format_size_full(d->info.size, G_FORMAT_SIZE_IEC_UNITS);
    g_autofree char *used = g_format_size_full(d->info.file_size, G_FORMAT_SIZE_IEC_UNITS);
    /* Translators: size of the disk, room that its file takes */
    g_autofree char *sizes = g_strdup_printf(_("%s, its file takes %s"), size, used);
    adw_action_row_set_subtitle(self->file, self->path);
    adw_action_row_set_subtitle(self->format, format);
    adw_action_row_set_subtitle(self->sizes, sizes);
    adw_action_row_set_subtitle(self->parent_row, d->parent_path ? d->parent_path
                                                  : d->parent    ? d->parent
                                                                 : "");
    gtk_widget_set_visible(GTK_WIDGET(self->parent_row), d->parent != NULL);
    adw_action_row_set_subtitle(self->problem, d->problem);
    gtk_widget_set_visible(GTK_WIDGET(self->problem), d->chain_broken);
}

static void update_buttons(VireoDiskTool *self)
{
    gboolean idle = self->path && !self->cancellable;
    GtkWidget *const buttons[] = {self->check, self->repair, self->compact, self->convert};
    for (gsize i = 0; i < G_N_ELEMENTS(buttons); i++)
        gtk_widget_set_sensitive(buttons[i], idle);
    gtk_widget_set_sensitive(self->open, !self->cancellable);
    gtk_widget_set_sensitive(self->open_first, !self->cancellable);
    gtk_widget_set_visible(self->working, self->cancellable != NULL);
}

static gboolean describe(VireoDiskTool *self, const char *path, err *e)
{
    struct disk_description d;
    struct loop *loop = loop_new(e);
    gboolean ok = loop && disk_describe(path, loop, &d, e);
    if (ok) {
        if (path != self->path) {
            g_free(self->path);
            self->path = g_strdup(path);
        }
        show_description(self, &d);
        disk_description_clear(&d);
    }
    if (loop)
        loop_free(loop);
    return ok;
}

void vireo_disk_tool_open(VireoDiskTool *self, const char *path)
{
    err e = ERR_INIT;
    if (!describe(self, path, &e)) {
        vireo_show_failure(GTK_WIDGET(self), _("The Disk Cannot Be Opened"), e.text);
        return;
    }
    gtk_widget_set_visible(self->found, FALSE);
    gtk_stack_set_visible_child_name(self->stack, "disk");
    update_buttons(self);
}

/* ---- work ---- */

static void on_progress(double fraction, gpointer data)
{
    gtk_progress_bar_set_fraction(VIREO_DISK_TOOL(data)->progress, fraction);
}

static void on_done(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(VireoDiskTool) self = data;
    g_autoptr(GError) error = NULL;
    g_autofree char *report = NULL;
    err e = ERR_INIT;
    gboolean ok = vireo_disk_job_finish(result, &report, &error);
    g_clear_object(&self->cancellable);
    describe(self, self->path, &e);
    update_buttons(self);
    if (report) {
        gtk_label_set_text(self->findings, *report ? report : _("Nothing wrong was found."));
        gtk_widget_set_visible(self->found, ok);
    }
    if (ok)
        toast(self, _("Done"));
    else if (!vireo_error_is_cancelled(error))
        vireo_show_failure(GTK_WIDGET(self), _("The Work on the Disk Failed"), error->message);
}

static void start(VireoDiskTool *self, VireoDiskWork work, const char *target)
{
    if (self->cancellable || !self->path)
        return;
    self->cancellable = g_cancellable_new();
    gtk_progress_bar_set_fraction(self->progress, 0);
    update_buttons(self);
    vireo_disk_job_async(work, self->path, target, 0, on_progress, self, self->cancellable, on_done,
                         g_object_ref(self));
}

static void on_check(VireoDiskTool *self)
{
    start(self, VIREO_DISK_CHECK, NULL);
}

static void repair(gpointer data)
{
    start(data, VIREO_DISK_REPAIR, NULL);
}

static void on_repair(VireoDiskTool *self)
{
    vireo_ask(GTK_WIDGET(self), _("Repair the Disk?"),
              _("What is damaged beyond repair is given up. Make a copy of the file first if its "
                "content is dear."),
              _("_Repair"), TRUE, G_CALLBACK(repair), self, NULL);
}

static void on_compact(VireoDiskTool *self)
{
    start(self, VIREO_DISK_COMPACT, NULL);
}

static void on_target(const char *path, gpointer data)
{
    start(data, VIREO_DISK_CONVERT, path);
}

static void on_convert(VireoDiskTool *self)
{
    g_autofree char *base = g_path_get_basename(self->path);
    char *dot = strrchr(base, '.');
    g_autofree char *name =
        g_strdup_printf("%.*s-copy.vhdx", (int)(dot ? dot - base : (gssize)strlen(base)), base);
    vireo_choose_file(GTK_WINDOW(self), _("Convert to (.vhdx, .vhd or .raw)"), VIREO_FILE_DISK,
                      TRUE, name, on_target, self);
}

static void on_cancel(VireoDiskTool *self)
{
    g_cancellable_cancel(self->cancellable);
}

static void on_opened(const char *path, gpointer data)
{
    vireo_disk_tool_open(data, path);
}

static void on_open(VireoDiskTool *self)
{
    vireo_choose_file(GTK_WINDOW(self), _("Open Disk"), VIREO_FILE_DISK, FALSE, NULL, on_opened,
                      self);
}

static void on_create(VireoDiskTool *self)
{
    vireo_ask_new_disk(GTK_WINDOW(self), on_opened, self);
}

/* ---- a new disk ---- */

typedef struct {
    GtkWindow *parent; /* weak */
    GtkSpinButton *size;
    guint64 bytes;
    char *path;
    void (*made)(const char *path, gpointer data);
    gpointer data;
} NewDisk;

static void free_new_disk(NewDisk *n)
{
    if (n->parent)
        g_object_remove_weak_pointer(G_OBJECT(n->parent), (gpointer *)&n->parent);
    g_free(n->path);
    g_free(n);
}

static void on_made(GObject *source, GAsyncResult *result, gpointer data)
{
    NewDisk *n = data;
    g_autoptr(GError) error = NULL;
    gboolean ok = vireo_disk_job_finish(result, NULL, &error);
    if (n->parent && ok)
        n->made(n->path, n->data);
    else if (n->parent)
        vireo_show_failure(GTK_WIDGET(n->parent), _("The Disk Was Not Made"), error->message);
    free_new_disk(n);
}

static void on_place(const char *path, gpointer data)
{
    NewDisk *n = data;
    n->path = g_str_has_suffix(path, ".vhdx") ? g_strdup(path) : g_strconcat(path, ".vhdx", NULL);
    vireo_disk_job_async(VIREO_DISK_CREATE, n->path, NULL, n->bytes, NULL, NULL, NULL, on_made, n);
}

static void on_size(AdwMessageDialog *dialog, const char *response, NewDisk *n)
{
    n->bytes = (guint64)gtk_spin_button_get_value_as_int(n->size) << 30;
    if (!n->parent || strcmp(response, "next")) {
        free_new_disk(n);
        return;
    }
    vireo_choose_file(n->parent, _("New Disk"), VIREO_FILE_DISK, TRUE, _("disk.vhdx"), on_place, n);
}

void vireo_ask_new_disk(GtkWindow *parent, void (*made)(const char *path, gpointer data),
                        gpointer data)
{
    NewDisk *n = g_new0(NewDisk, 1);
    AdwMessageDialog *dialog = ADW_MESSAGE_DIALOG(adw_message_dialog_new(
        parent, _("New Disk"), _("Size in GiB. The file takes only as much room as is used.")));
    GtkWidget *size = gtk_spin_button_new_with_range(1, MAX_GIB, 8);
    gtk_spin_button_set_value(GTK_SPIN_BUTTON(size), DEFAULT_GIB);
    gtk_accessible_update_property(GTK_ACCESSIBLE(size), GTK_ACCESSIBLE_PROPERTY_LABEL,
                                   _("Size (GiB)"), -1);
    n->parent = parent;
    g_object_add_weak_pointer(G_OBJECT(parent), (gpointer *)&n->parent);
    n->size = GTK_SPIN_BUTTON(size);
    n->made = made;
    n->data = data;
    adw_message_dialog_set_extra_child(dialog, size);
    adw_message_dialog_add_responses(dialog, "cancel", _("_Cancel"), "next", _("_Next"), NULL);
    adw_message_dialog_set_response_appearance(dialog, "next", ADW_RESPONSE_SUGGESTED);
    adw_message_dialog_set_default_response(dialog, "next");
    adw_message_dialog_set_close_response(dialog, "cancel");
    vireo_tidy_names(GTK_WIDGET(dialog));
    g_signal_connect(dialog, "response", G_CALLBACK(on_size), n);
    gtk_window_present(GTK_WINDOW(dialog));
}

/* ---- the window ---- */

static gboolean vireo_disk_tool_close_request(GtkWindow *window)
{
    VireoDiskTool *self = VIREO_DISK_TOOL(window);
    if (self->cancellable)
        g_cancellable_cancel(self->cancellable);
    return GTK_WINDOW_CLASS(vireo_disk_tool_parent_class)->close_request(window);
}

static void vireo_disk_tool_finalize(GObject *object)
{
    VireoDiskTool *self = VIREO_DISK_TOOL(object);
    g_free(self->path);
    G_OBJECT_CLASS(vireo_disk_tool_parent_class)->finalize(object);
}

#define BIND(name) gtk_widget_class_bind_template_child(widget, VireoDiskTool, name)

static void vireo_disk_tool_class_init(VireoDiskToolClass *klass)
{
    GtkWidgetClass *widget = GTK_WIDGET_CLASS(klass);
    G_OBJECT_CLASS(klass)->finalize = vireo_disk_tool_finalize;
    GTK_WINDOW_CLASS(klass)->close_request = vireo_disk_tool_close_request;
    gtk_widget_class_set_template_from_resource(widget, "/org/vireo/Vireo/ui/disk-tool.ui");
    BIND(toasts);
    BIND(stack);
    BIND(open);
    BIND(open_first);
    BIND(create);
    BIND(create_first);
    BIND(check);
    BIND(repair);
    BIND(compact);
    BIND(convert);
    BIND(cancel);
    BIND(file);
    BIND(format);
    BIND(sizes);
    gtk_widget_class_bind_template_child_full(widget, "parent", FALSE,
                                              G_STRUCT_OFFSET(VireoDiskTool, parent_row));
    BIND(problem);
    BIND(working);
    BIND(found);
    BIND(progress);
    BIND(findings);
}

static void vireo_disk_tool_init(VireoDiskTool *self)
{
    gtk_widget_init_template(GTK_WIDGET(self));
    vireo_tidy_names(GTK_WIDGET(self));
    g_signal_connect_swapped(self->open, "clicked", G_CALLBACK(on_open), self);
    g_signal_connect_swapped(self->open_first, "clicked", G_CALLBACK(on_open), self);
    g_signal_connect_swapped(self->create, "clicked", G_CALLBACK(on_create), self);
    g_signal_connect_swapped(self->create_first, "clicked", G_CALLBACK(on_create), self);
    g_signal_connect_swapped(self->check, "clicked", G_CALLBACK(on_check), self);
    g_signal_connect_swapped(self->repair, "clicked", G_CALLBACK(on_repair), self);
    g_signal_connect_swapped(self->compact, "clicked", G_CALLBACK(on_compact), self);
    g_signal_connect_swapped(self->convert, "clicked", G_CALLBACK(on_convert), self);
    g_signal_connect_swapped(self->cancel, "clicked", G_CALLBACK(on_cancel), self);
}

GtkWindow *vireo_disk_tool_new(GtkApplication *app)
{
    return g_object_new(VIREO_TYPE_DISK_TOOL, "application", app, NULL);
}
