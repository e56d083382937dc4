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
    pci_remove(b.bus, &f);
    board_end(&b);
    return check_failures != 0;
}
