/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/vsp/console.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"

enum {
    EVENTS = 512,
    MAX_INPUTS = 4,
    COMPARE_FAST_MS = 40,
    COMPARE_SLOW_MS = 240,
    BAND = 16, /* rows compared together */
};
#define NS_PER_MS 1000000ull

struct console_listener {
    struct console *console;
    struct console_listener *next;
    void (*wake)(void *ctx);
    void *ctx;
    unsigned changes;
    struct console_rect rects[CONSOLE_RECTS];
    unsigned nrects;
    bool asleep; /* wake is due at the next change */
};

enum event_kind { EVENT_KEY, EVENT_KEYS_UP, EVENT_MOVE, EVENT_MOVE_BY, EVENT_BUTTON, EVENT_WHEEL };
struct event {
    uint8_t kind;
    uint8_t code; /* qnum, button */
    bool down;
    uint32_t x, y;
    int32_t dx, dy; /* pixels */
    int wheel;
};

struct console {
    struct loop *loop;
    pthread_mutex_t lock;

    /* under lock */
    struct console_listener *listeners;
    struct console_surface surface;
    struct console_pointer pointer;
    struct console_shape shape;
    uint8_t *shape_bytes;
    unsigned leds;
    struct event events[EVENTS];
    unsigned first_event, nevents;
    bool has_keyboard, has_pointer;

    /* the I/O thread's */
    struct loop_post input_post, watch_post;
    struct {
        const struct console_input_ops *ops;
        void *ctx;
    } inputs[MAX_INPUTS];
    unsigned ninputs;
    uint8_t keys_down[256 / 8];
    uint32_t x, y, buttons;
    void (*watch)(void *ctx, bool looked_at);
    void *watch_ctx;
    bool looked_at;
    const uint8_t *pixels;
    uint8_t *shadow;
    struct loop_timer compare;
    unsigned compare_ms;
};

/* ---- rectangles ---- */

static uint64_t area(const struct console_rect *r)
{
    return (uint64_t)r->width * r->height;
}

static struct console_rect join(const struct console_rect *a, const struct console_rect *b)
{
    uint32_t x1 = MIN(a->x, b->x), y1 = MIN(a->y, b->y);
    uint32_t x2 = MAX(a->x + a->width, b->x + b->width);
    uint32_t y2 = MAX(a->y + a->height, b->y + b->height);
    return (struct console_rect){x1, y1, x2 - x1, y2 - y1};
}

/* Adds to a short list: joins where that costs least when the list is full, or costs nothing. */
static void add_rect(struct console_rect *list, unsigned *n, struct console_rect r)
{
    unsigned best = 0;
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < *n; i++) {
        struct console_rect j = join(&list[i], &r);
        uint64_t both = area(&list[i]) + area(&r);
        uint64_t cost = area(&j) > both ? area(&j) - both : 0;
        if (cost < least) {
            least = cost;
            best = i;
        }
    }
    if (*n && (least == 0 || *n == CONSOLE_RECTS))
        list[best] = join(&list[best], &r);
    else
        list[(*n)++] = r;
}

/* ---- listeners ---- */

static void note(struct console *c, unsigned changes, const struct console_rect *r)
{
    for (struct console_listener *l = c->listeners; l; l = l->next) {
        l->changes |= changes;
        if (r && !(l->changes & CONSOLE_SURFACE_CHANGED))
            add_rect(l->rects, &l->nrects, *r);
        if (l->asleep) {
            l->asleep = false;
            l->wake(l->ctx);
        }
    }
}

static void tell_watch(void *ctx)
{
    struct console *c = ctx;
    pthread_mutex_lock(&c->lock);
    bool looked_at = c->listeners != NULL;
    pthread_mutex_unlock(&c->lock);
    if (looked_at == c->looked_at)
        return;
    c->looked_at = looked_at;
    if (looked_at && c->pixels)
        loop_timer_arm_in(&c->compare, 1);
    if (c->watch)
        c->watch(c->watch_ctx, looked_at);
}

struct console_listener *console_listen(struct console *c, void (*wake)(void *ctx), void *ctx)
{
    struct console_listener *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    *l = (struct console_listener){.console = c, .wake = wake, .ctx = ctx};
    l->changes = CONSOLE_SURFACE_CHANGED | CONSOLE_POINTER_MOVED | CONSOLE_SHAPE_CHANGED;
    pthread_mutex_lock(&c->lock);
    l->next = c->listeners;
    c->listeners = l;
    pthread_mutex_unlock(&c->lock);
    loop_post(c->loop, &c->watch_post);
    return l;
}

void console_unlisten(struct console_listener *l)
{
    struct console *c = l->console;
    pthread_mutex_lock(&c->lock);
    for (struct console_listener **p = &c->listeners; *p; p = &(*p)->next)
        if (*p == l) {
            *p = l->next;
            break;
        }
    pthread_mutex_unlock(&c->lock);
    free(l);
    loop_post(c->loop, &c->watch_post);
}

static void copy_shape(const struct console *c, struct console_update *out)
{
    size_t n = (size_t)c->shape.width * c->shape.height * 4;
    uint8_t *copy = n ? malloc(n) : NULL;
    out->shape = c->shape;
    if (copy)
        memcpy(copy, c->shape_bytes, n);
    else
        out->shape.width = out->shape.height = 0;
    out->shape.argb = copy;
}

static void dup_surface(const struct console *c, struct console_surface *out)
{
    *out = c->surface;
    if (out->fd >= 0)
        out->fd = fcntl(out->fd, F_DUPFD_CLOEXEC, 0);
}

bool console_take(struct console_listener *l, struct console_update *out)
{
    struct console *c = l->console;
    pthread_mutex_lock(&c->lock);
    *out = (struct console_update){.changes = l->changes, .surface = c->surface};
    out->surface.fd = -1;
    out->pointer = c->pointer;
    if (l->changes & CONSOLE_SURFACE_CHANGED)
        dup_surface(c, &out->surface);
    if (l->changes & CONSOLE_SHAPE_CHANGED)
        copy_shape(c, out);
    out->nrects = l->nrects;
    memcpy(out->rects, l->rects, l->nrects * sizeof l->rects[0]);
    l->changes = 0;
    l->nrects = 0;
    l->asleep = !out->changes;
    pthread_mutex_unlock(&c->lock);
    return out->changes != 0;
}

void console_update_clear(struct console_update *u)
{
    auto_close(u->surface.fd);
    free((void *)(uintptr_t)u->shape.argb);
    *u = (struct console_update){.surface.fd = -1};
}

void console_surface_now(struct console *c, struct console_surface *out)
{
    pthread_mutex_lock(&c->lock);
    dup_surface(c, out);
    pthread_mutex_unlock(&c->lock);
}

/* ---- input ---- */

enum { FARTHEST = 1 << 20 }; /* pixels, in one movement */

static int32_t near(int64_t v)
{
    return (int32_t)MAX(-(int64_t)FARTHEST, MIN(v, (int64_t)FARTHEST));
}

static void add_movement(struct event *last, const struct event *ev)
{
    last->dx = near((int64_t)last->dx + ev->dx);
    last->dy = near((int64_t)last->dy + ev->dy);
}

static void push_event(struct console *c, struct event ev)
{
    pthread_mutex_lock(&c->lock);
    struct event *last = NULL;
    if (c->nevents)
        last = &c->events[(c->first_event + c->nevents - 1) % EVENTS];
    bool kept = true;
    if (last && ev.kind == EVENT_MOVE && last->kind == EVENT_MOVE)
        *last = ev; /* only where it went counts */
    else if (last && ev.kind == EVENT_MOVE_BY && last->kind == EVENT_MOVE_BY)
        add_movement(last, &ev);
    else if (c->nevents < EVENTS)
        c->events[(c->first_event + c->nevents++) % EVENTS] = ev;
    else
        kept = false;
    pthread_mutex_unlock(&c->lock);
    if (kept)
        loop_post(c->loop, &c->input_post);
}

void console_key(struct console *c, uint8_t qnum, bool down)
{
    push_event(c, (struct event){.kind = EVENT_KEY, .code = qnum, .down = down});
}

void console_keys_up(struct console *c)
{
    push_event(c, (struct event){.kind = EVENT_KEYS_UP});
}

void console_move(struct console *c, uint32_t x, uint32_t y)
{
    push_event(c, (struct event){.kind = EVENT_MOVE,
                                 .x = MIN(x, (uint32_t)CONSOLE_MAX_ABS),
                                 .y = MIN(y, (uint32_t)CONSOLE_MAX_ABS)});
}

void console_move_by(struct console *c, int dx, int dy)
{
    push_event(c, (struct event){.kind = EVENT_MOVE_BY, .dx = near(dx), .dy = near(dy)});
}

static uint32_t scale(uint32_t v, uint32_t size)
{
    if (size < 2)
        return 0;
    return (uint32_t)((uint64_t)MIN(v, size - 1) * CONSOLE_MAX_ABS / (size - 1));
}

void console_move_pixels(struct console *c, uint32_t x, uint32_t y)
{
    pthread_mutex_lock(&c->lock);
    uint32_t w = c->surface.width, h = c->surface.height;
    pthread_mutex_unlock(&c->lock);
    console_move(c, scale(x, w), scale(y, h));
}

void console_button(struct console *c, unsigned button, bool down)
{
    if (button < 5)
        push_event(c, (struct event){.kind = EVENT_BUTTON, .code = (uint8_t)button, .down = down});
}

void console_wheel(struct console *c, int steps)
{
    push_event(c, (struct event){.kind = EVENT_WHEEL, .wheel = MAX(-100, MIN(steps, 100))});
}

unsigned console_leds(struct console *c)
{
    pthread_mutex_lock(&c->lock);
    unsigned leds = c->leds;
    pthread_mutex_unlock(&c->lock);
    return leds;
}

bool console_has_keyboard(struct console *c)
{
    pthread_mutex_lock(&c->lock);
    bool has = c->has_keyboard;
    pthread_mutex_unlock(&c->lock);
    return has;
}

bool console_has_pointer(struct console *c)
{
    pthread_mutex_lock(&c->lock);
    bool has = c->has_pointer;
    pthread_mutex_unlock(&c->lock);
    return has;
}

static void give_key(struct console *c, uint8_t qnum, bool down)
{
    uint8_t bit = (uint8_t)(1 << qnum % 8);
    if (down)
        c->keys_down[qnum / 8] |= bit;
    else
        c->keys_down[qnum / 8] &= (uint8_t)~bit;
    for (unsigned i = c->ninputs; i-- > 0;)
        if (c->inputs[i].ops->key) {
            c->inputs[i].ops->key(c->inputs[i].ctx, qnum, down);
            return;
        }
}

static void give_pointer(struct console *c, int wheel)
{
    for (unsigned i = c->ninputs; i-- > 0;)
        if (c->inputs[i].ops->pointer) {
            c->inputs[i].ops->pointer(c->inputs[i].ctx, c->x, c->y, c->buttons, wheel);
            return;
        }
}

static void all_up(struct console *c)
{
    for (unsigned k = 0; k < 256; k++)
        if (c->keys_down[k / 8] & 1 << k % 8)
            give_key(c, (uint8_t)k, false);
    if (c->buttons) {
        c->buttons = 0;
        give_pointer(c, 0);
    }
}

/* A place, so many pixels farther on; it stays on the screen. */
static uint32_t moved(uint32_t at, int32_t by, uint32_t size)
{
    int64_t to = size < 2 ? at : at + (int64_t)by * CONSOLE_MAX_ABS / (size - 1);
    return (uint32_t)MAX(INT64_C(0), MIN(to, (int64_t)CONSOLE_MAX_ABS));
}

static void handle_event(struct console *c, const struct event *ev)
{
    switch (ev->kind) {
    case EVENT_KEY: give_key(c, ev->code, ev->down); break;
    case EVENT_KEYS_UP: all_up(c); break;
    case EVENT_MOVE:
        c->x = ev->x;
        c->y = ev->y;
        give_pointer(c, 0);
        break;
    case EVENT_MOVE_BY:
        pthread_mutex_lock(&c->lock);
        c->x = moved(c->x, ev->dx, c->surface.width);
        c->y = moved(c->y, ev->dy, c->surface.height);
        pthread_mutex_unlock(&c->lock);
        give_pointer(c, 0);
        break;
    case EVENT_BUTTON:
        if (ev->down)
            c->buttons |= 1u << ev->code;
        else
            c->buttons &= ~(1u << ev->code);
        give_pointer(c, 0);
        break;
    default: give_pointer(c, ev->wheel); break;
    }
}

static void handle_events(void *ctx)
{
    struct console *c = ctx;
    for (unsigned n = 0; n < EVENTS; n++) {
        struct event ev;
        pthread_mutex_lock(&c->lock);
        bool any = c->nevents > 0;
        if (any) {
            ev = c->events[c->first_event];
            c->first_event = (c->first_event + 1) % EVENTS;
            c->nevents--;
        }
        pthread_mutex_unlock(&c->lock);
        if (!any)
            return;
        handle_event(c, &ev);
    }
}

static void count_inputs(struct console *c)
{
    bool keyboard = false, pointer = false;
    for (unsigned i = 0; i < c->ninputs; i++) {
        keyboard |= c->inputs[i].ops->key != NULL;
        pointer |= c->inputs[i].ops->pointer != NULL;
    }
    pthread_mutex_lock(&c->lock);
    c->has_keyboard = keyboard;
    c->has_pointer = pointer;
    pthread_mutex_unlock(&c->lock);
}

bool console_set_input(struct console *c, const struct console_input_ops *ops, void *ctx)
{
    console_drop_input(c, ctx);
    if (c->ninputs == MAX_INPUTS)
        return false;
    c->inputs[c->ninputs].ops = ops;
    c->inputs[c->ninputs++].ctx = ctx;
    count_inputs(c);
    return true;
}

void console_drop_input(struct console *c, void *ctx)
{
    for (unsigned i = 0; i < c->ninputs; i++)
        if (c->inputs[i].ctx == ctx) {
            memmove(&c->inputs[i], &c->inputs[i + 1], (c->ninputs - i - 1) * sizeof c->inputs[0]);
            c->ninputs--;
            break;
        }
    count_inputs(c);
}

void console_prefer_input(struct console *c, const void *ctx, bool first)
{
    unsigned i = 0, n = c->ninputs;
    while (i < n && c->inputs[i].ctx != ctx)
        i++;
    if (i == n)
        return;
    const struct console_input_ops *ops = c->inputs[i].ops;
    void *own = c->inputs[i].ctx;
    if (first)
        memmove(&c->inputs[i], &c->inputs[i + 1], (n - i - 1) * sizeof c->inputs[0]);
    else
        memmove(&c->inputs[1], &c->inputs[0], i * sizeof c->inputs[0]);
    c->inputs[first ? n - 1 : 0].ops = ops;
    c->inputs[first ? n - 1 : 0].ctx = own;
}

void console_set_leds(struct console *c, unsigned leds)
{
    pthread_mutex_lock(&c->lock);
    c->leds = leds;
    pthread_mutex_unlock(&c->lock);
}

/* ---- sources ---- */

static unsigned pixel_bytes(enum console_format f)
{
    return f == CONSOLE_RGB565 ? 2 : 4;
}

/* Bytes from the first to behind the last row's end. */
static size_t surface_bytes(const struct console_surface *s)
{
    return (size_t)s->stride * s->height;
}

/* Compares rows y1..y2 with what was shown last; widens `r` over what differs. */
static bool compare_band(struct console *c, uint32_t y1, uint32_t y2, struct console_rect *r)
{
    const struct console_surface *s = &c->surface;
    size_t row = (size_t)s->width * pixel_bytes(s->format);
    uint32_t first = UINT32_MAX, last = 0;
    for (uint32_t y = y1; y < y2; y++) {
        const uint8_t *now = c->pixels + (size_t)y * s->stride;
        uint8_t *was = c->shadow + (size_t)y * s->stride;
        if (memcmp(now, was, row) == 0)
            continue;
        memcpy(was, now, row);
        first = MIN(first, y);
        last = y;
    }
    if (first == UINT32_MAX)
        return false;
    *r = (struct console_rect){0, first, s->width, last + 1 - first};
    return true;
}

/* A plain framebuffer does not say what changes: look. */
static void compare_now(void *ctx)
{
    struct console *c = ctx;
    struct console_rect r;
    bool any = false;
    if (!c->pixels || !c->looked_at)
        return;
    for (uint32_t y = 0; y < c->surface.height; y += BAND)
        if (compare_band(c, y, MIN(y + BAND, c->surface.height), &r)) {
            any = true;
            console_source_dirty(c, r.x, r.y, (int64_t)r.x + r.width, (int64_t)r.y + r.height);
        }
    c->compare_ms = any ? COMPARE_FAST_MS : MIN(c->compare_ms + 20, (unsigned)COMPARE_SLOW_MS);
    loop_timer_arm_in(&c->compare, c->compare_ms * NS_PER_MS);
}

void console_source_show(struct console *c, const struct console_surface *s, const void *pixels)
{
    int fd = s->fd < 0 ? -1 : fcntl(s->fd, F_DUPFD_CLOEXEC, 0);
    free(c->shadow);
    c->shadow = NULL;
    c->pixels = NULL;
    loop_timer_disarm(&c->compare);
    pthread_mutex_lock(&c->lock);
    auto_close(c->surface.fd);
    c->surface = *s;
    c->surface.fd = fd;
    if (fd < 0)
        c->surface.width = c->surface.height = c->surface.stride = 0;
    for (struct console_listener *l = c->listeners; l; l = l->next)
        l->nrects = 0;
    note(c, CONSOLE_SURFACE_CHANGED, NULL);
    pthread_mutex_unlock(&c->lock);
    if (fd >= 0 && pixels && (c->shadow = calloc(1, surface_bytes(s)))) {
        c->pixels = pixels;
        c->compare_ms = COMPARE_FAST_MS;
        if (c->looked_at)
            loop_timer_arm_in(&c->compare, 1);
    }
}

void console_source_dirty(struct console *c, int64_t x1, int64_t y1, int64_t x2, int64_t y2)
{
    pthread_mutex_lock(&c->lock);
    x1 = MAX(x1, 0);
    y1 = MAX(y1, 0);
    x2 = MIN(x2, (int64_t)c->surface.width);
    y2 = MIN(y2, (int64_t)c->surface.height);
    if (x1 < x2 && y1 < y2) {
        struct console_rect r = {(uint32_t)x1, (uint32_t)y1, (uint32_t)(x2 - x1),
                                 (uint32_t)(y2 - y1)};
        note(c, CONSOLE_DIRTY, &r);
    }
    pthread_mutex_unlock(&c->lock);
}

void console_source_pointer(struct console *c, const struct console_pointer *p)
{
    pthread_mutex_lock(&c->lock);
    if (p->visible != c->pointer.visible || p->x != c->pointer.x || p->y != c->pointer.y) {
        c->pointer = *p;
        note(c, CONSOLE_POINTER_MOVED, NULL);
    }
    pthread_mutex_unlock(&c->lock);
}

void console_source_shape(struct console *c, const struct console_shape *s)
{
    size_t n = (size_t)s->width * s->height * 4;
    if (s->width > CONSOLE_MAX_POINTER || s->height > CONSOLE_MAX_POINTER)
        return;
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy)
        return;
    memcpy(copy, s->argb, n);
    pthread_mutex_lock(&c->lock);
    free(c->shape_bytes);
    c->shape_bytes = copy;
    c->shape = *s;
    c->shape.argb = copy;
    note(c, CONSOLE_SHAPE_CHANGED, NULL);
    pthread_mutex_unlock(&c->lock);
}

void console_source_watch(struct console *c, void (*fn)(void *ctx, bool looked_at), void *ctx)
{
    c->watch = fn;
    c->watch_ctx = ctx;
    if (fn)
        fn(ctx, c->looked_at);
}

struct console *console_new(struct loop *loop, err *e)
{
    struct console *c = calloc(1, sizeof *c);
    if (!c) {
        err_set(e, ERR_NO_MEMORY, "there is no memory for the console");
        return NULL;
    }
    c->loop = loop;
    c->surface.fd = -1;
    pthread_mutex_init(&c->lock, NULL);
    loop_post_init(&c->input_post, handle_events, c);
    loop_post_init(&c->watch_post, tell_watch, c);
    loop_timer_init(&c->compare, loop, compare_now, c);
    return c;
}

static void console_end(void *ctx)
{
    struct console *c = ctx;
    loop_timer_disarm(&c->compare);
    auto_close(c->surface.fd);
    free(c->shadow);
    free(c->shape_bytes);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

void console_free(struct console *c)
{
    if (!c)
        return;
    c->watch = NULL;
    c->ninputs = 0;
    /* Posts that viewers made last may still be on their way: end behind them. */
    if (!loop_call(c->loop, console_end, c))
        log_line(LOG_ERROR, "console", "there was no memory to end the console properly");
}
