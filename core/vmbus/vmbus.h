/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VMBus, seen by the providers of synthetic devices (storvsp, netvsp, video, ...) and by the
 * machine that owns the bus. The bus speaks the control plane with the guest (contact, offers,
 * GPADLs, open and close) and hands each provider open channels, packet by packet.
 *
 * A provider adds a device (one offer: a class, an instance, a primary channel, up to so many
 * subchannels) and gets callbacks. A packet has been copied out of the ring and validated before it
 * is seen: the guest cannot change it any more. What the packet's bytes mean stays hostile.
 *
 *     readable(ctx, ch):   while (vmbus_channel_next(ch, &pkt)) handle(pkt);
 *
 * vmbus_channel_next ends a turn after a budget of packets and bytes, so that one channel cannot
 * hog the I/O thread; the bus calls readable again by itself. Interrupt masks, read and write
 * indices, barriers, event flags and pending-send-size are the bus's business.
 *
 * Sources: drivers/hv of Linux 6.1 for what guests expect.
 * Thread: the loop's thread (the VM's I/O thread), but for vmbus_post_message and
 * vmbus_signal_event, which any VP thread may call. Callbacks are never made from within
 * vmbus_channel_next or vmbus_send*; vmbus_channel_* may be called from within any callback.
 */
#ifndef VIREO_VMBUS_VMBUS_H
#define VIREO_VMBUS_VMBUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/base/device.h"
#include "core/base/err.h"
#include "core/base/guid.h"
#include "core/base/loop.h"
#include "core/hv/memory.h"

struct vmbus;
struct vmbus_device;
struct vmbus_channel;
struct vmbus_gpadl;

/* ---- the bus: for the machine, tests and fuzzers ---- */

enum { VMBUS_MAX_RELID = 2047, VMBUS_SINT = 2, VMBUS_MESSAGE_TYPE = 1 };
#define VMBUS_VERSION(major, minor) ((uint32_t)(major) << 16 | (minor))

/* How the bus reaches the guest. On a VM: vmbus_transport_partition (core/vmbus/transport.h). All
 * are called on the loop's thread. */
struct vmbus_transport {
    /* A SynIC message of type 1 to SINT 2 of `vp`; queued when the slot is busy. False: refused. */
    bool (*post_message)(void *ctx, unsigned vp, const void *payload, uint8_t len);
    /* Event flag `relid` of SINT 2 on `vp`. */
    void (*signal)(void *ctx, unsigned vp, uint16_t relid);
    /* Forgets messages that are still queued (for a kernel that is gone). */
    void (*drop_messages)(void *ctx);
    /* The guest's SignalEvent on `connection` becomes a write to `fd`. Both NULL: the transport
     * calls vmbus_signal_event instead. */
    bool (*bind_event)(void *ctx, uint32_t connection, int fd, err *e);
    void (*unbind_event)(void *ctx, uint32_t connection);
    void *ctx;
    unsigned vp_count;
};

struct vmbus_params {
    struct loop *loop;                       /* borrowed */
    struct hv_memory *memory;                /* borrowed */
    const struct vmbus_transport *transport; /* borrowed */
    uint32_t max_version;                    /* 0: the newest known, 5.3 */
};

struct vmbus *vmbus_new(const struct vmbus_params *p, err *e);
/* Devices that are left are removed; no channel is held busy; the guest does not run. */
void vmbus_free(struct vmbus *b);

/*
 * The bus's own device life. Stop order: the bus first (no more packets are handed out, control
 * messages that have arrived are answered), then the providers (they drain, and may still send),
 * then save. Restore order: the machine adds the same devices, restores the bus, then the
 * providers. Reset drops the connection: every open channel is closed. Channels of the state that
 * no device claims any more, and all of transient devices, are rescinded at start.
 */
struct device vmbus_as_device(struct vmbus *b);

/* HvPostMessage from any thread: queued for the loop. Returns an HV_STATUS code (hv_status). */
int vmbus_post_message(struct vmbus *b, uint32_t connection, uint32_t type, const void *payload,
                       size_t len);
/* HvSignalEvent from any thread, for connections that are not bound. False: no such connection. */
bool vmbus_signal_event(struct vmbus *b, uint32_t connection);

struct loop *vmbus_loop(struct vmbus *b);
struct hv_memory *vmbus_memory(struct vmbus *b);
unsigned vmbus_vp_count(const struct vmbus *b);
/* The version in use, VMBUS_VERSION(5, 3) and so on; 0 while no guest is connected. */
uint32_t vmbus_version(const struct vmbus *b);

/* Told when a guest made contact (version != 0) and when the connection ended (0: UNLOAD, reset,
 * new contact). For the live view and for providers whose life hangs on the connection (hv_sock).
 */
struct vmbus_watch {
    void (*changed)(void *ctx, uint32_t version);
    void *ctx;
    struct vmbus_watch *next; /* the bus's */
};
void vmbus_watch_add(struct vmbus *b, struct vmbus_watch *w);
void vmbus_watch_remove(struct vmbus *b, struct vmbus_watch *w);

/* TL_CONNECT_REQUEST: the guest asks for a connection to `service` of the host. One listener. */
void vmbus_set_tl_connect(struct vmbus *b,
                          void (*fn)(void *ctx, const struct guid *endpoint,
                                     const struct guid *service),
                          void *ctx);
/* TL_CONNECT_RESULT with an NTSTATUS (0 accepted, 0xC0000236 refused), from version 4.1. */
void vmbus_tl_result(struct vmbus *b, const struct guid *endpoint, const struct guid *service,
                     uint32_t status);

/* ---- devices ---- */

enum {
    VMBUS_OFFER_ENUMERATE = 0x0001,
    VMBUS_OFFER_NAMED_PIPE = 0x0010, /* user data starts with a pipe mode */
    VMBUS_OFFER_TLNPI = 0x2000,      /* hv_sock */
};
enum vmbus_pipe_mode { VMBUS_PIPE_BYTE = 0, VMBUS_PIPE_MESSAGE = 4 };
enum { VMBUS_USER_BYTES = 120 };

struct vmbus_provider_ops {
    const char *name; /* "storvsp": for logs and the live view */
    /*
     * The guest opened a channel; its rings are mapped, nothing has been read. The protocol state
     * of the channel starts anew. `user` is the 120 bytes of OPENCHANNEL (valid during the call).
     * False refuses. Primary: index 0.
     */
    bool (*opened)(void *ctx, struct vmbus_channel *ch, const uint8_t *user);
    /* The channel was closed, rescinded or lost with the connection: forget it. Requests that still
     * touch guest memory have to be held by vmbus_channel_hold_busy; sending does nothing any more.
     */
    void (*closed)(void *ctx, struct vmbus_channel *ch);
    /* Packets may be there: take them with vmbus_channel_next until it returns false. */
    void (*readable)(void *ctx, struct vmbus_channel *ch);
    /* There is room again after a send was refused. May be NULL. */
    void (*writable)(void *ctx, struct vmbus_channel *ch);
    /* A GPADL other than the ring's is about to be torn down: forget pointers to it. May be NULL.
     */
    void (*gpadl_gone)(void *ctx, struct vmbus_channel *ch, struct vmbus_gpadl *g);
    /* The device's offer has left: the guest released it after vmbus_device_remove, or the
     * connection ended. Called once, last; the device is freed after it. May be NULL. */
    void (*removed)(void *ctx);
};

struct vmbus_device_params {
    struct guid class_id, instance; /* instance: unique over all classes, the same at every boot */
    uint16_t flags;                 /* VMBUS_OFFER_* */
    uint16_t mmio_mib;              /* video memory */
    uint8_t user[VMBUS_USER_BYTES]; /* NAMED_PIPE: first u32 is the pipe mode */
    unsigned max_subchannels;       /* at most 63 */
    uint32_t max_packet; /* longest packet accepted from the guest, 0: 16 KiB; longer breaks it */
    bool transient; /* of one connection only (hv_sock): removed, not re-offered, when it ends */
    const struct vmbus_provider_ops *ops; /* borrowed */
    void *ctx;
};

/* Adds a device; offers it at once when the guest has its offers already (hot add), or when the
 * guest has released an earlier device with the same instance. ERR_EXISTS when the instance is in
 * use, ERR_NO_SPACE when no relid is free. */
struct vmbus_device *vmbus_device_add(struct vmbus *b, const struct vmbus_device_params *p, err *e);
/*
 * Takes a device away: its channels are closed (closed is called now, for each that is open), its
 * offer rescinded, its relids kept until the guest releases them. `dev` and the provider's ctx are
 * not used after this returns, but for `removed`, where it is given.
 */
void vmbus_device_remove(struct vmbus_device *dev);
/* Offers `count` subchannels (indices continue from those offered), if the primary is open. Returns
 * how many were offered. They are rescinded by the bus when the primary closes. */
unsigned vmbus_device_offer_subchannels(struct vmbus_device *dev, unsigned count);
/* The channel of an index, NULL if it is not open. */
struct vmbus_channel *vmbus_device_channel(struct vmbus_device *dev, unsigned index);

/* ---- channels: packets in ---- */

enum vmbus_packet_type {
    VMBUS_PACKET_INBAND = 6,
    VMBUS_PACKET_TRANSFER_PAGES = 7,
    VMBUS_PACKET_GPADL = 8,
    VMBUS_PACKET_GPA_DIRECT = 9,
    VMBUS_PACKET_COMPLETION = 0xB,
};

/* A range of guest memory: `len` bytes from `offset` (< 4096) in the first of `npfn` page frames.
 */
struct vmbus_range {
    uint32_t len, offset, npfn;
    const uint64_t *pfn; /* in the copied packet */
};

struct vmbus_packet {
    uint16_t type;
    bool completion_requested;
    uint64_t transaction_id;
    const uint8_t *payload;           /* 8-aligned; valid until the next vmbus_channel_next */
    uint32_t len;                     /* a multiple of 8: true lengths come from inner headers */
    const struct vmbus_range *ranges; /* GPA_DIRECT: consistent (npfn fits offset and len) */
    uint32_t nranges;
    uint64_t range_bytes; /* sum of the ranges' lengths */
    uint16_t pageset;     /* TRANSFER_PAGES: the id; the ranges are {len, offset}, without pfn */
    uint32_t gpadl;       /* GPADL */
};

/* Takes the next packet. False: none, or the turn's budget is used up, or the guest broke the ring
 * (then the channel delivers nothing more until it is reopened). */
bool vmbus_channel_next(struct vmbus_channel *ch, struct vmbus_packet *out);
/* While held back, readable is not called and the guest's signals are masked: for a provider that
 * has too much in flight. Undone by the channel's closing. */
void vmbus_channel_pause(struct vmbus_channel *ch, bool paused);

/* ---- channels: packets out ---- */

/*
 * Each sends one packet or returns false: no room (writable will be called), or the channel is
 * closed or broken (it will not). Payloads are padded with zeroes to 8 bytes. The guest is
 * signalled when it may need it; `*_always` channels (see vmbus_channel_signal_always) at each
 * packet.
 */
bool vmbus_send(struct vmbus_channel *ch, uint64_t transaction_id, bool want_completion,
                const void *payload, size_t len);
bool vmbus_sendv(struct vmbus_channel *ch, uint64_t transaction_id, bool want_completion,
                 const struct iovec *payload, unsigned niov);
bool vmbus_send_completion(struct vmbus_channel *ch, uint64_t transaction_id, const void *payload,
                           size_t len);
struct vmbus_transfer_range {
    uint32_t len, offset; /* in the GPADL that stands for the page set */
};
/* Data by transfer pages; asks for a completion. */
bool vmbus_send_transfer(struct vmbus_channel *ch, uint64_t transaction_id, uint16_t pageset,
                         const struct vmbus_transfer_range *ranges, unsigned nranges,
                         const void *payload, size_t len);
/* Whether a packet of `len` payload bytes (plus 8 for each transfer range, plus 8) would fit now.
 */
bool vmbus_channel_has_room(struct vmbus_channel *ch, size_t len);
/* The longest payload that an in-band packet could have now; 0: none, or closed. */
size_t vmbus_channel_room(struct vmbus_channel *ch);
/* Bytes that were sent and that the guest has not taken (it may keep the last packet for long). */
size_t vmbus_channel_unread(struct vmbus_channel *ch);
/* The guest's driver takes one packet an event (integration services, hv_sock). */
void vmbus_channel_signal_always(struct vmbus_channel *ch, bool always);

/* ---- channels: the rest ---- */

unsigned vmbus_channel_index(const struct vmbus_channel *ch); /* 0: primary */
unsigned vmbus_channel_target_vp(const struct vmbus_channel *ch);
struct vmbus_device *vmbus_channel_device(const struct vmbus_channel *ch);
bool vmbus_channel_is_open(const struct vmbus_channel *ch);
void vmbus_channel_set_data(struct vmbus_channel *ch,
                            void *data); /* the provider's, NULL at open */
void *vmbus_channel_data(const struct vmbus_channel *ch);
/*
 * A request in flight that touches guest memory (spans acquired, I/O under way) holds its channel
 * busy: the bus then keeps `ch` valid, and answers the teardown of its GPADLs, UNLOAD and a new
 * contact only when all holds are gone, so that no late I/O lands in memory that the guest reuses.
 */
void vmbus_channel_hold_busy(struct vmbus_channel *ch);
void vmbus_channel_release_busy(struct vmbus_channel *ch);

/* ---- guest memory named by packets ---- */

/*
 * Host pointers to guest pages: iovecs for I/O straight into them. Zero it before first use; it can
 * be used again after vmbus_map_clear, and is freed by vmbus_map_free. Neighbouring pages are
 * joined.
 */
struct vmbus_map {
    struct iovec *iov;
    struct hv_span *spans;
    unsigned count, room;
    size_t bytes;
};
/* Appends bytes [skip, skip + len) of the ranges. False: outside of them or of guest memory, or no
 * memory; what was appended before stays. */
bool vmbus_map_ranges(struct vmbus *b, struct vmbus_map *m, const struct vmbus_range *ranges,
                      uint32_t nranges, uint64_t skip, uint64_t len, bool write);
void vmbus_map_clear(struct vmbus_map *m); /* releases the pages */
void vmbus_map_free(struct vmbus_map *m);
/* Copies between the ranges and a buffer; false as above, then nothing useful was copied. */
bool vmbus_ranges_read(struct vmbus *b, const struct vmbus_range *ranges, uint32_t nranges,
                       uint64_t skip, void *buf, size_t len);
bool vmbus_ranges_write(struct vmbus *b, const struct vmbus_range *ranges, uint32_t nranges,
                        uint64_t skip, const void *buf, size_t len);

/* A GPADL of this channel, complete and alive; NULL otherwise. Valid until gpadl_gone or closed. */
struct vmbus_gpadl *vmbus_gpadl_find(struct vmbus_channel *ch, uint32_t id);
uint32_t vmbus_gpadl_id(const struct vmbus_gpadl *g);
uint64_t vmbus_gpadl_bytes(const struct vmbus_gpadl *g);
bool vmbus_gpadl_read(struct vmbus_gpadl *g, uint64_t offset, void *buf, size_t len);
bool vmbus_gpadl_write(struct vmbus_gpadl *g, uint64_t offset, const void *buf, size_t len);
bool vmbus_gpadl_map(struct vmbus_gpadl *g, struct vmbus_map *m, uint64_t offset, uint64_t len,
                     bool write);
/* Acquires all pages once, so that read, write and map of hot buffers cost no look-up. False: some
 * page is not memory. Undone when the GPADL goes. */
bool vmbus_gpadl_pin(struct vmbus_gpadl *g);

/* ---- live view ---- */

enum vmbus_channel_state {
    VMBUS_CHANNEL_FREE,
    VMBUS_CHANNEL_UNOFFERED, /* has a relid, the guest has not been told */
    VMBUS_CHANNEL_OFFERED,
    VMBUS_CHANNEL_OPEN,
    VMBUS_CHANNEL_RESCINDED, /* waits for the guest to release the relid */
};
struct vmbus_channel_stats {
    uint64_t packets_in, packets_out, bytes_in, bytes_out;
    uint64_t signals_in, signals_out;
    uint64_t full, errors; /* sends refused for room; ring and packet errors of the guest */
};
struct vmbus_channel_info {
    const char *provider;
    struct guid class_id, instance;
    unsigned index, relid, target_vp;
    uint32_t connection;
    enum vmbus_channel_state state;
    bool broken, paused;
    uint32_t busy;
    uint32_t in_size, in_used, out_size, out_used; /* bytes of the rings; 0 when closed */
    struct vmbus_channel_stats stats;
};
/* Calls fn for each relid in use, in order; stops when it returns false. */
void vmbus_each_channel(struct vmbus *b, bool (*fn)(void *ctx, const struct vmbus_channel_info *i),
                        void *ctx);
const char *vmbus_channel_state_name(enum vmbus_channel_state s);

#endif
