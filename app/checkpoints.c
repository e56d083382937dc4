/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/checkpoints.h"

#include <glib/gi18n.h>
#include <unistd.h>

#include "app/error.h"
#include "core/base/cleanup.h"
#include "core/machine/checkpoint.h"

/* ---- looking ---- */

static void add(GVariantBuilder *b, const char *folder, const struct checkpoint_tree *t,
                const struct checkpoint *c)
{
    char id[GUID_STR_LEN + 1], parent[GUID_STR_LEN + 1] = "";
    err e = ERR_INIT;
    AUTO(str) png = checkpoint_state_path(folder, &c->id, ".png", &e);
    guid_format(&c->id, id);
    if (!guid_is_zero(&c->parent))
        guid_format(&c->parent, parent);
    g_variant_builder_open(b, G_VARIANT_TYPE("a{sv}"));
    g_variant_builder_add(b, "{sv}", "id", g_variant_new_string(id));
    g_variant_builder_add(b, "{sv}", "parent", g_variant_new_string(parent));
    g_variant_builder_add(b, "{sv}", "name", g_variant_new_string(c->name));
    g_variant_builder_add(b, "{sv}", "kind", g_variant_new_string(checkpoint_kind_name(c->kind)));
    g_variant_builder_add(b, "{sv}", "created", g_variant_new_int64(c->created));
    g_variant_builder_add(b, "{sv}", "memory", g_variant_new_boolean(c->memory));
    g_variant_builder_add(b, "{sv}", "complete", g_variant_new_boolean(c->complete));
    g_variant_builder_add(b, "{sv}", "current",
                          g_variant_new_boolean(guid_equal(&c->id, &t->current)));
    if (png && g_utf8_validate(png, -1, NULL) && access(png, R_OK) == 0)
        g_variant_builder_add(b, "{sv}", "thumbnail", g_variant_new_string(png));
    g_variant_builder_close(b);
}

GVariant *vireo_checkpoints_list(VireoVm *vm)
{
    VireoMachine1 *m = vireo_vm_get_machine(vm);
    struct checkpoint_tree t;
    err e = ERR_INIT;
    if (m)
        return vireo_machine1_dup_checkpoints(m);
    if (!vireo_vm_get_config(vm) || !checkpoint_tree_load(vireo_vm_get_folder(vm), &t, &e))
        return NULL;
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("aa{sv}"));
    for (size_t i = 0; i < t.n; i++)
        add(&b, vireo_vm_get_folder(vm), &t, &t.list[i]);
    checkpoint_tree_clear(&t);
    return g_variant_ref_sink(g_variant_builder_end(&b));
}

/* ---- a machine that is off ---- */

struct request {
    const char *text;
    struct guid id;
    gboolean subtree;
};

static bool create_off(const char *folder, const struct request *r, err *e)
{
    struct checkpoint c = {.name = (char *)(uintptr_t)r->text, .kind = CHECKPOINT_STANDARD};
    return checkpoint_create_off(folder, &c, e);
}

static bool apply_off(const char *folder, const struct request *r, err *e)
{
    return checkpoint_apply(folder, &r->id, e);
}

static bool rename_off(const char *folder, const struct request *r, err *e)
{
    return checkpoint_rename(folder, &r->id, r->text, e);
}

/* One rename; layers are merged when the machine runs next, or by vireoctl. */
static bool delete_off(const char *folder, const struct request *r, err *e)
{
    return checkpoint_delete(folder, &r->id, r->subtree, e);
}

static void change_off(VireoVm *vm, const char *title, const struct request *r,
                       bool (*fn)(const char *folder, const struct request *r, err *e))
{
    err e = ERR_INIT;
    g_autoptr(GError) error = NULL;
    AUTO(fd) lock = store_lock(vireo_vm_get_store(vm), vireo_vm_get_guid(vm), &e);
    if (lock < 0 || !checkpoint_recover(vireo_vm_get_folder(vm), &e) ||
        !fn(vireo_vm_get_folder(vm), r, &e)) {
        vireo_error_set(&error, &e);
        vireo_vm_fail(vm, title, error);
    }
    vireo_vm_refresh(vm);
}

static gboolean parse(struct request *r, const char *id)
{
    return guid_parse(id, &r->id);
}

/* ---- either ---- */

void vireo_checkpoints_create(VireoVm *vm, const char *name)
{
    const char *title = _("The checkpoint was not made");
    const struct request r = {.text = name};
    if (!vireo_vm_get_machine(vm)) {
        change_off(vm, title, &r, create_off);
        return;
    }
    GVariantBuilder options;
    g_variant_builder_init(&options, G_VARIANT_TYPE("a{sv}"));
    g_variant_builder_add(&options, "{sv}", "name", g_variant_new_string(name));
    vireo_vm_call(vm, "CreateCheckpoint",
                  g_variant_new("(a{sv}@a(sh))", &options, g_variant_new("a(sh)", NULL)), title);
}

/* The new layers are made here: the worker may not make files beside disks that are elsewhere. */
static GVariant *make_layers(VireoVm *vm, const struct guid *id, GError **error)
{
    struct checkpoint_layers l;
    err e = ERR_INIT;
    GVariantBuilder b;
    if (!checkpoint_make_layers(vireo_vm_get_folder(vm), id, &l, &e)) {
        vireo_error_set(error, &e);
        return NULL;
    }
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(uus)"));
    for (unsigned i = 0; i < l.n; i++)
        g_variant_builder_add(&b, "(uus)", l.leaf[i].bus, l.leaf[i].slot, l.leaf[i].path);
    checkpoint_layers_clear(&l);
    return g_variant_builder_end(&b);
}

void vireo_checkpoints_apply(VireoVm *vm, const char *id)
{
    const char *title = _("The checkpoint was not applied");
    g_autoptr(GError) error = NULL;
    struct request r = {0};
    if (!parse(&r, id))
        return;
    if (!vireo_vm_get_machine(vm)) {
        change_off(vm, title, &r, apply_off);
        return;
    }
    GVariant *layers = make_layers(vm, &r.id, &error);
    if (layers)
        vireo_vm_call_and_start(vm, "ApplyCheckpoint", g_variant_new("(s@a(uus))", id, layers),
                                title);
    else
        vireo_vm_fail(vm, title, error);
}

void vireo_checkpoints_rename(VireoVm *vm, const char *id, const char *name)
{
    struct request r = {.text = name};
    if (vireo_vm_get_machine(vm))
        vireo_vm_call(vm, "RenameCheckpoint", g_variant_new("(ss)", id, name),
                      _("The checkpoint was not renamed"));
    else if (parse(&r, id))
        change_off(vm, _("The checkpoint was not renamed"), &r, rename_off);
}

void vireo_checkpoints_delete(VireoVm *vm, const char *id, gboolean subtree)
{
    struct request r = {.subtree = subtree};
    if (vireo_vm_get_machine(vm))
        vireo_vm_call(vm, "DeleteCheckpoint", g_variant_new("(sb)", id, subtree),
                      _("The checkpoint was not deleted"));
    else if (parse(&r, id))
        change_off(vm, _("The checkpoint was not deleted"), &r, delete_off);
}
