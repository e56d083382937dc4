/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/clipboard/mime.h"

#include <spice/vd_agent.h>

#include "session/agent-proto.h"
#include "session/clipboard/file-list.h"

static const struct {
    guint32 type;
    const char *mime;
} names[] = {
    /* the first of a type is how we name it */
    {VD_AGENT_CLIPBOARD_UTF8_TEXT, "text/plain;charset=utf-8"},
    {VD_AGENT_CLIPBOARD_UTF8_TEXT, "text/plain"},
    {VD_AGENT_CLIPBOARD_UTF8_TEXT, "UTF8_STRING"},
    {AGENT_CLIPBOARD_HTML, "text/html"},
    {AGENT_CLIPBOARD_FILES, VIREO_MIME_FILES},
    {VD_AGENT_CLIPBOARD_IMAGE_PNG, "image/png"},
    {VD_AGENT_CLIPBOARD_IMAGE_BMP, "image/bmp"},
    {VD_AGENT_CLIPBOARD_IMAGE_TIFF, "image/tiff"},
    {VD_AGENT_CLIPBOARD_IMAGE_JPG, "image/jpeg"},
};

const char *vireo_mime_of(guint32 type)
{
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        if (names[i].type == type)
            return names[i].mime;
    return NULL;
}

guint32 vireo_type_of(const char *mime)
{
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        if (g_ascii_strcasecmp(names[i].mime, mime) == 0)
            return names[i].type;
    return VD_AGENT_CLIPBOARD_NONE;
}

gboolean vireo_type_is_spice(guint32 type)
{
    return type != AGENT_CLIPBOARD_HTML && type != AGENT_CLIPBOARD_FILES;
}

GStrv vireo_mimes_of(const guint32 *types, guint n)
{
    g_autoptr(GStrvBuilder) b = g_strv_builder_new();
    for (guint i = 0; i < n; i++) {
        const char *mime = vireo_mime_of(types[i]);
        gboolean again = FALSE;
        for (guint k = 0; k < i; k++)
            again |= types[k] == types[i];
        if (mime && !again)
            g_strv_builder_add(b, mime);
    }
    return g_strv_builder_end(b);
}
