/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The enhanced session in the worker: made with the process, fed with the streams that the guest's
 * agent opens; USB devices go by the same agent. */
#include <unistd.h>

#include "app/worker/worker.h"
#include "core/base/log.h"
#include "session/agent-proto.h"
#include "session/session.h"
#include "session/skeleton.h"
#include "session/usb/usb-service.h"

struct worker_session {
    VireoSession *session;
    VireoUsbService *usb;
};

/* ---- USB ---- */

static gboolean usb_allowed(gpointer ctx, guint16 vendor, guint16 product, GError **error)
{
    struct worker_session *s = ctx;
    if (vireo_session_get_policy(s->session, VIREO_POLICY_USB))
        return TRUE;
    g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED,
                        "This machine's settings keep USB devices from the guest.");
    return FALSE;
}

static void usb_stream(gpointer ctx, guint32 device, guint32 speed, VireoUsbStreamFunc done,
                       gpointer data)
{
    vireo_session_open_usb(((struct worker_session *)ctx)->session, device, speed, done, data);
}

static const VireoUsbServiceOps usb_ops = {usb_allowed, usb_stream};

/* ---- streams ---- */

struct arrival {
    VireoSession *session;
    int fd;
    guint32 port;
};

static gboolean on_arrival(gpointer data)
{
    struct arrival *a = data;
    vireo_session_accept(a->session, a->fd, a->port);
    g_object_unref(a->session);
    g_free(a);
    return G_SOURCE_REMOVE;
}

/* I/O thread. */
static void arrived(void *ctx, int fd, uint32_t guest_port)
{
    struct arrival *a = g_new0(struct arrival, 1);
    *a = (struct arrival){g_object_ref(((struct worker_session *)ctx)->session), fd, guest_port};
    g_idle_add_full(G_PRIORITY_DEFAULT, on_arrival, a, NULL);
}

/* ---- life ---- */

struct worker_session *worker_session_new(void)
{
    struct worker_session *s = g_new0(struct worker_session, 1);
    s->session = vireo_session_new();
    s->usb = vireo_usb_service_new(&usb_ops, s);
    return s;
}

void worker_session_attach(struct worker_session *s, struct vm *vm, const struct vm_config *c)
{
    const struct {
        VireoPolicy policy;
        gboolean allowed;
    } set[] = {{VIREO_POLICY_CLIPBOARD_TO_GUEST, c->clipboard_to},
               {VIREO_POLICY_CLIPBOARD_FROM_GUEST, c->clipboard_from},
               {VIREO_POLICY_FILES, c->files},
               {VIREO_POLICY_SOUND, c->sound},
               {VIREO_POLICY_MICROPHONE, c->microphone},
               {VIREO_POLICY_USB, c->usb}};
    err e = ERR_INIT;
    for (size_t i = 0; i < G_N_ELEMENTS(set); i++)
        vireo_session_set_policy(s->session, set[i].policy, set[i].allowed);
    vireo_session_set_enabled(s->session, c->enhanced);
    if (!vm_accept_guest(vm, AGENT_PORT, arrived, s, &e))
        log_line(LOG_WARNING, "session", "there will be no enhanced session: %s", e.text);
}

const VireoUsbServiceOps *worker_session_usb(void)
{
    return &usb_ops;
}

gboolean worker_session_export(struct worker_session *s, GDBusConnection *connection)
{
    return vireo_session_export(s->session, connection, NULL) &&
           g_dbus_interface_skeleton_export(vireo_usb_service_get_skeleton(s->usb), connection,
                                            VIREO_USB_PATH, NULL);
}

void worker_session_unexport(struct worker_session *s, GDBusConnection *connection)
{
    vireo_skeleton_unexport(vireo_usb_service_get_skeleton(s->usb), connection);
}

void worker_session_size(struct worker_session *s, GDBusConnection *from, guint width, guint height,
                         guint width_mm, guint height_mm)
{
    if (vireo_session_is_viewer(s->session, from))
        vireo_session_set_size(s->session, width, height, width_mm, height_mm);
}

void worker_session_gone(struct worker_session *s)
{
    vireo_usb_service_close_all(s->usb, "The machine is off.");
    vireo_session_close(s->session);
}

void worker_session_free(struct worker_session *s)
{
    g_clear_object(&s->usb);
    g_clear_object(&s->session);
    g_free(s);
}
