/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Lights for a machine's disks and network: bright while something goes on there, dim while not.
 * Looks once a second, and only while the window is the one that is worked in.
 */
#pragma once

#include <gtk/gtk.h>

#include "app/vm.h"

typedef struct VireoActivity VireoActivity;

/* The widgets are borrowed and outlive it. */
VireoActivity *vireo_activity_new(GtkWindow *window, VireoVm *vm, GtkWidget *disk,
                                  GtkWidget *network);
void vireo_activity_free(VireoActivity *a);
