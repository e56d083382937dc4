/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Files that were copied in a hostile guest, as a viewer unpacks them: whatever comes, all that is
 * made lies in one folder, and nothing is left of what was refused. An input that begins with 'l'
 * is a list that a program of the guest's has, as the guest's helper reads it. */
#include <stdlib.h>
#include <unistd.h>

#include "session/clipboard/file-list.h"
/* the helper's own file */
#include "session/guest/clip-copied.c"
#include "tests/fuzz/folder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[] = "/tmp/vireo-fuzz-list.XXXXXX";

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
    if (fuzz_empty_folder(folder, false) != (paths ? g_strv_length(paths) : 0) || !paths == !error)
        abort();
    return 0;
}
