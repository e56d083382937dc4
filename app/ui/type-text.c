/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/type-text.h"

#include <adwaita.h>
#include <glib/gi18n.h>

#include "app/ui/keymap.h"
#include "app/ui/names.h"

enum { KEY_MS = 12, MAX_TEXT = 64 * 1024 };

typedef struct {
    GtkWindow *window;
    VireoConsole *console;
    GtkTextBuffer *buffer;
    GtkWidget *type_button, *note;
    GtkProgressBar *progress;
    char *text;
    const char *next;
    guint timer;
} TypeText;

static void type_char(TypeText *t, gunichar c)
{
    guint qnum = 0;
    gboolean shift = FALSE;
    if (!vireo_keymap_for_char(c, &qnum, &shift))
        return;
    guint keys[2] = {QNUM_SHIFT, qnum};
    vireo_console_combination(t->console, shift ? keys : keys + 1, shift ? 2 : 1);
}

static gboolean on_step(gpointer data)
{
    TypeText *t = data;
    type_char(t, g_utf8_get_char(t->next));
    t->next = g_utf8_next_char(t->next);
    gtk_progress_bar_set_fraction(t->progress,
                                  (double)(t->next - t->text) / (double)strlen(t->text));
    if (*t->next)
        return G_SOURCE_CONTINUE;
    t->timer = 0;
    gtk_window_close(t->window);
    return G_SOURCE_REMOVE;
}

static char *whole_text(TypeText *t)
{
    GtkTextIter a, b;
    gtk_text_buffer_get_bounds(t->buffer, &a, &b);
    return gtk_text_buffer_get_text(t->buffer, &a, &b, FALSE);
}

static void on_type(TypeText *t)
{
    g_free(t->text);
    t->text = whole_text(t);
    t->next = t->text;
    if (!*t->text || t->timer)
        return;
    gtk_widget_set_sensitive(t->type_button, FALSE);
    gtk_widget_set_visible(GTK_WIDGET(t->progress), TRUE);
    t->timer = g_timeout_add(KEY_MS, on_step, t);
}

/* Says what a US keyboard cannot type. */
static void on_changed(TypeText *t)
{
    g_autofree char *text = whole_text(t);
    guint lost = 0, qnum;
    gboolean shift;
    for (const char *p = text; *p; p = g_utf8_next_char(p))
        lost += !vireo_keymap_for_char(g_utf8_get_char(p), &qnum, &shift);
    g_autofree char *note = g_strdup_printf(
        ngettext("%u character cannot be typed on a US keyboard and is left out.",
                 "%u characters cannot be typed on a US keyboard and are left out.", lost),
        lost);
    gtk_label_set_text(GTK_LABEL(t->note), lost ? note
                                                : _("The text is typed as on a US keyboard; the "
                                                    "machine should use this layout."));
    gtk_widget_set_sensitive(t->type_button, *text != 0);
}

static void on_clipboard(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GtkWindow) window = data;
    g_autofree char *text = gdk_clipboard_read_text_finish(GDK_CLIPBOARD(source), result, NULL);
    TypeText *t = g_object_get_data(G_OBJECT(window), "vireo-type-text");
    if (text && t && strlen(text) <= MAX_TEXT)
        gtk_text_buffer_set_text(t->buffer, text, -1);
}

static void free_type_text(gpointer data)
{
    TypeText *t = data;
    g_clear_handle_id(&t->timer, g_source_remove);
    g_object_unref(t->console);
    g_free(t->text);
    g_free(t);
}

GtkWindow *vireo_type_text_new(VireoConsole *console, GtkWindow *parent)
{
    g_autoptr(GtkBuilder) b = gtk_builder_new_from_resource("/org/vireo/Vireo/ui/type-text.ui");
    TypeText *t = g_new0(TypeText, 1);
    t->window = GTK_WINDOW(gtk_builder_get_object(b, "window"));
    t->console = g_object_ref(console);
    t->buffer = gtk_text_view_get_buffer(GTK_TEXT_VIEW(gtk_builder_get_object(b, "text")));
    t->type_button = GTK_WIDGET(gtk_builder_get_object(b, "type"));
    t->note = GTK_WIDGET(gtk_builder_get_object(b, "note"));
    t->progress = GTK_PROGRESS_BAR(gtk_builder_get_object(b, "progress"));
    g_object_set_data_full(G_OBJECT(t->window), "vireo-type-text", t, free_type_text);
    gtk_window_set_transient_for(t->window, parent);
    g_signal_connect_swapped(t->buffer, "changed", G_CALLBACK(on_changed), t);
    g_signal_connect_swapped(t->type_button, "clicked", G_CALLBACK(on_type), t);
    g_signal_connect_swapped(gtk_builder_get_object(b, "cancel"), "clicked",
                             G_CALLBACK(gtk_window_close), t->window);
    vireo_tidy_names(GTK_WIDGET(t->window));
    on_changed(t);
    gdk_clipboard_read_text_async(gtk_widget_get_clipboard(GTK_WIDGET(parent)), NULL, on_clipboard,
                                  g_object_ref(t->window));
    return t->window;
}
