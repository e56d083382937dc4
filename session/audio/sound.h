/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VireoSound: a viewer's end of a machine's sound. Plays what the worker sends by PulseAudio (or
 * PipeWire's server of that protocol), follows the guest's clock, and records while a program in
 * the guest does and it was asked to. Comes back by itself when the sound server does. Signal
 * "changed": playing, recording or the server. Thread: the main context that GLib's default is.
 */
#pragma once

#include <gio/gio.h>

G_BEGIN_DECLS

#define VIREO_TYPE_SOUND (vireo_sound_get_type())
G_DECLARE_FINAL_TYPE(VireoSound, vireo_sound, VIREO, SOUND, GObject)

/* connection: to the worker, already an enhanced console. name: the machine's, for the mixer. */
VireoSound *vireo_sound_new(GDBusConnection *connection, const char *name, gboolean record);
void vireo_sound_close(VireoSound *self);

gboolean vireo_sound_is_playing(VireoSound *self);
gboolean vireo_sound_is_recording(VireoSound *self);
gboolean vireo_sound_has_server(VireoSound *self);

struct vireo_sound_stats {
    double latency_ms; /* from Write to the ear, smoothed; 0: not known */
    double ratio;      /* how much faster than ours the guest's clock is, 1: the same */
    guint64 frames;    /* played */
    guint underruns, skips;
};
void vireo_sound_get_stats(VireoSound *self, struct vireo_sound_stats *out);

G_END_DECLS
