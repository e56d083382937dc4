/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <glib/gi18n.h>
#include <locale.h>

#include "app/application.h"
#include "app/error.h"

int main(int argc, char **argv)
{
    const char *locale_dir = g_getenv("VIREO_LOCALEDIR"); /* an uninstalled build's */
    setlocale(LC_ALL, "");
    bindtextdomain(GETTEXT_PACKAGE, locale_dir ? locale_dir : VIREO_LOCALEDIR);
    bind_textdomain_codeset(GETTEXT_PACKAGE, "UTF-8");
    textdomain(GETTEXT_PACKAGE);
    vireo_error_translate();
    g_set_application_name("Vireo");
    g_autoptr(VireoApplication) app = vireo_application_new();
    return g_application_run(G_APPLICATION(app), argc, argv);
}
