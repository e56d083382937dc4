/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Machines that go elsewhere, with a dialog that shows how far it is and cancels: exported to a
 * file, imported from one or from a folder, moved, tried from a checkpoint in a disposable clone.
 */
#pragma once

#include <adwaita.h>

#include "app/library.h"

/* Asks where to; `checkpoint` (may be NULL: the whole machine, which is off) is an id. */
void vireo_ask_export(GtkWindow *parent, VireoVm *vm, const char *checkpoint);
/* Asks for an exported file, or for a machine's folder. */
void vireo_ask_import(GtkWindow *parent, gboolean folder);
/* Asks for the folder that the machine's own is moved into. */
void vireo_ask_move(GtkWindow *parent, VireoVm *vm);
/* A machine without network that goes on from the checkpoint, and is gone when it is turned off. */
void vireo_try_checkpoint(GtkWindow *parent, VireoVm *vm, const char *checkpoint);
