/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/vga.h"

#include <sys/mman.h>
#include <unistd.h>

#include "board.h"

enum { SEQUENCER = 0x3c4, GRAPHICS = 0x3ce, CRTC = 0x3d4, WHITE = 0xffffff, BLUE = 0x0000ff };

struct rig {
    struct board b;
    struct device d;
};

static void indexed(struct rig *r, uint16_t port, uint8_t index, uint8_t v)
{
    out16(&r->b.f, port, (uint16_t)(index | v << 8));
}

static void attribute(struct rig *r, uint8_t index, uint8_t v)
{
    in8(&r->b.f, 0x3da);
    out8(&r->b.f, 0x3c0, index);
    out8(&r->b.f, 0x3c0, v);
}

static void colour(struct rig *r, uint8_t index, uint8_t red, uint8_t green, uint8_t blue)
{
    out8(&r->b.f, 0x3c8, index);
    out8(&r->b.f, 0x3c9, red);
    out8(&r->b.f, 0x3c9, green);
    out8(&r->b.f, 0x3c9, blue);
}

static void poke(struct rig *r, uint32_t at, uint8_t v)
{
    hv_io_write(r->b.f.env.io, HV_IO_MMIO, at, 1, v);
}
static uint8_t peek(struct rig *r, uint32_t at)
{
    return (uint8_t)hv_io_read(r->b.f.env.io, HV_IO_MMIO, at, 1);
}

/* The picture as viewers have it; -1 outside. */
static int64_t pixel(struct rig *r, uint32_t x, uint32_t y)
{
    struct console_surface s;
    fake_start(&r->b.f, r->d); /* draws */
    console_surface_now(r->b.console, &s);
    if (s.fd < 0 || x >= s.width || y >= s.height)
        return -1;
    size_t len = (size_t)s.stride * s.height;
    uint8_t *p = mmap(NULL, len, PROT_READ, MAP_SHARED, s.fd, (off_t)s.offset);
    int64_t v = get_le32(p + (size_t)y * s.stride + x * 4) & WHITE;
    munmap(p, len);
    close(s.fd);
    return v;
}

/* 80 x 25 characters of 8 x 16, two colours. */
static void set_text(struct rig *r)
{
    out8(&r->b.f, 0x3c2, 0x67);
    indexed(r, SEQUENCER, 1, 1);
    indexed(r, SEQUENCER, 2, 3);
    indexed(r, SEQUENCER, 3, 0);
    indexed(r, SEQUENCER, 4, 2);
    indexed(r, GRAPHICS, 5, 0x10);
    indexed(r, GRAPHICS, 6, 0x0e);
    indexed(r, GRAPHICS, 8, 0xff);
    indexed(r, CRTC, 0x11, 0);
    indexed(r, CRTC, 1, 79);
    indexed(r, CRTC, 7, 2);
    indexed(r, CRTC, 9, 15);
    indexed(r, CRTC, 0x0a, 0x20);
    indexed(r, CRTC, 0x12, 0x8f);
    indexed(r, CRTC, 0x13, 40);
    for (uint8_t i = 0; i < 16; i++)
        attribute(r, i, i);
    attribute(r, 0x12, 15);
    colour(r, 1, 0, 0, 63);
    colour(r, 7, 63, 63, 63);
    out8(&r->b.f, 0x3c0, 0x20);
}

static void load_glyph(struct rig *r)
{
    indexed(r, SEQUENCER, 2, 4);
    indexed(r, GRAPHICS, 5, 0);
    indexed(r, GRAPHICS, 6, 4);
    for (unsigned line = 0; line < 16; line++)
        poke(r, 0xa0000 + 'A' * 32 + line, line == 3 ? 0x81 : 0);
    indexed(r, SEQUENCER, 2, 3);
    indexed(r, GRAPHICS, 5, 0x10);
    indexed(r, GRAPHICS, 6, 0x0e);
}

static void test_text(struct rig *r)
{
    set_text(r);
    load_glyph(r);
    poke(r, 0xb8000 + (80 * 2 + 5) * 2, 'A');
    poke(r, 0xb8000 + (80 * 2 + 5) * 2 + 1, 0x17);
    CHECK_EQ(peek(r, 0xb8000 + (80 * 2 + 5) * 2), 'A');
    CHECK_EQ(pixel(r, 639, 399), 0);
    CHECK_EQ(pixel(r, 640, 0), -1);
    CHECK_EQ(pixel(r, 5 * 8, 2 * 16 + 3), WHITE);
    CHECK_EQ(pixel(r, 5 * 8 + 7, 2 * 16 + 3), WHITE);
    CHECK_EQ(pixel(r, 5 * 8 + 1, 2 * 16 + 3), BLUE);
    CHECK_EQ(pixel(r, 5 * 8, 2 * 16 + 4), BLUE);
    indexed(r, CRTC, 0x0a, 14); /* the cursor */
    indexed(r, CRTC, 0x0b, 15);
    indexed(r, CRTC, 0x0f, 80 * 2 + 5);
    CHECK_EQ(pixel(r, 5 * 8 + 3, 2 * 16 + 15), WHITE);
}

static void test_planar(struct rig *r)
{
    indexed(r, GRAPHICS, 6, 5);
    indexed(r, GRAPHICS, 5, 0);
    indexed(r, CRTC, 9, 0);
    indexed(r, CRTC, 0x17, 0xe3);
    indexed(r, SEQUENCER, 2, 15);
    indexed(r, SEQUENCER, 4, 6);
    indexed(r, GRAPHICS, 0, 1); /* set/reset: colour 1 */
    indexed(r, GRAPHICS, 1, 15);
    indexed(r, GRAPHICS, 8, 0x40);
    peek(r, 0xa0000 + 80 * 10 + 2); /* latches */
    poke(r, 0xa0000 + 80 * 10 + 2, 0);
    CHECK_EQ(pixel(r, 17, 10), BLUE);
    CHECK(pixel(r, 16, 10) != BLUE);
    indexed(r, GRAPHICS, 2, 1);
    indexed(r, GRAPHICS, 5, 8); /* read mode 1: which pixels have colour 1 */
    indexed(r, GRAPHICS, 7, 15);
    CHECK_EQ(peek(r, 0xa0000 + 80 * 10 + 2), 0x40);
}

static void dispi(struct rig *r, uint16_t index, uint16_t v)
{
    out16(&r->b.f, 0x1ce, index);
    out16(&r->b.f, 0x1cf, v);
}

static void test_vbe(struct rig *r)
{
    config_out(&r->b, LAYOUT_PCI_VGA, 0, PCI_BAR, 0xfd000000);
    config_out(&r->b, LAYOUT_PCI_VGA, 0, PCI_COMMAND, 3);
    for (int i = 0; i < 4 && loop_turn(r->b.f.env.loop, 0); i++)
        ;
    dispi(r, 1, 800);
    dispi(r, 2, 600);
    dispi(r, 3, 32);
    dispi(r, 4, 0x41);
    const uint32_t red = 0xff0000;
    CHECK(hv_memory_write(r->b.memory, 0xfd000000 + (599 * 800 + 799) * 4, &red, 4)); /* mapped */
    CHECK_EQ(pixel(r, 799, 599), red);
    dispi(r, 4, 0);
    dispi(r, 3, 16);
    dispi(r, 4, 0x41);
    const uint16_t green = 0x07e0;
    CHECK(hv_memory_write(r->b.memory, 0xfd000000 + 2, &green, 2));
    CHECK_EQ(pixel(r, 1, 0), 0x00ff00);
    dispi(r, 4, 0);
    dispi(r, 1, 5000); /* no such mode */
    dispi(r, 4, 0x41);
    out16(&r->b.f, 0x1ce, 4);
    CHECK_EQ(in16(&r->b.f, 0x1cf), 0);
}

int main(void)
{
    struct rig r;
    board_init(&r.b);
    struct vga *v =
        vga_new(&(struct vga_params){&r.b.f.env, r.b.bus, r.b.memory, r.b.console, 16}, NULL);
    r.d = vga_device(v);
    fake_start(&r.b.f, r.d);
    test_text(&r);
    test_planar(&r);
    test_vbe(&r);
    fake_check_state(&r.b.f, r.d);
    vga_yield(v, true); /* its place is another's then */
    uint32_t byte;
    CHECK(!hv_memory_read(r.b.memory, 0xfd000000, &byte, 4));
    fake_stop(&r.b.f, r.d);
    r.d.ops->destroy(r.d.self);
    board_end(&r.b);
    return check_failures != 0;
}
