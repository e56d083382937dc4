/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/keymap.h"

#include <linux/input-event-codes.h>
#include <string.h>

/* Up to 83 (keypad's full stop) evdev numbers are set 1's own. */
static const struct {
    guint8 evdev, qnum;
} others[] = {
    {KEY_ZENKAKUHANKAKU, 0x76},
    {KEY_102ND, 0x56},
    {KEY_F11, 0x57},
    {KEY_F12, 0x58},
    {KEY_RO, 0x73},
    {KEY_KATAKANA, 0x78},
    {KEY_HIRAGANA, 0x77},
    {KEY_HENKAN, 0x79},
    {KEY_KATAKANAHIRAGANA, 0x70},
    {KEY_MUHENKAN, 0x7b},
    {KEY_KPJPCOMMA, 0x5c},
    {KEY_KPENTER, 0x9c},
    {KEY_RIGHTCTRL, 0x9d},
    {KEY_KPSLASH, 0xb5},
    {KEY_SYSRQ, 0xb7},
    {KEY_RIGHTALT, 0xb8},
    {KEY_HOME, 0xc7},
    {KEY_UP, 0xc8},
    {KEY_PAGEUP, 0xc9},
    {KEY_LEFT, 0xcb},
    {KEY_RIGHT, 0xcd},
    {KEY_END, 0xcf},
    {KEY_DOWN, 0xd0},
    {KEY_PAGEDOWN, 0xd1},
    {KEY_INSERT, 0xd2},
    {KEY_DELETE, 0xd3},
    {KEY_MUTE, 0xa0},
    {KEY_VOLUMEDOWN, 0xae},
    {KEY_VOLUMEUP, 0xb0},
    {KEY_POWER, 0xde},
    {KEY_KPEQUAL, 0x59},
    {KEY_PAUSE, 0xc6},
    {KEY_KPCOMMA, 0x7e},
    {KEY_HANGEUL, 0x72},
    {KEY_HANJA, 0x71},
    {KEY_YEN, 0x7d},
    {KEY_LEFTMETA, 0xdb},
    {KEY_RIGHTMETA, 0xdc},
    {KEY_COMPOSE, 0xdd},
    {KEY_STOP, 0xe8},
    {KEY_CALC, 0xa1},
    {KEY_SLEEP, 0xdf},
    {KEY_WAKEUP, 0xe3},
    {KEY_MAIL, 0xec},
    {KEY_BOOKMARKS, 0xe6},
    {KEY_COMPUTER, 0xeb},
    {KEY_BACK, 0xea},
    {KEY_FORWARD, 0xe9},
    {KEY_NEXTSONG, 0x99},
    {KEY_PLAYPAUSE, 0xa2},
    {KEY_PREVIOUSSONG, 0x90},
    {KEY_STOPCD, 0xa4},
    {KEY_HOMEPAGE, 0xb2},
    {KEY_REFRESH, 0xe7},
    {KEY_SEARCH, 0xe5},
    {KEY_F13, 0x5d},
    {KEY_F14, 0x5e},
    {KEY_F15, 0x5f},
    {KEY_F16, 0x55},
    {KEY_F17, 0x83},
    {KEY_F18, 0xf7},
    {KEY_F19, 0x84},
    {KEY_F20, 0x5a},
    {KEY_F21, 0x74},
    {KEY_F22, 0xf9},
    {KEY_F23, 0x6d},
    {KEY_F24, 0x6f},
};

guint vireo_keymap_qnum(guint evdev)
{
    if (evdev >= KEY_ESC && evdev <= KEY_KPDOT)
        return evdev;
    for (gsize i = 0; i < G_N_ELEMENTS(others); i++)
        if (others[i].evdev == evdev)
            return others[i].qnum;
    return 0;
}

gboolean vireo_keymap_for_char(gunichar c, guint *qnum, gboolean *shift)
{
    /* Position is the key's code from 0x02 on; blank: no character there. */
    static const char plain[] = "1234567890-=\b\tqwertyuiop[]\n asdfghjkl;'` \\zxcvbnm,./";
    static const char shifted[] = "!@#$%^&*()_+  QWERTYUIOP{}  ASDFGHJKL:\"~ |ZXCVBNM<>?";
    if (c == ' ') {
        *qnum = QNUM_SPACE;
        *shift = FALSE;
        return TRUE;
    }
    if (!c || c > 0x7e || c == '\r')
        return FALSE;
    const char *p = strchr(plain, (int)c), *s = strchr(shifted, (int)c);
    if (!p && !s)
        return FALSE;
    *shift = !p;
    *qnum = 2 + (guint)(p ? p - plain : s - shifted);
    return TRUE;
}
