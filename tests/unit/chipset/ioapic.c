/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/ioapic.h"

#include "core/chipset/layout.h"
#include "fake.h"

struct board {
    struct fake f;
    struct ioapic *a;
    struct device d;
    struct hv_msi last;
    unsigned sent;
    bool routed[24];
    struct hv_msi in_service; /* data 0: none */
};

static void on_msi(void *ctx, const struct hv_msi *m)
{
    struct board *b = ctx;
    b->last = *m;
    b->sent++;
}
static void on_route(void *ctx, unsigned pin, const struct hv_msi *m,
                     const struct hv_msi *in_service)
{
    struct board *b = ctx;
    b->routed[pin] = m != NULL;
    b->in_service = in_service ? *in_service : (struct hv_msi){0};
}

static void begin(struct board *b)
{
    memset(b, 0, sizeof *b);
    fake_init(&b->f);
    b->a = ioapic_new(&b->f.env, &(struct ioapic_out){.msi = on_msi, .route = on_route, .ctx = b},
                      NULL);
    b->d = ioapic_device(b->a);
    fake_start(&b->f, b->d);
}

static uint32_t get(struct board *b, uint8_t reg)
{
    hv_io_write(b->f.env.io, HV_IO_MMIO, LAYOUT_IOAPIC, 4, reg);
    return (uint32_t)hv_io_read(b->f.env.io, HV_IO_MMIO, LAYOUT_IOAPIC + 0x10, 4);
}
static void set(struct board *b, uint8_t reg, uint32_t v)
{
    hv_io_write(b->f.env.io, HV_IO_MMIO, LAYOUT_IOAPIC, 4, reg);
    hv_io_write(b->f.env.io, HV_IO_MMIO, LAYOUT_IOAPIC + 0x10, 4, v);
}
static void line(struct board *b, unsigned pin, bool level)
{
    struct chip_line l = ioapic_line(b->a, pin);
    chip_line_set(&l, level);
}

static void identifies_itself(void)
{
    struct board b;
    begin(&b);
    CHECK_EQ(get(&b, 1), 0x00170011);
    set(&b, 0, 0x0f000000);
    CHECK_EQ(get(&b, 0), 0x0f000000);
    CHECK_EQ(get(&b, 0x10), 0x10000); /* masked */
    CHECK_EQ(get(&b, 0x40), 0);
    fake_end(&b.f, b.d);
}

static void edges_are_delivered_once(void)
{
    struct board b;
    begin(&b);
    line(&b, 4, true); /* masked: lost */
    set(&b, 0x10 + 9, 0x03000000);
    set(&b, 0x10 + 8, 0x0931); /* logical, lowest priority, vector 0x31 */
    CHECK_EQ(b.sent, 0);
    line(&b, 4, true);
    CHECK_EQ(b.sent, 0);
    line(&b, 4, false);
    line(&b, 4, true);
    CHECK_EQ(b.sent, 1);
    CHECK_EQ(b.last.address, 0xfee03004);
    CHECK_EQ(b.last.data, 0x131);
    CHECK(!b.routed[4]); /* nobody needs to hear of an edge's end */
    CHECK_EQ(get(&b, 0x18) & 0x4000, 0);
    fake_end(&b.f, b.d);
}

static void levels_repeat_until_withdrawn(void)
{
    struct board b;
    begin(&b);
    set(&b, 0x10 + 18, 0x8041);
    CHECK(b.routed[9]);
    line(&b, 9, true);
    CHECK_EQ(b.sent, 1);
    CHECK_EQ(b.last.data, 0xc041);
    CHECK_EQ(get(&b, 0x22) & 0x4000, 0x4000); /* remote IRR */
    line(&b, 9, false);
    line(&b, 9, true);
    CHECK_EQ(b.sent, 1); /* not before the end of the first */
    ioapic_eoi(b.a, 0x42);
    CHECK_EQ(b.sent, 1);
    ioapic_eoi(b.a, 0x41);
    CHECK_EQ(b.sent, 2);
    line(&b, 9, false);
    ioapic_eoi(b.a, 0x41);
    CHECK_EQ(b.sent, 2);
    CHECK_EQ(get(&b, 0x22) & 0x4000, 0);
    line(&b, 9, true);
    CHECK_EQ(b.sent, 3);
    set(&b, 0x22, 0x18041); /* masked while in service: still wants its end */
    CHECK(b.routed[9]);
    ioapic_eoi(b.a, 0x41);
    CHECK(!b.routed[9]);
    CHECK_EQ(b.sent, 3);
    set(&b, 0x22, 0x8041); /* unmasked with the line up */
    CHECK_EQ(b.sent, 4);
    fake_end(&b.f, b.d);
}

static void a_level_in_service_is_heard_of_though_its_pin_is_sent_elsewhere(void)
{
    struct board b;
    begin(&b);
    set(&b, 0x22, 0x8041);
    line(&b, 9, true);
    CHECK_EQ(b.in_service.data, 0);
    set(&b, 0x23, 0x01000000);
    CHECK_EQ(b.in_service.address, 0xfee00000);
    CHECK_EQ(b.in_service.data, 0xc041);
    set(&b, 0x23, 0x02000000);
    CHECK_EQ(b.in_service.address, 0xfee00000); /* what was sent, not what was set before */
    ioapic_eoi(b.a, 0x41);                      /* the line is still up: sent again, now there */
    CHECK_EQ(b.sent, 2);
    CHECK_EQ(b.last.address, 0xfee02000);
    CHECK_EQ(b.in_service.data, 0);
    line(&b, 9, false);
    ioapic_eoi(b.a, 0x41);
    CHECK_EQ(get(&b, 0x22), 0x8041);
    fake_end(&b.f, b.d);
}

static void switching_to_edge_clears_remote_irr(void)
{
    struct board b;
    begin(&b);
    set(&b, 0x22, 0x8041);
    line(&b, 9, true);
    set(&b, 0x22, 0x10041);
    set(&b, 0x22, 0x18041);
    CHECK_EQ(get(&b, 0x22), 0x18041);
    fake_end(&b.f, b.d);
}

static void read_only_and_undefined_bits(void)
{
    struct board b;
    begin(&b);
    set(&b, 0x10, 0xffffffff);
    set(&b, 0x11, 0xffffffff);
    CHECK_EQ(get(&b, 0x10), 0x1afff);
    CHECK_EQ(get(&b, 0x11), 0xff000000);
    fake_end(&b.f, b.d);
}

static void state_survives(void)
{
    struct board b;
    begin(&b);
    set(&b, 0x22, 0x8041);
    set(&b, 0x12, 0x1234);
    line(&b, 9, true);
    fake_check_state(&b.f, b.d);
    CHECK(b.routed[9]);
    CHECK_EQ(get(&b, 0x22), 0xc041);
    CHECK_EQ(get(&b, 0x12), 0x0234);
    CHECK_EQ(b.sent, 1);
    ioapic_eoi(b.a, 0x41);
    CHECK_EQ(b.sent, 2); /* the line was saved as asserted */
    fake_end(&b.f, b.d);
}

static const struct check_test tests[] = {
    CHECK_TEST(identifies_itself),
    CHECK_TEST(edges_are_delivered_once),
    CHECK_TEST(levels_repeat_until_withdrawn),
    CHECK_TEST(a_level_in_service_is_heard_of_though_its_pin_is_sent_elsewhere),
    CHECK_TEST(switching_to_edge_clears_remote_irr),
    CHECK_TEST(read_only_and_undefined_bits),
    CHECK_TEST(state_survives)};
CHECK_MAIN(tests)
