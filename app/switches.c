/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/switches.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <string.h>
#include <unistd.h>

#include "app/error.h"

#define GROUP "private"

enum { IS_TAP = 2 }; /* IFF_TAP of a device's tun_flags */

static void free_switch(gpointer data)
{
    VireoSwitch *s = data;
    g_free(s->name);
    g_strfreev(s->users);
    g_free(s);
}

static VireoSwitch *find(GPtrArray *all, enum vm_switch kind, const char *name)
{
    for (guint i = 0; i < all->len; i++) {
        VireoSwitch *s = all->pdata[i];
        if (s->kind == kind && !strcmp(s->name, name))
            return s;
    }
    return NULL;
}

static VireoSwitch *ensure(GPtrArray *all, enum vm_switch kind, const char *name)
{
    VireoSwitch *s = find(all, kind, name);
    if (s)
        return s;
    s = g_new0(VireoSwitch, 1);
    s->kind = kind;
    s->name = g_strdup(name);
    s->users = g_new0(char *, 1);
    g_ptr_array_add(all, s);
    return s;
}

/* ---- the file ---- */

static char *file_path(void)
{
    return g_build_filename(g_get_user_config_dir(), "vireo", "switches", NULL);
}

static GKeyFile *load_file(void)
{
    g_autofree char *path = file_path();
    GKeyFile *k = g_key_file_new();
    g_key_file_load_from_file(k, path, G_KEY_FILE_KEEP_COMMENTS, NULL); /* not there: none */
    return k;
}

static gboolean save_file(GKeyFile *k, GError **error)
{
    g_autofree char *path = file_path();
    g_autofree char *folder = g_path_get_dirname(path);
    g_autoptr(GError) inner = NULL;
    if (g_mkdir_with_parents(folder, 0700) == 0 && g_key_file_save_to_file(k, path, &inner))
        return TRUE;
    g_set_error(error, VIREO_ERROR, ERR_IO, _("The list of switches cannot be written: %s"),
                inner ? inner->message : g_strerror(errno));
    return FALSE;
}

static char **names_in(GKeyFile *k)
{
    char **names = g_key_file_get_string_list(k, GROUP, "names", NULL, NULL);
    return names ? names : g_new0(char *, 1);
}

/* ---- what there is ---- */

static guint64 number_in(const char *device, const char *file, guint64 otherwise)
{
    g_autofree char *path = g_build_filename("/sys/class/net", device, file, NULL);
    g_autofree char *text = NULL;
    return g_file_get_contents(path, &text, NULL, NULL) ? g_ascii_strtoull(text, NULL, 0)
                                                        : otherwise;
}

/* A TAP device made for this person or a group of theirs, or a macvtap device that they may open.
 */
static gboolean is_ours(const char *device)
{
    g_autofree char *macvtap = g_build_filename("/sys/class/net", device, "macvtap", NULL);
    if (g_file_test(macvtap, G_FILE_TEST_IS_DIR)) {
        g_autofree char *node =
            g_strdup_printf("/dev/tap%" G_GUINT64_FORMAT, number_in(device, "ifindex", 0));
        return access(node, R_OK | W_OK) == 0;
    }
    if (!(number_in(device, "tun_flags", 0) & IS_TAP))
        return FALSE;
    gid_t groups[128];
    int n = getgroups(G_N_ELEMENTS(groups), groups);
    guint64 group = number_in(device, "group", G_MAXUINT64);
    for (int i = 0; i < n; i++)
        if (groups[i] == group)
            return TRUE;
    return number_in(device, "owner", G_MAXUINT64) == getuid() || group == getgid();
}

static void add_devices(GPtrArray *all)
{
    g_autoptr(GDir) dir = g_dir_open("/sys/class/net", 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir)))
        if (is_ours(name))
            ensure(all, VM_SWITCH_DEVICE, name);
}

static void add_user(VireoSwitch *s, const char *machine)
{
    guint n = g_strv_length(s->users);
    if (g_strv_contains((const char *const *)s->users, machine))
        return;
    s->users = g_renew(char *, s->users, n + 2);
    s->users[n] = g_strdup(machine);
    s->users[n + 1] = NULL;
}

static void add_machine(GPtrArray *all, const struct vm_config *c)
{
    for (guint i = 0; i < c->n_adapters; i++) {
        const struct vm_adapter *a = &c->adapters[i];
        if (a->kind != VM_SWITCH_NONE)
            add_user(ensure(all, a->kind, a->kind == VM_SWITCH_NAT || !a->name ? "" : a->name),
                     c->name);
    }
}

static void add_machines(GPtrArray *all, struct store *store)
{
    struct store_list list;
    if (!store_list(store, &list, NULL))
        return;
    for (size_t i = 0; i < list.n; i++)
        if (list.entries[i].config)
            add_machine(all, list.entries[i].config);
    store_list_clear(&list);
}

static int by_kind_and_name(gconstpointer a, gconstpointer b)
{
    const VireoSwitch *x = *(VireoSwitch *const *)a, *y = *(VireoSwitch *const *)b;
    return x->kind != y->kind ? (int)x->kind - (int)y->kind : g_utf8_collate(x->name, y->name);
}

GPtrArray *vireo_switches_load(struct store *store)
{
    GPtrArray *all = g_ptr_array_new_with_free_func(free_switch);
    g_autoptr(GKeyFile) k = load_file();
    g_auto(GStrv) names = names_in(k);
    ensure(all, VM_SWITCH_NAT, "");
    for (char **n = names; *n; n++)
        ensure(all, VM_SWITCH_PRIVATE, *n);
    add_devices(all);
    if (store)
        add_machines(all, store);
    g_ptr_array_sort(all, by_kind_and_name);
    return all;
}

/* ---- changes ---- */

gboolean vireo_switches_add(struct store *store, const char *name, GError **error)
{
    g_autoptr(GPtrArray) all = vireo_switches_load(store);
    g_autoptr(GKeyFile) k = load_file();
    g_auto(GStrv) names = names_in(k);
    if (!*name || strlen(name) > 63 || strchr(name, '/') || *name == '.' ||
        !g_utf8_validate(name, -1, NULL)) {
        g_set_error(error, VIREO_ERROR, ERR_INVALID,
                    _("“%s” cannot be the name of a switch: it has 1 to 63 bytes, no slash and no "
                      "dot first."),
                    name);
        return FALSE;
    }
    if (find(all, VM_SWITCH_PRIVATE, name)) {
        g_set_error(error, VIREO_ERROR, ERR_EXISTS, _("There is a private switch “%s” already."),
                    name);
        return FALSE;
    }
    guint n = g_strv_length(names);
    names = g_renew(char *, names, n + 2);
    names[n] = g_strdup(name);
    names[n + 1] = NULL;
    g_key_file_set_string_list(k, GROUP, "names", (const char *const *)names, n + 1);
    return save_file(k, error);
}

gboolean vireo_switches_remove(struct store *store, const char *name, GError **error)
{
    g_autoptr(GPtrArray) all = vireo_switches_load(store);
    g_autoptr(GKeyFile) k = load_file();
    g_auto(GStrv) names = names_in(k);
    const VireoSwitch *s = find(all, VM_SWITCH_PRIVATE, name);
    if (!s) {
        g_set_error(error, VIREO_ERROR, ERR_NOT_FOUND, _("There is no private switch “%s”."), name);
        return FALSE;
    }
    if (*s->users) {
        g_autofree char *users = g_strjoinv(", ", s->users);
        g_set_error(
            error, VIREO_ERROR, ERR_BUSY,
            _("The switch “%s” is used by %s. Connect these machines to another one first."), name,
            users);
        return FALSE;
    }
    g_autoptr(GPtrArray) left = g_ptr_array_new();
    for (char **n = names; *n; n++)
        if (strcmp(*n, name) != 0)
            g_ptr_array_add(left, *n);
    g_key_file_set_string_list(k, GROUP, "names", (const char *const *)left->pdata, left->len);
    return save_file(k, error);
}

/* ---- an adapter ---- */

char *vireo_switches_where(const struct vm_adapter *a)
{
    const char *name = a->name ? a->name : "";
    switch (a->kind) {
    case VM_SWITCH_NAT: return g_strdup("nat");
    case VM_SWITCH_PRIVATE: return g_strconcat("private:", name, NULL);
    case VM_SWITCH_DEVICE: return g_strconcat("tap:", name, NULL);
    case VM_SWITCH_NONE: break;
    }
    return g_strdup("none");
}

GVariant *vireo_switches_adapter(const struct vm_adapter *a)
{
    GVariantBuilder b;
    g_autofree char *where = vireo_switches_where(a);
    g_auto(GStrv) forwards = g_strsplit_set(a->forwards ? a->forwards : "", " ,", -1);
    g_autoptr(GPtrArray) some = g_ptr_array_new();
    for (char **f = forwards; *f; f++)
        if (**f)
            g_ptr_array_add(some, *f);
    g_variant_builder_init(&b, G_VARIANT_TYPE("a{sv}"));
    g_variant_builder_add(&b, "{sv}", "switch", g_variant_new_string(where));
    g_variant_builder_add(&b, "{sv}", "vlan", g_variant_new_uint32(a->vlan));
    g_variant_builder_add(&b, "{sv}", "bandwidth",
                          g_variant_new_uint64((guint64)a->bandwidth * 1000000));
    g_variant_builder_add(&b, "{sv}", "spoofing", g_variant_new_boolean(a->mac_spoofing));
    g_variant_builder_add(&b, "{sv}", "loopback", g_variant_new_boolean(a->host_access));
    g_variant_builder_add(&b, "{sv}", "forwards",
                          g_variant_new_strv((const char *const *)some->pdata, (gssize)some->len));
    return g_variant_builder_end(&b);
}
