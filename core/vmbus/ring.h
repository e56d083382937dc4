/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VMBus rings, the host's end: pure engine over pages of memory that another party (guest, test,
 * fuzzer) changes at any time. One struct is one direction. Indices that the host owns are kept
 * here and only ever written to the control page; the other side's are read once, checked, then
 * used.
 *
 * A packet: 16-byte descriptor, extra headers, payload, zero padding to 8, an 8-byte trailer. Here
 * "packet" means without the trailer.
 *
 * Sources: Linux drivers/hv/ring_buffer.c (what the other side does).
 * Thread: one at a time.
 */
#ifndef VIREO_VMBUS_RING_H
#define VIREO_VMBUS_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { VMBUS_RING_TRAILER = 8, VMBUS_RING_MIN_PACKET = 16 };

enum vmbus_ring_status {
    VMBUS_RING_OK,
    VMBUS_RING_EMPTY,
    VMBUS_RING_FULL,
    VMBUS_RING_BROKEN, /* the other side's index or a length is impossible; stays so */
};

struct vmbus_ring {
    void *control;         /* one page */
    uint8_t *const *pages; /* data pages; borrowed */
    uint32_t size;         /* bytes of data: npages * 4096 */
    uint32_t own;          /* in: next byte to read; out: next byte to write */
    uint32_t published;    /* what the control page says of `own` */
    bool broken;
};

/* `npages` from 1 to 65536. Takes the host's index from the control page (0 at a fresh open, later
 * values after a restore): out of range makes the ring broken. */
void vmbus_ring_init_in(struct vmbus_ring *r, void *control, uint8_t *const *pages,
                        uint32_t npages);
void vmbus_ring_init_out(struct vmbus_ring *r, void *control, uint8_t *const *pages,
                         uint32_t npages);

/* ---- in: the guest produces ---- */

/* Copies the next packet to `buf` (8-aligned) and steps over it; *len is a multiple of 8 from 16
 * on. OK, EMPTY or BROKEN (also for a packet longer than `room`). */
enum vmbus_ring_status vmbus_ring_read(struct vmbus_ring *r, void *buf, size_t room, size_t *len);
/* Tells the guest how far was read. True: it waits for room and there is enough now: signal it. */
bool vmbus_ring_publish_read(struct vmbus_ring *r);
/* Masks the guest's signals while the host reads anyway. */
void vmbus_ring_mask(struct vmbus_ring *r);
/* Lifts the mask; true if something came in meanwhile: read on (the mask is set again). */
bool vmbus_ring_unmask(struct vmbus_ring *r);

/* ---- out: the host produces ---- */

/* Writes a packet of the iovecs' bytes (total padded to 8 by the engine) and its trailer. *signal
 * is set if the ring was empty and the guest does not mask. OK, FULL or BROKEN. */
enum vmbus_ring_status vmbus_ring_write(struct vmbus_ring *r, const struct iovec *iov,
                                        unsigned niov, bool *signal);
/* Whether a packet of `len` bytes fits now. */
bool vmbus_ring_fits(struct vmbus_ring *r, size_t len);
/* The longest packet that fits now, a multiple of 8; 0: none. */
uint32_t vmbus_ring_room(struct vmbus_ring *r);
/* Asks the guest to signal when a packet of `len` bytes fits. True: it fits already. */
bool vmbus_ring_want_room(struct vmbus_ring *r, size_t len);
void vmbus_ring_want_nothing(struct vmbus_ring *r);

/* Bytes in use, for the live view; 0 if the indices make no sense. */
uint32_t vmbus_ring_used(const struct vmbus_ring *r);

#endif
