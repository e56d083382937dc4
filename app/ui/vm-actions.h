/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The actions on one machine ("vm.start", "vm.turn-off", ...), enabled as its state allows. They
 * ask first where something could be lost, in dialogs over the widget they were made for.
 */
#pragma once

#include <gtk/gtk.h>

#include "app/vm.h"

/* Inserts the group "vm" into `widget`; it follows `vm` for as long as the widget lives. */
void vireo_vm_actions_insert(GtkWidget *widget, VireoVm *vm);

/* A dialog over `widget`'s window: what failed, why, what to do. */
void vireo_show_failure(GtkWidget *widget, const char *title, const char *text);
/* Asks; `response` is called with `data` if the person agrees. */
void vireo_ask(GtkWidget *widget, const char *title, const char *text, const char *agree,
               gboolean destructive, GCallback response, gpointer data, GClosureNotify free_data);
