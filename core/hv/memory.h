/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Guest physical memory: regions of RAM, ROM and shared video memory, all access checked.
 * RAM is private anonymous memory (transparent huge pages asked for), or after a restore a private
 * mapping of a file. Regions never overlap, start and end on 4 KiB pages.
 *
 * Thread: reading, writing and acquiring from any thread. Adding, moving and removing regions: one
 * thread at a time; it waits until pointers acquired in that region are released, so a thread that
 * holds one must never remove a region.
 * Errors: access outside RAM/ROM returns false (or NULL) and touches nothing: guest addresses are
 * hostile. Writes to ROM are refused.
 */
#ifndef VIREO_HV_MEMORY_H
#define VIREO_HV_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

struct hv_memory;
struct hv_region;

enum hv_region_kind { HV_REGION_RAM, HV_REGION_ROM, HV_REGION_VIDEO };

/* Backends listen to hear of mappings; called on the thread that changes them, processors paused or
 * able to take it (KVM slots, software TLB flush). */
struct hv_memory_listener {
    bool (*map)(void *ctx, const struct hv_region *r, err *e);
    /* Its view or whether it is writable changed (hv_memory_show); when it returns, VPs use that.
     * On a VP's thread, out of the guest, too. */
    bool (*change)(void *ctx, const struct hv_region *r, err *e);
    void (*unmap)(void *ctx, const struct hv_region *r); /* returns when no VP uses it any more */
    /* The host (a device, a loader) wrote [gpa, gpa + len): called by hv_memory_write, by the
     * release of a span acquired for writing and by discard, on the writer's thread, after the
     * bytes are there. The software processor drops code that it decoded from them. May be NULL. */
    void (*written)(void *ctx, uint64_t gpa, uint64_t len);
    void *ctx;
};

struct hv_memory *hv_memory_new(err *e);
void hv_memory_free(struct hv_memory *m);
bool hv_memory_add_listener(struct hv_memory *m, const struct hv_memory_listener *l, err *e);

/* RAM at [gpa, gpa + size). ERR_NO_MEMORY says how much the host lacks. */
struct hv_region *hv_memory_add_ram(struct hv_memory *m, uint64_t gpa, uint64_t size, err *e);
/* As that, in one host mapping, but each part is a region of its own: for hv_memory_show. The last
 * reaches to the end. */
bool hv_memory_add_ram_parts(struct hv_memory *m, uint64_t gpa, uint64_t size,
                             const uint64_t *parts, size_t n, err *e);
/* RAM whose first contents come from `fd` at `offset`: a private mapping, loaded lazily. Borrows
 * fd. */
struct hv_region *hv_memory_add_ram_file(struct hv_memory *m, uint64_t gpa, uint64_t size, int fd,
                                         uint64_t offset, err *e);
/* Puts a private mapping of the file in place of the RAM at [gpa, gpa + len), which may cross
 * regions: from now on its contents are the file's, loaded lazily. Before the processors have run.
 * Borrows fd. */
bool hv_memory_map_file(struct hv_memory *m, uint64_t gpa, uint64_t len, int fd, uint64_t offset,
                        err *e);
/* Read-only to the guest; copies `len` bytes to the start, the rest is zero. */
struct hv_region *hv_memory_add_rom(struct hv_memory *m, uint64_t gpa, uint64_t size,
                                    const void *data, size_t len, err *e);
/* A shared mapping of a memfd (video memory). Borrows fd (duplicates it). */
struct hv_region *hv_memory_add_video(struct hv_memory *m, uint64_t gpa, uint64_t size, int fd,
                                      err *e);
void hv_memory_remove(struct hv_memory *m, struct hv_region *r);

/*
 * What is seen of the RAM region that begins at gpa: its own bytes (NULL), or `view`, page-aligned,
 * as long as the region and there until another is shown; writable only with its own bytes. RAM
 * keeps its contents behind a view, and is saved as RAM. Any thread but one that holds a span of it
 * for longer; the change is not atomic for processors that use it meanwhile.
 */
bool hv_memory_show(struct hv_memory *m, uint64_t gpa, const void *view, bool writable, err *e);

uint64_t hv_region_gpa(const struct hv_region *r);
uint64_t hv_region_size(const struct hv_region *r);
enum hv_region_kind hv_region_kind(const struct hv_region *r);
void *hv_region_host(const struct hv_region *r);    /* its own bytes: for save only */
void *hv_region_view(const struct hv_region *r);    /* what is seen of it: for backends only */
bool hv_region_writable(const struct hv_region *r); /* by the guest */
unsigned hv_region_slot(const struct hv_region *r); /* small, unique among living regions */

/* Copies; false if any byte lies outside memory (then nothing useful was copied). May cross
 * regions. */
bool hv_memory_read(struct hv_memory *m, uint64_t gpa, void *buf, size_t len);
bool hv_memory_write(struct hv_memory *m, uint64_t gpa, const void *buf, size_t len);
/* Writes RAM's own bytes, whatever is shown there and whether or not it is writable: restoring, and
 * writes that a chipset lets through to RAM. */
bool hv_memory_load(struct hv_memory *m, uint64_t gpa, const void *buf, size_t len);

/*
 * A host pointer to [gpa, gpa + len), all within one region, valid until released; NULL otherwise.
 * For I/O straight into guest pages, rings and atomics. The guest may change the bytes at any time.
 */
struct hv_span {
    void *ptr;
    struct hv_region *region; /* held */
    uint64_t gpa;             /* with len: what release reports as written; 0, 0 for a read */
    uint64_t len;
};
bool hv_memory_acquire(struct hv_memory *m, uint64_t gpa, size_t len, bool write,
                       struct hv_span *out);
void hv_memory_release(struct hv_span *s); /* also clears it; a zeroed span is allowed */

/* Gives the pages back to the host; later reads give zeroes. For balloon and free page reporting.
 */
bool hv_memory_discard(struct hv_memory *m, uint64_t gpa, uint64_t len);
/* Calls fn for each region in address order; stops when it returns false. */
bool hv_memory_each(struct hv_memory *m, bool (*fn)(void *ctx, struct hv_region *r), void *ctx);
uint64_t hv_memory_ram_bytes(struct hv_memory *m);

#endif
