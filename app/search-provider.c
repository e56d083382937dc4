/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/search-provider.h"

#include <string.h>

#define OBJECT_PATH "/org/vireo/Vireo/SearchProvider"

static const char introspection[] =
    "<node><interface name='org.gnome.Shell.SearchProvider2'>"
    "<method name='GetInitialResultSet'><arg type='as' direction='in'/>"
    "<arg type='as' direction='out'/></method>"
    "<method name='GetSubsearchResultSet'><arg type='as' direction='in'/>"
    "<arg type='as' direction='in'/><arg type='as' direction='out'/></method>"
    "<method name='GetResultMetas'><arg type='as' direction='in'/>"
    "<arg type='aa{sv}' direction='out'/></method>"
    "<method name='ActivateResult'><arg type='s' direction='in'/><arg type='as' direction='in'/>"
    "<arg type='u' direction='in'/></method>"
    "<method name='LaunchSearch'><arg type='as' direction='in'/><arg type='u' direction='in'/>"
    "</method></interface></node>";

static gboolean contains(const char *text, const char *term)
{
    if (!text)
        return FALSE;
    g_autofree char *a = g_utf8_casefold(text, -1);
    g_autofree char *b = g_utf8_casefold(term, -1);
    return strstr(a, b) != NULL;
}

static gboolean matches(VireoVm *vm, const char *const *terms)
{
    const struct vm_config *c = vireo_vm_get_config(vm);
    for (gsize i = 0; terms[i]; i++)
        if (!c || !(contains(c->name, terms[i]) || contains(c->notes, terms[i])))
            return FALSE;
    return terms[0] != NULL;
}

static GVariant *find(VireoLibrary *library, const char *const *terms)
{
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("as"));
    for (guint i = 0; i < g_list_model_get_n_items(G_LIST_MODEL(library)); i++) {
        g_autoptr(VireoVm) vm = g_list_model_get_item(G_LIST_MODEL(library), i);
        if (matches(vm, terms))
            g_variant_builder_add(&b, "s", vireo_vm_get_id(vm));
    }
    return g_variant_new("(as)", &b);
}

static GVariant *describe(VireoLibrary *library, const char *const *ids)
{
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("aa{sv}"));
    for (gsize i = 0; ids[i]; i++) {
        VireoVm *vm = vireo_library_find(library, ids[i]);
        if (!vm)
            continue;
        g_autofree char *state = vireo_vm_describe(vm);
        g_variant_builder_open(&b, G_VARIANT_TYPE("a{sv}"));
        g_variant_builder_add(&b, "{sv}", "id", g_variant_new_string(ids[i]));
        g_variant_builder_add(&b, "{sv}", "name", g_variant_new_string(vireo_vm_get_name(vm)));
        g_variant_builder_add(&b, "{sv}", "description", g_variant_new_string(state));
        g_variant_builder_add(&b, "{sv}", "gicon", g_variant_new_string(VIREO_APP_ID));
        g_variant_builder_close(&b);
    }
    return g_variant_new("(aa{sv})", &b);
}

static void on_call(GDBusConnection *connection, const char *sender, const char *path,
                    const char *interface, const char *method, GVariant *parameters,
                    GDBusMethodInvocation *call, gpointer data)
{
    VireoLibrary *library = vireo_application_get_library(data);
    g_autofree const char **terms = NULL;
    GVariant *answer = NULL;
    if (!library) /* the window, when it is opened, says why */
        g_dbus_method_invocation_return_error(call, G_DBUS_ERROR, G_DBUS_ERROR_FAILED,
                                              "The virtual machines cannot be read.");
    else if (g_str_equal(method, "ActivateResult")) {
        g_autoptr(GVariant) id = g_variant_get_child_value(parameters, 0);
        g_action_group_activate_action(data, "open", id);
        g_dbus_method_invocation_return_value(call, NULL);
    } else if (g_str_equal(method, "LaunchSearch")) {
        g_application_activate(data);
        g_dbus_method_invocation_return_value(call, NULL);
    } else {
        g_autoptr(GVariant) list = g_variant_get_child_value(
            parameters, g_str_equal(method, "GetSubsearchResultSet") ? 1 : 0);
        terms = g_variant_get_strv(list, NULL);
        answer =
            g_str_equal(method, "GetResultMetas") ? describe(library, terms) : find(library, terms);
        g_dbus_method_invocation_return_value(call, answer);
    }
}

gboolean vireo_search_provider_export(VireoApplication *app, GDBusConnection *connection,
                                      GError **error)
{
    static const GDBusInterfaceVTable vtable = {.method_call = on_call};
    g_autoptr(GDBusNodeInfo) node = g_dbus_node_info_new_for_xml(introspection, error);
    return node && g_dbus_connection_register_object(connection, OBJECT_PATH, node->interfaces[0],
                                                     &vtable, app, NULL, error) != 0;
}
