/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Descriptor rings, address filter, and frames both ways. On the I/O thread. */
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/log.h"
#include "core/chipset/tulip-int.h"

enum { DESCRIPTOR = 16, FRAME_PARTS = 32, BURST = 64, LEAST_FRAME = 60, FCS = 4, HEADER = 14 };
enum { CSR0_SKIP_SHIFT = 2, CSR0_SKIP = 31 };
#define OWN 0x80000000u
enum tdes1 {
    T_END_OF_RING = 1u << 25,
    T_CHAINED = 1u << 24,
    T_FT0 = 1u << 22,
    T_SETUP = 1u << 27,
    T_FT1 = 1u << 28,
    T_FIRST = 1u << 29,
    T_LAST = 1u << 30,
};
#define T_INTERRUPT 0x80000000u
enum tdes0 { T_ERROR = 1u << 15, T_JABBER = 1u << 14 };
enum rdes0 { R_LAST = 1u << 8, R_FIRST = 1u << 9, R_MULTICAST = 1u << 10, R_TYPE = 1u << 5 };
enum rdes1 { R_CHAINED = 1u << 24, R_END_OF_RING = 1u << 25 };
enum { SIZE_MASK = 0x7ff, SIZE2_SHIFT = 11 };
enum { SETUP_DONE = 0x7fffffff };
enum filter { FILTER_HASH = 1, FILTER_INVERSE = 2 }; /* FT0, FT1; both: hash alone */
#define RETRY_NS 1000000u

struct descriptor {
    uint32_t at, status, control, buffer1, buffer2;
};

static bool fetch(struct tulip *t, uint32_t at, struct descriptor *d)
{
    uint8_t b[DESCRIPTOR];
    if (!hv_memory_read(t->p.memory, at, b, sizeof b))
        return false;
    *d = (struct descriptor){at, get_le32(b), get_le32(b + 4), get_le32(b + 8), get_le32(b + 12)};
    return true;
}

static bool give_back(struct tulip *t, const struct descriptor *d, uint32_t status)
{
    uint8_t b[4];
    put_le32(b, status & ~OWN);
    atomic_thread_fence(memory_order_release);
    return hv_memory_write(t->p.memory, d->at, b, sizeof b);
}

/* The bits that end and chain a ring are the same both ways. */
static uint32_t next_of(const struct tulip *t, const struct descriptor *d, uint32_t base)
{
    if (d->control & T_END_OF_RING)
        return base;
    if (d->control & T_CHAINED)
        return d->buffer2 & ~3u;
    return d->at + DESCRIPTOR + (t->csr[0] >> CSR0_SKIP_SHIFT & CSR0_SKIP) * 4;
}

static uint32_t size1(const struct descriptor *d)
{
    return d->control & SIZE_MASK;
}
static uint32_t size2(const struct descriptor *d)
{
    return d->control & T_CHAINED ? 0 : d->control >> SIZE2_SHIFT & SIZE_MASK;
}

/* ---- the address filter ---- */

static void setup_address(const struct tulip *t, unsigned at, uint8_t out[6])
{
    for (unsigned i = 0; i < 6; i++)
        out[i] = t->setup[at + i / 2 * 4 + i % 2];
}

static unsigned hash_of(const uint8_t mac[6])
{
    uint32_t crc = UINT32_MAX;
    for (unsigned i = 0; i < 6; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            bool mix = ((mac[i] >> bit) ^ crc) & 1;
            crc = crc >> 1 ^ (mix ? 0xedb88320u : 0);
        }
    return crc & 511;
}

static bool in_hash(const struct tulip *t, const uint8_t mac[6])
{
    unsigned h = hash_of(mac);
    return t->setup[h / 16 * 4 + h % 16 / 8] >> h % 8 & 1;
}

static bool in_list(const struct tulip *t, const uint8_t mac[6])
{
    uint8_t one[6];
    for (unsigned i = 0; i < 16; i++) {
        setup_address(t, i * 12, one);
        if (!memcmp(one, mac, 6))
            return true;
    }
    return false;
}

static bool passes(const struct tulip *t, const uint8_t mac[6])
{
    enum { PHYSICAL = 156 };
    bool multicast = mac[0] & 1;
    if ((t->csr[6] & (OM_PR | OM_RA)) || (multicast && (t->csr[6] & OM_PM)))
        return true;
    if (!t->filter_set)
        return false;
    if (!(t->filter & FILTER_HASH))
        return in_list(t, mac) == !(t->filter & FILTER_INVERSE);
    if (multicast || (t->filter & FILTER_INVERSE))
        return in_hash(t, mac);
    uint8_t own[6];
    setup_address(t, PHYSICAL, own);
    return !memcmp(own, mac, 6);
}

/* ---- to the guest; lock held ---- */

struct room {
    struct descriptor d[FRAME_PARTS];
    unsigned n;
    uint32_t bytes;
};

/* Finds descriptors for `len` bytes. False: there are not enough now. */
static bool find_room(struct tulip *t, uint32_t len, struct room *r)
{
    uint32_t at = t->rx_at;
    *r = (struct room){.n = 0};
    while (r->n < FRAME_PARTS && r->bytes < len) {
        struct descriptor *d = &r->d[r->n];
        if (!fetch(t, at, d)) {
            tulip_bus_error(t);
            return false;
        }
        if (!(d->status & OWN))
            return false;
        r->bytes += size1(d) + size2(d);
        r->n++;
        at = next_of(t, d, t->csr[3]);
    }
    return true;
}

static bool scatter(struct tulip *t, const struct room *r, const uint8_t *data, uint32_t len)
{
    uint32_t at = 0;
    for (unsigned i = 0; i < r->n; i++) {
        const struct descriptor *d = &r->d[i];
        uint32_t a = MIN(size1(d), len - at), b = MIN(size2(d), len - at - a);
        if ((a && !hv_memory_write(t->p.memory, d->buffer1, data + at, a)) ||
            (b && !hv_memory_write(t->p.memory, d->buffer2, data + at + a, b)))
            return false;
        at += a + b;
    }
    return true;
}

static uint32_t frame_check(const uint8_t *data, uint32_t len)
{
    static const uint32_t nibble[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac,
                                        0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
                                        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                        0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    uint32_t crc = UINT32_MAX;
    for (uint32_t i = 0; i < len; i++) {
        crc = crc >> 4 ^ nibble[(crc ^ data[i]) & 15];
        crc = crc >> 4 ^ nibble[(crc ^ data[i] >> 4) & 15];
    }
    return ~crc;
}

/* `data` has room for the padding and the check sequence. */
static bool receive(struct tulip *t, uint8_t *data, uint32_t len)
{
    struct room r;
    for (; len < LEAST_FRAME; len++)
        data[len] = 0;
    put_le32(data + len, frame_check(data, len));
    len += FCS;
    if (!find_room(t, len, &r)) {
        t->rx_waits = true;
        tulip_event(t, EV_RU);
        return false;
    }
    if (r.bytes < len) { /* a ring of crumbs: the frame is lost */
        t->missed++;
        return true;
    }
    uint32_t status = len << 16 | R_LAST | (data[0] & 1 ? R_MULTICAST : 0) |
                      ((data[12] << 8 | data[13]) > 1500 ? R_TYPE : 0);
    bool ok = scatter(t, &r, data, len);
    for (unsigned i = r.n; ok && i-- > 0;)
        ok = give_back(t, &r.d[i], (i + 1 == r.n ? status : 0) | (i == 0 ? R_FIRST : 0));
    if (!ok) {
        tulip_bus_error(t);
        return true;
    }
    t->rx_at = next_of(t, &r.d[r.n - 1], t->csr[3]);
    t->rx_waits = false;
    tulip_event(t, EV_RI);
    return true;
}

static bool listens(struct tulip *t, const uint8_t *data)
{
    return (t->csr[6] & OM_SR) && !(t->csr[6] & OM_LOOP) && passes(t, data) &&
           pci_is_master(&t->function);
}

/* There was no room: the next try, later each time while the guest does nothing. */
static void try_later(struct tulip *t)
{
    t->retry_due = chip_now(t->p.env) + ((uint64_t)RETRY_NS << MIN(t->retries, 6u));
    t->retries++;
    tulip_arm(t);
}

bool tulip_deliver(void *ctx, const struct net_packet *p)
{
    struct tulip *t = ctx;
    uint8_t data[TULIP_FRAME];
    bool ok = true;
    if (p->len < HEADER || p->len > TULIP_FRAME - FCS || p->tagged)
        return true;
    pthread_mutex_lock(&t->lock);
    if (listens(t, p->data)) {
        memcpy(data, p->data, p->len);
        ok = receive(t, data, p->len);
        if (ok)
            t->retries = 0;
        else
            try_later(t);
    }
    pthread_mutex_unlock(&t->lock);
    return ok;
}

/* ---- from the guest ---- */

struct outgoing {
    struct descriptor d[FRAME_PARTS];
    unsigned n;
    uint32_t len;
    bool too_long;
};

/* Lock held. */
static bool gather_part(struct tulip *t, struct outgoing *o, uint32_t at, uint32_t len)
{
    if (len > TULIP_FRAME - o->len) {
        o->too_long = true;
        return true;
    }
    if (len && !hv_memory_read(t->p.memory, at, t->frame + o->len, len))
        return false;
    o->len += len;
    return true;
}

/* Takes the setup frame, of which nothing goes out. Linux puts an empty descriptor before it. */
static bool take_setup(struct tulip *t, const struct outgoing *o)
{
    const struct descriptor *d = &o->d[o->n - 1];
    uint32_t len = MIN(size1(d), (uint32_t)TULIP_SETUP);
    if (!hv_memory_read(t->p.memory, d->buffer1, t->setup, len))
        return false;
    t->filter = (uint8_t)((d->control & T_FT0 ? FILTER_HASH : 0) |
                          (d->control & T_FT1 ? FILTER_INVERSE : 0));
    t->filter_set = true;
    bool ok = give_back(t, d, SETUP_DONE);
    for (unsigned i = o->n - 1; ok && i-- > 0;)
        ok = give_back(t, &o->d[i], 0);
    return ok;
}

enum found { NOTHING, SETUP, FRAME };

/* The next frame as a whole. A frame of which a part is not there yet waits. */
static enum found next_frame(struct tulip *t, struct outgoing *o)
{
    uint32_t at = t->tx_at;
    *o = (struct outgoing){.n = 0};
    do {
        struct descriptor *d = &o->d[o->n];
        if (!fetch(t, at, d)) {
            tulip_bus_error(t);
            return NOTHING;
        }
        if (!(d->status & OWN)) {
            t->tx_waits = true;
            tulip_event(t, EV_TU);
            return NOTHING;
        }
        o->n++;
        at = next_of(t, d, t->csr[4]);
        if (d->control & T_SETUP)
            return SETUP;
        if (!gather_part(t, o, d->buffer1, size1(d)) || !gather_part(t, o, d->buffer2, size2(d))) {
            tulip_bus_error(t);
            return NOTHING;
        }
    } while (!(o->d[o->n - 1].control & T_LAST) && o->n < FRAME_PARTS);
    o->too_long = o->too_long || !(o->d[o->n - 1].control & T_LAST);
    return FRAME;
}

static void finish(struct tulip *t, const struct outgoing *o)
{
    const struct descriptor *last = &o->d[o->n - 1];
    bool ok = true;
    for (unsigned i = o->n; ok && i-- > 0;)
        ok = give_back(t, &o->d[i], o->too_long && i + 1 == o->n ? T_ERROR | T_JABBER : 0);
    if (!ok) {
        tulip_bus_error(t);
        return;
    }
    t->tx_at = next_of(t, last, t->csr[4]);
    uint32_t events = last->control & T_INTERRUPT ? EV_TI : 0;
    tulip_event(t, events | (o->too_long ? EV_TJT : 0));
}

static bool may_send(struct tulip *t)
{
    return t->running && !t->blocked && (t->csr[6] & OM_ST) && !t->tx_waits &&
           pci_is_master(&t->function);
}

/* Lock held; the frame stays at home. */
static void loop_back(struct tulip *t, const struct outgoing *o)
{
    if ((t->csr[6] & OM_SR) && o->len >= HEADER && o->len <= TULIP_FRAME - FCS &&
        passes(t, t->frame))
        receive(t, t->frame, o->len);
}

/* Without the lock: an answer may come before this returns. */
static enum net_send put_out(struct tulip *t, const struct outgoing *o)
{
    uint32_t len = o->len;
    if (o->too_long || len < HEADER)
        return NET_DROPPED;
    for (; len < LEAST_FRAME; len++)
        t->frame[len] = 0;
    return net_port_send(t->p.port, &(struct net_packet){.data = t->frame, .len = len});
}

/* One step; whether there may be more. Lock held, let go meanwhile. */
static bool send_one(struct tulip *t)
{
    struct outgoing o;
    enum found f = may_send(t) ? next_frame(t, &o) : NOTHING;
    if (f == NOTHING)
        return false;
    if (f == SETUP) {
        if (!take_setup(t, &o)) {
            tulip_bus_error(t);
            return false;
        }
        t->tx_at = next_of(t, &o.d[o.n - 1], t->csr[4]);
        tulip_event(t, o.d[o.n - 1].control & T_INTERRUPT ? EV_TI : 0);
        return true;
    }
    if (t->csr[6] & OM_LOOP) {
        loop_back(t, &o);
        finish(t, &o);
        return true;
    }
    unsigned resets = t->resets;
    pthread_mutex_unlock(&t->lock);
    enum net_send sent = put_out(t, &o);
    pthread_mutex_lock(&t->lock);
    t->blocked = sent == NET_SEND_LATER;
    if (!t->blocked && resets == t->resets)
        finish(t, &o);
    return !t->blocked;
}

void tulip_send_frames(struct tulip *t)
{
    pthread_mutex_lock(&t->lock);
    unsigned n = 0;
    while (n < BURST && send_one(t))
        n++;
    pthread_mutex_unlock(&t->lock);
    if (n == BURST)
        loop_post(t->p.env->loop, &t->post);
}
