/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "board.h"

static uint64_t last_offset, last_value;

static uint64_t bar_read(void *ctx, uint64_t offset, unsigned size)
{
    last_offset = offset;
    return 0x1234;
}
static void bar_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    last_offset = offset;
    last_value = value;
}
static const struct hv_io_ops bar_ops = {.name = "test", .read = bar_read, .write = bar_write};

static void test_ids(struct board *b)
{
    CHECK_EQ(config_in(b, 0, 0, PCI_VENDOR), 0x12378086);
    CHECK_EQ(config_in(b, 0, 0, PCI_SUBSYSTEM), 0x11001af4); /* how SeaBIOS knows us */
    CHECK_EQ(config_in(b, LAYOUT_PCI_ISA, 0, PCI_VENDOR), 0x71108086);
    CHECK_EQ(config_in(b, LAYOUT_PCI_ISA, 3, 0x40), LAYOUT_PORT_PM_PIIX4 | 1);
    CHECK_EQ(config_in(b, 3, 0, PCI_VENDOR), 0xffffffff); /* nobody */
    config_out(b, 0, 0, PCI_VENDOR, 0);
    CHECK_EQ(config_in(b, 0, 0, PCI_VENDOR), 0x12378086);
}

static void test_bars(struct board *b, struct pci_function *f)
{
    config_out(b, 12, 0, PCI_BAR, 0xffffffff);
    CHECK_EQ(config_in(b, 12, 0, PCI_BAR), 0xfffffff1); /* 16 ports */
    config_out(b, 12, 0, PCI_BAR + 4, 0xffffffff);
    CHECK_EQ(config_in(b, 12, 0, PCI_BAR + 4), 0xfffff000);
    config_out(b, 12, 0, PCI_BAR, 0xc120);
    config_out(b, 12, 0, PCI_BAR + 4, 0xfd000000);
    CHECK_EQ(in16(&b->f, 0xc124), 0xffff); /* not enabled */
    config_out(b, 12, 0, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
    CHECK_EQ(in16(&b->f, 0xc124), 0x1234);
    CHECK_EQ(last_offset, 4);
    hv_io_write(b->f.env.io, HV_IO_MMIO, 0xfd000ff8, 4, 77);
    CHECK_EQ(last_offset, 0xff8);
    CHECK_EQ(last_value, 77);
    CHECK_EQ(pci_bar_address(f, 1), 0xfd000000);
    CHECK_EQ(hv_io_read(b->f.env.io, HV_IO_MMIO, 0xfd001000, 4), 0xffffffff);
}

static void test_interrupts(struct board *b, struct pci_function *f)
{
    /* Slot 12, INTA: PIRQ D (12 - 1 + 0 modulo 4). */
    pci_set_intx(f, true);
    CHECK(!b->irq[11]); /* not routed */
    config_out(b, LAYOUT_PCI_ISA, 0, 0x60, 0x0b800a0a);
    CHECK(b->irq[11]);
    config_out(b, LAYOUT_PCI_ISA, 0, 0x60, 0x05800a0a);
    CHECK(!b->irq[11]);
    CHECK(b->irq[5]);
    pci_set_intx(f, false);
    CHECK(!b->irq[5]);
}

static void test_resets(struct board *b)
{
    out8(&b->f, 0xcf9, 2);
    CHECK_EQ(b->resets, 0);
    out8(&b->f, 0xcf9, 6);
    CHECK_EQ(b->resets, 1);
    out8(&b->f, 0x92, 3);
    CHECK_EQ(b->resets, 2);
}

static uint8_t seen(struct board *b, uint64_t gpa)
{
    uint8_t v = 0;
    CHECK(hv_memory_read(b->memory, gpa, &v, 1));
    return v;
}

/* As a processor writes: to memory, or where that does not take it, to the bus. */
static void put(struct board *b, uint64_t gpa, uint8_t v)
{
    if (!hv_memory_write(b->memory, gpa, &v, 1))
        hv_io_write(b->f.env.io, HV_IO_MMIO, gpa, 1, v);
}

static void test_pam(struct board *b)
{
    CHECK_EQ(seen(b, 0xf1000), 0x31); /* at power-on the BIOS, whose last byte is at 4 GiB - 1 */
    CHECK_EQ(seen(b, 0xe0000), 0x20);
    CHECK_EQ(seen(b, 0xc0000), 0xff);
    CHECK_EQ(seen(b, 0xdffff), 0xff);
    put(b, 0xf1000, 1);
    CHECK_EQ(seen(b, 0xf1000), 0x31);
    config_out(b, 0, 0, 0x58, 0x00002000); /* F0000: reads ROM, writes RAM */
    put(b, 0xf1000, 0x11);
    put(b, 0xe0000, 0x12);
    CHECK_EQ(seen(b, 0xf1000), 0x31);
    config_out(b, 0, 0, 0x58, 0x33331000); /* F0000: RAM, read only; C0000 to CFFFF: RAM */
    CHECK_EQ(seen(b, 0xf1000), 0x11);
    put(b, 0xf1000, 0x22);
    CHECK_EQ(seen(b, 0xf1000), 0x11);
    put(b, 0xc3fff, 0x44);
    put(b, 0xc4000, 0x55);
    CHECK_EQ(seen(b, 0xc3fff), 0x44);
    config_out(b, 0, 0, 0x58, 0x33133000); /* C4000 is read only, C0000 not */
    put(b, 0xc3fff, 0x66);
    put(b, 0xc4000, 0x77);
    CHECK_EQ(seen(b, 0xc3fff), 0x66);
    CHECK_EQ(seen(b, 0xc4000), 0x55);
    config_out(b, 0, 0, 0x5c, 0x30000000); /* EC000: RAM */
    CHECK_EQ(seen(b, 0xec000), 0);
    CHECK_EQ(seen(b, 0xe8000), 0x28);
    fake_check_state(&b->f, b->board);
    CHECK_EQ(seen(b, 0xc4000), 0x55);
    b->board.ops->reset(b->board.self);
    CHECK_EQ(seen(b, 0xf1000), 0x31);
    CHECK_EQ(seen(b, 0xc3fff), 0xff);
    config_out(b, 0, 0, 0x58, 0x30); /* another register */
    CHECK_EQ(seen(b, 0xf1000), 0x31);
}

static void test_a20(struct board *b)
{
    CHECK_EQ(in8(&b->f, 0x92), 2);
    out8(&b->f, 0x92, 0);
    CHECK(!b->a20);
    CHECK_EQ(in8(&b->f, 0x92), 0);
    fake_check_state(&b->f, b->board);
    CHECK(!piix4_a20(b->piix4));
    piix4_set_a20(b->piix4, true);
    CHECK(b->a20);
    out8(&b->f, 0x92, 0);
    b->board.ops->reset(b->board.self);
    CHECK(b->a20);
}

int main(void)
{
    struct board b;
    struct pci_function f;
    board_init(&b);
    pci_function_init(
        &f, "test", 12 << 3,
        &(struct pci_ids){.vendor = 1, .device = 2, .class_code = 0xff0000, .pin = 1});
    f.bar[0] = (struct pci_bar){.size = 16, .port = true, .ops = &bar_ops};
    f.bar[1] = (struct pci_bar){.size = 4096, .ops = &bar_ops};
    CHECK(pci_add(b.bus, &f, NULL));
    test_ids(&b);
    test_bars(&b, &f);
    test_interrupts(&b, &f);
    test_resets(&b);
    fake_check_state(&b.f, b.board);
    test_pam(&b);
    test_a20(&b);
    pci_remove(b.bus, &f);
    board_end(&b);
    return check_failures != 0;
}
