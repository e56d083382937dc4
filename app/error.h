/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The one place where core's `err` becomes a GError, and where texts from the worker are made fit
 * for people. */
#pragma once

#include <gio/gio.h>

#include "core/base/err.h"

#define VIREO_ERROR (vireo_error_quark())
GQuark vireo_error_quark(void); /* codes are enum err_code */

/* Core's texts in the person's language, too, as far as there are such. Before anything of core is
 * called. */
void vireo_error_translate(void);
void vireo_error_set(GError **error, const err *e);
/* The text without the D-Bus error's name. */
char *vireo_error_text(const GError *error);
gboolean vireo_error_is_cancelled(const GError *error);
