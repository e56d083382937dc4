/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Port, configuration and memory accesses of a guest, keys, and saved states, against generation
 * 1's devices: PCI board, VGA, keyboard controller, IDE with a disk and a DVD drive, Tulip, DMA and
 * a floppy drive. Input: operations of 8 bytes { u8 what, u8 place, u16 offset, u32 value }, then,
 * after a byte 0xff, a saved state.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/chipset/floppy.h"
#include "core/chipset/i8042.h"
#include "core/chipset/ide.h"
#include "core/chipset/layout.h"
#include "core/chipset/pam.h"
#include "core/chipset/piix4.h"
#include "core/chipset/tulip.h"
#include "core/chipset/vga.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TULIP_PORTS = 0xc100 };
enum { DEVICES = 7, OP = 8, DISK_SIZE = 1 << 20, TURNS = 64, ROM = 0x40000 };
#define RAM (MIB(1) + 4096)

struct board {
    struct chip_env env;
    uint64_t now;
    struct hv_memory *memory;
    struct console *console;
    struct disk *disk, *medium, *floppy;
    struct scsi_lun *dvd;
    struct device dev[DEVICES];
    bool done;
};

static uint64_t now(void *ctx)
{
    return ((struct board *)ctx)->now;
}
static void ask(void *ctx)
{
}
static void on_done(void *ctx)
{
    ((struct board *)ctx)->done = true;
}

/* Two small files in memory, the same for every run: what is on them matters to nobody. */
static int open_memory(void *ctx, const char *path, const char *referrer, unsigned flags,
                       char **resolved, err *e)
{
    static int fd = -1;
    if (fd < 0) {
        fd = memfd_create("disk", MFD_CLOEXEC);
        if (fd < 0 || ftruncate(fd, DISK_SIZE) != 0)
            abort();
    }
    *resolved = strdup(path);
    return dup(fd);
}
static const struct disk_opener opener = {.open = open_memory};

static struct disk *open_disk(struct board *b, unsigned flags)
{
    return disk_open(
        &(struct disk_open_params){.path = "disk",
                                   .format = DISK_FORMAT_RAW,
                                   .flags = flags | DISK_OPEN_NO_LOCK | DISK_OPEN_THREADS,
                                   .opener = &opener,
                                   .loop = b->env.loop},
        NULL);
}

/* What PAM turns lies below 1 MiB, and a BIOS below 4 GiB. */
static void add_memory(struct hv_memory *m)
{
    uint64_t parts[PAM_SEGMENTS];
    for (unsigned i = 0; i < PAM_SEGMENTS; i++)
        parts[i] = pam_segment_size(i);
    hv_memory_add_ram(m, 0, LAYOUT_LOW_RAM_END, NULL);
    hv_memory_add_ram_parts(m, PAM_BASE, RAM - PAM_BASE, parts, PAM_SEGMENTS, NULL);
    hv_memory_add_rom(m, LAYOUT_RAM_ABOVE_4G - ROM, ROM, NULL, 0, NULL);
}

static void make(struct board *b)
{
    const struct chip_env *env = &b->env;
    b->env =
        (struct chip_env){.io = hv_io_new(NULL), .loop = loop_new(NULL), .guest_ns = now, .ctx = b};
    b->memory = hv_memory_new(NULL);
    add_memory(b->memory);
    b->console = console_new(b->env.loop, NULL);
    b->disk = open_disk(b, 0);
    b->medium = open_disk(b, DISK_OPEN_READ_ONLY);
    struct piix4 *board =
        piix4_new(&(struct piix4_params){.env = env, .memory = b->memory, .reset = ask}, NULL);
    struct pci *bus = piix4_bus(board);
    struct vga *vga =
        vga_new(&(struct vga_params){env, bus, b->memory, b->console, VGA_LEAST_MIB}, NULL);
    struct i8042 *keys =
        i8042_new(&(struct i8042_params){.env = env, .console = b->console, .reset = ask}, NULL);
    struct ide *ide =
        ide_new(&(struct ide_params){.env = env, .bus = bus, .memory = b->memory}, NULL);
    b->dvd = scsi_lun_new(&(struct scsi_lun_params){.kind = SCSI_DVD, .disk = b->medium}, NULL);
    ide_attach_disk(ide, 0, b->disk, "FUZZ");
    ide_attach_dvd(ide, 1, b->dvd);
    struct tulip *tulip = tulip_new(
        &(struct tulip_params){
            .env = env,
            .bus = bus,
            .memory = b->memory,
            .port = net_port_new(&(struct net_port_params){.loop = env->loop, .mac = {2}}, NULL),
            .slot = LAYOUT_PCI_TULIP},
        NULL);
    struct dma *dma = dma_new(env, b->memory, NULL);
    struct floppy *floppy = floppy_new(&(struct floppy_params){.env = env, .dma = dma}, NULL);
    b->floppy = open_disk(b, 0); /* shorter than a floppy: reads end within it */
    floppy_attach(floppy, b->floppy);
    b->dev[5] = dma_device(dma);
    b->dev[6] = floppy_device(floppy);
    b->dev[4] = tulip_device(tulip);
    b->dev[0] = piix4_device(board);
    b->dev[1] = vga_device(vga);
    b->dev[2] = i8042_device(keys);
    b->dev[3] = ide_device(ide);
}

static void turn(struct board *b)
{
    for (unsigned i = 0; i < 4 && loop_turn(b->env.loop, 0); i++)
        ;
}

static void config(struct board *b, const uint8_t *op, bool write)
{
    static const uint8_t functions[] = {0,
                                        LAYOUT_PCI_ISA << 3,
                                        LAYOUT_PCI_ISA << 3 | 1,
                                        LAYOUT_PCI_ISA << 3 | 3,
                                        LAYOUT_PCI_VGA << 3,
                                        LAYOUT_PCI_TULIP << 3};
    uint32_t at =
        0x80000000u | (uint32_t)functions[op[1] % ARRAY_LEN(functions)] << 8 | (op[2] & 0xfcu);
    hv_io_write(b->env.io, HV_IO_PORT, 0xcf8, 4, at);
    if (write)
        hv_io_write(b->env.io, HV_IO_PORT, 0xcfc + (op[3] & 3), 1u << (op[3] >> 2) % 3,
                    get_le32(op + 4));
    else
        hv_io_read(b->env.io, HV_IO_PORT, 0xcfc, 4);
}

/* Reading and writing are many bytes to get right: a whole command now and then. */
static void floppy_command(struct board *b, const uint8_t *op)
{
    static const uint8_t commands[] = {0xe6, 0xc5, 0x4d, 0x4a, 0x0f, 0x07, 0x16, 0x08};
    const uint8_t bytes[9] = {
        commands[op[1] % 8], op[2] & 7, op[4] & 3, op[2] >> 2 & 1, op[5], 2, op[6], op[7], 0xff};
    hv_io_write(b->env.io, HV_IO_PORT, 0x3f2, 1, 0x1c);
    hv_io_write(b->env.io, HV_IO_PORT, 0x3f7, 1, op[3] & 3);
    hv_io_write(b->env.io, HV_IO_PORT, 0x0b, 1, op[1] & 1 ? 0x4a : 0x46);
    hv_io_write(b->env.io, HV_IO_PORT, 0x05, 1, op[7]);
    hv_io_write(b->env.io, HV_IO_PORT, 0x0a, 1, 2);
    for (unsigned i = 0; i < sizeof bytes; i++)
        hv_io_write(b->env.io, HV_IO_PORT, 0x3f5, 1, bytes[i]);
}

static void operate(struct board *b, const uint8_t *op)
{
    static const uint16_t bases[] = {0x1f0,       0x1f0, 0x1f7, 0x3f6, 0x170, 0x376, 0xc000,
                                     0x3c0,       0x3c4, 0x3ce, 0x3d4, 0x1ce, 0x60,  0x64,
                                     TULIP_PORTS, 0x3f2, 0x3f5, 0x3f5, 0x00,  0x80,  0x92};
    uint32_t v = get_le32(op + 4);
    uint16_t base = bases[op[1] % ARRAY_LEN(bases)];
    bool tulip = base == TULIP_PORTS; /* has its registers every 8 bytes */
    uint16_t port = (uint16_t)(base + op[2] % 16 * (tulip ? 8 : 1));
    unsigned size = tulip ? 4 : 1u << op[3] % 3;
    uint64_t window = LAYOUT_VGA_MEMORY + (get_le16(op + 2) * 6u | (op[1] & 1u));
    switch (op[0] % 10) {
    case 0:
    case 1:
    case 2: hv_io_write(b->env.io, HV_IO_PORT, port, size, v); break;
    case 3:
        for (unsigned n = 0; n < 1u + op[2] % 64u * 16u; n++)
            hv_io_read(b->env.io, HV_IO_PORT, bases[op[1] % ARRAY_LEN(bases)], size);
        break;
    case 4: config(b, op, true); break;
    case 5: config(b, op, false); break;
    case 6: hv_io_write(b->env.io, HV_IO_MMIO, window, size, v); break;
    case 7: hv_io_read(b->env.io, HV_IO_MMIO, window, size); break;
    case 8:
        floppy_command(b, op);
        console_key(b->console, op[1], op[2] & 1);
        console_move(b->console, v & 0x7fff, v >> 16);
        hv_memory_write(b->memory, (op[3] * 8u) & 0xff8, op + 1, 7);
        break;
    default:
        b->now += (uint64_t)v << op[1] % 8;
        b->dev[1].ops->start(b->dev[1].self);
        turn(b);
    }
}

/* Each in turn, as a machine that waits for all of them. */
static void stop_all(struct board *b)
{
    for (unsigned i = DEVICES; i-- > 0;) {
        b->done = false;
        b->dev[i].ops->stop(b->dev[i].self, on_done, b);
        while (!b->done)
            loop_turn(b->env.loop, -1);
    }
    turn(b);
}

static void start_all(struct board *b)
{
    for (unsigned i = 0; i < DEVICES; i++)
        b->dev[i].ops->start(b->dev[i].self);
}

static void restore_all(struct board *b, const uint8_t *data, size_t size)
{
    struct state_reader r = {.data = data, .len = size};
    for (unsigned i = 0; i < DEVICES; i++) {
        b->dev[i].ops->reset(b->dev[i].self);
        if (!b->dev[i].ops->restore(b->dev[i].self, &r, NULL))
            b->dev[i].ops->reset(b->dev[i].self); /* a machine would be thrown away */
    }
}

/* What was just saved must be accepted. */
static void save_and_restore(struct board *b)
{
    struct state_writer *w = state_writer_new();
    for (unsigned i = 0; i < DEVICES; i++)
        b->dev[i].ops->save(b->dev[i].self, w);
    size_t len;
    const uint8_t *p = state_writer_data(w, &len, NULL);
    struct state_reader r = {.data = p, .len = len};
    err e = ERR_INIT;
    for (unsigned i = 0; p && i < DEVICES; i++)
        if (!b->dev[i].ops->restore(b->dev[i].self, &r, &e))
            abort();
    state_writer_free(w);
}

/* One board serves all inputs, reset between them: making it takes the most time. */
static struct board *the_board(void)
{
    static struct board b;
    if (!b.memory)
        make(&b);
    b.now = 1;
    for (unsigned i = 0; i < DEVICES; i++)
        b.dev[i].ops->reset(b.dev[i].self);
    static const uint8_t bar[OP] = {4, 5, 0x10, 8, TULIP_PORTS & 0xff, TULIP_PORTS >> 8, 0, 0};
    static const uint8_t on[OP] = {4, 5, 0x04, 8, 5, 0, 0, 0};
    config(&b, bar, true);
    config(&b, on, true);
    return &b;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct board *b = the_board();
    size_t pos = 0;
    start_all(b);
    for (; pos + OP <= size && data[pos] != 0xff; pos += OP)
        operate(b, data + pos);
    stop_all(b);
    if (pos < size)
        restore_all(b, data + pos + 1, size - pos - 1);
    save_and_restore(b);
    start_all(b);
    for (unsigned i = 0; i < TURNS; i++)
        operate(b, (const uint8_t[OP]){3, (uint8_t)i, 8, 1, 0, 0, 0, 0});
    stop_all(b);
    return 0;
}
