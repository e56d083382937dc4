/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/locales.h"

#include <string.h>

#define ZONES "/usr/share/zoneinfo"

/* In the order of their codes; the first is taken where the own one is not among them. */
static const char *const codes[] = {
    "C.UTF-8",     "ar_EG.UTF-8", "bg_BG.UTF-8", "ca_ES.UTF-8", "cs_CZ.UTF-8", "da_DK.UTF-8",
    "de_DE.UTF-8", "de_AT.UTF-8", "de_CH.UTF-8", "el_GR.UTF-8", "en_AU.UTF-8", "en_CA.UTF-8",
    "en_GB.UTF-8", "en_US.UTF-8", "es_ES.UTF-8", "es_MX.UTF-8", "et_EE.UTF-8", "fi_FI.UTF-8",
    "fr_FR.UTF-8", "fr_CA.UTF-8", "he_IL.UTF-8", "hi_IN.UTF-8", "hu_HU.UTF-8", "id_ID.UTF-8",
    "it_IT.UTF-8", "ja_JP.UTF-8", "ko_KR.UTF-8", "lt_LT.UTF-8", "lv_LV.UTF-8", "nb_NO.UTF-8",
    "nl_NL.UTF-8", "pl_PL.UTF-8", "pt_BR.UTF-8", "pt_PT.UTF-8", "ro_RO.UTF-8", "ru_RU.UTF-8",
    "sk_SK.UTF-8", "sl_SI.UTF-8", "sv_SE.UTF-8", "tr_TR.UTF-8", "uk_UA.UTF-8", "vi_VN.UTF-8",
    "zh_CN.UTF-8", "zh_TW.UTF-8",
};

static const char *const names[] = {
    "English (C)",
    "العربية",
    "Български",
    "Català",
    "Čeština",
    "Dansk",
    "Deutsch",
    "Deutsch (Österreich)",
    "Deutsch (Schweiz)",
    "Ελληνικά",
    "English (Australia)",
    "English (Canada)",
    "English (United Kingdom)",
    "English (United States)",
    "Español",
    "Español (México)",
    "Eesti",
    "Suomi",
    "Français",
    "Français (Canada)",
    "עברית",
    "हिन्दी",
    "Magyar",
    "Bahasa Indonesia",
    "Italiano",
    "日本語",
    "한국어",
    "Lietuvių",
    "Latviešu",
    "Norsk bokmål",
    "Nederlands",
    "Polski",
    "Português (Brasil)",
    "Português",
    "Română",
    "Русский",
    "Slovenčina",
    "Slovenščina",
    "Svenska",
    "Türkçe",
    "Українська",
    "Tiếng Việt",
    "中文 (简体)",
    "中文 (繁體)",
    NULL,
};

G_STATIC_ASSERT(G_N_ELEMENTS(codes) + 1 == G_N_ELEMENTS(names));

const char *const *vireo_locale_names(void)
{
    return names;
}

const char *vireo_locale_at(guint index)
{
    return codes[index < G_N_ELEMENTS(codes) ? index : 0];
}

guint vireo_own_locale(void)
{
    const char *const *own = g_get_language_names();
    for (gsize i = 0; own[i]; i++) {
        gsize n = strcspn(own[i], ".@");
        for (guint k = 1; n >= 2 && k < G_N_ELEMENTS(codes); k++)
            if (!strncmp(codes[k], own[i], n) && strchr("._", codes[k][n]))
                return k;
    }
    return 0;
}

char *vireo_own_time_zone(void)
{
    g_autoptr(GTimeZone) zone = g_time_zone_new_local();
    const char *name = g_time_zone_get_identifier(zone);
    return g_strdup(name && strchr(name, '/') && vireo_is_time_zone(name) ? name : "Etc/UTC");
}

gboolean vireo_is_time_zone(const char *zone)
{
    if (!g_regex_match_simple("^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$", zone, 0, 0))
        return FALSE;
    g_autofree char *path = g_build_filename(ZONES, zone, NULL);
    return !g_file_test(ZONES, G_FILE_TEST_IS_DIR) || g_file_test(path, G_FILE_TEST_IS_REGULAR);
}
