/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/vsp/video.h"

#include <sys/mman.h>
#include <unistd.h>

#include "core/vsp/resolutions.h"
#include "rig.h"

static const struct guid class_id = SYNTHVID_CLASS;
static struct rig rig;
enum { VRAM_GPA = 0x10000000, BOOT_GPA = 0xf8000000u, MIBS = 8 };

static struct device start(struct rig *r)
{
    err e = ERR_INIT;
    rig_begin(r);
    struct video_params p = {.bus = r->g->bus,
                             .memory = r->g->memory,
                             .console = r->console,
                             .memory_mib = MIBS,
                             .width = 1280,
                             .height = 800,
                             .boot_gpa = BOOT_GPA};
    struct video *v = video_new(&p, &e);
    CHECK(v != NULL);
    struct video_boot b;
    video_boot_framebuffer(v, &b);
    CHECK_EQ(b.gpa, BOOT_GPA);
    CHECK_EQ(b.size, 1024 * 768 * 4);
    return video_as_device(v);
}

static void tell(struct fake_channel *ch, uint32_t type, const void *body, uint32_t len)
{
    uint8_t m[512] = {0};
    put_le32(m, PIPE_DATA);
    put_le32(m + 4, 8 + len);
    put_le32(m + 8, type);
    put_le32(m + 12, 8 + len);
    memcpy(m + 16, body, len);
    CHECK(fake_send(ch, 1, true, m, 16 + len));
}

static const uint8_t *expect(struct fake_channel *ch, uint32_t type, uint32_t least)
{
    static struct fake_packet p;
    CHECK(fake_recv(ch, &p));
    CHECK_EQ(get_le32(p.payload), PIPE_DATA);
    CHECK_EQ(get_le32(p.payload + 8), type);
    CHECK(p.len >= 16 + least);
    return p.payload + 16;
}

static struct fake_channel *agree(struct rig *r, uint32_t version)
{
    CHECK(fake_guest_connect(r->g, VMBUS_VERSION(5, 3)));
    const struct vmbus_msg_offer *o = fake_offer_of(r->g, &class_id, 0);
    CHECK_EQ(o->mmio_mib, MIBS);
    struct fake_channel *ch = rig_open(r, &class_id, 64);
    tell(ch, SYNTHVID_VERSION_REQUEST, &version, 4);
    const uint8_t *b = expect(ch, SYNTHVID_VERSION_RESPONSE, 6);
    CHECK_EQ(get_le32(b), version);
    CHECK(b[4]);
    return ch;
}

static void place(struct fake_channel *ch, uint64_t gpa)
{
    struct synthvid_vram_location m = {.user_ctx = gpa, .specified = 1, .gpa = gpa};
    tell(ch, SYNTHVID_VRAM_LOCATION, &m, sizeof m);
    CHECK_EQ(get_le64(expect(ch, SYNTHVID_VRAM_LOCATION_ACK, 8)), gpa);
}

static void set_mode(struct fake_channel *ch, uint32_t w, uint32_t h, uint32_t pitch)
{
    struct synthvid_situation m = {.user_ctx = 7,
                                   .count = 1,
                                   .active = 1,
                                   .depth = 32,
                                   .width = w,
                                   .height = h,
                                   .pitch = pitch};
    tell(ch, SYNTHVID_SITUATION, &m, sizeof m);
    expect(ch, SYNTHVID_SITUATION_ACK, 8);
    expect(ch, SYNTHVID_FEATURES, 4);
}

static void end(struct rig *r, struct device d)
{
    d.ops->destroy(d.self);
    rig_end(r);
}

static void look(struct console *c, uint32_t *w, uint32_t *h, uint32_t *pixel)
{
    struct console_surface s;
    console_surface_now(c, &s);
    *w = s.width;
    *h = s.height;
    *pixel = 0;
    if (s.fd < 0)
        return;
    CHECK(pread(s.fd, pixel, 4, (off_t)s.offset) == 4);
    close(s.fd);
}

static void boot_framebuffer_then_the_guests_own(void)
{
    uint32_t w, h, pixel, red = 0xff0000, green = 0xff00;
    struct device d = start(&rig);
    CHECK(hv_memory_write(rig.g->memory, BOOT_GPA, &red, 4));
    look(rig.console, &w, &h, &pixel);
    CHECK(w == 1024 && h == 768 && pixel == red);
    struct fake_channel *ch = agree(&rig, SYNTHVID_3_5);
    place(ch, VRAM_GPA);
    CHECK(!hv_memory_write(rig.g->memory, BOOT_GPA, &red, 4));
    CHECK(hv_memory_write(rig.g->memory, VRAM_GPA, &green, 4));
    look(rig.console, &w, &h, &pixel);
    CHECK_EQ(w, 0);
    set_mode(ch, 1280, 800, 1280 * 4);
    look(rig.console, &w, &h, &pixel);
    CHECK(w == 1280 && h == 800 && pixel == green);
    set_mode(ch, 640, 480, 640 * 4);
    look(rig.console, &w, &h, &pixel);
    CHECK(w == 640 && h == 480);
    /* kexec: the driver goes, the framebuffer is back. */
    CHECK(fake_close(ch));
    look(rig.console, &w, &h, &pixel);
    CHECK(w == 1024 && pixel == red);
    CHECK(!hv_memory_write(rig.g->memory, VRAM_GPA, &green, 4));
    CHECK(hv_memory_write(rig.g->memory, BOOT_GPA, &red, 4));
    end(&rig, d);
}

static void video_memory_may_lie_over_the_boot_framebuffer(void)
{
    uint32_t red = 0xff0000;
    struct device d = start(&rig);
    struct fake_channel *ch = agree(&rig, SYNTHVID_3_2);
    place(ch, BOOT_GPA);
    CHECK(hv_memory_write(rig.g->memory, BOOT_GPA + (MIBS << 20) - 4, &red, 4));
    place(ch, VRAM_GPA); /* and move */
    CHECK(!hv_memory_write(rig.g->memory, BOOT_GPA, &red, 4));
    CHECK(fake_close(ch));
    end(&rig, d);
}

static void resolutions_fit_the_memory(void)
{
    struct resolution list[SYNTHVID_MAX_RESOLUTIONS];
    unsigned preferred, n = resolutions_list(MIBS << 20, 1280, 800, list, &preferred);
    CHECK_EQ(list[preferred].width, 1280);
    CHECK_EQ(list[preferred].height, 800);
    for (unsigned i = 0; i < n; i++) {
        CHECK(list[i].width * list[i].height * 4u <= MIBS << 20);
        for (unsigned k = 0; k < i; k++)
            CHECK(list[i].width != list[k].width || list[i].height != list[k].height);
    }
    n = resolutions_list(128 << 20, 1919, 1000, list, &preferred);
    CHECK_EQ(list[n - 1].width, 7680);
    CHECK_EQ(list[n - 1].height, 4320);
    CHECK_EQ(list[preferred].width, 1919);
    uint8_t edid[SYNTHVID_EDID], sum = 0;
    for (unsigned i = 0; i < n; i++) {
        resolutions_edid(&list[i], edid);
        for (unsigned k = sum = 0; k < SYNTHVID_EDID; k++)
            sum = (uint8_t)(sum + edid[k]);
        CHECK_EQ(sum, 0);
    }
    struct device d = start(&rig);
    struct fake_channel *ch = agree(&rig, SYNTHVID_3_5);
    uint8_t max = 64;
    tell(ch, SYNTHVID_RESOLUTIONS_REQUEST, &max, 1);
    const uint8_t *b = expect(ch, SYNTHVID_RESOLUTIONS, 131 + 4);
    CHECK(b[128] > 10 && b[129] < b[128]);
    CHECK_EQ(get_le16(b + 131 + b[129] * 4), 1280);
    CHECK_EQ(get_le16(b + 133 + b[129] * 4), 800);
    CHECK(fake_close(ch));
    end(&rig, d);
}

static void wake(void *ctx)
{
}

static void dirt_is_asked_for_while_someone_looks(void)
{
    struct console_update u;
    struct device d = start(&rig);
    struct fake_channel *ch = agree(&rig, SYNTHVID_3_5);
    place(ch, VRAM_GPA);
    set_mode(ch, 800, 600, 3200);
    struct console_listener *l = console_listen(rig.console, wake, NULL);
    CHECK_EQ(expect(ch, SYNTHVID_FEATURES, 4)[0], 1);
    while (console_take(l, &u))
        console_update_clear(&u);
    struct {
        struct synthvid_dirt head;
        struct synthvid_rect r[2];
    } __attribute__((packed)) m = {{0, 2}, {{10, 20, 30, 40}, {790, 590, 5000, 5000}}};
    tell(ch, SYNTHVID_DIRT, &m, sizeof m);
    fake_settle(rig.g);
    CHECK(console_take(l, &u));
    CHECK_EQ(u.nrects, 2);
    CHECK(u.rects[0].x == 10 && u.rects[0].y == 20 && u.rects[0].width == 20);
    CHECK(u.rects[1].width == 10 && u.rects[1].height == 10);
    console_update_clear(&u);
    console_unlisten(l);
    CHECK_EQ(expect(ch, SYNTHVID_FEATURES, 4)[0], 0);
    CHECK(fake_close(ch));
    end(&rig, d);
}

static void impossible_modes_are_refused(void)
{
    static const struct {
        uint32_t w, h, pitch, offset;
        uint8_t depth;
    } bad[] = {
        {4000, 4000, 16000, 0, 32},    {800, 600, 3100, 0, 32},
        {800, 600, 3200, 7 << 20, 32}, {0, 600, 3200, 0, 32},
        {800, 600, 3200, 0, 24},       {8000, 100, 32000, 0, 32},
        {800, 600, 0xfffffffc, 0, 32}, {800, 600, 3200, 0xfffff000, 32},
    };
    uint32_t w, h, pixel;
    struct device d = start(&rig);
    struct fake_channel *ch = agree(&rig, SYNTHVID_3_5);
    place(ch, VRAM_GPA);
    set_mode(ch, 800, 600, 3200);
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        struct synthvid_situation m = {.count = 1,
                                       .active = 1,
                                       .offset = bad[i].offset,
                                       .depth = bad[i].depth,
                                       .width = bad[i].w,
                                       .height = bad[i].h,
                                       .pitch = bad[i].pitch};
        tell(ch, SYNTHVID_SITUATION, &m, sizeof m);
        expect(ch, SYNTHVID_SITUATION_ACK, 8);
        expect(ch, SYNTHVID_FEATURES, 4);
        look(rig.console, &w, &h, &pixel);
        CHECK(w == 800 && h == 600);
    }
    /* A place that is not free: over the guest's own RAM. */
    struct synthvid_vram_location m = {.user_ctx = 1, .specified = 1, .gpa = 0};
    tell(ch, SYNTHVID_VRAM_LOCATION, &m, sizeof m);
    fake_settle(rig.g);
    struct fake_packet p;
    CHECK(!fake_poll(ch, &p));
    CHECK(fake_close(ch));
    end(&rig, d);
}

static void pointer_shapes_come_whole_and_in_parts(void)
{
    struct console_update u;
    struct device d = start(&rig);
    struct fake_channel *ch = agree(&rig, SYNTHVID_3_5);
    struct {
        struct synthvid_pointer_shape head;
        uint8_t data[256];
    } __attribute__((packed)) m = {.head = {SYNTHVID_SHAPE_COMPLETE, 1, 8, 8, 3, 4}};
    memset(m.data, 0x11, sizeof m.data);
    tell(ch, SYNTHVID_POINTER_SHAPE, &m, sizeof m);
    struct synthvid_pointer_position pos = {1, 0, 44, -2};
    tell(ch, SYNTHVID_POINTER_POSITION, &pos, sizeof pos);
    fake_settle(rig.g);
    struct console_listener *l = console_listen(rig.console, wake, NULL);
    CHECK(console_take(l, &u));
    CHECK(u.shape.width == 8 && u.shape.hot_y == 4 && u.shape.argb[255] == 0x11);
    CHECK(u.pointer.visible && u.pointer.x == 44 && u.pointer.y == -2);
    console_update_clear(&u);
    /* The same size without alpha, in two parts. */
    m.head.part = 0;
    m.head.argb = 0;
    for (unsigned i = 0; i < 192; i++)
        m.data[i] = (uint8_t)i;
    tell(ch, SYNTHVID_POINTER_SHAPE, &m, sizeof m.head + 100);
    fake_settle(rig.g);
    CHECK(!console_take(l, &u));
    m.head.part = SYNTHVID_SHAPE_COMPLETE;
    memmove(m.data, m.data + 100, 92);
    tell(ch, SYNTHVID_POINTER_SHAPE, &m, sizeof m.head + 92);
    fake_settle(rig.g);
    CHECK(console_take(l, &u));
    CHECK(u.shape.argb[63 * 4] == 189 && u.shape.argb[63 * 4 + 3] == 0xff);
    console_update_clear(&u);
    m.head.width = 97;
    tell(ch, SYNTHVID_POINTER_SHAPE, &m, sizeof m);
    fake_settle(rig.g);
    CHECK(!console_take(l, &u));
    console_unlisten(l);
    CHECK(fake_close(ch));
    end(&rig, d);
}

static void a_screen_moves(void)
{
    struct rig to;
    uint32_t w, h, pixel, blue = 0xff;
    struct device d = start(&rig);
    struct fake_channel *ch = agree(&rig, SYNTHVID_3_5);
    place(ch, VRAM_GPA);
    set_mode(ch, 800, 600, 3200);
    CHECK(hv_memory_write(rig.g->memory, VRAM_GPA, &blue, 4));
    struct device d2 = start(&to);
    CHECK(rig_move(&rig, d, &to, d2, ch));
    look(to.console, &w, &h, &pixel);
    CHECK(w == 800 && h == 600 && pixel == blue);
    expect(ch, SYNTHVID_FEATURES, 4);
    set_mode(ch, 1024, 768, 4096);
    CHECK(hv_memory_write(to.g->memory, VRAM_GPA, &blue, 4));
    CHECK(fake_close(ch));
    end(&rig, d);
    end(&to, d2);
}

static const struct check_test tests[] = {
    CHECK_TEST(boot_framebuffer_then_the_guests_own),
    CHECK_TEST(video_memory_may_lie_over_the_boot_framebuffer),
    CHECK_TEST(resolutions_fit_the_memory),
    CHECK_TEST(dirt_is_asked_for_while_someone_looks),
    CHECK_TEST(impossible_modes_are_refused),
    CHECK_TEST(pointer_shapes_come_whole_and_in_parts),
    CHECK_TEST(a_screen_moves),
};
CHECK_MAIN(tests)
