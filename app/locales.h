/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Languages and time zones that a new system can have. */
#pragma once

#include <glib.h>

/* The languages' own names, NULL at the end; static. */
const char *const *vireo_locale_names(void);
/* As Debian writes it: "ja_JP.UTF-8". `index` as in vireo_locale_names. */
const char *vireo_locale_at(guint index);
/* The one nearest to this process's own language. */
guint vireo_own_locale(void);

/* As in the time zone database, such as "Asia/Tokyo"; this computer's own. Owned by the caller. */
char *vireo_own_time_zone(void);
gboolean vireo_is_time_zone(const char *zone);
