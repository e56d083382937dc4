/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/thumbnail.h"

#include <math.h>

enum { WIDTH = 160, HEIGHT = 100, FIRST_MS = 100, EVERY_MS = 1000 };

struct _VireoThumbnail {
    GObject parent;
    VireoConsole *console;
    guint timer;
    double scale;              /* of a guest pixel */
    cairo_surface_t *small;    /* NULL: dark, or never painted */
    cairo_rectangle_int_t old; /* what changed since, in guest pixels */
    GdkTexture *texture;
};

/* ---- as a paintable ---- */

static void thumbnail_snapshot(GdkPaintable *paintable, GdkSnapshot *snapshot, double width,
                               double height)
{
    VireoThumbnail *t = VIREO_THUMBNAIL(paintable);
    if (t->texture)
        gdk_paintable_snapshot(GDK_PAINTABLE(t->texture), snapshot, width, height);
}

static int thumbnail_width(GdkPaintable *paintable)
{
    VireoThumbnail *t = VIREO_THUMBNAIL(paintable);
    return t->texture ? gdk_texture_get_width(t->texture) : 0;
}

static int thumbnail_height(GdkPaintable *paintable)
{
    VireoThumbnail *t = VIREO_THUMBNAIL(paintable);
    return t->texture ? gdk_texture_get_height(t->texture) : 0;
}

static void paintable_init(GdkPaintableInterface *iface)
{
    iface->snapshot = thumbnail_snapshot;
    iface->get_intrinsic_width = thumbnail_width;
    iface->get_intrinsic_height = thumbnail_height;
}

G_DEFINE_FINAL_TYPE_WITH_CODE(VireoThumbnail, vireo_thumbnail, G_TYPE_OBJECT,
                              G_IMPLEMENT_INTERFACE(GDK_TYPE_PAINTABLE, paintable_init))

/* ---- the picture ---- */

static void start_over(VireoThumbnail *t)
{
    int w = vireo_console_get_width(t->console), h = vireo_console_get_height(t->console);
    if (!vireo_console_get_surface(t->console))
        return;
    t->scale = MIN(1, MIN((double)WIDTH / w, (double)HEIGHT / h));
    t->small = cairo_image_surface_create(CAIRO_FORMAT_ARGB32, MAX(1, (int)(w * t->scale)),
                                          MAX(1, (int)(h * t->scale)));
    t->old = (cairo_rectangle_int_t){0, 0, w, h};
}

/* Filters look beyond a pixel: two of the small ones. */
static void clip_to_old(VireoThumbnail *t, cairo_t *cr)
{
    double x = floor(t->old.x * t->scale) - 2, y = floor(t->old.y * t->scale) - 2;
    cairo_rectangle(cr, x, y, ceil((t->old.x + t->old.width) * t->scale) + 2 - x,
                    ceil((t->old.y + t->old.height) * t->scale) + 2 - y);
    cairo_clip(cr);
}

static void paint(VireoThumbnail *t)
{
    cairo_t *cr = cairo_create(t->small);
    clip_to_old(t, cr);
    cairo_scale(cr, t->scale, t->scale);
    cairo_set_source_surface(cr, vireo_console_get_surface(t->console), 0, 0);
    cairo_pattern_set_extend(cairo_get_source(cr), CAIRO_EXTEND_PAD);
    cairo_set_operator(cr, CAIRO_OPERATOR_SOURCE);
    cairo_paint(cr);
    cairo_destroy(cr);
    t->old = (cairo_rectangle_int_t){0};
}

static GdkTexture *copy(cairo_surface_t *s)
{
    int stride = cairo_image_surface_get_stride(s), height = cairo_image_surface_get_height(s);
    cairo_surface_flush(s);
    g_autoptr(GBytes) bytes =
        g_bytes_new(cairo_image_surface_get_data(s), (gsize)stride * (gsize)height);
    return gdk_memory_texture_new(cairo_image_surface_get_width(s), height,
                                  GDK_MEMORY_B8G8R8A8_PREMULTIPLIED, bytes, (gsize)stride);
}

static gboolean on_time(gpointer data)
{
    VireoThumbnail *t = data;
    int w = thumbnail_width(GDK_PAINTABLE(t)), h = thumbnail_height(GDK_PAINTABLE(t));
    t->timer = 0;
    if (!t->small)
        start_over(t);
    if (t->small)
        paint(t);
    g_clear_object(&t->texture);
    t->texture = t->small ? copy(t->small) : NULL;
    if (w != thumbnail_width(GDK_PAINTABLE(t)) || h != thumbnail_height(GDK_PAINTABLE(t)))
        gdk_paintable_invalidate_size(GDK_PAINTABLE(t));
    gdk_paintable_invalidate_contents(GDK_PAINTABLE(t));
    return G_SOURCE_REMOVE;
}

static void make_later(VireoThumbnail *t)
{
    if (!t->timer)
        t->timer = g_timeout_add(t->texture ? EVERY_MS : FIRST_MS, on_time, t);
}

static void on_updated(VireoThumbnail *t, int x, int y, int w, int h)
{
    cairo_rectangle_int_t part = {x, y, w, h};
    if (t->old.width)
        gdk_rectangle_union(&t->old, &part, &t->old);
    else
        t->old = part;
    make_later(t);
}

static void on_resized(VireoThumbnail *t)
{
    g_clear_pointer(&t->small, cairo_surface_destroy);
    make_later(t);
}

/* ---- the object ---- */

static void vireo_thumbnail_finalize(GObject *object)
{
    VireoThumbnail *t = VIREO_THUMBNAIL(object);
    g_signal_handlers_disconnect_by_data(t->console, t);
    g_clear_handle_id(&t->timer, g_source_remove);
    g_clear_pointer(&t->small, cairo_surface_destroy);
    g_clear_object(&t->texture);
    g_object_unref(t->console);
    G_OBJECT_CLASS(vireo_thumbnail_parent_class)->finalize(object);
}

static void vireo_thumbnail_class_init(VireoThumbnailClass *klass)
{
    G_OBJECT_CLASS(klass)->finalize = vireo_thumbnail_finalize;
}

static void vireo_thumbnail_init(VireoThumbnail *t)
{
}

VireoThumbnail *vireo_thumbnail_new(VireoConsole *console)
{
    VireoThumbnail *t = g_object_new(VIREO_TYPE_THUMBNAIL, NULL);
    t->console = g_object_ref(console);
    g_signal_connect_swapped(console, "updated", G_CALLBACK(on_updated), t);
    g_signal_connect_swapped(console, "resized", G_CALLBACK(on_resized), t);
    return t;
}
