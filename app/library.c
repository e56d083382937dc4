/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/library.h"

#include <sys/stat.h>

#include "app/error.h"

enum { POLL_SECONDS = 2 };

struct _VireoLibrary {
    GObject parent;
    struct store *store;
    GPtrArray *vms;
    guint poll_id;
    gint64 root_time;
};

static GType item_type(GListModel *model)
{
    return VIREO_TYPE_VM;
}

static guint n_items(GListModel *model)
{
    return VIREO_LIBRARY(model)->vms->len;
}

static gpointer get_item(GListModel *model, guint position)
{
    VireoLibrary *self = VIREO_LIBRARY(model);
    return position < self->vms->len ? g_object_ref(self->vms->pdata[position]) : NULL;
}

static void list_model_init(GListModelInterface *iface)
{
    iface->get_item_type = item_type;
    iface->get_n_items = n_items;
    iface->get_item = get_item;
}

G_DEFINE_FINAL_TYPE_WITH_CODE(VireoLibrary, vireo_library, G_TYPE_OBJECT,
                              G_IMPLEMENT_INTERFACE(G_TYPE_LIST_MODEL, list_model_init))

VireoVm *vireo_library_find(VireoLibrary *self, const char *id)
{
    for (guint i = 0; i < self->vms->len; i++)
        if (!strcmp(vireo_vm_get_id(self->vms->pdata[i]), id))
            return self->vms->pdata[i];
    return NULL;
}

static void remove_vanished(VireoLibrary *self, const struct store_list *l)
{
    for (guint i = self->vms->len; i-- > 0;) {
        gboolean there = FALSE;
        for (size_t k = 0; k < l->n && !there; k++)
            there = !strcmp(l->entries[k].folder, vireo_vm_get_id(self->vms->pdata[i]));
        if (there)
            continue;
        g_ptr_array_remove_index(self->vms, i);
        g_list_model_items_changed(G_LIST_MODEL(self), i, 1, 0);
    }
}

char *vireo_library_free_name(VireoLibrary *library, const char *base)
{
    for (guint n = 1;; n++) {
        g_autofree char *name = n == 1 ? g_strdup(base) : g_strdup_printf("%s %u", base, n);
        gboolean taken = FALSE;
        for (guint i = 0; i < g_list_model_get_n_items(G_LIST_MODEL(library)); i++) {
            g_autoptr(VireoVm) vm = g_list_model_get_item(G_LIST_MODEL(library), i);
            taken |= !strcmp(vireo_vm_get_name(vm), name);
        }
        if (!taken)
            return g_steal_pointer(&name);
    }
}

gboolean vireo_library_reload(VireoLibrary *self, GError **error)
{
    struct store_list l;
    err e = ERR_INIT;
    if (!store_list(self->store, &l, &e)) {
        vireo_error_set(error, &e);
        return FALSE;
    }
    remove_vanished(self, &l);
    for (size_t i = 0; i < l.n; i++) {
        VireoVm *vm = vireo_library_find(self, l.entries[i].folder);
        if (vm) {
            vireo_vm_reload(vm, &l.entries[i]);
            continue;
        }
        vm = vireo_vm_new(self->store, &l.entries[i]);
        g_ptr_array_add(self->vms, vm);
        g_list_model_items_changed(G_LIST_MODEL(self), self->vms->len - 1, 0, 1);
        vireo_vm_poll(vm);
    }
    store_list_clear(&l);
    return TRUE;
}

static gint64 root_time(VireoLibrary *self)
{
    struct stat st;
    if (stat(store_root(self->store), &st) != 0)
        return -1;
    return (gint64)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
}

static gboolean on_poll(gpointer data)
{
    VireoLibrary *self = data;
    gint64 now = root_time(self);
    if (now != self->root_time) {
        self->root_time = now;
        vireo_library_reload(self, NULL);
    }
    for (guint i = 0; i < self->vms->len; i++)
        vireo_vm_poll(self->vms->pdata[i]);
    return G_SOURCE_CONTINUE;
}

VireoLibrary *vireo_library_new(GError **error)
{
    err e = ERR_INIT;
    struct store *store = store_open(NULL, &e);
    if (!store) {
        vireo_error_set(error, &e);
        return NULL;
    }
    g_autoptr(VireoLibrary) self = g_object_new(VIREO_TYPE_LIBRARY, NULL);
    self->store = store;
    self->root_time = root_time(self);
    if (!vireo_library_reload(self, error))
        return NULL;
    self->poll_id = g_timeout_add_seconds(POLL_SECONDS, on_poll, self);
    return g_steal_pointer(&self);
}

struct store *vireo_library_get_store(VireoLibrary *self)
{
    return self->store;
}

static void vireo_library_finalize(GObject *object)
{
    VireoLibrary *self = VIREO_LIBRARY(object);
    g_clear_handle_id(&self->poll_id, g_source_remove);
    g_ptr_array_unref(self->vms);
    store_close(self->store);
    G_OBJECT_CLASS(vireo_library_parent_class)->finalize(object);
}

static void vireo_library_class_init(VireoLibraryClass *klass)
{
    G_OBJECT_CLASS(klass)->finalize = vireo_library_finalize;
}

static void vireo_library_init(VireoLibrary *self)
{
    self->vms = g_ptr_array_new_with_free_func(g_object_unref);
}
