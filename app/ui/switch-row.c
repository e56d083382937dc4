/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/switch-row.h"

#include <glib/gi18n.h>

#include "app/error.h"
#include "app/live.h"
#include "app/switches.h"

typedef struct {
    AdwComboRow *row; /* owns this */
    VireoVm *vm;
    guint adapter;
    GPtrArray *all; /* VireoSwitch; in the list they come after "not connected" */
    gboolean refreshing;
} Choice;

static const struct vm_adapter *adapter_of(Choice *c)
{
    const struct vm_config *config = vireo_vm_get_config(c->vm);
    return config && c->adapter < config->n_adapters ? &config->adapters[c->adapter] : NULL;
}

static guint position(Choice *c, const struct vm_adapter *a)
{
    for (guint i = 0; i < c->all->len; i++) {
        const VireoSwitch *s = c->all->pdata[i];
        if (s->kind == a->kind && (s->kind == VM_SWITCH_NAT || !g_strcmp0(s->name, a->name)))
            return i + 1;
    }
    return 0;
}

/* The switches are looked up anew: others may have made some. */
static void refresh(Choice *c)
{
    const struct vm_adapter *a = adapter_of(c);
    g_autoptr(GtkStringList) list = gtk_string_list_new(NULL);
    if (!a)
        return;
    c->refreshing = TRUE;
    g_clear_pointer(&c->all, g_ptr_array_unref);
    c->all = vireo_switches_load(vireo_vm_get_store(c->vm));
    gtk_string_list_append(list, _("Not connected"));
    for (guint i = 0; i < c->all->len; i++) {
        const VireoSwitch *s = c->all->pdata[i];
        const char *format =
            s->kind == VM_SWITCH_PRIVATE ? _("Private switch: %s") : _("Network device: %s");
        g_autofree char *text = s->kind == VM_SWITCH_NAT ? g_strdup(_("Shared connection (NAT)"))
                                                         : g_strdup_printf(format, s->name);
        gtk_string_list_append(list, text);
    }
    adw_combo_row_set_model(c->row, G_LIST_MODEL(list));
    adw_combo_row_set_selected(c->row, position(c, a));
    c->refreshing = FALSE;
}

static bool connect_adapter(void *ctx, struct vm_config *config, err *e)
{
    Choice *c = ctx;
    guint i = adw_combo_row_get_selected(c->row);
    const VireoSwitch *s = i && i <= c->all->len ? c->all->pdata[i - 1] : NULL;
    if (c->adapter >= config->n_adapters)
        return true;
    struct vm_adapter *a = &config->adapters[c->adapter];
    a->kind = s ? s->kind : VM_SWITCH_NONE;
    return vm_config_string(&a->name, s && *s->name ? s->name : NULL, e);
}

static void on_selected(Choice *c)
{
    g_autoptr(GError) error = NULL;
    const struct vm_adapter *a = adapter_of(c);
    if (c->refreshing || !a || position(c, a) == adw_combo_row_get_selected(c->row))
        return;
    if (!vireo_vm_update(c->vm, connect_adapter, c, &error)) {
        vireo_vm_fail(c->vm, _("The adapter was not connected"), error);
        refresh(c);
        return;
    }
    vireo_live_adapter(c->vm, c->adapter);
}

static void on_mapped(GtkWidget *row, Choice *c)
{
    refresh(c);
}

static void free_choice(gpointer data)
{
    Choice *c = data;
    g_clear_pointer(&c->all, g_ptr_array_unref);
    g_object_unref(c->vm);
    g_free(c);
}

GtkWidget *vireo_switch_row_new(VireoVm *vm, guint adapter)
{
    Choice *c = g_new0(Choice, 1);
    c->row = ADW_COMBO_ROW(adw_combo_row_new());
    c->vm = g_object_ref(vm);
    c->adapter = adapter;
    adw_preferences_row_set_title(ADW_PREFERENCES_ROW(c->row), _("Connected to"));
    adw_combo_row_set_use_subtitle(c->row, TRUE);
    gtk_accessible_update_property(GTK_ACCESSIBLE(c->row), GTK_ACCESSIBLE_PROPERTY_LABEL,
                                   _("Connected to"), -1);
    refresh(c);
    g_signal_connect_swapped(c->row, "notify::selected", G_CALLBACK(on_selected), c);
    g_signal_connect(c->row, "map", G_CALLBACK(on_mapped), c);
    g_object_set_data_full(G_OBJECT(c->row), "vireo-switch", c, free_choice);
    return GTK_WIDGET(c->row);
}
