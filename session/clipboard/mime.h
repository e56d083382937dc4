/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Types of content on the SPICE agent's wire (spice/vd_agent.h, and our own agent's) and on
 * D-Bus. */
#pragma once

#include <glib.h>

/* NULL, VD_AGENT_CLIPBOARD_NONE: not known. */
const char *vireo_mime_of(guint32 type);
guint32 vireo_type_of(const char *mime);
/* Whether programs of SPICE know the type too. */
gboolean vireo_type_is_spice(guint32 type);
/* Those of a list that are known, each once. */
GStrv vireo_mimes_of(const guint32 *types, guint n);
