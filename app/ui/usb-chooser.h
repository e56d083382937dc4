/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VireoUsbChooser: the button in a console window's status line whose popover lends this computer's
 * USB devices to the guest and takes them back. Devices marked "always connect" are lent by
 * themselves whenever the enhanced session is on; what would cost this computer a keyboard or a
 * mounted disk is asked about, its own disk refused.
 */
#pragma once

#include <adwaita.h>

G_BEGIN_DECLS

#define VIREO_TYPE_USB_CHOOSER (vireo_usb_chooser_get_type())
G_DECLARE_FINAL_TYPE(VireoUsbChooser, vireo_usb_chooser, VIREO, USB_CHOOSER, AdwBin)

/* vm_id: under which "always connect" is remembered. */
GtkWidget *vireo_usb_chooser_new(const char *vm_id);

/* The worker's connection while the enhanced session is on; NULL: it is not, with the reason for
 * people. */
void vireo_usb_chooser_set_connection(VireoUsbChooser *self, GDBusConnection *connection,
                                      const char *reason);

G_END_DECLS
