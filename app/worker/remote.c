/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SPICE and VNC in the worker. To the enhanced session they are a viewer like any other: on a
 * connection of this process with itself, over which the worker's own objects are served. */
#include <sys/socket.h>

#include "app/worker/worker.h"
#include "session/remote/remote.h"
#include "session/skeleton.h"

struct worker_remote {
    struct worker *w;
    VireoRemote *remote;
    GDBusConnection *inner[2]; /* the worker's end, the viewer's */
};

static GIOStream *stream_of(int fd)
{
    g_autoptr(GSocket) socket = g_socket_new_from_fd(fd, NULL);
    return socket ? G_IO_STREAM(g_socket_connection_factory_create_connection(socket)) : NULL;
}

static void on_connected(GObject *source, GAsyncResult *result, gpointer to)
{
    *(GDBusConnection **)to = g_dbus_connection_new_finish(result, NULL);
}

/* Joins the process with itself. Nothing else runs yet: the main loop is turned until both ends
 * have greeted. */
static gboolean connect_inner(struct worker_remote *r)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return FALSE;
    g_autoptr(GIOStream) ours = stream_of(pair[0]), viewers = stream_of(pair[1]);
    g_autofree char *guid = g_dbus_generate_guid();
    if (!ours || !viewers)
        return FALSE;
    g_dbus_connection_new(ours, guid,
                          G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_SERVER |
                              G_DBUS_CONNECTION_FLAGS_DELAY_MESSAGE_PROCESSING,
                          NULL, NULL, on_connected, &r->inner[0]);
    g_dbus_connection_new(viewers, NULL, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT, NULL, NULL,
                          on_connected, &r->inner[1]);
    gint64 deadline = g_get_monotonic_time() + 5 * G_USEC_PER_SEC;
    while (!(r->inner[0] && r->inner[1]) && g_get_monotonic_time() < deadline)
        if (!g_main_context_iteration(NULL, FALSE))
            g_usleep(1000);
    return r->inner[0] && r->inner[1];
}

struct worker_remote *worker_remote_new(struct worker *w)
{
    struct worker_remote *r = g_new0(struct worker_remote, 1);
    r->w = w;
    gboolean joined = connect_inner(r) && worker_session_export(w->session, r->inner[0]);
    for (int i = 0; i < 2; i++)
        if (r->inner[i])
            g_dbus_connection_set_exit_on_close(r->inner[i], FALSE);
    if (joined)
        g_dbus_connection_start_message_processing(r->inner[0]);
    r->remote = vireo_remote_new(joined ? r->inner[1] : NULL, worker_session_usb(), w->session);
    return r;
}

void worker_remote_attach(struct worker_remote *r)
{
    vireo_remote_attach(r->remote, vm_console(r->w->vm), r->w->config->name);
}

gboolean worker_remote_export(struct worker_remote *r, GDBusConnection *connection)
{
    return g_dbus_interface_skeleton_export(vireo_remote_get_skeleton(r->remote), connection,
                                            VIREO_REMOTE_PATH, NULL);
}

void worker_remote_unexport(struct worker_remote *r, GDBusConnection *connection)
{
    vireo_skeleton_unexport(vireo_remote_get_skeleton(r->remote), connection);
}

void worker_remote_gone(struct worker_remote *r)
{
    vireo_remote_close(r->remote);
}

void worker_remote_free(struct worker_remote *r)
{
    g_clear_object(&r->remote);
    g_clear_object(&r->inner[1]);
    g_clear_object(&r->inner[0]);
    g_free(r);
}
