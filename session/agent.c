/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The guest's agent as the worker sees it: streams that come in, the control channel, services that
 * are asked for. */
#include "session/session-int.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/log.h"

enum {
    MAX_INCOMING = 16,
    INCOMING_S = 5,
    MAX_CONTROL_QUEUE = 65536,
    RETRY_US = 1000000,
    ASK_US = 15000000, /* longer than the agent tries, for some at once */
    MAX_USB_WAITS = 16,
    RESERVED_PORTS = 1024,
};

/* ---- streams that come in ---- */

struct incoming {
    VireoSession *session;
    int fd;
    guint in_id, timeout_id;
    guint8 bytes[sizeof(struct agent_open)];
    gsize have;
};

/* Returns the descriptor. */
static int incoming_take(struct incoming *i)
{
    int fd = i->fd;
    g_queue_remove(&i->session->incoming, i);
    g_clear_handle_id(&i->in_id, g_source_remove);
    g_clear_handle_id(&i->timeout_id, g_source_remove);
    g_free(i);
    return fd;
}

static void incoming_drop(struct incoming *i)
{
    close(incoming_take(i));
}

void vireo_agent_forget_incoming(VireoSession *self)
{
    while (!g_queue_is_empty(&self->incoming))
        incoming_drop(g_queue_peek_head(&self->incoming));
}

static gboolean on_incoming_slow(gpointer data)
{
    struct incoming *i = data;
    i->timeout_id = 0;
    incoming_drop(i);
    return G_SOURCE_REMOVE;
}

static void control_begin(VireoSession *self, int fd);
static void service_begin(VireoSession *self, guint32 service, guint32 id, int fd);

/* A whole header: whose stream is it? */
static void route(VireoSession *self, const struct agent_open *o, int fd)
{
    guint32 service = GUINT32_FROM_LE(o->service);
    if (memcmp(o->magic, AGENT_MAGIC, sizeof o->magic) == 0 &&
        GUINT16_FROM_LE(o->major) != AGENT_MAJOR) {
        guint8 out[sizeof(struct agent_head) + sizeof(struct agent_welcome)];
        struct agent_welcome w = {GUINT16_TO_LE(AGENT_MAJOR), GUINT16_TO_LE(AGENT_MINOR), {0}};
        LOG_GUEST("session", "the guest's agent speaks version %u of the protocol, this Vireo %u",
                  GUINT16_FROM_LE(o->major), AGENT_MAJOR);
        gsize n = agent_wire_put(out, AGENT_REFUSED, &w, sizeof w);
        if (send(fd, out, n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            LOG_GUEST("session", "and it does not listen");
    } else if (agent_open_valid(o) && service == AGENT_CONTROL) {
        control_begin(self, fd);
        return;
    } else if (agent_open_valid(o) && self->hello &&
               memcmp(o->token, self->token, sizeof o->token) == 0) {
        service_begin(self, service, GUINT32_FROM_LE(o->id), fd);
        return;
    } else {
        LOG_GUEST("session", "a stream of the guest says nothing that is known; it is closed");
    }
    close(fd);
}

static gboolean on_incoming(gint fd, GIOCondition condition, gpointer data)
{
    struct incoming *i = data;
    ssize_t n = recv(fd, i->bytes + i->have, sizeof i->bytes - i->have, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return G_SOURCE_CONTINUE;
    if (n > 0)
        i->have += (gsize)n;
    if (n > 0 && i->have < sizeof i->bytes)
        return G_SOURCE_CONTINUE;
    i->in_id = 0;
    if (n <= 0) {
        incoming_drop(i);
        return G_SOURCE_REMOVE;
    }
    VireoSession *self = i->session;
    struct agent_open o;
    memcpy(&o, i->bytes, sizeof o);
    route(self, &o, incoming_take(i));
    return G_SOURCE_REMOVE;
}

void vireo_session_accept(VireoSession *self, int fd, guint32 guest_port)
{
    if (self->closed || !self->enabled || guest_port >= RESERVED_PORTS ||
        g_queue_get_length(&self->incoming) >= MAX_INCOMING) {
        if (guest_port >= RESERVED_PORTS)
            LOG_GUEST("session", "an ordinary program of the guest posed as its agent");
        close(fd);
        return;
    }
    struct incoming *i = g_new0(struct incoming, 1);
    i->session = self;
    i->fd = fd;
    g_unix_set_fd_nonblocking(fd, TRUE, NULL);
    i->in_id = g_unix_fd_add(fd, G_IO_IN | G_IO_HUP | G_IO_ERR, on_incoming, i);
    i->timeout_id = g_timeout_add_seconds(INCOMING_S, on_incoming_slow, i);
    g_queue_push_tail(&self->incoming, i);
}

/* ---- services ---- */

static void send_message(VireoSession *self, guint32 type, gconstpointer data, gsize len)
{
    guint8 out[sizeof(struct agent_head) + 64];
    if (!self->control)
        return;
    vireo_stream_write(self->control, out, agent_wire_put(out, type, data, len));
}

static guint32 next_id(VireoSession *self)
{
    if (++self->last_id == 0)
        self->last_id = 1;
    return self->last_id;
}

void vireo_agent_start(VireoSession *self, guint32 service)
{
    struct service *s = &self->services[service];
    gint64 now = g_get_monotonic_time();
    if (s->state != SERVICE_CLOSED || now < s->not_before)
        return;
    s->state = SERVICE_ASKED;
    s->asked_at = now;
    s->id = next_id(self);
    struct agent_start m = {GUINT32_TO_LE(service), GUINT32_TO_LE(s->id), {0, 0}};
    send_message(self, AGENT_START, &m, sizeof m);
}

void vireo_agent_stop(VireoSession *self, guint32 service)
{
    struct service *s = &self->services[service];
    if (s->state == SERVICE_CLOSED)
        return;
    s->state = SERVICE_CLOSED;
    struct agent_start m = {GUINT32_TO_LE(service), GUINT32_TO_LE(s->id), {0, 0}};
    send_message(self, AGENT_STOP, &m, sizeof m);
    if (service == AGENT_VDAGENT)
        vireo_clipboard_detach(self->clipboard, VIREO_AGENT_SPICE);
    else if (service == AGENT_CLIPBOARD)
        vireo_clipboard_detach(self->clipboard, VIREO_AGENT_OWN);
    else
        vireo_audio_detach(self->audio, service == AGENT_RECORD);
}

static struct usb_wait *find_usb(VireoSession *self, guint32 id)
{
    for (GList *l = self->usb_waits.head; l; l = l->next)
        if (((struct usb_wait *)l->data)->id == id)
            return l->data;
    return NULL;
}

static void end_usb(VireoSession *self, struct usb_wait *w, int fd, const char *why)
{
    g_autoptr(GError) error =
        fd < 0 ? g_error_new_literal(G_IO_ERROR, G_IO_ERROR_FAILED, why) : NULL;
    g_queue_remove(&self->usb_waits, w);
    w->done(w->data, fd, error);
    g_free(w);
}

static void service_begin(VireoSession *self, guint32 service, guint32 id, int fd)
{
    struct service *s = &self->services[service];
    struct usb_wait *w = service == AGENT_USB ? find_usb(self, id) : NULL;
    if (w) {
        g_unix_set_fd_nonblocking(fd, FALSE, NULL);
        end_usb(self, w, fd, NULL);
        return;
    }
    if (service == AGENT_USB || s->state != SERVICE_ASKED || s->id != id) {
        close(fd);
        return;
    }
    s->state = SERVICE_OPEN;
    if (service == AGENT_VDAGENT)
        vireo_clipboard_attach(self->clipboard, VIREO_AGENT_SPICE, fd);
    else if (service == AGENT_CLIPBOARD)
        vireo_clipboard_attach(self->clipboard, VIREO_AGENT_OWN, fd);
    else
        vireo_audio_attach(self->audio, service == AGENT_RECORD, fd);
    vireo_session_update(self);
}

static void on_failed(VireoSession *self, const struct agent_failed *f)
{
    static const char *const reasons[] = {
        "The guest could not do it.",
        "The guest's kernel has no driver for devices handed over (module vhci_hcd).",
        "The guest has no free port for another device.",
        "The guest refused the device.",
    };
    guint32 service = GUINT32_FROM_LE(f->service), id = GUINT32_FROM_LE(f->id);
    guint32 reason = GUINT32_FROM_LE(f->reason);
    struct usb_wait *w = service == AGENT_USB ? find_usb(self, id) : NULL;
    if (w)
        end_usb(self, w, -1, reasons[reason < G_N_ELEMENTS(reasons) ? reason : 0]);
    else if (service < AGENT_SERVICES && self->services[service].state == SERVICE_ASKED &&
             self->services[service].id == id) {
        self->services[service].state = SERVICE_CLOSED;
        self->services[service].not_before = g_get_monotonic_time() + RETRY_US;
        vireo_session_update(self);
    }
}

/* What was asked for long ago is given up, to be asked for again. */
void vireo_agent_check_times(VireoSession *self)
{
    gint64 now = g_get_monotonic_time();
    for (guint i = 0; i < AGENT_SERVICES; i++)
        if (self->services[i].state == SERVICE_ASKED && now - self->services[i].asked_at > ASK_US)
            self->services[i].state = SERVICE_CLOSED;
    for (GList *l = self->usb_waits.head, *next; l; l = next) {
        struct usb_wait *w = l->data;
        next = l->next;
        if (now - w->asked_at > ASK_US)
            end_usb(self, w, -1, "The guest's agent does not answer.");
    }
}

void vireo_session_open_usb(VireoSession *self, guint32 device, guint32 speed,
                            VireoUsbStreamFunc done, gpointer data)
{
    const char *why = NULL;
    if (!self->hello)
        why = "The guest has no agent running. Install vireo-agent in it.";
    else if (!(self->offered & 1u << AGENT_USB))
        why = "The guest's kernel has no driver for devices handed over (module vhci_hcd).";
    else if (!self->policy[VIREO_POLICY_USB])
        why = "This machine's settings keep USB devices from the guest.";
    else if (g_queue_get_length(&self->usb_waits) >= MAX_USB_WAITS)
        why = "The guest is busy with other devices.";
    if (why) {
        g_autoptr(GError) error = g_error_new_literal(G_IO_ERROR, G_IO_ERROR_FAILED, why);
        done(data, -1, error);
        return;
    }
    struct usb_wait *w = g_new0(struct usb_wait, 1);
    *w = (struct usb_wait){next_id(self), done, data, g_get_monotonic_time()};
    g_queue_push_tail(&self->usb_waits, w);
    struct agent_start m = {GUINT32_TO_LE((guint32)AGENT_USB),
                            GUINT32_TO_LE(w->id),
                            {GUINT32_TO_LE(device), GUINT32_TO_LE(speed)}};
    send_message(self, AGENT_START, &m, sizeof m);
}

/* ---- the control channel ---- */

void vireo_agent_drop(VireoSession *self)
{
    g_clear_pointer(&self->control, vireo_stream_free);
    self->hello = FALSE;
    self->offered = 0;
    self->wire.have = 0;
    for (guint i = 0; i < AGENT_SERVICES; i++)
        self->services[i] = (struct service){0};
    vireo_clipboard_detach(self->clipboard, VIREO_AGENT_OWN);
    vireo_clipboard_detach(self->clipboard, VIREO_AGENT_SPICE);
    vireo_audio_detach(self->audio, FALSE);
    vireo_audio_detach(self->audio, TRUE);
    while (!g_queue_is_empty(&self->usb_waits))
        end_usb(self, g_queue_peek_head(&self->usb_waits), -1, "The guest's agent is gone.");
}

/* A text of the guest: valid UTF-8 without control characters. */
static GVariant *text_of(const char *bytes, gsize size)
{
    g_autofree char *raw = g_strndup(bytes, size), *valid = g_utf8_make_valid(raw, -1);
    for (char *p = valid; *p; p++)
        if ((guchar)*p < 0x20 || *p == 0x7f)
            *p = ' ';
    return g_variant_new_string(valid);
}

static void tell_agent(VireoSession *self, const struct agent_hello *h)
{
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a{sv}"));
    g_variant_builder_add(&b, "{sv}", "version", text_of(h->version, sizeof h->version));
    g_variant_builder_add(&b, "{sv}", "kernel", text_of(h->kernel, sizeof h->kernel));
    g_variant_builder_add(&b, "{sv}", "system", text_of(h->system, sizeof h->system));
    vireo_session1_set_agent(self->skeleton, g_variant_builder_end(&b));
}

static gboolean on_hello(VireoSession *self, const guint8 *data, gsize len)
{
    struct agent_hello h;
    struct agent_welcome w = {GUINT16_TO_LE(AGENT_MAJOR), GUINT16_TO_LE(AGENT_MINOR), {0}};
    if (self->hello || !agent_wire_take(&h, sizeof h, sizeof h.now, data, len))
        return FALSE;
    for (gsize i = 0; i < AGENT_TOKEN; i += 4) {
        guint32 r = g_random_int();
        memcpy(self->token + i, &r, 4);
    }
    memcpy(w.token, self->token, sizeof w.token);
    self->hello = TRUE;
    self->offered = GUINT32_FROM_LE(h.now.services);
    tell_agent(self, &h);
    send_message(self, AGENT_WELCOME, &w, sizeof w);
    log_line(LOG_INFO, "session", "the guest's agent is connected");
    return TRUE;
}

static bool on_message(void *ctx, uint32_t type, const uint8_t *data, size_t len)
{
    VireoSession *self = ctx;
    struct agent_changed now;
    struct agent_failed failed;
    if (type == AGENT_HELLO) {
        if (!on_hello(self, data, len))
            return false;
    } else if (!self->hello) {
        return false;
    } else if (type == AGENT_CHANGED) {
        if (!agent_wire_take(&now, sizeof now, sizeof now, data, len))
            return false;
        self->offered = GUINT32_FROM_LE(now.services);
    } else if (type == AGENT_FAILED) {
        if (!agent_wire_take(&failed, sizeof failed, sizeof failed, data, len))
            return false;
        on_failed(self, &failed);
    }
    vireo_session_update(self);
    /* Who asks without reading has a queue that grows. */
    return vireo_stream_queued(self->control) < MAX_CONTROL_QUEUE;
}

static gboolean on_control(gpointer ctx, const guint8 *bytes, gsize len)
{
    VireoSession *self = ctx;
    if (agent_wire_feed(&self->wire, bytes, len, on_message, self))
        return TRUE;
    LOG_GUEST("session", "the guest's agent broke its protocol; it is disconnected");
    return FALSE;
}

static void on_control_closed(gpointer ctx)
{
    VireoSession *self = ctx;
    vireo_agent_drop(self);
    vireo_session_update(self);
}

static const struct vireo_stream_ops control_ops = {on_control, NULL, on_control_closed};

static void control_begin(VireoSession *self, int fd)
{
    vireo_agent_drop(self);
    self->control = vireo_stream_new(fd, &control_ops, self);
}
