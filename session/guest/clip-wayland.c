/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The clipboard of a Wayland session whose compositor has a data control protocol (wlroots' and
 * KDE's; GNOME's has none: there Xwayland's clipboard is served, which is the same one). Other
 * clients are hostile: what they send is bounded, and who stalls is forgotten.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wayland-client.h>

#include "session/guest/agent.h"
#include "session/guest/clip.h"
#include "session/guest/data-control.h"
#include "session/guest/outputs.h"

/* Among the types of what we offer, so that we know it when we are offered it. */
#define OURS "application/x-vireo-host"
enum { MAX_ASKERS = 32, PATIENCE_MS = 20000, LOOK_MS = 2000 };

/* What a program offers. */
struct offer {
    struct wl_proxy *proxy;
    uint32_t types;
    const char *best[CLIP_TYPES]; /* of clip_names, or X11's for text */
    bool ours;
};

static struct wl_display *display;
static struct watch *watch;
static struct wl_seat *seat;
static struct wl_proxy *manager, *device;
static const struct dc_protocol *protocol;

static struct {
    struct offer *offer;     /* what a program has */
    struct wl_proxy *source; /* what the host has */
    uint32_t wanted;         /* types that the host waits for */
    int fd;                  /* the content comes from there; -1: nothing is fetched */
    struct watch *watch;
    enum clip_type fetched;
    uint8_t *data;
    size_t len, room;
    uint64_t step;
} sel[CLIP_SELECTIONS];

/* A program that pastes what the host has. */
static struct asker {
    bool used, sending;
    int fd;
    struct watch *watch;
    unsigned selection;
    enum clip_type type;
    uint8_t *data;
    size_t len, sent;
    uint64_t step;
} askers[MAX_ASKERS];

static void fetch_next(unsigned s);

/* ---- programs that paste ---- */

static void forget_asker(struct asker *a)
{
    watch_remove(a->watch);
    close(a->fd);
    free(a->data);
    *a = (struct asker){0};
}

static void on_writable(void *ctx, short revents)
{
    struct asker *a = ctx;
    ssize_t n = write(a->fd, a->data + a->sent, a->len - a->sent);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    a->step = now_ms();
    a->sent += n > 0 ? (size_t)n : 0;
    if (n <= 0 || a->sent == a->len)
        forget_asker(a);
}

static void answer_asker(struct asker *a, const uint8_t *data, size_t len)
{
    a->data = data && len ? malloc(len) : NULL;
    a->watch = a->data ? watch_add(a->fd, POLLOUT, on_writable, a) : NULL;
    if (!a->watch) {
        forget_asker(a); /* to the program it is empty */
        return;
    }
    memcpy(a->data, data, len);
    a->len = len;
    a->sending = true;
    a->step = now_ms();
}

static void wayland_got(unsigned s, enum clip_type type, const uint8_t *data, size_t len)
{
    for (unsigned i = 0; i < MAX_ASKERS; i++)
        if (askers[i].used && !askers[i].sending && askers[i].selection == s &&
            askers[i].type == type)
            answer_asker(&askers[i], data, len);
}

static enum clip_type type_of_name(const char *mime)
{
    static const char *const x11[] = {"UTF8_STRING", "TEXT", "STRING"};
    for (unsigned i = 0; i < 3; i++)
        if (strcmp(mime, x11[i]) == 0)
            return CLIP_TEXT;
    return clip_type_of(mime);
}

static void on_send(void *ctx, struct wl_proxy *source, const char *mime, int fd)
{
    enum clip_type t = type_of_name(mime);
    struct asker *a = NULL;
    for (unsigned i = 0; i < MAX_ASKERS && !a; i++)
        if (!askers[i].used)
            a = &askers[i];
    if (!a || t == CLIP_TYPES || fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
        close(fd);
        return;
    }
    *a = (struct asker){
        .used = true, .fd = fd, .selection = source == sel[1].source, .type = t, .step = now_ms()};
    clip_ask(a->selection, t);
}

/* ---- what the host has ---- */

static void destroy(struct wl_proxy **p, uint32_t request)
{
    if (*p)
        wl_proxy_marshal_flags(*p, request, NULL, wl_proxy_get_version(*p),
                               WL_MARSHAL_FLAG_DESTROY);
    *p = NULL;
}

static void on_cancelled(void *ctx, struct wl_proxy *source)
{
    for (unsigned s = 0; s < CLIP_SELECTIONS; s++)
        if (sel[s].source == source)
            sel[s].source = NULL;
    destroy(&source, DC_SOURCE_DESTROY);
}

static const struct dc_source_events source_events = {on_send, on_cancelled};

static void offer_type(struct wl_proxy *source, const char *mime)
{
    wl_proxy_marshal_flags(source, DC_SOURCE_OFFER, NULL, wl_proxy_get_version(source), 0, mime);
}

static struct wl_proxy *new_source(uint32_t types)
{
    struct wl_proxy *p = wl_proxy_marshal_flags(manager, DC_MANAGER_CREATE_SOURCE, protocol->source,
                                                wl_proxy_get_version(manager), 0, NULL);
    if (!p)
        return NULL;
    wl_proxy_add_listener(p, (void (**)(void))(uintptr_t)&source_events, NULL);
    for (unsigned t = 0; t < CLIP_TYPES; t++)
        for (unsigned i = 0; (types & 1u << t) && clip_names[t][i]; i++)
            offer_type(p, clip_names[t][i]);
    if (types & 1u << CLIP_TEXT) { /* for Xwayland's programs */
        offer_type(p, "UTF8_STRING");
        offer_type(p, "TEXT");
    }
    offer_type(p, OURS);
    return p;
}

static void wayland_own(unsigned s, uint32_t types)
{
    uint32_t request = s ? DC_DEVICE_SET_PRIMARY : DC_DEVICE_SET_SELECTION;
    struct wl_proxy *before = sel[s].source;
    if (wl_proxy_get_version(device) < 2 && s && protocol != &dc_protocols[0])
        return;
    if (!types && !before)
        return;
    sel[s].source = types ? new_source(types) : NULL;
    wl_proxy_marshal_flags(device, request, NULL, wl_proxy_get_version(device), 0, sel[s].source);
    destroy(&before, DC_SOURCE_DESTROY);
    wl_display_flush(display);
}

/* ---- what the host wants ---- */

static void end_fetch(unsigned s, bool ok)
{
    static const uint8_t nothing[1];
    uint8_t *data = sel[s].data;
    size_t len = sel[s].len;
    enum clip_type type = sel[s].fetched;
    if (sel[s].fd >= 0) {
        watch_remove(sel[s].watch);
        close(sel[s].fd);
    }
    sel[s].fd = -1;
    sel[s].data = NULL;
    sel[s].len = sel[s].room = 0;
    clip_give(s, type, ok ? data ? data : nothing : NULL, ok ? len : 0);
    free(data);
    fetch_next(s);
}

static bool make_room(unsigned s)
{
    if (sel[s].room - sel[s].len >= 4096)
        return true;
    size_t room = sel[s].room ? sel[s].room * 2 : 65536;
    uint8_t *data = sel[s].len <= CLIP_MAX_BYTES ? realloc(sel[s].data, room) : NULL;
    if (!data)
        return false;
    sel[s].data = data;
    sel[s].room = room;
    return true;
}

static void on_readable(void *ctx, short revents)
{
    unsigned s = ctx == &sel[1];
    if (!make_room(s)) {
        end_fetch(s, false);
        return;
    }
    ssize_t n = read(sel[s].fd, sel[s].data + sel[s].len, sel[s].room - sel[s].len);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    sel[s].step = now_ms();
    if (n > 0)
        sel[s].len += (size_t)n;
    else
        end_fetch(s, n == 0 && sel[s].len <= CLIP_MAX_BYTES);
}

static bool receive(unsigned s, const char *mime)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0)
        return false;
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    wl_proxy_marshal_flags(sel[s].offer->proxy, DC_OFFER_RECEIVE, NULL,
                           wl_proxy_get_version(sel[s].offer->proxy), 0, mime, fds[1]);
    close(fds[1]);
    sel[s].fd = fds[0];
    sel[s].watch = watch_add(fds[0], POLLIN, on_readable, &sel[s]);
    sel[s].step = now_ms();
    return sel[s].watch != NULL;
}

static void fetch_next(unsigned s)
{
    if (sel[s].fd >= 0 || !sel[s].wanted)
        return;
    unsigned t = (unsigned)__builtin_ctz(sel[s].wanted);
    struct offer *o = sel[s].offer;
    sel[s].wanted &= ~(1u << t);
    sel[s].fetched = (enum clip_type)t;
    if (!o || !(o->types & 1u << t) || !receive(s, o->best[t]))
        end_fetch(s, false);
}

static void wayland_want(unsigned s, enum clip_type type)
{
    sel[s].wanted |= 1u << type;
    fetch_next(s);
    wl_display_flush(display);
}

/* ---- what programs have ---- */

static void free_offer(struct offer *o)
{
    if (!o)
        return;
    destroy(&o->proxy, DC_OFFER_DESTROY);
    free(o);
}

/* Of the names of a type the first of ours; X11's only where there is none of them. */
static void on_offer(void *ctx, struct wl_proxy *proxy, const char *mime)
{
    struct offer *o = ctx;
    enum clip_type t = clip_type_of(mime);
    o->ours |= strcmp(mime, OURS) == 0;
    if (t == CLIP_TYPES) {
        if (strcmp(mime, "UTF8_STRING") == 0 && !(o->types & 1u << CLIP_TEXT)) {
            o->types |= 1u << CLIP_TEXT;
            o->best[CLIP_TEXT] = "UTF8_STRING";
        }
        return;
    }
    unsigned now = 0, had = 0;
    while (strcasecmp(clip_names[t][now], mime) != 0)
        now++;
    while (clip_names[t][had] && o->best[t] != clip_names[t][had])
        had++;
    if (!(o->types & 1u << t) || now < had)
        o->best[t] = clip_names[t][now];
    o->types |= 1u << t;
}

static const struct dc_offer_events offer_events = {on_offer};

static void on_data_offer(void *ctx, struct wl_proxy *d, struct wl_proxy *proxy)
{
    struct offer *o = calloc(1, sizeof *o);
    if (!o) {
        destroy(&proxy, DC_OFFER_DESTROY);
        return;
    }
    o->proxy = proxy;
    wl_proxy_add_listener(proxy, (void (**)(void))(uintptr_t)&offer_events, o);
}

static void selected(unsigned s, struct wl_proxy *proxy)
{
    struct offer *o = proxy ? wl_proxy_get_user_data(proxy) : NULL;
    if (sel[s].fd >= 0)
        end_fetch(s, false);
    free_offer(sel[s].offer);
    sel[s].offer = o;
    if (o && o->ours) {
        sel[s].offer = NULL;
        free_offer(o);
    } else if (o || !sel[s].source) {
        clip_copied(s, o ? o->types : 0);
    }
}

static void on_selection(void *ctx, struct wl_proxy *d, struct wl_proxy *offer)
{
    selected(0, offer);
}

static void on_primary(void *ctx, struct wl_proxy *d, struct wl_proxy *offer)
{
    selected(1, offer);
}

static void on_finished(void *ctx, struct wl_proxy *d)
{
    /* The seat is gone; the connection ends, or stays without a clipboard. */
}

static const struct dc_device_events device_events = {on_data_offer, on_selection, on_finished,
                                                      on_primary};

/* ---- the compositor ---- */

static void on_global(void *ctx, struct wl_registry *r, uint32_t name, const char *interface,
                      uint32_t version)
{
    if (strcmp(interface, wl_seat_interface.name) == 0 && !seat)
        seat = wl_registry_bind(r, name, &wl_seat_interface, 1);
    if (outputs_global(r, name, interface))
        return;
    for (unsigned i = 0; i < 2; i++) {
        const struct dc_protocol *p = &dc_protocols[i];
        if (strcmp(interface, p->manager->name) != 0 || (protocol && protocol < p))
            continue;
        if (manager)
            wl_proxy_destroy(manager);
        protocol = p;
        manager =
            wl_registry_bind(r, name, p->manager, version < p->version ? version : p->version);
    }
}

static void on_global_gone(void *ctx, struct wl_registry *r, uint32_t name)
{
}

static const struct wl_registry_listener registry_listener = {on_global, on_global_gone};

static void on_display(void *ctx, short revents)
{
    bool ok = wl_display_dispatch(display) >= 0 && wl_display_flush(display) >= 0;
    if (!ok && errno != EAGAIN)
        clip_lost();
}

/* Who does not go on is forgotten. */
static void on_look(void)
{
    uint64_t now = now_ms();
    for (unsigned s = 0; s < CLIP_SELECTIONS; s++)
        if (sel[s].fd >= 0 && now - sel[s].step > PATIENCE_MS)
            end_fetch(s, false);
    for (unsigned i = 0; i < MAX_ASKERS; i++)
        if (askers[i].sending && now - askers[i].step > PATIENCE_MS)
            forget_asker(&askers[i]);
    timer_set(TIMER_LOOK, now_ms() + LOOK_MS, on_look);
}

static void wayland_end(void)
{
    timer_set(TIMER_LOOK, 0, NULL);
    watch_remove(watch);
    watch = NULL;
    for (unsigned i = 0; i < MAX_ASKERS; i++)
        if (askers[i].used)
            forget_asker(&askers[i]);
    for (unsigned s = 0; s < CLIP_SELECTIONS; s++) {
        if (sel[s].fd >= 0) {
            watch_remove(sel[s].watch);
            close(sel[s].fd);
        }
        free(sel[s].data);
        free_offer(sel[s].offer);
        destroy(&sel[s].source, DC_SOURCE_DESTROY);
        memset(&sel[s], 0, sizeof sel[s]);
        sel[s].fd = -1;
    }
    destroy(&device, DC_DEVICE_DESTROY);
    outputs_end();
    if (manager)
        wl_proxy_destroy(manager);
    if (seat)
        wl_seat_destroy(seat);
    if (display)
        wl_display_disconnect(display);
    manager = NULL;
    seat = NULL;
    display = NULL;
    protocol = NULL;
}

static bool wayland_begin(void)
{
    for (unsigned s = 0; s < CLIP_SELECTIONS; s++)
        sel[s].fd = -1;
    display = wl_display_connect(NULL);
    struct wl_registry *r = display ? wl_display_get_registry(display) : NULL;
    if (r) {
        wl_registry_add_listener(r, &registry_listener, NULL);
        wl_display_roundtrip(display);
        wl_registry_destroy(r);
    }
    if (manager && seat)
        device = wl_proxy_marshal_flags(manager, DC_MANAGER_GET_DEVICE, protocol->device,
                                        wl_proxy_get_version(manager), 0, NULL, seat);
    if (!device || !(watch = watch_add(wl_display_get_fd(display), POLLIN, on_display, NULL))) {
        wayland_end();
        return false;
    }
    wl_proxy_add_listener(device, (void (**)(void))(uintptr_t)&device_events, NULL);
    wl_display_flush(display);
    on_look();
    return true;
}

static void wayland_resize(unsigned width, unsigned height)
{
    outputs_resize(width, height);
    wl_display_flush(display);
}

const struct clip_backend clip_wayland = {wayland_begin, wayland_end,   wayland_own,   wayland_want,
                                          wayland_got,   outputs_there, wayland_resize};
