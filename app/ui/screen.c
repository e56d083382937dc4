/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/screen.h"

#include <glib/gi18n.h>
#include <math.h>

#include "app/ui/keymap.h"

enum { TILE = 128, EVDEV_OFFSET = 8 };
enum { BUTTON_LEFT, BUTTON_MIDDLE, BUTTON_RIGHT, WHEEL_UP, WHEEL_DOWN, BUTTON_SIDE, BUTTON_EXTRA };

/* A part of the picture as it was last painted. */
struct tile {
    cairo_surface_t *surface;  /* NULL: never painted */
    GskRenderNode *node;       /* NULL: the surface, or some of it, is old */
    cairo_rectangle_int_t old; /* that part, in device pixels of the picture */
};

struct _VireoScreen {
    GtkWidget parent;
    VireoConsole *console;
    VireoZoom zoom;

    /* The picture, in device pixels, and its tiles. */
    int columns, rows, wide, high;
    double scale; /* device pixels a guest pixel */
    struct tile *tiles;
    gboolean painted; /* something was drawn since the last answer */

    gboolean captured;
    gboolean pressed[256];
    int chord; /* 1: only Ctrl and Alt are down since both were up */
    double wheel;
    double last_x, last_y;
    GdkFrameClock *clock;
};

G_DEFINE_FINAL_TYPE(VireoScreen, vireo_screen, GTK_TYPE_WIDGET)

enum { CAPTURE_CHANGED, N_SIGNALS };
static guint signals[N_SIGNALS];

/* ---- geometry ---- */

static int factor(VireoScreen *self)
{
    return gtk_widget_get_scale_factor(GTK_WIDGET(self));
}

static void drop_tiles(VireoScreen *self)
{
    for (int i = 0; i < self->columns * self->rows; i++) {
        g_clear_pointer(&self->tiles[i].node, gsk_render_node_unref);
        g_clear_pointer(&self->tiles[i].surface, cairo_surface_destroy);
    }
    g_clear_pointer(&self->tiles, g_free);
    self->columns = self->rows = self->wide = self->high = 0;
}

static double wanted_scale(VireoScreen *self, int guest_w, int guest_h)
{
    int f = factor(self);
    if (self->zoom == VIREO_ZOOM_1TO1)
        return 1;
    double w = gtk_widget_get_width(GTK_WIDGET(self)) * f;
    double h = gtk_widget_get_height(GTK_WIDGET(self)) * f;
    double s = MIN(w / guest_w, h / guest_h);
    /* Close to 1:1 it is better sharp than filling. */
    return s <= 0 ? 1 : fabs(s - 1) < 0.01 && s >= 1 ? 1 : s;
}

static void lay_out(VireoScreen *self)
{
    int gw = self->console ? vireo_console_get_width(self->console) : 0;
    int gh = self->console ? vireo_console_get_height(self->console) : 0;
    if (!gw || !gh) {
        drop_tiles(self);
        return;
    }
    double scale = wanted_scale(self, gw, gh);
    int wide = MAX(1, (int)(gw * scale + 0.001)), high = MAX(1, (int)(gh * scale + 0.001));
    if (self->tiles && wide == self->wide && high == self->high && scale == self->scale)
        return;
    drop_tiles(self);
    self->scale = scale;
    self->wide = wide;
    self->high = high;
    self->columns = (wide + TILE - 1) / TILE;
    self->rows = (high + TILE - 1) / TILE;
    self->tiles = g_new0(struct tile, (gsize)self->columns * self->rows);
}

/* Where the picture begins, in whole application pixels. */
static void origin(VireoScreen *self, int *x, int *y)
{
    int f = factor(self);
    *x = MAX(0, (gtk_widget_get_width(GTK_WIDGET(self)) - self->wide / f) / 2);
    *y = MAX(0, (gtk_widget_get_height(GTK_WIDGET(self)) - self->high / f) / 2);
}

/* How far a guest pixel is seen beyond its own place, in device pixels: filters look at neighbours.
 */
static int margin(VireoScreen *self)
{
    return self->scale == 1 ? 0 : 2 + (int)ceil(self->scale);
}

static cairo_rectangle_int_t tile_bounds(VireoScreen *self, int col, int row)
{
    return (cairo_rectangle_int_t){col * TILE, row * TILE, MIN(TILE, self->wide - col * TILE),
                                   MIN(TILE, self->high - row * TILE)};
}

static void spoil_tile(VireoScreen *self, int col, int row, const cairo_rectangle_int_t *part)
{
    struct tile *t = &self->tiles[row * self->columns + col];
    cairo_rectangle_int_t bounds = tile_bounds(self, col, row), old;
    if (!gdk_rectangle_intersect(&bounds, part, &old))
        return;
    if (t->node)
        t->old = old;
    else
        gdk_rectangle_union(&t->old, &old, &t->old);
    g_clear_pointer(&t->node, gsk_render_node_unref);
}

static void spoil(VireoScreen *self, int x, int y, int w, int h)
{
    int m = margin(self);
    int x1 = MAX(0, (int)(x * self->scale) - m), y1 = MAX(0, (int)(y * self->scale) - m);
    int x2 = MIN(self->wide, (int)ceil((x + w) * self->scale) + m);
    int y2 = MIN(self->high, (int)ceil((y + h) * self->scale) + m);
    cairo_rectangle_int_t part = {x1, y1, x2 - x1, y2 - y1};
    for (int row = y1 / TILE; row < self->rows && row * TILE < y2; row++)
        for (int col = x1 / TILE; col < self->columns && col * TILE < x2; col++)
            spoil_tile(self, col, row, &part);
    gtk_widget_queue_draw(GTK_WIDGET(self));
}

/* ---- painting ---- */

/* Copies (and scales) what is old in the tile from the frame: the frame goes on changing. */
static void paint_tile(VireoScreen *self, struct tile *t, const cairo_rectangle_int_t *bounds)
{
    int f = factor(self);
    if (!t->surface) {
        t->surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, bounds->width, bounds->height);
        cairo_surface_set_device_scale(t->surface, f, f);
        t->old = *bounds;
    }
    cairo_t *cr = cairo_create(t->surface);
    cairo_scale(cr, 1.0 / f, 1.0 / f);
    cairo_translate(cr, -bounds->x, -bounds->y);
    cairo_rectangle(cr, t->old.x, t->old.y, t->old.width, t->old.height);
    cairo_clip(cr);
    cairo_scale(cr, self->scale, self->scale);
    cairo_set_source_surface(cr, vireo_console_get_surface(self->console), 0, 0);
    cairo_pattern_set_filter(cairo_get_source(cr), self->scale == 1  ? CAIRO_FILTER_NEAREST
                                                   : self->scale < 1 ? CAIRO_FILTER_GOOD
                                                                     : CAIRO_FILTER_BILINEAR);
    cairo_pattern_set_extend(cairo_get_source(cr), CAIRO_EXTEND_PAD);
    cairo_set_operator(cr, CAIRO_OPERATOR_SOURCE);
    cairo_paint(cr);
    cairo_destroy(cr);
}

static GskRenderNode *make_node(cairo_surface_t *surface, const cairo_rectangle_int_t *b, int f)
{
    graphene_rect_t bounds = GRAPHENE_RECT_INIT((float)b->x / f, (float)b->y / f,
                                                (float)b->width / f, (float)b->height / f);
    GskRenderNode *node = gsk_cairo_node_new(&bounds);
    cairo_t *cr = gsk_cairo_node_get_draw_context(node);
    cairo_set_source_surface(cr, surface, bounds.origin.x, bounds.origin.y);
    cairo_pattern_set_filter(cairo_get_source(cr), CAIRO_FILTER_NEAREST);
    cairo_paint(cr);
    cairo_destroy(cr);
    return node;
}

static GskRenderNode *fresh_tile(VireoScreen *self, int col, int row)
{
    struct tile *t = &self->tiles[row * self->columns + col];
    cairo_rectangle_int_t bounds = tile_bounds(self, col, row);
    if (!t->node) {
        paint_tile(self, t, &bounds);
        t->node = make_node(t->surface, &bounds, factor(self));
    }
    return t->node;
}

static void vireo_screen_snapshot(GtkWidget *widget, GtkSnapshot *snapshot)
{
    VireoScreen *self = VIREO_SCREEN(widget);
    int x, y;
    lay_out(self);
    self->painted = TRUE;
    if (!self->tiles || !vireo_console_get_surface(self->console))
        return;
    origin(self, &x, &y);
    gtk_snapshot_save(snapshot);
    gtk_snapshot_translate(snapshot, &GRAPHENE_POINT_INIT((float)x, (float)y));
    for (int row = 0; row < self->rows; row++)
        for (int col = 0; col < self->columns; col++)
            gtk_snapshot_append_node(snapshot, fresh_tile(self, col, row));
    gtk_snapshot_restore(snapshot);
}

static void on_after_paint(GdkFrameClock *clock, VireoScreen *self)
{
    if (!self->painted || !self->console)
        return;
    self->painted = FALSE;
    vireo_console_painted(self->console);
}

static void vireo_screen_measure(GtkWidget *widget, GtkOrientation orientation, int for_size,
                                 int *minimum, int *natural, int *min_base, int *nat_base)
{
    VireoScreen *self = VIREO_SCREEN(widget);
    int size = !self->console ? 0
               : orientation == GTK_ORIENTATION_HORIZONTAL
                   ? vireo_console_get_width(self->console)
                   : vireo_console_get_height(self->console);
    size = (size + factor(self) - 1) / factor(self);
    *natural = MAX(size, 1);
    *minimum = self->zoom == VIREO_ZOOM_1TO1 ? *natural : 1;
}

static void vireo_screen_size_allocate(GtkWidget *widget, int w, int h, int baseline)
{
    lay_out(VIREO_SCREEN(widget));
}

/* ---- the console's side ---- */

static void set_cursor(VireoScreen *self)
{
    int hot_x = 0, hot_y = 0;
    g_autoptr(GdkCursor) cursor = NULL;
    GdkTexture *shape =
        self->console ? vireo_console_get_cursor(self->console, &hot_x, &hot_y) : NULL;
    if (self->console && vireo_console_cursor_hidden(self->console))
        cursor = gdk_cursor_new_from_name("none", NULL);
    else if (shape)
        cursor = gdk_cursor_new_from_texture(shape, hot_x, hot_y, NULL);
    gtk_widget_set_cursor(GTK_WIDGET(self), cursor);
}

static void on_resized(VireoScreen *self)
{
    drop_tiles(self);
    gtk_widget_queue_resize(GTK_WIDGET(self));
    gtk_widget_queue_draw(GTK_WIDGET(self));
}

static void on_updated(VireoScreen *self, int x, int y, int w, int h)
{
    if (!self->tiles || !gtk_widget_get_mapped(GTK_WIDGET(self)))
        drop_tiles(self);
    else
        spoil(self, x, y, w, h);
}

static void unset_console(VireoScreen *self)
{
    if (!self->console)
        return;
    g_signal_handlers_disconnect_by_data(self->console, self);
    vireo_console_detach(self->console);
    g_clear_object(&self->console);
    drop_tiles(self);
}

void vireo_screen_set_console(VireoScreen *self, VireoConsole *console)
{
    if (self->console == console)
        return;
    vireo_screen_capture(self, FALSE);
    unset_console(self);
    if (console) {
        self->console = g_object_ref(console);
        vireo_console_attach(console);
        g_signal_connect_swapped(console, "resized", G_CALLBACK(on_resized), self);
        g_signal_connect_swapped(console, "updated", G_CALLBACK(on_updated), self);
        g_signal_connect_swapped(console, "cursor-changed", G_CALLBACK(set_cursor), self);
    }
    set_cursor(self);
    on_resized(self);
}

void vireo_screen_set_zoom(VireoScreen *self, VireoZoom zoom)
{
    self->zoom = zoom;
    on_resized(self);
}

/* ---- keyboard ---- */

static void release_keys(VireoScreen *self)
{
    for (guint i = 0; i < G_N_ELEMENTS(self->pressed); i++) {
        if (self->pressed[i] && self->console)
            vireo_console_key(self->console, i, FALSE);
        self->pressed[i] = FALSE;
    }
    self->chord = 0;
}

gboolean vireo_screen_is_captured(VireoScreen *self)
{
    return self->captured;
}

static GdkToplevel *toplevel(VireoScreen *self)
{
    GtkNative *native = gtk_widget_get_native(GTK_WIDGET(self));
    GdkSurface *surface = native ? gtk_native_get_surface(native) : NULL;
    return surface && GDK_IS_TOPLEVEL(surface) ? GDK_TOPLEVEL(surface) : NULL;
}

void vireo_screen_capture(VireoScreen *self, gboolean capture)
{
    GdkToplevel *top = toplevel(self);
    if (capture == self->captured || (capture && !self->console))
        return;
    self->captured = capture;
    if (!capture)
        release_keys(self);
    if (top && capture)
        gdk_toplevel_inhibit_system_shortcuts(top, NULL);
    else if (top)
        gdk_toplevel_restore_system_shortcuts(top);
    g_signal_emit(self, signals[CAPTURE_CHANGED], 0);
}

/* Left Ctrl and left Alt together, and nothing else, give the keyboard back when let go. */
static gboolean chord_released(VireoScreen *self, guint qnum, gboolean press)
{
    gboolean part = qnum == QNUM_CTRL || qnum == QNUM_ALT;
    if (press && !part)
        self->chord = 0;
    else if (press && self->pressed[QNUM_CTRL] && self->pressed[QNUM_ALT])
        self->chord = 1;
    for (guint i = 0; press && i < G_N_ELEMENTS(self->pressed); i++)
        if (self->pressed[i] && i != QNUM_CTRL && i != QNUM_ALT)
            self->chord = 0;
    return !press && part && self->chord;
}

gboolean vireo_screen_handle_key(VireoScreen *self, guint hardware_keycode, gboolean press,
                                 GdkEvent *event)
{
    guint qnum =
        hardware_keycode > EVDEV_OFFSET ? vireo_keymap_qnum(hardware_keycode - EVDEV_OFFSET) : 0;
    if (!self->captured || !self->console)
        return FALSE;
    if (!qnum)
        return TRUE;
    if (!press && !self->pressed[qnum])
        return TRUE;
    if (press || self->pressed[qnum])
        vireo_console_key(self->console, qnum, press);
    self->pressed[qnum] = press;
    if (chord_released(self, qnum, press))
        vireo_screen_capture(self, FALSE);
    return TRUE;
}

static void on_focus_leave(GtkEventControllerFocus *controller, VireoScreen *self)
{
    vireo_screen_capture(self, FALSE);
}

/* Not captured, but focused: Return begins. */
static gboolean on_key(GtkEventControllerKey *controller, guint keyval, guint keycode,
                       GdkModifierType state, VireoScreen *self)
{
    if (self->captured || (keyval != GDK_KEY_Return && keyval != GDK_KEY_KP_Enter))
        return GDK_EVENT_PROPAGATE;
    vireo_screen_capture(self, TRUE);
    return GDK_EVENT_STOP;
}

/* ---- pointer ---- */

static gboolean to_guest(VireoScreen *self, double x, double y, guint *gx, guint *gy)
{
    int ox, oy, f = factor(self);
    if (!self->tiles)
        return FALSE;
    origin(self, &ox, &oy);
    int w = vireo_console_get_width(self->console), h = vireo_console_get_height(self->console);
    *gx = (guint)CLAMP((x - ox) * f / self->scale, 0, w - 1);
    *gy = (guint)CLAMP((y - oy) * f / self->scale, 0, h - 1);
    return TRUE;
}

static void move_to(VireoScreen *self, double x, double y)
{
    guint gx, gy;
    if (!self->console || !to_guest(self, x, y, &gx, &gy))
        return;
    if (vireo_console_is_absolute(self->console))
        vireo_console_move(self->console, gx, gy);
    else
        vireo_console_move_by(self->console, (int)round(x - self->last_x),
                              (int)round(y - self->last_y));
    self->last_x = x;
    self->last_y = y;
}

static void on_motion(GtkEventControllerMotion *controller, double x, double y, VireoScreen *self)
{
    move_to(self, x, y);
}

static guint button_number(guint gtk_button)
{
    switch (gtk_button) {
    case GDK_BUTTON_MIDDLE: return BUTTON_MIDDLE;
    case GDK_BUTTON_SECONDARY: return BUTTON_RIGHT;
    case 8: return BUTTON_SIDE;
    case 9: return BUTTON_EXTRA;
    default: return BUTTON_LEFT;
    }
}

static void on_pressed(GtkGestureClick *gesture, int n, double x, double y, VireoScreen *self)
{
    guint button = gtk_gesture_single_get_current_button(GTK_GESTURE_SINGLE(gesture));
    gtk_widget_grab_focus(GTK_WIDGET(self));
    vireo_screen_capture(self, TRUE);
    gtk_gesture_set_state(GTK_GESTURE(gesture), GTK_EVENT_SEQUENCE_CLAIMED);
    if (!self->console)
        return;
    move_to(self, x, y);
    vireo_console_button(self->console, button_number(button), TRUE);
}

static void on_released(GtkGestureClick *gesture, int n, double x, double y, VireoScreen *self)
{
    guint button = gtk_gesture_single_get_current_button(GTK_GESTURE_SINGLE(gesture));
    if (!self->console)
        return;
    move_to(self, x, y);
    vireo_console_button(self->console, button_number(button), FALSE);
}

static gboolean on_scroll(GtkEventControllerScroll *controller, double dx, double dy,
                          VireoScreen *self)
{
    if (!self->console || (self->zoom == VIREO_ZOOM_1TO1 && !self->captured))
        return GDK_EVENT_PROPAGATE;
    self->wheel += dy;
    for (; self->wheel >= 1; self->wheel -= 1) {
        vireo_console_button(self->console, WHEEL_DOWN, TRUE);
        vireo_console_button(self->console, WHEEL_DOWN, FALSE);
    }
    for (; self->wheel <= -1; self->wheel += 1) {
        vireo_console_button(self->console, WHEEL_UP, TRUE);
        vireo_console_button(self->console, WHEEL_UP, FALSE);
    }
    return GDK_EVENT_STOP;
}

/* ---- the widget ---- */

static void vireo_screen_realize(GtkWidget *widget)
{
    VireoScreen *self = VIREO_SCREEN(widget);
    GTK_WIDGET_CLASS(vireo_screen_parent_class)->realize(widget);
    self->clock = g_object_ref(gtk_widget_get_frame_clock(widget));
    g_signal_connect(self->clock, "after-paint", G_CALLBACK(on_after_paint), self);
}

static void vireo_screen_unrealize(GtkWidget *widget)
{
    VireoScreen *self = VIREO_SCREEN(widget);
    g_signal_handlers_disconnect_by_data(self->clock, self);
    g_clear_object(&self->clock);
    drop_tiles(self);
    GTK_WIDGET_CLASS(vireo_screen_parent_class)->unrealize(widget);
}

static void vireo_screen_dispose(GObject *object)
{
    VireoScreen *self = VIREO_SCREEN(object);
    release_keys(self);
    unset_console(self);
    G_OBJECT_CLASS(vireo_screen_parent_class)->dispose(object);
}

static void vireo_screen_class_init(VireoScreenClass *klass)
{
    GtkWidgetClass *widget = GTK_WIDGET_CLASS(klass);
    G_OBJECT_CLASS(klass)->dispose = vireo_screen_dispose;
    widget->snapshot = vireo_screen_snapshot;
    widget->measure = vireo_screen_measure;
    widget->size_allocate = vireo_screen_size_allocate;
    widget->realize = vireo_screen_realize;
    widget->unrealize = vireo_screen_unrealize;
    gtk_widget_class_set_css_name(widget, "screen");
    gtk_widget_class_set_accessible_role(widget, GTK_ACCESSIBLE_ROLE_IMG);
    signals[CAPTURE_CHANGED] = g_signal_new("capture-changed", G_TYPE_FROM_CLASS(klass),
                                            G_SIGNAL_RUN_LAST, 0, NULL, NULL, NULL, G_TYPE_NONE, 0);
}

static void add_controllers(VireoScreen *self)
{
    GtkWidget *widget = GTK_WIDGET(self);
    GtkEventController *focus = gtk_event_controller_focus_new();
    g_signal_connect(focus, "leave", G_CALLBACK(on_focus_leave), self);
    gtk_widget_add_controller(widget, focus);
    GtkEventController *key = gtk_event_controller_key_new();
    g_signal_connect(key, "key-pressed", G_CALLBACK(on_key), self);
    gtk_widget_add_controller(widget, key);
    GtkEventController *motion = gtk_event_controller_motion_new();
    g_signal_connect(motion, "motion", G_CALLBACK(on_motion), self);
    gtk_widget_add_controller(widget, motion);
    GtkGesture *click = gtk_gesture_click_new();
    gtk_gesture_single_set_button(GTK_GESTURE_SINGLE(click), 0);
    g_signal_connect(click, "pressed", G_CALLBACK(on_pressed), self);
    g_signal_connect(click, "released", G_CALLBACK(on_released), self);
    gtk_widget_add_controller(widget, GTK_EVENT_CONTROLLER(click));
    GtkEventController *scroll =
        gtk_event_controller_scroll_new(GTK_EVENT_CONTROLLER_SCROLL_VERTICAL);
    g_signal_connect(scroll, "scroll", G_CALLBACK(on_scroll), self);
    gtk_widget_add_controller(widget, scroll);
}

static void vireo_screen_init(VireoScreen *self)
{
    self->scale = 1;
    gtk_widget_set_focusable(GTK_WIDGET(self), TRUE);
    gtk_widget_set_overflow(GTK_WIDGET(self), GTK_OVERFLOW_HIDDEN);
    gtk_accessible_update_property(GTK_ACCESSIBLE(self), GTK_ACCESSIBLE_PROPERTY_LABEL,
                                   _("Screen of the virtual machine"), -1);
    add_controllers(self);
    g_signal_connect(self, "notify::scale-factor", G_CALLBACK(on_resized), NULL);
}

GtkWidget *vireo_screen_new(void)
{
    return g_object_new(VIREO_TYPE_SCREEN, NULL);
}
