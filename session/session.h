/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VireoSession: the enhanced session of one machine, in its worker. Knows the guest's agent (one
 * control channel, session/agent-proto.h), who is connected, and what is allowed; opens and closes
 * the services' streams accordingly: nothing is shared before a viewer has connected, or against
 * the policy. Serves org.vireo.Session1 and Display1's clipboard and audio. What comes from the
 * guest is hostile. Thread: the main loop's.
 */
#pragma once

#include <gio/gio.h>

G_BEGIN_DECLS

#define VIREO_TYPE_SESSION (vireo_session_get_type())
G_DECLARE_FINAL_TYPE(VireoSession, vireo_session, VIREO, SESSION, GObject)

typedef enum {
    VIREO_POLICY_CLIPBOARD_TO_GUEST,
    VIREO_POLICY_CLIPBOARD_FROM_GUEST,
    VIREO_POLICY_FILES,
    VIREO_POLICY_SOUND,
    VIREO_POLICY_MICROPHONE,
    VIREO_POLICY_USB,
    VIREO_POLICIES,
} VireoPolicy;

VireoSession *vireo_session_new(void);
/* Whether the machine has an enhanced session at all; it begins without. */
void vireo_session_set_enabled(VireoSession *self, gboolean enabled);
void vireo_session_set_policy(VireoSession *self, VireoPolicy policy, gboolean allowed);
gboolean vireo_session_get_policy(VireoSession *self, VireoPolicy policy);

/* A stream that the guest opened to AGENT_PORT, from guest_port; fd is taken. */
void vireo_session_accept(VireoSession *self, int fd, guint32 guest_port);
/* Exports its objects on a viewer's connection, until that closes. */
gboolean vireo_session_export(VireoSession *self, GDBusConnection *connection, GError **error);
/* The machine is about to go. */
void vireo_session_close(VireoSession *self);

/* A stream to the guest's vhci_hcd, on which USB/IP commands flow at once. done gets the descriptor
 * (its own), or -1 with an error for people; it may be called before this returns. device: bus <<
 * 16 | device; speed: enum usb_device_speed. */
typedef void (*VireoUsbStreamFunc)(gpointer data, int fd, const GError *error);
void vireo_session_open_usb(VireoSession *self, guint32 device, guint32 speed,
                            VireoUsbStreamFunc done, gpointer data);

/* Whether a connection called Connect. */
gboolean vireo_session_is_viewer(VireoSession *self, GDBusConnection *connection);
/* The window's size in pixels and millimetres. */
void vireo_session_set_size(VireoSession *self, guint width, guint height, guint width_mm,
                            guint height_mm);

G_END_DECLS
