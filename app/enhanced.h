/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VireoEnhanced: the enhanced session of one machine's console window. Connects by itself when the
 * machine offers one, unless it was switched off here; then the desktop's clipboard is bound, sound
 * is played, and the guest's screen follows the window.
 * Signals: "changed" (anything below), "message" (text for people), "transfer" (files on their
 * way).
 */
#pragma once

#include "app/vm.h"

G_BEGIN_DECLS

#define VIREO_TYPE_ENHANCED (vireo_enhanced_get_type())
G_DECLARE_FINAL_TYPE(VireoEnhanced, vireo_enhanced, VIREO, ENHANCED, GObject)

VireoEnhanced *vireo_enhanced_new(VireoVm *vm, GdkDisplay *display);
void vireo_enhanced_close(VireoEnhanced *self);

/* Hyper-V's three states. */
gboolean vireo_enhanced_is_on(VireoEnhanced *self);
gboolean vireo_enhanced_is_available(VireoEnhanced *self);
const char *vireo_enhanced_get_reason(VireoEnhanced *self); /* why it is not; "" */
void vireo_enhanced_set_wanted(VireoEnhanced *self, gboolean wanted);

/* "on", "ready", "denied", "missing": of clipboard, files, display, sound, microphone, usb */
const char *vireo_enhanced_get_service(VireoEnhanced *self, const char *name);
gboolean vireo_enhanced_is_recording(VireoEnhanced *self);
gboolean vireo_enhanced_is_playing(VireoEnhanced *self);

void vireo_enhanced_set_size(VireoEnhanced *self, guint width, guint height, guint width_mm,
                             guint height_mm);
/* A list of GFile; what became of each is told by "message". */
void vireo_enhanced_send_files(VireoEnhanced *self, GSList *files);
/* What is on its way, for people, and how much of it is there; NULL: nothing. */
char *vireo_enhanced_describe_transfer(VireoEnhanced *self, double *fraction);
void vireo_enhanced_cancel_files(VireoEnhanced *self);

G_END_DECLS
