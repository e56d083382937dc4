/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/remote/spice-view.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "session/remote/shared.h"
#include "session/remote/spice-int.h"

/* A client has about ten connections, one a channel. */
enum { CONNECTIONS_MAX = 96, GREETING_S = 20, LOOK_S = 5 };

/* A connection that was handed to spice-server, whose descriptor is spice-server's now. That it is
 * still the same socket is seen by its inode. */
struct connection {
    int fd;
    ino_t inode;
    int id;       /* spice-server's number of the client, once it is known; 0 before */
    gint64 since; /* monotonic */
    gboolean network;
};

struct spice_server {
    SpiceServer *server;
    const struct spice_ops *ops;
    void *ctx;
    gboolean tls;
    struct spice_display *display;
    struct spice_input *input;
    struct remote_shared *shared;
    struct spice_agent *agent;
    struct spice_sound *sound;
    struct spice_usb *usb;
    GArray *connections; /* of connection */
    guint look_id;
    guint clients;
};

/* spice-server's core interface knows no context; a process has one SPICE view. */
static struct spice_server *current;

static ino_t inode_of(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) ? st.st_ino : 0;
}

static void forget_closed(struct spice_server *s)
{
    for (guint i = s->connections->len; i-- > 0;) {
        const struct connection *c = &g_array_index(s->connections, struct connection, i);
        if (inode_of(c->fd) != c->inode)
            g_array_remove_index(s->connections, i);
    }
}

/* Ends connections that have not become a channel: spice-server waits for them without end. On a
 * Unix socket it cannot be told which is which, but there only the machine's owner connects. */
static gboolean look(gpointer data)
{
    struct spice_server *s = data;
    gint64 late = g_get_monotonic_time() - GREETING_S * G_USEC_PER_SEC;
    forget_closed(s);
    for (guint i = 0; i < s->connections->len; i++) {
        const struct connection *c = &g_array_index(s->connections, struct connection, i);
        if (!c->id && c->network && c->since < late)
            shutdown(c->fd, SHUT_RDWR);
    }
    if (s->connections->len)
        return G_SOURCE_CONTINUE;
    s->look_id = 0;
    return G_SOURCE_REMOVE;
}

static char *address_of(const SpiceChannelEventInfo *info)
{
    if (!(info->flags & SPICE_CHANNEL_EVENT_FLAG_ADDR_EXT) || info->paddr_ext.ss_family == AF_UNIX)
        return g_strdup("");
    g_autoptr(GSocketAddress) a =
        g_socket_address_new_from_native((gpointer)&info->paddr_ext, info->plen_ext);
    return G_IS_INET_SOCKET_ADDRESS(a) ? g_socket_connectable_to_string(G_SOCKET_CONNECTABLE(a))
                                       : g_strdup("");
}

static gboolean same_peer(int fd, const SpiceChannelEventInfo *info)
{
    struct sockaddr_storage peer = {0};
    socklen_t size = sizeof peer;
    if (getpeername(fd, (struct sockaddr *)&peer, &size) < 0)
        return FALSE;
    return peer.ss_family == AF_UNIX ||
           (size == info->plen_ext && memcmp(&peer, &info->paddr_ext, size) == 0);
}

/* A channel is up: its connection is the first with its address that is still nobody's. */
static void name_connection(struct spice_server *s, const SpiceChannelEventInfo *info)
{
    forget_closed(s);
    for (guint i = 0; i < s->connections->len; i++) {
        struct connection *c = &g_array_index(s->connections, struct connection, i);
        if (!c->id && same_peer(c->fd, info)) {
            c->id = info->connection_id;
            return;
        }
    }
}

static void client_came(struct spice_server *s, const SpiceChannelEventInfo *info)
{
    g_autofree char *address = address_of(info);
    s->clients++;
    spice_display_set_active(s->display, TRUE);
    spice_sound_set_active(s->sound, TRUE);
    s->ops->came(s->ctx, (guint64)info->connection_id, address);
}

static void client_went(struct spice_server *s, const SpiceChannelEventInfo *info)
{
    if (s->clients)
        s->clients--;
    if (!s->clients) {
        spice_display_set_active(s->display, FALSE);
        spice_sound_set_active(s->sound, FALSE);
    }
    s->ops->went(s->ctx, (guint64)info->connection_id);
}

struct event {
    int event;
    SpiceChannelEventInfo info;
};

static gboolean on_event(gpointer data)
{
    struct event *e = data;
    struct spice_server *s = current;
    if (s && e->event == SPICE_CHANNEL_EVENT_INITIALIZED) {
        name_connection(s, &e->info);
        s->ops->passed(s->ctx);
    }
    if (s && e->info.type == SPICE_CHANNEL_MAIN && e->event == SPICE_CHANNEL_EVENT_INITIALIZED)
        client_came(s, &e->info);
    if (s && e->info.type == SPICE_CHANNEL_MAIN && e->event == SPICE_CHANNEL_EVENT_DISCONNECTED)
        client_went(s, &e->info);
    g_free(e);
    return G_SOURCE_REMOVE;
}

/* May come on the display thread. */
static void channel_event(int event, SpiceChannelEventInfo *info)
{
    struct event *e = g_new(struct event, 1);
    *e = (struct event){event, *info};
    g_idle_add_full(G_PRIORITY_DEFAULT, on_event, e, NULL);
}

/* spice-server makes its TLS context only together with a listening socket of its own: it gets a
 * Unix socket, which has no name any more when this returns. */
static gboolean set_tls(struct spice_server *s, const char *folder, const char *socket_path,
                        GError **error)
{
    g_autofree char *ca = g_build_filename(folder, "ca-cert.pem", NULL);
    g_autofree char *certificate = g_build_filename(folder, "server-cert.pem", NULL);
    g_autofree char *key = g_build_filename(folder, "server-key.pem", NULL);
    const char *const files[] = {ca, certificate, key};
    for (guint i = 0; i < G_N_ELEMENTS(files); i++)
        if (access(files[i], R_OK) < 0) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                        "the TLS file \"%s\" cannot be read", files[i]);
            return FALSE;
        }
    s->tls = TRUE;
    spice_server_set_addr(s->server, socket_path, SPICE_ADDR_FLAG_UNIX_ONLY);
    spice_server_set_channel_security(s->server, NULL, SPICE_CHANNEL_SECURITY_SSL);
    return spice_server_set_tls(s->server, 1, ca, certificate, key, NULL, NULL, NULL) == 0;
}

/* ---- the session ---- */

static void on_connected(void *ctx, GDBusConnection *connection)
{
    spice_sound_set_connection(((struct spice_server *)ctx)->sound, connection);
}

static void on_disconnected(void *ctx)
{
    spice_sound_set_connection(((struct spice_server *)ctx)->sound, NULL);
}

static void on_clipboard(void *ctx, gboolean on)
{
    spice_agent_set_plugged(((struct spice_server *)ctx)->agent, on);
}

static void on_grab(void *ctx, guint selection, const char *const *mimes)
{
    spice_agent_grab(((struct spice_server *)ctx)->agent, selection, mimes);
}

static void on_release(void *ctx, guint selection)
{
    spice_agent_release(((struct spice_server *)ctx)->agent, selection);
}

static void on_request(void *ctx, GDBusMethodInvocation *call, guint selection,
                       const char *const *mimes)
{
    spice_agent_request(((struct spice_server *)ctx)->agent, call, selection, mimes);
}

static void on_transfer(void *ctx, guint id, const char *state)
{
    spice_files_transfer(spice_agent_files(((struct spice_server *)ctx)->agent), id, state);
}

static const struct remote_spice_ops session_ops = {
    on_connected, on_disconnected, on_clipboard, on_grab, on_release, on_request, on_transfer};

/* ---- begin and end ---- */

static gboolean set_up(struct spice_server *s, const struct spice_params *p, GError **error)
{
    static SpiceCoreInterface core;
    g_autofree char *socket_path =
        p->tls_folder ? g_build_filename(p->tls_folder, "spice", NULL) : NULL;
    spice_core_fill(&core);
    core.channel_event = channel_event;
    spice_server_set_name(s->server, p->name);
    if (p->tls_folder && !set_tls(s, p->tls_folder, socket_path, error))
        return FALSE;
    if (p->password)
        spice_server_set_ticket(s->server, p->password, 0, 0, 0);
    else
        spice_server_set_noauth(s->server);
    spice_server_set_image_compression(s->server, SPICE_IMAGE_COMPRESSION_AUTO_GLZ);
    spice_server_set_jpeg_compression(s->server, SPICE_WAN_COMPRESSION_NEVER);
    spice_server_set_zlib_glz_compression(s->server, SPICE_WAN_COMPRESSION_AUTO);
    spice_server_set_streaming_video(s->server, SPICE_STREAM_VIDEO_OFF);
    int failed = spice_server_init(s->server, &core);
    if (socket_path)
        unlink(socket_path);
    if (failed)
        return FALSE;
    s->display = spice_display_new(s->server, p->console);
    s->input = s->display ? spice_input_new(s->server, p->console) : NULL;
    if (!s->input)
        return FALSE;
    s->agent = spice_agent_new(s->server, p->shared);
    s->sound = spice_sound_new(s->server);
    s->usb = spice_usb_new(s->server, p->usb, p->usb_ctx);
    spice_server_set_view_only(s, p->view_only);
    spice_server_vm_start(s->server);
    s->shared = p->shared;
    remote_shared_set_spice(s->shared, &session_ops, s);
    return TRUE;
}

struct spice_server *spice_server_start(const struct spice_params *p, GError **error)
{
    g_return_val_if_fail(!current, NULL);
    struct spice_server *s = current = g_new0(struct spice_server, 1);
    s->ops = p->ops;
    s->ctx = p->ctx;
    s->connections = g_array_new(FALSE, FALSE, sizeof(struct connection));
    s->server = spice_server_new();
    if (set_up(s, p, error))
        return s;
    if (error && !*error)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "the SPICE server could not be made");
    spice_server_stop(s);
    return NULL;
}

static gboolean is_network(int fd)
{
    struct sockaddr_storage own = {0};
    socklen_t size = sizeof own;
    return getsockname(fd, (struct sockaddr *)&own, &size) == 0 && own.ss_family != AF_UNIX;
}

void spice_server_accept(struct spice_server *s, int fd)
{
    const struct connection c = {.fd = fd,
                                 .inode = inode_of(fd),
                                 .since = g_get_monotonic_time(),
                                 .network = is_network(fd)};
    forget_closed(s);
    if (s->connections->len >= CONNECTIONS_MAX ||
        (s->tls ? spice_server_add_ssl_client(s->server, fd, 0)
                : spice_server_add_client(s->server, fd, 0))) {
        close(fd);
        return;
    }
    g_array_append_val(s->connections, c);
    if (!s->look_id)
        s->look_id = g_timeout_add_seconds(LOOK_S, look, s);
}

void spice_server_disconnect(struct spice_server *s, guint64 number)
{
    for (guint i = 0; i < s->connections->len; i++) {
        const struct connection *c = &g_array_index(s->connections, struct connection, i);
        if ((guint64)c->id == number && inode_of(c->fd) == c->inode)
            shutdown(c->fd, SHUT_RDWR);
    }
}

void spice_server_set_view_only(struct spice_server *s, gboolean on)
{
    spice_input_set_view_only(s->input, on);
    spice_agent_set_view_only(s->agent, on);
    spice_usb_set_view_only(s->usb, on);
}

void spice_server_stop(struct spice_server *s)
{
    current = NULL;
    if (s->shared)
        remote_shared_set_spice(s->shared, NULL, NULL);
    if (s->agent)
        spice_agent_free(s->agent);
    if (s->sound)
        spice_sound_free(s->sound);
    if (s->usb)
        spice_usb_free(s->usb);
    if (s->display)
        spice_display_free(s->display);
    if (s->server)
        spice_server_destroy(s->server);
    if (s->input)
        spice_input_free(s->input);
    g_clear_handle_id(&s->look_id, g_source_remove);
    g_array_unref(s->connections);
    g_free(s);
}
