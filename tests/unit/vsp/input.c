/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Keyboard and mouse against a fake guest. */
#include "core/vsp/keyboard.h"
#include "core/vsp/mouse.h"
#include "core/vsp/synthhid-proto.h"
#include "core/vsp/synthkbd-proto.h"
#include "rig.h"

static const struct guid kbd_class = SYNTHKBD_CLASS, hid_class = SYNTHHID_CLASS;
static struct rig rig;

static struct device start_keyboard(struct rig *r)
{
    err e = ERR_INIT;
    rig_begin(r);
    struct keyboard *k = keyboard_new(r->g->bus, r->console, &e);
    CHECK(k != NULL);
    return keyboard_as_device(k);
}

static struct fake_channel *agree_keyboard(struct rig *r, uint32_t version, uint32_t expect)
{
    struct fake_packet p;
    CHECK(fake_guest_connect(r->g, VMBUS_VERSION(5, 3)));
    struct fake_channel *ch = rig_open(r, &kbd_class, 9);
    struct synthkbd_request q = {SYNTHKBD_REQUEST, version};
    CHECK(fake_send(ch, 1, true, &q, sizeof q));
    CHECK(fake_recv(ch, &p));
    CHECK_EQ(p.len, 8);
    CHECK_EQ(get_le32(p.payload), SYNTHKBD_RESPONSE);
    CHECK_EQ(get_le32(p.payload + 4), expect);
    return ch;
}

static void expect_key(struct fake_channel *ch, uint16_t code, uint32_t info)
{
    struct fake_packet p;
    struct synthkbd_event ev;
    fake_settle(ch->g);
    CHECK(fake_poll(ch, &p));
    memcpy(&ev, p.payload, sizeof ev);
    CHECK_EQ(ev.type, SYNTHKBD_EVENT);
    CHECK_EQ(ev.make_code, code);
    CHECK_EQ(ev.info, info);
}

static void keys_become_make_codes(void)
{
    struct fake_packet p;
    struct device d = start_keyboard(&rig);
    console_key(rig.console, 0x1e, true); /* nobody listens yet */
    struct fake_channel *ch = agree_keyboard(&rig, SYNTHKBD_VERSION, 1);
    CHECK(!fake_poll(ch, &p));
    console_key(rig.console, 0x1e, true);
    console_key(rig.console, 0x1e, false);
    console_key(rig.console, 0xc8, true);
    console_key(rig.console, 0xc8, false);
    console_key(rig.console, 0xc6, true);
    console_key(rig.console, 0xc6, false);
    expect_key(ch, 0x1e, 0);
    expect_key(ch, 0x1e, SYNTHKBD_BREAK);
    expect_key(ch, 0x48, SYNTHKBD_E0);
    expect_key(ch, 0x48, SYNTHKBD_E0 | SYNTHKBD_BREAK);
    expect_key(ch, 0x1d, SYNTHKBD_E1);
    expect_key(ch, 0x45, 0);
    expect_key(ch, 0x1d, SYNTHKBD_E1 | SYNTHKBD_BREAK);
    expect_key(ch, 0x45, SYNTHKBD_BREAK);
    CHECK(!fake_poll(ch, &p));
    struct synthkbd_leds leds = {SYNTHKBD_LEDS, 6, 0};
    CHECK(fake_send(ch, 2, false, &leds, sizeof leds));
    fake_settle(rig.g);
    CHECK_EQ(console_leds(rig.console), 6);
    CHECK(fake_close(ch));
    d.ops->destroy(d.self);
    rig_end(&rig);
}

static void a_wrong_version_is_refused(void)
{
    struct fake_packet p;
    struct device d = start_keyboard(&rig);
    struct fake_channel *ch = agree_keyboard(&rig, 0x00020000, 0);
    console_key(rig.console, 0x1e, true);
    fake_settle(rig.g);
    CHECK(!fake_poll(ch, &p));
    CHECK(fake_close(ch));
    d.ops->destroy(d.self);
    rig_end(&rig);
}

static void a_full_ring_keeps_keys_in_order(void)
{
    struct device d = start_keyboard(&rig);
    CHECK(fake_guest_connect(rig.g, VMBUS_VERSION(5, 3)));
    struct fake_channel *ch = rig_open(&rig, &kbd_class, 2); /* 4096 bytes: 85 events or so */
    struct synthkbd_request q = {SYNTHKBD_REQUEST, SYNTHKBD_VERSION};
    struct fake_packet p;
    CHECK(fake_send(ch, 1, true, &q, sizeof q) && fake_recv(ch, &p));
    for (unsigned i = 0; i < 200; i++)
        console_key(rig.console, (uint8_t)(1 + i % 80), i & 1);
    fake_settle(rig.g);
    for (unsigned i = 0; i < 200; i++) {
        struct synthkbd_event ev;
        CHECK(fake_recv(ch, &p));
        memcpy(&ev, p.payload, sizeof ev);
        CHECK_EQ(ev.make_code, 1 + i % 80);
        CHECK_EQ(ev.info, i & 1 ? 0 : SYNTHKBD_BREAK);
    }
    CHECK(fake_close(ch));
    d.ops->destroy(d.self);
    rig_end(&rig);
}

static void a_keyboard_moves(void)
{
    struct rig to;
    struct device d = start_keyboard(&rig);
    struct fake_channel *ch = agree_keyboard(&rig, SYNTHKBD_VERSION, 1);
    struct device d2 = start_keyboard(&to);
    CHECK(rig_move(&rig, d, &to, d2, ch));
    console_key(to.console, 0x10, true);
    expect_key(ch, 0x10, 0);
    CHECK(fake_close(ch));
    d.ops->destroy(d.self);
    d2.ops->destroy(d2.self);
    rig_end(&rig);
    rig_end(&to);
}

/* ---- mouse ---- */

static struct device start_mouse(struct rig *r)
{
    err e = ERR_INIT;
    rig_begin(r);
    struct mouse *m = mouse_new(r->g->bus, r->console, &e);
    CHECK(m != NULL);
    return mouse_as_device(m);
}

static struct fake_channel *agree_mouse(struct rig *r)
{
    struct fake_packet p;
    CHECK(fake_guest_connect(r->g, VMBUS_VERSION(5, 3)));
    struct fake_channel *ch = rig_open(r, &hid_class, 9);
    const uint32_t q[5] = {PIPE_DATA, 12, SYNTHHID_REQUEST, 4, SYNTHHID_VERSION};
    CHECK(fake_send(ch, 1, true, q, sizeof q));
    CHECK(fake_recv(ch, &p));
    CHECK_EQ(get_le32(p.payload + 4), 13);
    CHECK_EQ(get_le32(p.payload + 8), SYNTHHID_RESPONSE);
    CHECK_EQ(get_le32(p.payload + 16), SYNTHHID_VERSION);
    CHECK_EQ(p.payload[20], 1);
    /* As checked against a guest (8 + 8 + 32 + 9 + 65 bytes). */
    CHECK(fake_recv(ch, &p));
    static const uint8_t head[] = {1, 0, 0, 0,    0x72, 0, 0, 0,    2, 0,    0, 0, 0x6a,
                                   0, 0, 0, 0x20, 0,    0, 0, 0x5e, 4, 0x21, 6, 2, 2};
    static const uint8_t hid[] = {9, 0x21, 1, 1, 0, 1, 0x22, 0x41, 0, 5, 1, 9, 2};
    CHECK_EQ(p.len, 128);
    CHECK(memcmp(p.payload, head, sizeof head) == 0);
    CHECK(memcmp(p.payload + 48, hid, sizeof hid) == 0);
    return ch;
}

static void expect_report(struct fake_channel *ch, uint8_t buttons, uint16_t x, uint16_t y,
                          int wheel)
{
    struct fake_packet p;
    struct synthhid_report r;
    fake_settle(ch->g);
    CHECK(fake_poll(ch, &p));
    CHECK_EQ(get_le32(p.payload + 8), SYNTHHID_REPORT);
    CHECK_EQ(get_le32(p.payload + 12), 7);
    memcpy(&r, p.payload + 16, sizeof r);
    CHECK_EQ(r.buttons, buttons);
    CHECK_EQ(r.x, x);
    CHECK_EQ(r.y, y);
    CHECK_EQ(r.wheel, (uint64_t)wheel);
}

static void the_pointer_moves_clicks_and_scrolls(void)
{
    struct fake_packet p;
    struct device d = start_mouse(&rig);
    struct fake_channel *ch = agree_mouse(&rig);
    const uint32_t ack[5] = {PIPE_DATA, 9, SYNTHHID_DEVICE_INFO_ACK, 1, 0};
    CHECK(fake_send(ch, 2, true, ack, sizeof ack));
    console_move(rig.console, 100, 32767);
    console_button(rig.console, 0, true);
    console_button(rig.console, 0, false);
    console_wheel(rig.console, -2);
    expect_report(ch, 0, 100, 32767, 0);
    expect_report(ch, 1, 100, 32767, 0);
    expect_report(ch, 0, 100, 32767, 0);
    expect_report(ch, 0, 100, 32767, -2);
    CHECK(!fake_poll(ch, &p));
    CHECK(fake_close(ch));
    /* The driver is loaded again. */
    ch = agree_mouse(&rig);
    CHECK(fake_close(ch));
    d.ops->destroy(d.self);
    rig_end(&rig);
}

static void a_mouse_moves_to_another_machine(void)
{
    struct rig to;
    struct device d = start_mouse(&rig);
    struct fake_channel *ch = agree_mouse(&rig);
    struct device d2 = start_mouse(&to);
    CHECK(rig_move(&rig, d, &to, d2, ch));
    console_move(to.console, 5, 6);
    expect_report(ch, 0, 5, 6, 0);
    CHECK(fake_close(ch));
    d.ops->destroy(d.self);
    d2.ops->destroy(d2.self);
    rig_end(&rig);
    rig_end(&to);
}

static const struct check_test tests[] = {
    CHECK_TEST(keys_become_make_codes),
    CHECK_TEST(a_wrong_version_is_refused),
    CHECK_TEST(a_full_ring_keeps_keys_in_order),
    CHECK_TEST(a_keyboard_moves),
    CHECK_TEST(the_pointer_moves_clicks_and_scrolls),
    CHECK_TEST(a_mouse_moves_to_another_machine),
};
CHECK_MAIN(tests)
