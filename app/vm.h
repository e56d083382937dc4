/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VireoVm: one machine of the library, whether it runs or not. What it knows of a machine that is
 * off comes from the store, of a running one from its worker.
 *
 * Signals: "changed" (anything that is shown), "failed" (title, text: for a dialog), "ended" (the
 * worker went away; reason "" where that was expected), "finished" (operation, such as
 * "checkpoint-3", error: what took its time is done; error "" if it succeeded).
 */
#pragma once

#include <gdk/gdk.h>
#include <gio/gio.h>

#include "app/console.h"
#include "core/machine/store.h"
#include "vireo-machine1.h"

G_BEGIN_DECLS

typedef enum {
    VIREO_VM_DAMAGED,
    VIREO_VM_OFF,
    VIREO_VM_SAVED,
    VIREO_VM_STARTING,
    VIREO_VM_RUNNING,
    VIREO_VM_PAUSED,
    VIREO_VM_SAVING,
    VIREO_VM_STOPPING,
    VIREO_VM_CRASHED,
} VireoVmState;

#define VIREO_TYPE_VM (vireo_vm_get_type())
G_DECLARE_FINAL_TYPE(VireoVm, vireo_vm, VIREO, VM, GObject)

/* `store` is borrowed and outlives it. The entry is read, not kept. */
VireoVm *vireo_vm_new(struct store *store, const struct store_entry *entry);
/* What the store says now; returns whether something changed. */
void vireo_vm_reload(VireoVm *self, const struct store_entry *entry);
/* Looks for a worker and for a changed configuration; reads the processor time. Every 2 s or so. */
void vireo_vm_poll(VireoVm *self);

struct store *vireo_vm_get_store(VireoVm *self);
const char *vireo_vm_get_id(VireoVm *self); /* the folder's name in the store */
const struct guid *vireo_vm_get_guid(VireoVm *self);
const char *vireo_vm_get_folder(VireoVm *self); /* full path */
const char *vireo_vm_get_name(VireoVm *self);
const char *vireo_vm_get_problem(VireoVm *self);            /* of a damaged one */
const struct vm_config *vireo_vm_get_config(VireoVm *self); /* NULL: damaged; until "changed" */
VireoVmState vireo_vm_get_state(VireoVm *self);
gboolean vireo_vm_is_active(VireoVm *self); /* has a worker */
char *vireo_vm_describe(VireoVm *self);     /* the state, for people */
const char *vireo_vm_get_reason(VireoVm *self);
double vireo_vm_get_cpu(VireoVm *self);              /* of one core; below 0: not known */
guint64 vireo_vm_get_memory(VireoVm *self);          /* bytes it has now */
GdkPaintable *vireo_vm_get_thumbnail(VireoVm *self); /* app/thumbnail.h; NULL: none */

/* What it is busy with, for people, and how far (below 0: not known); NULL: with nothing. */
const char *vireo_vm_get_progress(VireoVm *self, double *fraction);
void vireo_vm_cancel_progress(VireoVm *self);

VireoMachine1 *vireo_vm_get_machine(VireoVm *self); /* NULL: off */
VireoConsole *vireo_vm_get_console(VireoVm *self);  /* NULL: off */

/* What a machine that is off, paused or saved does next. */
void vireo_vm_start(VireoVm *self);
/* Calls a method of org.vireo.Machine1; a failure is told by "failed" with `title`. Takes a
 * floating `parameters`. */
/* The machine, which runs, ends by this method; then it is started anew. */
void vireo_vm_call_and_start(VireoVm *self, const char *method, GVariant *parameters,
                             const char *title);
/* Reads the configuration again now. */
void vireo_vm_refresh(VireoVm *self);
void vireo_vm_call(VireoVm *self, const char *method, GVariant *parameters, const char *title);
/* The same with descriptors: `fds` may be NULL. */
void vireo_vm_call_with_files(VireoVm *self, const char *method, GVariant *parameters,
                              GUnixFDList *fds, const char *title);
/* Changes one setting in the store. */
gboolean vireo_vm_set(VireoVm *self, const char *key, const char *value, GError **error);
gboolean vireo_vm_update(VireoVm *self, bool (*fn)(void *ctx, struct vm_config *c, err *e),
                         void *ctx, GError **error);
/* SPICE and VNC of the running machine as the settings have them; after a new password, too. */
void vireo_vm_apply_remote(VireoVm *self);
/* Writes a line for people and tells it by "failed". */
void vireo_vm_fail(VireoVm *self, const char *title, const GError *error);

G_END_DECLS
