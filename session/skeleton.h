/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What GDBusInterfaceSkeleton leaves to its users. */
#pragma once

#include <gio/gio.h>

/* Skeletons hold the connections that they are exported on, also when those have ended: to be
 * called when one has. Nothing happens where it is not exported. */
void vireo_skeleton_unexport(GDBusInterfaceSkeleton *skeleton, GDBusConnection *connection);
