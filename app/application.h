/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VireoApplication: the one instance; its windows and the actions "app.*". */
#pragma once

#include <adwaita.h>

#include "app/library.h"

G_BEGIN_DECLS

#define VIREO_APP_ID "org.vireo.Vireo"

#define VIREO_TYPE_APPLICATION (vireo_application_get_type())
G_DECLARE_FINAL_TYPE(VireoApplication, vireo_application, VIREO, APPLICATION, AdwApplication)

VireoApplication *vireo_application_new(void);
VireoLibrary *vireo_application_get_library(VireoApplication *self);
GSettings *vireo_application_get_settings(VireoApplication *self);
/* The machine's window; made where there is none. */
void vireo_application_open_console(VireoApplication *self, VireoVm *vm);
void vireo_application_open_settings(VireoApplication *self, VireoVm *vm, GtkWindow *parent);
/* The wizard; `path` (may be NULL) is an image to start from. */
void vireo_application_open_wizard(VireoApplication *self, const char *path);
void vireo_application_reload(VireoApplication *self);
/* A desktop notification. */
void vireo_application_notify(VireoApplication *self, const char *id, const char *title,
                              const char *body, VireoVm *vm);

G_END_DECLS
