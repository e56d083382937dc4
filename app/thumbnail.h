/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VireoThumbnail: a small picture of a console's screen, as a GdkPaintable, without a size while
 * the screen is dark. Made anew once a second while something changes, and only where it changed,
 * so that a blinking cursor costs next to nothing.
 */
#pragma once

#include "app/console.h"

G_BEGIN_DECLS

#define VIREO_TYPE_THUMBNAIL (vireo_thumbnail_get_type())
G_DECLARE_FINAL_TYPE(VireoThumbnail, vireo_thumbnail, VIREO, THUMBNAIL, GObject)

VireoThumbnail *vireo_thumbnail_new(VireoConsole *console);

G_END_DECLS
