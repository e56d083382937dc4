/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Private to core/vmbus: how the parts of the bus see each other. Thread: the loop's. */
#ifndef VIREO_VMBUS_BUS_H
#define VIREO_VMBUS_BUS_H

#include <pthread.h>

#include "core/vmbus/ring.h"
#include "core/vmbus/vmbus-proto.h"
#include "core/vmbus/vmbus.h"

enum {
    MAX_SUBCHANNELS = 63,
    INBOX_MESSAGES = 1024,
    MESSAGES_PER_TURN = 128,
    PACKETS_PER_TURN = 64,
    BYTES_PER_TURN = 1 << 20,
    MAX_GPADLS = 4096,
    MAX_GPADL_PAGES = 65536,        /* 256 MiB */
    MAX_GPADL_PAGES_TOTAL = 524288, /* of one connection: 4 MiB of page numbers */
    MAX_RING_PAGES = 4096,          /* each way, data: 16 MiB */
    GPADL_BUCKETS = 256,
};

struct vmbus_gpadl {
    struct vmbus_channel *ch;
    uint32_t id, byte_count, byte_offset;
    uint32_t npfn, have, room;
    uint64_t *pfn;
    struct hv_span *pins;     /* npfn of them, or NULL */
    bool tearing;             /* the guest asked; the answer waits for ch->busy to be 0 */
    struct vmbus_gpadl *next; /* in its bucket */
};

struct vmbus_channel {
    struct vmbus *bus;
    struct vmbus_device *dev;
    unsigned index, relid, target_vp;
    uint32_t connection;
    enum vmbus_channel_state state;
    uint32_t busy;
    void *data;
    struct vmbus_channel_stats stats;

    /* while open */
    struct vmbus_gpadl *ring_gpadl;
    uint32_t out_page;
    uint8_t user[VMBUS_USER_BYTES];
    uint8_t **pages;
    struct vmbus_ring in, out;
    int event_fd;
    struct loop_source *source;
    bool broken, paused, signal_always;
    bool in_turn, signal_due, drained;
    bool wants_room;
    uint32_t wanted;
    unsigned packets_left;
    uint32_t bytes_left;
    uint8_t *buf;
    size_t buf_size;
    struct vmbus_range *ranges;
    uint32_t ranges_room;

    bool scheduled;
    struct vmbus_channel *prev, *next; /* ready list, while scheduled */
    bool rescind_at_start;             /* restored, and nobody's */
};

struct vmbus_device {
    struct vmbus *bus;
    struct vmbus_device_params p;
    struct vmbus_channel *channels[MAX_SUBCHANNELS + 1]; /* NULL: not offered or rescinded */
    unsigned refs; /* channels that exist, rescinded ones included */
    bool removing;
    struct vmbus_device *next;
};

struct inbox_message {
    uint32_t connection;
    uint32_t len;
    uint8_t payload[VMBUS_MESSAGE_MAX];
};

enum vmbus_ending { ENDING_NOT, ENDING_UNLOAD, ENDING_CONTACT };

struct vmbus {
    struct loop *loop;
    struct hv_memory *memory;
    struct vmbus_transport t;
    uint32_t max_version;
    bool started;

    /* connection */
    uint32_t version; /* 0: none */
    unsigned target_vp;
    bool offers_requested;
    enum vmbus_ending ending;
    struct vmbus_msg_contact contact; /* waits for ENDING_CONTACT to be over */
    struct vmbus_watch *watches;
    void (*tl_connect)(void *ctx, const struct guid *endpoint, const struct guid *service);
    void *tl_ctx;

    struct vmbus_device *devices;
    struct vmbus_channel *by_relid[VMBUS_MAX_RELID + 1];
    unsigned busy_channels; /* how many channels have busy != 0 */

    struct vmbus_gpadl *gpadls[GPADL_BUCKETS];
    unsigned gpadl_count;
    uint32_t gpadl_pages;

    struct vmbus_channel *ready_first, *ready_last;
    struct loop_post turn_post;

    /* any thread */
    pthread_mutex_t inbox_lock;
    struct inbox_message *inbox; /* ring of INBOX_MESSAGES */
    unsigned inbox_head, inbox_count;
    _Atomic uint64_t signalled[(VMBUS_MAX_RELID + 64) / 64];
};

/* bus.c */
void vmbus_schedule(struct vmbus_channel *ch);
void vmbus_unschedule(struct vmbus_channel *ch);
void vmbus_post(struct vmbus *b, const void *msg, size_t len);
void vmbus_watch_tell(struct vmbus *b);
void vmbus_device_unref(struct vmbus_device *dev);

/* control.c */
void vmbus_control(struct vmbus *b, const struct inbox_message *m);
/* A channel's last hold is gone, or all of them. */
void vmbus_no_longer_busy(struct vmbus_channel *ch);
bool vmbus_version_known(const struct vmbus *b, uint32_t v);
void vmbus_disconnect(struct vmbus *b); /* everything of the connection goes; no hold is left */

/* offer.c */
extern const struct vmbus_provider_ops vmbus_nobody;
/* relid 0: the lowest free one. NULL: none is free, or no memory. */
struct vmbus_channel *vmbus_channel_new(struct vmbus_device *dev, unsigned index, unsigned relid);
void vmbus_channel_offer(struct vmbus_channel *ch);
void vmbus_channel_rescind(struct vmbus_channel *ch);
/* The relid is free again; waits for holds. */
void vmbus_channel_release(struct vmbus_channel *ch);
void vmbus_channel_free(struct vmbus_channel *ch); /* released and not held */
void vmbus_offer_all(struct vmbus *b);

/* channel.c */
/* Maps the rings and binds the event; `ch` keeps its fields about the open. */
bool vmbus_channel_attach(struct vmbus_channel *ch, struct vmbus_gpadl *g, uint32_t out_page);
void vmbus_channel_detach(struct vmbus_channel *ch);
/* Detaches and tells the provider; rescinds subchannels of a primary. State becomes OFFERED. */
void vmbus_channel_close(struct vmbus_channel *ch);
void vmbus_channel_turn(struct vmbus_channel *ch);
void vmbus_channel_signal(struct vmbus_channel *ch);
void vmbus_channel_count_signals(struct vmbus_channel *ch); /* into its statistics */

/* gpadl.c */
struct vmbus_gpadl *vmbus_gpadl_get(struct vmbus *b, uint32_t id);
/* An NTSTATUS. Appends pfns; *g stays NULL on error. */
uint32_t vmbus_gpadl_create(struct vmbus_channel *ch, uint32_t id, uint32_t byte_count,
                            uint32_t byte_offset, struct vmbus_gpadl **g);
bool vmbus_gpadl_append(struct vmbus_gpadl *g, const uint64_t *pfn, uint32_t n);
static inline bool vmbus_gpadl_complete(const struct vmbus_gpadl *g)
{
    return g->have == g->npfn;
}
void vmbus_gpadl_free(struct vmbus *b, struct vmbus_gpadl *g);
/* Frees those of a channel (NULL: all) without telling anybody. */
void vmbus_gpadl_free_of(struct vmbus *b, struct vmbus_channel *ch);

/* state.c */
void vmbus_save(void *self, struct state_writer *w);
bool vmbus_restore(void *self, const struct state_reader *r, err *e);

#endif
