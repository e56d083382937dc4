/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/remote/remote.h"

#include <errno.h>
#include <gio/gunixfdlist.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "session/remote/gate.h"
#include "session/remote/shared.h"
#include "session/remote/spice-view.h"
#include "session/remote/vnc.h"
#include "vireo-remote1.h"

enum { CLIENTS_MAX = 16, TEXT_MAX_CHARS = 200 };

enum kind { SPICE, VNC, KINDS };
static const char *const kind_name[KINDS] = {"spice", "vnc"};

struct listener {
    VireoRemote *remote; /* borrowed */
    enum kind kind;
    int fd;
    guint source;
    char *address, *password, *tls;
    gboolean view_only;
    struct gate gate;
    struct spice_server *spice;
};

struct client {
    VireoRemote *remote; /* borrowed: clients are gone before it goes */
    enum kind kind;
    guint id;
    char *address;
    gboolean view_only;
    gint64 since;
    struct vnc_client *vnc;
    guint64 spice; /* its number there */
};

struct _VireoRemote {
    GObject parent;
    struct console *console;
    char *name;
    struct remote_shared *shared;
    const VireoRemoteUsb *usb;
    gpointer usb_ctx;
    VireoRemote1 *skeleton;
    struct listener *listener[KINDS];
    GPtrArray *clients; /* of client */
    guint last_id;
};

G_DEFINE_FINAL_TYPE(VireoRemote, vireo_remote, G_TYPE_OBJECT)

static void fail(GDBusMethodInvocation *call, const char *code, const char *text)
{
    g_autofree char *name = g_strconcat("org.vireo.Error.", code, NULL);
    g_dbus_method_invocation_return_dbus_error(call, name, text);
}

/* ---- what the properties say ---- */

static void tell_servers(VireoRemote *self)
{
    GVariantBuilder all;
    g_variant_builder_init(&all, G_VARIANT_TYPE("aa{sv}"));
    for (int k = 0; k < KINDS; k++) {
        const struct listener *l = self->listener[k];
        if (!l)
            continue;
        g_variant_builder_open(&all, G_VARIANT_TYPE_VARDICT);
        g_variant_builder_add(&all, "{sv}", "kind", g_variant_new_string(kind_name[k]));
        g_variant_builder_add(&all, "{sv}", "address", g_variant_new_string(l->address));
        g_variant_builder_add(&all, "{sv}", "tls", g_variant_new_boolean(l->tls != NULL));
        g_variant_builder_add(&all, "{sv}", "password", g_variant_new_boolean(l->password != NULL));
        g_variant_builder_add(&all, "{sv}", "view-only", g_variant_new_boolean(l->view_only));
        g_variant_builder_close(&all);
    }
    vireo_remote1_set_servers(self->skeleton, g_variant_builder_end(&all));
    g_dbus_interface_skeleton_flush(G_DBUS_INTERFACE_SKELETON(self->skeleton));
}

static void tell_clients(VireoRemote *self)
{
    GVariantBuilder all;
    gboolean vnc = FALSE;
    g_variant_builder_init(&all, G_VARIANT_TYPE("aa{sv}"));
    for (guint i = 0; i < self->clients->len; i++) {
        const struct client *c = g_ptr_array_index(self->clients, i);
        vnc |= c->kind == VNC;
        g_variant_builder_open(&all, G_VARIANT_TYPE_VARDICT);
        g_variant_builder_add(&all, "{sv}", "id", g_variant_new_uint32(c->id));
        g_variant_builder_add(&all, "{sv}", "kind", g_variant_new_string(kind_name[c->kind]));
        g_variant_builder_add(&all, "{sv}", "address", g_variant_new_string(c->address));
        g_variant_builder_add(&all, "{sv}", "view-only", g_variant_new_boolean(c->view_only));
        g_variant_builder_add(&all, "{sv}", "since", g_variant_new_int64(c->since));
        g_variant_builder_close(&all);
    }
    vireo_remote1_set_clients(self->skeleton, g_variant_builder_end(&all));
    g_dbus_interface_skeleton_flush(G_DBUS_INTERFACE_SKELETON(self->skeleton));
    if (self->shared)
        remote_shared_set_watched(self->shared, self->clients->len > 0, vnc);
}

/* ---- clients ---- */

static char *peer_address(int fd)
{
    g_autoptr(GSocket) socket = g_socket_new_from_fd(dup(fd), NULL);
    g_autoptr(GSocketAddress) peer = socket ? g_socket_get_remote_address(socket, NULL) : NULL;
    return G_IS_INET_SOCKET_ADDRESS(peer)
               ? g_socket_connectable_to_string(G_SOCKET_CONNECTABLE(peer))
               : g_strdup("");
}

static struct client *add_client(VireoRemote *self, enum kind kind, char *address,
                                 gboolean view_only)
{
    struct client *c = g_new0(struct client, 1);
    *c = (struct client){.remote = self,
                         .kind = kind,
                         .id = ++self->last_id,
                         .address = address,
                         .view_only = view_only,
                         .since = g_get_real_time()};
    g_ptr_array_add(self->clients, c);
    return c;
}

static void client_free(gpointer data)
{
    struct client *c = data;
    if (c->vnc)
        vnc_client_free(c->vnc);
    g_free(c->address);
    g_free(c);
}

/* From a client's thread to the main loop; the client may be gone by then. */
struct note {
    VireoRemote *remote;
    guint id;
};

static void post_note(struct client *c, GSourceFunc func)
{
    struct note *n = g_new(struct note, 1);
    *n = (struct note){g_object_ref(c->remote), c->id};
    g_idle_add(func, n);
}

static struct client *find_client(VireoRemote *self, guint id)
{
    for (guint i = 0; i < self->clients->len; i++) {
        struct client *c = g_ptr_array_index(self->clients, i);
        if (c->id == id)
            return c;
    }
    return NULL;
}

static void note_free(struct note *n)
{
    g_object_unref(n->remote);
    g_free(n);
}

static gboolean on_vnc_ended(gpointer data)
{
    struct note *n = data;
    struct client *c = find_client(n->remote, n->id);
    if (c) {
        g_ptr_array_remove(n->remote->clients, c);
        tell_clients(n->remote);
    }
    note_free(n);
    return G_SOURCE_REMOVE;
}

static gboolean on_vnc_passed(gpointer data)
{
    struct note *n = data;
    if (n->remote->listener[VNC])
        gate_passed(&n->remote->listener[VNC]->gate);
    note_free(n);
    return G_SOURCE_REMOVE;
}

/* The client's thread: */

static void vnc_passed(void *ctx)
{
    post_note(ctx, on_vnc_passed);
}

static void vnc_text(void *ctx, const char *text, gsize len)
{
    struct client *c = ctx;
    remote_shared_copied(c->remote->shared, text, len);
}

static gboolean vnc_resize(void *ctx, unsigned width, unsigned height)
{
    struct client *c = ctx;
    return remote_shared_resize(c->remote->shared, width, height);
}

static void vnc_ended(void *ctx)
{
    post_note(ctx, on_vnc_ended);
}

static void accept_vnc(struct listener *l, int fd)
{
    static const struct vnc_ops ops = {vnc_passed, vnc_text, vnc_resize, vnc_ended};
    VireoRemote *self = l->remote;
    struct client *c = add_client(self, VNC, peer_address(fd), l->view_only);
    const struct vnc_params p = {.console = self->console,
                                 .fd = fd,
                                 .name = self->name,
                                 .password = l->password,
                                 .view_only = l->view_only,
                                 .ops = &ops,
                                 .ctx = c};
    c->vnc = vnc_client_new(&p);
    if (!c->vnc)
        g_ptr_array_remove(self->clients, c);
    tell_clients(self);
}

/* ---- SPICE ---- */

static void spice_came(void *ctx, guint64 number, const char *address)
{
    struct listener *l = ctx;
    struct client *c = add_client(l->remote, SPICE, g_strdup(address), l->view_only);
    c->spice = number;
    tell_clients(l->remote);
}

static void spice_went(void *ctx, guint64 number)
{
    VireoRemote *self = ((struct listener *)ctx)->remote;
    for (guint i = 0; i < self->clients->len; i++) {
        struct client *c = g_ptr_array_index(self->clients, i);
        if (c->kind == SPICE && c->spice == number) {
            g_ptr_array_remove_index(self->clients, i);
            break;
        }
    }
    tell_clients(self);
}

static void spice_passed(void *ctx)
{
    gate_passed(&((struct listener *)ctx)->gate);
}

static const struct spice_ops spice_ops = {spice_came, spice_went, spice_passed};

/* ---- listening ---- */

static gboolean on_incoming(gint fd, GIOCondition condition, gpointer data);

static gboolean listen_again(gpointer data)
{
    struct listener *l = data;
    l->source = g_unix_fd_add(l->fd, G_IO_IN, on_incoming, l);
    return G_SOURCE_REMOVE;
}

static gboolean on_incoming(gint fd, GIOCondition condition, gpointer data)
{
    struct listener *l = data;
    gint64 wait = gate_try(&l->gate, g_get_monotonic_time());
    if (wait) { /* they wait in the kernel's queue */
        l->source = g_timeout_add((guint)(wait / 1000) + 1, listen_again, l);
        return G_SOURCE_REMOVE;
    }
    int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    if (client < 0) {
        gate_passed(&l->gate);
        return G_SOURCE_CONTINUE;
    }
    gboolean full = l->remote->clients->len >= CLIENTS_MAX;
    if (!l->password || full)
        gate_passed(&l->gate);
    if (full)
        close(client);
    else if (l->kind == VNC)
        accept_vnc(l, client);
    else
        spice_server_accept(l->spice, client);
    return G_SOURCE_CONTINUE;
}

static void listener_free(struct listener *l)
{
    if (l->source)
        g_source_remove(l->source);
    if (l->spice)
        spice_server_stop(l->spice);
    close(l->fd);
    g_free(l->address);
    g_free(l->password);
    g_free(l->tls);
    g_free(l);
}

static void stop(VireoRemote *self, enum kind kind)
{
    g_clear_pointer(&self->listener[kind], listener_free);
    for (guint i = self->clients->len; i-- > 0;) {
        struct client *c = g_ptr_array_index(self->clients, i);
        if (c->kind == kind && c->vnc)
            vnc_client_stop(c->vnc);
        else if (c->kind == kind)
            g_ptr_array_remove_index(self->clients, i);
    }
    tell_servers(self);
    tell_clients(self);
}

/* Whether others than this computer's users may reach it; -1: it is no listening stream socket. */
static int is_exposed(int fd)
{
    int listening = 0, type = 0;
    socklen_t size = sizeof listening;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) < 0 || !listening)
        return -1;
    size = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_STREAM)
        return -1;
    g_autoptr(GSocket) socket = g_socket_new_from_fd(dup(fd), NULL);
    g_autoptr(GSocketAddress) address = socket ? g_socket_get_local_address(socket, NULL) : NULL;
    if (!address)
        return -1;
    return G_IS_INET_SOCKET_ADDRESS(address) &&
           !g_inet_address_get_is_loopback(
               g_inet_socket_address_get_address(G_INET_SOCKET_ADDRESS(address)));
}

static char *text_option(GVariant *options, const char *key)
{
    const char *text = NULL;
    g_variant_lookup(options, key, "&s", &text);
    return text && text[0] ? g_strdup(text) : NULL;
}

/* NULL, or why not. */
static const char *refuse(const struct listener *l, int exposed)
{
    if (exposed < 0)
        return "what was handed over is no listening socket";
    if (l->password && g_utf8_strlen(l->password, -1) > TEXT_MAX_CHARS)
        return "the password is too long";
    if (exposed && !l->password)
        return "beyond this computer a password is needed";
    if (exposed && l->kind == SPICE && !l->tls)
        return "beyond this computer SPICE needs TLS";
    return NULL;
}

static gboolean on_listen(VireoRemote1 *skeleton, GDBusMethodInvocation *call, GUnixFDList *fds,
                          const char *kind, GVariant *socket, GVariant *options, VireoRemote *self)
{
    int fd = fds ? g_unix_fd_list_get(fds, g_variant_get_handle(socket), NULL) : -1;
    g_autoptr(GError) error = NULL;
    gboolean known = strcmp(kind, "spice") == 0 || strcmp(kind, "vnc") == 0;
    if (fd < 0 || !known || !self->console) {
        if (fd >= 0)
            close(fd);
        fail(call, fd >= 0 && known ? "State" : "Invalid",
             fd < 0   ? "no socket was handed over"
             : !known ? "there are SPICE and VNC alone"
                      : "the machine has no screen yet");
        return TRUE;
    }
    struct listener *l = g_new0(struct listener, 1);
    *l = (struct listener){.remote = self, .kind = kind[0] == 's' ? SPICE : VNC, .fd = fd};
    l->address = text_option(options, "address");
    l->password = text_option(options, "password");
    l->tls = text_option(options, "tls-folder");
    g_variant_lookup(options, "view-only", "b", &l->view_only);
    if (!l->address)
        l->address = g_strdup("");
    const char *why = refuse(l, is_exposed(fd));
    if (!why) {
        stop(self, l->kind);
        if (l->kind == SPICE) {
            const struct spice_params p = {.console = self->console,
                                           .shared = self->shared,
                                           .usb = self->usb,
                                           .usb_ctx = self->usb_ctx,
                                           .name = self->name,
                                           .password = l->password,
                                           .tls_folder = l->tls,
                                           .view_only = l->view_only,
                                           .ops = &spice_ops,
                                           .ctx = l};
            l->spice = spice_server_start(&p, &error);
            why = error ? error->message : NULL;
        }
    }
    if (why) {
        fail(call, "Invalid", why);
        listener_free(l);
        return TRUE;
    }
    g_unix_set_fd_nonblocking(fd, TRUE, NULL);
    self->listener[l->kind] = l;
    listen_again(l);
    tell_servers(self);
    vireo_remote1_complete_listen(skeleton, call, NULL);
    return TRUE;
}

static gboolean on_stop(VireoRemote1 *skeleton, GDBusMethodInvocation *call, const char *kind,
                        VireoRemote *self)
{
    for (int k = 0; k < KINDS; k++)
        if (strcmp(kind, kind_name[k]) == 0)
            stop(self, k);
    vireo_remote1_complete_stop(skeleton, call);
    return TRUE;
}

static gboolean on_disconnect(VireoRemote1 *skeleton, GDBusMethodInvocation *call, guint id,
                              VireoRemote *self)
{
    struct client *c = find_client(self, id);
    if (!c) {
        fail(call, "NotFound", "that client has gone already");
        return TRUE;
    }
    if (c->vnc)
        vnc_client_stop(c->vnc);
    else if (self->listener[SPICE])
        spice_server_disconnect(self->listener[SPICE]->spice, c->spice);
    vireo_remote1_complete_disconnect(skeleton, call);
    return TRUE;
}

static gboolean on_set_view_only(VireoRemote1 *skeleton, GDBusMethodInvocation *call, guint id,
                                 gboolean on, VireoRemote *self)
{
    struct client *c = find_client(self, id);
    if (!c) {
        fail(call, "NotFound", "that client has gone already");
        return TRUE;
    }
    if (c->kind == SPICE && self->listener[SPICE]) { /* its clients share one keyboard */
        spice_server_set_view_only(self->listener[SPICE]->spice, on);
        for (guint i = 0; i < self->clients->len; i++)
            if (((struct client *)g_ptr_array_index(self->clients, i))->kind == SPICE)
                ((struct client *)g_ptr_array_index(self->clients, i))->view_only = on;
    } else if (c->vnc) {
        vnc_client_set_view_only(c->vnc, on);
    }
    c->view_only = on;
    tell_clients(self);
    vireo_remote1_complete_set_view_only(skeleton, call);
    return TRUE;
}

/* ---- life ---- */

/* The guest's side copied: main loop. */
static void on_guest_text(void *ctx, const char *text, gsize len)
{
    VireoRemote *self = ctx;
    for (guint i = 0; i < self->clients->len; i++) {
        struct client *c = g_ptr_array_index(self->clients, i);
        if (c->vnc)
            vnc_client_send_text(c->vnc, text, len);
    }
}

VireoRemote *vireo_remote_new(GDBusConnection *viewer, const VireoRemoteUsb *usb, gpointer usb_ctx)
{
    VireoRemote *self = g_object_new(VIREO_TYPE_REMOTE, NULL);
    self->usb = usb;
    self->usb_ctx = usb_ctx;
    self->shared = remote_shared_new(viewer, on_guest_text, self);
    return self;
}

void vireo_remote_attach(VireoRemote *self, struct console *console, const char *name)
{
    self->console = console;
    g_free(self->name);
    self->name = g_strdup(name);
}

GDBusInterfaceSkeleton *vireo_remote_get_skeleton(VireoRemote *self)
{
    return G_DBUS_INTERFACE_SKELETON(self->skeleton);
}

void vireo_remote_close(VireoRemote *self)
{
    for (int k = 0; k < KINDS; k++)
        stop(self, k);
    g_ptr_array_set_size(self->clients, 0); /* waits for their threads */
    tell_clients(self);
    self->console = NULL;
    g_clear_pointer(&self->shared, remote_shared_free);
}

static void vireo_remote_finalize(GObject *object)
{
    VireoRemote *self = VIREO_REMOTE(object);
    if (self->shared)
        vireo_remote_close(self);
    g_ptr_array_unref(self->clients);
    g_clear_object(&self->skeleton);
    g_free(self->name);
    G_OBJECT_CLASS(vireo_remote_parent_class)->finalize(object);
}

static void vireo_remote_class_init(VireoRemoteClass *class)
{
    G_OBJECT_CLASS(class)->finalize = vireo_remote_finalize;
}

static void vireo_remote_init(VireoRemote *self)
{
    self->clients = g_ptr_array_new_with_free_func(client_free);
    self->skeleton = vireo_remote1_skeleton_new();
    g_signal_connect(self->skeleton, "handle-listen", G_CALLBACK(on_listen), self);
    g_signal_connect(self->skeleton, "handle-stop", G_CALLBACK(on_stop), self);
    g_signal_connect(self->skeleton, "handle-disconnect", G_CALLBACK(on_disconnect), self);
    g_signal_connect(self->skeleton, "handle-set-view-only", G_CALLBACK(on_set_view_only), self);
    vireo_remote1_set_servers(self->skeleton, g_variant_new("aa{sv}", NULL));
    vireo_remote1_set_clients(self->skeleton, g_variant_new("aa{sv}", NULL));
}
