/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <glib/gi18n.h>

#include "app/disk-job.h"
#include "app/error.h"
#include "app/ui/disk-tool.h"
#include "app/ui/names.h"
#include "app/ui/vm-actions.h"

enum { MAX_GIB = 65536 };

typedef struct {
    GtkWindow *parent; /* weak */
    GtkSpinButton *size;
    char *path;
    void (*change)(GtkWidget *row, guint64 bytes);
    GtkWidget *row; /* weak */
} Resize;

static void free_resize(Resize *r)
{
    if (r->parent)
        g_object_remove_weak_pointer(G_OBJECT(r->parent), (gpointer *)&r->parent);
    if (r->row)
        g_object_remove_weak_pointer(G_OBJECT(r->row), (gpointer *)&r->row);
    g_free(r->path);
    g_free(r);
}

static void on_done(GObject *source, GAsyncResult *result, gpointer data)
{
    Resize *r = data;
    g_autoptr(GError) error = NULL;
    if (!vireo_disk_job_finish(result, NULL, &error) && r->parent) {
        g_autofree char *text = vireo_error_text(error);
        vireo_show_failure(GTK_WIDGET(r->parent), _("The disk was not resized"), text);
    }
    free_resize(r);
}

static void on_response(AdwMessageDialog *dialog, const char *response, Resize *r)
{
    guint64 bytes = (guint64)gtk_spin_button_get_value_as_int(r->size) << 30;
    if (strcmp(response, "resize") != 0 || (r->change && !r->row)) {
        free_resize(r);
        return;
    }
    if (!r->change) {
        vireo_disk_job_async(VIREO_DISK_RESIZE, r->path, NULL, bytes, NULL, NULL, NULL, on_done, r);
        return;
    }
    r->change(r->row, bytes);
    free_resize(r);
}

/* What it has now, in GiB; 0: it cannot be told (a running machine has it). */
static int size_now(const char *path)
{
    struct disk_description d;
    struct loop *loop = loop_new(NULL);
    int gib = 0;
    if (loop && disk_describe(path, loop, &d, NULL)) {
        gib = (int)((d.info.size + (1 << 30) - 1) >> 30);
        disk_description_clear(&d);
    }
    if (loop)
        loop_free(loop);
    return gib;
}

void vireo_ask_disk_size(GtkWindow *parent, const char *path,
                         void (*change)(GtkWidget *row, guint64 bytes), GtkWidget *row)
{
    Resize *r = g_new0(Resize, 1);
    GtkWidget *size = gtk_spin_button_new_with_range(1, MAX_GIB, 8);
    AdwMessageDialog *dialog = ADW_MESSAGE_DIALOG(adw_message_dialog_new(
        parent, _("Resize Disk"),
        _("New size in GiB. The partitions on it are the guest’s to resize. A smaller size is "
          "refused where data would be lost.")));
    int now = size_now(path);
    r->parent = parent;
    g_object_add_weak_pointer(G_OBJECT(parent), (gpointer *)&r->parent);
    r->row = row;
    g_object_add_weak_pointer(G_OBJECT(row), (gpointer *)&r->row);
    r->path = g_strdup(path);
    r->change = change;
    r->size = GTK_SPIN_BUTTON(size);
    if (now)
        gtk_spin_button_set_value(r->size, now);
    gtk_accessible_update_property(GTK_ACCESSIBLE(size), GTK_ACCESSIBLE_PROPERTY_LABEL,
                                   _("Size (GiB)"), -1);
    adw_message_dialog_set_extra_child(dialog, size);
    adw_message_dialog_add_responses(dialog, "cancel", _("_Cancel"), "resize", _("_Resize"), NULL);
    adw_message_dialog_set_response_appearance(dialog, "resize", ADW_RESPONSE_SUGGESTED);
    adw_message_dialog_set_default_response(dialog, "resize");
    adw_message_dialog_set_close_response(dialog, "cancel");
    vireo_tidy_names(GTK_WIDGET(dialog));
    g_signal_connect(dialog, "response", G_CALLBACK(on_response), r);
    gtk_window_present(GTK_WINDOW(dialog));
}
