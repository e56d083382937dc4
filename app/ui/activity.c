/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/activity.h"

#define LOOK_MS 1000
#define DIM 0.35

enum { DISKS, ADAPTERS, N_LIGHTS };

typedef struct {
    GtkWidget *icon;
    const char *topic;
    const char *keys[3]; /* counters of a row */
    guint64 sum;
    gboolean asked;
} Light;

struct VireoActivity {
    GtkWindow *window;
    VireoVm *vm;
    GCancellable *cancellable;
    Light lights[N_LIGHTS];
    guint timer;
};

static guint64 sum_of(const Light *l, GVariant *rows)
{
    guint64 sum = 0, n;
    for (gsize i = 0; i < g_variant_n_children(rows); i++) {
        g_autoptr(GVariant) row = g_variant_get_child_value(rows, i);
        for (const char *const *key = l->keys; *key; key++)
            if (g_variant_lookup(row, *key, "t", &n))
                sum += n;
    }
    return sum;
}

static void show(Light *l, gboolean bright)
{
    double opacity = bright ? 1 : DIM;
    if (gtk_widget_get_opacity(l->icon) != opacity)
        gtk_widget_set_opacity(l->icon, opacity);
}

static void on_rows(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) rows = NULL;
    gboolean ok = vireo_machine1_call_info_finish(VIREO_MACHINE1(source), &rows, result, &error);
    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
        return; /* the window is gone, and the light with it */
    Light *l = data;
    l->asked = FALSE;
    guint64 sum = ok ? sum_of(l, rows) : l->sum;
    show(l, sum != l->sum);
    l->sum = sum;
}

static gboolean on_time(gpointer data)
{
    VireoActivity *a = data;
    VireoMachine1 *m = vireo_vm_get_machine(a->vm);
    gboolean runs = m && vireo_vm_get_state(a->vm) == VIREO_VM_RUNNING;
    for (int i = 0; i < N_LIGHTS; i++) {
        Light *l = &a->lights[i];
        if (!runs)
            show(l, FALSE);
        else if (!l->asked && gtk_widget_get_visible(l->icon)) {
            l->asked = TRUE;
            vireo_machine1_call_info(m, l->topic, a->cancellable, on_rows, l);
        }
    }
    return G_SOURCE_CONTINUE;
}

/* In a window that is not worked in nothing is looked at. */
static void on_active(VireoActivity *a)
{
    gboolean active = gtk_window_is_active(a->window);
    if (active && !a->timer)
        a->timer = g_timeout_add(LOOK_MS, on_time, a);
    else if (!active)
        g_clear_handle_id(&a->timer, g_source_remove);
}

VireoActivity *vireo_activity_new(GtkWindow *window, VireoVm *vm, GtkWidget *disk,
                                  GtkWidget *network)
{
    VireoActivity *a = g_new0(VireoActivity, 1);
    a->window = window;
    a->vm = g_object_ref(vm);
    a->cancellable = g_cancellable_new();
    a->lights[DISKS] = (Light){disk, "disks", {"requests"}, 0, FALSE};
    a->lights[ADAPTERS] = (Light){network, "adapters", {"frames-in", "frames-out"}, 0, FALSE};
    g_signal_connect_swapped(window, "notify::is-active", G_CALLBACK(on_active), a);
    on_time(a);
    on_active(a);
    return a;
}

void vireo_activity_free(VireoActivity *a)
{
    g_signal_handlers_disconnect_by_data(a->window, a);
    g_cancellable_cancel(a->cancellable);
    g_clear_object(&a->cancellable);
    g_clear_handle_id(&a->timer, g_source_remove);
    g_object_unref(a->vm);
    g_free(a);
}
