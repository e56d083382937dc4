/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/cli/keys.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

/* What make codes 0x02 to 0x39 type, plain and shifted; a space where they type nothing. */
static const char plain[] = "1234567890-=\b\tqwertyuiop[]\n asdfghjkl;'` \\zxcvbnm,./ *  ";
static const char shifted[] = "!@#$%^&*()_+\b\tQWERTYUIOP{}\n ASDFGHJKL:\"~ |ZXCVBNM<>? *  ";
enum { FIRST = 0x02, SPACE = 0x39 };
_Static_assert(sizeof plain == sizeof shifted, "the same keys");

bool keys_for_char(char c, uint8_t *key, bool *shift)
{
    *shift = false;
    if (c == ' ') {
        *key = SPACE;
        return true;
    }
    for (size_t i = 0; i + 1 < sizeof plain; i++) {
        if (plain[i] != c && shifted[i] != c)
            continue;
        if (plain[i] == '*' || (plain[i] == ' '))
            continue;
        *key = (uint8_t)(FIRST + i);
        *shift = plain[i] != c;
        return true;
    }
    return false;
}

static const struct {
    const char *name;
    uint8_t key;
} names[] = {
    {"esc", 0x01},        {"escape", 0x01},      {"backspace", 0x0e}, {"tab", 0x0f},
    {"enter", 0x1c},      {"return", 0x1c},      {"ctrl", 0x1d},      {"shift", 0x2a},
    {"shift_r", 0x36},    {"kp_multiply", 0x37}, {"alt", 0x38},       {"space", 0x39},
    {"capslock", 0x3a},   {"f1", 0x3b},          {"f2", 0x3c},        {"f3", 0x3d},
    {"f4", 0x3e},         {"f5", 0x3f},          {"f6", 0x40},        {"f7", 0x41},
    {"f8", 0x42},         {"f9", 0x43},          {"f10", 0x44},       {"numlock", 0x45},
    {"scrolllock", 0x46}, {"kp_7", 0x47},        {"kp_8", 0x48},      {"kp_9", 0x49},
    {"kp_minus", 0x4a},   {"kp_4", 0x4b},        {"kp_5", 0x4c},      {"kp_6", 0x4d},
    {"kp_plus", 0x4e},    {"kp_1", 0x4f},        {"kp_2", 0x50},      {"kp_3", 0x51},
    {"kp_0", 0x52},       {"kp_dot", 0x53},      {"sysrq", 0x54},     {"less", 0x56},
    {"f11", 0x57},        {"f12", 0x58},         {"kp_enter", 0x9c},  {"ctrl_r", 0x9d},
    {"kp_divide", 0xb5},  {"print", 0xb7},       {"alt_r", 0xb8},     {"altgr", 0xb8},
    {"pause", 0xc6},      {"home", 0xc7},        {"up", 0xc8},        {"pageup", 0xc9},
    {"left", 0xcb},       {"right", 0xcd},       {"end", 0xcf},       {"down", 0xd0},
    {"pagedown", 0xd1},   {"insert", 0xd2},      {"delete", 0xd3},    {"del", 0xd3},
    {"super", 0xdb},      {"meta", 0xdb},        {"super_r", 0xdc},   {"menu", 0xdd},
    {"minus", 0x0c},      {"equal", 0x0d},
};

uint8_t keys_by_name(const char *name)
{
    uint8_t key;
    bool shift;
    if (strlen(name) == 1)
        return keys_for_char(name[0], &key, &shift) && !shift ? key : 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcasecmp(names[i].name, name) == 0)
            return names[i].key;
    return 0;
}
