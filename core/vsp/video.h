/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Synthetic video, versions 3.0 to 3.5, and the boot framebuffer that is shown until the guest's
 * driver says where its video memory is, and again when that driver is gone (reset, kexec).
 *
 * Video memory is a sealed memfd: mapped for the guest at the address that it chose, mapped by
 * viewers through the console. The boot framebuffer is another, mapped at an address that the
 * machine chose (low MMIO window) and describes to the kernel (Linux screen_info).
 * Thread: the I/O loop's.
 */
#ifndef VIREO_VSP_VIDEO_H
#define VIREO_VSP_VIDEO_H

#include "core/base/device.h"
#include "core/base/err.h"
#include "core/hv/memory.h"
#include "core/vmbus/vmbus.h"
#include "core/vsp/console.h"

enum { VIDEO_MIN_MIB = 4, VIDEO_MAX_MIB = 256 };

struct video_params {
    struct vmbus *bus;        /* borrowed, as the next two */
    struct hv_memory *memory; /* where regions are added */
    struct console *console;
    uint32_t memory_mib;              /* VIDEO_MIN_MIB..VIDEO_MAX_MIB; 7680x4320 takes 127 */
    uint32_t width, height;           /* the preferred resolution; 0: 1024 x 768 */
    uint64_t boot_gpa;                /* page-aligned; 0: no boot framebuffer */
    uint32_t boot_width, boot_height; /* 0: 1024 x 768 */
    /* Instead of a boot framebuffer: another device (an emulated VGA) shows its picture while the
     * guest's driver is not there. Called with true before the driver's memory is mapped. NULL:
     * there is none. */
    void (*taken)(void *ctx, bool taken);
    void *ctx;
};

/* For screen_info, the firmware, or a boot loader's tables. XRGB8888. */
struct video_boot {
    uint64_t gpa, size; /* size: whole pages; 0: none */
    uint32_t width, height, stride;
};

struct video;

struct video *video_new(const struct video_params *p, err *e);
/* destroy frees it, takes its offer away and unmaps its memory. */
struct device video_as_device(struct video *v);
void video_boot_framebuffer(const struct video *v, struct video_boot *out);

#endif
