/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which file systems live on a USB device. Thread: any. */
#ifndef VIREO_SESSION_USB_USB_MOUNTS_H
#define VIREO_SESSION_USB_USB_MOUNTS_H

#include <glib.h>

/* Where a file system (or swap, "[swap]") of the device at `syspath` is mounted, its disk,
 * partitions and what is made of them (LVM, encryption, RAID); that of the system if there are
 * several. NULL: nowhere. */
char *usb_mount_of(const char *syspath);

/* The computer cannot run on without it. */
gboolean usb_mount_is_system(const char *mount);

#endif
