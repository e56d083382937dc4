/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The machine that a subcommand is about, whether it runs or not. */
#ifndef VIREO_CLI_TARGET_H
#define VIREO_CLI_TARGET_H

#include "app/cli/client.h"
#include "core/machine/transfer.h"

struct target {
    struct store *store;
    struct guid id;
    char *folder;
    struct client *worker; /* NULL: off */
    int lock;              /* held while it is off */
};

/* `change`: a machine that is off is locked; a worker that is just leaving is waited for. NULL with
 * the message out. */
struct target *target_open(const char *name, bool change);
void target_free(struct target *t);
AUTO_DEFINE(target, struct target *, target_free)

/* A fresh worker for the machine as its folder is now; `discard` a saved state. Exit status. */
int target_start(struct target *t);

/* checkpoint.c, transfer.c */
int target_export(struct target *t, const struct guid *checkpoint, const char *file, bool replace);
int target_try(struct target *t, const struct guid *checkpoint, bool json);

/* Long work on the terminal; on_line is set where a line is open. */
struct target_line {
    const char *text;
    bool open;
};
struct transfer_progress target_progress(struct target_line *line);
void target_line_end(struct target_line *line);

#endif
