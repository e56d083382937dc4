/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/error.h"

G_DEFINE_QUARK(vireo - error - quark, vireo_error)

void vireo_error_set(GError **error, const err *e)
{
    g_set_error_literal(error, VIREO_ERROR, (int)e->code, e->text);
}

char *vireo_error_text(const GError *error)
{
    g_autoptr(GError) copy = g_error_copy(error);
    g_dbus_error_strip_remote_error(copy);
    return g_strdup(copy->message);
}

gboolean vireo_error_is_cancelled(const GError *error)
{
    return g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED) ||
           g_error_matches(error, VIREO_ERROR, ERR_CANCELLED);
}
