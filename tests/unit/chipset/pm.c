/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/pm.h"

#include "core/chipset/fwcfg.h"
#include "core/chipset/testports.h"
#include "fake.h"

struct board {
    struct fake f;
    struct pm *p;
    struct device d;
    unsigned offs, sleeps, resets;
    uint32_t code;
};

static void on_off(void *ctx)
{
    ((struct board *)ctx)->offs++;
}
static void on_sleep(void *ctx)
{
    ((struct board *)ctx)->sleeps++;
}
static void on_reset(void *ctx)
{
    ((struct board *)ctx)->resets++;
}
static void on_exit_code(void *ctx, uint32_t code)
{
    ((struct board *)ctx)->code = code;
}

static void begin(struct board *b, bool s4)
{
    memset(b, 0, sizeof *b);
    fake_init(&b->f);
    struct pm_upcalls up = {
        .power_off = on_off, .hibernated = on_sleep, .reset = on_reset, .ctx = b};
    b->p = pm_new(
        &(struct pm_params){.env = &b->f.env, .sci = fake_line(&b->f), .up = up, .s4 = s4}, NULL);
    b->d = pm_device(b->p);
    fake_start(&b->f, b->d);
}

static void timer_runs_and_carries(void)
{
    struct board b;
    begin(&b, false);
    uint32_t t = in32(&b.f, 0x408);
    fake_advance(&b.f, b.d, 1000000000);
    CHECK_EQ(in32(&b.f, 0x408) - t, 3579545);
    CHECK_EQ(in16(&b.f, 0x408), in32(&b.f, 0x408) & 0xffff);
    out16(&b.f, 0x402, 1);
    CHECK(!b.f.line);
    fake_advance(&b.f, b.d, 600000000000); /* bit 31 changes every 599.9 s */
    CHECK(b.f.line);
    CHECK_EQ(in16(&b.f, 0x400), 1);
    out16(&b.f, 0x400, 1);
    CHECK(!b.f.line);
    CHECK_EQ(in16(&b.f, 0x400), 0);
    fake_end(&b.f, b.d);
}

static void buttons_and_events_interrupt(void)
{
    struct board b;
    begin(&b, false);
    CHECK_EQ(in16(&b.f, 0x404), 1); /* ACPI mode */
    pm_press_power_button(b.p);
    CHECK(!b.f.line);
    out16(&b.f, 0x402, 0x100);
    CHECK(b.f.line);
    out16(&b.f, 0x400, 0x100);
    CHECK(!b.f.line);
    out16(&b.f, 0x40e, 1);
    pm_raise_gpe(b.p, PM_GPE_GENERATION);
    CHECK(b.f.line);
    CHECK_EQ(in16(&b.f, 0x40c), 1);
    out8(&b.f, 0x40c, 1);
    CHECK(!b.f.line);
    fake_end(&b.f, b.d);
}

static void sleeping_and_reset(void)
{
    struct board b;
    begin(&b, false);
    out16(&b.f, 0x404, 0x2000 | 1 << 10); /* S4 is not offered */
    CHECK_EQ(b.offs + b.sleeps, 0);
    out16(&b.f, 0x404, 0x0001);
    CHECK_EQ(b.offs, 0);
    out16(&b.f, 0x404, 0x2001);
    CHECK_EQ(b.offs, 1);
    CHECK_EQ(in16(&b.f, 0x404), 1);
    out8(&b.f, 0x433, 0);
    CHECK_EQ(b.resets, 0);
    out8(&b.f, 0x433, 1);
    CHECK_EQ(b.resets, 1);
    fake_end(&b.f, b.d);
    begin(&b, true);
    out16(&b.f, 0x404, 0x2000 | 1 << 10);
    CHECK_EQ(b.sleeps, 1);
    fake_end(&b.f, b.d);
}

static void state_survives(void)
{
    struct board b;
    begin(&b, false);
    out16(&b.f, 0x402, 0x100);
    pm_press_power_button(b.p);
    fake_check_state(&b.f, b.d);
    CHECK(b.f.line);
    CHECK_EQ(in16(&b.f, 0x400), 0x100);
    fake_end(&b.f, b.d);
}

static void test_ports(void)
{
    struct board b;
    memset(&b, 0, sizeof b);
    fake_init(&b.f);
    struct testports_params params = {
        .env = &b.f.env, .debug_exit = on_exit_code, .reset = on_reset, .ctx = &b};
    b.d = testports_device(testports_new(&params, NULL));
    hv_io_write(b.f.env.io, HV_IO_PORT, 0xf4, 4, 0x12345);
    CHECK_EQ(b.code, 0x12345);
    out8(&b.f, 0x64, 0x20);
    out8(&b.f, 0x92, 2);
    out8(&b.f, 0xcf9, 2);
    CHECK_EQ(b.resets, 0);
    out8(&b.f, 0x64, 0xfe);
    out8(&b.f, 0x92, 3);
    out8(&b.f, 0xcf9, 6);
    CHECK_EQ(b.resets, 3);
    fake_end(&b.f, b.d);
}

static void firmware_configuration(void)
{
    struct board b;
    memset(&b, 0, sizeof b);
    fake_init(&b.f);
    b.d = fwcfg_device(fwcfg_new(&b.f.env, 0x120000000, 3, NULL));
    out16(&b.f, 0x510, 0);
    for (const char *s = "QEMU"; *s; s++)
        CHECK_EQ(in8(&b.f, 0x511), *s);
    CHECK_EQ(in8(&b.f, 0x511), 0);
    out16(&b.f, 0x510, 3);
    uint64_t ram = 0;
    for (int i = 0; i < 8; i++)
        ram |= (uint64_t)in8(&b.f, 0x511) << 8 * i;
    CHECK_EQ(ram, 0x120000000);
    out16(&b.f, 0x510, 5);
    fake_check_state(&b.f, b.d);
    CHECK_EQ(in8(&b.f, 0x511), 3);
    out16(&b.f, 0x510, 0xffff);
    CHECK_EQ(in8(&b.f, 0x511), 0);
    fake_end(&b.f, b.d);
}

static const struct check_test tests[] = {CHECK_TEST(timer_runs_and_carries),
                                          CHECK_TEST(buttons_and_events_interrupt),
                                          CHECK_TEST(sleeping_and_reset),
                                          CHECK_TEST(state_survives),
                                          CHECK_TEST(test_ports),
                                          CHECK_TEST(firmware_configuration)};
CHECK_MAIN(tests)
