/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Sound between the guest's helper and viewers, in the worker: org.qemu.Display1.Audio. What the
 * guest plays is passed to every listener at once; a listener that does not keep up loses sound,
 * not the guest its time. One listener records: Read is answered when so much has been recorded,
 * which is the clock. Thread: the main loop's.
 */
#pragma once

#include <gio/gio.h>

struct vireo_audio;

struct vireo_audio_ops {
    gboolean (*is_viewer)(gpointer ctx, GDBusConnection *c);
    void (*closed)(gpointer ctx, gboolean record); /* the stream is gone */
    void (*changed)(gpointer ctx);                 /* wanted or recording changed */
};

struct vireo_audio *vireo_audio_new(const struct vireo_audio_ops *ops, gpointer ctx);
void vireo_audio_free(struct vireo_audio *a);
GDBusInterfaceSkeleton *vireo_audio_skeleton(struct vireo_audio *a);

/* The guest's stream; fd is taken. */
void vireo_audio_attach(struct vireo_audio *a, gboolean record, int fd);
void vireo_audio_detach(struct vireo_audio *a, gboolean record);
/* Somebody listens, or would record. */
gboolean vireo_audio_wanted(struct vireo_audio *a, gboolean record);
/* A program of the guest records and gets what a viewer hears. */
gboolean vireo_audio_recording(struct vireo_audio *a);
/* The connection is no viewer any more. */
void vireo_audio_drop(struct vireo_audio *a, GDBusConnection *connection);
