/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/remote/frame.h"

#include <string.h>
#include <sys/mman.h>

static void unmap(struct frame *f)
{
    if (f->shown)
        munmap(f->shown, f->shown_bytes);
    f->shown = NULL;
}

static uint32_t pixel_bytes(enum console_format format)
{
    return format == CONSOLE_RGB565 ? 2 : 4;
}

/* The last byte that is looked at is the last line's last pixel's. */
static void map(struct frame *f, const struct console_surface *s)
{
    unmap(f);
    f->surface = *s;
    if (s->fd < 0 || !s->width || !s->height || s->width > CONSOLE_MAX_WIDTH ||
        s->height > CONSOLE_MAX_HEIGHT)
        return;
    f->shown_bytes =
        s->offset + (size_t)(s->height - 1) * s->stride + (size_t)s->width * pixel_bytes(s->format);
    void *m = mmap(NULL, f->shown_bytes, PROT_READ, MAP_SHARED, s->fd, 0);
    f->shown = m == MAP_FAILED ? NULL : m;
}

static void copy_565(uint32_t *to, const uint16_t *from, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t p = from[i], r = p >> 11, g = p >> 5 & 63, b = p & 31;
        to[i] = (r << 3 | r >> 2) << 16 | (g << 2 | g >> 4) << 8 | (b << 3 | b >> 2);
    }
}

static void copy_rect(struct frame *f, const struct console_rect *r)
{
    uint32_t bytes = pixel_bytes(f->surface.format);
    for (uint32_t y = r->y; y < r->y + r->height; y++) {
        uint8_t *to = f->pixels + (size_t)y * f->stride + (size_t)r->x * 4;
        const uint8_t *from =
            f->shown + f->surface.offset + (size_t)y * f->surface.stride + (size_t)r->x * bytes;
        if (f->surface.format == CONSOLE_RGB565)
            copy_565((uint32_t *)to, (const uint16_t *)from, r->width);
        else
            memcpy(to, from, (size_t)r->width * 4);
    }
}

/* FALSE: as large as it was. */
static gboolean resize(struct frame *f)
{
    uint32_t width = f->shown ? f->surface.width : 0, height = f->shown ? f->surface.height : 0;
    if (f->pixels && width == f->width && height == f->height)
        return FALSE;
    if (!f->pixels && !width)
        return FALSE;
    g_free(f->pixels);
    f->pixels = width ? g_try_malloc0((size_t)width * 4 * height) : NULL;
    f->width = f->pixels ? width : 0;
    f->height = f->pixels ? height : 0;
    f->stride = f->width * 4;
    return TRUE;
}

gboolean frame_update(struct frame *f, struct console_update *u)
{
    gboolean resized = FALSE;
    if (u->changes & CONSOLE_SURFACE_CHANGED) {
        map(f, &u->surface);
        resized = resize(f);
        u->rects[0] = (struct console_rect){0, 0, f->width, f->height};
        u->nrects = f->pixels ? 1 : 0;
    }
    if (!f->pixels)
        u->nrects = 0;
    for (unsigned i = 0; i < u->nrects; i++)
        copy_rect(f, &u->rects[i]);
    return resized;
}

void frame_clear(struct frame *f)
{
    unmap(f);
    g_free(f->pixels);
    *f = (struct frame){0};
}
