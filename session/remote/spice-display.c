/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The screen as a QXL device whose driver we play: one primary surface, and a drawing command with
 * a copy of the pixels for each rectangle that changed. spice-server's display thread fetches and
 * releases the commands. */
#include <string.h>

#include "session/remote/frame.h"
#include "session/remote/spice-int.h"

enum {
    COMMANDS_MAX = 64, /* then changes are joined by the console until some are fetched */
    DARK_WIDTH = 640,  /* what is shown while the machine shows nothing */
    DARK_HEIGHT = 480,
};

/* A drawing or cursor command with all that it points to; freed when spice-server releases it. */
struct command {
    QXLCommandExt ext;
    GList link;
    union {
        struct {
            QXLDrawable drawable;
            QXLImage image;
        } draw;
        QXLCursorCmd cursor;
    };
    guint8 data[]; /* pixels, or a QXLCursor */
};

struct spice_display {
    QXLInstance qxl; /* first: what spice-server hands back */
    struct console *console;
    struct console_listener *source; /* NULL: nobody looks */
    struct frame frame;
    guint8 *primary; /* what spice-server draws into; NULL: there is none */
    uint32_t width, height;
    uint32_t unique;
    guint pump; /* idle source */
    struct console_pointer pointer;

    GMutex lock; /* the rest; main loop, I/O and display threads */
    GQueue commands, cursors;
    gboolean held, posted, closed;
};

static gboolean on_pump(gpointer data);

/* Any thread. */
static void post_pump(void *ctx)
{
    struct spice_display *d = ctx;
    g_mutex_lock(&d->lock);
    gboolean first = !d->posted && !d->closed;
    d->posted = TRUE;
    g_mutex_unlock(&d->lock);
    if (first)
        g_idle_add_full(G_PRIORITY_DEFAULT, on_pump, d, NULL);
}

/* ---- what spice-server's display thread asks ---- */

static struct spice_display *of(QXLInstance *qxl)
{
    return (struct spice_display *)qxl;
}

static void attached(QXLInstance *qxl)
{
}

static void set_compression_level(QXLInstance *qxl, int level)
{
}

static void get_init_info(QXLInstance *qxl, QXLDevInitInfo *info)
{
    *info = (QXLDevInitInfo){.num_memslots_groups = 1,
                             .num_memslots = 1,
                             .memslot_gen_bits = 8,
                             .memslot_id_bits = 8,
                             .n_surfaces = 1};
}

static int take(struct spice_display *d, GQueue *queue, QXLCommandExt *to)
{
    g_mutex_lock(&d->lock);
    GList *link = g_queue_pop_head_link(queue);
    gboolean resume = link && d->held && d->commands.length < COMMANDS_MAX / 2;
    if (resume)
        d->held = FALSE;
    g_mutex_unlock(&d->lock);
    if (link)
        *to = ((struct command *)link->data)->ext;
    if (resume)
        post_pump(d);
    return link != NULL;
}

static int get_command(QXLInstance *qxl, QXLCommandExt *to)
{
    return take(of(qxl), &of(qxl)->commands, to);
}

static int get_cursor_command(QXLInstance *qxl, QXLCommandExt *to)
{
    return take(of(qxl), &of(qxl)->cursors, to);
}

/* spice_qxl_wakeup comes with every command. */
static int req_notification(QXLInstance *qxl)
{
    return 1;
}

static void release_resource(QXLInstance *qxl, QXLReleaseInfoExt release)
{
    g_free((void *)(uintptr_t)release.info->id);
}

static void notify_update(QXLInstance *qxl, uint32_t update)
{
}

static int flush_resources(QXLInstance *qxl)
{
    return 0;
}

static const QXLInterface interface = {
    .base = {SPICE_INTERFACE_QXL, "vireo display", SPICE_INTERFACE_QXL_MAJOR,
             SPICE_INTERFACE_QXL_MINOR},
    .attached_worker = attached,
    .set_compression_level = set_compression_level,
    .get_init_info = get_init_info,
    .get_command = get_command,
    .req_cmd_notification = req_notification,
    .release_resource = release_resource,
    .get_cursor_command = get_cursor_command,
    .req_cursor_notification = req_notification,
    .notify_update = notify_update,
    .flush_resources = flush_resources,
};

/* ---- commands ---- */

static struct command *command_new(gsize data)
{
    struct command *c = g_try_malloc0(sizeof *c + data);
    if (c)
        c->link.data = c;
    return c;
}

static void enqueue(struct spice_display *d, struct command *c, GQueue *queue, uint32_t type,
                    void *body)
{
    c->ext.cmd.type = type;
    c->ext.cmd.data = (uintptr_t)body;
    ((QXLReleaseInfo *)body)->id = (uintptr_t)c;
    g_mutex_lock(&d->lock);
    g_queue_push_tail_link(queue, &c->link);
    d->held = d->commands.length >= COMMANDS_MAX;
    g_mutex_unlock(&d->lock);
    spice_qxl_wakeup(&d->qxl);
}

static void draw(struct spice_display *d, const struct console_rect *r)
{
    struct command *c = command_new((gsize)r->width * r->height * 4);
    if (!c)
        return;
    QXLDrawable *drawable = &c->draw.drawable;
    QXLImage *image = &c->draw.image;
    for (uint32_t y = 0; y < r->height; y++)
        memcpy(c->data + (gsize)y * r->width * 4,
               d->frame.pixels + (gsize)(r->y + y) * d->frame.stride + (gsize)r->x * 4,
               (gsize)r->width * 4);
    drawable->bbox = (QXLRect){.top = (int32_t)r->y,
                               .left = (int32_t)r->x,
                               .bottom = (int32_t)(r->y + r->height),
                               .right = (int32_t)(r->x + r->width)};
    drawable->clip.type = SPICE_CLIP_TYPE_NONE;
    drawable->effect = QXL_EFFECT_OPAQUE;
    drawable->type = QXL_DRAW_COPY;
    for (int i = 0; i < 3; i++)
        drawable->surfaces_dest[i] = -1;
    drawable->u.copy.rop_descriptor = SPICE_ROPD_OP_PUT;
    drawable->u.copy.src_bitmap = (uintptr_t)image;
    drawable->u.copy.src_area.right = (int32_t)r->width;
    drawable->u.copy.src_area.bottom = (int32_t)r->height;
    QXL_SET_IMAGE_ID(image, QXL_IMAGE_GROUP_DEVICE, d->unique++);
    image->descriptor.type = SPICE_IMAGE_TYPE_BITMAP;
    image->descriptor.width = r->width;
    image->descriptor.height = r->height;
    image->bitmap.format = SPICE_BITMAP_FMT_32BIT;
    image->bitmap.flags = QXL_BITMAP_DIRECT | QXL_BITMAP_TOP_DOWN;
    image->bitmap.x = r->width;
    image->bitmap.y = r->height;
    image->bitmap.stride = r->width * 4;
    image->bitmap.data = (uintptr_t)c->data;
    enqueue(d, c, &d->commands, QXL_CMD_DRAW, drawable);
}

static void show_shape(struct spice_display *d, const struct console_shape *s)
{
    gsize n = (gsize)s->width * s->height * 4;
    struct command *c = command_new(sizeof(QXLCursor) + n);
    if (!c)
        return;
    if (n == 0) {
        c->cursor.type = QXL_CURSOR_HIDE;
    } else {
        QXLCursor *shape = (QXLCursor *)c->data;
        shape->header.unique = d->unique++;
        shape->header.type = SPICE_CURSOR_TYPE_ALPHA;
        shape->header.width = (uint16_t)s->width;
        shape->header.height = (uint16_t)s->height;
        shape->header.hot_spot_x = (uint16_t)s->hot_x;
        shape->header.hot_spot_y = (uint16_t)s->hot_y;
        shape->data_size = shape->chunk.data_size = (uint32_t)n;
        memcpy(shape->chunk.data, s->argb, n);
        c->cursor.type = QXL_CURSOR_SET;
        c->cursor.u.set.position.x = (int16_t)d->pointer.x;
        c->cursor.u.set.position.y = (int16_t)d->pointer.y;
        c->cursor.u.set.visible = 1;
        c->cursor.u.set.shape = (uintptr_t)shape;
    }
    enqueue(d, c, &d->cursors, QXL_CMD_CURSOR, &c->cursor);
}

/* ---- the surface ---- */

static void drop_primary(struct spice_display *d)
{
    if (!d->primary)
        return;
    spice_qxl_destroy_primary_surface(&d->qxl, 0); /* what was not fetched is drawn before */
    g_clear_pointer(&d->primary, g_free);
}

static void make_primary(struct spice_display *d)
{
    drop_primary(d);
    d->width = d->frame.pixels ? d->frame.width : DARK_WIDTH;
    d->height = d->frame.pixels ? d->frame.height : DARK_HEIGHT;
    d->primary = g_try_malloc0((gsize)d->width * d->height * 4);
    if (!d->primary)
        return;
    QXLDevSurfaceCreate surface = {.width = d->width,
                                   .height = d->height,
                                   .stride = -(int32_t)d->width * 4, /* top down */
                                   .format = SPICE_SURFACE_FMT_32_xRGB,
                                   .mouse_mode = 1,
                                   .mem = (uintptr_t)d->primary,
                                   .group_id = 0};
    spice_qxl_create_primary_surface(&d->qxl, 0, &surface);
}

static void show(struct spice_display *d, struct console_update *u)
{
    if (frame_update(&d->frame, u) || !d->primary)
        make_primary(d);
    for (unsigned i = 0; d->primary && i < u->nrects; i++)
        draw(d, &u->rects[i]);
    if (u->changes & CONSOLE_POINTER_MOVED)
        d->pointer = u->pointer;
    if (u->changes & CONSOLE_SHAPE_CHANGED)
        show_shape(d, &u->shape);
}

static gboolean on_pump(gpointer data)
{
    struct spice_display *d = data;
    struct console_update u;
    g_mutex_lock(&d->lock);
    d->posted = FALSE;
    gboolean held = d->held, closed = d->closed;
    g_mutex_unlock(&d->lock);
    if (closed) {
        g_mutex_clear(&d->lock);
        g_free(d);
        return G_SOURCE_REMOVE;
    }
    while (d->source && !held && console_take(d->source, &u)) {
        show(d, &u);
        console_update_clear(&u);
        g_mutex_lock(&d->lock);
        held = d->held;
        g_mutex_unlock(&d->lock);
    }
    return G_SOURCE_REMOVE;
}

void spice_display_set_active(struct spice_display *d, gboolean on)
{
    if (on == (d->source != NULL))
        return;
    if (on) {
        d->source = console_listen(d->console, post_pump, d);
        post_pump(d);
    } else {
        console_unlisten(d->source);
        d->source = NULL;
        frame_clear(&d->frame);
    }
}

struct spice_display *spice_display_new(SpiceServer *server, struct console *console)
{
    struct spice_display *d = g_new0(struct spice_display, 1);
    QXLDevMemSlot slot = {.virt_end = ~(uintptr_t)0};
    d->console = console;
    d->qxl.base.sif = &interface.base;
    g_mutex_init(&d->lock);
    g_queue_init(&d->commands);
    g_queue_init(&d->cursors);
    if (spice_server_add_interface(server, &d->qxl.base) < 0) {
        g_mutex_clear(&d->lock);
        g_free(d);
        return NULL;
    }
    spice_qxl_add_memslot(&d->qxl, &slot);
    make_primary(d);
    return d;
}

static void drop_commands(GQueue *queue)
{
    GList *link;
    while ((link = g_queue_pop_head_link(queue)))
        g_free(link->data);
}

/* spice-server has no more use for the commands once the surface is gone; the server itself goes
 * after this. */
void spice_display_free(struct spice_display *d)
{
    spice_display_set_active(d, FALSE);
    drop_primary(d);
    g_mutex_lock(&d->lock);
    drop_commands(&d->commands);
    drop_commands(&d->cursors);
    d->closed = TRUE;
    gboolean posted = d->posted;
    g_mutex_unlock(&d->lock);
    if (!posted)
        g_idle_add(on_pump, d); /* frees it, after the server */
}
