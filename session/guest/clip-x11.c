/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The clipboard of an X11 session: CLIPBOARD and PRIMARY, as a client that owns them while the host
 * has something, and watches by XFIXES what programs copy. ICCCM chapter 2, with INCR both ways;
 * MULTIPLE is refused. Other clients are hostile: what they send is bounded, and who does not fetch
 * what it asked for is forgotten after a while.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <xcb/xcb.h>
#include <xcb/xfixes.h>

#include "session/guest/agent.h"
#include "session/guest/clip.h"

enum {
    PIECE = 256 << 10, /* of an INCR transfer, and what goes without one */
    MAX_ASKERS = 32,
    MAX_TARGETS = 256,
    PATIENCE_MS = 20000, /* without a step */
    LOOK_MS = 2000,
};

enum atom {
    A_CLIPBOARD,
    A_TARGETS,
    A_TIMESTAMP,
    A_INCR,
    A_UTF8_STRING,
    A_TEXT,
    A_TYPES_0, /* properties of our window, by selection */
    A_TYPES_1,
    A_DATA_0,
    A_DATA_1,
    ATOMS,
};
static const char *const atom_names[ATOMS] = {
    "CLIPBOARD", "TARGETS",       "TIMESTAMP",     "INCR",         "UTF8_STRING",
    "TEXT",      "VIREO_TYPES_0", "VIREO_TYPES_1", "VIREO_DATA_0", "VIREO_DATA_1"};

static xcb_connection_t *x;
static struct watch *watch;
static xcb_window_t window;
static xcb_atom_t atoms[ATOMS], type_atoms[CLIP_TYPES][4];
static uint8_t fixes_event;
static size_t piece;

static struct {
    xcb_atom_t atom;
    uint32_t theirs;             /* what the host has: we own the selection, if not 0 */
    xcb_timestamp_t since;       /* of owning */
    bool owned;                  /* by us, as the server says */
    uint32_t ours;               /* what a program has */
    xcb_atom_t best[CLIP_TYPES]; /* the target that it is asked for */
    /* what the host wants; one after the other */
    uint32_t wanted; /* types */
    bool fetching, incr;
    enum clip_type fetched;
    uint8_t *data;
    size_t len;
    uint64_t step; /* when something came, ms */
} sel[CLIP_SELECTIONS];

/* A program that pastes what the host has. */
static struct asker {
    xcb_window_t requestor; /* 0: free */
    xcb_atom_t target, property;
    xcb_timestamp_t time;
    unsigned selection;
    enum clip_type type;
    bool sending; /* piece after piece; before, it waits for the host */
    uint8_t *data;
    size_t len, sent;
    uint64_t step;
} askers[MAX_ASKERS];

static void fetch_next(unsigned s);

/* ---- programs that paste ---- */

static void notify(const struct asker *a, xcb_atom_t property)
{
    /* Events are sent as 32 bytes. */
    union {
        xcb_selection_notify_event_t e;
        char room[32];
    } u = {.e = {.response_type = XCB_SELECTION_NOTIFY,
                 .time = a->time,
                 .requestor = a->requestor,
                 .selection = sel[a->selection].atom,
                 .target = a->target,
                 .property = property}};
    xcb_send_event(x, 0, a->requestor, XCB_EVENT_MASK_NO_EVENT, u.room);
}

static void forget_asker(struct asker *a)
{
    const uint32_t none = XCB_EVENT_MASK_NO_EVENT;
    if (a->sending && a->requestor != window)
        xcb_change_window_attributes(x, a->requestor, XCB_CW_EVENT_MASK, &none);
    free(a->data);
    *a = (struct asker){0};
}

static struct asker *new_asker(void)
{
    for (unsigned i = 0; i < MAX_ASKERS; i++)
        if (!askers[i].requestor)
            return &askers[i];
    return NULL;
}

static bool is_latin(xcb_atom_t target)
{
    return target == XCB_ATOM_STRING;
}

/* In place: what Latin-1 has not becomes a question mark. */
static size_t to_latin(uint8_t *p, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len;) {
        if (p[i] < 0x80) {
            p[n++] = p[i++];
        } else if ((p[i] & 0xfe) == 0xc2 && i + 1 < len) {
            p[n++] = (uint8_t)((p[i] & 3) << 6 | (p[i + 1] & 0x3f));
            i += 2;
        } else {
            p[n++] = '?';
            for (i++; i < len && (p[i] & 0xc0) == 0x80; i++)
                ;
        }
    }
    return n;
}

static void set_property(const struct asker *a, const uint8_t *data, size_t len)
{
    xcb_atom_t type = a->target == atoms[A_TEXT] ? atoms[A_UTF8_STRING] : a->target;
    xcb_change_property(x, XCB_PROP_MODE_REPLACE, a->requestor, a->property, type, 8, (uint32_t)len,
                        data);
}

static void send_piece(struct asker *a)
{
    size_t n = a->len - a->sent < piece ? a->len - a->sent : piece;
    set_property(a, a->data + a->sent, n);
    a->sent += n;
    a->step = now_ms();
    if (!n) /* the empty one was the last */
        forget_asker(a);
}

static void begin_pieces(struct asker *a)
{
    const uint32_t mask = XCB_EVENT_MASK_PROPERTY_CHANGE, size = (uint32_t)a->len;
    a->sending = true;
    xcb_change_window_attributes(x, a->requestor, XCB_CW_EVENT_MASK, &mask);
    xcb_change_property(x, XCB_PROP_MODE_REPLACE, a->requestor, a->property, atoms[A_INCR], 32, 1,
                        &size);
    notify(a, a->property);
}

static void answer_asker(struct asker *a, const uint8_t *data, size_t len)
{
    static const uint8_t nothing[1];
    a->data = data ? malloc(len ? len : 1) : NULL;
    a->step = now_ms();
    if (!a->data) {
        notify(a, XCB_ATOM_NONE);
        forget_asker(a);
        return;
    }
    memcpy(a->data, len ? data : nothing, len);
    a->len = is_latin(a->target) ? to_latin(a->data, len) : len;
    if (a->len > piece && a->requestor != window) {
        begin_pieces(a);
        return;
    }
    set_property(a, a->data, a->len);
    notify(a, a->property);
    forget_asker(a);
}

static void x11_got(unsigned s, enum clip_type type, const uint8_t *data, size_t len)
{
    for (unsigned i = 0; i < MAX_ASKERS; i++)
        if (askers[i].requestor && !askers[i].sending && askers[i].selection == s &&
            askers[i].type == type)
            answer_asker(&askers[i], data, len);
    xcb_flush(x);
}

static unsigned text_targets(xcb_atom_t *out)
{
    const xcb_atom_t text[] = {atoms[A_UTF8_STRING], atoms[A_TEXT], XCB_ATOM_STRING};
    memcpy(out, text, sizeof text);
    return sizeof text / sizeof text[0];
}

static unsigned targets_now(unsigned s, xcb_atom_t *out)
{
    unsigned n = 0;
    out[n++] = atoms[A_TARGETS];
    out[n++] = atoms[A_TIMESTAMP];
    for (unsigned t = 0; t < CLIP_TYPES; t++) {
        if (!(sel[s].theirs & 1u << t))
            continue;
        if (t == CLIP_TEXT)
            n += text_targets(out + n);
        for (unsigned i = 0; i < 4 && type_atoms[t][i]; i++)
            out[n++] = type_atoms[t][i];
    }
    return n;
}

static enum clip_type type_of_atom(xcb_atom_t a)
{
    if (a == XCB_ATOM_NONE)
        return CLIP_TYPES;
    if (a == atoms[A_UTF8_STRING] || a == atoms[A_TEXT] || a == XCB_ATOM_STRING)
        return CLIP_TEXT;
    for (unsigned t = 0; t < CLIP_TYPES; t++)
        for (unsigned i = 0; i < 4; i++)
            if (type_atoms[t][i] == a)
                return (enum clip_type)t;
    return CLIP_TYPES;
}

static int selection_of(xcb_atom_t atom)
{
    for (int s = 0; s < CLIP_SELECTIONS; s++)
        if (sel[s].atom == atom)
            return s;
    return -1;
}

static void on_request(const xcb_selection_request_event_t *e)
{
    xcb_atom_t all[2 + 3 + CLIP_TYPES * 4];
    int s = selection_of(e->selection);
    xcb_atom_t property = e->property ? e->property : e->target;
    struct asker a = {.requestor = e->requestor,
                      .target = e->target,
                      .property = property,
                      .time = e->time,
                      .selection = s > 0 ? (unsigned)s : 0,
                      .step = now_ms()};
    struct asker *slot = new_asker();
    a.type = type_of_atom(e->target);
    if (s < 0 || !sel[s].theirs) {
        notify(&a, XCB_ATOM_NONE);
    } else if (e->target == atoms[A_TARGETS]) {
        unsigned n = targets_now((unsigned)s, all);
        xcb_change_property(x, XCB_PROP_MODE_REPLACE, e->requestor, property, XCB_ATOM_ATOM, 32, n,
                            all);
        notify(&a, property);
    } else if (e->target == atoms[A_TIMESTAMP]) {
        xcb_change_property(x, XCB_PROP_MODE_REPLACE, e->requestor, property, XCB_ATOM_INTEGER, 32,
                            1, &sel[s].since);
        notify(&a, property);
    } else if (a.type == CLIP_TYPES || !(sel[s].theirs & 1u << a.type) || !slot) {
        notify(&a, XCB_ATOM_NONE);
    } else {
        *slot = a;
        clip_ask((unsigned)s, a.type);
    }
}

/* ---- what the host has ---- */

static void x11_own(unsigned s, uint32_t types)
{
    bool had = sel[s].theirs || sel[s].owned;
    sel[s].theirs = types;
    if (types)
        sel[s].ours = 0;
    if (types || had)
        xcb_set_selection_owner(x, types ? window : XCB_WINDOW_NONE, sel[s].atom, XCB_CURRENT_TIME);
    xcb_flush(x);
}

/* ---- what the host wants ---- */

static void end_fetch(unsigned s, bool ok)
{
    static const uint8_t nothing[1];
    enum clip_type type = sel[s].fetched;
    uint8_t *data = sel[s].data;
    size_t len = sel[s].len;
    sel[s].fetching = sel[s].incr = false;
    sel[s].data = NULL;
    sel[s].len = 0;
    clip_give(s, type, ok ? data ? data : nothing : NULL, ok ? len : 0);
    free(data);
    fetch_next(s);
}

static void fetch_next(unsigned s)
{
    if (sel[s].fetching || !sel[s].wanted)
        return;
    unsigned t = (unsigned)__builtin_ctz(sel[s].wanted);
    sel[s].wanted &= ~(1u << t);
    sel[s].fetching = true;
    sel[s].fetched = (enum clip_type)t;
    sel[s].step = now_ms();
    if (!(sel[s].ours & 1u << t)) {
        end_fetch(s, false);
        return;
    }
    xcb_delete_property(x, window, atoms[A_DATA_0 + s]);
    xcb_convert_selection(x, window, sel[s].atom, sel[s].best[t], atoms[A_DATA_0 + s],
                          XCB_CURRENT_TIME);
}

static void x11_want(unsigned s, enum clip_type type)
{
    sel[s].wanted |= 1u << type;
    fetch_next(s);
    xcb_flush(x);
}

static bool keep(unsigned s, const uint8_t *data, size_t len, bool latin)
{
    size_t most = latin ? 2 * len : len;
    if (sel[s].len + most > CLIP_MAX_BYTES)
        return false;
    uint8_t *to = realloc(sel[s].data, sel[s].len + most + 1);
    if (!to)
        return false;
    sel[s].data = to;
    if (!latin) {
        memcpy(to + sel[s].len, data, len);
        sel[s].len += len;
        return true;
    }
    for (size_t i = 0; i < len; i++) {
        if (data[i] >= 0x80)
            to[sel[s].len++] = (uint8_t)(0xc0 | data[i] >> 6);
        to[sel[s].len++] = data[i] < 0x80 ? data[i] : (uint8_t)(0x80 | (data[i] & 0x3f));
    }
    return true;
}

static xcb_get_property_reply_t *take_property(xcb_atom_t name, uint32_t max)
{
    return xcb_get_property_reply(
        x, xcb_get_property(x, 1, window, name, XCB_GET_PROPERTY_TYPE_ANY, 0, max / 4), NULL);
}

/* The content, or a piece of it. */
static void on_content(unsigned s)
{
    xcb_get_property_reply_t *r = take_property(atoms[A_DATA_0 + s], CLIP_MAX_BYTES);
    if (!r || r->bytes_after) {
        free(r);
        end_fetch(s, false);
        return;
    }
    sel[s].step = now_ms();
    if (!sel[s].incr && r->type == atoms[A_INCR]) {
        sel[s].incr = true; /* having deleted the property, we are sent the first piece */
        free(r);
        return;
    }
    size_t len = r->format == 8 ? (size_t)xcb_get_property_value_length(r) : 0;
    bool last = !sel[s].incr || !len;
    bool ok = keep(s, xcb_get_property_value(r), len, is_latin(r->type));
    free(r);
    if (last || !ok)
        end_fetch(s, ok);
}

/* ---- what programs have ---- */

static unsigned rank(enum clip_type t, xcb_atom_t a)
{
    if (a == atoms[A_UTF8_STRING])
        return 0;
    for (unsigned i = 0; i < 4; i++)
        if (type_atoms[t][i] == a)
            return i + 1;
    return a == atoms[A_TEXT] ? 8 : 9;
}

static void on_targets(unsigned s)
{
    xcb_get_property_reply_t *r = take_property(atoms[A_TYPES_0 + s], MAX_TARGETS * 4);
    uint32_t types = 0;
    unsigned best[CLIP_TYPES];
    const xcb_atom_t *a = r ? xcb_get_property_value(r) : NULL;
    int n = r && r->format == 32 ? xcb_get_property_value_length(r) / 4 : 0;
    for (int i = 0; i < n; i++) {
        enum clip_type t = type_of_atom(a[i]);
        if (t == CLIP_TYPES || ((types & 1u << t) && rank(t, a[i]) >= best[t]))
            continue;
        types |= 1u << t;
        best[t] = rank(t, a[i]);
        sel[s].best[t] = a[i];
    }
    free(r);
    if (sel[s].theirs) /* the host copied meanwhile */
        return;
    sel[s].ours = types;
    clip_copied(s, types);
}

static void ask_targets(unsigned s)
{
    xcb_convert_selection(x, window, sel[s].atom, atoms[A_TARGETS], atoms[A_TYPES_0 + s],
                          XCB_CURRENT_TIME);
}

static void on_notify(const xcb_selection_notify_event_t *e)
{
    int found = selection_of(e->selection);
    if (found < 0)
        return;
    unsigned s = (unsigned)found;
    if (e->target == atoms[A_TARGETS]) {
        /* Programs that say no targets have text, if anything. */
        if (e->property)
            on_targets(s);
    } else if (sel[s].fetching && !sel[s].incr && e->target == sel[s].best[sel[s].fetched]) {
        if (e->property)
            on_content(s);
        else
            end_fetch(s, false);
    }
}

static void on_owner(const xcb_xfixes_selection_notify_event_t *e)
{
    int found = selection_of(e->selection);
    if (found < 0)
        return;
    unsigned s = (unsigned)found;
    sel[s].owned = e->owner == window;
    if (sel[s].owned) {
        sel[s].since = e->selection_timestamp;
        return;
    }
    if (sel[s].fetching)
        end_fetch(s, false);
    if (e->owner && e->subtype == XCB_XFIXES_SELECTION_EVENT_SET_SELECTION_OWNER) {
        sel[s].theirs = 0;
        ask_targets(s);
    } else if (!sel[s].theirs) {
        sel[s].ours = 0;
        clip_copied(s, 0);
    }
}

static void on_property(const xcb_property_notify_event_t *e)
{
    if (e->window == window && e->state == XCB_PROPERTY_NEW_VALUE)
        for (unsigned s = 0; s < CLIP_SELECTIONS; s++)
            if (e->atom == atoms[A_DATA_0 + s] && sel[s].fetching && sel[s].incr)
                on_content(s);
    if (e->state == XCB_PROPERTY_DELETE)
        for (unsigned i = 0; i < MAX_ASKERS; i++)
            if (askers[i].sending && askers[i].requestor == e->window &&
                askers[i].property == e->atom) {
                send_piece(&askers[i]);
                break;
            }
}

/* ---- the server ---- */

static void on_event(const xcb_generic_event_t *e)
{
    switch (e->response_type & 0x7f) {
    case XCB_SELECTION_REQUEST: on_request((const xcb_selection_request_event_t *)e); break;
    case XCB_SELECTION_NOTIFY: on_notify((const xcb_selection_notify_event_t *)e); break;
    case XCB_PROPERTY_NOTIFY: on_property((const xcb_property_notify_event_t *)e); break;
    default:
        if ((e->response_type & 0x7f) == fixes_event)
            on_owner((const xcb_xfixes_selection_notify_event_t *)e);
    }
}

static void on_x(void *ctx, short revents)
{
    xcb_generic_event_t *e;
    while (x && (e = xcb_poll_for_event(x))) {
        on_event(e);
        free(e);
    }
    if (x && xcb_connection_has_error(x))
        clip_lost();
    else if (x)
        xcb_flush(x);
}

/* Who does not go on is forgotten. */
static void on_look(void)
{
    uint64_t now = now_ms();
    for (unsigned s = 0; s < CLIP_SELECTIONS; s++)
        if (sel[s].fetching && now - sel[s].step > PATIENCE_MS)
            end_fetch(s, false);
    for (unsigned i = 0; i < MAX_ASKERS; i++)
        if (askers[i].sending && now - askers[i].step > PATIENCE_MS)
            forget_asker(&askers[i]);
    /* events that came with a reply wait without the socket's being readable */
    on_x(NULL, 0);
    if (x)
        timer_set(TIMER_LOOK, now_ms() + LOOK_MS, on_look);
}

static bool get_atoms(void)
{
    const char *names[ATOMS + CLIP_TYPES * 4];
    xcb_intern_atom_cookie_t cookies[ATOMS + CLIP_TYPES * 4];
    xcb_atom_t *to[ATOMS + CLIP_TYPES * 4];
    unsigned n = 0;
    for (unsigned i = 0; i < ATOMS; i++, n++) {
        names[n] = atom_names[i];
        to[n] = &atoms[i];
    }
    for (unsigned t = 0; t < CLIP_TYPES; t++)
        for (unsigned i = 0; i < 4 && clip_names[t][i]; i++, n++) {
            names[n] = clip_names[t][i];
            to[n] = &type_atoms[t][i];
        }
    for (unsigned i = 0; i < n; i++)
        cookies[i] = xcb_intern_atom(x, 0, (uint16_t)strlen(names[i]), names[i]);
    bool ok = true;
    for (unsigned i = 0; i < n; i++) {
        xcb_intern_atom_reply_t *r = xcb_intern_atom_reply(x, cookies[i], NULL);
        *to[i] = r ? r->atom : XCB_ATOM_NONE;
        ok &= r != NULL;
        free(r);
    }
    return ok;
}

static bool get_fixes(void)
{
    const xcb_query_extension_reply_t *e = xcb_get_extension_data(x, &xcb_xfixes_id);
    if (!e || !e->present)
        return false;
    xcb_xfixes_query_version_reply_t *v =
        xcb_xfixes_query_version_reply(x, xcb_xfixes_query_version(x, 5, 0), NULL);
    bool ok = v != NULL;
    free(v);
    fixes_event = (uint8_t)(e->first_event + XCB_XFIXES_SELECTION_NOTIFY);
    return ok;
}

static void make_window(xcb_screen_t *screen)
{
    const uint32_t events = XCB_EVENT_MASK_PROPERTY_CHANGE;
    window = xcb_generate_id(x);
    xcb_create_window(x, XCB_COPY_FROM_PARENT, window, screen->root, -1, -1, 1, 1, 0,
                      XCB_WINDOW_CLASS_INPUT_OUTPUT, screen->root_visual, XCB_CW_EVENT_MASK,
                      &events);
    for (unsigned s = 0; s < CLIP_SELECTIONS; s++) {
        sel[s].atom = s ? XCB_ATOM_PRIMARY : atoms[A_CLIPBOARD];
        xcb_xfixes_select_selection_input(
            x, window, sel[s].atom,
            XCB_XFIXES_SELECTION_EVENT_MASK_SET_SELECTION_OWNER |
                XCB_XFIXES_SELECTION_EVENT_MASK_SELECTION_WINDOW_DESTROY |
                XCB_XFIXES_SELECTION_EVENT_MASK_SELECTION_CLIENT_CLOSE);
        ask_targets(s); /* what was copied before */
    }
}

static void x11_end(void)
{
    timer_set(TIMER_LOOK, 0, NULL);
    watch_remove(watch);
    watch = NULL;
    for (unsigned i = 0; i < MAX_ASKERS; i++) {
        free(askers[i].data);
        askers[i] = (struct asker){0};
    }
    for (unsigned s = 0; s < CLIP_SELECTIONS; s++) {
        free(sel[s].data);
        memset(&sel[s], 0, sizeof sel[s]);
    }
    if (x)
        xcb_disconnect(x);
    x = NULL;
}

static bool x11_begin(void)
{
    int number = 0;
    x = xcb_connect(NULL, &number);
    xcb_screen_iterator_t screens = {0};
    if (!xcb_connection_has_error(x)) {
        screens = xcb_setup_roots_iterator(xcb_get_setup(x));
        while (number-- > 0 && screens.rem > 1)
            xcb_screen_next(&screens);
    }
    if (!screens.rem || !get_atoms() || !get_fixes() ||
        !(watch = watch_add(xcb_get_file_descriptor(x), POLLIN, on_x, NULL))) {
        x11_end();
        return false;
    }
    size_t most = (size_t)xcb_get_maximum_request_length(x) * 4 - 64;
    piece = most < PIECE ? most : PIECE;
    make_window(screens.data);
    on_look();
    return true;
}

const struct clip_backend clip_x11 = {x11_begin, x11_end, x11_own, x11_want, x11_got, NULL, NULL};
