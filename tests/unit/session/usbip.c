/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The USB/IP connection against a device that the test plays, by the bytes that vhci_hcd would
 * send. */
#include "session/usb/usbip.h"

#include "check.h"

#include <errno.h>

#define DEVID 0x10002u

struct rig {
    usbip *link;
    struct usbip_urb *urb[USBIP_HELD_MAX];
    guint urbs;
    struct usbip_urb *cancelled;
    bool complete_cancels;
};

static void on_submit(void *ctx, struct usbip_urb *urb)
{
    struct rig *r = ctx;
    r->urb[r->urbs++ % USBIP_HELD_MAX] = urb;
}

static void on_cancel(void *ctx, struct usbip_urb *urb)
{
    struct rig *r = ctx;
    r->cancelled = urb;
    if (r->complete_cancels) {
        urb->status = -ECONNRESET;
        usbip_complete(r->link, urb);
    }
}

static void set_up(struct rig *r)
{
    static const struct usbip_ops ops = {on_submit, on_cancel};
    *r = (struct rig){.complete_cancels = true};
    r->link = usbip_new(DEVID, &ops, r);
}

static void tear_down(struct rig *r)
{
    r->complete_cancels = true;
    usbip_cancel_all(r->link);
    CHECK_EQ(usbip_held(r->link), 0);
    usbip_free(r->link);
}

/* Feeds bytes in pieces of at most `piece`; FALSE when the connection is to end. */
static gboolean feed_pieces(struct rig *r, const void *data, gsize size, gsize piece)
{
    const guint8 *from = data;
    while (size > 0) {
        guint8 *to;
        gsize want = usbip_input(r->link, &to);
        const char *why;
        want = MIN(MIN(want, size), piece);
        CHECK(want > 0);
        if (want == 0)
            return FALSE;
        memcpy(to, from, want);
        if (!usbip_input_done(r->link, want, &why)) {
            CHECK(why != NULL);
            return FALSE;
        }
        from += want;
        size -= want;
    }
    return TRUE;
}

static gboolean feed(struct rig *r, const void *data, gsize size)
{
    return feed_pieces(r, data, size, G_MAXSIZE);
}

static struct usbip_command submit(guint32 seqnum, guint endpoint, bool in, gint32 length,
                                   guint32 packets)
{
    return (struct usbip_command){
        .command = GUINT32_TO_BE(USBIP_CMD_SUBMIT),
        .seqnum = GUINT32_TO_BE(seqnum),
        .devid = GUINT32_TO_BE(DEVID),
        .direction = GUINT32_TO_BE(in ? USBIP_DIR_IN : USBIP_DIR_OUT),
        .endpoint = GUINT32_TO_BE(endpoint),
        .submit = {.length = (gint32)GUINT32_TO_BE((guint32)length),
                   .packets = GUINT32_TO_BE(packets)},
    };
}

static struct usbip_command take_back(guint32 seqnum, guint32 of)
{
    return (struct usbip_command){
        .command = GUINT32_TO_BE(USBIP_CMD_UNLINK),
        .seqnum = GUINT32_TO_BE(seqnum),
        .devid = GUINT32_TO_BE(DEVID),
        .unlink = {.seqnum = GUINT32_TO_BE(of)},
    };
}

/* All that is to be sent, taken in pieces of `piece`. */
static GByteArray *drain(struct rig *r, gsize piece)
{
    GByteArray *all = g_byte_array_new();
    struct iovec iov[3];
    while (usbip_output(r->link, iov, 3) > 0) {
        gsize n = MIN(iov[0].iov_len, piece);
        g_byte_array_append(all, iov[0].iov_base, (guint)n);
        usbip_output_done(r->link, n);
    }
    return all;
}

/* The header at `at`, in the host's byte order. */
static struct usbip_reply header(GByteArray *bytes, gsize at)
{
    struct usbip_reply h = {0};
    CHECK(at + sizeof h <= bytes->len);
    if (at + sizeof h <= bytes->len)
        memcpy(&h, bytes->data + at, sizeof h);
    h.command = GUINT32_FROM_BE(h.command);
    h.seqnum = GUINT32_FROM_BE(h.seqnum);
    h.status = (gint32)GUINT32_FROM_BE((guint32)h.status);
    h.actual_length = (gint32)GUINT32_FROM_BE((guint32)h.actual_length);
    h.packets = GUINT32_FROM_BE(h.packets);
    h.error_count = (gint32)GUINT32_FROM_BE((guint32)h.error_count);
    return h;
}

static void complete(struct rig *r, struct usbip_urb *urb, gint32 status, guint32 length)
{
    urb->status = status;
    urb->actual_length = length;
    usbip_complete(r->link, urb);
}

static void bulk_out_and_in(void)
{
    struct rig r;
    set_up(&r);
    struct usbip_command c = submit(7, 2, false, 5, 0);
    CHECK(feed_pieces(&r, &c, sizeof c, 11));
    CHECK_EQ(r.urbs, 0);
    CHECK(feed_pieces(&r, "hello", 5, 2));
    CHECK_EQ(r.urbs, 1);
    CHECK(!r.urb[0]->in && r.urb[0]->endpoint == 2 && memcmp(r.urb[0]->data, "hello", 5) == 0);
    c = submit(8, 2, true, 512, USBIP_NOT_ISOCHRONOUS);
    CHECK(feed(&r, &c, sizeof c));
    CHECK_EQ(r.urbs, 2);
    memcpy(r.urb[1]->data, "world!", 6);
    complete(&r, r.urb[1], 0, 6);
    complete(&r, r.urb[0], -EPIPE, 0);
    g_autoptr(GByteArray) out = drain(&r, 7);
    CHECK_EQ(out->len, 48 + 6 + 48);
    struct usbip_reply first = header(out, 0), second = header(out, 54);
    CHECK_EQ(first.command, USBIP_RET_SUBMIT);
    CHECK_EQ(first.seqnum, 8);
    CHECK_EQ(first.actual_length, 6);
    CHECK(memcmp(out->data + 48, "world!", 6) == 0);
    CHECK_EQ(second.seqnum, 7);
    CHECK_EQ(second.status, -EPIPE);
    tear_down(&r);
}

static void control_brings_its_setup(void)
{
    struct rig r;
    set_up(&r);
    struct usbip_command c = submit(1, 0, true, 18, 0);
    memcpy(c.submit.setup, "\x80\x06\x00\x01\x00\x00\x12\x00", 8);
    CHECK(feed(&r, &c, sizeof c));
    CHECK(memcmp(r.urb[0]->setup, c.submit.setup, 8) == 0);
    CHECK(memcmp(r.urb[0]->data - 8, c.submit.setup, 8) == 0);
    tear_down(&r);
}

static void unlink_before_and_after(void)
{
    struct rig r;
    set_up(&r);
    struct usbip_command c = submit(1, 1, true, 64, 0), u = take_back(2, 1);
    CHECK(feed(&r, &c, sizeof c) && feed(&r, &u, sizeof u));
    CHECK(r.cancelled != NULL);
    g_autoptr(GByteArray) out = drain(&r, 4096);
    CHECK_EQ(out->len, 48); /* no RET_SUBMIT */
    CHECK_EQ(header(out, 0).command, USBIP_RET_UNLINK);
    CHECK_EQ(header(out, 0).seqnum, 2);
    CHECK_EQ(header(out, 0).status, -ECONNRESET);

    /* The result was quicker than the cancel: RET_SUBMIT first, then an unlink that came too late.
     */
    r.complete_cancels = false;
    c = submit(3, 1, true, 64, 0);
    u = take_back(4, 3);
    CHECK(feed(&r, &c, sizeof c) && feed(&r, &u, sizeof u));
    complete(&r, r.urb[1], 0, 64);
    g_autoptr(GByteArray) late = drain(&r, 4096);
    CHECK_EQ(late->len, 48 + 64 + 48);
    CHECK_EQ(header(late, 0).command, USBIP_RET_SUBMIT);
    CHECK_EQ(header(late, 112).command, USBIP_RET_UNLINK);
    CHECK_EQ(header(late, 112).status, 0);

    u = take_back(6, 99);
    CHECK(feed(&r, &u, sizeof u));
    g_autoptr(GByteArray) none = drain(&r, 4096);
    CHECK_EQ(none->len, 48);
    CHECK_EQ(header(none, 0).status, 0);
    tear_down(&r);
}

static void packets_in(struct usbip_packet *wire, guint n, guint32 step, guint32 length)
{
    for (guint i = 0; i < n; i++)
        wire[i] = (struct usbip_packet){.offset = GUINT32_TO_BE(i * step),
                                        .length = GUINT32_TO_BE(length)};
}

static void isochronous_in_is_packed(void)
{
    struct rig r;
    set_up(&r);
    struct usbip_packet wire[3];
    struct usbip_command c = submit(5, 3, true, 300, 3);
    packets_in(wire, 3, 100, 100);
    CHECK(feed(&r, &c, sizeof c) && feed_pieces(&r, wire, sizeof wire, 5));
    CHECK_EQ(r.urbs, 1);
    struct usbip_urb *u = r.urb[0];
    CHECK_EQ(u->packets, 3);
    memset(u->data, 'a', 100);
    memset(u->data + 100, 'b', 100);
    memset(u->data + 200, 'c', 100);
    u->packet[0].actual_length = 10;
    u->packet[1].status = -EXDEV;
    u->packet[2].actual_length = 20;
    complete(&r, u, 0, 0);
    g_autoptr(GByteArray) out = drain(&r, 4096);
    CHECK_EQ(out->len, 48 + 30 + sizeof wire);
    struct usbip_reply h = header(out, 0);
    CHECK_EQ(h.actual_length, 30);
    CHECK_EQ(h.packets, 3);
    CHECK_EQ(h.error_count, 1);
    CHECK(out->data[48] == 'a' && out->data[57] == 'a' && out->data[58] == 'c' &&
          out->data[77] == 'c');
    struct usbip_packet last;
    memcpy(&last, out->data + 78 + 32, sizeof last);
    CHECK_EQ(GUINT32_FROM_BE(last.offset), 200);
    CHECK_EQ(GUINT32_FROM_BE(last.actual_length), 20);
    tear_down(&r);
}

static void isochronous_out_closes_gaps(void)
{
    struct rig r;
    set_up(&r);
    struct usbip_packet wire[2];
    guint8 data[100];
    struct usbip_command c = submit(5, 3, false, 100, 2);
    packets_in(wire, 2, 50, 10);
    memset(data, '.', sizeof data);
    memset(data, 'a', 10);
    memset(data + 50, 'b', 10);
    CHECK(feed(&r, &c, sizeof c) && feed(&r, data, sizeof data) && feed(&r, wire, sizeof wire));
    CHECK_EQ(r.urbs, 1);
    CHECK(memcmp(r.urb[0]->data, "aaaaaaaaaabbbbbbbbbb", 20) == 0);
    tear_down(&r);
}

static void packets_that_lie(void)
{
    static const struct usbip_packet lies[] = {{.offset = 90, .length = 20},
                                               {.offset = 0xffffffff, .length = 1},
                                               {.offset = 0, .length = 101}};
    struct rig r;
    set_up(&r);
    for (guint i = 0; i < G_N_ELEMENTS(lies); i++) {
        struct usbip_command c = submit(i, 3, true, 100, 1);
        struct usbip_packet wire = {GUINT32_TO_BE(lies[i].offset), GUINT32_TO_BE(lies[i].length), 0,
                                    0};
        CHECK(feed(&r, &c, sizeof c) && feed(&r, &wire, sizeof wire));
        g_autoptr(GByteArray) out = drain(&r, 4096);
        CHECK_EQ(out->len, 48);
        CHECK_EQ(header(out, 0).status, -EINVAL);
    }
    /* Each fits, together they do not. */
    struct usbip_packet wire[2] = {{0, GUINT32_TO_BE(60), 0, 0}, {0, GUINT32_TO_BE(60), 0, 0}};
    struct usbip_command c = submit(9, 3, true, 100, 2);
    CHECK(feed(&r, &c, sizeof c) && feed(&r, wire, sizeof wire));
    CHECK_EQ(r.urbs, 0);
    tear_down(&r);
}

static void too_much_is_refused_and_skipped(void)
{
    struct rig r;
    set_up(&r);
    struct usbip_command c = submit(1, 2, false, USBIP_URB_BYTES_MAX + 1, 0);
    CHECK(feed(&r, &c, sizeof c));
    g_autofree guint8 *data = g_malloc0(USBIP_URB_BYTES_MAX + 1);
    CHECK(feed(&r, data, USBIP_URB_BYTES_MAX + 1));
    /* The stream is still in step. */
    c = submit(2, 2, true, 4, 0);
    CHECK(feed(&r, &c, sizeof c));
    CHECK_EQ(r.urbs, 1);
    g_autoptr(GByteArray) out = drain(&r, 4096);
    CHECK_EQ(header(out, 0).seqnum, 1);
    CHECK_EQ(header(out, 0).status, -ENOMEM);

    /* Four of the largest fill what a guest may have; the fifth is refused. */
    for (guint i = 0; i < 5; i++) {
        c = submit(10 + i, 2, true, USBIP_URB_BYTES_MAX - 4096, 0);
        CHECK(feed(&r, &c, sizeof c));
    }
    CHECK_EQ(usbip_held(r.link), 1 + 4);
    tear_down(&r);
}

static void a_guest_that_reads_nothing_waits(void)
{
    struct rig r;
    set_up(&r);
    guint8 *to;
    guint sent = 0;
    for (; sent < 100000 && usbip_input(r.link, &to) > 0; sent++) {
        struct usbip_command u = take_back(sent, 1u << 30);
        CHECK(feed(&r, &u, sizeof u));
    }
    CHECK(sent < 2000);
    g_autoptr(GByteArray) out = drain(&r, 4096);
    CHECK_EQ(out->len, sent * 48);
    CHECK(usbip_input(r.link, &to) > 0);
    tear_down(&r);
}

static void what_breaks_the_protocol_ends_it(void)
{
    struct usbip_command bad[] = {submit(1, 16, true, 4, 0), submit(1, 1, true, -1, 0),
                                  submit(1, 1, true, 4, USBIP_PACKETS_MAX + 1),
                                  submit(1, 1, true, 4, 0), submit(1, 1, true, 4, 0)};
    bad[3].devid = 0;
    bad[4].command = GUINT32_TO_BE(USBIP_RET_SUBMIT);
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct rig r;
        set_up(&r);
        CHECK(!feed(&r, &bad[i], sizeof bad[i]));
        CHECK_EQ(r.urbs, 0);
        tear_down(&r);
    }
}

static void cancel_all_waits_for_the_slow(void)
{
    struct rig r;
    set_up(&r);
    for (guint i = 0; i < 3; i++) {
        struct usbip_command c = submit(i, 1, true, 64, 0);
        CHECK(feed(&r, &c, sizeof c));
    }
    struct usbip_command half = submit(9, 1, false, 64, 0);
    CHECK(feed(&r, &half, sizeof half));
    r.complete_cancels = false;
    usbip_cancel_all(r.link);
    CHECK_EQ(usbip_held(r.link), 3);
    guint8 *to;
    CHECK_EQ(usbip_input(r.link, &to), 0);
    for (guint i = 0; i < 3; i++)
        complete(&r, r.urb[i], 0, 64);
    struct iovec iov[3];
    CHECK_EQ(usbip_output(r.link, iov, 3), 0);
    tear_down(&r);
}

static const struct check_test tests[] = {
    CHECK_TEST(bulk_out_and_in),
    CHECK_TEST(control_brings_its_setup),
    CHECK_TEST(unlink_before_and_after),
    CHECK_TEST(isochronous_in_is_packed),
    CHECK_TEST(isochronous_out_closes_gaps),
    CHECK_TEST(packets_that_lie),
    CHECK_TEST(too_much_is_refused_and_skipped),
    CHECK_TEST(a_guest_that_reads_nothing_waits),
    CHECK_TEST(what_breaks_the_protocol_ends_it),
    CHECK_TEST(cancel_all_waits_for_the_slow),
};
CHECK_MAIN(tests)
