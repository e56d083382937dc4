/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Between the files of the 21140. Everything is under the lock unless said. */
#ifndef VIREO_CHIPSET_TULIP_INT_H
#define VIREO_CHIPSET_TULIP_INT_H

#include "core/chipset/tulip.h"

enum { TULIP_CSRS = 16, TULIP_SETUP = 192, TULIP_SROM = 64, TULIP_FRAME = 2048 };

enum tulip_csr5 {
    EV_TI = 1u << 0,   /* frame sent */
    EV_TPS = 1u << 1,  /* transmitter stopped */
    EV_TU = 1u << 2,   /* no descriptor to send */
    EV_TJT = 1u << 3,  /* frame too long */
    EV_RI = 1u << 6,   /* frame received */
    EV_RU = 1u << 7,   /* no descriptor to receive into */
    EV_RPS = 1u << 8,  /* receiver stopped */
    EV_GTE = 1u << 11, /* timer */
    EV_FBE = 1u << 13, /* bus error */
    EV_ALL = 0xffff & ~(1u << 15),
};
enum tulip_csr6 {
    OM_SR = 1u << 1,
    OM_IF = 1u << 4,
    OM_PR = 1u << 6,
    OM_PM = 1u << 7,
    OM_LOOP = 3u << 10,
    OM_ST = 1u << 13,
    OM_RA = 1u << 30,
};

/* A serial ROM or a transceiver that is spoken to bit by bit. */
struct tulip_serial {
    uint8_t bits; /* of the command, so far; 0: waits for its start */
    uint32_t in;
    uint16_t out;
    bool clock, data; /* the clock's last level; what the other side reads */
};

struct tulip {
    struct tulip_params p;
    struct pci_function function;
    struct chip_timer timer; /* CSR11, and the next try to receive */
    struct loop_post post;
    uint16_t srom[TULIP_SROM];

    pthread_mutex_t lock;
    uint32_t csr[TULIP_CSRS]; /* as written; CSR5 its events */
    uint32_t tx_at, rx_at;    /* the next descriptors */
    bool tx_waits, rx_waits;  /* suspended: nothing was there */
    uint8_t setup[TULIP_SETUP];
    uint8_t filter; /* FT1 and FT0 of the last setup frame: enum in tulip-rings.c */
    bool filter_set;
    struct tulip_serial rom, mii;
    uint16_t bmcr, advertise;
    uint32_t missed;
    bool link_was_down; /* latched for the MII status register */
    uint64_t timer_due; /* guest ns; 0: not running */

    /* host's own */
    uint64_t retry_due;
    unsigned retries;
    unsigned resets; /* counts, so that a frame under way notices */
    /* the I/O thread's, without the lock */
    bool running, blocked; /* blocked: the port takes nothing now */
    uint8_t frame[TULIP_FRAME + 4];
};

/* tulip.c */
void tulip_event(struct tulip *t, uint32_t events);
void tulip_bus_error(struct tulip *t);
void tulip_arm(struct tulip *t); /* timer_due or retry_due changed */

/* tulip-serial.c */
void tulip_srom_init(struct tulip *t, const uint8_t mac[6]);
/* CSR9 was written; reading it. */
void tulip_serial_write(struct tulip *t, uint32_t v);
uint32_t tulip_serial_read(const struct tulip *t);
void tulip_serial_reset(struct tulip *t);
void tulip_mii_reset(struct tulip *t);

/* tulip-rings.c; I/O thread, without the lock */
void tulip_send_frames(struct tulip *t);
bool tulip_deliver(void *ctx, const struct net_packet *p);

#endif
