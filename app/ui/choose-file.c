/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/choose-file.h"

#include <glib/gi18n.h>

typedef struct {
    VireoFileChosen chosen;
    gpointer data;
    GtkWindow *parent; /* weak */
} Choice;

static void add_filter(GtkFileChooser *chooser, const char *name, const char *const *suffixes)
{
    GtkFileFilter *filter = gtk_file_filter_new();
    gtk_file_filter_set_name(filter, name);
    for (gsize i = 0; suffixes[i]; i++)
        gtk_file_filter_add_suffix(filter, suffixes[i]);
    gtk_file_chooser_add_filter(chooser, filter);
    g_object_unref(filter);
}

static void add_filters(GtkFileChooser *chooser, VireoFileKind kind)
{
    static const char *const iso[] = {"iso", NULL};
    static const char *const disk[] = {"vhdx", "vhd", "avhdx", "avhd", "img", "raw", NULL};
    static const char *const machine[] = {"vireo", NULL};
    static const char *const png[] = {"png", NULL};
    if (kind == VIREO_FILE_ISO)
        add_filter(chooser, _("Disc images"), iso);
    else if (kind == VIREO_FILE_DISK)
        add_filter(chooser, _("Disk images"), disk);
    else if (kind == VIREO_FILE_PNG)
        add_filter(chooser, _("PNG images"), png);
    else if (kind == VIREO_FILE_MACHINE)
        add_filter(chooser, _("Exported machines"), machine);
    if (kind != VIREO_FILE_ISO && kind != VIREO_FILE_DISK && kind != VIREO_FILE_MACHINE)
        return;
    GtkFileFilter *all = gtk_file_filter_new();
    gtk_file_filter_set_name(all, _("All files"));
    gtk_file_filter_add_pattern(all, "*");
    gtk_file_chooser_add_filter(chooser, all);
    g_object_unref(all);
}

static void on_response(GtkNativeDialog *dialog, int response, Choice *c)
{
    g_autoptr(GFile) file = response == GTK_RESPONSE_ACCEPT
                                ? gtk_file_chooser_get_file(GTK_FILE_CHOOSER(dialog))
                                : NULL;
    g_autofree char *path = file ? g_file_get_path(file) : NULL;
    if (path && c->parent)
        c->chosen(path, c->data);
    if (c->parent)
        g_object_remove_weak_pointer(G_OBJECT(c->parent), (gpointer *)&c->parent);
    g_free(c);
    gtk_native_dialog_destroy(dialog);
    g_object_unref(dialog);
}

void vireo_choose_file(GtkWindow *parent, const char *title, VireoFileKind kind, gboolean save,
                       const char *name, VireoFileChosen chosen, gpointer data)
{
    Choice *c = g_new0(Choice, 1);
    GtkFileChooserAction action = kind == VIREO_FILE_FOLDER ? GTK_FILE_CHOOSER_ACTION_SELECT_FOLDER
                                  : save                    ? GTK_FILE_CHOOSER_ACTION_SAVE
                                                            : GTK_FILE_CHOOSER_ACTION_OPEN;
    GtkFileChooserNative *dialog = gtk_file_chooser_native_new(
        title, parent, action, save ? _("_Save") : _("_Open"), _("_Cancel"));
    c->chosen = chosen;
    c->data = data;
    c->parent = parent;
    g_object_add_weak_pointer(G_OBJECT(parent), (gpointer *)&c->parent);
    if (save && name)
        gtk_file_chooser_set_current_name(GTK_FILE_CHOOSER(dialog), name);
    add_filters(GTK_FILE_CHOOSER(dialog), kind);
    gtk_native_dialog_set_modal(GTK_NATIVE_DIALOG(dialog), TRUE);
    g_signal_connect(dialog, "response", G_CALLBACK(on_response), c);
    gtk_native_dialog_show(GTK_NATIVE_DIALOG(dialog));
}
