/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The adapter's parts, private to netvsp*.c and rndis.c. Thread: the I/O loop's. */
#ifndef VIREO_VSP_NETVSP_PRIV_H
#define VIREO_VSP_NETVSP_PRIV_H

#include "core/base/loop.h"
#include "core/vsp/netvsp-proto.h"
#include "core/vsp/netvsp.h"
#include "core/vsp/rndis-proto.h"

enum {
    NETVSP_QUEUES = 8,
    NETVSP_SUBS = 16384,     /* receive sub-allocations at most */
    NETVSP_TRANSFERS = 1024, /* receive packets that the guest has not completed */
    NETVSP_BATCH = 256,      /* ranges in one packet; a guest takes 375 */
    NETVSP_FRAGMENTS = 250,  /* of one coalesced packet; a guest takes 562 */
    NETVSP_SUB_SIZE = 1728,  /* for an MTU of 1500 */
    NETVSP_SECTION = 6144,
    NETVSP_SEND_MAX = 136 * 1024, /* one guest packet: a section and a large frame */
    NETVSP_CONTROL_MAX = 1024,
    NETVSP_PACKETS_PER_MESSAGE = 8,
    NETVSP_ALIGN_SHIFT = 3,
    NETVSP_RSS_TABLE = 128,
    NETVSP_RSS_KEY = 40,
    NETVSP_MSS_MIN = 48,
};

/* A receive packet under way to the guest. */
struct netvsp_transfer {
    uint16_t first; /* sub-allocation + 1; the others by next[] */
    uint8_t used, queue;
};

struct netvsp_queue {
    struct netvsp *n;
    struct vmbus_channel *channel; /* NULL: closed */
    unsigned index;
    /* toward the guest: what is gathered for one packet */
    struct vmbus_transfer_range batch[NETVSP_BATCH];
    uint16_t batch_subs[NETVSP_BATCH];
    unsigned nbatch;
    /* from the guest: the rest of a packet that the switch had no room for, or a completion that
     * the ring had no room for */
    uint8_t *held;
    size_t held_len, held_at;
    uint64_t held_id;
    bool held_completion, completion_due;
    uint64_t completion_id;
};

struct netvsp_rss {
    bool on;
    uint32_t hash_info;
    uint32_t table_len;
    uint8_t key[NETVSP_RSS_KEY];
    uint8_t table[NETVSP_RSS_TABLE]; /* queue numbers */
};

struct netvsp {
    struct vmbus *bus;
    struct vmbus_device *device;
    struct net_port *port;
    struct loop_post flush_post;
    struct netvsp_queue queues[NETVSP_QUEUES];
    unsigned max_queues;
    uint32_t state_instance;
    char name[128];
    bool started;

    /* NVSP */
    uint32_t version;
    uint32_t mtu;         /* IP */
    uint32_t subchannels; /* offered */
    struct vmbus_gpadl *recv, *send;
    uint32_t recv_id, send_id; /* GPADLs, 0: none */
    uint32_t sub_size, subs, sections;

    /* receive buffer */
    uint16_t next[NETVSP_SUBS]; /* list of free ones, or of a transfer; sub-allocation + 1 */
    uint16_t free_head;
    uint32_t nfree;
    struct netvsp_transfer transfers[NETVSP_TRANSFERS];
    uint32_t transfer_hint;
    bool blocked; /* a frame was refused: the port waits for net_port_room */

    /* RNDIS */
    bool rndis_up;
    uint32_t filter;
    bool rx_csum4, rx_csum6, rsc4, rsc6;
    struct netvsp_rss rss;
    bool link_told, link_due, change_due;
    uint8_t control[NETVSP_CONTROL_MAX]; /* a response that had no room */
    size_t control_len;

    uint8_t scratch[NETVSP_SEND_MAX];
};

/* netvsp.c */
void netvsp_complete(struct netvsp_queue *q, uint64_t id);
void netvsp_resume_reading(struct netvsp *n);

/* netvsp-rx.c: toward the guest */
void netvsp_rx_reset(struct netvsp *n); /* all sub-allocations free */
bool netvsp_rx_deliver(struct netvsp *n, const struct net_packet *p);
void netvsp_rx_flush(struct netvsp *n);
/* Sends what is due: a control response, link events. */
void netvsp_rx_due(struct netvsp *n);
bool netvsp_rx_control(struct netvsp *n, const void *message, size_t len);
/* The guest completed a transfer. */
void netvsp_rx_completed(struct netvsp_queue *q, uint64_t id);
void netvsp_rx_limits(struct netvsp *n);

/* netvsp-tx.c: from the guest */
void netvsp_tx_packet(struct netvsp_queue *q, const struct vmbus_packet *p,
                      const struct nvsp_message *m);
/* Goes on with what was held. */
void netvsp_tx_again(struct netvsp_queue *q);
void netvsp_tx_drop(struct netvsp_queue *q);

/* rndis.c: control messages. Writes the response; its length, 0 for none. */
size_t rndis_control(struct netvsp *n, const uint8_t *msg, size_t len, uint8_t *out, size_t cap);

/* rss.c */
uint32_t rss_toeplitz(const uint8_t key[NETVSP_RSS_KEY], const uint8_t *data, size_t len);
/* The frame's hash under what the guest chose; false if it has none. */
bool rss_hash(const struct netvsp_rss *rss, const uint8_t *frame, size_t len, uint32_t *hash);

/* netvsp-state.c */
void netvsp_save(struct netvsp *n, struct state_writer *w);
bool netvsp_restore(struct netvsp *n, const struct state_reader *r, err *e);

#endif
