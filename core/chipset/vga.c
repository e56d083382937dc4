/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/vga.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/chipset/layout.h"
#include "core/chipset/vga-int.h"

enum { MICROSOFT = 0x1414, HYPERV_VIDEO = 0x5353, FRAME_MS = 25, LOOK_MS = 60 };
enum { PORTS = 0x3b0, PORTS_LEN = 0x30, DISPI_PORTS = 0x1ce, DISPI_PORTS_LEN = 3 };
enum { BAR_PREFETCHABLE = 8 };
#define NS_PER_MS 1000000ull

/* ---- when to draw ---- */

static void draw_now(void *ctx)
{
    struct vga *v = ctx;
    if (v->yields || !v->running)
        return;
    atomic_store(&v->dirty, false);
    if (vga_draw(v))
        loop_timer_arm_in(&v->draw_timer, LOOK_MS * NS_PER_MS);
}

static void draw_soon(void *ctx)
{
    struct vga *v = ctx;
    if (v->running && !v->yields)
        loop_timer_arm_in(&v->draw_timer, FRAME_MS * NS_PER_MS);
}

void vga_changed(struct vga *v, bool all)
{
    if (all)
        atomic_store(&v->redraw, true);
    if (!atomic_exchange(&v->dirty, true))
        loop_post(v->env->loop, &v->draw_post);
}

/* ---- where the guest has it ---- */

static void unplace(struct vga *v)
{
    if (v->region)
        hv_memory_remove(v->memory, v->region);
    v->region = NULL;
}

/* I/O thread. */
static void place(void *ctx)
{
    struct vga *v = ctx;
    err e = ERR_INIT;
    uint64_t at = v->yields ? 0 : pci_bar_address(&v->function, 0);
    if (v->region && at == v->region_at)
        return;
    unplace(v);
    bool inside = at >= LAYOUT_MMIO_LOW_BASE &&
                  range_within(at - LAYOUT_MMIO_LOW_BASE, v->size, (uint64_t)LAYOUT_PCI_MMIO_SIZE);
    if (!inside)
        return;
    v->region = hv_memory_add_video(v->memory, at, v->size, v->fd, &e);
    v->region_at = at;
    if (!v->region)
        LOG_GUEST("vga", "video memory cannot be where the guest wants it: %s", e.text);
}

/* On a processor's thread: until the mapping has changed, vga_linear_ops serve. */
static void config_written(void *ctx, unsigned reg, unsigned len)
{
    struct vga *v = ctx;
    if (reg < PCI_BAR + 4 && reg + len > PCI_COMMAND)
        loop_post(v->env->loop, &v->place_post);
}

void vga_yield(struct vga *v, bool yields)
{
    if (v->yields == yields)
        return;
    v->yields = yields;
    place(v);
    if (yields) {
        loop_timer_disarm(&v->draw_timer);
        return;
    }
    v->shown = (struct console_surface){.fd = -1}; /* the console has another's */
    v->direct = false;
    atomic_store(&v->redraw, true);
    vga_draw(v);
}

/* ---- life ---- */

static void start(void *self)
{
    struct vga *v = self;
    v->running = true;
    place(v);
    atomic_store(&v->redraw, true);
    draw_now(v);
}

static void stop(void *self, void (*done)(void *ctx), void *ctx)
{
    struct vga *v = self;
    if (!v->yields)
        vga_draw(v); /* what was written last is seen while it stands still */
    v->running = false;
    loop_timer_disarm(&v->draw_timer);
    done(ctx);
}

static void clear(struct vga *v)
{
    if (madvise(v->vram, v->size, MADV_REMOVE) != 0)
        memset(v->vram, 0, v->size);
}

static void reset(void *self)
{
    struct vga *v = self;
    pci_function_reset(&v->function);
    vga_registers_reset(v);
    clear(v);
    place(v);
    atomic_store(&v->redraw, true);
}

static const struct state_field register_fields[] = {
    STATE_FIELD(1, STATE_U8, struct vga_registers, misc),
    STATE_FIELD(2, STATE_U8, struct vga_registers, feature),
    STATE_FIELD(3, STATE_U8, struct vga_registers, sequencer_index),
    STATE_FIELD(4, STATE_BYTES, struct vga_registers, sequencer),
    STATE_FIELD(5, STATE_U8, struct vga_registers, graphics_index),
    STATE_FIELD(6, STATE_BYTES, struct vga_registers, graphics),
    STATE_FIELD(7, STATE_U8, struct vga_registers, attribute_index),
    STATE_FIELD(8, STATE_BYTES, struct vga_registers, attribute),
    STATE_FIELD(9, STATE_BOOL, struct vga_registers, attribute_data),
    STATE_FIELD(10, STATE_U8, struct vga_registers, crtc_index),
    STATE_FIELD(11, STATE_BYTES, struct vga_registers, crtc),
    STATE_FIELD(12, STATE_U8, struct vga_registers, dac_mask),
    STATE_FIELD(13, STATE_U8, struct vga_registers, dac_read),
    STATE_FIELD(14, STATE_U8, struct vga_registers, dac_write),
    STATE_FIELD(15, STATE_U8, struct vga_registers, dac_part),
    STATE_FIELD(16, STATE_U8, struct vga_registers, dac_state),
    STATE_FIELD(17, STATE_BYTES, struct vga_registers, dac_cache),
    STATE_FIELD(18, STATE_BYTES, struct vga_registers, palette),
    STATE_FIELD(19, STATE_U32, struct vga_registers, latch),
    STATE_FIELD(20, STATE_U16, struct vga_registers, dispi_index),
    STATE_ARRAY(21, STATE_U16, struct vga_registers, dispi),
};
static const struct state_table register_table = {
    .name = "VGA registers", .fields = register_fields, .nfields = ARRAY_LEN(register_fields)};
static const struct state_field fields[] = {
    STATE_SUB(1, struct vga, function, &pci_function_table, 1),
    STATE_SUB(2, struct vga, r, &register_table, 1),
};

static bool loaded(void *obj, uint16_t version, err *e)
{
    struct vga *v = obj;
    v->r.dispi[DISPI_MEMORY] = (uint16_t)(v->size >> 16);
    v->r.dispi[DISPI_BANK] = MIN(v->r.dispi[DISPI_BANK], (uint16_t)((v->size >> 16) - 1));
    return vga_registers_check(v, e);
}

static const struct state_table table = {.name = "VGA",
                                         .section = STATE_ID('V', 'G', 'A', ' '),
                                         .version = 1,
                                         .least_reader = 1,
                                         .fields = fields,
                                         .nfields = ARRAY_LEN(fields),
                                         .post_load = loaded};

/* Memory: the pages that are not zero, as fields of {u32 page, bytes}. */
enum { TAG_PAGE = 1 };
#define MEMORY_SECTION STATE_ID('V', 'G', 'A', 'M')

static void save(void *self, struct state_writer *w)
{
    static const uint8_t zero[HV_PAGE_SIZE];
    struct vga *v = self;
    uint8_t page[4 + HV_PAGE_SIZE];
    state_save(w, &table, 0, v);
    state_begin(w, MEMORY_SECTION, 0, 1, 1);
    /* Pages never touched are holes of the memfd: looking at them would make them. */
    off_t from = 0, to;
    while ((from = lseek(v->fd, from, SEEK_DATA)) >= 0 &&
           (to = lseek(v->fd, from, SEEK_HOLE)) > from) {
        for (uint32_t at = (uint32_t)from; at < (uint32_t)to; at += HV_PAGE_SIZE) {
            if (memcmp(v->vram + at, zero, HV_PAGE_SIZE) == 0)
                continue;
            put_le32(page, at / HV_PAGE_SIZE);
            memcpy(page + 4, v->vram + at, HV_PAGE_SIZE);
            state_put(w, TAG_PAGE, page, sizeof page);
        }
        from = to;
    }
    state_end(w);
}

static bool load_memory(struct vga *v, const struct state_reader *r, err *e)
{
    struct state_section s;
    struct state_field_view f;
    size_t pos = 0;
    if (!state_find(r, MEMORY_SECTION, 0, &s, e))
        return false;
    clear(v);
    while (state_field_next(&s, &pos, &f, e)) {
        uint64_t at = f.tag == TAG_PAGE && f.len == 4 + HV_PAGE_SIZE
                          ? (uint64_t)get_le32(f.data) * HV_PAGE_SIZE
                          : UINT64_MAX;
        if (!range_within(at, HV_PAGE_SIZE, v->size))
            return err_set(e, ERR_CORRUPT, "the saved VGA memory has a page outside of it");
        memcpy(v->vram + at, f.data + 4, HV_PAGE_SIZE);
    }
    return e->code == ERR_NONE;
}

static bool restore(void *self, const struct state_reader *r, err *e)
{
    struct vga *v = self;
    err own = ERR_INIT;
    if (!e)
        e = &own;
    if (!state_restore(r, &table, 0, v, e) || !load_memory(v, r, e))
        return false;
    place(v);
    return true;
}

static void destroy(void *self)
{
    struct vga *v = self;
    unplace(v);
    for (size_t i = 0; i < ARRAY_LEN(v->ranges); i++)
        if (v->ranges[i])
            hv_io_release(v->env->io, v->ranges[i]);
    if (v->function.bus)
        pci_remove(v->function.bus, &v->function);
    vga_draw_end(v);
    if (v->vram)
        munmap(v->vram, v->size);
    auto_close(v->fd);
    pthread_mutex_destroy(&v->lock);
    free(v);
}

static bool make_memory(struct vga *v, unsigned mib, err *e)
{
    v->size = MIB(VGA_LEAST_MIB);
    while (v->size < MIB(VGA_MOST_MIB) && v->size < MIB(mib))
        v->size *= 2;
    v->fd = memfd_create("vga-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (v->fd < 0 || ftruncate(v->fd, (off_t)v->size) != 0 ||
        fcntl(v->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        return err_errno(e, errno, "video memory could not be had");
    void *p = mmap(NULL, v->size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
    if (p == MAP_FAILED)
        return err_errno(e, errno, "video memory could not be mapped");
    v->vram = p;
    return true;
}

static void make_function(struct vga *v)
{
    pci_function_init(
        &v->function, "VGA", LAYOUT_PCI_VGA << 3,
        &(struct pci_ids){.vendor = MICROSOFT, .device = HYPERV_VIDEO, .class_code = 0x030000});
    v->function.config[PCI_BAR] = BAR_PREFETCHABLE;
    v->function.bar[0] = (struct pci_bar){.size = v->size, .ops = &vga_linear_ops, .ctx = v};
    v->function.written = config_written;
    v->function.ctx = v;
}

static bool claim(struct vga *v, err *e)
{
    struct hv_io *io = v->env->io;
    v->ranges[0] = hv_io_claim(io, HV_IO_PORT, PORTS, PORTS_LEN, &vga_port_ops, v, e);
    if (!v->ranges[0])
        return false;
    v->ranges[1] = hv_io_claim(io, HV_IO_PORT, DISPI_PORTS, DISPI_PORTS_LEN, &vga_dispi_ops, v, e);
    if (!v->ranges[1])
        return false;
    v->ranges[2] = hv_io_claim(io, HV_IO_MMIO, LAYOUT_VGA_MEMORY,
                               LAYOUT_VGA_MEMORY_END - LAYOUT_VGA_MEMORY, &vga_window_ops, v, e);
    return v->ranges[2] != NULL;
}

struct vga *vga_new(const struct vga_params *p, err *e)
{
    struct vga *v = calloc(1, sizeof *v);
    if (!v) {
        err_set(e, ERR_NO_MEMORY, "there is no memory for the VGA");
        return NULL;
    }
    v->env = p->env;
    v->memory = p->memory;
    v->console = p->console;
    v->fd = v->screen_fd = v->shown.fd = -1;
    pthread_mutex_init(&v->lock, NULL);
    loop_post_init(&v->draw_post, draw_soon, v);
    loop_post_init(&v->place_post, place, v);
    loop_timer_init(&v->draw_timer, v->env->loop, draw_now, v);
    if (!make_memory(v, p->memory_mib, e)) {
        destroy(v);
        return NULL;
    }
    vga_registers_reset(v);
    make_function(v);
    if (!pci_add(p->bus, &v->function, e) || !claim(v, e)) {
        destroy(v);
        return NULL;
    }
    return v;
}

struct device vga_device(struct vga *v)
{
    static const struct device_ops ops = {.name = "VGA",
                                          .start = start,
                                          .stop = stop,
                                          .reset = reset,
                                          .save = save,
                                          .restore = restore,
                                          .destroy = destroy};
    return (struct device){.ops = &ops, .self = v};
}
