/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VireoWizard: from nothing to a virtual machine, page by page. */
#pragma once

#include <adwaita.h>

#include "app/library.h"

G_BEGIN_DECLS
#define VIREO_TYPE_WIZARD (vireo_wizard_get_type())
G_DECLARE_FINAL_TYPE(VireoWizard, vireo_wizard, VIREO, WIZARD, AdwWindow)
GtkWindow *vireo_wizard_new(VireoLibrary *library, GtkWindow *parent);
/* Begins with this image: a disc (.iso) or a disk. */
void vireo_wizard_set_image(VireoWizard *self, const char *path);
G_END_DECLS
