/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/usb/usb-mounts.h"

#include <string.h>

/* Deeper than any stack of partitions, encryption and volumes that there is. */
#define DEPTH_MAX 16

/* Adds the "major:minor" of each block device in the folder `path`, and of those that hold it. */
static void add_block_devices(GHashTable *numbers, const char *path, int depth)
{
    g_autofree char *dev = g_build_filename(path, "dev", NULL), *text = NULL;
    if (depth > DEPTH_MAX || !g_file_get_contents(dev, &text, NULL, NULL) ||
        !g_hash_table_add(numbers, g_strdup(g_strstrip(text))))
        return;
    g_autofree char *holders = g_build_filename(path, "holders", NULL);
    const char *const folders[] = {path, holders};
    for (guint i = 0; i < G_N_ELEMENTS(folders); i++) {
        g_autoptr(GDir) dir = g_dir_open(folders[i], 0, NULL);
        const char *name;
        while (dir && (name = g_dir_read_name(dir))) {
            g_autofree char *below = g_build_filename(folders[i], name, NULL);
            g_autofree char *partition = g_build_filename(below, "partition", NULL);
            if (i == 1 || g_file_test(partition, G_FILE_TEST_EXISTS))
                add_block_devices(numbers, below, depth + 1);
        }
    }
}

/* Looks for folders named "block" below a device; does not follow links. */
static void find_disks(GHashTable *numbers, const char *path, int depth)
{
    g_autoptr(GDir) dir = depth < DEPTH_MAX ? g_dir_open(path, 0, NULL) : NULL;
    const char *name;
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *below = g_build_filename(path, name, NULL);
        if (g_file_test(below, G_FILE_TEST_IS_SYMLINK) || !g_file_test(below, G_FILE_TEST_IS_DIR))
            continue;
        if (strcmp(name, "block") != 0) {
            find_disks(numbers, below, depth + 1);
            continue;
        }
        g_autoptr(GDir) disks = g_dir_open(below, 0, NULL);
        const char *disk;
        while (disks && (disk = g_dir_read_name(disks))) {
            g_autofree char *whole = g_build_filename(below, disk, NULL);
            add_block_devices(numbers, whole, 0);
        }
    }
}

gboolean usb_mount_is_system(const char *mount)
{
    static const char *const system[] = {"/",    "/boot", "/boot/efi", "/efi",
                                         "/usr", "/var",  "/home",     "[swap]"};
    for (guint i = 0; i < G_N_ELEMENTS(system); i++)
        if (strcmp(mount, system[i]) == 0)
            return TRUE;
    return FALSE;
}

static void prefer(char **mount, const char *other)
{
    if (*mount && (usb_mount_is_system(*mount) || !usb_mount_is_system(other)))
        return;
    g_free(*mount);
    *mount = g_strdup(other);
}

static void look_at_mounts(GHashTable *numbers, char **mount)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL))
        return;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (guint i = 0; lines[i]; i++) {
        g_auto(GStrv) field = g_strsplit(lines[i], " ", 6);
        if (g_strv_length(field) >= 5 && g_hash_table_contains(numbers, field[2])) {
            g_autofree char *where = g_strcompress(field[4]); /* octal escapes */
            prefer(mount, where);
        }
    }
}

/* /proc/swaps names nodes: their numbers are in /sys/class/block. */
static void look_at_swap(GHashTable *numbers, char **mount)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents("/proc/swaps", &text, NULL, NULL))
        return;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (guint i = 1; lines[0] && lines[i]; i++) {
        lines[i][strcspn(lines[i], " \t")] = '\0';
        g_autofree char *node = g_path_get_basename(lines[i]), *number = NULL;
        g_autofree char *path = g_build_filename("/sys/class/block", node, "dev", NULL);
        if (g_file_get_contents(path, &number, NULL, NULL) &&
            g_hash_table_contains(numbers, g_strstrip(number)))
            prefer(mount, "[swap]");
    }
}

char *usb_mount_of(const char *syspath)
{
    g_autoptr(GHashTable) numbers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    char *mount = NULL;
    find_disks(numbers, syspath, 0);
    if (g_hash_table_size(numbers)) {
        look_at_mounts(numbers, &mount);
        look_at_swap(numbers, &mount);
    }
    return mount;
}
