/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The 21140 as a driver uses it, on a private switch with another port. */
#include <stdlib.h>
#include <unistd.h>

#include "board.h"
#include "core/chipset/tulip-rom.h"
#include "core/chipset/tulip.h"

enum { PORT = 0xc100, SLOT = 10, TX = 0x1000, RX = 0x2000, SETUP = 0x3000, DATA = 0x4000 };
enum { OWN_TX_LAST = 0x40000000, TX_FIRST = 0x20000000, TX_SETUP = 0x08000000, RING_END = 1 << 25 };
#define OWN 0x80000000u
#define DONE_IRQ 0x80000000u

static const uint8_t own_mac[6] = {0x02, 0x15, 0x5d, 1, 2, 3}, peer_mac[6] = {2, 0, 0, 0, 0, 9};

struct rig {
    struct board b;
    struct net_port *peer;
    struct tulip *tulip;
    struct device dev;
    uint8_t got[2048];
    unsigned frames;
    uint32_t len;
    char folder[32];
};

static bool peer_takes(void *ctx, const struct net_packet *p)
{
    struct rig *r = ctx;
    r->frames++;
    r->len = p->len;
    memcpy(r->got, p->data, MIN(p->len, sizeof r->got));
    return true;
}
static void nothing(void *ctx)
{
}
static void link_nothing(void *ctx, bool up)
{
}
static const struct net_adapter_ops peer_ops = {
    .deliver = peer_takes, .send_again = nothing, .link = link_nothing};

static void turn(struct rig *r)
{
    for (unsigned i = 0; i < 20 && loop_turn(r->b.f.env.loop, 0); i++)
        ;
}

static struct net_port *make_port(struct rig *r, const uint8_t mac[6])
{
    struct net_port_params p = {.loop = r->b.f.env.loop};
    memcpy(p.mac, mac, 6);
    struct net_port *port = net_port_new(&p, NULL);
    CHECK(port && net_port_plug_private(port, r->folder, NULL));
    net_port_set_cable(port, true);
    return port;
}

static void init(struct rig *r)
{
    *r = (struct rig){.folder = "/tmp/tulip-XXXXXX"};
    board_init(&r->b);
    CHECK(mkdtemp(r->folder) != NULL);
    r->peer = make_port(r, peer_mac);
    net_port_attach(r->peer, &peer_ops, r);
    net_port_start(r->peer);
    r->tulip = tulip_new(&(struct tulip_params){.env = &r->b.f.env,
                                                .bus = r->b.bus,
                                                .memory = r->b.memory,
                                                .port = make_port(r, own_mac),
                                                .slot = SLOT},
                         NULL);
    CHECK(r->tulip != NULL);
    r->dev = tulip_device(r->tulip);
    r->dev.ops->start(r->dev.self);
    config_out(&r->b, SLOT, 0, PCI_BAR, PORT);
    config_out(&r->b, SLOT, 0, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
    config_out(&r->b, LAYOUT_PCI_ISA, 0, 0x60, 0x0a0a0a0a);
}

static void end(struct rig *r)
{
    char command[64];
    r->dev.ops->destroy(r->dev.self);
    net_port_free(r->peer);
    board_end(&r->b);
    snprintf(command, sizeof command, "rm -rf %s", r->folder);
    CHECK_EQ(system(command), 0);
}

static uint32_t csr(struct rig *r, unsigned n)
{
    return in32(&r->b.f, (uint16_t)(PORT + n * 8));
}
static void set_csr(struct rig *r, unsigned n, uint32_t v)
{
    out32(&r->b.f, (uint16_t)(PORT + n * 8), v);
}
static void put(struct rig *r, uint32_t at, uint32_t v)
{
    uint8_t b[4];
    put_le32(b, v);
    CHECK(hv_memory_write(r->b.memory, at, b, 4));
}
static uint32_t get(struct rig *r, uint32_t at)
{
    uint8_t b[4];
    CHECK(hv_memory_read(r->b.memory, at, b, 4));
    return get_le32(b);
}
static void descriptor(struct rig *r, uint32_t at, uint32_t status, uint32_t control, uint32_t a,
                       uint32_t b)
{
    put(r, at + 4, control);
    put(r, at + 8, a);
    put(r, at + 12, b);
    put(r, at, status);
}

/* ---- CSR9, as Linux's driver speaks to it ---- */

static uint16_t rom_word(struct rig *r, unsigned at)
{
    enum { ENABLE = 0x4801, CLOCK = 2, BIT = 4, BITS = 6 };
    unsigned command = at | 6u << BITS;
    uint16_t v = 0;
    set_csr(r, 9, ENABLE & ~1u);
    set_csr(r, 9, ENABLE);
    for (int i = 4 + BITS; i >= 0; i--) {
        unsigned bit = command >> i & 1 ? BIT : 0;
        set_csr(r, 9, ENABLE | bit);
        set_csr(r, 9, ENABLE | bit | CLOCK);
    }
    CHECK(!(csr(r, 9) & 8)); /* the 0 before the word */
    set_csr(r, 9, ENABLE);
    for (int i = 0; i < 16; i++) {
        set_csr(r, 9, ENABLE | CLOCK);
        v = (uint16_t)(v << 1 | (csr(r, 9) >> 3 & 1));
        set_csr(r, 9, ENABLE);
    }
    set_csr(r, 9, ENABLE & ~1u);
    return v;
}

static uint16_t mii(struct rig *r, unsigned phy, unsigned reg, bool write, uint16_t value)
{
    enum { CLOCK = 1 << 16, BIT = 1 << 17, IN = 1 << 18 };
    uint32_t command =
        (write ? 0x50020000u : 0x60000000u) | phy << 23 | reg << 18 | (write ? value : 0);
    uint32_t v = 0;
    for (int i = 0; i < 32; i++) {
        set_csr(r, 9, BIT);
        set_csr(r, 9, BIT | CLOCK);
    }
    for (int i = 31; i >= (write ? 0 : 18); i--) {
        uint32_t bit = command >> i & 1 ? BIT : 0;
        set_csr(r, 9, bit);
        set_csr(r, 9, bit | CLOCK);
    }
    for (int i = 0; !write && i < 19; i++) {
        set_csr(r, 9, IN);
        v = v << 1 | (csr(r, 9) >> 19 & 1);
        set_csr(r, 9, IN | CLOCK);
    }
    return (uint16_t)(v >> 1);
}

static void test_serial(struct rig *r)
{
    CHECK_EQ(config_in(&r->b, SLOT, 0, PCI_VENDOR), 0x00091011);
    CHECK_EQ(rom_word(r, 10), 0x1502); /* the address, bytes 20 to 25 */
    CHECK_EQ(rom_word(r, 11), 0x015d);
    CHECK_EQ(rom_word(r, 12), 0x0302);
    CHECK_EQ(rom_word(r, 9), 0x0103);
    CHECK_EQ(mii(r, 1, 2, false, 0), 0x2000);
    CHECK_EQ(mii(r, 2, 2, false, 0), 0xffff); /* no transceiver there */
    CHECK_EQ(mii(r, 1, 1, false, 0) & 4, 4);
    mii(r, 1, 4, true, 0x0101);
    CHECK_EQ(mii(r, 1, 4, false, 0), 0x0101);
    mii(r, 1, 0, true, 0x8000);
    CHECK_EQ(mii(r, 1, 4, false, 0), 0x01e1);
}

/* ---- frames ---- */

static void begin(struct rig *r)
{
    set_csr(r, 0, 1);
    CHECK_EQ(csr(r, 0), 0xfe000000);
    set_csr(r, 3, RX);
    set_csr(r, 4, TX);
    set_csr(r, 7, 0x1ffff);
}

/* The list of addresses, with an empty descriptor before it, as Linux does. */
static void send_setup(struct rig *r)
{
    uint8_t s[192];
    for (unsigned i = 0; i < 16; i++)
        for (unsigned k = 0; k < 6; k++)
            s[i * 12 + k / 2 * 4 + k % 2] = i ? 0xff : own_mac[k];
    CHECK(hv_memory_write(r->b.memory, SETUP, s, sizeof s));
    descriptor(r, TX, OWN, 0, 0, 0);
    descriptor(r, TX + 16, OWN, DONE_IRQ | TX_SETUP | RING_END | sizeof s, SETUP, 0);
    set_csr(r, 6, 1 << 13);
    turn(r);
    CHECK_EQ(get(r, TX), 0);
    CHECK_EQ(get(r, TX + 16), 0x7fffffff);
    CHECK_EQ(csr(r, 5) & 0x10005, 0x10005);
    CHECK(r->b.irq[10]);
    set_csr(r, 5, 0xffff);
    CHECK(!r->b.irq[10]);
}

static void fill(uint8_t *frame, uint32_t len, const uint8_t to[6], const uint8_t from[6])
{
    for (uint32_t i = 0; i < len; i++)
        frame[i] = (uint8_t)(i * 7);
    memcpy(frame, to, 6);
    memcpy(frame + 6, from, 6);
    frame[12] = 0x88;
    frame[13] = 0xb5;
}

static void test_send(struct rig *r)
{
    uint8_t frame[600];
    fill(frame, sizeof frame, peer_mac, own_mac);
    CHECK(hv_memory_write(r->b.memory, DATA, frame, sizeof frame));
    unsigned before = r->frames;
    /* Two descriptors, three buffers. The second descriptor comes later: nothing goes before. */
    descriptor(r, TX + 16, 0, 0, 0, 0);
    descriptor(r, TX, OWN, TX_FIRST | 100 | 200 << 11, DATA, DATA + 100);
    set_csr(r, 1, 1);
    turn(r);
    CHECK_EQ(r->frames, before);
    CHECK_EQ(get(r, TX), OWN);
    descriptor(r, TX + 16, OWN, DONE_IRQ | OWN_TX_LAST | RING_END | 300, DATA + 300, 0);
    set_csr(r, 1, 1);
    turn(r);
    CHECK_EQ(r->frames, before + 1);
    CHECK_EQ(r->len, sizeof frame);
    CHECK(!memcmp(r->got, frame, sizeof frame));
    CHECK_EQ(get(r, TX) & OWN, 0);
    CHECK_EQ(get(r, TX + 16) & OWN, 0);
    CHECK(csr(r, 5) & 1);
    set_csr(r, 5, 0xffff);
}

static void peer_sends(struct rig *r, const uint8_t to[6], uint32_t len)
{
    uint8_t frame[1514];
    fill(frame, len, to, peer_mac);
    CHECK_EQ(net_port_send(r->peer, &(struct net_packet){.data = frame, .len = len}), NET_SENT);
    turn(r);
}

static void test_receive(struct rig *r)
{
    static const uint8_t other[6] = {0x01, 0, 0x5e, 0, 0, 7};
    uint8_t got[204], want[200];
    descriptor(r, RX, OWN, 128, DATA, 0);
    descriptor(r, RX + 16, OWN, RING_END | 64 | 64 << 11, DATA + 128, DATA + 192);
    set_csr(r, 6, 1 << 13 | 2);
    peer_sends(r, other, 100); /* in no list */
    CHECK_EQ(get(r, RX), OWN);
    peer_sends(r, own_mac, 200);
    CHECK_EQ(get(r, RX), 0x200);
    CHECK_EQ(get(r, RX + 16) >> 16, 204);
    CHECK_EQ(get(r, RX + 16) & 0x8100, 0x100);
    CHECK(hv_memory_read(r->b.memory, DATA, got, sizeof got));
    fill(want, sizeof want, own_mac, peer_mac);
    CHECK(!memcmp(got, want, sizeof want));
    CHECK(csr(r, 5) & 1 << 6);
    /* No room: the frame waits, and comes when there is. */
    peer_sends(r, own_mac, 60);
    CHECK(csr(r, 5) & 1 << 7);
    descriptor(r, RX, OWN, 128, DATA, 0);
    descriptor(r, RX + 16, OWN, RING_END | 128, DATA + 128, 0);
    set_csr(r, 2, 1);
    turn(r);
    CHECK_EQ(get(r, RX) >> 16, 64);
    CHECK_EQ(get(r, RX) & 0x300, 0x300);
    set_csr(r, 5, 0xffff);
}

static void on_stopped(void *ctx)
{
}

static void test_state(struct rig *r)
{
    r->dev.ops->stop(r->dev.self, on_stopped, NULL);
    struct state_writer *w = state_writer_new();
    r->dev.ops->save(r->dev.self, w);
    size_t len;
    const uint8_t *data = state_writer_data(w, &len, NULL);
    struct state_reader reader = {.data = data, .len = len};
    r->dev.ops->reset(r->dev.self);
    CHECK_EQ(csr(r, 3), 0xffffffff); /* its ports are off */
    CHECK(r->dev.ops->restore(r->dev.self, &reader, NULL));
    r->dev.ops->start(r->dev.self);
    state_writer_free(w);
    CHECK_EQ(csr(r, 3), RX);
    peer_sends(r, own_mac, 70); /* the second of the ring, by the old filter */
    CHECK_EQ(get(r, RX + 16) >> 16, 74);
}

static void test_bad_memory(struct rig *r)
{
    set_csr(r, 4, 0xdffffff0);
    set_csr(r, 1, 1);
    turn(r);
    CHECK(csr(r, 5) & 1 << 13);
    CHECK_EQ(csr(r, 6) & (1 << 13 | 2), 0);
}

static void test_rom(void)
{
    size_t len;
    uint8_t *rom = tulip_rom(&len), sum = 0;
    CHECK(rom != NULL);
    CHECK_EQ(len, rom[2] * 512u);
    for (size_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + rom[i]);
    CHECK_EQ(sum, 0);
    CHECK(!memcmp(rom + get_le16(rom + 0x1a), "$PnP", 4));
    free(rom);
}

int main(void)
{
    struct rig r;
    init(&r);
    test_serial(&r);
    begin(&r);
    send_setup(&r);
    test_send(&r);
    test_receive(&r);
    test_state(&r);
    test_bad_memory(&r);
    end(&r);
    test_rom();
    return check_failures != 0;
}
