/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/remote/vnc.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rfb/rfb.h>

#include "session/remote/frame.h"
#include "session/remote/keysym.h"

enum {
    HANDSHAKE_MS = 20000, /* to be let in by then */
    STALL_MS = 10000,     /* a write, or the rest of a message, may take */
    TEXT_MAX_BYTES = 1 << 20,
    DARK_WIDTH = 640, /* what is shown while the machine shows nothing */
    DARK_HEIGHT = 480,
    BUTTONS = 9, /* bits of a pointer event's mask that are looked at */
};

struct vnc_client {
    struct console *console;
    const struct vnc_ops *ops;
    void *ctx;
    char *name, *password;
    GThread *thread;
    int wake;

    GMutex lock; /* the next group; any thread */
    int fd;      /* -1: closed */
    GBytes *text;
    gboolean stop;
    gint view_only; /* atomic */

    /* the thread's */
    rfbScreenInfoPtr screen;
    rfbClientPtr client; /* NULL: gone */
    struct console_listener *source;
    struct frame frame;
    uint8_t *dark;
    rfbCursorPtr cursor;
    gboolean passed;
    char *passwords[2];
    guint8 down[32]; /* a bit a qnum */
    int buttons;
};

static void wake_up(void *ctx)
{
    struct vnc_client *c = ctx;
    guint64 one = 1;
    (void)!write(c->wake, &one, sizeof one);
}

static struct vnc_client *of(rfbClientPtr client)
{
    return client->screen->screenData;
}

/* ---- what it sends ---- */

static void key(struct vnc_client *c, uint8_t qnum, gboolean down)
{
    if (!qnum || g_atomic_int_get(&c->view_only))
        return;
    if (down)
        c->down[qnum / 8] |= (guint8)(1 << qnum % 8);
    else
        c->down[qnum / 8] &= (guint8) ~(1 << qnum % 8);
    console_key(c->console, qnum, down);
}

static void on_key(rfbBool down, rfbKeySym keysym, rfbClientPtr client)
{
    key(of(client), keysym_to_qnum(keysym), down);
}

static void press(struct vnc_client *c, int bit, gboolean down)
{
    static const guint8 button[BUTTONS] = {[0] = 0, [1] = 2, [2] = 1, [7] = 3, [8] = 4};
    if (bit == 3 || bit == 4) {
        if (down)
            console_wheel(c->console, bit == 3 ? 1 : -1);
    } else if (bit < 3 || bit > 6) {
        console_button(c->console, button[bit], down);
    }
}

/* What it held when it went. */
static void let_go(struct vnc_client *c)
{
    for (unsigned q = 1; q < 256; q++)
        if (c->down[q / 8] & 1 << q % 8)
            console_key(c->console, (uint8_t)q, false);
    for (int bit = 0; bit < BUTTONS; bit++)
        if (c->buttons & 1 << bit)
            press(c, bit, FALSE);
}

static void on_pointer(int mask, int x, int y, rfbClientPtr client)
{
    struct vnc_client *c = of(client);
    if (!g_atomic_int_get(&c->view_only)) {
        console_move_pixels(c->console, (uint32_t)MAX(x, 0), (uint32_t)MAX(y, 0));
        for (int bit = 0; bit < BUTTONS; bit++)
            if ((mask ^ c->buttons) & 1 << bit)
                press(c, bit, mask >> bit & 1);
        c->buttons = mask;
    }
    rfbDefaultPtrAddEvent(mask, x, y, client);
}

static int on_leds(rfbScreenInfoPtr screen)
{
    return (int)console_leds(((struct vnc_client *)screen->screenData)->console);
}

static void on_text(char *text, int len, rfbClientPtr client)
{
    struct vnc_client *c = of(client);
    g_autofree char *utf8 = NULL;
    gsize n = 0;
    if (len > 0 && len <= TEXT_MAX_BYTES && !g_atomic_int_get(&c->view_only))
        utf8 = g_convert(text, len, "UTF-8", "ISO-8859-1", NULL, &n, NULL);
    if (utf8)
        c->ops->text(c->ctx, utf8, n);
}

static void on_text_utf8(char *text, int len, rfbClientPtr client)
{
    struct vnc_client *c = of(client);
    gsize n = len > 0 ? strnlen(text, (gsize)len) : 0; /* the sender's end is part of it */
    if (n && n <= TEXT_MAX_BYTES && g_utf8_validate(text, (gssize)n, NULL) &&
        !g_atomic_int_get(&c->view_only))
        c->ops->text(c->ctx, text, n);
}

static int on_resize(int width, int height, int screens, struct rfbExtDesktopScreen *all,
                     rfbClientPtr client)
{
    struct vnc_client *c = of(client);
    if (width <= 0 || height <= 0 || width > CONSOLE_MAX_WIDTH || height > CONSOLE_MAX_HEIGHT)
        return rfbExtDesktopSize_InvalidScreenLayout;
    if (g_atomic_int_get(&c->view_only) ||
        !c->ops->resize(c->ctx, (unsigned)width, (unsigned)height))
        return rfbExtDesktopSize_ResizeProhibited;
    return rfbExtDesktopSize_Success;
}

static rfbBool on_password(rfbClientPtr client, const char *response, int len)
{
    rfbBool right = rfbCheckPasswordByList(client, response, len);
    struct vnc_client *c = of(client);
    if (right && !c->passed) {
        c->passed = TRUE;
        c->ops->passed(c->ctx);
    }
    return right;
}

static void on_gone(rfbClientPtr client)
{
    of(client)->client = NULL;
}

/* ---- QEMU's extended key event ---- */

static rfbBool extension_new(rfbClientPtr client, void **data)
{
    return client->screen->kbdAddEvent == on_key;
}

/* That the server knows it is told by an empty rectangle of that encoding. */
static rfbBool extension_enable(rfbClientPtr client, void **data, int encoding)
{
    struct {
        rfbFramebufferUpdateMsg update;
        rfbFramebufferUpdateRectHeader rect;
    } __attribute__((packed)) m = {{0}};
    if (encoding != (int)rfbEncodingQemuExtendedKeyEvent)
        return FALSE;
    m.update.type = rfbFramebufferUpdate;
    m.update.nRects = GUINT16_TO_BE(1);
    m.rect.encoding = GUINT32_TO_BE(rfbEncodingQemuExtendedKeyEvent);
    return rfbWriteExact(client, (char *)&m,
                         sz_rfbFramebufferUpdateMsg + sz_rfbFramebufferUpdateRectHeader) > 0;
}

static rfbBool extension_message(rfbClientPtr client, void *data,
                                 const rfbClientToServerMsg *message)
{
    rfbQemuExtendedKeyEventMsg m;
    if (message->type != rfbQemuEvent)
        return FALSE;
    if (rfbReadExact(client, (char *)&m + 1, sz_rfbQemuExtendedKeyEventMsg - 1) <= 0 ||
        m.subtype != 0) {
        rfbCloseClient(client);
        return TRUE;
    }
    guint32 code = GUINT32_FROM_BE(m.keycode);
    key(of(client), code < 256 ? (uint8_t)code : 0, m.down != 0);
    return TRUE;
}

static void register_once(void)
{
    static gsize done;
    static int encodings[] = {(int)rfbEncodingQemuExtendedKeyEvent, 0};
    static rfbProtocolExtension extension = {.newClient = extension_new,
                                             .pseudoEncodings = encodings,
                                             .enablePseudoEncoding = extension_enable,
                                             .handleMessage = extension_message};
    if (!g_once_init_enter(&done))
        return;
    rfbLogEnable(FALSE);
    rfbRegisterProtocolExtension(&extension);
    g_once_init_leave(&done, 1);
}

/* ---- what it sees ---- */

static char *pixels(struct vnc_client *c, int *width, int *height)
{
    *width = c->frame.pixels ? (int)c->frame.width : DARK_WIDTH;
    *height = c->frame.pixels ? (int)c->frame.height : DARK_HEIGHT;
    return (char *)(c->frame.pixels ? c->frame.pixels : c->dark);
}

static void show_shape(struct vnc_client *c, const struct console_shape *s)
{
    gsize n = (gsize)s->width * s->height;
    rfbCursorPtr old = c->cursor, cursor = NULL;
    if (n) {
        cursor = calloc(1, sizeof *cursor);
        cursor->width = (unsigned short)s->width;
        cursor->height = (unsigned short)s->height;
        cursor->xhot = (unsigned short)s->hot_x;
        cursor->yhot = (unsigned short)s->hot_y;
        cursor->richSource = malloc(n * 4);
        cursor->alphaSource = malloc(n);
        memcpy(cursor->richSource, s->argb, n * 4);
        for (gsize i = 0; i < n; i++)
            cursor->alphaSource[i] = s->argb[i * 4 + 3];
        cursor->mask = (unsigned char *)rfbMakeMaskFromAlphaSource((int)s->width, (int)s->height,
                                                                   cursor->alphaSource);
        cursor->cleanupRichSource = cursor->cleanupMask = TRUE;
    }
    c->cursor = cursor;
    rfbSetCursor(c->screen, cursor);
    if (old) {
        free(old->alphaSource);
        old->alphaSource = NULL;
        old->cleanup = TRUE;
        rfbFreeCursor(old);
    }
}

static void show(struct vnc_client *c)
{
    struct console_update u;
    while (console_take(c->source, &u)) {
        int width, height;
        gboolean resized = frame_update(&c->frame, &u);
        char *now = pixels(c, &width, &height);
        if (resized)
            rfbNewFramebuffer(c->screen, now, width, height, 8, 3, 4);
        for (unsigned i = 0; i < u.nrects; i++)
            rfbMarkRectAsModified(c->screen, (int)u.rects[i].x, (int)u.rects[i].y,
                                  (int)(u.rects[i].x + u.rects[i].width),
                                  (int)(u.rects[i].y + u.rects[i].height));
        if (u.changes & CONSOLE_SHAPE_CHANGED)
            show_shape(c, &u.shape);
        console_update_clear(&u);
    }
}

/* ---- the thread ---- */

static gboolean set_up(struct vnc_client *c)
{
    struct console_update first;
    int width, height;
    c->dark = g_malloc0(DARK_WIDTH * DARK_HEIGHT * 4);
    c->source = console_listen(c->console, wake_up, c);
    if (!c->source)
        return FALSE;
    if (console_take(c->source, &first)) {
        frame_update(&c->frame, &first);
        console_update_clear(&first);
    }
    char *now = pixels(c, &width, &height);
    rfbScreenInfoPtr s = c->screen = rfbGetScreen(NULL, NULL, width, height, 8, 3, 4);
    if (!s)
        return FALSE;
    s->screenData = c;
    s->frameBuffer = now;
    s->desktopName = c->name;
    s->serverFormat.redShift = 16;
    s->serverFormat.greenShift = 8;
    s->serverFormat.blueShift = 0;
    s->port = s->ipv6port = 0; /* it listens nowhere */
    s->alwaysShared = TRUE;
    s->deferUpdateTime = 0;
    s->maxClientWait = STALL_MS;
    s->cursor = NULL;
    s->kbdAddEvent = on_key;
    s->ptrAddEvent = on_pointer;
    s->getKeyboardLedStateHook = on_leds;
    s->setXCutText = on_text;
    s->setXCutTextUTF8 = on_text_utf8;
    s->setDesktopSizeHook = on_resize;
    s->handleEventsEagerly = TRUE;
    if (c->password) {
        c->passwords[0] = c->password;
        s->authPasswdData = c->passwords;
        s->passwordCheck = on_password;
    }
    rfbInitServer(s);
    return TRUE;
}

static void send_text(struct vnc_client *c)
{
    g_mutex_lock(&c->lock);
    g_autoptr(GBytes) text = g_steal_pointer(&c->text);
    g_mutex_unlock(&c->lock);
    if (!text || !c->client || c->client->state != RFB_NORMAL)
        return;
    gsize len;
    const char *utf8 = g_bytes_get_data(text, &len);
    g_autofree char *latin =
        g_convert_with_fallback(utf8, (gssize)len, "ISO-8859-1", "UTF-8", "?", NULL, NULL, NULL);
    g_autofree char *copy = g_strndup(utf8, len);
    rfbSendServerCutTextUTF8(c->screen, copy, (int)len, latin ? latin : (char *)"",
                             latin ? (int)strlen(latin) : 0);
}

static gboolean wanted(struct vnc_client *c)
{
    g_mutex_lock(&c->lock);
    gboolean stop = c->stop;
    g_mutex_unlock(&c->lock);
    return !stop && c->client;
}

static void note_passed(struct vnc_client *c)
{
    if (c->passed || !c->client || c->client->state != RFB_NORMAL)
        return;
    c->passed = TRUE;
    c->ops->passed(c->ctx);
}

static void serve(struct vnc_client *c)
{
    gint64 deadline = g_get_monotonic_time() + HANDSHAKE_MS * 1000;
    while (wanted(c)) {
        struct pollfd fds[] = {{.fd = c->client->sock, .events = POLLIN},
                               {.fd = c->wake, .events = POLLIN}};
        gboolean in = c->client->state == RFB_NORMAL;
        gint64 left = (deadline - g_get_monotonic_time()) / 1000;
        if (!in && left <= 0)
            return;
        if (poll(fds, 2, in ? -1 : (int)left + 1) < 0 && errno != EINTR)
            return;
        guint64 count;
        if (fds[1].revents)
            (void)!read(c->wake, &count, sizeof count);
        show(c);
        send_text(c);
        rfbProcessEvents(c->screen, 0);
        note_passed(c);
    }
}

/* From here on vnc_client_stop finds no descriptor that might be another's by then. */
static void forget_fd(struct vnc_client *c)
{
    g_mutex_lock(&c->lock);
    c->fd = -1;
    g_mutex_unlock(&c->lock);
}

static gpointer run(gpointer data)
{
    struct vnc_client *c = data;
    int fd = c->fd;
    if (fd < FD_SETSIZE && set_up(c)) {
        c->client = rfbNewClient(c->screen, fd); /* closes it if it fails */
        if (c->client) {
            c->client->clientGoneHook = on_gone;
            serve(c);
            forget_fd(c);
            if (c->client) {
                rfbCloseClient(c->client);
                rfbClientConnectionGone(c->client);
            }
        }
        forget_fd(c);
    } else {
        forget_fd(c);
        close(fd);
    }
    let_go(c);
    if (c->source)
        console_unlisten(c->source);
    if (c->screen) {
        if (c->cursor)
            show_shape(c, &(struct console_shape){0});
        c->screen->frameBuffer = NULL;
        rfbScreenCleanup(c->screen);
    }
    frame_clear(&c->frame);
    g_free(c->dark);
    c->ops->ended(c->ctx);
    return NULL;
}

struct vnc_client *vnc_client_new(const struct vnc_params *p)
{
    struct vnc_client *c = g_new0(struct vnc_client, 1);
    register_once();
    c->console = p->console;
    c->ops = p->ops;
    c->ctx = p->ctx;
    c->name = g_strdup(p->name);
    c->password = g_strdup(p->password);
    c->view_only = p->view_only;
    c->fd = p->fd;
    c->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g_mutex_init(&c->lock);
    c->thread = c->wake >= 0 ? g_thread_try_new("vireo-vnc", run, c, NULL) : NULL;
    if (c->thread)
        return c;
    close(p->fd);
    vnc_client_free(c);
    return NULL;
}

void vnc_client_set_view_only(struct vnc_client *c, gboolean on)
{
    g_atomic_int_set(&c->view_only, on);
}

void vnc_client_send_text(struct vnc_client *c, const char *text, gsize len)
{
    g_mutex_lock(&c->lock);
    g_clear_pointer(&c->text, g_bytes_unref);
    if (len <= TEXT_MAX_BYTES)
        c->text = g_bytes_new(text, len);
    g_mutex_unlock(&c->lock);
    wake_up(c);
}

void vnc_client_stop(struct vnc_client *c)
{
    g_mutex_lock(&c->lock);
    c->stop = TRUE;
    if (c->fd >= 0)
        shutdown(c->fd, SHUT_RDWR); /* whatever it waits for in the library */
    g_mutex_unlock(&c->lock);
    wake_up(c);
}

void vnc_client_free(struct vnc_client *c)
{
    if (c->thread)
        g_thread_join(c->thread);
    if (c->wake >= 0)
        close(c->wake);
    g_clear_pointer(&c->text, g_bytes_unref);
    g_mutex_clear(&c->lock);
    g_free(c->name);
    g_free(c->password);
    g_free(c);
}
