/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Between the files of the VGA. */
#ifndef VIREO_CHIPSET_VGA_INT_H
#define VIREO_CHIPSET_VGA_INT_H

#include "core/chipset/vga.h"

enum {
    VGA_SEQUENCER = 5,
    VGA_GRAPHICS = 9,
    VGA_ATTRIBUTES = 21,
    VGA_CRTC = 25,
    VGA_COLOURS = 256,
};
enum vga_dispi {
    DISPI_ID,
    DISPI_WIDTH,
    DISPI_HEIGHT,
    DISPI_BPP,
    DISPI_ENABLE,
    DISPI_BANK,
    DISPI_VIRTUAL_WIDTH,
    DISPI_VIRTUAL_HEIGHT,
    DISPI_X,
    DISPI_Y,
    DISPI_MEMORY, /* in 64 KiB */
    DISPI_REGISTERS,
};
enum { DISPI_ENABLED = 1, DISPI_GET_CAPS = 2, DISPI_DAC8 = 0x20, DISPI_KEEP = 0x80 };

struct vga_registers {
    uint8_t misc, feature;
    uint8_t sequencer_index, sequencer[VGA_SEQUENCER];
    uint8_t graphics_index, graphics[VGA_GRAPHICS];
    uint8_t attribute_index, attribute[VGA_ATTRIBUTES];
    bool attribute_data; /* the flip-flop: the next write to 3C0 is data */
    uint8_t crtc_index, crtc[VGA_CRTC];
    uint8_t dac_mask, dac_read, dac_write, dac_part, dac_state;
    uint8_t dac_cache[3];
    uint8_t palette[VGA_COLOURS * 3];
    uint32_t latch;
    uint16_t dispi_index, dispi[DISPI_REGISTERS];
};

enum { VGA_TEXT_CELLS = 256 * 128 };

struct vga {
    const struct chip_env *env;
    struct hv_memory *memory;
    struct console *console;
    struct pci_function function;
    struct hv_io_range *ranges[4];

    int fd;
    uint8_t *vram;
    uint32_t size;

    pthread_mutex_t lock;
    struct vga_registers r; /* lock */
    _Atomic bool dirty;     /* something that is shown may have changed */
    _Atomic bool redraw;    /* all of it: palette, font, mode */
    struct loop_post draw_post, place_post;

    /* I/O thread's */
    struct hv_region *region;
    uint64_t region_at;
    bool yields, running;
    struct loop_timer draw_timer;
    struct console_surface shown; /* what the console has; fd borrowed */
    bool direct;                  /* that is vram itself */
    int screen_fd;                /* the surface that is drawn into */
    uint32_t *screen;
    size_t screen_size;
    uint32_t colours[VGA_COLOURS]; /* XRGB, through the DAC */
    uint32_t cells[VGA_TEXT_CELLS];
};

/* vga-memory.c: the windows below 1 MiB and base address 0 */
extern const struct hv_io_ops vga_window_ops, vga_linear_ops;
/* vga-registers.c */
extern const struct hv_io_ops vga_port_ops, vga_dispi_ops;
void vga_registers_reset(struct vga *v);
bool vga_registers_check(const struct vga *v, err *e);
/* vga-draw.c: draws and shows what is there now. I/O thread. True: look again soon, the guest draws
 * without telling. */
bool vga_draw(struct vga *v);
void vga_draw_end(struct vga *v);
/* vga.c; any thread */
void vga_changed(struct vga *v, bool all);

static inline bool vga_dispi_on(const struct vga_registers *r)
{
    return r->dispi[DISPI_ENABLE] & DISPI_ENABLED;
}

#endif
