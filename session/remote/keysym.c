/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/remote/keysym.h"

#include <stddef.h>
#include <string.h>

/* The characters of each row of keys, unshifted and shifted, and the make code of the row's first
 * key. */
static const struct {
    uint8_t first;
    const char *plain, *shifted;
} rows[] = {
    {0x02, "1234567890-=", "!@#$%^&*()_+"},
    {0x10, "qwertyuiop[]", "QWERTYUIOP{}"},
    {0x1e, "asdfghjkl;'`", "ASDFGHJKL:\"~"},
    {0x2b, "\\zxcvbnm,./", "|ZXCVBNM<>?"},
};

/* Numbers as in X11/keysymdef.h and XF86keysym.h. */
static const struct {
    uint32_t keysym;
    uint8_t qnum;
} keys
    [] =
        {
            {0x0020, 0x39},     {0xff08, 0x0e},     {0xff09, 0x0f},
            {0xfe20, 0x0f}, /* space, BackSpace, Tab, ISO_Left_Tab */
            {0xff0d, 0x1c},     {0xff13, 0xc6},     {0xff6b, 0xc6},
            {0xff14, 0x46}, /* Return, Pause, Break, Scroll_Lock */
            {0xff15, 0xb7},     {0xff61, 0xb7},     {0xff1b, 0x01},
            {0xffff, 0xd3}, /* Sys_Req, Print, Escape, Delete */
            {0xff50, 0xc7},     {0xff51, 0xcb},     {0xff52, 0xc8},
            {0xff53, 0xcd}, /* Home, Left, Up, Right */
            {0xff54, 0xd0},     {0xff55, 0xc9},     {0xff56, 0xd1},
            {0xff57, 0xcf}, /* Down, Prior, Next, End */
            {0xff63, 0xd2},     {0xff67, 0xdd},     {0xff7f, 0x45},
            {0xff8d, 0x9c}, /* Insert, Menu, Num_Lock, KP_Enter */
            {0xff95, 0x47},     {0xff96, 0x4b},     {0xff97, 0x48},
            {0xff98, 0x4d}, /* KP_Home, KP_Left, KP_Up, KP_Right */
            {0xff99, 0x50},     {0xff9a, 0x49},     {0xff9b, 0x51},
            {0xff9c, 0x4f}, /* KP_Down, KP_Prior, KP_Next, KP_End */
            {0xff9d, 0x4c},     {0xff9e, 0x52},     {0xff9f, 0x53},
            {0xffaa, 0x37}, /* KP_Begin, KP_Insert, KP_Delete, KP_Multiply */
            {0xffab, 0x4e},     {0xffac, 0x53},     {0xffad, 0x4a},
            {0xffae, 0x53}, /* KP_Add, KP_Separator, KP_Subtract, KP_Decimal */
            {0xffaf, 0xb5},     {0xffb0, 0x52},     {0xffb1, 0x4f},
            {0xffb2, 0x50}, /* KP_Divide, KP_0 to KP_9 */
            {0xffb3, 0x51},     {0xffb4, 0x4b},     {0xffb5, 0x4c},
            {0xffb6, 0x4d},     {0xffb7, 0x47},     {0xffb8, 0x48},
            {0xffb9, 0x49},     {0xffbd, 0x59}, /* KP_Equal */
            {0xffbe, 0x3b},     {0xffbf, 0x3c},     {0xffc0, 0x3d},
            {0xffc1, 0x3e}, /* F1 to F12 */
            {0xffc2, 0x3f},     {0xffc3, 0x40},     {0xffc4, 0x41},
            {0xffc5, 0x42},     {0xffc6, 0x43},     {0xffc7, 0x44},
            {0xffc8, 0x57},     {0xffc9, 0x58},     {0xffe1, 0x2a},
            {0xffe2, 0x36},     {0xffe3, 0x1d},     {0xffe4, 0x9d}, /* Shift, Control */
            {0xffe5, 0x3a},     {0xffe7, 0x38},     {0xffe8, 0xb8},
            {0xffe9, 0x38}, /* Caps_Lock, Meta, Alt_L */
            {0xffea, 0xb8},     {0xfe03, 0xb8},     {0xff7e, 0xb8},
            {0xffeb, 0xdb}, /* Alt_R, ISO_Level3_Shift, Mode_switch, Super_L */
            {0xffec, 0xdc},     {0x003c, 0x33},     {0x003e, 0x34},
            {0x00a6, 0x56}, /* Super_R, less, greater, brokenbar (102nd key) */
            {0x1008ff11, 0xae}, {0x1008ff12, 0xa0}, {0x1008ff13, 0xb0}, /* volume down, mute, up */
            {0xff21, 0x79},     {0xff22, 0x7b},     {0xff27, 0x70},
            {0xff31, 0xf2}, /* Henkan, Muhenkan, Hiragana_Katakana, Hangul */
};

static uint8_t in_row(const char *row, uint8_t first, uint32_t c)
{
    const char *at = memchr(row, (int)c, strlen(row));
    return at ? (uint8_t)(first + (at - row)) : 0;
}

uint8_t keysym_to_qnum(uint32_t keysym)
{
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (keys[i].keysym == keysym)
            return keys[i].qnum;
    for (size_t i = 0; keysym > 0x20 && keysym < 0x7f && i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t q = in_row(rows[i].plain, rows[i].first, keysym);
        if (!q)
            q = in_row(rows[i].shifted, rows[i].first, keysym);
        if (q)
            return q;
    }
    return 0;
}
