/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * How the processor sees video memory: four planes behind A0000-BFFFF. Byte n of plane p is
 * vram[n * 4 + p], so that chained (256-colour) modes are linear.
 */
#include "core/base/bytes.h"
#include "core/chipset/layout.h"
#include "core/chipset/vga-int.h"

enum { CHAIN4 = 8, ODD_EVEN = 0x10, COLOUR_COMPARE = 8 };
#define OUTSIDE UINT32_MAX

/* Each bit of four becomes a byte of the 32-bit word of planes. */
static uint32_t spread(unsigned bits)
{
    uint32_t v = 0;
    for (unsigned p = 0; p < 4; p++)
        v |= bits >> p & 1 ? 0xffu << p * 8 : 0;
    return v;
}

/* Where in the selected window the address lies, with the VBE bank. */
static uint32_t window_offset(const struct vga_registers *r, uint64_t at)
{
    static const struct {
        uint32_t base, size;
    } windows[] = {{0, 0x20000}, {0, 0x10000}, {0x10000, 0x8000}, {0x18000, 0x8000}};
    unsigned w = r->graphics[6] >> 2 & 3;
    if (at < windows[w].base || at - windows[w].base >= windows[w].size)
        return OUTSIDE;
    uint32_t offset = (uint32_t)at - windows[w].base;
    return vga_dispi_on(r) ? offset + ((uint32_t)r->dispi[DISPI_BANK] << 16) : offset;
}

static bool chained(const struct vga_registers *r)
{
    return r->sequencer[4] & CHAIN4 || (vga_dispi_on(r) && r->dispi[DISPI_BPP] > 4);
}

static uint32_t odd_even_index(const struct vga_registers *r, uint32_t at)
{
    return ((at & ~1u) << 1) | (r->graphics[4] & 2u) | (at & 1u);
}

static uint8_t read_planes(struct vga *v, uint32_t at)
{
    struct vga_registers *r = &v->r;
    if ((uint64_t)at * 4 + 4 > v->size)
        return 0xff;
    r->latch = get_le32(v->vram + (size_t)at * 4);
    if (!(r->graphics[5] & COLOUR_COMPARE))
        return (uint8_t)(r->latch >> (r->graphics[4] & 3) * 8);
    uint32_t differ = (r->latch ^ spread(r->graphics[2])) & spread(r->graphics[7]);
    differ |= differ >> 16;
    differ |= differ >> 8;
    return (uint8_t)~differ;
}

static uint8_t read_byte(struct vga *v, uint64_t offset)
{
    const struct vga_registers *r = &v->r;
    uint32_t at = window_offset(r, offset);
    if (at == OUTSIDE)
        return 0xff;
    if (chained(r))
        return at < v->size ? v->vram[at] : 0xff;
    if (!(r->graphics[5] & ODD_EVEN))
        return read_planes(v, at);
    at = odd_even_index(r, at);
    return at < v->size ? v->vram[at] : 0xff;
}

static uint32_t each_plane(uint8_t b)
{
    return b * 0x01010101u;
}

static uint32_t alu(const struct vga_registers *r, uint32_t v)
{
    switch (r->graphics[3] >> 3 & 3) {
    case 1: return v & r->latch;
    case 2: return v | r->latch;
    case 3: return v ^ r->latch;
    default: return v;
    }
}

/* Write modes 0 to 3. */
static void write_planes(struct vga *v, uint32_t at, uint8_t byte)
{
    const struct vga_registers *r = &v->r;
    unsigned turn = r->graphics[3] & 7;
    uint8_t turned = (uint8_t)(byte >> turn | byte << (8 - turn));
    uint32_t bits = each_plane(r->graphics[8]), value, set = spread(r->graphics[1]);
    if ((uint64_t)at * 4 + 4 > v->size)
        return;
    switch (r->graphics[5] & 3) {
    case 0:
        value = (each_plane(turned) & ~set) | (spread(r->graphics[0]) & set);
        value = alu(r, value);
        break;
    case 1:
        value = r->latch;
        bits = UINT32_MAX;
        break;
    case 2: value = alu(r, spread(byte)); break;
    default:
        bits &= each_plane(turned);
        value = spread(r->graphics[0]);
        break;
    }
    value = (value & bits) | (r->latch & ~bits);
    uint32_t planes = spread(r->sequencer[2]), was = get_le32(v->vram + (size_t)at * 4);
    put_le32(v->vram + (size_t)at * 4, (value & planes) | (was & ~planes));
    vga_changed(v, false);
}

/* Fonts are in plane 2. */
static void write_plane(struct vga *v, uint32_t index, uint8_t byte, bool text)
{
    if (!(v->r.sequencer[2] >> (index & 3) & 1) || index >= v->size)
        return;
    v->vram[index] = byte;
    vga_changed(v, text && (index & 3) >= 2);
}

static void write_byte(struct vga *v, uint64_t offset, uint8_t byte)
{
    const struct vga_registers *r = &v->r;
    uint32_t at = window_offset(r, offset);
    if (at == OUTSIDE)
        return;
    if (chained(r))
        write_plane(v, at, byte, false);
    else if (r->graphics[5] & ODD_EVEN)
        write_plane(v, odd_even_index(r, at), byte, true);
    else
        write_planes(v, at, byte);
    if (!(r->graphics[6] & 1) && !(r->graphics[5] & ODD_EVEN) && r->sequencer[2] & 4)
        vga_changed(v, true); /* a font is loaded by planes */
}

static uint64_t window_read(void *ctx, uint64_t offset, unsigned size)
{
    struct vga *v = ctx;
    uint64_t value = 0;
    pthread_mutex_lock(&v->lock);
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)read_byte(v, offset + i) << i * 8;
    pthread_mutex_unlock(&v->lock);
    return value;
}

static void window_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct vga *v = ctx;
    pthread_mutex_lock(&v->lock);
    for (unsigned i = 0; i < size; i++)
        write_byte(v, offset + i, (uint8_t)(value >> i * 8));
    pthread_mutex_unlock(&v->lock);
}

const struct hv_io_ops vga_window_ops = {
    .name = "VGA memory", .read = window_read, .write = window_write};

/* ---- base address 0, for the moment that it is not mapped as memory ---- */

static uint64_t linear_read(void *ctx, uint64_t offset, unsigned size)
{
    const struct vga *v = ctx;
    uint64_t value = 0;
    if (offset + size <= v->size)
        memcpy(&value, v->vram + offset, size);
    return value;
}

static void linear_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct vga *v = ctx;
    if (offset + size <= v->size)
        memcpy(v->vram + offset, &value, size);
    vga_changed(v, false);
}

const struct hv_io_ops vga_linear_ops = {
    .name = "VGA framebuffer", .read = linear_read, .write = linear_write};
