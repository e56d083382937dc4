/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/guest/outputs.h"

#include <stdlib.h>
#include <string.h>

/* What a scanner would make of version 1 of the protocol. */
static const struct wl_interface manager_interface, head_interface, mode_interface,
    configuration_interface, configuration_head_interface;
static const struct wl_interface *no_types[] = {NULL, NULL, NULL};
static const struct wl_interface *new_configuration[] = {&configuration_interface, NULL};
static const struct wl_interface *a_head[] = {&head_interface};
static const struct wl_interface *a_mode[] = {&mode_interface};
static const struct wl_interface *enable[] = {&configuration_head_interface, &head_interface};
static const struct wl_message manager_requests[] = {
    {"create_configuration", "nu", new_configuration}, {"stop", "", no_types}};
static const struct wl_message manager_events[] = {
    {"head", "n", a_head}, {"done", "u", no_types}, {"finished", "", no_types}};
static const struct wl_message head_events[] = {
    {"name", "s", no_types},      {"description", "s", no_types}, {"physical_size", "ii", no_types},
    {"mode", "n", a_mode},        {"enabled", "i", no_types},     {"current_mode", "o", a_mode},
    {"position", "ii", no_types}, {"transform", "i", no_types},   {"scale", "f", no_types},
    {"finished", "", no_types}};
static const struct wl_message mode_events[] = {{"size", "ii", no_types},
                                                {"refresh", "i", no_types},
                                                {"preferred", "", no_types},
                                                {"finished", "", no_types}};
static const struct wl_message configuration_requests[] = {{"enable_head", "no", enable},
                                                           {"disable_head", "o", a_head},
                                                           {"apply", "", no_types},
                                                           {"test", "", no_types},
                                                           {"destroy", "", no_types}};
static const struct wl_message configuration_events[] = {
    {"succeeded", "", no_types}, {"failed", "", no_types}, {"cancelled", "", no_types}};
static const struct wl_message configuration_head_requests[] = {
    {"set_mode", "o", a_mode},
    {"set_custom_mode", "iii", no_types},
    {"set_position", "ii", no_types},
    {"set_transform", "i", no_types},
    {"set_scale", "f", no_types}};
static const struct wl_interface manager_interface = {"zwlr_output_manager_v1", 1, 2,
                                                      manager_requests,         3, manager_events};
static const struct wl_interface head_interface = {
    "zwlr_output_head_v1", 1, 0, NULL, 10, head_events};
static const struct wl_interface mode_interface = {
    "zwlr_output_mode_v1", 1, 0, NULL, 4, mode_events};
static const struct wl_interface configuration_interface = {
    "zwlr_output_configuration_v1", 1, 5, configuration_requests, 3, configuration_events};
static const struct wl_interface configuration_head_interface = {
    "zwlr_output_configuration_head_v1", 1, 5, configuration_head_requests, 0, NULL};
enum { CREATE_CONFIGURATION = 0, ENABLE_HEAD = 0, DISABLE_HEAD = 1, APPLY = 2, DESTROY = 4 };
enum { SET_MODE = 0, SET_CUSTOM_MODE = 1 };

enum { HEADS = 8, MODES = 128 };

struct head {
    struct wl_proxy *proxy; /* NULL: gone */
    int enabled;
    struct wl_proxy *modes[MODES];
    int32_t sizes[MODES][2];
    unsigned n;
};

static struct wl_proxy *manager;
static uint32_t serial;
static struct head heads[HEADS];
static unsigned width_wanted, height_wanted; /* 0: as it is */

/* ---- modes ---- */

static struct head *head_of_mode(const struct wl_proxy *mode, unsigned *index)
{
    for (unsigned h = 0; h < HEADS; h++)
        for (unsigned i = 0; i < heads[h].n; i++)
            if (heads[h].modes[i] == mode) {
                *index = i;
                return &heads[h];
            }
    return NULL;
}

static void on_size(void *ctx, struct wl_proxy *mode, int32_t width, int32_t height)
{
    unsigned i;
    struct head *h = head_of_mode(mode, &i);
    if (h) {
        h->sizes[i][0] = width;
        h->sizes[i][1] = height;
    }
}
static void on_refresh(void *ctx, struct wl_proxy *mode, int32_t refresh)
{
}
static void on_preferred(void *ctx, struct wl_proxy *mode)
{
}
static void on_mode_gone(void *ctx, struct wl_proxy *mode)
{
    unsigned i;
    struct head *h = head_of_mode(mode, &i);
    if (h) {
        h->n--;
        h->modes[i] = h->modes[h->n];
        memcpy(h->sizes[i], h->sizes[h->n], sizeof h->sizes[i]);
    }
    wl_proxy_destroy(mode);
}
static const struct {
    void (*size)(void *ctx, struct wl_proxy *mode, int32_t width, int32_t height);
    void (*refresh)(void *ctx, struct wl_proxy *mode, int32_t refresh);
    void (*preferred)(void *ctx, struct wl_proxy *mode);
    void (*finished)(void *ctx, struct wl_proxy *mode);
} mode_listener = {on_size, on_refresh, on_preferred, on_mode_gone};

/* ---- heads ---- */

static struct head *head_of(const struct wl_proxy *proxy)
{
    for (unsigned h = 0; h < HEADS; h++)
        if (heads[h].proxy == proxy)
            return &heads[h];
    return NULL;
}

static void ignore_text(void *ctx, struct wl_proxy *p, const char *text)
{
}
static void ignore_two(void *ctx, struct wl_proxy *p, int32_t a, int32_t b)
{
}
static void ignore_one(void *ctx, struct wl_proxy *p, int32_t a)
{
}
static void ignore_object(void *ctx, struct wl_proxy *p, struct wl_proxy *object)
{
}

static void on_mode(void *ctx, struct wl_proxy *proxy, struct wl_proxy *mode)
{
    struct head *h = head_of(proxy);
    wl_proxy_add_listener(mode, (void (**)(void))(uintptr_t)&mode_listener, NULL);
    if (h && h->n < MODES) {
        memset(h->sizes[h->n], 0, sizeof h->sizes[0]);
        h->modes[h->n++] = mode;
    }
}

static void on_enabled(void *ctx, struct wl_proxy *proxy, int32_t enabled)
{
    struct head *h = head_of(proxy);
    if (h)
        h->enabled = enabled;
}

static void on_head_gone(void *ctx, struct wl_proxy *proxy)
{
    struct head *h = head_of(proxy);
    if (h)
        h->proxy = NULL;
    wl_proxy_destroy(proxy);
}

static const struct {
    void (*name)(void *ctx, struct wl_proxy *p, const char *text);
    void (*description)(void *ctx, struct wl_proxy *p, const char *text);
    void (*physical_size)(void *ctx, struct wl_proxy *p, int32_t width, int32_t height);
    void (*mode)(void *ctx, struct wl_proxy *p, struct wl_proxy *mode);
    void (*enabled)(void *ctx, struct wl_proxy *p, int32_t enabled);
    void (*current_mode)(void *ctx, struct wl_proxy *p, struct wl_proxy *mode);
    void (*position)(void *ctx, struct wl_proxy *p, int32_t at_x, int32_t at_y);
    void (*transform)(void *ctx, struct wl_proxy *p, int32_t transform);
    void (*scale)(void *ctx, struct wl_proxy *p, int32_t scale);
    void (*finished)(void *ctx, struct wl_proxy *p);
} head_listener = {ignore_text,   ignore_text, ignore_two, on_mode,    on_enabled,
                   ignore_object, ignore_two,  ignore_one, ignore_one, on_head_gone};

/* ---- the size ---- */

unsigned outputs_nearest(const int32_t (*sizes)[2], unsigned n, unsigned width, unsigned height)
{
    unsigned best = 0;
    bool fits = false;
    int64_t area = 0;
    for (unsigned i = 0; i < n; i++) {
        if (sizes[i][0] <= 0)
            continue; /* not told: none that could be set */
        bool now = sizes[i][0] <= (int32_t)width && sizes[i][1] <= (int32_t)height;
        int64_t a = (int64_t)sizes[i][0] * sizes[i][1];
        if (!area || (now && !fits) || (now == fits && (now ? a > area : a < area))) {
            best = i;
            fits = now;
            area = a;
        }
    }
    return best;
}

static void on_result(void *ctx, struct wl_proxy *configuration)
{
    wl_proxy_marshal_flags(configuration, DESTROY, NULL, 1, WL_MARSHAL_FLAG_DESTROY);
}

/* Screens changed meanwhile: with the next serial again. */
static void on_cancelled(void *ctx, struct wl_proxy *configuration)
{
    on_result(ctx, configuration);
}

static const struct {
    void (*succeeded)(void *ctx, struct wl_proxy *configuration);
    void (*failed)(void *ctx, struct wl_proxy *configuration);
    void (*cancelled)(void *ctx, struct wl_proxy *configuration);
} configuration_listener = {on_result, on_result, on_cancelled};

/* The head that gets the size: the first that shows something, or if none does the first. */
static struct head *first_head(void)
{
    struct head *first = NULL;
    for (unsigned i = HEADS; i-- > 0;)
        if (heads[i].proxy && (heads[i].enabled || !first || !first->enabled))
            first = &heads[i];
    return first;
}

static void set_size(const struct head *h, struct wl_proxy *to)
{
    unsigned i = outputs_nearest(h->sizes, h->n, width_wanted, height_wanted);
    if (h->n && h->sizes[i][0] > 0)
        wl_proxy_marshal_flags(to, SET_MODE, NULL, 1, 0, h->modes[i]);
    else
        wl_proxy_marshal_flags(to, SET_CUSTOM_MODE, NULL, 1, 0, (int32_t)width_wanted,
                               (int32_t)height_wanted, 0);
}

/* Others stay as they are. */
static void configure(void)
{
    const struct head *first = first_head();
    struct wl_proxy *c = wl_proxy_marshal_flags(manager, CREATE_CONFIGURATION,
                                                &configuration_interface, 1, 0, NULL, serial);
    wl_proxy_add_listener(c, (void (**)(void))(uintptr_t)&configuration_listener, NULL);
    for (unsigned i = 0; i < HEADS; i++) {
        struct head *h = &heads[i];
        if (!h->proxy)
            continue;
        if (!h->enabled && h != first) {
            wl_proxy_marshal_flags(c, DISABLE_HEAD, NULL, 1, 0, h->proxy);
            continue;
        }
        struct wl_proxy *to = wl_proxy_marshal_flags(c, ENABLE_HEAD, &configuration_head_interface,
                                                     1, 0, NULL, h->proxy);
        if (h == first)
            set_size(h, to);
        wl_proxy_destroy(to);
    }
    wl_proxy_marshal_flags(c, APPLY, NULL, 1, 0);
    width_wanted = height_wanted = 0;
}

void outputs_resize(unsigned width, unsigned height)
{
    width_wanted = width;
    height_wanted = height;
    if (manager && serial)
        configure();
}

/* ---- the manager ---- */

static void on_head(void *ctx, struct wl_proxy *m, struct wl_proxy *proxy)
{
    struct head *h = head_of(NULL);
    wl_proxy_add_listener(proxy, (void (**)(void))(uintptr_t)&head_listener, NULL);
    if (h) {
        memset(h, 0, sizeof *h);
        h->proxy = proxy;
    }
}

static void on_done(void *ctx, struct wl_proxy *m, uint32_t now)
{
    serial = now;
    if (width_wanted)
        configure();
}

static void on_finished(void *ctx, struct wl_proxy *m)
{
    wl_proxy_destroy(m);
    manager = NULL;
}

static const struct {
    void (*head)(void *ctx, struct wl_proxy *m, struct wl_proxy *head);
    void (*done)(void *ctx, struct wl_proxy *m, uint32_t serial);
    void (*finished)(void *ctx, struct wl_proxy *m);
} manager_listener = {on_head, on_done, on_finished};

bool outputs_global(struct wl_registry *r, uint32_t name, const char *interface)
{
    if (strcmp(interface, manager_interface.name) != 0 || manager)
        return false;
    manager = wl_registry_bind(r, name, &manager_interface, 1);
    wl_proxy_add_listener(manager, (void (**)(void))(uintptr_t)&manager_listener, NULL);
    return true;
}

bool outputs_there(void)
{
    return manager != NULL;
}

/* Before the connection ends; what is of it goes with that. */
void outputs_end(void)
{
    for (unsigned i = 0; i < HEADS; i++) {
        for (unsigned k = 0; heads[i].proxy && k < heads[i].n; k++)
            wl_proxy_destroy(heads[i].modes[k]);
        if (heads[i].proxy)
            wl_proxy_destroy(heads[i].proxy);
    }
    memset(heads, 0, sizeof heads);
    if (manager)
        wl_proxy_destroy(manager);
    manager = NULL;
    serial = 0;
    width_wanted = height_wanted = 0;
}
