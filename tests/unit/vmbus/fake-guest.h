/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A guest's end of VMBus without a processor: contact, offers, GPADLs, opening, rings as Linux
 * drives them. Guest memory is real (core/hv/memory.h), the bus is the one a machine has; a test
 * (or fuzzer) is the guest's driver. Everything runs on the calling thread: what waits turns the
 * loop.
 *
 *     struct fake_guest *g = fake_guest_new(NULL);
 *     ... vmbus_device_add(g->bus, ...) ...
 *     fake_guest_connect(g, VMBUS_VERSION(5, 3));
 *     struct fake_channel *ch = fake_open(g, fake_offer_of(g, &class_id, 0), 4, NULL);
 *     fake_send(ch, 7, true, msg, sizeof msg);
 *     fake_recv(ch, &pkt);
 */
#ifndef VIREO_TESTS_FAKE_GUEST_H
#define VIREO_TESTS_FAKE_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/loop.h"
#include "core/hv/memory.h"
#include "core/vmbus/vmbus-proto.h"
#include "core/vmbus/vmbus.h"

enum { FAKE_MAX_OFFERS = 256, FAKE_MAX_MESSAGES = 512, FAKE_MAX_PACKET = 65536 };

struct fake_params {
    unsigned vps;         /* 0: 2 */
    uint64_t ram;         /* bytes from guest address 0; 0: 16 MiB */
    bool eventfd;         /* signals by bound descriptors, as on KVM; else vmbus_signal_event */
    uint32_t max_version; /* of the bus */
    struct loop *loop;    /* NULL: one of its own */
};

struct fake_message {
    unsigned vp;
    uint8_t len;
    uint8_t bytes[VMBUS_MESSAGE_MAX];
};

struct fake_guest {
    struct loop *loop;
    bool own_loop;
    struct hv_memory *memory;
    struct hv_region *ram;
    uint8_t *host; /* RAM as the guest sees it */
    uint64_t ram_size, next_free;
    struct vmbus *bus;
    struct vmbus_transport transport;
    uint32_t version, next_gpadl;

    struct fake_message
        messages[FAKE_MAX_MESSAGES]; /* not yet looked at, but offers and rescinds */
    unsigned message_count;
    uint64_t messages_lost;
    struct vmbus_msg_offer offers[FAKE_MAX_OFFERS]; /* alive */
    unsigned offer_count;
    bool rescinded[VMBUS_MAX_RELID + 1];  /* RESCIND came and RELID_RELEASED has not been sent */
    uint64_t events[VMBUS_MAX_RELID + 1]; /* event flags set, by relid */
    unsigned event_vp[VMBUS_MAX_RELID + 1];
    int event_fd[VMBUS_MAX_RELID + 1]; /* bound, -1: not */
    unsigned drops;                    /* calls of drop_messages */
    bool lenient; /* what looks like a bad packet of the host is not there: rings were spoilt */
};

struct fake_guest *fake_guest_new(const struct fake_params *p);
/* Frees the bus (and with it the devices that are left), memory and loop. */
void fake_guest_free(struct fake_guest *g);

/* Turns the loop until nothing is ready any more. */
void fake_settle(struct fake_guest *g);
/* Turns the loop until *cond (checked between turns), for at most 5 s. */
bool fake_wait(struct fake_guest *g, bool (*cond)(void *ctx), void *ctx);

/* ---- memory: pages are handed out in order and never taken back ---- */
uint64_t fake_alloc(struct fake_guest *g, unsigned pages); /* guest address; zeroed */
void *fake_ptr(struct fake_guest *g, uint64_t gpa);

/* ---- control plane ---- */
/* Posts a message as the guest's processor does (hypercall) and lets the bus handle it. */
int fake_post(struct fake_guest *g, const void *msg, size_t len);
/* Takes the oldest message of a type; false if none has come. */
bool fake_take(struct fake_guest *g, uint32_t type, void *out, size_t len);
/* INITIATE_CONTACT; whether the version was accepted. */
bool fake_contact(struct fake_guest *g, uint32_t version, unsigned vp);
/* Contact and REQUEST_OFFERS. */
bool fake_guest_connect(struct fake_guest *g, uint32_t version);
bool fake_unload(struct fake_guest *g);
/* The living offer of a class and subchannel index, or of an instance; NULL if there is none. */
const struct vmbus_msg_offer *fake_offer_of(struct fake_guest *g, const struct guid *class_id,
                                            unsigned sub_index);
const struct vmbus_msg_offer *fake_offer_instance(struct fake_guest *g, const struct guid *instance,
                                                  unsigned sub_index);
/* RELID_RELEASED for a rescinded offer. */
void fake_release(struct fake_guest *g, uint32_t relid);
/* A GPADL of pages at gpa (contiguous) or of a page list; 0 on refusal, else its handle. */
uint32_t fake_gpadl(struct fake_guest *g, uint32_t relid, uint64_t gpa, uint32_t bytes);
uint32_t fake_gpadl_pages(struct fake_guest *g, uint32_t relid, const uint64_t *pfn, uint32_t npfn,
                          uint32_t bytes);
bool fake_gpadl_teardown(struct fake_guest *g, uint32_t relid, uint32_t gpadl);

/* ---- channels ---- */
struct fake_ring {
    struct vmbus_ring_control *control;
    uint8_t **pages;
    uint32_t size;
};
struct fake_channel {
    struct fake_guest *g;
    uint32_t relid, connection, gpadl;
    unsigned vp;
    struct fake_ring out, in; /* as the guest sees it: out is guest to host */
    uint64_t signals;         /* sent to the host */
    uint8_t buf[FAKE_MAX_PACKET];
};
struct fake_packet {
    uint16_t type, flags;
    uint64_t id;
    const uint8_t *payload; /* valid until the next fake_recv */
    uint32_t len;
    const uint8_t *extra; /* between descriptor and payload */
    uint32_t extra_len;
};
/* GPADL (pages in scattered order), OPENCHANNEL; rings of `pages` each, control page included.
 * `user` may be NULL. NULL if refused. */
struct fake_channel *fake_open(struct fake_guest *g, const struct vmbus_msg_offer *offer,
                               unsigned pages, const void *user120);
/* CLOSE and teardown of the ring's GPADL; frees ch. False if the teardown was not answered. */
bool fake_close(struct fake_channel *ch);
/* Frees ch, tells the host nothing (the connection is gone, or the offer rescinded). */
void fake_forget(struct fake_channel *ch);

/* Sends; signals as Linux does; lets the bus work. False: no room. */
bool fake_send(struct fake_channel *ch, uint64_t id, bool want_completion, const void *payload,
               size_t len);
bool fake_complete(struct fake_channel *ch, uint64_t id, const void *payload, size_t len);
struct fake_range {
    uint64_t gpa; /* pages follow each other */
    uint32_t len;
};
bool fake_send_gpa(struct fake_channel *ch, uint64_t id, const void *payload, size_t len,
                   const struct fake_range *ranges, unsigned nranges);
/* Any bytes as a packet (from the descriptor on; padded to 8, trailer added). */
bool fake_send_raw(struct fake_channel *ch, const void *packet, size_t len);
void fake_signal(struct fake_channel *ch);
/* Takes a packet if there is one. */
bool fake_poll(struct fake_channel *ch, struct fake_packet *out);
/* Waits for one, at most 5 s. */
bool fake_recv(struct fake_channel *ch, struct fake_packet *out);

#endif
