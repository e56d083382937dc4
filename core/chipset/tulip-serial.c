/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What is behind CSR9: the serial ROM (93C46: 64 words, read only here) and the MII transceiver. */
#include <string.h>

#include "core/base/bytes.h"
#include "core/chipset/tulip-int.h"

enum csr9 {
    ROM_SELECT = 1u << 0,
    ROM_CLOCK = 1u << 1,
    ROM_IN = 1u << 2,
    ROM_OUT = 1u << 3,
    SERIAL_ROM = 1u << 11,
    MII_CLOCK = 1u << 16,
    MII_OUT = 1u << 17,
    MII_READS = 1u << 18,
    MII_IN = 1u << 19,
};

/* ---- what the serial ROM says: version 3, one controller, an MII block ---- */

enum { MICROSOFT = 0x1414, SUBSYSTEM = 1, LEAF = 30, AUTOSENSE = 0x0800, PHY = 1 };
enum { ADVERTISE = 0x01e1, CAPABLE = 0x7800, FULL_DUPLEX = 0x5000, TTM = 0x1800 };

static uint16_t srom_crc(const uint8_t *b, size_t len)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < len; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            bool mix = ((b[i] >> bit) ^ crc) & 1;
            crc = crc >> 1 ^ (mix ? 0xedb88320u : 0);
        }
    return (uint16_t)~crc;
}

void tulip_srom_init(struct tulip *t, const uint8_t mac[6])
{
    uint8_t b[TULIP_SROM * 2] = {0};
    put_le16(b, MICROSOFT);
    put_le16(b + 2, SUBSYSTEM);
    b[18] = 3; /* the format's version */
    b[19] = 1; /* controllers */
    memcpy(b + 20, mac, 6);
    put_le16(b + 27, LEAF);
    uint8_t *p = b + LEAF;
    put_le16(p, AUTOSENSE);
    p[3] = 1;         /* blocks */
    p[4] = 0x80 | 13; /* extended, bytes that follow */
    p[5] = 1;         /* MII */
    p[6] = PHY;
    put_le16(p + 9, CAPABLE);
    put_le16(p + 11, ADVERTISE);
    put_le16(p + 13, FULL_DUPLEX);
    put_le16(p + 15, TTM);
    put_le16(b + 126, srom_crc(b, 126));
    for (unsigned i = 0; i < TULIP_SROM; i++)
        t->srom[i] = get_le16(b + i * 2);
}

/* ---- serial ROM: start bit, two bits of code, six of address; then a 0 and the word ---- */

enum { ROM_COMMAND = 9, ROM_READ = 2 };

static void rom_clocked(struct tulip *t, bool in)
{
    struct tulip_serial *s = &t->rom;
    if (s->bits < ROM_COMMAND) {
        if (!s->bits && !in)
            return;
        s->in = s->in << 1 | in;
        if (++s->bits < ROM_COMMAND)
            return;
        bool reads = (s->in >> 6 & 3) == ROM_READ;
        s->out = t->srom[s->in & (TULIP_SROM - 1)];
        s->data = !reads; /* the 0 that announces the word */
        if (!reads)
            s->out = 0xffff;
        return;
    }
    s->data = s->out >> 15;
    s->out = (uint16_t)(s->out << 1);
}

static void rom_write(struct tulip *t, uint32_t v)
{
    struct tulip_serial *s = &t->rom;
    bool clock = v & ROM_CLOCK;
    if (!(v & ROM_SELECT) || !(v & SERIAL_ROM)) {
        *s = (struct tulip_serial){.data = true, .clock = clock};
        return;
    }
    if (clock && !s->clock)
        rom_clocked(t, v & ROM_IN);
    s->clock = clock;
}

/* ---- the transceiver ---- */

enum { BMCR, BMSR, PHY_ID1, PHY_ID2, ANAR, ANLPAR, ANER };
enum { BMCR_RESET = 0x8000, BMCR_RESTART = 0x0200, BMCR_DEFAULT = 0x3100 };
enum { BMSR_LINK = 4, BMSR_DONE = 0x20, BMSR_CAPABLE = 0x7809, PARTNER = 0x41e1 };

static uint16_t mii_read(struct tulip *t, unsigned phy, unsigned reg)
{
    if (phy != PHY)
        return 0xffff;
    bool link = net_port_link(t->p.port);
    bool shown = link && !t->link_was_down;
    switch (reg) {
    case BMCR: return t->bmcr;
    case BMSR:
        t->link_was_down = false;
        return (uint16_t)(BMSR_CAPABLE | (shown ? BMSR_LINK : 0) | (link ? BMSR_DONE : 0));
    case PHY_ID1: return 0x2000; /* a National DP83840 */
    case PHY_ID2: return 0x5c01;
    case ANAR: return t->advertise;
    case ANLPAR: return link ? PARTNER : 0;
    case ANER: return link ? 1 : 0;
    default: return 0;
    }
}

static void mii_write(struct tulip *t, unsigned phy, unsigned reg, uint16_t v)
{
    if (phy != PHY)
        return;
    if (reg == BMCR && v & BMCR_RESET)
        tulip_mii_reset(t);
    else if (reg == BMCR)
        t->bmcr = v & (uint16_t)~BMCR_RESTART;
    else if (reg == ANAR)
        t->advertise = v;
}

void tulip_mii_reset(struct tulip *t)
{
    t->bmcr = BMCR_DEFAULT;
    t->advertise = ADVERTISE;
}

/* 01, code (10 reads), 5 bits of transceiver, 5 of register, two to turn around, 16 of data. */
enum { MII_HEADER = 14, MII_TURNED = 16, MII_END = 32 };

static void mii_clocked(struct tulip *t, bool in)
{
    struct tulip_serial *s = &t->mii;
    if (s->bits < 2) { /* a 0 and then a 1 is the start */
        s->bits = !in ? 1 : s->bits ? 2 : 0;
        s->in = 1;
        return;
    }
    s->in = s->in << 1 | in;
    s->bits++;
    if (s->bits == MII_HEADER) {
        bool reads = (s->in >> 10 & 3) == 2;
        s->out = reads ? mii_read(t, s->in >> 5 & 31, s->in & 31) : 0xffff;
        s->data = true;
    } else if (s->bits > MII_HEADER) {
        s->data = s->bits <= MII_HEADER + 1 ? false : s->out >> 15;
        if (s->bits > MII_HEADER + 1)
            s->out = (uint16_t)(s->out << 1 | 1);
    }
    if (s->bits < MII_END)
        return;
    if ((s->in >> 28 & 3) == 1)
        mii_write(t, s->in >> 23 & 31, s->in >> 18 & 31, (uint16_t)s->in);
    s->bits = 0;
}

static void mii_drive(struct tulip *t, uint32_t v)
{
    bool clock = v & MII_CLOCK;
    if (clock && !t->mii.clock)
        mii_clocked(t, v & MII_READS ? true : v & MII_OUT);
    t->mii.clock = clock;
}

/* ---- CSR9 ---- */

void tulip_serial_write(struct tulip *t, uint32_t v)
{
    t->csr[9] = v;
    rom_write(t, v);
    mii_drive(t, v);
}

uint32_t tulip_serial_read(const struct tulip *t)
{
    uint32_t v = t->csr[9] & ~(uint32_t)(ROM_OUT | MII_IN);
    return v | (t->rom.data ? ROM_OUT : 0) | (t->mii.data ? MII_IN : 0);
}

void tulip_serial_reset(struct tulip *t)
{
    t->rom = (struct tulip_serial){.data = true};
    t->mii = (struct tulip_serial){.data = true};
}
