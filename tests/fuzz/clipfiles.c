/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Files from a hostile host as the clipboard's helper in the guest takes them. The input: messages,
 * each a byte with the type, one with the length and so many bytes. Whatever comes, it stays in one
 * folder. */
/* the helper's own file */
#include "session/guest/clip-files.c"
#include "tests/fuzz/folder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char home[] = "/tmp/vireo-fuzz-files.XXXXXX";
static unsigned told;

void clip_tell(uint32_t type, const void *data, size_t len)
{
    if (type != VD_AGENT_FILE_XFER_STATUS || (len != 8 && len != 16))
        abort();
    told++;
}

static void at_end(void)
{
    char path[64];
    snprintf(path, sizeof path, "%s/Downloads", home);
    rmdir(path);
    rmdir(home);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint32_t types[] = {VD_AGENT_FILE_XFER_START, VD_AGENT_FILE_XFER_DATA,
                                     VD_AGENT_FILE_XFER_STATUS};
    static char downloads[64];
    if (!downloads[0]) {
        if (!mkdtemp(home))
            abort();
        snprintf(downloads, sizeof downloads, "%s/Downloads", home);
        mkdir(downloads, 0700);
        setenv("HOME", home, 1);
        unsetenv("XDG_CONFIG_HOME");
        atexit(at_end);
    }
    told = 0;
    unsigned messages = 0;
    for (size_t at = 0; at + 2 <= size; messages++) {
        size_t n = data[at + 1] < size - at - 2 ? data[at + 1] : size - at - 2;
        files_message(types[data[at] % 3], data + at + 2, n);
        at += 2 + n;
    }
    files_end();
    if (told > messages)
        abort();
    fuzz_empty_folder(downloads,
                      true); /* a file that was made is named without a path: all lies here */
    return 0;
}
