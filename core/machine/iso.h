/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Finds the installer's kernel and initial RAM disk on a disc image, so that it can be started
 * directly. Reads ISO 9660 (ECMA-119) names alone, which the installers' own boot loaders go by.
 * The image is hostile input: everything is bounded and checked against its size. Thread: any; no
 * state.
 */
#ifndef VIREO_MACHINE_ISO_H
#define VIREO_MACHINE_ISO_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"

struct iso_extent {
    uint64_t offset, length; /* bytes in the image */
};

struct iso_linux {
    const char *system; /* "Debian", static */
    struct iso_extent kernel, initrd;
    char cmdline[256];
};

/* ERR_UNSUPPORTED: a disc, but with no installer that is known; ERR_CORRUPT: no disc image. */
bool iso_find_linux(int fd, struct iso_linux *out, err *e);
/* Copies one of them to a new file (mode 0600; replaced where there). */
bool iso_extract(int fd, const struct iso_extent *from, const char *path, err *e);

/* A file by its path, "BOOT/LINUX": case ignored, versions and a lone dot at the end left out. */
bool iso_find(int fd, const char *path, struct iso_extent *out, err *e);

#endif
