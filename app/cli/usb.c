/* SPDX-License-Identifier: GPL-3.0-or-later */
/* vireoctl usb list, attach, detach: USB devices of this computer lent to a guest. */
#include <string.h>

#include "app/cli/client.h"
#include "core/base/cleanup.h"
#include "session/usb/usb-list.h"
#include "vireo-usb1.h"

#define USB_PATH "/org/vireo/Usb1"

static const char help[] = "Usage: vireoctl usb list [NAME] [--json]\n"
                           "       vireoctl usb attach NAME DEVICE [--force]\n"
                           "       vireoctl usb detach NAME DEVICE\n\n"
                           "Lists this computer's USB devices, or those that a machine's guest "
                           "has; lends one to the guest, and takes it\n"
                           "back. DEVICE is where it is plugged in (1-2), what it is "
                           "(VENDOR:PRODUCT, hexadecimal) or, to take it back, the\n"
                           "id that `usb list NAME` shows. --force: even if it is a keyboard or a "
                           "mouse, or holds a mounted file system.\n";

static const char *risk_text(const VireoUsbInfo *info)
{
    switch (info->risk) {
    case VIREO_USB_RISK_INPUT: return "keyboard or mouse";
    case VIREO_USB_RISK_IN_USE: return "mounted";
    case VIREO_USB_RISK_SYSTEM: return "this computer runs from it";
    default: return "";
    }
}

static int list_host(bool json)
{
    g_autoptr(VireoUsbList) list = vireo_usb_list_new();
    g_autoptr(GPtrArray) all = vireo_usb_list_get(list);
    struct cli_json j = {.f = stdout};
    if (json)
        cli_json_open(&j, '[');
    for (guint i = 0; i < all->len; i++) {
        const VireoUsbInfo *info = g_ptr_array_index(all, i);
        if (!json) {
            const char *risk = risk_text(info);
            printf("%-8s %04x:%04x  %s%s%s%s\n", info->id, info->vendor, info->product, info->name,
                   risk[0] ? "  (" : "", risk, risk[0] ? ")" : "");
            continue;
        }
        cli_json_open(&j, '{');
        cli_json_key(&j, "id");
        cli_json_string(&j, info->id);
        cli_json_key(&j, "vendor");
        cli_json_number(&j, info->vendor);
        cli_json_key(&j, "product");
        cli_json_number(&j, info->product);
        cli_json_key(&j, "name");
        cli_json_string(&j, info->name);
        cli_json_key(&j, "risk");
        cli_json_string(&j, risk_text(info));
        cli_json_close(&j, '}');
    }
    if (json)
        cli_json_close(&j, ']');
    return CLI_OK;
}

/* The machine's USB face; NULL with the message out. */
static VireoUsb1 *connect_usb(struct client *c)
{
    g_autoptr(GError) error = NULL;
    VireoUsb1 *usb =
        vireo_usb1_proxy_new_sync(c->bus, G_DBUS_PROXY_FLAGS_NONE, NULL, USB_PATH, NULL, &error);
    if (!usb) {
        client_fail(error);
        return NULL;
    }
    g_dbus_proxy_set_default_timeout(G_DBUS_PROXY(usb), G_MAXINT);
    return usb;
}

static int list_guest(const char *name, bool json)
{
    AUTO(client) c = client_connect(name);
    g_autoptr(VireoUsb1) usb = c ? connect_usb(c) : NULL;
    if (!usb)
        return CLI_FAILED;
    GVariant *devices = vireo_usb1_get_devices(usb);
    struct cli_json j = {.f = stdout};
    if (json)
        cli_json_open(&j, '[');
    for (gsize i = 0; devices && i < g_variant_n_children(devices); i++) {
        g_autoptr(GVariant) device = g_variant_get_child_value(devices, i);
        const char *id = "", *what = "", *state = "";
        guint16 vendor = 0, product = 0;
        g_variant_lookup(device, "id", "&s", &id);
        g_variant_lookup(device, "name", "&s", &what);
        g_variant_lookup(device, "state", "&s", &state);
        g_variant_lookup(device, "vendor", "q", &vendor);
        g_variant_lookup(device, "product", "q", &product);
        if (!json) {
            printf("%-8s %04x:%04x  %s  (%s)\n", id, vendor, product, what, state);
            continue;
        }
        cli_json_open(&j, '{');
        cli_json_key(&j, "id");
        cli_json_string(&j, id);
        cli_json_key(&j, "vendor");
        cli_json_number(&j, vendor);
        cli_json_key(&j, "product");
        cli_json_number(&j, product);
        cli_json_key(&j, "name");
        cli_json_string(&j, what);
        cli_json_key(&j, "state");
        cli_json_string(&j, state);
        cli_json_close(&j, '}');
    }
    if (json)
        cli_json_close(&j, ']');
    return CLI_OK;
}

static bool is_meant(const VireoUsbInfo *info, const char *which)
{
    g_autofree char *kind = g_strdup_printf("%04x:%04x", info->vendor, info->product);
    return strcmp(info->id, which) == 0 || g_ascii_strcasecmp(kind, which) == 0 ||
           strcmp(info->key, which) == 0;
}

/* The one device that `which` names; NULL with the message out. */
static VireoUsbInfo *find_device(const char *which)
{
    g_autoptr(VireoUsbList) list = vireo_usb_list_new();
    g_autoptr(GPtrArray) all = vireo_usb_list_get(list);
    VireoUsbInfo *found = NULL;
    guint count = 0;
    for (guint i = 0; i < all->len; i++)
        if (is_meant(g_ptr_array_index(all, i), which)) {
            found = g_ptr_array_index(all, i);
            count++;
        }
    if (count == 1)
        return vireo_usb_info_copy(found);
    err e = ERR_INIT;
    if (count)
        err_set(&e, ERR_INVALID,
                "%u devices are \"%s\": say by its first column in `vireoctl usb list` which one",
                count, which);
    else
        err_set(&e, ERR_NOT_FOUND, "no USB device \"%s\" is plugged in", which);
    cli_fail(&e);
    return NULL;
}

static bool may_lend(const VireoUsbInfo *info, bool force)
{
    err e = ERR_INIT;
    if (info->risk == VIREO_USB_RISK_SYSTEM)
        err_set(&e, ERR_BUSY, "%s holds %s: this computer cannot run without it", info->name,
                info->mount);
    else if (info->risk == VIREO_USB_RISK_IN_USE && !force)
        err_set(&e, ERR_BUSY, "%s is mounted at %s: unmount it first, or say --force", info->name,
                info->mount);
    else if (info->risk == VIREO_USB_RISK_INPUT && !force)
        err_set(&e, ERR_BUSY,
                "%s is a keyboard or a mouse of this computer: say --force to lend it all the same",
                info->name);
    else
        return true;
    cli_fail(&e);
    return false;
}

static void on_opened(GObject *object, GAsyncResult *result, gpointer data)
{
    *(GAsyncResult **)data = g_object_ref(result);
}

static int open_device(const VireoUsbInfo *info, GError **error)
{
    g_autoptr(GAsyncResult) result = NULL;
    vireo_usb_open_async(info, NULL, on_opened, &result);
    while (!result)
        g_main_context_iteration(NULL, TRUE);
    return vireo_usb_open_finish(result, error);
}

static int attach(const char *name, const char *which, bool force)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VireoUsbInfo) info = find_device(which);
    if (!info || !may_lend(info, force))
        return CLI_FAILED;
    AUTO(client) c = client_connect(name);
    g_autoptr(VireoUsb1) usb = c ? connect_usb(c) : NULL;
    if (!usb)
        return CLI_FAILED;
    int fd = open_device(info, &error);
    if (fd < 0)
        return client_fail(error);
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new_from_array(&fd, 1);
    GVariantBuilder more;
    g_variant_builder_init(&more, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(&more, "{sv}", "name", g_variant_new_string(info->name));
    g_variant_builder_add(&more, "{sv}", "place", g_variant_new_string(info->id));
    g_autofree char *id = NULL;
    if (!vireo_usb1_call_attach_sync(usb, g_variant_new_handle(0), g_variant_builder_end(&more),
                                     fds, &id, NULL, NULL, &error))
        return client_fail(error);
    puts(id);
    return CLI_OK;
}

/* The guest's device that `which` names by id or by kind; NULL if it has none. */
static char *guest_id(VireoUsb1 *usb, const char *which)
{
    GVariant *devices = vireo_usb1_get_devices(usb);
    for (gsize i = 0; devices && i < g_variant_n_children(devices); i++) {
        g_autoptr(GVariant) device = g_variant_get_child_value(devices, i);
        guint16 vendor = 0, product = 0;
        const char *id = "", *place = "";
        g_variant_lookup(device, "id", "&s", &id);
        g_variant_lookup(device, "place", "&s", &place);
        g_variant_lookup(device, "vendor", "q", &vendor);
        g_variant_lookup(device, "product", "q", &product);
        g_autofree char *kind = g_strdup_printf("%04x:%04x", vendor, product);
        if (strcmp(id, which) == 0 || strcmp(place, which) == 0 ||
            g_ascii_strcasecmp(kind, which) == 0)
            return g_strdup(id);
    }
    return NULL;
}

static int detach(const char *name, const char *which)
{
    g_autoptr(GError) error = NULL;
    AUTO(client) c = client_connect(name);
    g_autoptr(VireoUsb1) usb = c ? connect_usb(c) : NULL;
    if (!usb)
        return CLI_FAILED;
    g_autofree char *id = guest_id(usb, which);
    if (!id) {
        err e = ERR_INIT;
        err_set(&e, ERR_NOT_FOUND, "the guest has no USB device \"%s\"", which);
        return cli_fail(&e);
    }
    return vireo_usb1_call_detach_sync(usb, id, NULL, &error) ? CLI_OK : client_fail(error);
}

int cli_usb(int argc, char **argv)
{
    bool json = false, force = false;
    const struct cli_option options[] = {{"--json", &json, NULL}, {"--force", &force, NULL}};
    int operands;
    if (!cli_parse(argc, argv, options, G_N_ELEMENTS(options), &operands, help))
        return CLI_USAGE;
    const char *verb = operands > 0 ? argv[1] : "";
    if (strcmp(verb, "list") == 0 && operands == 1)
        return list_host(json);
    if (strcmp(verb, "list") == 0 && operands == 2)
        return list_guest(argv[2], json);
    if (strcmp(verb, "attach") == 0 && operands == 3)
        return attach(argv[2], argv[3], force);
    if (strcmp(verb, "detach") == 0 && operands == 3)
        return detach(argv[2], argv[3]);
    return cli_usage("usb takes list [NAME], attach NAME DEVICE or detach NAME DEVICE");
}
