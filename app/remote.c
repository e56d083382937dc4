/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/remote.h"

#include <gio/gunixfdlist.h>
#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include <string.h>

#include "session/remote/certificate.h"
#include "vireo-remote1.h"

#define REMOTE_PATH "/org/vireo/Remote1"
#define LOOPBACK "127.0.0.1"

const char *vireo_remote_kind_name(VireoRemoteKind kind)
{
    return kind == VIREO_REMOTE_SPICE ? "spice" : "vnc";
}

static char *own_folder(const char *folder)
{
    return g_build_filename(folder, "remote", NULL);
}

static char *password_path(const char *folder, VireoRemoteKind kind)
{
    g_autofree char *name = g_strconcat(vireo_remote_kind_name(kind), ".password", NULL);
    g_autofree char *own = own_folder(folder);
    return g_build_filename(own, name, NULL);
}

char *vireo_remote_password(const char *folder, VireoRemoteKind kind)
{
    g_autofree char *path = password_path(folder, kind);
    char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return NULL;
    text[strcspn(text, "\r\n")] = '\0';
    if (!text[0])
        g_clear_pointer(&text, g_free);
    return text;
}

gboolean vireo_remote_set_password(const char *folder, VireoRemoteKind kind, const char *password,
                                   GError **error)
{
    g_autofree char *path = password_path(folder, kind), *own = own_folder(folder);
    if (!password || !password[0]) {
        g_unlink(path);
        return TRUE;
    }
    g_mkdir_with_parents(own, 0700);
    return g_file_set_contents_full(path, password, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600,
                                    error);
}

/* ---- where ---- */

static guint port_of(const struct vm_config *c, VireoRemoteKind kind)
{
    return kind == VIREO_REMOTE_SPICE ? c->spice_port : c->vnc_port;
}

static char *id_of(const struct vm_config *c)
{
    char id[GUID_STR_LEN + 1];
    guid_format(&c->id, id);
    return g_strdup(id);
}

/* The socket's path; NULL: it is a TCP port. */
static char *socket_path(const struct vm_config *c, VireoRemoteKind kind)
{
    if (c->remote_listen && c->remote_listen[0] == '/')
        return g_strdup_printf("%s.%s", c->remote_listen, vireo_remote_kind_name(kind));
    if (port_of(c, kind))
        return NULL;
    g_autofree char *id = id_of(c);
    return g_build_filename(g_get_user_runtime_dir(), "vireo", id, vireo_remote_kind_name(kind),
                            NULL);
}

static const char *host_of(const struct vm_config *c)
{
    return c->remote_listen && c->remote_listen[0] ? c->remote_listen : LOOPBACK;
}

static GSocketAddress *address_of(const struct vm_config *c, VireoRemoteKind kind, GError **error)
{
    g_autofree char *path = socket_path(c, kind);
    if (path)
        return g_unix_socket_address_new(path);
    GSocketAddress *a = g_inet_socket_address_new_from_string(host_of(c), port_of(c, kind));
    if (!a)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "“%s” is no address of this computer", host_of(c));
    return a;
}

static gboolean is_exposed(GSocketAddress *a)
{
    return G_IS_INET_SOCKET_ADDRESS(a) &&
           !g_inet_address_get_is_loopback(
               g_inet_socket_address_get_address(G_INET_SOCKET_ADDRESS(a)));
}

static gboolean wants_tls(const struct vm_config *c, VireoRemoteKind kind)
{
    g_autoptr(GSocketAddress) a = kind == VIREO_REMOTE_SPICE ? address_of(c, kind, NULL) : NULL;
    return a && is_exposed(a);
}

static int open_socket(GSocketAddress *a, GError **error)
{
    g_autoptr(GSocket) s = g_socket_new(g_socket_address_get_family(a), G_SOCKET_TYPE_STREAM,
                                        G_SOCKET_PROTOCOL_DEFAULT, error);
    g_autofree char *where = g_socket_connectable_to_string(G_SOCKET_CONNECTABLE(a));
    if (s && G_IS_UNIX_SOCKET_ADDRESS(a))
        g_unlink(g_unix_socket_address_get_path(G_UNIX_SOCKET_ADDRESS(a)));
    if (!s || !g_socket_bind(s, a, TRUE, error) || !g_socket_listen(s, error)) {
        g_prefix_error(error, "%s: ", where);
        return -1;
    }
    if (G_IS_UNIX_SOCKET_ADDRESS(a))
        g_chmod(g_unix_socket_address_get_path(G_UNIX_SOCKET_ADDRESS(a)), 0600);
    return dup(g_socket_get_fd(s));
}

char *vireo_remote_uri(const struct vm_config *config, VireoRemoteKind kind)
{
    g_autofree char *path = socket_path(config, kind);
    const char *name = vireo_remote_kind_name(kind);
    if (path)
        return g_strdup_printf("%s+unix://%s", name, path);
    const char *host = host_of(config), *open = strchr(host, ':') ? "[" : "",
               *close = strchr(host, ':') ? "]" : "";
    if (wants_tls(config, kind))
        return g_strdup_printf("spice://%s%s%s?tls-port=%u", open, host, close,
                               port_of(config, kind));
    return g_strdup_printf("%s://%s%s%s:%u", name, open, host, close, port_of(config, kind));
}

char *vireo_remote_connection_file(const struct vm_config *config, const char *folder,
                                   VireoRemoteKind kind)
{
    static const char group[] = "virt-viewer";
    g_autoptr(GKeyFile) f = g_key_file_new();
    g_autofree char *path = socket_path(config, kind),
                    *password = vireo_remote_password(folder, kind);
    gboolean tls = wants_tls(config, kind);
    g_key_file_set_string(f, group, "type", vireo_remote_kind_name(kind));
    if (config->name)
        g_key_file_set_string(f, group, "title", config->name);
    if (path) {
        g_key_file_set_string(f, group, "unix-path", path);
    } else {
        g_key_file_set_string(f, group, "host", host_of(config));
        g_key_file_set_integer(f, group, tls ? "tls-port" : "port", (int)port_of(config, kind));
    }
    if (password)
        g_key_file_set_string(f, group, "password", password);
    if (tls) {
        g_autofree char *own = own_folder(folder),
                        *ca_path = g_build_filename(own, "ca-cert.pem", NULL), *ca = NULL;
        g_autofree char *subject = certificate_subject(own);
        if (g_file_get_contents(ca_path, &ca, NULL, NULL))
            g_key_file_set_string(f, group, "ca", ca);
        if (subject)
            g_key_file_set_string(f, group, "host-subject", subject);
    }
    return g_key_file_to_data(f, NULL, NULL);
}

/* ---- switching ---- */

struct apply {
    struct vm_config *config;
    char *folder;
    VireoRemote1 *remote;
    VireoRemoteKind next;
};

static void apply_free(gpointer data)
{
    struct apply *a = data;
    vm_config_free(a->config);
    g_free(a->folder);
    g_clear_object(&a->remote);
    g_free(a);
}

static void apply_next(GTask *task);

static void fail(GTask *task, GError *error)
{
    struct apply *a = g_task_get_task_data(task);
    g_dbus_error_strip_remote_error(error);
    g_prefix_error(&error, "%s: ", a->next == VIREO_REMOTE_SPICE ? "SPICE" : "VNC");
    g_task_return_error(task, error);
    g_object_unref(task);
}

static void done_one(GTask *task)
{
    ((struct apply *)g_task_get_task_data(task))->next++;
    apply_next(task);
}

static void on_listening(GObject *source, GAsyncResult *result, gpointer data)
{
    GTask *task = data;
    GError *error = NULL;
    if (vireo_remote1_call_listen_finish(VIREO_REMOTE1(source), NULL, result, &error))
        done_one(task);
    else
        fail(task, error);
}

static void on_stopped(GObject *source, GAsyncResult *result, gpointer data)
{
    GTask *task = data;
    GError *error = NULL;
    if (vireo_remote1_call_stop_finish(VIREO_REMOTE1(source), result, &error))
        done_one(task);
    else
        fail(task, error);
}

static GVariant *listen_options(struct apply *a, GError **error)
{
    g_autofree char *password = vireo_remote_password(a->folder, a->next),
                    *uri = vireo_remote_uri(a->config, a->next);
    g_autofree char *own = own_folder(a->folder), *id = id_of(a->config);
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(&b, "{sv}", "address", g_variant_new_string(uri));
    if (password)
        g_variant_builder_add(&b, "{sv}", "password", g_variant_new_string(password));
    if (wants_tls(a->config, a->next)) {
        g_autofree char *name = g_strdup_printf("Vireo %s", id);
        if (!certificate_ensure(own, name, error)) {
            g_variant_builder_clear(&b);
            return NULL;
        }
        g_variant_builder_add(&b, "{sv}", "tls-folder", g_variant_new_string(own));
    }
    return g_variant_ref_sink(g_variant_builder_end(&b));
}

/* The old server goes first: the new one may want its port. */
static void on_replaced(GObject *source, GAsyncResult *result, gpointer data)
{
    GTask *task = data;
    struct apply *a = g_task_get_task_data(task);
    GError *error = NULL;
    g_autoptr(GVariant) options = NULL;
    g_autoptr(GSocketAddress) address = NULL;
    int fd = -1;
    if (vireo_remote1_call_stop_finish(VIREO_REMOTE1(source), result, &error) &&
        (options = listen_options(a, &error)) && (address = address_of(a->config, a->next, &error)))
        fd = open_socket(address, &error);
    if (fd < 0) {
        fail(task, error);
        return;
    }
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new_from_array(&fd, 1);
    vireo_remote1_call_listen(a->remote, vireo_remote_kind_name(a->next), g_variant_new_handle(0),
                              options, fds, g_task_get_cancellable(task), on_listening, task);
}

static void apply_next(GTask *task)
{
    struct apply *a = g_task_get_task_data(task);
    if (a->next > VIREO_REMOTE_VNC) {
        g_task_return_boolean(task, TRUE);
        g_object_unref(task);
        return;
    }
    gboolean on = a->next == VIREO_REMOTE_SPICE ? a->config->spice : a->config->vnc;
    vireo_remote1_call_stop(a->remote, vireo_remote_kind_name(a->next),
                            g_task_get_cancellable(task), on ? on_replaced : on_stopped, task);
}

static void on_proxy(GObject *source, GAsyncResult *result, gpointer data)
{
    GTask *task = data;
    struct apply *a = g_task_get_task_data(task);
    GError *error = NULL;
    a->remote = vireo_remote1_proxy_new_finish(result, &error);
    if (a->remote)
        apply_next(task);
    else
        fail(task, error);
}

void vireo_remote_apply_async(GDBusConnection *connection, const struct vm_config *config,
                              const char *folder, GCancellable *cancellable,
                              GAsyncReadyCallback done, gpointer data)
{
    GTask *task = g_task_new(connection, cancellable, done, data);
    struct apply *a = g_new0(struct apply, 1);
    err e = ERR_INIT;
    g_task_set_source_tag(task, vireo_remote_apply_async);
    g_task_set_task_data(task, a, apply_free);
    a->folder = g_strdup(folder);
    a->config = vm_config_copy(config, &e);
    if (!a->config) {
        g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_FAILED, "%s", e.text);
        g_object_unref(task);
        return;
    }
    vireo_remote1_proxy_new(connection, G_DBUS_PROXY_FLAGS_NONE, NULL, REMOTE_PATH, cancellable,
                            on_proxy, task);
}

gboolean vireo_remote_apply_finish(GAsyncResult *result, GError **error)
{
    return g_task_propagate_boolean(G_TASK(result), error);
}
