/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a PC's firmware leaves to a multiboot kernel, without the firmware: interrupt controllers at
 * vectors 0x08 and 0x70, the timer at 18.2 Hz, and a vector table whose entries end what they are
 * called for. Kernels that go back to real mode count on it.
 */
#include "core/base/bytes.h"
#include "core/chipset/layout.h"
#include "core/machine/machine-int.h"

enum { IVT_ENTRIES = 256, MASTER_VECTOR = 8, SLAVE_VECTOR = 0x70, LINES = 8 };
/* The stubs, at the end of the first MiB, far above the SMBIOS tables. */
enum { STUB_SEGMENT = 0xf000, STUB_PLAIN = 0xfe00, STUB_MASTER = 0xfe10, STUB_SLAVE = 0xfe20 };

static const uint8_t stubs[] = {
    [0x00] = 0xcf,                                                 /* iret */
    [0x10] = 0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf,             /* end of interrupt, iret */
    [0x20] = 0x50, 0xb0, 0x20, 0xe6, 0xa0, 0xe6, 0x20, 0x58, 0xcf, /* of both */
};

static uint16_t stub_of(unsigned vector)
{
    if (vector - MASTER_VECTOR < LINES)
        return STUB_MASTER;
    return vector - SLAVE_VECTOR < LINES ? STUB_SLAVE : STUB_PLAIN;
}

static bool put_vectors(struct hv_memory *mem, err *e)
{
    uint8_t table[IVT_ENTRIES * 4];
    for (unsigned v = 0; v < IVT_ENTRIES; v++) {
        put_le16(table + 4 * v, stub_of(v));
        put_le16(table + 4 * v + 2, STUB_SEGMENT);
    }
    return (hv_memory_write(mem, 0, table, sizeof table) &&
            hv_memory_write(mem, (STUB_SEGMENT << 4) + STUB_PLAIN, stubs, sizeof stubs)) ||
           err_set(e, ERR_INVALID, "The machine has too little memory");
}

bool machine_leave_post(struct machine *m, err *e)
{
    static const struct {
        uint8_t port, value;
    } writes[] = {
        {LAYOUT_PORT_PIC_MASTER, 0x11},
        {LAYOUT_PORT_PIC_MASTER + 1, MASTER_VECTOR},
        {LAYOUT_PORT_PIC_MASTER + 1, 4},
        {LAYOUT_PORT_PIC_MASTER + 1, 1},
        {LAYOUT_PORT_PIC_MASTER + 1, 0xfa}, /* the timer and the cascade */
        {LAYOUT_PORT_PIC_SLAVE, 0x11},
        {LAYOUT_PORT_PIC_SLAVE + 1, SLAVE_VECTOR},
        {LAYOUT_PORT_PIC_SLAVE + 1, 2},
        {LAYOUT_PORT_PIC_SLAVE + 1, 1},
        {LAYOUT_PORT_PIC_SLAVE + 1, 0xff},
        {LAYOUT_PORT_PIT + 3, 0x34}, /* counter 0, mode 2 */
        {LAYOUT_PORT_PIT, 0},
        {LAYOUT_PORT_PIT, 0},
    };
    if (m->p.kind != MACHINE_PC || m->p.boot.protocol != BOOT_MULTIBOOT)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(writes); i++)
        hv_io_write(hv_partition_io(m->partition), HV_IO_PORT, writes[i].port, 1, writes[i].value);
    return put_vectors(hv_partition_memory(m->partition), e);
}
