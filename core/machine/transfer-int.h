/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Between the files of transfer. */
#ifndef VIREO_MACHINE_TRANSFER_INT_H
#define VIREO_MACHINE_TRANSFER_INT_H

#include "core/machine/archive.h"
#include "core/machine/checkpoint-int.h"
#include "core/machine/transfer.h"
#include "core/storage/disk-tool.h"

#define TRANSFER_INI "export.ini"
enum { TRANSFER_VERSION = 1, TRANSFER_MAX_LAYERS = 1024, TRANSFER_MAX_INI = 256 * 1024 };

/* What goes along: a file under a name, or a text made for it. */
struct transfer_item {
    char *name, *path; /* path NULL: a text */
    char *text;
    struct disk *held; /* its lock: nobody writes it meanwhile */
    char *parent;      /* layers: the name of the one below; "": none. NULL: no layer */
};

struct transfer_list {
    const char *folder;
    struct loop *loop;
    struct transfer_item *item;
    size_t n;
    uint64_t total, done; /* bytes */
    const struct transfer_progress *progress;
};

/* All of a machine, or of one checkpoint. */
bool transfer_gather(struct transfer_list *l, const char *folder, const struct guid *checkpoint,
                     err *e);
void transfer_list_clear(struct transfer_list *l);
/* For archive_progress: ctx is the list. */
bool transfer_tell(void *ctx, uint64_t n);

/* The layers in export.ini: each child and parent (""), bases first. */
struct transfer_layer {
    char *file, *parent;
};
struct transfer_layers {
    struct transfer_layer *layer;
    size_t n;
};
bool transfer_read_layers(const char *text, size_t len, struct transfer_layers *out, err *e);
void transfer_layers_clear(struct transfer_layers *l);
/* Each layer in `folder` names its parent there. */
bool transfer_connect(const char *folder, const struct transfer_layers *l, err *e);

#endif
