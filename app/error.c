/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/error.h"

#include <glib/gi18n.h>
#include <string.h>

#define REMOTE_PREFIX "org.vireo.Error."

G_DEFINE_QUARK(vireo - error - quark, vireo_error)

/* Core's texts name the object and the reason. Where the person reads another language than English
 * and the text is not translated (core-texts.c), a sentence of that language for the kind of error
 * comes first. */
static const struct {
    const char *name; /* of the D-Bus error */
    const char *text;
} kinds[] = {
    [ERR_INVALID] = {"Invalid", N_("That is not possible with these settings.")},
    [ERR_CORRUPT] = {"Corrupt", N_("A file is damaged or is not what it should be.")},
    [ERR_UNSUPPORTED] = {"Unsupported", N_("That is not supported here.")},
    [ERR_NOT_FOUND] = {"NotFound", N_("Something that is needed is not there.")},
    [ERR_EXISTS] = {"Exists", N_("There is one already.")},
    [ERR_BUSY] = {"Busy", N_("It is in use; try again when that has ended.")},
    [ERR_DENIED] = {"Denied", N_("That is not permitted.")},
    [ERR_NO_SPACE] = {"NoSpace", N_("There is no room left on the disk. Make some and try again.")},
    [ERR_NO_MEMORY] = {"NoMemory", N_("This computer has not enough free memory for that.")},
    [ERR_READ_ONLY] = {"ReadOnly", N_("The place or file can only be read.")},
    [ERR_IO] = {"Io", N_("A file or device of this computer failed.")},
    [ERR_CANCELLED] = {"Cancelled", N_("It was cancelled.")},
    [ERR_TIMEOUT] = {"Timeout", N_("There was no answer in time.")},
    [ERR_STATE] = {"State", N_("That is not possible in the machine’s present state.")},
};

/* `text` with the sentence before it, where there is one in the person's language. */
static char *explain(enum err_code code, const char *text)
{
    const char *kind =
        (gsize)code < G_N_ELEMENTS(kinds) && kinds[code].text ? kinds[code].text : NULL;
    if (!kind || !strcmp(_(kind), kind))
        return g_strdup(text);
    /* Translators: a sentence, and details in English */
    return g_strdup_printf(_("%s (%s)"), _(kind), text);
}

static const char *look_up(const char *fmt)
{
    return gettext(fmt);
}

void vireo_error_translate(void)
{
    err_translate(look_up);
}

void vireo_error_set(GError **error, const err *e)
{
    g_autofree char *valid = g_utf8_make_valid(e->text, -1);
    g_autofree char *text = e->local ? g_strdup(valid) : explain(e->code, valid);
    g_set_error_literal(error, VIREO_ERROR, (int)e->code, text);
}

static enum err_code remote_code(const GError *error)
{
    g_autofree char *name =
        g_dbus_error_is_remote_error(error) ? g_dbus_error_get_remote_error(error) : NULL;
    for (gsize i = 0; name && i < G_N_ELEMENTS(kinds); i++)
        if (kinds[i].name && g_str_has_prefix(name, REMOTE_PREFIX) &&
            !strcmp(name + strlen(REMOTE_PREFIX), kinds[i].name))
            return (enum err_code)i;
    return ERR_NONE;
}

char *vireo_error_text(const GError *error)
{
    enum err_code code = remote_code(error);
    g_autoptr(GError) copy = g_error_copy(error);
    g_dbus_error_strip_remote_error(copy);
    return explain(code, copy->message);
}

gboolean vireo_error_is_cancelled(const GError *error)
{
    return g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED) ||
           g_error_matches(error, VIREO_ERROR, ERR_CANCELLED);
}
