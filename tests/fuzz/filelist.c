/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Files that were copied in a hostile guest, as a viewer unpacks them: whatever comes, all that is
 * made lies in one folder, and nothing is left of what was refused. An input that begins with 'l'
 * is a list that a program of the guest's has, as the guest's helper reads it. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "session/clipboard/file-list.h"
/* the helper's own file */
#include "session/guest/clip-copied.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[] = "/tmp/vireo-fuzz-list.XXXXXX";

static unsigned empty(void)
{
    unsigned n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            if (e->d_name[0] == '.' || unlinkat(dirfd(d), e->d_name, 0) != 0)
                abort();
            n++;
        }
    if (d)
        closedir(d);
    return n;
}

static void at_end(void)
{
    rmdir(folder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool begun;
    if (!begun && (!mkdtemp(folder) || atexit(at_end) != 0))
        abort();
    begun = true;
    if (size && *data == 'l') {
        size_t len = 0;
        uint8_t *packed = copied_pack(data + 1, size - 1, &len);
        if (packed && (!len || len > CLIP_MAX_BYTES))
            abort();
        free(packed);
        return 0;
    }
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) paths = vireo_file_list_unpack(data, size, folder, &error);
    if (empty() != (paths ? g_strv_length(paths) : 0) || !paths == !error)
        abort();
    return 0;
}
