/* SPDX-License-Identifier: GPL-3.0-or-later */
/* From video memory to pixels. I/O thread. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/chipset/vga-int.h"

enum {
    NINE_WIDE = 1,     /* sequencer 1, inverted */
    SCREEN_OFF = 0x20, /* sequencer 1 */
    GRAPHICS = 1,      /* graphics 6 */
    SHIFT_256 = 0x40,  /* graphics 5 */
    SHIFT_CGA = 0x20,
    HALF_CLOCK = 8, /* sequencer 1: pixels twice as wide */
    DOUBLE_SCAN = 0x80,
    LINE_GRAPHICS = 4, /* attribute 10: the ninth column of box drawing repeats the eighth */
    CURSOR_OFF = 0x20,
    FONT_PLANE = 2,
    FONT_BYTES = 32,
    MOST_WIDTH = 2048,
    MOST_HEIGHT = 2048,
    LEAST = 8,
};

/* Registers as they were at one moment. */
struct frame {
    struct vga *v;
    struct vga_registers r;
    uint32_t width, height;
    bool all;
};

/* ---- colours ---- */

static void make_colours(struct frame *f)
{
    bool eight = vga_dispi_on(&f->r) && f->r.dispi[DISPI_ENABLE] & DISPI_DAC8;
    for (unsigned i = 0; i < VGA_COLOURS; i++) {
        const uint8_t *p = f->r.palette + (i & f->r.dac_mask) * 3;
        uint32_t c = 0;
        for (unsigned k = 0; k < 3; k++) {
            uint32_t six = p[k] & 63u;
            c = c << 8 | (eight ? p[k] : six << 2 | six >> 4);
        }
        f->v->colours[i] = c;
    }
}

/* A 4-bit pixel through the attribute controller. */
static uint32_t attribute_colour(const struct frame *f, unsigned pixel)
{
    uint8_t entry = f->r.attribute[pixel & f->r.attribute[0x12] & 15], high = f->r.attribute[0x14];
    unsigned index = f->r.attribute[0x10] & 0x80 ? (high & 15u) << 4 | (entry & 15u)
                                                 : (high & 12u) << 4 | (entry & 63u);
    return f->v->colours[index];
}

/* ---- the surface that is drawn into ---- */

static void free_screen(struct vga *v)
{
    if (v->screen)
        munmap(v->screen, v->screen_size);
    auto_close(v->screen_fd);
    v->screen = NULL;
    v->screen_fd = -1;
}

void vga_draw_end(struct vga *v)
{
    free_screen(v);
}

static bool make_screen(struct vga *v, uint32_t width, uint32_t height)
{
    free_screen(v);
    v->screen_size = (size_t)align_up((uint64_t)width * height * 4, HV_PAGE_SIZE);
    v->screen_fd = memfd_create("vga-screen", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (v->screen_fd < 0 || ftruncate(v->screen_fd, (off_t)v->screen_size) != 0 ||
        fcntl(v->screen_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        return false;
    void *p = mmap(NULL, v->screen_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->screen_fd, 0);
    v->screen = p == MAP_FAILED ? NULL : p;
    return v->screen != NULL;
}

/* False if there is no memory for it. */
static bool use_screen(struct frame *f)
{
    struct vga *v = f->v;
    if (!v->direct && v->screen && v->shown.width == f->width && v->shown.height == f->height)
        return true;
    if (!make_screen(v, f->width, f->height)) {
        log_line(LOG_ERROR, "vga", "there is no memory for a screen of %u x %u", f->width,
                 f->height);
        free_screen(v);
        return false;
    }
    v->direct = false;
    v->shown = (struct console_surface){.fd = v->screen_fd,
                                        .width = f->width,
                                        .height = f->height,
                                        .stride = f->width * 4,
                                        .format = CONSOLE_XRGB8888};
    console_source_show(v->console, &v->shown, NULL);
    f->all = true;
    return true;
}

static void use_memory(struct vga *v, const struct console_surface *s)
{
    if (v->direct && v->shown.offset == s->offset && v->shown.width == s->width &&
        v->shown.height == s->height && v->shown.stride == s->stride)
        return;
    v->direct = true;
    v->shown = *s;
    console_source_show(v->console, s, v->vram + s->offset);
}

/* Puts a row of pixels; says whether it changed. */
static bool put_row(const struct frame *f, uint32_t y, const uint32_t *row)
{
    uint32_t *to = f->v->screen + (size_t)y * f->width;
    if (memcmp(to, row, (size_t)f->width * 4) == 0)
        return false;
    memcpy(to, row, (size_t)f->width * 4);
    return true;
}

/* Draws every row by `get` and tells what changed. */
static void draw_rows(struct frame *f,
                      void (*get)(const struct frame *f, uint32_t y, uint32_t *row))
{
    uint32_t *row = malloc((size_t)f->width * 4), first = UINT32_MAX, last = 0;
    if (!row)
        return;
    for (uint32_t y = 0; y < f->height; y++) {
        get(f, y, row);
        if (!put_row(f, y, row))
            continue;
        first = MIN(first, y);
        last = y;
    }
    free(row);
    if (first <= last)
        console_source_dirty(f->v->console, 0, first, f->width, (int64_t)last + 1);
}

/* ---- text ---- */

struct text {
    uint32_t columns, rows, cell_width, cell_height, start, pitch;
    uint32_t font[2]; /* offsets in plane 2 */
    uint32_t cursor;  /* cell index in memory; UINT32_MAX: none */
    unsigned cursor_first, cursor_last;
};

static unsigned scan_lines(const struct vga_registers *r)
{
    return 1u + (r->crtc[0x12] | (r->crtc[7] & 2u) << 7 | (r->crtc[7] & 0x40u) << 3);
}

static uint32_t font_offset(unsigned which)
{
    static const uint16_t kib[] = {0, 16, 32, 48, 8, 24, 40, 56};
    return (uint32_t)kib[which] << 10;
}

static void get_text(const struct vga_registers *r, struct text *t)
{
    unsigned s = r->sequencer[3];
    *t = (struct text){.columns = r->crtc[1] + 1u,
                       .cell_width = r->sequencer[1] & NINE_WIDE ? 8 : 9,
                       .cell_height = (r->crtc[9] & 31u) + 1,
                       .start = (uint32_t)r->crtc[0x0c] << 8 | r->crtc[0x0d],
                       .pitch = r->crtc[0x13] * 2u,
                       .cursor = UINT32_MAX};
    t->rows = scan_lines(r) / t->cell_height;
    /* Attribute bit 3 clear: map B (bits 4, 1, 0), set: map A (5, 3, 2). */
    t->font[0] = font_offset((s & 3) | (s >> 2 & 4));
    t->font[1] = font_offset((s >> 2 & 3) | (s >> 3 & 4));
    if (!(r->crtc[0x0a] & CURSOR_OFF)) {
        t->cursor = (uint32_t)r->crtc[0x0e] << 8 | r->crtc[0x0f];
        t->cursor_first = r->crtc[0x0a] & 31;
        t->cursor_last = MIN(r->crtc[0x0b] & 31u, t->cell_height - 1);
    }
}

static void draw_cell(const struct frame *f, const struct text *t, uint32_t column, uint32_t line,
                      uint32_t cell)
{
    uint8_t c = (uint8_t)cell, a = (uint8_t)(cell >> 8);
    bool cursor = cell >> 16 & 1, box = f->r.attribute[0x10] & LINE_GRAPHICS && (c & 0xe0) == 0xc0;
    bool blinks = f->r.attribute[0x10] & 8;
    uint32_t ink = attribute_colour(f, a & 15u);
    uint32_t paper = attribute_colour(f, blinks ? a >> 4 & 7u : a >> 4);
    uint32_t font = t->font[a >> 3 & 1] + c * (uint32_t)FONT_BYTES;
    uint32_t *to = f->v->screen + (size_t)line * t->cell_height * f->width + column * t->cell_width;
    for (uint32_t y = 0; y < t->cell_height; y++, to += f->width) {
        unsigned bits = f->v->vram[(size_t)(font + y) * 4 + FONT_PLANE] * 2u;
        bits |= box ? bits >> 1 & 1 : 0;
        if (cursor && y >= t->cursor_first && y <= t->cursor_last)
            bits = 0x1ff;
        for (uint32_t x = 0; x < t->cell_width; x++)
            to[x] = bits >> (8 - x) & 1 ? ink : paper;
    }
}

/* Draws the cells of a line that changed. */
static void draw_line(struct frame *f, const struct text *t, uint32_t line)
{
    uint32_t first = UINT32_MAX, last = 0;
    for (uint32_t x = 0; x < t->columns; x++) {
        uint32_t at = t->start + line * t->pitch + x;
        size_t byte = ((size_t)at * 4) % (256u << 10);
        uint32_t cell = f->v->vram[byte] | (uint32_t)f->v->vram[byte + 1] << 8 |
                        (at == t->cursor ? 1u << 16 : 0);
        uint32_t *was = &f->v->cells[line * t->columns + x];
        if (*was == cell && !f->all)
            continue;
        *was = cell;
        draw_cell(f, t, x, line, cell);
        first = MIN(first, x);
        last = x;
    }
    if (first <= last)
        console_source_dirty(f->v->console, (int64_t)first * t->cell_width,
                             (int64_t)line * t->cell_height, ((int64_t)last + 1) * t->cell_width,
                             ((int64_t)line + 1) * t->cell_height);
}

static void draw_text(struct frame *f)
{
    struct text t;
    get_text(&f->r, &t);
    f->width = t.columns * t.cell_width;
    f->height = t.rows * t.cell_height;
    if (f->width < LEAST || f->height < LEAST || t.columns * t.rows > VGA_TEXT_CELLS)
        return;
    if (!use_screen(f))
        return;
    for (uint32_t line = 0; line < t.rows; line++)
        draw_line(f, &t, line);
}

/* ---- graphics ---- */

static uint32_t start_address(const struct vga_registers *r)
{
    return (uint32_t)r->crtc[0x0c] << 8 | r->crtc[0x0d];
}

/* How often each line of memory is shown. */
static unsigned repeat(const struct vga_registers *r)
{
    return ((r->crtc[9] & 31u) + 1) << (r->crtc[9] & DOUBLE_SCAN ? 1 : 0);
}

static uint8_t byte_at(const struct frame *f, uint64_t at)
{
    return f->v->vram[at & (f->v->size - 1)];
}

static void planar_row(const struct frame *f, uint32_t y, uint32_t *row)
{
    uint64_t at = start_address(&f->r) + (uint64_t)y * f->r.crtc[0x13] * 2;
    bool wide = f->r.sequencer[1] & HALF_CLOCK;
    uint32_t n = 0;
    for (; n < f->width; at++)
        for (unsigned bit = 8; bit-- > 0 && n < f->width;) {
            unsigned pixel = 0;
            for (unsigned p = 0; p < 4; p++)
                pixel |= (byte_at(f, at * 4 + p) >> bit & 1u) << p;
            row[n++] = attribute_colour(f, pixel);
            if (wide && n < f->width) {
                row[n] = row[n - 1];
                n++;
            }
        }
}

/* CGA: two bits a pixel; odd lines lie 8 KiB further on. */
static void cga_row(const struct frame *f, uint32_t y, uint32_t *row)
{
    bool interleaved = !(f->r.crtc[0x17] & 1);
    uint64_t line = interleaved ? y / 2 : y;
    uint64_t at = start_address(&f->r) + line * f->r.crtc[0x13] * 2;
    if (interleaved && y & 1)
        at += 0x1000;
    for (uint32_t n = 0; n < f->width; at++)
        for (unsigned plane = 0; plane < 2; plane++)
            for (unsigned k = 4; k-- > 0 && n < f->width;)
                row[n++] = attribute_colour(f, byte_at(f, at * 4 + plane) >> k * 2 & 3u);
}

static void chunky_row(const struct frame *f, uint32_t y, uint32_t *row)
{
    uint64_t at = (uint64_t)start_address(&f->r) * 4 + (uint64_t)y * f->r.crtc[0x13] * 8;
    for (uint32_t x = 0; x < f->width; x++)
        row[x] = f->v->colours[byte_at(f, at + x)];
}

static void draw_graphics(struct frame *f)
{
    const struct vga_registers *r = &f->r;
    uint32_t dots = (r->crtc[1] + 1u) * 8, rows = scan_lines(r) / repeat(r);
    bool half = r->sequencer[1] & HALF_CLOCK;
    f->height = rows;
    f->width = r->graphics[5] & SHIFT_256 ? dots / 2 : half ? dots * 2 : dots;
    if (r->graphics[5] & SHIFT_CGA && !(r->graphics[5] & SHIFT_256))
        f->width = dots;
    if (f->width < LEAST || f->height < LEAST || f->width > MOST_WIDTH || !use_screen(f))
        return;
    if (r->graphics[5] & SHIFT_256)
        draw_rows(f, chunky_row);
    else if (r->graphics[5] & SHIFT_CGA)
        draw_rows(f, cga_row);
    else
        draw_rows(f, planar_row);
}

/* ---- VBE ---- */

static uint32_t vbe_colour(unsigned bpp, const uint8_t *p, const struct frame *f)
{
    uint32_t v = get_le16(p);
    switch (bpp) {
    case 8: return f->v->colours[p[0]];
    case 15:
        return (v >> 10 & 31) << 19 | (v >> 12 & 7) << 16 | (v >> 5 & 31) << 11 |
               (v >> 7 & 7) << 8 | (v & 31) << 3 | (v >> 2 & 7);
    case 16:
        return (v >> 11) << 19 | (v >> 13) << 16 | (v >> 5 & 63) << 10 | (v >> 9 & 3) << 8 |
               (v & 31) << 3 | (v >> 2 & 7);
    case 24: return v | (uint32_t)p[2] << 16;
    default: return v | (uint32_t)get_le16(p + 2) << 16;
    }
}

static uint64_t vbe_offset(const struct frame *f)
{
    const uint16_t *d = f->r.dispi;
    return ((uint64_t)d[DISPI_Y] * d[DISPI_VIRTUAL_WIDTH] + d[DISPI_X]) * ((d[DISPI_BPP] + 7u) / 8);
}

static void vbe_row(const struct frame *f, uint32_t y, uint32_t *row)
{
    const uint16_t *d = f->r.dispi;
    unsigned bytes = (d[DISPI_BPP] + 7u) / 8;
    uint64_t at = vbe_offset(f) + (uint64_t)y * d[DISPI_VIRTUAL_WIDTH] * bytes;
    for (uint32_t x = 0; x < f->width; x++, at += bytes) {
        uint8_t p[4] = {byte_at(f, at), byte_at(f, at + 1), byte_at(f, at + 2), byte_at(f, at + 3)};
        row[x] = vbe_colour(d[DISPI_BPP], p, f);
    }
}

static void vbe_planar_row(const struct frame *f, uint32_t y, uint32_t *row)
{
    const uint16_t *d = f->r.dispi;
    uint64_t at = ((uint64_t)d[DISPI_Y] + y) * (d[DISPI_VIRTUAL_WIDTH] / 8u) + d[DISPI_X] / 8u;
    for (uint32_t x = 0; x < f->width; x++) {
        unsigned pixel = 0, bit = 7 - x % 8;
        for (unsigned p = 0; p < 4; p++)
            pixel |= (byte_at(f, (at + x / 8) * 4 + p) >> bit & 1u) << p;
        row[x] = attribute_colour(f, pixel);
    }
}

static bool draw_vbe(struct frame *f)
{
    const uint16_t *d = f->r.dispi;
    struct console_surface s = {.fd = f->v->fd,
                                .offset = vbe_offset(f),
                                .width = d[DISPI_WIDTH],
                                .height = d[DISPI_HEIGHT],
                                .stride = d[DISPI_VIRTUAL_WIDTH] * 4u,
                                .format = CONSOLE_XRGB8888};
    bool within = s.offset + (uint64_t)s.stride * s.height <= f->v->size;
    f->width = s.width;
    f->height = s.height;
    if (d[DISPI_BPP] == 32 && within && s.offset % HV_PAGE_SIZE == 0) {
        use_memory(f->v, &s);
        return false; /* the console compares */
    }
    if (use_screen(f))
        draw_rows(f, d[DISPI_BPP] == 4 ? vbe_planar_row : vbe_row);
    return true;
}

/* ---- */

static void draw_black(struct frame *f)
{
    f->width = f->v->shown.width ? f->v->shown.width : 720;
    f->height = f->v->shown.height ? f->v->shown.height : 400;
    if (!use_screen(f))
        return;
    memset(f->v->screen, 0, (size_t)f->width * f->height * 4);
    console_source_dirty(f->v->console, 0, 0, f->width, f->height);
    atomic_store(&f->v->redraw, true);
}

bool vga_draw(struct vga *v)
{
    struct frame f = {.v = v};
    pthread_mutex_lock(&v->lock);
    f.r = v->r;
    pthread_mutex_unlock(&v->lock);
    f.all = atomic_exchange(&v->redraw, false);
    if (f.all)
        make_colours(&f);
    if (vga_dispi_on(&f.r))
        return draw_vbe(&f);
    bool off = !f.r.crtc[1] || f.r.sequencer[1] & SCREEN_OFF;
    if (off)
        draw_black(&f);
    else if (!(f.r.attribute_index & 0x20))
        atomic_store(&v->redraw, true); /* the palette is being set: the picture stays */
    else if (f.r.graphics[6] & GRAPHICS)
        draw_graphics(&f);
    else
        draw_text(&f);
    return false;
}
