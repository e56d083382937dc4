/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The VGA's ports 3B0-3DF and 1CE-1D0. */
#include "core/base/bytes.h"
#include "core/chipset/vga-int.h"

enum {
    PORT_BASE = 0x3b0, /* of the range */
    MISC_COLOUR = 1,
    PALETTE_SOURCE = 0x20,
    PROTECT = 0x80,
    RETRACE = 8,
    BLANK = 1,
    DISPI_LATEST = 0xb0c5,
    DISPI_OLDEST = 0xb0c0,
    DISPI_MAX_WIDTH = 4096,
    DISPI_MAX_HEIGHT = 2160,
};
#define FRAME_NS 14285714ull /* 70 Hz */
#define RETRACE_NS 900000ull
#define LINE_NS 31777ull
#define LINE_BLANK_NS 6300ull

void vga_registers_reset(struct vga *v)
{
    v->r = (struct vga_registers){.dac_mask = 0xff};
    v->r.dispi[DISPI_ID] = DISPI_LATEST;
    v->r.dispi[DISPI_MEMORY] = (uint16_t)(v->size >> 16);
}

/* ---- status: retraces by the clock ---- */

static uint8_t status(struct vga *v)
{
    uint64_t now = chip_now(v->env);
    v->r.attribute_data = false;
    if (now % FRAME_NS < RETRACE_NS)
        return RETRACE | BLANK;
    return now % LINE_NS < LINE_BLANK_NS ? BLANK : 0;
}

/* ---- DAC ---- */

static uint8_t dac_read(struct vga_registers *r)
{
    uint8_t v = r->palette[r->dac_read * 3 + r->dac_part];
    if (++r->dac_part == 3) {
        r->dac_part = 0;
        r->dac_read++;
    }
    return v;
}

static void dac_write(struct vga *v, uint8_t byte)
{
    struct vga_registers *r = &v->r;
    r->dac_cache[r->dac_part] = byte;
    if (++r->dac_part < 3)
        return;
    r->dac_part = 0;
    memcpy(r->palette + r->dac_write * 3, r->dac_cache, 3);
    r->dac_write++;
    vga_changed(v, true);
}

/* ---- ports ---- */

/* 3B4/3B5/3BA answer in monochrome, 3D4/3D5/3DA in colour. */
static bool is_ours(const struct vga_registers *r, unsigned port)
{
    bool colour = r->misc & MISC_COLOUR;
    if (port >= 0x3c0 && port < 0x3d0)
        return true;
    return colour ? port >= 0x3d0 : port < 0x3c0;
}

static uint8_t port_in(struct vga *v, unsigned port)
{
    struct vga_registers *r = &v->r;
    if (!is_ours(r, port))
        return 0xff;
    switch (port) {
    case 0x3c0: return r->attribute_data ? 0 : r->attribute_index;
    case 0x3c1:
        return (r->attribute_index & 31) < VGA_ATTRIBUTES ? r->attribute[r->attribute_index & 31]
                                                          : 0;
    case 0x3c2: return 0x10; /* a colour monitor is there */
    case 0x3c4: return r->sequencer_index;
    case 0x3c5: return r->sequencer_index < VGA_SEQUENCER ? r->sequencer[r->sequencer_index] : 0;
    case 0x3c6: return r->dac_mask;
    case 0x3c7: return r->dac_state;
    case 0x3c8: return r->dac_write;
    case 0x3c9: return dac_read(r);
    case 0x3ca: return r->feature;
    case 0x3cc: return r->misc;
    case 0x3ce: return r->graphics_index;
    case 0x3cf: return r->graphics_index < VGA_GRAPHICS ? r->graphics[r->graphics_index] : 0;
    case 0x3b4:
    case 0x3d4: return r->crtc_index;
    case 0x3b5:
    case 0x3d5: return r->crtc_index < VGA_CRTC ? r->crtc[r->crtc_index] : 0;
    case 0x3ba:
    case 0x3da: return status(v);
    default: return 0xff;
    }
}

static void attribute_out(struct vga *v, uint8_t byte)
{
    struct vga_registers *r = &v->r;
    unsigned i = r->attribute_index & 31;
    r->attribute_data = !r->attribute_data;
    if (r->attribute_data) {
        r->attribute_index = byte & 63;
        vga_changed(v, false);
    } else if (i < VGA_ATTRIBUTES) {
        bool palette = i < 16;
        r->attribute[i] = palette ? byte & 63 : byte;
        vga_changed(v, true);
    }
}

static void crtc_out(struct vga *v, uint8_t byte)
{
    struct vga_registers *r = &v->r;
    unsigned i = r->crtc_index;
    if (i >= VGA_CRTC)
        return;
    if (i <= 7 && r->crtc[0x11] & PROTECT) {
        if (i == 7) /* the split line's ninth bit is free */
            r->crtc[7] = (uint8_t)((r->crtc[7] & ~0x10) | (byte & 0x10));
        return;
    }
    bool small = i >= 0x0a && i <= 0x0f; /* cursor and start address */
    if (r->crtc[i] != byte)
        vga_changed(v, !small);
    r->crtc[i] = byte;
}

static void port_out(struct vga *v, unsigned port, uint8_t byte)
{
    static const uint8_t sequencer_bits[VGA_SEQUENCER] = {3, 0x3d, 0x0f, 0x3f, 0x0e};
    static const uint8_t graphics_bits[VGA_GRAPHICS] = {15, 15, 15, 31, 3, 0x7b, 15, 15, 255};
    struct vga_registers *r = &v->r;
    if (!is_ours(r, port))
        return;
    switch (port) {
    case 0x3c0: attribute_out(v, byte); break;
    case 0x3c2:
        r->misc = byte & 0xef;
        vga_changed(v, true);
        break;
    case 0x3c4: r->sequencer_index = byte & 7; break;
    case 0x3c5:
        if (r->sequencer_index < VGA_SEQUENCER) {
            uint8_t now = byte & sequencer_bits[r->sequencer_index];
            if (r->sequencer_index != 2 && r->sequencer[r->sequencer_index] != now)
                vga_changed(v, true);
            r->sequencer[r->sequencer_index] = now;
        }
        break;
    case 0x3c6:
        r->dac_mask = byte;
        vga_changed(v, true);
        break;
    case 0x3c7:
        r->dac_read = byte;
        r->dac_part = 0;
        r->dac_state = 3;
        break;
    case 0x3c8:
        r->dac_write = byte;
        r->dac_part = 0;
        r->dac_state = 0;
        break;
    case 0x3c9: dac_write(v, byte); break;
    case 0x3ce: r->graphics_index = byte & 15; break;
    case 0x3cf:
        if (r->graphics_index < VGA_GRAPHICS) {
            r->graphics[r->graphics_index] = byte & graphics_bits[r->graphics_index];
            if (r->graphics_index == 5 || r->graphics_index == 6)
                vga_changed(v, true);
        }
        break;
    case 0x3b4:
    case 0x3d4: r->crtc_index = byte & 31; break;
    case 0x3b5:
    case 0x3d5: crtc_out(v, byte); break;
    case 0x3ba:
    case 0x3da: r->feature = byte & 0x10; break;
    default: break;
    }
}

static uint64_t port_read(void *ctx, uint64_t offset, unsigned size)
{
    struct vga *v = ctx;
    uint64_t value = 0;
    pthread_mutex_lock(&v->lock);
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)port_in(v, PORT_BASE + (unsigned)offset + i) << i * 8;
    pthread_mutex_unlock(&v->lock);
    return value;
}

static void port_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct vga *v = ctx;
    pthread_mutex_lock(&v->lock);
    for (unsigned i = 0; i < size; i++)
        port_out(v, PORT_BASE + (unsigned)offset + i, (uint8_t)(value >> i * 8));
    pthread_mutex_unlock(&v->lock);
}

const struct hv_io_ops vga_port_ops = {.name = "VGA", .read = port_read, .write = port_write};

/* ---- VBE modes ---- */

static uint32_t line_bytes(unsigned bpp, uint32_t width)
{
    return bpp == 4 ? width / 2 : width * ((bpp + 7) / 8);
}

/* The virtual screen is as high as memory allows. */
static void set_virtual(struct vga *v, uint32_t width)
{
    uint16_t *d = v->r.dispi;
    width = MAX(width, (uint32_t)d[DISPI_WIDTH]);
    uint32_t line = line_bytes(d[DISPI_BPP], width);
    if (!line || v->size / line < d[DISPI_HEIGHT])
        return;
    d[DISPI_VIRTUAL_WIDTH] = (uint16_t)width;
    d[DISPI_VIRTUAL_HEIGHT] = (uint16_t)MIN(v->size / line, UINT16_MAX);
}

static bool depth_known(unsigned bpp)
{
    return bpp == 4 || bpp == 8 || bpp == 15 || bpp == 16 || bpp == 24 || bpp == 32;
}

static bool mode_fits(const struct vga *v)
{
    const uint16_t *d = v->r.dispi;
    return depth_known(d[DISPI_BPP]) && d[DISPI_WIDTH] && d[DISPI_HEIGHT] &&
           d[DISPI_WIDTH] <= DISPI_MAX_WIDTH && d[DISPI_HEIGHT] <= DISPI_MAX_HEIGHT &&
           (uint64_t)line_bytes(d[DISPI_BPP], d[DISPI_WIDTH]) * d[DISPI_HEIGHT] <= v->size;
}

bool vga_registers_check(const struct vga *v, err *e)
{
    const struct vga_registers *r = &v->r;
    bool ok = r->dac_part < 3 && r->sequencer_index < 8 && r->graphics_index < 16 &&
              r->crtc_index < 32 && r->attribute_index < 64 &&
              (!vga_dispi_on(r) ||
               (mode_fits(v) && r->dispi[DISPI_VIRTUAL_WIDTH] >= r->dispi[DISPI_WIDTH]));
    return ok || err_set(e, ERR_CORRUPT, "the saved VGA has a mode that there is not");
}

static void set_enable(struct vga *v, uint16_t value)
{
    uint16_t *d = v->r.dispi;
    bool was = vga_dispi_on(&v->r);
    if ((value & DISPI_ENABLED) && !was) {
        if (!mode_fits(v))
            return;
        d[DISPI_X] = d[DISPI_Y] = d[DISPI_BANK] = 0;
        d[DISPI_VIRTUAL_WIDTH] = 0;
        set_virtual(v, d[DISPI_WIDTH]);
        if (!(value & DISPI_KEEP))
            memset(v->vram, 0, (size_t)line_bytes(d[DISPI_BPP], d[DISPI_WIDTH]) * d[DISPI_HEIGHT]);
    }
    d[DISPI_ENABLE] = value;
}

static void dispi_out(struct vga *v, uint16_t value)
{
    uint16_t *d = v->r.dispi;
    unsigned i = v->r.dispi_index;
    bool on = vga_dispi_on(&v->r);
    switch (i) {
    case DISPI_ID:
        if (value >= DISPI_OLDEST && value <= DISPI_LATEST)
            d[i] = value;
        break;
    case DISPI_WIDTH:
    case DISPI_HEIGHT:
    case DISPI_BPP:
        if (!on)
            d[i] = i == DISPI_BPP && !value ? 8 : value;
        break;
    case DISPI_ENABLE: set_enable(v, value); break;
    case DISPI_BANK: d[i] = (uint16_t)MIN(value, (v->size >> 16) - 1); break;
    case DISPI_VIRTUAL_WIDTH:
        if (on)
            set_virtual(v, value);
        break;
    case DISPI_X:
    case DISPI_Y: d[i] = value; break;
    default: break;
    }
    vga_changed(v, i != DISPI_BANK);
}

static uint16_t dispi_in(const struct vga *v)
{
    unsigned i = v->r.dispi_index;
    if (v->r.dispi[DISPI_ENABLE] & DISPI_GET_CAPS) {
        if (i == DISPI_WIDTH)
            return DISPI_MAX_WIDTH;
        if (i == DISPI_HEIGHT)
            return DISPI_MAX_HEIGHT;
        if (i == DISPI_BPP)
            return 32;
    }
    return i < DISPI_REGISTERS ? v->r.dispi[i] : 0;
}

/* 1CE: index; 1CF and 1D0: data, 16 bits. */
static uint64_t dispi_read(void *ctx, uint64_t offset, unsigned size)
{
    struct vga *v = ctx;
    pthread_mutex_lock(&v->lock);
    uint16_t value = offset ? dispi_in(v) : v->r.dispi_index;
    pthread_mutex_unlock(&v->lock);
    return value;
}

static void dispi_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct vga *v = ctx;
    pthread_mutex_lock(&v->lock);
    if (offset)
        dispi_out(v, (uint16_t)value);
    else
        v->r.dispi_index = (uint16_t)value;
    pthread_mutex_unlock(&v->lock);
}

const struct hv_io_ops vga_dispi_ops = {.name = "VBE", .read = dispi_read, .write = dispi_write};
