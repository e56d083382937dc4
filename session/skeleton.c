/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/skeleton.h"

void vireo_skeleton_unexport(GDBusInterfaceSkeleton *skeleton, GDBusConnection *connection)
{
    if (g_dbus_interface_skeleton_has_connection(skeleton, connection))
        g_dbus_interface_skeleton_unexport_from_connection(skeleton, connection);
}
