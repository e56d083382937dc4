/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/uart.h"

#include "fake.h"

enum {
    P = 0x3f8,
    IER = P + 1,
    IIR = P + 2,
    FCR = P + 2,
    LCR = P + 3,
    MCR = P + 4,
    LSR = P + 5,
    MSR = P + 6
};

struct port {
    struct fake f;
    struct uart *u;
    struct device d;
    uint8_t got[8192];
    size_t ngot, room;
};

static size_t sink(void *ctx, const uint8_t *data, size_t len)
{
    struct port *p = ctx;
    size_t n = len < p->room ? len : p->room;
    memcpy(p->got + p->ngot, data, n);
    p->ngot += n;
    p->room -= n;
    return n;
}

static void begin(struct port *p)
{
    memset(p, 0, sizeof *p);
    fake_init(&p->f);
    p->room = sizeof p->got;
    p->u = uart_new(&(struct uart_params){.env = &p->f.env,
                                          .port = P,
                                          .irq = fake_line(&p->f),
                                          .sink = {.write = sink, .ctx = p}},
                    NULL);
    p->d = uart_device(p->u);
    fake_start(&p->f, p->d);
    out8(&p->f, MCR, 8);
}

static void what_is_sent_arrives(void)
{
    struct port p;
    begin(&p);
    for (const char *s = "hello"; *s; s++) {
        CHECK(in8(&p.f, LSR) & 0x20);
        out8(&p.f, P, (uint8_t)*s);
    }
    loop_turn(p.f.env.loop, 0);
    CHECK_EQ(p.ngot, 5);
    CHECK(memcmp(p.got, "hello", 5) == 0);
    fake_end(&p.f, p.d);
}

static void a_slow_sink_loses_nothing(void)
{
    struct port p;
    begin(&p);
    p.room = 0;
    unsigned sent = 0;
    while ((in8(&p.f, LSR) & 0x20) && sent < 6000)
        out8(&p.f, P, (uint8_t)sent++);
    CHECK(sent < 6000); /* at some point the transmitter says it is busy */
    loop_turn(p.f.env.loop, 0);
    CHECK_EQ(p.ngot, 0);
    out8(&p.f, IER, 2);
    in8(&p.f, IIR);
    CHECK(!p.f.line);
    p.room = sizeof p.got;
    uart_sink_ready(p.u);
    CHECK_EQ(p.ngot, sent);
    for (unsigned i = 0; i < sent; i++)
        CHECK_EQ(p.got[i], (uint8_t)i);
    CHECK(p.f.line); /* and interrupts when it can take more */
    CHECK(in8(&p.f, LSR) & 0x20);
    fake_end(&p.f, p.d);
}

static void transmit_interrupt_comes_and_goes(void)
{
    struct port p;
    begin(&p);
    CHECK_EQ(in8(&p.f, IIR), 1);
    out8(&p.f, IER, 2);
    CHECK(p.f.line);
    CHECK_EQ(in8(&p.f, IIR), 2);
    CHECK(!p.f.line); /* reading IIR acknowledges it */
    CHECK_EQ(in8(&p.f, IIR), 1);
    out8(&p.f, P, 'x');
    CHECK(p.f.line);
    out8(&p.f, MCR, 0); /* OUT2 gates the line */
    CHECK(!p.f.line);
    fake_end(&p.f, p.d);
}

static void fifo_trigger_and_timeout(void)
{
    struct port p;
    begin(&p);
    out8(&p.f, FCR, 0x81); /* FIFOs on, trigger at 8 */
    out8(&p.f, IER, 1);
    CHECK_EQ(uart_input(p.u, (const uint8_t *)"abc", 3), 3);
    CHECK(!p.f.line);
    CHECK_EQ(in8(&p.f, LSR) & 1, 1);
    fake_advance(&p.f, p.d, 10000000);
    CHECK(p.f.line);
    CHECK_EQ(in8(&p.f, IIR), 0xcc);
    CHECK_EQ(in8(&p.f, P), 'a');
    CHECK(!p.f.line);
    uart_input(p.u, (const uint8_t *)"defghijklmnopqrstuvwxyz", 23);
    CHECK(p.f.line);
    CHECK_EQ(in8(&p.f, IIR), 0xc4);
    for (int c = 'b'; c <= 'z'; c++)
        CHECK_EQ(in8(&p.f, P), c);
    CHECK_EQ(in8(&p.f, LSR) & 0x03, 0); /* empty, and nothing was overrun */
    CHECK(!p.f.line);
    fake_end(&p.f, p.d);
}

static void input_queue_is_bounded(void)
{
    struct port p;
    static const uint8_t big[5000];
    begin(&p);
    size_t n = uart_input(p.u, big, sizeof big);
    CHECK(n >= 1024 && n < 1100);
    while (uart_input(p.u, big, 1))
        n++;
    CHECK(n < 1100);
    in8(&p.f, P);
    CHECK_EQ(uart_input(p.u, big, 1), 1);
    fake_end(&p.f, p.d);
}

static void loopback_works_as_drivers_probe_it(void)
{
    struct port p;
    begin(&p);
    out8(&p.f, MCR, 0x10 | 0x0a); /* RTS and OUT2 */
    CHECK_EQ(in8(&p.f, MSR) & 0xf0, 0x90);
    CHECK_EQ(in8(&p.f, MSR) & 0x0f, 0); /* reading cleared the changes */
    out8(&p.f, P, 0x55);
    CHECK_EQ(in8(&p.f, P), 0x55);
    out8(&p.f, P, 1);
    out8(&p.f, P, 2); /* no FIFO: overrun */
    CHECK_EQ(in8(&p.f, LSR) & 3, 3);
    CHECK_EQ(in8(&p.f, LSR) & 2, 0);
    CHECK_EQ(p.ngot, 0);
    fake_end(&p.f, p.d);
}

static void registers_keep_what_they_should(void)
{
    struct port p;
    begin(&p);
    out8(&p.f, P + 7, 0xa5);
    CHECK_EQ(in8(&p.f, P + 7), 0xa5);
    out8(&p.f, LCR, 0x83);
    out8(&p.f, P, 1);
    out8(&p.f, IER, 0);
    CHECK_EQ(in8(&p.f, P), 1);
    out8(&p.f, LCR, 3);
    CHECK_EQ(in8(&p.f, IER), 0);
    out8(&p.f, IER, 0xff);
    CHECK_EQ(in8(&p.f, IER), 0x0f);
    out8(&p.f, FCR, 1);
    CHECK_EQ(in8(&p.f, IIR) & 0xc0, 0xc0);
    fake_end(&p.f, p.d);
}

static void a_break_is_seen(void)
{
    struct port p;
    begin(&p);
    out8(&p.f, FCR, 1);
    out8(&p.f, IER, 4);
    uart_break(p.u);
    CHECK(p.f.line);
    CHECK_EQ(in8(&p.f, IIR), 0xc6);
    CHECK_EQ(in8(&p.f, LSR) & 0x11, 0x11);
    CHECK_EQ(in8(&p.f, P), 0);
    CHECK(!p.f.line);
    fake_end(&p.f, p.d);
}

static void state_survives(void)
{
    struct port p;
    begin(&p);
    p.room = 0;
    out8(&p.f, FCR, 0xc1);
    out8(&p.f, IER, 1);
    out8(&p.f, P, 'q');
    uart_input(p.u, (const uint8_t *)"0123456789abcdefghij", 20);
    fake_check_state(&p.f, p.d);
    for (const char *s = "0123456789abcdefghij"; *s; s++)
        CHECK_EQ(in8(&p.f, P), *s);
    p.room = 10;
    uart_sink_ready(p.u);
    CHECK_EQ(p.got[0], 'q');
    fake_end(&p.f, p.d);
}

static const struct check_test tests[] = {CHECK_TEST(what_is_sent_arrives),
                                          CHECK_TEST(a_slow_sink_loses_nothing),
                                          CHECK_TEST(transmit_interrupt_comes_and_goes),
                                          CHECK_TEST(fifo_trigger_and_timeout),
                                          CHECK_TEST(input_queue_is_bounded),
                                          CHECK_TEST(loopback_works_as_drivers_probe_it),
                                          CHECK_TEST(registers_keep_what_they_should),
                                          CHECK_TEST(a_break_is_seen),
                                          CHECK_TEST(state_survives)};
CHECK_MAIN(tests)
